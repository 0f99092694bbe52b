"""Eq. 7 to 13: perfect maps cost nothing, what is not annotated counts nothing, and the window changes nothing."""

import dataclasses

import numpy as np
import pytest
import torch
from synthetic_samples import dotted_samples

from fullbody_core.contract.skeleton import HAND_BONES
from fullbody_core.networks.body_keypoints import BASIC_BONES, EXTENDED_BODIES
from fullbody_core.networks.detnet import DetNet
from fullbody_core.networks.detnet_samples import DetNetSamples, face_of_box
from fullbody_core.networks.heat_maps import BODY_MAP, BODY_SIGMA, HAND_SIGMA, gaussian_maps
from fullbody_core.networks.localization import part_windows
from fullbody_core.networks.posenet import PoseMaps
from fullbody_core.train.detnet_loss import (
    DELTA_WEIGHT,
    KEYPOINT_WEIGHT,
    LOCATION_WEIGHT,
    PART_WEIGHTS,
    DetNetTensors,
    Targets,
    basic_targets,
    detnet_losses,
    hand_targets,
    heat_losses,
    heat_targets,
    pose_loss,
    total_loss,
)


def tiled(vectors, size):
    """Vectors [N, K, 3] on maps [N, 3 K, H, W] of `size` (width, height)."""
    return vectors.flatten(1)[..., None, None].expand(-1, -1, size[1], size[0])


def perfect_maps(targets, bones, size, sigma, first=0):
    parent, child = map(list, zip(*bones))
    direction = torch.nn.functional.normalize(targets.locations[:, child] - targets.locations[:, parent], dim=-1)
    return PoseMaps(
        gaussian_maps(targets.places[:, first:], size, sigma),
        tiled(direction, size),
        tiled(targets.locations[:, first:], size),
    )


def plain_loss(maps, targets, bones, sigma):
    """Eq. 7 to 10 over whole maps, one keypoint and one bone at a time."""
    total = 0.0
    height, width = maps.keypoint.shape[-2:]
    truth = gaussian_maps(targets.places, (width, height), sigma)
    for item in range(len(truth)):
        for point in range(truth.shape[1]):
            if not targets.known2d[item, point]:
                continue
            total += KEYPOINT_WEIGHT * ((truth[item, point] - maps.keypoint[item, point]) ** 2).sum()
            if targets.known3d[item, point]:
                error = maps.location[item, 3 * point : 3 * point + 3] - targets.locations[item, point, :, None, None]
                total += LOCATION_WEIGHT * ((truth[item, point] * error) ** 2).sum()
        for bone, (parent, child) in enumerate(bones):
            if targets.known2d[item, child] and targets.known3d[item, child] and targets.known3d[item, parent]:
                vector = targets.locations[item, child] - targets.locations[item, parent]
                error = maps.delta[item, 3 * bone : 3 * bone + 3] - (vector / vector.norm())[:, None, None]
                total += DELTA_WEIGHT * ((truth[item, child] * error) ** 2).sum()
    return total


def random_case(seed=0, count=3):
    generator = torch.Generator().manual_seed(seed)
    places = torch.rand(count, 9, 2, generator=generator) * torch.tensor([56.0, 72]) - 4  # some of them outside
    locations = torch.randn(count, 9, 3, generator=generator)
    known = torch.rand(2, count, 9, generator=generator) > 0.3
    targets = Targets(places, locations, known[0].float(), (known[0] & known[1]).float())
    maps = PoseMaps(*(torch.randn(count, channels, 64, 48, generator=generator) for channels in (9, 24, 27)))
    return maps, targets


def test_window_gives_the_loss_of_whole_maps():
    maps, targets = random_case()
    torch.testing.assert_close(
        pose_loss(maps, targets, BASIC_BONES, BODY_SIGMA),
        plain_loss(maps, targets, BASIC_BONES, BODY_SIGMA),
        rtol=1e-4,
        atol=0,
    )


def test_perfect_maps_cost_nothing():
    batch = DetNetTensors.of(dotted_samples(3))
    rows = torch.arange(3)
    targets = basic_targets(batch, rows)
    maps = perfect_maps(targets, BASIC_BONES, BODY_MAP, BODY_SIGMA)
    assert pose_loss(maps, targets, BASIC_BONES, BODY_SIGMA) < 1e-6
    for side in range(2):
        targets = hand_targets(batch, rows, side)
        maps = perfect_maps(targets, HAND_BONES, (32, 32), HAND_SIGMA)
        assert pose_loss(maps, targets, HAND_BONES, HAND_SIGMA) < 1e-6
    assert sum(heat_losses(heat_targets(batch, rows)[0], batch, rows)) < 1e-6


def test_hands_are_measured_from_the_middle_knuckle_in_palm_lengths():
    samples = dotted_samples(2)
    targets = hand_targets(DetNetTensors.of(samples), torch.arange(2), 0)
    torch.testing.assert_close(targets.locations[:, 9], torch.zeros(2, 3))
    torch.testing.assert_close(targets.locations[:, 0].norm(dim=-1), torch.ones(2))
    larger = dataclasses.replace(samples, hand3d=7 * samples.hand3d + 3)
    again = hand_targets(DetNetTensors.of(larger), torch.arange(2), 0)
    torch.testing.assert_close(again.locations, targets.locations, rtol=1e-4, atol=1e-4)
    assert targets.places.min() > 0 and targets.places.max() < 32


def gradients(samples, definitions=("smpl",)):
    torch.manual_seed(0)
    network = DetNet("tiny", definitions).train()
    total_loss(detnet_losses(network, DetNetTensors.of(samples))).backward()
    return {name: 0.0 if value.grad is None else float(value.grad.abs().sum()) for name, value in network.named_parameters()}


def blanked(samples, **changes):
    return dataclasses.replace(
        samples, **{name: np.full_like(getattr(samples, name), value) for name, value in changes.items()}
    )


def test_hand_only_samples_train_the_hands_alone():
    samples = blanked(dotted_samples(2), body_present=False, image=0, hand_map_known=False, face_map_known=False)
    moved = {name.split(".")[0] for name, value in gradients(samples).items() if value > 0}
    assert moved == {"supp", "hand_nets"}


def test_without_3d_only_keypoint_maps_are_trained():
    samples = blanked(dotted_samples(2), body_known3d=False, hand_known3d=False)
    moved = gradients(samples)
    assert moved["basic.keypoint.2.bias"] > 0 and moved["hand_nets.0.keypoint.2.bias"] > 0
    # The basic keypoints' delta- and location-maps are part of F*, so they still learn from what reads F*.
    for net in ("extended.smpl", "hand_nets.0", "hand_nets.1"):
        assert moved[f"{net}.location.2.bias"] == moved[f"{net}.delta.2.bias"] == 0


def test_only_the_own_definition_learns():
    moved = gradients(dotted_samples(2, definition="coco"), ("smpl", "coco"))
    assert moved["extended.coco.keypoint.2.bias"] > 0 and moved["extended.smpl.keypoint.2.bias"] == 0
    assert moved["basic.keypoint.2.bias"] > 0


def test_unknown_points_could_be_anywhere():
    samples = dotted_samples(2)
    hidden = samples.body_known2d.copy()
    hidden[:, 5] = hidden[:, 20] = False
    samples = dataclasses.replace(samples, body_known2d=hidden, body_known3d=hidden)
    elsewhere = dataclasses.replace(samples, body2d=samples.body2d.copy(), body3d=samples.body3d.copy())
    elsewhere.body2d[:, [5, 20]] += 30
    elsewhere.body3d[:, [5, 20]] -= 1
    torch.manual_seed(0)
    network = DetNet("tiny").eval()
    with torch.no_grad():
        a, b = (detnet_losses(network, DetNetTensors.of(item)) for item in (samples, elsewhere))
    assert float(a["body"]) == pytest.approx(float(b["body"]), rel=1e-6)


def test_mixed_batch_is_the_mean_of_its_parts():
    torch.manual_seed(0)
    network = DetNet("tiny", tuple(EXTENDED_BODIES)).eval()
    parts = [dotted_samples(1, seed, name) for seed, name in enumerate(EXTENDED_BODIES)]
    parts.append(blanked(dotted_samples(1, 50), body_present=False, image=0, hand_map_known=False, face_map_known=False))
    with torch.no_grad():
        together = detnet_losses(network, DetNetTensors.of(DetNetSamples.concatenate(parts)))
        alone = [detnet_losses(network, DetNetTensors.of(part)) for part in parts]
    for name, value in together.items():
        assert float(value) == pytest.approx(np.mean([float(part[name]) for part in alone]), rel=2e-2), name


@pytest.mark.parametrize("box", [(60, 40, 120, 110), (20, 10, 50, 50), (100, 100, 180, 190)])
def test_a_face_of_which_only_the_box_is_known_is_found_there(box):
    samples = dotted_samples(1)
    samples.face2d[0], samples.face_known[0] = face_of_box(box)
    truth, known = heat_targets(DetNetTensors.of(samples), torch.arange(1))
    u, v, w = (4 * part_windows(truth)[0, 2]).tolist()
    shared = np.prod(np.clip(np.minimum([u + w, v + w], box[2:]) - np.maximum([u, v], box[:2]), 0, None))
    area = np.prod(np.subtract(box[2:], box[:2]))
    assert known[0, 2] and shared / (w * w + area - shared) > 0.6


def test_full_loss_weighs_the_parts_as_the_supplementary_says():
    assert (KEYPOINT_WEIGHT, DELTA_WEIGHT, LOCATION_WEIGHT) == (1, 10, 10)
    assert PART_WEIGHTS == {"body": 10, "hand": 1, "face": 1}
    assert total_loss({"body": 2.0, "hand": 3.0, "hand_map": 5.0, "face": 7.0}) == 35


def test_hands_that_are_not_in_the_picture_have_empty_heat_maps_and_no_maps_of_their_own():
    samples = dotted_samples(2)
    samples.hand_boxes[:, 1] = 0
    samples.hand2d[:, 1] = -500
    batch = DetNetTensors.of(samples)
    truth, known = heat_targets(batch, torch.arange(2))
    assert known.all() and truth[:, 1].max() == 0 and truth[:, 0].max() > 0.8
    losses = detnet_losses(DetNet("tiny").eval(), batch)
    assert all(torch.isfinite(value) for value in losses.values())
    assert gradients(samples)["hand_nets.1.keypoint.2.bias"] == 0
