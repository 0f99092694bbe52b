# SPDX-License-Identifier: GPL-3.0-or-later
"""Which way a body is up, and which way it looks, by its limbs. Numpy only, no bpy."""

import numpy as np

from .hand import hand_roles
from .tree import unit

SURE_FORWARD = 0.25
"""Evidence for forward below which the sides may be wrong."""


def standing(tree, legs, arms):
    """A body's up [3], and the direction [3] from its second to its first limbs, or None where legs and arms disagree.

    legs, arms: two triples of bones each.
    """
    hips, shoulders = (tree.heads[[limb[0] for limb in limbs]] for limbs in (legs, arms))
    up = unit(shoulders.mean(0) - hips.mean(0))
    if agreement(hips, shoulders) <= 0:
        return up, None
    across = unit(hips[0] - hips[1]) + unit(shoulders[0] - shoulders[1])
    return up, unit(across - (across @ up) * up)


def agreement(a, b):
    """Above zero where two pairs of places [2, 3] lie on the same sides."""
    return (a[0] - a[1]) @ (b[0] - b[1])


def forward_evidence(tree, legs, arms, front, up):
    """Evidence that `front` [3] is forward: above zero for it, below against. legs, arms: triples of bones."""
    evidence = 0.0
    for limb in legs:
        hip, knee, ankle = tree.heads[list(limb)]
        length = np.linalg.norm(ankle - hip)
        reached = [tree.heads[bone] - ankle for bone in tree.below(limb[2])]
        furthest = max((float(each @ front) for each in reached), key=abs)
        tail = float((tree.tails[limb[2]] - ankle) @ front)
        evidence += 2.0 * np.clip(furthest / (0.15 * length), -1, 1) if abs(furthest) > 0.03 * length else 0.0
        evidence += 0.7 * np.clip(tail / (0.15 * length), -1, 1)
        evidence += np.clip((knee - (hip + ankle) / 2) @ front / (0.04 * length), -0.4, 0.4)
    for limb in arms:
        shoulder, elbow, wrist = tree.heads[list(limb)]
        length = np.linalg.norm(wrist - shoulder)
        evidence -= np.clip((elbow - (shoulder + wrist) / 2) @ front / (0.04 * length), -0.4, 0.4)
        thumb = hand_roles(tree, limb[1:]).get("thumb1")
        if thumb:
            tip = tree.heads[tree.chain(thumb[0])[-1]]
            hand = tree.heads[tree.below(limb[2])].mean(0)
            evidence += 0.8 * np.clip((tip - hand) @ front / (0.04 * length), -1, 1)
    return float(evidence) / 4
