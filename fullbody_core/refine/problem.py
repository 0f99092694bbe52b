"""The whole-clip refinement's unknowns, and how the points of a posed body follow them.

All of it is in the *reference camera's* frame: the axes of the shot's first frame, metres. A frame has 69 unknowns: a step of the
root's place, and for each of the body's 22 joints a small turn about that joint, a rotation vector in reference axes, that takes
along everything which hangs on it. Where p is carried by joint c and j is c or one of its ancestors,

    d p / d turn_j = -[p - joint_j]x,        d p / d step = I,

so that Jacobians are closed forms of the posed points alone, and a turn moves a joint's own rotation and no other's. What is one
for the whole clip (the shape, the focal length) follows in a few columns of its own.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import median_filter

from ..contract.easing import smoothstep
from ..contract.frames import axis_angle_to_matrix, forward_kinematics_by_level, matrix_to_quaternion, quaternion_to_matrix
from ..contract.skeleton import BODY_JOINT_NAMES, BODY_JOINTS, BODY_PARENTS, HAND_21, JOINT_INDEX, PARENTS, SIDES
from ..contract.swing_twist import rotate, transpose
from ..ik.face_mesh import found_heads
from ..ik.rest_skeleton import SOLE_PLACES, TRACKED, RestSkeleton, tracked_places

JOINTS = len(BODY_JOINT_NAMES)
UNKNOWNS = 3 + 3 * JOINTS
"""Of a frame: the root's step, then each joint's turn."""

PEG = 0.1
"""m, forwards at rest: how far off its joint stands a point that shows how a limb is twisted."""

PEGGED = tuple(f"{side}_{name}" for name in ("shoulder", "elbow", "hip", "knee") for side in SIDES) + ("spine1", "spine2")
"""Joints whose other points lie along one line, or are their children's alone."""

MARKERS = ("nose", "left_ear", "right_ear") + tuple(f"{side}_{name}" for side in SIDES for name in ("index1", "pinky1"))
"""Points that show how head and hands are turned; the soles do it for the feet."""

_PARENTS = np.array(BODY_PARENTS)


def _ancestry():
    """[J, J] bool: whether the second joint is the first one or one of its ancestors."""
    carried = np.eye(JOINTS, dtype=bool)
    for joint, parent in enumerate(BODY_PARENTS):
        if parent >= 0:
            carried[joint] |= carried[parent]
    return carried


ANCESTRY = _ancestry()


@dataclass(frozen=True)
class BodyPoints:
    """Points of a body and the joints that carry them, as functions of the shape.

    names [P]: JOINTS joints first, then pegs, markers, soles and what is observed, each as often as it is asked for.
    carriers [P]: one of the 22 joints; bones [22, 3] m: from each joint's parent; offsets [P, 3] m: from the carrier at rest;
    bone_directions [22, 3, B], offset_directions [P, 3, B] m: how they follow the betas.
    soles, observed: slices of P; every point before `observed` is kept smooth.
    """

    names: tuple
    carriers: np.ndarray
    bones: np.ndarray
    offsets: np.ndarray
    bone_directions: np.ndarray
    offset_directions: np.ndarray
    soles: slice
    observed: slice

    @classmethod
    def of_body(cls, body, observed):
        """The points of a `BodyModelFile` at its mean shape; observed: names of joints or landmarks."""
        names = BODY_JOINT_NAMES + PEGGED + MARKERS + SOLE_PLACES + tuple(observed)
        soles = JOINTS + len(PEGGED) + len(MARKERS)
        count = body.joint_shapedirs.shape[-1]
        mean, *ones = (_at_rest(RestSkeleton.of_body(body, betas), names) for betas in np.eye(count + 1, count, -1))
        carriers, bones, offsets = mean
        return cls(
            names=names,
            carriers=carriers,
            bones=bones,
            offsets=offsets,
            bone_directions=np.stack([one[1] - bones for one in ones], -1),
            offset_directions=np.stack([one[2] - offsets for one in ones], -1),
            soles=slice(soles, soles + len(SOLE_PLACES)),
            observed=slice(soles + len(SOLE_PLACES), len(names)),
        )

    def shaped(self, betas):
        """(bones [22, 3], offsets [P, 3]) m of a person."""
        return self.bones + self.bone_directions @ betas, self.offsets + self.offset_directions @ betas


def _at_rest(skeleton, names):
    """(carriers [P], bones [22, 3] m, offsets [P, 3] m) of a `RestSkeleton`'s points, whose hands move with the wrist alone."""
    joints = skeleton.joints[BODY_JOINTS]
    carriers, offsets = [], []
    pegged = range(JOINTS, JOINTS + len(PEGGED))
    for index, name in enumerate(names):
        carrier, place = (
            skeleton.landmarks[name] if name not in JOINT_INDEX else (JOINT_INDEX[name], skeleton.at_rest([name])[0])
        )
        while carrier >= JOINTS:
            carrier = PARENTS[carrier]
        carriers.append(carrier)
        offsets.append(place - joints[carrier] + (np.array([0, 0, PEG]) if index in pegged else 0))
    bones = joints - joints[np.maximum(_PARENTS, 0)]
    return np.array(carriers), bones, np.array(offsets)


@dataclass(frozen=True)
class Pose:
    """A body's pose and place over T frames, and its shape.

    root [T, 3] m; rotations [T, 22, 3, 3], the root's into the reference frame, the others parent-relative; betas [B];
    log_focal: logarithm of the focal length over the one that was given.
    """

    root: np.ndarray
    rotations: np.ndarray
    betas: np.ndarray
    log_focal: float = 0.0

    def stepped(self, step, shape_step=None):
        """The pose after steps [T, 69] of the unknowns and, where it is given, one [B + 1] of betas and log focal length."""
        turns = axis_angle_to_matrix(step[:, 3:].reshape(len(step), JOINTS, 3))
        orientations = _orientations(self.rotations)
        parents = np.concatenate([np.broadcast_to(np.eye(3), (len(step), 1, 3, 3)), orientations[:, _PARENTS[1:]]], 1)
        rotations = transpose(parents) @ turns @ parents @ self.rotations
        moved = replace(self, root=self.root + step[:, :3], rotations=rotations)
        if shape_step is None:
            return moved
        return replace(moved, betas=self.betas + shape_step[:-1], log_focal=self.log_focal + float(shape_step[-1]))

    def tidy(self):
        """The same with rotations that are orthogonal to rounding, which many small steps leave them not."""
        return replace(self, rotations=quaternion_to_matrix(matrix_to_quaternion(self.rotations)))

    def take(self, frames):
        """The frames of a slice."""
        return replace(self, root=self.root[frames], rotations=self.rotations[frames])


def _orientations(rotations):
    return forward_kinematics_by_level(np.zeros((JOINTS, 3)), rotations, BODY_PARENTS)[1]


@dataclass(frozen=True)
class Posed:
    """A `Pose` carried out. joints [T, 22, 3] m, orientations [T, 22, 3, 3], points [T, P, 3] m in the reference frame."""

    pose: Pose
    body: BodyPoints
    joints: np.ndarray
    orientations: np.ndarray
    points: np.ndarray

    @classmethod
    def of(cls, pose, body):
        bones, offsets = body.shaped(pose.betas)
        # The rest joints that the bones add up to; the root stands at zero.
        rest = ANCESTRY[:, 1:] @ bones[1:]
        joints, orientations = forward_kinematics_by_level(rest, pose.rotations, BODY_PARENTS)
        joints = joints + pose.root[:, None]
        points = joints[:, body.carriers] + rotate(orientations[:, body.carriers], offsets)
        return cls(pose, body, joints, orientations, points)

    @property
    def soles(self):
        """[T, 2, 3, 3] m: of each side the heel, the ball and the toe."""
        return self.points[:, self.body.soles].reshape(len(self.points), 2, 3, 3)

    def jacobian(self, kind=np.float64):
        """d points / d unknowns, [T, P, 3, 69], as numbers of a kind: float32 is enough to step by, and twice as fast."""
        arm = (self.points[:, :, None] - self.joints[:, None]) * ANCESTRY[self.body.carriers][None, :, :, None]
        x, y, z = np.moveaxis(arm, -1, 0)
        jacobian = np.zeros(self.points.shape + (JOINTS + 1, 3), kind)
        jacobian[..., 0, :] = np.eye(3)
        jacobian[:, :, 0, 1:, 1], jacobian[:, :, 0, 1:, 2] = z, -y
        jacobian[:, :, 1, 1:, 0], jacobian[:, :, 1, 1:, 2] = -z, x
        jacobian[:, :, 2, 1:, 0], jacobian[:, :, 2, 1:, 1] = y, -x
        return jacobian.reshape(self.points.shape + (UNKNOWNS,))

    def shape_jacobian(self):
        """d points / d betas, [T, P, 3, B]."""
        moved = np.zeros(self.joints.shape + (self.body.bone_directions.shape[-1],))
        for joint in range(1, JOINTS):
            parent = BODY_PARENTS[joint]
            moved[:, joint] = moved[:, parent] + self.orientations[:, parent] @ self.body.bone_directions[joint]
        carriers = self.body.carriers
        return moved[:, carriers] + self.orientations[:, carriers] @ self.body.offset_directions


KNUCKLES = ("index", "pinky")
"""Of the hand detector's: these show how the wrist is turned."""

SIZE_SECONDS = 1.0
"""s over which a person's size in the picture is the middle of what the boxes say: a crouch makes nobody smaller."""


@dataclass(frozen=True)
class Observations:
    """What a detector saw of a person in T frames, in the terms of the body.

    timestamps [T] s; pixels [T, K, 2]; weights [T, K] in 0..1; places: K names of joints or landmarks; matrix [3, 3] of the camera;
    camera_turns [T, 3, 3]: from the reference camera to each frame's; size [T] px: of the person; seen [T] bool;
    face_turned [T] in 0..1: how surely the start's head is turned as its face says.
    """

    timestamps: np.ndarray
    pixels: np.ndarray
    weights: np.ndarray
    places: tuple
    matrix: np.ndarray
    camera_turns: np.ndarray
    size: np.ndarray
    seen: np.ndarray
    face_turned: np.ndarray

    @classmethod
    def of(cls, keypoints, timestamps, matrix, camera_turns=None, seen=None):
        """From `Keypoints` of T frames: the body's points that have a place on it, and the hand detector's knuckles."""
        frames = len(timestamps)
        seen = np.ones(frames, bool) if seen is None else seen
        tracked = list(TRACKED[keypoints.definition.name])
        knuckles = [HAND_21.index(f"{finger}_mcp") for finger in KNUCKLES]
        hands = np.repeat(smoothstep(keypoints.hand_confidence, 0.3, 0.6), len(knuckles), 1)
        weights = np.concatenate([smoothstep(keypoints.body_confidence[:, tracked], 0.3, 0.6), hands], 1)
        pixels = np.concatenate([keypoints.body2d[:, tracked], keypoints.hand2d[:, :, knuckles].reshape(frames, -1, 2)], 1)
        return cls(
            timestamps=np.asarray(timestamps, float),
            pixels=pixels,
            weights=weights * seen[:, None],
            places=tracked_places(keypoints.definition) + tuple(f"{side}_{name}1" for side in SIDES for name in KNUCKLES),
            matrix=np.asarray(matrix, float),
            camera_turns=np.broadcast_to(np.eye(3), (frames, 3, 3)) if camera_turns is None else camera_turns,
            size=_person_size(keypoints.person_box, timestamps, seen),
            seen=seen,
            face_turned=np.where(seen & found_heads(keypoints), 1.0, 0.0),
        )

    def take(self, frames):
        """The frames of a slice or an array of indices."""
        per_frame = ("timestamps", "pixels", "weights", "camera_turns", "size", "seen", "face_turned")
        return replace(self, **{name: getattr(self, name)[frames] for name in per_frame})


def _person_size(boxes, timestamps, seen):
    """[T] px: the middle over a second of the height of person boxes [T, 4]; frames without one have their neighbours'."""
    height = boxes[:, 3] - boxes[:, 1]
    known = seen & (height > 0)
    if not known.any():
        return np.ones(len(boxes))
    height = np.interp(timestamps, np.asarray(timestamps)[known], height[known])
    step = np.median(np.diff(timestamps)) if len(timestamps) > 1 else 1.0
    width = 2 * int(SIZE_SECONDS / 2 / max(step, 1e-3)) + 1
    return median_filter(height, min(width, 2 * len(height) - 1), mode="nearest")
