# SPDX-License-Identifier: GPL-3.0-or-later
"""A capture at other moments than its own frames', as Blender will interpolate between keys. Numpy only, no bpy."""

from dataclasses import dataclass

import numpy as np

from .contract.frames import continuous_quaternions, slerp_quaternions


@dataclass(frozen=True)
class Sampling:
    """Some moments, by number `rows` [M], and the captured frames that each lies between.

    It lies `fraction` [M] of the way from frame `before` [M] to frame `after` [M], and `away` [M] s from the nearer one.
    """

    rows: np.ndarray
    before: np.ndarray
    after: np.ndarray
    fraction: np.ndarray
    away: np.ndarray

    def near(self, reach):
        """Whether each moment [M] lies within `reach` s of a captured frame."""
        return self.away <= reach * (1 + 1e-6) + 1e-9

    def within(self, reach):
        """The `Sampling` of those moments alone that are near a captured frame."""
        near = self.near(reach)
        return Sampling(self.rows[near], self.before[near], self.after[near], self.fraction[near], self.away[near])

    def linear(self, values):
        """Values [T, ...] at the sampled moments [M, ...]."""
        weight = self.fraction.reshape(-1, *[1] * (values.ndim - 1))
        return values[self.before] * (1 - weight) + values[self.after] * weight

    def slerp(self, quaternions):
        """WXYZ rotations [T, J, 4] at the sampled moments [M, J, 4], neighbours on one hemisphere."""
        sampled = quaternions[self.before]
        if self.fraction.any():
            fraction = np.broadcast_to(self.fraction[:, None], sampled.shape[:2])
            sampled = slerp_quaternions(sampled, quaternions[self.after], fraction)
        return continuous_quaternions(sampled)


def sample_captured(timestamps, captured, times):
    """`Sampling` of the moments `times` [N] from the frames `timestamps` [T] that are `captured` [T]; none where no frame is.

    Each lies between its nearest captured frames, so a moment at the rim of a hole agrees with what Blender will interpolate
    across it. Before the first and after the last, these are held.
    """
    rows = np.flatnonzero(captured)
    if len(rows) == 0:
        empty = np.zeros(0, int)
        return Sampling(empty, empty, empty, np.zeros(0), np.zeros(0))
    known = np.asarray(timestamps, float)[rows]
    after = np.clip(np.searchsorted(known, times), 0, len(known) - 1)
    before = np.where(known[after] > times, np.maximum(after - 1, 0), after)
    span = known[after] - known[before]
    fraction = np.divide(times - known[before], span, out=np.zeros(len(times)), where=span > 0)
    away = np.minimum(np.abs(times - known[before]), np.abs(times - known[after]))
    return Sampling(np.arange(len(times)), rows[before], rows[after], np.clip(fraction, 0, 1), away)
