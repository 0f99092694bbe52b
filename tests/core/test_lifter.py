"""The lifter as a function and on clips: what must hold for any weights, and what the shipped ones are good for."""

import copy

import numpy as np
import pytest
import torch

from fullbody_core.camera import camera_matrix, project
from fullbody_core.contract.frames import REST_TO_CAMERA, axis_angle_to_matrix
from fullbody_core.contract.npz_file import FileError
from fullbody_core.contract.skeleton import BLAZEPOSE_33, JOINT_INDEX, SMPL_33
from fullbody_core.contract.swing_twist import transpose
from fullbody_core.detect.keypoints import Keypoints
from fullbody_core.evaluate.lifter import LifterEvaluation
from fullbody_core.ik.iknet import BODY_WEIGHTS, load_iknet, run_network
from fullbody_core.ik.lifter import (
    WINDOW,
    Between,
    Lifter,
    join_windows,
    mean_direction,
    mirrored_answer,
    place_body,
    window_starts,
)
from fullbody_core.ik.rest_skeleton import BODY_PLACES, RestSkeleton
from fullbody_core.networks.iknet import rotation_from_6d
from fullbody_core.networks.lifter import LifterInput, LifterNet, bridge
from fullbody_core.synth.demo_clip import demo_motion
from fullbody_core.train.lifter_samples import LifterSampleMaker
from fullbody_core.train.motions import Motion
from fullbody_core.weights import WeightsUnsuited

MATRIX = camera_matrix((640, 480))


def network_of(seed=0):
    """A network with weights large enough for every input to matter."""
    torch.manual_seed(seed)
    network = LifterNet().eval().requires_grad_(False)
    torch.nn.init.normal_(network.leave.weight, std=0.5)
    return network


def windows(count, frames, seed=1):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(count, *shape, generator=generator)

    keypoints = len(LifterNet().layout.definition)
    return LifterInput(
        sights=normal(frames, 33, 3) * 0.2 + torch.tensor([0.1, 0, 1.0]),
        points=normal(frames, keypoints, 3),
        confidence=torch.rand(count, frames, keypoints, generator=generator),
        start=rotation_from_6d(normal(frames, 22, 6)),
        posed=normal(frames, keypoints, 3),
        reference=normal(keypoints, 3),
        valid=torch.rand(count, frames, generator=generator) < 0.8,
    )


# The network.


def test_a_fresh_network_passes_its_start_on_and_knows_a_level_camera():
    given = windows(2, 9)._replace(valid=torch.ones(2, 9, dtype=torch.bool))
    pose = LifterNet()(given)
    torch.testing.assert_close(pose.rotations, given.start, atol=1e-5, rtol=0)
    torch.testing.assert_close(pose.up, torch.tensor([0.0, -1, 0]).expand(2, 9, 3), atol=0.25, rtol=0)


def test_windows_have_nothing_to_do_with_each_other():
    network, given = network_of(), windows(3, 20)
    together = network(given)
    for index in range(3):
        alone = network(LifterInput(*(item[index : index + 1] for item in given)))
        for a, b in zip(together, alone):
            torch.testing.assert_close(a[index], b[0], atol=1e-4, rtol=1e-3)


def test_what_stands_in_frames_without_anybody_is_not_read():
    network, given = network_of(), windows(2, 16)
    nobody = ~given.valid
    wrong = [item.clone() for item in given[:5]]
    for item in wrong:
        item[nobody] = float("nan")
    for a, b in zip(network(given), network(LifterInput(*wrong, *given[5:]))):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("frames", [1, 2, 50])
@pytest.mark.parametrize("kind", ["nobody", "doubted", "zeros", "behind"])
def test_every_input_gives_rotations(frames, kind):
    given = windows(2, frames)
    changes = {
        "nobody": {"valid": torch.zeros_like(given.valid)},
        "doubted": {"confidence": torch.zeros_like(given.confidence)},
        "zeros": {name: torch.zeros_like(getattr(given, name)) for name in ("sights", "points", "posed", "start")},
        "behind": {"sights": -given.sights},
    }
    pose = network_of()(given._replace(**changes[kind]))
    eye = torch.eye(3).expand_as(pose.rotations)
    torch.testing.assert_close(pose.rotations @ pose.rotations.mT, eye, atol=5e-3, rtol=0)
    torch.testing.assert_close(pose.up.norm(dim=-1), torch.ones(2, frames), atol=1e-4, rtol=0)
    assert torch.isfinite(pose.contacts).all() and torch.isfinite(pose.log_spread).all()


def test_how_long_directions_are_does_not_matter():
    network, given = network_of(), windows(2, 12)
    longer = given._replace(sights=given.sights * torch.rand(2, 12, 33, 1).add(0.5))
    torch.testing.assert_close(network(given).rotations, network(longer).rotations, atol=1e-3, rtol=0)


def test_holes_are_bridged_on_a_straight_line():
    valid = torch.tensor([[False, True, False, False, True, False], [False] * 6])
    values = torch.tensor([[9.0, 1, 9, 9, 4, 9], [9.0] * 6])
    torch.testing.assert_close(bridge(valid, values)[0], torch.tensor([[1.0, 1, 2, 3, 4, 4], [0.0] * 6]))


def test_weights_come_back_and_others_are_named():
    network = network_of()
    reference = torch.rand(len(network.layout.definition), 3)
    tensors, metadata = network.to_tensors(reference)
    again, kept = LifterNet.from_tensors(tensors, metadata)
    torch.testing.assert_close(kept, reference)
    torch.testing.assert_close(again.enter.weight, network.enter.weight, atol=1e-3, rtol=1e-3)
    assert sum(value.numel() * value.element_size() for value in tensors.values()) < 16e6
    with pytest.raises(FileError, match="not lifter weights"):
        LifterNet.from_tensors(tensors, {**metadata, "format": "fullbody-iknet"})
    with pytest.raises(FileError, match="smpl_33"):
        LifterNet.from_tensors(tensors, {**metadata, "definition": "smpl_33"})
    with pytest.raises(FileError, match="leave.bias"):
        LifterNet.from_tensors({name: value for name, value in tensors.items() if name != "leave.bias"}, metadata)


# Windows and times.


@pytest.mark.parametrize("count", [1, 2, 95, 96, 97, 152, 153, 500])
def test_windows_cover_a_clip_and_join_to_what_they_were_cut_from(count):
    length = min(count, WINDOW)
    firsts = window_starts(count, length, 56)
    rows = firsts[:, None] + np.arange(length)
    assert set(rows.ravel()) == set(range(count))
    turns = axis_angle_to_matrix(np.cumsum(np.full((count, 1, 3), 0.05), 0))
    np.testing.assert_allclose(join_windows(turns[rows], firsts, count), turns, atol=1e-9)
    np.testing.assert_allclose(join_windows(rows.astype(float), firsts, count), np.arange(count), atol=1e-9)


def test_even_turns_are_met_between_frames():
    known, wanted = np.array([0.0, 0.1, 0.3, 0.4]), np.array([-1.0, 0.05, 0.2, 0.4, 2.0])
    axis = np.array([0.3, -0.5, 0.8])
    between = Between.of(known, wanted)
    expected = np.clip(wanted, 0, 0.4)
    np.testing.assert_allclose(between.linear(known), expected)
    turned = between.rotations(axis_angle_to_matrix(known[:, None] * axis))
    np.testing.assert_allclose(turned, axis_angle_to_matrix(expected[:, None] * axis), atol=1e-9)


def test_a_mean_direction_is_no_surer_than_its_frames():
    rng = np.random.default_rng(0)
    up, spread = mean_direction(np.array([0, -1, 0.2]) + rng.normal(0, 0.01, (50, 3)), np.full(50, np.log(0.1)))
    np.testing.assert_allclose(up, np.array([0, -1, 0.2]) / np.hypot(1, 0.2), atol=0.01)
    assert 0.1 <= spread < 0.12


# On clips.


def clip_of(body, count=40, seed=0):
    """(Keypoints in camera axes, `RestSkeleton`, timestamps, rotations [T, 22, 3, 3]) of somebody who swings arms and legs."""
    rng = np.random.default_rng(seed)
    skeleton = RestSkeleton.of_body(body, np.zeros(16))
    phase = np.arange(count)[:, None, None] / 12
    turns = 0.4 * np.sin(phase + rng.uniform(0, 6, (22, 3))) * rng.uniform(0, 1, (22, 3))
    rotations = axis_angle_to_matrix(turns)
    rotations[:, 0] = REST_TO_CAMERA @ rotations[:, 0]
    points = place_body(skeleton, rotations, BODY_PLACES[BLAZEPOSE_33.name])
    keypoints = Keypoints.stack([Keypoints.nobody(BLAZEPOSE_33)] * count)
    keypoints.body3d[:] = points
    keypoints.body2d[:] = project(points + [0.3, 0, 3.5], MATRIX)
    keypoints.body_confidence[:] = 1
    return keypoints, skeleton, np.arange(count) / 30, rotations


@pytest.fixture(scope="module")
def passing():
    """A lifter that passes BodyIKNet's answers on."""
    return Lifter(LifterNet().eval().requires_grad_(False), load_iknet(BODY_WEIGHTS[BLAZEPOSE_33.name])[0], {})


@pytest.fixture(scope="module")
def clip(body):
    return clip_of(body)


def lifted(lifter, clip, **how):
    keypoints, skeleton, timestamps, _ = clip
    return lifter.lift(keypoints, skeleton, MATRIX, how.pop("timestamps", timestamps), **how)


def degrees_apart(a, b):
    cosine = (np.trace(transpose(a) @ b, axis1=-2, axis2=-1) - 1) / 2
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def test_a_lifter_that_adds_nothing_gives_its_start_at_any_frame_rate(passing, clip):
    keypoints, skeleton, timestamps, _ = clip
    result = lifted(passing, clip)
    seen = passing._observe(keypoints, skeleton, MATRIX, np.ones(40, bool))
    start = run_network(passing.iknet, *(seen[name] for name in ("points", "confidence", "reference")))[0]
    passed, *_ = passing._answer(seen, skeleton, np.tile(np.eye(3), (40, 1, 1)), timestamps)
    assert degrees_apart(passed, start).max() < 0.5
    assert degrees_apart(result.rotations, start).max() < 15, "the looking glass shows much the same"
    assert result.contacts.shape == (40, 2, 2) and result.up_spread > 0
    twice = lifted(passing, clip, timestamps=timestamps / 2)
    assert degrees_apart(twice.rotations, result.rotations).max() < 5
    np.testing.assert_allclose(np.linalg.norm(twice.up), 1)


def test_a_mirrored_person_does_the_mirrored_thing(body, clip):
    """However it was trained: the mean over both pictures has no left or right of its own."""
    keypoints, skeleton, timestamps, _ = clip
    lifter = Lifter(network_of(), load_iknet(BODY_WEIGHTS[BLAZEPOSE_33.name])[0], {})
    seen = lifter._observe(keypoints, skeleton, MATRIX, np.ones(40, bool))
    turns = np.tile(np.eye(3), (40, 1, 1))
    there = lifter._answer(lifter._mirrored(seen), skeleton, turns, timestamps)
    back = lifter._answer(lifter._mirrored(lifter._mirrored(seen)), skeleton, turns, timestamps)
    for a, b in zip(lifter._answer(seen, skeleton, turns, timestamps), back):
        np.testing.assert_allclose(a, b, atol=1e-5)
    for a, b in zip(there, mirrored_answer(*mirrored_answer(*there))):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_a_camera_that_turns_is_taken_out_and_put_back(passing, clip):
    """Seen by another camera, the same person does the same; the answer is in the axes of each frame's own camera."""
    keypoints, skeleton, timestamps, _ = clip
    still = lifted(passing, clip)
    turns = axis_angle_to_matrix(np.linspace(0, 0.3, 40)[:, None] * [0, 1.0, 0])
    turned = copy.deepcopy(keypoints)
    turned.body3d = keypoints.body3d @ transpose(turns)
    turned.body2d = project((keypoints.body3d + [0.3, 0, 3.5]) @ transpose(turns), MATRIX)
    result = passing.lift(turned, skeleton, MATRIX, timestamps, turns)
    assert degrees_apart(transpose(turns) @ result.rotations[:, 0], still.rotations[:, 0]).max() < 5
    assert np.degrees(np.arccos(result.up @ still.up)) < 1


def test_holes_are_filled_and_nobody_at_all_is_no_error(passing, clip):
    keypoints, skeleton, timestamps, _ = clip
    valid = np.ones(40, bool)
    valid[10:14] = False
    broken = copy.deepcopy(keypoints)
    broken.body3d[~valid] = 0
    broken.body2d[~valid] = 0
    result = passing.lift(broken, skeleton, MATRIX, timestamps, valid=valid)
    assert degrees_apart(result.rotations, lifted(passing, clip).rotations).max() < 10
    nobody = Keypoints.stack([Keypoints.nobody(BLAZEPOSE_33)] * 3)
    nothing = passing.lift(nobody, skeleton, MATRIX, np.arange(3) / 30)
    assert np.isfinite(nothing.rotations).all() and nothing.up_spread > 1
    np.testing.assert_allclose(nothing.up, [0, -1, 0])


def test_it_is_for_blazepose_on_the_open_body(body):
    with pytest.raises(WeightsUnsuited, match="BlazePose"):
        Lifter.load(body, SMPL_33)


# The shipped weights.


@pytest.fixture(scope="module")
def shipped(body):
    return Lifter.load(body, BLAZEPOSE_33)


def test_shipped_weights_know_more_than_a_frame_shows(body, noise, shipped):
    """On a motion that nobody trained on: nearer than BodyIKNet, seen or partly hidden, and steadier; and which way is up."""
    clip = demo_motion(body)
    motion = Motion("demo", axis_angle_to_matrix(clip.poses.reshape(len(clip.poses), -1, 3)), 24.0, clip.trans)
    maker = LifterSampleMaker(body, [motion], noise)
    for hidden in (False, True):
        evaluation = LifterEvaluation(maker, hidden, windows=8)
        _, iknet, lifter = evaluation.reports(shipped.network)
        assert lifter.points < 0.9 * iknet.points and lifter.aligned < iknet.aligned and lifter.shake < 0.9 * iknet.shake
        assert lifter.up < 11 and lifter.contacts > 0.8


def test_who_stands_still_is_found_to_stand(body, shipped):
    keypoints, skeleton, timestamps, _ = clip_of(body)
    rotations = np.tile(np.eye(3), (len(timestamps), 22, 1, 1))
    rotations[:, 0] = REST_TO_CAMERA
    for side, turn in (("left", -1.2), ("right", 1.2)):
        rotations[:, JOINT_INDEX[f"{side}_shoulder"]] = axis_angle_to_matrix([0, 0, turn])
    points = place_body(skeleton, rotations, BODY_PLACES[BLAZEPOSE_33.name])
    keypoints.body3d[:], keypoints.body2d[:] = points, project(points + [0.3, 0, 3.5], MATRIX)
    result = shipped.lift(keypoints, skeleton, MATRIX, timestamps)
    assert result.contacts.mean() > 0.7
    assert np.degrees(np.arccos(-result.up[1])) < 5 and np.degrees(result.up_spread) < 15
    assert degrees_apart(result.rotations, result.rotations[:1])[5:-5].max() < 3
