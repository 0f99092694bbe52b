"""From a whole picture and its annotation to a sample: the crop I, both hand images, and every label in their pixels and axes.

All readers pass through here, so that a place or a turn of axes can be wrong only once.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ...camera import crop_to_camera_rotation
from ...contract.skeleton import HAND_21
from ...detect.crops import crop_rectangle, cut, from_crop, plane_rotation, rectangle_middle, to_crop
from ...networks.body_keypoints import EXTENDED_BODIES
from ...networks.detnet_samples import CELL, FACE_POINTS, HAND_SIZE, IMAGE_SIZE, DetNetSamples, hand_to_image
from ...networks.heat_maps import BODY_MAP, hand_windows

HAND_CROP_MARGIN = 0.45
"""By how much the crop of a hand-only picture is larger than the hand's keypoints, both sides together: about what Eq. 6 leaves
around a hand of some seven cells, its usual size in I."""

HAND_ONLY_BOX = (0, 0, BODY_MAP[0])
"""The box that hand-only samples name: the largest square at the top of a black I."""

FEWEST_HAND_POINTS = 15
"""Keypoints of a hand that have to be known for its heat-map to be complete enough to be learned."""


class Jitter(NamedTuple):
    """How a crop differs from the plain one: scale of its rectangle, shift (x, y) in its sizes, angle in radians.

    hands: for both hand boxes (scale, shift x, shift y in widths).
    """

    scale: float = 1.0
    shift: tuple = (0.0, 0.0)
    angle: float = 0.0
    hands: tuple = ((1.0, 0.0, 0.0), (1.0, 0.0, 0.0))

    @classmethod
    def draw(cls, rng):
        """A random one: a tracker's errors, cameras that are not level, and one in seven cuts well into the person."""
        angle = np.clip(rng.normal(0, np.radians(12)), -0.6, 0.6) if rng.random() < 0.6 else 0.0
        scales, shifts = np.exp(rng.normal(0, 0.12, (2, 1)).clip(-0.25, 0.25)), rng.normal(0, 0.06, (2, 2)).clip(-0.12, 0.12)
        hands = np.concatenate([scales, shifts], 1)
        if rng.random() < 1 / 7:
            return cls(rng.uniform(0.5, 0.9), tuple(rng.uniform(-0.25, 0.25, 2)), angle, hands)
        return cls(float(np.exp(np.clip(rng.normal(0, 0.15), -0.4, 0.4))), tuple(rng.uniform(-0.06, 0.06, 2)), angle, hands)

    def move(self, rectangle):
        """The rectangle [4] scaled and shifted."""
        middle = rectangle_middle(rectangle) + rectangle[2:] * self.shift
        size = rectangle[2:] * self.scale
        return np.concatenate([middle - size / 2, size])

    def move_hands(self, boxes):
        """Hand boxes [2, 3] in cells, scaled and shifted as a search that is a little off would; still inside the maps."""
        scale, shift = np.split(np.asarray(self.hands), [1], axis=1)
        width = np.minimum(boxes[:, 2:] * scale, min(BODY_MAP))
        corner = boxes[:, :2] + boxes[:, 2:] * (shift + 0.5) - width / 2
        return np.concatenate([np.clip(corner, 0, BODY_MAP - width), width], 1) * (boxes[:, 2:] > 0)


@dataclass
class Person:
    """One annotated person. Places are pixels of the picture; 3D is metres in the camera's frame, whatever the origin.

    box [4]: (left, top, right, bottom); the body's arrays follow `EXTENDED_BODIES[definition].complete`, K keypoints.
    matrix [3, 3]: of the camera; needed where there is 3D. What is None is unknown.
    """

    definition: str
    box: np.ndarray
    body2d: np.ndarray
    body_known2d: np.ndarray
    body3d: np.ndarray = None
    body_known3d: np.ndarray = None
    matrix: np.ndarray = None
    hand2d: np.ndarray = field(default_factory=lambda: np.zeros((2, len(HAND_21), 2)))
    hand_known2d: np.ndarray = field(default_factory=lambda: np.zeros((2, len(HAND_21)), bool))
    hand3d: np.ndarray = None
    hand_known3d: np.ndarray = None
    face2d: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    face_known: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))

    def sample(self, picture, jitter=Jitter()):
        """The `DetNetSamples` of this person in its picture [H, W, 3]."""
        rectangle = jitter.move(crop_rectangle(visible_box(self.box, picture.shape)))
        sample = DetNetSamples.blank(self.definition)
        sample.image[:] = cut(picture, rectangle, IMAGE_SIZE, jitter.angle)
        sample.body_present[...] = True
        self._fill_body(sample, rectangle, jitter.angle)
        self._fill_hands(sample, rectangle, jitter, picture)
        self._fill_face(sample, rectangle, jitter.angle)
        return sample

    def _fill_body(self, sample, rectangle, angle):
        count = len(self.body2d)
        known = np.asarray(self.body_known2d, bool)
        sample.body_known2d[:count] = known
        sample.body2d[:count][known] = to_crop(self.body2d[known], rectangle, IMAGE_SIZE, angle)
        # 3D is counted from the pelvis, the first keypoint of every definition: without it there is none.
        if self.body3d is not None and self.body_known3d[0]:
            known = np.asarray(self.body_known3d, bool)
            turn = _camera_to_crop(rectangle_middle(rectangle), self.matrix, angle)
            sample.body_known3d[:count] = known
            sample.body3d[:count][known] = (self.body3d[known] - self.body3d[0]) @ turn.T

    def _fill_hands(self, sample, rectangle, jitter, picture):
        angle = jitter.angle
        known = np.asarray(self.hand_known2d, bool)
        sample.hand_known2d[:] = known
        sample.hand2d[known] = to_crop(self.hand2d[known], rectangle, IMAGE_SIZE, angle)
        sample.hand_map_known[:] = known.sum(1) >= FEWEST_HAND_POINTS
        sample.hand_boxes[:] = jitter.move_hands(hand_windows(sample.hand2d[None], known[None])[0])
        for hand in np.flatnonzero(sample.hand_boxes[:, 2]):
            square = _square_in_picture(sample.hand_boxes[hand], rectangle, angle)
            sample.hand_images[hand] = cut(picture, square, (HAND_SIZE, HAND_SIZE), angle)
            if self.hand3d is not None:
                turn = _camera_to_crop(rectangle_middle(square), self.matrix, angle)
                _fill_hand3d(sample, hand, self.hand3d[hand], self.hand_known3d[hand], turn)

    def _fill_face(self, sample, rectangle, angle):
        count = min(len(self.face2d), FACE_POINTS)
        known = np.asarray(self.face_known[:count], bool)
        sample.face_known[:count] = known
        sample.face2d[:count][known] = to_crop(self.face2d[:count][known], rectangle, IMAGE_SIZE, angle)
        sample.face_map_known[...] = bool(known.any())


@dataclass
class Hand:
    """One annotated hand in a picture of its own.

    side: 0 for the person's left; points2d [21, 2] px and known2d [21]; points3d [21, 3] in the camera's frame, any unit and
    origin, and known3d [21], or None; matrix [3, 3] of the camera, needed where there is 3D.
    """

    side: int
    points2d: np.ndarray
    known2d: np.ndarray
    points3d: np.ndarray = None
    known3d: np.ndarray = None
    matrix: np.ndarray = None

    def sample(self, picture, jitter=Jitter()):
        """The hand-only `DetNetSamples`: I is black, and nobody knows where in it the hand would be."""
        known = np.asarray(self.known2d, bool)
        points = self.points2d[known]
        square = crop_rectangle(np.concatenate([points.min(0), points.max(0)]), HAND_CROP_MARGIN, aspect=1)
        scale, *shift = jitter.hands[self.side]  # as far off as a found hand box, which is less than a person's crop
        square = Jitter(scale, tuple(shift)).move(square)
        size = (HAND_SIZE, HAND_SIZE)
        sample = DetNetSamples.blank()
        sample.hand_images[self.side] = cut(picture, square, size, jitter.angle)
        sample.hand_boxes[self.side] = HAND_ONLY_BOX
        sample.hand_known2d[self.side] = known
        places = hand_to_image(to_crop(points, square, size, jitter.angle), np.array(HAND_ONLY_BOX, float))
        sample.hand2d[self.side][known] = places
        if self.points3d is not None:
            turn = _camera_to_crop(rectangle_middle(square), self.matrix, jitter.angle)
            _fill_hand3d(sample, self.side, self.points3d, self.known3d, turn)
        return sample


def visible_box(box, picture_shape):
    """The part of a person's box [4] that a picture of shape (H, W, ...) shows, with a twentieth of the picture around it.

    A tracker's box is like that. Where next to nothing would be left, the whole box stays.
    """
    size = np.array(picture_shape[1::-1], float)
    box = np.asarray(box, float)
    cut_box = np.concatenate([np.maximum(box[:2], -0.05 * size), np.minimum(box[2:], 1.05 * size)])
    return cut_box if (cut_box[2:] - cut_box[:2] > 0.1 * (box[2:] - box[:2])).all() else box


def box_of_points(points, known):
    """The box [4] (left, top, right, bottom) of the `known` [K] points [K, 2]."""
    points = np.asarray(points)[np.asarray(known, bool)]
    return np.concatenate([points.min(0), points.max(0)])


def keypoint_places(definition, names):
    """For each of a dataset's keypoint names its index among the definition's complete keypoints, as an array."""
    complete = EXTENDED_BODIES[definition].complete
    return np.array([complete.index(name) for name in names])


def arranged(definition, names, points, known):
    """A dataset's points [N, D] and `known` [N], called `names`, in the definition's order: ([K, D], known [K])."""
    places = keypoint_places(definition, names)
    count = len(EXTENDED_BODIES[definition].complete)
    known = np.asarray(known, bool)
    arranged_points, arranged_known = np.zeros((count, points.shape[-1])), np.zeros(count, bool)
    arranged_points[places] = np.where(known[:, None], points, 0)
    arranged_known[places] = known
    return arranged_points, arranged_known


def fit_camera_matrix(points3d, points2d):
    """Intrinsics [3, 3] without skew from points [N, 3] in the camera's frame and their pixels [N, 2], by least squares."""
    matrix = np.eye(3)
    directions = points3d[:, :2] / points3d[:, 2:]
    for axis in range(2):
        columns = np.stack([directions[:, axis], np.ones(len(directions))], -1)
        matrix[axis, [axis, 2]] = np.linalg.lstsq(columns, points2d[:, axis], rcond=None)[0]
    return matrix


def _camera_to_crop(middle, matrix, angle):
    """Rotation [3, 3] from the camera's axes to those of a crop around pixel `middle` that is turned by `angle`."""
    turn = np.eye(3)
    turn[:2, :2] = plane_rotation(angle)
    return turn @ crop_to_camera_rotation(middle, matrix).T


def _square_in_picture(box, rectangle, angle):
    """The rectangle [4] of the picture that a box [3] of cells of its crop shows, before both are turned by `angle`."""
    scale = rectangle[2] / IMAGE_SIZE[0]
    middle = from_crop(CELL * (box[:2] + box[2:] / 2)[None], rectangle, IMAGE_SIZE, angle)[0]
    side = np.full(2, CELL * box[2] * scale)
    return np.concatenate([middle - side / 2, side])


def _fill_hand3d(sample, hand, points, known, turn):
    known = np.asarray(known, bool)
    sample.hand_known3d[hand] = known
    if known.any():
        # From the first known point, so that single precision is enough wherever the hand is.
        sample.hand3d[hand][known] = (points[known] - points[known][0]) @ turn.T
