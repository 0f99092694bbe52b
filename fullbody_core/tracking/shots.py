"""Where a new shot begins: a picture that neither shows pieces of the one before, wherever they have gone, nor has its colours."""

import cv2
import numpy as np

LONGER_SIDE = 96
"""px of the small picture that is compared: it has little of what noise, blur and a person who moves change."""

PATCH, PATCHES = 14, 12
"""px of the square pieces that are looked for, and how many of the most textured ones."""

ALIKE = 1.25
"""What two pictures of one shot are more like than this, where nothing at all changes 2. Between two shots it is about 0.8."""

SAME = 0.97
"""Correlation of two whole pictures that need no closer look."""

FLASH_PICTURES = 6
"""For so many pictures a light may go on that would make a cut, before it is one."""

BLANK = 4
"""Standard deviation in grey levels of a picture that shows nothing: a moment of black or white."""

BRIGHTER = 12
"""Grey levels, of 255, by which a flash brightens a picture at least in the mean."""


class ShotDetector:
    """Looks at a video's pictures in order and says where a new shot begins.

    Hard cuts are found, also through moments of black or white, which belong to the shot before; a dissolve of many pictures is
    none. Of a cut from a dark place to one that is brighter everywhere, which
    might be a flash, no more is known before it ends or has lasted too long: such a shot begins up to FLASH_PICTURES late.
    """

    def __init__(self):
        self._before, self._unlit, self._waited = None, None, 0

    def look(self, image):
        """Whether this picture [H, W, 3] RGB uint8 begins a new shot. The first of all pictures does not."""
        picture, before = small(image), self._before
        if _grey(picture).std() < BLANK:
            return False
        self._before = picture
        if before is None:
            return False
        if self._unlit is not None:
            return self._after_flash(picture)
        if alike(before, picture):
            return False
        if lit_up(before, picture):
            self._unlit, self._waited = before, 1
            return False
        return True

    def _after_flash(self, picture):
        """Whether the picture shows that what seemed to be a flash was a cut."""
        if alike(self._unlit, picture):
            self._unlit = None
            return False
        self._waited += 1
        if lit_up(self._unlit, picture) and self._waited <= FLASH_PICTURES:
            return False
        self._unlit = None
        return True


def small(image):
    """The picture with LONGER_SIDE px, of every so manieth pixel where there are far more."""
    step = max(1, max(image.shape[:2]) // (4 * LONGER_SIDE))
    height, width = image.shape[:2]
    scale = LONGER_SIDE / max(height, width)
    size = max(1, round(scale * width)), max(1, round(scale * height))
    return cv2.resize(np.ascontiguousarray(image[::step, ::step]), size, interpolation=cv2.INTER_AREA)


def alike(before, after):
    """Whether two small pictures may be of one shot."""
    return correlation(before, after) > SAME or shared_colours(before, after) + shared_pieces(before, after) > ALIKE


def correlation(before, after):
    """Pearson's, of two small pictures as they lie on each other."""
    return float(cv2.matchTemplate(before, after, cv2.TM_CCOEFF_NORMED)[0, 0]) if before.shape == after.shape else 0.0


def lit_up(before, after):
    """Whether a picture could be the one before with more light: nothing in it is darker, and all together it is brighter."""
    before, after = (cv2.GaussianBlur(_grey(picture), (0, 0), 2).astype(float) for picture in (before, after))
    gain = after - before
    return bool(gain.mean() > BRIGHTER and (gain > -BRIGHTER / 2).mean() > 0.97)


def shared_colours(before, after):
    """Intersection of two pictures' colour histograms (Swain and Ballard 1991), 0..1; colour is told finer than brightness."""
    return float(np.minimum(_histogram(before), _histogram(after)).sum())


def _histogram(picture):
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)
    counts = cv2.calcHist([lab], [0, 1, 2], None, [4, 16, 16], [0, 256, 64, 192, 64, 192])
    return counts.ravel() / max(counts.sum(), 1)


def shared_pieces(before, after):
    """0..1: how well each of the most textured pieces of a picture is found again anywhere in the next one, in the median.

    A camera that pans or a person who walks moves such a piece, and does not change it. Where there is none, as in a dark picture,
    nothing speaks against one shot but the colours.
    """
    before, after = _grey(before), _grey(after)
    if min(*before.shape, *after.shape) < PATCH:
        return 1.0
    found = [
        cv2.matchTemplate(after, before[y : y + PATCH, x : x + PATCH], cv2.TM_CCOEFF_NORMED).max()
        for x, y in textured_pieces(before)
    ]
    return float(np.clip(np.median(found), 0, 1))


def _grey(picture):
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)


def textured_pieces(grey):
    """Corners (x, y) of up to PATCHES pieces, the most textured first (the smaller eigenvalue of Shi and Tomasi 1994)."""
    strength = cv2.boxFilter(cv2.cornerMinEigenVal(grey, 3), -1, (PATCH, PATCH), anchor=(0, 0))
    half = PATCH // 2
    inner = strength[: grey.shape[0] - PATCH + 1 : half, : grey.shape[1] - PATCH + 1 : half]
    y, x = np.unravel_index(np.argsort(-inner, axis=None)[:PATCHES], inner.shape)
    return [(int(left), int(top)) for left, top in zip(half * x, half * y)]
