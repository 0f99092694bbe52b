"""Real backgrounds for made clips: pictures, and what of videos stays when everybody who moves is left out."""

from pathlib import Path

import cv2
import numpy as np

from ..contract.npz_file import FileError
from ..video import VideoError, open_video

PICTURES = (".jpg", ".jpeg", ".png")

LOOKS = 25
"""Pictures of a video, spread evenly, whose median is its background."""


class BackgroundError(FileError):
    """Backgrounds that cannot be read. The message is one sentence for the user."""


def read_backgrounds(paths, finder=None):
    """Backgrounds, RGB uint8 [H, W, 3] each, of pictures, videos and folders of both, sorted by name within a folder.

    finder: `detect.mediapipe.PersonFinder`, or None; a background in which it still finds somebody is left out. Raises
    `BackgroundError` where nothing is there or nothing remains.
    """
    found = []
    for path in map(Path, paths):
        if not path.exists():
            raise BackgroundError(
                f"There is nothing at {path}: give pictures, videos or a folder of them with --backgrounds."
            )
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            picture = _read(file, whole_folder=path.is_dir())
            if picture is not None and (finder is None or finder.find(picture) is None):
                found.append(picture)
    if not found:
        raise BackgroundError("No background without a person was found: give other pictures or videos with --backgrounds.")
    return found


def _read(file, whole_folder):
    """The background in a file, or None for a file of a folder that is neither a picture nor a video."""
    if file.suffix.lower() in PICTURES:
        picture = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR)
        if picture is None:
            raise BackgroundError(f"{file} is not a picture that can be read: remove it.")
        return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    try:
        return median_picture(file)
    except VideoError:
        if whole_folder:
            return None
        raise


def median_picture(path):
    """The median [H, W, 3] uint8 over time of a video's picture. Raises `VideoError`."""
    video = open_video(path)
    step = max(1, (video.frame_count_estimate or LOOKS) // LOOKS)
    pictures = [image for number, (_, image) in enumerate(video.frames()) if number % step == 0]
    return np.median(np.stack(pictures), axis=0).astype(np.uint8)
