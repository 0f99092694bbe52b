"""One-Euro filtering (Casiez et al. 2012) of rotations and positions, driven by timestamps.

The filter is a low-pass whose cut-off rises with speed: steady in still poses, quick in fast ones. Rotations are filtered on
the manifold: the step from the filtered to the new rotation is an axis-angle vector, of which a fraction is taken.
"""

from dataclasses import dataclass

import numpy as np

from .contract.frames import axis_angle_to_quaternion, multiply_quaternions, quaternion_to_axis_angle

_CONJUGATE = np.array([1.0, -1, -1, -1])


@dataclass(frozen=True)
class OneEuro:
    """min_cutoff: Hz at rest; speed_gain: Hz per unit of speed (rad/s or m/s); speed_cutoff: Hz for the speed itself."""

    min_cutoff: float
    speed_gain: float
    speed_cutoff: float = 1.0

    def __post_init__(self):
        if self.min_cutoff <= 0 or self.speed_cutoff <= 0 or self.speed_gain < 0:
            raise ValueError(f"One-Euro cut-offs should be above zero and the gain not below, got {self}.")


ROTATION = OneEuro(min_cutoff=1.5, speed_gain=1.0)
KEYPOINTS = OneEuro(min_cutoff=2.0, speed_gain=4.0)
"""For 3D keypoints about the root, in metres: their depth shakes most."""

PICTURE = OneEuro(min_cutoff=2.0, speed_gain=20.0)
"""For 2D keypoints in heights of the person: sharper than their depth, so that little is taken from them."""

SIGHT = OneEuro(min_cutoff=2.0, speed_gain=20.0)
"""For directions in units of the focal length, where 0.1 a second is a slow walk across the picture."""

DEPTH = OneEuro(min_cutoff=0.6, speed_gain=2.0)
"""For the logarithm of a distance."""


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
        forward = _one_euro(smoothed[run], steps, settings, difference, apply)
        backward = _one_euro(smoothed[run][::-1], steps[::-1], settings, difference, apply)[::-1]
        smoothed[run] = apply(forward, 0.5 * difference(backward, forward))
    return smoothed


def _rotation_difference(new, old):
    """Axis-angle [..., 3] that turns `old` into `new`."""
    return quaternion_to_axis_angle(multiply_quaternions(new, old * _CONJUGATE))


def _rotate_by(quaternion, step):
    turned = multiply_quaternions(axis_angle_to_quaternion(step), quaternion)
    return turned / np.linalg.norm(turned, axis=-1, keepdims=True)


def _one_euro(values, steps, settings, difference, apply):
    """The filter itself over T values; `steps` [T - 1] s between them. `difference` and `apply` define the space."""
    filtered = np.empty_like(values)
    filtered[0] = values[0]
    speed = np.zeros_like(difference(values[0], values[0]))
    for frame, step in enumerate(steps, 1):
        raw_speed = difference(values[frame], values[frame - 1]) / step
        speed = speed + _blend(settings.speed_cutoff, step) * (raw_speed - speed)
        cutoff = settings.min_cutoff + settings.speed_gain * np.linalg.norm(speed, axis=-1, keepdims=True)
        filtered[frame] = apply(filtered[frame - 1], _blend(cutoff, step) * difference(values[frame], filtered[frame - 1]))
    return filtered


def _blend(cutoff, step):
    """Share of the new value for a cut-off in Hz and a time step in s."""
    return 1 / (1 + 1 / (2 * np.pi * cutoff * step))
