"""Axes and rotation conversions: round trips, scipy as the reference, and what each frame means for a person."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from fullbody_core.contract.frames import (
    CAMERA_TO_WORLD,
    REST_TO_CAMERA,
    REST_TO_WORLD,
    axis_angle_to_matrix,
    axis_angle_to_quaternion,
    continuous_quaternions,
    cross,
    forward_kinematics,
    forward_kinematics_by_level,
    matrix_to_axis_angle,
    matrix_to_quaternion,
    multiply_quaternions,
    quaternion_to_axis_angle,
    quaternion_to_matrix,
    skew,
    slerp_quaternions,
)
from fullbody_core.contract.skeleton import PARENTS

EDGE_ANGLES = (0.0, 1e-300, 1e-160, 1e-12, 1e-8, 1e-4, np.pi / 2, np.pi - 1e-4, np.pi - 1e-8, np.pi - 1e-14, np.pi)


def edge_rotations():
    """Axis-angle [N, 3]: every edge angle about each axis, both ways, and about axes between them."""
    axes = np.concatenate([np.eye(3), -np.eye(3), [[1, 1, 0], [0, -1, 1], [1, 1, 1], [1, -1, 1e-7]]])
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    return (axes[:, None] * np.array(EDGE_ANGLES)[:, None]).reshape(-1, 3)


def random_rotations(count=500, seed=0):
    """Axis-angle [count, 3] with angles all over 0..pi."""
    rng = np.random.default_rng(seed)
    axes = rng.normal(size=(count, 3))
    return axes / np.linalg.norm(axes, axis=1, keepdims=True) * rng.uniform(0, np.pi, (count, 1))


ROTATIONS = np.concatenate([edge_rotations(), random_rotations()])


@st.composite
def axis_angles(draw):
    """One axis-angle vector of up to two turns, the edges often among them."""
    part = st.floats(-1, 1)
    axis = np.array(draw(st.tuples(part, part, part)))
    length = np.linalg.norm(axis)
    axis = axis / length if length > 1e-3 else np.array([0.0, 1, 0])
    return axis * draw(st.one_of(st.sampled_from(EDGE_ANGLES), st.floats(0, 4 * np.pi)))


quaternions = axis_angles().map(axis_angle_to_quaternion)


def same_rotation(a, b):
    """Largest difference of quaternions [..., 4] but for their sign."""
    return np.minimum(np.abs(a - b).max(-1), np.abs(a + b).max(-1)).max()


def xyzw(quaternion):
    return np.roll(quaternion, -1, -1)


# Round trips.


def test_matrices_are_rotations():
    matrices = axis_angle_to_matrix(ROTATIONS)
    assert np.abs(matrices @ np.swapaxes(matrices, -1, -2) - np.eye(3)).max() < 1e-14
    np.testing.assert_allclose(np.linalg.det(matrices), 1, atol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(matrix_to_quaternion(matrices), axis=-1), 1, atol=1e-15)
    np.testing.assert_allclose(np.linalg.norm(axis_angle_to_quaternion(ROTATIONS), axis=-1), 1, atol=1e-15)


def test_round_trips_over_matrices():
    matrices = axis_angle_to_matrix(ROTATIONS)
    for there_and_back in (matrix_to_axis_angle, matrix_to_quaternion):
        vectors = there_and_back(matrices)
        back = axis_angle_to_matrix(vectors) if vectors.shape[-1] == 3 else quaternion_to_matrix(vectors)
        assert np.abs(back - matrices).max() < 1e-14


def test_round_trips_of_axis_angles():
    angles = np.linalg.norm(ROTATIONS, axis=-1)
    unique = angles < np.pi - 1e-6  # at half a turn the axis may come back as its opposite
    over_matrices = matrix_to_axis_angle(axis_angle_to_matrix(ROTATIONS))
    over_quaternions = quaternion_to_axis_angle(axis_angle_to_quaternion(ROTATIONS))
    for back in (over_matrices, over_quaternions):
        assert np.abs(back - ROTATIONS)[unique].max() < 1e-13
        flipped = np.minimum(np.abs(back - ROTATIONS).max(-1), np.abs(back + ROTATIONS).max(-1))
        assert flipped.max() < 1e-12
        assert np.linalg.norm(back, axis=-1).max() <= np.pi + 1e-15


def test_tiny_turns_keep_their_digits():
    """Relative, not absolute: a turn of 1e-12 rad must not come back as zero or as noise."""
    tiny = random_rotations(50) * 1e-12
    for back in (matrix_to_axis_angle(axis_angle_to_matrix(tiny)), quaternion_to_axis_angle(axis_angle_to_quaternion(tiny))):
        np.testing.assert_allclose(back, tiny, rtol=1e-9)


@given(axis_angles())
def test_turns_beyond_half_come_back_as_the_same_rotation(axis_angle):
    shorter = matrix_to_axis_angle(axis_angle_to_matrix(axis_angle))
    assert np.linalg.norm(shorter) <= np.pi + 1e-12
    np.testing.assert_allclose(axis_angle_to_matrix(shorter), axis_angle_to_matrix(axis_angle), atol=1e-13)


@given(quaternions)
def test_quaternion_and_its_negative_are_one_rotation(quaternion):
    np.testing.assert_array_equal(quaternion_to_matrix(-quaternion), quaternion_to_matrix(quaternion))
    turned, opposite = quaternion_to_axis_angle(quaternion), quaternion_to_axis_angle(-quaternion)
    # At exactly half a turn w is a rounding error, and its sign chooses between the two ends of the axis.
    assert min(np.abs(turned - opposite).max(), np.abs(turned + opposite).max()) < 1e-12
    assert matrix_to_quaternion(quaternion_to_matrix(quaternion))[0] >= 0


# scipy as the reference.


def test_agrees_with_scipy():
    reference = Rotation.from_rotvec(ROTATIONS)
    np.testing.assert_allclose(axis_angle_to_matrix(ROTATIONS), reference.as_matrix(), atol=1e-14)
    assert same_rotation(xyzw(axis_angle_to_quaternion(ROTATIONS)), reference.as_quat()) < 1e-14
    assert same_rotation(xyzw(matrix_to_quaternion(reference.as_matrix())), reference.as_quat()) < 1e-14
    wxyz = np.roll(reference.as_quat(), 1, -1)
    np.testing.assert_allclose(quaternion_to_matrix(wxyz), reference.as_matrix(), atol=1e-14)
    below_pi = np.linalg.norm(ROTATIONS, axis=-1) < np.pi - 1e-6
    np.testing.assert_allclose(quaternion_to_axis_angle(wxyz)[below_pi], reference.as_rotvec()[below_pi], atol=1e-13)


def test_quaternion_order_is_wxyz_by_hand():
    quarter_about_z = np.array([np.sqrt(0.5), 0, 0, np.sqrt(0.5)])
    np.testing.assert_allclose(quaternion_to_matrix(quarter_about_z) @ [1, 0, 0], [0, 1, 0], atol=1e-15)
    np.testing.assert_allclose(axis_angle_to_quaternion([0, 0, np.pi / 2]), quarter_about_z, atol=1e-15)
    np.testing.assert_allclose(axis_angle_to_matrix([np.pi / 2, 0, 0]) @ [0, 1, 0], [0, 0, 1], atol=1e-15)


@given(quaternions, quaternions)
def test_product_turns_by_the_second_then_by_the_first(a, b):
    product = multiply_quaternions(a, b)
    np.testing.assert_allclose(quaternion_to_matrix(product), quaternion_to_matrix(a) @ quaternion_to_matrix(b), atol=1e-13)
    reference = Rotation.from_quat(xyzw(a)) * Rotation.from_quat(xyzw(b))
    assert same_rotation(xyzw(product), reference.as_quat()) < 1e-14


@given(st.tuples(*[st.floats(-10, 10)] * 3), st.tuples(*[st.floats(-10, 10)] * 3))
def test_skew_is_the_cross_product(a, b):
    np.testing.assert_allclose(skew(a) @ b, np.cross(a, b), atol=1e-12)


def test_any_leading_shape_is_one_by_one():
    """Batched equals single, for every conversion."""
    turns = random_rotations(12).reshape(2, 3, 2, 3)
    matrices, wxyz = axis_angle_to_matrix(turns), axis_angle_to_quaternion(turns)
    for function, batch in (
        (axis_angle_to_matrix, turns),
        (axis_angle_to_quaternion, turns),
        (matrix_to_quaternion, matrices),
        (matrix_to_axis_angle, matrices),
        (quaternion_to_matrix, wxyz),
        (quaternion_to_axis_angle, wxyz),
    ):
        whole = function(batch)
        assert whole.shape[:3] == (2, 3, 2)
        for index in np.ndindex(2, 3, 2):
            np.testing.assert_allclose(whole[index], function(batch[index]), atol=1e-15)


# Interpolation.


@given(quaternions, quaternions)
def test_slerp_starts_and_ends_where_it_should(a, b):
    assert same_rotation(slerp_quaternions(a, b, 0.0), a) < 1e-13
    assert same_rotation(slerp_quaternions(a, b, 1.0), b) < 1e-12


@given(quaternions, quaternions)
def test_slerp_turns_at_constant_speed_the_shorter_way(a, b):
    path = slerp_quaternions(a, b, np.linspace(0, 1, 6))
    assert path.shape == (6, 4)
    turns = matrix_to_axis_angle(quaternion_to_matrix(path[1:]) @ np.swapaxes(quaternion_to_matrix(path[:-1]), -1, -2))
    whole = np.linalg.norm(matrix_to_axis_angle(quaternion_to_matrix(b) @ quaternion_to_matrix(a).T))
    np.testing.assert_allclose(np.linalg.norm(turns, axis=-1), whole / 5, atol=1e-7)
    np.testing.assert_allclose(turns, np.broadcast_to(turns[0], turns.shape), atol=1e-7)


def test_slerp_agrees_with_scipy():
    from scipy.spatial.transform import Slerp

    a, b = axis_angle_to_quaternion(random_rotations(2, seed=5))
    reference = Slerp([0, 1], Rotation.from_quat(xyzw(np.stack([a, b]))))(np.linspace(0, 1, 9)).as_quat()
    assert same_rotation(xyzw(slerp_quaternions(a, b, np.linspace(0, 1, 9))), reference) < 1e-13


def test_continuous_quaternions_keep_rotations_and_remove_flips():
    rng = np.random.default_rng(0)
    # Three joints that wander by at most 0.3 rad a frame, through many turns, with random signs.
    steps = axis_angle_to_quaternion(rng.normal(size=(200, 3, 3)) * 0.05 + [0.2, 0, 0])
    track = [steps[0]]
    for step in steps[1:]:
        track.append(multiply_quaternions(step, track[-1]))
    flipped = np.stack(track) * rng.choice([-1.0, 1.0], (200, 3, 1))
    before = flipped.copy()
    smooth = continuous_quaternions(flipped)
    assert np.array_equal(flipped, before), "the argument is left alone"
    assert np.array_equal(np.abs(smooth), np.abs(flipped)) and same_rotation(smooth, flipped) == 0
    assert np.array_equal(smooth[0], flipped[0])
    assert (np.sum(smooth[1:] * smooth[:-1], -1) > np.cos(0.3)).all()
    assert (np.sum(flipped[1:] * flipped[:-1], -1) < 0).any(), "the test needs flips to remove"
    assert (smooth[..., 0] < 0).any(), "and turns beyond the hemisphere of w >= 0"


# Forward kinematics.


def test_forward_kinematics_of_two_bones_by_hand():
    rest = np.array([[1.0, 2, 3], [1, 3, 3], [1, 5, 3]])  # a bone of 1 m and one of 2 m, both up
    about_z, about_x = axis_angle_to_matrix([0, 0, np.pi / 2]), axis_angle_to_matrix([np.pi / 2, 0, 0])
    joints, orientations = forward_kinematics(rest, np.stack([about_z, about_x, about_x]), (-1, 0, 1))
    # Up becomes -x at the root; in the root's axes the second bone is tipped to +z, which the root's turn leaves alone.
    np.testing.assert_allclose(joints, [[1, 2, 3], [0, 2, 3], [0, 2, 5]], atol=1e-15)
    np.testing.assert_allclose(orientations, [about_z, about_z @ about_x, about_z @ about_x @ about_x], atol=1e-15)


def test_forward_kinematics_of_a_batch_is_one_by_one():
    rng = np.random.default_rng(2)
    rest, rotations = rng.normal(size=(5, 52, 3)), axis_angle_to_matrix(rng.normal(size=(5, 52, 3)))
    joints, orientations = forward_kinematics(rest, rotations, PARENTS)
    one_rest, _ = forward_kinematics(rest[0], rotations, PARENTS)
    for frame in range(5):
        single = forward_kinematics(rest[frame], rotations[frame], PARENTS)
        np.testing.assert_allclose(joints[frame], single[0], atol=1e-14)
        np.testing.assert_allclose(orientations[frame], single[1], atol=1e-14)
        np.testing.assert_allclose(one_rest[frame], forward_kinematics(rest[0], rotations[frame], PARENTS)[0], atol=1e-14)


def test_forward_kinematics_keeps_bones_and_the_rest_pose():
    rng = np.random.default_rng(3)
    rest, parents = rng.normal(size=(52, 3)), np.array(PARENTS)
    np.testing.assert_allclose(forward_kinematics(rest, np.tile(np.eye(3), (52, 1, 1)), PARENTS)[0], rest, atol=1e-14)
    joints, _ = forward_kinematics(rest, axis_angle_to_matrix(rng.normal(size=(52, 3))), PARENTS)
    np.testing.assert_allclose(
        np.linalg.norm(joints[1:] - joints[parents[1:]], axis=-1), np.linalg.norm(rest[1:] - rest[parents[1:]], axis=-1)
    )
    np.testing.assert_array_equal(joints[0], rest[0])


@pytest.mark.parametrize("shape", [(), (1,), (7,), (2, 3)])
def test_forward_kinematics_by_level_is_the_plain_one(shape):
    rng = np.random.default_rng(4)
    rotations = axis_angle_to_matrix(rng.normal(size=(*shape, 52, 3)))
    for rest in (rng.normal(size=(52, 3)), rng.normal(size=(*shape, 52, 3))):
        for plain, fast in zip(
            forward_kinematics(rest, rotations, PARENTS), forward_kinematics_by_level(rest, rotations, PARENTS)
        ):
            np.testing.assert_allclose(fast, plain, atol=1e-13)


def test_forward_kinematics_by_level_takes_any_tree():
    """A chain, a star, and joints of one depth that do not stand together."""
    rng = np.random.default_rng(5)
    for parents in ((-1, 0, 1, 2), (-1, 0, 0, 0), (-1, 0, 1, 0, 3, 2, 4), np.array([-1, 0, 0, 1])):
        rest, rotations = rng.normal(size=(len(parents), 3)), axis_angle_to_matrix(rng.normal(size=(3, len(parents), 3)))
        for plain, fast in zip(
            forward_kinematics(rest, rotations, parents), forward_kinematics_by_level(rest, rotations, parents)
        ):
            np.testing.assert_allclose(fast, plain, atol=1e-13)


def test_the_quick_cross_product_is_numpy_s():
    rng = np.random.default_rng(6)
    a, b = rng.normal(size=(4, 5, 3)), rng.normal(size=(5, 3))
    np.testing.assert_array_equal(cross(a, b), np.cross(a, b))
    np.testing.assert_array_equal(cross([1, 0, 0], [0, 1, 0]), [0, 0, 1])


# The three frames.


@pytest.mark.parametrize("turn", [CAMERA_TO_WORLD, REST_TO_CAMERA, REST_TO_WORLD])
def test_turns_of_axes_are_proper_rotations(turn):
    np.testing.assert_array_equal(turn @ turn.T, np.eye(3))
    assert np.linalg.det(turn) == 1
    assert set(np.abs(turn).ravel()) == {0.0, 1.0}


def test_what_the_axes_mean_for_a_person():
    up, left, forward = np.array([0, 1, 0]), np.array([1, 0, 0]), np.array([0, 0, 1])
    # Standing before the camera and facing it: head at the top of the image, left hand on its right, nose towards us.
    np.testing.assert_array_equal(REST_TO_CAMERA @ up, [0, -1, 0])
    np.testing.assert_array_equal(REST_TO_CAMERA @ left, [1, 0, 0])
    np.testing.assert_array_equal(REST_TO_CAMERA @ forward, [0, 0, -1])
    # In the world: up is z, and front view looks along +y at someone who faces -y.
    np.testing.assert_array_equal(REST_TO_WORLD @ up, [0, 0, 1])
    np.testing.assert_array_equal(REST_TO_WORLD @ left, [1, 0, 0])
    np.testing.assert_array_equal(REST_TO_WORLD @ forward, [0, -1, 0])


def test_what_the_axes_mean_for_the_camera():
    right, down, away = np.eye(3)
    np.testing.assert_array_equal(CAMERA_TO_WORLD @ right, [1, 0, 0])
    np.testing.assert_array_equal(CAMERA_TO_WORLD @ down, [0, 0, -1])
    np.testing.assert_array_equal(CAMERA_TO_WORLD @ away, [0, 1, 0])
