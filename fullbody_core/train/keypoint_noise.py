"""A detector's errors for training: the measured `DetectorNoise` in torch, for the keypoints of any layout.

A frame at a time, so jitter and slow errors are one; size is left out, because the samples draw it from a wider spread.
Beside the measured errors a sample may be free of them, and may see only some of the person: a picture that ends at the waist,
a hidden limb, hands that were not found.
"""

import numpy as np
import roma
import torch
from torch import nn

from ..contract.skeleton import BLAZEPOSE_33, BLAZEPOSE_33_KNUCKLES, HAND_21, SMPL_33
from ..ik.face_mesh import HEAD_KEYPOINTS
from ..synth.detector_noise import BODY_PART, HAND_PART

CLEAN, WEAKER = 0.25, 0.35
"""Share of samples without any error, and of those with less than the measured errors."""

CUT, HIDDEN, LIMB_HIDDEN = 0.3, 0.2, 0.3
"""Share of samples whose picture ends before the person does, share of others with hidden limbs (and half of the cut ones have
them, too), and how often each limb is hidden there."""

HAND_FOUND, HAND_HELD, HELD_TURN = 0.6, 0.15, 0.8
"""How often a hand is found, and how often one that was found a while ago is held: its confidence falls from one to zero, as the
turn that it may have made meanwhile grows, up to this deviation in radians."""

MESHED_HEAD, MESH_TURN = 0.5, np.radians(4)
"""How often a face mesh turns the head's points as one, and how far that is off; the mesh's own error, not measured here."""

OWN_SPREAD = 5e-3
"""m. Error of its own for a point that is put together from others'."""

_SMPL_SOURCES = {
    "pelvis": {"left_hip": 0.5, "right_hip": 0.5},
    "spine1": {"left_hip": 0.4, "right_hip": 0.4, "left_shoulder": 0.1, "right_shoulder": 0.1},
    "spine2": {"left_hip": 0.25, "right_hip": 0.25, "left_shoulder": 0.25, "right_shoulder": 0.25},
    "spine3": {"left_hip": 0.1, "right_hip": 0.1, "left_shoulder": 0.4, "right_shoulder": 0.4},
    "neck": {"left_shoulder": 0.4, "right_shoulder": 0.4, "left_ear": 0.1, "right_ear": 0.1},
    "left_collar": {"left_shoulder": 0.6, "right_shoulder": 0.4},
    "right_collar": {"left_shoulder": 0.4, "right_shoulder": 0.6},
    "head": {"left_ear": 0.35, "right_ear": 0.35, "left_shoulder": 0.15, "right_shoulder": 0.15},
    "head_top": {"left_ear": 0.5, "right_ear": 0.5},
    **{f"{side}_eye": {f"{side}_eye_centre": 1.0} for side in ("left", "right")},
    **{f"{side}_{f}_mcp": {f"{side}_{f}": 1.0} for side in ("left", "right") for f in ("index", "pinky")},
    **{
        f"{side}_{point}": {f"{side}_foot_index": 1.0}
        for side in ("left", "right")
        for point in ("foot", "big_toe", "little_toe")
    },
}
"""From which of BlazePose's points the errors of the paper's 33 are put together, until a detector speaks those itself. A
point of the same name has the same error."""


class KeypointNoise(nn.Module):
    """The errors of one layout's keypoints. Call `disturb`."""

    def __init__(self, noise, layout):
        """noise: `DetectorNoise`; layout: `IKNetLayout`."""
        super().__init__()
        self.layout = layout
        definition = layout.definition
        part = noise.hand if definition is HAND_21 else noise.body
        sources = _sources(definition)
        self._keep("mix", sources)  # [K, points of the part]
        self._keep("factor", part.factor.reshape(len(part.points), 3, -1))
        self._keep("mean", sources @ part.mean)
        # The paper's keypoints are the body's own: a detector that speaks them marks no other places.
        self._keep("offset", np.zeros_like(part.offset) if definition is SMPL_33 else part.offset)
        self._keep("tilt_mean", part.tilt_mean)
        self._keep("tilt_factor", part.tilt_factor)
        self._keep("unseen_gain", sources @ part.unseen_gain)
        carriers = [layout.joint_names.index(name) for name in part.carriers if name in layout.joint_names]
        self.register_buffer("carriers", torch.tensor(carriers), persistent=False)
        self.amplitude = part.amplitude
        bones = _bones(BODY_PART if part is noise.body else HAND_PART, definition)
        self.bones = [bone for _, bone in bones]
        rows = [row for row, _ in bones]
        size = np.exp(part.log_scale)
        self._keep("bone_mean", np.ones(len(rows)) if definition is SMPL_33 else part.bone_mean[rows] / size)
        self._keep("bone_slope", part.bone_slope[rows] / size)
        self._keep("bone_std", part.bone_std[rows] / size)
        self._keep("scale_factor", part.scale_factor)
        self.own = torch.as_tensor((sources.max(1) < 1) * OWN_SPREAD, dtype=torch.float32)
        self.hands = None
        if definition is BLAZEPOSE_33_KNUCKLES:
            self.hands = nn.ModuleList(KnuckleNoise(noise.hand, layout, side) for side in ("left", "right"))

    def _keep(self, name, values):
        self.register_buffer(name, torch.as_tensor(np.asarray(values), dtype=torch.float32), persistent=False)

    def disturb(self, points, orientations, generator):
        """(points [B, K, 3] m, confidence [B, K]) as a detector would give them.

        points [B, K, 3] m and orientations [B, J, 3, 3] of the layout's joints, in camera axes.
        """
        confidence = self.draw_confidence(points, generator)
        strength, bias = self.draw_strengths(len(points), generator)
        return self.add_errors(points, orientations, confidence, strength, bias, generator), confidence

    def draw_strengths(self, count, generator):
        """How large the errors of each sample are, [B] in 0..1 of the measured ones: those that vary, and those that are always
        the same way. The latter were measured on rendered people, and how far they hold for others is not known."""
        kind, share, bias = torch.rand(3, count, generator=generator)
        strength = torch.where(kind < CLEAN, 0.0, torch.where(kind < CLEAN + WEAKER, share, 1.0))
        return strength, torch.where(kind < CLEAN, 0.0, bias)

    def add_errors(self, points, orientations, confidence, strength, bias, generator):
        """Points [B, K, 3] m with errors of the given strength [B] and bias [B]; larger where confidence [B, K] is below 1/2."""
        count, body = len(points), len(self.mean)
        strength, bias = strength[:, None, None], bias[:, None, None]
        marked = points.clone()
        moved = (orientations[:, self.carriers] @ self.offset[..., None])[..., 0]
        marked[:, :body] += bias * moved
        centre = marked[:, :body].mean(1, keepdim=True)
        drawn = torch.randn(count, self.factor.shape[-1], generator=generator)
        tilt = bias[..., 0] * self.tilt_mean + strength[..., 0] * (drawn @ self.tilt_factor.T)
        turned = (marked - centre) @ roma.rotvec_to_rotmat(tilt).transpose(1, 2)
        gain = torch.where(confidence < 0.5, self.padded(self.unseen_gain, confidence.shape[1], 1.0), 1.0)
        amplitude = (self.amplitude * torch.randn(count, 1, 1, generator=generator) - self.amplitude**2).exp()
        error = self.mix_field(drawn, generator)
        if self.hands is not None:
            error = self.with_meshed_heads(error, marked[:, :body], generator)
        error = strength * gain[:, :body, None] * amplitude * error + bias * self.mean
        noisy = self.with_bone_lengths(
            turned + self.padded(error, confidence.shape[1], 0.0, dim=1), points, strength, bias, drawn, generator
        )
        for hand in self.hands or ():
            age = 1 - confidence[:, hand.knuckles[:1]]
            noisy = hand.place_knuckles(noisy, turned, orientations, strength, bias, age, generator)
        return noisy

    def mix_field(self, drawn, generator):
        """Errors [B, K, 3] m of the layout's own points from normal numbers [B, R]."""
        field = torch.einsum("ks,scr,br->bkc", self.mix, self.factor, drawn)
        return field + self.own[:, None] * torch.randn(field.shape, generator=generator)

    def with_bone_lengths(self, noisy, points, strength, bias, drawn, generator):
        """noisy [B, K, 3] whose bones keep their directions and are as long as those of `points`, but for a stretch."""
        log_size = (drawn @ self.scale_factor)[:, None]
        own = self.bone_std * torch.randn(len(noisy), len(self.bones), generator=generator)
        varying = (self.bone_mean + self.bone_slope * log_size + own) / log_size.exp() - self.bone_mean
        stretch = (1 + bias[..., 0] * (self.bone_mean - 1) + strength[..., 0] * varying).clamp(min=0.1)
        moved = noisy.clone()
        for index, (parent, child) in enumerate(self.bones):
            direction = nn.functional.normalize(noisy[:, child] - noisy[:, parent], dim=-1)
            length = (points[:, child] - points[:, parent]).norm(dim=-1) * stretch[:, index]
            moved[:, child] = moved[:, parent] + direction * length[:, None]
        return moved

    def with_meshed_heads(self, error, points, generator):
        """Errors in which, for some samples, the head's points err together, as they do where a face mesh turns them."""
        head = points[:, HEAD_KEYPOINTS] - points[:, HEAD_KEYPOINTS].mean(1, keepdim=True)
        turn = roma.rotvec_to_rotmat(MESH_TURN * torch.randn(len(points), 3, generator=generator))
        together = error[:, HEAD_KEYPOINTS].mean(1, keepdim=True) + head @ turn.transpose(1, 2) - head
        meshed = torch.rand(len(points), 1, 1, generator=generator) < MESHED_HEAD
        error = error.clone()
        error[:, HEAD_KEYPOINTS] = torch.where(meshed, together, error[:, HEAD_KEYPOINTS])
        return error

    def padded(self, values, length, filling, dim=0):
        """Values of the part's points, followed by `filling` for the points that other noise moves."""
        shape = list(values.shape)
        shape[dim] = length - shape[dim]
        return torch.cat([values, torch.full(shape, filling)], dim)

    def draw_confidence(self, points, generator):
        """Confidence [B, K]: near one, but low below a cut across the picture, on hidden limbs, for hands not found."""
        count, size = points.shape[:2]
        sure = 1 - 0.1 * torch.rand(count, size, generator=generator) ** 2
        if self.layout.definition is HAND_21:
            return sure
        kind = torch.rand(count, 1, generator=generator)
        confidence = torch.where(kind < CUT, self._cut(points, sure, generator), sure)
        for limb in _limbs(self.layout.definition):
            lost = (torch.rand(count, 1, generator=generator) < LIMB_HIDDEN) & (kind < CUT + HIDDEN) & (kind > CUT / 2)
            doubt = 0.5 * torch.rand(count, len(limb), generator=generator)
            confidence[:, limb] = torch.where(lost, torch.minimum(confidence[:, limb], doubt), confidence[:, limb])
        for hand in self.hands or ():
            found, held = torch.rand(2, count, 1, generator=generator)
            age = torch.where(found < HAND_FOUND, 1.0, torch.where(found < HAND_FOUND + HAND_HELD, held, 0.0))
            confidence[:, hand.knuckles] = age.expand(-1, len(hand.knuckles))
        return confidence

    def _cut(self, points, sure, generator):
        """Confidence [B, K] in a picture that ends somewhere between the eyes and the feet: the detector still places what is
        beyond its edge, and trusts it less the farther it is."""
        height = points[..., 1]
        low, high = height.amin(1, keepdim=True), height.amax(1, keepdim=True)
        cut, depth = torch.rand(2, len(points), 1, generator=generator)
        beyond = (height - low) / (high - low).clamp(min=1e-3) - 0.05 - 0.95 * cut
        return torch.where(beyond > 0, 0.25 * (-20 * depth * beyond).exp(), sure)


class KnuckleNoise(nn.Module):
    """Errors of a hand detector's knuckles about the wrist, for one side."""

    def __init__(self, noise, layout, side):
        """noise: `PartNoise` of a left hand; a right one errs as its mirror image."""
        super().__init__()
        definition = layout.definition
        names = [name for name in definition.names if name.startswith(f"{side}_hand_")]
        self.knuckles = [definition.index(name) for name in names]
        self.wrist = definition.index(f"{side}_wrist")
        self.joint = layout.joint_names.index(f"{side}_wrist")
        rows = [HAND_21.index(name.removeprefix(f"{side}_hand_")) for name in names]
        mirror = np.array([1.0 if side == "left" else -1.0, 1, 1])
        factor = noise.factor.reshape(len(HAND_21), 3, -1)
        mirror_turn = mirror[0] * mirror  # of a rotation vector
        for name, values in (
            ("factor", (factor[rows] - factor[0]) * mirror[:, None]),
            ("mean", (noise.mean[rows] - noise.mean[0]) * mirror),
            ("offset", (noise.offset[rows] - noise.offset[0]) * mirror),
            ("tilt_mean", noise.tilt_mean * mirror_turn),
            ("tilt_factor", noise.tilt_factor * mirror_turn[:, None]),
        ):
            self.register_buffer(name, torch.as_tensor(np.asarray(values), dtype=torch.float32), persistent=False)

    def place_knuckles(self, noisy, turned, orientations, strength, bias, age, generator):
        """noisy [B, K, 3] with its knuckles put onto its wrist as a hand detector gives them.

        turned [B, K, 3]: the points before errors; age [B, 1] in 0..1: how long ago the hand was found.
        """
        count = len(noisy)
        arms = turned[:, self.knuckles] - turned[:, self.wrist, None]
        arms = arms + bias * (orientations[:, self.joint, None] @ self.offset[..., None])[..., 0]
        drawn = torch.randn(count, self.factor.shape[-1], generator=generator)
        turn = bias[..., 0] * self.tilt_mean + strength[..., 0] * (drawn @ self.tilt_factor.T)
        turn = turn + HELD_TURN * age * torch.randn(count, 3, generator=generator)
        arms = arms @ roma.rotvec_to_rotmat(turn).transpose(1, 2)
        error = torch.einsum("kcr,br->bkc", self.factor, drawn)
        noisy = noisy.clone()
        noisy[:, self.knuckles] = noisy[:, self.wrist, None] + arms + bias * self.mean + strength * error
        return noisy


def _sources(definition):
    """[K, points of the measured part]: shares of the measured points' errors that make up each keypoint's."""
    if definition is HAND_21:
        return np.eye(len(HAND_21))
    names = definition.names if definition is SMPL_33 else BLAZEPOSE_33.names
    shares = np.zeros((len(names), len(BLAZEPOSE_33)))
    for row, name in enumerate(names):
        for source, share in _SMPL_SOURCES.get(name, {name: 1.0}).items() if definition is SMPL_33 else [(name, 1.0)]:
            shares[row, BLAZEPOSE_33.index(source)] = share
    return shares


def _bones(part, definition):
    """(row of the part's bones, (parent, child) of the definition) for the bones whose ends the definition has too."""
    names = {"index": "index_mcp", "pinky": "pinky_mcp"} if definition is SMPL_33 else {}

    def place(point):
        side, _, name = part.points[point].partition("_")
        return f"{side}_{names[name]}" if name in names else part.points[point]

    bones = [(place(parent), place(child)) for parent, child in part.bones]
    known = [row for row, bone in enumerate(bones) if all(end in definition.names for end in bone)]
    return [(row, tuple(definition.index(end) for end in bones[row])) for row in known]


def _limbs(definition):
    """Keypoint indices of each arm and leg beyond its first joint."""
    arm, leg = ("elbow", "wrist", "pinky", "index", "thumb", "hand"), ("knee", "ankle", "heel", "foot", "big", "little")
    return [
        [index for index, name in enumerate(definition.names) if name.startswith(f"{side}_") and name.split("_")[1] in parts]
        for side in ("left", "right")
        for parts in (arm, leg)
    ]
