"""What somebody looks like: the colours of clothes, skin and hair at places of the body, to tell people apart.

Colour histograms per part of the body as in Cheng et al. 2011 (custom pictorial structures for re-identification), compared by
the Bhattacharyya coefficient. A `Gallery` keeps several views of somebody, because a back is not a front.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np

from ..contract.skeleton import BLAZEPOSE_33, SIDES
from ..detect.keypoints import SEEN

PARTS = {"head": 1.0, "torso": 2.0, "arms": 0.6, "thighs": 1.4, "shins": 1.0}
"""How much the parts count. Whom a part is not seen of is compared without it."""

LEAST_WEIGHT = 1.5
"""Two people with less in common than head and arms cannot be compared."""

LEAST_SHARE = 0.3
"""A part of which less than this share lies in the picture is not seen."""

VIEWS = 8
"""Most views of somebody that are kept."""

NEW_VIEW = 0.88
"""A look that is less like all views than this is another view."""

_LIGHTNESS_BINS, _COLOUR_BINS, _COLOUR_STEP = 8, 10, 10.0
_ALONG, _ACROSS = 12, 7


def _segments():
    """Rows (part, the points whose mean is one end, those of the other end, half the width in torso lengths)."""
    rows = [("torso", ("left_shoulder", "right_shoulder"), ("left_hip", "right_hip"), 0.22)]
    rows.append(("head", ("nose",), ("left_ear", "right_ear"), 0.13))
    for side in SIDES:
        rows.append(("arms", (f"{side}_shoulder",), (f"{side}_elbow",), 0.06))
        rows.append(("thighs", (f"{side}_hip",), (f"{side}_knee",), 0.09))
        rows.append(("shins", (f"{side}_knee",), (f"{side}_ankle",), 0.06))
    ends = [[[BLAZEPOSE_33.index(name) for name in (end * 2)[:2]] for end in row[1:3]] for row in rows]
    return np.array([list(PARTS).index(row[0]) for row in rows]), np.array(ends), np.array([row[3] for row in rows])


_PART, _ENDS, _WIDTHS = _segments()
_WEIGHTS = np.array(list(PARTS.values()))


@dataclass
class Look:
    """lightness [P, 8] and colour [P, 100]: square roots of histograms of the parts that are `seen` [P] bool."""

    lightness: np.ndarray
    colour: np.ndarray
    seen: np.ndarray


def look_of(image, points, confidence):
    """The `Look` of somebody in an RGB uint8 image [H, W, 3] with BlazePose's points [33, 2] px, confidence [33]."""
    ends = points[_ENDS].mean(2)  # [S, 2, 2]
    length = np.linalg.norm(ends[0, 1] - ends[0, 0]) + 1e-6
    along = ends[:, 1] - ends[:, 0]
    across = np.stack([-along[:, 1], along[:, 0]], -1)
    across = across / (np.linalg.norm(across, axis=-1, keepdims=True) + 1e-6) * (_WIDTHS * length)[:, None]
    steps, sides = np.linspace(0.08, 0.92, _ALONG)[:, None, None], np.linspace(-1, 1, _ACROSS)[:, None]
    samples = ends[:, None, None, 0] + steps * along[:, None, None] + sides * across[:, None, None]  # [S, along, across, 2]
    height, width = image.shape[:2]
    inside = ((samples >= 0) & (samples < (width, height))).all(-1).reshape(len(_PART), -1)
    column, row = np.clip(samples, 0, (width - 1, height - 1)).astype(int).reshape(len(_PART), -1, 2).transpose(2, 0, 1)
    lab = cv2.cvtColor(image[row, column], cv2.COLOR_RGB2LAB).astype(int)
    sure = confidence[_ENDS].min((1, 2)) >= SEEN
    sure[0] = (confidence[_ENDS[0, 0]] >= SEEN).all()  # in a close-up the torso goes on below the picture
    shown = inside & sure[:, None]
    lightness = np.minimum(lab[..., 0] * _LIGHTNESS_BINS // 256, _LIGHTNESS_BINS - 1)
    tint = np.clip((lab[..., 1:] - 128) / _COLOUR_STEP + _COLOUR_BINS / 2, 0, _COLOUR_BINS - 1).astype(int)
    part = np.broadcast_to(_PART[:, None], shown.shape)
    counts = [
        _histograms(part, bins, count, shown)
        for bins, count in ((lightness, _LIGHTNESS_BINS), (tint[..., 0] * _COLOUR_BINS + tint[..., 1], _COLOUR_BINS**2))
    ]
    total = counts[0].sum(1, keepdims=True)
    return Look(*(np.sqrt(item / np.maximum(total, 1)) for item in counts), total[:, 0] >= LEAST_SHARE * _ALONG * _ACROSS)


def _histograms(part, bins, count, shown):
    """Counts [P, count] of the samples that are shown."""
    index = part[shown] * count + bins[shown]
    return np.bincount(index, minlength=len(PARTS) * count).reshape(len(PARTS), count).astype(float)


def likeness(look, other):
    """0..1, how alike two looks are; None where too few parts are seen in both to say."""
    weight = _WEIGHTS * (look.seen & other.seen)
    if weight.sum() < LEAST_WEIGHT:
        return None
    alike = ((look.lightness * other.lightness).sum(1) + (look.colour * other.colour).sum(1)) / 2
    return float((weight * alike).sum() / weight.sum())


@dataclass
class Gallery:
    """The views [<= VIEWS] of one person."""

    views: list = field(default_factory=list)

    def likeness(self, look):
        """The largest likeness with one of the views; None where nothing can be compared."""
        alike = [value for value in (likeness(view, look) for view in self.views) if value is not None]
        return max(alike, default=None)

    def learn(self, look):
        """Adds a view where it is a new one. The first is kept for good, the others make room for new ones."""
        if look.seen.sum() < 2:
            return
        alike = self.likeness(look)
        if alike is None or alike < NEW_VIEW:
            if len(self.views) == VIEWS:
                del self.views[1]
            self.views.append(look)
