# SPDX-License-Identifier: GPL-3.0-or-later
import bpy
import numpy as np
import pytest
from bpy_extras.object_utils import world_to_camera_view
from fullbody_mocap.camera import add_background_video, create_camera, nearest_rows
from fullbody_mocap.contract.frames import axis_angle_to_matrix
from fullbody_mocap.keyframes import Timing
from mathutils import Vector
from synthetic_person import make_clip, make_template, posed_joints


def project(clip, points):
    pixels = points @ clip.camera_matrix.T
    return pixels[..., :2] / pixels[..., 2:]


@pytest.fixture
def movie(tmp_path, scene):
    """A film of 30 grey frames, written by Blender itself."""
    return write_movie(tmp_path / "film.mp4", scene)


def write_movie(path, scene, frames=30):
    editor = scene.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    strip = strips.new_effect("Colour", "COLOR", channel=1, frame_start=1, **_length(strips, frames))
    strip.color = (0.5, 0.5, 0.5)
    render = scene.render
    render.resolution_x, render.resolution_y, render.resolution_percentage, render.fps = 64, 48, 100, 30
    if hasattr(render.image_settings, "media_type"):
        render.image_settings.media_type = "VIDEO"
    render.image_settings.file_format = "FFMPEG"
    render.ffmpeg.format, render.ffmpeg.codec = "MPEG4", "H264"
    scene.frame_start, scene.frame_end = 1, frames
    render.filepath = str(path)
    bpy.ops.render.render(animation=True)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    return path


def _length(strips, frames):
    takes = {parameter.identifier for parameter in strips.bl_rna.functions["new_effect"].parameters}
    return {"length": frames} if "length" in takes else {"frame_end": 1 + frames}


@pytest.mark.parametrize("image_size", [(1280, 720), (720, 1280), (640, 640)])
@pytest.mark.parametrize("aspect", [1.0, 0.9, 1.25])
def test_projects_to_the_pixels_of_the_camera_matrix(scene, image_size, aspect):
    template = make_template()
    clip = make_clip(template, frames=5, image_size=image_size)
    clip.camera_matrix[1, 1] = aspect * clip.camera_matrix[0, 0]
    camera = create_camera(clip, Timing(clip.mocap_framerate), name="Camera", scene=scene, collection=scene.collection)
    bpy.context.view_layer.update()
    assert scene.camera == camera
    expected = project(clip, clip.joints_camera)
    got = np.array(
        [[world_to_camera_view(scene, camera, Vector(joint)) for joint in joints] for joints in posed_joints(template, clip)]
    )
    pixels = np.stack([got[..., 0] * image_size[0], (1 - got[..., 1]) * image_size[1]], -1)
    error = np.abs(pixels - expected).max()
    print(f"pixel error {error:.1e}")
    assert error < 0.5
    assert np.abs(got[..., 2] - clip.joints_camera[..., 2]).max() < 1e-4


def test_a_camera_that_turns_and_a_cut_are_keyed(scene):
    """Every frame's joints stand where that frame's own camera saw them; nothing is blended over the cut."""
    template = make_template()
    clip = make_clip(template, frames=8, fps=24.0)
    turns = axis_angle_to_matrix(np.linspace(0, 0.4, 8)[:, None] * [0.1, 1.0, 0.0])
    clip.camera_to_world[:, :3, :3] = clip.camera_to_world[:, :3, :3] @ turns
    clip.camera_to_world[5:, :3, 3] += [0.5, 0.2, 0.0]
    timing = Timing(24.0)
    camera = create_camera(clip, timing, name="Camera", scene=scene, collection=scene.collection)
    scene.render.fps = 24
    for frame in range(8):
        scene.frame_set(timing.frame_start + frame)
        bpy.context.view_layer.update()
        expected = clip.camera_to_world[frame] @ np.diag([1.0, -1, -1, 1])
        np.testing.assert_allclose(np.array(camera.matrix_world), expected, atol=1e-5)
    static = create_camera(make_clip(template, frames=5), timing, name="Still", scene=scene, collection=scene.collection)
    assert static.animation_data is None


def test_missing_and_damaged_videos_are_warnings(scene, tmp_path):
    clip = make_clip(make_template(), frames=5)
    camera = create_camera(clip, Timing(clip.mocap_framerate), name="Camera", scene=scene, collection=scene.collection)
    assert "was not found" in add_background_video(camera, tmp_path / "none.mp4", clip, Timing(30.0))
    (tmp_path / "bad.mp4").write_bytes(b"not a film")
    assert "cannot read" in add_background_video(camera, tmp_path / "bad.mp4", clip, Timing(30.0))
    assert len(camera.data.background_images) == 0 and len(bpy.data.images) == 0


def shown_frames(scene, camera, frames):
    """Film frame, from 0, that Blender shows at each scene frame: by its own rule, frames since the start plus offset."""
    shown = []
    for frame in frames:
        scene.frame_set(frame)
        user = camera.evaluated_get(bpy.context.evaluated_depsgraph_get()).data.background_images[0].image_user
        shown.append(min(frame - user.frame_start + 1, user.frame_duration) + user.frame_offset - 1)
    return np.array(shown)


@pytest.mark.parametrize("scene_rate", [30.0, 24.0, 60.0])
def test_video_keeps_step_with_the_keyframes(movie, scene_rate):
    scene = bpy.context.scene
    clip = make_clip(make_template(), frames=30, fps=30.0)
    camera = create_camera(clip, Timing(clip.mocap_framerate), name="Camera", scene=scene, collection=scene.collection)
    timing = Timing(scene_rate, 5)
    assert add_background_video(camera, movie, clip, timing) is None
    background = camera.data.background_images[0]
    assert background.image.source == "MOVIE" and camera.data.show_background_images
    frames = np.arange(5, timing.frame_end(clip) + 1)
    shown = shown_frames(scene, camera, frames)
    moments = (frames - 5) / scene_rate
    assert np.abs(shown / 30.0 - moments).max() <= 0.5 / 30 + 1e-6
    assert (camera.data.animation_data is None) == (scene_rate == 30.0)


def test_video_of_uneven_rate_keeps_step(movie):
    """Blender counts this film at 30 a second; the clip knows only its frames 0, 2, 3, 7... as an uneven video's."""
    scene = bpy.context.scene
    rows = np.array([0, 2, 3, 7, 8, 10, 13, 16, 20, 21, 25, 29])
    clip = make_clip(make_template(), frames=len(rows), fps=12.0)
    # Milliseconds, as some containers keep them.
    clip.timestamps = 0.2 + np.round(rows / 30, 3)
    timing = Timing(24.0, 1)
    camera = create_camera(clip, Timing(clip.mocap_framerate), name="Camera", scene=scene, collection=scene.collection)
    assert add_background_video(camera, movie, clip, timing) is None
    frames = np.arange(1, timing.frame_end(clip) + 1)
    shown = shown_frames(scene, camera, frames)
    assert set(shown) <= set(rows)
    moments = (frames - 1) / 24.0
    gaps = np.abs(rows[None] / 30 - moments[:, None]).min(1)
    assert np.abs(np.abs(shown / 30 - moments) - gaps).max() < 2e-3
    assert len(bpy.data.movieclips) == 0


def test_nearest_rows_of_uneven_times():
    assert nearest_rows([0.0, 0.1, 0.5], [0.0, 0.04, 0.06, 0.29, 0.31, 0.9]).tolist() == [0, 0, 1, 1, 2, 2]
