"""The last pass over a refined clip: what is left of sliding and sinking is taken out, as a character's feet are planted.

The refinement holds standing feet against all its other terms, so that each gives way a little. Here they do not move any more,
and the hips and legs follow by as little as that takes (`contract.planting`).
"""

from dataclasses import replace

import numpy as np

from ..contract.contacts import Contacts, pivots, smoothed, speeds
from ..contract.planting import StandingLegs, plant
from ..contract.skeleton import JOINT_INDEX, PARENTS, SIDES
from ..contract.swing_twist import transpose, unit
from ..contract.two_bone_ik import make_legs
from ..ground import camera_to_world
from .contacts import person_size, sole_points
from .floor import lower_grounds, stand_levels

_CALM = 0.06
"""s, standard deviation of the bell that places are smoothed with to see which point of a foot is the calmest."""

WELL = 0.005
"""m/s on average, and m: feet that slide no faster and sink no deeper are left as they are."""

_LEG = np.array([[JOINT_INDEX[f"{side}_{name}"] for name in ("hip", "knee", "ankle", "foot")] for side in SIDES])
_PARENTS = np.array(PARENTS)


def settle(motion, timestamps, contacts, up, floor):
    """The `Motion` in the reference frame with standing feet in place, and none of its soles below the floor.

    timestamps [T] s; contacts [T, 2, 3] bool: sole points that stand; up [3] unit; floor: m along up. The feet keep their turns
    but for a degree or two about the vertical. Fewer than three frames, and who stands well already, are left as they are.
    """
    if len(timestamps) < 3:
        return motion
    to_world = camera_to_world(up, 0.0, np.zeros(3))[:3, :3]
    joints, orientations = motion.skeleton.pose(motion.rotations)
    soles = sole_points(motion.skeleton, joints, orientations, motion.pelvis)
    if _stands_well(soles, timestamps, contacts, up, floor):
        return motion
    size = person_size(motion.skeleton)
    joints = (joints + motion.pelvis[:, None]) @ to_world.T / size
    hips, knees, ankles, _ = np.moveaxis(joints[:, _LEG], 2, 0)
    legs = make_legs(hips, knees, ankles, _hinges(motion.skeleton, to_world @ orientations))
    standing = StandingLegs(hips, legs, soles @ to_world.T / size - ankles[:, :, None], floor / size)
    planted = plant(standing, _as_contacts(soles @ to_world.T / size, timestamps, contacts, floor / size), timestamps)
    return _turned(motion, orientations, to_world, planted.turns(legs), planted.offset * size)


def _stands_well(soles, timestamps, contacts, up, floor):
    held = contacts[1:] & contacts[:-1]
    speed = np.linalg.norm(np.diff(soles, axis=0), axis=-1) / np.diff(timestamps)[:, None, None]
    depth = floor + lower_grounds(soles, timestamps, up, floor) - (soles @ up).min((1, 2))
    return (not held.any() or speed[held].mean() <= WELL) and depth.max() <= WELL


def _hinges(skeleton, orientations):
    """Where the knees' hinges point [T, 2, 3]: to the person's left at rest, carried by the thighs. orientations in the world."""
    hips = _LEG[:, 0]
    left = unit((skeleton.joints[hips[0]] - skeleton.joints[hips[1]]) * (1, 0, 1))
    return orientations[:, hips] @ left


def _as_contacts(soles, timestamps, standing, floor):
    """The `Contacts` of sole points [T, 2, 3, 3], z up, of a person of usual size, of which it is known which stand."""
    calm = smoothed(soles, _CALM / float(np.median(np.diff(timestamps))))
    up = np.array([0.0, 0, 1])
    return Contacts(
        *np.moveaxis(standing, -1, 0),
        level=stand_levels(soles, standing, up, floor),
        ground=lower_grounds(soles, timestamps, up, floor),
        standing=standing,
        pivot=pivots(speeds(calm, timestamps), standing),
    )


def _turned(motion, orientations, to_world, turns, offset):
    """The motion with its pelvis moved by offset [T, 3] m and its thighs, shins and feet turned by turns, in the world's axes."""
    rotations = motion.rotations.copy()
    turned = orientations.copy()
    for joints, turn in zip(_LEG.T, (*turns, turns[-1])):
        turned[:, joints] = to_world.T @ turn @ to_world @ orientations[:, joints]
    for joints in _LEG.T:
        rotations[:, joints] = transpose(turned[:, _PARENTS[joints]]) @ turned[:, joints]
    return replace(motion, rotations=rotations, pelvis=motion.pelvis + offset @ to_world)
