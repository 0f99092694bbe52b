# SPDX-License-Identifier: GPL-3.0-or-later
"""The program that `fullbody retarget` keeps running, as it is run: in a Blender of its own."""

import os
import signal
import sys

import bpy
import numpy as np
import pytest
from exported_motion import world_rest
from fullbody_mocap.contract.skeleton import JOINT_INDEX
from fullbody_mocap.retarget.role_map import RoleMap
from rigged_characters import make_rig, roles_of
from scene_reading import curves_of
from synthetic_person import make_clip, make_template
from test_character_file import save, vrm

from fullbody_core.blender_process import Blender, BlenderError, BlenderWorker

FRAMES = 12


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    import fullbody_mocap

    staged = os.path.dirname(os.path.dirname(fullbody_mocap.__file__))
    with BlenderWorker(staged, "retarget_files", Blender(sys.executable, is_python=True)) as worker:
        assert worker.greeting["blender"] == bpy.app.version_string
        yield worker


@pytest.fixture
def folder(tmp_path):
    template = make_template()
    make_clip(template, frames=FRAMES, fps=29.8).save(tmp_path / "walk.npz")
    rest = template.joints + np.array([0, 0.5, 0])
    np.savez(tmp_path / "body.npz", rest_joints=rest, sole=np.array(rest[JOINT_INDEX["left_foot"], 1] - 0.05))
    make_rig("mixamo")
    save(tmp_path / "hero.fbx")
    return tmp_path


def job(folder, character="hero.fbx", formats=("blend",), **changes):
    return {
        "clip": str(folder / "walk.npz"),
        "clip_name": "walk",
        "body": str(folder / "body.npz"),
        "character": str(folder / character),
        "armature": None,
        "map": None,
        "face_map": None,
        "settings": {},
        "fps": None,
        "name": "walk_hero",
        "paths": {format: str(folder / f"out.{format}") for format in formats},
        **changes,
    }


def keys_in(path):
    """The curves of the armature that a .blend's character plays."""
    bpy.ops.wm.open_mainfile(filepath=str(path))
    armature = next(item for item in bpy.data.objects if item.type == "ARMATURE" and item.animation_data)
    return armature, curves_of(armature)


def test_a_job_says_what_it_made(worker, folder):
    made = worker.ask(job(folder, formats=("blend", "fbx", "glb", "bvh", "usd")))
    assert (made["frames"], made["fps"], made["role_map"]) == (FRAMES, 30.0, "Mixamo")
    assert set(made["seconds"]) == {"open", "retarget", "write"} and made["armature"]
    names = {"body.npz", "hero.fbx", "walk.npz", *(f"out.{format}" for format in ("blend", "fbx", "glb", "bvh", "usd"))}
    assert {path.name for path in folder.iterdir()} == names
    armature, curves = keys_in(folder / "out.blend")
    scene = bpy.context.scene
    assert armature.animation_data.action.name == "walk_hero" and len(bpy.data.actions) == 1
    assert (scene.frame_start, scene.frame_end, scene.render.fps, scene.render.fps_base) == (1, FRAMES, 30, 1)
    assert all(len(keys) in (1, FRAMES) for keys in curves.values()) and len(curves) > 60


def test_a_job_does_not_depend_on_those_before_it(worker, folder, staged):
    """Bit for bit, after a broken file and another character as in a Blender of its own."""
    (folder / "junk.fbx").write_text("junk")
    bpy.ops.wm.read_factory_settings(use_empty=True)
    make_rig("unreal", scale=0.01)
    save(folder / "other.blend")
    assert "junk.fbx cannot be imported" in worker.ask(job(folder, "junk.fbx"))["error"]
    assert worker.ask(job(folder, "other.blend"))["role_map"] == "Unreal"
    worker.ask(job(folder))
    _, curves = keys_in(folder / "out.blend")
    with BlenderWorker(staged.parent, "retarget_files", Blender(sys.executable, is_python=True)) as fresh:
        fresh.ask(job(folder, paths={"blend": str(folder / "fresh.blend")}))
        os.kill(fresh.greeting["pid"], signal.SIGTERM)
        with pytest.raises(BlenderError, match="Blender "):
            fresh.ask(job(folder), limit=20)
    _, alone = keys_in(folder / "fresh.blend")
    assert curves.keys() == alone.keys() and all(np.array_equal(curves[name], alone[name]) for name in curves)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"clip": "none.npz"}, "There is no capture file"),
        ({"body": "none.npz"}, "There is no body's rest"),
        ({"character": "none.glb"}, "There is no character"),
        ({"armature": "Nobody"}, "no armature called Nobody"),
        ({"map": "none.json"}, "none.json"),
        ({"settings": {"heading": "north"}}, "heading should be"),
        ({"settings": {"no such": 1}}, "Blender failed: TypeError"),
        ({"paths": {"fbx": "/no such folder/out.fbx"}}, "no such folder"),
    ],
)
def test_what_cannot_be_done_is_told_and_leaves_nothing(worker, folder, changes, words):
    before = sorted(os.listdir(folder))
    error = worker.ask(job(folder, **changes))["error"]
    assert words in error and "\n" not in error
    assert sorted(os.listdir(folder)) == before


def test_a_role_map_of_the_users_own_counts(worker, folder):
    bpy.ops.wm.read_factory_settings(use_empty=True)
    armature = make_rig("cmu", object_name="Hero")
    for bone in armature.data.bones:
        bone.name = f"bone {armature.data.bones.find(bone.name)}"
    numbers = {name: f"bone {number}" for number, name in enumerate(world_rest(make_rig("cmu"))[0])}
    bones = {role: tuple(numbers[name] for name in names) for role, names in roles_of(armature).items()}
    RoleMap("Numbered", bones).save(folder / "map.json")
    save(folder / "numbered.blend")
    made = worker.ask(job(folder, "numbered.blend", armature="Hero", map=str(folder / "map.json")))
    assert made["role_map"] == "Numbered"
    _, curves = keys_in(folder / "out.blend")
    assert f'pose.bones["{bones["head"][0]}"].rotation_quaternion' in {path for path, _ in curves}


def test_a_vrm_goes_by_its_own_bones_and_a_fractional_rate_is_noted(worker, folder):
    bpy.ops.wm.read_factory_settings(use_empty=True)
    make_rig("vrm")
    vrm(folder / "hero.vrm", 0)
    made = worker.ask(job(folder, "hero.vrm", ("glb",), fps=23.976))
    assert (
        made["role_map"] == "VRM 0"
        and made["fps"] == pytest.approx(23.976)
        and made["frames"] == round(FRAMES / 29.8 * 23.976)
    )
    assert any("no VRM data" in note for note in made["notes"]) and any("23.976" in note for note in made["notes"])
