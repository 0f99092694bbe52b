# SPDX-License-Identifier: GPL-3.0-or-later
"""From a capture clip to keyframes: when to key, and what to key."""

from dataclasses import dataclass

import bpy
import numpy as np

from . import axes
from .character import bone_rest, widen_slider
from .contract.frames import continuous_quaternions, pose_to_quaternions, slerp_quaternions
from .contract.skeleton import JOINT_NAMES, PART_JOINTS, VALID_PARTS
from .tracks import Track, write_tracks

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


@dataclass(frozen=True)
class Sampling:
    """Which moments a part is keyed at: their `rows` [M], and the captured frames that each lies between.

    It lies `fraction` [M] of the way from frame `before` [M] to frame `after` [M].
    """

    rows: np.ndarray
    before: np.ndarray
    after: np.ndarray
    fraction: np.ndarray

    def linear(self, values):
        """Values [T, ...] at the sampled moments [M, ...]."""
        weight = self.fraction.reshape(-1, *[1] * (values.ndim - 1))
        return values[self.before] * (1 - weight) + values[self.after] * weight

    def slerp(self, quaternions):
        """WXYZ rotations [T, J, 4] at the sampled moments [M, J, 4], neighbours on one hemisphere."""
        fraction = np.broadcast_to(self.fraction[:, None], (len(self.fraction), quaternions.shape[1]))
        return continuous_quaternions(slerp_quaternions(quaternions[self.before], quaternions[self.after], fraction))


def sample_valid(timestamps, valid, times, reach):
    """`Sampling` of the moments `times` [N] from the captured frames `timestamps` [T] that are `valid` [T].

    A moment further than `reach` s from every valid frame is left out. The others lie between their nearest valid frames,
    so a moment at the rim of a hole agrees with what Blender will interpolate across it.
    """
    rows = np.flatnonzero(valid)
    if len(rows) == 0:
        empty = np.zeros(0, int)
        return Sampling(empty, empty, empty, np.zeros(0))
    known = np.asarray(timestamps, float)[rows]
    after = np.clip(np.searchsorted(known, times), 0, len(known) - 1)
    before = np.where(known[after] > times, np.maximum(after - 1, 0), after)
    span = known[after] - known[before]
    fraction = np.divide(times - known[before], span, out=np.zeros(len(times)), where=span > 0)
    distance = np.minimum(np.abs(times - known[before]), np.abs(times - known[after]))
    near = np.flatnonzero(distance <= reach * (1 + 1e-6) + 1e-9)
    return Sampling(near, rows[before[near]], rows[after[near]], np.clip(fraction[near], 0, 1))


def clip_tracks(clip, armature, timing):
    """Tracks for the armature: 52 bone rotations and the root's location. A part has no keys where it was not captured."""
    heads, bones = bone_rest(armature)
    bone_to_rest = axes.bone_to_rest_quaternions(bones)
    quaternions = pose_to_quaternions(clip.poses)
    locations = axes.trans_to_root_location(clip.trans, heads[0], bones[0])
    times = timing.times(clip)
    frames = timing.frames(clip, times)

    tracks = []
    for part, joints in PART_JOINTS.items():
        valid = clip.valid[:, VALID_PARTS.index(part)]
        sampling = sample_valid(clip.timestamps, valid, times, timing.reach(clip))
        rotations = axes.rest_to_bone_rotations(sampling.slerp(quaternions[:, joints]), bone_to_rest[joints])
        if part == "body":
            root = JOINT_NAMES[0]
            tracks.append(Track(_bone_path(root, "location"), frames[sampling.rows], sampling.linear(locations), root))
        for number, name in enumerate(JOINT_NAMES[joints]):
            path = _bone_path(name, "rotation_quaternion")
            tracks.append(Track(path, frames[sampling.rows], rotations[:, number], name))
    return tracks


def expression_tracks(clip, shape_keys, timing):
    """Tracks for the `Key` datablock: the clip's expressions that the character has, by name. Widens their sliders to fit.

    Returns the tracks and the names of expressions that the character lacks.
    """
    times = timing.times(clip)
    valid = clip.valid[:, VALID_PARTS.index("face")]
    sampling = sample_valid(clip.timestamps, valid, times, timing.reach(clip))
    frames = timing.frames(clip, times)[sampling.rows]
    values = sampling.linear(np.asarray(clip.face_expression, float))
    tracks, missing = [], []
    for column, name in enumerate(clip.expression_names):
        key = shape_keys.key_blocks.get(name)
        if key is None:
            missing.append(name)
            continue
        path = f'key_blocks["{bpy.utils.escape_identifier(name)}"].value'
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
    """What the panel shows of a clip, as plain values: frames, fps, duration in s, and per cent captured of each part."""
    return {
        "frames": clip.frame_count,
        "fps": float(clip.mocap_framerate),
        "duration": clip.duration,
        "valid_percent": {part: 100.0 * float(clip.valid[:, column].mean()) for column, part in enumerate(VALID_PARTS)},
    }


def _bone_path(name, attribute):
    return f'pose.bones["{bpy.utils.escape_identifier(name)}"].{attribute}'
