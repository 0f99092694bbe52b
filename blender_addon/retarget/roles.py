# SPDX-License-Identifier: GPL-3.0-or-later
"""What a character's bones are for: roles named after the SMPL-H joints that the bones turn about. Numpy only, no bpy."""

from ..contract.skeleton import FINGERS, JOINT_INDEX, SIDES

LIMBS = ("hip", "knee", "ankle", "foot", "collar", "shoulder", "elbow", "wrist")
"""Roles of either side: thigh, shin, foot, toes, clavicle, upper arm, forearm, hand; `left_hip` is the left thigh bone."""

TWISTED = ("hip", "knee", "shoulder", "elbow")
"""Limbs whose twist may be spread over further bones, of role such as `left_elbow_twist`."""

CHAINS = ("spine", "neck")
"""Roles of any number of bones, from the lowest to the highest. (A limb in several pieces may list several, too.)"""

ROLES = (
    ("root", "pelvis", "spine", "neck", "head")
    + tuple(
        f"{side}_{limb}{twist}"
        for side in SIDES
        for limb in LIMBS
        for twist in ("", "_twist")
        if not twist or limb in TWISTED
    )
    + tuple(f"{side}_{finger}{segment}" for side in SIDES for finger in FINGERS for segment in (1, 2, 3))
)
"""Every role. `root` is a bone above the pelvis that stays where it is."""

REQUIRED = ("pelvis",) + tuple(
    f"{side}_{limb}" for side in SIDES for limb in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
)
"""Roles without which nothing can be retargeted."""

JOINT_OF_ROLE = {role: JOINT_INDEX[role] for role in ROLES if role in JOINT_INDEX}
"""The SMPL-H joint that each role of one joint follows. `spine` runs from spine1 to spine3."""
