"""From keypoints to a placed pose: depth of limbs that reach towards the camera, and limbs that end under their keypoints."""

import dataclasses

import numpy as np
import pytest
from synthetic_keypoints import keypoints_of, upright

from fullbody_core.body.load_body import load_body
from fullbody_core.camera import project
from fullbody_core.contract.frames import axis_angle_to_matrix, matrix_to_axis_angle
from fullbody_core.contract.skeleton import BLAZEPOSE_33, JOINT_INDEX
from fullbody_core.ik.analytic_limbs import NECK_LIMIT
from fullbody_core.ik.rest_skeleton import RestSkeleton
from fullbody_core.motion import LARGEST_SWING, LIMB_BONES, Motion, bring_within_reach, swing_to_sight, turn_head_to_face

MATRIX = np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]])
PELVIS = np.array([0.0, 0.1, 2.5])


@pytest.fixture(scope="module")
def skeleton():
    return RestSkeleton.of_body(load_body("open"), np.zeros(16))


def moving_limbs(frames, largest, seed=0):
    rotations = upright(frames)
    rng = np.random.default_rng(seed)
    for name in ("shoulder", "elbow", "hip", "knee"):
        for side in ("left", "right"):
            turn = axis_angle_to_matrix(rng.uniform(-largest, largest, (frames, 3)))
            rotations[:, JOINT_INDEX[f"{side}_{name}"]] = turn
    return rotations


def seen(skeleton, rotations):
    """Exact keypoints of a person who stands at PELVIS, in the camera frame and in pixels."""
    keypoints = keypoints_of(skeleton, rotations)
    body3d = keypoints.body3d + PELVIS
    return dataclasses.replace(keypoints, body3d=body3d, body2d=project(body3d, MATRIX))


def bone_lengths(points):
    ends = [[BLAZEPOSE_33.index(name) for name in bone] for bone in LIMB_BONES]
    return np.stack([np.linalg.norm(points[:, child] - points[:, parent], axis=-1) for parent, child in ends], 1)


def rest_lengths(skeleton):
    return np.array([np.linalg.norm(np.subtract(*skeleton.at_rest(bone))) for bone in LIMB_BONES])


def everything(keypoints):
    return np.ones(keypoints.body_confidence.shape)


def test_limbs_of_the_right_length_stay_where_they_are(skeleton):
    keypoints = seen(skeleton, moving_limbs(20, 1.2))
    same = bring_within_reach(keypoints, everything(keypoints), skeleton, MATRIX)
    np.testing.assert_allclose(same.body3d, keypoints.body3d, atol=1e-9)


def test_limbs_that_are_too_short_stay_where_they_are(skeleton):
    keypoints = seen(skeleton, moving_limbs(20, 1.2))
    middle = keypoints.body3d.mean(1, keepdims=True)
    short = dataclasses.replace(keypoints, body3d=middle + 0.8 * (keypoints.body3d - middle))
    same = bring_within_reach(short, everything(short), skeleton, MATRIX)
    np.testing.assert_array_equal(same.body3d, short.body3d)


def test_a_hand_held_towards_the_camera_comes_nearer_until_the_arm_reaches_it(skeleton):
    """The wrist's depth is lost, as a detector loses it; its pixel and the arm's length bring it back."""
    rotations = upright(5)
    # Forearm raised before the body, pointing up and at the camera.
    rotations[:, JOINT_INDEX["right_elbow"]] = axis_angle_to_matrix(
        np.linspace(0.9, 1.3, 5)[:, None] * np.array([0.0, 1, 0])
    )
    keypoints = seen(skeleton, rotations)
    wrist, elbow = BLAZEPOSE_33.index("right_wrist"), BLAZEPOSE_33.index("right_elbow")
    assert (keypoints.body3d[:, wrist, 2] < keypoints.body3d[:, elbow, 2] - 0.15).all(), "the hand is before the elbow"
    lost = keypoints.body3d.copy()
    lost[:, wrist] *= 1.25  # farther off along the same line of sight
    moved = bring_within_reach(dataclasses.replace(keypoints, body3d=lost), everything(keypoints), skeleton, MATRIX)
    before, after = bone_lengths(lost), bone_lengths(moved.body3d)
    limit = rest_lengths(skeleton)
    assert (before[:, 5] > 1.2 * limit[5]).all() and (after[:, 5] < 1.001 * limit[5]).all()
    np.testing.assert_allclose(project(moved.body3d, MATRIX)[:, wrist], keypoints.body2d[:, wrist], atol=1e-6)


def test_points_that_are_not_seen_are_not_moved(skeleton):
    keypoints = seen(skeleton, moving_limbs(5, 1.2))
    far = dataclasses.replace(keypoints, body3d=keypoints.body3d * 1.5)
    same = bring_within_reach(far, np.zeros(far.body_confidence.shape), skeleton, MATRIX)
    np.testing.assert_array_equal(same.body3d, far.body3d)


def limb_pixels(skeleton, rotations):
    joints = skeleton.pose(rotations)[0] + PELVIS
    return project(joints[:, [JOINT_INDEX[child] for _, child in LIMB_BONES]], MATRIX)


def test_limbs_swing_under_their_keypoints(skeleton):
    true = moving_limbs(30, 1.0)
    noise = np.random.default_rng(1).normal(0, 0.12, (30, 8, 3))
    solved = true.copy()
    joints = [JOINT_INDEX[parent] for parent, _ in LIMB_BONES]
    solved[:, joints] = solved[:, joints] @ axis_angle_to_matrix(noise)
    keypoints = seen(skeleton, true)
    place = np.broadcast_to(PELVIS, (30, 3))
    swung = swing_to_sight(solved, place, keypoints, everything(keypoints), skeleton, MATRIX)
    wanted = keypoints.body2d[:, [BLAZEPOSE_33.index(child) for _, child in LIMB_BONES]]
    before = np.linalg.norm(limb_pixels(skeleton, solved) - wanted, axis=-1)
    after = np.linalg.norm(limb_pixels(skeleton, swung) - wanted, axis=-1)
    assert np.median(after) < 0.2 * np.median(before) and after.mean() < 0.35 * before.mean()


def test_a_pose_under_its_keypoints_stays_as_it_is(skeleton):
    true = moving_limbs(10, 1.0)
    keypoints = seen(skeleton, true)
    swung = swing_to_sight(true, np.broadcast_to(PELVIS, (10, 3)), keypoints, everything(keypoints), skeleton, MATRIX)
    np.testing.assert_allclose(swung, true, atol=1e-6)


def test_swings_are_bounded_and_turn_nothing_but_limbs(skeleton):
    true = moving_limbs(10, 1.0)
    keypoints = seen(skeleton, true)
    wild = np.random.default_rng(0).normal(0, 400, keypoints.body2d.shape)
    wild = dataclasses.replace(keypoints, body2d=keypoints.body2d + wild)
    swung = swing_to_sight(true, np.broadcast_to(PELVIS, (10, 3)), wild, everything(keypoints), skeleton, MATRIX)
    before, after = skeleton.pose(true)[1], skeleton.pose(swung)[1]
    turned = [JOINT_INDEX[parent] for parent, _ in LIMB_BONES]
    angle = np.arccos(np.clip((np.einsum("tjab,tjab->tj", before, after) - 1) / 2, -1, 1))
    assert np.isfinite(swung).all() and (angle[:, turned] <= LARGEST_SWING + 1e-6).all()
    others = [joint for joint in range(52) if joint not in turned]
    np.testing.assert_allclose(after[:, others], before[:, others], atol=1e-9)
    unseen = swing_to_sight(true, np.full((10, 3), np.nan), wild, np.zeros_like(everything(keypoints)), skeleton, MATRIX)
    np.testing.assert_allclose(unseen, true, atol=1e-9)


def test_a_head_turns_to_its_face_where_that_is_seen(skeleton):
    rotations = upright(40)
    motion = Motion(skeleton, rotations, np.tile([0.0, 0, 3], (40, 1)), np.ones((40, 4), bool))
    keypoints = seen(skeleton, rotations)
    same = turn_head_to_face(motion, keypoints, MATRIX)
    assert same is motion, "no face, no change"
    before = skeleton.pose(rotations)[1][:, JOINT_INDEX["head"]]
    face = before[:8] @ axis_angle_to_matrix(np.array([0.2, 0.6, 0.1]))
    keypoints.head_rotation[:8] = face
    turned = turn_head_to_face(motion, keypoints, MATRIX)
    after = skeleton.pose(turned.rotations)[1]
    np.testing.assert_allclose(after[:8, JOINT_INDEX["head"]], face, atol=1e-9)
    others = [index for name, index in JOINT_INDEX.items() if name not in ("neck", "head")]
    np.testing.assert_array_equal(turned.rotations[:, others], rotations[:, others])
    np.testing.assert_allclose(turned.rotations[30:], rotations[30:], atol=1e-9)
    angles = np.linalg.norm(matrix_to_axis_angle(np.swapaxes(before, 1, 2) @ after[:, JOINT_INDEX["head"]]), axis=-1)
    assert (np.diff(angles[7:30]) <= 1e-9).all(), "beside the frames with a face it fades"


def test_no_face_twists_a_neck_too_far(skeleton):
    rotations = upright(4)
    motion = Motion(skeleton, rotations, np.tile([0.0, 0, 3], (4, 1)), np.ones((4, 4), bool))
    keypoints = seen(skeleton, rotations)
    keypoints.head_rotation[:] = rotations[:, 0] @ axis_angle_to_matrix(np.array([0.0, 3.0, 0]))
    turned = turn_head_to_face(motion, keypoints, MATRIX)
    for name in ("neck", "head"):
        angle = np.linalg.norm(matrix_to_axis_angle(turned.rotations[:, JOINT_INDEX[name]]), axis=-1)
        assert angle.max() <= NECK_LIMIT + 1e-6
