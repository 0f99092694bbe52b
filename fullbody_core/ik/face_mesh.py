"""What MediaPipe's face mesh says about the head's orientation: more than BlazePose's eleven points of the head."""

from dataclasses import replace

from ..contract.skeleton import BLAZEPOSE_33
from ..swing_twist import axes_rotation, transpose
from .holes import bridge_holes
from .rest_skeleton import BODY_PLACES

LEFT_EYE, RIGHT_EYE, FOREHEAD, CHIN = 263, 33, 10, 152
"""Outer eye corners and the ends of the mid-line of MediaPipe's face mesh."""

HEAD_KEYPOINTS = slice(0, 11)
"""BlazePose's points of the head: nose, eyes, ears, mouth."""


def head_from_mesh(face3d):
    """Orientation [T, 3, 3] of the head from face meshes [T, F, 3] in camera axes; meshes of zeros give some finite answer."""
    eye_line = face3d[:, LEFT_EYE] - face3d[:, RIGHT_EYE]
    mid_line = face3d[:, FOREHEAD] - face3d[:, CHIN]
    return axes_rotation([1.0, 0, 0], [0.0, 1, 0], eye_line, mid_line)


def with_face_mesh_head(keypoints, skeleton):
    """The same keypoints; where there is a face mesh, the head's 3D points are the skeleton's own, turned as the mesh is.

    They keep the middle that the body detector gave them. Between meshes they change over to the detector's bit by bit.
    """
    rest = skeleton.at_rest(BODY_PLACES[BLAZEPOSE_33.name][HEAD_KEYPOINTS])
    head = keypoints.body3d[:, HEAD_KEYPOINTS]
    bridge = bridge_holes(keypoints.face_confidence > 0)
    orientation = bridge.rotations(head_from_mesh(keypoints.face3d))
    turned = head.mean(1, keepdims=True) + (rest - rest.mean(0)) @ transpose(orientation)
    body3d = keypoints.body3d.copy()
    body3d[:, HEAD_KEYPOINTS] += bridge.trust[:, None, None] * (turned - head)
    return replace(keypoints, body3d=body3d)
