"""Closed-form inverse kinematics on keypoints of a body in known poses: what it must recover, and what it must not depend on."""


import numpy as np
import pytest

from fullbody_core.body.open_body import open_body_path
from fullbody_core.body.smplh_file import BodyModelFile
from fullbody_core.contract.frames import axis_angle_to_matrix, matrix_to_axis_angle
from fullbody_core.contract.skeleton import BLAZEPOSE_33, FINGERS, HAND_21, JOINT_INDEX
from fullbody_core.detect.keypoints import SIDES, Keypoints
from fullbody_core.ik.rest_skeleton import RestSkeleton
from fullbody_core.ik.swing_twist import about, transpose, unit

UP, LEFT, FORWARD = np.array([0.0, 1, 0]), np.array([1.0, 0, 0]), np.array([0.0, 0, 1])
MIRROR = np.diag([-1.0, 1, 1])
LIMB_BONES = [(f"{side}_{a}", f"{side}_{b}") for side in SIDES for a, b in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))]


@pytest.fixture(scope="session")
def body():
    return BodyModelFile.load(open_body_path())


@pytest.fixture(scope="session")
def skeleton(body):
    return RestSkeleton.of_body(body, np.zeros(16))


# Poses and their keypoints.


def identity(frames):
    return np.tile(np.eye(3), (frames, 52, 1, 1))


def turns(rng, frames, largest):
    """Rotations [T, 3, 3] about random axes by up to `largest` degrees."""
    axes = unit(rng.normal(size=(frames, 3)))
    return axis_angle_to_matrix(axes * np.radians(rng.uniform(0, largest, (frames, 1))))


def random_pose(rng, frames, bend=(0, 130)):
    """Rotations [T, 52, 3, 3] of someone who moves anyhow, turned anyhow to the camera; elbows and knees bent by `bend` degrees."""
    rotations = identity(frames)

    def put(name, rotation):
        rotations[:, JOINT_INDEX[name]] = rotation

    def angles(low, high):
        return np.radians(rng.uniform(low, high, frames))

    put("pelvis", turns(rng, frames, 180))
    for name in ("spine1", "spine2", "spine3", "neck", "head", "left_collar", "right_collar"):
        put(name, turns(rng, frames, 12))
    for side, sign in (("left", 1), ("right", -1)):
        put(f"{side}_shoulder", turns(rng, frames, 80))
        put(f"{side}_elbow", about(-sign * UP, angles(*bend)))
        sideways, twist = about(sign * FORWARD, angles(0, 45)), about(UP, angles(-35, 35))
        put(f"{side}_hip", about(-LEFT, angles(-20, 95)) @ sideways @ twist)
        put(f"{side}_knee", about(LEFT, angles(*bend)))
        put(f"{side}_ankle", turns(rng, frames, 20))
        put(f"{side}_wrist", turns(rng, frames, 60))
        for finger, segment, rotation in random_fingers(rng, frames, sign):
            put(f"{side}_{finger}{segment}", rotation)
    return rotations


def random_fingers(rng, frames, sign):
    """(finger, segment, rotation) for a hand: flexion towards the palm, which faces down, and a little spread."""
    for finger in FINGERS:
        for segment in (1, 2, 3):
            yield finger, segment, turns(rng, frames, 20)


def landmark_of(keypoint):
    """The body's joint or landmark that marks a BlazePose keypoint."""
    name = keypoint.replace("_centre", "").replace("foot_index", "big_toe")
    if name.endswith(("_pinky", "_index")):
        return f"{name}_mcp"
    return f"{name}2" if name.endswith("_thumb") else name


def hand_landmark_of(side, keypoint):
    if keypoint == "wrist":
        return f"{side}_wrist"
    finger, part = keypoint.split("_")
    parts = ("cmc", "mcp", "ip") if finger == "thumb" else ("mcp", "pip", "dip")
    return f"{side}_{finger}_tip" if part == "tip" else f"{side}_{finger}{parts.index(part) + 1}"


def keypoints_of(skeleton, rotations):
    """What a faultless detector sees of a body in a pose, without a face mesh."""
    posed = skeleton.pose(rotations)
    frames = len(rotations)
    keypoints = Keypoints.stack([Keypoints.nobody(33, 478)] * frames)
    keypoints.body3d = skeleton.place([landmark_of(name) for name in BLAZEPOSE_33.names], *posed)
    keypoints.body_confidence[:] = 1
    for index, side in enumerate(SIDES):
        hand = skeleton.place([hand_landmark_of(side, name) for name in HAND_21.names], *posed)
        keypoints.hand3d[:, index] = hand - hand[:, :1]
    keypoints.hand_confidence[:] = 1
    return keypoints


def degrees_between(a, b):
    """Angle between vectors [..., 3], exact for small ones too."""
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), np.sum(a * b, -1)))


def degrees_apart(a, b):
    """Angle of the rotation from a to b, [..., 3, 3]."""
    return np.degrees(np.linalg.norm(matrix_to_axis_angle(transpose(a) @ b), axis=-1))
