"""What the lifter is trained on, its losses and its loop: properties, and one short real run."""

import numpy as np
import pytest
import torch

from fullbody_core.cli import main
from fullbody_core.contract.frames import REST_TO_WORLD, axis_angle_to_matrix, matrix_to_axis_angle
from fullbody_core.contract.npz_file import write_npz
from fullbody_core.contract.skeleton import BLAZEPOSE_33, JOINT_INDEX
from fullbody_core.evaluate.lifter import LifterEvaluation, f1_score, format_lifter_reports, procrustes_distance
from fullbody_core.ik.iknet import BODY_WEIGHTS, load_iknet
from fullbody_core.ik.rest_skeleton import RestSkeleton
from fullbody_core.networks.lifter import LifterNet, LifterPose
from fullbody_core.train.iknet_samples import random_rotations
from fullbody_core.train.lifter import LifterTrainer, LifterTraining, angle_between, lifter_losses, write_weights
from fullbody_core.train.lifter_noise import frames_since, smooth_noise, stretches
from fullbody_core.train.lifter_samples import LifterSampleMaker, arc_from_forward, plant
from fullbody_core.train.motions import Motion, is_held_out
from fullbody_core.train.training_run import TrainingError
from fullbody_core.weights import read_tensors


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def marching(frames=90):
    """Somebody who marches on the spot, each foot up for half of the time."""
    rotations = np.tile(np.eye(3), (frames, 52, 1, 1))
    rotations[:, 0] = REST_TO_WORLD
    swing = np.maximum(0, np.sin(2 * np.pi * np.arange(frames) / 30))[:, None]
    other = np.maximum(0, -np.sin(2 * np.pi * np.arange(frames) / 30))[:, None]
    for side, lift in (("left", swing), ("right", other)):
        rotations[:, JOINT_INDEX[f"{side}_hip"]] = axis_angle_to_matrix(lift * [-1.2, 0, 0])
        rotations[:, JOINT_INDEX[f"{side}_knee"]] = axis_angle_to_matrix(lift * [1.5, 0, 0])
    return Motion("marching", rotations, 30.0, np.zeros((frames, 3)))


@pytest.fixture(scope="module")
def maker(body, noise):
    return LifterSampleMaker(body, [marching()], noise)


@pytest.fixture(scope="module")
def exact(body):
    return LifterSampleMaker(body, [marching()], None, load_iknet(BODY_WEIGHTS[BLAZEPOSE_33.name])[0])


# Motions.


def test_a_foot_stands_while_the_other_is_up(body):
    way, stands = plant(marching(), RestSkeleton.of_body(body, np.zeros(16)))
    left, right = stands[:, 0] > 0.5, stands[:, 2] > 0.5
    assert left[18:28].all() and not left[2:12].any()
    assert right[32:42].all() and not right[18:28].any()
    assert way.shape == (90, 3) and ((stands >= 0) & (stands <= 1)).all()


def test_a_way_is_scaled_to_the_legs(body):
    """The mean body's own way comes back as it is; one of longer legs is made shorter."""
    skeleton = RestSkeleton.of_body(body, np.zeros(16))
    motion = marching()
    motion.rotations[:, 0] = axis_angle_to_matrix(0.15 * np.sin(np.arange(90) / 8)[:, None] * [1, 0, 0]) @ REST_TO_WORLD
    ankle = skeleton.pose(motion.rotations)[0][:, JOINT_INDEX["left_ankle"]]
    motion.trans = 1.1 * (ankle[:1] - ankle)
    way, _ = plant(motion, skeleton)
    np.testing.assert_allclose(way, motion.trans / 1.1, atol=0.04)


# Windows.


def test_a_window_without_noise_shows_the_person_where_it_is_seen(exact):
    sample = exact.draw(6, 20, generator(), augment=False, hide=False)
    given = sample.given
    torch.testing.assert_close(given.points, sample.posed, atol=1e-5, rtol=0)
    assert given.valid.all() and sample.inside.all()
    # Somewhere along each line of sight there is the point: of two bodies at one distance, the true one.
    sights = torch.nn.functional.normalize(given.sights, dim=-1)
    points = sample.posed[:, :, : len(BLAZEPOSE_33)]
    seen = (sights - sights.mean(2, keepdim=True))[..., :2].flatten(2)
    there = (points - points.mean(2, keepdim=True))[..., :2].flatten(2)
    alike = torch.nn.functional.cosine_similarity(seen, there, dim=-1)
    assert float(alike.min()) > 0.9


def test_draws_depend_on_the_seed_alone_and_are_whole(maker):
    first, again, other = (maker.draw(4, 24, generator(seed)) for seed in (0, 0, 1))
    for a, b in zip(first.given, again.given):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert not torch.equal(first.rotations, other.rotations)
    for item in (*first.given, *first[1:]):
        assert torch.isfinite(item.float()).all()
    assert (first.given.sights[..., 2] > 0).all(), "nobody is behind the camera"


def test_a_mirrored_window_swaps_the_feet(body):
    """Right after the left foot's time comes the right one's: mirrored, it is the other way round."""
    windows = LifterSampleMaker(body, [marching()], None).windows
    rotations, _, contacts, _ = windows.draw(64, 8, generator())
    hips = torch.tensor([[JOINT_INDEX["left_hip"], JOINT_INDEX["right_hip"]]])
    bent = 3 - torch.diagonal(rotations[:, :, hips[0]], dim1=-2, dim2=-1).sum(-1)  # [B, T, 2]
    stands = contacts[..., [0, 2]] > 0.5
    assert stands.any() and float(bent[stands].mean()) < 0.3 * float(bent[~stands].mean())


def test_noise_is_smaller_in_the_picture_than_in_depth_and_lasts(maker):
    points = torch.zeros(16, 40, 41, 3)
    orientations = torch.eye(3).expand(16, 40, 22, 3, 3)
    drawn, noisy, confidence = maker.noise.detect(points, orientations, generator(), hide=False, varied=False)
    across, deep = (item.square().mean().sqrt() for item in (drawn[..., :2], noisy[:, :, :33, 2]))
    assert 0.01 < float(across) < 0.04 and float(deep) > 0.03
    later = (drawn[:, 3:] * drawn[:, :-3]).mean() / drawn.square().mean()
    assert float(later) > 0.6
    assert (confidence == 1).all()


def test_some_people_are_hidden_for_a_while(maker):
    points = torch.randn(1, 1, 41, 3, generator=generator()).expand(64, 60, -1, -1)
    confidence, hidden = maker.noise.draw_confidence(points, generator())
    assert 0.02 < float(hidden.mean()) < 0.3
    changes = (hidden[:, 1:] != hidden[:, :-1]).float().sum(1)
    assert float(changes.max()) <= 2, "a limb is hidden once, and not in flashes"
    assert ((confidence >= 0) & (confidence <= 1)).all()


def test_processes_are_normal_and_slow_ones_are_smooth():
    quick, slow = (smooth_noise(200, 30, (3,), generator(), (t, t)) for t in (0.02, 1.0))
    for item in (quick, slow):
        assert abs(float(item.std()) - 1) < 0.1
    assert float((slow[:, 1:] - slow[:, :-1]).std()) < 0.1 < float((quick[:, 1:] - quick[:, :-1]).std())


def test_stretches_and_the_time_since():
    drawn = stretches(500, 60, 2, 0.5, (0.2, 1.0), generator())
    assert 0.3 < float(drawn.any(1).float().mean()) < 0.55
    assert 3 <= float(drawn.sum(1)[drawn.any(1)].float().mean()) <= 30
    found = torch.tensor([False, True, False, False, False, True])[None, :, None]
    assert frames_since(found)[0, :, 0].tolist() == [1, 0, 1, 2, 1, 0]
    assert frames_since(torch.zeros(1, 4, 1, dtype=torch.bool))[0, :, 0].tolist() == [4] * 4


def test_the_shortest_turn_from_the_line_of_sight():
    directions = torch.randn(20, 3, generator=generator()) + torch.tensor([0, 0, 2.0])
    turns = arc_from_forward(directions)
    torch.testing.assert_close(turns[..., 2], torch.nn.functional.normalize(directions, dim=-1))
    torch.testing.assert_close(turns @ turns.mT, torch.eye(3).expand(20, 3, 3), atol=1e-5, rtol=0)


# Losses and figures.


def truth_of(sample):
    logits = torch.where(sample.contacts > 0.5, 20.0, -20.0)
    up = sample.up[:, None].expand(*sample.inside.shape, 3)
    return LifterPose(sample.rotations, logits, up, torch.full(sample.inside.shape, -10.0))


def test_the_truth_costs_nothing_and_measures_as_no_error(exact):
    sample = exact.draw(4, 12, generator())
    losses = lifter_losses(truth_of(sample), exact.keypoints, sample)
    assert max(float(losses[name]) for name in ("rotation", "posed", "velocity", "up")) < 1e-3
    evaluation = LifterEvaluation(exact, hidden=False, windows=4)
    pose = truth_of(evaluation.sample)
    report = evaluation.measure("truth", evaluation.posed(pose.rotations), pose.rotations, pose)
    assert max(report.points, report.aligned, report.shake) < 0.1 and max(report.rotation, report.up) < 0.1
    assert report.contacts == 1
    assert "truth" in format_lifter_reports([report])


def test_a_larger_error_costs_more_and_slopes_are_finite(maker):
    sample = maker.draw(4, 12, generator())
    truth = truth_of(sample)
    six = truth.rotations.clone().requires_grad_()
    losses = lifter_losses(truth._replace(rotations=six), maker.keypoints, sample)
    sum(losses.values()).backward()
    assert torch.isfinite(six.grad).all()
    costs = []
    for angle in (0.1, 0.3):
        turn = torch.as_tensor(axis_angle_to_matrix([angle, 0, 0]), dtype=torch.float32)
        wrong = truth._replace(rotations=truth.rotations @ turn, up=truth.up @ turn)
        costs.append(lifter_losses(wrong, maker.keypoints, sample))
    assert all(costs[0][name] < costs[1][name] for name in ("rotation", "posed", "up"))


def test_figures_against_their_definitions():
    truth = torch.randn(5, 8, 3, generator=generator())
    turns = random_rotations(5, generator(1))
    moved = 1.3 * truth @ turns + torch.randn(5, 1, 3, generator=generator(2))
    assert procrustes_distance(moved, truth) < 1e-4 < procrustes_distance(moved * torch.tensor([1, 1, 0.5]), truth)
    assert f1_score(torch.tensor([True, True, False]), torch.tensor([True, False, True])) == 0.5
    a, b = torch.tensor([[1.0, 0, 0]]), torch.tensor([[np.cos(0.2), np.sin(0.2), 0]], dtype=torch.float32)
    assert abs(float(angle_between(a, b)) - 0.2) < 1e-5


# The loop.


def trainer_in(folder, maker, steps=6):
    return LifterTrainer(LifterTraining(steps=steps, batch=2, frames=6, warm_up=2), maker, folder)


def test_a_resumed_training_goes_on_as_an_unbroken_one(tmp_path, maker):
    whole = trainer_in(tmp_path / "whole", maker, steps=2)
    whole.train_step()
    stopped = trainer_in(tmp_path / "stopped", maker, steps=2)
    stopped.train_step()
    stopped.save_checkpoint()
    resumed = trainer_in(tmp_path / "stopped", maker, steps=2)
    whole.train_step()
    resumed.train_step()
    for a, b in zip(whole.network.state_dict().values(), resumed.network.state_dict().values()):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert trainer_in(tmp_path / "stopped", maker, steps=9).step == 1, "a run may be given more steps"


class OneBatch(LifterTrainer):
    """Sees the same windows again and again."""

    def draw(self, step):
        return super().draw(0)


def test_training_learns_all_of_it_and_its_weights_can_be_loaded(tmp_path, maker):
    trainer = OneBatch(LifterTraining(steps=14, batch=2, frames=8, warm_up=2), maker, tmp_path)
    first = trainer.train_step()
    trainer.run(log=lambda line: None)
    last = trainer.train_step()
    assert all(float(last[name]) < 0.9 * float(first[name]) for name in ("orientation", "posed", "contact", "up"))
    write_weights(trainer, tmp_path / "weights.safetensors")
    network, _ = LifterNet.from_tensors(*read_tensors(tmp_path / "weights.safetensors"))
    torch.testing.assert_close(network.leave.bias, trainer.network.leave.bias, atol=1e-3, rtol=1e-2)


def test_the_commands_train_and_measure(tmp_path, capsys):
    names = [f"marching_{index}" for index in range(20)]
    motion = marching()
    poses = matrix_to_axis_angle(motion.rotations).reshape(len(motion.rotations), -1)
    for name in (next(filter(is_held_out, names)), next(name for name in names if not is_held_out(name))):
        write_npz(tmp_path / f"{name}.npz", {"poses": poses, "trans": motion.trans, "mocap_framerate": np.array(30.0)})
    data = ["--data", str(tmp_path)]
    run = ["train", "lifter", *data, "-o", str(tmp_path / "run"), "--steps", "1", "--batch", "1", "--frames", "6"]
    assert main([*run, "--device", "cpu"]) == 0
    weights = tmp_path / "run" / "lifter_blazepose.safetensors"
    assert main(["evaluate", "lifter", *data, "--weights", str(weights), "--windows", "1"]) == 0
    table = capsys.readouterr().out
    assert "partly hidden" in table and "BodyIKNet" in table
    assert main(["evaluate", "lifter", *data, "--windows", "0"]) == 2


@pytest.mark.parametrize("wrong", [{"frames": 3}, {"steps": 0}, {"batch": 0}, {"final_rate": 1.0}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(TrainingError):
        LifterTraining(**wrong)
