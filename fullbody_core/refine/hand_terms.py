"""The terms of the hands' refinement, each half a sum of squares of how many deviations something is off.

A frame of one hand has 27 unknowns: where the wrist is besides the body's own, 3; a small turn of the palm about it in reference
axes, 3; the fingers' angles, 21. A term says what it costs and adds to the `NormalEquations`, as the body's do. All arrays lead
with the frame axis T; reference frame, metres, radians.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ..contract.frames import axis_angle_to_matrix, skew
from ..contract.swing_twist import rotate, transpose
from .fingers import ANGLES, LASTS, MIDDLES, RANGES, Fingers
from .terms import NEAREST, geman_mcclure
from .turn_terms import add_own, moves_of

PLACE, TURN, BENDS = slice(0, 3), slice(3, 6), slice(6, 6 + ANGLES)
UNKNOWNS = BENDS.stop


@dataclass(frozen=True)
class HandPose:
    """place [T, 3] m: the wrist, less the body's; turns [T, 3, 3]: of the palm into reference axes; angles [T, 21] rad."""

    place: np.ndarray
    turns: np.ndarray
    angles: np.ndarray
    TURN: ClassVar = TURN

    def stepped(self, step, _shared=None):
        """The pose after steps [T, 27] of the unknowns."""
        turns = axis_angle_to_matrix(step[:, TURN]) @ self.turns
        return replace(self, place=self.place + step[:, PLACE], turns=turns, angles=self.angles + step[:, BENDS])

    def moves(self):
        """[T - 1, 27]: how far each unknown goes from frame to frame."""
        return np.concatenate([np.diff(self.place, axis=0), moves_of(self.turns), np.diff(self.angles, axis=0)], 1)


@dataclass(frozen=True)
class Place:
    """The wrist is about where the body has it. How far away it seems also hangs on the hand's size, which is not the body's.

    precision [T, 3, 3] 1/m^2.
    """

    precision: np.ndarray

    @classmethod
    def about(cls, line, across, along):
        """line [T, 3]: unit, of sight; across m and along [T] m: one deviation."""
        outer = line[:, :, None] * line[:, None]
        return cls(np.eye(3) / across**2 + (1 / along**2 - 1 / across**2)[:, None, None] * outer)

    def cost(self, pose):
        return 0.5 * float((pose.place * rotate(self.precision, pose.place)).sum())

    def add(self, pose, equations):
        equations.same[:, PLACE, PLACE] += self.precision
        equations.gradient[:, PLACE] += rotate(self.precision, pose.place)


@dataclass(frozen=True)
class HandReprojection:
    """The 21 points lie under their pixels, robustly (Geman and McClure 1987; SMPLify, Bogo et al. 2016, Eq. 2).

    wrist [T, 3] m: the body's; sight [T, 21, 2]: what is seen, at depth one, in POINT_ORDER; weights [T]; spread [T]: one deviation
    at depth one; turns [T, 3, 3]: from the reference camera to the frame's.
    """

    fingers: Fingers
    wrist: np.ndarray
    sight: np.ndarray
    weights: np.ndarray
    spread: np.ndarray
    turns: np.ndarray
    limit: float

    def _seen(self, pose, points):
        """Points about the wrist in reference axes, where they appear at depth one, their depths, and deviations off."""
        turned = points @ transpose(pose.turns)
        seen = ((self.wrist + pose.place)[:, None] + turned) @ transpose(self.turns)
        depth = np.maximum(seen[..., 2:], NEAREST)
        flat = seen[..., :2] / depth
        return turned, flat, depth, (flat - self.sight) / self.spread[:, None, None]

    def cost(self, pose):
        off = self._seen(pose, self.fingers.points(pose.angles))[-1]
        return float((self.weights[:, None] * geman_mcclure((off**2).sum(-1), self.limit)[0]).sum())

    def add(self, pose, equations):
        points, by_angles = self.fingers.points_and_derivatives(pose.angles)
        turned, flat, depth, off = self._seen(pose, points)
        weight = self.weights[:, None] * geman_mcclure((off**2).sum(-1), self.limit)[1]
        by_camera = np.zeros(flat.shape + (3,))
        by_camera[..., 0, 0] = by_camera[..., 1, 1] = 1
        by_camera[..., 2] = -flat
        by_point = (by_camera / (depth * self.spread[:, None, None])[..., None]) @ self.turns[:, None]
        jacobian = np.concatenate([by_point, -by_point @ skew(turned), (by_point @ pose.turns[:, None]) @ by_angles], -1)
        jacobian = jacobian.reshape(len(flat), -1, UNKNOWNS)
        pull = transpose(jacobian * np.repeat(weight, 2, 1)[..., None])
        equations.same += pull @ jacobian
        equations.gradient += rotate(pull, off.reshape(len(flat), -1))


@dataclass(frozen=True)
class FingerAgreement:
    """The angles [T, 21] are those that the network saw, each robustly. weights [T]; spread rad."""

    angles: np.ndarray
    weights: np.ndarray
    spread: float
    limit: float

    def _off(self, pose):
        off = pose.angles - self.angles
        return off, geman_mcclure((off / self.spread) ** 2, self.limit)

    def cost(self, pose):
        return float((self.weights[:, None] * self._off(pose)[1][0]).sum())

    def add(self, pose, equations):
        off, (_, share) = self._off(pose)
        add_own(equations, BENDS, self.weights[:, None] * share / self.spread**2, off)


@dataclass(frozen=True)
class FingerLimits:
    """Joints stay in their ranges, and a long finger's last one follows its middle one at two thirds, as the tendon makes it (Lin,
    Wu and Huang 2000). spread rad: beyond a range; tendon rad: about the two thirds."""

    spread: float
    tendon: float

    def _off(self, pose):
        angles = pose.angles
        return angles - np.clip(angles, *RANGES.T), angles[:, LASTS] - 2 / 3 * angles[:, MIDDLES]

    def cost(self, pose):
        beyond, apart = self._off(pose)
        return 0.5 * float((beyond**2).sum() / self.spread**2 + (apart**2).sum() / self.tendon**2)

    def add(self, pose, equations):
        beyond, apart = self._off(pose)
        add_own(equations, BENDS, (beyond != 0) / self.spread**2, beyond)
        weight = self.tendon**-2
        parts = (LASTS + BENDS.start, 1.0), (MIDDLES + BENDS.start, -2 / 3)
        for row, by_row in parts:
            equations.gradient[:, row] += weight * by_row * apart
            for column, by_column in parts:
                equations.same[:, row, column] += weight * by_row * by_column
