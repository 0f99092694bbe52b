"""Keeps planted feet planted: the hips are moved, and the legs and feet turned, as little as that takes. Numpy only.

One least-squares problem over all frames, for the hips' offset, three small angles of each leg (see `two_bone_ik`) and each foot's
heading, solved by a few Newton steps. A point of a sole that stands does not move from one frame to the next, which is the no-slip
rule of a rolling foot: while it rolls over heel, ball and toes nothing jumps. What stands is on the ground, and nothing is below
it. Everything else asks that limbs point where the source's do, and that neither they nor the hips change speed more than its own.
Between contacts that leaves the smoothest way from the one to the next.
"""

from dataclasses import dataclass

import numpy as np

from .block_banded import LeastSquares
from .frames import axis_angle_to_matrix
from .skeleton import SIDES
from .swing_twist import unit
from .two_bone_ik import Legs

_STEPS = 4

_SLIP = 0.006
"""m/s of a planted point: costs as much as one `_TURN`, as do the measures below. Metres are of a person of the source's size."""

_BELOW, _ABOVE = 0.0013, 0.012
"""m of the lowest point of a sole below the ground, and above what it stands on."""

_TURN, _FAR = np.radians(1.0), np.radians(1.2)
"""rad that a thigh, a shin or a foot points elsewhere than the source's; further than the second it costs more than its square."""

_TURN_CHANGE, _OFFSET_CHANGE, _SHARE = 7.0, 0.2, 0.1
"""rad/s^2 of those, m/s^2 of the hips' offset, each and this much of what the source's own limb or hips have just then."""

_OFFSET = np.array([0.5, 0.5, 0.15])
"""m of the hips' offset, x y z: steps may grow longer or shorter with other proportions, and the way with them."""

_TAKES_HOLD = 0.05
"""s in which a contact takes hold, and lets go."""

_ANGLES = 4
"""Angles of each leg: the thigh's and the shin's bend, sideways, and the foot's heading."""


@dataclass(frozen=True)
class StandingLegs:
    """The legs that are to stand, over T frames, in the world: z up, metres of a person of the source's size.

    hips [T, 2, 3]; legs: `Legs` from there to the ankles; soles [T, 2, 3, 3]: heel, ball and toes of each foot, from its ankle;
    sole: height of the ground that they stand on.
    """

    hips: np.ndarray
    legs: Legs
    soles: np.ndarray
    sole: float


@dataclass(frozen=True)
class Planted:
    """What planting changes: the hips' offset [T, 3] m, and angles [T, 2, 4] rad: the three of `Legs`, and the feet's heading."""

    offset: np.ndarray
    angles: np.ndarray

    def turns(self, legs):
        """World turns (of the thighs, of the shins, of the feet) [T, 2, 3, 3] of the `Legs` that were planted."""
        thighs, shins = legs.turns(self.angles[..., :3])
        return thighs, shins, axis_angle_to_matrix(self.angles[..., 3:] * (0, 0, 1))


def plant(standing, contacts, times):
    """The `Planted` change of `StandingLegs` over T >= 3 frames at times [T] s, by the `Contacts` of the source."""
    return _Problem(standing, contacts, float(np.median(np.diff(times)))).solve()


class _Problem:
    """What `plant` solves, for T frames, two feet, and three points of each sole (heel, ball, toes).

    Values are [T, 11]: the hips' offset, then each leg's `_ANGLES`.
    """

    def __init__(self, standing, contacts, step):
        self.step, self.hips, self.legs, self.soles = step, standing.hips, standing.legs, standing.soles
        self.floor = standing.sole + contacts.ground[:, None]
        self.level = np.maximum(standing.sole + contacts.level, self.floor)
        self._weigh(contacts)
        self.change = self._allowed_change()

    def _weigh(self, contacts):
        """How firmly each point is held from frame to frame [T - 1, 2, 3], and how firmly each foot stands [T, 2]: 0 to 1."""
        firm = _taking_hold(contacts.standing, max(1, round(_TAKES_HOLD / self.step)))
        load = firm * contacts.pivot
        shares = np.sqrt(load[1:] * load[:-1])
        shares /= np.maximum(shares.sum(-1, keepdims=True), 1e-6)
        self.held = shares * np.minimum(firm[1:], firm[:-1])
        self.firm = firm.max(-1)

    def _allowed_change(self):
        """What second differences of the values may be [T - 2, 11], more where the source itself speeds up."""
        bends = _accelerations(np.stack([unit(self.legs.thighs), unit(self.legs.shins)], 2), self.step)
        turns = np.concatenate([bends, bends.max(-1, keepdims=True), bends[..., 1:]], -1).reshape(len(bends), -1)
        hips = np.repeat(_accelerations(self.hips.mean(1), self.step)[:, None], 3, 1)
        return np.concatenate([_OFFSET_CHANGE + _SHARE * hips, _TURN_CHANGE + _SHARE * turns], 1)

    def solve(self):
        """The `Planted` change."""
        values = np.zeros((len(self.hips), 3 + len(SIDES) * _ANGLES))
        for _ in range(_STEPS):
            values = self._equations(values[:, :3], values[:, 3:].reshape(-1, len(SIDES), _ANGLES)).solve()
        return Planted(values[:, :3], values[:, 3:].reshape(-1, len(SIDES), _ANGLES))

    def _equations(self, offset, angles):
        """The `LeastSquares` about the present offset [T, 3] and angles [T, 2, 4]."""
        equations = LeastSquares(len(offset), 3 + angles[0].size)
        ankles, moves = self.legs.reach(angles[..., :3])
        # An ankle is at rows @ values + still.
        rows = np.zeros((len(offset), len(SIDES), 3, equations.right.shape[1]))
        rows[..., :3] = np.eye(3)
        for foot in range(len(SIDES)):
            first = 3 + _ANGLES * foot
            rows[:, foot, :, first : first + 3] = moves[:, foot]
        still = self.hips + ankles - (moves @ angles[..., :3, None])[..., 0]
        self._hold(equations, rows, still, angles[..., 3])
        self._stand(equations, rows[:, :, 2], still[..., 2], (self.hips + ankles)[..., 2] + offset[:, None, 2])
        self._stay_near(equations, angles)
        equations.add_changes(1 / self.change**2 / self.step**3)
        return equations

    def _hold(self, equations, rows, still, headings):
        """Points that stand do not slide."""
        points, swing = _headed(self.soles, headings)
        level = np.repeat(rows[:, :, None, :2], points.shape[2], 2)
        for foot in range(len(SIDES)):
            level[:, foot, :, :, 2 + _ANGLES * (foot + 1)] = swing[:, foot]
        slide = np.diff(still[:, :, None, :2] + points - swing * headings[..., None, None], axis=0)
        weight = np.repeat(self.held[..., None], 2, -1) / _SLIP**2 / self.step
        frames = len(level)
        equations.add_steps(level.reshape(frames, -1, level.shape[-1]), weight.reshape(frames - 1, -1), -_flat(slide))

    def _stand(self, equations, rows, still, now):
        """Feet that stand are on the ground, or what else they stand on, and no sole is below the ground."""
        lowest = self.soles[..., 2].min(-1)
        stands = self.firm * np.where(now + lowest < self.level, 1 / _BELOW**2, 1 / _ABOVE**2)
        equations.add_rows(rows, self.step * stands, self.level - lowest - still)
        sinks = (1 - self.firm) * (now + lowest < self.floor) / _BELOW**2
        equations.add_rows(rows, self.step * sinks, self.floor - lowest - still)

    def _stay_near(self, equations, angles):
        """The hips stay near the source's way, and limbs point as the source's, which costs turn^2 + turn^4 / (2 _FAR^2)."""
        # Newton's step for the fourth power: squares that are weighed anew each time do not settle.
        each, further = self.step * np.array([1, 1, 2, 1]) / _TURN**2, (angles / _FAR) ** 2
        weight = each * (1 + 3 * further)
        hips = np.broadcast_to(self.step / _OFFSET**2, (len(angles), 3))
        wanted = 2 * further * angles / (1 + 3 * further)
        equations.add_values(
            np.concatenate([hips, _flat(weight)], 1), np.concatenate([np.zeros_like(hips), _flat(wanted)], 1)
        )


def _flat(values):
    return values.reshape(len(values), -1)


def _accelerations(vectors, step):
    """Lengths [T - 2, ...] of the second derivatives of vectors [T, ..., 3], a little blurred in time."""
    lengths = np.linalg.norm(np.diff(vectors, 2, axis=0), axis=-1) / step**2
    padded = np.concatenate([lengths[:1], lengths, lengths[-1:]])
    return (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4


def _headed(soles, headings):
    """Level places [T, 2, 3, 2] of sole points turned about the vertical by headings [T, 2] rad, and how they move with those."""
    cosine, sine = np.cos(headings)[..., None], np.sin(headings)[..., None]
    x, y = soles[..., 0] * cosine - soles[..., 1] * sine, soles[..., 0] * sine + soles[..., 1] * cosine
    return np.stack([x, y], -1), np.stack([-y, x], -1)


def _taking_hold(standing, reach):
    """How firmly points stand [T, ...], 0 to 1: less within `reach` frames of where a contact of a mask [T, ...] begins or ends."""
    firm, inner = np.zeros(standing.shape), standing
    for _ in range(reach + 1):
        firm += inner / (reach + 1)
        # A contact that the motion begins or ends in is firm up to there.
        padded = np.concatenate([inner[:1], inner, inner[-1:]])
        inner = padded[:-2] & inner & padded[2:]
    return firm * firm * (3 - 2 * firm)
