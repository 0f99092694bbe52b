"""From keypoints to a solved clip: joint rotations, the person's place before the camera, steadied over time.

All arrays lead with the frame axis T and are in the camera frame.
"""

from dataclasses import dataclass, replace

import numpy as np

from .camera import rays, solve_translation
from .contract.frames import matrix_to_quaternion, quaternion_to_matrix
from .contract.skeleton import BLAZEPOSE_33, PART_JOINTS
from .ik.rest_skeleton import TRACKED_KEYPOINTS, RestSkeleton
from .smoothing import DEPTH, KEYPOINTS, SIGHT, smooth_positions, smooth_rotations
from .swing_twist import smoothstep

LIFT_ROUNDS = 3
"""Rounds of placing the body and drawing its keypoints onto their lines of sight; more changes nothing visible."""


@dataclass
class Motion:
    """A solved clip in the camera frame: rotations [T, 52, 3, 3] parent-relative, pelvis [T, 3] m, valid [T, 4] bool."""

    skeleton: RestSkeleton
    rotations: np.ndarray
    pelvis: np.ndarray
    valid: np.ndarray


def smooth_keypoints(keypoints, timestamps, valid):
    """The same keypoints with their 3D body points steadied. `valid` [T, 4].

    Twist comes from the plane that two bones span, which turns far when a nearly straight limb shakes a little: what is steadied
    before the pose is solved costs less than what must be steadied after.
    """
    return replace(keypoints, body3d=smooth_positions(keypoints.body3d, timestamps, valid[:, 0], KEYPOINTS))


def solve_motion(keypoints, skeleton, matrix, valid, solver):
    """Joint rotations and the pelvis's place, by turns: pose, place, draw the keypoints onto their lines of sight.

    A detector's 3D points are seldom exactly under its 2D points. Those in the image are the surer ones, so each point keeps
    its depth and moves sideways onto its line of sight, as far as it is seen. solver: `IKNetSolver` or `AnalyticSolver`.
    """
    weights = sight_weights(keypoints) * valid[:, :1]
    for _ in range(LIFT_ROUNDS):
        rotations = solver.solve_pose(keypoints, skeleton)
        pelvis = place(skeleton, rotations, keypoints, matrix)
        hips = skeleton.place(("left_hip", "right_hip"), *skeleton.pose(rotations)).mean(1)
        keypoints = draw_to_sight(keypoints, weights, hips + pelvis, matrix)
    placed = np.isfinite(pelvis).all(1) & (pelvis[:, 2] > 0)
    return Motion(skeleton, rotations, pelvis, valid & placed[:, None])


def sight_weights(keypoints):
    """How much each keypoint's pixel counts, [T, K] in 0..1: nothing for a guess, all for a point that is seen."""
    return smoothstep(keypoints.body_confidence, 0.3, 0.6)


def place(skeleton, rotations, keypoints, matrix):
    """Where the pelvis stands in the camera frame, [T, 3] m, so that the posed body covers the keypoints."""
    tracked = list(TRACKED_KEYPOINTS)
    points = skeleton.tracked_points(rotations)
    return solve_translation(points, keypoints.body2d[:, tracked], sight_weights(keypoints)[:, tracked], matrix)


def draw_to_sight(keypoints, share, hips, matrix):
    """Keypoints moved onto their lines of sight by their `share` [T, K] in 0..1.

    hips [T, 3] m is where the middle of the hips stands in the camera frame.
    """
    left, right = BLAZEPOSE_33.index("left_hip"), BLAZEPOSE_33.index("right_hip")
    placed = np.isfinite(hips).all(1) & (hips[:, 2] > 0)
    hips = np.where(placed[:, None], hips, [0.0, 0, 1])[:, None]
    points = keypoints.body3d - (keypoints.body3d[:, [left]] + keypoints.body3d[:, [right]]) / 2 + hips
    # A point cannot be nearer than a tenth of the body's distance: deeper than that is noise.
    depth = np.maximum(points[..., 2:], 0.1 * hips[..., 2:])
    share = share[..., None] * placed[:, None, None]
    return replace(keypoints, body3d=points + share * (rays(keypoints.body2d, matrix) * depth - points))


def hold_through_holes(motion):
    """Where a part is not valid, its last good value (the first good one before that): readers of `poses` alone need some."""
    rotations, pelvis = motion.rotations.copy(), motion.pelvis.copy()
    for part, joints in enumerate(PART_JOINTS.values()):
        source = _last_valid(motion.valid[:, part])
        rotations[:, joints] = rotations[source][:, joints]
    pelvis = pelvis[_last_valid(motion.valid[:, 0])]
    return replace(motion, rotations=rotations, pelvis=pelvis)


def _last_valid(valid):
    """For each of T frames the frame whose value it shows: itself, the last valid one, or the first valid one."""
    frames = np.arange(len(valid))
    if not valid.any():
        return frames
    last = np.maximum.accumulate(np.where(valid, frames, -1))
    return np.where(last < 0, np.argmax(valid), last)


def smooth_motion(motion, timestamps, keypoints, matrix):
    """One-Euro over each part's valid frames.

    The pelvis is placed anew after its joints are smoothed: what the filter took from a trunk's turn would otherwise show as
    a slip of everything that hangs on it.
    """
    quaternions = matrix_to_quaternion(motion.rotations)
    for part, joints in enumerate(PART_JOINTS.values()):
        quaternions[:, joints] = smooth_rotations(quaternions[:, joints], timestamps, motion.valid[:, part])
    rotations = quaternion_to_matrix(quaternions)
    pelvis = smooth_place(replace(motion, rotations=rotations), timestamps, keypoints, matrix)
    return replace(motion, rotations=rotations, pelvis=pelvis)


def smooth_place(motion, timestamps, keypoints, matrix):
    """The pelvis's smoothed place [T, 3] m, from that of the middle of the points that are seen.

    One camera sees sideways motion sharply and distance dimly, so the two are filtered apart: the line of sight to the middle
    with a light hand, the logarithm of its distance with a firm one.
    """
    placed = place(motion.skeleton, motion.rotations, keypoints, matrix)
    pelvis = np.where(np.isfinite(placed), placed, motion.pelvis)
    weights = sight_weights(keypoints)[:, list(TRACKED_KEYPOINTS)] + 1e-9
    points = motion.skeleton.tracked_points(motion.rotations)
    offset = (points * weights[..., None]).sum(1) / weights.sum(1, keepdims=True)
    middle = pelvis + offset
    valid = motion.valid[:, 0] & (middle[:, 2] > 0)
    depth = np.where(valid, middle[:, 2], 1.0)[:, None]
    sight = smooth_positions(middle[:, :2] / depth, timestamps, valid, SIGHT)
    depth = np.exp(smooth_positions(np.log(depth), timestamps, valid, DEPTH))
    smoothed = np.concatenate([sight * depth, depth], 1) - offset
    return np.where(valid[:, None], smoothed, pelvis)
