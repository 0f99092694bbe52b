# SPDX-License-Identifier: GPL-3.0-or-later
import time

import bpy
import numpy as np
import pytest
from fullbody_mocap.keyframes import Timing
from fullbody_mocap.retarget.guess.find import find_role_map
from fullbody_mocap.retarget.retargeting import retarget
from fullbody_mocap.retarget.rig.reading import RigError, skeleton_of
from fullbody_mocap.retarget.solve.solver import RetargetSettings, solve
from fullbody_mocap.retarget.solve.source import source_motion
from rigged_characters import make_rig
from scene_reading import curves_of
from synthetic_person import make_clip, make_template
from test_bake import evaluated_pose
from test_rig import disturb, everything

FPS = 30.0
SOLE = -0.95


def make_motion(count, *, expression_names=(), seed=3):
    """A made-up person's `SourceMotion` of `count` moments at 30 a second."""
    template = make_template()
    clip = make_clip(template, frames=count, seed=seed, fps=FPS, expression_names=expression_names)
    return source_motion(clip, template.rest_joints(clip.betas), SOLE, times=clip.timestamps, name="Dance")


@pytest.fixture(scope="module")
def motion():
    return make_motion(30)


def role_map_of(armature):
    return find_role_map(skeleton_of(armature))


def misfit(armature, motion, result, rows=(0, 11, 29), settings=RetargetSettings()):
    """How far, m and in axes, bones that play lie from what was solved for them."""
    world = solve(motion, result.controls, settings)
    axes, heads = evaluated_pose(armature, result.controls.names, [row + 1 for row in rows])
    return max(np.abs(axes - world.axes[list(rows)]).max(), np.abs(heads - world.heads[list(rows)]).max())


def retarget_a_thousand_frames(armature):
    """Checks the bones that then play; returns the seconds of processor time that it took."""
    motion, role_map = make_motion(1000), role_map_of(armature)
    # Not by the clock on the wall: tests run beside others.
    start = time.process_time()
    result = retarget(motion, armature, role_map, timing=Timing(FPS))
    seconds = time.process_time() - start
    passes = ", ".join(f"{name} {spent:.3f}" for name, spent in result.seconds.items())
    print(f"\n{armature.name}: {seconds:.3f} s; {passes}")
    assert misfit(armature, motion, result, rows=(0, 499, 999)) < 1e-4
    assert result.notes == ()
    return seconds


def test_a_thousand_frames_to_a_mixamo_rig_are_quick_and_true():
    rig = make_rig("mixamo")
    # The quicker of two: beside other tests the threads of numpy's products wait for each other, and that counts, too.
    assert min(retarget_a_thousand_frames(rig) for _ in range(2)) < 0.7


def test_a_thousand_frames_to_rigify_are_quick_and_true(rigify):
    assert retarget_a_thousand_frames(rigify) < 2


def test_no_mesh_of_the_characters_is_evaluated(motion):
    armature, seen = make_rig("mixamo"), set()
    armature.pose.bones["mixamorig:Head"].constraints.new("LIMIT_SCALE")
    role_map = role_map_of(armature)

    def note(scene, depsgraph):
        seen.update((scene.name, item.id_type) for item in depsgraph.ids)

    bpy.app.handlers.depsgraph_update_post.append(note)
    try:
        retarget(motion, armature, role_map, timing=Timing(FPS))
    finally:
        bpy.app.handlers.depsgraph_update_post.remove(note)
    assert ("Retargeting", "ARMATURE") in seen
    assert {scene for scene, _ in seen} == {"Retargeting"} and not any(kind == "MESH" for _, kind in seen)


def test_the_actions_frames_and_name():
    motion, armature = make_motion(10), make_rig("mixamo")
    role_map, key = role_map_of(armature), ('pose.bones["mixamorig:Hips"].location', 0)
    bpy.context.scene.render.fps = 60
    result = retarget(motion, armature, role_map)
    assert result.action.name == "Dance mixamo" and result.action.use_fake_user
    assert np.array_equal(curves_of(armature)[key][:, 0], 1 + 2 * np.arange(10))
    result = retarget(motion, armature, role_map, timing=Timing(24.0, 100), name="Walk")
    assert result.action.name == "Walk"
    assert np.allclose(curves_of(armature)[key][:, 0], 100 + 0.8 * np.arange(10))
    assert set(result.seconds) == {"read the rig", "solve", "match the face", "write the action"}


def test_two_characters_have_an_action_each(motion):
    characters = [make_rig("mixamo", rolls=1), make_rig("unreal", facing=90, object_name="Other")]
    results = [retarget(motion, armature, role_map_of(armature), timing=Timing(FPS)) for armature in characters]
    for armature, result in zip(characters, results):
        assert armature.animation_data.action == result.action
        assert misfit(armature, motion, result) < 1e-4
    assert len({result.action for result in results}) == 2


def test_faces_play_in_the_same_action():
    motion, armature = make_motion(10, expression_names=("jawOpen", "browInnerUp")), make_rig("mixamo")
    mesh = next(item for item in bpy.data.objects if item.type == "MESH")
    for name in ("Basis", "jawOpen", "Other"):
        mesh.shape_key_add(name=name).value = 0
    result = retarget(motion, armature, role_map_of(armature), timing=Timing(FPS))
    keys = mesh.data.shape_keys
    assert keys.animation_data.action == result.action and len(result.action.slots) == 2
    values = curves_of(keys)['key_blocks["jawOpen"].value', 0][:, 1]
    assert np.allclose(values, motion.expression[:, 0], atol=1e-6)
    retarget(motion, armature, role_map_of(armature), RetargetSettings(face=False), Timing(FPS))
    assert keys.animation_data.action == result.action


def test_hands_that_were_not_captured_are_noted(motion):
    armature = make_rig("mixamo")
    valid = motion.valid.copy()
    valid[:, 2] = False
    motion = motion.__class__(**{**vars(motion), "valid": valid})
    notes = retarget(motion, armature, role_map_of(armature), timing=Timing(FPS)).notes
    assert notes == ("Dance has no right hand, so fingers stay as they are.",)
    assert retarget(motion, armature, role_map_of(armature), RetargetSettings(fingers=False), Timing(FPS)).notes == ()


def test_where_it_fails_all_is_as_before(motion):
    armature = make_rig("mixamo")
    role_map = role_map_of(armature)
    disturb(armature)
    state = everything(armature)
    for bad in (role_map.with_bones("pelvis", ()), role_map.with_bones("left_wrist", ("Nobody",))):
        with pytest.raises(RigError):
            retarget(motion, armature, bad, timing=Timing(FPS))
        assert everything(armature) == state


def test_beyond_its_new_action_nothing_of_the_character_changes(rigify, motion):
    role_map = role_map_of(rigify)
    disturb(rigify)
    mesh = next(item for item in bpy.data.objects if item.parent == rigify and item.type == "MESH")
    counts, bones, properties, playing, _, *rest = everything(rigify)
    rest_bones = [bone.matrix_local.copy() for bone in rigify.data.bones]
    result = retarget(motion, rigify, role_map, timing=Timing(FPS))
    now_counts, now_bones, now_properties, now_playing, _, *now_rest = everything(rigify)
    assert now_counts.pop("actions") == sorted([*counts.pop("actions"), result.action.name])
    assert (now_counts, now_bones, now_properties, now_rest) == (counts, bones, properties, rest)
    assert now_playing[3] == playing[3] and now_playing[0] == result.action
    assert [bone.matrix_local for bone in rigify.data.bones] == rest_bones
    assert mesh.parent == rigify and [modifier.object for modifier in mesh.modifiers] == [rigify]


def link_from(path, names):
    """Links objects of another .blend into the open scene; returns the armature object."""
    with bpy.data.libraries.load(str(path), link=True) as (_, wanted):
        wanted.objects = names
    for item in wanted.objects:
        bpy.context.scene.collection.objects.link(item)
    return next(item for item in wanted.objects if item.type == "ARMATURE")


@pytest.mark.parametrize("name, whole", [("mixamo", False), ("mixamo", True), ("rigify", True)])
def test_an_overridden_character_plays_after_saving(rigify_file, name, whole, motion, tmp_path):
    if name == "rigify":
        names, library = ["rigify", "rigify body"], rigify_file
    else:
        make_rig("mixamo", rolls=2)
        names, library = [item.name for item in bpy.data.objects], tmp_path / "library.blend"
        bpy.ops.wm.save_as_mainfile(filepath=str(library))
    bpy.ops.wm.read_factory_settings(use_empty=True)
    linked = link_from(library, names)
    role_map = role_map_of(linked)
    with pytest.raises(RigError, match="make a library override of it first"):
        retarget(motion, linked, role_map, timing=Timing(FPS))
    if whole:
        linked.override_hierarchy_create(bpy.context.scene, bpy.context.view_layer)
        armature = next(item for item in bpy.data.objects if item.type == "ARMATURE" and item.override_library)
    else:
        armature = linked.override_create(remap_local_usages=True)
    result = retarget(motion, armature, role_map, timing=Timing(FPS), name="Dance")
    assert misfit(armature, motion, result) < 1e-4
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "shot.blend"))
    armature = next(item for item in bpy.data.objects if item.type == "ARMATURE" and item.override_library)
    assert armature.animation_data.action.name == "Dance"
    assert misfit(armature, motion, result) < 1e-4
