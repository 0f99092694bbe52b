# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
import pytest
from fullbody_mocap import axes
from fullbody_mocap.contract.frames import REST_TO_WORLD, matrix_to_axis_angle, pose_to_quaternions, quaternion_to_matrix
from fullbody_mocap.contract.skeleton import JOINT_INDEX
from synthetic_person import rest_joints


def test_rest_stands_upright_facing_minus_y():
    assert np.allclose(axes.rest_to_scene([0, 1, 0]), [0, 0, 1])
    assert np.allclose(axes.rest_to_scene([0, 0, 1]), [0, -1, 0])
    assert np.allclose(axes.rest_to_scene([1, 0, 0]), [1, 0, 0])
    points = np.random.default_rng(0).normal(size=(5, 4, 3))
    assert np.allclose(axes.scene_to_rest(axes.rest_to_scene(points)), points)


def test_bone_axes_are_rotations_along_the_bone_and_mirror():
    directions = np.random.default_rng(1).normal(size=(40, 3))
    bones = axes.bone_to_scene(directions)
    assert np.allclose(bones @ np.swapaxes(bones, -1, -2), np.eye(3), atol=1e-12)
    assert np.allclose(np.linalg.det(bones), 1)
    assert np.allclose(bones[..., 1], axes.rest_to_scene(directions) / np.linalg.norm(directions, axis=-1, keepdims=True))
    # Blender's mirrored paste: a mirrored bone has mirrored axes but for the sign of x, which keeps it right-handed.
    mirror = np.diag([-1.0, 1, 1])
    assert np.allclose(axes.bone_to_scene(directions @ mirror), mirror @ bones @ mirror)


@pytest.mark.parametrize("direction", [(0, 0, 1), (0, 0, -1), (0, 1, 0), (1, 0, 0)])
def test_bone_axes_have_no_singular_direction(direction):
    assert np.isfinite(axes.bone_to_scene(np.array([direction], float))).all()


def test_upright_root_needs_no_rotation():
    poses = np.zeros((1, 156))
    poses[0, :3] = matrix_to_axis_angle(REST_TO_WORLD)
    quaternions = pose_to_quaternions(poses)
    assert np.allclose(np.abs(quaternions[..., 0]), 1)


def test_bone_rotation_is_the_rest_rotation_seen_from_the_bone():
    rng = np.random.default_rng(2)
    bones = axes.bone_to_scene(rng.normal(size=(52, 3)))
    poses = rng.normal(size=(3, 156))
    bone_to_rest = axes.bone_to_rest_quaternions(bones)
    quaternions = pose_to_quaternions(poses)
    local = quaternion_to_matrix(axes.rest_to_bone_rotations(quaternions, bone_to_rest))
    basis = REST_TO_WORLD.T @ bones
    assert np.allclose(local, np.swapaxes(basis, -1, -2) @ quaternion_to_matrix(quaternions) @ basis)


def test_root_location_moves_the_pelvis_to_trans_plus_its_rest_place():
    rng = np.random.default_rng(3)
    pelvis, trans = rest_joints()[JOINT_INDEX["pelvis"]], rng.normal(size=(7, 3))
    bone, head = axes.bone_to_scene(np.array([[0.0, 1, -0.2]]))[0], axes.rest_to_scene(pelvis)
    location = axes.trans_to_root_location(trans, head, bone)
    assert np.allclose(head + location @ bone.T, trans + pelvis)


def test_level_camera_object_looks_along_y_with_z_up():
    camera_to_world = np.eye(4)
    camera_to_world[:3, :3] = [[1, 0, 0], [0, 0, 1], [0, -1, 0]]
    matrix = axes.camera_to_object_matrix(camera_to_world)
    assert np.allclose(matrix[:3, :3] @ (0, 0, -1), (0, 1, 0))
    assert np.allclose(matrix[:3, :3] @ (0, 1, 0), (0, 0, 1))


def test_turns_stand_upright_with_the_points_they_turn():
    rng = np.random.default_rng(3)
    points = rng.normal(size=(20, 3))
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    upright = axes.rest_turn_to_scene(turn)
    assert np.allclose(axes.rest_to_scene(points @ turn.T), axes.rest_to_scene(points) @ upright.T)
    assert np.allclose(axes.scene_turn_to_rest(upright), turn)
