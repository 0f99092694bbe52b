"""The loss of DetNet: Eq. 7 to 13 of Zhou et al. 2021 with the weights of its supplementary (Sec. 3, Training Details).

Squared Frobenius norms are sums over a sample's maps, averaged over the batch. What a sample does not have annotated is left out
by its own switches, point by point and map by map.
"""

from dataclasses import fields
from typing import NamedTuple

import torch

from ..contract.skeleton import HAND_BONES
from ..networks.body_keypoints import BASIC_BODY, BASIC_BONES, DEFINITION_NAMES, EXTENDED_BODIES
from ..networks.detnet import CELL, HAND_SIZE, pick_rows
from ..networks.detnet_samples import HAND_ROOT, HAND_UNIT, DetNetSamples
from ..networks.heat_maps import BODY_MAP, BODY_SIGMA, HAND_SIGMA, gaussian_maps

KEYPOINT_WEIGHT, DELTA_WEIGHT, LOCATION_WEIGHT = 1.0, 10.0, 10.0
"""w_k, w_d and w_l of Eq. 7."""

PART_WEIGHTS = {"body": 10.0, "hand": 1.0, "face": 1.0}
"""lambda_b, lambda_h and lambda_f of Eq. 11."""

REACH = 5
"""Cells around a keypoint in which delta- and location-maps are compared: beyond, the squared Gaussian is below 2e-5."""

FAR = -1e4
"""px: outside every picture."""


class Targets(NamedTuple):
    """Truth for one `PoseMaps`: places [N, K, 2] in cells, locations [N, K, 3], and what of them is known, [N, K] in 0 and 1."""

    places: torch.Tensor
    locations: torch.Tensor
    known2d: torch.Tensor
    known3d: torch.Tensor


class DetNetTensors(DetNetSamples):
    """A batch of samples on a device: the same fields as tensors, images [B, (2,) 3, H, W] float in 0..1."""

    @classmethod
    def of(cls, samples, device="cpu"):
        """samples: `DetNetSamples` with a leading axis."""
        tensors = {item.name: torch.as_tensor(getattr(samples, item.name)).to(device) for item in fields(cls)}
        for name in ("image", "hand_images"):
            # Channels last is how pictures lie in memory, and how convolutions like them.
            tensors[name] = tensors[name].movedim(-1, -3).float().div_(255)
        return cls(**tensors)


def detnet_losses(network, batch):
    """The terms of Eq. 11 before their weights, each a mean over the batch: a dict of body, hand, hand_map and face.

    network: `DetNet`; batch: `DetNetTensors`. Hand-only samples go past the body branch: their body-features are zero, and so is
    their attention.
    """
    count = len(batch.image)
    bodies = batch.body_present.nonzero()[:, 0]
    names = [name for name in network.definitions if (batch.definition == DEFINITION_NAMES.index(name)).any()]
    rows = {
        name: (batch.definition[bodies] == DEFINITION_NAMES.index(name)).nonzero()[:, 0] for name in names if len(bodies)
    }
    with _autocast(batch.image):
        images = batch.image if len(bodies) == count else batch.image[bodies]
        starred, basic, extended, heat = network.body(images, rows) if len(bodies) else (None, None, {}, None)
        sides = [_hand_rows(batch, side) for side in range(2)]
        hands = _run_hands(network, batch, starred, bodies, sides)
    zero = batch.image.new_zeros(())
    losses = {"body": zero, "hand": zero, "hand_map": zero, "face": zero}
    if len(bodies):
        losses["body"] = pose_loss(basic, basic_targets(batch, bodies), BASIC_BONES, BODY_SIGMA) / count
        for name, maps in extended.items():
            losses["body"] = losses["body"] + extended_loss(maps, batch, bodies[rows[name]], name) / count
        losses["hand_map"], losses["face"] = (term / count for term in heat_losses(heat.float(), batch, bodies))
    for side, (maps, chosen) in enumerate(zip(hands, sides)):
        if len(chosen):
            targets = hand_targets(batch, chosen, side)
            losses["hand"] = losses["hand"] + pose_loss(maps, targets, HAND_BONES, HAND_SIGMA) / count
    return losses


def total_loss(losses):
    """Eq. 11."""
    return (
        PART_WEIGHTS["body"] * losses["body"]
        + PART_WEIGHTS["hand"] * (losses["hand"] + losses["hand_map"])
        + PART_WEIGHTS["face"] * losses["face"]
    )


def _autocast(image):
    """Half precision for the layers; losses stay in single precision."""
    return torch.autocast(image.device.type, dtype=torch.bfloat16)


def _hand_rows(batch, side):
    """The samples [N] that have an image of this side's hand with anything known in it."""
    return ((batch.hand_boxes[:, side, 2] > 0) & batch.hand_known2d[:, side].any(1)).nonzero()[:, 0]


def _run_hands(network, batch, starred, bodies, sides):
    """`PoseMaps` of the chosen left and right hands, or None for both where there is no hand at all."""
    if not sum(map(len, sides)):
        return ()
    if starred is None:
        features = batch.image.new_zeros(len(batch.image), network.share[0].out_channels, *BODY_MAP[::-1])
    else:
        features = network.body_features(starred)
        if len(bodies) < len(batch.image):
            features = features.new_zeros(len(batch.image), *features.shape[1:]).index_copy(0, bodies, features)
    return network.hands(
        [pick_rows(features, rows) for rows in sides],
        [pick_rows(batch.hand_images[:, side], rows) for side, rows in enumerate(sides)],
        [batch.hand_boxes[rows, side] for side, rows in enumerate(sides)],
        [batch.body_present[rows] for rows in sides],
    )


def basic_targets(batch, rows):
    return body_targets(batch, rows, len(BASIC_BODY))


def extended_loss(maps, batch, rows, name):
    """Eq. 7 of one definition's extended keypoints; their bones may start at basic ones."""
    body = EXTENDED_BODIES[name]
    complete = body_targets(batch, rows, len(body.complete))
    return pose_loss(maps, complete, body.bones, BODY_SIGMA, len(BASIC_BODY))


def body_targets(batch, rows, count):
    """Truth of the first `count` body keypoints of some rows."""
    return Targets(
        batch.body2d[rows, :count] / CELL,
        batch.body3d[rows, :count],
        batch.body_known2d[rows, :count].float(),
        batch.body_known3d[rows, :count].float(),
    )


def hand_targets(batch, rows, side):
    """Truth of one side's hands in their own images: root and unit as in supplementary Sec. 3 (PoseNet)."""
    boxes = batch.hand_boxes[rows, side]
    places = (batch.hand2d[rows, side] / CELL - boxes[:, None, :2]) * (HAND_SIZE / CELL / boxes[:, None, 2:])
    points, known = batch.hand3d[rows, side], batch.hand_known3d[rows, side]
    root, (wrist, middle) = points[:, HAND_ROOT], HAND_UNIT
    unit = (points[:, wrist] - points[:, middle]).norm(dim=-1)
    usable = known[:, wrist] & known[:, middle] & known[:, HAND_ROOT] & (unit > 0)
    locations = (points - root[:, None]) / unit.clamp(min=1e-9)[:, None, None]
    return Targets(places, locations, batch.hand_known2d[rows, side].float(), (known & usable[:, None]).float())


def pose_loss(maps, targets, bones, sigma, first=0):
    """L_p (Eq. 7), summed over the samples.

    maps: `PoseMaps` of the keypoints from `first` on; targets: `Targets` of all keypoints that the bones speak of; bones:
    (parent, child) index pairs; sigma in cells.
    """
    keypoint, delta, location = maps
    height, width = keypoint.shape[-2:]
    own = slice(first, first + keypoint.shape[1])
    # The whole keypoint-map counts where a point is annotated; directions and locations count only around the point.
    truth = gaussian_maps(targets.places[:, own], (width, height), sigma)
    term = KEYPOINT_WEIGHT * ((truth - keypoint.float()) ** 2).sum((2, 3)).mul(targets.known2d[:, own]).sum()

    located = targets.known2d * targets.known3d
    parent, child = (torch.tensor(ends, device=keypoint.device) for ends in zip(*bones))
    direction = torch.nn.functional.normalize(targets.locations[:, child] - targets.locations[:, parent], dim=-1)
    bone_known = located[:, child] * targets.known3d[:, parent]
    term = term + DELTA_WEIGHT * _tiled_loss(delta, direction, targets.places[:, child], bone_known, sigma)
    return term + LOCATION_WEIGHT * _tiled_loss(
        location, targets.locations[:, own], targets.places[:, own], located[:, own], sigma
    )


def _tiled_loss(maps, vectors, places, known, sigma):
    """Eq. 9 and 10: maps [N, 3 K, H, W] against vectors [N, K, 3] tiled over them, around places [N, K, 2] in cells.

    Only a window about each place is looked at. That is a thirtieth of the maps, and what is left out weighs nothing.
    """
    height, width = maps.shape[-2:]
    steps = torch.arange(-REACH, REACH + 1, device=maps.device)
    cells = places.floor().long()[..., None] + steps  # [N, K, 2, R]
    size = torch.tensor([width, height], device=maps.device)[:, None]
    inside = (cells >= 0) & (cells < size)
    bells = torch.exp(-((cells + 0.5 - places[..., None]) ** 2) / (2 * sigma**2)) * inside
    confidence = bells[:, :, 1, :, None] * bells[:, :, 0, None, :]  # [N, K, R, R]: K^GT
    cells = torch.minimum(cells.clamp(min=0), size - 1)
    item = torch.arange(len(maps), device=maps.device)[:, None, None, None, None]
    channel = torch.arange(maps.shape[1], device=maps.device).view(1, -1, 3, 1, 1)
    row, column = cells[:, :, 1, None, :, None], cells[:, :, 0, None, None, :]
    difference = maps[item, channel, row, column].float() - vectors[..., None, None]  # [N, K, 3, R, R]
    return ((confidence[:, :, None] * difference) ** 2).sum((2, 3, 4)).mul(known).sum()


def heat_losses(heat, batch, rows):
    """L_h and L_f (Eq. 12 and 13), summed over the samples. heat [N, 3, 64, 48]: predicted for the rows of the batch."""
    truth, known = heat_targets(batch, rows)
    terms = ((truth - heat) ** 2).sum((2, 3)) * known
    return terms[:, :2].sum(), terms[:, 2].sum()


def heat_targets(batch, rows):
    """H_l, H_r and H_f [N, 3, 64, 48] of some rows, and which are known [N, 3]: the greatest of all keypoint-maps of a part."""
    # A point that is not known is put where its Gaussian reaches no map.
    hand2d = torch.where(batch.hand_known2d[rows][..., None], batch.hand2d[rows], FAR)
    face2d = torch.where(batch.face_known[rows][..., None], batch.face2d[rows], FAR)
    hands = gaussian_maps(hand2d.flatten(1, 2) / CELL, BODY_MAP, BODY_SIGMA).unflatten(1, (2, -1))
    face = gaussian_maps(face2d / CELL, BODY_MAP, BODY_SIGMA)
    known = torch.cat([batch.hand_map_known[rows], batch.face_map_known[rows, None]], 1)
    return torch.cat([hands.amax(2), face.amax(1, keepdim=True)], 1), known
