import itertools

import numpy as np
import pytest

from fullbody_core.contract.contacts import runs
from fullbody_core.contract.frames import REST_TO_CAMERA, axis_angle_to_matrix
from fullbody_core.contract.skeleton import JOINT_INDEX, SIDES
from fullbody_core.ik.rest_skeleton import RestSkeleton
from fullbody_core.motion import Motion
from fullbody_core.refine.contacts import ContactSettings, _likeliest, find_contacts, person_size, sole_points
from fullbody_core.refine.settle import settle

FPS, STRIDE, CYCLE, STANCE = 30, 0.7, 1.1, 0.62
UP = np.array([0.0, -1, 0])
FOOT = np.array([[-0.1, 0, 0], [0.1, 0, 0], [0.17, 0, 0]])
"""Heel, ball and toe of a foot that points along the way."""


def walk(seconds=4.0):
    """Soles [T, 2, 3, 3] m of somebody who walks to the camera's right, 4 m off on a floor 1.2 m below, and when they stand."""
    times = np.arange(round(seconds * FPS)) / FPS
    soles, standing = np.empty((len(times), 2, 3, 3)), np.empty((len(times), 2, 3), bool)
    for foot in (0, 1):
        steps, phase = np.divmod(times / CYCLE + 0.5 * foot, 1.0)
        swing = np.clip((phase - STANCE) / (1 - STANCE), 0, 1)
        ahead = STRIDE * (2 * steps + 2 * (swing - np.sin(2 * np.pi * swing) / (2 * np.pi)) - 4)
        place = np.stack([ahead, 1.2 - 0.15 * np.sin(np.pi * swing) ** 2, np.full(len(times), 4 + 0.2 * foot)], -1)
        soles[:, foot], standing[:, foot] = place[:, None] + FOOT, (swing == 0)[:, None]
    return times, soles, standing


@pytest.fixture(scope="module")
def captured():
    """The walk as one camera sees it: it trembles, and nobody knows quite how far off it is."""
    times, soles, standing = walk()
    rng = np.random.default_rng(1)
    away = 1 + 0.05 * np.sin(2.5 * times)[:, None, None, None] + rng.normal(0, 0.001, (len(times), 1, 1, 1))
    return times, (soles + rng.normal(0, 0.003, soles.shape)) * away, standing


def f1(found, truth):
    return 2 * (found & truth).sum() / (found.sum() + truth.sum())


def test_contacts_of_a_walk_are_found_though_its_distance_is_not_known(captured):
    times, soles, standing = captured
    assert f1(find_contacts(soles, times, UP), standing) > 0.9
    # Speeds as they are would hide them.
    believed = ContactSettings(first_share=1.0, depth_share=1.0, drift_share=1.0)
    assert f1(find_contacts(soles, times, UP, settings=believed), standing) < 0.85


def test_contacts_do_not_flicker(captured):
    times, soles, standing = captured
    shaken = soles + np.random.default_rng(2).normal(0, 0.004, soles.shape)
    for found in (find_contacts(soles, times, UP), find_contacts(shaken, times, UP)):
        assert len(runs(found.reshape(len(times), -1))[0]) <= len(runs(standing.reshape(len(times), -1))[0])


def test_what_a_network_says_decides_where_motion_does_not(captured):
    times, soles, standing = captured
    slides = soles[:1] + 0.3 * times[:, None, None, None] * [1.0, 0, 0]
    hint = np.where(standing[..., [0, 2]], 0.9, 0.1)
    assert f1(find_contacts(slides, times, UP, hint=hint), standing) > 0.95
    assert np.array_equal(
        find_contacts(soles, times, UP, hint=np.full_like(hint, 0.5, float)), find_contacts(soles, times, UP)
    )


def test_whoever_jumps_or_was_not_captured_stands_nowhere(captured):
    times, soles, _ = captured
    leap = soles[:1] + np.stack([2.0 * times, -1.5 * np.abs(np.sin(4 * times)), 0 * times], -1)[:, None, None]
    assert find_contacts(leap, times, UP).mean() < 0.1
    seen = np.ones((len(times), 2))
    seen[30:60], seen[60:90, 0] = 0, 0
    found = find_contacts(soles, times, UP, seen=seen)
    assert not found[30:60].any() and not found[60:90, 0].any() and found[60:90, 1].any()
    assert find_contacts(soles[:2], times[:2], UP).shape == (2, 2, 3)


def test_a_size_and_a_rate_change_nothing(captured):
    times, soles, _ = captured
    slower = find_contacts(soles[::2], times[::2], UP)
    assert (slower == find_contacts(soles, times, UP)[::2]).mean() > 0.9
    small = find_contacts(0.5 * soles, times, UP, size=0.5)
    assert np.array_equal(small, find_contacts(soles, times, UP))


def test_the_likeliest_sequence_is_that_of_trying_them_all():
    score = np.random.default_rng(0).normal(0, 2, (9, 4))
    tried = np.array(list(itertools.product([False, True], repeat=len(score))))
    value = tried @ score - 1.5 * (tried[:, 1:] != tried[:, :-1]).sum(1)[:, None]
    assert np.array_equal(_likeliest(score, 1.5), tried[value.argmax(0)].T)


def march(body):
    """A person who marches on the spot 4 m off, facing the camera: `Motion`, times [T] s, which soles stand [T, 2, 3]."""
    skeleton, times = RestSkeleton.of_body(body, np.zeros(16)), np.arange(120) / FPS
    rotations = np.tile(np.eye(3), (len(times), 52, 1, 1))
    rotations[:, 0] = REST_TO_CAMERA
    standing = np.empty((len(times), 2, 3), bool)
    for foot, side in enumerate(SIDES):
        lift = np.clip(np.sin(2 * np.pi * (0.8 * times + 0.5 * foot)), 0, 1)[:, None] ** 2
        standing[:, foot] = lift < 1e-6
        for joint, share in (("hip", -0.7), ("knee", 1.3), ("ankle", -0.6)):
            rotations[:, JOINT_INDEX[f"{side}_{joint}"]] = axis_angle_to_matrix(share * lift * [1.0, 0, 0])
    pelvis = np.tile(skeleton.joints[0] * [1, -1, -1] + [0, 0, 4.0], (len(times), 1))
    return Motion(skeleton, rotations, pelvis, np.ones((len(times), 4), bool)), times, standing


def soles_of(motion):
    return sole_points(motion.skeleton, *motion.skeleton.pose(motion.rotations), motion.pelvis)


def slides(soles, standing):
    """Mean speed along the floor, cm/s, of points that stand."""
    speed = np.linalg.norm(np.diff(soles[..., [0, 2]], axis=0), axis=-1) * FPS
    return 100 * speed[standing[1:] & standing[:-1]].mean()


def test_settling_leaves_no_sliding_and_no_sinking_and_no_pops(body):
    motion, times, standing = march(body)
    floor = (soles_of(motion) @ UP).min()
    sway = 0.03 * np.stack([np.sin(3 * times), 0.5 * np.sin(2 * times + 1), np.sin(2.3 * times)], -1)
    motion.pelvis += sway + np.random.default_rng(0).normal(0, 0.0005, sway.shape)
    before, settled = soles_of(motion), settle(motion, times, standing, UP, floor)
    after = soles_of(settled)
    assert slides(before, standing) > 4 and slides(after, standing) < 1
    assert floor - (before @ UP).min() > 0.01 and floor - (after @ UP).min() < 0.01
    assert np.abs((after @ UP)[standing] - floor).max() < 0.01
    joints = [one.skeleton.pose(one.rotations)[0] + one.pelvis[:, None] for one in (motion, settled)]
    pulls = [np.linalg.norm(np.diff(one, 2, axis=0), axis=-1).max() * FPS**2 for one in joints]
    assert pulls[1] < 1.3 * pulls[0]


def test_settling_changes_next_to_nothing_of_who_stands_well_already(body):
    motion, times, standing = march(body)
    settled = settle(motion, times, standing, UP, (soles_of(motion) @ UP).min())
    assert np.abs(settled.pelvis - motion.pelvis).max() < 0.01
    upper = [joint for name, joint in JOINT_INDEX.items() if not name.endswith(("hip", "knee", "ankle", "foot"))]
    assert np.abs(settled.rotations - motion.rotations)[:, upper].max() < 1e-9
    assert settle(motion, times[:2], standing[:2], UP, 0.0) is motion


def test_size_is_one_for_a_person_whose_hips_are_as_high_as_usual(body):
    skeleton = RestSkeleton.of_body(body, np.zeros(16))
    assert 0.8 < person_size(skeleton) < 1.2
    joints, orientations = skeleton.pose(np.tile(np.eye(3), (1, 52, 1, 1)))
    soles = sole_points(skeleton, joints, orientations, skeleton.joints[:1])[0]
    surface = body.v_template[:, 1].min()
    assert np.allclose(soles[..., 1], surface) and (soles[0, :, 0] > 0).all() and (soles[1, :, 0] < 0).all()
    assert (np.diff(soles[..., 2]) > 0).all()
