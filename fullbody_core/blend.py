"""From a capture file to a .blend with the animated character: the core's side of the way into Blender."""

import tempfile
from pathlib import Path

import cv2
import numpy as np

from .addon_package import stage_addon
from .blender_process import BlenderError, find_blender, run_in_blender
from .body.lbs import to_character_template
from .body.open_body import load_body
from .contract.capture import CaptureClip
from .contract.npz_file import write_whole
from .video import VideoError, read_frame


class BlendError(ValueError):
    """A .blend that cannot be made. The message is one sentence for the user."""


def build_blend(clip_path, output, body=None, video=None, render=None, blender=None, frame=None):
    """Builds the animated character of a capture file in Blender and saves it as `output` (.blend).

    body: the body model the clip was captured with, where it is no longer at its place; video: the source, where it has moved;
    render: a PNG with the video's frame and the character side by side; frame: which frame of the clip to render (0 is the
    first; None takes the middle); blender: a Blender program. Returns what was made, and `warnings` with it.
    Raises `FileError`, `BlenderError` or `BlendError`; nothing is left half-written.
    """
    clip = CaptureClip.load(clip_path)
    blender = find_blender(blender)
    body_file = load_body(body or clip.meta.get("settings", {}).get("body", "open"))
    warnings = []
    video = Path(video or clip.meta.get("source", {}).get("path", ""))
    if not video.is_file():
        warnings.append(
            f"The video {video.name} is not at its place any more, so there is no background: give it with --video."
        )
        video = None
    if frame is None:
        frame = representative_frame(clip)
    if not 0 <= frame < clip.frame_count:
        raise BlendError(f"There is no frame {frame} to render: the clip has frames 0 to {clip.frame_count - 1}.")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        stage_addon(folder)
        template = folder / "character.npz"
        to_character_template(body_file).save(template)
        arguments = ["--clip", clip_path, "--template", template, "--out", output]
        arguments += ["--video", video] * (video is not None)
        picture = folder / "render.png"
        arguments += ["--render", picture, "--render-frame", 1 + scene_frame(clip, frame)] * (render is not None)
        made = run_in_blender(folder, [str(argument) for argument in arguments], blender)
        if render is not None:
            write_side_by_side(render, picture, clip, frame, video)
    return dict(made, warnings=warnings + made["warnings"])


def scene_frame(clip, frame):
    """Whole frames of a scene at the clip's rate from the clip's first frame to its frame number `frame`."""
    return round((clip.timestamps[frame] - clip.timestamps[0]) * clip.mocap_framerate)


def representative_frame(clip):
    """The valid frame nearest to the middle of the clip."""
    seen = np.flatnonzero(clip.valid[:, 0])
    return int(seen[np.argmin(np.abs(seen - clip.frame_count / 2))]) if len(seen) else clip.frame_count // 2


def write_side_by_side(output, render, clip, frame, video):
    """Writes a PNG: the video's frame, and the rendered character from the same camera over a dimmed copy of it.

    The file appears whole or not at all. Raises `FileError`.
    """
    rendered = cv2.imread(str(render), cv2.IMREAD_UNCHANGED)
    if rendered is None:
        raise BlenderError("Blender made no picture: run it again, and report what it printed.")
    height, width = rendered.shape[:2]
    photo = np.full((height, width, 3), 160, np.uint8)
    if video is not None:
        try:
            image = read_frame(video, clip.timestamps[frame])[1]
            photo = cv2.cvtColor(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR)
        except VideoError:
            pass  # the video is a background only; the character stands over grey instead
    opacity = rendered[..., 3:] / 255.0
    over = rendered[..., :3] * opacity + 0.5 * photo * (1 - opacity)
    write_whole(output, cv2.imencode(".png", np.hstack([photo, over.astype(np.uint8)]))[1].tobytes())
