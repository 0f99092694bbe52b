"""Eq. 6 of Zhou et al. 2021: the smallest square window of a heat-map that sufficiently contains a hand (or a face).

The window's width w is the smallest for which some window holds more than a share t of all confidence; among windows of that width
the fullest is taken, and of equally full ones the first, row by row. Sums come from an integral image, and because confidences are
not negative the fullest window of width w + 1 holds at least what that of width w holds, so that w is found by bisection.

Confidences are counted in whole 65,535ths: sums of whole numbers are exact in any order, on any device.
"""

import numpy as np
import torch
from torch.nn import functional

SUFFICIENT = 0.9
"""t. With the Gaussians that the heat-maps are trained on, a window of nine tenths stands about a cell off the outer keypoints."""

NOISE = 0.1
"""Confidences below this count as none when a part is located. Summed over three thousand cells, a hundredth of nothing outweighs a
hand."""

LEVELS = 65_535


def part_windows(heat):
    """Windows [B, P, 3] int64 (u, v, w) of the parts whose heat-maps [B, P, H, W] a network estimated."""
    return smallest_windows(torch.where(heat < NOISE, 0, heat).flatten(0, 1)).unflatten(0, heat.shape[:2])


def smallest_windows(heat, share=SUFFICIENT):
    """Windows [M, 3] int64 (u, v, w: left, top and width in cells) of heat-maps [M, H, W].

    Values are clipped to 0..1. No window is wider than the map's shorter side; where even that holds too little, it is that wide.
    """
    counts = (heat.float().clamp(0, 1) * LEVELS).round()
    # On a CPU, slices are several times faster than what can be recorded as a CUDA graph.
    if heat.device.type == "cpu":
        return torch.from_numpy(np.stack([_smallest_window(count, share) for count in counts.to(torch.int32).numpy()]))
    return _smallest_windows_batched(counts, share)


def _smallest_window(counts, share):
    """(u, v, w) of one map of whole numbers [H, W]."""
    height, width = counts.shape
    integral = np.zeros((height + 1, width + 1), np.int32)  # a map's sum stays below 2^31
    counts.cumsum(0, np.int32).cumsum(1, np.int32, out=integral[1:, 1:])
    total = int(integral[-1, -1])
    enough = share * total

    def sums(w):
        right = integral[:, w:] - integral[:, :-w]
        return right[w:] - right[:-w]

    # No cell holds more than LEVELS, so that no smaller window can be enough.
    low, high = max(1, min(int((enough / LEVELS) ** 0.5), height, width)), min(height, width)
    fullest = None
    while low < high:
        middle = (low + high) // 2
        inside = sums(middle)
        if inside.max() > enough:
            high, fullest = middle, inside
        else:
            low = middle + 1
    fullest = sums(high) if fullest is None else fullest
    v, u = divmod(int(fullest.argmax()), fullest.shape[1])
    return np.array([u, v, high])


def _smallest_windows_batched(counts, share):
    """Windows [M, 3] of maps of whole numbers [M, H, W]; always the same operations, so that they can be recorded."""
    maps, height, width = counts.shape
    integral = functional.pad(counts.double().cumsum(1).cumsum(2), (1, 0, 1, 0)).flatten(1)  # [M, (H + 1)(W + 1)]
    enough = share * integral[:, -1:]
    row = torch.arange(height, device=counts.device)[:, None]
    column = torch.arange(width, device=counts.device)[None]
    corner = (row * (width + 1) + column).flatten()[None].expand(maps, -1)  # [M, H W]

    def sums(w):  # [M, 1]
        fits = (row.flatten() + w[:, :, None] <= height) & (column.flatten()[:, None] + w[:, None] <= width)
        fits = fits.transpose(1, 2).flatten(1)
        # Where the window does not fit, any corner will do.
        right, below = w * fits, w * (width + 1) * fits
        total = integral.gather(1, corner + right + below) - integral.gather(1, corner + below)
        total = total - integral.gather(1, corner + right) + integral.gather(1, corner)
        return torch.where(fits, total, -1.0)

    low = torch.ones(maps, 1, dtype=torch.int64, device=counts.device)
    high = torch.full_like(low, min(height, width))
    for _ in range(min(height, width).bit_length()):
        middle = (low + high) // 2
        reached = sums(middle).amax(1, keepdim=True) > enough
        high = torch.where(reached, middle, high)
        low = torch.where(reached, low, torch.minimum(middle + 1, high))
    at = sums(high).argmax(1, keepdim=True)
    return torch.cat([at % width, at.div(width, rounding_mode="floor"), high], 1)
