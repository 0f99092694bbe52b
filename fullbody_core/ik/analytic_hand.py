"""Closed-form finger rotations from 21 keypoints: chains of hinges with anatomical limits.

Flexion curls a finger into the palm, abduction spreads it within the palm's plane. Arrays lead with the frame axis T.
"""

import numpy as np

from ..contract.frames import cross
from ..contract.skeleton import FINGERS, HAND_21, JOINT_INDEX, SIDES
from ..contract.swing_twist import about, axes_rotation, limit_angle, rotate, shortest_arc, transpose, unit

MCP_FLEXION, MCP_ABDUCTION = np.radians([-30, 95]), np.radians([-25, 25])
PIP_FLEXION, DIP_FLEXION = np.radians([-5, 110]), np.radians([-5, 85])
THUMB_LIMITS = np.radians([60, 60, 85])
"""Largest turns of the thumb's three joints; its saddle joint swings freely within the first."""

_CHAINS = {
    finger: [
        HAND_21.index(f"{finger}_{part}")
        for part in (("cmc", "mcp", "ip", "tip") if finger == "thumb" else ("mcp", "pip", "dip", "tip"))
    ]
    for finger in FINGERS
}


def palm_orientation(points, rest_joints, side):
    """Orientation [T, 3, 3] of the hand from wrist and knuckles (Hand4Whole, Sec. 3.2).

    points [T, 21, 3] m of one hand; rest_joints [52, 3] m. Frames of zeros give some finite answer.
    """
    return axes_rotation(*_rest_palm(rest_joints, side), *_palm_lines(points))


def palm_orientations(points, rest_joints):
    """`palm_orientation` [T, 2, 3, 3] of both hands [T, 2, 21, 3], left and right."""
    rest_along, rest_across = np.stack([_rest_palm(rest_joints, side) for side in SIDES], 1)
    return axes_rotation(rest_along, rest_across, *_palm_lines(points))


def _palm_lines(points):
    """Lines [..., 3] along and across the palms of hands [..., 21, 3]."""
    along = points[..., HAND_21.index("middle_mcp"), :] - points[..., HAND_21.index("wrist"), :]
    across = points[..., HAND_21.index("index_mcp"), :] - points[..., HAND_21.index("pinky_mcp"), :]
    return along, across


def _rest_palm(rest_joints, side):
    joint = {name: rest_joints[JOINT_INDEX[f"{side}_{name}"]] for name in ("wrist", "index1", "middle1", "pinky1")}
    return unit(joint["middle1"] - joint["wrist"]), unit(joint["index1"] - joint["pinky1"])


def solve_fingers(points, palm, rest_joints, side):
    """Parent-relative rotations [T, 15, 3, 3] of one hand's finger joints, in SMPL-H order.

    points [T, 21, 3] m, palm [T, 3, 3] orientation of the wrist, rest_joints [52, 3] m.
    """
    along, across = _rest_palm(rest_joints, side)
    # In the T-pose both palms look down; left and right differ in the order of the crossing.
    into_palm = unit(cross(along, across)) * (1 if side == "left" else -1)
    solved = []
    for finger in FINGERS:
        rest = _rest_directions(rest_joints, side, finger)
        chain = points[:, _CHAINS[finger]]
        bones = [rotate(transpose(palm), unit(chain[:, i + 1] - chain[:, i])) for i in range(3)]
        solve = _solve_thumb if finger == "thumb" else _solve_finger
        solved += solve(bones, rest, into_palm)
    return np.stack(solved, 1)


def _rest_directions(rest_joints, side, finger):
    """Directions [3, 3] of the three bones at rest; the last one, which has no joint at its tip, goes on straight."""
    first, second, third = (rest_joints[JOINT_INDEX[f"{side}_{finger}{segment}"]] for segment in (1, 2, 3))
    return unit(np.stack([second - first, third - second, third - second]))


def _solve_finger(bones, rest, into_palm):
    """Knuckle with flexion and abduction, then two hinges. `bones` are three directions [T, 3] in the palm's axes."""
    hinge = unit(cross(rest[0], into_palm))
    normal = cross(hinge, rest[0])
    flexion = np.arctan2(bones[0] @ normal, bones[0] @ rest[0])
    abduction = np.arcsin(np.clip(bones[0] @ hinge, -1, 1))
    flexion = np.clip(_from_behind(flexion), *MCP_FLEXION)
    knuckle = about(hinge, flexion) @ about(normal, -np.clip(abduction, *MCP_ABDUCTION))
    middle = _hinge(rotate(transpose(knuckle), bones[1]), rest[1], hinge, PIP_FLEXION)
    last = _hinge(rotate(transpose(knuckle @ middle), bones[2]), rest[2], hinge, DIP_FLEXION)
    return [knuckle, middle, last]


def _hinge(bone, rest, hinge, limits):
    """Rotation about `hinge` that brings `rest` nearest to `bone` [T, 3] within limits."""
    angle = np.arctan2(bone @ cross(hinge, rest), bone @ rest)
    return about(hinge, np.clip(_from_behind(angle), *limits))


def _from_behind(flexion):
    """A finger seen bent backwards by more than a right angle is one that is curled further than half a turn."""
    return np.where(flexion < -np.pi / 2, flexion + 2 * np.pi, flexion)


def _solve_thumb(bones, rest, _into_palm):
    """Three swings, each within its cone: the thumb's hinges do not share an axis with the palm."""
    turns, orientation = [], np.eye(3)
    for bone, rest_bone, limit in zip(bones, rest, THUMB_LIMITS):
        turn = limit_angle(shortest_arc(rest_bone, rotate(transpose(orientation), bone)), limit)
        turns.append(turn)
        orientation = orientation @ turn
    return turns
