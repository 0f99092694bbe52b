"""IKNet as a function: what must hold for any weights. How good the shipped ones are is in test_iknet_weights.py."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fullbody_core.body.bound_keypoints import BoundKeypoints
from fullbody_core.contract.npz_file import FileError
from fullbody_core.contract.skeleton import JOINT_INDEX
from fullbody_core.ik.rest_skeleton import BODY_PLACES, RestSkeleton, hand_places
from fullbody_core.networks.iknet import LAYOUTS, IKNet, rotation_from_6d
from fullbody_core.train.iknet_samples import bind_keypoints, random_rotations

every_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


def network_of(layout, seed=0):
    """A network with weights large enough for every input to matter."""
    torch.manual_seed(seed)
    network = IKNet(layout).eval()
    torch.nn.init.normal_(network.leave.weight, std=0.1)
    return network


def inputs_of(layout, count, seed=1):
    generator = torch.Generator().manual_seed(seed)
    size = len(layout.definition)
    points = torch.randn(count, size, 3, generator=generator)
    confidence = torch.rand(count, size, generator=generator)
    return points, confidence, torch.randn(count, size, 3, generator=generator)


def assert_rotations(rotations, atol=1e-5):
    assert torch.isfinite(rotations).all()
    eye = torch.eye(3).expand_as(rotations)
    torch.testing.assert_close(rotations @ rotations.transpose(-1, -2), eye, atol=atol, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotations), torch.ones(rotations.shape[:-2]), atol=atol, rtol=0)


def assert_finite(pose):
    assert_rotations(pose.rotations)
    assert torch.isfinite(pose.betas).all() and torch.isfinite(pose.scale).all() and (pose.scale > 0).all()


@every_layout
def test_batched_equals_single(layout):
    network, inputs = network_of(layout), inputs_of(layout, 5)
    together = network(*inputs)
    for index in range(5):
        alone = network(*(item[index : index + 1] for item in inputs))
        for a, b in zip(together, alone):
            torch.testing.assert_close(a[index], b[0], atol=2e-5, rtol=1e-4)


@every_layout
def test_where_the_person_stands_does_not_matter(layout):
    network, (points, confidence, reference) = network_of(layout), inputs_of(layout, 4)
    here, there = network(points, confidence, reference), network(points + torch.tensor([3.0, -1, 5]), confidence, reference)
    torch.testing.assert_close(here.rotations, there.rotations, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(here.scale, there.scale, atol=1e-4, rtol=1e-4)


@every_layout
def test_a_point_that_is_not_seen_does_not_matter(layout):
    network, (points, confidence, reference) = network_of(layout), inputs_of(layout, 4)
    confidence[:, 2] = 0
    moved = points.clone()
    moved[:, 2] += 100.0
    for a, b in zip(network(points, confidence, reference), network(moved, confidence, reference)):
        torch.testing.assert_close(a, b)


@every_layout
@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")])
def test_a_point_that_is_not_finite_counts_as_not_seen(layout, broken):
    network, (points, confidence, reference) = network_of(layout), inputs_of(layout, 3)
    damaged, unseen = points.clone(), confidence.clone()
    damaged[:, 1, 2] = broken
    unseen[:, 1] = 0
    answer = network(damaged, confidence, reference)
    assert_finite(answer)
    for a, b in zip(answer, network(points, unseen, reference)):
        torch.testing.assert_close(a, b)


@every_layout
def test_any_input_gives_a_finite_answer(layout):
    network, (points, confidence, reference) = network_of(layout), inputs_of(layout, 2)
    nan = torch.full_like(points, float("nan"))
    for given_points in (points, nan, torch.zeros_like(points), 1e6 * points, 1e-9 * points):
        for seen in (confidence, torch.zeros_like(confidence), torch.full_like(confidence, float("nan"))):
            assert_finite(network(given_points, seen, reference))


@every_layout
def test_gradients_are_finite_everywhere(layout):
    network, (points, confidence, reference) = network_of(layout), inputs_of(layout, 2)
    for given_points, seen in ((points, confidence), (torch.zeros_like(points), confidence), (points, 0 * confidence)):
        network.zero_grad()
        pose = network(given_points, seen, reference)
        (pose.rotations.sum() + pose.betas.sum() + pose.scale.sum()).backward()
        assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


@every_layout
def test_without_training_it_finds_the_heading_and_the_size(layout, body):
    """The closed-form part alone: a person at rest, turned and enlarged, comes back as that turn and that size."""
    network = IKNet(layout).eval()
    torch.nn.init.zeros_(network.leave.weight)
    _, reference = bind_keypoints(body, layout).rest(torch.zeros(6, 16))
    turn = random_rotations(6, torch.Generator().manual_seed(0))
    points = 1.7 * reference @ turn.transpose(1, 2)
    pose = network(points, torch.ones(points.shape[:2]), reference)
    torch.testing.assert_close(pose.rotations[:, 0], turn, atol=2e-3, rtol=0)
    torch.testing.assert_close(pose.rotations[:, 1:], torch.eye(3).expand_as(pose.rotations[:, 1:]))
    torch.testing.assert_close(pose.scale, torch.full((6,), 1.7), atol=1e-3, rtol=0)


@every_layout
def test_bound_keypoints_agree_with_the_plain_skeleton(layout, body):
    bound = bind_keypoints(body, layout)
    generator = torch.Generator().manual_seed(2)
    betas = torch.randn(3, 16, generator=generator)
    rotations = random_rotations(3 * len(layout.joint_names), generator).unflatten(0, (3, -1))
    joints, points, orientations = bound(betas, rotations)
    indices = [JOINT_INDEX[name] for name in layout.joint_names]
    names = BODY_PLACES.get(layout.definition.name) or hand_places("left")
    whole = np.tile(np.eye(3), (3, 52, 1, 1))
    whole[:, indices] = rotations
    for index in range(3):
        skeleton = RestSkeleton.of_body(body, betas[index].double().numpy())
        plain, turned = skeleton.pose(whole[index : index + 1])
        root = plain[0, indices[0]]
        np.testing.assert_allclose(joints[index], plain[0, indices] - root, atol=1e-5)
        np.testing.assert_allclose(points[index], skeleton.place(names, plain, turned)[0] - root, atol=1e-5)
        np.testing.assert_allclose(orientations[index], turned[0, indices], atol=1e-5)


def test_bound_keypoints_have_exact_gradients(body):
    layout = LAYOUTS["hand_21"]
    bound = BoundKeypoints(body, layout.joint_names, layout.parents, hand_places("left"), torch.float64)
    betas = torch.zeros(1, 16, dtype=torch.float64, requires_grad=True)
    six = torch.randn(1, 16, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(lambda b, s: bound(b, rotation_from_6d(s))[1].sum((0, 1)), (betas, six), fast_mode=True)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=6, max_size=6))
def test_six_numbers_are_always_finite(numbers):
    rotation = rotation_from_6d(torch.tensor(numbers, requires_grad=True))
    assert torch.isfinite(rotation).all()
    rotation.sum().backward()


def test_a_rotation_comes_back_from_its_first_two_columns():
    rotations = random_rotations(200, torch.Generator().manual_seed(0))
    six = torch.cat([rotations[..., 0], rotations[..., 1]], -1)
    torch.testing.assert_close(rotation_from_6d(six), rotations, atol=1e-5, rtol=0)
    assert_rotations(rotation_from_6d(torch.randn(200, 6, generator=torch.Generator().manual_seed(1))))


def stored(layout):
    network = network_of(layout)
    return network, *network.to_tensors(torch.randn(len(layout.definition), 3))


@every_layout
def test_stored_weights_come_back_to_half_precision(layout):
    network, tensors, metadata = stored(layout)
    again, reference = IKNet.from_tensors(tensors, metadata)
    assert again.layout is layout and not again.training
    torch.testing.assert_close(reference, tensors["reference"])
    for name, value in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda tensors, meta: tensors.pop("enter.bias"), "enter.bias"),
        (lambda tensors, meta: tensors.update(extra=torch.zeros(1)), "extra"),
        (lambda tensors, meta: tensors.update({"leave.bias": torch.zeros(3)}), "leave.bias"),
        (lambda tensors, meta: tensors["leave.bias"].fill_(float("nan")), "not finite"),
        (lambda tensors, meta: meta.update(format="other"), "other"),
        (lambda tensors, meta: meta.update(version="99"), "format 1"),
        (lambda tensors, meta: meta.update(definition="coco"), "coco"),
        (lambda tensors, meta: meta.clear(), "None"),
    ],
)
def test_wrong_weights_are_refused_by_name(damage, message):
    _, tensors, metadata = stored(LAYOUTS["hand_21"])
    damage(tensors, metadata)
    with pytest.raises(FileError, match=message):
        IKNet.from_tensors(tensors, metadata)
