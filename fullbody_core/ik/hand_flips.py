"""Hands whose depth a detector took the wrong way round, turned back over a whole clip.

From one picture a hand and its mirror image along the line of sight look the same, and a detector that takes a left hand for a
right one answers with the mirror image. Here the side is known, from the body: only one of the two bends its fingers as that
side's hand can. Which one it is hangs together over time, so the cheapest path through both is taken (Viterbi 1967).
"""

from dataclasses import replace

import numpy as np

from ..camera import rays
from ..contract.frames import matrix_to_axis_angle
from ..contract.skeleton import BODY_JOINTS, SIDES
from ..contract.swing_twist import transpose, unit
from .rest_skeleton import hand_places
from .solved_hands import SolvedHands

MISFIT = 0.004
"""m by which one of the two has to fit a hand better for the odds to change by a factor of e; by more than LARGEST_ODDS in all
nothing is believed, because a hand's fingers err too."""

LARGEST_ODDS = 2.5

RARE = 0.5
"""How much the logarithm of the odds is against a flip: a detector is right more often than not."""

SUDDEN, LARGEST_JUMP = np.radians(25), 8.0
"""rad that a palm may turn from one frame to the next, as one deviation, and what a jump costs at most."""


def without_flips(keypoints, skeleton, matrix, solver):
    """(Keypoints, `SolvedHands`) of T frames in camera axes, each hand's depth the way round that a hand of its side has it.

    solver: `IKNetSolver`, or another whose `solve_hands` answers `SolvedHands`; matrix [3, 3] px.
    """
    hands = solver.solve_hands(keypoints, skeleton)
    if not hands.found.any():
        return keypoints, hands
    mirrored = replace(keypoints, hand3d=mirror_along_sight(keypoints, matrix))
    others = solver.solve_hands(mirrored, skeleton)
    better = misfits(keypoints, hands, skeleton) - misfits(mirrored, others, skeleton)  # [T, 2] m
    against = RARE - np.clip(better / MISFIT, -LARGEST_ODDS, LARGEST_ODDS)
    flipped = np.zeros(hands.found.shape, bool)
    for side in range(len(SIDES)):
        frames = np.flatnonzero(hands.found[:, side])
        palms = np.stack([hands.palms[frames, side], others.palms[frames, side]], 1)
        flipped[frames, side] = cheapest_path(against[frames, side], palms)

    def choose(own, other):
        return np.where(flipped.reshape(flipped.shape + (1,) * (own.ndim - 2)), other, own)

    chosen = SolvedHands(choose(hands.fingers, others.fingers), choose(hands.palms, others.palms), hands.found)
    return replace(keypoints, hand3d=choose(keypoints.hand3d, mirrored.hand3d)), chosen


def mirror_along_sight(keypoints, matrix):
    """Hand points [T, 2, 21, 3] m with nearer and farther exchanged, about the line of sight to the hand's middle."""
    line = unit(rays(keypoints.hand_centre, matrix))[:, :, None]
    points = keypoints.hand3d
    return points - 2 * np.sum(points * line, -1, keepdims=True) * line


def misfits(keypoints, hands, skeleton):
    """How far [T, 2] m the points of the solved hands are from those they were solved from, in the body's size, on average."""
    count = len(hands.palms)
    rotations = np.broadcast_to(np.eye(3), (count, BODY_JOINTS.stop, 3, 3))
    rotations = np.concatenate([rotations, hands.fingers.reshape(count, -1, 3, 3)], 1)
    places = [place for side in SIDES for place in hand_places(side)]
    posed = skeleton.place(places, *skeleton.pose(rotations)).reshape(keypoints.hand3d.shape)
    posed = (posed - posed.mean(2, keepdims=True)) @ transpose(hands.palms)
    seen = keypoints.hand3d - keypoints.hand3d.mean(2, keepdims=True)
    sizes = (np.sqrt((points**2).sum((2, 3), keepdims=True)) for points in (posed, seen))
    size, seen_size = sizes
    return np.linalg.norm(posed - seen * size / np.maximum(seen_size, 1e-9), axis=-1).mean(-1)


def cheapest_path(against, palms):
    """[T] bool: which frames are flipped. against [T]: what a flip costs there; palms [T, 2, 3, 3]: as seen, and flipped."""
    turns = matrix_to_axis_angle(
        palms[1:, None] @ transpose(palms[:-1, :, None])
    )  # [T - 1, before, after] after broadcasting
    jump = LARGEST_JUMP * (1 - np.exp(-(np.linalg.norm(turns, axis=-1) ** 2) / (2 * SUDDEN**2 * LARGEST_JUMP)))
    cost, came_from = np.array([0.0, against[0]]) if len(against) else np.zeros(2), []
    for change, flip in zip(jump, against[1:]):
        ways = cost[:, None] + change
        came_from.append(ways.argmin(0))
        cost = ways.min(0) + [0.0, flip]
    path = [int(cost.argmin())]
    for ways in reversed(came_from):
        path.append(int(ways[path[-1]]))
    return np.array(path[::-1][: len(against)], bool)
