# SPDX-License-Identifier: GPL-3.0-or-later
"""What people call the roles, and in which order they look for them. No bpy."""

from ..contract.skeleton import FINGERS, SIDES
from .roles import CHAINS, LIMBS, ROLES, TWISTED

_WORDS = {
    "root": "Root", "pelvis": "Hips", "spine": "Spine", "neck": "Neck", "head": "Head",
    "collar": "Collarbone", "shoulder": "Upper Arm", "elbow": "Forearm", "wrist": "Hand",
    "hip": "Thigh", "knee": "Shin", "ankle": "Foot", "foot": "Toes",
}  # fmt: skip
_ARM, _LEG = ("collar", "shoulder", "elbow", "wrist"), ("hip", "knee", "ankle", "foot")


def _label(role):
    side, _, rest = role.partition("_")
    if side not in SIDES:
        return _WORDS[role]
    limb, _, twist = rest.partition("_")
    word = _WORDS[limb] if limb in _WORDS else f"{limb[:-1].capitalize()} {limb[-1]}"
    return f"{side.capitalize()} {word}" + (" Twist" if twist else "")


ROLE_LABELS = {role: _label(role) for role in ROLES}
"""A label for every role: `left_shoulder` is Left Upper Arm."""

# The thumb first, and the little finger last, as on a hand.
_HAND_ORDER = sorted(FINGERS, key=("thumb", "index", "middle", "ring", "pinky").index)

ROLE_GROUPS = {
    "Body": ("root", "pelvis", "spine", "neck", "head"),
    "Arms": tuple(f"{side}_{limb}" for side in SIDES for limb in _ARM),
    "Legs": tuple(f"{side}_{limb}" for side in SIDES for limb in _LEG),
    **{
        f"{side.capitalize()} Hand": tuple(f"{side}_{finger}{number}" for finger in _HAND_ORDER for number in (1, 2, 3))
        for side in SIDES
    },
    "Twist": tuple(f"{side}_{limb}_twist" for side in SIDES for limb in LIMBS if limb in TWISTED),
}
"""The roles by the part of the table that they are in: each in one."""

OF_SEVERAL = CHAINS + ROLE_GROUPS["Arms"] + ROLE_GROUPS["Legs"] + ROLE_GROUPS["Twist"]
"""Roles that may be shared by several bones."""


def named_roles(roles):
    """Labels of some roles, for a sentence."""
    return ", ".join(ROLE_LABELS[role] for role in roles)
