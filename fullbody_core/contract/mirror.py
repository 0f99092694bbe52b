"""A person as a looking glass shows them: the left hand moves where the right one did."""

import re

import numpy as np

from .frames import MIRROR, MIRROR_TURN
from .skeleton import JOINT_INDEX, JOINT_NAMES, VALID_PARTS

_OTHER = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}


def other_side(name):
    """The name of the same thing on the other side: left_elbow to right_elbow, eyeBlinkLeft to eyeBlinkRight; else itself."""
    return re.sub(r"^(left|right)(?=_)|(Left|Right)$", lambda found: _OTHER[found.group()], name)


_JOINTS = np.array([JOINT_INDEX[other_side(name)] for name in JOINT_NAMES])
_PARTS = [VALID_PARTS.index(other_side(part)) for part in VALID_PARTS]


def mirror_pose(poses, trans, valid):
    """poses [..., 156] axis-angle rad, trans [..., 3] m and valid [..., 4] of the person mirrored across the world's x."""
    joints = np.reshape(poses, np.shape(poses)[:-1] + (len(JOINT_NAMES), 3))[..., _JOINTS, :] * MIRROR_TURN
    return joints.reshape(np.shape(poses)), np.asarray(trans) @ MIRROR, np.asarray(valid)[..., _PARTS]


def mirror_order(expression_names):
    """Which expression [E] each takes its value from when mirrored. One without a partner on the other side keeps its own."""
    index = {name: number for number, name in enumerate(expression_names)}
    return np.array([index.get(other_side(name), number) for name, number in index.items()], int)
