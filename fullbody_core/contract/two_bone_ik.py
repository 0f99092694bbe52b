"""Legs of two bones, changed by three small angles each. Numpy only.

The angles are how far the thigh and the shin turn from their directions, so what they cost is what is seen. A knee near full
reach is no special case: there the ankle hardly moves along the leg however the angles change, and whoever solves for them finds
that it costs too much. Solving for the ankle's place instead makes knees pop.
"""

from dataclasses import dataclass

import numpy as np

from .frames import axis_angle_to_matrix, cross
from .swing_twist import reject, unit

_STRAIGHT = 0.15
"""Sine of the knee's angle below which the thigh's own hinge says rather than the bend how the knee turns."""


@dataclass(frozen=True)
class Legs:
    """Two legs over T frames: thighs and shins [T, 2, 3] m from joint to joint, hinges [T, 2, 3] and sides [T, 2, 3].

    Hinges point to the person's left where legs are straight: a positive turn of the shin about one bends the knee. Turns about
    a side move the whole leg sideways. Angles are [T, 2, 3] rad: the thigh's and the shin's about the hinge, both's about the side.
    """

    thighs: np.ndarray
    shins: np.ndarray
    hinges: np.ndarray
    sides: np.ndarray

    def turned(self, angles):
        """(thighs, shins) [T, 2, 3] m turned by angles."""
        thighs = _rotated(self.thighs, self.hinges, angles[..., :1])
        shins = _rotated(self.shins, self.hinges, angles[..., 1:2])
        return _rotated(thighs, self.sides, angles[..., 2:]), _rotated(shins, self.sides, angles[..., 2:])

    def reach(self, angles):
        """The ankles from the hips [T, 2, 3] m, and how they move with each angle: [T, 2, 3, 3], a column per angle."""
        thighs, shins = self.turned(angles)
        hinges = _rotated(self.hinges, self.sides, angles[..., 2:])
        ankles = thighs + shins
        return ankles, np.stack([cross(hinges, thighs), cross(hinges, shins), cross(self.sides, ankles)], -1)

    def turns(self, angles):
        """World turns (of the thighs, of the shins) [T, 2, 3, 3] that angles amount to."""
        sideways = axis_angle_to_matrix(self.sides * angles[..., 2:])
        return tuple(sideways @ axis_angle_to_matrix(self.hinges * angles[..., k : k + 1]) for k in (0, 1))


def make_legs(hips, knees, ankles, hinges):
    """`Legs` from joints [T, 2, 3] m and the thighs' own hinges [T, 2, 3] (to the person's left), used where a knee is straight."""
    thighs, shins = knees - hips, ankles - knees
    leg = unit(thighs + shins)
    bend = cross(unit(thighs), unit(shins))
    hinges = unit(reject(bend + _STRAIGHT * hinges, leg))
    return Legs(thighs, shins, hinges, unit(cross(leg, hinges)))


def _rotated(vectors, axes, angles):
    """Vectors [..., 3] turned about unit axes [..., 3] by angles [..., 1] rad."""
    cosine, sine = np.cos(angles), np.sin(angles)
    along = np.sum(axes * vectors, -1, keepdims=True)
    return vectors * cosine + cross(axes, vectors) * sine + axes * (along * (1 - cosine))
