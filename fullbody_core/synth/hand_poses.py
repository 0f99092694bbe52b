"""Finger poses to train on: sampled within anatomical limits, because no free recording of hands comes with the project.

The distribution, for a left hand, from the outside in:
  synergies     one draw of five common movements, after the main components of grasping (Santello et al. 1998): all fingers
                closing, a gradient from index to little finger (pointing, pinching), knuckles against the outer joints (flat
                against hooked), spreading, and the thumb's opposition.
  independence  with probability 1/2 every finger is taken from a draw of its own (minimal-hand, Sec. 3.3, assumption 1).
  single joints each angle gets noise of 8 degrees; a finger's last joint follows its middle one at two thirds, as the tendon
                makes it, with 10 degrees of its own.
  limits        every angle is clipped to its joint's range.
  interpolation is left to the training samples (assumption 2).
"""

import numpy as np

from ..contract.skeleton import FINGERS, JOINT_INDEX
from ..contract.swing_twist import about, unit
from ..ik.analytic_hand import DIP_FLEXION, MCP_ABDUCTION, MCP_FLEXION, PIP_FLEXION

LONG_FINGERS = ("index", "middle", "ring", "pinky")

THUMB_RANGES = np.radians([[-20, 45], [-35, 25], [-10, 60], [-20, 80]])
"""Root flexion across the palm, root abduction out of the palm (negative), middle joint's and last joint's flexion."""

ROOT_ROLL = 0.5
"""How much the thumb rolls about itself for each radian of opposition: its saddle joint couples the two."""


def sample_hand_poses(rng, count, rest_joints):
    """Parent-relative rotations [count, 15, 3, 3] of a left hand in SMPL-H order. rest_joints [52, 3] m."""
    fingers, thumb = _synergies(rng, count)
    others, other_thumb = _synergies(rng, 5 * count)
    independent = rng.random(count) < 0.5
    for finger in range(4):
        fingers[independent, finger] = others[finger * count : (finger + 1) * count][independent, finger]
    thumb[independent] = other_thumb[4 * count :][independent]
    fingers[..., :3] += rng.normal(0, np.radians(8), fingers[..., :3].shape)
    thumb += rng.normal(0, np.radians(8), thumb.shape)
    last = fingers[..., 2] * 2 / 3 + rng.normal(0, np.radians(10), fingers.shape[:2])
    rotations = {}
    for index, finger in enumerate(LONG_FINGERS):
        spread, knuckle, middle = np.moveaxis(fingers[:, index], -1, 0)
        rotations[finger] = _bend_finger(_rest_bone(rest_joints, finger), spread, knuckle, middle, last[:, index])
    rotations["thumb"] = _bend_thumb(_rest_bone(rest_joints, "thumb"), thumb)
    return np.stack([segment for finger in FINGERS for segment in rotations[finger]], 1)


def _synergies(rng, count):
    """Angles in radians: long fingers [count, 4, 3] (spread, knuckle, middle joint) and thumb [count, 4] (THUMB_RANGES)."""
    closing = rng.beta(0.8, 1.2, (count, 1))
    gradient = rng.normal(0, 0.25, (count, 1)) * np.array([[-1.5, -0.5, 0.5, 1.5]])
    hook = rng.normal(0, 0.25, (count, 1))
    close = closing + gradient
    knuckle = np.radians(-10) + np.radians(95) * (close - hook)
    middle = np.radians(105) * (close + hook)
    spread = rng.normal(0, np.radians(9), (count, 1)) * np.array([[1.0, 0.2, -0.5, -1.2]]) * (1 - 0.7 * np.clip(close, 0, 1))
    opposition = np.clip(0.7 * closing[:, 0] + rng.normal(0.1, 0.35, count), -0.3, 1.1)
    thumb = np.stack(
        [
            np.radians(35) * opposition,
            -np.radians(30) * opposition * rng.random(count),
            np.radians(45) * closing[:, 0] * rng.random(count) * 1.3,
            np.radians(70) * (closing[:, 0] * rng.random(count) * 1.3 - 0.1),
        ],
        -1,
    )
    return np.stack([spread, knuckle, middle], -1), thumb


def _rest_bone(rest_joints, finger):
    first, second = (rest_joints[JOINT_INDEX[f"left_{finger}{segment}"]] for segment in (1, 2))
    return unit(second - first)


_DOWN = np.array([0.0, -1, 0])
"""Into the left palm, at rest."""


def _bend_finger(bone, spread, knuckle, middle, last):
    """Knuckle with flexion and spread, then two hinges; the axes are those that the closed form solves for."""
    hinge = unit(np.cross(bone, _DOWN))
    normal = np.cross(hinge, bone)
    first = about(hinge, np.clip(knuckle, *MCP_FLEXION)) @ about(normal, np.clip(spread, *MCP_ABDUCTION))
    return first, about(hinge, np.clip(middle, *PIP_FLEXION)), about(hinge, np.clip(last, *DIP_FLEXION))


def _bend_thumb(bone, angles):
    """Saddle joint, then two hinges that close over the palm. angles [N, 4] rad as in THUMB_RANGES."""
    # The thumb closes towards the little finger and a little into the palm.
    closing = unit(np.array([0.1, -0.5, -0.85]))
    hinge = unit(np.cross(bone, closing))
    outwards = np.cross(hinge, bone)
    flexion, abduction, middle, last = np.clip(angles, *THUMB_RANGES.T).T
    root = about(hinge, flexion) @ about(outwards, abduction) @ about(bone, ROOT_ROLL * flexion)
    return root, about(hinge, middle), about(hinge, last)
