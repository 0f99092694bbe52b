# SPDX-License-Identifier: GPL-3.0-or-later
import bpy
import numpy as np
import pytest
from fullbody_mocap.character import FACE_PROPERTY, IDENTITY_KEY
from fullbody_mocap.importer import import_capture, source_video
from fullbody_mocap.keyframes import Timing
from fullbody_mocap.panels import captured_armature
from scene_reading import contents, evaluated_colours, joints_over, rotation_frames
from synthetic_person import make_clip, make_template, posed_joints


@pytest.fixture
def files(tmp_path):
    template = make_template(expression_names=("smile",), shapes=4, albedos=10)
    clip = make_clip(template, frames=60, fps=60.0, expression_names=("smile",))
    template.save(tmp_path / "person.npz")
    clip.save(tmp_path / "walk.npz")
    return tmp_path, template, clip


def run(folder, clip="walk.npz", template="person.npz", **options):
    return bpy.ops.fullbody.import_capture(filepath=str(folder / clip), template_path=str(folder / template), **options)


def test_import_into_a_scene_of_its_own_rate(addon, files, scene):
    folder, template, clip = files
    scene.render.fps, scene.frame_end = 24, 10
    assert run(folder) == {"FINISHED"}
    armature = bpy.context.object
    assert armature.type == "ARMATURE" and armature.select_get() and captured_armature(armature.children[0]) == armature
    assert (scene.render.fps, scene.frame_end) == (24, 24)
    assert len(rotation_frames(armature, "pelvis")) == 24
    assert (scene.render.resolution_x, scene.render.resolution_y) == (1280, 720) and scene.camera.data.shift_x != 0
    summary = armature["fullbody_capture"]
    assert (summary["frames"], summary["valid_percent"]["left_hand"]) == (60, 100.0)
    assert abs(summary["duration"] - 1) < 1e-6


def test_import_at_the_clips_rate(addon, files, scene):
    folder, template, clip = files
    assert run(folder, set_scene_fps=True, add_camera=False) == {"FINISHED"}
    assert (scene.render.fps, scene.camera, len(bpy.data.cameras)) == (60, None, 0)
    joints = joints_over(scene, bpy.context.object, 1 + np.arange(60))
    assert np.abs(joints - posed_joints(template, clip)).max() < 1e-4


def test_import_twice_makes_two_characters(addon, files, scene):
    folder, template, clip = files
    assert run(folder) == run(folder) == {"FINISHED"}
    armatures = [item for item in scene.objects if item.type == "ARMATURE"]
    assert len(armatures) == 2
    assert armatures[0].animation_data.action != armatures[1].animation_data.action


def test_undo_takes_the_import_back(addon, files):
    folder, template, clip = files
    before = contents()
    bpy.ops.ed.undo_push(message="Before")
    path, person = str(folder / "walk.npz"), str(folder / "person.npz")
    # The second argument asks for the undo step that a click in the interface makes.
    assert bpy.ops.fullbody.import_capture("EXEC_DEFAULT", True, filepath=path, template_path=person) == {"FINISHED"}
    assert contents() != before
    assert bpy.ops.ed.undo() == {"FINISHED"}
    assert contents() == before


def bad_files(folder, template, clip):
    (folder / "text.npz").write_text("not an archive")
    (folder / "short.npz").write_bytes((folder / "walk.npz").read_bytes()[:300])
    clip.betas = np.full(16, 11.0)
    clip.save(folder / "far.npz")
    template.joint_names = template.joint_names[::-1]
    template.save(folder / "other_rig.npz")


@pytest.mark.parametrize(
    "clip, template, words",
    [
        ("none.npz", "person.npz", "no capture file"),
        ("text.npz", "person.npz", "not a capture file"),
        ("short.npz", "person.npz", "cut short"),
        ("person.npz", "person.npz", "not a capture file"),
        ("walk.npz", "walk.npz", "not a character template"),
        ("walk.npz", "none.npz", "no character template"),
        ("walk.npz", "other_rig.npz", "52 SMPL-H joints"),
        ("far.npz", "person.npz", "up to 10"),
    ],
)
def test_bad_files_are_one_sentence_and_change_nothing(addon, files, clip, template, words):
    bad_files(*files)
    before = contents()
    # Called from Python, an operator that reports an error and is cancelled raises it.
    with pytest.raises(RuntimeError, match=words) as caught:
        run(files[0], clip, template, set_scene_fps=True)
    assert "Traceback" not in str(caught.value) and len(str(caught.value).strip().splitlines()) == 1
    assert contents() == before


def test_missing_video_is_a_warning(addon, files):
    assert run(files[0], video_path=str(files[0] / "none.mp4")) == {"FINISHED"}
    assert len(bpy.context.scene.camera.data.background_images) == 0


@pytest.mark.parametrize(
    "captured, built, warned", [("a", "b", True), ("a", "a", False), (None, "b", False), ("a", None, False)]
)
def test_another_body_model_is_a_warning(scene, files, captured, built, warned):
    folder, template, clip = files
    clip.meta, template.meta = {"models": {"body": captured}}, {"body_sha256": built}
    imported = import_capture(clip, template, Timing(30.0), name="Walk", scene=scene, view_layer=bpy.context.view_layer)
    assert any("another body model" in warning for warning in imported.warnings) == warned


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda clip, template: None, None),
        (lambda clip, template: clip.meta.update(models={"face": "other"}), "another face model"),
        (lambda clip, template: clip.meta.update(models={}), None),
        (lambda clip, template: setattr(clip, "face_shape", np.ones(7)), "another face model"),
        (lambda clip, template: template.__dict__.update(vars(make_template())), "no face of its own"),
    ],
)
def test_a_face_of_another_model_is_a_warning_and_left_out(scene, change, words):
    template = make_template(shapes=3, albedos=9)
    clip = make_clip(template, frames=5)
    change(clip, template)
    imported = import_capture(clip, template, Timing(30.0), name="Walk", scene=scene, view_layer=bpy.context.view_layer)
    assert [words in warning for warning in imported.warnings] == ([True] if words else [])
    character = imported.character
    assert (IDENTITY_KEY in character.shape_keys.key_blocks) == (words is None) == (FACE_PROPERTY in character.mesh)
    shown = template.albedo(() if words else clip.face_albedo)
    assert np.abs(evaluated_colours(character.mesh)[0][:, :3] - shown).max() < 1e-5


def test_source_video_is_looked_for_beside_the_capture_first(files):
    folder, template, clip = files
    assert source_video(clip, folder / "walk.npz") is None
    clip.meta = {"source": {"path": "/elsewhere/film.mp4", "name": "film.mp4"}}
    assert source_video(clip, folder / "walk.npz") == "/elsewhere/film.mp4"
    (folder / "film.mp4").write_bytes(b"")
    assert source_video(clip, folder / "walk.npz") == str(folder / "film.mp4")


def test_refused_outside_object_mode(addon, files, scene):
    run(files[0], add_camera=False)
    bpy.ops.object.mode_set(mode="POSE")
    assert not bpy.ops.fullbody.import_capture.poll()
    bpy.ops.object.mode_set(mode="OBJECT")


def registered():
    """Everything of ours that Blender knows."""
    ours = sorted(name for name in dir(bpy.types) if name.startswith("FULLBODY"))
    return ours, hasattr(bpy.types, "FULLBODY_PT_capture"), len(bpy.types.TOPBAR_MT_file_import._dyn_ui_initialize())


def test_registering_twice_leaves_nothing():
    import fullbody_mocap

    before = registered()
    for _ in range(2):
        fullbody_mocap.register()
        assert hasattr(bpy.types, "FULLBODY_PT_capture")
        fullbody_mocap.unregister()
        assert registered() == before
