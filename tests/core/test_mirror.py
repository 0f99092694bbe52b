"""A mirrored person: doing it twice changes nothing, and every joint is where a looking glass shows it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fullbody_core.contract.frames import axis_angle_to_matrix, forward_kinematics
from fullbody_core.contract.mirror import mirror_order, mirror_pose, other_side
from fullbody_core.contract.skeleton import JOINT_INDEX, JOINT_NAMES, PARENTS

OTHER = [JOINT_INDEX[other_side(name)] for name in JOINT_NAMES]
GLASS = np.array([-1.0, 1, 1])


def random_motion(seed, shape=()):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(*shape, 156)), rng.normal(size=(*shape, 3)), rng.random((*shape, 4)) < 0.5


def world_joints(rest, poses, trans):
    rotations = axis_angle_to_matrix(poses.reshape(*poses.shape[:-1], -1, 3))
    joints, _ = forward_kinematics(rest, rotations, PARENTS)
    return joints + trans[..., None, :]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_joints_are_where_a_looking_glass_shows_them(body, seed):
    rest = body.rest_joints + (
        body.joint_shapedirs @ np.random.default_rng(seed).normal(size=body.joint_shapedirs.shape[-1])
    )
    rest = (rest + rest[OTHER] * GLASS) / 2
    poses, trans, valid = random_motion(seed)
    seen = world_joints(rest, poses, trans)[OTHER] * GLASS
    mirrored_poses, mirrored_trans, _ = mirror_pose(poses, trans, valid)
    assert world_joints(rest, mirrored_poses, mirrored_trans) == pytest.approx(seen, abs=1e-9)
    assert np.abs(world_joints(rest, poses, trans) - seen).max() > 0.1, "a random pose is not symmetric"


def test_twice_is_nothing():
    motion = random_motion(3, (7,))
    for before, after in zip(motion, mirror_pose(*mirror_pose(*motion))):
        assert np.array_equal(before, after)


def test_a_batch_is_its_frames_one_by_one():
    motion = random_motion(4, (2, 5))
    together = mirror_pose(*motion)
    for index in np.ndindex(2, 5):
        for whole, single in zip(together, mirror_pose(*(values[index] for values in motion))):
            assert np.array_equal(whole[index], single)


def test_the_hands_change_places():
    _, _, valid = mirror_pose(np.zeros(156), np.zeros(3), np.array([True, True, False, False]))
    assert valid.tolist() == [True, False, True, False]


@pytest.mark.parametrize(
    "name, other",
    [
        ("left_elbow", "right_elbow"),
        ("right_thumb3", "left_thumb3"),
        ("eyeBlinkLeft", "eyeBlinkRight"),
        ("mouthRight", "mouthLeft"),
        ("mouthLeft", "mouthRight"),
        ("jawOpen", "jawOpen"),
        ("leftover", "leftover"),
        ("Leftmost", "Leftmost"),
        ("spine1", "spine1"),
    ],
)
def test_names(name, other):
    assert other_side(name) == other and other_side(other) == name


def test_the_order_of_expressions(face):
    names = face.expression_names
    order = mirror_order(names)
    assert sorted(order) == list(range(len(names))) and np.array_equal(order[order], np.arange(len(names)))
    assert all(names[other] == other_side(name) for name, other in zip(names, order))
    assert (order != np.arange(len(names))).any(), "faces have sides"


def test_an_expression_without_a_partner_keeps_its_own():
    assert mirror_order(("browLeft", "jawOpen", "eyeRight", "eyeLeft")).tolist() == [0, 1, 3, 2]
    assert mirror_order(()).tolist() == []
