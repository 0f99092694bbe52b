"""Rotations built from directions: each does what its name says and no more."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fullbody_core.contract.easing import smoothstep
from fullbody_core.contract.frames import axis_angle_to_matrix, matrix_to_axis_angle
from fullbody_core.contract.swing_twist import (
    about,
    axes_rotation,
    blend_directions,
    fraction_of,
    limit_angle,
    nearest_rotation,
    perpendicular,
    reject,
    rotate,
    shortest_arc,
    transpose,
    twist_angle,
    unit,
)

part = st.floats(-1, 1)
LEFT = np.array([1.0, 0, 0])


@st.composite
def directions(draw):
    """A unit vector, an axis or its opposite now and then."""
    axes = st.sampled_from([(1, 0, 0), (0, -1, 0), (0, 0, 1)])
    vector = np.array(draw(st.one_of(st.tuples(part, part, part), axes)), float)
    length = np.linalg.norm(vector)
    assume(length > 1e-2)
    return vector / length


rotations = st.tuples(directions(), st.floats(0, np.pi)).map(lambda drawn: axis_angle_to_matrix(drawn[0] * drawn[1]))
fractions = st.floats(0, 1)


def angle_of(rotation):
    return np.linalg.norm(matrix_to_axis_angle(rotation), axis=-1)


def angle_between(a, b):
    """Exact for small angles too, unlike the arc cosine."""
    return np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), np.sum(a * b, -1))


def assert_rotation(matrix, tolerance=1e-12):
    assert np.abs(matrix @ transpose(matrix) - np.eye(3)).max() < tolerance
    assert np.abs(np.linalg.det(matrix) - 1).max() < tolerance


# shortest_arc


@given(directions(), directions(), st.floats(1e-3, 1e3))
def test_shortest_arc_arrives_and_is_shortest(source, target, length):
    turn = shortest_arc(source * length, target / length)
    assert_rotation(turn)
    # No rotation that takes source to target turns by less than the angle between them. Close to half a turn the sum of the
    # two loses digits.
    near_opposite = source @ target < -1 + 1e-6
    np.testing.assert_allclose(turn @ source, target, atol=1e-4 if near_opposite else 1e-12)
    assert abs(angle_of(turn) - angle_between(source, target)) < (1e-4 if near_opposite else 1e-9)


@given(directions())
def test_shortest_arc_to_itself_is_no_turn(direction):
    np.testing.assert_allclose(shortest_arc(direction, direction), np.eye(3), atol=1e-14)


@given(directions())
def test_shortest_arc_to_the_opposite_is_half_a_turn(direction):
    turn = shortest_arc(direction, -direction)
    assert_rotation(turn)
    np.testing.assert_allclose(turn @ direction, -direction, atol=1e-12)
    assert angle_of(turn) == pytest.approx(np.pi, abs=1e-6)


@given(directions(), directions(), st.floats(-9, -1))
def test_shortest_arc_near_the_opposite_still_arrives(direction, towards, exponent):
    side = unit(np.cross(direction, towards))
    assume(np.linalg.norm(side) > 0.5)
    target = unit(-direction + 10**exponent * side)
    turn = shortest_arc(direction, target)
    assert_rotation(turn)
    # Within 1e-9 of the opposite's cosine, which is 4.5e-5 rad, half a turn about some axis stands in.
    stands_in = direction @ target < -1 + 1.1e-9
    assert angle_between(turn @ direction, target) < (1e-4 if stands_in else 1e-9)


@given(directions(), directions())
def test_shortest_arc_back_is_the_inverse(source, target):
    assume(source @ target > -1 + 1e-6)
    np.testing.assert_allclose(shortest_arc(target, source), shortest_arc(source, target).T, atol=1e-9)


def test_shortest_arc_of_a_batch_is_one_by_one():
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(6, 3)), rng.normal(size=(6, 3))
    target[0], target[1] = source[0], -source[1]
    batch = shortest_arc(source, target)
    one_to_many = shortest_arc(source[0], target)
    for i in range(6):
        np.testing.assert_allclose(batch[i], shortest_arc(source[i], target[i]), atol=1e-14)
        np.testing.assert_allclose(one_to_many[i], shortest_arc(source[0], target[i]), atol=1e-14)


# axes_rotation


@given(directions(), directions(), directions(), directions())
def test_axes_rotation_takes_primary_exactly_and_secondary_into_the_half_plane(rest_first, rest_second, first, second):
    for a, b in ((rest_first, rest_second), (first, second)):
        assume(np.linalg.norm(np.cross(a, b)) > 1e-3)
    turn = axes_rotation(rest_first, rest_second, first * 3, second * 5)
    assert_rotation(turn)
    np.testing.assert_allclose(turn @ rest_first, first, atol=1e-12)
    # What is left between the turned and the wanted secondary lies along the primary only.
    assert angle_between(reject(turn @ rest_second, first), reject(second, first)) < 1e-9


@given(directions(), directions(), rotations)
def test_axes_rotation_recovers_a_rotation(first, second, rotation):
    assume(np.linalg.norm(np.cross(first, second)) > 1e-3)
    np.testing.assert_allclose(axes_rotation(first, second, rotation @ first, rotation @ second), rotation, atol=1e-10)


@given(directions(), directions(), st.sampled_from([1, -1]))
def test_axes_rotation_of_parallel_axes_still_takes_the_primary(rest, primary, sign):
    turn = axes_rotation(rest, perpendicular(rest), primary, sign * primary)
    assert_rotation(turn)
    np.testing.assert_allclose(turn @ rest, primary, atol=1e-12)


def test_directions_of_length_zero_still_give_rotations():
    zero, some = np.zeros(3), unit([1.0, -2, 0.5])
    for vectors in ((zero, some), (some, zero), (zero, zero)):
        np.testing.assert_allclose(shortest_arc(*vectors), np.eye(3), atol=1e-12)
    for tiny in (zero, 1e-12 * some, 1e-300 * some):
        for vectors in (
            (some, LEFT, tiny, LEFT),
            (some, LEFT, tiny, tiny),
            (some, LEFT, LEFT, tiny),
            (tiny, tiny, some, LEFT),
        ):
            assert_rotation(axes_rotation(*vectors))


# Twist.


@given(directions(), directions(), st.floats(-np.pi + 1e-3, np.pi - 1e-3), st.floats(0, np.pi - 0.1))
def test_twist_angle_is_that_of_swing_after_twist(axis, swing_axis, twist, swing):
    assume(np.linalg.norm(reject(swing_axis, axis)) > 0.01)
    swing_axis = unit(reject(swing_axis, axis))
    rotation = about(swing_axis, swing) @ about(axis, twist)
    assert twist_angle(rotation, axis) == pytest.approx(twist, abs=1e-9)
    rest = rotation @ about(axis, -twist_angle(rotation, axis))
    # The swing that remains moves the axis as the rotation did and has no twist of its own.
    np.testing.assert_allclose(rest @ axis, rotation @ axis, atol=1e-9)
    assert abs(twist_angle(rest, axis)) < 1e-9


@given(directions(), rotations)
def test_twist_angle_stays_in_its_range(axis, rotation):
    angle = twist_angle(rotation, 7 * axis)
    assert -np.pi <= angle < np.pi
    # At half a turn rounding chooses between the two ends of the range.
    assert np.cos(angle - twist_angle(rotation, axis)) == pytest.approx(1, abs=1e-12)


def test_half_a_turn_of_twist_is_minus_pi():
    np.testing.assert_allclose(twist_angle(np.diag([-1.0, -1, 1]), [0, 0, 1]), -np.pi)


@given(directions(), st.floats(-20, 20))
def test_about_turns_by_the_right_hand(axis, angle):
    turn, side = about(axis * 4, angle), perpendicular(axis)
    np.testing.assert_allclose(turn @ axis, axis, atol=1e-12)
    np.testing.assert_allclose(turn @ side, np.cos(angle) * side + np.sin(angle) * np.cross(axis, side), atol=1e-12)


# Parts of a turn.


@given(rotations, fractions)
def test_fraction_of_keeps_the_axis(rotation, fraction):
    assume(angle_of(rotation) < np.pi - 1e-4)
    turn = matrix_to_axis_angle(fraction_of(rotation, fraction))
    np.testing.assert_allclose(turn, fraction * matrix_to_axis_angle(rotation), atol=1e-9)
    np.testing.assert_allclose(fraction_of(rotation, fraction) @ fraction_of(rotation, 1 - fraction), rotation, atol=1e-12)


def test_fraction_of_has_one_fraction_for_each_rotation():
    turns = axis_angle_to_matrix(np.eye(3))
    parts = fraction_of(turns, np.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(parts, axis_angle_to_matrix(np.diag([0.0, 0.5, 1.0])), atol=1e-15)


@given(rotations, st.floats(0, np.pi))
def test_limit_angle_stops_and_keeps_the_axis(rotation, largest):
    limited = limit_angle(rotation, largest)
    assert angle_of(limited) <= largest + 1e-7
    if angle_of(rotation) <= largest:
        np.testing.assert_allclose(limited, rotation, atol=1e-12)
    else:
        assert angle_of(limited) == pytest.approx(largest, abs=1e-7)
        axis = matrix_to_axis_angle(rotation)
        np.testing.assert_allclose(limited @ axis, axis, atol=1e-9)


# Directions.


@given(directions(), directions(), fractions, st.floats(1e-2, 1e2))
def test_blend_directions(seen, default, weight, length):
    blended = blend_directions(seen * length, default / length, weight)
    np.testing.assert_allclose(blend_directions(seen * length, default, 1), seen, atol=1e-12)
    np.testing.assert_allclose(blend_directions(seen, default * length, 0), default, atol=1e-12)
    assume(np.linalg.norm(weight * seen + (1 - weight) * default) > 1e-6)
    assert np.linalg.norm(blended) == pytest.approx(1)
    # Between the two: the angles to both add up to the angle they enclose.
    parts = angle_between(blended, seen) + angle_between(blended, default)
    assert parts == pytest.approx(angle_between(seen, default), abs=1e-6)


def test_blend_directions_of_opposites_is_finite():
    assert np.isfinite(blend_directions([1, 0, 0], [-1, 0, 0], 0.5)).all()
    np.testing.assert_array_equal(blend_directions(np.zeros(3), [0, 2, 0], 0.5), [0, 1, 0])


@given(st.tuples(*[st.floats(-5, 5)] * 3), directions())
def test_reject_is_the_part_at_a_right_angle(vector, direction):
    rest = reject(np.array(vector), direction)
    assert abs(rest @ direction) < 1e-12
    np.testing.assert_allclose(np.cross(vector - rest, direction), 0, atol=1e-12)


@given(directions())
def test_perpendicular(direction):
    side = perpendicular(direction)
    assert abs(side @ direction) < 1e-14 and np.linalg.norm(side) == pytest.approx(1)


def test_unit_leaves_zero_at_zero():
    np.testing.assert_array_equal(unit([[0, 0, 0], [0, -3, 0]]), [[0, 0, 0], [0, -1, 0]])


def test_rotate_and_transpose_of_a_batch():
    rng = np.random.default_rng(1)
    turns, vectors = axis_angle_to_matrix(rng.normal(size=(4, 3))), rng.normal(size=(4, 3))
    turned = rotate(turns, vectors)
    for i in range(4):
        np.testing.assert_allclose(turned[i], turns[i] @ vectors[i], atol=1e-14)
    np.testing.assert_allclose(rotate(transpose(turns), turned), vectors, atol=1e-14)


@given(st.floats(-5, 5), st.floats(-2, 2), st.floats(0.1, 3))
def test_smoothstep(value, low, width):
    high = low + width
    step = smoothstep(value, low, high)
    assert 0 <= step <= 1
    if value <= low or value >= high:
        assert step == (value >= high)
    assert smoothstep(value + 0.01, low, high) >= step
    assert smoothstep((low + high) / 2, low, high) == pytest.approx(0.5)
    # The same from both ends: what is missing to one is the step of the mirrored value.
    assert 1 - step == pytest.approx(smoothstep(low + high - value, low, high), abs=1e-9)


def test_nearest_rotation_finds_the_turn_and_never_mirrors():
    rng = np.random.default_rng(0)
    rest, turn = rng.normal(size=(6, 9, 3)), axis_angle_to_matrix(rng.normal(size=(6, 3)))
    np.testing.assert_allclose(nearest_rotation(rest, rest @ transpose(turn) + [1.0, 2, 3]), turn, atol=1e-12)
    assert_rotation(nearest_rotation(rest, rest * [-1.0, 1, 1]))
    assert_rotation(nearest_rotation(rest, np.full(rest.shape, np.nan)))


def test_limit_angle_leaves_alone_what_is_within():
    within, beyond = (axis_angle_to_matrix([[0, 0, angle]])[0] for angle in (0.5, 1.5))
    limited = limit_angle(np.stack([within, beyond]), 1.0)
    np.testing.assert_array_equal(limited[0], within)
    np.testing.assert_allclose(matrix_to_axis_angle(limited[1]), [0, 0, 1], atol=1e-12)
