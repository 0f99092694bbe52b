"""Points of the background, followed through a shot: what a camera's motion is read from.

Corners (Shi and Tomasi 1994) of a few key frames are found again in each picture by the pyramid of Lucas and Kanade (Bouguet 2000),
always straight from the key frame, so that no error adds up from frame to frame. What people cover is left out on both sides.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np

from .silhouette import background_mask

LONGER_SIDE = 480
"""px of the small grey picture that is looked at. A twentieth of its pixel is then 0.006 degrees in a view of 55."""

CORNERS = 120
"""Corners of a key frame at most. Each picture remembers where it found them, which is what memory grows by: 1 kB a frame."""

CELLS = 8
"""Cells of the picture along its longer side, which the corners are spread over."""

FEWEST = 12
"""Fewer points than this say nothing about the camera: one moving thing could be all of them."""

AGREEMENT = 2.0
"""px of the small picture within which a point agrees with the homography that the others follow, while they are being found."""

ENOUGH = 0.3
"""Share of the points found that must agree with one homography, or the picture was not found again."""

FAINTEST = 1e-4
"""Strength of a corner (the smaller eigenvalue of Shi and Tomasi) below which it may be noise."""

SURE = 0.6
"""Share that must agree, or it is tried whether more do after a leap."""

IN_VIEW = 0.55
"""A key frame serves while this share of its corners lies in the picture."""

MOST_PICTURES = 24
"""Key frames whose picture is kept for a camera that comes back. The others' points stay, and 0.1 MB each go."""

_LUCAS_KANADE = dict(winSize=(17, 17), maxLevel=3, criteria=(cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 20, 0.01))


@dataclass
class KeyFrame:
    """frame: its index; points [N, 2] px of the small picture; grey: that picture, or None once it is no longer kept."""

    frame: int
    points: np.ndarray
    grey: np.ndarray | None


@dataclass
class Sighting:
    """A key frame's points found again in another frame.

    key: its index; points: indices of the corners [n]; places [n, 2] px; agree [n] bool: which follow the same homography.
    """

    key: int
    points: np.ndarray
    places: np.ndarray
    agree: np.ndarray


@dataclass
class BackgroundTracker:
    """Looks at the pictures of one shot in order; `scale`: px of the small picture for one of the video's.

    keys: the `KeyFrame`s; sightings: for every frame its `Sighting`s, none where too little of the background was found.
    """

    keys: list = field(default_factory=list)
    sightings: list = field(default_factory=list)
    scale: float = 1.0
    _current: int = 0
    _map: np.ndarray = None
    _before: tuple = None

    def look(self, image, boxes=(), people=()):
        """Takes the next picture [H, W, 3] RGB uint8; boxes [N, 4] px and `Keypoints` of people in it: see `background_mask`."""
        self.scale = min(1.0, LONGER_SIDE / max(image.shape[:2]))
        grey = small_grey(image, self.scale)
        mask = background_mask(grey.shape, self.scale, boxes, people)
        found = self._find(grey, mask)
        self.sightings.append(found)
        if not found or self._leaves_view(found[-1]):
            self._change_key(grey, mask)
        self._before = grey, mask

    def _find(self, grey, mask):
        """The current key frame's sighting: looked for where it was, or elsewhere; or else that of the picture before."""
        if not self.keys:
            return []
        found, mapped = follow(self.keys[self._current], self._current, grey, mask, self._map)
        if found is None or found.agree.mean() < SURE:
            leap = shift(self._before[0], grey) @ self._map
            other, other_mapped = follow(self.keys[self._current], self._current, grey, mask, leap)
            if other is not None and (found is None or other.agree.sum() > found.agree.sum()):
                found, mapped = other, other_mapped
        if found is None and self._new_key(len(self.sightings) - 1, *self._before):
            leap = shift(self._before[0], grey)
            found, mapped = follow(self.keys[self._current], self._current, grey, mask, leap)
        if found is None:
            return []
        self._map = mapped
        return [found]

    def _leaves_view(self, sighting):
        return len(sighting.points) < max(IN_VIEW * len(self.keys[sighting.key].points), FEWEST)

    def _change_key(self, grey, mask):
        """Goes on from an older key frame that shows this view, or makes this picture one."""
        frame = len(self.sightings) - 1
        for key in self._likely_keys(grey):
            start = shift(self.keys[key].grey, grey)
            sighting, mapped = follow(self.keys[key], key, grey, mask, start)
            if sighting is not None and not self._leaves_view(sighting):
                self.sightings[-1].append(sighting)
                self._current, self._map = key, mapped
                return
        self._new_key(frame, grey, mask)

    def _likely_keys(self, grey):
        """Indices of the two older key frames whose pictures look most like this one, shifted."""
        older = [index for index, key in enumerate(self.keys) if index != self._current and key.grey is not None]
        return sorted(older, key=lambda index: -likeness(self.keys[index].grey, grey))[:2]

    def _new_key(self, frame, grey, mask):
        """Makes a picture a key frame if it has corners enough, and says so."""
        if self.keys and self.keys[-1].frame == frame:
            return False
        points = corners(grey, mask)
        if len(points) < FEWEST:
            return False
        self._current, self._map = len(self.keys), np.eye(3)
        self.keys.append(KeyFrame(frame, points, grey))
        kept = [key for key in self.keys[1:] if key.grey is not None]
        if len(kept) >= MOST_PICTURES:
            kept[0].grey = None
        return True


def _coarse(grey):
    size = max(grey.shape[1] // 4, 1), max(grey.shape[0] // 4, 1)
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32)


def _phase(before, after):
    """How far a picture has shifted as a whole, px, and how surely, by phase correlation (Kuglin and Hines 1975)."""
    before, after = _coarse(before), _coarse(after)
    return cv2.phaseCorrelate(before, after, cv2.createHanningWindow(before.shape[::-1], cv2.CV_32F))


def shift(before, after):
    """The homography [3, 3] from one grey picture to the next if all of it has but shifted."""
    (x, y), _ = _phase(before, after)
    return np.array([[1, 0, 4 * x], [0, 1, 4 * y], [0, 0, 1.0]])


def likeness(before, after):
    """How alike two grey pictures are, one of them shifted: about 0 for different places."""
    return _phase(before, after)[1]


def small_grey(image, scale):
    """The grey picture [h, w] uint8 of an RGB one, `scale` times as large."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return grey if scale == 1 else cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def in_background(points, mask):
    """Which of the points [N, 2] px lie in the picture and where its mask [h, w] is not 0."""
    # A homography may take a point to infinity.
    x, y = np.round(np.clip(np.nan_to_num(points, nan=-1), -1, sum(mask.shape))).astype(int).T
    inside = (x >= 0) & (y >= 0) & (x < mask.shape[1]) & (y < mask.shape[0])
    return inside & (mask[np.where(inside, y, 0), np.where(inside, x, 0)] > 0)


def corners(grey, mask):
    """Corners [N, 2] px float32 of a grey picture where its mask is not 0, up to CORNERS of them.

    They are spread over the picture: of every cell of it first the strongest corner, then the second, so that a crowd or a tree,
    which has most of them, does not outvote everything else.
    """
    found = cv2.goodFeaturesToTrack(grey, 4 * CORNERS, 0.002, max(grey.shape) // 60, mask=mask, blockSize=5)
    if found is None:
        return np.zeros((0, 2), np.float32)
    found = found[:, 0]
    x, y = np.round(found).astype(int).T
    strong = cv2.cornerMinEigenVal(grey, 5)[y, x] > FAINTEST
    found, cell = found[strong], (y // (max(grey.shape) // CELLS) * 2 * CELLS + x // (max(grey.shape) // CELLS))[strong]
    order = np.argsort(cell, kind="stable")
    first = np.searchsorted(cell[order], cell[order])
    rank = np.empty(len(found), int)
    rank[order] = np.arange(len(found)) - first
    return found[np.argsort(rank, kind="stable")[:CORNERS]]


def follow(key, index, grey, mask, start):
    """The `Sighting` of a key frame's points in a picture, and the homography [3, 3] they follow; (None, None) where there is none.

    start [3, 3]: the homography by which they are looked for.
    """
    guess = cv2.perspectiveTransform(key.points[:, None], start).astype(np.float32)
    near = in_background(guess[:, 0], np.full_like(mask, 255))
    if near.sum() < FEWEST:
        return None, None
    places, status, _ = cv2.calcOpticalFlowPyrLK(
        key.grey, grey, key.points[near], guess[near], flags=cv2.OPTFLOW_USE_INITIAL_FLOW, **_LUCAS_KANADE
    )
    places = places.reshape(-1, 2)
    good = (status.ravel() > 0) & in_background(places, mask)
    points, places = np.flatnonzero(near)[good], places[good]
    if len(points) < FEWEST:
        return None, None
    mapped, agree = cv2.findHomography(key.points[points], places, cv2.RANSAC, AGREEMENT, maxIters=200, confidence=0.99)
    if mapped is None or agree.sum() < max(FEWEST, ENOUGH * len(points)):
        return None, None
    return Sighting(index, points.astype(np.uint8), places, agree.ravel() > 0), mapped
