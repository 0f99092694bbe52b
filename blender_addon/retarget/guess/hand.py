# SPDX-License-Identifier: GPL-3.0-or-later
"""Which bones of a hand are which finger's, by how they hang together and where they rest. Numpy only, no bpy."""

import numpy as np

_ORDER = ("index", "middle", "ring", "pinky")


def hand_roles(tree, arm):
    """{"index1": [bone], ...} of the hand of an arm: its (elbow, wrist) bones. tree: see `tree.Tree`."""
    elbow, wrist = arm
    forearm = tree.distance(elbow, wrist)
    chains = _finger_chains(tree, wrist, forearm)
    if not chains:
        return {}
    forward = np.mean([tree.heads[chain[-1]] for chain in chains], axis=0) - tree.heads[wrist]
    forward /= max(np.linalg.norm(forward), 1e-9)
    thumb = _thumb(tree, chains, wrist, forward)
    others = [chain for chain in chains if chain is not thumb]
    roles = {}
    if thumb is not None:
        roles |= _segments("thumb", thumb[:3])
    knuckled = [_without_metacarpal(tree, chain, wrist) for chain in others]
    for finger, chain in zip(_ORDER, _from_thumb(tree, knuckled, thumb, forward)):
        roles |= _segments(finger, chain[:3])
    return roles


def _segments(finger, bones):
    return {f"{finger}{segment}": [bone] for segment, bone in enumerate(bones, 1)}


def _finger_chains(tree, wrist, forearm):
    """Chains of bones that start at the hand, or at palm bones beyond it, without what is no finger."""
    chains, waiting = [], list(tree.children[wrist])
    while waiting:
        bone = waiting.pop(0)
        branches = [child for child in tree.children[bone] if tree.reach[child] > 0.05 * forearm]
        if len(branches) >= 2:
            waiting.extend(tree.children[bone])
        else:
            chains.append(tree.chain(bone))
    # What ends at the wrist itself is no finger: twist and correcting bones.
    chains = [chain for chain in chains if max(tree.distance(wrist, bone) for bone in chain) > 0.12 * forearm]
    if sum(len(chain) > 1 for chain in chains) >= 3:
        chains = [chain for chain in chains if len(chain) > 1]
    if len(chains) > 5:
        chains = sorted(chains, key=lambda chain: (-min(len(chain), 3), -tree.reach[chain[0]]))[:5]
    return chains


def _thumb(tree, chains, wrist, forward):
    """The chain that points away from the others and ends nearest, or None."""
    if len(chains) < 2:
        return None
    directions, ends = [], []
    for chain in chains:
        # A single bone shows its direction by its tail alone.
        start, end = tree.heads[chain[0]], tree.heads[chain[-1]] if len(chain) > 1 else tree.tails[chain[0]]
        directions.append((end - start) / max(np.linalg.norm(end - start), 1e-9))
        ends.append(float((end - tree.heads[wrist]) @ forward))
    directions, ends = np.array(directions), np.array(ends)
    agreement = (directions @ directions.T - np.eye(len(chains))).sum(1) / (len(chains) - 1)
    away = np.degrees(np.arccos(np.clip(agreement, -1, 1))) / 30
    short = 1 - ends / ends.max()
    score = away + 3 * short
    best = int(score.argmax())
    second = np.partition(score, -2)[-2]
    return chains[best] if score[best] - second > 0.15 else None


def _without_metacarpal(tree, chain, wrist):
    """A finger's chain from its knuckle on."""
    if len(chain) < 2:
        return chain
    first, second = tree.distance(wrist, chain[0]), tree.distance(chain[0], chain[1])
    third = tree.distance(chain[1], chain[2]) if len(chain) > 2 else 0.0
    whole = len(chain) > 3
    return chain[1:] if first < (0.8 if whole else 0.6) * second and second > (1.1 if whole else 1.3) * third else chain


def _from_thumb(tree, chains, thumb, forward):
    """Fingers from the one beside the thumb on."""
    if len(chains) < 2:
        return chains
    knuckles = np.array([tree.heads[chain[0]] for chain in chains])
    middle = knuckles.mean(0)
    flat = knuckles - middle - np.outer((knuckles - middle) @ forward, forward)
    across = np.linalg.svd(flat)[2][0]
    if thumb is not None:
        side = (tree.heads[thumb[min(1, len(thumb) - 1)]] - middle) @ across
        across = across * (1 if side < 0 else -1)
    return [chains[place] for place in np.argsort(flat @ across)]
