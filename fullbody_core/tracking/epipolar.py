"""The turn of a camera that walks at the same time: what two pictures of a scene at rest have in common, whatever its depth.

Lines of sight a and b to one point, seen before and after, fulfil b . [t]x R a = 0 (Longuet-Higgins 1981; Hartley and Zisserman
2004, Ch. 9), with R the camera's turn and t the direction in which it went.
"""

import numpy as np

from ..contract.frames import axis_angle_to_matrix, skew

ROUNDS = 10

NARROWEST = 0.5
"""px off its line by which a point may be found; what is off by much more loses its weight (Geman and McClure)."""

_STEP = 1e-6


def fit_walk(before, after, focal, rotation, direction=None):
    """A camera's rotation [3, 3] and direction [3] between two pictures, and how many px off its epipolar line each point is [N].

    before, after [N, 3]: lines of sight, at depth one; focal px. Levenberg-Marquardt on Sampson's distances (Hartley and Zisserman
    2004, Sec. 11.4), five unknowns, from the given `rotation` and `direction`, or from the direction that suits the rotation best.
    """
    if direction is None:
        direction = best_direction(before, after, focal, rotation)
    off = distances(before, after, focal, skew(direction) @ rotation)
    width = max(1.5 * np.median(np.abs(off)), NARROWEST)
    turns = axis_angle_to_matrix(_STEP * np.eye(3))
    for _ in range(ROUNDS):
        weights = 1 / (1 + (off / width) ** 2) ** 2
        across = np.linalg.svd(direction[None])[2][1:]
        moved = np.concatenate([skew(direction) @ turns @ rotation, skew(direction + _STEP * across) @ rotation])
        jacobian = (distances(before, after, focal, moved) - off) / _STEP  # [5, N]
        weighted = jacobian * weights
        hessian = weighted @ jacobian.T
        hessian += np.diag(1e-3 * np.diag(hessian) + 1e-3)
        change = -np.linalg.solve(hessian, weighted @ off)
        rotation = axis_angle_to_matrix(change[:3]) @ rotation
        direction = direction + change[3:] @ across
        direction /= np.linalg.norm(direction)
        off = distances(before, after, focal, skew(direction) @ rotation)
        width = max(0.7 * width, NARROWEST)
    return rotation, direction, np.abs(off)


def distances(before, after, focal, essential):
    """Sampson's distances [..., N] px, with a sign, of lines of sight [N, 3] for essential matrices [..., 3, 3]."""
    there, back = before @ np.swapaxes(essential, -1, -2), after @ essential
    slope = np.sqrt((there[..., :2] ** 2).sum(-1) + (back[..., :2] ** 2).sum(-1) + 1e-18)
    return focal * (after * there).sum(-1) / slope


def best_direction(before, after, focal, rotation, rounds=3):
    """The direction [3] in which a camera of known rotation went: across all of b x R a, in the robust least squares."""
    normals = np.cross(after, before @ rotation.T)
    # What hardly moves says nothing of the direction: a thousandth of the focal length counts half.
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True) + 1e-3
    weights = np.ones(len(normals))
    for _ in range(rounds):
        direction = np.linalg.eigh((weights[:, None] * normals).T @ normals)[1][:, 0]
        off = distances(before, after, focal, skew(direction) @ rotation)
        weights = 1 / (1 + (off / max(1.5 * np.median(np.abs(off)), NARROWEST)) ** 2) ** 2
    return direction
