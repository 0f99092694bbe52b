# SPDX-License-Identifier: GPL-3.0-or-later
"""From a person's motion to world poses of a character's mapped bones. Numpy only, no bpy.

Every bone takes the turn that its joint has made from the upright rest, after the character's rest was brought to the source's;
so neither the roll of bones nor the rest pose nor the proportions change which way a limb points.
"""

from dataclasses import dataclass

import numpy as np

from ...contract.frames import matrix_to_quaternion, quaternion_to_matrix, slerp_quaternions
from ...contract.skeleton import FINGERS, JOINT_INDEX, SIDES
from ..pose import WorldPose, place_bones
from ..roles import CHAINS, JOINT_OF_ROLE, REQUIRED
from .contacts import find_contacts
from .feet import plant_feet
from .rest_match import hip_ratio, rest_offsets, stand_up
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
    return Solver(motion, controls, settings).solve(motion)


class Solver:
    """Solves any motion of one person for one character: what no motion changes is found out once.

    body: a `SourceMotion` of the person, for its rest. Raises `RetargetError`.
    """

    def __init__(self, body, controls, settings=RetargetSettings()):
        check_controls(controls)
        self._controls, self._settings = controls, settings
        self._stood, stood_up = stand_up(controls)
        self._heading = _heading(stood_up).T if settings.heading == "character" else None
        self._ratio = settings.scale or hip_ratio(self._stood, body)
        self._turns = _BoneTurns(self._stood, body.rest_joints, settings)

    def solve(self, motion):
        """The `WorldPose` at each of a `SourceMotion`'s moments."""
        if self._heading is not None:
            motion = motion.turned(self._heading)
        stood = self._stood
        world = place_hips(stood, self._turns.of(motion.turns) @ stood.axes, motion, self._ratio)
        if self._settings.plant_feet:
            world = plant_feet(world, stood, motion, find_contacts(motion), self._ratio)
        return _as_it_rests(world, self._controls)


def check_controls(controls):
    """Raises `RetargetError` where a bone that is needed is not mapped or has no place."""
    missing = [role for role in REQUIRED if controls.first(role) is None]
    if missing:
        raise RetargetError(f"The character has no bone for {', '.join(missing)}: name one in its role map.")
    if not (np.isfinite(controls.heads).all() and np.isfinite(controls.axes).all()):
        raise RetargetError("The character's bones have places that are not numbers: check its rest pose.")


def bone_turns(motion, controls, settings=RetargetSettings()):
    """World turn [T, N, 3, 3] of each bone from the rest of a character that stands up as the source does."""
    return _BoneTurns(controls, motion.rest_joints, settings).of(motion.turns)


class _BoneTurns:
    """Which joint each bone follows, and from which rest."""

    def __init__(self, controls, rest_joints, settings):
        self._controls = controls
        offsets = rest_offsets(controls, rest_joints)
        followed = [_followed(role, settings) for role in controls.roles]
        self._joints = np.array([JOINT_OF_ROLE.get(role.removesuffix("_twist"), 0) for role in followed])
        self._offsets = np.array([offsets[role] for role in followed])
        self._chains = {role: bones for role in CHAINS if (bones := controls.of_role(role))}
        self._roots = controls.of_role("root")

    def of(self, turns):
        """World turns [T, N, 3, 3] of the bones at turns [T, 52, 3, 3] of the joints."""
        own = turns[:, self._joints] @ self._offsets
        for role, bones in self._chains.items():
            own[:, bones] = _along_chain(turns, role, len(bones))
        own[:, self._roots] = np.eye(3)
        spread_twist(self._controls, own)
        return own


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
    joints = np.array([JOINT_INDEX[name] for name in _KNOTS[role]])
    place = np.arange(1, count + 1) / count * (len(joints) - 1)
    nearest = np.round(place).astype(int)
    # Whole joints are taken as they are, exactly.
    spread = turns[:, joints[nearest]]
    between = np.flatnonzero(~np.isclose(place, nearest))
    if len(between):
        below = place[between].astype(int)
        quaternions = matrix_to_quaternion(turns[:, joints])
        fraction = place[between] - below
        spread[:, between] = quaternion_to_matrix(
            slerp_quaternions(quaternions[:, below], quaternions[:, below + 1], fraction[None])
        )
    return spread


def _followed(role, settings):
    """The role whose joint and rest a role's bones go by: a hand's where fingers are not moved."""
    side, _, part = role.partition("_")
    return f"{side}_wrist" if part[:-1] in FINGERS and not settings.fingers else role
