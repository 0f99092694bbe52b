"""What the face says about the head's orientation: more than a body detector's few points of the head."""

from dataclasses import replace

import numpy as np

from ..contract.skeleton import BLAZEPOSE_33, SMPL_33
from ..contract.swing_twist import axes_rotation, transpose
from .holes import bridge_holes
from .rest_skeleton import BODY_PLACES

LEFT_EYE, RIGHT_EYE, FOREHEAD, CHIN = 263, 33, 10, 152
"""Outer eye corners and the ends of the mid-line of MediaPipe's face mesh."""

HEAD_KEYPOINTS = slice(0, 11)
"""BlazePose's points of the head: nose, eyes, ears, mouth."""

HEADS = {
    BLAZEPOSE_33.name: HEAD_KEYPOINTS,
    SMPL_33.name: [SMPL_33.index(name) for name in ("head", "head_top", "left_eye", "right_eye")],
}
"""The points of each body definition that turn with the head."""


def head_from_mesh(face3d):
    """Orientation [T, 3, 3] of the head from face meshes [T, F, 3] in camera axes; meshes of zeros give some finite answer."""
    eye_line = face3d[:, LEFT_EYE] - face3d[:, RIGHT_EYE]
    mid_line = face3d[:, FOREHEAD] - face3d[:, CHIN]
    return axes_rotation([1.0, 0, 0], [0.0, 1, 0], eye_line, mid_line)


def found_heads(keypoints):
    """In which of T frames [T] bool the head's rotation is known from the face."""
    return keypoints.head_rotation.any((-2, -1))


def with_found_head(keypoints, skeleton):
    """The same keypoints; where the face says how the head is turned, the head's 3D points are the skeleton's own, turned so.

    They keep the middle that the body detector gave them. Between such frames they change over to the detector's bit by bit.
    """
    found = found_heads(keypoints)
    if not found.any():
        return keypoints
    points = HEADS[keypoints.definition.name]
    rest = skeleton.at_rest(np.array(BODY_PLACES[keypoints.definition.name])[points])
    head = keypoints.body3d[:, points]
    bridge = bridge_holes(found)
    orientation = bridge.rotations(np.where(found[:, None, None], keypoints.head_rotation, np.eye(3)))
    turned = head.mean(1, keepdims=True) + (rest - rest.mean(0)) @ transpose(orientation)
    body3d = keypoints.body3d.copy()
    body3d[:, points] += bridge.trust[:, None, None] * (turned - head)
    return replace(keypoints, body3d=body3d)
