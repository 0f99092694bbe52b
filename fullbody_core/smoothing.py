"""One-Euro filtering (Casiez et al. 2012) of rotations and positions, driven by timestamps.

The filter is a low-pass whose cut-off rises with speed: steady in still poses, quick in fast ones. Rotations are filtered on
the manifold: the step from the filtered to the new rotation is an axis-angle vector, of which a fraction is taken.

A whole clip is filtered both ways and nothing of it lags (`BOTH_WAYS`). A live picture has no future: `OnlineSmoother` is the
forward pass alone, and its lag at ordinary speeds is what its user asks for.
"""

from dataclasses import dataclass, replace

import numpy as np

from .contract.frames import axis_angle_to_quaternion, multiply_quaternions, quaternion_to_axis_angle

_CONJUGATE = np.array([1.0, -1, -1, -1])


@dataclass(frozen=True)
class OneEuro:
    """min_cutoff: Hz at rest; speed_gain: Hz per unit of speed (rad/s or m/s); speed_cutoff: Hz for the speed itself.

    ordinary_speed: units a second of somebody who talks with their hands; what a lag is told for.
    """

    min_cutoff: float
    speed_gain: float
    speed_cutoff: float = 1.0
    ordinary_speed: float = 1.0

    def __post_init__(self):
        if self.min_cutoff <= 0 or self.speed_cutoff <= 0 or self.speed_gain < 0:
            raise ValueError(f"One-Euro cut-offs should be above zero and the gain not below, got {self}.")

    @property
    def lag(self):
        """Seconds by which the forward pass is behind an even motion of ordinary speed."""
        return 1 / (2 * np.pi * (self.min_cutoff + self.speed_gain * self.ordinary_speed))

    def quicker(self, factor):
        """The same with all of its lag divided by `factor`."""
        return replace(self, min_cutoff=self.min_cutoff * factor, speed_gain=self.speed_gain * factor)

    def for_unit(self, size):
        """The same for values of which `size` make one of this filter's units."""
        return replace(self, speed_gain=self.speed_gain / size, ordinary_speed=self.ordinary_speed * size)


ROTATION = OneEuro(min_cutoff=1.5, speed_gain=1.0, ordinary_speed=1.5)
KEYPOINTS = OneEuro(min_cutoff=2.0, speed_gain=4.0, ordinary_speed=0.5)
"""For 3D keypoints about the root, in metres: their depth shakes most."""

PICTURE = OneEuro(min_cutoff=2.0, speed_gain=20.0)
"""For 2D keypoints in heights of the person: sharper than their depth, so that little is taken from them."""

SIGHT = OneEuro(min_cutoff=2.0, speed_gain=20.0)
"""For directions in units of the focal length, where 0.1 a second is a slow walk across the picture."""

DEPTH = OneEuro(min_cutoff=0.6, speed_gain=2.0)
"""For the logarithm of a distance."""

EXPRESSION = OneEuro(min_cutoff=2.0, speed_gain=2.0, ordinary_speed=2.0)
"""For expression coefficients, each by itself: a blink is a change by one in a tenth of a second."""


def valid_runs(valid):
    """Slices of the unbroken runs of True in [T] bool."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(valid, int), [0]])))
    return [slice(start, stop) for start, stop in zip(edges[::2], edges[1::2])]


def smooth_positions(positions, timestamps, valid, settings):
    """Filtered copy of positions [T, ..., N]; timestamps [T] s; frames that are not `valid` [T] stay as they are.

    Forward and backward passes are averaged, so that nothing lags behind the video. Each run of valid frames is filtered by
    itself: nothing is carried over a hole.
    """
    return _smooth_both_ways(positions, timestamps, valid, settings, np.subtract, np.add)


def smooth_rotations(quaternions, timestamps, valid, settings=ROTATION):
    """Filtered copy of unit WXYZ quaternions [T, ..., 4]; otherwise as `smooth_positions`."""
    return _smooth_both_ways(quaternions, timestamps, valid, settings, _rotation_difference, _rotate_by)


def _smooth_both_ways(values, timestamps, valid, settings, difference, apply):
    """Half-way between the forward and the backward pass, run by run. `difference` and `apply` define the space."""
    smoothed = np.array(values, float)
    for run in valid_runs(valid):
        steps = np.diff(timestamps[run])
        forward = forward_pass(smoothed[run], steps, settings, difference, apply)
        backward = forward_pass(smoothed[run][::-1], steps[::-1], settings, difference, apply)[::-1]
        smoothed[run] = apply(forward, 0.5 * difference(backward, forward))
    return smoothed


def _rotation_difference(new, old):
    """Axis-angle [..., 3] that turns `old` into `new`."""
    return quaternion_to_axis_angle(multiply_quaternions(new, old * _CONJUGATE))


def _rotate_by(quaternion, step):
    turned = multiply_quaternions(axis_angle_to_quaternion(step), quaternion)
    return turned / np.linalg.norm(turned, axis=-1, keepdims=True)


def forward_pass(values, steps, settings, difference, apply):
    """The filter over T values as they come; `steps` [T - 1] s between them. `difference` and `apply` define the space."""
    filtered = np.empty_like(values)
    filtered[0] = values[0]
    speed = np.zeros_like(difference(values[0], values[0]))
    for frame, step in enumerate(steps, 1):
        moved = difference(values[frame], values[frame - 1])
        off = difference(values[frame], filtered[frame - 1])
        change, speed = _one_euro_step(moved, off, speed, step, settings)
        filtered[frame] = apply(filtered[frame - 1], change)
    return filtered


def _one_euro_step(moved, off, speed, step, settings):
    """The filter itself: how far the filtered value goes, and the filtered speed after it.

    moved: what the value differs by from the one before, `step` s ago; off: from the filtered one; speed: filtered, before.
    """
    speed = speed + _blend(settings.speed_cutoff, step) * (moved / step - speed)
    # The root of the sum by hand: numpy's norm costs twice as much, which counts where there is one frame at a time.
    cutoff = settings.min_cutoff + settings.speed_gain * np.sqrt((speed * speed).sum(-1, keepdims=True))
    return _blend(cutoff, step) * off, speed


def _blend(cutoff, step):
    """Share of the new value for a cut-off in Hz and a time step in s."""
    return 1 / (1 + 1 / (2 * np.pi * cutoff * step))


class BothWays:
    """The smoother for a whole clip. Names, by which a live one knows its own past, say nothing here."""

    def positions(self, name, values, timestamps, valid, settings):
        return smooth_positions(values, timestamps, valid, settings)

    def rotations(self, name, quaternions, timestamps, valid):
        return smooth_rotations(quaternions, timestamps, valid)


BOTH_WAYS = BothWays()

LARGEST_GAP = 0.5
"""s without a picture, beyond which the one before says nothing about how fast things move now."""


class OnlineSmoother:
    """The smoother for a live picture: each call has one frame more, T = 1, of what has this name.

    `smoothing` in 0..1 is how steady it is, and may change at any time: see `lag_budget`. Whatever is not valid, and a clock
    that steps back or stands still or leaps, starts the filter anew: nothing is carried over a hole.
    """

    def __init__(self, smoothing=0.5):
        self.smoothing = smoothing
        self._filters = {}

    def positions(self, name, values, timestamps, valid, settings):
        """Filtered copy of positions [1, ..., N]; otherwise as `smooth_positions`."""
        return self._follow(name, values, timestamps, valid, settings, (np.subtract, np.add))

    def rotations(self, name, quaternions, timestamps, valid):
        """Filtered copy of unit WXYZ quaternions [1, ..., 4]."""
        return self._follow(name, quaternions, timestamps, valid, ROTATION, (_rotation_difference, _rotate_by))

    def forget(self):
        """Starts all filters anew, as where another person is measured."""
        self._filters.clear()

    def _follow(self, name, values, timestamps, valid, settings, space):
        budget = lag_budget(self.smoothing)
        if budget <= 0 or not valid[0]:
            self._filters.pop(name, None)
            return np.array(values, float)
        one_euro = self._filters.get(name)
        if one_euro is None:
            one_euro = self._filters[name] = OnlineOneEuro(*space)
        return one_euro.follow(values[0], timestamps[0], settings.quicker(POSE_LAG / budget))[None]


class OnlineOneEuro:
    """One value's forward pass, as its samples come. `difference` and `apply` define the space."""

    def __init__(self, difference=np.subtract, apply=np.add):
        self._difference, self._apply = difference, apply
        self._last = None

    def follow(self, value, timestamp, settings):
        """The filtered value after one more sample at a time in s."""
        value = np.array(value, float)
        step = np.inf if self._last is None else timestamp - self._last[0]
        if not 1e-6 < step <= LARGEST_GAP:
            self._last = timestamp, value, value, np.zeros_like(self._difference(value, value))
            return value.copy()
        _, before, filtered, speed = self._last
        change, speed = _one_euro_step(
            self._difference(value, before), self._difference(value, filtered), speed, step, settings
        )
        filtered = self._apply(filtered, change)
        self._last = timestamp, value, filtered, speed
        return filtered.copy()


POSE_LAG = KEYPOINTS.lag + ROTATION.lag
"""s that a pose lags by at ordinary speeds with the filters as they are: its keypoints are filtered, then its rotations."""


def lag_budget(smoothing):
    """s of lag at ordinary speeds for a `smoothing` in 0..1: none at 0, 0.05 at 0.5, 0.15 at 1; less in fast motion, more at rest.

    All filters are made quicker or slower by one factor, so that keypoints and rotations together lag by so much. The distance
    from the camera, which it hardly sees, lags by more.
    """
    smoothing = min(max(float(smoothing), 0.0), 1.0)
    return 0.05 * smoothing + 0.1 * smoothing**2
