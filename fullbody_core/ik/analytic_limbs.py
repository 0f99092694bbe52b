"""The part of the closed form that every body definition shares: arms, legs and wrists, which hang on the trunk.

All definitions name shoulders, elbows, wrists, hips, knees and ankles alike. What else shows the trunk, the head, the feet and the
palms differs: a subclass says it.

Everything here is in two frames: rest (SMPL's) and camera. An *orientation* turns rest axes into the camera frame; joint
rotations are relative to the parent. Arrays lead with the frame axis T.
"""

from abc import ABC, abstractmethod

import numpy as np

from ..contract.easing import smoothstep
from ..contract.frames import axis_angle_to_matrix, matrix_to_axis_angle
from ..contract.skeleton import JOINT_INDEX, JOINT_NAMES, LEFT_HAND_JOINTS, PARENTS, RIGHT_HAND_JOINTS, SIDES
from ..swing_twist import (
    about,
    axes_rotation,
    blend_directions,
    fraction_of,
    limit_angle,
    rotate,
    shortest_arc,
    transpose,
    twist_angle,
    unit,
)
from .analytic_hand import palm_orientation, solve_fingers

UP, LEFT, FORWARD = np.array([0.0, 1, 0]), np.array([1.0, 0, 0]), np.array([0.0, 0, 1])
"""Axes of the rest frame, named from the person."""

HANGING_ARM = {"left": np.array([0.15, -1, 0.05]), "right": np.array([-0.15, -1, 0.05])}
"""Where an arm that nobody sees is kept, in the chest's axes."""

FOREARM_TWIST_LIMIT = np.radians(95)
"""Pronation and supination from the T-pose's flat palm, whose normal lies along the elbow's hinge: the neutral turn."""

NECK_LIMIT, COLLAR_LIMIT, ANKLE_LIMIT, WRIST_LIMIT = np.radians([85, 25, 60, 85])


class LimbSolver(ABC):
    """Fills joint orientations from the root outwards. Subclasses place the trunk and say where head, feet and palms point."""

    def __init__(self, keypoints, skeleton):
        self.keypoints, self.definition = keypoints, keypoints.definition
        self.skeleton, self.rest_joints = skeleton, skeleton.joints
        self.frame_count = len(keypoints.body3d)
        self.orientation, self.fingers = {}, {}

    def solve(self):
        """Parent-relative rotations [T, 52, 3, 3]."""
        self.torso()
        self.head()
        for side in SIDES:
            self.leg(side)
            self.arm(side)
            self.hand(side)
        return self.relative_rotations()

    @abstractmethod
    def torso(self):
        """Orientations of pelvis, spine and collars."""

    @abstractmethod
    def head(self):
        """Orientations of neck and head."""

    @abstractmethod
    def foot(self, side):
        """Where a foot points: (directions [T, 3], the same at rest [3], how far it is seen [T])."""

    def palm(self, side):
        """How a palm is turned: (orientations [T, 3, 3], in which frames that is known [T] bool)."""
        points, found = self.hand_points(side)
        return palm_orientation(points, self.rest_joints, side), found

    def hand_points(self, side):
        """(The hand detector's points [T, 21, 3], where it found the hand [T] bool)."""
        index = SIDES.index(side)
        return self.keypoints.hand3d[:, index], self.keypoints.hand_confidence[:, index] > 0

    def point(self, name):
        """A body keypoint [T, 3] m."""
        return self.keypoints.body3d[:, self.definition.index(name)]

    def seen(self, *names, given_up=(0.01, 0.1)):
        """How far a bone between these points may be believed, [T] in 0..1.

        A detector places hidden limbs plausibly, so only what it gives up altogether is replaced by a resting pose.
        """
        confidence = np.min([self.keypoints.body_confidence[:, self.definition.index(name)] for name in names], axis=0)
        return smoothstep(confidence, *given_up)

    def rest_bone(self, parent, child):
        return unit(self.rest_joints[JOINT_INDEX[child]] - self.rest_joints[JOINT_INDEX[parent]])

    def share(self, joints, start, relative):
        """Splits a turn evenly over a chain of joints."""
        for step, joint in enumerate(joints, 1):
            self.orientation[joint] = start @ fraction_of(relative, step / len(joints))

    def leg(self, side):
        """Hip twist from the knee's hinge, which bends backwards only, and from the foot when the leg is straight."""
        pelvis = self.orientation["pelvis"]
        hip, knee, ankle = (self.point(f"{side}_{name}") for name in ("hip", "knee", "ankle"))
        down = rotate(pelvis, -UP)
        thigh = blend_directions(knee - hip, down, self.seen(f"{side}_hip", f"{side}_knee"))
        shin = blend_directions(ankle - knee, thigh, self.seen(f"{side}_knee", f"{side}_ankle"))
        rest_thigh = self.rest_bone(f"{side}_hip", f"{side}_knee")
        rest_shin = self.rest_bone(f"{side}_knee", f"{side}_ankle")
        foot, rest_foot, foot_seen = self.foot(side)

        swing = shortest_arc(rotate(pelvis, rest_thigh), thigh) @ pelvis
        hinge = _knee_hinge(thigh, shin, foot, foot_seen, rotate(swing, LEFT))
        self.orientation[f"{side}_hip"] = axes_rotation(rest_thigh, LEFT, thigh, hinge)
        knee_turn = shortest_arc(rotate(self.orientation[f"{side}_hip"], rest_shin), shin)
        self.orientation[f"{side}_knee"] = knee_turn @ self.orientation[f"{side}_hip"]

        straight = rotate(self.orientation[f"{side}_knee"], rest_foot)
        bend = limit_angle(shortest_arc(straight, blend_directions(foot, straight, foot_seen)), ANKLE_LIMIT)
        self.orientation[f"{side}_ankle"] = bend @ self.orientation[f"{side}_knee"]
        self.orientation[f"{side}_foot"] = self.orientation[f"{side}_ankle"]

    def arm(self, side):
        """Shoulder twist from the elbow's hinge; a straight arm keeps the twist of the shortest swing from the collar."""
        chest, collar = self.orientation["spine3"], self.orientation[f"{side}_collar"]
        shoulder, elbow, wrist = (self.point(f"{side}_{name}") for name in ("shoulder", "elbow", "wrist"))
        hanging = rotate(chest, HANGING_ARM[side])
        upper = blend_directions(elbow - shoulder, hanging, self.seen(f"{side}_shoulder", f"{side}_elbow"))
        fore = blend_directions(wrist - elbow, upper, self.seen(f"{side}_elbow", f"{side}_wrist"))
        rest_upper = self.rest_bone(f"{side}_shoulder", f"{side}_elbow")
        rest_fore = self.rest_bone(f"{side}_elbow", f"{side}_wrist")

        # In the T-pose the forearm bends forwards: the hinge points down on the left arm and up on the right.
        rest_hinge = np.cross(rest_upper, FORWARD)
        swing = shortest_arc(rotate(collar, rest_upper), upper) @ collar
        bent = np.cross(upper, fore)
        hinge = blend_directions(bent, rotate(swing, rest_hinge), smoothstep(np.linalg.norm(bent, axis=-1), 0.2, 0.5))
        self.orientation[f"{side}_shoulder"] = axes_rotation(rest_upper, rest_hinge, upper, hinge)
        flexion = shortest_arc(rotate(self.orientation[f"{side}_shoulder"], rest_fore), fore)
        self.orientation[f"{side}_elbow"] = flexion @ self.orientation[f"{side}_shoulder"]

    def hand(self, side):
        """Wrist from the palm, half of its twist taken by the forearm; fingers within their limits."""
        forearm = self.orientation[f"{side}_elbow"]
        axis = self.rest_bone(f"{side}_elbow", f"{side}_wrist")
        palm, known = self.palm(side)
        swing, twist = _wrist_swing_twist(transpose(forearm) @ palm, axis, known)
        self.orientation[f"{side}_elbow"] = forearm @ about(axis, twist / 2)
        self.orientation[f"{side}_wrist"] = forearm @ swing @ about(axis, twist)
        points, found = self.hand_points(side)
        fingers = solve_fingers(points, palm, self.rest_joints, side)
        self.fingers[side] = np.where(found[:, None, None, None], fingers, np.eye(3))

    def relative_rotations(self):
        """Parent-relative rotations [T, 52, 3, 3]."""
        rotations = np.empty((self.frame_count, len(PARENTS), 3, 3))
        for name, orientation in self.orientation.items():
            joint = JOINT_INDEX[name]
            parent = PARENTS[joint]
            rotations[:, joint] = (
                orientation if parent < 0 else transpose(self.orientation[JOINT_NAMES[parent]]) @ orientation
            )
        rotations[:, LEFT_HAND_JOINTS], rotations[:, RIGHT_HAND_JOINTS] = self.fingers["left"], self.fingers["right"]
        return rotations


def _knee_hinge(thigh, shin, foot, foot_seen, default):
    """Axis [T, 3] about which the knee bends, pointing to the person's left.

    The crossing of thigh and shin is sharp for a bent knee and noise for a straight one, where the foot's heading decides. A
    knee does not bend forwards: a crossing that says so is depth noise and is left out.
    """
    bent = np.cross(thigh, shin)
    heading = np.cross(unit(foot), shin)
    side = default + heading * foot_seen[..., None]
    weight = smoothstep(np.linalg.norm(bent, axis=-1), 0.1, 0.5) * (np.sum(bent * side, -1) > 0)
    return unit(2 * weight[..., None] * unit(bent) + 0.5 * foot_seen[..., None] * heading + 0.3 * default)


def _wrist_swing_twist(relative, axis, found):
    """Hand relative to forearm [T, 3, 3] as swing [T, 3, 3] and twist angle [T] about the forearm's `axis`.

    Where the hand is not `found` [T] the wrist goes evenly from its last seen turn to its next, so that a hand that comes and
    goes does not snap; a hand that is never found stays in line with the forearm.
    """
    if not found.any():
        return np.broadcast_to(np.eye(3), relative.shape), np.zeros(len(relative))
    seen = np.flatnonzero(found)
    angle = twist_angle(relative[seen], axis)
    swing = limit_angle(relative[seen] @ about(axis, -angle), WRIST_LIMIT)
    turns = np.column_stack([matrix_to_axis_angle(swing), _within_forearm_range(angle)])
    frames = np.arange(len(relative))
    turns = np.column_stack([np.interp(frames, seen, column) for column in turns.T])
    return axis_angle_to_matrix(turns[:, :3]), turns[:, 3]


def _within_forearm_range(angle):
    """Twist angles [N] in (-pi, pi] brought into what a forearm can do.

    Beyond its limit the answer goes back to neutral, reached at half a turn: an angle there is a mistake of the elbow's hinge, of
    no use as evidence, and so the result has no jump where pi meets -pi.
    """
    beyond = FOREARM_TWIST_LIMIT * (np.pi - np.abs(angle)) / (np.pi - FOREARM_TWIST_LIMIT)
    return np.sign(angle) * np.minimum(np.abs(angle), beyond)
