"""Closed-form inverse kinematics from body and hand keypoints to the 52 SMPL-H rotations.

Each bone's swing comes from its direction; its twist, which a bone's ends do not show, from the plane of the hinge below it
(elbow, knee) and, for the forearm, from the palm: the knuckles of index and little finger give the wrist, as in Hand4Whole
(Moon et al. 2022, Sec. 3.2). It needs no training and stays as the reference that IKNet (Zhou et al. 2021, Sec. 3.3) is
compared with.
"""

from ..contract.skeleton import BLAZEPOSE_33, SMPL_33
from ..detect.keypoints import Keypoints
from .analytic_blazepose import BlazePoseSolver
from .analytic_smpl import SmplSolver

SOLVERS = {BLAZEPOSE_33.name: BlazePoseSolver, SMPL_33.name: SmplSolver}
"""By body definition."""


def solve_pose(keypoints: Keypoints, skeleton):
    """Rotations [T, 52, 3, 3] that bring the body of `RestSkeleton` skeleton into the keypoints' pose.

    `keypoints` is a sequence. Frames where a part was not found get that part's resting pose; the caller knows from the
    confidences which they are. The answer is always finite.
    """
    return SOLVERS[keypoints.definition.name](keypoints, skeleton).solve()


class AnalyticSolver:
    """`solve_pose` for the pipeline, in the form that `IKNetSolver` has."""

    name = "analytic"
    sha256 = {}

    def solve_pose(self, keypoints, skeleton):
        """Rotations [T, 52, 3, 3] for a `RestSkeleton`."""
        return solve_pose(keypoints, skeleton)
