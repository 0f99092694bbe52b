# SPDX-License-Identifier: GPL-3.0-or-later
import time
from dataclasses import replace

import numpy as np
import pytest
from fullbody_mocap.contract.frames import axis_angle_to_matrix, matrix_to_axis_angle
from fullbody_mocap.contract.skeleton import FINGERS, JOINT_INDEX, JOINT_NAMES, PARENTS, SIDES
from fullbody_mocap.contract.swing_twist import about, reject, transpose, unit
from fullbody_mocap.retarget.pose import Controls, WorldPose, own_location, own_rotations, place_bones
from fullbody_mocap.retarget.solve.rest_match import hip_ratio, limb, stand_up
from fullbody_mocap.retarget.solve.solver import RetargetSettings, bone_turns, place_hips, solve
from fullbody_mocap.retarget.solve.source import RetargetError, source_motion
from fullbody_mocap.retarget.solve.twist import twist_over_time
from rigged_characters import rig_arrays
from synthetic_person import make_clip, make_template, rest_joints

SOLE = -0.95
FLYING = RetargetSettings(plant_feet=False)
LIMBS = [f"{side}_{part}" for side in SIDES for part in ("hip", "knee", "shoulder", "elbow", "wrist")]
PHALANGES = [f"{side}_{finger}{segment}" for side in SIDES for finger in FINGERS for segment in (1, 2)]
NEXT = {"hip": "knee", "knee": "ankle", "shoulder": "elbow", "elbow": "wrist", "wrist": "middle1"}


@pytest.fixture(scope="module")
def motion():
    """Two seconds in which every joint turns a lot."""
    template = make_template()
    clip = make_clip(template, frames=60, seed=11, betas=np.zeros(16))
    return source_motion(replace(clip, poses=np.where(np.arange(156) < 66, 1.6, 1) * clip.poses), rest_joints(), SOLE)


def controls_of(rig):
    """`Controls` of a `rig_variants.Rig` that stands where it was built, all of whose parents turn and carry their children."""
    roles = {bone: role for role, bones in rig.roles.items() for bone in bones}
    mapped = [bone for bone, name in enumerate(rig.names) if name in roles]
    parents = []
    for bone in mapped:
        parent = rig.parents[bone]
        while parent >= 0 and parent not in mapped:
            parent = rig.parents[parent]
        parents.append(mapped.index(parent) if parent >= 0 else -1)
    return Controls(
        names=tuple(rig.names[bone] for bone in mapped),
        roles=tuple(roles[rig.names[bone]] for bone in mapped),
        heads=rig.heads[mapped],
        tails=rig.tails[mapped],
        axes=rig.axes[mapped],
        rotation_parents=np.array(parents),
        location_parents=np.array(parents),
        scale=1.0,
        origin=np.zeros(3),
        sole=0.0,
    )


def source_controls(motion, seed=0):
    """The source's own skeleton as a character, whose bones have any roll."""
    roles = ["spine" if name.startswith("spine") else name for name in JOINT_NAMES]
    children = [next((c for c, p in enumerate(PARENTS) if p == joint), joint) for joint in range(len(PARENTS))]
    heads = motion.rest_joints
    tails = heads[children] + np.array([0, 0, 0.05]) * (np.arange(len(children)) == children)[:, None]
    axes = axis_angle_to_matrix(np.random.default_rng(seed).normal(0, 2, (len(heads), 3)))
    parents = np.array(PARENTS)
    return Controls(JOINT_NAMES, tuple(roles), heads, tails, axes, parents, parents, 1.0, np.zeros(3), motion.sole)


def moved(controls, turn=np.eye(3), scale=1.0, place=(0, 0, 0)):
    """The same character turned, scaled and put elsewhere as a whole."""

    def put(points):
        return scale * points @ turn.T + place

    return replace(
        controls,
        heads=put(controls.heads),
        tails=put(controls.tails),
        axes=turn @ controls.axes,
        origin=np.asarray(place, float),
        sole=scale * controls.sole + place[2],
    )


def target_direction(world, controls, role):
    side, _, part = role.partition("_")
    after = f"{side}_{NEXT[part]}" if part in NEXT else f"{role[:-1]}{int(role[-1]) + 1}"
    if controls.first(after) is None:
        return None
    return unit(world.heads[:, controls.first(after)] - world.heads[:, controls.first(role)])


def source_direction(motion, role):
    side, _, part = role.partition("_")
    after = f"{side}_{NEXT[part]}" if part in NEXT else f"{role[:-1]}{int(role[-1]) + 1}"
    return unit(motion.joints[:, JOINT_INDEX[after]] - motion.joints[:, JOINT_INDEX[role]])


def degrees_between(a, b):
    return np.degrees(2 * np.arcsin(np.clip(np.linalg.norm(a - b, axis=-1) / 2, 0, 1)))


def turned_degrees(turn):
    return np.degrees(np.linalg.norm(matrix_to_axis_angle(turn), axis=-1))


def worst_direction(world, controls, motion):
    errors = [0.0]
    for role in LIMBS + PHALANGES:
        if controls.first(role) is None or (found := target_direction(world, controls, role)) is None:
            continue
        errors.append(degrees_between(found, source_direction(motion, role)).max())
    return max(errors)


def chain_ends(world, controls, motion):
    """Degrees that the pelvis, the top of the spine and the head are off the source's turns, of a character that faces -y."""
    ends = [("pelvis", "pelvis"), ("spine", "spine3"), ("head", "head")]
    off = [0.0]
    for role, joint in ends:
        if controls.first(role) is None:
            continue
        bone = controls.of_role(role)[-1]
        turn = world.axes[:, bone] @ controls.axes[bone].T
        off.append(turned_degrees(transpose(motion.turns[:, JOINT_INDEX[joint]]) @ turn).max())
    return max(off)


@pytest.mark.parametrize("seed", [0, 1])
def test_its_own_skeleton_moves_as_the_source_whatever_the_rolls(motion, seed):
    controls = source_controls(motion, seed)
    world = solve(motion, controls, FLYING)
    assert np.abs(world.axes @ transpose(controls.axes) - motion.turns).max() < 1e-9
    assert np.abs(world.heads - (motion.joints - (0, 0, motion.floor - motion.sole))).max() < 1e-9


def test_a_body_whose_sides_differ_a_little_still_moves_as_itself(motion):
    """As bodies do that were scanned: nothing is turned to make up for it."""
    uneven = motion.rest_joints + np.random.default_rng(2).normal(0, 0.0015, (52, 3))
    controls = source_controls(replace(motion, rest_joints=uneven))
    turns = bone_turns(replace(motion, rest_joints=uneven), stand_up(controls)[0])
    assert np.abs(turns - motion.turns).max() < 1e-9


@pytest.mark.parametrize("name", ["mixamo", "unreal", "cmu", "makehuman", "vrm"])
def test_limbs_point_as_the_sources_do(motion, name):
    for variant in ({}, {"rolls": 3}, {"arms": 0}, {"arms": 55, "rolls": 1}, {"lengths": {"shoulder": 0.7, "knee": 1.2}}):
        controls = controls_of(rig_arrays(name, **variant))
        world = solve(motion, controls, FLYING)
        assert worst_direction(world, controls, motion) < 0.01, variant
        assert chain_ends(world, controls, motion) < 0.01, variant


@pytest.mark.parametrize("bones", [1, 2, 3, 6, 8])
def test_a_spine_of_any_number_of_bones_ends_as_the_sources(motion, bones):
    controls = controls_of(rig_arrays("mixamo", spine=bones))
    world = solve(motion, controls, FLYING)
    assert chain_ends(world, controls, motion) < 1e-6
    assert worst_direction(world, controls, motion) < 0.01
    chain = controls.of_role("spine")
    turns = world.axes[:, chain] @ transpose(controls.axes[chain])
    if bones in (3, 6):
        every = turns[:, bones // 3 - 1 :: bones // 3]
        assert np.abs(every - motion.turns[:, [JOINT_INDEX[f"spine{k}"] for k in (1, 2, 3)]]).max() < 1e-6
    # No bone of the chain bends more than the source's joints that it stands for.
    steps = turned_degrees(transpose(np.concatenate([motion.turns[:, :1], turns[:, :-1]], 1)) @ turns)
    source = [motion.turns[:, JOINT_INDEX[joint]] for joint in ("pelvis", "spine1", "spine2", "spine3")]
    whole = sum(turned_degrees(transpose(a) @ b) for a, b in zip(source, source[1:]))
    assert (steps.sum(1) <= whole + 1e-6).all()


def test_a_character_without_spine_collars_toes_and_fingers_moves(motion):
    whole = controls_of(rig_arrays("mixamo", fingers=False))
    kept = [
        bone for bone, role in enumerate(whole.roles) if role != "spine" and not role.endswith(("collar", "_foot", "neck"))
    ]

    def parents(old):
        found = []
        for bone in kept:
            parent = old[bone]
            while parent >= 0 and parent not in kept:
                parent = old[parent]
            found.append(kept.index(parent) if parent >= 0 else -1)
        return np.array(found)

    controls = replace(
        whole,
        names=tuple(whole.names[bone] for bone in kept),
        roles=tuple(whole.roles[bone] for bone in kept),
        heads=whole.heads[kept],
        tails=whole.tails[kept],
        axes=whole.axes[kept],
        rotation_parents=parents(whole.rotation_parents),
        location_parents=parents(whole.location_parents),
    )
    world = solve(motion, controls, FLYING)
    assert worst_direction(world, controls, motion) < 0.01
    hand = controls.first("left_wrist")
    rest = controls.tails[hand] - controls.heads[hand]
    pointed = unit((world.axes[:, hand] @ controls.axes[hand].T) @ rest)
    assert degrees_between(pointed, source_direction(motion, "left_wrist")).max() < 0.01


@pytest.mark.parametrize("degrees", [0, 37, 90, 180, -120])
def test_it_may_face_any_way_and_stand_anywhere(motion, degrees):
    turn = about(np.array([0.0, 0, 1]), np.radians(degrees))
    plain = controls_of(rig_arrays("unreal"))
    controls = moved(plain, turn, place=(2.0, -1.0, 0.5))
    world = solve(motion, controls, FLYING)
    at_home = solve(motion, plain, FLYING)
    # The capture's heading stays the world's.
    assert worst_direction(world, controls, motion) < 0.01
    assert np.abs(world.heads[:, 1:] - at_home.heads[:, 1:] - (2.0, -1.0, 0.5)).max() < 1e-6
    # Or becomes the character's.
    own = solve(motion, controls, replace(FLYING, heading="character"))
    assert worst_direction(own, controls, motion.turned(turn)) < 0.01
    assert np.abs(own.heads[:, 1:] - at_home.heads[:, 1:] @ turn.T - (2.0, -1.0, 0.5)).max() < 1e-6


@pytest.mark.parametrize("lying", [(np.pi / 2, 0, 0), (-np.pi / 2, 0, 0), (0, np.pi / 2, 0), (np.pi, 0, 0)])
def test_a_character_that_lies_at_rest_is_stood_up(motion, lying):
    plain = controls_of(rig_arrays("mixamo"))
    controls = moved(plain, axis_angle_to_matrix(lying), place=(0.3, 0.2, 0.1))
    world = solve(motion, controls, FLYING)
    assert worst_direction(world, controls, motion) < 0.01
    pelvis = controls.first("pelvis")
    lowest = min(plain.heads[:, 2].min(), plain.tails[plain.of_role("left_foot"), 2].min())
    assert (
        np.abs(world.heads[:, pelvis] - solve(motion, plain, FLYING).heads[:, pelvis] - (0.3, 0.2, 0.1)).max()
        < lowest + 0.01
    )


def test_neither_forearms_nor_hands_are_wrung(motion):
    """Skin at a wrist is not twisted at rest, so what lies across the knuckles there tells how a forearm and a hand are turned."""
    for name, variant in (
        ("mixamo", {}),
        ("unreal", {}),
        ("makehuman", {}),
        ("unreal", {"arms": 70}),
        ("makehuman", {"arms": 0}),
    ):
        controls = controls_of(rig_arrays(name, **variant))
        world = solve(motion, controls, FLYING)
        turns = world.axes @ transpose(controls.axes)
        for side in SIDES:
            knuckles = [f"{side}_pinky1", f"{side}_index1"]
            own = controls.heads[controls.first(knuckles[1])] - controls.heads[controls.first(knuckles[0])]
            source = rest_axis(motion, *knuckles)
            for part, after in (("elbow", "wrist"), ("wrist", "middle1")):
                joint = JOINT_INDEX[f"{side}_{part}"]
                along = unit(motion.joints[:, JOINT_INDEX[f"{side}_{after}"]] - motion.joints[:, joint])
                posed = (
                    turns[:, controls.first(f"{side}_{part}")] @ unit(reject(own, unit(limb(controls, f"{side}_{part}")))),
                    motion.turns[:, joint] @ source,
                )
                off = degrees_between(*(unit(reject(one, along)) for one in posed))
                print(
                    f"{name} {variant} {side} {part}: off by {off.mean():.2f} degrees in the mean, {off.max():.2f} at most"
                )
                assert off.mean() < 3


@pytest.mark.parametrize("arms", [None, 0, 70])
def test_a_bent_elbow_is_straightened_about_its_own_hinge(arms):
    """In the source's T-pose the hinge is upright; the elbows of these rigs are bent by 43 degrees at rest."""
    motion = source_motion(make_clip(make_template(), frames=1, standing=True), rest_joints(), SOLE)
    for name in ("unreal", "cmu", "makehuman"):
        controls = controls_of(rig_arrays(name, arms=arms))
        turns = bone_turns(motion, stand_up(controls)[0])[0]
        for side, upright in (("left", -1), ("right", 1)):
            hinge = np.cross(limb(controls, f"{side}_shoulder"), limb(controls, f"{side}_elbow"))
            for part in ("shoulder", "elbow"):
                posed = unit(turns[controls.of_role(f"{side}_{part}")[-1 if part == "shoulder" else 0]] @ hinge)
                assert np.degrees(np.arccos(np.clip(upright * posed[2], -1, 1))) < 4


def rest_axis(motion, role, after):
    return motion.rest_joints[JOINT_INDEX[after]] - motion.rest_joints[JOINT_INDEX[role]]


def test_palms_face_as_the_sources_do(motion):
    for variant in ({}, {"arms": 50, "rolls": 5}):
        controls = controls_of(rig_arrays("unreal", **variant))
        world = solve(motion, controls, FLYING)
        for side in SIDES:
            across = [f"{side}_pinky1", f"{side}_index1"]
            own = world.heads[:, controls.first(across[1])] - world.heads[:, controls.first(across[0])]
            source = motion.joints[:, JOINT_INDEX[across[1]]] - motion.joints[:, JOINT_INDEX[across[0]]]
            fingers = source_direction(motion, f"{side}_wrist")
            assert degrees_between(unit(reject(own, fingers)), unit(reject(source, fingers))).max() < 0.01


def test_the_feet_keep_their_heading_and_stay_flat():
    clip = make_clip(make_template(), frames=2, standing=True)
    motion = source_motion(clip, rest_joints(), SOLE)
    for name in ("mixamo", "unreal", "makehuman"):
        controls = controls_of(rig_arrays(name))
        turns = bone_turns(motion, stand_up(controls)[0])
        for side in SIDES:
            foot = turns[0, controls.first(f"{side}_ankle")]
            assert np.abs(foot[2] - (0, 0, 1)).max() < 1e-9
            toes = controls.of_role(f"{side}_foot")
            ahead = foot @ (controls.heads[toes].mean(0) - controls.heads[controls.first(f"{side}_ankle")])
            wanted = rest_axis(motion, f"{side}_ankle", f"{side}_foot")
            assert degrees_between(unit(ahead * (1, 1, 0)), unit(wanted * (1, 1, 0))) < 1e-6
            assert np.abs(turns[0, toes] - foot).max() < 1e-9


def test_hips_go_as_far_and_as_high_as_the_legs_are_long(motion):
    plain = controls_of(rig_arrays("mixamo"))
    stood = stand_up(plain)[0]
    ratio = hip_ratio(stood, motion)
    assert abs(hip_ratio(stand_up(moved(plain, scale=2.5))[0], motion) - 2.5 * ratio) < 1e-9
    longer = controls_of(rig_arrays("mixamo", lengths={"hip": 1.3, "knee": 1.3}))
    assert 1.2 < hip_ratio(stand_up(longer)[0], motion) / ratio < 1.3
    hips = [plain.first(f"{side}_hip") for side in SIDES]
    for settings, expected in ((FLYING, ratio), (replace(FLYING, scale=0.8), 0.8)):
        middle = solve(motion, plain, settings).heads[:, hips].mean(1)
        assert np.abs(middle - expected * (motion.hips - (0, 0, motion.floor))).max() < 1e-9
    # Legs that point as the source's at rest then reach the ground.
    standing = source_motion(make_clip(make_template(), frames=1, standing=True), rest_joints(), SOLE, floor=0.0)
    height = (standing.joints[0, 0] - standing.rest_joints[0])[2] + standing.sole
    for controls in (plain, longer, controls_of(rig_arrays("unreal", arms=45))):
        world = solve(replace(standing, floor=height), controls, FLYING)
        ankles = [controls.first(f"{side}_ankle") for side in SIDES]
        assert np.abs(world.heads[0, ankles, 2] - controls.heads[ankles, 2]).max() < 0.002


def test_own_rotations_and_location_give_the_solved_pose(motion):
    controls = moved(controls_of(rig_arrays("unreal", rolls=2)), axis_angle_to_matrix([np.pi / 2, 0, 0]))
    world = solve(motion, controls, FLYING)
    rotations, location = own_rotations(controls, world.axes), own_location(controls, world)
    assert np.abs(np.linalg.norm(rotations, axis=-1) - 1).max() < 1e-9
    root = controls.first("root")
    assert np.abs(world.axes[:, root] - controls.axes[root]).max() == 0
    assert np.abs(rotations[:, root] - (1, 0, 0, 0)).max() < 1e-9
    pelvis = controls.first("pelvis")
    again = controls.heads[pelvis] + location @ controls.axes[pelvis].T
    assert np.abs(again - world.heads[:, pelvis]).max() < 1e-6


def test_many_frames_give_what_each_gives_alone(motion):
    for name in ("mixamo", "unreal"):
        controls = controls_of(rig_arrays(name))
        whole = solve(motion, controls, FLYING)
        for frame in (0, 17, 59):
            part = slice(frame, frame + 1)
            alone = replace(
                motion,
                times=motion.times[part],
                turns=motion.turns[part],
                joints=motion.joints[part],
                valid=motion.valid[part],
                expression=motion.expression[part],
            )
            one = solve(alone, controls, FLYING)
            assert np.abs(one.axes - whole.axes[part]).max() < 1e-6
            assert np.abs(one.heads - whole.heads[part]).max() < 1e-6
            # A single frame has nothing to slide against.
            assert np.isfinite(solve(alone, controls).heads).all()


def test_twist_over_time_passes_half_a_round_without_a_jump():
    axis = unit(np.array([0.3, -0.5, 0.8]))
    angle = np.concatenate([np.linspace(0, np.radians(250), 50), np.linspace(np.radians(250), 0, 50)])
    swing = axis_angle_to_matrix(np.cross(axis, [0.0, 0, 1]) * np.sin(np.arange(100) / 9)[:, None])
    found = twist_over_time(swing @ about(axis, angle), axis)
    assert np.abs(found - angle).max() < 1e-9


def test_a_round_too_many_is_taken_back_without_a_jump():
    axis = np.array([1.0, 0, 0])
    angle = np.concatenate([np.zeros(60), np.linspace(0, 2 * np.pi, 30), np.full(100, 2 * np.pi)])
    found = twist_over_time(about(axis, angle), axis)
    assert np.abs(found[[0, -1]]).max() < 1e-9
    assert np.abs(np.diff(found)).max() < np.radians(40)


def test_twist_is_shared_out_along_a_forearm_and_an_upper_arm(motion):
    controls = controls_of(rig_arrays("unreal", rolls=4))
    stood = stand_up(controls)[0]
    turns = bone_turns(motion, stood)
    for role, branch, before, after in (
        ("left_elbow", "left_elbow_twist", "left_elbow", "left_wrist"),
        ("right_shoulder", "right_shoulder_twist", "right_collar", "right_shoulder"),
    ):
        axis = unit(limb(stood, role))
        whole = twist_over_time(transpose(turns[:, stood.first(before)]) @ turns[:, stood.first(after)], axis)
        assert np.ptp(whole) > 0.3
        for bone in stood.of_role(branch):
            place = (stood.heads[bone] - stood.heads[stood.first(role)]) @ axis / np.linalg.norm(limb(stood, role))
            own = transpose(turns[:, stood.first(role)]) @ turns[:, bone]
            share = place if role == "left_elbow" else place - 1
            assert np.abs(twist_over_time(own, axis) - share * whole).max() < 1e-6
            assert np.abs(own @ axis - axis).max() < 1e-9


@pytest.mark.parametrize("name", ["mixamo", "makehuman"])
def test_limbs_in_pieces_still_point_as_the_sources_do_and_pass_the_twist_on(motion, name):
    controls = controls_of(rig_arrays(name, split=True))
    world = solve(motion, controls, FLYING)
    assert worst_direction(world, controls, motion) < 0.01
    turns = world.axes @ transpose(controls.axes)
    for role, before, after in (
        ("left_shoulder", "left_collar", "left_shoulder"),
        ("left_hip", "pelvis", "left_hip"),
        ("right_elbow", "right_elbow", "right_wrist"),
        ("right_knee", "right_knee", "right_ankle"),
    ):
        pieces = controls.of_role(role)
        upper = role.endswith(("shoulder", "hip"))
        axis = unit(limb(controls, role))
        end = pieces[-1] if upper else controls.first(after)
        whole = twist_over_time(transpose(turns[:, controls.first(before)]) @ turns[:, end], axis)
        gathered = [twist_over_time(transpose(turns[:, controls.first(before)]) @ turns[:, piece], axis) for piece in pieces]
        # Each piece has its share, between none and all, in the order along the limb.
        for earlier, later in zip(gathered, gathered[1:]):
            apart = (later - earlier) * np.sign(whole)
            assert (apart > -0.1).all() and apart.max() > 0.1 * np.abs(whole).max()


def test_fingers_may_be_left_at_rest(motion):
    controls = controls_of(rig_arrays("mixamo"))
    world = solve(motion, controls, replace(FLYING, fingers=False))
    own = own_rotations(controls, world.axes)
    fingers = [bone for bone, role in enumerate(controls.roles) if role.partition("_")[2][:-1] in FINGERS]
    assert len(fingers) == 30
    assert np.abs(own[:, fingers] - (1, 0, 0, 0)).max() < 1e-9


def test_axes_of_bones_never_matter(motion):
    """A pelvis bone that points down, or backwards, is as good as any."""
    plain = controls_of(rig_arrays("mixamo"))
    other = replace(
        plain, axes=plain.axes @ axis_angle_to_matrix(np.random.default_rng(1).normal(0, 2, (len(plain.names), 3)))
    )
    one, two = (solve(motion, controls, FLYING) for controls in (plain, other))
    assert np.abs(one.heads - two.heads).max() < 1e-9
    assert np.abs(one.axes @ transpose(plain.axes) - two.axes @ transpose(other.axes)).max() < 1e-9


def test_hands_without_a_middle_finger(motion):
    controls = controls_of(rig_arrays("mixamo"))
    kept = [bone for bone, role in enumerate(controls.roles) if not role.endswith(("middle1", "middle2", "middle3"))]
    place = {bone: number for number, bone in enumerate(kept)} | {-1: -1}
    without = replace(
        controls,
        names=tuple(controls.names[bone] for bone in kept),
        roles=tuple(controls.roles[bone] for bone in kept),
        heads=controls.heads[kept],
        tails=controls.tails[kept],
        axes=controls.axes[kept],
        rotation_parents=np.array([place[controls.rotation_parents[bone]] for bone in kept]),
        location_parents=np.array([place[controls.location_parents[bone]] for bone in kept]),
    )
    world = solve(motion, without, FLYING)
    ring = world.heads[:, without.first("left_ring1")] - world.heads[:, without.first("left_wrist")]
    source = motion.joints[:, JOINT_INDEX["left_ring1"]] - motion.joints[:, JOINT_INDEX["left_wrist"]]
    assert degrees_between(unit(ring), unit(source)).max() < 0.01


def test_hips_that_the_pelvis_does_not_carry_follow_it_by_their_rest(motion):
    controls = source_controls(motion)
    parents = controls.location_parents.copy()
    parents[[1, 2]] = -1
    loose = replace(controls, location_parents=parents)
    world = place_hips(loose, motion.turns @ loose.axes, motion, 1.0)
    assert isinstance(world, WorldPose)
    offset = controls.heads[0] - controls.heads[1:3].mean(0)
    assert np.abs(world.heads[:, 0] - offset - (motion.hips + (0, 0, loose.sole - motion.floor))).max() < 1e-9


def test_planted_feet_leave_directions_nearly_alone():
    clip = make_clip(make_template(), frames=40, standing=True)
    motion = source_motion(clip, rest_joints(), SOLE)
    controls = controls_of(rig_arrays("unreal", arms=45))
    world = solve(motion, controls)
    assert worst_direction(world, controls, motion) < 3
    again = place_bones(controls, world.axes, world.heads[:, controls.first("pelvis")])
    assert np.abs(again.heads - world.heads).max() < 1e-9


def test_a_thousand_frames_of_seventy_bones_take_a_quarter_of_a_second():
    template = make_template()
    motion = source_motion(make_clip(template, frames=1000, seed=1), rest_joints(), SOLE)
    controls = controls_of(rig_arrays("unreal"))
    assert len(controls.names) > 65

    def seconds():
        began = time.process_time()  # not by the clock on the wall: tests run beside others
        solve(motion, controls, FLYING)
        return time.process_time() - began

    fastest = min(seconds() for _ in range(3))
    print(f"{1000 * fastest:.0f} ms for 1,000 frames of {len(controls.names)} bones")
    assert fastest < 0.25


def test_bad_characters_and_settings_are_refused_in_one_sentence(motion):
    good = controls_of(rig_arrays("mixamo"))
    unmapped = replace(good, roles=tuple("neck" if role == "left_knee" else role for role in good.roles))
    nowhere = replace(good, heads=np.full_like(good.heads, np.nan))
    flat = replace(good, heads=good.heads * (0, 1, 1))
    buried = replace(good, sole=5.0)
    point = replace(good, heads=np.zeros_like(good.heads))
    arms = {"left_shoulder": "right_shoulder", "right_shoulder": "left_shoulder"}
    crossed = replace(good, roles=tuple(arms.get(role, role) for role in good.roles))
    for controls, words in (
        (unmapped, "no bone for left_knee"),
        (nowhere, "not numbers"),
        (flat, "front is not known"),
        (buried, "not above its soles"),
        (point, "upright is not known"),
        (crossed, "disagree on which side is left"),
    ):
        with pytest.raises(RetargetError) as caught:
            solve(motion, controls, FLYING)
        assert words in str(caught.value)
        assert str(caught.value).count(".") == 1
    for settings in ({"heading": "north"}, {"scale": 0.0}, {"scale": float("nan")}, {"expression_gain": float("inf")}):
        with pytest.raises(RetargetError):
            RetargetSettings(**settings)
