# SPDX-License-Identifier: GPL-3.0-or-later
"""How a character's rest pose differs from the source's: found from where its bones begin, never from their axes. Numpy only.

Everything here is of a character that stands upright and faces -y, as the source does at rest: `stand_up` first.
"""

from dataclasses import replace

import numpy as np

from ...contract.frames import cross
from ...contract.skeleton import FINGERS, JOINT_INDEX, SIDES
from ...contract.swing_twist import about, axes_rotation, reject, shortest_arc, transpose, twist_angle, unit
from .source import RetargetError

_Z = np.array([0.0, 0, 1])
_FRONT = np.array([0.0, -1, 0])
_UPRIGHT = np.cos(np.radians(30))
"""A trunk within 30 degrees of an axis of the world stands along it: it may lean a little at rest."""

_FACING = np.cos(np.radians(2.5))
"""A front within 2.5 degrees of an axis of the world is along it: the left and right of a body are never quite alike."""

_LIKELY = np.cos(np.radians(70))
"""A hand's or a finger's own end that is further from where its arm or hand points than this was never set."""

_NARROW = 0.02
"""Hips that are less than this much of a thigh apart are in one place."""

_FLAT = 0.3
"""A foot bone whose level part is shorter than this much of it tells no heading."""

_STRAIGHT, _BENT = np.radians([10, 25])
"""An elbow bent less than the first at rest does not show its hinge; one bent more than the second does."""

_KNUCKLES = ("middle", "ring", "index", "pinky")
_ACROSS = (
    ("pinky", "index"),
    ("ring", "index"),
    ("pinky", "middle"),
    ("middle", "index"),
    ("ring", "middle"),
    ("pinky", "ring"),
)


def stand_up(controls):
    """(the same `Controls` stood up at its origin and facing -y, the turn [3, 3] that does it).

    Bones keep their places to each other, so that a world pose of the one is a world pose of the other. Raises `RetargetError`.
    """
    up = _up(controls)
    left = _left(controls, up)
    turn = np.stack([left, cross(up, left), up])
    upright = up[2] == 1.0
    heads, tails = (controls.origin + (points - controls.origin) @ turn.T for points in (controls.heads, controls.tails))
    stood = replace(controls, heads=heads, tails=tails, axes=turn @ controls.axes)
    if not upright:
        # The ground that was found under somebody who lies says nothing: the feet are put where the object is.
        raised = controls.origin * _Z - _lowest_of_feet(stood) * _Z
        stood = replace(stood, heads=heads + raised, tails=tails + raised, sole=float(controls.origin[2]))
    return stood, turn


def hip_ratio(controls, motion):
    """How much higher the character's hip joints stand than the source's, both with legs as straight as the source's at rest."""
    legs = []
    for side in SIDES:
        height = controls.heads[controls.first(f"{side}_ankle"), 2] - controls.sole
        for role in (f"{side}_hip", f"{side}_knee"):
            length = np.linalg.norm(limb(controls, role))
            height -= length * unit(source_limb(motion.rest_joints, controls, role))[2]
        legs.append(height)
    ratio = float(np.mean(legs)) / motion.hip_height
    if not ratio > 0:
        raise RetargetError("The character's hips are not above its soles at rest: check the mapped thighs, shins and feet.")
    return ratio


def limb(controls, role):
    """From the beginning of a limb's bone to the next role's along the limb [3] m at rest, or to the bone's end; None off limbs.

    The last phalanx of a finger goes on as the one before it.
    """
    start, end = limb_ends(controls, role)
    if start is None:
        return None
    first = controls.first(start)
    if end is not None:
        # The foot's toes lie side by side, and it points to their middle.
        bones = controls.of_role(end) if end.endswith("_foot") else controls.of_role(end)[:1]
        return controls.heads[bones].mean(0) - controls.heads[first]
    own = controls.tails[first] - controls.heads[first]
    side, _, part = role.partition("_")
    if part == "wrist":
        before = limb(controls, f"{side}_elbow")
        return own if unit(own) @ unit(before) > _LIKELY else before
    if part == "ankle":
        return own
    return own if unit(own) @ unit(limb(controls, f"{side}_wrist")) > _LIKELY else None


def source_limb(rest_joints, controls, role):
    """The same of the source [3] m, between the joints that the character's roles stand for; None where it has no such joint."""
    start, end = limb_ends(controls, role)
    if start is None:
        return None
    end = end or _NEXT_JOINT.get(start)
    return None if end is None else rest_joints[JOINT_INDEX[end]] - rest_joints[JOINT_INDEX[start]]


def _finger_roles(controls, side, finger):
    return [role for role in (f"{side}_{finger}{k}" for k in (1, 2, 3)) if controls.first(role) is not None]


def limb_ends(controls, role):
    """(role that a limb's direction starts at, role that it ends at or None for the bone's own end); (None, None) off limbs."""
    side, _, part = role.partition("_")
    if controls.first(role) is None:
        return None, None
    if part in _NEXT_LIMB:
        end = f"{side}_{_NEXT_LIMB[part]}"
        return (role, end) if controls.first(end) is not None else (role, None)
    if part == "wrist":
        knuckles = (f"{side}_{finger}1" for finger in _KNUCKLES)
        return role, next((knuckle for knuckle in knuckles if controls.first(knuckle) is not None), None)
    if part[:-1] in FINGERS:
        chain = _finger_roles(controls, side, part[:-1])
        at = chain.index(role)
        if at + 1 < len(chain):
            return role, chain[at + 1]
        return (chain[at - 1], role) if at else (role, None)
    return None, None


_NEXT_LIMB = {"hip": "knee", "knee": "ankle", "ankle": "foot", "shoulder": "elbow", "elbow": "wrist"}
_NEXT_JOINT = {f"{side}_wrist": f"{side}_middle1" for side in SIDES} | {
    f"{side}_{part}": f"{side}_{after}"
    for side in SIDES
    for part, after in [("ankle", "foot")] + [(f"{finger}{k}", f"{finger}{k + 1}") for finger in FINGERS for k in (1, 2)]
}


def rest_offsets(controls, rest_joints):
    """{role: turn [3, 3]} from the character's rest to the source's, of each role that has bones.

    Each limb is brought to the source's direction by the smallest turn, seen from the bone before it: an elbow or a knee that
    is bent at rest is straightened about its own hinge. Where the elbow is bent enough to show its hinge, that is matched, too.
    The trunk, the head and the collars rest as the source's do.
    """
    offsets = {}
    for role in controls.roles:
        if role not in offsets:
            offsets[role] = np.eye(3)
    for side in SIDES:
        _match_chain(controls, rest_joints, offsets, [f"{side}_hip", f"{side}_knee"])
        _match_foot(controls, rest_joints, offsets, side)
        _match_arm(controls, rest_joints, offsets, side)
        for finger in FINGERS:
            _match_chain(controls, rest_joints, offsets, _finger_roles(controls, side, finger), offsets[f"{side}_wrist"])
        for role in (f"{side}_{part}" for part in ("hip", "knee", "shoulder", "elbow")):
            offsets[f"{role}_twist"] = offsets[role]
    return offsets


def _match_chain(controls, rest_joints, offsets, roles, before=None):
    before = np.eye(3) if before is None else before
    for role in roles:
        own, source = limb(controls, role), source_limb(rest_joints, controls, role)
        if own is not None and source is not None:
            before = shortest_arc(before @ own, source) @ before
        offsets[role] = before


def _match_foot(controls, rest_joints, offsets, side):
    """A foot that is flat on the ground at rest stays so: only its heading is matched."""
    role = f"{side}_ankle"
    own, source = limb(controls, role), source_limb(rest_joints, controls, role)
    level = own * (1, 1, 0)
    offsets[role] = np.eye(3)
    if np.linalg.norm(level) >= _FLAT * np.linalg.norm(own) and level[1] < 0:
        offsets[role] = shortest_arc(level, source * (1, 1, 0))
    offsets[f"{side}_foot"] = offsets[role]


def _match_arm(controls, rest_joints, offsets, side):
    shoulder, elbow, wrist = (f"{side}_{part}" for part in ("shoulder", "elbow", "wrist"))
    upper, lower = limb(controls, shoulder), limb(controls, elbow)
    along = unit(source_limb(rest_joints, controls, shoulder))
    raised = shortest_arc(upper, along)
    offsets[shoulder] = about(along, _hinge_turn(raised @ upper, raised @ lower, along)) @ raised
    _match_chain(controls, rest_joints, offsets, [elbow], offsets[shoulder])
    _match_chain(controls, rest_joints, offsets, [wrist], offsets[elbow])
    hand = _matched_palm(controls, rest_joints, side)
    if hand is None:
        return
    if controls.first(f"{elbow}_twist") is None and len(controls.of_role(elbow)) == 1:
        # How a palm is turned against the forearm at rest is borne by the elbow and the wrist alike, or by the bones in between.
        wrung = twist_angle(hand @ transpose(offsets[wrist]), source_limb(rest_joints, controls, wrist))
        offsets[elbow] = about(unit(source_limb(rest_joints, controls, elbow)), wrung / 2) @ offsets[elbow]
    offsets[wrist] = hand


def _hinge_turn(upper, lower, along):
    """rad about `along` that turn the hinge of an elbow, of which both bones' directions are given, to the source's.

    In a T-pose with the palms down an elbow bends to the front. An arm that is nearly straight does not show its hinge.
    """
    bend = np.arccos(np.clip(unit(upper) @ unit(lower), -1, 1))
    own, source = cross(upper, lower), cross(along, _FRONT)
    shown = np.clip((bend - _STRAIGHT) / (_BENT - _STRAIGHT), 0, 1)
    return shown * np.arctan2(cross(own, source) @ along, own @ source)


def _matched_palm(controls, rest_joints, side):
    """The turn [3, 3] that brings the direction of a hand's fingers, and that across its knuckles, to the source's; or None."""
    role = f"{side}_wrist"
    for pair in _ACROSS:
        ends = [f"{side}_{finger}1" for finger in pair]
        if all(controls.first(end) is not None for end in ends):
            own = controls.heads[controls.first(ends[1])] - controls.heads[controls.first(ends[0])]
            source = rest_joints[JOINT_INDEX[ends[1]]] - rest_joints[JOINT_INDEX[ends[0]]]
            return axes_rotation(limb(controls, role), own, source_limb(rest_joints, controls, role), source)
    return None


def _up(controls):
    """Unit vector [3] from the hips to the head or the shoulders: an axis of the world if it is near to one."""
    middle = [controls.heads[controls.first(f"{side}_hip")] for side in SIDES]
    tops = [role for role in ("neck", "head", "left_shoulder", "right_shoulder") if controls.first(role) is not None]
    up = unit(np.mean([controls.heads[controls.first(role)] for role in tops], 0) - np.mean(middle, 0))
    if not up.any():
        raise RetargetError(
            "The character's hips and shoulders are at one place, so its upright is not known: check which bones are mapped."
        )
    return _along_world(up, _UPRIGHT)


def _along_world(direction, near):
    """A unit direction [3], or the axis of the world that it is near to: within the angle whose cosine is `near`."""
    nearest = np.argmax(np.abs(direction))
    return np.eye(3)[nearest] * np.sign(direction[nearest]) if abs(direction[nearest]) >= near else direction


def _left(controls, up):
    """Unit vector [3] to the character's left, at a right angle to `up`."""
    apart = [
        reject(controls.heads[controls.first(f"left_{part}")] - controls.heads[controls.first(f"right_{part}")], up)
        for part in ("hip", "shoulder")
    ]
    if np.linalg.norm(apart[0]) < _NARROW * np.linalg.norm(limb(controls, "left_hip")):
        raise RetargetError(
            "The thighs begin at one place, so the character's front is not known: check which bones are mapped."
        )
    left = unit(apart[0]) + unit(apart[1])
    if np.linalg.norm(left) < 1:
        raise RetargetError(
            "The character's thighs and upper arms disagree on which side is left: check which bones are mapped."
        )
    return _along_world(unit(left), _FACING)


def _lowest_of_feet(controls):
    feet = [bone for side in SIDES for part in ("ankle", "foot") for bone in controls.of_role(f"{side}_{part}")]
    return float(min(controls.heads[feet, 2].min(), controls.tails[feet, 2].min()))
