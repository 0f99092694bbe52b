"""Terms for what turns over time, by itself or as a part of more: agreement with what was seen, and smoothness of its own pace.

A pose here has `turns` [T, 3, 3] into reference axes, which the unknowns `TURN` (a slice) turn a little more in these axes, and
`moves()` [T - 1, N], how far each of its N unknowns goes from frame to frame. `steady_turns` is the smallest use of them. All
arrays lead with the frame axis T; radians.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..contract.frames import axis_angle_to_matrix, continuous_quaternions, matrix_to_axis_angle, matrix_to_quaternion
from ..contract.swing_twist import transpose
from .own_motion import own_acceleration, without_turned_spikes
from .solver import NormalEquations, minimise
from .terms import geman_mcclure

ITERATIONS = 12


@dataclass(frozen=True)
class Turns:
    """turns [T, 3, 3] into reference axes, each an unknown turn."""

    turns: np.ndarray
    TURN: ClassVar = slice(0, 3)

    def stepped(self, step, _shared=None):
        """The pose after steps [T, 3] rad."""
        return Turns(axis_angle_to_matrix(step) @ self.turns)

    def moves(self):
        return moves_of(self.turns)


def moves_of(turns):
    """[T - 1, 3] rad: the turns from each of [T, 3, 3] to the next."""
    return matrix_to_axis_angle(turns[1:] @ transpose(turns[:-1]))


def add_own(equations, part, weight, off):
    """Adds to `NormalEquations` of a part (a slice) for each unknown alone: weight [T, n] of half the square of `off` [T, n]."""
    places = np.arange(part.start, part.stop)
    equations.same[:, places, places] += weight
    equations.gradient[:, part] += weight * off


@dataclass(frozen=True)
class TurnAgreement:
    """It is turned as something says, robustly by Geman and McClure. seen [T, 3, 3] in reference axes; weights [T]; spread rad;
    limit: deviations beyond which it pulls ever less."""

    seen: np.ndarray
    weights: np.ndarray
    spread: float
    limit: float

    def _off(self, pose):
        off = matrix_to_axis_angle(pose.turns @ transpose(self.seen))
        return off, geman_mcclure((off**2).sum(-1) / self.spread**2, self.limit)

    def cost(self, pose):
        return float((self.weights * self._off(pose)[1][0]).sum())

    def add(self, pose, equations):
        off, (_, share) = self._off(pose)
        add_own(equations, pose.TURN, (self.weights * share / self.spread**2)[:, None], off)


@dataclass(frozen=True)
class OwnSmoothness:
    """Nothing accelerates more than it does of itself: smoothness with a deviation of its own for each unknown and time, so that
    what is fast stays fast. timestamps [T] s; spread [T, N] in the unknowns' units a second squared."""

    timestamps: np.ndarray
    spread: np.ndarray

    def _accelerations(self, pose):
        """[T - 2, N], and what each of three frames counts in them, 3 times [T - 2, 1]."""
        steps = np.diff(self.timestamps)[:, None]
        between = (steps[1:] + steps[:-1]) / 2
        before, after = 1 / (steps[:-1] * between), 1 / (steps[1:] * between)
        return np.diff(pose.moves() / steps, axis=0) / between, (before, -(before + after), after)

    def cost(self, pose):
        if len(self.timestamps) < 3:
            return 0.0
        return 0.5 * float(((self._accelerations(pose)[0] / self.spread[1:-1]) ** 2).sum())

    def add(self, pose, equations):
        if len(self.timestamps) < 3:
            return
        found, counts = self._accelerations(pose)
        weight, frames = self.spread[1:-1] ** -2.0, len(found)
        unknowns = np.arange(found.shape[1])
        blocks = equations.same, equations.next, equations.next_but_one
        for first, one in enumerate(counts):
            equations.gradient[first : first + frames] += weight * one * found
            for second in range(first, 3):
                blocks[second - first][first : first + frames, unknowns, unknowns] += weight * one * counts[second]


def turning_acceleration(turns, timestamps):
    """How much turns [T, 3, 3] accelerate of themselves, [T, 1] rad/s^2: a quaternion changes half as much as the turn."""
    quaternions = continuous_quaternions(matrix_to_quaternion(turns))
    return 2 * np.linalg.norm(own_acceleration(quaternions, timestamps), axis=-1, keepdims=True)


def solve(start, terms, unknowns):
    """The pose that the terms together like best, by `minimise` from `start`; unknowns: how many a frame has."""

    def cost(pose):
        return sum(term.cost(pose) for term in terms)

    def linearise(pose):
        equations = NormalEquations.zeros(len(pose.turns), unknowns, 0)
        for term in terms:
            term.add(pose, equations)
        return equations

    return minimise(start, cost, linearise, type(start).stepped, ITERATIONS)[0]


def steady_turns(seen, weights, timestamps, spread, acceleration, share=1.0, limit=3.0):
    """Turns [T, 3, 3] near to those seen [T, 3, 3], as their weights [T] say, that accelerate by no more than they should.

    spread rad: of what is seen; acceleration rad/s^2: of what is at rest; share: of the motion's own acceleration.
    """
    start = Turns(without_turned_spikes(seen))
    allowed = acceleration + share * turning_acceleration(start.turns, timestamps)
    smooth = OwnSmoothness(timestamps, np.repeat(allowed, 3, 1))
    return solve(start, [TurnAgreement(seen, weights, spread, limit), smooth], 3).turns
