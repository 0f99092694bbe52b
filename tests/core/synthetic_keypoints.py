"""Keypoints as a faultless detector would see them, for tests."""

import numpy as np

from fullbody_core.contract.frames import REST_TO_CAMERA
from fullbody_core.contract.skeleton import BLAZEPOSE_33, SIDES
from fullbody_core.detect.keypoints import Keypoints
from fullbody_core.ik.rest_skeleton import BODY_PLACES, hand_places


def keypoints_of(skeleton, rotations, definition=BLAZEPOSE_33):
    """What a faultless detector sees of a body in a pose [T, 52, 3, 3], without a face mesh."""
    posed = skeleton.pose(rotations)
    frames = len(rotations)
    keypoints = Keypoints.stack([Keypoints.nobody(definition, 478 if definition is BLAZEPOSE_33 else 0)] * frames)
    keypoints.body3d = skeleton.place(BODY_PLACES[definition.name], *posed)
    keypoints.body_confidence[:] = 1
    for index, side in enumerate(SIDES):
        hand = skeleton.place(hand_places(side), *posed)
        keypoints.hand3d[:, index] = hand - hand[:, :1]
    keypoints.hand_confidence[:] = 1
    return keypoints


def upright(frames=1):
    """The T-pose, facing the camera: rotations [frames, 52, 3, 3]."""
    rotations = np.tile(np.eye(3), (frames, 52, 1, 1))
    rotations[:, 0] = REST_TO_CAMERA
    return rotations
