# SPDX-License-Identifier: GPL-3.0-or-later
"""What a skeleton's bones are for, by how they hang together and where they rest alone: no names. Numpy only, no bpy.

Nothing is known before about axes: two pairs of like limbs are looked for, legs and arms by a person's proportions; these give
up, the feet and thumbs give forward, and with both left and right are known.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ...contract.frames import cross
from ...contract.skeleton import SIDES
from .hand import hand_roles
from .parts import arm_roles, leg_roles, trunk_roles
from .stance import SURE_FORWARD, agreement, forward_evidence, standing
from .tree import SHORT, Tree, unit

_TRIED = 40
"""Bodies that are looked at closely, the likeliest first."""

_LEAST_LIMB = 0.2
"""A limb's reach, least, as part of the skeleton's size."""


@dataclass(frozen=True)
class Shape:
    """What was found: roles {role: [bone]}; score, above zero for a likely person; notes, one sentence per doubt; whether the
    bones show which side is the left."""

    roles: dict
    score: float
    notes: tuple
    sides_sure: bool


@dataclass(frozen=True)
class _Limb:
    """A chain read as a leg or an arm: its bones, the places of its three joints in it, and how likely that is."""

    chain: tuple
    joints: tuple
    score: float

    @property
    def bones(self):
        return [self.chain[joint] for joint in self.joints]


def find_by_shape(skeleton, bones=None):
    """The likeliest `Shape` of a skeleton, or of some of its bones, or None where no two pairs of limbs are found."""
    bones = range(len(skeleton.names)) if bones is None else bones
    deform = [bone for bone in bones if skeleton.deform[bone]]
    found = [_find(Tree(skeleton, bones))]
    if 10 < len(deform) < len(bones):
        found.append(_find(Tree(skeleton, deform)))
    return max(filter(None, found), key=lambda shape: shape.score, default=None)


def _find(tree):
    pairs = _limb_pairs(tree)
    legs, arms = ([pair for pair in pairs if getattr(pair, kind)] for kind in ("legs", "arms"))
    if not legs or not arms:
        return None
    scores = _body_scores(tree, legs, arms)
    bodies = []
    for best in np.argsort(-scores, axis=None)[:_TRIED]:
        leg, arm = np.unravel_index(best, scores.shape)
        if np.isfinite(scores[leg, arm]):
            score = float(scores[leg, arm]) + _head_score(tree, legs[leg], arms[arm])
            bodies.append((score, legs[leg].legs, arms[arm].arms))
    if not bodies:
        return None
    bodies.sort(key=lambda body: -body[0])
    score, legs, arms = bodies[0]
    notes = []
    rival = next((body[0] for body in bodies[1:] if _bones(*body[1:]) != _bones(legs, arms)), -np.inf)
    if rival > score - 0.5:
        notes.append("Several bones could be the arms and legs: check the roles one by one.")
    return _roles(tree, legs, arms, score, notes)


def _bones(legs, arms):
    return {bone for limb in (*legs, *arms) for bone in limb.bones}


# Limbs


@dataclass(frozen=True)
class _Pair:
    """Two like chains from one bone, read as legs and as arms: two `_Limb` each, or None."""

    base: int
    legs: tuple
    arms: tuple


def _limb_pairs(tree):
    pairs, read = [], {}
    for base, children in tree.children.items():
        long = [child for child in children if tree.reach[child] > _LEAST_LIMB * tree.size]
        for child in long if len(long) > 1 else ():
            read[child] = (_as_leg(tree, tree.chain(child)), _as_arm(tree, tree.chain(child)))
        for a, b in combinations(long, 2):
            legs, arms = (limbs if _alike(tree, limbs) else None for limbs in zip(read[a], read[b]))
            if legs or arms:
                pairs.append(_Pair(base, legs, arms))
    return pairs


def _alike(tree, limbs):
    """Whether two limbs are both there and about as long, segment by segment."""
    return all(limbs) and _unlike(tree, limbs) < 6.0


def _triples(tree, chain):
    """All (upper, middle, lower) joints of a chain [K, 3] and what can be said of each: lengths [K, 2] m, straightness [K] (the
    cosine between both segments), crookedness [K] (how far bones in between lie off the segments, as part of their lengths)."""
    points = tree.heads[list(chain)]
    triples = np.array(list(combinations(range(len(chain)), 3)), int).reshape(-1, 3)
    ends = points[triples]
    segments = np.diff(ends, axis=1)
    lengths = np.linalg.norm(segments, axis=-1)
    kept = (lengths > SHORT).all(1)
    triples, ends, segments, lengths = triples[kept], ends[kept], segments[kept], lengths[kept]
    directions = segments / lengths[..., None]
    straight = np.sum(directions[:, 0] * directions[:, 1], -1)
    crooked = np.zeros(len(triples))
    for place in range(len(chain)):
        for segment in (0, 1):
            offset = points[place] - ends[:, segment]
            off = np.linalg.norm(cross(offset, directions[:, segment]), axis=-1) / lengths[:, segment]
            inside = (triples[:, segment] < place) & (place < triples[:, segment + 1])
            crooked = np.maximum(crooked, np.where(inside, off, 0))
    return triples, lengths, straight, crooked


def _walked(tree, chain):
    """How far along a chain each of its bones' heads is [K] m."""
    return np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(tree.heads[list(chain)], axis=0), axis=1))])


def _as_leg(tree, chain):
    """The likeliest hip, knee and ankle of a chain, or None."""
    if len(chain) < 3:
        return None
    triples, lengths, straight, crooked = _triples(tree, chain)
    if not len(triples):
        return None
    walked, leg = _walked(tree, chain), lengths.sum(1)
    before, after = walked[triples[:, 0]] / leg, (walked[-1] - walked[triples[:, 2]]) / leg
    score = -_spread(np.log(lengths[:, 1] / lengths[:, 0]), 0.0, 0.3) - _spread(straight, 1.0, 0.25) - 60 * crooked**2
    score -= _spread(before, 0.0, 0.15) + np.minimum(_spread(after, 0.2, 0.25), 2.0)
    # Where the foot starts the chain turns forward; a leaf's tail may show it too.
    points = tree.heads[list(chain)]
    for place in np.unique(triples[:, 2]):
        ends = tree.heads[tree.children[chain[place]]] if tree.children[chain[place]] else tree.tails[[chain[place]]]
        ending = triples[:, 2] == place
        shin, foot = (points[place] - points[triples[ending, 1]])[:, None], ends - points[place]
        length = np.linalg.norm(foot, axis=-1)
        bend = np.sum(shin * foot, -1) / np.maximum(lengths[ending, 1:] * length, SHORT)
        score[ending] -= np.where(length > 0.02 * leg[ending, None], _spread(bend, 0.35, 0.45), 0.5).min(1)
    best = int(score.argmax())
    return _Limb(tuple(chain), tuple(triples[best].tolist()), float(score[best]))


def _as_arm(tree, chain):
    """The likeliest shoulder, elbow and wrist of a chain, or None."""
    if len(chain) < 3:
        return None
    triples, lengths, straight, crooked = _triples(tree, chain)
    if not len(triples):
        return None
    walked, arm = _walked(tree, chain), lengths.sum(1)
    before, after = walked[triples[:, 0]] / arm, (walked[-1] - walked[triples[:, 2]]) / arm
    score = -_spread(np.log(lengths[:, 1] / lengths[:, 0]), -0.05, 0.3) - _spread(straight, 1.0, 0.4) - 60 * crooked**2
    score -= _spread(before, 0.25, 0.3) + np.minimum(_spread(after, 0.3, 0.25), 2.0)
    fans = np.array([len(_branches(tree, bone, 0.08 * arm.max())) for bone in chain])
    first_fan = next((place for place, count in enumerate(fans) if count >= 3), None)
    if first_fan is not None:
        # Three or more chains start at the hand; a palm bone may come between.
        score += 1.0 - 1.5 * np.minimum(np.abs(triples[:, 2] - first_fan), 2)
    best = int(score.argmax())
    return _Limb(tuple(chain), tuple(triples[best].tolist()), float(score[best]))


def _branches(tree, bone, least):
    return [child for child in tree.children[bone] if tree.reach[child] > least]


def _spread(values, expected, width):
    """Half the squared distance from what is expected, in widths, growing slowly where that is far."""
    squared = ((values - expected) / width) ** 2 / 2
    return 4 * np.log1p(squared / 4)


# The body


def _body_scores(tree, leg_pairs, arm_pairs):
    """How likely each two pairs are a person's legs and arms [L, A]; -inf where they cannot be. The head does not count yet."""
    # L x A x 2 limbs x 3 coordinates
    hips, knees, ankles = _joints(tree, [pair.legs for pair in leg_pairs])[:, :, None]
    shoulders, elbows, wrists = _joints(tree, [pair.arms for pair in arm_pairs])[:, None]
    trunk = shoulders.mean(2) - hips.mean(2)
    length = np.maximum(_norm(trunk), SHORT)
    up = trunk / length[..., None]
    leg = (_norm(knees - hips) + _norm(ankles - knees)).mean(2)
    arm = (_norm(elbows - shoulders) + _norm(wrists - elbows)).mean(2)
    down = -np.mean(np.sum((ankles - hips) * up[:, :, None], -1) / np.maximum(_norm(ankles - hips), SHORT), -1)
    across = [pair[:, :, 0] - pair[:, :, 1] for pair in (hips, shoulders, wrists, ankles)]
    widths = [np.maximum(_norm(pair), SHORT) for pair in across]
    across = [pair / width[..., None] for pair, width in zip(across, widths)]
    own = [
        [sum(limb.score for limb in limbs) / 2 - _unlike(tree, limbs) for limbs in pairs]
        for pairs in _limbs(leg_pairs, arm_pairs)
    ]
    score = 6.0 + np.array(own[0])[:, None] + np.array(own[1])[None]
    score = score - _spread(np.log(leg / length), 0.5, 0.45) - _spread(np.log(arm / length), 0.05, 0.45)
    score -= _spread(down, 1.0, 0.3) + _spread(np.log(widths[0] / length), -1.0, 0.6)
    score -= _spread(np.log(widths[1] / length), -0.35, 0.6)
    score -= sum(_spread(np.sum(side * up, -1), 0.0, 0.25) for side in across)
    score -= _spread(np.abs(np.sum(across[0] * across[1], -1)), 1.0, 0.25)
    score[(length < 0.05 * leg) | (down < 0.5)] = -np.inf
    # Arms hang from the spine, and that from where the legs do; no bone is of both.
    leg_roots, arm_roots = (
        np.array([[limb.chain[0] for limb in pair] for pair in pairs]) for pairs in _limbs(leg_pairs, arm_pairs)
    )
    leg_roots, arm_roots = leg_roots[:, None, :, None], arm_roots[None, :, None]
    score[(tree.hangs[leg_roots, arm_roots] | tree.hangs[arm_roots, leg_roots]).any((2, 3))] = -np.inf
    leg_bases, arm_bases = np.array([pair.base for pair in leg_pairs])[:, None], np.array([pair.base for pair in arm_pairs])
    score[tree.hangs[leg_bases, arm_bases] & (leg_bases != arm_bases)] -= 3.0
    return score


def _limbs(leg_pairs, arm_pairs):
    return [pair.legs for pair in leg_pairs], [pair.arms for pair in arm_pairs]


def _joints(tree, limbs):
    """Heads [3, P, 2, 3] of the three joints of pairs of limbs."""
    return np.moveaxis(tree.heads[np.array([[limb.bones for limb in pair] for pair in limbs])], 2, 0)


def _norm(vectors):
    return np.linalg.norm(vectors, axis=-1)


def _head_score(tree, leg_pair, arm_pair):
    """Takes from the score of a body with nothing above its shoulders."""
    hips, shoulders = (tree.heads[[limb.bones[0] for limb in limbs]].mean(0) for limbs in (leg_pair.legs, arm_pair.arms))
    length = np.linalg.norm(shoulders - hips)
    others = tree.hangs[:-1, arm_pair.base] & ~tree.hangs[:-1, [limb.chain[0] for limb in arm_pair.arms]].any(1)
    above = (tree.heads[others] - shoulders) @ unit(shoulders - hips)
    return 0.0 if above.max(initial=0.0) > 0.08 * length else -3.0


def _unlike(tree, limbs):
    """How much two limbs' segments differ."""
    a, b = (np.linalg.norm(np.diff(tree.heads[limb.bones], axis=0), axis=-1) for limb in limbs)
    return float(np.sum(_spread(np.log(a / b), 0.0, 0.08)))


def _roles(tree, legs, arms, score, notes):
    if agreement(*(tree.heads[[limb.bones[0] for limb in limbs]] for limbs in (legs, arms))) < 0:
        arms = arms[::-1]
    triples = [[limb.bones for limb in limbs] for limbs in (legs, arms)]
    up, across = standing(tree, *triples)
    forward = forward_evidence(tree, *triples, cross(across, up), up)
    roles = trunk_roles(tree, legs, arms, up, notes)
    # If the first limbs are to the left, up x forward points to them.
    for side, place in zip(SIDES, (0, 1) if forward >= 0 else (1, 0)):
        roles |= {f"{side}_{role}": bones for role, bones in leg_roles(tree, legs[place]).items()}
        roles |= {f"{side}_{role}": bones for role, bones in arm_roles(tree, arms[place]).items()}
        roles |= {f"{side}_{role}": bones for role, bones in hand_roles(tree, arms[place].bones[1:]).items()}
    roles = {role: list(bones) for role, bones in roles.items() if bones}
    return Shape(roles, score, tuple(notes), abs(forward) >= SURE_FORWARD)
