"""Inverse kinematics by BodyIKNet and HandIKNet (Zhou et al. 2021, Sec. 3.3): a whole clip in two calls of a network.

There is a BodyIKNet for each definition of body keypoints, which reads the hand detector's knuckles with them, and one HandIKNet
for a left hand. This file brings a detector's `Keypoints` to that form and the answers back to SMPL-H's 52 joints.
"""

import time
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from ..contract.easing import smoothstep
from ..contract.frames import (
    MIRROR,
    matrix_to_quaternion,
    quaternion_to_matrix,
    slerp_quaternions,
)
from ..contract.skeleton import (
    BLAZEPOSE_33,
    BODY_JOINT_NAMES,
    BODY_JOINTS,
    HAND_21,
    JOINT_INDEX,
    JOINT_NAMES,
    SIDES,
    SMPL_33,
)
from ..contract.swing_twist import about, fraction_of, transpose, twist_angle, unit
from ..detect.keypoints import Keypoints
from ..networks.iknet import IKNet
from ..weights import WeightsUnsuited, load_shipped
from .analytic import solve_body
from .analytic_limbs import relative_to_parents
from .face_mesh import with_found_head
from .holes import bridge_holes
from .rest_skeleton import RestSkeleton, hand_places, keypoint_places
from .solved_hands import SolvedHands, fit_palms

BODY_WEIGHTS = {BLAZEPOSE_33.name: "body-iknet-blazepose", SMPL_33.name: "body-iknet-smpl"}
"""The shipped BodyIKNet for each definition that a body detector speaks."""

HAND_WEIGHTS = "hand-iknet"

FEET = {BLAZEPOSE_33.name: ("ankle", "heel", "foot_index"), SMPL_33.name: ("ankle", "foot", "big_toe")}
"""Keypoints of each definition, but for the side, that show how a foot is turned."""

SAME_BODY = 5e-3
"""m. A body whose keypoints at rest lie this near to the trained one's, at its mean shape, has its joints in the same places."""

CHUNK = 1024
"""Frames in one call: as fast as any larger number, and memory does not grow with the clip."""

WRISTS, ELBOWS = ([JOINT_INDEX[f"{side}_{name}"] for side in SIDES] for name in ("wrist", "elbow"))

_KNUCKLE_NAMES = [f"{finger}_mcp" for finger in ("index", "middle", "ring", "pinky")]
_KNUCKLES = [HAND_21.index(name) for name in _KNUCKLE_NAMES]


def load_iknet(weights_id):
    """(network, reference [K, 3] m, sha256) of a shipped IKNet. Raises `WeightsError` or `FileError`."""
    tensors, metadata, sha256 = load_shipped(weights_id)
    return *IKNet.from_tensors(tensors, metadata), sha256


@dataclass
class IKNetSolver:
    """BodyIKNet and HandIKNet with their weights. sha256: of the weight files, by id.

    network_seconds: the time that the networks alone have taken so far.
    """

    body_network: IKNet
    hand_network: IKNet
    sha256: dict
    network_seconds: float = 0.0

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

    def solve_pose(self, keypoints, skeleton, hands=None):
        """Rotations [T, 52, 3, 3] that bring the body of `RestSkeleton` skeleton into the keypoints' pose.

        The pelvis's rotation turns rest axes into the camera's, the others are relative to their parents. A hand that was not
        found stays flat; a limb that the detector gave up rests as in the closed form. The answer is always finite.
        hands: of `solve_hands`, where the hands are solved already.
        """
        hands = self.solve_hands(keypoints, skeleton) if hands is None else hands
        layout = self.body_network.layout
        points, confidence = body_points(with_found_head(keypoints, skeleton), skeleton, layout.definition)
        rotations = np.empty((len(points), len(JOINT_NAMES), 3, 3))
        rotations[:, BODY_JOINTS] = self._run(self.body_network, points, confidence, rest_keypoints(skeleton, layout))
        rotations[:, BODY_JOINTS.stop :] = hands.fingers.reshape(len(points), -1, 3, 3)
        trust = joint_trust(keypoints)
        if (trust < 1).any():
            resting = solve_body(keypoints, skeleton, (trust < 1).any(0))
            rotations = blend_orientations(resting, rotations, trust, skeleton)
        return turn_wrists(rotations, hands, skeleton)

    def solve_hands(self, keypoints, skeleton):
        """`SolvedHands`, of which the body knows nothing; a right one goes through the network as a left one."""
        points, found = keypoints.hand3d, keypoints.hand_confidence > 0
        fingers = np.broadcast_to(np.eye(3), (len(points), len(SIDES), 15, 3, 3))
        if not found.any():
            return SolvedHands(fingers, fingers[:, :, 0], found)
        reference = np.stack([skeleton.at_rest(hand_places(side)) for side in SIDES])
        as_left = np.stack([np.eye(3), MIRROR])
        one_by_one = (-1, *points.shape[2:])
        answer = self._run(
            self.hand_network,
            (points @ as_left).reshape(one_by_one),
            np.repeat(found.reshape(-1, 1), points.shape[2], 1),
            np.broadcast_to(reference @ as_left, points.shape).reshape(one_by_one),
        )
        solved = as_left[:, None] @ answer[:, 1:].reshape(fingers.shape) @ as_left[:, None]
        fingers = np.where(found[..., None, None, None], solved, fingers)
        return SolvedHands(fingers, fit_palms(points, fingers, skeleton), found)

    def _run(self, network, points, confidence, reference):
        """A network's rotations [T, J, 3, 3]."""
        start = time.perf_counter()
        rotations = run_network(network, points, confidence, reference)[0]
        self.network_seconds += time.perf_counter() - start
        return rotations


def run_network(network, points, confidence, reference):
    """(rotations [T, J, 3, 3], betas [T, 16], scale [T]) of an IKNet as float64 arrays.

    points [T, K, 3] m; confidence [T, K]; reference [K, 3] or [T, K, 3] m, the same person at rest.
    """
    inputs = points, confidence, np.broadcast_to(reference, points.shape)
    answers = []
    with torch.inference_mode():
        for start in range(0, max(len(points), 1), CHUNK):
            parts = (array[start : start + CHUNK].astype(np.float32, order="C") for array in inputs)
            answers.append(network(*map(torch.from_numpy, parts)))
    return tuple(np.concatenate([item.numpy() for item in items]).astype(float) for items in zip(*answers))


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
    own = _own_places(definition, keypoints.definition)
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
        trust, has_own = bridge.trust[:, None], np.isin(places, own)
        share = np.where(has_own, trust, 1.0)
        points[:, places] += share[..., None] * (knuckles[:, fingers] - points[:, places])
        confidence[:, places] += share * (np.where(has_own, 1.0, trust) - confidence[:, places])
    return points, confidence


@lru_cache
def _own_places(definition, detected):
    """Where the keypoints of a detector's definition are in BodyIKNet's [K']."""
    return np.array([definition.index(name) for name in detected.names])


@lru_cache
def _knuckle_places(definition, side):
    """Where in a body definition the knuckles of one hand are [N], and which of `_KNUCKLES` they are [N]."""
    names = {name: index for index, name in enumerate(definition.names)}
    places = [names.get(f"{side}_hand_{name}", names.get(f"{side}_{name}", -1)) for name in _KNUCKLE_NAMES]
    return np.array([place for place in places if place >= 0]), np.flatnonzero(np.array(places) >= 0)


def turn_wrists(rotations, hands, skeleton):
    """Rotations [T, 52, 3, 3] whose hands are turned as the palms of `SolvedHands` are, where they were found.

    The whole hand shows its turn better than the knuckles do that BodyIKNet sees among much else. What the two differ by is kept
    over holes, less and less, so that a hand that comes and goes does not snap; the forearm takes half of a turn about itself.
    """
    if not hands.found.any():
        return rotations
    wrists = rotations[:, WRISTS]
    differences = transpose(skeleton.pose(rotations)[1][:, WRISTS]) @ hands.palms
    bridges = [bridge_holes(found) for found in hands.found.T]
    trust = np.stack([bridge.trust for bridge in bridges], 1)
    differences = np.stack([bridge.rotations(turns) for bridge, turns in zip(bridges, np.moveaxis(differences, 1, 0))], 1)
    # Before a hand was ever found its palm means nothing.
    differences = np.where(trust[..., None, None] > 0, differences, np.eye(3))
    turned = wrists @ fraction_of(differences, trust)
    bones = unit(skeleton.joints[WRISTS] - skeleton.joints[ELBOWS])
    twist = twist_angle(turned, bones) - twist_angle(wrists, bones)
    half = about(bones, (np.mod(twist + np.pi, 2 * np.pi) - np.pi) / 2)
    rotations = rotations.copy()
    rotations[:, ELBOWS] = rotations[:, ELBOWS] @ half
    rotations[:, WRISTS] = transpose(half) @ turned
    return rotations


def joint_trust(keypoints):
    """How far each of the 22 body joints is the network's to say, [T, 22] in 0..1.

    A detector places what it does not see plausibly, but shakily: the network makes of that a limb that shakes.
    """
    shown_by, low, high = _trusted_by(keypoints.definition)
    return smoothstep(keypoints.body_confidence[:, shown_by].min(2), low, high)


@lru_cache
def _trusted_by(definition):
    """For each of the 22 body joints the keypoints that show it, [22, 3] (some of them twice), and below and above which
    confidence of the least of them it is given up and trusted, [22] each."""

    def shown_by(joint):
        side, _, part = joint.partition("_")
        names = {
            "hip": ("knee",),
            "knee": ("knee", "ankle"),
            **dict.fromkeys(("ankle", "foot"), FEET[definition.name]),
            "shoulder": ("elbow",),
            **dict.fromkeys(("elbow", "wrist"), ("elbow", "wrist")),
        }.get(part)
        return ("left_hip", "right_hip") if names is None else tuple(f"{side}_{name}" for name in names)

    names = [shown_by(joint) for joint in BODY_JOINT_NAMES]
    trunk = np.array([shown == ("left_hip", "right_hip") for shown in names])
    places = np.array([[definition.index(name) for name in (shown * 3)[:3]] for shown in names])
    return places, np.where(trunk, 0.001, 0.02), np.where(trunk, 0.05, 0.15)


def blend_orientations(resting, solved, trust, skeleton):
    """Rotations [T, 52, 3, 3] whose body joints point as in `solved` by their trust [T, 22], and otherwise as in `resting`.

    Orientations are mixed, not the turns relative to parents: a seen forearm must not swing with a hidden upper arm.
    """
    a, b = (matrix_to_quaternion(skeleton.pose(rotations)[1][:, BODY_JOINTS]) for rotations in (resting, solved))
    blended = solved.copy()
    blended[:, BODY_JOINTS] = relative_to_parents(quaternion_to_matrix(slerp_quaternions(a, b, trust)))
    return blended
