"""What stands in where a part was not found for a few frames: its neighbours in time, trusted less the farther they are."""

from dataclasses import dataclass

import numpy as np

from ..contract.frames import matrix_to_quaternion, quaternion_to_matrix, slerp_quaternions

HELD_FRAMES = 12
"""Beyond so many frames a neighbour says nothing any more: 0.4 s at 30 fps, in which a hand can turn right over."""


@dataclass
class Bridge:
    """For each of T frames its neighbours that were found (itself, if it was), and how they are to be mixed.

    before, after [T] frame indices; share [T] in 0..1 of `after`; trust [T]: 1 where found, falling to 0 in HELD_FRAMES.
    """

    before: np.ndarray
    after: np.ndarray
    share: np.ndarray
    trust: np.ndarray

    def vectors(self, values):
        """Values [T, ...] of the found frames, mixed linearly over the others."""
        share = self.share.reshape((-1,) + (1,) * (values.ndim - 1))
        return (1 - share) * values[self.before] + share * values[self.after]

    def rotations(self, values):
        """Rotations [T, 3, 3] of the found frames, turned evenly over the others."""
        if not self.share.any():
            return values[self.before]
        quaternions = matrix_to_quaternion(values)
        return quaternion_to_matrix(slerp_quaternions(quaternions[self.before], quaternions[self.after], self.share))


def bridge_holes(found):
    """The `Bridge` over frames that were not found [T] bool; before the first and after the last one that was, it holds that."""
    frames = np.arange(len(found))
    if not found.any() or found.all():
        return Bridge(frames, frames, np.zeros(len(found)), found.astype(float))
    seen = np.flatnonzero(found)
    place = np.searchsorted(seen, frames)
    after = seen[np.minimum(place, len(seen) - 1)]
    before = np.where(found, frames, seen[np.maximum(place - 1, 0)])
    before, after = np.where(before > frames, after, before), np.where(after < frames, before, after)
    share = np.where(after > before, (frames - before) / np.maximum(after - before, 1), 0.0)
    gap = np.minimum(np.abs(frames - before), np.abs(after - frames))
    return Bridge(before, after, share, np.maximum(0, 1 - gap / HELD_FRAMES))
