"""Whom of several people to capture, as the user says it."""

from dataclasses import dataclass

import numpy as np

CHOICES = ("largest", "centre", "all")


class PersonChoiceError(ValueError):
    """A choice of a person that says nothing. The message is one sentence for the user."""


@dataclass(frozen=True)
class PersonChoice:
    """Whom to capture: kind 'largest', 'centre', 'point' or 'all'; point [2] in px, or in shares of the picture's sides."""

    kind: str = "largest"
    point: tuple = None

    @classmethod
    def parse(cls, text):
        """From 'largest', 'centre', 'all' or 'x,y'. Raises `PersonChoiceError`."""
        word = str(text).strip().lower()
        if word in CHOICES:
            return cls(word)
        try:
            x, y = (float(item) for item in word.split(","))
        except ValueError:
            x = y = np.nan
        if not np.isfinite([x, y]).all() or min(x, y) < 0:
            raise PersonChoiceError(
                f"There is no person {text!r} to choose: give largest, centre, all, or x,y of a place on the person in the first "
                "picture, in pixels or as shares from 0 to 1."
            )
        return cls("point", (x, y))

    def __str__(self):
        return self.kind if self.point is None else ",".join(f"{value:g}" for value in self.point)

    def pick(self, boxes, image_size):
        """Index of the chosen one of people with boxes [N, 4] px, N > 0, in a picture of (width, height) px."""
        boxes, size = np.asarray(boxes, float), np.asarray(image_size, float)
        inside = np.concatenate([np.clip(boxes[:, :2], 0, size), np.clip(boxes[:, 2:], 0, size)], 1)
        area = (inside[:, 2:] - inside[:, :2]).prod(1)
        if self.kind in ("largest", "all"):
            return int(np.argmax(area))
        middle = (boxes[:, :2] + boxes[:, 2:]) / 2
        if self.kind == "centre":
            return int(np.argmin(np.linalg.norm(middle - size / 2, axis=1)))
        point = np.array(self.point) * (size if max(self.point) <= 1 else 1)
        beside = np.maximum(np.maximum(boxes[:, :2] - point, point - boxes[:, 2:]), 0)
        half = np.maximum(boxes[:, 2:] - boxes[:, :2], 1) / 2
        # Inside several boxes the one whose middle is nearest for its size; outside of all, the nearest box.
        return int(np.lexsort((np.linalg.norm((point - middle) / half, axis=1), np.linalg.norm(beside, axis=1)))[0])
