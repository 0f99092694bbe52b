# SPDX-License-Identifier: GPL-3.0-or-later
"""From a person's motion to world poses of a character's mapped bones. Numpy only, no bpy.

Every bone takes the turn that its joint has made from the upright rest, after the character's rest was brought to the source's;
so neither the roll of bones nor the rest pose nor the proportions change which way a limb points.
"""

from dataclasses import dataclass

import numpy as np

from ..contract.frames import matrix_to_quaternion, quaternion_to_matrix, slerp_quaternions
from ..contract.skeleton import FINGERS, JOINT_INDEX, SIDES
from .contacts import find_contacts
from .feet import plant_feet
from .pose import WorldPose, place_bones
from .rest_match import hip_ratio, rest_offsets, stand_up
from .roles import CHAINS, JOINT_OF_ROLE, REQUIRED
from .source import RetargetError
from .twist import spread_twist

HEADINGS = ("capture", "character")
"""Whose front the motion's front is: the world's, as captured, or the character's own."""

_KNOTS = {"spine": ("pelvis", "spine1", "spine2", "spine3"), "neck": ("spine3", "neck")}
"""The source's joints that a chain of any number of bones is spread over; the first belongs to the bone below the chain."""


@dataclass(frozen=True)
class RetargetSettings:
    """What to carry over, and how.

    plant_feet: keep the source's planted feet in place on the character; fingers, face: whether they are retargeted
    heading: one of `HEADINGS`; scale: size of the steps and height of the hips against the source's, from the legs where None
    expression_gain, expression_offset: the face's expressions are multiplied, then moved by these
    """

    plant_feet: bool = True
    fingers: bool = True
    face: bool = True
    heading: str = "capture"
    scale: float | None = None
    expression_gain: float = 1.0
    expression_offset: float = 0.0

    def __post_init__(self):
        if self.heading not in HEADINGS:
            raise RetargetError(f"The heading should be one of {', '.join(HEADINGS)}, got {self.heading!r}.")
        if self.scale is not None and not (np.isfinite(self.scale) and self.scale > 0):
            raise RetargetError(f"The scale should be above zero, got {self.scale}.")
        if not (np.isfinite(self.expression_gain) and np.isfinite(self.expression_offset)):
            raise RetargetError("The expressions' gain and offset should be finite numbers.")


def solve(motion, controls, settings=RetargetSettings()):
    """The `WorldPose` of a character's `Controls` at each of a `SourceMotion`'s moments. Raises `RetargetError`."""
    check_controls(controls)
    stood, stood_up = stand_up(controls)
    if settings.heading == "character":
        motion = motion.turned(_heading(stood_up).T)
    ratio = settings.scale or hip_ratio(stood, motion)
    turns = bone_turns(motion, stood, settings)
    world = place_hips(stood, turns @ stood.axes, motion, ratio)
    if settings.plant_feet:
        world = plant_feet(world, stood, motion, find_contacts(motion), ratio)
    return _as_it_rests(world, controls)


def check_controls(controls):
    """Raises `RetargetError` where a bone that is needed is not mapped or has no place."""
    missing = [role for role in REQUIRED if controls.first(role) is None]
    if missing:
        raise RetargetError(f"The character has no bone for {', '.join(missing)}: name one in its role map.")
    if not (np.isfinite(controls.heads).all() and np.isfinite(controls.axes).all()):
        raise RetargetError("The character's bones have places that are not numbers: check its rest pose.")


def bone_turns(motion, controls, settings=RetargetSettings()):
    """World turn [T, N, 3, 3] of each bone from the rest of a character that stands up as the source does."""
    offsets = rest_offsets(controls, motion.rest_joints)
    turns = np.empty((len(motion.times), len(controls.names), 3, 3))
    for role in dict.fromkeys(controls.roles):
        bones = controls.of_role(role)
        if role in CHAINS:
            turns[:, bones] = _along_chain(motion.turns, role, len(bones))
        elif role == "root":
            turns[:, bones] = np.eye(3)
        elif _is_finger(role) and not settings.fingers:
            wrist = role.partition("_")[0] + "_wrist"
            turns[:, bones] = (motion.turns[:, JOINT_INDEX[wrist]] @ offsets[wrist])[:, None]
        else:
            joint = JOINT_OF_ROLE[role.removesuffix("_twist")]
            turns[:, bones] = (motion.turns[:, joint] @ offsets[role])[:, None]
    spread_twist(controls, turns)
    return turns


def place_hips(controls, axes, motion, ratio):
    """The `WorldPose` of bones with world axes [T, N, 3, 3] whose hip joints go where the source's do, `ratio` times as far.

    Heights count from the ground under either, the rest from the character's own place.
    """
    pelvis = controls.first("pelvis")
    hips = [controls.first(f"{side}_hip") for side in SIDES]
    ground = np.array([controls.origin[0], controls.origin[1], controls.sole])
    wanted = ground + ratio * (motion.hips - (0, 0, motion.floor))
    world = place_bones(controls, axes, np.zeros((len(axes), 3)))
    carried = carried_by(controls, pelvis)
    middle = world.heads[:, hips].mean(1) if all(carried[hips]) else controls.heads[hips].mean(0) - controls.heads[pelvis]
    world.heads[:, carried] += (wanted - middle)[:, None]
    return WorldPose(axes, world.heads)


def carried_by(controls, bone):
    """Mask [N] of a bone and of those whose heads its motion carries, however indirectly."""
    mask = np.zeros(len(controls.names), bool)
    mask[bone] = True
    for other, parent in enumerate(controls.location_parents):
        mask[other] |= parent >= 0 and mask[parent]
    return mask


def _as_it_rests(world, controls):
    """The same pose with what does not move, the root and whatever nothing mapped carries, where the character really has it."""
    roots = controls.of_role("root")
    axes = world.axes
    axes[:, roots] = controls.axes[roots]
    return place_bones(controls, axes, world.heads[:, controls.first("pelvis")])


def _heading(turn):
    """The part of a turn [3, 3] that is about the vertical."""
    left = turn[0] * (1, 1, 0)
    if np.linalg.norm(left) < 1e-6:
        return np.eye(3)
    left /= np.linalg.norm(left)
    return np.array([left, [-left[1], left[0], 0], [0, 0, 1]])


def _along_chain(turns, role, count):
    """Turns [T, count, 3, 3] spread evenly over the joints of a chain, of which the last bone has the last joint's."""
    joints = [JOINT_INDEX[name] for name in _KNOTS[role]]
    place = np.arange(1, count + 1) / count * (len(joints) - 1)
    below = np.minimum(place.astype(int), len(joints) - 2)
    fraction = np.where(np.isclose(place, np.round(place)), np.round(place), place) - below
    quaternions = matrix_to_quaternion(turns[:, joints])
    spread = quaternion_to_matrix(slerp_quaternions(quaternions[:, below], quaternions[:, below + 1], fraction[None]))
    # Whole joints are taken as they are, exactly.
    for bone in np.flatnonzero((fraction == 0) | (fraction == 1)):
        spread[:, bone] = turns[:, joints[int(below[bone] + fraction[bone])]]
    return spread


def _is_finger(role):
    return role.partition("_")[2][:-1] in FINGERS
