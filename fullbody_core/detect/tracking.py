"""Where to look for the person, frame after frame: the rectangle of the picture that DetNet is shown.

Zhou et al. 2021, supplementary Sec. 1: an off-the-shelf detector of people gives the first frame's box, and each later one comes
from the 2D keypoints of the frame before. Here the rectangle is also kept as long as it will do: what is cut then stands as still
as the camera does, and several frames can be cut before the first of them is understood.
"""

from dataclasses import dataclass

import numpy as np

from .crops import crop_rectangle
from .keypoints import SEEN

EDGE = 0.03
"""The rectangle moves when the person's box comes nearer to an edge of it than this share. Freshly cut, a box keeps 0.1."""

FILLED = 0.6
"""The rectangle moves when the person's box fills less of its width and of its height than this. Freshly cut, a box fills 0.8."""

FEWEST_POINTS, SMALLEST_BOX = 3, 8
"""Somebody of whom fewer points are seen, or who is smaller in px, is lost."""


@dataclass
class PersonTracker:
    """find_person: from an RGB picture to the person's box [4] px or None; it is asked at the start and after a loss.

    rectangle: (left, top, width, height) px, what the next frame is to be cut by; None while nobody is tracked.
    """

    find_person: callable
    rectangle: np.ndarray = None

    def look(self, image):
        """The rectangle [4] for a picture, or None if nobody is in it."""
        if self.rectangle is None:
            box = self.find_person(image)
            self.rectangle = None if box is None else crop_rectangle(box)
        return self.rectangle

    def follow(self, points, confidence):
        """Learns from the keypoints [K, 2] px that were found in the rectangle; says whether it stays as it is."""
        box = seen_box(points, confidence)
        if box is None:
            self.rectangle = None
        elif not still_good(self.rectangle, box):
            self.rectangle = crop_rectangle(box)
        else:
            return True
        return False


def seen_box(points, confidence):
    """Box [4] px around the points [K, 2] that are seen; None where they are too few or too close to be a person."""
    shown = points[confidence >= SEEN]
    if len(shown) < FEWEST_POINTS or np.ptp(shown, axis=0).max() < SMALLEST_BOX:
        return None
    return np.concatenate([shown.min(0), shown.max(0)])


def still_good(rectangle, box):
    """Whether a box [4] lies well inside a rectangle [4] and fills enough of it."""
    corner, size = rectangle[:2], rectangle[2:]
    low, high = (box[:2] - corner) / size, (box[2:] - corner) / size
    return bool((low >= EDGE).all() and (high <= 1 - EDGE).all() and (high - low).max() >= FILLED)
