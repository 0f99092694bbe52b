"""What IKNet is trained on, and the training loop: properties, and one short real run."""

import numpy as np
import pytest
import roma
import torch

from fullbody_core.contract.frames import axis_angle_to_matrix, matrix_to_axis_angle
from fullbody_core.contract.npz_file import write_npz
from fullbody_core.contract.skeleton import BODY_JOINTS, JOINT_INDEX, JOINT_NAMES
from fullbody_core.contract.swing_twist import about, twist_angle
from fullbody_core.ik.analytic_hand import palm_orientation, solve_fingers
from fullbody_core.ik.rest_skeleton import RestSkeleton, hand_places
from fullbody_core.networks.iknet import LAYOUTS, IKNet, IKNetPose
from fullbody_core.synth.hand_poses import sample_hand_poses
from fullbody_core.train.iknet import IKNetTrainer, IKNetTraining, iknet_losses, write_weights
from fullbody_core.train.iknet_samples import BodyPoses, HandPoses, SampleMaker, mirror_turns
from fullbody_core.train.keypoint_noise import KeypointNoise
from fullbody_core.train.motions import Motion, MotionDataError, align_elbows, is_held_out, load_motions
from fullbody_core.train.training_run import TrainingError
from fullbody_core.weights import read_tensors

every_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


def motion(frames=40, seed=0, largest=0.8):
    turns = np.random.default_rng(seed).uniform(-largest, largest, (frames, 52, 3))
    return Motion("made", axis_angle_to_matrix(turns), 30.0)


def poses_of(layout, body):
    return HandPoses(body, pool_size=200) if layout.definition.name == "hand_21" else BodyPoses([motion()])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# Motions.


def write_motion(path, frames=60, framerate=30.0, columns=156, key="mocap_framerate"):
    poses = np.random.default_rng(0).normal(0, 0.2, (frames, columns))
    write_npz(path, {"poses": poses, key: np.array(framerate)})
    return poses


def test_the_split_is_fixed_and_by_name():
    assert [name for name in ("cmu_01_02", "deepmimic_dance_a", "cmu_01_01", "deepmimic_run") if is_held_out(name)] == [
        "cmu_01_02",
        "deepmimic_dance_a",
    ]
    share = np.mean([is_held_out(f"motion_{index}") for index in range(5000)])
    assert 0.13 < share < 0.17


def test_a_folder_is_split_without_overlap_and_brought_to_one_rate(tmp_path):
    (tmp_path / "sub").mkdir()
    names = [f"sub/m{index}" for index in range(40)]
    for name in names:
        poses = write_motion(tmp_path / f"{name}.npz", framerate=120.0)
    write_npz(tmp_path / "sub" / "shape.npz", {"betas": np.zeros(16)})
    training, held_out = load_motions(tmp_path, False), load_motions(tmp_path, True)
    assert sorted(m.name for m in training + held_out) == sorted(names) and training and held_out
    assert all(is_held_out(m.name) for m in held_out)
    first = training[0]
    assert first.rotations.shape == (15, 52, 3, 3) and first.framerate == 30
    expected = align_elbows(axis_angle_to_matrix(poses[::4].reshape(-1, 52, 3)))
    np.testing.assert_allclose(first.rotations, expected, atol=1e-12)


def test_body_only_motions_and_the_other_spelling_of_the_rate_are_read(tmp_path):
    poses = write_motion(tmp_path / "cmu_01_01.npz", columns=66, key="mocap_frame_rate")
    (read,) = load_motions(tmp_path, False)
    np.testing.assert_allclose(read.rotations[:, :13], axis_angle_to_matrix(poses.reshape(-1, 22, 3)[:, :13]), atol=1e-12)
    assert (read.rotations[:, 22:] == np.eye(3)).all()


def test_motions_that_cannot_be_used_are_named(tmp_path):
    with pytest.raises(MotionDataError, match="no training motions"):
        load_motions(tmp_path, False)
    write_npz(tmp_path / "cmu_01_01.npz", {"poses": np.full((4, 156), np.nan), "mocap_framerate": np.array(30.0)})
    with pytest.raises(MotionDataError, match="finite poses"):
        load_motions(tmp_path, False)


def bent_about(axis, frames=30):
    """A motion whose elbows bend about `axis` (left; the right one's mirror image), with everything else at random."""
    rng = np.random.default_rng(0)
    rotations = axis_angle_to_matrix(rng.normal(0, 0.3, (frames, 52, 3)))
    angle = rng.uniform(0, 2, (frames, 1))
    rotations[:, JOINT_INDEX["left_elbow"]] = axis_angle_to_matrix(angle * axis)
    rotations[:, JOINT_INDEX["right_elbow"]] = axis_angle_to_matrix(angle * axis * [1, -1, -1])
    return rotations


@pytest.mark.parametrize("axis", [[0, -1, 0], [0, -0.87, 0.49], [0, 0, 1], [0.3, -0.8, -0.5]])
def test_elbows_come_to_bend_about_one_axis_and_nothing_moves(body, axis):
    rotations = bent_about(np.array(axis, float))
    aligned = align_elbows(rotations)
    skeleton = RestSkeleton.of_body(body, np.zeros(16))
    (joints, orientations), (same, turned) = skeleton.pose(rotations), skeleton.pose(aligned)
    np.testing.assert_allclose(same, joints, atol=1e-4)
    hands = [JOINT_INDEX["left_wrist"], JOINT_INDEX["right_wrist"]]
    np.testing.assert_allclose(turned[:, hands], orientations[:, hands], atol=1e-9)
    if axis[0] == 0:
        for side, sign in (("left", 1), ("right", -1)):
            elbow = aligned[:, JOINT_INDEX[f"{side}_elbow"]]
            hinge = elbow @ np.swapaxes(about([sign, 0, 0], twist_angle(elbow, [sign, 0, 0])), -1, -2)
            np.testing.assert_allclose(matrix_to_axis_angle(hinge)[:, [0, 2]], 0, atol=1e-6)
            assert (matrix_to_axis_angle(hinge)[:, 1] * sign <= 1e-6).all()


def test_a_motion_with_straight_arms_stays_as_it_is():
    straight = np.tile(np.eye(3), (5, 52, 1, 1))
    np.testing.assert_allclose(align_elbows(straight), straight, atol=1e-12)


# Poses.


def test_a_mirror_image_is_the_pose_seen_in_a_mirror(body):
    """Mirrored rotations put every joint where the mirror shows its counterpart, up to the body's own small asymmetry."""
    skeleton = RestSkeleton.of_body(body, np.zeros(16))
    turns = torch.as_tensor(matrix_to_axis_angle(motion().rotations[:, BODY_JOINTS]), dtype=torch.float32)
    everywhere = torch.ones(len(turns), dtype=torch.bool)
    mirrored = mirror_turns(turns, everywhere)
    torch.testing.assert_close(mirror_turns(mirrored, everywhere), turns)
    torch.testing.assert_close(mirror_turns(turns, ~everywhere), turns)

    def places(turns):
        rotations = np.tile(np.eye(3), (len(turns), 52, 1, 1))
        rotations[:, BODY_JOINTS] = roma.rotvec_to_rotmat(turns)
        return skeleton.pose(rotations)[0][:, BODY_JOINTS]

    swapped = [
        JOINT_INDEX[n.replace("left", "LEFT").replace("right", "left").replace("LEFT", "right")]
        for n in JOINT_NAMES[BODY_JOINTS]
    ]
    np.testing.assert_allclose(places(mirrored), places(turns)[:, swapped] * [-1, 1, 1], atol=2e-3)


def test_sampled_hands_are_within_the_limits_of_the_closed_form(body):
    """The closed form, which clips at the anatomical limits, gives the long fingers back: none was sampled beyond them."""
    skeleton = RestSkeleton.of_body(body, np.zeros(16))
    rotations = np.tile(np.eye(3), (500, 52, 1, 1))
    rotations[:, 22:37] = sample_hand_poses(np.random.default_rng(0), 500, body.rest_joints)
    points = skeleton.place(hand_places("left"), *skeleton.pose(rotations))
    palm = palm_orientation(points, skeleton.joints, "left")
    solved = solve_fingers(points, palm, skeleton.joints, "left")
    long_fingers = [index for index in range(12) if index % 3 < 2]  # the tip, a surface point, bends the last joint a little
    angle = roma.rotmat_geodesic_distance(
        torch.as_tensor(solved[:, long_fingers]), torch.as_tensor(rotations[:, 22:37][:, long_fingers])
    )
    assert float(angle.max()) < np.radians(8) and float(angle.mean()) < np.radians(2)


def test_hands_vary_in_every_finger_and_close_into_fists(body):
    hands = sample_hand_poses(np.random.default_rng(1), 2000, body.rest_joints)
    angle = np.degrees(np.linalg.norm(matrix_to_axis_angle(hands), axis=-1))
    assert (angle.std(0)[:12] > 10).all(), "every joint of the long fingers moves"
    closed = (angle[:, [1, 4, 7, 10]] > 60).all(1).mean()
    open_hands = (angle[:, [1, 4, 7, 10]] < 30).all(1).mean()
    assert closed > 0.03 and open_hands > 0.03


@every_layout
def test_draws_are_rotations_and_depend_on_the_seed_alone(layout, body):
    poses = poses_of(layout, body)
    first, again, other = (poses.draw(64, generator(seed)) for seed in (0, 0, 1))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.equal(first, other)
    torch.testing.assert_close(first @ first.transpose(-1, -2), torch.eye(3).expand_as(first), atol=1e-5, rtol=0)
    assert (torch.linalg.det(first) > 0).all()


def test_without_augmentation_people_stand_upright_before_the_camera(body):
    standing = Motion("standing", np.tile(np.eye(3), (4, 52, 1, 1)), 30.0)
    standing.rotations[:, 0] = axis_angle_to_matrix([np.pi / 2, 0, 0])  # rest's y is the world's z
    drawn = BodyPoses([standing]).draw(200, generator(), augment=False)
    up = drawn[:, 0, :, 1]
    assert (up[:, 1] < -0.7).all(), "up is against the camera's y"


# Samples and noise.


@every_layout
def test_a_sample_without_noise_is_the_posed_body(layout, body):
    maker = SampleMaker(layout, body, poses_of(layout, body))
    sample = maker.draw(16, generator())
    _, posed, _ = maker.keypoints(sample.betas, sample.rotations)
    torch.testing.assert_close(sample.points / sample.scale[:, None, None], posed)
    assert (sample.confidence == 1).all()


@every_layout
def test_the_truth_costs_nothing(layout, body):
    maker = SampleMaker(layout, body, poses_of(layout, body))
    sample = maker.draw(16, generator())
    losses = iknet_losses(IKNetPose(sample.rotations, sample.betas, sample.scale), maker.keypoints, sample)
    assert all(float(loss) < 1e-6 for loss in losses.values())


@every_layout
def test_noise_of_no_strength_moves_nothing(layout, body, noise):
    maker = SampleMaker(layout, body, poses_of(layout, body))
    rotations = poses_of(layout, body).draw(8, generator())
    _, points, orientations = maker.keypoints(torch.zeros(8, 16), rotations)
    errors = KeypointNoise(noise, layout)
    errors.own = torch.zeros_like(errors.own)
    same = errors.add_errors(points, orientations, torch.ones(points.shape[:2]), torch.zeros(8), torch.zeros(8), generator())
    if errors.hands is None:
        centred = points - points.mean(1, keepdim=True)
        torch.testing.assert_close(same - same.mean(1, keepdim=True), centred, atol=1e-5, rtol=0)
    else:
        body_points = slice(0, 33)
        torch.testing.assert_close(
            same[:, body_points] - same[:, :33].mean(1, keepdim=True),
            points[:, body_points] - points[:, :33].mean(1, keepdim=True),
            atol=1e-5,
            rtol=0,
        )


@every_layout
def test_noise_is_as_large_as_measured_and_finite(layout, body, noise):
    maker = SampleMaker(layout, body, poses_of(layout, body), KeypointNoise(noise, layout))
    sample = maker.draw(500, generator())
    apart = sample.points / sample.scale[:, None, None] - sample.posed
    apart = (apart - apart.mean(1, keepdim=True)).norm(dim=-1)
    assert torch.isfinite(sample.points).all()
    low, high = (0.003, 0.05) if layout.definition.name == "hand_21" else (0.02, 0.2)
    assert low < float(apart.mean()) < high
    assert (sample.confidence >= 0).all() and (sample.confidence <= 1).all()


def test_some_samples_lose_their_legs_and_some_their_hands(body, noise):
    layout = LAYOUTS["blazepose_33_knuckles"]
    sample = SampleMaker(layout, body, poses_of(layout, body), KeypointNoise(noise, layout)).draw(500, generator())
    names = layout.definition.names
    legs = sample.confidence[:, [names.index("left_ankle"), names.index("right_ankle")]].max(1).values
    knuckles = sample.confidence[:, names.index("left_hand_index_mcp")]
    assert 0.05 < float((legs < 0.5).float().mean()) < 0.6
    assert 0.15 < float((knuckles == 0).float().mean()) < 0.5


# The loop.


def trainer_in(folder, body, noise, steps, part="hand", definition="hand_21"):
    layout = LAYOUTS[definition]
    maker = SampleMaker(layout, body, HandPoses(body, pool_size=500), KeypointNoise(noise, layout))
    settings = IKNetTraining(part=part, definition=definition, steps=steps, batch=16, warm_up=2)
    return IKNetTrainer(settings, maker, folder)


def test_a_resumed_training_ends_as_an_unbroken_one(tmp_path, body, noise):
    whole = trainer_in(tmp_path / "whole", body, noise, 6).run(log=lambda line: None)
    stopped = trainer_in(tmp_path / "stopped", body, noise, 6)
    for _ in range(3):
        stopped.train_step()
    stopped.save_checkpoint()
    resumed = trainer_in(tmp_path / "stopped", body, noise, 6)
    assert resumed.step == 3
    again = resumed.run(log=lambda line: None)
    for a, b in zip(whole.state_dict().values(), again.state_dict().values()):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_ctrl_c_leaves_a_checkpoint(tmp_path, body, noise):
    trainer = trainer_in(tmp_path, body, noise, 100)
    step, trainer.train_step = trainer.train_step, lambda: interrupt_after(trainer, step, 4)
    with pytest.raises(KeyboardInterrupt):
        trainer.run(log=lambda line: None)
    assert trainer_in(tmp_path, body, noise, 100).step == 4
    assert {path.name.split("-")[0] for path in tmp_path.iterdir()} == {"checkpoint"}
    assert all("00000004" in path.name and path.stat().st_size < 16e6 for path in tmp_path.iterdir())


def interrupt_after(trainer, step, count):
    if trainer.step == count:
        raise KeyboardInterrupt
    return step()


def test_a_folder_with_another_training_is_refused(tmp_path, body, noise):
    trainer_in(tmp_path, body, noise, 5).save_checkpoint()
    with pytest.raises(TrainingError, match="other settings"):
        trainer_in(tmp_path, body, noise, 6)


@pytest.mark.parametrize("wrong", [{"part": "foot"}, {"definition": "coco"}, {"steps": 0}, {"batch": 0}, {"final_rate": 1.0}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(TrainingError):
        IKNetTraining(**wrong)


def test_training_learns_and_its_weights_can_be_loaded(tmp_path, body):
    layout = LAYOUTS["hand_21"]
    maker = SampleMaker(layout, body, HandPoses(body, pool_size=2000))
    settings = IKNetTraining(part="hand", definition="hand_21", steps=60, batch=128, warm_up=5)
    trainer, lines = IKNetTrainer(settings, maker, tmp_path), []
    first = trainer.train_step()
    network = trainer.run(log=lines.append)
    assert float(trainer.train_step()["posed"]) < 0.5 * float(first["posed"])
    assert lines and "step 60/60" in lines[-1]
    write_weights(trainer, tmp_path / "weights.safetensors")
    again, reference = IKNet.from_tensors(*read_tensors(tmp_path / "weights.safetensors"))
    torch.testing.assert_close(reference, maker.keypoints.rest(torch.zeros(1, 16))[1][0])
    assert again.layout is network.layout
