"""What every detector returns, and the interface it is reached through."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np

from ..contract.skeleton import HAND_21, KeypointDefinition

SEEN = 0.5
"""A keypoint of at least this confidence counts as seen."""

SMALLEST_FACE = 40
"""px from the top to the bottom of a face. Below this lids and lips are guesses."""

EXTRAPOLATED = 0.25
"""Highest confidence of a point outside the image: detectors report such points, at times as surely visible."""


@dataclass
class Keypoints:
    """Keypoints of one person in one frame, or in T frames when every array has a leading T axis.

    definition              which K body keypoints these are
    body2d [K, 2]           px in the whole upright image
    body3d [K, 3]           m, relative to the root, axes parallel to the camera frame (x right, y down, z away)
    body_confidence [K]     0..1, how surely the point is seen
    body_centre [2]         px through which a camera looks that has body3d's axes: the middle of what the detector looked at
    hand2d [2, 21, 2]       px, left hand first (the person's left)
    hand3d [2, 21, 3]       m, relative to the hand, axes parallel to the camera frame
    hand_confidence [2]     0..1 for a whole hand; 0 where it was not found
    hand_centre [2, 2]      px, the same as body_centre for hand3d
    face3d [F, 3]           px in the whole image; z in px at the same scale, towards the scene; F is 0 without a face mesh
    face_confidence []      0..1
    person_box [4]          px (left, top, right, bottom); zeros where nobody is seen
    head_rotation [3, 3]    from the head at rest to the camera; zeros where nothing but the body's points says it
    face_box [4]            px around a face that was located, by a detector without a face mesh; zeros elsewhere
    Points of a part that was not found are zero.
    """

    definition: KeypointDefinition
    body2d: np.ndarray
    body3d: np.ndarray
    body_confidence: np.ndarray
    body_centre: np.ndarray
    hand2d: np.ndarray
    hand3d: np.ndarray
    hand_confidence: np.ndarray
    hand_centre: np.ndarray
    face3d: np.ndarray
    face_confidence: np.ndarray
    person_box: np.ndarray
    head_rotation: np.ndarray = None
    face_box: np.ndarray = None

    def __post_init__(self):
        if self.head_rotation is None:
            self.head_rotation = np.zeros(np.shape(self.face_confidence) + (3, 3))
        if self.face_box is None:
            self.face_box = np.zeros(np.shape(self.face_confidence) + (4,))

    @classmethod
    def nobody(cls, definition, face_count=0):
        """The answer for a frame where nobody is seen."""
        body_count, hand_count = len(definition), len(HAND_21)
        return cls(
            definition=definition,
            body2d=np.zeros((body_count, 2)),
            body3d=np.zeros((body_count, 3)),
            body_confidence=np.zeros(body_count),
            body_centre=np.zeros(2),
            hand2d=np.zeros((2, hand_count, 2)),
            hand3d=np.zeros((2, hand_count, 3)),
            hand_confidence=np.zeros(2),
            hand_centre=np.zeros((2, 2)),
            face3d=np.zeros((face_count, 3)),
            face_confidence=np.zeros(()),
            person_box=np.zeros(4),
        )

    @classmethod
    def stack(cls, frames):
        """T single frames of one definition as one sequence with a leading T axis."""
        return cls(frames[0].definition, *(np.stack(values) for values in zip(*(frame.arrays() for frame in frames))))

    def arrays(self):
        """The arrays in the order of the fields."""
        return [getattr(self, item.name) for item in fields(self) if item.name != "definition"]

    def take(self, index):
        """The frames of a sequence that a slice or an array of indices picks, or the single one of an int."""
        return Keypoints(self.definition, *(values[index] for values in self.arrays()))

    def without_broken_points(self):
        """The same, with every part that holds a number that is not finite counted as not found."""
        looked = np.isfinite(self.body_centre).all(-1)
        body = np.isfinite(self.body2d).all(-1) & np.isfinite(self.body3d).all(-1) & np.isfinite(self.body_confidence)
        body &= looked[..., None]
        hands = np.isfinite(self.hand2d).all((-2, -1)) & np.isfinite(self.hand3d).all((-2, -1))
        hands &= np.isfinite(self.hand_confidence) & np.isfinite(self.hand_centre).all(-1)
        face = np.isfinite(self.face3d).all((-2, -1)) & np.isfinite(self.face_confidence)
        box = np.isfinite(self.person_box).all(-1, keepdims=True)

        def keep(values, found):
            return np.where(found.reshape(found.shape + (1,) * (values.ndim - found.ndim)), values, 0.0)

        return Keypoints(
            definition=self.definition,
            body2d=keep(self.body2d, body),
            body3d=keep(self.body3d, body),
            body_confidence=keep(self.body_confidence, body),
            body_centre=keep(self.body_centre, looked),
            hand2d=keep(self.hand2d, hands),
            hand3d=keep(self.hand3d, hands),
            hand_confidence=keep(self.hand_confidence, hands),
            hand_centre=keep(self.hand_centre, hands),
            face3d=keep(self.face3d, face),
            face_confidence=keep(self.face_confidence, face),
            person_box=np.where(box, self.person_box, 0.0),
            head_rotation=keep(self.head_rotation, np.isfinite(self.head_rotation).all((-2, -1))),
            face_box=keep(self.face_box, np.isfinite(self.face_box).all(-1)),
        )


def doubt_outside(points, confidence, image_size):
    """Confidences [..., K] of points [..., K, 2] px, none above EXTRAPOLATED outside an image of `image_size` [..., 2] px."""
    inside = ((points >= 0) & (points < image_size)).all(-1)
    return np.where(inside, confidence, np.minimum(confidence, EXTRAPOLATED))


def points_box(points, confidence, image_size, seen=0.3):
    """Box [4] px around the points [K, 2] that are seen, inside an image of (width, height) px.

    It is a twentieth larger on every side: a standing person's highest point may be the eyes, and the crown is that much above.
    """
    shown = points[confidence > seen]
    if len(shown) < 2:
        shown = points
    low, high = shown.min(0), shown.max(0)
    margin = 0.05 * (high - low)
    return np.concatenate([np.clip(low - margin, 0, image_size), np.clip(high + margin, 0, image_size)])


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
