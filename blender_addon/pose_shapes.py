# SPDX-License-Identifier: GPL-3.0-or-later
"""Pose blend shapes (SMPL, Loper et al. 2015, Eq. 9): what a body's surface changes as its joints turn, before it is skinned.

A shape key for each of the nine numbers of R - I of each joint, driven by the bone's own rotation, whatever turns it: keys, other
constraints, a hand in the viewport. The drivers are plain arithmetic, which Blender evaluates without running scripts.
"""

import numpy as np

from . import axes

_ELEMENTS = (
    *("-2*(y*y+z*z)", "2*(x*y-w*z)", "2*(x*z+w*y)"),
    *("2*(x*y+w*z)", "-2*(x*x+z*z)", "2*(y*z-w*x)"),
    *("2*(x*z-w*y)", "2*(y*z+w*x)", "-2*(x*x+y*y)"),
)
"""R - I of a unit quaternion, in rows."""

_RANGE = 2.0  # no element of R - I is larger


def add_pose_shapes(mesh_object, armature, template, bone_to_scene_matrices):
    """Adds the driven shape keys `pose_JOINT_LM`; without posedirs in the template none. Call it after the other shape keys.

    bone_to_scene_matrices [J, 3, 3]: the bones' rest rotations, in the template's order of joints.
    """
    if not template.posedirs.shape[-1]:
        return
    moved = np.flatnonzero(template.posedirs.any((1, 2)))
    shape = axes.rest_to_scene(template.vertices).astype(np.float32)
    rest = shape[moved]
    by_joint = template.posedirs[moved].reshape(len(moved), 3, -1, 9)
    for joint, name in enumerate(template.joint_names[1:], 1):
        directions = by_joint[:, :, joint - 1] @ axes.rest_to_bone_pose_feature(bone_to_scene_matrices[joint]).astype(np.float32)
        if not directions.any():
            continue
        offsets = axes.rest_to_scene(directions.transpose(2, 0, 1)).astype(np.float32)
        for element, expression in enumerate(_ELEMENTS):
            key = mesh_object.shape_key_add(name=f"pose_{name}_{element // 3}{element % 3}", from_mix=False)
            key.value = 0.0  # 5.0 and later start at one
            key.slider_min, key.slider_max = -_RANGE, _RANGE
            shape[moved] = rest + offsets[element]
            key.points.foreach_set("co", shape.ravel())
            _drive(key, armature, name, expression)


def _drive(key, armature, bone, expression):
    """Lets an expression of the bone's rotation, a unit quaternion w, x, y, z in its own axes, drive a shape key."""
    driver = key.driver_add("value").driver
    driver.type, driver.expression = "SCRIPTED", expression
    for letter in "wxyz":
        if letter in expression:
            variable = driver.variables.new()
            variable.name, variable.type = letter, "TRANSFORMS"
            target = variable.targets[0]
            target.id, target.bone_target = armature, bone
            target.transform_type, target.transform_space = f"ROT_{letter.upper()}", "LOCAL_SPACE"
            target.rotation_mode = "QUATERNION"
