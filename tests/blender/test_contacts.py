# SPDX-License-Identifier: GPL-3.0-or-later
from dataclasses import replace

import numpy as np
import pytest
from fullbody_mocap.contract.frames import axis_angle_to_matrix
from fullbody_mocap.contract.skeleton import JOINT_INDEX
from fullbody_mocap.retarget.solve.contacts import find_contacts, source_soles
from walking_person import SOLE, make_walk, moved

HEEL, BALL = 0, 1
LEFT_ANKLE, LEFT_FOOT = JOINT_INDEX["left_ankle"], JOINT_INDEX["left_foot"]


@pytest.fixture(scope="module")
def walk():
    return make_walk()


def eroded(mask, frames):
    for _ in range(frames):
        mask = mask & np.roll(mask, 1, 0) & np.roll(mask, -1, 0)
    return mask


def test_heels_and_balls_stand_when_they_do_at_any_rate():
    for fps in (24, 30, 60, 120):
        walk = make_walk(fps=fps)
        found, truth = find_contacts(walk.motion).standing[..., :2], walk.truth[..., :2]
        # A heel begins to rise, and a foot to roll on, so slowly that nobody could say when.
        surely, hardly = eroded(truth, round(0.07 * fps)), eroded(~truth, round(0.24 * fps))
        inside = slice(round(0.3 * fps), -round(0.3 * fps))
        assert surely[inside].any(0).all() and hardly[inside].any(0).all()
        assert found[inside][surely[inside]].all(), fps
        assert not found[inside][hardly[inside]].any(), fps


def test_points_stay_in_place_while_they_are_in_contact(walk):
    contacts, soles = find_contacts(walk.motion), source_soles(walk.motion)
    for foot in (0, 1):
        for point in (0, 1, 2):
            there = contacts.points[:, foot, point]
            steps = np.cumsum(np.diff(there.astype(int), prepend=0) == 1)
            for step in np.unique(steps[there]):
                places = soles[there & (steps == step), foot, point, :2]
                assert np.ptp(places, axis=0).max() < 0.02
    assert contacts.points.mean() > 0.45
    assert not (contacts.points & ~contacts.standing).any()


def test_captures_may_jitter_float_and_drift(walk):
    rng, count = np.random.default_rng(3), len(walk.motion.times)
    clean = find_contacts(walk.motion).standing.any(-1)
    drift = np.outer(walk.motion.times, (0.04, 0.03, 0.02)) + rng.normal(0, 0.003, (count, 3)) + (0, 0, 0.02)
    shaken = find_contacts(moved(walk.motion, drift)).standing.any(-1)
    assert (shaken == clean).mean() > 0.9


def test_levels_are_what_feet_stand_on():
    stairs = make_walk(climb=0.16)
    contacts = find_contacts(stairs.motion)
    for number in (0, 1):
        inside = eroded(stairs.truth[:, number, BALL], 3)
        levels = np.unique(np.round(contacts.level[inside, number], 2))
        # On the first step, which is the floor, then on every other one.
        wanted = 0.16 * (number + 2 * np.arange(-1, 5))
        assert all(np.abs(wanted - level).min() < 0.02 for level in levels)
        assert len(levels) >= 3


def test_a_box_is_stood_on_at_its_height_and_slight_errors_of_the_floor_are_none(walk):
    on_box = find_contacts(moved(walk.motion, (0, 0, 0.4)))
    plain = find_contacts(walk.motion)
    assert np.array_equal(on_box.standing, plain.standing)
    assert np.abs(on_box.level[plain.standing.any(-1)] - 0.4).max() < 0.02
    assert not find_contacts(moved(walk.motion, (0, 0, -0.03))).level.any()
    assert not plain.ground.any() and not on_box.ground.any()
    assert np.abs(find_contacts(moved(walk.motion, (0, 0, -2.0))).ground + 2.0).max() < 0.02


def test_whoever_flies_by_stands_nowhere(walk):
    times = walk.motion.times
    falling = np.outer(times, (0, -1.5, 0)) + np.outer(np.sin(9 * times), (0, 0, 0.15))
    upright = replace(walk.motion, joints=np.tile(walk.motion.rest_joints, (len(times), 1, 1)))
    upright.turns[...] = np.eye(3)
    assert not find_contacts(moved(upright, falling)).standing.any()
    assert find_contacts(upright).standing.all()


def test_a_heel_that_swivels_about_the_ball_is_in_contact_nowhere_while_the_ball_is():
    walk = make_walk(seconds=2.0)
    count = len(walk.motion.times)
    joints = np.tile(walk.motion.rest_joints, (count, 1, 1))
    turns = np.tile(np.eye(3), (count, 52, 1, 1))
    turn = axis_angle_to_matrix(np.linspace(0, 1.0, count)[:, None] * np.array([0, 0, 1.0]))
    pivot = joints[0, LEFT_FOOT]
    joints[:, LEFT_ANKLE] = pivot + turn @ (joints[0, LEFT_ANKLE] - pivot)
    turns[:, LEFT_ANKLE] = turns[:, LEFT_FOOT] = turn
    contacts = find_contacts(replace(walk.motion, joints=joints, turns=turns))
    assert contacts.ball[:, 0].all()
    # What contacts it is cut into are of one place each.
    places = source_soles(replace(walk.motion, joints=joints, turns=turns))[:, 0, HEEL, :2]
    together = contacts.heel[1:, 0] & contacts.heel[:-1, 0]
    cuts = np.flatnonzero(~together)
    assert len(cuts) > 5
    for first, last in zip(cuts, cuts[1:]):
        assert np.ptp(places[first + 1 : last + 1], axis=0).max() < 0.02
    assert contacts.pivot[5:-5, 0, HEEL].max() < 0.5 < contacts.pivot[5:-5, 0, BALL].min()


def test_nobody_stands_where_nobody_was_captured_or_nothing_was_seen_to_move(walk):
    valid = walk.motion.valid.copy()
    valid[20:40, 0] = False
    assert not find_contacts(replace(walk.motion, valid=valid)).standing[20:40].any()
    for count in (1, 2):
        short = replace(
            walk.motion,
            times=walk.motion.times[:count],
            turns=walk.motion.turns[:count],
            joints=walk.motion.joints[:count],
            valid=walk.motion.valid[:count],
        )
        contacts = find_contacts(short)
        assert contacts.points.shape == (count, 2, 3) and not contacts.points.any()


def test_sole_points_lie_on_the_ground_and_heel_ball_toes_in_one_line(walk):
    at_rest = replace(walk.motion, joints=walk.motion.rest_joints[None], turns=np.tile(np.eye(3), (1, 52, 1, 1)))
    heel, ball, toe = source_soles(at_rest)[0, 0]
    assert np.allclose([heel[2], ball[2], toe[2]], SOLE)
    ankle, foot = walk.motion.rest_joints[LEFT_ANKLE], walk.motion.rest_joints[LEFT_FOOT]
    assert np.allclose(ball[:2], foot[:2])
    assert heel[1] > ankle[1] > ball[1] > toe[1]
    assert abs(np.linalg.det([ball[:2] - heel[:2], toe[:2] - ball[:2]])) < 1e-12
