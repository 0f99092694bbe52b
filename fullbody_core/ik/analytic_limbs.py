"""The part of the closed form that every body definition shares: arms, legs and wrists, which hang on the trunk.

All definitions name shoulders, elbows, wrists, hips, knees and ankles alike. What else shows the trunk, the head, the feet and the
palms differs: a subclass says it.

Everything here is in two frames: rest (SMPL's) and camera. An *orientation* turns rest axes into the camera frame; joint
rotations are relative to the parent. Arrays lead with the frame axis T.
"""

from abc import ABC, abstractmethod
from functools import lru_cache

import numpy as np

from ..contract.easing import smoothstep
from ..contract.frames import axis_angle_to_matrix, cross, matrix_to_axis_angle
from ..contract.skeleton import BODY_JOINT_NAMES, BODY_JOINTS, BODY_PARENTS, JOINT_INDEX, JOINT_NAMES, SIDES
from ..contract.swing_twist import (
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
from .analytic_hand import palm_orientations

UP, LEFT, FORWARD = np.array([0.0, 1, 0]), np.array([1.0, 0, 0]), np.array([0.0, 0, 1])
"""Axes of the rest frame, named from the person."""

HANGING_ARMS = np.array([[0.15, -1, 0.05], [-0.15, -1, 0.05]])
"""Where arms that nobody sees are kept, in the chest's axes; the left one first."""

FOREARM_TWIST_LIMIT = np.radians(95)
"""Pronation and supination from the T-pose's flat palm, whose normal lies along the elbow's hinge: the neutral turn."""

HEAD_JOINTS, LEG_JOINTS, ARM_JOINTS = (
    [index for index, name in enumerate(BODY_JOINT_NAMES) if name.removeprefix("left_").removeprefix("right_") in names]
    for names in (("neck", "head"), ("hip", "knee", "ankle", "foot"), ("shoulder", "elbow", "wrist"))
)

NECK_LIMIT, COLLAR_LIMIT, ANKLE_LIMIT, WRIST_LIMIT = np.radians([85, 25, 60, 85])


class LimbSolver(ABC):
    """Fills joint orientations from the root outwards. Subclasses place the trunk and say where head, feet and palms point.

    orientation: [T, 3, 3] of a joint of the trunk by its name, [T, 2, 3, 3] of a limb's joint on both sides by its name without
    the side, the left one first. Whatever has two sides is solved for both at once.
    """

    def __init__(self, keypoints, skeleton):
        self.keypoints, self.definition = keypoints, keypoints.definition
        self.skeleton, self.rest_joints = skeleton, skeleton.joints
        self.frame_count = len(keypoints.body3d)
        self.orientation = {}

    def solve(self, wanted):
        """Parent-relative rotations [T, 52, 3, 3] with flat hands; of body joints that are not wanted [22] bool, any."""
        self.torso()
        for solve_part, joints in ((self.head, HEAD_JOINTS), (self.legs, LEG_JOINTS), (self.arms, ARM_JOINTS)):
            if wanted[joints].any():
                solve_part()
        return self.relative_rotations()

    @abstractmethod
    def torso(self):
        """Orientations of pelvis, spine and collars."""

    @abstractmethod
    def head(self):
        """Orientations of neck and head."""

    @abstractmethod
    def feet(self):
        """Where the feet point: (directions [T, 2, 3], the same at rest [2, 3], how far they are seen [T, 2])."""

    def palms(self):
        """How the palms are turned: (orientations [T, 2, 3, 3], in which frames that is known [T, 2] bool)."""
        return palm_orientations(self.keypoints.hand3d, self.rest_joints), self.keypoints.hand_confidence > 0

    def point(self, name):
        """A body keypoint [T, 3] m."""
        return self.keypoints.body3d[:, self.definition.index(name)]

    def both(self, name):
        """A body keypoint of both sides [T, 2, 3] m by its name without the side."""
        return self.keypoints.body3d.take(_both_sides(self.definition.names, name), 1)

    def seen(self, *names, given_up=(0.01, 0.1)):
        """How far a bone between these points may be believed, [T] in 0..1.

        A detector places hidden limbs plausibly, so only what it gives up altogether is replaced by a resting pose.
        """
        confidence = self.keypoints.body_confidence[:, [self.definition.index(name) for name in names]]
        return smoothstep(confidence.min(1), *given_up)

    def both_seen(self, *names):
        """`seen` of a bone on both sides, [T, 2], by names without the side."""
        places = np.stack([_both_sides(self.definition.names, name) for name in names])
        return smoothstep(self.keypoints.body_confidence[:, places].min(1), 0.01, 0.1)

    def rest_bone(self, parent, child):
        return unit(self.rest_joints[JOINT_INDEX[child]] - self.rest_joints[JOINT_INDEX[parent]])

    def both_rest_bones(self, parent, child):
        """Directions [2, 3] of a bone at rest on both sides, by names without the side."""
        parent, child = _both_sides(JOINT_NAMES, parent), _both_sides(JOINT_NAMES, child)
        return unit(self.rest_joints[child] - self.rest_joints[parent])

    def share(self, joints, start, relative):
        """Splits a turn evenly over a chain of joints."""
        parts = fraction_of(relative[:, None], np.arange(1, len(joints) + 1) / len(joints))
        for joint, part in zip(joints, np.moveaxis(start[:, None] @ parts, 1, 0)):
            self.orientation[joint] = part

    def legs(self):
        """Hip twist from the knee's hinge, which bends backwards only, and from the foot when the leg is straight."""
        pelvis = self.orientation["pelvis"][:, None]
        hip, knee, ankle = (self.both(name) for name in ("hip", "knee", "ankle"))
        down = rotate(pelvis, -UP)
        thigh = blend_directions(knee - hip, down, self.both_seen("hip", "knee"))
        shin = blend_directions(ankle - knee, thigh, self.both_seen("knee", "ankle"))
        rest_thigh, rest_shin = self.both_rest_bones("hip", "knee"), self.both_rest_bones("knee", "ankle")
        foot, rest_foot, foot_seen = self.feet()

        swing = shortest_arc(rotate(pelvis, rest_thigh), thigh) @ pelvis
        hinge = _knee_hinge(thigh, shin, foot, foot_seen, rotate(swing, LEFT))
        upper = axes_rotation(rest_thigh, LEFT, thigh, hinge)
        lower = shortest_arc(rotate(upper, rest_shin), shin) @ upper

        straight = rotate(lower, rest_foot)
        bend = limit_angle(shortest_arc(straight, blend_directions(foot, straight, foot_seen)), ANKLE_LIMIT)
        self.orientation["hip"], self.orientation["knee"] = upper, lower
        self.orientation["ankle"] = self.orientation["foot"] = bend @ lower

    def arms(self):
        """Shoulder twist from the elbow's hinge; a straight arm keeps the twist of the shortest swing from the collar."""
        chest, collar = self.orientation["spine3"][:, None], self.orientation["collar"]
        shoulder, elbow, wrist = (self.both(name) for name in ("shoulder", "elbow", "wrist"))
        hanging = rotate(chest, HANGING_ARMS)
        upper = blend_directions(elbow - shoulder, hanging, self.both_seen("shoulder", "elbow"))
        fore = blend_directions(wrist - elbow, upper, self.both_seen("elbow", "wrist"))
        rest_upper, rest_fore = self.both_rest_bones("shoulder", "elbow"), self.both_rest_bones("elbow", "wrist")

        # In the T-pose the forearm bends forwards: the hinge points down on the left arm and up on the right.
        rest_hinge = cross(rest_upper, FORWARD)
        swing = shortest_arc(rotate(collar, rest_upper), upper) @ collar
        bent = cross(upper, fore)
        hinge = blend_directions(bent, rotate(swing, rest_hinge), smoothstep(np.linalg.norm(bent, axis=-1), 0.2, 0.5))
        turned = axes_rotation(rest_upper, rest_hinge, upper, hinge)
        flexion = shortest_arc(rotate(turned, rest_fore), fore)
        self.orientation["shoulder"] = turned
        self.forearms(flexion @ turned)

    def forearms(self, forearm):
        """Wrists from the palms, half of their twist taken by the forearms [T, 2, 3, 3]."""
        axis = self.both_rest_bones("elbow", "wrist")
        palms, known = self.palms()
        swing, twist = _wrist_swing_twist(transpose(forearm) @ palms, axis, known)
        self.orientation["elbow"] = forearm @ about(axis, twist / 2)
        self.orientation["wrist"] = forearm @ swing @ about(axis, twist)

    def relative_rotations(self):
        """Parent-relative rotations [T, 52, 3, 3] with flat hands."""
        turned = np.tile(np.eye(3), (self.frame_count, len(BODY_JOINT_NAMES), 1, 1))
        for name, orientation in self.orientation.items():
            turned[:, JOINT_INDEX[name] if name in JOINT_INDEX else _both_sides(JOINT_NAMES, name)] = orientation
        rotations = np.empty((self.frame_count, len(JOINT_NAMES), 3, 3))
        rotations[:, BODY_JOINTS], rotations[:, BODY_JOINTS.stop :] = relative_to_parents(turned), np.eye(3)
        return rotations


@lru_cache
def _both_sides(names, name):
    """Where the left and the right one of a name without the side are among names, [2]."""
    return np.array([names.index(f"{side}_{name}") for side in SIDES])


def relative_to_parents(orientations):
    """Parent-relative rotations [T, 22, 3, 3] of the body's joints from their orientations in camera axes."""
    relative = transpose(orientations.take(np.maximum(BODY_PARENTS, 0), 1)) @ orientations
    relative[:, 0] = orientations[:, 0]
    return relative


def _knee_hinge(thigh, shin, foot, foot_seen, default):
    """Axes [T, 2, 3] about which the knees bend, pointing to the person's left.

    The crossing of thigh and shin is sharp for a bent knee and noise for a straight one, where the foot's heading decides. A
    knee does not bend forwards: a crossing that says so is depth noise and is left out.
    """
    bent = cross(thigh, shin)
    heading = cross(unit(foot), shin)
    side = default + heading * foot_seen[..., None]
    weight = smoothstep(np.linalg.norm(bent, axis=-1), 0.1, 0.5) * (np.sum(bent * side, -1) > 0)
    return unit(2 * weight[..., None] * unit(bent) + 0.5 * foot_seen[..., None] * heading + 0.3 * default)


def _wrist_swing_twist(relative, axis, found):
    """Hands relative to their forearms [T, 2, 3, 3] as swings [T, 2, 3, 3] and twist angles [T, 2] about the forearms' axes [2, 3].

    Where a hand is not `found` [T, 2] the wrist goes evenly from its last seen turn to its next, so that a hand that comes and
    goes does not snap; a hand that is never found stays in line with the forearm.
    """
    angle = twist_angle(relative, axis)
    swing = limit_angle(relative @ about(axis, -angle), WRIST_LIMIT)
    turns = np.concatenate([matrix_to_axis_angle(swing), _within_forearm_range(angle)[..., None]], -1)
    if not found.all():
        frames = np.arange(len(relative))
        for side, seen in enumerate(map(np.flatnonzero, found.T)):
            for column in turns[:, side].T:
                column[:] = np.interp(frames, seen, column[seen]) if len(seen) else 0
    return axis_angle_to_matrix(turns[..., :3]), turns[..., 3]


def _within_forearm_range(angle):
    """Twist angles [...] in (-pi, pi] brought into what a forearm can do.

    Beyond its limit the answer goes back to neutral, reached at half a turn: an angle there is a mistake of the elbow's hinge, of
    no use as evidence, and so the result has no jump where pi meets -pi.
    """
    beyond = FOREARM_TWIST_LIMIT * (np.pi - np.abs(angle)) / (np.pi - FOREARM_TWIST_LIMIT)
    return np.sign(angle) * np.minimum(np.abs(angle), beyond)
