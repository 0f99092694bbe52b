"""Angles between directions and between rotations. Numpy only."""

import numpy as np

from ..contract.frames import matrix_to_axis_angle
from ..contract.swing_twist import unit


def angle_between(a, b):
    """Degrees [...] between directions [..., 3]."""
    a, b = unit(a), unit(b)
    return np.degrees(2 * np.arctan2(np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1)))


def turn_between(a, b):
    """Degrees [...] from rotations a to b [..., 3, 3]."""
    return np.degrees(np.linalg.norm(matrix_to_axis_angle(b @ np.swapaxes(a, -1, -2)), axis=-1))
