"""IKNet: keypoints to joint rotations, shape and scale in one pass (Zhou et al. 2021, Sec. 3.3; input after Zhou et al. 2020).

One class serves BodyIKNet, for each definition of body keypoints, and HandIKNet: what differs is the `IKNetLayout`.

The network sees positions, bone directions, and both again for the same person at rest, as minimal-hand's does (its Sec. 3.3).
Two things are taken off its shoulders in closed form: size, by dividing by the mean bone length ratio, and heading, by turning
the keypoints into the axes in which the trunk (the palm) stands nearest to its rest. Which way the camera looks is an input
again, because a detector errs along it.
"""

from dataclasses import dataclass
from typing import NamedTuple

import roma
import torch
from torch import nn

from ..contract.frames import REST_TO_CAMERA
from ..contract.npz_file import FileError
from ..contract.skeleton import (
    BLAZEPOSE_33_KNUCKLES,
    BLAZEPOSE_BONES,
    BODY_JOINT_NAMES,
    BODY_PARENTS,
    HAND_21,
    HAND_BONES,
    JOINT_NAMES,
    LEFT_HAND_JOINTS,
    SIDES,
    SMPL_33,
    SMPL_BONES,
    KeypointDefinition,
)
from ..weights import fill_network

FORMAT_NAME, FORMAT_VERSION = "fullbody-iknet", 1

SHAPE_SIZE = 16

GIVEN_UP = 0.1
"""Below this confidence a keypoint fades out of the input: BlazePose places hidden limbs plausibly, down to about here."""


@dataclass(frozen=True)
class IKNetLayout:
    """What an IKNet reads and writes. Keypoints are named as in `definition`, bones are (parent, child) indices into it.

    joint_names: the joints it turns, the root first; parents: their tree
    size_bones: bones whose length hardly depends on the pose; trunk: keypoints that turn with the root
    width, blocks: size of the fully connected stack
    """

    definition: KeypointDefinition
    joint_names: tuple
    parents: tuple
    bones: tuple
    size_bones: tuple
    trunk: tuple
    width: int
    blocks: int


def _indices(definition, pairs):
    return tuple((definition.index(parent), definition.index(child)) for parent, child in pairs)


SMPL_LAYOUT = IKNetLayout(
    definition=SMPL_33,
    joint_names=BODY_JOINT_NAMES,
    parents=BODY_PARENTS,
    bones=SMPL_BONES,
    size_bones=SMPL_BONES[: len(BODY_PARENTS) - 1],
    trunk=tuple(
        SMPL_33.index(name)
        for name in ("pelvis", "left_hip", "right_hip", "spine1", "spine2", "spine3", "neck", "left_collar", "right_collar")
    ),
    width=640,
    blocks=3,
)

_BLAZEPOSE_EXTRA_BONES = _indices(
    BLAZEPOSE_33_KNUCKLES,
    [("left_ear", "right_ear"), ("left_eye_outer", "right_eye_outer"), ("left_mouth", "right_mouth")]
    + [
        (f"{side}_{parent}", f"{side}_{child}")
        for side in SIDES
        for parent, child in (
            ("ear", "eye_outer"), ("ear", "mouth"), ("shoulder", "ear"), ("wrist", "index"), ("wrist", "pinky"),
            ("wrist", "thumb"), ("wrist", "hand_index_mcp"), ("wrist", "hand_middle_mcp"), ("wrist", "hand_ring_mcp"),
            ("wrist", "hand_pinky_mcp"), ("hand_pinky_mcp", "hand_index_mcp"),
        )
    ],
)  # fmt: skip

BLAZEPOSE_LAYOUT = IKNetLayout(
    definition=BLAZEPOSE_33_KNUCKLES,
    joint_names=BODY_JOINT_NAMES,
    parents=BODY_PARENTS,
    bones=BLAZEPOSE_BONES + _BLAZEPOSE_EXTRA_BONES,
    size_bones=_indices(
        BLAZEPOSE_33_KNUCKLES,
        [
            (f"{side}_{parent}", f"{side}_{child}")
            for side in SIDES
            for parent, child in (
                ("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"), ("shoulder", "hip"),
            )
        ]
        + [("left_shoulder", "right_shoulder")],
    ),
    trunk=tuple(BLAZEPOSE_33_KNUCKLES.index(f"{side}_{name}") for side in SIDES for name in ("shoulder", "hip")),
    width=640,
    blocks=3,
)  # fmt: skip

_KNUCKLES = tuple(HAND_21.index(f"{finger}_mcp") for finger in ("index", "middle", "ring", "pinky"))

HAND_LAYOUT = IKNetLayout(
    definition=HAND_21,
    joint_names=("left_wrist",) + JOINT_NAMES[LEFT_HAND_JOINTS],
    parents=(-1,) + tuple(0 if joint % 3 == 0 else joint for joint in range(15)),
    bones=HAND_BONES,
    size_bones=HAND_BONES,
    trunk=(HAND_21.index("wrist"),) + _KNUCKLES,
    width=384,
    blocks=3,
)
"""A left hand's 15 joints after the palm's own turn. A right hand goes in and comes out as its mirror image."""

LAYOUTS = {layout.definition.name: layout for layout in (SMPL_LAYOUT, BLAZEPOSE_LAYOUT, HAND_LAYOUT)}


class IKNetPose(NamedTuple):
    """rotations [B, J, 3, 3]: the root's turns rest axes into the camera frame, the others are relative to their parents;
    betas [B, 16]; scale [B]: the paper's alpha, the keypoints' units for one metre of the body."""

    rotations: torch.Tensor
    betas: torch.Tensor
    scale: torch.Tensor


class IKNet(nn.Module):
    """Keypoints [B, K, 3] to an `IKNetPose`. Every input gives a finite answer; without keypoints, some usual pose."""

    def __init__(self, layout):
        super().__init__()
        self.layout = layout
        keypoints, bones = len(layout.definition), len(layout.bones)
        self.joint_count = len(layout.joint_names)
        # X, D and their references, a confidence a keypoint, the camera's axes, the size
        inputs = 2 * 3 * (keypoints + bones) + keypoints + 9 + 1
        self.enter = nn.Linear(inputs, layout.width)
        self.blocks = nn.ModuleList(ResidualBlock(layout.width) for _ in range(layout.blocks))
        self.norm = nn.LayerNorm(layout.width)
        self.leave = nn.Linear(layout.width, 6 * self.joint_count + SHAPE_SIZE + 1)
        nn.init.normal_(self.leave.weight, std=1e-2)
        nn.init.zeros_(self.leave.bias)

        def keep(name, values, dtype=torch.long):
            self.register_buffer(name, torch.as_tensor(values, dtype=dtype), persistent=False)

        keep("parent", [parent for parent, _ in layout.bones])
        keep("child", [child for _, child in layout.bones])
        keep("size_parent", [parent for parent, _ in layout.size_bones])
        keep("size_child", [child for _, child in layout.size_bones])
        keep("trunk", list(layout.trunk))
        keep("facing_camera", REST_TO_CAMERA, torch.float32)
        # 6D of the identity: a fresh network answers with the rest pose.
        keep("identity", [1.0, 0, 0, 0, 1, 0], torch.float32)

    def forward(self, points, confidence, reference):
        """points [B, K, 3] in any unit, camera axes; confidence [B, K] in 0..1; reference [B, K, 3] m: the person at rest.

        Keypoints that are not finite count as not seen.
        """
        finite = torch.isfinite(points).all(-1) & torch.isfinite(confidence)
        points = torch.where(finite[..., None], points, 0.0)
        confidence = torch.where(finite, confidence, 0.0).clamp(0, 1)
        gate = (confidence / GIVEN_UP).clamp(max=1)

        size = self.measure_size(points, gate, reference)  # [B]
        points, reference = self.centre(points, gate) / size[:, None, None], self.centre(reference, torch.ones_like(gate))
        heading = self.find_heading(points, gate, reference)  # [B, 3, 3]
        points = points @ heading  # rows: heading^T x

        bone_gate = gate[:, self.parent] * gate[:, self.child]
        directions, reference_directions = self.bone_directions(points), self.bone_directions(reference)
        features = torch.cat(
            [
                (points * gate[..., None]).flatten(1),
                (directions * bone_gate[..., None]).flatten(1),
                reference.flatten(1),
                reference_directions.flatten(1),
                confidence,
                heading.flatten(1),
                size.log()[:, None],
            ],
            1,
        )
        hidden = self.enter(features)  # [B, width]
        for block in self.blocks:
            hidden = block(hidden)
        answer = self.leave(self.norm(hidden)).float()
        six, betas, log_scale = answer.split([6 * self.joint_count, SHAPE_SIZE, 1], 1)
        rotations = rotation_from_6d(six.unflatten(1, (self.joint_count, 6)) + self.identity)
        root = heading @ rotations[:, 0]
        rotations = torch.cat([root[:, None], rotations[:, 1:]], 1)
        return IKNetPose(rotations, betas, size * log_scale[:, 0].exp())

    def measure_size(self, points, gate, reference):
        """Ratio [B] of the keypoints' bone lengths to the reference's, over the bones that are seen; 1 without any."""
        weight = gate[:, self.size_parent] * gate[:, self.size_child]
        seen = (points[:, self.size_parent] - points[:, self.size_child]).norm(dim=-1)
        rest = (reference[:, self.size_parent] - reference[:, self.size_child]).norm(dim=-1)
        return ((weight * seen).sum(1) + 1e-6) / ((weight * rest).sum(1) + 1e-6)

    def centre(self, points, gate):
        """Points [B, K, 3] about the middle of the trunk that is seen."""
        weight = gate[:, self.trunk, None]
        middle = (points[:, self.trunk] * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=1e-6)
        return points - middle

    def find_heading(self, points, gate, reference):
        """Rotation [B, 3, 3] from the rest axes to the camera's that brings the resting trunk nearest to the seen one.

        What the points leave open, all of it if none is seen, is settled by facing the camera.
        """
        trunk = points[:, self.trunk] * gate[:, self.trunk, None]
        covariance = trunk.transpose(1, 2) @ reference[:, self.trunk]
        with torch.no_grad():
            return roma.special_procrustes(covariance.float() + 1e-6 * self.facing_camera)

    def bone_directions(self, points):
        bones = points[:, self.child] - points[:, self.parent]
        return bones / bones.norm(dim=-1, keepdim=True).clamp(min=1e-6)

    def to_tensors(self, reference):
        """(tensors in half precision, text metadata) to store. reference [K, 3] m: the mean body it was trained on, at rest."""
        tensors = {name: value.detach().half().contiguous() for name, value in self.state_dict().items()}
        metadata = {"format": FORMAT_NAME, "version": str(FORMAT_VERSION), "definition": self.layout.definition.name}
        return tensors | {"reference": reference.float().contiguous()}, metadata

    @classmethod
    def from_tensors(cls, tensors, metadata):
        """(network, reference [K, 3] m) from what `to_tensors` gave. Raises `FileError` that names the first misfit."""
        if metadata.get("format") != FORMAT_NAME or metadata.get("version") != str(FORMAT_VERSION):
            raise FileError(f"These are not IKNet weights of format {FORMAT_VERSION}, got {metadata.get('format')!r}.")
        if metadata.get("definition") not in LAYOUTS:
            raise FileError(f"There is no IKNet for {metadata.get('definition')!r} keypoints: update fullbody.")
        layout = LAYOUTS[metadata["definition"]]
        network = fill_network(cls(layout), tensors, "IKNet", [("reference", (len(layout.definition), 3))])
        return network, tensors["reference"].float()


class ResidualBlock(nn.Module):
    """Two fully connected layers about a short cut; normalised before, so that depth does not hinder training."""

    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)

    def forward(self, hidden):
        return hidden + self.second(nn.functional.silu(self.first(self.norm(hidden))))


def rotation_from_6d(six):
    """Rotations [..., 3, 3] from two columns [..., 6] by Gram-Schmidt (Zhou et al. 2019, Eq. 15); finite for any numbers."""
    first, second = six[..., :3], six[..., 3:]
    first = nn.functional.normalize(first, dim=-1, eps=1e-6)
    second = nn.functional.normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1, eps=1e-6)
    return torch.stack([first, second, torch.linalg.cross(first, second)], -1)
