"""How the camera turns: known turns found, a camera that stands told from one that does not, and what cannot be told said."""

import cv2
import numpy as np
import pytest
from synthetic_scenery import MATRIX, SIZE, scenery, view

from fullbody_core.camera import project, rays
from fullbody_core.contract.frames import axis_angle_to_matrix, matrix_to_axis_angle
from fullbody_core.contract.skeleton import BLAZEPOSE_33
from fullbody_core.detect.keypoints import Keypoints
from fullbody_core.tracking.camera_motion import (
    UNSEEN,
    CameraMotionEstimator,
    Pair,
    averaged,
    find_walk,
    fit_rotations,
    is_static,
    is_zooming,
)
from fullbody_core.tracking.silhouette import background_mask

PLACE = scenery(1)


def swings(frames, degrees):
    """Turns [frames, 3, 3] of a camera held by hand, from none to about so many degrees and back."""
    phase = np.linspace(0, np.pi, frames)[:, None]
    return axis_angle_to_matrix(np.radians(degrees) * np.sin(phase * [1, 1, 2]) * [0.4, 1.0, 0.1])


def off_by(turns, truth):
    """Degrees [...] between rotations."""
    return np.degrees(np.linalg.norm(matrix_to_axis_angle(np.swapaxes(turns, -1, -2) @ truth), axis=-1))


def motion_of(pictures, boxes=(), cuts=()):
    estimator = CameraMotionEstimator()
    for index, picture in enumerate(pictures):
        estimator.look(picture, boxes, index in cuts)
    return estimator.solve(MATRIX)


def test_known_turns_are_found_behind_somebody_who_walks_by():
    """The one who walks by covers a third of the picture, and has more corners than what is behind."""
    truth = swings(12, 12)
    estimator, passer_by = CameraMotionEstimator(), scenery(5, (100, 180))
    for index, turn in enumerate(truth):
        picture = view(PLACE, turn, seed=index)
        left = 5 + 16 * index
        picture[:, left : left + 100] = passer_by
        estimator.look(picture, np.array([[left, 0, left + 100, 180]]))
    motion = estimator.solve(MATRIX)
    assert motion.kinds == ("turning",) and motion.notes == ()
    assert off_by(motion.turns, truth).max() < 0.1
    np.testing.assert_array_equal(motion.turns[0], np.eye(3))


def test_a_camera_that_stands_does_not_turn_at_all():
    """Noise, and many other things that move, make no difference: the identity to the last bit."""
    crowd = scenery(7, (110, 180))

    def picture(index):
        still = view(PLACE, np.eye(3), noise=3, seed=index)
        still[:, 20 + 8 * index : 130 + 8 * index] = crowd
        return still

    motion = motion_of([picture(index) for index in range(8)])
    assert motion.kinds == ("static",) and motion.notes == ()
    np.testing.assert_array_equal(motion.turns, np.tile(np.eye(3), (8, 1, 1)))


def test_a_wide_pan_goes_over_key_frames_and_comes_back_to_where_it_was():
    place = scenery(3, (1100, 300))
    truth = swings(18, 40)
    motion = motion_of([view(place, turn, seed=index) for index, turn in enumerate(truth)])
    assert motion.kinds == ("turning",)
    assert off_by(motion.turns, truth).max() < 0.2 and off_by(motion.turns[-1], np.eye(3)) < 0.05


def test_pictures_that_show_nothing_are_bridged_evenly():
    truth = swings(12, 8)
    pictures = [view(PLACE, turn, seed=index) for index, turn in enumerate(truth)]
    pictures[5] = np.zeros_like(pictures[5])
    turns = motion_of(pictures).turns
    assert off_by(turns[[4, 6, 7]], truth[[4, 6, 7]]).max() < 0.1
    assert (
        off_by(turns[4], turns[5]) == pytest.approx(off_by(turns[5], turns[6]), rel=1e-3)
        and off_by(turns[4], turns[5]) > 0.1
    )


def test_another_shot_starts_anew():
    truth = swings(8, 6)
    pictures = [view(PLACE, turn, seed=index) for index, turn in enumerate(truth)]
    other = view(scenery(2), np.eye(3))
    motion = motion_of(pictures + [other] * 5, cuts=(8,))
    assert motion.kinds == ("turning", "static")
    assert off_by(motion.turns[:8], truth).max() < 0.1
    np.testing.assert_array_equal(motion.turns[8:], np.tile(np.eye(3), (5, 1, 1)))


@pytest.mark.parametrize("frames, kinds", [(0, ()), (1, ("static",)), (2, ("static",))])
def test_the_shortest_clips(frames, kinds):
    motion = motion_of([view(PLACE, np.eye(3))] * frames)
    assert motion.kinds == kinds and motion.notes == () and motion.turns.shape == (frames, 3, 3)


@pytest.mark.parametrize("how", ["a plain wall", "somebody before all of it"])
def test_it_is_said_where_no_background_is_seen(how):
    wall = np.full((SIZE[1], SIZE[0], 3), 120, np.uint8)
    pictures = [wall if how == "a plain wall" else view(PLACE, turn) for turn in swings(4, 6)]
    boxes = () if how == "a plain wall" else np.array([[5.0, 5, 315, 175]])
    motion = motion_of(pictures, boxes)
    assert motion.kinds == ("static",) and motion.notes == (UNSEEN.format(when=""),)
    np.testing.assert_array_equal(motion.turns, np.tile(np.eye(3), (4, 1, 1)))


def seen_from(points, truth, way, zoom, strays=0, seed=0):
    """`Pair`s of T pictures of points [N, 3] m with the first one, by a camera turned by truth [T, 3, 3] that is at way [T, 3] m.

    zoom [T]: the focal length in those of the first picture; strays: how many points go their own ways.
    """
    rng = np.random.default_rng(seed)
    start = project(points, MATRIX)
    pairs, astray = [], rng.normal(0, 0.6, (strays, 2))
    for frame in range(1, len(truth)):
        lens = np.diag([zoom[frame], zoom[frame], 1]) @ (MATRIX - [[0, 0, 160], [0, 0, 90], [0, 0, 0]])
        places = project((points - way[frame]) @ truth[frame].T, lens + [[0, 0, 160], [0, 0, 90], [0, 0, 0]])
        places[:strays] += frame * astray
        places += rng.normal(0, 0.05, places.shape)
        pairs.append(Pair(frame, 0, np.arange(len(points)), np.ones(len(points), bool), start, places, MATRIX))
    return pairs


@pytest.mark.parametrize(
    "speed, zoom_speed, strays, kind, accuracy",
    [
        ([0, 0, 0], 0, 0, "turning", 0.02),
        ([0, 0, 0], 0, 45, "turning", 0.05),
        ([0.07, 0, 0], 0, 0, "walking", 0.1),
        ([0, 0.01, 0.1], 0, 10, "walking", 0.1),
        ([0, 0, 0], 0.03, 0, "zooming", 0.05),
    ],
    ids=["turns", "turns among passers-by", "walks sideways", "walks ahead", "zooms"],
)
def test_a_walk_a_zoom_and_passers_by_are_told_apart(speed, zoom_speed, strays, kind, accuracy):
    rng, frames = np.random.default_rng(0), 12
    depth = rng.uniform(3, 15, (100, 1))
    points = depth * rays(rng.uniform([20, 20], [300, 160], (100, 2)), MATRIX)
    truth, count = swings(frames, 5), np.arange(frames)
    pairs = seen_from(points, truth, count[:, None] * np.array(speed), 1 + zoom_speed * count, strays)
    rotations, scales = fit_rotations(pairs)
    walk = find_walk(pairs, rotations, scales)
    assert not is_static(pairs, rotations, scales)
    assert (walk is not None) == (kind == "walking")
    assert is_zooming(scales) == (kind == "zooming") or kind == "walking"
    found = rotations if walk is None else walk
    assert off_by(np.array(found), truth[1:]).max() < accuracy


def test_a_circle_of_rotations_is_closed():
    rng = np.random.default_rng(0)
    truth = axis_angle_to_matrix(np.linspace(0, 6, 8)[:, None] * [0, 1.0, 0.02])
    relations = [(i, (i + 1) % 8, truth[(i + 1) % 8] @ truth[i].T) for i in range(8)]
    amiss = axis_angle_to_matrix(0.02 * rng.normal(size=(8, 3)))
    amiss[0] = np.eye(3)
    closed = averaged(amiss @ truth, relations)
    assert off_by(amiss @ truth, truth).max() > 1 and off_by(closed, truth).max() < 1e-4


def test_people_are_no_background():
    person = Keypoints.nobody(BLAZEPOSE_33)
    person.body2d = np.random.default_rng(0).uniform([100, 40], [180, 160], (33, 2))
    person.body_confidence = np.ones(33)
    mask = background_mask((90, 160), 0.5, [[500, 20, 620, 170]], [person])
    x, y = (person.body2d / 2).astype(int).T
    assert (mask[y, x] == 0).all() and mask[88, 2] == 255
    assert (background_mask((90, 160), 0.5) == 255).all()
    assert (background_mask((90, 160), 0.5, [[10, 10, 10, 10]], [Keypoints.nobody(BLAZEPOSE_33)]) == 255).all()


def test_people_partly_outside_of_the_picture_are_drawn_too():
    person = Keypoints.nobody(BLAZEPOSE_33)
    person.body2d = np.full((33, 2), 150.0)
    person.body2d[[BLAZEPOSE_33.index("left_knee"), BLAZEPOSE_33.index("left_ankle")]] = [[1e7, 1e7], [np.nan, 4]]
    person.body_confidence = np.ones(33)
    assert (background_mask((180, 320), 1.0, [], [person]) == 0).any()


def test_turned_back_all_pictures_lie_on_each_other():
    """What the turns are for: in the first camera's axes the scene stands still."""
    truth = swings(10, 5)
    pictures = [view(PLACE, turn, noise=0) for turn in truth]
    turns = motion_of(pictures).turns
    back = [
        cv2.warpPerspective(picture, MATRIX @ turn.T @ np.linalg.inv(MATRIX), SIZE).astype(float)
        for picture, turn in zip(pictures, turns)
    ]
    middle = np.s_[40:140, 80:240]
    blur = np.abs(back[5][middle] - pictures[0][middle]).mean()
    assert blur < 0.2 * np.abs(pictures[5][middle].astype(float) - pictures[0][middle]).mean()
