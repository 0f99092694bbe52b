"""Closed-form inverse kinematics from body and hand keypoints to the 52 SMPL-H rotations.

Each bone's swing comes from its direction; its twist, which a bone's ends do not show, from the plane of the hinge below it
(elbow, knee) and, for the forearm, from the palm: the knuckles of index and little finger give the wrist, as in Hand4Whole
(Moon et al. 2022, Sec. 3.2). It needs no training and stays as the reference that IKNet (Zhou et al. 2021, Sec. 3.3) is
compared with.
"""

import numpy as np

from ..contract.skeleton import BLAZEPOSE_33, BODY_JOINT_NAMES, BODY_JOINTS, SIDES, SMPL_33
from ..detect.keypoints import Keypoints
from .analytic_blazepose import BlazePoseSolver
from .analytic_hand import palm_orientation, solve_fingers
from .analytic_smpl import SmplSolver
from .solved_hands import SolvedHands, fit_palms

SOLVERS = {BLAZEPOSE_33.name: BlazePoseSolver, SMPL_33.name: SmplSolver}
"""By body definition."""


def solve_pose(keypoints: Keypoints, skeleton, hands=None):
    """Rotations [T, 52, 3, 3] that bring the body of `RestSkeleton` skeleton into the keypoints' pose.

    `keypoints` is a sequence. Frames where a part was not found get that part's resting pose; the caller knows from the
    confidences which they are. The answer is always finite. hands: `SolvedHands`, where the hands are solved already.
    """
    rotations = solve_body(keypoints, skeleton)
    fingers = solve_hands(keypoints, skeleton) if hands is None else hands.fingers
    rotations[:, BODY_JOINTS.stop :] = fingers.reshape(len(rotations), -1, 3, 3)
    return rotations


def solve_body(keypoints, skeleton, wanted=np.ones(len(BODY_JOINT_NAMES), bool)):
    """`solve_pose` with flat hands. Of body joints that are not wanted [22] bool the answer may be anything."""
    return SOLVERS[keypoints.definition.name](keypoints, skeleton).solve(wanted)


def solve_hands(keypoints, skeleton):
    """Rotations [T, 30, 3, 3] of the finger joints, the left hand's first: they depend on nothing but the hand's points."""
    hands = []
    for side, points in zip(SIDES, np.moveaxis(keypoints.hand3d, 1, 0)):
        found = keypoints.hand_confidence[:, SIDES.index(side), None, None, None] > 0
        fingers = solve_fingers(points, palm_orientation(points, skeleton.joints, side), skeleton.joints, side)
        hands.append(np.where(found, fingers, np.eye(3)))
    return np.concatenate(hands, 1)


class AnalyticSolver:
    """The closed form for the pipeline, in the form that `IKNetSolver` has."""

    name = "analytic"
    sha256 = {}
    network_seconds = 0.0

    def solve_hands(self, keypoints, skeleton):
        """`SolvedHands`, of which the body knows nothing."""
        fingers = solve_hands(keypoints, skeleton).reshape(len(keypoints.hand3d), len(SIDES), -1, 3, 3)
        return SolvedHands(fingers, fit_palms(keypoints.hand3d, fingers, skeleton), keypoints.hand_confidence > 0)

    def solve_pose(self, keypoints, skeleton, hands=None):
        """Rotations [T, 52, 3, 3] for a `RestSkeleton`."""
        return solve_pose(keypoints, skeleton, hands)
