# SPDX-License-Identifier: GPL-3.0-or-later
"""The capture camera: the video's own camera in the scene, with the video behind the character."""

import os
from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix

from . import axes
from .contract.frames import matrix_to_quaternion
from .sampling import sample_captured
from .tracks import CONSTANT, Track, write_tracks

_JUMP = 1e-4
"""m between two frames from which the video was cut there: cameras turn, but are not seen to walk."""


def create_camera(clip, timing, *, name, scene, collection):
    """A camera that sees the scene as the clip's camera did, and a render size of the clip's. Makes it the scene's camera.

    A camera that moves is keyed. Pixels are counted from the image's upper left corner, so that the centre of a [w, h] image is
    (w / 2, h / 2).
    """
    width, height = (int(size) for size in clip.image_size)
    (fx, _, cx), (_, fy, cy), _ = np.asarray(clip.camera_matrix, float)
    data = bpy.data.cameras.new(name)
    camera = bpy.data.objects.new(name, data)
    collection.objects.link(camera)
    camera.matrix_world = Matrix(axes.camera_to_object_matrix(clip.camera_to_world[0]).tolist())

    # With the sensor fitted to the width, focal length and both shifts are measured in image widths.
    data.sensor_fit = "HORIZONTAL"
    data.lens = fx * data.sensor_width / width
    data.shift_x = (width / 2 - cx) / width
    data.shift_y = (cy - height / 2) * (fx / fy) / width
    data.clip_start, data.clip_end = 0.01, 1000.0

    render = scene.render
    render.resolution_x, render.resolution_y, render.resolution_percentage = width, height, 100
    # Pixels that are not square: Blender wants the smaller side to be one.
    render.pixel_aspect_x, render.pixel_aspect_y = max(1.0, fy / fx), max(1.0, fx / fy)
    if abs(fx / fy - 1) < 1e-4:
        render.pixel_aspect_x = render.pixel_aspect_y = 1.0
    scene.camera = camera
    _key_camera(camera, clip, timing)
    return camera


def _key_camera(camera, clip, timing):
    """Keys the camera's place and turn on every scene frame, if it moves at all. It jumps where the video was cut."""
    if np.ptp(clip.camera_to_world, axis=0).max() < 1e-6:
        return
    poses = axes.camera_to_object_matrix(clip.camera_to_world)
    times = timing.times(clip)
    sampling = sample_captured(clip.timestamps, np.ones(clip.frame_count, bool), times)
    turns = sampling.slerp(matrix_to_quaternion(poses[:, None, :3, :3]))[:, 0]
    places = sampling.linear(poses[:, :3, 3])
    # A camera turns, or a video is cut; it does not go anywhere between two frames.
    jumps = np.linalg.norm(np.diff(clip.camera_to_world[:, :3, 3], axis=0), axis=-1) > _JUMP
    at_cut = np.append(jumps, False)[sampling.before] & (sampling.after > sampling.before)
    nearest = nearest_rows(clip.timestamps, times[at_cut])
    turns[at_cut], places[at_cut] = matrix_to_quaternion(poses[nearest, :3, :3]), poses[nearest, :3, 3]
    frames = timing.frames(clip, times)[sampling.rows]
    camera.rotation_mode = "QUATERNION"
    tracks = [Track("location", frames, places, "Camera"), Track("rotation_quaternion", frames, turns, "Camera")]
    write_tracks(tracks, camera, bpy.data.actions.new(camera.name))


def add_background_video(camera, video, clip, timing):
    """Shows the video behind the scene in this camera, in step with the keyframes whatever the scene's frame rate.

    Returns a warning, one sentence for the user, if the video cannot be shown, else None.
    """
    if not Path(video).is_file():
        return f"The video {video} was not found, so the camera shows no background."
    image, movie_fps = _load_movie(video)
    if image is None:
        return f"Blender cannot read {video} as a video, so the camera shows no background."
    background = camera.data.background_images.new()
    background.image = image
    background.alpha = 1.0
    background.display_depth = "BACK"
    background.frame_method = "STRETCH"
    camera.data.show_background_images = True
    user = background.image_user
    user.frame_start = timing.frame_start
    user.frame_duration = timing.frame_count(clip)
    user.use_auto_refresh = True
    _key_video_frames(camera.data, user, movie_frames(clip, timing, movie_fps), timing)
    return None


def _load_movie(video):
    """The video as an image datablock and the rate at which Blender counts its frames; (None, None) if it cannot be read."""
    path = os.path.abspath(video)
    try:
        image = bpy.data.images.load(path, check_existing=True)
        movie = bpy.data.movieclips.load(path)  # images do not tell their rate
    except RuntimeError:
        return None, None
    movie_fps = movie.fps
    bpy.data.movieclips.remove(movie)
    # A file that only looks like a video loads without complaint, and has no size.
    if image.source == "MOVIE" and image.size[0] and movie_fps > 0:
        return image, movie_fps
    if not image.users:
        bpy.data.images.remove(image)
    return None, None


def movie_frames(clip, timing, movie_fps):
    """Blender's number, from 0, of the video frame to show at each of the clip's scene frames [N].

    Blender numbers moments, not frames: number n is whatever the video shows n / movie_fps s after its start. In a video of
    uneven rate that is neither the n-th frame nor the clip's.
    """
    times = clip.timestamps[0] + np.arange(timing.frame_count(clip)) / timing.fps
    shown = clip.timestamps[nearest_rows(clip.timestamps, times)] - clip.timestamps[0]
    # The first number at which the frame shows; a tenth forgives times that the file rounds to milliseconds.
    return np.ceil(shown * movie_fps - 0.1).astype(int)


def _key_video_frames(camera_data, user, numbers, timing):
    """Blender steps one number each scene frame. Where `numbers` [N] do not, the offset that makes up for it is keyed."""
    offsets = numbers - np.arange(len(numbers))
    user.frame_offset = int(offsets[0])
    changes = np.flatnonzero(np.diff(offsets, prepend=offsets[0] - 1))
    if len(changes) > 1:
        path = "background_images[0].image_user.frame_offset"
        track = Track(path, timing.frame_start + changes, offsets[changes, None], "Video", CONSTANT)
        write_tracks([track], camera_data, bpy.data.actions.new(f"{camera_data.name} video"))


def nearest_rows(timestamps, times):
    """Index [N] of the captured frame nearest to each of the moments `times` [N] s."""
    timestamps = np.asarray(timestamps, float)
    return np.searchsorted((timestamps[1:] + timestamps[:-1]) / 2, times)
