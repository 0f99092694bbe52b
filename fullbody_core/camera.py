"""The camera: intrinsics, where the person stands before it, and where it stands in the world.

Camera frame as in contract/frames.py: x right, y down, z away; metres and pixels.
"""

import numpy as np

from .contract.frames import CAMERA_TO_WORLD, axis_angle_to_matrix
from .contract.swing_twist import shortest_arc

DEFAULT_FOV = 55.0
"""Degrees across the longer side of the image: between a phone's main camera while filming (about 60) and a webcam (about 50)."""


LARGEST_PITCH = np.radians(30)
"""Beyond this a body's lean is taken for a lean."""


class CameraError(ValueError):
    """A camera that cannot be. The message is one sentence for the user."""


def camera_matrix(image_size, fov=DEFAULT_FOV):
    """Intrinsics [3, 3] px of a camera with square pixels and its axis through the middle of the image.

    image_size (width, height) px; fov in degrees across the longer side. Raises `CameraError` outside 5..170 degrees.
    """
    if not 5 <= fov <= 170:
        raise CameraError(f"The field of view should be between 5 and 170 degrees, got {fov:g}: change --fov.")
    width, height = image_size
    focal = max(width, height) / 2 / np.tan(np.radians(fov) / 2)
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])


def project(points, matrix):
    """Camera-frame points [..., 3] m to pixels [..., 2]. Points at or behind the camera give NaN."""
    points = np.asarray(points, float)
    depth = np.where(points[..., 2:] > 1e-6, points[..., 2:], np.nan)
    return points[..., :2] / depth * [matrix[0, 0], matrix[1, 1]] + [matrix[0, 2], matrix[1, 2]]


def rays(pixels, matrix):
    """Pixels [..., 2] to points [..., 3] at depth one along their lines of sight."""
    pixels = (np.asarray(pixels, float) - [matrix[0, 2], matrix[1, 2]]) / [matrix[0, 0], matrix[1, 1]]
    return np.concatenate([pixels, np.ones_like(pixels[..., :1])], -1)


def crop_to_camera_rotation(centre, matrix):
    """Rotation [..., 3, 3] from the axes of a crop around pixel `centre` [..., 2] to the camera's.

    A network that sees a crop takes its middle for the direction of view. Someone at the edge of a wide image, seen at the
    same angle, has in truth turned by the angle between the two lines of sight.
    """
    return shortest_arc(np.array([0.0, 0, 1]), rays(centre, matrix))


def parent_depth_from_bone(parent, child, depth_difference, length, matrix):
    """Absolute depth [...] m of a bone's parent from the bone's known length: Eq. 14 of Zhou et al. 2021, in closed form.

    parent, child [..., 2] px; depth_difference [...] m, child's depth less the parent's; length [...] m.
    With a and b the lines of sight, |z a - (z + d) b| = l is a quadratic in z; the farther root keeps the bone before the
    camera. Where the two ends coincide in the image, or the bone is shorter than its depth difference, the result is NaN.
    """
    a, b = rays(parent, matrix), rays(child, matrix)
    difference = a - b
    squared = np.sum(difference**2, -1)
    mixed = depth_difference * np.sum(difference * b, -1)
    constant = depth_difference**2 * np.sum(b * b, -1) - length**2
    discriminant = mixed**2 - squared * constant
    # A bone that just reaches its line of sight has one root, which rounding must not take away.
    discriminant = np.where(np.abs(discriminant) < 1e-12 * mixed**2, 0, discriminant)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (mixed + np.sqrt(discriminant)) / squared


def solve_translation(points, pixels, weights, matrix, rounds=4):
    """Translations [T, 3] m that bring posed points under their pixels: weighted least squares over all points.

    points [T, N, 3] m, relative to the root, in camera axes; pixels [T, N, 2]; weights [T, N] >= 0; matrix [3, 3].
    For a point p seen along (x, y, 1), (p + t)_x = x (p + t)_z and the same in y: two equations linear in t for each point,
    so all bones vote at once where Eq. 14 asks one. Points that disagree by more than twice the median residual lose weight
    with its square, and already in the first round: a single wrong pixel could outweigh all the others. A frame with fewer
    than two weighted points gives NaN.
    """
    sight = rays(pixels, matrix)
    weights = np.asarray(weights, float)
    seen = weights > 0
    translation = _rough_translation(points, sight, seen)
    with np.errstate(invalid="ignore", divide="ignore"):
        for _ in range(rounds):
            moved = points + translation[:, None]
            residual = np.linalg.norm(moved[..., :2] / moved[..., 2:] - sight[..., :2], axis=-1)
            # Below 1e-6 of the focal length, a thousandth of a pixel, all points agree.
            typical = np.maximum(_masked_median(residual, seen), 1e-6)[:, None]
            agreement = np.minimum(1, 2 * typical / np.where(np.isfinite(residual), np.maximum(residual, 1e-9), 1e9))
            # Without a rough answer nothing disagrees yet.
            agreement = np.where(np.isfinite(translation).all(1)[:, None], agreement, 1)
            translation = _weighted_translation(points, sight, weights * agreement**2)
    return translation


def _rough_translation(points, sight, seen):
    """Translations [T, 3] m by medians, as if all points were equally far: wrong points do not move it, however wrong."""
    flat = np.stack([points[..., :2], sight[..., :2]], 1)  # [T, 2, N, 2]
    middle = _masked_median(flat.swapaxes(2, 3), seen[:, None, None])
    spread = _masked_median(np.linalg.norm(flat - middle[:, :, None], axis=-1), seen[:, None])
    with np.errstate(invalid="ignore", divide="ignore"):
        depth = spread[:, :1] / spread[:, 1:]
        return np.concatenate([middle[:, 1] * depth - middle[:, 0], depth], -1)


def _weighted_translation(points, sight, weights):
    """The least-squares solution of the equations in `solve_translation`.

    With t_xy - (x, y) t_z known for every point it is a line's: the slope from how both vary about their middles, then the rest.
    """
    flat = sight[..., :2]
    known = flat * points[..., 2:] - points[..., :2]
    share = (weights / np.maximum(weights.sum(1, keepdims=True), 1e-300))[:, None]  # [T, 1, N]
    middle, known_middle = (share @ flat)[:, 0], (share @ known)[:, 0]
    about = flat - middle[:, None]
    varies, together = (share @ (about**2)).sum((1, 2)), (share @ (about * known)).sum((1, 2))
    # Points that all but coincide in the picture say nothing of depth.
    solvable = ((weights > 0).sum(1) >= 2) & (varies > 1e-12 * (1 + (middle**2).sum(1)))
    with np.errstate(invalid="ignore", divide="ignore"):
        depth = np.where(solvable, -together / varies, np.nan)[:, None]
    return np.concatenate([known_middle + middle * depth, depth], 1)


def _masked_median(values, mask):
    """Median [...] of values [..., N] where they are finite and in the mask [..., N]; 0 without any."""
    known = mask & np.isfinite(values)
    ordered = np.sort(np.where(known, values, np.inf), axis=-1).reshape(-1, values.shape[-1])
    count, rows = known.sum(-1).ravel(), np.arange(len(ordered))
    low, high = ordered[rows, np.maximum(count - 1, 0) // 2], ordered[rows, np.minimum(count // 2, values.shape[-1] - 1)]
    return np.where(count > 0, (low + high) / 2, 0.0).reshape(values.shape[:-1])


def camera_pitch(up):
    """How far the camera looks down, in radians, from directions `up` [N, 3] in its frame that stand upright in the world.

    The median over N, so that a few that lean do not count; no more than LARGEST_PITCH, and 0 for none at all.
    """
    if not len(up):
        return 0.0
    return float(np.clip(np.median(np.arctan2(-up[:, 2], -up[:, 1])), -LARGEST_PITCH, LARGEST_PITCH))


def level_camera_to_world(under, floor_drop, pitch=0.0):
    """Pose [4, 4] of a camera without roll in a world whose floor is z = 0 and whose origin lies under a point of the scene.

    under [3] m in the camera frame: the point that comes to stand over the origin.
    floor_drop m: how far the floor is below the camera, straight down; pitch in radians: how far the camera looks down.
    """
    pose = np.eye(4)
    pose[:3, :3] = CAMERA_TO_WORLD @ axis_angle_to_matrix([-pitch, 0, 0])
    origin = pose[:3, :3] @ np.asarray(under, float)
    pose[:3, 3] = [-origin[0], -origin[1], floor_drop]
    return pose
