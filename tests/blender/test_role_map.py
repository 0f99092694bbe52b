# SPDX-License-Identifier: GPL-3.0-or-later
import json

import numpy as np
import pytest
from fullbody_mocap.contract.skeleton import JOINT_NAMES
from fullbody_mocap.retarget.guess.find import Skeleton, find_role_map
from fullbody_mocap.retarget.role_map import PRESETS, Preset, RoleMap, RoleMapError, Switch, presets
from fullbody_mocap.retarget.roles import REQUIRED, ROLES
from rigged_characters import rig_arrays

NAMES = {"mixamo": "Mixamo", "unreal": "Unreal", "cmu": "CMU", "makehuman": "MakeHuman", "vrm": "VRoid"}


@pytest.fixture(autouse=True)
def scene():
    """None: nothing here touches Blender."""


def skeleton_with(rig, rename=lambda name: name):
    return Skeleton(tuple(map(rename, rig.names)), np.array(rig.parents), rig.heads, rig.tails, np.array(rig.deform))


def of_required(**more):
    return {role: (f"bone of {role}",) for role in REQUIRED} | more


def test_a_saved_map_comes_back_as_it_was(tmp_path):
    saved = RoleMap(
        'Hero "one"',
        of_required(spine=("lower #", "über", "上半身"), left_foot=("big toe", "small toe")),
        (Switch("hand.L", "IK_FK", 1.0), Switch("torso", "head follow", 0)),
        ("A doubt.",),
    )
    saved.save(tmp_path / "map.json")
    loaded = RoleMap.load(tmp_path / "map.json")
    assert (loaded.name, loaded.bones, loaded.switches) == (saved.name, saved.bones, saved.switches)
    assert loaded.notes == ()
    assert list(loaded.bones) == [role for role in ROLES if role in loaded.bones]


@pytest.mark.parametrize(
    "bones, what",
    [
        ({"tail": ("a",)}, "no role 'tail'"),
        ({"pelvis": ()}, "pelvis needs at least one"),
        ({"pelvis": "hips"}, "pelvis needs at least one"),
        ({"pelvis": ("",)}, "pelvis needs at least one"),
        ({"pelvis": ("a",), "head": ("b", "a")}, "a stands for both pelvis and head"),
        ({"spine": ("a", "a")}, "a stands for both spine and spine"),
    ],
)
def test_maps_that_make_no_sense_are_refused(bones, what):
    with pytest.raises(RoleMapError, match=what):
        RoleMap("odd", bones)


def test_missing_roles_and_lost_bones_are_named():
    whole = RoleMap("whole", of_required())
    skeleton = Skeleton(tuple(f"bone of {role}" for role in REQUIRED), None, None, None, None)
    whole.check(skeleton)
    assert whole.missing() == ()
    with pytest.raises(RoleMapError, match="left_knee"):
        whole.with_bones("left_knee", ()).check(skeleton)
    with pytest.raises(RoleMapError, match="no bone chest, which the role map gives the role spine"):
        whole.with_bones("spine", ("chest",)).check(skeleton)


def test_a_bone_given_to_a_role_leaves_its_old_one():
    before = RoleMap("map", {"spine": ("a", "b"), "neck": ("c",), "head": ("d",)}, (Switch("a", "p", 1.0),))
    after = before.with_bones("head", ("b", "c"))
    assert after.bones == {"spine": ("a",), "head": ("b", "c")}
    assert after.switches == before.switches


@pytest.mark.parametrize(
    "change, what",
    [
        (lambda values: values.pop("switches"), "lacks or has an unknown switches"),
        (lambda values: values.update(more=1), "lacks or has an unknown more"),
        (lambda values: values.update(version=2), "version 2"),
        (lambda values: values.update(format="bridge"), "not a role map"),
        (lambda values: values.update(bones={"pelvis": "hips"}), "list of names"),
        (lambda values: values.update(bones={"tail": ["a"]}), "no role 'tail'"),
        (lambda values: values.update(switches=[{"bone": "a"}]), "not a sound role map"),
        (lambda values: values.update(switches=[{"bone": "a", "property": "p", "value": "1"}]), "needs a number"),
        (lambda values: values.update(name=3), "needs a name"),
    ],
)
def test_files_that_are_no_map_say_why(tmp_path, change, what):
    path = tmp_path / "map.json"
    RoleMap("map", of_required()).save(path)
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(RoleMapError, match=what):
        RoleMap.load(path)


def test_other_files_are_refused_and_nothing_is_left_where_saving_fails(tmp_path):
    (tmp_path / "cut.json").write_text('{"format": "fullbody role map", "ver')
    for name, what in (("cut.json", "cut short"), ("none.json", "no role map at")):
        with pytest.raises(RoleMapError, match=what):
            RoleMap.load(tmp_path / name)
    with pytest.raises(RoleMapError, match="is a preset"):
        RoleMap.load(PRESETS / "mixamo.json")
    with pytest.raises(RoleMapError, match="Cannot write"):
        RoleMap("map", of_required()).save(tmp_path / "nowhere" / "map.json")


def test_every_preset_names_all_that_is_needed_on_both_sides():
    assert len(presets()) == len(list(PRESETS.glob("*.json"))) >= 10
    for preset in presets():
        assert set(REQUIRED) <= set(preset.patterns) <= set(ROLES), preset.name
        for role in preset.patterns:
            if role.startswith("left"):
                assert role.replace("left", "right") in preset.patterns, (preset.name, role)


@pytest.mark.parametrize("rig_name", NAMES)
@pytest.mark.parametrize("variant", [{}, {"spine": 1}, {"spine": 6}, {"fingers": False}, {"split": True}, {"arms": 45}])
def test_presets_find_every_role_of_their_rigs(rig_name, variant):
    rig = rig_arrays(rig_name, **variant)
    found = find_role_map(skeleton_with(rig))
    assert found.name == NAMES[rig_name]
    assert found.bones == rig.roles
    assert found.notes == ()


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name.split(":")[-1],
        lambda name: name.replace("mixamorig:", "mixamorig12:"),
        lambda name: name.replace("mixamorig:", "Armature|hero:"),
        lambda name: name.replace("mixamorig:", "Character1_"),
        lambda name: name.replace("mixamorig:", "mixamorig"),
        lambda name: name.upper(),
    ],
)
def test_prefixes_and_case_make_no_difference(rename):
    rig = rig_arrays("mixamo")
    found = find_role_map(skeleton_with(rig, rename))
    assert found.name == "Mixamo"
    assert found.bones == {role: tuple(map(rename, bones)) for role, bones in rig.roles.items()}


def test_numbers_that_an_exporter_gave_every_bone_make_no_difference():
    rig = rig_arrays("mixamo")
    numbers = {name: f"{name}_{number:02d}" for number, name in enumerate(rig.names)}
    found = Preset.load(PRESETS / "mixamo.json").fit(skeleton_with(rig, numbers.get))
    assert found.bones == {role: tuple(map(numbers.get, bones)) for role, bones in rig.roles.items()}


def test_our_own_character_is_known():
    # Only the names count: the shape is another rig's.
    rig = rig_arrays("mixamo")
    role_of = {bone: role for role, bones in rig.roles.items() for bone in bones}
    spine = iter(("spine1", "spine2", "spine3"))
    own = {bone: next(spine) if role == "spine" else role for bone, role in role_of.items()}
    found = find_role_map(skeleton_with(rig, own.get))
    assert found.name == "SMPL-H" and found.bones["spine"] == ("spine1", "spine2", "spine3")
    assert {bone for bones in found.bones.values() for bone in bones} == set(JOINT_NAMES)


def test_the_users_own_map_is_found_first_also_under_another_prefix(tmp_path):
    rig = rig_arrays("mixamo", fingers=False)
    skeleton = skeleton_with(rig)
    mine = find_role_map(skeleton).with_bones("neck", ())
    RoleMap("mine", mine.bones).save(tmp_path / "mine.json")
    assert find_role_map(skeleton, [tmp_path]).name == "mine"
    found = find_role_map(skeleton_with(rig, lambda name: name.replace("mixamorig:", "other:")), [tmp_path])
    assert found.name == "mine" and found.bones["left_knee"] == ("other:LeftLeg",)
    assert find_role_map(skeleton, [tmp_path / "not there"]).name == "Mixamo"


def test_a_broken_file_of_the_users_is_a_note(tmp_path):
    (tmp_path / "broken.json").write_text("{")
    found = find_role_map(skeleton_with(rig_arrays("mixamo")), [tmp_path])
    assert found.name == "Mixamo" and len(found.notes) == 1 and "broken.json" in found.notes[0]
