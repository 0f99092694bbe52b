"""Read-out of PoseNet's maps, cutting of features, folding of normalisations."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from fullbody_core.networks.heat_maps import gaussian_maps
from fullbody_core.networks.posenet import PoseMaps, PoseNet, bilinear_crop, read_out
from fullbody_core.networks.resnet import MainFeatNet, fold_batch_norms


def random_maps(batch, keypoints, height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return PoseMaps(
        torch.rand(batch, keypoints, height, width, generator=generator),
        torch.zeros(batch, 3, height, width),
        torch.randn(batch, 3 * keypoints, height, width, generator=generator),
    )


def plain_read_out(maps):
    """Greatest value and location there, one keypoint at a time."""
    batch, count, _, width = maps.keypoint.shape
    cells, locations = np.zeros((batch, count, 2)), np.zeros((batch, count, 3))
    for item in range(batch):
        for point in range(count):
            row, column = divmod(int(maps.keypoint[item, point].argmax()), width)
            cells[item, point] = column, row
            locations[item, point] = maps.location[item, 3 * point : 3 * point + 3, row, column]
    return cells, locations


def test_read_out_is_the_plain_loop_within_a_cell():
    maps = random_maps(3, 7, 13, 9)
    cells, locations, confidence = read_out(maps)
    plain_cells, plain_locations = plain_read_out(maps)
    np.testing.assert_array_equal(np.floor(cells), plain_cells)
    np.testing.assert_array_equal(locations, plain_locations)
    np.testing.assert_array_equal(confidence, maps.keypoint.amax((2, 3)))


def test_read_out_finds_gaussians_to_a_twentieth_of_a_cell():
    places = torch.from_numpy(np.random.default_rng(0).uniform(2, 40, (5, 21, 2))).float()
    maps = gaussian_maps(places, (48, 64), 1.5)
    cells, _, confidence = read_out(PoseMaps(maps, maps, maps.repeat(1, 3, 1, 1)))
    assert (cells - places).abs().max() < 0.05
    assert confidence.min() > 0.89


def test_peaks_at_the_rim_and_flat_maps_stay_inside():
    maps = torch.zeros(1, 5, 6, 4)
    for point, (row, column) in enumerate([(0, 0), (0, 3), (5, 0), (5, 3)]):
        maps[0, point, row, column] = 0.8
    cells, locations, confidence = read_out(PoseMaps(maps, maps, maps.repeat(1, 3, 1, 1)))
    np.testing.assert_array_equal(cells[0, :4], [[0.5, 0.5], [3.5, 0.5], [0.5, 5.5], [3.5, 5.5]])
    assert confidence[0, 4] == 0 and torch.isfinite(cells).all() and torch.isfinite(locations).all()


def test_several_maps_at_once_are_the_same_as_one_after_another():
    parts = [random_maps(2, 5, 8, 6, seed=1), random_maps(2, 3, 8, 6, seed=2), random_maps(2, 4, 5, 5, seed=3)]
    together = read_out(*parts)
    alone = zip(*(read_out(part) for part in parts))
    for joined, pieces in zip(together, alone):
        assert torch.equal(joined, torch.cat(pieces, 1))


def test_memory_format_does_not_matter():
    maps = random_maps(2, 5, 8, 6)
    turned = PoseMaps(*(item.contiguous(memory_format=torch.channels_last) for item in maps))
    for a, b in zip(read_out(maps), read_out(turned)):
        assert torch.equal(a, b)


def test_crop_of_the_whole_is_the_whole_and_a_ramp_stays_a_ramp():
    features = torch.rand(2, 3, 16, 16)
    whole = bilinear_crop(features, torch.tensor([[0.0, 0, 16]] * 2), 16)
    torch.testing.assert_close(whole, features)
    ramp = (torch.arange(40) + 0.5).expand(1, 1, 30, 40).contiguous()
    crop = bilinear_crop(ramp, torch.tensor([[6.0, 3, 20]]), 32)
    torch.testing.assert_close(crop[0, 0, 5], 6 + (torch.arange(32) + 0.5) * 20 / 32)


def test_crop_is_black_outside():
    crop = bilinear_crop(torch.ones(1, 1, 8, 8), torch.tensor([[-8.0, 0, 16]]), 16)
    assert crop[0, 0, :, :7].abs().max() == 0 and crop[0, 0, 4, 12] == 1


@pytest.mark.parametrize("module", [PoseNet(5, 4, 3, 6), MainFeatNet(4, (4, 6, 8, 8), (1, 1, 1, 1), 6)])
def test_folded_normalisations_change_nothing(module):
    shape = (4, 5, 16, 12) if isinstance(module, PoseNet) else (4, 3, 64, 64)
    torch.manual_seed(0)
    module = copy.deepcopy(module).double().train()
    for _ in range(3):
        module(torch.rand(shape).double() + 0.3)
    module.eval()
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.2)
    given = torch.rand(shape).double()
    with torch.no_grad():
        before = module(given)
        folded = fold_batch_norms(copy.deepcopy(module))
        after = folded(given)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
    for a, b in zip(before, after):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
