# SPDX-License-Identifier: GPL-3.0-or-later
import time

import bpy
import numpy as np
import pytest
from fullbody_mocap.character import build_character
from fullbody_mocap.contract.skeleton import JOINT_NAMES
from fullbody_mocap.keyframes import CAPTURE_PROPERTY, Timing, animate_character, scene_fps, set_scene_fps
from fullbody_mocap.sampling import sample_captured
from fullbody_mocap.stage import evaluated_vertices
from fullbody_mocap.tracks import Track, write_tracks
from scene_reading import curves_of, joints_over, rotation_frames
from synthetic_person import make_clip, make_template, posed_joints, posed_vertices

EXPRESSIONS = ("smile", "jawOpen")


def animate(scene, clip, template, fps=30.0, resample=True):
    view_layer = bpy.context.view_layer
    face = {"face_shape": clip.face_shape, "face_albedo": clip.face_albedo}
    character = build_character(
        template, clip.betas, name="Person", collection=scene.collection, view_layer=view_layer, **face
    )
    timing = Timing(fps, 1, resample)
    animate_character(clip, character, timing, name="Clip")
    return character, timing


def test_posed_joints_agree_with_plain_forward_kinematics(scene):
    template = make_template()
    clip = make_clip(template, frames=90, seed=3)
    assert np.abs(clip.betas).max() > 1
    character, timing = animate(scene, clip, template)
    joints = joints_over(scene, character.armature, 1 + np.arange(90))
    error = np.abs(joints - posed_joints(template, clip)).max()
    print(f"joint error {error:.1e} m")
    assert error < 1e-4


def test_posed_mesh_agrees_with_plain_skinning(scene):
    template = make_template(expression_names=EXPRESSIONS, shapes=6, albedos=9)
    clip = make_clip(template, frames=30, seed=4, expression_names=EXPRESSIONS)
    character, _ = animate(scene, clip, template)
    errors = []
    for frame in (0, 7, 19, 29):
        scene.frame_set(1 + frame)
        vertices = evaluated_vertices(character.mesh, bpy.context.evaluated_depsgraph_get())
        errors.append(np.abs(vertices - posed_vertices(template, clip, frame)).max())
    print(f"vertex error {max(errors):.1e} m")
    assert max(errors) < 1e-4


def test_own_times_are_kept_between_scene_frames(scene):
    template = make_template()
    clip = make_clip(template, frames=40, fps=60.0)
    character, timing = animate(scene, clip, template, fps=24.0, resample=False)
    frames = rotation_frames(character.armature, "pelvis")
    assert np.allclose(frames, 1 + np.arange(40) * 24 / 60, atol=1e-4)
    joints = joints_over(scene, character.armature, 1 + np.arange(40) * 24 / 60)
    assert np.abs(joints - posed_joints(template, clip)).max() < 1e-4


@pytest.mark.parametrize("clip_fps, scene_rate", [(60.0, 24.0), (24.0, 60.0), (30.0, 30.0), (29.97, 24.0), (25.0, 23.976)])
def test_duration_is_the_same_to_one_frame(scene, clip_fps, scene_rate):
    template = make_template()
    clip = make_clip(template, frames=round(5 * clip_fps), fps=clip_fps)
    character, timing = animate(scene, clip, template, fps=scene_rate)
    frames = rotation_frames(character.armature, "head")
    assert np.array_equal(frames, np.round(frames)) and (np.diff(frames) == 1).all() and frames[0] == 1
    assert abs(len(frames) / scene_rate - clip.duration) <= 1 / scene_rate
    assert abs(timing.frame_count(clip) / scene_rate - clip.duration) <= 0.5 / scene_rate + 1e-9
    # The same moment of the clip shows the same pose: smooth motion leaves only the interpolation's error.
    step = len(frames) // 2
    moment = clip.timestamps[0] + step / scene_rate
    nearest = np.argmin(np.abs(clip.timestamps - moment))
    travel = np.abs(np.diff(posed_joints(template, clip), axis=0)).max()
    joints = joints_over(scene, character.armature, [1 + step])
    assert np.abs(joints - posed_joints(template, clip)[nearest]).max() <= 1.5 * travel


def test_invalid_hand_frames_have_no_keys_and_the_body_has(scene):
    template = make_template()
    clip = make_clip(template, frames=60)
    clip.valid[10:30, 1] = False
    clip.valid[:, 2] = False
    character, _ = animate(scene, clip, template)
    everywhere, seen = 1 + np.arange(60), np.r_[1:11, 31:61]
    assert np.array_equal(rotation_frames(character.armature, "left_wrist"), everywhere)
    assert np.array_equal(rotation_frames(character.armature, "left_index1"), seen)
    assert len(rotation_frames(character.armature, "right_index1")) == 0
    assert len(curves_of(character.armature)) == 3 + 4 * (22 + 15)
    # Across the hole Blender goes straight from the last good pose to the next.
    scene.frame_set(20)
    left = character.armature.pose.bones["left_index1"].rotation_quaternion
    keys = np.array(
        [curves_of(character.armature)['pose.bones["left_index1"].rotation_quaternion', axis] for axis in range(4)]
    )
    assert np.allclose(left, keys[:, 9, 1] + (keys[:, 10, 1] - keys[:, 9, 1]) * 10 / 21, atol=1e-5)


def test_holes_survive_resampling(scene):
    template = make_template()
    clip = make_clip(template, frames=120, fps=60.0)
    clip.valid[40:80, 0] = False
    character, _ = animate(scene, clip, template, fps=24.0)
    frames = rotation_frames(character.armature, "left_knee") - 1
    assert not ((frames / 24 > 39.6 / 60 + 1 / 48) & (frames / 24 < 79.4 / 60 - 1 / 48)).any()
    assert (frames <= 15).sum() == 16 and frames[-1] == 47


def test_body_hole_takes_the_location_with_it(scene):
    template = make_template()
    clip = make_clip(template, frames=30)
    clip.valid[5:9, 0] = False
    character, _ = animate(scene, clip, template)
    location = curves_of(character.armature)['pose.bones["pelvis"].location', 2]
    assert np.array_equal(location[:, 0], rotation_frames(character.armature, "pelvis"))
    assert len(location) == 26


def test_a_clip_in_which_nobody_is_seen_is_a_character_at_rest(scene):
    template = make_template(expression_names=EXPRESSIONS)
    clip = make_clip(template, frames=10, expression_names=EXPRESSIONS)
    clip.valid[:] = False
    character, _ = animate(scene, clip, template)
    assert character.armature.animation_data is None and character.shape_keys.animation_data is None


def test_a_clip_of_one_frame(scene):
    template = make_template()
    clip = make_clip(template, frames=1)
    character, timing = animate(scene, clip, template, fps=24.0)
    assert timing.frame_count(clip) == 1
    assert np.abs(joints_over(scene, character.armature, [1]) - posed_joints(template, clip)).max() < 1e-4


def test_quaternions_do_not_jump_through_a_full_turn(scene):
    template = make_template()
    clip = make_clip(template, frames=60, standing=True)
    # Two turns about x, written as captures write them: angles of at most half a turn, so the axis flips on the way.
    clip.poses[:, 16 * 3] = (np.linspace(0, 4 * np.pi, 60) + np.pi) % (2 * np.pi) - np.pi
    character, _ = animate(scene, clip, template)
    curves = curves_of(character.armature)
    keys = np.array([curves['pose.bones["left_shoulder"].rotation_quaternion', axis][:, 1] for axis in range(4)])
    assert np.abs(np.diff(keys, axis=1)).max() < 0.2


def test_sampling_lies_between_valid_frames_only():
    timestamps, valid = np.arange(6) / 10, np.array([False, True, False, False, True, True])
    sampling = sample_captured(timestamps, valid, timestamps).within(0.0)
    assert sampling.rows.tolist() == [1, 4, 5]
    assert np.allclose(sampling.linear(np.arange(6.0)), [1, 4, 5])
    sampling = sample_captured(timestamps, valid, np.array([0.06, 0.14, 0.25, 0.36, 0.47, 0.54])).within(0.05)
    assert sampling.rows.tolist() == [0, 1, 3, 4, 5]
    assert np.allclose(sampling.linear(np.arange(6.0)), [1, 1.4, 3.6, 4.7, 5])


def test_expressions_are_keyed_by_name_and_sliders_widened(scene):
    template = make_template(expression_names=EXPRESSIONS)
    clip = make_clip(template, frames=20, expression_names=("jawOpen", "unknown"))
    clip.face_expression[:, 0] = np.linspace(-0.5, 1.8, 20)
    character = build_character(
        template, clip.betas, name="P", collection=scene.collection, view_layer=bpy.context.view_layer
    )
    action, missing = animate_character(clip, character, Timing(30.0), name="Clip")
    assert missing == ["unknown"]
    assert list(curves_of(character.shape_keys)) == [('key_blocks["jawOpen"].value', 0)]
    scene.frame_set(20)
    assert abs(character.shape_keys.key_blocks["jawOpen"].value - 1.8) < 1e-5
    # One action, two slots: exporters then see one animation.
    assert action == character.armature.animation_data.action == character.shape_keys.animation_data.action
    assert len(action.slots) == 2


def test_scene_rate():
    scene = bpy.context.scene
    template = make_template()
    for fps in (24.0, 59.94, 12.5, 0.5):
        set_scene_fps(scene, make_clip(template, frames=2000, fps=fps))
        assert abs(scene_fps(scene) / fps - 1) < 1e-6
    set_scene_fps(scene, make_clip(template, frames=300, fps=30.0003))
    assert (scene.render.fps, scene.render.fps_base) == (30, 1.0)


def test_what_was_filled_in_is_shown_as_breakdowns(scene):
    template = make_template()
    clip = make_clip(template, frames=20)
    clip.filled[7:10, 0] = clip.filled[3:5, 1] = True
    character, _ = animate(scene, clip, template)
    kinds = {}
    animation = character.armature.animation_data
    for curve in animation.action.layers[0].strips[0].channelbag(animation.action_slot).fcurves:
        kinds[curve.data_path] = [int(point.co[0]) - 1 for point in curve.keyframe_points if point.type == "BREAKDOWN"]
    assert kinds['pose.bones["left_knee"].rotation_quaternion'] == [7, 8, 9]
    assert kinds['pose.bones["left_index1"].rotation_quaternion'] == [3, 4]
    assert kinds['pose.bones["right_index1"].rotation_quaternion'] == []
    assert character.armature[CAPTURE_PROPERTY]["filled_percent"].to_dict() == {
        "body": 15.0,
        "left_hand": 10.0,
        "right_hand": 0.0,
        "face": 0.0,
    }


def test_a_thousand_frames_are_written_within_half_a_second(scene):
    names = tuple(f"expression_{number:02d}" for number in range(52))
    template = make_template(expression_names=names)
    clip = make_clip(template, frames=1000, expression_names=names)
    view_layer, seconds, writing = bpy.context.view_layer, [], []
    for _attempt in range(3):
        character = build_character(template, clip.betas, name="P", collection=scene.collection, view_layer=view_layer)
        start = time.perf_counter()
        animate_character(clip, character, Timing(30.0), name="Clip")
        seconds.append(time.perf_counter() - start)
        frames, values = 1.0 + np.arange(1000), np.random.default_rng(0).normal(size=(1000, 4))
        tracks = [Track(f'pose.bones["{name}"].rotation_quaternion', frames, values, name) for name in JOINT_NAMES]
        start = time.perf_counter()
        write_tracks(tracks, character.armature, bpy.data.actions.new("Write only"))
        writing.append(time.perf_counter() - start)
    assert len(curves_of(character.armature)) == 52 * 4
    counted = "1000 frames of 52 bones, root and 52 shape keys"
    print(f"{bpy.app.version_string}: {counted}: {min(seconds):.3f} s ({min(writing):.3f} s to write 208 curves)")
    assert min(seconds) < 0.5
