# SPDX-License-Identifier: GPL-3.0-or-later
"""From a capture clip to keyframes: when to key, and what to key."""

from dataclasses import dataclass

import bpy
import numpy as np

from . import axes
from .character import bone_rest, widen_slider
from .contract.frames import pose_to_quaternions
from .contract.skeleton import JOINT_NAMES, PART_JOINTS, VALID_PARTS
from .sampling import sample_captured
from .tracks import Track, bone_path, shape_key_path, write_tracks

CAPTURE_PROPERTY = "fullbody_capture"
"""Custom property of the armature object that tells the panel what was imported."""


@dataclass(frozen=True)
class Timing:
    """Where a clip lies on the scene's frames: `frame_start` shows the clip's first moment, at `fps` frames per second.

    `resample` keys whole scene frames; otherwise each captured frame is keyed at its own time, between scene
    frames if need be.
    """

    fps: float
    frame_start: int = 1
    resample: bool = True

    def frame_count(self, clip):
        """Whole scene frames that the clip lasts, to the nearest."""
        return max(1, round(clip.duration * self.fps))

    def frame_end(self, clip):
        return self.frame_start + self.frame_count(clip) - 1

    def times(self, clip):
        """Moments to key [N], s on the clip's own clock."""
        if not self.resample:
            return np.array(clip.timestamps, float)
        return clip.timestamps[0] + np.arange(self.frame_count(clip)) / self.fps

    def frames(self, clip, times):
        """Scene frames [N] of moments [N] s on the clip's clock."""
        return self.frame_start + (np.asarray(times, float) - clip.timestamps[0]) * self.fps

    def reach(self, clip):
        """How far, s, a moment to key may lie from a captured frame: what Blender would fill in anyway is not keyed."""
        return 0.5 * max(1 / self.fps, 1 / clip.mocap_framerate) if self.resample else 0.0


def scene_fps(scene):
    """Frames per second that a scene plays: fps over its base."""
    return scene.render.fps / scene.render.fps_base


def set_scene_fps(scene, clip):
    """Plays the scene at the clip's own rate, which need not be a whole number."""
    rate = clip.mocap_framerate
    whole = max(1, round(rate))
    # A measured 30.0003 means 30 (and 29.97 does not). Nothing drifts: keys follow the clip's own times in seconds.
    scene.render.fps = whole
    scene.render.fps_base = 1.0 if abs(rate / whole - 1) < 1e-4 else whole / rate


def clip_tracks(clip, armature, timing):
    """Tracks for the armature: 52 bone rotations and the root's location. A part has no keys where it was not captured.

    Keys over a gap that the capture bridged are marked.
    """
    heads, bones = bone_rest(armature)
    bone_to_rest = axes.bone_to_rest_quaternions(bones)
    quaternions = pose_to_quaternions(clip.poses)
    locations = axes.trans_to_root_location(clip.trans, heads[0], bones[0])
    times = timing.times(clip)
    frames = timing.frames(clip, times)

    tracks = []
    for part, joints in PART_JOINTS.items():
        valid = clip.valid[:, VALID_PARTS.index(part)]
        sampling = sample_captured(clip.timestamps, valid, times).within(timing.reach(clip))
        filled = clip.filled[sampling.before, VALID_PARTS.index(part)] | clip.filled[sampling.after, VALID_PARTS.index(part)]
        rotations = axes.rest_to_bone_rotations(sampling.slerp(quaternions[:, joints]), bone_to_rest[joints])
        if part == "body":
            root = JOINT_NAMES[0]
            path, values = bone_path(root, "location"), sampling.linear(locations)
            tracks.append(Track(path, frames[sampling.rows], values, root, filled=filled))
        for number, name in enumerate(JOINT_NAMES[joints]):
            path = bone_path(name, "rotation_quaternion")
            tracks.append(Track(path, frames[sampling.rows], rotations[:, number], name, filled=filled))
    return tracks


def expression_tracks(clip, shape_keys, timing):
    """Tracks for the `Key` datablock: the clip's expressions that the character has, by name. Widens their sliders to fit.

    Returns the tracks and the names of expressions that the character lacks.
    """
    times = timing.times(clip)
    valid = clip.valid[:, VALID_PARTS.index("face")]
    sampling = sample_captured(clip.timestamps, valid, times).within(timing.reach(clip))
    frames = timing.frames(clip, times)[sampling.rows]
    values = sampling.linear(np.asarray(clip.face_expression, float))
    tracks, missing = [], []
    for column, name in enumerate(clip.expression_names):
        key = shape_keys.key_blocks.get(name)
        if key is None:
            missing.append(name)
            continue
        path = shape_key_path(name)
        track = Track(path, frames, values[:, column, None], "Expression")
        if len(frames):
            widen_slider(key, track.values.min(), track.values.max())
        tracks.append(track)
    return tracks, missing


def animate_character(clip, character, timing, *, name):
    """Keys a whole clip onto a character as one new action with a slot for the bones and one for the shape keys.

    The character's colours have a slot of their own in it, once they are keyed (`colour.key_albedo`).
    Returns the action and the names of expressions that the character lacks.
    """
    shape_tracks, missing = expression_tracks(clip, character.shape_keys, timing)
    action = bpy.data.actions.new(name)
    write_tracks(clip_tracks(clip, character.armature, timing), character.armature, action)
    write_tracks(shape_tracks, character.shape_keys, action)
    character.armature.update_tag(refresh={"DATA"})
    character.armature[CAPTURE_PROPERTY] = capture_summary(clip)
    return action, missing


def capture_summary(clip):
    """What the panel shows of a clip, as plain values: frames, fps, duration in s, and per cent captured of each part.

    `filled_percent` is what of it no frame shows.
    """
    return {
        "frames": clip.frame_count,
        "fps": float(clip.mocap_framerate),
        "duration": clip.duration,
        "filled_percent": {part: 100.0 * float(clip.filled[:, column].mean()) for column, part in enumerate(VALID_PARTS)},
        "valid_percent": {part: 100.0 * float(clip.valid[:, column].mean()) for column, part in enumerate(VALID_PARTS)},
    }
