# SPDX-License-Identifier: GPL-3.0-or-later
"""Axes and quaternion order on Blender's side: the only file of the add-on that turns either.

The core speaks three right-handed frames (see `contract.frames`): rest (y up, x to the person's left, z forward), camera
(OpenCV) and world (z up). Blender adds four of its own:
  scene          Blender's world, which is the core's world, and armature space: the armature object stays at identity.
  scene rest     the unposed character, stood upright in the scene: REST_TO_WORLD applied to the rest frame.
  bone           each bone's own axes: y along the bone. Pose-bone rotations and locations are given in them.
  camera object  x right, y up, looking along -z.
Quaternions are WXYZ, which is both numpy's side of the contract and mathutils' order, so nothing is ever reordered.
"""

import numpy as np

from .contract.frames import (
    REST_TO_WORLD,
    matrix_to_quaternion,
    multiply_quaternions,
)

CAMERA_OBJECT_TO_CAMERA = np.diag([1.0, -1.0, -1.0, 1.0])
"""From Blender's camera object (y up, looking along -z) to the core's camera frame (y down, looking along z)."""

_FRONT = REST_TO_WORLD @ (0.0, 0.0, 1.0)
_UP = REST_TO_WORLD @ (0.0, 1.0, 0.0)


def rest_to_scene(rest_xyz):
    """Points or displacements [..., 3] from the rest frame to scene rest (z up, facing -y)."""
    return np.asarray(rest_xyz, float) @ REST_TO_WORLD.T


def scene_to_rest(scene_xyz):
    """Inverse of `rest_to_scene`."""
    return np.asarray(scene_xyz, float) @ REST_TO_WORLD


def rest_turn_to_scene(rotation):
    """A rotation [3, 3] in rest-frame axes as the same turn in scene-rest axes."""
    return REST_TO_WORLD @ np.asarray(rotation, float) @ REST_TO_WORLD.T


def scene_turn_to_rest(rotation):
    """Inverse of `rest_turn_to_scene`."""
    return REST_TO_WORLD.T @ np.asarray(rotation, float) @ REST_TO_WORLD


def bone_to_scene(directions):
    """Bone axes [J, 3, 3] (columns x, y, z in scene rest) for bones that point along `directions` [J, 3] in the rest frame.

    y runs along the bone and z as nearly to the person's front as it can (upwards for a bone that itself points to the
    front), so left and right bones mirror each other as Blender's mirrored paste expects, whatever the body's shape.
    """
    y = rest_to_scene(directions)
    y = y / np.linalg.norm(y, axis=-1, keepdims=True)
    towards = np.where(np.abs(y @ _FRONT)[:, None] < 0.9, _FRONT, _UP)
    z = towards - np.sum(towards * y, -1, keepdims=True) * y
    z = z / np.linalg.norm(z, axis=-1, keepdims=True)
    return np.stack([np.cross(y, z), y, z], -1)


def bone_to_rest_quaternions(bone_to_scene_matrices):
    """From `bone.matrix_local` rotations [J, 3, 3] to WXYZ quaternions [J, 4] that turn bone axes into the rest frame."""
    return matrix_to_quaternion(REST_TO_WORLD.T @ np.asarray(bone_to_scene_matrices, float))


def rest_to_bone_rotations(quaternions, bone_to_rest):
    """Rotations [..., J, 4] in rest-frame axes to pose-bone `rotation_quaternion`s [..., J, 4]: B^-1 q B, WXYZ."""
    rest_to_bone = bone_to_rest * np.array([1.0, -1, -1, -1])
    return multiply_quaternions(multiply_quaternions(rest_to_bone, quaternions), bone_to_rest)


def trans_to_root_location(trans, root_head, root_to_scene):
    """Root pose-bone `location` [T, 3] m from AMASS `trans` [T, 3] m.

    The pelvis stands at trans + J0 with J0's rest-frame numbers taken as they are (AMASS, smplx), while the bone rests at
    `root_head` [3], J0 stood upright in the scene. `root_to_scene` [3, 3] is the root bone's `matrix_local` rotation.
    """
    root_head = np.asarray(root_head, float)
    displacement = np.asarray(trans, float) + scene_to_rest(root_head) - root_head
    return displacement @ np.asarray(root_to_scene, float)


def rest_to_bone_pose_feature(bone_to_scene_matrix):
    """The matrix [9, 9] F that takes pose blend shapes [..., 9] of a joint from rest axes to its bone's: directions @ F.

    They belong to the nine numbers of R - I, in rows. With B the bone's `matrix_local` rotation R = B R' B^T, so what element
    (l, m) of R' - I moves is the sum of B_il B_km times what elements (i, k) of R - I move.
    """
    to_rest = REST_TO_WORLD.T @ np.asarray(bone_to_scene_matrix, float)
    return np.kron(to_rest, to_rest)


def camera_to_object_matrix(camera_to_world):
    """World matrix [4, 4] of a Blender camera object at the core's camera of pose `camera_to_world` [4, 4] m."""
    return np.asarray(camera_to_world, float) @ CAMERA_OBJECT_TO_CAMERA
