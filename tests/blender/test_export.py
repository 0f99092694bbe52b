# SPDX-License-Identifier: GPL-3.0-or-later
import json
import os
import re
import struct

import bpy
import numpy as np
import pytest
from exported_motion import FRAMES, add_motion, world_heads, world_rest
from fullbody_mocap.contract.frames import axis_angle_to_matrix
from fullbody_mocap.retarget.files import export
from fullbody_mocap.retarget.files.bvh_file import bvh_text
from fullbody_mocap.retarget.files.plain_armature import deforming_tree, is_control_rig
from rigged_characters import make_rig
from scene_reading import contents, curves_of

IMPORTERS = {
    "blend": lambda path: bpy.ops.wm.open_mainfile(filepath=path),
    "fbx": lambda path: bpy.ops.import_scene.fbx(filepath=path),
    "glb": lambda path: bpy.ops.import_scene.gltf(filepath=path),
    "bvh": lambda path: bpy.ops.import_anim.bvh(filepath=path),
    "usd": lambda path: bpy.ops.wm.usd_import(filepath=path),
}
FIRST = {"fbx": 2, "glb": 0}
"""The frame at which Blender's importers put a file's first moment."""


def write_all(folder, armature, action):
    paths = {format: folder / f"out{suffix}" for format, suffix in export.SUFFIXES.items()}
    return paths, export.write_files(paths, armature, action, (1, FRAMES))


def read_back(path, format, fps=(24, 1.0)):
    """The armature of a file in an empty one that plays at `fps`."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.scene.render.fps, bpy.context.scene.render.fps_base = fps
    IMPORTERS[format](str(path))
    return next(item for item in bpy.data.objects if item.type == "ARMATURE" and item.animation_data)


def names_in(armature, names):
    """Bones' names as an imported armature has them: USD allows letters and digits only."""
    return [name if name in armature.data.bones else re.sub(r"\W", "_", name) for name in names]


def below_an_empty(armature):
    empty = bpy.data.objects.new("Stand", None)
    bpy.context.scene.collection.objects.link(empty)
    empty.location, empty.rotation_euler, empty.scale = (1, 2, 0.5), (0.3, -0.2, 1.0), (1.5, 1.5, 1.5)
    armature.parent = empty
    bpy.context.view_layer.update()
    return armature


RIGS = {
    "scaled by 100 and elsewhere, with rolls and bones that keep their turns": lambda: make_rig(
        "unreal", scale=100, rolls=1, place=(0.3, -1, 0), turn=(0, 0, 50), without_inherited_turn=("neck_01", "upperarm_l")
    ),
    "scaled by 0.01 and turned, below an empty": lambda: below_an_empty(make_rig("cmu", scale=0.01, turn=(90, 0, 0))),
}


@pytest.mark.parametrize("rig", RIGS)
def test_every_joint_comes_back_where_it_was_over_the_whole_clip(tmp_path, rig):
    armature = RIGS[rig]()
    action = add_motion(armature, shape_key=True)
    names, rest = world_rest(armature)
    heads, place = world_heads(armature, names), np.array(armature.matrix_world)
    before = contents()
    paths, notes = write_all(tmp_path, armature, action)
    assert notes == [] and contents() == before and armature.animation_data.action == action
    assert sorted(os.listdir(tmp_path)) == sorted(path.name for path in paths.values())
    for format, path in paths.items():
        read = read_back(path, format)
        own = names_in(read, names)
        assert np.abs(world_rest(read, own)[1] - rest).max() < 1e-4, format
        assert np.abs(world_heads(read, own, FIRST.get(format, 1)) - heads).max() < 1e-4, format
        if format != "bvh":
            size = np.abs(place).max()
            np.testing.assert_allclose(np.array(read.matrix_world) / size, place / size, atol=1e-5, err_msg=format)
            keys = next(key for key in bpy.data.shape_keys if "jawOpen" in key.key_blocks)
            curve = next(iter(curves_of(keys).values())) if format != "usd" else None
            assert curve is None or np.ptp(curve[:, 1]) == pytest.approx(1), format


def test_a_motion_that_begins_later_comes_back_at_its_own_time(tmp_path):
    armature = make_rig("mixamo")
    action = add_motion(armature, begins=5)
    names = world_rest(armature)[0]
    heads, before = world_heads(armature, names), contents()
    paths, _ = write_all(tmp_path, armature, action)
    assert contents() == before and not action.use_frame_range
    for format, path in paths.items():
        read = read_back(path, format)
        assert np.abs(world_heads(read, names_in(read, names), FIRST.get(format, 1)) - heads).max() < 1e-4, format


def test_of_a_control_rig_the_deforming_bones_are_written(tmp_path, rigify):
    """Arms by FK and legs by IK, whose reach the hips leave, so that bones stretch; a prop on a control."""
    for side in "LR":
        rigify.pose.bones[f"upper_arm_parent.{side}"]["IK_FK"] = 1.0
    prop = bpy.data.objects.new("Prop", bpy.data.meshes.new("Prop"))
    prop.parent, prop.parent_type, prop.parent_bone = rigify, "BONE", "hand_fk.L"
    bpy.context.scene.collection.objects.link(prop)
    action = add_motion(rigify, ["torso", "chest", "head", "upper_arm_fk.L", "forearm_fk.L", "hand_fk.L"])
    assert is_control_rig(rigify)
    names, parents = deforming_tree(rigify)
    assert set(names) == {bone.name for bone in rigify.data.bones if bone.use_deform} and parents.count(-1) == 1
    parent_of = {name: names[parent] for name, parent in zip(names, parents) if parent >= 0}
    for name, parent in (
        ("thigh.L", "spine"),
        ("shoulder.R", "spine.003"),
        ("upper_arm.R", "shoulder.R"),
        ("jaw", "spine.006"),
    ):
        assert parent_of[f"DEF-{name}"] == f"DEF-{parent}"
    rest, heads = world_rest(rigify, names)[1], world_heads(rigify, names)
    bpy.context.scene.frame_set(FRAMES)
    prop_place = np.array(prop.matrix_world)
    before, bones = contents(), len(rigify.data.bones)
    paths = {format: tmp_path / f"out{export.SUFFIXES[format]}" for format in ("fbx", "glb")}
    notes = export.write_files(paths, rigify, action, (1, FRAMES))
    assert "stretch" in notes[0] and contents() == before and len(rigify.data.bones) == bones
    for format, path in paths.items():
        read = read_back(path, format)
        assert {bone.name for bone in read.data.bones} == {*names, "hand_fk.L"}
        assert np.abs(world_rest(read, names)[1] - rest).max() < 1e-4, format
        assert np.abs(world_heads(read, names, FIRST[format]) - heads).max() < 1e-4, format
        moved = np.array(bpy.data.objects["Prop"].matrix_world)
        np.testing.assert_allclose(moved[:3, 3], prop_place[:3, 3], atol=1e-4, err_msg=format)


def test_a_control_rig_that_is_linked_and_overridden(rigify_file, scene, tmp_path):
    with bpy.data.libraries.load(str(rigify_file), link=True) as (_, wanted):
        wanted.objects = ["rigify"]
    scene.collection.objects.link(wanted.objects[0])
    armature = wanted.objects[0].override_create(remap_local_usages=True)
    action = add_motion(armature, ["torso", "chest"])
    names = deforming_tree(armature)[0]
    heads = world_heads(armature, names)
    export.write(tmp_path / "out.bvh", "bvh", armature, action, (1, FRAMES))
    assert np.abs(world_heads(read_back(tmp_path / "out.bvh", "bvh"), names) - heads).max() < 1e-4


def glb_document(path):
    content = path.read_bytes()
    return json.loads(content[20 : 20 + struct.unpack_from("<I", content, 12)[0]])


def test_a_glb_has_one_animation_with_expressions_and_no_other_action(tmp_path):
    armature = make_rig("cmu")
    add_motion(armature, name="earlier").use_fake_user = True
    action = add_motion(armature, shape_key=True)
    bpy.context.scene.render.fps, bpy.context.scene.render.fps_base = 30, 1.001
    bpy.context.scene.collection.objects.link(bpy.data.objects.new("Beside", bpy.data.meshes.new("Beside")))
    export.write(tmp_path / "out.glb", "glb", armature, action, (1, FRAMES))
    document = glb_document(tmp_path / "out.glb")
    [animation] = document["animations"]
    assert animation["name"] == "walk about"
    assert {channel["target"]["path"] for channel in animation["channels"]} >= {"rotation", "translation", "weights"}
    for sampler in animation["samplers"]:
        times = document["accessors"][sampler["input"]]
        assert times["count"] in (2, FRAMES) and times["min"][0] == 0
        assert times["max"][0] == pytest.approx((FRAMES - 1) * 1.001 / 30, rel=1e-5)
    assert "Beside" not in {node["name"] for node in document["nodes"]}


def test_the_fbx_has_one_animation_called_after_the_action(tmp_path):
    armature = make_rig("cmu")
    add_motion(armature, name="earlier").use_fake_user = True
    export.write(tmp_path / "out.fbx", "fbx", armature, add_motion(armature), (1, FRAMES))
    content = (tmp_path / "out.fbx").read_bytes()
    assert content.count(b"\x00\x01AnimStack") == 1 and b"walk about\x00\x01AnimStack" in content


def test_a_hidden_character_is_written(tmp_path):
    armature = make_rig("cmu")
    action = add_motion(armature)
    names = [bone.name for bone in armature.data.bones]
    heads = world_heads(armature, names)
    armature.hide_viewport = True
    export.write(tmp_path / "out.fbx", "fbx", armature, action, (1, FRAMES))
    assert armature.hide_viewport
    assert np.abs(world_heads(read_back(tmp_path / "out.fbx", "fbx"), names, 2) - heads).max() < 1e-4


def test_what_cannot_be_written_leaves_what_was_there(tmp_path, monkeypatch):
    armature = make_rig("cmu")
    action = add_motion(armature)
    earlier = tmp_path / "out.fbx"
    earlier.write_text("earlier")
    for paths, words in (
        ({"max": tmp_path / "out.max"}, "no format 'max'"),
        ({"fbx": tmp_path / "none" / "out.fbx"}, "Cannot write"),
        ({"fbx": earlier, "glb": tmp_path}, "Is a directory"),
        ({"fbx": earlier, "usd": tmp_path / "none" / "out.usd"}, "Cannot write"),
    ):
        with pytest.raises(export.ExportError, match=words):
            export.write_files(paths, armature, action, (1, FRAMES))
    with pytest.raises(export.ExportError, match="does not play"):
        export.write(earlier, "fbx", armature, bpy.data.actions.new("other"), (1, FRAMES))
    assert earlier.read_text() == "earlier" and os.listdir(tmp_path) == ["out.fbx"]
    assert len(bpy.data.scenes) == 1 and armature.name in bpy.context.scene.objects


def bvh_of(turns, places, tmp_path, fps=30.0):
    """Writes a chain of joints along x with world turns [T, B, 3, 3] and root places [T, 3], and reads it back."""
    count = turns.shape[1]
    rest = np.tile(np.eye(4), (count, 1, 1))
    rest[:, 0, 3] = np.arange(count)
    matrices = np.tile(np.eye(4), (len(turns), count, 1, 1))
    matrices[..., :3, :3] = turns * np.linspace(0.5, 2, count)[:, None, None]  # a scale must not matter
    matrices[:, 0, :3, 3] = places
    for joint in range(1, count):
        matrices[:, joint, :3, 3] = matrices[:, joint - 1, :3, 3] + turns[:, joint - 1, :, 0]
    names = [f"joint{joint}" for joint in range(count)]
    tails = rest[:, :3, 3] + (1, 0, 0)
    (tmp_path / "out.bvh").write_text(bvh_text(names, range(-1, count - 1), rest, tails, matrices, fps))
    return names, matrices[..., :3, 3]


def test_a_bvh_of_any_turns(tmp_path):
    """Also through the poles of its angles, where two of them are one."""
    rng = np.random.default_rng(0)
    turns = axis_angle_to_matrix(rng.normal(0, 2, (FRAMES, 4, 3)))
    turns[:3, 1] = turns[:3, 0] @ axis_angle_to_matrix([[np.pi / 2, 0, 0], [0, -np.pi / 2, 0], [0, 0, np.pi / 2]])
    names, heads = bvh_of(turns, rng.normal(size=(FRAMES, 3)), tmp_path)
    read = read_back(tmp_path / "out.bvh", "bvh", (30, 1.0))
    assert np.abs(world_heads(read, names) - heads).max() < 1e-5


def test_a_bvhs_angles_never_jump(tmp_path):
    turns = axis_angle_to_matrix(np.linspace(0, 6 * np.pi, 200)[:, None, None] * np.array([[0.6, 0.1, 0.8], [0, 1, 0]]))
    bvh_of(turns, np.zeros((200, 3)), tmp_path)
    text = (tmp_path / "out.bvh").read_text()
    rows = np.array([line.split() for line in text.split("Frame Time: ")[1].splitlines()[1:]], float)
    assert rows.shape == (200, 12) and np.abs(np.diff(rows, axis=0)).max() < 20
    assert float(text.split("Frame Time: ")[1].split()[0]) == pytest.approx(1 / 30)


def test_a_bvh_has_one_root_and_words_for_names(tmp_path):
    armature = make_rig("cmu")
    armature.name = "The hero"
    bpy.context.view_layer.objects.active = armature
    bpy.ops.object.mode_set(mode="EDIT")
    bones = armature.data.edit_bones
    for name in ("a prop", "a_prop"):
        bones.new(name).tail = (0, 0, 1)
    bpy.ops.object.mode_set(mode="OBJECT")
    export.write(tmp_path / "out.bvh", "bvh", armature, add_motion(armature), (1, FRAMES))
    lines = [line.split() for line in (tmp_path / "out.bvh").read_text().splitlines()]
    assert [line[1] for line in lines if line[0] == "ROOT"] == ["The_hero"]
    joints = [line[1] for line in lines if line[0] == "JOINT"]
    assert len(joints) == len(set(joints)) == len(armature.data.bones) and {"a_prop", "a_prop_"} <= set(joints)
