# SPDX-License-Identifier: GPL-3.0-or-later
from dataclasses import replace

import bpy
import numpy as np
import pytest
from fullbody_mocap.retarget.guess.find import find_role_map
from fullbody_mocap.retarget.rig.reading import RigError, read_rig, skeleton_of
from fullbody_mocap.retarget.rig.steering import bone_of_path
from fullbody_mocap.retarget.role_map import RoleMap, Switch
from rigged_characters import make_rig
from scene_reading import contents


def role_map_of(armature):
    return find_role_map(skeleton_of(armature))


def everything(armature):
    """What reading a rig must not change: the file's contents, the scene, the selection, the pose and what plays."""
    scene, animation = bpy.context.scene, armature.animation_data
    bones = [
        (
            tuple(bone.location),
            tuple(bone.rotation_quaternion),
            tuple(bone.rotation_euler),
            tuple(bone.scale),
            bone.rotation_mode,
        )
        for bone in armature.pose.bones
    ]
    properties = [{key: repr(value) for key, value in bone.items()} for bone in armature.pose.bones]
    playing = animation and (animation.action, animation.action_slot, animation.use_nla, len(animation.drivers))
    users = sorted((action.name, action.users, action.use_fake_user) for action in bpy.data.actions)
    state = (len(bpy.data.scenes), scene.frame_current, bpy.context.view_layer.objects.active, armature.select_get())
    places = [np.array(item.matrix_basis).tolist() for item in bpy.data.objects]
    return contents(), bones, properties, playing, users, state, places, armature.data.pose_position


def disturb(armature, seed=0):
    """Poses all bones at random in their own modes, plays an action, goes to another frame."""
    rng = np.random.default_rng(seed)
    for bone in armature.pose.bones:
        bone.location = rng.normal(0, 0.02, 3)
        bone.rotation_quaternion = (1, *rng.normal(0, 0.3, 3))
        bone.rotation_euler = rng.normal(0, 0.3, 3)
    armature.pose.bones[0].keyframe_insert("location", frame=3)
    bpy.context.scene.frame_current = 17
    bpy.context.view_layer.objects.active = armature
    armature.select_set(True)
    # What drivers move is theirs to say.
    bpy.context.view_layer.update()


@pytest.mark.parametrize(
    "name, options",
    [
        ("mixamo", dict(rolls=3, arms=40)),
        ("mixamo", dict(scale=0.01, turn=(90, 0, 0), place=(1, 2, 0.5), rotation_mode="XYZ")),
        ("unreal", dict(scale=100, rotation_mode="AXIS_ANGLE", without_inherited_turn=("hand_l", "head"))),
        ("makehuman", dict(facing=90)),
    ],
)
def test_the_hierarchy_says_of_a_plain_rig_what_trying_finds(name, options):
    armature = make_rig(name, **options)
    role_map = role_map_of(armature)
    read, tried = read_rig(armature, role_map, probe=False), read_rig(armature, role_map, probe=True)
    a, b = read.controls, tried.controls
    assert a.names == b.names and a.roles == b.roles and len(a.names) > 50
    assert np.array_equal(a.rotation_parents, b.rotation_parents)
    assert np.array_equal(a.location_parents, b.location_parents)
    for bone in options.get("without_inherited_turn", ()):
        assert a.rotation_parents[a.names.index(bone)] == -1 < a.location_parents[a.names.index(bone)]
    assert max(np.abs(x - y).max() for x, y in ((a.heads, b.heads), (a.tails, b.tails), (a.axes, b.axes))) < 1e-5
    assert np.abs(read.location_basis - tried.location_basis).max() < 1e-5 * a.scale
    assert a.scale == pytest.approx(options.get("scale", 1.0), rel=1e-4) == b.scale
    assert a.sole == pytest.approx(options.get("place", (0, 0, 0))[2], abs=1e-5) == b.sole
    assert np.abs(a.origin - options.get("place", (0, 0, 0))).max() < 1e-6
    assert read.notes == tried.notes == ()


def test_rigifys_controls_hang_together_across_its_helpers(rigify):
    rig = read_rig(rigify, role_map_of(rigify))
    controls = rig.controls
    parents = {
        name: tuple(controls.names[parent] if parent >= 0 else None for parent in both)
        for name, *both in zip(controls.names, controls.rotation_parents, controls.location_parents)
    }
    expected = {
        "torso": "root", "thigh_fk.L": "torso", "shin_fk.R": "thigh_fk.R", "toe_fk.L": "foot_fk.L",
        "shoulder.R": "spine_fk.003", "upper_arm_fk.L": "shoulder.L", "hand_fk.L": "forearm_fk.L",
        "f_index.01.L": "hand_fk.L", "thumb.03.R": "thumb.02.R", "neck": "spine_fk.003", "head": "neck",
    }  # fmt: skip
    assert {name: parents[name] for name in expected} == {name: (parent, parent) for name, parent in expected.items()}
    assert rig.notes == () and rig.at_rest == ()
    assert controls.sole == pytest.approx(0, abs=0.02)
    order = {name: number for number, name in enumerate(controls.names)}
    assert all(order[parent] < order[name] for name, both in parents.items() for parent in both if parent)


def test_a_pose_changes_neither_the_reading_nor_is_it_changed(rigify):
    role_map = role_map_of(rigify)
    before = read_rig(rigify, role_map)
    disturb(rigify)
    state = everything(rigify)
    after = read_rig(rigify, role_map)
    assert everything(rigify) == state
    for values in ("heads", "axes", "rotation_parents", "location_parents"):
        assert np.abs(getattr(before.controls, values) - getattr(after.controls, values)).max() < 1e-5
    # What steers the controls is named, so that it can be keyed at rest; the controls themselves are not.
    assert "MCH-torso.parent" in after.at_rest and not set(after.at_rest) & set(after.controls.names)
    # Nor where the reading fails on its way.
    with pytest.raises(RigError, match=r"ORG-thigh\.L \(left_hip\) does not turn by itself.*map the bone that controls it"):
        read_rig(rigify, role_map.with_bones("left_hip", ("ORG-thigh.L",)))
    assert everything(rigify) == state


def test_without_its_switches_rigifys_neck_follows_in_part(rigify):
    role_map = role_map_of(rigify)
    notes = read_rig(rigify, RoleMap(role_map.name, role_map.bones)).notes
    assert any("neck (neck) follows other bones in part" in note for note in notes)
    # And its limbs are on IK, where their controls move nothing that is seen.
    assert any("Nothing of the body follows thigh_fk.L (and 11 more): switch the rig from IK to FK" in n for n in notes)


def test_only_what_steers_the_controls_counts_as_off_rest(rigify):
    role_map = role_map_of(rigify)
    hand, finger = rigify.pose.bones["hand_ik.L"], rigify.pose.bones["f_index.01_master.R"]
    hand.location, hand.rotation_quaternion = (0.2, 0.1, 0), (1, 0.4, 0, 0)
    assert read_rig(rigify, role_map).at_rest == ()
    finger.location = (0, 0.05, 0)
    assert read_rig(rigify, role_map).at_rest == ("f_index.01_master.R",)


def test_a_switch_that_is_not_there_is_noted():
    armature = make_rig("mixamo")
    role_map = replace(role_map_of(armature), switches=(Switch("mixamorig:Head", "follow", 1), Switch("Nobody", "IK_FK", 1)))
    assert read_rig(armature, role_map).notes == (
        "mixamo has no switch follow on its bone mixamorig:Head, which the role map sets.",
    )
    armature.pose.bones["mixamorig:Head"]["follow"] = False
    assert any("no switch IK_FK on its bone Nobody" in note for note in read_rig(armature, role_map).notes)
    assert armature.pose.bones["mixamorig:Head"]["follow"] is False


def test_bones_that_something_else_moves_are_left_out_with_a_note():
    armature = make_rig("mixamo")
    role_map, names = role_map_of(armature), {}
    for role in ("left_index3", "right_index3", "left_middle1"):
        names[role] = role_map.bones[role][0]
    copying = armature.pose.bones[names["left_index3"]].constraints.new("COPY_ROTATION")
    copying.target, copying.subtarget = armature, names["left_middle1"]
    for axis in range(4):
        armature.pose.bones[names["right_index3"]].driver_add("rotation_quaternion", axis).driver.expression = "0.5"
    muted = armature.pose.bones[names["left_middle1"]].constraints.new("LIMIT_ROTATION")
    muted.use_limit_x, muted.mute = True, True
    rig = read_rig(armature, role_map)
    assert names["left_index3"] not in rig.controls.names and names["right_index3"] not in rig.controls.names
    assert names["left_middle1"] in rig.controls.names
    assert any(names["left_index3"] in note and "a constraint moves it" in note for note in rig.notes)
    assert any(names["right_index3"] in note and "a driver moves it" in note for note in rig.notes)
    assert len(rig.notes) == 2


def test_the_sole_is_the_feets_own():
    armature = make_rig("mixamo", place=(0, 0, 0.3))
    role_map = role_map_of(armature)
    mesh = next(item for item in bpy.data.objects if item.type == "MESH")
    assert read_rig(armature, role_map).controls.sole == pytest.approx(0.3, abs=1e-5)
    # A train drags along the ground far below, and is no foot; neither is what another armature deforms.
    skirt = mesh.copy()
    skirt.data = mesh.data.copy()
    skirt.data.transform(np.diag([1, 1, 3, 1]).tolist())
    bpy.context.scene.collection.objects.link(skirt)
    for group in list(skirt.vertex_groups):
        if "Foot" in group.name or "Toe" in group.name:
            skirt.vertex_groups.remove(group)
    assert read_rig(armature, role_map).controls.sole == pytest.approx(0.3, abs=1e-5)
    for item in (mesh, skirt):
        bpy.data.objects.remove(item)
    sole = read_rig(armature, role_map).controls.sole
    feet = [armature.data.bones[name] for side in ("Left", "Right") for name in (f"mixamorig:{side}ToeBase",)]
    assert sole == pytest.approx(0.3 + min(min(bone.head_local.z, bone.tail_local.z) for bone in feet), abs=1e-5)


def test_a_scaled_pose_is_part_of_the_rest():
    armature = make_rig("mixamo")
    role_map = role_map_of(armature)
    plain = read_rig(armature, role_map).controls
    armature.pose.bones["mixamorig:Hips"].scale = (2, 2, 2)
    scaled = read_rig(armature, role_map).controls
    hips = plain.heads[plain.first("pelvis")]
    assert np.abs(scaled.heads - hips - 2 * (plain.heads - hips)).max() < 1e-5
    assert np.abs(scaled.axes - plain.axes).max() < 1e-5
    assert scaled.sole == pytest.approx(hips[2] - 2 * (hips[2] - plain.sole), abs=1e-5)
    assert scaled.scale == pytest.approx(1, abs=1e-5)


def test_a_rest_position_is_read_as_a_pose_and_noted():
    armature = make_rig("mixamo")
    armature.data.pose_position = "REST"
    # Not plain, so that it has to be posed.
    armature.pose.bones["mixamorig:Head"].constraints.new("LIMIT_SCALE")
    state = everything(armature)
    rig = read_rig(armature, role_map_of(armature))
    assert len(rig.controls.names) == 52 and any("rest position" in note for note in rig.notes)
    assert everything(armature) == state


def test_what_plays_besides_is_noted():
    armature = make_rig("mixamo")
    role_map = role_map_of(armature)
    animation = armature.animation_data_create()
    track = animation.nla_tracks.new()
    action = bpy.data.actions.new("Idle")
    action.slots.new(id_type="OBJECT", name="Idle")
    track.strips.new("Idle", 1, action)
    assert any("NLA strips" in note for note in read_rig(armature, role_map).notes)
    track.mute = True
    assert read_rig(armature, role_map).notes == ()
    track.mute, track.is_solo = False, True
    assert any("plays solo" in note for note in read_rig(armature, role_map).notes)
    track.mute, track.is_solo = True, False
    animation.action_influence = 0.5
    assert any("Influence" in note for note in read_rig(armature, role_map).notes)


def test_what_cannot_be_read_is_said_in_a_sentence():
    armature = make_rig("mixamo")
    role_map = role_map_of(armature)
    with pytest.raises(RigError, match="choose the character's armature object"):
        read_rig(next(item for item in bpy.data.objects if item.type == "MESH"), role_map)
    with pytest.raises(RigError, match="choose the character's armature object"):
        read_rig(None, role_map)
    with pytest.raises(RigError, match="has the role left_hip"):
        read_rig(armature, role_map.with_bones("left_hip", ()))
    with pytest.raises(RigError, match="has the role left_hip"):
        read_rig(armature, role_map.with_bones("left_hip", ("Nobody",)))
    assert any("has no bone Nobody" in n for n in read_rig(armature, role_map.with_bones("head", ("Nobody",))).notes)
    armature.scale.x = -1
    with pytest.raises(RigError, match="mirrored or flat"):
        read_rig(armature, role_map)
    armature.scale = (1, 1, 2)
    assert any("scaled unevenly" in note for note in read_rig(armature, role_map).notes)


def test_a_path_names_its_bone():
    for name in ("Hand.L", 'a"b', "c\\d", "mixamorig:Hips"):
        path = f'pose.bones["{bpy.utils.escape_identifier(name)}"]'
        assert bone_of_path(f"{path}.location") == bone_of_path(f'{path}["IK_FK"]') == name
    assert bone_of_path('bones["Hand"].hide') is None and bone_of_path("location") is None
