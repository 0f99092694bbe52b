"""Axis systems and rotation conversions: every turn of axes on the core's side happens here.

Right-handed frames, metres:
  rest    SMPL's: y up, x to the person's left, z forward.
  camera  OpenCV's: x right, y down, z forward, origin at the camera.
  world   AMASS's and Blender's: z up. A level camera looks along +y with x to its right, so a person who faces the camera
          faces -y, which is Blender's front view.

Rotations are matrices [..., 3, 3] acting on column vectors; axis-angle is [..., 3] in radians; quaternions are WXYZ.
Numpy only, any leading batch shape, float64 results. A live link calls these on single frames, so they make few numpy calls.
"""

from functools import lru_cache

import numpy as np

CAMERA_TO_WORLD = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
"""Rotation from the camera frame to the world frame for a level camera."""

REST_TO_CAMERA = np.diag([1.0, -1.0, -1.0])
"""Rotation that stands a rest-frame person upright before the camera, facing it."""

REST_TO_WORLD = CAMERA_TO_WORLD @ REST_TO_CAMERA
"""Rotation that stands a rest-frame person upright in the world, facing -y."""

MIRROR = np.diag([-1.0, 1, 1])
"""What a looking glass across x shows: of points by itself, of rotations on both sides."""

MIRROR_TURN = np.array([1.0, -1, -1])
"""What it shows of a turn's axis [3], by itself: the axis is no point but a sense of turning."""


_NEXT, _LAST = np.array([1, 2, 0]), np.array([2, 0, 1])


def cross(a, b):
    """Cross products [..., 3] of vectors [..., 3], a few times faster than numpy's on small arrays."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    return a.take(_NEXT, -1) * b.take(_LAST, -1) - a.take(_LAST, -1) * b.take(_NEXT, -1)


def skew(vector):
    """Cross-product matrix [..., 3, 3] of vectors [..., 3]."""
    vector = np.asarray(vector, float)
    x, y, z = vector[..., 0], vector[..., 1], vector[..., 2]
    matrix = np.zeros(vector.shape + (3,))
    matrix[..., 2, 1], matrix[..., 0, 2], matrix[..., 1, 0] = x, y, z
    matrix[..., 1, 2], matrix[..., 2, 0], matrix[..., 0, 1] = -x, -y, -z
    return matrix


def axis_angle_to_matrix(axis_angle):
    """Rodrigues' formula. Axis-angle [..., 3] rad to matrices [..., 3, 3]; exact to rounding at and near zero."""
    axis_angle = np.asarray(axis_angle, float)
    # Divided by next to nothing instead of by zero, so that neither coefficient needs a case of its own.
    half = np.maximum(np.linalg.norm(axis_angle, axis=-1)[..., None, None] / 2, 1e-300)
    generator = skew(axis_angle)
    sinc = np.sin(half) / half
    return np.eye(3) + sinc * np.cos(half) * generator + 0.5 * sinc**2 * (generator @ generator)


def _shepperd_map():
    """[9, 16]: from a rotation matrix's entries to those of the symmetric matrix 4 q q^T - I of its quaternion q, WXYZ."""
    rows = [
        ["+xx+yy+zz", "+zy-yz", "+xz-zx", "+yx-xy"],
        ["+zy-yz", "+xx-yy-zz", "+yx+xy", "+xz+zx"],
        ["+xz-zx", "+yx+xy", "-xx+yy-zz", "+zy+yz"],
        ["+yx-xy", "+xz+zx", "+zy+yz", "-xx-yy+zz"],
    ]
    entries = ["xx", "xy", "xz", "yx", "yy", "yz", "zx", "zy", "zz"]
    terms = [sum(rows, [])[column] for column in range(16)]
    return np.array([[float(f"+{entry}" in term) - float(f"-{entry}" in term) for term in terms] for entry in entries])


_SHEPPERD = _shepperd_map()


def matrix_to_quaternion(matrix):
    """Rotation matrices [..., 3, 3] to unit WXYZ quaternions [..., 4] with w >= 0.

    Of the four textbook forms the one with the largest divisor is taken for each matrix (Shepperd 1978), so no rotation is
    ill-conditioned.
    """
    matrix = np.asarray(matrix, float)
    # Each row is the quaternion times four times its own component on the diagonal.
    candidates = (matrix.reshape(-1, 9) @ _SHEPPERD).reshape(-1, 4, 4) + np.eye(4)
    best = candidates.diagonal(axis1=1, axis2=2).argmax(1)
    quaternion = candidates[np.arange(len(best)), best].reshape(matrix.shape[:-2] + (4,))
    quaternion /= np.linalg.norm(quaternion, axis=-1, keepdims=True)
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
    vector = a[..., :1] * b[..., 1:] + b[..., :1] * a[..., 1:] + cross(a[..., 1:], b[..., 1:])
    return np.concatenate([w, vector], -1)


_WORLD_TO_REST = matrix_to_quaternion(REST_TO_WORLD.T)


def pose_to_quaternions(poses):
    """SMPL-H `poses` [T, 3 * J] axis-angle rad to parent-relative rotations [T, J, 4] WXYZ, all in rest-frame axes.

    Joint 0 comes as the turn from a person who stands upright: in a capture its rotation holds the upright turn, too, which must
    not be applied twice to a character that stands upright at rest.
    """
    quaternions = axis_angle_to_quaternion(np.asarray(poses, float).reshape(len(poses), -1, 3))
    quaternions[:, 0] = multiply_quaternions(_WORLD_TO_REST, quaternions[:, 0])
    return quaternions


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


def forward_kinematics_by_level(rest_joints, rotations, parents):
    """What `forward_kinematics` gives, for all joints of one depth in the tree at once: ten times as fast on single frames."""
    levels, place = _tree_levels(tuple(parents))
    parents = np.asarray(parents)
    rest_joints, rotations = np.asarray(rest_joints, float), np.asarray(rotations, float)
    offsets = rest_joints - rest_joints.take(np.maximum(parents, 0), -2)
    offsets[..., parents < 0, :] = rest_joints[..., parents < 0, :]
    # Each joint as [3, 4]: its turn and its place, first in its parent's axes, then in the root's frame.
    own = np.empty(np.broadcast_shapes(rotations.shape[:-1], offsets.shape) + (4,))
    own[..., :3], own[..., 3] = rotations, offsets
    posed = [own.take(levels[0][0], -3)]
    for joints, within in levels[1:]:
        parent = posed[-1].take(within, -3)
        level = parent[..., :3] @ own.take(joints, -3)
        level[..., 3] += parent[..., 3]
        posed.append(level)
    posed = np.concatenate(posed, -3).take(place, -3)
    return posed[..., 3], posed[..., :3]


@lru_cache
def _tree_levels(parents):
    """The joints of each depth of a tree with the places of their parents in the level above, and where each joint comes then."""
    depth = []
    for parent in parents:
        depth.append(0 if parent < 0 else depth[parent] + 1)
    levels = [np.flatnonzero(np.array(depth) == level) for level in range(max(depth) + 1)]
    place_in_level = {joint: place for joints in levels for place, joint in enumerate(joints.tolist())}
    within = [np.array([place_in_level.get(parents[joint], -1) for joint in joints]) for joints in levels]
    return list(zip(levels, within)), np.argsort(np.concatenate(levels))
