# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests read out of Blender, as numpy arrays."""

import bpy
import numpy as np
from fullbody_mocap.contract.skeleton import JOINT_NAMES


def joints_over(scene, armature, frames):
    """World heads [T, 52, 3] m of the evaluated pose bones at scene frames, which may lie between whole ones."""
    return np.array([_joints_at(scene, armature, frame) for frame in frames])


def _joints_at(scene, armature, frame):
    whole = int(np.floor(frame))
    scene.frame_set(whole, subframe=float(frame - whole))
    evaluated = armature.evaluated_get(bpy.context.evaluated_depsgraph_get())
    matrix = np.array(evaluated.matrix_world)
    heads = np.array([evaluated.pose.bones[name].head for name in JOINT_NAMES])
    return heads @ matrix[:3, :3].T + matrix[:3, 3]


def curves_of(animated):
    """The curves that play on a datablock: (data path, index) -> keys [N, 2]."""
    animation = animated.animation_data
    channels = animation.action.layers[0].strips[0].channelbag(animation.action_slot)
    curves = {}
    for curve in channels.fcurves:
        points = np.empty(2 * len(curve.keyframe_points), np.float32)
        curve.keyframe_points.foreach_get("co", points)
        curves[curve.data_path, curve.array_index] = points.reshape(-1, 2)
    return curves


def rotation_frames(armature, bone):
    """Scene frames [N] at which a bone's rotation is keyed."""
    curve = curves_of(armature).get((f'pose.bones["{bone}"].rotation_quaternion', 0))
    return np.zeros(0) if curve is None else curve[:, 0]


_COUNTED = (
    "objects", "meshes", "armatures", "actions", "cameras", "materials", "collections", "images", "shape_keys", "node_groups",
)  # fmt: skip


def contents():
    """What a file holds and a scene is set to: equal before and after something that changed nothing."""
    scene = bpy.context.scene
    render = scene.render
    settings = (render.fps, render.fps_base, render.resolution_x, render.resolution_y, scene.frame_start, scene.frame_end)
    return {name: sorted(item.name for item in getattr(bpy.data, name)) for name in _COUNTED} | {
        "settings": settings,
        "camera": scene.camera,
    }


def evaluated_colours(mesh_object, name="Albedo"):
    """The colour attribute [V, 4] of a mesh object after its modifiers, and its (type, domain)."""
    evaluated = mesh_object.evaluated_get(bpy.context.evaluated_depsgraph_get())
    attribute = evaluated.data.attributes[name]
    colours = np.empty(4 * len(evaluated.data.vertices), np.float32)
    attribute.data.foreach_get("color", colours)
    return colours.reshape(-1, 4), (attribute.data_type, attribute.domain)
