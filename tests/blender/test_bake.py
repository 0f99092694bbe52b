# SPDX-License-Identifier: GPL-3.0-or-later
import bpy
import numpy as np
import pytest
from fullbody_mocap.contract.frames import axis_angle_to_matrix, axis_angle_to_quaternion, quaternion_to_matrix
from fullbody_mocap.retarget.guess.find import find_role_map
from fullbody_mocap.retarget.pose import place_bones
from fullbody_mocap.retarget.rig.bake import write_action
from fullbody_mocap.retarget.rig.reading import RigError, read_rig, skeleton_of
from fullbody_mocap.retarget.rig.rotation_modes import EULER_MODES, matrices_to_euler, mode_values, quaternions_to_axis_angle
from fullbody_mocap.tracks import Track, bone_path
from mathutils import Euler
from rigged_characters import make_rig
from scene_reading import curves_of

FRAMES = np.arange(5, 25)
ALL = np.ones((len(FRAMES), 4), bool)


def smooth_turns(shape, seed=0, size=0.4):
    """Axis-angle [T, ..., 3] that changes smoothly."""
    rng = np.random.default_rng(seed)
    steps = np.linspace(0, 4, shape[0]).reshape(-1, *[1] * len(shape))
    rates, phases = rng.uniform(0.5, 1.5, (2, *shape[1:], 3)) * 2
    return size * np.sin(rates * steps + phases)


def made_up_pose(controls, count=len(FRAMES), seed=0):
    """A `WorldPose` in which every bone turns by itself and the pelvis wanders; what is called root stays."""
    turns = axis_angle_to_matrix(smooth_turns((count, len(controls.names)), seed, 0.9))
    if (root := controls.first("root")) is not None:
        turns[:, root] = np.eye(3)
    pelvis = controls.heads[controls.first("pelvis")] + smooth_turns((count,), seed + 1)
    return place_bones(controls, turns @ controls.axes, pelvis)


def evaluated_pose(armature, names, frames):
    """World axes [T, N, 3, 3] and heads [T, N, 3] of bones as Blender plays them."""
    matrices = []
    for frame in frames:
        bpy.context.scene.frame_set(int(frame))
        evaluated = armature.evaluated_get(bpy.context.evaluated_depsgraph_get())
        bones = [evaluated.matrix_world @ evaluated.pose.bones[name].matrix for name in names]
        matrices.append([np.array(bone) for bone in bones])
    matrices = np.array(matrices)
    axes = matrices[..., :3, :3] / np.linalg.norm(matrices[..., :3, :3], axis=-2, keepdims=True)
    return axes, matrices[..., :3, 3]


def baked(armature, *, valid=ALL, seed=0, world=None, **options):
    """Bakes a made-up pose; returns the action, the rig and the pose."""
    role_map = find_role_map(skeleton_of(armature))
    rig = read_rig(armature, role_map)
    world = made_up_pose(rig.controls, seed=seed) if world is None else world
    return write_action(armature, rig, role_map, world, FRAMES, valid, name="Made up", **options), rig, world


def assert_plays(armature, rig, world, rows=(0, 7, 19), tolerance=1e-4):
    """Asserts that Blender's bones stand where a `WorldPose` says, to `tolerance` m (and as much in their axes)."""
    axes, heads = evaluated_pose(armature, rig.controls.names, FRAMES[list(rows)])
    assert np.abs(heads - world.heads[list(rows)]).max() < tolerance
    assert np.abs(axes - world.axes[list(rows)]).max() < tolerance


@pytest.mark.parametrize("mode", EULER_MODES)
def test_euler_angles_are_blenders_and_do_not_jump(mode):
    matrices = axis_angle_to_matrix(np.cumsum(np.random.default_rng(2).normal(0, 0.1, (300, 4, 3)), 0))
    values = matrices_to_euler(matrices, mode)
    again = np.array([[Euler(angles, mode).to_matrix() for angles in row] for row in values])
    assert np.abs(again - matrices).max() < 1e-5
    # Through the middle angle's right angle the outer two may turn as fast as they like, but never back by whole turns.
    steps = np.abs(np.diff(values, axis=0))
    assert steps.max() < np.pi + 0.3 and np.quantile(steps, 0.99) < 0.8


@pytest.mark.parametrize("mode", EULER_MODES)
def test_locked_euler_angles_hold_the_first_and_stay_true(mode):
    middle = "XYZ".index(mode[1])
    angles = np.zeros((40, 2, 3))
    angles[..., "XYZ".index(mode[0])] = 0.4
    angles[..., "XYZ".index(mode[2])] = np.linspace(-0.5, 0.5, 40)[:, None]
    angles[..., middle] = np.minimum(np.linspace(0, 2, 40), 1)[:, None] * np.array([1, -1]) * np.pi / 2
    matrices = np.array([[Euler(row, mode).to_matrix() for row in pair] for pair in angles])
    values = matrices_to_euler(matrices, mode)
    again = np.array([[Euler(row, mode).to_matrix() for row in pair] for pair in values])
    assert np.abs(again - matrices).max() < 1e-3
    assert np.abs(np.diff(values, axis=0)).max() < 0.2


def test_an_axis_and_its_angle_pass_through_no_turn_without_a_flip():
    angle = np.linspace(-1, 9, 101)
    turns = angle[:, None, None] * np.array([0.6, 0, 0.8])
    values = quaternions_to_axis_angle(axis_angle_to_quaternion(turns))
    assert np.abs(axis_angle_to_matrix(values[..., :1] * values[..., 1:]) - axis_angle_to_matrix(turns)).max() < 1e-9
    assert np.abs(np.diff(values, axis=0)).max() < 0.11
    still = quaternions_to_axis_angle(np.broadcast_to([1.0, 0, 0, 0], (3, 2, 4)))
    assert np.array_equal(still, np.broadcast_to([0.0, 0, 1, 0], (3, 2, 4)))


def test_quaternions_keep_their_sign():
    turns = np.cumsum(np.full((80, 1, 3), 0.1), 0)
    values = mode_values("QUATERNION", axis_angle_to_quaternion(turns))
    assert np.abs(np.diff(values, axis=0)).max() < 0.1
    assert np.abs(quaternion_to_matrix(values) - axis_angle_to_matrix(turns)).max() < 1e-9


@pytest.mark.parametrize(
    "name, options",
    [
        ("mixamo", dict(rolls=3)),
        ("mixamo", dict(scale=0.01, turn=(90, 0, 0), place=(1, 2, 0.5), rotation_mode="XYZ")),
        ("unreal", dict(scale=100, rotation_mode="AXIS_ANGLE", without_inherited_turn=("hand_l", "head"))),
        ("vrm", dict(turn=(20, -70, 130), rotation_mode="ZXY")),
    ],
)
def test_bones_stand_where_the_pose_says(name, options):
    armature = make_rig(name, **options)
    _, rig, world = baked(armature)
    assert_plays(armature, rig, world)


def test_rigifys_controls_stand_where_the_pose_says(rigify):
    rng = np.random.default_rng(1)
    # Whatever pose and rotation modes the user has left, but for the tweaks of the surface, which count on top.
    for bone in [bone for bone in rigify.pose.bones if "tweak" not in bone.name]:
        bone.location = rng.normal(0, 0.05, 3)
        bone.rotation_quaternion = (1, *rng.normal(0, 0.3, 3))
    for name, mode in (("torso", "ZYX"), ("upper_arm_fk.L", "YXZ"), ("head", "AXIS_ANGLE")):
        rigify.pose.bones[name].rotation_mode = mode
    arm = rigify.pose.bones["upper_arm_parent.L"]
    arm["IK_FK"] = 0.25
    _, rig, world = baked(rigify)
    # Switches are keyed, the user's own values stay.
    assert arm["IK_FK"] == 0.25
    keys = curves_of(rigify)['pose.bones["upper_arm_parent.L"]["IK_FK"]', 0]
    assert keys.tolist() == [[FRAMES[0], 1.0]]
    assert_plays(rigify, rig, world)
    # The body that is seen follows: its switches say so.
    role = {"DEF-forearm.L": "left_elbow", "DEF-shin.R": "right_knee", "DEF-spine.006": "head"}
    _, heads = evaluated_pose(rigify, list(role), FRAMES[[7]])
    bones = [rig.controls.first(wanted) for wanted in role.values()]
    assert np.abs(heads[0] - world.heads[7, bones]).max() < 2e-3


@pytest.mark.parametrize("local", [True, False])
def test_the_pelvis_goes_where_it_should_below_a_turned_parent(local):
    armature = make_rig("mixamo", rolls=1, turn=(0, 40, 0), scale=0.1)
    parent = bpy.data.objects.new("Parent", None)
    parent.location, parent.rotation_euler, parent.scale = (1, -2, 0.3), (0.2, 0.4, 1), (2, 2, 2)
    bpy.context.scene.collection.objects.link(parent)
    armature.parent = parent
    armature.data.bones["mixamorig:Hips"].use_local_location = local
    _, rig, world = baked(armature)
    assert rig.controls.scale == pytest.approx(0.2, rel=1e-4)
    assert_plays(armature, rig, world)


def test_a_scaled_pose_is_kept():
    armature = make_rig("mixamo")
    armature.pose.bones["mixamorig:Hips"].scale = (1.5, 1.5, 1.5)
    armature.pose.bones["mixamorig:Head"].scale = (2, 2, 2)
    _, rig, world = baked(armature)
    assert_plays(armature, rig, world)
    assert not any(path.endswith("scale") for path, _ in curves_of(armature))
    assert tuple(armature.pose.bones["mixamorig:Head"].scale) == (2, 2, 2)


def test_what_was_not_captured_has_no_keys():
    armature = make_rig("mixamo")
    valid = ALL.copy()
    valid[3:9, 0] = valid[:, 1] = valid[10:, 2] = False
    _, rig, _ = baked(armature, valid=valid)
    curves = curves_of(armature)

    def frames(role):
        path = bone_path(rig.controls.names[rig.controls.first(role)], "rotation_quaternion")
        return curves[path, 0][:, 0].tolist() if (path, 0) in curves else []

    assert frames("left_knee") == frames("left_wrist") == np.delete(FRAMES, range(3, 9)).tolist()
    assert frames("left_index1") == [] and frames("right_thumb2") == FRAMES[:10].tolist()
    action, _, _ = baked(armature, fingers=False)
    assert armature.animation_data.action == action
    assert not any("Thumb" in path for path, _ in curves_of(armature))


def test_the_action_says_all_that_it_needs():
    armature = make_rig("mixamo")
    role_map = find_role_map(skeleton_of(armature))
    # A helper between two mapped bones is turned and moved, a mapped bone is off its place.
    role_map = role_map.with_bones("spine", tuple(n for n in role_map.bones["spine"] if n != "mixamorig:Spine1"))
    helper, shifted = armature.pose.bones["mixamorig:Spine1"], armature.pose.bones["mixamorig:LeftArm"]
    helper.location, helper.rotation_quaternion = (0.1, 0, 0.2), (0.8, 0.6, 0, 0)
    shifted.location = (0, 0.1, 0)
    rig = read_rig(armature, role_map)
    world = made_up_pose(rig.controls)
    write_action(armature, rig, role_map, world, FRAMES, ALL, name="Made up")
    assert rig.at_rest == ("mixamorig:Spine1",)
    assert_plays(armature, rig, world)
    # Another copy of the character, posed otherwise, does the same by the action alone.
    for bone in (helper, shifted):
        bone.location = (0, 0, 0.5)
    assert_plays(armature, rig, world)


def test_earlier_actions_are_kept_as_they_were():
    armature = make_rig("mixamo")
    first, rig, world = baked(armature)
    earlier = {key: values.tolist() for key, values in curves_of(armature).items()}
    first.use_fake_user = False
    second, _, _ = baked(armature, seed=4)
    assert armature.animation_data.action == second != first and second.use_fake_user
    # It lost its last user, and would not have been saved.
    assert first.use_fake_user
    slot = first.slots[0]
    armature.animation_data.action, armature.animation_data.action_slot = first, slot
    assert {key: values.tolist() for key, values in curves_of(armature).items()} == earlier
    assert_plays(armature, rig, world)


def test_where_keys_cannot_be_written_all_is_as_before():
    armature = make_rig("mixamo")
    action, rig, world = baked(armature)
    mesh = next(item for item in bpy.data.objects if item.type == "MESH")
    mesh.shape_key_add(name="Basis")
    keys = mesh.data.shape_keys
    # A track whose values have no columns cannot be a curve.
    broken = [(keys, [Track("key_blocks", FRAMES, np.zeros(3), "Expression")])]
    names, slot = [item.name for item in bpy.data.actions], armature.animation_data.action_slot
    with pytest.raises(IndexError):
        baked(armature, faces=broken, world=world)
    assert [item.name for item in bpy.data.actions] == names
    assert armature.animation_data.action == action and armature.animation_data.action_slot == slot
    assert keys.animation_data is None
    assert_plays(armature, rig, world)


def test_a_tweaked_strip_is_not_written_into():
    armature = make_rig("mixamo")
    action, _, _ = baked(armature)
    animation = armature.animation_data
    strip = animation.nla_tracks.new().strips.new("Earlier", 1, action)
    strip.action_slot = action.slots[0]
    animation.action = None
    animation.nla_tracks[0].select = strip.select = True
    animation.nla_tracks.active = animation.nla_tracks[0]
    animation.use_tweak_mode = True
    assert animation.use_tweak_mode
    with pytest.raises(RigError, match="leave Tweak Mode"):
        baked(armature)
    assert len(bpy.data.actions) == 1
