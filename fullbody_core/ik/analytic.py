"""Closed-form inverse kinematics from BlazePose and hand keypoints to the 52 SMPL-H rotations.

Each bone's swing comes from its direction; its twist, which a bone's ends do not show, from the plane of the hinge below it
(elbow, knee) and, for the forearm, from the palm: the knuckles of index and little finger give the wrist, as in Hand4Whole
(Moon et al. 2022, Sec. 3.2). It needs no training and stays as the reference that IKNet (Zhou et al. 2021, Sec. 3.3) is
compared with.

Everything here is in two frames: rest (SMPL's) and camera. An *orientation* turns rest axes into the camera frame; joint
rotations are relative to the parent. Arrays lead with the frame axis T.
"""

import numpy as np

from ..contract.frames import axis_angle_to_matrix, matrix_to_axis_angle
from ..contract.skeleton import BLAZEPOSE_33, JOINT_INDEX, JOINT_NAMES, LEFT_HAND_JOINTS, PARENTS, RIGHT_HAND_JOINTS
from ..detect.keypoints import SIDES, Keypoints
from ..swing_twist import (
    about,
    axes_rotation,
    blend_directions,
    fraction_of,
    limit_angle,
    reject,
    rotate,
    shortest_arc,
    smoothstep,
    transpose,
    twist_angle,
    unit,
)
from .analytic_hand import palm_orientation, solve_fingers
from .face_mesh import head_from_mesh

UP, LEFT, FORWARD = np.array([0.0, 1, 0]), np.array([1.0, 0, 0]), np.array([0.0, 0, 1])
"""Axes of the rest frame, named from the person."""

HANGING_ARM = {"left": np.array([0.15, -1, 0.05]), "right": np.array([-0.15, -1, 0.05])}
"""Where an arm that nobody sees is kept, in the chest's axes."""

FOREARM_TWIST_LIMIT = np.radians(95)
"""Pronation and supination from the T-pose's flat palm, whose normal lies along the elbow's hinge: the neutral turn."""

EYES_ABOVE_MOUTH = np.array([0.0, np.cos(np.radians(9)), -np.sin(np.radians(9))])
"""From the mouth's corners to the eyes on an upright head: the mouth lies about 9 degrees further forward."""

FOOT_SLOPE = np.radians(15)
"""How much lower than its heel BlazePose puts the toe of a flat foot: 12 to 30 degrees on standing people, and less seen from
the side."""

NECK_LIMIT, COLLAR_LIMIT, ANKLE_LIMIT, WRIST_LIMIT = np.radians([85, 25, 60, 85])


def solve_pose(keypoints: Keypoints, rest_joints):
    """Rotations [T, 52, 3, 3] that bring the body of `rest_joints` [52, 3] m into the keypoints' pose.

    `keypoints` is a sequence in BLAZEPOSE_33. Frames where a part was not found get that part's resting pose; the caller
    knows from the confidences which they are. The answer is always finite.
    """
    solver = _BodySolver(keypoints, np.asarray(rest_joints, float))
    solver.torso()
    solver.head()
    for side in SIDES:
        solver.leg(side)
        solver.arm(side)
        solver.hand(side)
    return solver.relative_rotations()


class AnalyticSolver:
    """`solve_pose` for the pipeline, in the form that `IKNetSolver` has."""

    name = "analytic"
    sha256 = {}

    def solve_pose(self, keypoints, skeleton):
        """Rotations [T, 52, 3, 3] for a `RestSkeleton`."""
        return solve_pose(keypoints, skeleton.joints)


class _BodySolver:
    """Fills joint orientations from the root outwards."""

    def __init__(self, keypoints, rest_joints):
        self.keypoints = keypoints
        self.rest_joints = rest_joints
        self.frame_count = len(keypoints.body3d)
        self.orientation, self.fingers = {}, {}

    def point(self, name):
        """A BlazePose keypoint [T, 3] m."""
        return self.keypoints.body3d[:, BLAZEPOSE_33.index(name)]

    def seen(self, *names, given_up=(0.01, 0.1)):
        """How far a bone between these points may be believed, [T] in 0..1.

        BlazePose places hidden limbs plausibly, so only what it gives up altogether is replaced by a resting pose.
        """
        confidence = np.min([self.keypoints.body_confidence[:, BLAZEPOSE_33.index(name)] for name in names], axis=0)
        return smoothstep(confidence, *given_up)

    def rest_bone(self, parent, child):
        return unit(self.rest_joints[JOINT_INDEX[child]] - self.rest_joints[JOINT_INDEX[parent]])

    def torso(self):
        """Pelvis from the hip line, chest from the shoulder line, the spine's three joints sharing what lies between."""
        hips = self.point("left_hip") - self.point("right_hip")
        shoulders = self.point("left_shoulder") - self.point("right_shoulder")
        up = (
            self.point("left_shoulder") + self.point("right_shoulder") - self.point("left_hip") - self.point("right_hip")
        ) / 2
        # With the hips out of the picture the trunk is taken to be upright, and with nobody in it to face the camera.
        hips_seen = self.seen("left_hip", "right_hip", given_up=(0.001, 0.05))
        up = blend_directions(up, [0.0, -1, 0], hips_seen)
        shoulders = blend_directions(shoulders, [1.0, 0, 0], self.seen("left_shoulder", "right_shoulder"))
        hips = blend_directions(hips, shoulders, hips_seen)
        rest_up = self._middle("left_shoulder", "right_shoulder") - self._middle("left_hip", "right_hip")
        pelvis = axes_rotation(LEFT, rest_up, hips, up)
        along_spine = axes_rotation(rest_up, LEFT, up, shoulders)
        along_shoulders = axes_rotation(LEFT, rest_up, shoulders, up)
        # A slanting shoulder line is half a leaning chest and half raised collars; without hips to say, all of it is the chest.
        chest = along_spine @ fraction_of(transpose(along_spine) @ along_shoulders, 1 - 0.5 * hips_seen)
        for side in SIDES:
            self.orientation[f"{side}_collar"] = chest @ limit_angle(transpose(chest) @ along_shoulders, COLLAR_LIMIT)
        self._share(("spine1", "spine2", "spine3"), pelvis, transpose(pelvis) @ chest)
        self.orientation["pelvis"] = pelvis

    def _middle(self, a, b):
        return (self.rest_joints[JOINT_INDEX[a]] + self.rest_joints[JOINT_INDEX[b]]) / 2

    def _share(self, joints, start, relative):
        """Splits a turn evenly over a chain of joints."""
        for step, joint in enumerate(joints, 1):
            self.orientation[joint] = start @ fraction_of(relative, step / len(joints))

    def head(self):
        """Head from the face mesh where there is one, else from BlazePose's eyes, ears and mouth; the neck takes half."""
        chest = self.orientation["spine3"]
        ears = self.point("left_ear") - self.point("right_ear")
        eyes = self.point("left_eye_centre") + self.point("right_eye_centre")
        eyes_above_mouth = (eyes - self.point("left_mouth") - self.point("right_mouth")) / 2
        head = axes_rotation(LEFT, EYES_ABOVE_MOUTH, ears, eyes_above_mouth)
        meshed = head_from_mesh(self.keypoints.face3d)
        head = np.where((self.keypoints.face_confidence > 0)[:, None, None], meshed, head)
        relative = limit_angle(transpose(chest) @ head, NECK_LIMIT)
        relative = fraction_of(relative, self.seen("nose"))
        self._share(("neck", "head"), chest, relative)

    def leg(self, side):
        """Hip twist from the knee's hinge, which bends backwards only, and from the foot when the leg is straight."""
        pelvis = self.orientation["pelvis"]
        hip, knee, ankle = (self.point(f"{side}_{name}") for name in ("hip", "knee", "ankle"))
        down = rotate(pelvis, -UP)
        thigh = blend_directions(knee - hip, down, self.seen(f"{side}_hip", f"{side}_knee"))
        shin = blend_directions(ankle - knee, thigh, self.seen(f"{side}_knee", f"{side}_ankle"))
        rest_thigh = self.rest_bone(f"{side}_hip", f"{side}_knee")
        rest_shin = self.rest_bone(f"{side}_knee", f"{side}_ankle")
        foot = self.point(f"{side}_foot_index") - self.point(f"{side}_heel")
        foot_seen = self.seen(f"{side}_heel", f"{side}_foot_index")

        swing = shortest_arc(rotate(pelvis, rest_thigh), thigh) @ pelvis
        hinge = _knee_hinge(thigh, shin, foot, foot_seen, rotate(swing, LEFT))
        self.orientation[f"{side}_hip"] = axes_rotation(rest_thigh, LEFT, thigh, hinge)
        knee_turn = shortest_arc(rotate(self.orientation[f"{side}_hip"], rest_shin), shin)
        self.orientation[f"{side}_knee"] = knee_turn @ self.orientation[f"{side}_hip"]

        level_foot = unit(reject(self.rest_bone(f"{side}_ankle", f"{side}_foot"), UP))
        rest_foot = np.cos(FOOT_SLOPE) * level_foot - np.sin(FOOT_SLOPE) * UP
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
        index = SIDES.index(side)
        points, found = self.keypoints.hand3d[:, index], self.keypoints.hand_confidence[:, index] > 0
        forearm = self.orientation[f"{side}_elbow"]
        axis = self.rest_bone(f"{side}_elbow", f"{side}_wrist")
        palm = palm_orientation(points, self.rest_joints, side)
        swing, twist = _wrist_swing_twist(transpose(forearm) @ palm, axis, found)
        self.orientation[f"{side}_elbow"] = forearm @ about(axis, twist / 2)
        self.orientation[f"{side}_wrist"] = forearm @ swing @ about(axis, twist)
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
