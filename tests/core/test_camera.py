"""The camera: projection, the turn of a crop, depth from a bone, translation from all points, and the floor."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fullbody_core.camera import (
    _masked_median,
    _weighted_translation,
    camera_matrix,
    crop_to_camera_rotation,
    level_camera_to_world,
    parent_depth_from_bone,
    project,
    rays,
    solve_translation,
)
from fullbody_core.contract.frames import matrix_to_axis_angle

SIZE = (1280, 720)
MATRIX = camera_matrix(SIZE, 60)
UNEVEN = np.array([[900.0, 0, 610], [0, 1100, 377], [0, 0, 1]])
"""A camera whose pixels are not square and whose axis is off the middle: nothing may rely on either."""

pixels = st.tuples(st.floats(0, SIZE[0]), st.floats(0, SIZE[1])).map(np.array)
depths = st.floats(0.5, 20)


# Intrinsics and projection.


@given(st.floats(5, 170), st.integers(16, 4000), st.integers(16, 4000))
def test_the_longer_side_spans_the_field_of_view(fov, width, height):
    matrix = camera_matrix((width, height), fov)
    ends = [[0, height / 2], [width, height / 2]] if width >= height else [[width / 2, 0], [width / 2, height]]
    left, right = rays(ends, matrix)
    angle = np.degrees(np.arctan2(np.linalg.norm(np.cross(left, right)), left @ right))
    assert angle == pytest.approx(fov, rel=1e-9)
    assert matrix[0, 0] == matrix[1, 1] and np.count_nonzero(matrix) == 5
    np.testing.assert_allclose(project([0, 0, 3], matrix), [width / 2, height / 2])


@pytest.mark.parametrize("fov", [4.9, 0, -60, 170.1, 180, float("nan"), float("inf")])
def test_impossible_fields_of_view_are_refused(fov):
    with pytest.raises(ValueError, match="between 5 and 170 degrees"):
        camera_matrix(SIZE, fov)


def test_projection_by_hand():
    np.testing.assert_allclose(project([[1, 2, 4], [-1, 0, 2]], UNEVEN), [[610 + 225, 377 + 550], [610 - 450, 377]])


@given(pixels, depths)
def test_project_and_rays_are_inverse(pixel, depth):
    ray = rays(pixel, UNEVEN)
    assert ray[2] == 1
    np.testing.assert_allclose(project(ray * depth, UNEVEN), pixel, atol=1e-9)
    np.testing.assert_allclose(rays(project(ray * depth, UNEVEN), UNEVEN) * depth, ray * depth, atol=1e-9)


@pytest.mark.parametrize("depth", [0.0, -0.0, -1.0, 1e-9])
def test_points_behind_the_camera_have_no_pixel(depth):
    projected = project([[0.3, 0.1, depth], [0.3, 0.1, 1.0]], MATRIX)
    assert np.isnan(projected[0]).all() and np.isfinite(projected[1]).all()


def test_any_leading_shape_is_one_by_one():
    points = np.random.default_rng(0).uniform(1, 2, (2, 3, 4, 3))
    projected = project(points, UNEVEN)
    assert projected.shape == (2, 3, 4, 2)
    for index in np.ndindex(2, 3, 4):
        np.testing.assert_allclose(projected[index], project(points[index], UNEVEN))
        np.testing.assert_allclose(rays(projected, UNEVEN)[index], rays(projected[index], UNEVEN))


# A crop's turn.


def test_a_crop_in_the_middle_is_not_turned():
    np.testing.assert_allclose(crop_to_camera_rotation(MATRIX[:2, 2], MATRIX), np.eye(3), atol=1e-15)


@given(pixels)
def test_a_crop_looks_along_its_own_ray(pixel):
    turn = crop_to_camera_rotation(pixel, UNEVEN)
    ray = rays(pixel, UNEVEN)
    np.testing.assert_allclose(turn @ [0, 0, 1], ray / np.linalg.norm(ray), atol=1e-12)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    # No roll: the axis of the turn lies in the image plane.
    assert abs(matrix_to_axis_angle(turn)[2]) < 1e-12


def test_a_crop_on_the_right_turns_about_the_downward_axis():
    turn = matrix_to_axis_angle(crop_to_camera_rotation([SIZE[0], SIZE[1] / 2], MATRIX))
    np.testing.assert_allclose(turn, [0, np.radians(30), 0], atol=1e-12)


def test_crops_in_a_batch_are_one_by_one():
    centres = np.random.default_rng(1).uniform(0, 700, (5, 2))
    batch = crop_to_camera_rotation(centres, UNEVEN)
    for centre, turn in zip(centres, batch):
        np.testing.assert_allclose(turn, crop_to_camera_rotation(centre, UNEVEN), atol=1e-15)


# Depth from one bone: Eq. 14.


@given(pixels, depths, st.tuples(*[st.floats(-1, 1)] * 3))
def test_a_bone_of_known_length_gives_its_parents_depth(pixel, depth, bone):
    """The exact depth; or, for a bone that perspective shows the other way round, the farther place that looks the same."""
    bone = np.array(bone)
    parent = rays(pixel, UNEVEN) * depth
    child = parent + bone
    assume(child[2] > 0.3)
    parent_pixel, child_pixel = project([parent, child], UNEVEN)
    a, b = rays([parent_pixel, child_pixel], UNEVEN)
    assume(np.linalg.norm(b - a) > 0.01)
    found = parent_depth_from_bone(parent_pixel, child_pixel, bone[2], np.linalg.norm(bone), UNEVEN)
    length = np.linalg.norm((found + bone[2]) * b - found * a)
    assert length == pytest.approx(np.linalg.norm(bone), rel=1e-6), "Eq. 14 holds"
    agrees = (b - a) @ bone / np.linalg.norm(b - a) / np.linalg.norm(bone)
    if agrees > 0.01:
        assert found == pytest.approx(depth, rel=1e-6)
    else:
        assert found > depth * (1 - 1e-3)


def test_a_bone_at_a_right_angle_to_the_image_still_has_a_depth():
    """The two roots of Eq. 14 fall together, and rounding may not leave none."""
    for depth in np.linspace(1, 9, 200):
        ends = rays([0, 0], MATRIX) * depth + [[0, 0, 0], [0, 0, 1]]
        assert parent_depth_from_bone(*project(ends, MATRIX), 1.0, 1.0, MATRIX) == pytest.approx(depth, rel=1e-3)


def test_where_a_bone_says_nothing_the_depth_is_nan():
    middle, side = MATRIX[:2, 2], MATRIX[:2, 2] + [50, 0]
    # Both ends on one pixel, level and not; a bone shorter than its depth difference; a plain one.
    children, differences = np.array([middle, middle, side, side]), np.array([0.0, 0.2, 0.5, 0.0])
    with np.errstate(all="raise"):
        found = parent_depth_from_bone(np.tile(middle, (4, 1)), children, differences, np.full(4, 0.3), MATRIX)
    assert np.isnan(found[:3]).all()
    assert found[3] == pytest.approx(0.3 / (50 / MATRIX[0, 0]))


# Translation from all points.


def person(rng, frames=1, count=17):
    """Points [T, N, 3] m about a root, as wide and as deep as a person, and translations [T, 3] m that keep them in view."""
    points = rng.normal(size=(frames, count, 3)) * [0.25, 0.5, 0.2]
    return points, np.stack([rng.uniform(-1, 1, frames), rng.uniform(-0.5, 0.5, frames), rng.uniform(2.5, 8, frames)], -1)


@given(st.integers(0, 10_000), st.integers(2, 40))
@settings(deadline=None)
def test_the_true_translation_comes_back(seed, count):
    rng = np.random.default_rng(seed)
    points, translation = person(rng, 3, count)
    weights = rng.uniform(0.1, 1, (3, count))
    found = solve_translation(points, project(points + translation[:, None], UNEVEN), weights, UNEVEN)
    # Two points that nearly lie on one line of sight say little of their depth.
    np.testing.assert_allclose(found, translation, rtol=1e-4 if count < 4 else 1e-8)


@given(st.integers(0, 10_000), st.sampled_from([50, 400, 5000, 1e9]))
@settings(deadline=None)
def test_one_gross_outlier_hardly_moves_the_answer(seed, pixels_off):
    rng = np.random.default_rng(seed)
    points, translation = person(rng)
    seen = project(points + translation[:, None], MATRIX) + rng.normal(size=(1, 17, 2))
    weights = np.ones((1, 17))
    clean = solve_translation(points, seen, weights, MATRIX)
    seen[0, rng.integers(17)] += rng.choice([-1, 1], 2) * pixels_off
    assert np.linalg.norm(solve_translation(points, seen, weights, MATRIX) - clean) < 0.015 * translation[0, 2]


def test_three_of_seventeen_points_may_be_wrong():
    rng = np.random.default_rng(7)
    points, translation = person(rng, 200)
    seen = project(points + translation[:, None], MATRIX) + rng.normal(size=(200, 17, 2))
    seen[:, :3] = rng.uniform(0, 700, (200, 3, 2))
    error = (
        np.linalg.norm(solve_translation(points, seen, np.ones((200, 17)), MATRIX) - translation, axis=-1)
        / translation[:, 2]
    )
    assert np.median(error) < 0.005 and np.mean(error < 0.03) > 0.95


def test_points_without_weight_do_not_count():
    rng = np.random.default_rng(0)
    points, translation = person(rng, 4)
    seen, weights = project(points + translation[:, None], MATRIX), np.ones((4, 17))
    seen[:, 5:], weights[:, 5:] = rng.uniform(0, 700, (4, 12, 2)), 0
    np.testing.assert_allclose(solve_translation(points, seen, weights, MATRIX), translation, rtol=1e-8)


def test_too_few_points_give_nan_and_leave_the_other_frames_alone():
    points, translation = person(np.random.default_rng(1), 4)
    seen, weights = project(points + translation[:, None], MATRIX), np.ones((4, 17))
    weights[1], weights[2, 1:] = 0, 0
    found = solve_translation(points, seen, weights, MATRIX)
    assert np.isnan(found[1:3]).all()
    np.testing.assert_allclose(found[[0, 3]], translation[[0, 3]], rtol=1e-8)


def test_points_all_in_one_place_give_nan():
    found = solve_translation(np.zeros((1, 5, 3)), np.full((1, 5, 2), 300.0), np.ones((1, 5)), MATRIX)
    assert np.isnan(found).all()


def test_frames_together_are_frames_alone():
    rng = np.random.default_rng(2)
    points, translation = person(rng, 6)
    seen = project(points + translation[:, None], MATRIX) + rng.normal(size=(6, 17, 2)) * 20
    weights = rng.uniform(size=(6, 17))
    together = solve_translation(points, seen, weights, MATRIX)
    for frame in range(6):
        one = slice(frame, frame + 1)
        alone = solve_translation(points[one], seen[one], weights[one], MATRIX)
        np.testing.assert_allclose(alone, together[one], rtol=1e-9)


def test_the_scale_of_the_weights_does_not_matter():
    rng = np.random.default_rng(3)
    points, translation = person(rng, 2)
    seen = project(points + translation[:, None], MATRIX) + rng.normal(size=(2, 17, 2)) * 5
    weights = rng.uniform(0.1, 1, (2, 17))
    np.testing.assert_allclose(
        solve_translation(points, seen, weights * 1e-3, MATRIX), solve_translation(points, seen, weights, MATRIX), rtol=1e-9
    )


def test_a_larger_person_stands_further_away():
    """Size and distance go together: s times the points, seen at the same pixels, stand s times as far."""
    points, translation = person(np.random.default_rng(4), 3)
    seen = project(points + translation[:, None], MATRIX)
    np.testing.assert_allclose(solve_translation(1.7 * points, seen, np.ones((3, 17)), MATRIX), 1.7 * translation, rtol=1e-8)


# The floor.


@given(st.tuples(st.floats(-3, 3), st.floats(-2, 2), st.floats(1, 10)), st.floats(0.2, 3))
def test_the_world_has_its_floor_at_zero_and_its_origin_under_the_point(point, drop):
    pose = level_camera_to_world(np.array(point), drop)

    def world(camera_point):
        return (pose @ [*camera_point, 1])[:3]

    np.testing.assert_allclose(world(point)[:2], 0, atol=1e-12)
    np.testing.assert_allclose(world([point[0], drop, point[2]]), 0, atol=1e-12)
    assert world([5, drop, 7])[2] == pytest.approx(0, abs=1e-12), "all of the floor is at zero"
    assert world([0, 0, 0])[2] == pytest.approx(drop), "the camera stands above it"
    np.testing.assert_allclose(world([0, 0, 1]) - world([0, 0, 0]), [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(world([0, 1, 0]) - world([0, 0, 0]), [0, 0, -1], atol=1e-12)
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-15)
    np.testing.assert_array_equal(pose[3], [0, 0, 0, 1])


def test_weighted_translation_is_the_least_squares_one():
    rng = np.random.default_rng(11)
    points, weights = rng.normal(size=(4, 9, 3)), rng.uniform(0, 1, (4, 9))
    sight = np.concatenate([rng.normal(size=(4, 9, 2)), np.ones((4, 9, 1))], -1)
    found = _weighted_translation(points, sight, weights)
    for frame in range(4):
        x, y = sight[frame, :, 0], sight[frame, :, 1]
        zero, one = np.zeros(9), np.ones(9)
        rows = np.concatenate([np.stack([one, zero, -x], 1), np.stack([zero, one, -y], 1)])
        right = -np.concatenate(
            [points[frame, :, 0] - x * points[frame, :, 2], points[frame, :, 1] - y * points[frame, :, 2]]
        )
        root = np.sqrt(np.tile(weights[frame], 2))
        expected = np.linalg.lstsq(rows * root[:, None], right * root, rcond=None)[0]
        np.testing.assert_allclose(found[frame], expected, atol=1e-10)
    assert np.isnan(_weighted_translation(points[:1], sight[:1, :1].repeat(9, 1), weights[:1])).any(), (
        "one point in the picture"
    )
    assert np.isnan(_weighted_translation(points, sight, np.eye(4, 9))).any(1).all(), "one weighted point each"


def test_masked_median_is_numpy_s():
    rng = np.random.default_rng(12)
    values, mask = rng.normal(size=(6, 3, 8)), rng.random((6, 1, 8)) < 0.5
    values[1, :, 2], mask[1, :, 2], mask[4] = np.inf, True, False
    found = _masked_median(values, mask)
    for frame in range(6):
        for row in range(3):
            known = values[frame, row, mask[frame, 0] & np.isfinite(values[frame, row])]
            assert found[frame, row] == pytest.approx(np.median(known) if len(known) else 0)
