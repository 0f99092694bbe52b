"""The whole path on real pictures: the demo's truth is known, because the project made it."""

import numpy as np
import pytest

from fullbody_core.contract.frames import axis_angle_to_matrix, forward_kinematics
from fullbody_core.contract.skeleton import BLAZEPOSE_33, JOINT_INDEX, PARENTS
from fullbody_core.detect.keypoints import Keypoints
from fullbody_core.evaluate.clip import reprojection_errors
from fullbody_core.ik.analytic import AnalyticSolver
from fullbody_core.ik.rest_skeleton import RestSkeleton
from fullbody_core.motion import Motion, hold_through_holes, solve_motion
from fullbody_core.pipeline import CaptureFailure, CaptureSettings, capture, decide_valid, load_body
from fullbody_core.read_ahead import decoded_ahead
from fullbody_core.synth.demo_clip import demo_motion
from fullbody_core.video import VideoWriter

LIMBS = [
    JOINT_INDEX[f"{side}_{name}"]
    for side in ("left", "right")
    for name in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
]


@pytest.fixture(scope="session")
def clip(demo_capture):
    return demo_capture[0]


@pytest.fixture(scope="session")
def truth():
    return demo_motion(load_body("open"))


def root_relative(joints):
    return joints - joints[:, :1]


def procrustes_aligned(points, target):
    """Points [N, 3] brought onto target [N, 3] by the best similarity (Umeyama 1991)."""
    a, b = points - points.mean(0), target - target.mean(0)
    u, s, vt = np.linalg.svd(b.T @ a)
    sign = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
    return (s * np.diag(sign)).sum() / (a**2).sum() * a @ (u @ sign @ vt).T + target.mean(0)


def test_demo_keeps_every_frame_and_its_time(clip, truth):
    assert clip.frame_count == truth.frame_count
    np.testing.assert_allclose(clip.timestamps, truth.timestamps, atol=1e-4)
    assert clip.duration == pytest.approx(truth.duration, abs=1e-3)


def test_demo_is_found_in_every_frame(clip):
    assert clip.valid[:, 0].all()
    assert clip.valid[:, 1:3].mean() > 0.5  # both hands are in the picture throughout, one of them waving


def test_demo_body_is_near_the_truth(clip, truth):
    captured, true = root_relative(clip.joints_camera)[:, LIMBS], root_relative(truth.joints_camera)[:, LIMBS]
    error = np.linalg.norm(captured - true, axis=-1)
    aligned = np.array([procrustes_aligned(c, t) for c, t in zip(captured, true)])
    aligned_error = np.linalg.norm(aligned - true, axis=-1)
    print(f"MPJPE {1000 * error.mean():.1f} mm, PA-MPJPE {1000 * aligned_error.mean():.1f} mm over {len(LIMBS)} limb joints")
    assert error.mean() < 0.10
    assert aligned_error.mean() < 0.06


def test_demo_wave_is_on_the_right_and_up(clip, truth):
    waving = (truth.timestamps > 0.9) & (truth.timestamps < 2.5)
    joints = clip.joints_camera[waving]
    right, left = joints[:, JOINT_INDEX["right_wrist"]], joints[:, JOINT_INDEX["left_wrist"]]
    assert (right[:, 1] < joints[:, JOINT_INDEX["right_shoulder"], 1]).all(), (
        "the waving hand is above its shoulder (y is down)"
    )
    assert (left[:, 1] > joints[:, JOINT_INDEX["left_shoulder"], 1]).all()
    assert (right[:, 0] < left[:, 0]).all(), "the right hand of a person who faces the camera is on the picture's left"


def test_demo_stands_upright_in_the_world_facing_minus_y(clip):
    root = axis_angle_to_matrix(clip.poses[:, :3])
    assert (root[:, 2, 1] > 0.9).all(), "the rest frame's up is the world's up"
    assert (root[:, 1, 2] < -0.7).all(), "the rest frame's forward is towards the camera"


def test_demo_feet_are_on_the_floor(clip):
    skeleton = RestSkeleton.of_body(load_body("open"), clip.betas)
    joints, orientations = forward_kinematics(skeleton.joints, axis_angle_to_matrix(clip.poses.reshape(-1, 52, 3)), PARENTS)
    soles = (
        skeleton.place(("left_heel", "right_heel", "left_big_toe", "right_big_toe"), joints, orientations)
        + clip.trans[:, None]
    )
    lowest = soles[..., 2].min(1)
    assert np.median(np.abs(lowest)) < 0.05


def test_poses_trans_and_joints_camera_say_the_same(clip):
    skeleton = RestSkeleton.of_body(load_body("open"), clip.betas)
    joints, _ = forward_kinematics(skeleton.joints, axis_angle_to_matrix(clip.poses.reshape(-1, 52, 3)), PARENTS)
    world = joints + clip.trans[:, None]
    camera = (world - clip.camera_to_world[:, None, :3, 3]) @ clip.camera_to_world[:, :3, :3]
    np.testing.assert_allclose(camera, clip.joints_camera, atol=1e-5)


def test_demo_reprojects_onto_what_was_detected(clip):
    assert np.median(reprojection_errors(clip)) < 0.04


def test_fist_closes_and_opens(clip, truth):
    """The right hand is open, then a fist, then open: the knuckles' flexion follows the truth."""
    fingers = [
        JOINT_INDEX[f"right_{finger}{segment}"] for finger in ("index", "middle", "ring", "pinky") for segment in (1, 2)
    ]
    bend = lambda c: np.linalg.norm(c.poses.reshape(-1, 52, 3)[:, fingers], axis=-1).mean(1)  # noqa: E731
    seen = clip.valid[:, 2]
    correlation = np.corrcoef(bend(clip)[seen], bend(truth)[seen])[0, 1]
    print(f"finger flexion correlates {correlation:.2f} with the truth over {seen.sum()} frames")
    assert correlation > 0.7


def test_nobody_is_a_clear_failure(tmp_path):
    path = tmp_path / "empty_room.mp4"
    picture = np.full((240, 320, 3), 128, np.uint8)
    with VideoWriter(path, (320, 240), 25) as writer:
        for frame in range(5):
            writer.write(frame / 25, picture)
    with pytest.raises(CaptureFailure, match="Nobody was found"):
        capture(path)


def test_holes_hold_the_last_good_value_and_are_marked():
    rotations = axis_angle_to_matrix(np.random.default_rng(0).normal(size=(6, 52, 3)))
    valid = np.array([[0, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0]], bool)
    motion = Motion(None, rotations, np.arange(18.0).reshape(6, 3), valid)
    held = hold_through_holes(motion)
    np.testing.assert_array_equal(held.rotations[[3, 4], :22], rotations[[2, 2], :22])
    np.testing.assert_array_equal(held.rotations[0, :22], rotations[1, :22])
    np.testing.assert_array_equal(held.rotations[2:5, 22:37], rotations[[1, 1, 1], 22:37])
    np.testing.assert_array_equal(held.pelvis[3], motion.pelvis[2])
    np.testing.assert_array_equal(held.valid, valid)


def test_nothing_seen_is_finite_and_invalid():
    keypoints = Keypoints.stack([Keypoints.nobody(BLAZEPOSE_33, 478)] * 3)
    valid = decide_valid(keypoints)
    assert not valid.any()
    skeleton = RestSkeleton.of_body(load_body("open"), np.zeros(16))
    motion = solve_motion(
        keypoints, skeleton, np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]]), valid, AnalyticSolver()
    )
    assert np.isfinite(motion.rotations).all() and not motion.valid.any()


def test_decoding_ahead_gives_the_same_frames_and_passes_errors_on():
    assert list(decoded_ahead(iter(range(20)))) == list(range(20))

    def breaks():
        yield 1
        raise RuntimeError("lost")

    frames = decoded_ahead(breaks())
    assert next(frames) == 1
    with pytest.raises(RuntimeError, match="lost"):
        next(frames)


def test_decoding_ahead_stops_when_its_reader_does():
    import threading

    frames = decoded_ahead(iter(range(10**9)))
    next(frames)
    frames.close()
    assert not any(thread.name == "decode" for thread in threading.enumerate())


def test_smoothing_steadies_without_leaving_the_picture(demo_video, demo_by_frames):
    clip, rough = demo_by_frames[0], capture(demo_video, CaptureSettings(refine=False, smooth=False))[0]

    def shake(c):
        return np.linalg.norm(np.diff(c.joints_camera[:, :22], n=2, axis=0), axis=-1).mean()

    assert shake(clip) < 0.6 * shake(rough)
    assert np.median(reprojection_errors(clip)) < np.median(reprojection_errors(rough)) + 0.003
