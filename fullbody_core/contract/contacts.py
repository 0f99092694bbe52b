"""When the person's heels, balls and toes stand on something, found from how fast they move and how high they are. Numpy only.

A foot rolls over heel, ball and toe within one step, so each is looked at for itself. Captures from video jitter, float and
slide, so nothing is judged by one frame alone: places are smoothed, thresholds have two levels, and the floor is looked for
near each moment.
"""

from dataclasses import dataclass

import numpy as np

from .skeleton import SIDES

BEHIND, AHEAD = 0.3, 0.4
"""Shares of the level way from ankle to ball that the heel lies behind the ankle, and the tip of the toes ahead of the ball."""

_SMOOTHED, _CALM = 0.025, 0.06
"""s, standard deviation of the bell that places are smoothed with before their speed is taken: to find contacts, and pivots."""

_SLOW, _SLIDING = 0.25, 0.4
"""m/s of a person of usual size: a point below the first has come to rest, and rests until it is above the second."""

_LOW, _RAISED = 0.07, 0.1
"""m above the floor: as for the speeds."""

_STILL = 0.12
"""m/s below which a point stands whatever its height: on a step, a box, another person."""

SHORTEST, GAP, _STILL_FOR = 0.05, 0.07, 0.25
"""s: no contact is shorter, two of one point that are nearer are one, and how long a point is still to stand in the air."""

FLOOR_NEARBY = 0.7
"""s before and after a moment in which the feet's lowest place is the floor there: a capture may drift up or down as a whole."""

_SUNK = 0.15
"""Share of the frames in which feet may be below the floor, as jittery captures have them."""

_FLAT, _STEP = 0.05, 0.1
"""m; feet that stand less high than the first stand on the floor, more than the second on something of that height."""

_PLACE = 0.006
"""m that a standing point of a person of usual size may move to any side, other than with its whole foot."""

_SWIVEL = 0.05
"""m/s that a point is faster than the slowest of its foot where it carries half as much."""

USUAL_HIPS = 0.9
"""m from the soles to the hips of a person of the size that speeds and heights above are meant for."""


@dataclass(frozen=True)
class Contacts:
    """Which points of the soles stand: heel, ball, toe [T, 2] bool, left and right foot.

    level [T, 2]: m above the motion's floor of what each foot stands on, one height from its first point to stand to its last
    ground [T]: m above the motion's floor that no sole is to be below: 0, or less where the whole person is further below
    standing [T, 2, 3]: the same three, with those that move slowly while they bear the foot, as a heel that swivels
    pivot [T, 2, 3]: how near, 0..1, each point is to being the slowest of its foot: that which a foot that swivels turns about
    """

    heel: np.ndarray
    ball: np.ndarray
    toe: np.ndarray
    level: np.ndarray
    ground: np.ndarray
    standing: np.ndarray
    pivot: np.ndarray

    @property
    def points(self):
        """[T, 2, 3] bool: heel, ball, toe."""
        return np.stack([self.heel, self.ball, self.toe], -1)


def sole_points(ankle, ball, sole):
    """Heel, ball and toe [3, 3] m on the ground of a foot at rest, from its ankle's and ball's places and the ground's height."""
    level = (ball - ankle) * (1, 1, 0)
    points = np.stack([ankle - BEHIND * level, ankle + level, ankle + (1 + AHEAD) * level])
    points[:, 2] = sole
    return points


def contacts_of_soles(soles, times, floor, size, valid):
    """The `Contacts` of sole points [T, 2, 3, 3] m (left and right; heel, ball, toe; x y z up) at times [T] s.

    floor: m; size: the person's, of a usual one's; valid [T] bool: where it is False nothing stands.
    """
    times, count = np.asarray(times, float), len(times)
    if count < 3:
        return _nowhere(count)
    step = float(np.median(np.diff(times)))
    soles = soles / size
    calm, soles = smoothed(soles, _CALM / step), smoothed(soles, _SMOOTHED / step)
    height = soles[..., 2] - floor / size
    nearby = floor_nearby(height.min((1, 2)), FLOOR_NEARBY / step)
    standing = _standing(speeds(soles, times), height, height - nearby[:, None, None], step)
    standing &= np.asarray(valid, bool)[:, None, None]
    pivot = pivots(speeds(calm, times), standing)
    in_place = longer(_in_place(standing, _without_drift(soles[..., :2], standing, pivot)), SHORTEST / step)
    return Contacts(
        *np.moveaxis(in_place, -1, 0),
        level=_levels(standing, height) * size,
        ground=levelled(np.minimum(nearby, 0)) * size,
        standing=standing,
        pivot=pivot,
    )


def _nowhere(count):
    none = np.zeros((count, len(SIDES)), bool)
    points = none.shape + (3,)
    return Contacts(none, none, none, np.zeros(none.shape), np.zeros(count), np.zeros(points, bool), np.ones(points))


def _standing(speed, height, above, step):
    """Which sole points [T, 2, 3] stand, from their speed, and their heights above the motion's floor and that nearby."""
    low = hysteresis((speed < _SLOW) & (above < _LOW), (speed < _SLIDING) & (above < _RAISED))
    still = hysteresis(speed < _STILL / 2, speed < _STILL) & _supports(height)
    return longer(closed(low | longer(still, _STILL_FOR / step), GAP / step), SHORTEST / step)


def runs(mask):
    """(column, first, end) [N] each of the runs of True along axis 0 of a mask [T, C]; end is one after the last."""
    padded = np.zeros((len(mask) + 2, mask.shape[1]), np.int8)
    padded[1:-1] = mask
    edges = np.diff(padded, axis=0).T
    column, first = np.nonzero(edges == 1)
    return column, first, np.nonzero(edges == -1)[1]


def smoothed(values, sigma):
    """Values [T, ...] smoothed along time with a bell of `sigma` frames; ends are continued by their mirror images."""
    reach = min(int(np.ceil(3 * sigma)), len(values) - 1)
    bell = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-6)) ** 2)
    bell /= bell.sum()
    before, after = 2 * values[:1] - values[reach:0:-1], 2 * values[-1:] - values[-2 : -reach - 2 : -1]
    padded = np.concatenate([before, values, after])
    return sum(weight * padded[k : k + len(values)] for k, weight in enumerate(bell))


def speeds(points, times):
    """Speed [...] of points [T, ..., 3] since the frame before or until the one after, the slower of the two.

    So a point that has just landed, or is just about to leave, is at rest.
    """
    steps = np.diff(times).reshape(-1, *[1] * (points.ndim - 2))
    between = np.linalg.norm(np.diff(points, axis=0), axis=-1) / steps
    return np.minimum(np.concatenate([between[:1], between]), np.concatenate([between, between[-1:]]))


def floor_nearby(lowest, reach):
    """The ground's height [T] near each frame, from the lowest sole point's [T] in `reach` frames before and after, smoothed."""
    reach = max(1, round(reach))
    padded = np.pad(lowest, reach, mode="edge")
    rank = round(2 * reach * _SUNK)
    floor = np.partition(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1), rank, axis=-1)[:, rank]
    return smoothed(floor, reach / 3)


def _supports(height):
    """[T, 2, 3] whether a sole point is the lowest of its foot or near it, whatever is below."""
    return height < height.min(-1, keepdims=True) + _LOW / 2


def _levels(standing, height):
    """What each foot stands on [T, 2], from its points that stand and all their heights [T, 2, 3]: the middle over each stand."""
    lowest = np.where(standing, height, np.inf).min(-1)
    level = np.zeros(lowest.shape)
    for foot, first, end in zip(*runs(standing.any(-1))):
        level[first:end, foot] = np.median(lowest[first:end, foot])
    return levelled(level)


def levelled(heights, flat=_FLAT, step=_STEP):
    """Heights [...] m, those of less than `flat` from the floor taken for it, and ever less so up to `step`."""
    share = np.clip((np.abs(heights) - flat) / (step - flat), 0, 1)
    return heights * share * share * (3 - 2 * share)


def _without_drift(places, standing, pivot):
    """Level places [T, 2, 3, 2] of sole points less how far each standing foot slid so far, as captures do, as a whole."""
    load = pivot * standing
    shares = np.sqrt(load[1:] * load[:-1])
    shares /= np.maximum(shares.sum(-1, keepdims=True), 1e-6)
    slid = np.sum(shares[..., None] * np.diff(places, axis=0), 2)
    return places - np.concatenate([np.zeros((1, 2, 2)), np.cumsum(slid, 0)])[:, :, None]


def _in_place(standing, places):
    """The mask [T, 2, 3] cut where a point has left a box of twice `_PLACE` to either side, to begin anew."""
    cut = standing.copy().reshape(len(standing), -1)
    places = places.reshape(len(standing), -1, 2)
    for point, first, end in zip(*runs(cut)):
        while first < end:
            way = places[first:end, point]
            extent = np.maximum.accumulate(way) - np.minimum.accumulate(way)
            left = np.flatnonzero((extent > 2 * _PLACE).any(-1))
            if len(left) == 0:
                break
            first += max(int(left[0]), 1)
            cut[first, point] = False
            first += 1
    return cut.reshape(standing.shape)


def pivots(speed, standing):
    """How near each sole point [T, 2, 3] is to being the slowest of those of its foot that stand: 1 for that, towards 0."""
    slowest = np.where(standing, speed, np.inf).min(-1, keepdims=True)
    return 1 / (1 + (np.maximum(speed - slowest, 0) / _SWIVEL) ** 2)


def hysteresis(enter, stay):
    """Runs along time of `stay` [T, ...] in which `enter` holds at least once."""
    shape = stay.shape
    stay, enter = (stay | enter).reshape(len(stay), -1), enter.reshape(len(enter), -1)
    column, first, end = runs(stay)
    entered = np.concatenate([np.zeros((1, enter.shape[1]), int), np.cumsum(enter, 0)])
    kept = entered[end, column] > entered[first, column]
    return _painted(stay.shape, column[kept], first[kept], end[kept]).reshape(shape)


def longer(mask, least):
    """The runs along time of at least `least` frames."""
    flat = mask.reshape(len(mask), -1)
    column, first, end = runs(flat)
    kept = end - first >= least
    return _painted(flat.shape, column[kept], first[kept], end[kept]).reshape(mask.shape)


def closed(mask, gap):
    """The mask with gaps along time of at most `gap` frames filled, though not those at either end."""
    flat = ~mask.reshape(len(mask), -1)
    column, first, end = runs(flat)
    kept = (end - first <= gap) & (first > 0) & (end < len(mask))
    return mask | _painted(flat.shape, column[kept], first[kept], end[kept]).reshape(mask.shape)


def _painted(shape, column, first, end):
    change = np.zeros((shape[0] + 1, shape[1]), int)
    np.add.at(change, (first, column), 1)
    np.add.at(change, (end, column), -1)
    return np.cumsum(change[:-1], 0) > 0
