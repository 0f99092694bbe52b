"""Inverse kinematics by BodyIKNet and HandIKNet (Zhou et al. 2021, Sec. 3.3): a whole clip in two calls.

The networks speak BlazePose's keypoints with the hand detector's knuckles, and a left hand. This file brings a detector's
`Keypoints` to that form and the answers back to SMPL-H's 52 joints.
"""

from dataclasses import dataclass

import numpy as np
import torch

from ..contract.skeleton import (
    BLAZEPOSE_33,
    BODY_JOINTS,
    HAND_21,
    JOINT_NAMES,
    LEFT_HAND_JOINTS,
    RIGHT_HAND_JOINTS,
)
from ..detect.keypoints import SIDES, Keypoints
from ..networks.iknet import IKNet
from ..weights import load_shipped
from .face_mesh import with_face_mesh_head
from .rest_skeleton import BODY_PLACES, RestSkeleton, hand_places

BODY_WEIGHTS, SMPL_WEIGHTS, HAND_WEIGHTS = "body-iknet-blazepose", "body-iknet-smpl", "hand-iknet"

SAME_BODY = 5e-3
"""m. A body whose keypoints at rest lie this near to the trained one's, at its mean shape, has its joints in the same places."""

CHUNK = 1024
"""Frames in one call: as fast as any larger number, and memory does not grow with the clip."""

MIRROR = np.diag([-1.0, 1, 1])

_KNUCKLES = [HAND_21.index(f"{finger}_mcp") for finger in ("index", "middle", "ring", "pinky")]


class OtherBody(ValueError):
    """A body that the networks were not trained on. The message is one sentence for the user."""


@dataclass
class IKNetSolver:
    """BodyIKNet and HandIKNet with their weights. sha256: of the weight files, by id."""

    body_network: IKNet
    hand_network: IKNet
    sha256: dict

    name = "iknet"

    @classmethod
    def load(cls, body):
        """From the shipped weights, for `BodyModelFile` body. Raises `WeightsError` or `OtherBody`."""
        networks, sha256 = [], {}
        mean = RestSkeleton.of_body(body, np.zeros(body.shapedirs.shape[-1]))
        for weights_id in (BODY_WEIGHTS, HAND_WEIGHTS):
            tensors, metadata, sha256[weights_id] = load_shipped(weights_id)
            network, reference = IKNet.from_tensors(tensors, metadata)
            apart = np.linalg.norm(_centred(rest_keypoints(mean, network.layout)) - _centred(reference.numpy()), axis=-1)
            if apart.max() > SAME_BODY:
                raise OtherBody("IKNet was trained on the open body; this body is solved in closed form.")
            networks.append(network)
        return cls(*networks, sha256)

    def solve_pose(self, keypoints, skeleton):
        """Rotations [T, 52, 3, 3] that bring the body of `RestSkeleton` skeleton into the keypoints' pose.

        The pelvis's rotation turns rest axes into the camera's, the others are relative to their parents. A hand that was not
        found stays flat. The answer is always finite.
        """
        keypoints = with_face_mesh_head(keypoints, skeleton)
        points, confidence = body_points(keypoints, skeleton)
        rotations = np.broadcast_to(np.eye(3), (len(points), len(JOINT_NAMES), 3, 3)).copy()
        rotations[:, BODY_JOINTS] = self._run(self.body_network, points, confidence, skeleton)[0]
        for side, joints in zip(SIDES, (LEFT_HAND_JOINTS, RIGHT_HAND_JOINTS)):
            found = keypoints.hand_confidence[:, SIDES.index(side)] > 0
            rotations[found, joints] = self._solve_hand(keypoints, side, skeleton)[found]
        return rotations

    def estimate_betas(self, keypoints, skeleton, valid):
        """Betas [16] of the person: the median answer over the valid [T] frames, with `skeleton` for what is known before."""
        points, confidence = body_points(keypoints, skeleton)
        betas = self._run(self.body_network, points[valid], confidence[valid], skeleton)[1]
        return np.median(betas, axis=0)

    def _solve_hand(self, keypoints, side, skeleton):
        """Finger rotations [T, 15, 3, 3] of one hand; a right hand goes through the network as a left one."""
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
    return skeleton.at_rest(BODY_PLACES.get(layout.definition.name) or hand_places("left"))


def _centred(points):
    return points - points.mean(0)


def body_points(keypoints: Keypoints, skeleton):
    """Points [T, 41, 3] m and confidences [T, 41] in BLAZEPOSE_33_KNUCKLES.

    The knuckles are the hand detector's, put onto the body's wrist in the size that the skeleton's palm has.
    """
    points, confidence = [keypoints.body3d], [keypoints.body_confidence]
    for index, side in enumerate(SIDES):
        hand, found = keypoints.hand3d[:, index], keypoints.hand_confidence[:, index] > 0
        knuckles = hand[:, _KNUCKLES] - hand[:, :1]
        rest = skeleton.at_rest(hand_places(side))
        palm = np.linalg.norm(rest[_KNUCKLES] - rest[0], axis=-1).sum()
        size = palm / np.maximum(np.linalg.norm(knuckles, axis=-1).sum(-1), 1e-6)
        wrist = keypoints.body3d[:, BLAZEPOSE_33.index(f"{side}_wrist")]
        points.append(wrist[:, None] + knuckles * size[:, None, None])
        confidence.append(np.repeat(found[:, None].astype(float), len(_KNUCKLES), 1))
    return np.concatenate(points, 1), np.concatenate(confidence, 1)
