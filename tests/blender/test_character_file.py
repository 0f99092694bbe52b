# SPDX-License-Identifier: GPL-3.0-or-later
import json
import struct

import bpy
import numpy as np
import pytest
from exported_motion import add_motion, world_rest
from fullbody_mocap.retarget.files.character_file import CharacterFileError, open_character
from fullbody_mocap.retarget.files.vrm_file import VrmError, glb_bytes, humanoid_roles, read_glb
from fullbody_mocap.retarget.role_map import RoleMapError
from rigged_characters import make_rig, roles_of

EXPORTERS = {
    ".blend": lambda path: bpy.ops.wm.save_as_mainfile(filepath=path, check_existing=False),
    ".fbx": lambda path: bpy.ops.export_scene.fbx(filepath=path, add_leaf_bones=False),
    ".glb": lambda path: bpy.ops.export_scene.gltf(filepath=path),
    ".gltf": lambda path: bpy.ops.export_scene.gltf(filepath=path, export_format="GLTF_SEPARATE"),
}


def save(path):
    EXPORTERS[path.suffix](str(path))
    return path


@pytest.mark.parametrize("suffix", EXPORTERS)
def test_a_character_stands_as_it_was_saved(tmp_path, suffix):
    armature = make_rig("mixamo", scale=0.01, turn=(90, 0, 0))
    names, rest = world_rest(armature)
    path = save(tmp_path / f"hero{suffix}")
    opened, role_map, notes = open_character(path)
    assert role_map is None and notes == []
    np.testing.assert_allclose(world_rest(opened, names)[1], rest, atol=1e-4)
    assert opened.name in bpy.context.view_layer.objects and bpy.context.scene in opened.users_scene
    assert any(item.find_armature() == opened for item in bpy.data.objects if item.type == "MESH")


@pytest.mark.parametrize("suffix", [".fbx", ".glb"])
def test_the_files_own_animation_is_left_out(tmp_path, suffix):
    add_motion(make_rig("cmu"))
    opened, _, notes = open_character(save(tmp_path / f"moving{suffix}"))
    assert notes == [f"The animation that moving{suffix} came with is left out."]
    assert not bpy.data.actions and (opened.animation_data is None or not opened.animation_data.nla_tracks)
    bpy.context.view_layer.update()
    for bone in opened.pose.bones:
        np.testing.assert_allclose(np.array(bone.matrix), np.array(bone.bone.matrix_local), atol=1e-5)


def test_a_blend_keeps_its_actions(tmp_path):
    action = add_motion(make_rig("cmu")).name
    opened, _, notes = open_character(save(tmp_path / "moving.blend"))
    assert opened.animation_data.action.name == action and notes == []


def vrm(path, version, rename=()):
    """The open character as a VRM file of either version; nodes that `rename` says get other names, or none."""
    armature = next(item for item in bpy.data.objects if item.type == "ARMATURE")
    true = roles_of(armature)
    document, further = read_glb(save(path.with_suffix(".glb")))
    nodes = {node["name"]: number for number, node in enumerate(document["nodes"])}
    bones = {
        bone: nodes[name]
        for role, vrm_names in humanoid_roles(version).items()
        for bone, name in zip(vrm_names, true.get(role, ()))
    }
    for name, other in dict(rename).items():
        document["nodes"][nodes[name]].pop("name")
        if other:
            document["nodes"][nodes[name]]["name"] = other
    if version:
        human = {"VRMC_vrm": {"humanoid": {"humanBones": {bone: {"node": node} for bone, node in bones.items()}}}}
    else:
        listed = [{"bone": bone, "node": node} for bone, node in bones.items()] + [{"bone": "jaw", "node": -1}]
        human = {"VRM": {"humanoid": {"humanBones": listed}}}
    path.write_bytes(glb_bytes({**document, "extensions": human}, further))
    return true


@pytest.mark.parametrize("version", [0, 1])
def test_a_vrm_says_itself_which_bones_are_which(tmp_path, version):
    make_rig("vrm")
    true = vrm(tmp_path / "hero.vrm", version)
    opened, role_map, _ = open_character(tmp_path / "hero.vrm")
    assert role_map.name == f"VRM {version}" and role_map.bones == true
    assert {name for names in true.values() for name in names} <= {bone.name for bone in opened.data.bones}


def test_a_vrms_bones_are_found_whatever_their_nodes_are_called(tmp_path):
    """A name that several nodes have, one that Blender must shorten, and none at all."""
    rename = {"J_Bip_C_Hips": "body", "J_Bip_L_Hand": "w" * 70, "J_Bip_R_Foot": None, "J_Bip_C_Head": "vrm body"}
    armature = make_rig("vrm")
    heads = dict(zip(*world_rest(armature)))
    true = vrm(tmp_path / "hero.vrm", 1, rename)
    opened, role_map, _ = open_character(tmp_path / "hero.vrm")
    assert set(role_map.bones) == set(true)
    for role, names in role_map.bones.items():
        found = world_rest(opened, names)[1]
        np.testing.assert_allclose(found, [heads[name] for name in true[role]], atol=1e-4)


def test_vrms_that_say_nonsense(tmp_path):
    make_rig("vrm")
    vrm(tmp_path / "hero.vrm", 0)
    document, further = read_glb(tmp_path / "hero.vrm")
    for human in ({"VRM": {}}, {"VRMC_vrm": {"humanoid": {"humanBones": {"hips": {"node": 999}}}}}, {"VRM": []}):
        (tmp_path / "odd.vrm").write_bytes(glb_bytes({**document, "extensions": human}, further))
        with pytest.raises(VrmError, match="does not say which nodes"):
            open_character(tmp_path / "odd.vrm")
    bones = [{"bone": bone, "node": 1} for bone in ("hips", "spine")]
    human = {"VRM": {"humanoid": {"humanBones": bones}}}
    (tmp_path / "odd.vrm").write_bytes(glb_bytes({**document, "extensions": human}, further))
    with pytest.raises(RoleMapError, match="stands for both"):
        open_character(tmp_path / "odd.vrm")


def test_a_glb_is_written_as_it_was_read(tmp_path):
    make_rig("cmu")
    path = save(tmp_path / "hero.glb")
    document, further = read_glb(path)
    (tmp_path / "again.glb").write_bytes(glb_bytes(document, further))
    assert read_glb(tmp_path / "again.glb") == (document, further)
    assert struct.unpack_from("<I", (tmp_path / "again.glb").read_bytes(), 8)[0] % 4 == 0
    assert json.dumps(document) and len(further) % 4 == 0


@pytest.mark.parametrize(
    "suffix, what",
    [
        (".blend", "cut"),
        (".fbx", "cut"),
        (".vrm", "cut"),
        (".gltf", "cut"),
        (".blend", "junk"),
        (".fbx", "junk"),
        (".glb", "empty"),
    ],
)
def test_broken_files_are_told_in_one_sentence(tmp_path, suffix, what):
    path = tmp_path / f"broken{suffix}"
    if what == "cut":
        make_rig("cmu")
        whole = save(tmp_path / f"whole{'.glb' if suffix == '.vrm' else suffix}").read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    else:
        path.write_bytes(b"not what its name says" * 20 if what == "junk" else b"")
    with pytest.raises((CharacterFileError, VrmError)) as error:
        open_character(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value) and str(error.value).endswith(".")


def test_files_that_are_not_there_or_no_characters(tmp_path):
    for name, words in (("none.fbx", "no character at"), ("text.txt", "ends with .blend, .fbx")):
        with pytest.raises(CharacterFileError, match=words):
            open_character(tmp_path / name)
    with pytest.raises(CharacterFileError, match="has no armature: give"):
        open_character(save(tmp_path / "nothing.blend"))
    bpy.context.scene.collection.objects.link(bpy.data.objects.new("Bare", bpy.data.armatures.new("Bare")))
    with pytest.raises(CharacterFileError, match="Bare of .* has no bones"):
        open_character(save(tmp_path / "bare.blend"))


def test_of_several_armatures_the_named_or_the_one_that_fits(tmp_path):
    bpy.context.scene.collection.objects.link(bpy.data.objects.new("A prop", bpy.data.armatures.new("A prop")))
    make_rig("cmu", object_name="Hero")
    path = save(tmp_path / "two.blend")
    opened, _, notes = open_character(path)
    assert opened.name == "Hero" and notes == ["two.blend has 2 armatures; Hero was taken, which fits most roles."]
    assert open_character(path, "Hero")[0].name == "Hero"
    with pytest.raises(CharacterFileError, match="no armature called Nobody; there is A prop, Hero"):
        open_character(path, "Nobody")


def test_a_character_in_another_scene_and_in_pose_mode(tmp_path):
    armature = make_rig("cmu")
    bpy.context.view_layer.objects.active = armature
    bpy.ops.object.mode_set(mode="POSE")
    home = bpy.context.scene.name
    bpy.context.window.scene = bpy.data.scenes.new("Empty")
    opened, _, _ = open_character(save(tmp_path / "hero.blend"))
    assert bpy.context.scene.name == home and opened.mode == "OBJECT"
    opened.users_collection[0].objects.unlink(opened)
    apart = bpy.data.collections.new("Apart")
    bpy.context.scene.collection.children.link(apart)
    apart.objects.link(opened)
    bpy.context.view_layer.layer_collection.children["Apart"].exclude = True
    with pytest.raises(CharacterFileError, match="left out of the view layer"):
        open_character(save(tmp_path / "hero.blend"))


def test_what_is_linked_must_be_overridden(tmp_path):
    make_rig("cmu", object_name="Hero")
    home = save(tmp_path / "home.blend")
    bpy.ops.wm.read_factory_settings(use_empty=True)
    with bpy.data.libraries.load(str(home), link=True) as (available, wanted):
        wanted.objects = list(available.objects)
    for item in wanted.objects:
        bpy.context.scene.collection.objects.link(item)
    linked = save(tmp_path / "linked.blend")
    with pytest.raises(CharacterFileError, match="make a library override"):
        open_character(linked)
    bpy.ops.wm.open_mainfile(filepath=str(linked))
    bpy.data.objects["Hero"].override_create(remap_local_usages=True)
    opened, _, _ = open_character(save(tmp_path / "overridden.blend"))
    assert opened.override_library is not None


def test_no_script_in_a_file_is_run(tmp_path):
    make_rig("cmu")
    text = bpy.data.texts.new("run_me.py")
    text.write(f"open({str(tmp_path / 'was_here')!r}, 'w').close()")
    text.use_module = True
    open_character(save(tmp_path / "scripted.blend"))
    assert not (tmp_path / "was_here").exists()
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "scripted.blend"), use_scripts=True)
    assert (tmp_path / "was_here").exists(), "it would have run"
