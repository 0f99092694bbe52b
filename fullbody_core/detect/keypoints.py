"""What every detector returns, and the interface it is reached through."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np

from ..contract.skeleton import HAND_21, KeypointDefinition

SIDES = ("left", "right")

SEEN = 0.5
"""A keypoint of at least this confidence counts as seen."""


@dataclass
class Keypoints:
    """Keypoints of one person in one frame, or in T frames when every array has a leading T axis.

    body2d [K, 2]           px in the whole upright image
    body3d [K, 3]           m, relative to the root, axes parallel to the camera frame (x right, y down, z away)
    body_confidence [K]     0..1, how surely the point is seen
    hand2d [2, 21, 2]       px, left hand first (the person's left)
    hand3d [2, 21, 3]       m, relative to the hand, axes parallel to the camera frame
    hand_confidence [2]     0..1 for a whole hand; 0 where it was not found
    face3d [F, 3]           px in the whole image; z in px at the same scale, towards the scene
    face_confidence []      0..1
    person_box [4]          px (left, top, right, bottom); zeros where nobody is seen
    Points of a part that was not found are zero.
    """

    body2d: np.ndarray
    body3d: np.ndarray
    body_confidence: np.ndarray
    hand2d: np.ndarray
    hand3d: np.ndarray
    hand_confidence: np.ndarray
    face3d: np.ndarray
    face_confidence: np.ndarray
    person_box: np.ndarray

    @classmethod
    def nobody(cls, body_count, face_count):
        """The answer for a frame where nobody is seen."""
        hand_count = len(HAND_21)
        return cls(
            body2d=np.zeros((body_count, 2)),
            body3d=np.zeros((body_count, 3)),
            body_confidence=np.zeros(body_count),
            hand2d=np.zeros((2, hand_count, 2)),
            hand3d=np.zeros((2, hand_count, 3)),
            hand_confidence=np.zeros(2),
            face3d=np.zeros((face_count, 3)),
            face_confidence=np.zeros(()),
            person_box=np.zeros(4),
        )

    @classmethod
    def stack(cls, frames):
        """T single frames as one sequence with a leading T axis."""
        return cls(*(np.stack([getattr(frame, item.name) for frame in frames]) for item in fields(cls)))

    def without_broken_points(self):
        """The same, with every part that holds a number that is not finite counted as not found."""
        body = np.isfinite(self.body2d).all(-1) & np.isfinite(self.body3d).all(-1) & np.isfinite(self.body_confidence)
        hands = np.isfinite(self.hand2d).all((-2, -1)) & np.isfinite(self.hand3d).all((-2, -1))
        hands &= np.isfinite(self.hand_confidence)
        face = np.isfinite(self.face3d).all((-2, -1)) & np.isfinite(self.face_confidence)
        box = np.isfinite(self.person_box).all(-1, keepdims=True)

        def keep(values, found):
            return np.where(found.reshape(found.shape + (1,) * (values.ndim - found.ndim)), values, 0.0)

        return Keypoints(
            body2d=keep(self.body2d, body),
            body3d=keep(self.body3d, body),
            body_confidence=keep(self.body_confidence, body),
            hand2d=keep(self.hand2d, hands),
            hand3d=keep(self.hand3d, hands),
            hand_confidence=keep(self.hand_confidence, hands),
            face3d=keep(self.face3d, face),
            face_confidence=keep(self.face_confidence, face),
            person_box=np.where(box, self.person_box, 0.0),
        )


class Detector(Protocol):
    """Finds the keypoints of one person. Frames are given in order; a detector may track from one to the next."""

    name: str
    definition: KeypointDefinition
    models: dict
    """Name to sha256 of every model file in use, for the capture file's meta."""

    def detect(self, image) -> Keypoints:
        """Keypoints in an RGB uint8 image [H, W, 3]."""

    def detect_frames(self, images) -> Iterator[Keypoints]:
        """The same for one image after another, in order; it may work on several at once."""

    def close(self):
        """Frees the models. The detector cannot be used afterwards."""
