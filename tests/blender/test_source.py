# SPDX-License-Identifier: GPL-3.0-or-later
from dataclasses import replace

import numpy as np
import pytest
from fullbody_mocap.contract.frames import axis_angle_to_matrix
from fullbody_mocap.contract.skeleton import JOINT_INDEX, VALID_PARTS
from fullbody_mocap.contract.swing_twist import about
from fullbody_mocap.retarget.solve.source import RetargetError, source_motion
from synthetic_person import make_clip, make_template, posed_joints

SOLE = -0.95


@pytest.fixture(scope="module")
def template():
    return make_template()


def motion_of(template, clip, **options):
    return source_motion(clip, template.rest_joints(clip.betas), SOLE, **options)


def test_joints_are_where_plain_kinematics_puts_them(template):
    clip = make_clip(template, frames=40, seed=1)
    motion = motion_of(template, clip)
    assert np.abs(motion.joints - posed_joints(template, clip)).max() < 1e-12
    assert np.array_equal(motion.times, clip.timestamps)
    assert motion.valid.all()


def test_somebody_who_stands_as_at_rest_has_not_turned(template):
    clip = make_clip(template, frames=3, standing=True)
    motion = motion_of(template, clip)
    assert np.abs(motion.turns - np.eye(3)).max() < 1e-12
    assert np.abs(motion.joints - motion.joints[:, :1] - motion.rest_joints + motion.rest_joints[0]).max() < 1e-12
    # Upright: the head is up, the left hip towards +x, the toes towards -y.
    place = motion.rest_joints - motion.rest_joints[0]
    assert place[JOINT_INDEX["head"], 2] > 0.5
    assert place[JOINT_INDEX["left_hip"], 0] > 0.05
    assert motion.rest_joints[JOINT_INDEX["left_foot"], 1] < motion.rest_joints[JOINT_INDEX["left_ankle"], 1] - 0.1


def test_turns_carry_the_rest_bones_to_the_posed_ones(template):
    clip = make_clip(template, frames=20, seed=2)
    motion = motion_of(template, clip)
    for joint, child in (("left_shoulder", "left_elbow"), ("right_knee", "right_ankle"), ("right_index1", "right_index2")):
        joint, child = JOINT_INDEX[joint], JOINT_INDEX[child]
        rest = motion.rest_joints[child] - motion.rest_joints[joint]
        posed = motion.joints[:, child] - motion.joints[:, joint]
        assert np.abs(motion.turns[:, joint] @ rest - posed).max() < 1e-12


def test_moments_between_frames_lie_between_their_poses(template):
    clip = make_clip(template, frames=20, seed=3)
    half = 0.5 * (clip.timestamps[4] + clip.timestamps[5])
    motion = motion_of(template, clip, times=np.array([clip.timestamps[4], half, clip.timestamps[5]]))
    whole = motion_of(template, clip)
    assert np.abs(motion.joints[[0, 2]] - whole.joints[4:6]).max() < 1e-9
    assert np.abs(motion.joints[1] - whole.joints[4:6].mean(0)).max() < 0.01
    before, between, after = motion.turns[:, 0]
    step = np.trace(before.T @ between), np.trace(between.T @ after)
    assert abs(step[0] - step[1]) < 1e-9


def test_holes_are_filled_from_their_rims_and_said_not_to_be_valid(template):
    clip = make_clip(template, frames=30, seed=4)
    whole = motion_of(template, clip)
    valid = clip.valid.copy()
    valid[10:15, VALID_PARTS.index("body")] = False
    valid[:, VALID_PARTS.index("left_hand")] = False
    spoilt = clip.poses.copy()
    spoilt[10:15, :66] = 2.0
    holed = motion_of(template, replace(clip, poses=spoilt, valid=valid))
    outside = np.r_[0:10, 15:30]
    assert np.abs(holed.joints[outside] - whole.joints[outside])[:, :22].max() < 1e-12
    first, last = whole.turns[9, 0], whole.turns[15, 0]
    turned = [np.arccos(np.clip((np.trace(first.T @ turn) - 1) / 2, -1, 1)) for turn in [*holed.turns[10:15, 0], last]]
    assert np.allclose(turned, turned[-1] * np.arange(1, 7) / 6, atol=1e-6)
    assert np.array_equal(holed.valid[:, 0], valid[:, 0])
    assert not holed.valid[:, 1].any()
    assert holed.valid[:, 2:].all()


def test_resampled_moments_near_a_captured_frame_are_valid(template):
    clip = make_clip(template, frames=30, seed=5)
    valid = clip.valid.copy()
    valid[10:20] = False
    times = clip.timestamps[0] + np.arange(60) / 60
    motion = motion_of(template, replace(clip, valid=valid), times=times)
    assert np.array_equal(np.flatnonzero(~motion.valid[:, 0]), np.arange(20, 39))


def test_turning_a_motion_turns_everything_in_it(template):
    motion = motion_of(template, make_clip(template, frames=5, seed=6))
    turn = axis_angle_to_matrix([0.0, 0.0, 1.0])
    turned = motion.turned(turn)
    foot = motion.rest_joints[JOINT_INDEX["left_foot"]] - motion.rest_joints[JOINT_INDEX["left_ankle"]]
    posed = turned.joints[:, JOINT_INDEX["left_foot"]] - turned.joints[:, JOINT_INDEX["left_ankle"]]
    assert np.abs(turned.turns[:, JOINT_INDEX["left_ankle"]] @ foot - posed).max() < 1e-12
    assert np.abs(turned.joints[..., 2] - motion.joints[..., 2]).max() < 1e-12
    assert np.abs(turned.hips - motion.hips @ turn.T).max() < 1e-12


def test_the_floor_is_under_the_lower_foot(template):
    rest = template.rest_joints(np.zeros(16))
    clip = make_clip(template, frames=40, standing=True, betas=np.zeros(16))
    sole = rest[[JOINT_INDEX["left_foot"], JOINT_INDEX["right_foot"]], 1].min() - 0.03
    trans = np.zeros((40, 3)) - (0, 0, sole + rest[0, 2] - rest[0, 1])
    trans[10:13, 2] += 0.5
    for height in (0.0, 0.1, -0.08, -2.0):
        motion = source_motion(replace(clip, trans=trans + (0, 0, height)), rest, sole)
        assert abs(motion.floor - height) < 0.01
    climbing = source_motion(replace(clip, trans=trans + (0, 0, 1.5)), rest, sole)
    assert climbing.floor == 0
    assert source_motion(clip, rest, sole, floor=0.4).floor == 0.4


def test_expressions_come_along(template):
    clip = make_clip(template, frames=10, seed=7, expression_names=("smile", "jawOpen"))
    times = clip.timestamps[0] + np.arange(19) / 60
    motion = motion_of(template, clip, times=times)
    assert motion.expression_names == ("smile", "jawOpen")
    assert np.abs(motion.expression[::2] - clip.face_expression).max() < 1e-6
    assert np.abs(motion.expression[1] - clip.face_expression[:2].mean(0)).max() < 1e-6


def test_a_single_frame_is_a_motion(template):
    clip = make_clip(template, frames=8, seed=8)
    one = motion_of(template, clip, times=clip.timestamps[3:4])
    assert np.abs(one.joints[0] - motion_of(template, clip).joints[3]).max() < 1e-12
    assert one.valid.all()


def test_bad_input_is_refused_in_one_sentence(template):
    clip = make_clip(template, frames=6, seed=9)
    nobody = replace(clip, valid=np.zeros_like(clip.valid))
    broken = replace(clip, poses=np.where(np.arange(156) == 5, np.nan, clip.poses))
    rest = template.rest_joints(clip.betas)
    for arguments, words in (
        ((nobody, rest, SOLE), "no frame in which the body was captured"),
        ((broken, rest, SOLE), "not numbers"),
        ((clip, rest[:24], SOLE), "got shape (24, 3)"),
        ((clip, rest, 0.2), "below its hip joints"),
        ((clip, rest, SOLE, np.array([1.0, 0.5])), "increase"),
        ((clip, rest, SOLE, np.array([])), "at least one"),
    ):
        with pytest.raises(RetargetError) as caught:
            source_motion(*arguments)
        assert words in str(caught.value)
        assert str(caught.value).count(".") <= 2 and str(caught.value).endswith(".")


def test_a_wrist_that_turns_past_half_a_round_between_frames_takes_the_shorter_way(template):
    clip = make_clip(template, frames=2, standing=True)
    poses = clip.poses.copy()
    wrist = slice(3 * JOINT_INDEX["left_wrist"], 3 * JOINT_INDEX["left_wrist"] + 3)
    poses[0, wrist], poses[1, wrist] = (3.0, 0, 0), (-3.0, 0, 0)
    motion = motion_of(template, replace(clip, poses=poses), times=np.array([clip.timestamps.mean()]))
    # The rest frame's x is the world's.
    assert np.abs(motion.turns[0, JOINT_INDEX["left_wrist"]] - about(np.array([1.0, 0, 0]), np.pi)).max() < 1e-9
