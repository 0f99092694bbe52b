"""DetNet: its branches, its weights' files, and the predictor."""

import copy

import numpy as np
import pytest
import torch
from synthetic_samples import dotted_samples

from fullbody_core.contract.npz_file import FileError
from fullbody_core.networks.body_keypoints import BASIC_BODY, EXTENDED_BODIES
from fullbody_core.networks.detnet import HAND_CELLS, SIZES, DetNet, from_tensors, parameter_counts, to_tensors
from fullbody_core.networks.detnet_predictor import CELL_IN_CROP, CROP_SIZE, DetNetPredictor, load_detnet
from fullbody_core.networks.localization import part_windows
from fullbody_core.networks.posenet import read_out
from fullbody_core.tensor_shards import find_sets, write_shards
from fullbody_core.train.detnet_loss import DetNetTensors, detnet_losses, total_loss
from fullbody_core.weights import WeightsError


@pytest.fixture(autouse=True)
def seeded():
    """The same random pictures in every run."""
    torch.manual_seed(0)


def lively(definitions=("smpl",), seed=0):
    """A tiny DetNet with weights large enough, and statistics uneven enough, for every part to matter."""
    torch.manual_seed(seed)
    network = DetNet("tiny", definitions)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.normal_(module.weight, std=0.15)
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return network.eval()


def crops(count, seed=0):
    """Pictures with something to see at every scale."""
    generator = torch.Generator().manual_seed(seed)
    picture = 0
    for cells in (4, 16, 64, 256):
        noise = torch.rand(count, 3, cells, cells, generator=generator)
        picture = picture + torch.nn.functional.interpolate(noise, CROP_SIZE[::-1], mode="bilinear")
    return (picture * 255 / 4).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def test_shapes_are_the_papers():
    network = lively(("smpl", "coco"))
    with torch.no_grad():
        maps = network(
            torch.rand(2, 3, 256, 192), torch.rand(2, 2, 3, 128, 128), torch.tensor([[[1.0, 2, 9], [20, 30, 7]]] * 2)
        )
    assert maps.basic.keypoint.shape == (2, len(BASIC_BODY), 64, 48)
    assert maps.basic.delta.shape == (2, 3 * 8, 64, 48)
    assert maps.extended["smpl"].location.shape == (2, 3 * 24, 64, 48)
    assert maps.extended["coco"].keypoint.shape == (2, 9, 64, 48)
    assert maps.heat.shape == (2, 3, 64, 48)
    assert maps.hands[1].keypoint.shape == (2, 21, 32, 32) and maps.hands[0].delta.shape == (2, 60, 32, 32)


@pytest.mark.parametrize("size", list(SIZES))
def test_parameters_are_all_counted_and_the_training_state_stays_small(size):
    network = DetNet(size)
    total = sum(value.numel() for value in network.parameters())
    assert sum(parameter_counts(network).values()) == total
    assert 12 * total < 128e6


def test_a_sample_does_not_depend_on_its_batch():
    network = lively()
    images, hands = torch.rand(3, 3, 256, 192), torch.rand(3, 2, 3, 128, 128)
    boxes = torch.tensor([[[1.0, 2, 9], [20, 30, 7]], [[5, 5, 20], [0, 0, 48]], [[3, 9, 5], [7, 7, 7]]])
    with torch.no_grad():
        together = network(images, hands, boxes)
        alone = network(images[1:2], hands[1:2], boxes[1:2])
    torch.testing.assert_close(together.heat[1:2], alone.heat, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together.hands[1].location[1:2], alone.hands[1].location, rtol=1e-3, atol=1e-4)


def test_right_hand_is_the_left_one_in_a_mirror():
    """With the right Hand-PoseNet's kernels mirrored, a mirrored right hand on mirrored body features gives mirrored maps."""
    network = lively()
    network.hand_nets[1] = copy.deepcopy(network.hand_nets[0])
    for layer in network.hand_nets[1].modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.weight.data = layer.weight.data.flip(-1)
    starred = torch.rand(2, network.share[0].out_channels, 64, 48)
    image, box = torch.rand(2, 3, 128, 128), torch.tensor([[3.0, 10, 9], [30, 40, 12]])
    mirrored_box = torch.stack([48 - box[:, 0] - box[:, 2], box[:, 1], box[:, 2]], 1)
    with torch.no_grad():
        left, right = network.hands(
            [starred, starred.flip(-1)], [image, image.flip(-1)], [box, mirrored_box], [torch.ones(2)] * 2
        )
    assert left.location.std() > 1e-3
    for a, b in zip(left, right):
        torch.testing.assert_close(a, b.flip(-1), rtol=1e-4, atol=1e-4)


def test_attention_and_body_features_reach_the_hands():
    network = lively()
    starred = torch.rand(1, network.share[0].out_channels, 64, 48)
    given = torch.rand(1, 3, 128, 128), torch.tensor([[3.0, 10, 9]])

    def left(features, attention):
        with torch.no_grad():
            return network.hands([features] * 2, [given[0]] * 2, [given[1]] * 2, [torch.full((1,), attention)] * 2)[
                0
            ].keypoint

    assert not torch.allclose(left(starred, 1.0), left(starred, 0.0))
    assert not torch.allclose(left(starred, 1.0), left(0 * starred, 1.0))


def test_every_parameter_gets_a_finite_gradient():
    network = DetNet("tiny", ("smpl", "mpii")).train()
    batch = DetNetTensors.of(type(a := dotted_samples(2)).concatenate([a, dotted_samples(2, definition="mpii")]))
    total_loss(detnet_losses(network, batch)).backward()
    for name, value in network.named_parameters():
        assert value.grad is not None and torch.isfinite(value.grad).all(), name
        assert value.grad.abs().sum() > 0, name


def test_weights_survive_their_files(tmp_path):
    network = lively()
    paths = write_shards(tmp_path, "detnet_tiny", *to_tensors(network), limit=60_000)
    assert len(paths) > 2 and find_sets(tmp_path) == {"detnet_tiny": sorted(paths)}
    predictor, sha256 = load_detnet(paths)
    assert set(sha256) == {path.name for path in paths}
    expected = DetNetPredictor(from_tensors(*to_tensors(network)))
    given = crops(1)
    for a, b in zip(predictor.predict(given), expected.predict(given)):
        assert torch.equal(a, b)


def test_incomplete_mixed_and_wrong_files_are_refused(tmp_path):
    paths = write_shards(tmp_path, "a", *to_tensors(lively()), limit=60_000)
    other = write_shards(tmp_path, "b", *to_tensors(lively(seed=1)), limit=60_000)
    with pytest.raises(WeightsError, match="give all of them"):
        load_detnet(paths[1:])
    with pytest.raises(WeightsError, match="other weights"):
        load_detnet([*paths[:-1], other[-1]])
    with pytest.raises(WeightsError, match="no weight files"):
        load_detnet([])
    tensors, metadata = to_tensors(lively())
    for wrong in (
        (dict(list(tensors.items())[1:]), metadata),
        (tensors | {"unknown": torch.zeros(1)}, metadata),
        (tensors | {"locate.bias": torch.full((3,), np.nan)}, metadata),
        (tensors | {"locate.bias": torch.zeros(4)}, metadata),
        (tensors, metadata | {"size": "huge"}),
        (tensors, metadata | {"format": "something"}),
    ):
        with pytest.raises(FileError):
            from_tensors(*wrong)


def test_predictor_is_the_network_and_a_plain_read_out():
    network = lively()
    given = crops(2)
    prediction = DetNetPredictor(copy.deepcopy(network)).predict(given)
    with torch.no_grad():
        high = given.permute(0, 3, 1, 2).float() / 255
        image = high.unflatten(2, (-1, 4)).unflatten(4, (-1, 4)).mean((3, 5))
        heat = network.body(image)[3]
        windows = part_windows(heat)
        cuts = []
        for item in range(2):
            for u, v, w in windows[item, :2].tolist():
                square = high[item, :, 16 * v : 16 * (v + w), 16 * u : 16 * (u + w)]
                fine = torch.nn.functional.interpolate(square[None], (256, 256), mode="bilinear")
                cuts.append(fine.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).mean((3, 5))[0])
        maps = network(image, torch.stack(cuts).unflatten(0, (2, 2)), windows[:, :2])
    cells, locations, _ = read_out(maps.basic, maps.extended["smpl"])
    torch.testing.assert_close(prediction.body2d, CELL_IN_CROP * cells, rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(prediction.body3d, locations, rtol=1e-3, atol=1e-4)
    for side in range(2):
        hand_cells, hand_locations, _ = read_out(maps.hands[side])
        corner, width = windows[:, side, None, :2], windows[:, side, None, 2:]
        # At the squares' rims the two ways of cutting differ, so a few peaks may move.
        near = (prediction.hand2d[:, side] - 16 * (corner + hand_cells / HAND_CELLS * width)).norm(dim=-1) < 1
        assert near.float().mean() > 0.8
        torch.testing.assert_close(prediction.hand3d[:, side][near], hand_locations[near], rtol=0.05, atol=0.05)
    assert prediction.body2d.shape == (2, len(EXTENDED_BODIES["smpl"].complete), 2)


def test_batched_prediction_equals_single():
    predictor = DetNetPredictor(lively())
    given = crops(3)
    together = predictor.predict(given)
    for item in range(3):
        for a, b in zip(together, predictor.predict(given[item : item + 1])):
            torch.testing.assert_close(a[item], b[0], rtol=1e-3, atol=1e-3)


def test_half_precision_is_close_to_single():
    network, given = lively(), crops(2)
    single = DetNetPredictor(copy.deepcopy(network)).predict(given)
    half = DetNetPredictor(copy.deepcopy(network), half=True).predict(given)
    scale = single.body3d.std()
    # A map with two nearly equal peaks may be read at either: most must agree, and closely.
    close = (half.body3d - single.body3d).norm(dim=-1) < 0.03 * scale
    assert close.float().mean() > 0.9
    assert ((half.body2d - single.body2d).norm(dim=-1) < 4).float().mean() > 0.9
    assert (half.hand_box - single.hand_box).abs().max() <= 2 * CELL_IN_CROP


@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(1, 1024, 768, 4, dtype=torch.uint8),
        torch.zeros(1, 1024, 768, 3),
        torch.zeros(1024, 768, 3, dtype=torch.uint8),
    ],
)
def test_other_pictures_are_refused(wrong):
    with pytest.raises(ValueError, match="uint8 crops"):
        DetNetPredictor(lively()).predict(wrong)
