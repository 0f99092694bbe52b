"""What IKNet is trained on: poses with their augmentation, shapes, and keypoints as a detector would have given them.

A sample is made from the outside in: a pose, turned before the camera; a shape and the shape that is believed at inference
(the reference); the keypoints bound to that body; a detector's errors; what it does not see. Everything is drawn from one
generator, so that a step of training depends on its number alone.
"""

from typing import NamedTuple

import numpy as np
import roma
import torch

from ..body.bound_keypoints import BoundKeypoints
from ..contract.frames import CAMERA_TO_WORLD, matrix_to_axis_angle
from ..contract.skeleton import BODY_JOINTS, JOINT_INDEX, JOINT_NAMES, mirror_names
from ..ik.rest_skeleton import keypoint_places
from ..networks.iknet import SHAPE_SIZE
from ..synth.hand_poses import sample_hand_poses

LIMBS = tuple(
    tuple(JOINT_INDEX[name] for name in names)
    for names in (
        ("spine1", "spine2", "spine3"),
        ("neck", "head"),
        *((f"{side}_collar", f"{side}_shoulder", f"{side}_elbow", f"{side}_wrist") for side in ("left", "right")),
        *((f"{side}_hip", f"{side}_knee", f"{side}_ankle", f"{side}_foot") for side in ("left", "right")),
    )
)
"""Groups of joints that may come from different frames, as minimal-hand does with fingers."""

RECOMBINED, TOWARDS_REST, SHAKEN, TURNED_WRISTS, TUMBLED = 0.3, 0.2, 0.4, 0.4, 0.1
"""Share of body poses that are put together from several frames, drawn towards rest limb by limb, disturbed joint by joint,
given turned wrists (which motion capture seldom records), and turned over in space altogether."""

SCALE_SPREAD = 0.1
"""Deviation of the logarithm of alpha: a detector's metre against the body's."""


class IKSample(NamedTuple):
    """points [B, K, 3] in a detector's metres, camera axes; confidence [B, K]; reference [B, K, 3] m. Then the truth: rotations
    [B, J, 3, 3], betas [B, 16], scale [B], posed [B, K, 3] m about the root, rest [B, K, 3] m about the root."""

    points: torch.Tensor
    confidence: torch.Tensor
    reference: torch.Tensor
    rotations: torch.Tensor
    betas: torch.Tensor
    scale: torch.Tensor
    posed: torch.Tensor
    rest: torch.Tensor


def bind_keypoints(body, layout):
    """The `BoundKeypoints` of a layout on a body."""
    return BoundKeypoints(body, layout.joint_names, layout.parents, keypoint_places(layout.definition))


class BodyPoses:
    """Poses of the 22 body joints from motions, as seen by a camera that stands about level."""

    joint_count = len(JOINT_NAMES[BODY_JOINTS])

    def __init__(self, motions):
        turns = np.concatenate([matrix_to_axis_angle(motion.rotations[:, BODY_JOINTS]) for motion in motions])
        self.turns = torch.as_tensor(turns, dtype=torch.float32)  # [N, 22, 3] rad

    def draw(self, count, generator, augment=True):
        """Rotations [count, 22, 3, 3], the pelvis's into the camera frame."""
        turns = self.turns[torch.randint(len(self.turns), (count,), generator=generator)]
        turns = mirror_turns(turns, chance(count, 0.5, generator)[:, 0])
        if augment:
            turns = self._augment(turns, generator)
        rotations = roma.rotvec_to_rotmat(turns)
        if augment:
            rotations = self._disturb(rotations, generator)
        camera = random_cameras(count, generator)
        tumbled = chance(count, TUMBLED if augment else 0, generator)[..., None]
        camera = torch.where(tumbled, random_rotations(count, generator), camera)
        return torch.cat([(camera @ rotations[:, 0])[:, None], rotations[:, 1:]], 1)

    def _augment(self, turns, generator):
        turns, count = turns.clone(), len(turns)
        recombined = chance(count, RECOMBINED, generator)
        restful = chance(count, TOWARDS_REST, generator)
        for limb in LIMBS:
            other = self.turns[torch.randint(len(self.turns), (count,), generator=generator)][:, limb]
            turns[:, limb] = torch.where(recombined[..., None], other, turns[:, limb])
            share = torch.where(restful, torch.rand(count, 1, generator=generator), 1.0)
            turns[:, limb] = turns[:, limb] * share[..., None]
        return turns

    def _disturb(self, rotations, generator):
        count = len(rotations)
        amount = chance(count, SHAKEN, generator) * torch.rand(count, 1, generator=generator) * np.radians(12)
        shaken = torch.randn(count, self.joint_count - 1, 3, generator=generator) * amount[..., None]
        turn = torch.zeros(count, self.joint_count, 3)
        turn[:, 1:] = shaken
        wrists = chance(count, TURNED_WRISTS, generator)
        for side in ("left", "right"):
            elbow, wrist = JOINT_INDEX[f"{side}_elbow"], JOINT_INDEX[f"{side}_wrist"]
            # Half of the forearm's turn shows below the elbow and half at the wrist, as the closed form shares it.
            twist = 0.5 * np.radians(45) * torch.randn(count, 1, generator=generator)
            bend = torch.randn(count, 2, generator=generator) * torch.tensor(np.radians([20.0, 30.0]), dtype=torch.float32)
            turn[:, elbow, :1] += wrists * twist
            turn[:, wrist] += wrists * torch.cat([twist, bend], 1)
        return rotations @ roma.rotvec_to_rotmat(turn)


def mirror_turns(turns, which):
    """The `which` [B] of axis-angle body poses [B, 22, 3] as a mirror across the person's middle shows them."""
    mirrored = turns[:, mirror_names(JOINT_NAMES[BODY_JOINTS])] * torch.tensor([1.0, -1, -1])
    # The pelvis turns in the world, whose axes are x to the side, y away, z up: it is mirrored there and in its own axes.
    return torch.where(which[:, None, None], mirrored, turns)


class HandPoses:
    """Poses of a left hand: the palm's turn anywhere, then 15 finger joints from `hand_poses`."""

    pool_size = 200_000

    def __init__(self, body, seed=0, pool_size=pool_size):
        fingers = sample_hand_poses(np.random.default_rng(seed), pool_size, body.rest_joints)
        self.turns = torch.as_tensor(matrix_to_axis_angle(fingers), dtype=torch.float32)  # [N, 15, 3] rad

    def draw(self, count, generator, augment=True):
        """Rotations [count, 16, 3, 3], the palm's into the camera frame."""
        turns = self.turns[torch.randint(len(self.turns), (count,), generator=generator)]
        if augment:
            towards_rest = chance(count, 0.3, generator)
            share = torch.where(towards_rest, torch.rand(count, 5, generator=generator), 1.0)
            turns = turns * share.repeat_interleave(3, 1)[..., None]
        palm = random_rotations(count, generator)
        return torch.cat([palm[:, None], roma.rotvec_to_rotmat(turns)], 1)


def chance(count, probability, generator):
    """[count, 1] bool."""
    return torch.rand(count, 1, generator=generator) < probability


def random_rotations(count, generator):
    """Uniform rotations [count, 3, 3]."""
    return roma.unitquat_to_rotmat(torch.nn.functional.normalize(torch.randn(count, 4, generator=generator), dim=-1))


def random_cameras(count, generator):
    """World-to-camera rotations [count, 3, 3]: any azimuth, looking down by about 5 degrees, hardly rolled."""

    def about(axis, angle):
        turn = torch.zeros(count, 3)
        turn[:, axis] = angle
        return roma.rotvec_to_rotmat(turn)

    azimuth = 2 * np.pi * torch.rand(count, generator=generator)
    pitch = np.radians(5) + np.radians(10) * torch.randn(count, generator=generator)
    roll = np.radians(3) * torch.randn(count, generator=generator)
    world_to_camera = torch.as_tensor(CAMERA_TO_WORLD.T, dtype=torch.float32)
    return about(2, roll) @ about(0, pitch) @ world_to_camera @ about(2, azimuth)


class SampleMaker:
    """Draws `IKSample`s of one layout."""

    def __init__(self, layout, body, poses, noise=None):
        """noise: `KeypointNoise` of that layout, or None for keypoints without errors, all of them seen."""
        self.layout, self.poses, self.noise = layout, poses, noise
        self.keypoints = bind_keypoints(body, layout)

    @torch.no_grad()
    def draw(self, count, generator, augment=True):
        return self.complete(self.poses.draw(count, generator, augment), generator)

    @torch.no_grad()
    def complete(self, rotations, generator):
        """Samples of the given poses [B, J, 3, 3]."""
        count = len(rotations)
        betas = torch.randn(count, SHAPE_SIZE, generator=generator)
        scale = (SCALE_SPREAD * torch.randn(count, generator=generator)).exp()
        joints, posed, orientations = self.keypoints(betas, rotations)
        rest_joints, rest = self.keypoints.rest(betas)
        points, confidence = posed, torch.ones(posed.shape[:2])
        if self.noise is not None:
            points, confidence = self.noise.disturb(posed, orientations, generator)
        reference = self.keypoints.rest(believed_betas(betas, generator))[1]
        return IKSample(
            points * scale[:, None, None], confidence, reference, rotations, betas, scale, posed, rest - rest_joints[:, :1]
        )


def believed_betas(betas, generator):
    """The shape [B, 16] that is known before the pose: exactly, roughly, or not at all (the mean)."""
    count = len(betas)
    kind = torch.rand(count, 1, generator=generator)
    rough = betas + torch.rand(count, 1, generator=generator) * torch.randn(betas.shape, generator=generator)
    return torch.where(kind < 0.4, betas, torch.where(kind < 0.8, rough, 0.0))
