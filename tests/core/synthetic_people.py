"""Motion capture for tests of synthetic people, made up without any recording."""

import numpy as np

from fullbody_core.contract.frames import REST_TO_WORLD, axis_angle_to_matrix
from fullbody_core.contract.skeleton import JOINT_NAMES
from fullbody_core.train.motions import Motion


def made_up_motion(seed=0, count=60):
    """Somebody who stands, turned anywhere, and moves every joint a little."""
    rng = np.random.default_rng(seed)
    rotations = axis_angle_to_matrix(rng.normal(0, 0.2, (count, len(JOINT_NAMES), 3)))
    turn = axis_angle_to_matrix(np.array([0, 0, 1.0]) * rng.uniform(-np.pi, np.pi, (count, 1)))
    rotations[:, 0] = turn @ REST_TO_WORLD @ rotations[:, 0]
    return Motion("made up", rotations, 30.0)
