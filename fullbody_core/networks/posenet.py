"""PoseNet, the atomic module of all keypoint detection in DetNet (Zhou et al. 2021, Sec. 3.2.5; supplementary Sec. 3, Fig. 5)."""

import functools
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from .resnet import ConvNorm


class PoseMaps(NamedTuple):
    """K keypoint-maps [B, K, H, W]: confidence that a cell holds the keypoint; delta-maps [B, 3 N, H, W]: direction of each of N
    bones, x, y, z of one after the other; location-maps [B, 3 K, H, W]: root-relative place of each keypoint likewise."""

    keypoint: torch.Tensor
    delta: torch.Tensor
    location: torch.Tensor


class PoseNet(nn.Module):
    """Features [B, C, H, W] to `PoseMaps`, by six convolutions: two for each kind of map."""

    def __init__(self, channels, keypoints, bones, width):
        super().__init__()
        self.keypoint = _two_convolutions(channels, width, keypoints)
        self.delta = _two_convolutions(channels + keypoints, width, 3 * bones)
        self.location = _two_convolutions(channels + keypoints + 3 * bones, width, 3 * keypoints)

    def forward(self, features):
        keypoint = self.keypoint(features)
        delta = self.delta(torch.cat([features, keypoint], 1))
        location = self.location(torch.cat([features, keypoint, delta], 1))
        return PoseMaps(keypoint, delta, location)


def _two_convolutions(channels, width, outputs):
    """The first gathers from around a cell, the second reads the maps from what it gathered."""
    last = nn.Conv2d(width, outputs, 1)
    # Maps are zero nearly everywhere: starting there saves the first thousand steps.
    nn.init.normal_(last.weight, std=1e-3)
    nn.init.zeros_(last.bias)
    return nn.Sequential(ConvNorm(channels, width), nn.ReLU(), last)


def read_out(*maps):
    """Places and confidences from one or more `PoseMaps`: location-maps read where the keypoint-map is greatest.

    Returns cells [B, K, 2] (x, y; the middle of the first cell is 0.5), locations [B, K, 3] in the maps' unit, and confidence
    [B, K] in 0..1, with the keypoints of all maps one after another. Beyond the paper the place within the cell comes from a
    parabola through the neighbours' values: a cell of a body's map is 16 px of I_h wide.
    """
    # On a CPU each operation costs more than its arithmetic, so what can be done for all maps at once is.
    highest, at, around, locations = (torch.cat(items, 1) for items in zip(*map(_greatest, maps)))
    width, last = _map_sizes(tuple(part.keypoint.shape[1:] for part in maps), at.device)
    places = torch.stack([at % width, at.div(width, rounding_mode="floor")], -1)
    before, after = around[..., ::2], around[..., 1::2]
    curvature = 2 * highest[..., None] - before - after
    offset = (0.5 * (after - before) / curvature.clamp(min=1e-6)).clamp(-0.5, 0.5)
    # At the rim there is no neighbour on one side.
    inside = (places > 0) & (places < last)
    return places + 0.5 + offset * inside, locations, highest.clamp(0, 1)


def _greatest(maps):
    """Of each keypoint-map the greatest value [B, K] and its index [B, K], the values left, right, above, below it [B, K, 4], and
    the locations [B, K, 3] there."""
    flat = maps.keypoint.flatten(2)
    highest, at = map_maxima(maps.keypoint)
    around = flat.gather(-1, (at[..., None] + _neighbours(maps.keypoint.shape[-1], at.device)).clamp(0, flat.shape[-1] - 1))
    locations = maps.location.flatten(2).unflatten(1, (-1, 3)).gather(-1, at[..., None, None].expand(-1, -1, 3, 1))
    return highest, at, around, locations[..., 0]


# Constants are kept: while a CUDA graph is recorded none can be brought to the device.
@functools.cache
def _neighbours(width, device):
    """Steps to the cells left, right, above and below in a flat map."""
    return torch.tensor([-1, 1, -width, width], device=device)


@functools.cache
def _map_sizes(shapes, device):
    """For each keypoint of maps with these shapes (K, H, W) its map's width [K], and the last place (x, y) in it [K, 2]."""
    sizes = torch.tensor([(width, height) for count, height, width in shapes for _ in range(count)], device=device)
    return sizes[:, 0].clone(), sizes - 1


def map_maxima(maps):
    """The greatest value [B, K] of each map [B, K, H, W], and its index [B, K] in the map row by row."""
    if maps.is_cuda:
        return maps.flatten(2).max(-1)
    # The same, four times faster on a CPU, where reductions do not run along channels.
    highest, at = functional.max_pool2d(maps, tuple(maps.shape[-2:]), return_indices=True)
    return highest[..., 0, 0], at[..., 0, 0]


def bilinear_crop(features, boxes, size):
    """Squares cut from features [B, C, H, W] and bilinearly resized to [B, C, size, size]; zero outside.

    boxes [B, 3]: left, top and width of each square in the features' own pixels.
    """
    height, width = features.shape[-2:]
    steps = (torch.arange(size, device=features.device, dtype=torch.float32) + 0.5) / size
    boxes = boxes.float()
    x = (boxes[:, 0:1] + steps * boxes[:, 2:3]) * (2 / width) - 1  # [B, size]
    y = (boxes[:, 1:2] + steps * boxes[:, 2:3]) * (2 / height) - 1
    grid = torch.stack([x[:, None, :].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)], -1)
    crop = functional.grid_sample(features, grid.to(features.dtype), "bilinear", "zeros", align_corners=False)
    # As convolutions want it: what is concatenated of two memory formats is copied again and again.
    return crop.contiguous(memory_format=torch.channels_last)
