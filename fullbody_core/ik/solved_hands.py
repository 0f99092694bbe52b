"""What inverse kinematics says of both hands, whichever way it was solved."""

from dataclasses import dataclass

import numpy as np

from ..contract.skeleton import BODY_JOINTS, JOINT_NAMES, SIDES
from ..contract.swing_twist import nearest_rotation
from .rest_skeleton import hand_places


@dataclass
class SolvedHands:
    """Left and right hands: fingers [T, 2, 15, 3, 3] parent-relative, flat where a hand was not found; palms [T, 2, 3, 3] in camera
    axes; found [T, 2] bool."""

    fingers: np.ndarray
    palms: np.ndarray
    found: np.ndarray


def fit_palms(points, fingers, skeleton):
    """Orientations [T, 2, 3, 3] in camera axes in which the hands cover their points [T, 2, 21, 3]; fingers [T, 2, 15, 3, 3].

    Least squares over all 21 of each (Kabsch); frames without a hand get any rotation.
    """
    rotations = np.empty((len(points), len(JOINT_NAMES), 3, 3))
    rotations[:, BODY_JOINTS] = np.eye(3)
    rotations[:, BODY_JOINTS.stop :] = fingers.reshape(len(points), -1, 3, 3)
    posed = skeleton.place([place for side in SIDES for place in hand_places(side)], *skeleton.pose(rotations))
    return nearest_rotation(posed.reshape(points.shape), points)
