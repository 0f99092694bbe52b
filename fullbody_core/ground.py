"""Which way is up, and where the floor is: the world in which a captured person stands."""

import numpy as np

from .camera import camera_pitch, level_camera_to_world
from .contract.frames import axis_angle_to_matrix, cross
from .contract.skeleton import JOINT_INDEX
from .contract.swing_twist import unit
from .detect.keypoints import SEEN

SOLES = tuple(f"{side}_{name}" for side in ("left", "right") for name in ("heel", "big_toe"))
STRAIGHT_LEG, STRAIGHT_BODY = np.radians([35, 30])


def stand_on_floor(motion, seen):
    """Pose [4, 4] of the camera in a world where the person stands upright on z = 0, first seen over the origin.

    motion: `Motion`; seen: `Keypoints` of the same T frames. The camera is taken to have no roll and not to move. Its pitch, and
    the floor, come from the frames in which somebody stands; without any, the camera is level and the floor under the lowest
    foot of half of the frames.
    """
    valid = motion.valid[:, 0]
    joints, orientations = motion.skeleton.pose(motion.rotations)
    standing = stands_upright(joints, seen) & valid
    pitch = camera_pitch((joints[:, JOINT_INDEX["neck"]] - _middle(joints, "ankle"))[standing])
    soles = motion.skeleton.place(SOLES, joints, orientations) + motion.pelvis[:, None]
    drop = soles @ axis_angle_to_matrix([-pitch, 0, 0])[1]  # along the world's vertical, downwards
    floor = np.median(drop[standing if standing.any() else valid].max(1))
    return level_camera_to_world(motion.pelvis[np.argmax(valid)], floor, pitch)


def camera_to_world(up, floor, under):
    """Pose [4, 4] of a camera in a world whose floor is z = 0, and in which the camera looks towards +y.

    up [3]: unit, in the camera's axes; floor: m along up at which the floor lies; under [3] m in the camera frame: the point that
    comes to stand over the origin. A camera that looks straight up or down has its x axis point to +x.
    """
    up = unit(np.asarray(up, float))
    right = cross(np.array([0.0, 0, 1]), up)
    right = unit(right if np.linalg.norm(right) > 1e-6 else np.array([1.0, 0, 0]))
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, cross(up, right), up])
    origin = pose[:3, :3] @ np.asarray(under, float)
    pose[:3, 3] = [-origin[0], -origin[1], -floor]
    return pose


def stands_upright(joints, seen):
    """[T] bool: frames in which legs that are seen stand `upright`. joints [T, 52, 3] m; seen: `Keypoints` of T frames."""
    ankles = [seen.definition.index(f"{side}_ankle") for side in ("left", "right")]
    return (seen.body_confidence[:, ankles] >= SEEN).all(1) & upright(joints)


def upright(joints):
    """[T] bool: straight legs, in line with the trunk. joints [T, 52, 3] m.

    Other things being equal people stand upright and on the floor, so these frames tell where up is and where the floor.
    """
    straight = [
        _angle_between(_bone(joints, f"{side}_hip", f"{side}_knee"), _bone(joints, f"{side}_knee", f"{side}_ankle"))
        < STRAIGHT_LEG
        for side in ("left", "right")
    ]
    hips, feet = _middle(joints, "hip"), _middle(joints, "ankle")
    return np.all(straight, axis=0) & (_angle_between(joints[:, JOINT_INDEX["neck"]] - hips, hips - feet) < STRAIGHT_BODY)


def _bone(joints, parent, child):
    return joints[:, JOINT_INDEX[child]] - joints[:, JOINT_INDEX[parent]]


def _middle(joints, name):
    return (joints[:, JOINT_INDEX[f"left_{name}"]] + joints[:, JOINT_INDEX[f"right_{name}"]]) / 2


def _angle_between(a, b):
    return np.arccos(np.clip(np.sum(unit(a) * unit(b), -1), -1, 1))
