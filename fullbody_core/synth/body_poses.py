"""Body poses drawn within joint limits, for where no motion capture is at hand.

People who stand, bend, step and sit with their arms anywhere. Every angle is drawn on its own between two limits, mostly near the
middle, so these poses are wilder and less natural than motion capture, which is better wherever there is some.
"""

import numpy as np

from ..contract.frames import REST_TO_WORLD, axis_angle_to_matrix
from ..contract.skeleton import JOINT_INDEX, JOINT_NAMES, SIDES

CENTRAL_LIMITS = {
    "spine1": ((-5, 30), (-15, 15), (-12, 12)),
    "spine2": ((-5, 20), (-15, 15), (-8, 8)),
    "spine3": ((-5, 15), (-10, 10), (-8, 8)),
    "neck": ((-15, 20), (-25, 25), (-12, 12)),
    "head": ((-15, 15), (-25, 25), (-12, 12)),
}
"""Degrees about x (nod), y (turn) and z (lean), lowest and highest."""

LEFT_LIMITS = {
    "hip": ((-100, 20), (-20, 30), (-10, 35)),
    "knee": ((0, 120), (0, 0), (0, 0)),
    "ankle": ((-20, 30), (-10, 10), (-10, 10)),
    "collar": ((-5, 5), (-12, 8), (-8, 15)),
    "shoulder": ((-50, 50), (-90, 25), (-85, 70)),
    "elbow": ((-20, 40), (-130, 0), (0, 0)),
    "wrist": ((-20, 20), (-10, 10), (-25, 25)),
}
"""The same for joints of the left side; the right side mirrors them."""

STANDING = 0.6
"""Share of the poses whose legs are nearly straight."""


def sample_body_poses(rng, count):
    """Rotations [count, 52, 3, 3] parent-relative, the pelvis's upright and any way round in AMASS's world; fingers are flat."""
    rotations = np.broadcast_to(np.eye(3), (count, len(JOINT_NAMES), 3, 3)).copy()
    for name, limits in CENTRAL_LIMITS.items():
        rotations[:, JOINT_INDEX[name]] = _turn(_angles(rng, count, limits))
    straight = np.where(rng.random((count, 1)) < STANDING, 0.15, 1.0)
    for side, mirror in zip(SIDES, (np.ones(3), np.array([1.0, -1, -1]))):
        for name, limits in LEFT_LIMITS.items():
            angles = _angles(rng, count, limits) * mirror
            leg = name in ("hip", "knee", "ankle")
            rotations[:, JOINT_INDEX[f"{side}_{name}"]] = _turn(angles * straight if leg else angles)
    heading = axis_angle_to_matrix(np.array([0.0, 0, 1]) * rng.uniform(-np.pi, np.pi, (count, 1)))
    rotations[:, 0] = heading @ REST_TO_WORLD
    return rotations


def _angles(rng, count, limits):
    """Angles [count, 3] rad between limits in degrees, more often near their middle."""
    low, high = np.radians(np.array(limits, float)).T
    return low + (high - low) * rng.beta(1.6, 1.6, (count, 3))


def _turn(angles):
    """Rotations [N, 3, 3] about z, then y, then x."""
    x, y, z = (axis_angle_to_matrix(np.eye(3)[axis] * angles[:, axis : axis + 1]) for axis in range(3))
    return x @ y @ z
