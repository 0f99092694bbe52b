"""Least squares over time, in which no term knows more than three frames in a row. Numpy only."""

import numpy as np


class LeastSquares:
    """A sum of weighted squares of what is linear in N values of each of T frames, gathered as normal equations in bands.

    diagonal [T, N, N]; beside [T - 1, N, N]: from each frame to the next; far [T - 2, N]: diagonals of those to the one after;
    right [T, N]
    """

    def __init__(self, count, size):
        self.diagonal, self.beside = np.zeros((count, size, size)), np.zeros((count - 1, size, size))
        self.far, self.right = np.zeros((count - 2, size)), np.zeros((count, size))

    def add_values(self, weight, wanted=0.0):
        """weight * (values - wanted)^2, each [T, N] or what broadcasts to it."""
        places = np.arange(self.right.shape[1])
        self.diagonal[:, places, places] += weight
        self.right += weight * wanted

    def add_rows(self, rows, weight, wanted):
        """weight * (rows @ values - wanted)^2 of K rows per frame: rows [T, K, N], weight and wanted [T, K]."""
        heavy = (weight[..., None] * rows).swapaxes(-1, -2)
        self.diagonal += heavy @ rows
        self.right += (heavy @ wanted[..., None])[..., 0]

    def add_steps(self, rows, weight, wanted):
        """weight * (rows @ values at the next frame - rows @ values - wanted)^2: rows [T, K, N], weight and wanted [T - 1, K]."""
        now, after = rows[:-1], rows[1:]
        heavy_now, heavy_after = ((weight[..., None] * some).swapaxes(-1, -2) for some in (now, after))
        self.diagonal[:-1] += heavy_now @ now
        self.diagonal[1:] += heavy_after @ after
        self.beside -= heavy_now @ after
        self.right[:-1] -= (heavy_now @ wanted[..., None])[..., 0]
        self.right[1:] += (heavy_after @ wanted[..., None])[..., 0]

    def add_changes(self, weight):
        """weight * (second difference of the values)^2, weight [T - 2, N]."""
        places, count = np.arange(weight.shape[1]), len(weight)
        for first, share in enumerate((1, 4, 1)):
            self.diagonal[first : first + count, places, places] += share * weight
        for first in (0, 1):
            self.beside[first : first + count, places, places] -= 2 * weight
        self.far += weight

    def solve(self):
        """The values [T, N] of the least sum. What no term holds must not be left: the matrix must have an inverse."""
        count, size = self.right.shape
        main, side = self._in_pairs()
        wanted = np.zeros((len(main), 2 * size))
        wanted.reshape(-1)[: self.right.size] = self.right.ravel()
        # Forwards: each pair of frames as the next one leaves it; backwards: what the next one came to is put in.
        reduced = np.empty((len(main), 2 * size, 2 * size + 1))
        block, rest = main[0], wanted[0]
        for pair, across in enumerate(side):
            reduced[pair] = np.linalg.solve(block, np.concatenate([across, rest[:, None]], 1))
            taken = across.T @ reduced[pair]
            block, rest = main[pair + 1] - taken[:, :-1], wanted[pair + 1] - taken[:, -1]
        values = np.empty((len(main), 2 * size))
        values[-1] = np.linalg.solve(block, rest)
        for pair in range(len(side) - 1, -1, -1):
            values[pair] = reduced[pair, :, -1] - reduced[pair, :, :-1] @ values[pair + 1]
        return values.reshape(-1, size)[:count]

    def _in_pairs(self):
        """The same matrix as blocks of two frames each, with none beyond the next: [P, 2N, 2N] and [P - 1, 2N, 2N].

        A frame too many is one of its own.
        """
        count, size = self.right.shape
        pairs = (count + 1) // 2
        odd = 2 * pairs - count
        diagonal = np.concatenate([self.diagonal, np.broadcast_to(np.eye(size), (odd, size, size))])
        beside = np.concatenate([self.beside, np.zeros((odd + 1, size, size))])
        main, side = np.zeros((pairs, 2, size, 2, size)), np.zeros((pairs, 2, size, 2, size))
        main[:, 0, :, 0], main[:, 1, :, 1] = diagonal[::2], diagonal[1::2]
        main[:, 0, :, 1], main[:, 1, :, 0] = beside[::2], beside[::2].swapaxes(-1, -2)
        side[:, 1, :, 0] = beside[1::2]
        places = np.arange(size)
        for first in (0, 1):
            band = self.far[first::2]
            side[: len(band), first, places, first, places] = band
        return main.reshape(pairs, 2 * size, -1), side.reshape(pairs, 2 * size, -1)[:-1]
