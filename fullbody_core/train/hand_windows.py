"""Which squares of I hold the hands, for samples whose keypoints are known: what Eq. 6 finds in their true heat-maps."""

import numpy as np
import torch

from ..networks.localization import part_windows
from .detnet_loss import BODY_MAP, BODY_SIGMA, CELL, SHOWN, gaussian_maps


def hand_windows(hand2d, known=None):
    """Squares [N, 2, 3] float32 (u, v, w in cells) of hands [N, 2, 21, 2] px of I; zeros for a hand that is not in the picture.

    known: [N, 2, 21] bool, what of them is annotated; all of it by default.
    """
    places = torch.as_tensor(np.asarray(hand2d), dtype=torch.float32).flatten(1, 2) / CELL
    maps = gaussian_maps(places, BODY_MAP, BODY_SIGMA).unflatten(1, (2, -1))
    if known is not None:
        maps = maps * torch.as_tensor(np.asarray(known))[..., None, None]
    heat = maps.amax(2)
    shown = heat.amax((2, 3)) > SHOWN
    return (part_windows(heat) * shown[..., None]).float().numpy()
