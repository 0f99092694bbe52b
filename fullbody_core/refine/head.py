"""The head over a whole clip: turned as the face says where it is seen, and as steady as a head is.

Before the body's refinement, whose start it is: a head that turns afterwards takes the eyes off their pixels.
"""

from dataclasses import replace

import numpy as np

from ..contract.skeleton import JOINT_INDEX
from ..contract.swing_twist import fraction_of, limit_angle, transpose
from ..ik.analytic_limbs import NECK_LIMIT
from ..ik.holes import bridge_holes
from ..smoothing import valid_runs
from .turn_terms import steady_turns
from .windows import windows

HEAD_SPREAD = 0.05
"""rad: of a head's turn by its face, from frame to frame."""

BESIDE_SHARE = 0.3
"""How much a turn counts that no face says, beside one that a face does."""

ACCELERATION = 4.0
"""rad/s^2: of a head at rest."""


def refine_head(motion, face_turns, found, timestamps):
    """The motion with the head turned as its face, steadied over the whole clip; the neck takes half of the change.

    motion: `Motion` in the reference frame; face_turns [T, 3, 3]: from the head at rest to reference axes, where found [T] bool.
    Beside such frames the head goes back to the body's own way of holding it. Nothing but neck and head turns.
    """
    found = found & motion.valid[:, 0]
    if not found.any():
        return motion
    orientations = motion.skeleton.pose(motion.rotations)[1]
    chest, neck, head = (orientations[:, JOINT_INDEX[name]] for name in ("spine3", "neck", "head"))
    bridge = bridge_holes(found)
    # Over a hole the head keeps what it differs by from the body's, which goes on turning.
    difference = bridge.rotations(transpose(head) @ np.where(found[:, None, None], face_turns, np.eye(3)))
    wanted = head @ fraction_of(difference, bridge.trust)
    wanted = steady_head(wanted, found, motion.valid[:, 0], timestamps)
    change = wanted @ transpose(head)
    rotations = motion.rotations.copy()
    on_chest = limit_angle(transpose(chest) @ fraction_of(change, 0.5) @ neck, NECK_LIMIT)
    rotations[:, JOINT_INDEX["neck"]] = on_chest
    rotations[:, JOINT_INDEX["head"]] = limit_angle(transpose(chest @ on_chest) @ wanted, NECK_LIMIT)
    return replace(motion, rotations=rotations)


def steady_head(wanted, found, valid, timestamps):
    """Head turns [T, 3, 3] steadied, run by run of the frames that are valid [T]; found [T]: whose turn a face says."""
    steady = wanted.copy()
    weights = np.where(found, 1.0, BESIDE_SHARE)
    for run in valid_runs(valid):
        for frames, share in windows(run):
            turns = steady_turns(wanted[frames], weights[frames], timestamps[frames], HEAD_SPREAD, ACCELERATION)
            steady[frames] = fraction_of(turns @ transpose(steady[frames]), share) @ steady[frames]
    return steady
