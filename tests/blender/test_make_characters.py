# SPDX-License-Identifier: GPL-3.0-or-later
"""Test characters stand as they are said to, whatever is odd about them, and what is sampled of files is what was keyed."""

import json
import math
import struct
from pathlib import Path

import bpy
import numpy as np
import pytest
from fullbody_mocap.evaluate import make_characters, rig_variants, sample_bones
from rigged_characters import DEFINITIONS, make_rig, rig_arrays, roles_of

RIGS = ("mixamo", "unreal", "cmu", "makehuman", "vrm")


def world_heads(armature, names):
    return np.array([armature.matrix_world @ armature.data.bones[name].head_local for name in names])


def lowest_vertex(armature):
    body = next(child for child in armature.children if child.type == "MESH")
    return min((body.matrix_world @ vertex.co).z for vertex in body.data.vertices)


@pytest.mark.parametrize("name", RIGS)
def test_a_rig_is_built_as_it_is_defined(name):
    armature, rig = make_rig(name), rig_arrays(name)
    bones = armature.data.bones
    assert np.abs(world_heads(armature, rig.names) - rig.heads).max() < 1e-6
    assert np.abs(np.array([bones[bone].matrix_local.to_3x3() for bone in rig.names]) - rig.axes).max() < 1e-4
    defined = DEFINITIONS["mixamo" if name == "vrm" else name]
    if name != "vrm":
        for bone, (parent, *_) in defined.items():
            assert (bones[bone].parent.name if bones[bone].parent else "") == parent
    assert abs(lowest_vertex(armature)) < 1e-6


@pytest.mark.parametrize("name", RIGS)
def test_true_roles_are_bones_on_their_own_side_in_the_order_of_the_body(name):
    armature = make_rig(name)
    roles = roles_of(armature)
    heads = {role: world_heads(armature, bones)[0] for role, bones in roles.items()}
    for role, place in heads.items():
        side = role.partition("_")[0]
        assert place[0] > 0.01 if side == "left" else place[0] < -0.01 if side == "right" else abs(place[0]) < 0.01
    for side in ("left", "right"):
        legs = [heads[f"{side}_{part}"][2] for part in ("hip", "knee", "ankle", "foot")]
        arms = [abs(heads[f"{side}_{part}"][0]) for part in ("collar", "shoulder", "elbow", "wrist")]
        assert legs == sorted(legs, reverse=True) and arms == sorted(arms)
        assert heads[f"{side}_foot"][1] < heads[f"{side}_ankle"][1]
    up = [world_heads(armature, [bone])[0, 2] for role in ("pelvis", "spine", "neck", "head") for bone in roles[role]]
    assert up == sorted(up)


def test_an_armature_objects_own_place_does_not_move_the_character():
    plain = rig_arrays("unreal")
    for odd in (
        {"scale": 100.0},
        {"scale": 0.01, "turn": (90, 0, 0)},
        {"turn": (0, 0, -60), "place": (1.0, -2.0, 0.5)},
    ):
        armature = make_rig("unreal", **odd)
        place = np.array(odd.get("place", (0, 0, 0)))
        assert np.abs(world_heads(armature, plain.names) - place - plain.heads).max() < 1e-5
        assert lowest_vertex(armature) == pytest.approx(place[2], abs=1e-5)


def test_variants_do_what_they_say():
    plain = rig_arrays("mixamo")
    quarter = rig_arrays("mixamo", facing=90)
    assert np.allclose(quarter.heads, np.stack([-plain.heads[:, 1], plain.heads[:, 0], plain.heads[:, 2]], -1))
    rolled = rig_arrays("mixamo", rolls=1)
    assert np.allclose(rolled.axes[:, :, 1], plain.axes[:, :, 1]) and np.abs(rolled.axes - plain.axes).max() > 1
    for degrees in (0, 45):
        arms = rig_arrays("mixamo", arms=degrees)
        along = arms.head("left_wrist") - arms.head("left_shoulder")
        assert math.degrees(math.atan2(-along[2], along[0])) == pytest.approx(degrees)
    long = rig_arrays("unreal", lengths={"knee": 1.2, "shoulder": 0.7})
    for role, following, factor in (("knee", "ankle", 1.2), ("shoulder", "elbow", 0.7), ("elbow", "wrist", 1.0)):
        lengths = [
            np.linalg.norm(rig.head(f"left_{following}") - rig.head(f"left_{role}")) for rig in (long, rig_arrays("unreal"))
        ]
        assert lengths[0] == pytest.approx(factor * lengths[1])
    for count in (1, 2, 6):
        spine = rig_arrays("mixamo", spine=count)
        chain = [spine.index(name) for name in spine.roles["spine"]]
        assert len(chain) == count and spine.parents[chain[0]] == spine.index("mixamorig:Hips")
        assert spine.parents[spine.index("mixamorig:Neck")] == chain[-1]
        assert spine.parents[spine.index("mixamorig:LeftShoulder")] == chain[-1]
    bare = rig_arrays("unreal", fingers=False)
    assert not any("index" in name for name in bare.names) and "left_index1" not in bare.roles
    split = rig_arrays("mixamo", split=True)
    assert len(split.roles["left_elbow"]) == 2
    assert split.parents[split.index("mixamorig:LeftHand")] == split.index(split.roles["left_elbow"][1])


def test_rigify_stands_on_the_ground_and_has_its_deforming_bones(rigify):
    roles = roles_of(rigify)
    assert len(rigify.data.bones) > 600
    assert all(rigify.data.bones[bone].use_deform for bones in roles.values() for bone in bones)
    assert abs(lowest_vertex(rigify)) < 1e-6


def test_characters_read_back_from_their_files_stand_where_they_should(tmp_path):
    names = ["mixamo", "vrm", "makehuman", "parented", "overridden"]
    made = make_characters.make_characters(DEFINITIONS, tmp_path, names)
    assert list(made) == names
    for name, path in made.items():
        known = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
        sample_bones.open_file(Path(path), 30.0)
        armature = max(
            (item for item in bpy.context.scene.objects if item.type == "ARMATURE"), key=lambda item: len(item.data.bones)
        )
        spec = make_characters.CHARACTERS[name]
        rig = rig_variants.make_rig_arrays(DEFINITIONS, spec.rig, make_characters.axes_from_roll)
        bones = [bone for chain in known["roles"].values() for bone in chain]
        heads = rig.heads[[rig.index(bone) for bone in bones]]
        assert np.abs(world_heads(armature, bones) - heads).max() < 1e-4
        assert known["facing"] == 0 and known["ground"] == 0


def test_a_vrm_names_its_humanoid_bones(tmp_path):
    make_characters.make_characters(DEFINITIONS, tmp_path, ["vrm"])
    content = (tmp_path / "vrm.vrm").read_bytes()
    assert struct.unpack_from("<I", content, 8)[0] == len(content)
    document = json.loads(content[20 : 20 + struct.unpack_from("<I", content, 12)[0]])
    human = document["extensions"]["VRMC_vrm"]["humanoid"]["humanBones"]
    named = {bone: document["nodes"][entry["node"]]["name"] for bone, entry in human.items()}
    assert named["hips"] == "J_Bip_C_Hips" and named["upperChest"] == "J_Bip_C_UpperChest"
    assert named["leftLowerArm"] == "J_Bip_L_LowerArm" and named["rightLittleDistal"] == "J_Bip_R_Little3"
    assert len(named) == 52 and len(set(named.values())) == 52


@pytest.mark.parametrize("suffix", [".blend", ".fbx", ".glb"])
def test_what_is_sampled_is_what_was_keyed(tmp_path, suffix):
    scene = bpy.context.scene
    scene.render.fps = 30
    armature = make_rig("mixamo", rolls=1, scale=0.5)
    bone = armature.pose.bones["mixamorig:LeftArm"]
    for frame in (1, 11):
        bone.rotation_quaternion = (math.cos(0.05 * (frame - 1) / 2), 0, 0, math.sin(0.05 * (frame - 1) / 2))
        bone.keyframe_insert("rotation_quaternion", frame=frame)
    scene.frame_start, scene.frame_end = 1, 11
    path = tmp_path / f"turning{suffix}"
    if suffix == ".blend":
        bpy.ops.wm.save_as_mainfile(filepath=str(path), check_existing=False)
    elif suffix == ".fbx":
        bpy.ops.export_scene.fbx(filepath=str(path), bake_anim_simplify_factor=0)
    else:
        bpy.ops.export_scene.gltf(filepath=str(path))
    names = ("mixamorig:LeftArm", "mixamorig:LeftForeArm", "mixamorig:Hips")
    found = sample_bones.sample(path, names, 30.0, frame_count=11)
    place = [list(found["names"]).index(name) for name in names]
    rig = rig_arrays("mixamo", rolls=1)
    rest = rig.heads[[rig.index(name) for name in names]]
    margin = int(suffix != ".blend")
    assert found["frames"].tolist() == list(range(1 - margin, 12 + margin)) and float(found["fps"]) == 30
    assert np.abs(found["rest"][place, :3, 3] - rest).max() < 1e-5
    axis = rig.axes[rig.index(names[0])][:, 2]
    arm = rest[1] - rest[0]
    turned = arm * math.cos(0.5) + np.cross(axis, arm) * math.sin(0.5) + axis * (axis @ arm) * (1 - math.cos(0.5))
    assert np.abs(found["world"][-1, place[1], :3, 3] - rest[0] - turned).max() < 1e-4
    assert np.abs(found["world"][:, place[2], :3, 3] - rest[2]).max() < 1e-5


def test_a_file_that_cannot_be_sampled_is_told(tmp_path):
    with pytest.raises(sample_bones.SampleError, match="There is no file"):
        sample_bones.sample(tmp_path / "none.fbx")
    make_rig("cmu")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "still.blend"), check_existing=False)
    with pytest.raises(sample_bones.SampleError, match="no animated armature"):
        sample_bones.sample(tmp_path / "still.blend")
