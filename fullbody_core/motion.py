"""From keypoints to a solved clip: joint rotations, the person's place before the camera, steadied over time.

All arrays lead with the frame axis T and are in the camera frame.
"""

from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from .camera import rays, solve_translation
from .contract.easing import smoothstep
from .contract.frames import matrix_to_quaternion, quaternion_to_matrix
from .contract.skeleton import JOINT_INDEX, JOINT_NAMES, PARENTS, PART_JOINTS, SIDES
from .contract.swing_twist import fraction_of, limit_angle, shortest_arc, transpose
from .ik.analytic_limbs import NECK_LIMIT
from .ik.face_mesh import found_heads
from .ik.holes import bridge_holes
from .ik.rest_skeleton import TRACKED, RestSkeleton, tracked_places
from .smoothing import BOTH_WAYS, DEPTH, KEYPOINTS, PICTURE, SIGHT

LIFT_ROUNDS = 3
"""Rounds of placing the body and drawing its keypoints onto their lines of sight; more changes nothing visible."""


@dataclass
class Motion:
    """A solved clip in the camera frame: rotations [T, 52, 3, 3] parent-relative, pelvis [T, 3] m, valid [T, 4] bool."""

    skeleton: RestSkeleton
    rotations: np.ndarray
    pelvis: np.ndarray
    valid: np.ndarray


@dataclass
class Solved:
    """A person's clip solved to the end.

    motion: `Motion`; betas [B]; matrix [3, 3] px; camera_to_world [T, 4, 4] or [4, 4] m; filled [T, 4] bool: valid, but not seen
    (None: nothing is); notes: sentences for the user; contacts [T, 2, 3] bool: which points of the soles stand (None: not known);
    models: sha256 of weights by name, beside those of the frame-by-frame solver.
    """

    motion: Motion
    betas: np.ndarray
    matrix: np.ndarray
    camera_to_world: np.ndarray
    filled: np.ndarray = None
    notes: list = field(default_factory=list)
    contacts: np.ndarray = None
    models: dict = field(default_factory=dict)


def smooth_keypoints(keypoints, timestamps, valid, smoother=BOTH_WAYS):
    """The same keypoints with their body points steadied, in space and in the picture. `valid` [T, 4].

    Twist comes from the plane that two bones span, which turns far when a nearly straight limb shakes a little: what is steadied
    before the pose is solved costs less than what must be steadied after.
    smoother: `BOTH_WAYS`, or an `OnlineSmoother` where T = 1.
    """
    heights = (keypoints.person_box[:, 3] - keypoints.person_box[:, 1])[valid[:, 0]]
    height = max(np.median(heights), 1.0) if len(heights) else 1.0
    return replace(
        keypoints,
        body3d=smoother.positions("body3d", keypoints.body3d, timestamps, valid[:, 0], KEYPOINTS),
        body2d=smoother.positions("body2d", keypoints.body2d, timestamps, valid[:, 0], PICTURE.for_unit(height)),
    )


def solve_motion(keypoints, skeleton, matrix, valid, solver, near=None):
    """Joint rotations and the pelvis's place, by turns: pose, place, draw the keypoints onto their lines of sight.

    At the end the limbs themselves swing there.

    A detector's 3D points are seldom exactly under its 2D points. Those in the image are the surer ones, so each point keeps
    its depth and moves sideways onto its line of sight, as far as it is seen. solver: `IKNetSolver` or `AnalyticSolver`.
    near [3] m: where the middle of the hips stood a moment ago (`middle_of_hips`). From there one round does, for live capture.
    """
    weights = sight_weights(keypoints) * valid[:, :1]
    hands = solver.solve_hands(keypoints, skeleton)

    def lift(hips):
        drawn = draw_to_sight(keypoints, weights, hips, matrix)
        return bring_within_reach(drawn, weights, skeleton, matrix)

    if near is not None:
        keypoints = lift(np.broadcast_to(near, (len(valid), 3)))
    for _ in range(LIFT_ROUNDS if near is None else 1):
        rotations = solver.solve_pose(keypoints, skeleton, hands)
        posed = skeleton.pose(rotations)
        pelvis = _place_posed(skeleton, posed, keypoints, matrix)
        keypoints = lift(posed[0][:, HIPS].mean(1) + pelvis)
    rotations = swing_to_sight(rotations, pelvis, keypoints, weights, skeleton, matrix)
    pelvis = place(skeleton, rotations, keypoints, matrix)
    placed = np.isfinite(pelvis).all(1) & (pelvis[:, 2] > 0)
    return Motion(skeleton, rotations, pelvis, valid & placed[:, None])


def middle_of_hips(motion):
    """Where the middle between the hip joints stands in the camera frame, [T, 3] m: it turns with the pelvis."""
    rest = motion.skeleton.joints
    return motion.pelvis + motion.rotations[:, 0] @ (rest[HIPS].mean(0) - rest[0])


def sight_weights(keypoints):
    """How much each keypoint's pixel counts, [T, K] in 0..1: nothing for a guess, all for a point that is seen."""
    return smoothstep(keypoints.body_confidence, 0.3, 0.6)


def place(skeleton, rotations, keypoints, matrix):
    """Where the pelvis stands in the camera frame, [T, 3] m, so that the posed body covers the keypoints."""
    return _place_posed(skeleton, skeleton.pose(rotations), keypoints, matrix)


def _place_posed(skeleton, posed, keypoints, matrix):
    """`place` of a body that is posed already: joints and orientations as from `RestSkeleton.pose`."""
    tracked = list(TRACKED[keypoints.definition.name])
    points = skeleton.place(tracked_places(keypoints.definition), *posed)
    return solve_translation(points, keypoints.body2d[:, tracked], sight_weights(keypoints)[:, tracked], matrix)


def draw_to_sight(keypoints, share, hips, matrix):
    """Keypoints moved onto their lines of sight by their `share` [T, K] in 0..1.

    hips [T, 3] m is where the middle of the hips stands in the camera frame.
    """
    left, right = keypoints.definition.index("left_hip"), keypoints.definition.index("right_hip")
    placed = np.isfinite(hips).all(1) & (hips[:, 2] > 0)
    hips = np.where(placed[:, None], hips, [0.0, 0, 1])[:, None]
    points = keypoints.body3d - (keypoints.body3d[:, [left]] + keypoints.body3d[:, [right]]) / 2 + hips
    # A point cannot be nearer than a tenth of the body's distance: deeper than that is noise.
    depth = np.maximum(points[..., 2:], 0.1 * hips[..., 2:])
    share = share[..., None] * placed[:, None, None]
    return replace(keypoints, body3d=points + share * (rays(keypoints.body2d, matrix) * depth - points))


LARGEST_SWING = np.radians(45)
"""A keypoint farther off than this is a mistake."""

LIMB_BONES = tuple(
    (f"{side}_{parent}", f"{side}_{child}")
    for parent, child in (("shoulder", "elbow"), ("hip", "knee"), ("elbow", "wrist"), ("knee", "ankle"))
    for side in SIDES
)
"""From the trunk outwards: the first half hangs on the trunk, the second on the first. Joints and keypoints of these names are in
every body definition."""

_PARENTS = np.array(PARENTS)
HIPS = [JOINT_INDEX[f"{side}_hip"] for side in SIDES]


@lru_cache
def _limb_levels(names):
    """The bones of each half of LIMB_BONES as (parents [4], children [4]): their places among names."""
    bones = np.array([[names.index(end) for end in bone] for bone in LIMB_BONES])
    return [tuple(half.T) for half in np.split(bones, 2)]


def bring_within_reach(keypoints, share, skeleton, matrix):
    """Keypoints in which no limb is longer than the skeleton's, by their `share` [T, K] in 0..1. `body3d` is where they stand.

    A detector judges depth from what is usual: the forearm of somebody who reaches towards a near camera is then seen longer than
    it can be. Such a point comes nearer along its line of sight, until its bone reaches it or nothing more is gained.
    """
    points, sight = keypoints.body3d.copy(), rays(keypoints.body2d, matrix)
    for (parent, child), joints in zip(_limb_levels(keypoints.definition.names), _limb_levels(JOINT_NAMES)):
        length = np.linalg.norm(np.subtract(*skeleton.joints[list(joints)]), axis=-1)
        moved = _reachable(points[:, parent], points[:, child], sight[:, child], length)
        points[:, child] += share[:, child, None] * (moved - points[:, child])
    return replace(keypoints, body3d=points)


def _reachable(parent, child, sight, length):
    """child [T, N, 3] where its bone of `length` [N] m reaches it from parent [T, N, 3]; else moved along its `sight` [T, N, 3]."""
    stretch = np.linalg.norm(child - parent, axis=-1) / length
    moved = sight * _depth_within_reach(parent, child, sight, length)[..., None]
    # Bit by bit: bones as long as they should be are always a little too long or too short.
    return child + smoothstep(stretch, 1.0, 1.2)[..., None] * (moved - child)


def _depth_within_reach(parent, child, sight, length):
    """Depth [T, N] along `sight` [T, N, 3] nearest to the child's own at which it is `length` from its parent, or nearly.

    The roots of |z sight - parent| = length, which is Eq. 14 of Zhou et al. 2021 with the parent's place known.
    """
    squared, along = np.sum(sight**2, -1), np.sum(sight * parent, -1)
    root = np.sqrt(np.maximum(along**2 - squared * (np.sum(parent**2, -1) - length**2), 0))
    near, far = (along - root) / squared, (along + root) / squared
    return np.maximum(np.clip(child[..., 2], near, far), 0.1 * parent[..., 2])


def swing_to_sight(rotations, pelvis, keypoints, share, skeleton, matrix):
    """Rotations [T, 52, 3, 3] whose limbs end under their keypoints, as far as these are seen (share [T, K]).

    Depth is left as it was solved where the bone can reach, and so is every twist: each bone takes the shortest way, from the
    trunk outwards, and what hangs on it keeps its orientation. pelvis [T, 3] m.
    """
    rotations = rotations.copy()
    sight = rays(keypoints.body2d, matrix)
    standing = np.where(np.isfinite(pelvis), pelvis, 0)[:, None]
    for (_, keypoint), (parent, child) in zip(_limb_levels(keypoints.definition.names), _limb_levels(JOINT_NAMES)):
        joints, orientations = skeleton.pose(rotations)
        start, end, line = joints[:, parent] + standing, joints[:, child] + standing, sight[:, keypoint]
        length = np.linalg.norm(np.subtract(*skeleton.joints[[parent, child]]), axis=-1)
        target = _reachable(start, line * end[..., 2:], line, length)
        swing = fraction_of(shortest_arc(end - start, target - start), share[:, keypoint])
        turned = limit_angle(swing, LARGEST_SWING) @ orientations[:, parent]
        rotations[:, parent] = transpose(orientations[:, _PARENTS[parent]]) @ turned
        rotations[:, child] = transpose(turned) @ orientations[:, child]
    return rotations


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


def turn_head_to_face(motion, keypoints, matrix):
    """The motion with the head turned as the face says, where it is seen, and ever less beside; the neck takes half of the change.

    A network that has learned how people hold their heads smooths over how this one does.
    """
    found = found_heads(keypoints) & motion.valid[:, 0]
    if not found.any():
        return motion
    bridge = bridge_holes(found)
    face = bridge.rotations(np.where(found[:, None, None], keypoints.head_rotation, np.eye(3)))
    orientation = motion.skeleton.pose(motion.rotations)[1]
    chest, neck, head = (orientation[:, JOINT_INDEX[name]] for name in ("spine3", "neck", "head"))
    change = fraction_of(face @ transpose(head), bridge.trust)
    on_chest = limit_angle(transpose(chest) @ fraction_of(change, 0.5) @ neck, NECK_LIMIT)
    rotations = motion.rotations.copy()
    rotations[:, JOINT_INDEX["neck"]] = on_chest
    rotations[:, JOINT_INDEX["head"]] = limit_angle(transpose(chest @ on_chest) @ change @ head, NECK_LIMIT)
    turned = replace(motion, rotations=rotations)
    pelvis = place(turned.skeleton, rotations, keypoints, matrix)
    return replace(turned, pelvis=np.where(np.isfinite(pelvis), pelvis, motion.pelvis))


def smooth_motion(motion, timestamps, keypoints, matrix, smoother=BOTH_WAYS):
    """One-Euro over each part's valid frames.

    The pelvis is placed anew after its joints are smoothed: what the filter took from a trunk's turn would otherwise show as
    a slip of everything that hangs on it.
    """
    quaternions = matrix_to_quaternion(motion.rotations)
    for part, (name, joints) in enumerate(PART_JOINTS.items()):
        quaternions[:, joints] = smoother.rotations(name, quaternions[:, joints], timestamps, motion.valid[:, part])
    rotations = quaternion_to_matrix(quaternions)
    pelvis = smooth_place(replace(motion, rotations=rotations), timestamps, keypoints, matrix, smoother)
    return replace(motion, rotations=rotations, pelvis=pelvis)


def smooth_place(motion, timestamps, keypoints, matrix, smoother=BOTH_WAYS):
    """The pelvis's smoothed place [T, 3] m, from that of the middle of the points that are seen.

    One camera sees sideways motion sharply and distance dimly, so the two are filtered apart: the line of sight to the middle
    with a light hand, the logarithm of its distance with a firm one.
    """
    placed = place(motion.skeleton, motion.rotations, keypoints, matrix)
    pelvis = np.where(np.isfinite(placed), placed, motion.pelvis)
    weights = sight_weights(keypoints)[:, list(TRACKED[keypoints.definition.name])] + 1e-9
    points = motion.skeleton.tracked_points(keypoints.definition, motion.rotations)
    offset = (points * weights[..., None]).sum(1) / weights.sum(1, keepdims=True)
    middle = pelvis + offset
    valid = motion.valid[:, 0] & (middle[:, 2] > 0)
    depth = np.where(valid, middle[:, 2], 1.0)[:, None]
    sight = smoother.positions("sight", middle[:, :2] / depth, timestamps, valid, SIGHT)
    depth = np.exp(smoother.positions("depth", np.log(depth), timestamps, valid, DEPTH))
    smoothed = np.concatenate([sight * depth, depth], 1) - offset
    return np.where(valid[:, None], smoothed, pelvis)
