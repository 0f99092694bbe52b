"""Inverse kinematics by BodyIKNet and HandIKNet (Zhou et al. 2021, Sec. 3.3): a whole clip in two calls.

There is a BodyIKNet for each definition of body keypoints, which reads the hand detector's knuckles with them, and one HandIKNet
for a left hand. This file brings a detector's `Keypoints` to that form and the answers back to SMPL-H's 52 joints.
"""

from dataclasses import dataclass

import numpy as np
import torch

from ..contract.easing import smoothstep
from ..contract.frames import MIRROR, matrix_to_quaternion, quaternion_to_matrix, slerp_quaternions
from ..contract.skeleton import (
    BLAZEPOSE_33,
    BODY_JOINT_NAMES,
    BODY_JOINTS,
    BODY_PARENTS,
    HAND_21,
    JOINT_INDEX,
    JOINT_NAMES,
    LEFT_HAND_JOINTS,
    RIGHT_HAND_JOINTS,
    SIDES,
    SMPL_33,
)
from ..detect.keypoints import Keypoints
from ..networks.iknet import IKNet
from ..swing_twist import about, fraction_of, nearest_rotation, transpose, twist_angle, unit
from ..weights import WeightsUnsuited, load_shipped
from .analytic import solve_pose
from .face_mesh import with_found_head
from .holes import bridge_holes
from .rest_skeleton import RestSkeleton, hand_places, keypoint_places

BODY_WEIGHTS = {BLAZEPOSE_33.name: "body-iknet-blazepose", SMPL_33.name: "body-iknet-smpl"}
"""The shipped BodyIKNet for each definition that a body detector speaks."""

HAND_WEIGHTS = "hand-iknet"

FEET = {BLAZEPOSE_33.name: ("ankle", "heel", "foot_index"), SMPL_33.name: ("ankle", "foot", "big_toe")}
"""Keypoints of each definition, but for the side, that show how a foot is turned."""

SAME_BODY = 5e-3
"""m. A body whose keypoints at rest lie this near to the trained one's, at its mean shape, has its joints in the same places."""

CHUNK = 1024
"""Frames in one call: as fast as any larger number, and memory does not grow with the clip."""

_KNUCKLE_NAMES = [f"{finger}_mcp" for finger in ("index", "middle", "ring", "pinky")]
_KNUCKLES = [HAND_21.index(name) for name in _KNUCKLE_NAMES]


def load_iknet(weights_id):
    """(network, reference [K, 3] m, sha256) of a shipped IKNet. Raises `WeightsError` or `FileError`."""
    tensors, metadata, sha256 = load_shipped(weights_id)
    return *IKNet.from_tensors(tensors, metadata), sha256


@dataclass
class IKNetSolver:
    """BodyIKNet and HandIKNet with their weights. sha256: of the weight files, by id."""

    body_network: IKNet
    hand_network: IKNet
    sha256: dict

    name = "iknet"

    @classmethod
    def load(cls, body, definition):
        """From the shipped weights, for `BodyModelFile` body and a detector's `KeypointDefinition`. Raises `WeightsError`."""
        networks, sha256 = [], {}
        mean = RestSkeleton.of_body(body, np.zeros(body.shapedirs.shape[-1]))
        for weights_id in (BODY_WEIGHTS[definition.name], HAND_WEIGHTS):
            network, reference, sha256[weights_id] = load_iknet(weights_id)
            apart = np.linalg.norm(_centred(rest_keypoints(mean, network.layout)) - _centred(reference.numpy()), axis=-1)
            if apart.max() > SAME_BODY:
                raise WeightsUnsuited("IKNet was trained on the open body, and this is another one.")
            networks.append(network)
        return cls(*networks, sha256)

    def solve_pose(self, keypoints, skeleton):
        """Rotations [T, 52, 3, 3] that bring the body of `RestSkeleton` skeleton into the keypoints' pose.

        The pelvis's rotation turns rest axes into the camera's, the others are relative to their parents. A hand that was not
        found stays flat; a limb that the detector gave up rests as in the closed form. The answer is always finite.
        """
        layout = self.body_network.layout
        points, confidence = body_points(with_found_head(keypoints, skeleton), skeleton, layout.definition)
        rotations = np.broadcast_to(np.eye(3), (len(points), len(JOINT_NAMES), 3, 3)).copy()
        rotations[:, BODY_JOINTS] = self._run(self.body_network, points, confidence, skeleton)[0]
        trust = joint_trust(keypoints)
        if (trust < 1).any():
            rotations = blend_orientations(solve_pose(keypoints, skeleton), rotations, trust, skeleton)
        for side, joints in zip(SIDES, (LEFT_HAND_JOINTS, RIGHT_HAND_JOINTS)):
            found = keypoints.hand_confidence[:, SIDES.index(side)] > 0
            fingers = self._solve_hand(keypoints, side, skeleton)
            rotations[:, joints] = np.where(found[:, None, None, None], fingers, np.eye(3))
            palm = fit_palm(keypoints, rotations, side, skeleton)
            rotations = turn_wrist(rotations, palm, found, side, skeleton)
        return rotations

    def _solve_hand(self, keypoints, side, skeleton):
        """Finger rotations [T, 15, 3, 3] of one hand; a right one goes through the network as a left one."""
        index = SIDES.index(side)
        points = keypoints.hand3d[:, index]
        confidence = np.broadcast_to((keypoints.hand_confidence[:, index] > 0)[:, None], points.shape[:2]).astype(float)
        reference = skeleton.at_rest(hand_places(side))
        if side == "right":
            points, reference = points @ MIRROR, reference @ MIRROR
        fingers = run_network(self.hand_network, points, confidence, reference)[0][:, 1:]
        return MIRROR @ fingers @ MIRROR if side == "right" else fingers

    def _run(self, network, points, confidence, skeleton):
        return run_network(network, points, confidence, rest_keypoints(skeleton, network.layout))


def run_network(network, points, confidence, reference):
    """(rotations [T, J, 3, 3], betas [T, 16], scale [T]) of an IKNet as float64 arrays.

    points [T, K, 3] m; confidence [T, K]; reference [K, 3] m, the same person at rest.
    """
    answers = []
    reference = torch.as_tensor(np.ascontiguousarray(reference), dtype=torch.float32)
    with torch.inference_mode():
        for start in range(0, max(len(points), 1), CHUNK):
            part = torch.as_tensor(np.ascontiguousarray(points[start : start + CHUNK]), dtype=torch.float32)
            seen = torch.as_tensor(np.ascontiguousarray(confidence[start : start + CHUNK]), dtype=torch.float32)
            answers.append(network(part, seen, reference.expand(len(part), -1, -1)))
    return tuple(torch.cat(items).double().numpy() for items in zip(*answers))


def rest_keypoints(skeleton, layout):
    """Where a layout's keypoints lie at rest, [K, 3] m."""
    return skeleton.at_rest(keypoint_places(layout.definition))


def _centred(points):
    return points - points.mean(0)


def body_points(keypoints: Keypoints, skeleton, definition):
    """Points [T, K, 3] m and confidences [T, K] in BodyIKNet's `definition`, which holds the detector's own and knuckles.

    The knuckles are the hand detector's, put onto the body's wrist in the size that the skeleton's palm has. Where the hand was
    not found they change over bit by bit to the body detector's, or, if it has none, are their neighbours' in time.
    """
    own = np.array([definition.index(name) for name in keypoints.definition.names])
    points = np.zeros((len(keypoints.body3d), len(definition), 3))
    confidence = np.zeros(points.shape[:2])
    points[:, own], confidence[:, own] = keypoints.body3d, keypoints.body_confidence
    for index, side in enumerate(SIDES):
        hand = keypoints.hand3d[:, index]
        bridge = bridge_holes(keypoints.hand_confidence[:, index] > 0)
        knuckles = bridge.vectors(hand[:, _KNUCKLES] - hand[:, :1])
        rest = skeleton.at_rest(hand_places(side))
        palm = np.linalg.norm(rest[_KNUCKLES] - rest[0], axis=-1).sum()
        size = palm / np.maximum(np.linalg.norm(knuckles, axis=-1).sum(-1), 1e-6)
        wrist = keypoints.body3d[:, keypoints.definition.index(f"{side}_wrist")]
        knuckles = wrist[:, None] + knuckles * size[:, None, None]
        places, fingers = _knuckle_places(definition, side)
        trust = np.repeat(bridge.trust[:, None], len(places), 1)
        share = np.where(np.isin(places, own), trust, 1.0)
        points[:, places] += share[..., None] * (knuckles[:, fingers] - points[:, places])
        confidence[:, places] += share * (np.where(np.isin(places, own), 1.0, trust) - confidence[:, places])
    return points, confidence


def _knuckle_places(definition, side):
    """Where in a body definition the knuckles of one hand are [N], and which of `_KNUCKLES` they are [N]."""
    names = {name: index for index, name in enumerate(definition.names)}
    places = [names.get(f"{side}_hand_{name}", names.get(f"{side}_{name}", -1)) for name in _KNUCKLE_NAMES]
    return np.array([place for place in places if place >= 0]), np.flatnonzero(np.array(places) >= 0)


def fit_palm(keypoints, rotations, side, skeleton):
    """Orientation [T, 3, 3] in camera axes in which the hand, its fingers bent as in rotations [T, 52, 3, 3], covers its keypoints.

    Least squares over all 21 of them (Kabsch); frames without a hand get any rotation.
    """
    resting = np.broadcast_to(np.eye(3), rotations.shape).copy()
    hand = LEFT_HAND_JOINTS if side == "left" else RIGHT_HAND_JOINTS
    resting[:, hand] = rotations[:, hand]
    posed = skeleton.place(hand_places(side), *skeleton.pose(resting))
    return nearest_rotation(posed, keypoints.hand3d[:, SIDES.index(side)])


def turn_wrist(rotations, palm, found, side, skeleton):
    """Rotations [T, 52, 3, 3] whose hand of one side is turned as its `palm` [T, 3, 3], where it was `found` [T].

    The whole hand shows its turn better than the knuckles do that BodyIKNet sees among much else. What the two differ by is kept
    over holes, less and less, so that a hand that comes and goes does not snap; the forearm takes half of a turn about itself.
    """
    if not found.any():
        return rotations
    elbow, wrist = JOINT_INDEX[f"{side}_elbow"], JOINT_INDEX[f"{side}_wrist"]
    orientations = skeleton.pose(rotations)[1]
    bridge = bridge_holes(found)
    difference = bridge.rotations(transpose(orientations[:, wrist]) @ palm)
    turned = rotations[:, wrist] @ fraction_of(difference, bridge.trust)
    bone = unit(skeleton.joints[wrist] - skeleton.joints[elbow])
    twist = twist_angle(turned, bone) - twist_angle(rotations[:, wrist], bone)
    half = about(bone, (np.mod(twist + np.pi, 2 * np.pi) - np.pi) / 2)
    rotations = rotations.copy()
    rotations[:, elbow] = rotations[:, elbow] @ half
    rotations[:, wrist] = transpose(half) @ turned
    return rotations


def joint_trust(keypoints):
    """How far each of the 22 body joints is the network's to say, [T, 22] in 0..1.

    A detector places what it does not see plausibly, but shakily: the network makes of that a limb that shakes.
    """

    def seen(*names, given_up=(0.02, 0.15)):
        confidence = [keypoints.body_confidence[:, keypoints.definition.index(name)] for name in names]
        return smoothstep(np.min(confidence, axis=0), *given_up)

    trunk = seen("left_hip", "right_hip", given_up=(0.001, 0.05))
    trust = {name: trunk for name in BODY_JOINT_NAMES}
    for side in SIDES:
        trust[f"{side}_hip"] = seen(f"{side}_knee")
        trust[f"{side}_knee"] = seen(f"{side}_knee", f"{side}_ankle")
        foot = seen(*(f"{side}_{name}" for name in FEET[keypoints.definition.name]))
        trust[f"{side}_ankle"] = trust[f"{side}_foot"] = foot
        trust[f"{side}_shoulder"] = seen(f"{side}_elbow")
        trust[f"{side}_elbow"] = trust[f"{side}_wrist"] = seen(f"{side}_elbow", f"{side}_wrist")
    return np.stack([trust[name] for name in BODY_JOINT_NAMES], 1)


def blend_orientations(resting, solved, trust, skeleton):
    """Rotations [T, 52, 3, 3] whose body joints point as in `solved` by their trust [T, 22], and otherwise as in `resting`.

    Orientations are mixed, not the turns relative to parents: a seen forearm must not swing with a hidden upper arm.
    """
    a, b = (matrix_to_quaternion(skeleton.pose(rotations)[1][:, BODY_JOINTS]) for rotations in (resting, solved))
    mixed = quaternion_to_matrix(slerp_quaternions(a, b, trust))
    blended = solved.copy()
    for joint, parent in enumerate(BODY_PARENTS):
        blended[:, joint] = mixed[:, joint] if parent < 0 else np.swapaxes(mixed[:, parent], -1, -2) @ mixed[:, joint]
    return blended
