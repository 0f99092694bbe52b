import numpy as np
import pytest

from fullbody_core.camera import level_camera_to_world
from fullbody_core.contract.frames import REST_TO_CAMERA, axis_angle_to_matrix
from fullbody_core.contract.skeleton import JOINT_INDEX
from fullbody_core.ground import camera_to_world, upright
from fullbody_core.ik.rest_skeleton import RestSkeleton
from fullbody_core.refine.contacts import sole_points
from fullbody_core.refine.floor import CAMERA_UP, STEP_DOWN, find_floor, find_vertical, lower_grounds, stand_levels


def degrees_between(a, b):
    return np.degrees(np.arccos(np.clip(a @ b, -1, 1)))


@pytest.mark.parametrize("pitch", [0.0, 0.3, -0.5])
def test_a_camera_without_roll_stands_as_a_level_one_that_looks_down(pitch):
    up = axis_angle_to_matrix([pitch, 0, 0]) @ CAMERA_UP
    wanted = level_camera_to_world([0.3, 0.2, 4], 1.3, pitch)
    assert np.allclose(camera_to_world(up, -1.3, [0.3, 0.2, 4]), wanted)


def test_any_camera_puts_up_at_z_the_floor_at_zero_and_the_person_over_the_origin():
    rng = np.random.default_rng(0)
    for up in [*rng.normal(size=(20, 3)), np.array([0.0, 0, 1]), np.array([0.0, 0, -1])]:
        up = up / np.linalg.norm(up)
        floor, under = rng.normal(), rng.normal(size=3)
        pose = camera_to_world(up, floor, under)
        assert np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3)) and np.linalg.det(pose[:3, :3]) > 0
        assert np.allclose(pose[:3, :3] @ up, [0, 0, 1])
        on_floor = under + (floor - under @ up) * up
        assert np.allclose(pose @ [*on_floor, 1], [0, 0, 0, 1])


@pytest.fixture(scope="module")
def walker(body):
    """joints [T, 52, 3], soles and contacts of somebody who stands in a few places all over a floor, before a level camera."""
    skeleton = RestSkeleton.of_body(body, np.zeros(16))
    rotations = np.tile(np.eye(3), (90, 52, 1, 1))
    places = np.repeat([[-1.0, 0, 4], [0.5, 0, 3], [1.2, 0, 5], [-0.5, 0, 6], [0.2, 0, 4], [0, 0, 3.5]], 15, 0)
    heading = np.repeat([0.0, 1, 2, 3, 4, 5], 15)[:, None] * [0, 1.0, 0]
    rotations[:, 0] = axis_angle_to_matrix(heading) @ REST_TO_CAMERA
    joints, orientations = skeleton.pose(rotations)
    contacts = np.ones((90, 2, 3), bool)
    contacts[::15] = False
    return joints + places[:, None], sole_points(skeleton, joints, orientations, places), contacts


def tilted(walker, turn):
    joints, soles, contacts = walker
    return joints @ turn.T, soles @ turn.T, contacts


@pytest.mark.parametrize("pitch, roll", [(0, 0), (15, 1), (-10, -2), (35, 0)])
def test_up_is_found_from_who_stands_upright_and_where(walker, pitch, roll):
    turn = axis_angle_to_matrix(np.radians([pitch, 0, roll]))
    joints, soles, contacts = tilted(walker, turn)
    found = find_vertical(joints, np.ones(len(joints), bool), soles, contacts)
    assert degrees_between(found.up, turn @ CAMERA_UP) < 1.0
    assert 0 < np.degrees(found.spread) < 3


def test_planted_feet_tell_up_of_whoever_leans_and_a_box_among_them_does_not_tilt_it(walker):
    turn = axis_angle_to_matrix(np.radians([12, 0, 1.0]))
    joints, soles, contacts = tilted(walker, turn)
    leaning = joints - joints[:, :1]
    leaning = leaning @ axis_angle_to_matrix([0.25, 0, 0]).T + joints[:, :1]
    on_box = soles.copy()
    on_box[15:30] += 0.4 * (turn @ CAMERA_UP)
    for places in (soles, on_box):
        found = find_vertical(leaning, np.ones(len(joints), bool), places, contacts)
        assert degrees_between(found.up, turn @ CAMERA_UP) < 2.0


def test_a_networks_answer_counts_by_its_spread(walker):
    joints, soles, contacts = walker
    nothing = np.zeros_like(contacts)
    unseen = np.zeros(len(joints), bool)
    hint = axis_angle_to_matrix(np.radians([20, 0, 0])) @ CAMERA_UP

    def off(spread):
        return degrees_between(find_vertical(joints, unseen, soles, nothing, hint, np.radians(spread)).up, hint)

    assert off(0.5) < 0.2 < 2 < off(10) < off(60)
    alone = find_vertical(joints, unseen, soles, nothing).up
    assert np.allclose(alone, find_vertical(joints, unseen, soles, nothing, hint, np.inf).up, atol=1e-3)


def test_the_floor_is_where_most_is_stood_and_what_is_farther_keeps_its_level(walker):
    _, soles, contacts = walker
    floor = (soles @ CAMERA_UP).min()
    assert abs(find_floor(soles, contacts, CAMERA_UP) - floor) < 1e-3
    raised = soles.copy()
    raised[15:30] += 0.3 * CAMERA_UP
    raised[30:45] += 0.03 * CAMERA_UP
    assert abs(find_floor(raised, contacts, CAMERA_UP) - floor) < 0.02
    levels = stand_levels(raised, contacts, CAMERA_UP, floor)
    assert np.allclose(levels[16:30], 0.3, atol=0.005) and not levels[30:].any() and not levels[15].any()
    # A little lower is no lower: that is how far off the person was taken to be.
    assert not stand_levels(soles - 0.15 * CAMERA_UP, contacts, CAMERA_UP, floor).any()
    # Who never stands has a floor under the lowest of the ways that the feet go.
    assert abs(find_floor(soles, np.zeros_like(contacts), CAMERA_UP) - floor) < 1e-3


def test_who_is_really_lower_for_a_while_is_not_held_up_on_the_floor(walker):
    _, soles, contacts = walker
    times, floor = np.arange(90) / 30, (soles @ CAMERA_UP).min()
    assert not lower_grounds(soles, times, CAMERA_UP, floor).any()
    sunk, below = soles - 0.15 * CAMERA_UP, soles.copy()
    below[45:] -= 2.0 * CAMERA_UP
    assert not lower_grounds(sunk, times, CAMERA_UP, floor).any()
    ground = lower_grounds(below, times, CAMERA_UP, floor)
    assert np.abs(ground[60:] + 2).max() < 0.02 and not ground[:15].any()
    # Nor pushed about on the way there.
    assert (ground <= np.minimum((below @ CAMERA_UP - floor).min((1, 2)), 0) + STEP_DOWN[0]).all()
    assert not lower_grounds(soles[:2], times[:2], CAMERA_UP, floor).any()


def test_upright_is_who_has_straight_legs_in_line_with_the_trunk(body):
    rotations = np.tile(np.eye(3), (4, 52, 1, 1))
    rotations[1, JOINT_INDEX["left_knee"]] = axis_angle_to_matrix([1.2, 0, 0])
    rotations[2, [JOINT_INDEX["left_hip"], JOINT_INDEX["right_hip"]]] = axis_angle_to_matrix([-1.2, 0, 0])
    rotations[3, 0] = axis_angle_to_matrix([1.5, 0, 0])
    joints, _ = RestSkeleton.of_body(body, np.zeros(16)).pose(rotations)
    assert upright(joints).tolist() == [True, False, False, True]
