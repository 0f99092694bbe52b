"""What perfect maps look like: Gaussians about keypoints (Zhou et al. 2021, Sec. 3.2.5), and the windows of Eq. 6 in them."""

import numpy as np
import torch

from .detnet import CELL, IMAGE_SIZE
from .localization import part_windows

BODY_SIGMA = HAND_SIGMA = 1.5
"""Cells: standard deviation of the Gaussians in keypoint-maps. The paper leaves it open."""

BODY_MAP = (IMAGE_SIZE[0] // CELL, IMAGE_SIZE[1] // CELL)

SHOWN = 0.5
"""Of a true heat-map's greatest value: below, all of the part lies outside the picture."""


def gaussian_maps(places, size, sigma):
    """K^GT: Gaussians of height one [N, K, H, W] about places [N, K, 2] in cells, on maps of `size` (width, height)."""
    across, down = (torch.arange(cells, device=places.device) + 0.5 for cells in size)
    x = torch.exp(-((across - places[..., :1]) ** 2) / (2 * sigma**2))  # [N, K, W]
    y = torch.exp(-((down - places[..., 1:]) ** 2) / (2 * sigma**2))
    # Computed in the order in which convolutions leave their maps in memory: mixing orders costs more than the arithmetic.
    return (y.transpose(1, 2)[:, :, None] * x.transpose(1, 2)[:, None]).permute(0, 3, 1, 2)


def hand_windows(hand2d, known=None):
    """The squares [N, 2, 3] float32 (u, v, w in cells) that Eq. 6 finds in the true heat-maps of hands [N, 2, 21, 2] px of I.

    known: [N, 2, 21] bool, what of them is annotated; all of it by default. Zeros for a hand that is not in the picture.
    """
    places = torch.as_tensor(np.asarray(hand2d), dtype=torch.float32).flatten(1, 2) / CELL
    maps = gaussian_maps(places, BODY_MAP, BODY_SIGMA).unflatten(1, (2, -1))
    if known is not None:
        maps = maps * torch.as_tensor(np.asarray(known))[..., None, None]
    heat = maps.amax(2)
    shown = heat.amax((2, 3)) > SHOWN
    return (part_windows(heat) * shown[..., None]).float().numpy()
