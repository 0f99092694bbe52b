"""Keypoints bound to a body: where each one lies on the shaped, posed skeleton, in torch and with gradients.

The paper binds its keypoints to joints and vertices by hand (supplementary Sec. 3). Here a keypoint is a joint or a landmark;
a landmark rides on the joint that holds most of its weight, as in `ik.rest_skeleton.RestSkeleton`, which is the plain form.
"""

import numpy as np
import torch
from torch import nn

from ..contract.skeleton import JOINT_INDEX
from .lbs import KinematicTree


class BoundKeypoints(nn.Module):
    """Rest and posed keypoints of a part of the body: the joints it has, and the points that ride on them."""

    def __init__(self, body, joint_names, parents, places, dtype=torch.float32):
        """body: `BodyModelFile`; joint_names [J] and parents [J] of the part, root first; places [K]: joints or landmarks.

        A place whose own joint is not in the part rides on the nearest joint above it that is.
        """
        super().__init__()
        self.tree = KinematicTree(parents)
        joints = [JOINT_INDEX[name] for name in joint_names]
        placed = [_place_of(body, place) for place in places]
        self.register_buffer(
            "carriers", torch.tensor([_carrier(body, joint, joints) for joint, *_ in placed]), persistent=False
        )

        def keep(name, values):
            self.register_buffer(name, torch.as_tensor(np.asarray(values), dtype=dtype), persistent=False)

        keep("joint_template", body.rest_joints[joints])
        keep("joint_shapedirs", body.joint_shapedirs[joints])
        keep("point_template", np.stack([template for _, template, _ in placed]))
        keep("point_shapedirs", np.stack([directions for *_, directions in placed]))

    def rest(self, betas):
        """Joints [B, J, 3] m and keypoints [B, K, 3] m at rest, for betas [B, S]."""
        joints = self.joint_template + torch.einsum("jcs,bs->bjc", self.joint_shapedirs, betas)
        return joints, self.point_template + torch.einsum("kcs,bs->bkc", self.point_shapedirs, betas)

    def forward(self, betas, rotations):
        """Posed joints [B, J, 3] m and keypoints [B, K, 3] m about the root, and orientations [B, J, 3, 3].

        betas [B, S]; rotations [B, J, 3, 3] parent-relative.
        """
        rest_joints, rest_points = self.rest(betas)
        joints, orientations = self.tree(rest_joints, rotations)
        joints = joints - rest_joints[:, :1]
        arms = (rest_points - rest_joints[:, self.carriers])[..., None]
        return joints, joints[:, self.carriers] + (orientations[:, self.carriers] @ arms)[..., 0], orientations


def _place_of(body, place):
    """(joint that carries it, rest place [3] m, its shape directions [3, S]) of a joint or landmark by name."""
    if place in JOINT_INDEX:
        joint = JOINT_INDEX[place]
        return joint, body.rest_joints[joint], body.joint_shapedirs[joint]
    vertex = body.landmarks[place]
    return body.carrying_joint(vertex), body.v_template[vertex], body.shapedirs[vertex]


def _carrier(body, joint, joints):
    while joint not in joints:
        joint = int(body.parents[joint])
    return joints.index(joint)
