"""One reading of a video: when its frames are, who is in them, where it was cut, and how the camera turned."""

from collections import deque
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from ..detect.keypoints import Keypoints
from ..read_ahead import decoded_ahead
from .camera_motion import CameraMotionEstimator
from .shots import ShotDetector


@dataclass
class Watched:
    """T frames of a video.

    timestamps [T] s; people: identity (a number from 1) to the person's `Keypoints` over the T frames, nothing found where they
    are not seen; cuts [T] bool: the frame begins another shot; camera: tells how the camera turned, once its lens is known.
    """

    timestamps: np.ndarray
    people: dict
    cuts: np.ndarray
    camera: CameraMotionEstimator

    def shots(self):
        """Slices of the frames of each shot, in order."""
        starts = [0, *np.flatnonzero(self.cuts).tolist(), len(self.timestamps)]
        return [slice(first, end) for first, end in zip(starts[:-1], starts[1:]) if end > first]


def watch(video, tracker, progress=lambda frames, **_: frames):
    """The `Watched` of a video. tracker: `people.PeopleTracker` or `one_person.OnePersonTracker`.

    progress wraps the iterator over frames (tqdm does). Raises `VideoError`.
    """
    timestamps, cuts, found = [], [], []
    shots, camera, waiting = ShotDetector(), CameraMotionEstimator(), deque()

    def pictures():
        for timestamp, image, cut in decoded_ahead((time, image, shots.look(image)) for time, image in video.frames()):
            waiting.append((timestamp, image, cut))
            yield image, cut

    with closing(tracker.follow(pictures())) as followed:
        for people, boxes in progress(followed, total=video.frame_count_estimate):
            timestamp, image, cut = waiting.popleft()
            camera.look(image, boxes, cut, people.values())
            found.append(people)
            timestamps.append(timestamp)
            cuts.append(cut)
    return Watched(np.array(timestamps), _by_person(found, tracker.nobody()), np.array(cuts, bool), camera)


def _by_person(found, nobody):
    """Keypoints over all frames of each person, from those found in each frame, by identity."""
    identities = sorted({identity for frame in found for identity in frame})
    return {
        identity: Keypoints.stack([frame.get(identity, nobody) for frame in found]).without_broken_points()
        for identity in identities
    }
