# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the bones of a role map rest as a person's do, and what lies between them. Numpy only, no bpy."""

import numpy as np

from ...contract.skeleton import SIDES
from ..roles import REQUIRED
from .stance import SURE_FORWARD, forward_evidence, standing

_SEGMENTS = (("collar", "shoulder"), ("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))
_WHERE = {"hip": "thigh", "knee": "shin", "shoulder": "upper arm", "elbow": "forearm"}


def doubts(tree, roles):
    """One sentence for each thing about {role: [bone]} that is odd for a person; needs the required roles."""
    if not all(roles.get(role) for role in REQUIRED):
        return []
    legs, arms = (_limbs(roles, names) for names in (("hip", "knee", "ankle"), ("shoulder", "elbow", "wrist")))
    found = _odd_lengths(tree, roles)
    up, across = standing(tree, legs, arms)
    if across is None:
        found.append("The left and right of the legs and of the arms are not on the same sides: check them.")
    elif forward_evidence(tree, legs, arms, np.cross(across, up), up) < -SURE_FORWARD:
        found.append("By the feet and hands the character's left and right look exchanged: check the roles of both sides.")
    if any((tree.heads[ankle] - tree.heads[hip]) @ up > 0 for hip, _, ankle in legs):
        found.append("The legs do not point away from the shoulders: check the hips, knees and ankles.")
    return found


def plausible(tree, roles):
    """Whether all required roles are there and nothing about them rules a person out."""
    if not all(roles.get(role) for role in REQUIRED):
        return False
    legs, arms = (_limbs(roles, names) for names in (("hip", "knee", "ankle"), ("shoulder", "elbow", "wrist")))
    up, across = standing(tree, legs, arms)
    down = all((tree.heads[ankle] - tree.heads[hip]) @ up < 0 for hip, _, ankle in legs)
    return across is not None and down and not _odd_lengths(tree, roles)


def fill_in_line(tree, roles, deform):
    """Adds to the limbs in `roles` {role: [bone]} the deforming bones in between, pieces of a bone that was split.

    Twist bones on which the limb goes on become the limb's own. deform [B]
    """
    for side in SIDES:
        for role, following in _SEGMENTS:
            own, end = roles.get(f"{side}_{role}"), roles.get(f"{side}_{following}")
            path = tree.path(own[0], end[0]) if own and end else []
            twists = roles.get(f"{side}_{role}_twist", [])
            taken = {bone for name, bones in roles.items() if name != f"{side}_{role}_twist" for bone in bones}
            between = [bone for bone in path[1:-1] if bone not in taken and deform[bone] and _on_line(tree, bone, path)]
            if between:
                roles[f"{side}_{role}"] = [bone for bone in path if bone in between or bone in own]
                roles[f"{side}_{role}_twist"] = [bone for bone in twists if bone not in between]


def _on_line(tree, bone, path):
    start, end = tree.heads[path[0]], tree.heads[path[-1]]
    length = np.linalg.norm(end - start)
    along = (tree.heads[bone] - start) @ (end - start) / length**2
    return 0.02 < along < 0.98 and np.linalg.norm(tree.heads[bone] - start - along * (end - start)) < 0.15 * length


def _limbs(roles, names):
    """[(bone, bone, bone)] of the left and the right limb."""
    return [tuple(roles[f"{side}_{name}"][0] for name in names) for side in SIDES]


def _odd_lengths(tree, roles):
    found = []
    lengths = {
        (side, role): tree.distance(roles[f"{side}_{role}"][0], roles[f"{side}_{following}"][0])
        for side in SIDES
        for role, following in _SEGMENTS[1:]
    }
    for role in _WHERE:
        left, right = (lengths[side, role] for side in SIDES)
        if not 0.6 * left <= right <= left / 0.6 or not left:
            found.append(f"The left and the right {_WHERE[role]} differ in length: check their bones.")
    for upper, lower in (("hip", "knee"), ("shoulder", "elbow")):
        if any(not 0.33 < lengths[side, lower] / max(lengths[side, upper], 1e-9) < 3 for side in SIDES):
            found.append(f"The {_WHERE[upper]} and the {_WHERE[lower]} are of very different lengths: check their bones.")
    return found
