# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles of the bones of a trunk, a leg and an arm whose joints are known. Numpy only, no bpy."""

import numpy as np


def trunk_roles(tree, legs, arms, up, notes):
    leg_base = tree.common(legs[0].chain[0], legs[1].chain[0])
    arm_base = tree.common(arms[0].chain[0], arms[1].chain[0])
    pelvis = tree.common(leg_base, arm_base)
    shoulders = tree.heads[[limb.bones[0] for limb in arms]].mean(0)
    length = np.linalg.norm(shoulders - tree.heads[[limb.bones[0] for limb in legs]].mean(0))
    if pelvis < 0:
        notes.append("The arms and the legs hang from no common bone: choose the pelvis by hand.")
        return {}
    spine = tree.path(pelvis, arm_base)[1:]
    neck, head = _neck_and_head(tree, arm_base, arms, shoulders, up, length)
    if not neck and len(spine) > 1 and (tree.heads[spine[-1]] - shoulders) @ up > -0.05 * length:
        neck, spine = spine[-1:], spine[:-1]
    if not head:
        notes.append("No head was found: choose it by hand.")
    top = pelvis
    while tree.parent[top] >= 0:
        top = tree.parent[top]
    root = [top] if top != pelvis else []
    return {"root": root, "pelvis": [pelvis], "spine": spine, "neck": neck, "head": head}


def _neck_and_head(tree, base, arms, shoulders, up, length):
    """The bones of the neck, and the head, above the bone that the arms hang from."""
    limbs = {limb.chain[0] for limb in arms}

    def height(bone):
        return float((tree.heads[bone] - shoulders) @ up) / length

    starts = [child for child in tree.children[base] if child not in limbs and height(child) > -0.35]
    starts = [child for child in starts if max(height(bone) for bone in tree.below(child)) > 0.08]
    if not starts:
        return [], []
    # The neck starts near the middle between the shoulders; hair, wings and capes start elsewhere or hold less.
    start = max(
        starts, key=lambda child: len(tree.below(child)) ** 0.25 - 4 * _off_middle(tree, child, shoulders, up, length)
    )
    path = [start]
    while tree.children[path[-1]]:
        children = tree.children[path[-1]]
        if len(_spread_out(tree, children, length)) >= 2 and height(path[-1]) > 0.08:
            # A bone that only holds the face may come between the head and all that branches off.
            if len(path) > 1 and tree.distance(path[-2], path[-1]) < 0.068 * length:
                path.pop()
            return path[:-1], path[-1:]
        following = max(children, key=lambda child: max(height(bone) for bone in tree.below(child)))
        if height(following) < height(path[-1]) + 0.02:
            break
        path.append(following)
    if len(path) > 1 and _is_top(tree, path, height):
        path.pop()
    return path[:-1], path[-1:]


def _is_top(tree, path, height):
    """Whether the last bone of a path through neck and head is only the top of the head."""
    if tree.children[path[-1]]:
        return False
    if len(path) == 2:
        return height(path[0]) > 0.32 and height(path[1]) - height(path[0]) > 0.25
    return height(path[-1]) > 0.6 and tree.distance(path[-2], path[-1]) > 1.25 * tree.distance(path[-3], path[-2])


def _off_middle(tree, bone, shoulders, up, length):
    offset = tree.heads[bone] - shoulders
    return float(np.linalg.norm(offset - (offset @ up) * up)) / length


def _spread_out(tree, bones, length):
    """Those of a bone's children that lie apart from each other: eyes and jaw, say, and not two halves of a neck."""
    apart = []
    for bone in bones:
        if all(tree.distance(bone, other) > 0.02 * length for other in apart):
            apart.append(bone)
    return apart


def leg_roles(tree, limb):
    hip, knee, ankle = limb.joints
    chain = limb.chain
    roles = {"hip": chain[hip:knee], "knee": chain[knee:ankle], "ankle": chain[ankle : ankle + 1]}
    roles["foot"] = _toes(tree, chain[ankle], chain[knee])
    return roles | _twists(tree, {"hip": chain[hip : knee + 1], "knee": chain[knee : ankle + 1]})


def _toes(tree, ankle, knee):
    """The toe bones: the one of a foot's chain next to the ball, or all that start beside it."""
    # What leads back up the shin is none of the foot.
    shin = tree.heads[ankle] - tree.heads[knee]
    ahead = [
        child for child in tree.children[ankle] if (tree.heads[child] - tree.heads[ankle]) @ shin > -0.1 * (shin @ shin)
    ]
    if not ahead:
        return []
    foot = [ankle, *tree.chain(max(ahead, key=lambda child: tree.distance(ankle, child) + tree.reach[child]))]
    ankle, points = tree.heads[foot[0]], tree.heads[list(foot[1:])]
    if len(foot) == 2:
        ball = foot[1]
    else:
        # The ball is at two thirds of the foot; a last bone's tail may lie anywhere, so heads alone count.
        along = np.linalg.norm(points - ankle, axis=-1)
        ball = foot[1 + int(np.argmin(np.abs(along[:-1] / along[-1] - 0.67)))]
    above = tree.parent[ball]
    reached = tree.distance(foot[0], ball)
    beside = [bone for bone in tree.children[above] if tree.distance(foot[0], bone) > 0.6 * reached]
    parallel = [
        bone
        for bone in beside
        if bool(tree.children[bone]) == bool(tree.children[ball]) and _apart(tree, bone, ball, reached)
    ]
    return parallel if ball in parallel else [ball]


def _apart(tree, bone, ball, reached):
    return bone == ball or tree.distance(bone, ball) < 0.8 * reached


def arm_roles(tree, limb):
    shoulder, elbow, wrist = limb.joints
    chain = limb.chain
    roles = {
        "collar": chain[:shoulder],
        "shoulder": chain[shoulder:elbow],
        "elbow": chain[elbow:wrist],
        "wrist": chain[wrist : wrist + 1],
    }
    return roles | _twists(tree, {"shoulder": chain[shoulder : elbow + 1], "elbow": chain[elbow : wrist + 1]})


def _twists(tree, segments):
    """Bones beside a limb's own that lie on its line, between its ends: {role_twist: bones from the upper to the lower end}."""
    found = {}
    for role, bones in segments.items():
        start, end = tree.heads[bones[0]], tree.heads[bones[-1]]
        length = np.linalg.norm(end - start)
        beside = [child for bone in bones[:-1] for child in tree.children[bone] if child not in bones]
        if len(beside) == 1:
            # The others may hang from the first.
            beside = tree.chain(beside[0])
        placed = []
        for bone in beside:
            offset = tree.heads[bone] - start
            along = float(offset @ (end - start)) / length**2
            off = np.linalg.norm(offset - along * (end - start)) / length
            if tree.deform[bone] and off < 0.03 and 0.05 < along < 0.99:
                placed.append((along, bone))
        found[f"{role}_twist"] = [bone for _, bone in sorted(placed)]
    return found
