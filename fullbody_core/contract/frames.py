"""Axis systems and rotation conversions: every turn of axes on the core's side happens here.

Right-handed frames, metres:
  rest    SMPL's: y up, x to the person's left, z forward.
  camera  OpenCV's: x right, y down, z forward, origin at the camera.
  world   AMASS's and Blender's: z up. A level camera looks along +y with x to its right, so a person who faces the camera
          faces -y, which is Blender's front view.

Rotations are matrices [..., 3, 3] acting on column vectors; axis-angle is [..., 3] in radians; quaternions are WXYZ.
Numpy only, any leading batch shape, float64 results.
"""

import numpy as np

CAMERA_TO_WORLD = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
"""Rotation from the camera frame to the world frame for a level camera."""

REST_TO_CAMERA = np.diag([1.0, -1.0, -1.0])
"""Rotation that stands a rest-frame person upright before the camera, facing it."""

REST_TO_WORLD = CAMERA_TO_WORLD @ REST_TO_CAMERA
"""Rotation that stands a rest-frame person upright in the world, facing -y."""

MIRROR = np.diag([-1.0, 1, 1])
"""What a looking glass across x shows: of points by itself, of rotations on both sides."""


def skew(vector):
    """Cross-product matrix [..., 3, 3] of vectors [..., 3]."""
    x, y, z = np.moveaxis(np.asarray(vector, float), -1, 0)
    zero = np.zeros_like(x)
    return np.stack([np.stack([zero, -z, y], -1), np.stack([z, zero, -x], -1), np.stack([-y, x, zero], -1)], -2)


def axis_angle_to_matrix(axis_angle):
    """Rodrigues' formula. Axis-angle [..., 3] rad to matrices [..., 3, 3]; exact to rounding at and near zero."""
    axis_angle = np.asarray(axis_angle, float)
    angle = np.linalg.norm(axis_angle, axis=-1)[..., None, None]
    generator = skew(axis_angle)
    # np.sinc(x) = sin(pi x) / (pi x) is finite at zero, so neither coefficient divides by a small angle.
    linear = np.sinc(angle / np.pi)
    quadratic = 0.5 * np.sinc(angle / (2 * np.pi)) ** 2
    return np.eye(3) + linear * generator + quadratic * (generator @ generator)


def matrix_to_quaternion(matrix):
    """Rotation matrices [..., 3, 3] to unit WXYZ quaternions [..., 4] with w >= 0.

    Of the four textbook forms the one with the largest divisor is taken for each matrix (Shepperd 1978), so no rotation is
    ill-conditioned.
    """
    matrix = np.asarray(matrix, float)
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = np.moveaxis(matrix, (-2, -1), (0, 1))
    # Each row is the quaternion times four times its own component on the diagonal.
    candidates = [
        [1 + xx + yy + zz, zy - yz, xz - zx, yx - xy],
        [zy - yz, 1 + xx - yy - zz, yx + xy, xz + zx],
        [xz - zx, yx + xy, 1 - xx + yy - zz, zy + yz],
        [yx - xy, xz + zx, zy + yz, 1 - xx - yy + zz],
    ]
    candidates = np.stack([np.stack(row, -1) for row in candidates], -2)
    best = np.argmax(np.diagonal(candidates, axis1=-2, axis2=-1), -1)
    quaternion = np.take_along_axis(candidates, best[..., None, None], -2)[..., 0, :]
    quaternion = quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True)
    return np.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def quaternion_to_matrix(quaternion):
    """Unit WXYZ quaternions [..., 4] to rotation matrices [..., 3, 3]."""
    quaternion = np.asarray(quaternion, float)
    w, vector = quaternion[..., :1, None], quaternion[..., 1:]
    generator = skew(vector)
    return np.eye(3) + 2 * w * generator + 2 * generator @ generator


def quaternion_to_axis_angle(quaternion):
    """Unit WXYZ quaternions [..., 4] to axis-angle [..., 3] rad, angle in [0, pi]."""
    quaternion = np.asarray(quaternion, float)
    quaternion = np.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    sine = np.linalg.norm(quaternion[..., 1:], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sine, quaternion[..., :1])
    # angle / sine tends to 2 as both go to zero.
    scale = np.divide(angle, sine, out=np.full_like(sine, 2.0), where=sine > 1e-12)
    return quaternion[..., 1:] * scale


def matrix_to_axis_angle(matrix):
    """Rotation matrices [..., 3, 3] to axis-angle [..., 3] rad, angle in [0, pi]."""
    return quaternion_to_axis_angle(matrix_to_quaternion(matrix))


def axis_angle_to_quaternion(axis_angle):
    """Axis-angle [..., 3] rad to unit WXYZ quaternions [..., 4]."""
    axis_angle = np.asarray(axis_angle, float)
    angle = np.linalg.norm(axis_angle, axis=-1, keepdims=True)
    return np.concatenate([np.cos(angle / 2), 0.5 * np.sinc(angle / (2 * np.pi)) * axis_angle], -1)


def multiply_quaternions(a, b):
    """Hamilton product of WXYZ quaternions [..., 4]: rotate by `b`, then by `a`."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    w = a[..., :1] * b[..., :1] - np.sum(a[..., 1:] * b[..., 1:], -1, keepdims=True)
    vector = a[..., :1] * b[..., 1:] + b[..., :1] * a[..., 1:] + np.cross(a[..., 1:], b[..., 1:])
    return np.concatenate([w, vector], -1)


def continuous_quaternions(quaternions):
    """Flips signs along axis 0 so that neighbours lie on one hemisphere: [T, ..., 4] WXYZ, the same rotations."""
    quaternions = np.array(quaternions, float)
    dots = np.sum(quaternions[1:] * quaternions[:-1], -1, keepdims=True)
    quaternions[1:] *= np.cumprod(np.where(dots < 0, -1.0, 1.0), axis=0)
    return quaternions


def slerp_quaternions(a, b, fraction):
    """Spherical interpolation from `a` to `b` along the shorter arc. WXYZ [..., 4], fraction [...] in 0..1."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    conjugate = a * np.array([1.0, -1, -1, -1])
    step = quaternion_to_axis_angle(multiply_quaternions(b, conjugate))
    return multiply_quaternions(axis_angle_to_quaternion(np.asarray(fraction, float)[..., None] * step), a)


def forward_kinematics(rest_joints, rotations, parents):
    """Plain forward kinematics, one joint after another: the reference that everything faster is compared with.

    rest_joints [..., J, 3] m, rotations [..., J, 3, 3] parent-relative, parents [J] (-1 for the root, parents first).
    Returns posed joints [..., J, 3] with the root at its rest place, and joint-to-root-frame rotations [..., J, 3, 3].
    """
    joints, orientations = [], []
    for joint, parent in enumerate(parents):
        if parent < 0:
            joints.append(rest_joints[..., joint, :])
            orientations.append(rotations[..., joint, :, :])
            continue
        offset = rest_joints[..., joint, :] - rest_joints[..., parent, :]
        joints.append(joints[parent] + (orientations[parent] @ offset[..., None])[..., 0])
        orientations.append(orientations[parent] @ rotations[..., joint, :, :])
    shape = np.broadcast_shapes(*(joint.shape for joint in joints))
    return np.stack([np.broadcast_to(joint, shape) for joint in joints], -2), np.stack(orientations, -3)
