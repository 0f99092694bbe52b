# SPDX-License-Identifier: GPL-3.0-or-later
"""The Retarget panel's lists, tables and its button: as a user works with them, and what may go wrong in between."""

import json

import bpy
import numpy as np
import pytest
from fullbody_mocap.contract.npz_file import FileError
from fullbody_mocap.retarget.batch import Batch, rest_of
from fullbody_mocap.retarget.face import FaceMap
from fullbody_mocap.retarget.properties import is_there, lacks_bones, problems_of, role_map_of
from fullbody_mocap.retarget.role_labels import OF_SEVERAL, ROLE_GROUPS, ROLE_LABELS
from fullbody_mocap.retarget.role_map import RoleMap
from fullbody_mocap.retarget.roles import ROLES
from rigged_characters import make_rig, roles_of
from scene_reading import contents
from synthetic_person import make_clip, make_template

FACE = ("jawOpen", "eyeBlinkLeft", "eyeBlinkRight")


@pytest.fixture(autouse=True)
def own_maps(tmp_path, monkeypatch):
    """Maps that these tests keep lie in a folder of their own."""
    monkeypatch.setattr("fullbody_mocap.operators.retarget.maps_folder", lambda: tmp_path / "kept")
    return tmp_path / "kept"


@pytest.fixture
def files(tmp_path):
    """A folder with a template and two captures of its body."""
    template = make_template()
    template.meta["body_sha256"] = "body"
    template.save(tmp_path / "person.npz")
    for seed, name in enumerate(("walk", "wave")):
        clip = make_clip(template, frames=20 + 10 * seed, seed=seed, expression_names=FACE)
        clip.meta["models"] = {"body": "body"}
        clip.save(tmp_path / f"{name}.npz")
    return tmp_path


@pytest.fixture
def settings(addon, scene, files):
    scene.fullbody_retarget.template_path = str(files / "person.npz")
    return scene.fullbody_retarget


def select(*items):
    for item in bpy.context.view_layer.objects:
        item.select_set(item in items)


def add_captures(folder, *names, undo=False):
    return bpy.ops.fullbody.retarget_add_captures(
        "EXEC_DEFAULT", undo, directory=str(folder), files=[{"name": name} for name in names]
    )


def add_characters(*items):
    select(*items)
    return bpy.ops.fullbody.retarget_add_characters()


def actions():
    return {action.name for action in bpy.data.actions}


# Labels.


def test_every_role_has_a_label_of_its_own_and_a_place_in_the_table():
    grouped = [role for roles in ROLE_GROUPS.values() for role in roles]
    assert sorted(grouped) == sorted(ROLES) and len(set(ROLE_LABELS.values())) == len(ROLES)
    assert set(OF_SEVERAL) <= set(ROLES)
    assert ROLE_LABELS["left_shoulder"] == "Left Upper Arm" and ROLE_LABELS["right_knee_twist"] == "Right Shin Twist"
    assert ROLE_GROUPS["Left Hand"][:4] == ("left_thumb1", "left_thumb2", "left_thumb3", "left_index1")


# Lists.


def test_captures_are_added_many_at_once_and_each_once(settings, files):
    assert add_captures(files, "walk.npz", "wave.npz", "walk.npz") == {"FINISHED"}
    assert [item.name for item in settings.captures] == ["walk", "wave"]
    with pytest.raises(RuntimeError, match="not in the list yet"):
        add_captures(files, "walk.npz", "none.npz")
    settings.capture_index = 0
    assert bpy.ops.fullbody.retarget_remove_capture() == {"FINISHED"}
    assert [item.name for item in settings.captures] == ["wave"] and settings.capture_index == 0
    bpy.ops.fullbody.retarget_remove_capture()
    assert not bpy.ops.fullbody.retarget_remove_capture.poll() and not bpy.ops.fullbody.retarget.poll()


def test_characters_are_the_selected_armatures_and_those_of_meshes(settings):
    assert not bpy.ops.fullbody.retarget_add_characters.poll()
    mixamo, unreal = make_rig("mixamo"), make_rig("unreal", place=(2, 0, 0))
    mesh = next(item for item in bpy.data.objects if item.type == "MESH" and item.find_armature() == unreal)
    assert add_characters(mixamo, mesh) == {"FINISHED"}
    assert [item.armature for item in settings.characters] == [mixamo, unreal]
    with pytest.raises(RuntimeError, match="already"):
        add_characters(unreal)
    for item in settings.characters:
        assert problems_of(item) == ([], set())
        true, found = roles_of(item.armature), role_map_of(item).bones
        assert {role: found[role] for role in true if "_" in role and "twist" not in role} == {
            role: bones for role, bones in true.items() if "_" in role and "twist" not in role
        }


# The table.


@pytest.fixture
def character(settings):
    add_characters(make_rig("mixamo"))
    return settings.character


def slot(character, role, place=0):
    return character.roles[role].bones[place]


def test_problems_are_named_as_people_name_them(character):
    elbow = slot(character, "left_elbow").bone
    assert not lacks_bones(character)
    slot(character, "left_elbow").bone = ""
    assert lacks_bones(character)
    slot(character, "right_knee").bone = "Knee"
    shared = slot(character, "left_hip").bone
    slot(character, "right_hip").bone = shared
    problems, wrong = problems_of(character)
    assert problems == [
        "No bone for Left Forearm.",
        "mixamo has no bone Knee.",
        f"{shared} is more than one of Left Thigh, Right Thigh.",
    ]
    assert wrong == {"Knee", shared} and elbow not in wrong
    with pytest.raises(FileError, match="both"):
        role_map_of(character)


def test_bones_are_added_taken_and_removed(character):
    armature = character.armature
    bpy.context.view_layer.objects.active = armature
    bpy.ops.object.mode_set(mode="POSE")
    name = slot(character, "head").bone
    armature.data.bones.active = armature.data.bones[name]
    count = len(character.roles["spine"].bones)
    assert bpy.ops.fullbody.retarget_add_bone(role="spine") == {"FINISHED"}
    assert bpy.ops.fullbody.retarget_take_bone(role="spine", place=count) == {"FINISHED"}
    assert slot(character, "spine", count).bone == name and slot(character, "head").bone == ""
    assert role_map_of(character).bones["spine"][-1] == name
    assert bpy.ops.fullbody.retarget_remove_bone(role="spine", place=count) == {"FINISHED"}
    assert len(character.roles["spine"].bones) == count
    assert bpy.ops.fullbody.retarget_take_bone(role="none", place=0) == {"CANCELLED"}
    assert bpy.ops.fullbody.retarget_guess_bones() == {"FINISHED"} and slot(character, "head").bone == name


def test_a_map_is_saved_kept_and_found_again(character, tmp_path, own_maps):
    hip = slot(character, "left_hip").bone
    slot(character, "left_hip").bone, slot(character, "right_hip").bone = slot(character, "right_hip").bone, hip
    saved = role_map_of(character).bones
    assert bpy.ops.fullbody.retarget_save_map(filepath=str(tmp_path / "Hero.json")) == {"FINISHED"}
    assert RoleMap.load(tmp_path / "Hero.json").bones == saved == RoleMap.load(own_maps / "Hero.json").bones
    assert RoleMap.load(tmp_path / "Hero.json").name == "Hero"
    bpy.ops.fullbody.retarget_guess_bones()
    assert role_map_of(character).bones == saved and character.map_name == "Hero"
    slot(character, "head").bone = ""
    assert bpy.ops.fullbody.retarget_load_map(filepath=str(tmp_path / "Hero.json")) == {"FINISHED"}
    assert role_map_of(character).bones == saved
    (tmp_path / "text.json").write_text("no map")
    with pytest.raises(RuntimeError, match="not a role map"):
        bpy.ops.fullbody.retarget_load_map(filepath=str(tmp_path / "text.json"))
    with pytest.raises(RuntimeError, match="Cannot write"):
        bpy.ops.fullbody.retarget_save_map(filepath=str(tmp_path / "none" / "x.json"))
    assert role_map_of(character).bones == saved


def test_switches_and_notes_are_kept(settings, rigify):
    add_characters(rigify)
    role_map = role_map_of(settings.character)
    assert any(switch.property == "IK_FK" and switch.value == 1.0 for switch in role_map.switches)
    assert problems_of(settings.character) == ([], set())


# The work.


def test_many_captures_to_many_characters_in_one_undo_step(settings, scene, files):
    (files / "broken.npz").write_text("nothing")
    mixamo, unreal = make_rig("mixamo"), make_rig("unreal", place=(2, 0, 0))
    add_characters(mixamo, unreal)
    add_captures(files, "walk.npz", "broken.npz", "wave.npz")
    scene.render.fps, scene.frame_start, scene.frame_end = 30, 11, 15
    bpy.ops.ed.undo_push(message="Before")
    before, bones = contents(), {item.name: rest_of_bones(item) for item in (mixamo, unreal)}
    assert bpy.ops.fullbody.retarget("EXEC_DEFAULT", True) == {"FINISHED"}
    assert actions() == {f"{capture} {rig}" for capture in ("walk", "wave") for rig in ("mixamo", "unreal")}
    assert all(action.use_fake_user for action in bpy.data.actions)
    results = scene.fullbody_retarget.results
    assert [(item.name, item.failed) for item in results] == [
        (f"{capture} to {rig}", capture == "broken")
        for capture in ("walk", "broken", "wave")
        for rig in ("mixamo", "unreal")
    ]
    assert "20 frames" in results[0].text and "broken.npz" in results[2].text
    assert scene.frame_end == 11 + 30 - 1 and bpy.data.actions["wave mixamo"].frame_range[:] == (11, 40)
    assert {item.name: rest_of_bones(item) for item in (mixamo, unreal)} == bones
    bpy.ops.ed.undo()
    assert contents() == before and not bpy.data.actions and not bpy.context.scene.fullbody_retarget.results


def rest_of_bones(armature):
    return [tuple(map(tuple, bone.matrix_local)) for bone in armature.data.bones]


def test_what_is_off_is_left_out(settings, files):
    add_characters(make_rig("mixamo"), make_rig("unreal"))
    add_captures(files, "walk.npz", "wave.npz")
    settings.captures[0].use = settings.characters[1].use = False
    bpy.ops.fullbody.retarget()
    assert actions() == {"wave mixamo"}
    settings.captures[1].use = False
    assert not bpy.ops.fullbody.retarget.poll()


def test_modes(settings, files):
    armature = make_rig("mixamo")
    add_characters(armature)
    add_captures(files, "walk.npz")
    bpy.context.view_layer.objects.active = armature
    bpy.ops.object.mode_set(mode="EDIT")
    assert not bpy.ops.fullbody.retarget.poll()
    bpy.ops.object.mode_set(mode="POSE")
    assert bpy.ops.fullbody.retarget() == {"FINISHED"} and bpy.context.mode == "POSE" and actions() == {"walk mixamo"}


def test_a_character_with_problems_fails_alone(settings, files):
    add_characters(make_rig("mixamo"), make_rig("unreal"))
    add_captures(files, "walk.npz")
    slot(settings.characters[0], "left_elbow").bone = ""
    bpy.ops.fullbody.retarget()
    assert actions() == {"walk unreal"} and settings.results[0].text == "No bone for Left Forearm."


def test_a_character_that_was_deleted_fails_alone_and_can_be_taken_off_the_list(settings, scene, files):
    mixamo = make_rig("mixamo")
    add_characters(mixamo, make_rig("unreal"))
    add_captures(files, "walk.npz")
    select(mixamo)
    bpy.ops.object.delete()
    assert not is_there(settings.characters[0])
    for _ in range(2):
        bpy.ops.fullbody.retarget()
        assert "walk unreal" in actions() and settings.results[0].text == "mixamo was deleted."
        bpy.data.batch_remove([item for item in bpy.data.objects if item.name == "mixamo"])
    assert not any("mixamo" in name for name in actions())
    settings.character_index = 0
    assert not bpy.ops.fullbody.retarget_guess_bones.poll()
    bpy.ops.fullbody.retarget_remove_character()
    assert [item.name for item in settings.characters] == ["unreal"]


def test_characters_deleted_or_undone_between_two_jobs(settings, scene, files):
    mixamo = make_rig("mixamo")
    add_characters(mixamo, make_rig("unreal"))
    add_captures(files, "walk.npz", "wave.npz")
    batch = Batch(scene, "")
    assert not batch.run_next().failed
    bpy.data.objects.remove(mixamo)
    settings.characters.clear()
    results = [batch.run_next() for _ in range(3)]
    assert [result.failed for result in results] == [False, True, False] and batch.next is None
    assert "mixamo was deleted" in results[1].text


def test_settings_live_on_in_the_file(settings, files):
    add_characters(make_rig("mixamo"))
    add_captures(files, "walk.npz")
    bones = role_map_of(settings.character).bones
    bpy.ops.wm.save_as_mainfile(filepath=str(files / "scene.blend"), check_existing=False)
    bpy.ops.wm.open_mainfile(filepath=str(files / "scene.blend"))
    settings = bpy.context.scene.fullbody_retarget
    assert role_map_of(settings.character).bones == bones and settings.captures[0].name == "walk"
    assert bpy.ops.fullbody.retarget() == {"FINISHED"} and actions() == {"walk mixamo"}


def test_bad_templates_are_one_sentence(settings, files):
    add_characters(make_rig("mixamo"))
    add_captures(files, "walk.npz")
    settings.template_path = str(files / "walk.npz")
    with pytest.raises(RuntimeError, match="is not a character template"):
        bpy.ops.fullbody.retarget()
    assert not actions()


def test_an_amass_motion(settings, files):
    rng = np.random.default_rng(0)
    np.savez(
        files / "amass.npz",
        poses=0.1 * rng.normal(size=(60, 156)),
        trans=np.zeros((60, 3)),
        betas=rng.normal(size=10),
        mocap_framerate=60.0,
    )
    add_characters(make_rig("mixamo"))
    add_captures(files, "amass.npz")
    bpy.ops.fullbody.retarget()
    assert not settings.results[0].failed and actions() == {"amass mixamo"}


def test_whose_shape_the_captured_body_has(files):
    template, clip = make_template(), make_clip(make_template(), frames=3)
    template.meta["body_sha256"] = "body"
    for models, trusted, persons, noted in (
        ({"body": "body"}, False, True, False),
        ({"body": "other"}, True, False, True),
        ({}, False, False, False),
        ({}, True, True, False),
        (None, False, False, False),
    ):
        clip.meta["models"] = models
        joints, sole, notes = rest_of(clip, template, trusted)
        betas = clip.betas if persons else ()
        np.testing.assert_array_equal(joints, template.rest_joints(betas))
        assert sole == template.rest_surface(betas)[:, 1].min() and bool(notes) == noted


# The face.


def give_face(armature, *names):
    mesh = next(item for item in bpy.data.objects if item.type == "MESH" and item.find_armature() == armature)
    for name in ("Basis", *names):
        mesh.shape_key_add(name=name).value = 0
    return mesh


def test_a_face_by_names_and_by_a_map_of_the_users(settings, scene, files):
    armature = make_rig("mixamo")
    mesh = give_face(armature, "Jaw_Open", "Eye_Blink_L", "Mund")
    add_characters(armature)
    add_captures(files, "walk.npz")
    path = str(files / "face.json")
    assert bpy.ops.fullbody.retarget_save_face_map(filepath=path) == {"FINISHED"}
    face_map = FaceMap.load(path)
    assert face_map.keys == {"Jaw_Open": {"jawOpen": 1.0}, "Eye_Blink_L": {"eyeBlinkLeft": 1.0}}
    played = {}
    for name, content in (("names", None), ("map", {"Mund": {"jawOpen": 0.5}})):
        if content:
            (files / "face.json").write_text(
                json.dumps({"format": "fullbody-face-map", "version": 1, "name": "x", "keys": content})
            )
            settings.character.face_map = path
        bpy.ops.fullbody.retarget()
        played[name] = key_values(scene, mesh)
    assert np.ptp(played["names"]["Jaw_Open"]) > 0.1 and np.ptp(played["names"]["Mund"]) == 0
    np.testing.assert_allclose(played["map"]["Mund"], 0.5 * played["names"]["Jaw_Open"], atol=1e-6)
    settings.character.face_map = str(files / "none.json")
    with pytest.raises(RuntimeError, match="0 of 1. walk to mixamo: .*none.json"):
        bpy.ops.fullbody.retarget()
    assert settings.results[0].failed and "none.json" in settings.results[0].text


def key_values(scene, mesh):
    values = {}
    for frame in range(scene.frame_start, scene.frame_start + 15):
        scene.frame_set(frame)
        for key in mesh.data.shape_keys.key_blocks[1:]:
            values.setdefault(key.name, []).append(key.value)
    return {name: np.array(of_key) for name, of_key in values.items()}


def test_a_character_without_a_known_face_has_no_face_map(character, files):
    with pytest.raises(RuntimeError, match="No shape key"):
        bpy.ops.fullbody.retarget_save_face_map(filepath=str(files / "face.json"))
