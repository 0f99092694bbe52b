"""Gauss-Newton steps for a whole clip: normal equations of blocks along a band, with a border of what is one for the clip.

A frame's unknowns meet those of the next two, because accelerations do: the matrix is banded, and its Cholesky factor costs the
same for every frame. Few unknowns that touch every frame are taken out by a Schur complement. Damping is Levenberg-Marquardt's
(Marquardt 1963), in the scale of the diagonal.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cho_solve_banded, cholesky_banded

SMALLEST_DAMPING, LARGEST_DAMPING = 1e-6, 1e4


@dataclass
class NormalEquations:
    """H step = -gradient over T frames of N unknowns and G more for all of them together.

    same [T, N, N], next [T, N, N] and next_but_one [T, N, N]: the blocks of H between a frame and itself, the next and the one
    after; the last ones, which have no partner, are zero. gradient [T, N]; border [T, N, G], corner [G, G], border_gradient [G].
    """

    same: np.ndarray
    next: np.ndarray
    next_but_one: np.ndarray
    gradient: np.ndarray
    border: np.ndarray
    corner: np.ndarray
    border_gradient: np.ndarray

    @classmethod
    def zeros(cls, frames, unknowns, shared):
        return cls(
            *np.zeros((3, frames, unknowns, unknowns)),
            np.zeros((frames, unknowns)),
            np.zeros((frames, unknowns, shared)),
            np.zeros((shared, shared)),
            np.zeros(shared),
        )

    def hold(self, frames):
        """Takes the first so many frames out: their step will be zero."""
        if not frames:
            return
        for blocks in (self.same, self.next, self.next_but_one, self.gradient, self.border):
            blocks[:frames] = 0
        self.same[:frames] = np.eye(self.same.shape[-1])

    def solve(self, damping):
        """(steps [T, N], shared step [G]) for a damping >= 0, or None where H is not positive definite to rounding."""
        frames, unknowns = self.gradient.shape
        try:
            # Overwritten and unchecked: the matrix is large, and a number that is not finite fails as not positive definite.
            factor = cholesky_banded(self._band(damping), overwrite_ab=True, lower=True, check_finite=False)
        except LinAlgError:
            return None
        shared = self.border.shape[-1]
        right = np.concatenate([self.gradient[..., None], self.border], -1).reshape(frames * unknowns, 1 + shared)
        solved = cho_solve_banded((factor, True), right, overwrite_b=True, check_finite=False)
        step, border = -solved[:, 0], solved[:, 1:]
        if not shared:
            return step.reshape(frames, unknowns), np.zeros(0)
        flat = self.border.reshape(-1, shared)
        corner = self.corner + damping * np.diag(np.diag(self.corner)) - flat.T @ border
        shared_step = np.linalg.solve(corner, -self.border_gradient - flat.T @ step)
        return (step - border @ shared_step).reshape(frames, unknowns), shared_step

    def _band(self, damping):
        """The matrix in LAPACK's lower band storage, [3 N, T N] in Fortran order."""
        frames, unknowns = self.gradient.shape
        # A column's entries from its block's first row on, and space to start the column at its own diagonal instead.
        columns = np.zeros((frames, unknowns, 4 * unknowns))
        columns[..., :unknowns] = self.same
        columns[..., unknowns : 2 * unknowns] = self.next
        columns[..., 2 * unknowns : 3 * unknowns] = self.next_but_one
        diagonal = np.arange(unknowns)
        columns[:, diagonal, diagonal] *= 1 + damping
        frame, column, row = columns.strides
        lower = np.lib.stride_tricks.as_strided(
            columns, (frames, unknowns, 3 * unknowns), (frame, column + row, row), writeable=False
        )
        return np.ascontiguousarray(lower).reshape(frames * unknowns, 3 * unknowns).T


def minimise(start, cost, linearise, move, iterations, tolerance=3e-3):
    """The state with the lowest cost that Levenberg-Marquardt finds from `start`, and that cost.

    cost(state) is a number; linearise(state) the `NormalEquations` there; move(state, steps, shared step) another state.
    It ends after so many iterations, or when a step gains less than the share `tolerance` of the cost.
    """
    state, lowest, damping = start, cost(start), 1e-3
    for _ in range(iterations):
        equations = linearise(state)
        gain, rejected = None, False
        while gain is None and damping <= LARGEST_DAMPING:
            step = equations.solve(damping)
            tried = None if step is None else move(state, *step)
            reached = np.inf if tried is None else cost(tried)
            if reached < lowest:
                gain = (lowest - reached) / max(lowest, 1e-300)
                state, lowest = tried, reached
                damping = damping if rejected else max(damping / 5, SMALLEST_DAMPING)
            else:
                rejected, damping = True, 8 * damping
        if gain is None or gain < tolerance:
            break
    return state, lowest
