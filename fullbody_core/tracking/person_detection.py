"""Where all the people are in a picture: the person detector of BlazePose, shown the whole picture and parts of it.

Bazarevsky et al. 2020 (BlazePose): the detector finds a person by the middle of the hips and a circle around it that holds the
whole body, and says how the body leans. It sees 224 x 224 pixels, so somebody who is small in a large picture is found in a part
of it: the parts overlap, and whoever is found twice is kept once.
"""

import os
from dataclasses import dataclass

import numpy as np

os.environ.setdefault("GLOG_minloglevel", "2")

SURE = 0.5
"""Lowest score of a person who is believed without having been seen before."""

BODY_WIDTH = 0.4
"""Half the width of a person's box in radii of the circle around the body."""

SAME_PERSON = 0.45
"""Two finds whose boxes overlap by this share of their union are one person."""

PART_SHARES = (1.0, 0.5)
"""Sides of the square parts in the picture's shorter side; they overlap by half."""

SMALLEST_PERSON = 0.1
"""Least height in heights of the picture of a person who is worth following: BlazePose needs some pixels."""

_GRAPH = """
input_stream: "image"
output_stream: "detections"
node { calculator: "PoseDetectionCpu" input_stream: "IMAGE:image" output_stream: "DETECTIONS:detections" }
"""


@dataclass(frozen=True)
class People:
    """N people in a picture, the surest first.

    boxes [N, 4] px (left, top, right, bottom); scores [N] 0..1; centres [N, 2] px, the middle of the hips; radii [N] px of the
    circle around it that holds the body; leans [N] rad, 0 upright, clockwise
    """

    boxes: np.ndarray
    scores: np.ndarray
    centres: np.ndarray
    radii: np.ndarray
    leans: np.ndarray

    @classmethod
    def of_circles(cls, scores, centres, tops):
        """From the middle of the hips [N, 2] px and the highest point [N, 2] px of the circles around the bodies."""
        scores, centres, tops = (
            np.asarray(item, float).reshape(-1, *shape) for item, shape in zip((scores, centres, tops), ((), (2,), (2,)))
        )
        along = tops - centres
        radii = np.linalg.norm(along, axis=-1)
        leans = np.arctan2(along[:, 0], -along[:, 1])
        return cls(circle_boxes(centres, radii, leans), scores, centres, radii, leans)

    @classmethod
    def nobody(cls):
        return cls.of_circles([], [], [])

    def __len__(self):
        return len(self.scores)

    def take(self, index):
        """The people that a slice or an array of indices or of truths picks."""
        return People(self.boxes[index], self.scores[index], self.centres[index], self.radii[index], self.leans[index])

    @classmethod
    def join(cls, parts):
        """All people of several finds."""
        names = ("boxes", "scores", "centres", "radii", "leans")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def circle_boxes(centres, radii, leans):
    """Boxes [N, 4] px that hold bodies of length 2 r and their usual width about the middle of the hips."""
    sine, cosine = np.abs(np.sin(leans)), np.abs(np.cos(leans))
    half = np.stack([sine + BODY_WIDTH * cosine, cosine + BODY_WIDTH * sine], -1) * radii[:, None]
    return np.concatenate([centres - half, centres + half], -1)


class PersonDetector:
    """All people in a picture, by the models inside the mediapipe package."""

    def __init__(self, least_score=SURE):
        """least_score: 0..1, below which nobody is reported."""
        import mediapipe.python.solutions.pose  # noqa: F401 (registers the graphs)
        from mediapipe.python.solution_base import SolutionBase

        parameters = {"posedetectioncpu__TensorsToDetectionsCalculator.min_score_thresh": least_score}
        self._graph = SolutionBase(graph_config=_GRAPH, calculator_params=parameters)

    def detect(self, image, thorough=True):
        """`People` in an RGB uint8 image [H, W, 3]; thorough: in its parts, too."""
        height, width = image.shape[:2]
        places = parts_of(width, height) if thorough else [(0, 0, width, height)]
        return without_doubles(People.join([self._look(image, place) for place in places]))

    def detect_in_turn(self, image, frame, period):
        """`People` in some parts of the image [H, W, 3]: each has its turn in one of `period` frames in a row."""
        places = parts_of(image.shape[1], image.shape[0])[frame % period :: period]
        return without_doubles(People.join([People.nobody(), *(self._look(image, place) for place in places)]))

    def detect_around(self, image, centre, side):
        """`People` in the square of `side` px around `centre` [2] px, as far as it lies in the image."""
        height, width = image.shape[:2]
        low = np.clip(np.asarray(centre) - side / 2, 0, (width - 1, height - 1)).astype(int)
        high = np.clip(np.ceil(np.asarray(centre) + side / 2), low + 1, (width, height)).astype(int)
        return without_doubles(self._look(image, (*low, *high)))

    def _look(self, image, place):
        left, top, right, bottom = place
        part = np.ascontiguousarray(image[top:bottom, left:right])
        found = self._graph.process(part).detections or []
        points = np.array([[[p.x, p.y] for p in item.location_data.relative_keypoints[:2]] for item in found])
        points = points.reshape(-1, 2, 2) * (right - left, bottom - top) + (left, top)
        return People.of_circles([item.score[0] for item in found], points[:, 0], points[:, 1])

    def close(self):
        self._graph.close()


def parts_of(width, height):
    """The whole picture and overlapping parts of it: a list of (left, top, right, bottom) px."""
    places = [(0, 0, width, height)]
    for share in PART_SHARES:
        side = max(1, round(share * min(width, height)))
        for top in _starts(height, side):
            places.extend((left, top, left + side, top + side) for left in _starts(width, side))
    return list(dict.fromkeys(places))


def _starts(length, side):
    count = 1 + round(
        np.ceil(2 * (length - side) / side - 0.25)
    )  # two more pictures in four need not be looked at a third time
    return np.linspace(0, length - side, max(count, 1)).round().astype(int).tolist()


def without_doubles(people):
    """The people without those who are found again less surely (greedy non-maximum suppression), surest first."""
    people = people.take(np.argsort(-people.scores, kind="stable"))
    overlap = box_overlaps(people.boxes, people.boxes) > SAME_PERSON
    kept = np.zeros(len(people), bool)
    for index in range(len(people)):
        kept[index] = not (overlap[index] & kept).any()
    return people.take(kept)


def box_overlaps(boxes, others, of_smaller=False):
    """Intersection over union [N, M] of boxes [N, 4] and others [M, 4], or over the smaller one; 0 where there is no area."""
    boxes, others = np.asarray(boxes, float).reshape(-1, 1, 4), np.asarray(others, float).reshape(1, -1, 4)
    size = np.minimum(boxes[..., 2:], others[..., 2:]) - np.maximum(boxes[..., :2], others[..., :2])
    shared = np.clip(size, 0, None).prod(-1)
    areas = [np.clip(item[..., 2:] - item[..., :2], 0, None).prod(-1) for item in (boxes, others)]
    whole = np.minimum(*areas) if of_smaller else areas[0] + areas[1] - shared
    return shared / np.maximum(whole, 1e-9)
