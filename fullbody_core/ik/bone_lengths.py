"""Body shape from bone lengths: minimal-hand's shape estimation (Zhou et al. 2020, Eq. 8) carried over to the body."""

from dataclasses import dataclass

import numpy as np

from ..contract.skeleton import JOINT_INDEX, SIDES
from ..detect.keypoints import SEEN, Keypoints

SHAPE_WEIGHT = 2e-4
"""Lambda of Eq. 8, in square metres: a bone that is 3 cm off pulls as hard as a coefficient two deviations out."""

MEASURED_BONES = tuple(
    (f"{side}_{parent}", f"{side}_{child}")
    for side in SIDES
    for parent, child in [("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"), ("shoulder", "hip")]
) + (("left_shoulder", "right_shoulder"),)
"""Pairs of points that SMPL-H and every body definition have at the same anatomical place. BlazePose's hips stand closer together
than hip joints do, so the hip line is not among them."""


@dataclass
class BodyShape:
    """betas [B]; scale: metres of the body for one metre of the keypoints (the paper's alpha, Sec. 3.3)."""

    betas: np.ndarray
    scale: float


def measure_bones(keypoints: Keypoints, seen=SEEN):
    """Median lengths [N] m of MEASURED_BONES over the frames that show both ends, and how often they do [N] in 0..1."""
    parent, child = (np.array([keypoints.definition.index(bone[end]) for bone in MEASURED_BONES]) for end in (0, 1))
    lengths = np.linalg.norm(keypoints.body3d[:, parent] - keypoints.body3d[:, child], axis=-1)
    shown = np.minimum(keypoints.body_confidence[:, parent], keypoints.body_confidence[:, child]) > seen
    medians = [np.median(lengths[shown[:, bone], bone]) if shown[:, bone].any() else 0.0 for bone in range(lengths.shape[1])]
    return np.array(medians), shown.mean(0)


def fit_shape(lengths, weights, joints, joint_shapedirs, shape_weight=SHAPE_WEIGHT, rounds=10):
    """Shape and scale whose bones are nearest to measured ones, by Gauss-Newton on Eq. 8.

    Minimises sum_b w_b (l_b(betas) - scale m_b)^2 + shape_weight |betas|^2, with scale fixed by the mean body first: one camera
    does not tell a near child from a far giant, so size stays the mean body's and betas explain proportions.
    lengths m_b [N] m and weights [N] for MEASURED_BONES; joints [52, 3] m, joint_shapedirs [52, 3, B] m.
    Bones never measured have weight 0; with none at all the answer is the mean body.
    """
    parent, child = (np.array([JOINT_INDEX[bone[end]] for bone in MEASURED_BONES]) for end in (0, 1))
    rest = joints[child] - joints[parent]
    directions = joint_shapedirs[child] - joint_shapedirs[parent]
    betas = np.zeros(joint_shapedirs.shape[-1])
    weights = np.asarray(weights, float) * (lengths > 0)
    if not weights.any():
        return BodyShape(betas, 1.0)
    mean_lengths = np.linalg.norm(rest, axis=-1)
    scale = float((weights * mean_lengths * lengths).sum() / (weights * lengths**2).sum())
    target = scale * lengths
    for _ in range(rounds):
        bones = rest + directions @ betas
        modelled = np.linalg.norm(bones, axis=-1)
        jacobian = np.einsum("bi,bij->bj", bones / modelled[:, None], directions)
        normal = jacobian.T @ (weights[:, None] * jacobian) + shape_weight * np.eye(len(betas))
        betas = betas + np.linalg.solve(normal, jacobian.T @ (weights * (target - modelled)) - shape_weight * betas)
    return BodyShape(betas, scale)
