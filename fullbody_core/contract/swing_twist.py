"""Rotations built from directions. Numpy, any leading batch shape; matrices act on column vectors; radians."""

import numpy as np

from .frames import axis_angle_to_matrix, cross, matrix_to_axis_angle, matrix_to_quaternion

_SHORTEST = 1e-9
"""Vectors below half of this have no direction."""

_IDENTITY = np.eye(3)


def unit(vector):
    """Vectors [..., 3] at length one; a zero vector stays zero."""
    vector = np.asarray(vector, float)
    return vector / np.maximum(_length(vector), _SHORTEST)


def _length(vector):
    """Lengths [..., 1] of float vectors [..., 3]: numpy's norm without its overhead."""
    return np.sqrt(np.add.reduce(vector * vector, -1, keepdims=True))


def rotate(matrix, vector):
    """Matrices [..., 3, 3] applied to vectors [..., 3]."""
    return (matrix @ np.asarray(vector, float)[..., None])[..., 0]


def transpose(matrix):
    """Inverse of rotation matrices [..., 3, 3]."""
    return matrix.swapaxes(-1, -2)


def perpendicular(vector):
    """Some unit vector at a right angle to each vector [..., 3]: the crossing with the axis it lies least along."""
    axis = np.eye(3)[np.argmin(np.abs(vector), axis=-1)]
    return unit(cross(vector, axis))


def shortest_arc(source, target):
    """Smallest rotation [..., 3, 3] that takes direction `source` [..., 3] to direction `target`.

    For opposite directions, where the axis is not defined, any axis at a right angle is used; a direction of length zero turns
    nothing.
    """
    source, target = np.asarray(source, float), unit(target)
    length = _length(source)
    source = source / np.maximum(length, _SHORTEST)
    if (nowhere := length < _SHORTEST / 2).any():
        source = np.where(nowhere, target, source)
    half = source + target
    opposite = np.add.reduce(source * target, -1, keepdims=True) < -1 + 1e-9
    half = np.where(opposite, perpendicular(source), unit(half)) if opposite.any() else unit(half)
    # Two reflections, first across the half-way plane: exact for every angle below pi.
    half_turn = 2 * half[..., :, None] * half[..., None, :] - _IDENTITY
    reflect_source = 2 * source[..., :, None] * source[..., None, :] - _IDENTITY
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
    length = _length(primary)
    x = primary / np.maximum(length, _SHORTEST)
    if (nowhere := length < _SHORTEST / 2).any():
        x = np.where(nowhere, _IDENTITY[0], x)
    z = cross(x, secondary)
    length = _length(z)
    z = z / np.maximum(length, _SHORTEST)
    if (parallel := length < _SHORTEST).any():
        z = np.where(parallel, perpendicular(x), z)
    frame = np.empty(z.shape + (3,))
    frame[..., 0], frame[..., 1], frame[..., 2] = x, cross(z, x), z
    return frame


def nearest_rotation(rest, points):
    """Rotation [..., 3, 3] that brings points `rest` [..., N, 3], about their middle, nearest to `points` [..., N, 3] about theirs.

    Least squares (Kabsch 1976). What the points leave open is arbitrary.
    """
    rest, points = rest - rest.mean(-2, keepdims=True), points - points.mean(-2, keepdims=True)
    covariance = transpose(points) @ rest
    # Points that are no numbers leave everything open.
    known = np.isfinite(covariance).all((-2, -1), keepdims=True)
    left, _, right = np.linalg.svd(np.where(known, covariance, np.eye(3)))
    left[..., 2] *= np.sign(np.linalg.det(left) * np.linalg.det(right))[..., None]
    return left @ right


def twist_angle(rotation, axis):
    """Angle about `axis` [..., 3] in the swing-twist decomposition rotation = swing @ twist, in [-pi, pi)."""
    quaternion = matrix_to_quaternion(rotation)
    along = np.sum(quaternion[..., 1:] * unit(axis), -1)
    angle = 2 * np.arctan2(along, quaternion[..., 0])
    return np.mod(angle + np.pi, 2 * np.pi) - np.pi


def about(axis, angle):
    """Rotation [..., 3, 3] about unit `axis` [..., 3] by `angle` [...]."""
    return axis_angle_to_matrix(unit(axis) * np.asarray(angle, float)[..., None])


def fraction_of(rotation, fraction):
    """The same turn carried out to a fraction [...] of its angle."""
    return axis_angle_to_matrix(matrix_to_axis_angle(rotation) * np.asarray(fraction, float)[..., None])


def limit_angle(rotation, largest):
    """The same turn, stopped at `largest` radians (no more than pi)."""
    # A turn by an angle has the trace 1 + 2 cos(angle).
    beyond = np.trace(rotation, axis1=-2, axis2=-1) < 1 + 2 * np.cos(largest)
    if not beyond.any():
        return rotation
    turn = matrix_to_axis_angle(rotation[beyond])
    limited = np.array(rotation, float)
    limited[beyond] = axis_angle_to_matrix(unit(turn) * largest)
    return limited


def blend_directions(seen, default, weight):
    """Unit directions between `default` (weight 0) and `seen` (weight 1). Directions [..., 3], weight [...]."""
    weight = np.asarray(weight, float)[..., None]
    return unit(weight * unit(seen) + (1 - weight) * unit(default))


def reject(vector, direction):
    """The part of `vector` [..., 3] at a right angle to unit `direction` [..., 3]."""
    return vector - np.sum(vector * direction, -1, keepdims=True) * direction
