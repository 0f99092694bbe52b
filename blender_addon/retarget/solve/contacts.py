# SPDX-License-Identifier: GPL-3.0-or-later
"""When the heels, balls and toes of a retargeting's source stand on something. Numpy only."""

import numpy as np

from ...contract.contacts import USUAL_HIPS, contacts_of_soles, sole_points
from ...contract.skeleton import JOINT_INDEX, SIDES


def source_soles(motion):
    """The source's sole points [T, 2, 3, 3] m: left and right; heel, ball, toe; x y z."""
    soles = np.empty((len(motion.joints), len(SIDES), 3, 3))
    for number, side in enumerate(SIDES):
        ankle, ball = JOINT_INDEX[f"{side}_ankle"], JOINT_INDEX[f"{side}_foot"]
        points = sole_points(motion.rest_joints[ankle], motion.rest_joints[ball], motion.sole)
        foot = (points[:2] - motion.rest_joints[ankle]) @ motion.turns[:, ankle].swapaxes(-1, -2)
        toes = (points[2:] - motion.rest_joints[ball]) @ motion.turns[:, ball].swapaxes(-1, -2)
        soles[:, number, :2] = motion.joints[:, None, ankle] + foot
        soles[:, number, 2:] = motion.joints[:, None, ball] + toes
    return soles


def find_contacts(motion):
    """The `Contacts` of a `SourceMotion`. Where the body was not captured nothing stands."""
    size = motion.hip_height / USUAL_HIPS
    return contacts_of_soles(source_soles(motion), motion.times, motion.floor, size, np.asarray(motion.valid, bool)[:, 0])
