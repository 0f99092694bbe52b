"""Which way is up, and where the floor is: the world in which a captured person stands."""

import numpy as np

from .camera import camera_pitch, level_camera_to_world
from .contract.frames import axis_angle_to_matrix
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


def stands_upright(joints, seen):
    """[T] bool: straight legs that are seen, in line with the trunk. joints [T, 52, 3] m.

    Other things being equal people stand upright and on the floor, so these frames tell where up is and where the floor.
    """
    ankles = [seen.definition.index(f"{side}_ankle") for side in ("left", "right")]
    straight = [
        _angle_between(_bone(joints, f"{side}_hip", f"{side}_knee"), _bone(joints, f"{side}_knee", f"{side}_ankle"))
        < STRAIGHT_LEG
        for side in ("left", "right")
    ]
    hips, feet = _middle(joints, "hip"), _middle(joints, "ankle")
    in_line = _angle_between(joints[:, JOINT_INDEX["neck"]] - hips, hips - feet) < STRAIGHT_BODY
    return (seen.body_confidence[:, ankles] >= SEEN).all(1) & np.all(straight, axis=0) & in_line


def _bone(joints, parent, child):
    return joints[:, JOINT_INDEX[child]] - joints[:, JOINT_INDEX[parent]]


def _middle(joints, name):
    return (joints[:, JOINT_INDEX[f"left_{name}"]] + joints[:, JOINT_INDEX[f"right_{name}"]]) / 2


def _angle_between(a, b):
    return np.arccos(np.clip(np.sum(unit(a) * unit(b), -1), -1, 1))
