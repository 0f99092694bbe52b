# SPDX-License-Identifier: GPL-3.0-or-later
"""Moving rigs, and where their bones are in the world, for tests of files that go out of Blender and come back in."""

import bpy
import numpy as np
from fullbody_mocap.contract.frames import axis_angle_to_quaternion
from fullbody_mocap.tracks import Track, write_tracks

FRAMES = 9


def add_motion(armature, bones=None, shape_key=False, name="walk about", begins=1):
    """A new action that turns bones (all, unless named) every way and moves the first from frame `begins` on; returns it."""
    rng = np.random.default_rng(0)
    frames = np.arange(begins, FRAMES + 1.0)
    bones = bones or [bone.name for bone in armature.pose.bones]
    wave = np.sin(3 * frames / FRAMES)[:, None]
    tracks = []
    for bone in bones:
        armature.pose.bones[bone].rotation_mode = "QUATERNION"
        turns = axis_angle_to_quaternion(wave * rng.normal(0, 0.4, 3))
        tracks.append(Track(f'pose.bones["{bone}"].rotation_quaternion', frames, turns, bone))
    way = wave * rng.normal(0, 0.4, 3) / armature.matrix_world.to_scale()[0]
    tracks.append(Track(f'pose.bones["{bones[0]}"].location', frames, way, bones[0]))
    action = bpy.data.actions.new(name)
    write_tracks(tracks, armature, action)
    if shape_key:
        mesh = next(item for item in bpy.data.objects if item.type == "MESH" and item.find_armature() == armature)
        mesh.shape_key_add(name="Basis")
        mesh.shape_key_add(name="jawOpen").value = 0
        keys = mesh.data.shape_keys
        keys.key_blocks["jawOpen"].data[0].co.z += 0.1
        write_tracks(
            [Track('key_blocks["jawOpen"].value', frames, np.linspace(0, 1, len(frames))[:, None], "x")], keys, action
        )
    return action


def world_rest(armature, names=None):
    """Names of bones (all, unless given) and where their heads rest in the world [B, 3] m."""
    names = [bone.name for bone in armature.data.bones] if names is None else list(names)
    bpy.context.view_layer.update()
    return names, np.array([armature.matrix_world @ armature.data.bones[name].head_local for name in names])


def world_heads(armature, names, first=1):
    """Where bones' heads are in the world [FRAMES, B, 3] m, evaluated, from frame `first` on."""
    heads = []
    for frame in range(first, first + FRAMES):
        bpy.context.scene.frame_set(frame)
        evaluated = armature.evaluated_get(bpy.context.evaluated_depsgraph_get())
        heads.append([evaluated.matrix_world @ evaluated.pose.bones[name].head for name in names])
    return np.array(heads)
