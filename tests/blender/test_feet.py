# SPDX-License-Identifier: GPL-3.0-or-later
import itertools
import time
from dataclasses import replace

import numpy as np
import pytest
from fullbody_mocap.contract.block_banded import LeastSquares
from fullbody_mocap.contract.contacts import sole_points
from fullbody_mocap.contract.skeleton import JOINT_INDEX, SIDES
from fullbody_mocap.contract.swing_twist import about, unit
from fullbody_mocap.contract.two_bone_ik import make_legs
from fullbody_mocap.retarget.solve.contacts import find_contacts
from fullbody_mocap.retarget.solve.feet import plant_feet
from fullbody_mocap.retarget.solve.rest_match import hip_ratio
from fullbody_mocap.retarget.solve.solver import RetargetSettings, solve
from walking_person import make_character, make_walk, moved

LIMBS = [(f"{side}_{upper}", f"{side}_{lower}") for side in SIDES for upper, lower in (("hip", "knee"), ("knee", "ankle"))]
PROPORTIONS = [
    dict(),
    dict(legs=0.8),
    dict(legs=1.3),
    dict(thigh=0.8),
    dict(thigh=1.25),
    dict(hips=1.4),
    dict(ankle=1.5),
    dict(foot=1.3),
    dict(legs=1.2, thigh=1.2, hips=1.3, ankle=1.3, foot=1.2),
    dict(toes=0, legs=0.9),
    dict(toes=5),
    dict(scale=0.01),
]
UNPLANTED = RetargetSettings(plant_feet=False)


@pytest.fixture(scope="module")
def walk():
    return make_walk()


@pytest.fixture(scope="module")
def capture(walk):
    """The walk as a video's capture has it: it drifts, sways and trembles."""
    times = walk.motion.times
    sway = 0.03 * np.stack([np.sin(2.1 * times), np.sin(1.7 * times + 1), 0.5 * np.sin(2.9 * times)], -1)
    tremble = np.random.default_rng(2).normal(0, 0.001, (len(times), 3))
    return moved(walk.motion, sway + np.outer(times, (0.03, 0, 0)) + tremble)


def soles_of(world, controls):
    """Sole points [T, 2, 3, 3] m of a posed character, rigid with its feet's and toes' bones."""
    points = np.empty((len(world.heads), 2, 3, 3))
    for number, side in enumerate(SIDES):
        ankle, toes = controls.first(f"{side}_ankle"), controls.of_role(f"{side}_foot")
        ends = controls.heads[toes] if toes else controls.tails[[ankle]]
        ball = controls.heads[ankle] + (1.0 if toes else 0.7) * (ends.mean(0) - controls.heads[ankle])
        for k, (point, bone) in enumerate(
            zip(sole_points(controls.heads[ankle], ball, controls.sole), [ankle, ankle, *toes])
        ):
            own = controls.axes[bone].T @ (point - controls.heads[bone])
            points[:, number, k] = world.heads[:, bone] + world.axes[:, bone] @ own
        if not toes:
            toe = sole_points(controls.heads[ankle], ball, controls.sole)[2] - controls.heads[ankle]
            points[:, number, 2] = world.heads[:, ankle] + world.axes[:, ankle] @ controls.axes[ankle].T @ toe
    return points


def slides(points, standing):
    """How far from its mean place each point of each contact gets [contacts] m, a frame off either end left out."""
    found = []
    for foot, point in np.ndindex(points.shape[1:3]):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], standing[:, foot, point].astype(int), [0]])))
        for first, end in zip(edges[::2] + 1, edges[1::2] - 1):
            if end - first > 1:
                places = points[first:end, foot, point, :2]
                found.append(np.linalg.norm(places - places.mean(0), axis=-1).max())
    return np.array(found)


def direction_errors(world, controls, motion):
    """Degrees [T, 4] between the legs' directions and the source's."""
    errors = []
    for upper, lower in LIMBS:
        own = unit(world.heads[:, controls.first(lower)] - world.heads[:, controls.first(upper)])
        source = unit(motion.joints[:, JOINT_INDEX[lower]] - motion.joints[:, JOINT_INDEX[upper]])
        errors.append(np.degrees(2 * np.arcsin(np.linalg.norm(own - source, axis=-1) / 2)))
    return np.stack(errors, -1)


def knee_accelerations(hips, knees, ankles, step):
    thighs, shins = unit(knees - hips), unit(ankles - knees)
    return np.abs(np.diff(np.arccos(np.clip(np.sum(thighs * shins, -1), -1, 1)), 2, axis=0)) / step**2


def leg_joints(world, controls):
    return [
        np.stack([world.heads[:, controls.first(f"{side}_{part}")] for side in SIDES], 1)
        for part in ("hip", "knee", "ankle")
    ]


def source_joints(motion):
    return [motion.joints[:, [JOINT_INDEX[f"{side}_{part}"] for side in SIDES]] for part in ("hip", "knee", "ankle")]


def ratios(own, source, scale=1.0):
    """Of maxima and of 99th percentiles."""
    return own.max() / source.max() / scale, np.percentile(own, 99) / np.percentile(source, 99) / scale


@pytest.mark.parametrize("source", ["walk", "capture"])
def test_figures(source, walk, capture):
    """Sliding, depth, directions and accelerations, on characters of all sorts of proportions."""
    motion = walk.motion if source == "walk" else capture
    contacts, step, theirs = find_contacts(motion), motion.times[1], source_joints(motion)
    for options in PROPORTIONS:
        controls, scale = make_character(**options), options.get("scale", 1.0)
        world = solve(motion, controls)
        points = soles_of(world, controls)
        assert slides(points, contacts.points).max() < 0.01 * scale, options
        assert points[..., 2].min() > controls.sole - 0.01 * scale, options
        errors = direction_errors(world, controls, motion)
        assert errors.mean() < 1 and errors.max() < 3, options
        own = leg_joints(world, controls)
        assert max(ratios(knee_accelerations(*own, step), knee_accelerations(*theirs, step))) < 1.2, options
        hips = [np.linalg.norm(np.diff(joints[0].mean(1), 2, axis=0), axis=-1) for joints in (own, theirs)]
        assert max(ratios(*hips, hip_ratio(controls, motion))) < 1.2, options


def test_without_planting_feet_would_slide_and_sink(capture):
    """What the figures above would be: they are not met by themselves."""
    controls, contacts = make_character(foot=1.3), find_contacts(capture)
    points = soles_of(solve(capture, controls, UNPLANTED), controls)
    assert np.median(slides(points, contacts.points)) > 0.01
    assert points[..., 2].min() < controls.sole - 0.015


def test_a_source_that_stands_well_is_left_as_it_is(walk):
    controls = make_character()
    plain, planted = solve(walk.motion, controls, UNPLANTED), solve(walk.motion, controls)
    assert np.linalg.norm(planted.heads - plain.heads, axis=-1).max() < 0.02
    assert direction_errors(planted, controls, walk.motion).mean() < 0.2


def test_feet_keep_their_turns_but_for_a_little_heading(capture):
    controls = make_character(hips=1.4)
    plain, planted = solve(capture, controls, UNPLANTED), solve(capture, controls)
    for side in SIDES:
        for role in ("ankle", "foot"):
            bone = controls.first(f"{side}_{role}")
            turn = planted.axes[:, bone] @ plain.axes[:, bone].swapaxes(-1, -2)
            assert np.abs(turn[:, 2] - (0, 0, 1)).max() < 1e-9
            assert np.abs(np.degrees(np.arctan2(turn[:, 1, 0], turn[:, 0, 0]))).max() < 2.5
    others = [
        bone for bone, role in enumerate(controls.roles) if role.partition("_")[2] not in ("hip", "knee", "ankle", "foot")
    ]
    assert np.array_equal(planted.axes[:, others], plain.axes[:, others])


def test_bones_of_one_limb_turn_alike_and_stay_joined(capture):
    controls = make_character(legs=0.8, foot=1.3, twist=True, toes=3)
    plain, planted = solve(capture, controls, UNPLANTED), solve(capture, controls)
    for side in SIDES:
        for roles in (("hip", "hip_twist"), ("foot",)):
            bones = [bone for role in roles for bone in controls.of_role(f"{side}_{role}")]
            assert len(bones) > 1
            turns = planted.axes[:, bones] @ plain.axes[:, bones].swapaxes(-1, -2)
            assert np.abs(turns - turns[:, :1]).max() < 1e-9
    lengths = [
        np.linalg.norm(world.heads[:, 1:] - world.heads[:, controls.location_parents[1:]], axis=-1)
        for world in (plain, planted)
    ]
    assert np.abs(lengths[1] - lengths[0]).max() < 1e-9


def test_steps_of_stairs_are_stood_on_at_their_own_height():
    down = make_walk(climb=-0.15).motion
    for stairs, options in itertools.product(
        (make_walk(climb=0.15).motion, moved(down, (0, 0, 1.2)), down), (dict(legs=0.8), dict(legs=1.3, hips=1.4))
    ):
        controls = make_character(**options)
        contacts, ratio = find_contacts(stairs), hip_ratio(controls, stairs)
        points = soles_of(solve(stairs, controls), controls)
        assert slides(points, contacts.points).max() < 0.01
        firm = contacts.standing.any(-1)
        firm[1:-1] &= firm[2:] & firm[:-2]
        off = points[..., 2].min(-1) - controls.sole - ratio * contacts.level
        assert off[firm].min() > -0.01 and np.percentile(np.abs(off[firm]), 90) < 0.015


def test_the_whole_turned_is_the_turned_whole(capture):
    controls = make_character(legs=1.1)
    turn = about(np.array([0, 0, 1.0]), 1.1)
    ratio, contacts = hip_ratio(controls, capture), find_contacts(capture)
    plain = solve(capture, controls, UNPLANTED)
    turned = replace(plain, axes=turn @ plain.axes, heads=plain.heads @ turn.T)
    planted = plant_feet(plain, controls, capture, contacts, ratio)
    other = plant_feet(turned, controls, capture.turned(turn), find_contacts(capture.turned(turn)), ratio)
    assert np.abs(planted.heads @ turn.T - other.heads).max() < 1e-3
    assert np.abs(turn @ planted.axes - other.axes).max() < 5e-3


def test_whoever_flies_keeps_every_direction(walk):
    flying = moved(walk.motion, (0, 0, 5.0) + np.outer(walk.motion.times, (3.0, 0, 0)))
    assert not find_contacts(flying).standing.any()
    controls = make_character(legs=0.8, thigh=1.2)
    plain, planted = solve(flying, controls, UNPLANTED), solve(flying, controls)
    assert np.abs(planted.heads - plain.heads).max() < 1e-9
    assert direction_errors(planted, controls, flying).max() < 1e-4


def test_soles_that_stand_nowhere_do_not_sink_either(walk):
    sunk = moved(walk.motion, (0, 0, -0.04) + np.outer(walk.motion.times, (3.0, 0, 0)))
    assert not find_contacts(sunk).standing.any()
    controls = make_character(foot=1.3)
    assert soles_of(solve(sunk, controls, UNPLANTED), controls)[..., 2].min() < controls.sole - 0.04
    assert soles_of(solve(sunk, controls), controls)[..., 2].min() > controls.sole - 0.01


def test_short_motions(walk):
    motion = walk.motion
    for count in (1, 2, 3, 4):
        cut = {name: getattr(motion, name)[:count] for name in ("times", "turns", "joints", "valid", "expression")}
        world = solve(replace(motion, **cut), make_character(legs=0.8))
        assert world.heads.shape[0] == count and np.isfinite(world.heads).all() and np.isfinite(world.axes).all()


def test_a_thousand_frames_take_a_moment():
    motion = make_walk(seconds=1000 / 30).motion
    controls = make_character(legs=0.9)
    plain, ratio = solve(motion, controls, UNPLANTED), hip_ratio(controls, motion)
    spent = []
    for _ in range(3):
        start = time.process_time()
        plant_feet(plain, controls, motion, find_contacts(motion), ratio)
        spent.append(time.process_time() - start)
    assert len(motion.times) == 1000
    # 0.07 s of one processor that has nothing else to do.
    assert min(spent) < 0.3


def test_legs_turn_as_their_ankles_move():
    rng = np.random.default_rng(4)
    hips, left = np.zeros((5, 2, 3)), np.broadcast_to([1.0, 0, 0], (5, 2, 3))
    knees = hips + (0, -0.1, -0.4) + rng.normal(0, 0.05, (5, 2, 3))
    ankles = knees + (0, 0.05, -0.4) + rng.normal(0, 0.05, (5, 2, 3))
    knees[0], ankles[0] = (0, 0, -0.4), (0, 0, -0.8)
    legs, angles = make_legs(hips, knees, ankles, left), rng.normal(0, 0.2, (5, 2, 3))
    reach, moves = legs.reach(angles)
    for angle in range(3):
        nudge = np.zeros(3)
        nudge[angle] = 1e-6
        change = (legs.reach(angles + nudge)[0] - legs.reach(angles - nudge)[0]) / 2e-6
        assert np.abs(change - moves[..., angle]).max() < 1e-8
    turned = [(turns @ bones[..., None])[..., 0] for turns, bones in zip(legs.turns(angles), (legs.thighs, legs.shins))]
    assert np.allclose(turned[0] + turned[1], reach)
    # A straight leg's knee bends backwards when its shin turns.
    assert legs.reach(np.array([0, 0.1, 0.0]))[0][0, 0, 1] > 0.03


def test_least_squares_in_bands_are_those_of_the_whole_matrix():
    for count in (3, 4, 7, 12):
        bands, matrix, rest = some_least_squares(count)
        assert np.abs(bands.solve().ravel() - np.linalg.lstsq(matrix, -rest, rcond=None)[0]).max() < 1e-9


def some_least_squares(count, size=5):
    """Random `LeastSquares`, and the same terms plainly: matrix @ values + rest."""
    rng = np.random.default_rng(count)
    values, steps, changes = (
        rng.uniform(0.1, 1, (count, size)),
        rng.uniform(0, 1, (count - 1, 2)),
        rng.uniform(0, 1, (count - 2, size)),
    )
    rows, wanted, moved_on = rng.normal(size=(count, 2, size)), rng.normal(size=(count, 2)), rng.normal(size=(count - 1, 2))
    bands = LeastSquares(count, size)
    bands.add_values(values, 0.5)
    bands.add_rows(rows, np.ones((count, 2)), wanted)
    bands.add_steps(rows, steps, moved_on)
    bands.add_changes(changes)

    def terms(x):
        x = x.reshape(count, size)
        seen = np.einsum("tkn,tn->tk", rows, x)
        return np.concatenate(
            [
                (np.sqrt(values) * (x - 0.5)).ravel(),
                (seen - wanted).ravel(),
                (np.sqrt(steps) * (np.diff(seen, axis=0) - moved_on)).ravel(),
                (np.sqrt(changes) * np.diff(x, 2, axis=0)).ravel(),
            ]
        )

    rest = terms(np.zeros(count * size))
    matrix = np.stack([terms(column) - rest for column in np.eye(count * size)], -1)
    return bands, matrix, rest
