"""Rotations built from directions. Numpy, any leading batch shape; matrices act on column vectors; radians."""

import numpy as np
import roma
import torch

from .contract.frames import axis_angle_to_matrix, matrix_to_axis_angle, matrix_to_quaternion


def unit(vector):
    """Vectors [..., 3] at length one; a zero vector stays zero."""
    vector = np.asarray(vector, float)
    return vector / np.maximum(np.linalg.norm(vector, axis=-1, keepdims=True), 1e-9)


def rotate(matrix, vector):
    """Matrices [..., 3, 3] applied to vectors [..., 3]."""
    return (matrix @ np.asarray(vector, float)[..., None])[..., 0]


def transpose(matrix):
    """Inverse of rotation matrices [..., 3, 3]."""
    return np.swapaxes(matrix, -1, -2)


def perpendicular(vector):
    """Some unit vector at a right angle to each vector [..., 3]: the crossing with the axis it lies least along."""
    axis = np.eye(3)[np.argmin(np.abs(vector), axis=-1)]
    return unit(np.cross(vector, axis))


def shortest_arc(source, target):
    """Smallest rotation [..., 3, 3] that takes direction `source` [..., 3] to direction `target`.

    For opposite directions, where the axis is not defined, any axis at a right angle is used; a direction of length zero turns
    nothing.
    """
    source, target = np.broadcast_arrays(unit(source), unit(target))
    source = np.where(np.linalg.norm(source, axis=-1, keepdims=True) < 0.5, target, source)
    cosine = np.sum(source * target, -1)
    half = source + target
    # Two reflections, first across the half-way plane: exact for every angle below pi.
    half = np.where(cosine[..., None] < -1 + 1e-9, perpendicular(source), unit(half))
    half_turn = 2 * half[..., :, None] * half[..., None, :] - np.eye(3)
    reflect_source = 2 * source[..., :, None] * source[..., None, :] - np.eye(3)
    return half_turn @ reflect_source


def axes_rotation(rest_primary, rest_secondary, primary, secondary):
    """Rotation that takes `rest_primary` to `primary` exactly and `rest_secondary` to `secondary` as nearly as it can.

    All [..., 3]. Where primary and secondary are parallel the turn about primary is arbitrary; a primary of length zero is
    taken for x, so that the answer is a rotation always.
    """
    rest = _frame(np.asarray(rest_primary, float), np.asarray(rest_secondary, float))
    posed = _frame(np.asarray(primary, float), np.asarray(secondary, float))
    return posed @ transpose(rest)


def _frame(primary, secondary):
    x = unit(primary)
    x = np.where(np.linalg.norm(x, axis=-1, keepdims=True) < 0.5, np.eye(3)[0], x)
    z = np.cross(x, secondary)
    z = np.where(np.linalg.norm(z, axis=-1, keepdims=True) < 1e-9, perpendicular(x), unit(z))
    return np.stack(np.broadcast_arrays(x, np.cross(z, x), z), -1)


def nearest_rotation(rest, points):
    """Rotation [..., 3, 3] that brings points `rest` [..., N, 3], about their middle, nearest to `points` [..., N, 3] about theirs.

    Least squares (Kabsch 1976). What the points leave open is arbitrary.
    """
    rest, points = rest - rest.mean(-2, keepdims=True), points - points.mean(-2, keepdims=True)
    return roma.special_procrustes(torch.as_tensor(transpose(points) @ rest)).numpy()


def twist_angle(rotation, axis):
    """Angle about `axis` [3] in the swing-twist decomposition rotation = swing @ twist, in [-pi, pi)."""
    quaternion = matrix_to_quaternion(rotation)
    along = quaternion[..., 1:] @ unit(axis)
    angle = 2 * np.arctan2(along, quaternion[..., 0])
    return np.mod(angle + np.pi, 2 * np.pi) - np.pi


def about(axis, angle):
    """Rotation [..., 3, 3] about unit `axis` [..., 3] by `angle` [...]."""
    return axis_angle_to_matrix(unit(axis) * np.asarray(angle, float)[..., None])


def fraction_of(rotation, fraction):
    """The same turn carried out to a fraction [...] of its angle."""
    return axis_angle_to_matrix(matrix_to_axis_angle(rotation) * np.asarray(fraction, float)[..., None])


def limit_angle(rotation, largest):
    """The same turn, stopped at `largest` radians."""
    turn = matrix_to_axis_angle(rotation)
    angle = np.linalg.norm(turn, axis=-1, keepdims=True)
    return axis_angle_to_matrix(turn * np.minimum(1, largest / np.maximum(angle, 1e-300)))


def blend_directions(seen, default, weight):
    """Unit directions between `default` (weight 0) and `seen` (weight 1). Directions [..., 3], weight [...]."""
    weight = np.asarray(weight, float)[..., None]
    return unit(weight * unit(seen) + (1 - weight) * unit(default))


def reject(vector, direction):
    """The part of `vector` [..., 3] at a right angle to unit `direction` [..., 3]."""
    return vector - np.sum(vector * direction, -1, keepdims=True) * direction
