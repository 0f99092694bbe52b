# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotations as a bone's own rotation mode stores them, over time and without jumps. Numpy only.

T moments in axis 0, WXYZ quaternions, radians. Blender turns Euler angles in the order of the mode's letters: "XYZ" about x
first, and all three about the bone's unturned axes.
"""

import numpy as np

from ...contract.frames import continuous_quaternions, quaternion_to_matrix

EULER_MODES = ("XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX")

_LOCKED = 1e-5
"""Cosine of the middle Euler angle below which the outer two turn about the same axis."""


def channel(mode):
    """The pose bone's property that holds its rotation in a mode."""
    return {"QUATERNION": "rotation_quaternion", "AXIS_ANGLE": "rotation_axis_angle"}.get(mode, "rotation_euler")


def identity(mode):
    """No turn, as a mode stores it."""
    return {"QUATERNION": (1.0, 0, 0, 0), "AXIS_ANGLE": (0.0, 0, 1, 0)}.get(mode, (0.0, 0, 0))


def mode_values(mode, quaternions):
    """Unit quaternions [T, N, 4] as values [T, N, 3 or 4] of a mode, each next to the one before it in time."""
    if mode == "QUATERNION":
        return continuous_quaternions(quaternions)
    if mode == "AXIS_ANGLE":
        return quaternions_to_axis_angle(quaternions)
    return matrices_to_euler(quaternion_to_matrix(quaternions), mode)


def quaternions_to_axis_angle(quaternions):
    """Unit quaternions [T, N, 4] to angle and axis [T, N, 4]. The axis never flips: the angle changes its sign instead."""
    quaternions = continuous_quaternions(quaternions)
    sine = np.linalg.norm(quaternions[..., 1:], axis=-1)
    axis = _hold(quaternions[..., 1:] / np.maximum(sine, 1e-12)[..., None], sine > 1e-6, identity("AXIS_ANGLE")[1:])
    flips = np.where(np.sum(axis[1:] * axis[:-1], -1) < 0, -1.0, 1.0)
    sign = np.concatenate([np.ones_like(sine[:1]), np.cumprod(flips, 0)])
    angle = 2 * np.arctan2(sine * sign, quaternions[..., 0])
    return np.concatenate([np.unwrap(angle, axis=0)[..., None], axis * sign[..., None]], -1)


def matrices_to_euler(matrices, mode):
    """Rotations [T, N, 3, 3] to Euler angles [T, N, 3] about x, y and z, turned in the order of the mode's letters.

    Every rotation has two triples of angles within a turn; both families run alongside each other, so that going from one to
    the other, the shorter way where the middle angle passes a right angle, is one choice between neighbours.
    """
    first, middle, last = ("XYZ".index(letter) for letter in mode)
    parity = 1.0 if (middle - first) % 3 == 1 else -1.0
    cosine = np.hypot(matrices[..., first, first], matrices[..., middle, first])
    b = np.arctan2(-parity * matrices[..., last, first], cosine)
    a = np.arctan2(parity * matrices[..., last, middle], matrices[..., last, last])
    c = np.arctan2(parity * matrices[..., middle, first], matrices[..., first, first])
    # Locked, only the sum (or difference) of the outer angles is known: the first stays as it was, the last makes it up.
    locked = cosine < _LOCKED
    if locked.any():
        a = _hold(a[..., None], ~locked, (0.0,))[..., 0]
        both = np.arctan2(-parity * matrices[..., first, middle], matrices[..., middle, middle])
        c = np.where(locked, both + np.where(parity * b > 0, a, -a), c)
    angles = np.stack([a, b, c], -1)
    other = np.stack([a + np.pi, np.pi - b, c + np.pi], -1)
    stay, change = (np.sum(_turned(family[1:] - angles[:-1]) ** 2, -1) for family in (angles, other))
    changes = np.concatenate([np.zeros((1,) + b.shape[1:], int), np.cumsum(change < stay, 0)])
    chosen = np.unwrap(np.where((changes % 2 == 1)[..., None], other, angles), axis=0)
    values = np.empty_like(chosen)
    values[..., [first, middle, last]] = chosen
    return values


def _turned(angles):
    """Angles brought to within half a turn of zero."""
    return np.mod(angles + np.pi, 2 * np.pi) - np.pi


def _hold(values, known, default):
    """Values [T, N, C], with the last known [T, N] one where a value is not known; the first known one before any is."""
    rows = np.where(known, np.arange(len(known))[:, None], -1)
    rows = np.maximum.accumulate(rows, 0)
    rows = np.where(rows < 0, known.argmax(0), rows)
    held = np.take_along_axis(values, rows[..., None], 0)
    return np.where(known.any(0)[:, None], held, np.asarray(default, float))
