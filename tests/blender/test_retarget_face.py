# SPDX-License-Identifier: GPL-3.0-or-later
"""Expressions onto shape keys of other names: which key shows what, and what Blender plays then."""

import json
from dataclasses import dataclass

import bpy
import numpy as np
import pytest
from fullbody_mocap.contract.vrm_presets import PRESET_SOURCES, PRESETS, preset_values
from fullbody_mocap.retarget.face import (
    FACE_MAPS,
    FaceMap,
    FaceMapError,
    key_values,
    key_weights,
    own_maps,
    read_expressions,
)
from fullbody_mocap.retarget.face_keys import character_meshes, face_tracks
from fullbody_mocap.retarget.solve.solver import RetargetSettings
from fullbody_mocap.tracks import write_tracks

SIDED = (
    *(
        "browDown",
        "browOuterUp",
        "cheekSquint",
        "eyeBlink",
        "eyeLookDown",
        "eyeLookIn",
        "eyeLookOut",
        "eyeLookUp",
        "eyeSquint",
    ),
    *("eyeWide", "mouthDimple", "mouthFrown", "mouthLowerDown", "mouthPress", "mouthSmile", "mouthStretch", "mouthUpperUp"),
    "noseSneer",
)
ARKIT = (
    *(name + side for name in SIDED for side in ("Left", "Right")),
    *("browInnerUp", "cheekPuff", "jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose", "mouthFunnel", "mouthLeft"),
    *("mouthPucker", "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "tongueOut"),
)
VROID = tuple(
    f"Fcl_{part}_{name}"
    for part, names in {
        "ALL": ("Neutral", "Angry", "Fun", "Joy", "Sorrow", "Surprised"),
        "BRW": ("Angry", "Fun", "Joy", "Sorrow", "Surprised"),
        "EYE": ("Natural", "Angry", "Close", "Close_R", "Close_L", "Fun", "Joy", "Joy_R", "Joy_L", "Spread", "Surprised"),
        "MTH": ("Close", "Up", "Down", "Angry", "Small", "Large", "Fun", "Joy", "Sorrow", "Surprised", *"AIUEO"),
    }.items()
    for name in names
)


@dataclass
class Motion:
    """What the face needs of a motion."""

    expression: np.ndarray
    expression_names: tuple
    valid: np.ndarray


def motion(names=ARKIT, count=20, seed=0, top=1.0, captured=None):
    valid = np.ones((count, 4), bool)
    valid[:, 3] = True if captured is None else captured
    return Motion(np.random.default_rng(seed).uniform(0, top, (count, len(names))), tuple(names), valid)


def one_at_a_time(names):
    """Each expression in a frame of its own [E, E]."""
    return read_expressions(names, np.eye(len(names)))


def shown(key_names, names=ARKIT, face_map=None):
    """{key: {captured expression: value}} with one expression at a time."""
    expressions = one_at_a_time(names)
    shows = {}
    for key, (weights, gain, offset) in key_weights(key_names, expressions, face_map).items():
        values = key_values(weights, expressions, gain, offset)
        shows[key] = {expressions.captured[row]: values[row] for row in np.flatnonzero(values)}
    return shows


# Names.


def spell_ict(name):
    return name[:-4] + "_L" if name.endswith("Left") and name not in ("jawLeft", "mouthLeft") else name


SPELLINGS = {
    "as it is": str,
    "capitals": str.upper,
    "pascal": lambda name: name[0].upper() + name[1:],
    "ICT": lambda name: name.replace("Left", "_L").replace("Right", "_R"),
    "Blender": lambda name: name.replace("Left", ".L").replace("Right", ".R"),
    "words": lambda name: "".join("_" + letter.lower() if letter.isupper() else letter for letter in name),
    "prefix": lambda name: f"CTRL_expressions_{name}",
    "namespace": lambda name: f"blendShape1.{name}",
}


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
def test_every_spelling_of_arkits_names_is_found_whole(spell):
    keys = [spell(name) for name in ARKIT]
    assert shown(keys) == {spell(name): {name: 1.0} for name in ARKIT}


def test_a_prefix_of_a_few_is_a_corrective_and_a_copy_is_not_driven_twice():
    keys = [
        *ARKIT,
        "mouthClose_jawOpen",
        "Jaw_Open",
        "jawOpen.001",
        "mouthSmile",
        "eyesClosed",
        "mouthOpen",
        "Breathing",
        "A",
    ]
    assert set(shown(keys)) == set(ARKIT)


def test_faces_that_part_other_expressions_than_arkit():
    parted = {"browInnerUp_L": {"browInnerUp": 1.0}, "browInnerUp_R": {"browInnerUp": 1.0}}
    assert shown(parted) == parted
    names = ("browInnerUpLeft", "browInnerUpRight", "jawOpen")
    assert shown(("browInnerUp",), names) == {"browInnerUp": {"browInnerUpLeft": 0.5, "browInnerUpRight": 0.5}}
    ict = ("browDown_L", "browInnerUp_L", "browInnerUp_R")
    assert set(shown((*ict, "browInnerUp"), ict)) == set(ict)
    assert shown(("mouthSmile",)) == {"mouthSmile": {"mouthSmileLeft": 0.5, "mouthSmileRight": 0.5}}


def test_names_of_no_convention_are_met_by_the_same_names_only():
    names = tuple(f"expression_{number:02d}" for number in range(10))
    assert shown((*names[:4], "A", "I", "U"), names) == {name: {name: 1.0} for name in names[:4]}


@pytest.mark.parametrize("prefix", ["", "Face.M_F00_000_00_"])
def test_vroid(prefix):
    shows = shown([prefix + name for name in VROID])
    assert shows[f"{prefix}Fcl_MTH_A"] == {"jawOpen": 1.0} and shows[f"{prefix}Fcl_EYE_Close_L"] == {"eyeBlinkLeft": 1.0}
    assert not {f"{prefix}Fcl_{whole}" for whole in ("ALL_Joy", "EYE_Close", "MTH_Joy", "EYE_Joy", "BRW_Joy")} & set(shows)


def test_vrm_of_both_versions_and_mmd_get_the_presets():
    seen = motion(count=50)
    expressions = read_expressions(ARKIT, seen.expression)
    expected = dict(zip(PRESETS, preset_values(ARKIT, seen.expression).T))
    second = ("aa", "ih", "ou", "ee", "oh", "blink", "blinkLeft", "blinkRight", "happy", "angry", "sad", "relaxed")
    for names in (PRESETS, second, [name.lower() for name in PRESETS]):
        found = key_weights(names, expressions)
        for name, preset in zip(names, PRESETS):
            np.testing.assert_array_equal(key_values(*found[name][:1], expressions, *found[name][1:]), expected[preset])
    assert set(key_weights(("あ", "い", "う", "まばたき", "笑い"), expressions)) == {"あ", "い", "う", "まばたき"}
    assert not key_weights(("A", "E", "Smoke"), expressions), "two letters make no avatar"
    assert set(key_weights(("vrc.v_aa", "vrc.v_e", "vrc.v_oh", "vrc.blink"), expressions)) == {
        "vrc.v_aa",
        "vrc.v_e",
        "vrc.v_oh",
    }


def test_nothing_is_shown_twice_where_an_avatar_has_everything():
    keys = (*ARKIT, *VROID, *PRESETS, "aa", "vrc.v_aa", "viseme_aa", "mouthSmile", "あ", "い", "う")
    assert set(shown(keys)) == set(ARKIT)


def test_presets_of_many_frames_are_those_of_each():
    values = np.random.default_rng(0).uniform(-0.5, 1.5, (2, 30, len(ARKIT)))
    each = [[preset_values(ARKIT, frame) for frame in part] for part in values]
    np.testing.assert_array_equal(preset_values(ARKIT, values), each)
    alone = np.eye(len(ARKIT))
    for preset, column in zip(PRESETS, preset_values(ARKIT, alone).T):
        assert {ARKIT[row] for row in np.flatnonzero(column)} <= set(PRESET_SOURCES[preset])
        all_of_it = np.array([name in PRESET_SOURCES[preset] for name in ARKIT], float)
        if preset not in ("Fun", "Blink_L", "Blink_R"):
            assert preset_values(ARKIT, all_of_it)[PRESETS.index(preset)] == 1


# Face maps.


def test_own_maps_are_whole_and_name_only_what_there_is():
    known = (
        set(ARKIT)
        | {f"vrm.{preset}" for preset in PRESETS}
        | {f"{n}{s}" for n in ("browInnerUp", "cheekPuff") for s in ("Left", "Right")}
    )
    assert len(own_maps()) == len(FACE_MAPS)
    assert {name for of_map in own_maps() for weights in of_map.keys.values() for name in weights} <= known


def test_a_map_of_the_users_counts_alone_and_comes_back_from_its_file(tmp_path):
    face_map = FaceMap(
        "mine", {"Mund auf": {"jawOpen": 0.8, "mouthFunnel": 0.2}, "Ä": {"vrm.A": 1.0}}, gain=2.0, offset=-0.1
    )
    face_map.save(tmp_path / "mine.json")
    assert FaceMap.load(tmp_path / "mine.json") == face_map
    expressions = one_at_a_time(ARKIT)
    found = key_weights((*ARKIT, "Mund auf", "Ä"), expressions, face_map)
    assert set(found) == {"Mund auf", "Ä"}
    values = key_values(found["Mund auf"][0], expressions, *found["Mund auf"][1:])
    assert values[ARKIT.index("jawOpen")] == pytest.approx(1.5) and values[ARKIT.index("mouthLeft")] == pytest.approx(-0.1)


BAD_MAPS = {
    "text": "no JSON",
    "list": [],
    "no format": {"format": None},
    "version": {"version": "1"},
    "newer": {"version": 2},
    "unknown": {"extra": 1},
    "no keys": {"keys": {}},
    "no name": {"name": 3},
    "gain": {"gain": "much"},
    "infinite": {"offset": float("inf")},
    "weights": {"keys": {"A": {"jawOpen": True}}},
    "weight list": {"keys": {"A": ["jawOpen"]}},
    "none of VRM's": {"keys": {"A": {"vrm.Happy": 1.0}}},
}


@pytest.mark.parametrize("wrong", BAD_MAPS.values(), ids=BAD_MAPS)
def test_bad_maps_are_one_sentence(tmp_path, wrong):
    good = {"format": "fullbody-face-map", "version": 1, "name": "x", "keys": {"A": {"jawOpen": 1.0}}}
    content = wrong if isinstance(wrong, str) else json.dumps(good | wrong if isinstance(wrong, dict) else wrong)
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(FaceMapError, match=r"x\.json.*\.$"):
        FaceMap.load(tmp_path / "x.json")
    with pytest.raises(FaceMapError, match="Cannot read"):
        FaceMap.load(tmp_path / "none.json")


# In Blender.


def add_armature(name="Rig"):
    armature = bpy.data.objects.new(name, bpy.data.armatures.new(name))
    bpy.context.scene.collection.objects.link(armature)
    return armature


def add_mesh(keys, parent=None, deformed_by=None, name="Face", data=None):
    if data is None:
        data = bpy.data.meshes.new(name)
        data.from_pydata([(0, 0, 0), (1, 0, 0), (0, 1, 0)], [], [(0, 1, 2)])
    item = bpy.data.objects.new(name, data)
    bpy.context.scene.collection.objects.link(item)
    item.parent = parent
    if deformed_by:
        item.modifiers.new("Armature", "ARMATURE").object = deformed_by
    if keys and data.shape_keys is None:
        for key in ("Basis", *keys):
            item.shape_key_add(name=key).value = 0
    return item


def tracks_of(seen, armature, frames=np.arange(1, 21), face_map=None, **settings):
    return face_tracks(seen, armature, RetargetSettings(**settings), frames, face_map)


def play(armature, seen, frames=np.arange(1, 21), **settings):
    """The action's values {(mesh, key): [T]} at the frames, and the notes."""
    faces, notes = tracks_of(seen, armature, frames, **settings)
    action = bpy.data.actions.new("face")
    for shape_keys, tracks in faces:
        write_tracks(tracks, shape_keys, action)
    values = {}
    for frame in frames:
        bpy.context.scene.frame_set(int(frame))
        for shape_keys, _ in faces:
            for key in shape_keys.key_blocks[1:]:
                values.setdefault((shape_keys.user.name, key.name), []).append(key.value)
    return {name: np.array(of_key) for name, of_key in values.items()}, notes


def test_meshes_are_the_children_the_bones_children_and_the_deformed(scene):
    armature, other = add_armature(), add_armature("Other")
    child = add_mesh((), parent=armature, name="child")
    of_bone = add_mesh((), parent=child, name="grandchild")
    deformed = add_mesh((), deformed_by=armature, name="deformed")
    other.parent = armature
    add_mesh((), parent=other, name="hers")
    add_mesh((), name="stranger")
    assert {item.name for item in character_meshes(armature)} == {child.name, of_bone.name, deformed.name}


def test_every_mesh_plays_the_face(scene):
    """The lashes have fewer keys than the face, and the teeth another convention."""
    armature, seen = add_armature(), motion()
    add_mesh(ARKIT, parent=armature)
    add_mesh(("Face_eyeBlink_L", "Face_eyeBlink_R"), deformed_by=armature, name="Lashes")
    add_mesh(PRESETS, parent=armature, name="Teeth")
    played, notes = play(armature, seen)
    for column, name in enumerate(ARKIT):
        np.testing.assert_allclose(played["Face", name], seen.expression[:, column], atol=1e-6)
    left = seen.expression[:, ARKIT.index("eyeBlinkLeft")]
    np.testing.assert_allclose(played["Lashes", "Face_eyeBlink_L"], left, atol=1e-6)
    expected = preset_values(ARKIT, seen.expression)
    for column, name in enumerate(PRESETS):
        np.testing.assert_allclose(played["Teeth", name], expected[:, column], atol=1e-6)
    assert notes == []


def test_frames_without_a_face_get_no_keys(scene):
    armature, captured = add_armature(), np.arange(20) % 5 > 1
    add_mesh(("jawOpen",), parent=armature)
    frames = np.arange(20) * 2 + 5
    ((shape_keys, (track,)),), _ = tracks_of(motion(captured=captured), armature, frames)
    np.testing.assert_array_equal(track.frames, frames[captured])
    assert tracks_of(motion(captured=False), armature) == ([], [])
    assert tracks_of(motion(names=()), armature) == ([], [])


def test_gain_and_offset_and_the_ends_of_a_slider(scene):
    armature, seen = add_armature(), motion()
    face = add_mesh(("jawOpen", "mouthLeft"), parent=armature)
    face.data.shape_keys.key_blocks["mouthLeft"].slider_min = -0.125
    played, notes = play(armature, seen, expression_gain=1.5, expression_offset=-0.25)
    expected = {name: 1.5 * seen.expression[:, ARKIT.index(name)] - 0.25 for name in ("jawOpen", "mouthLeft")}
    np.testing.assert_allclose(played["Face", "jawOpen"], np.clip(expected["jawOpen"], 0, 1), atol=1e-6)
    np.testing.assert_allclose(played["Face", "mouthLeft"], np.clip(expected["mouthLeft"], -0.125, 1), atol=1e-6)
    assert [(key.slider_min, key.slider_max) for key in face.data.shape_keys.key_blocks[1:]] == [(0, 1), (-0.125, 1)]
    most = max(
        expected,
        key=lambda name: max(expected[name].max() - 1, {"jawOpen": 0, "mouthLeft": -0.125}[name] - expected[name].min()),
    )
    assert f"cut off, those of {most} most (0." in notes[0]


def test_what_exceeds_something_else_loses_nothing_below_zero(scene):
    armature, seen = add_armature(), motion(("browInnerUp", "browOuterUpLeft", "browOuterUpRight", "jawOpen", "mouthPucker"))
    add_mesh(VROID, parent=armature)
    played, notes = play(armature, seen)
    inner, left, right = seen.expression.T[:3]
    np.testing.assert_allclose(played["Face", "Fcl_BRW_Sorrow"], np.maximum(0, inner - (left + right) / 2), atol=1e-6)
    assert (inner < (left + right) / 2).any() and not any("cut off" in note for note in notes)


def test_drivers_are_left_alone(scene):
    armature = add_armature()
    face = add_mesh(ARKIT, parent=armature)
    face.data.shape_keys.key_blocks["jawOpen"].driver_add("value").driver.expression = "0.25"
    played, notes = play(armature, motion())
    np.testing.assert_allclose(played["Face", "jawOpen"], 0.25)
    assert "Drivers move jawOpen," in notes[0]


def test_what_is_missing_is_said_once(scene):
    armature, still = add_armature("Rig"), motion(top=0.01)
    add_mesh((), parent=armature, name="Body")
    assert tracks_of(motion(), armature) == ([], []), "of a character without a face there is nothing to say"
    add_mesh(("Smoke",), parent=armature, name="Cloud")
    assert "no shape keys that show" in tracks_of(motion(), armature)[1][0]
    add_mesh(ARKIT[:-1], parent=armature)
    assert tracks_of(motion(), armature)[1] == [
        "Rig has no shape key for 1 of the capture's expressions, such as tongueOut."
    ]
    assert tracks_of(still, armature)[1] == []


def test_what_a_map_misspells_is_said(scene):
    armature = add_armature()
    add_mesh(("Mund",), parent=armature)
    misspelt = FaceMap("mine", {"Mund": {"jawOpen": 1.0, "jawOpn": 1.0, "vrm.A": 0.0}})
    faces, notes = tracks_of(motion(), armature, face_map=misspelt)
    assert len(faces) == 1 and notes[0] == "The face map mine names jawOpn, which the capture does not have."


def test_a_shared_mesh_is_named(scene):
    armature = add_armature()
    face = add_mesh(ARKIT, parent=armature)
    add_mesh((), parent=add_armature("Twin"), name="Twin face", data=face.data)
    assert tracks_of(motion(), armature)[1] == ["Twin face shows the same mesh, so its face moves alike."]


def test_linked_and_overridden_characters(scene, tmp_path):
    """A linked mesh's keys cannot be moved; an override's can, and play."""
    armature = add_armature()
    add_mesh(ARKIT, parent=armature, deformed_by=armature)
    collection = bpy.data.collections.new("Hero")
    scene.collection.children.link(collection)
    for item in list(scene.objects):
        collection.objects.link(item)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "hero.blend"), check_existing=False)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    with bpy.data.libraries.load(str(tmp_path / "hero.blend"), link=True) as (source, target):
        target.collections = ["Hero"]
    linked, scene = target.collections[0], bpy.context.scene
    scene.collection.children.link(linked)
    faces, notes = tracks_of(motion(), bpy.data.objects["Rig"])
    assert faces == [] and len(notes) == 1 and "library override" in notes[0]
    linked.override_hierarchy_create(scene, bpy.context.view_layer, do_fully_editable=True)
    rig = next(item for item in scene.objects if item.type == "ARMATURE" and item.override_library)
    assert tracks_of(motion(), rig) == ([], notes)
    (face,) = character_meshes(rig)
    face.data.override_create(remap_local_usages=True)
    seen = motion()
    played, notes = play(rig, seen)
    np.testing.assert_allclose(played[face.data.name, "jawOpen"], seen.expression[:, ARKIT.index("jawOpen")], atol=1e-6)
    assert notes == []
