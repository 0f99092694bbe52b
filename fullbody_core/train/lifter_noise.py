"""A detector's errors over a window of time: the measured `DetectorNoise`, in the picture and in space, for the lifter's training.

In space they are those of `keypoint_noise`, with every number that is drawn there for a frame drawn here as a process in time.
In the picture they are much smaller, as a detector sees there what it guesses in depth, and go partly with those in space. Beside
them stand the errors that last: a limb hidden, or bent the wrong way along the line of sight, the lower body out of the picture,
a hand that is not found.
"""

from functools import lru_cache

import numpy as np
import roma
import torch
from torch import nn

from ..contract.skeleton import BLAZEPOSE_33, SIDES
from .iknet_samples import chance
from .keypoint_noise import HAND_FOUND, HELD_TURN, KeypointNoise

SLOW = (0.15, 5.0)
"""s: time constants of a detector's errors. The measured one, 0.2 s, is that of bursts of moving people; who stands still is
seen wrongly in the same way for long."""

NEW = (0.01, 0.08)
"""Share of the variance that is new in every frame at 30 Hz, drawn for each window. Measured on rendered clips without a detector's
own smoothing, as are the numbers below."""

IN_PICTURE, ACROSS, TOGETHER = 0.45, 0.7, 0.7
"""Size of the drifting errors in the picture and of those across the line of sight in space, both of the measured ones in space;
and the share of everything wrong in the picture that is wrong in space as well."""

NEW_IN_PICTURE, MARKED = 6e-3, 13e-3
"""m: in the picture, what is new in every frame, and by what a point is marked elsewhere on the body throughout a window. The
places that a detector means in space are others, and farther off."""

BURSTS = 0.6
"""Deviation of the logarithm of a limb's own size of errors in the picture: a hand is lost for moments, a shoulder is not."""

LATE, LATEST = 0.3, 1.5
"""Share of windows from a detector that smooths, and by how many frames its points are late at most."""

DEPTHS = {
    "elbow": (0.8, 0.25),
    "wrist": (0.5, 0.5),
    "knee": (0.55, 0.25),
    "ankle": (0.8, 0.2),
    "heel": (0.6, 0.4),
    "foot": (0.5, 0.5),
}
"""Of the bone that ends there: by what its depth is multiplied beyond the measured errors, on average and its deviation. A detector
that cannot tell bends a limb neither way, and at times the wrong one; it makes valid poses of it, which a normal distribution of
places does not."""

FLIPPED, FLIP_SECONDS = 0.2, (0.1, 1.5)
"""Share of windows in which a limb is bent the wrong way for a while, and how long that is."""

HIDDEN, LIMB_HIDDEN, HIDDEN_SECONDS, SWING = 0.35, 0.35, (0.2, 3.0), np.radians(20)
"""Share of windows with hidden limbs, how often each limb is then, for how long, and by what angle it is placed wrongly."""

CUT = 0.2
"""Share of windows whose picture ends before the person does."""

DOUBT = 0.15
"""Share of points, for stretches, that a detector doubts without being wrong."""


class DetectorTrack(nn.Module):
    """Errors of BlazePose's keypoints and the hand detector's knuckles over windows. Call `detect`."""

    def __init__(self, noise, layout):
        """noise: `DetectorNoise`, or None if it is only to pass points on; layout: an `IKNetLayout` with knuckles."""
        super().__init__()
        self.layout = layout
        self.frame = None if noise is None else KeypointNoise(noise, layout)
        definition = layout.definition
        self.own = slice(0, len(BLAZEPOSE_33))
        arm, leg = ("elbow", "wrist", "pinky", "index", "thumb", "hand"), ("knee", "ankle", "heel", "foot")
        limbs = [(f"{side}_{root}", side, parts) for side in SIDES for root, parts in (("shoulder", arm), ("hip", leg))]

        def beyond(side, parts):
            return [i for i, n in enumerate(definition.names) if n.startswith(f"{side}_") and n.split("_")[1] in parts]

        self.limbs = [(definition.index(root), beyond(side, parts)) for root, side, parts in limbs]
        # What may be bent the wrong way: a whole limb, or what lies beyond its elbow or knee.
        self.bends = self.limbs + [(points[0], points[1:]) for _, points in self.limbs]
        names = definition.names
        bones = [(names[parent], names[child]) for parent, child in self.frame.bones] if self.frame else []
        self.deep = [
            (names.index(parent), names.index(child), *DEPTHS[part])
            for parent, child in bones
            if (part := child.split("_")[1]) in DEPTHS
        ]
        palm = ("pinky", "index", "thumb", "hand")
        self.palms = [(names.index(f"{side}_wrist"), [i for i in beyond(side, palm)]) for side in SIDES]
        group = torch.zeros(len(BLAZEPOSE_33), dtype=torch.long)
        for index, (_, points) in enumerate(self.limbs):
            group[[point for point in points if point < len(group)]] = index + 1
        self.register_buffer("group", group, persistent=False)

    def detect(self, points, orientations, generator, hide=True, varied=True):
        """(points in the picture [B, T, 33, 3], in space [B, T, K, 3] m, confidences [B, T, K]).

        points [B, T, K, 3] m about the root and orientations [B, T, J, 3, 3], in axes that look at the person. The points in the
        picture are at their true depth. hide: some points are not seen; varied: some windows' errors are smaller than measured.
        """
        count, frames = points.shape[:2]
        confidence = torch.ones(points.shape[:3])
        hidden = torch.zeros(count, frames, len(self.limbs))
        if hide:
            confidence, hidden = self.draw_confidence(points, generator)
        if self.frame is None:
            return points[:, :, self.own], points, confidence
        strengths = self.frame.draw_strengths(count, generator) if varied else torch.ones(2, count)
        strength, bias = (item[:, None, None, None] for item in strengths)
        marked = self.swing_hidden(points, hidden, generator)
        marked = self.late(marked, generator)
        true = marked[:, :, self.own].clone()
        carried = orientations[:, :, self.frame.carriers]
        elsewhere = MARKED * torch.randn(count, 1, len(self.group), 3, 1, generator=generator)
        drawn = true + strength * (carried @ elsewhere)[..., 0]
        marked[:, :, self.own] += bias * (carried @ self.frame.offset[..., None])[..., 0]
        return *self.add_errors(points, true, drawn, marked, orientations, confidence, strength, bias, generator), confidence

    def add_errors(self, points, true, drawn, marked, orientations, confidence, strength, bias, generator):
        """The points in the picture and in space, from where they are [B, T, K, 3] m, where the detector takes them to be
        [B, T, 33, 3], and where it marks them, in the picture [B, T, 33, 3] and in space [B, T, K, 3]."""
        frame, own = self.frame, self.own
        count, frames = points.shape[:2]
        new = NEW[0] * (NEW[1] / NEW[0]) ** torch.rand(count, 1, 1, generator=generator)
        normal = smooth_noise(count, frames, (frame.factor.shape[-1],), generator, SLOW)
        normal = with_new(normal, new, generator)
        centre = marked[:, :, own].mean(2, keepdim=True)
        tilt = bias[..., 0] * frame.tilt_mean + strength[..., 0] * (normal @ frame.tilt_factor.T)
        turned = (marked - centre) @ roma.rotvec_to_rotmat(tilt).mT
        gain = torch.where(confidence[:, :, own] < 0.5, frame.unseen_gain, 1.0)[..., None]
        amplitude = smooth_noise(count, frames, (1, 1), generator, SLOW)
        amplitude = (frame.amplitude * amplitude - frame.amplitude**2).exp()
        drawn = self.mark_in_picture(drawn, strength * gain, amplitude, generator)
        error = torch.einsum("scr,btr->btsc", frame.factor, normal) * frame.factor.new_tensor([ACROSS, ACROSS, 1])
        error = frame.with_meshed_heads(error.flatten(0, 1), marked[:, :, own].flatten(0, 1), generator)
        error = strength * gain * amplitude * error.unflatten(0, (count, frames)) + bias * frame.mean
        error[..., :2] += TOGETHER * (drawn - true)[..., :2]
        noisy = turned.clone()
        noisy[:, :, own] += error
        stretch = smooth_noise(count, frames, (len(frame.bones),), generator, SLOW)
        noisy = self.set_bones(noisy, points, normal, stretch, strength[..., 0], bias[..., 0])
        for hand in frame.hands:
            noisy = place_knuckles(hand, noisy, turned, orientations, strength, bias, confidence, new, generator)
        noisy = self.scale_depths(noisy, strength[..., 0], bias[..., 0], generator)
        return drawn, self.bend_wrongly(noisy, generator)

    def scale_depths(self, points, strength, bias, generator):
        """points [B, T, K, 3] whose limbs' bones are shorter in depth than they should be, or point the other way there."""
        count, frames = points.shape[:2]
        factors = smooth_noise(count, frames, (len(self.deep),), generator, SLOW)
        depth = points[..., 2]
        scaled = list(depth.unbind(2))
        for (parent, child, mean, deviation), factor in zip(self.deep, factors.unbind(2)):
            factor = 1 - bias[..., 0] * (1 - mean) + strength[..., 0] * deviation * factor
            scaled[child] = scaled[parent] + factor * (depth[:, :, child] - depth[:, :, parent])
        for wrist, rest in self.palms:
            for point in rest:
                scaled[point] = scaled[wrist] + depth[:, :, point] - depth[:, :, wrist]
        return torch.cat([points[..., :2], torch.stack(scaled, 2)[..., None]], -1)

    def mark_in_picture(self, drawn, strength, amplitude, generator):
        """drawn [B, T, 33, 3] m with a drift and something new in every frame, across the line of sight."""
        count, frames = drawn.shape[:2]
        factor = self.frame.factor[:, :2]
        across = smooth_noise(count, frames, (factor.shape[-1],), generator, SLOW)
        across = IN_PICTURE * amplitude * torch.einsum("scr,btr->btsc", factor, across)
        fresh = NEW_IN_PICTURE * torch.randn(across.shape, generator=generator)
        bursts = smooth_noise(count, frames, (len(self.limbs) + 1,), generator, SLOW)
        bursts = (BURSTS * bursts - BURSTS**2).exp()[:, :, self.group, None]
        drawn = drawn.clone()
        drawn[..., :2] += strength * bursts * (across + fresh)
        return drawn

    @staticmethod
    def late(points, generator):
        """points [B, T, K, 3] in some of whose windows all of them come late, as those of a detector that smooths."""
        lag = (
            LATEST
            * torch.rand(len(points), 1, 1, 1, generator=generator)
            * chance(len(points), LATE, generator)[..., None, None]
        )
        before = torch.cat([points[:, :1], points[:, :-1]], 1)
        earlier = torch.cat([before[:, :1], before[:, :-1]], 1)
        first, second = lag.clamp(max=1), (lag - 1).clamp(min=0)
        return points + first * (before - points) + second * (earlier - before)

    def set_bones(self, noisy, points, normal, own, strength, bias):
        """noisy [B, T, K, 3] whose bones keep their directions and are as long as those of `points`, but for a stretch."""
        frame = self.frame
        log_size = (normal @ frame.scale_factor)[..., None]
        varying = (frame.bone_mean + frame.bone_slope * log_size + frame.bone_std * own) / log_size.exp() - frame.bone_mean
        stretch = (1 + bias * (frame.bone_mean - 1) + strength * varying).clamp(min=0.1)
        moved = noisy.clone()
        for index, (parent, child) in enumerate(frame.bones):
            direction = nn.functional.normalize(noisy[:, :, child] - noisy[:, :, parent], dim=-1)
            length = (points[:, :, child] - points[:, :, parent]).norm(dim=-1) * stretch[..., index]
            moved[:, :, child] = moved[:, :, parent] + direction * length[..., None]
        return moved

    def draw_confidence(self, points, generator):
        """(confidences [B, T, K], hidden [B, T, 4] in 0..1: how far each limb is given up)."""
        count, frames, size = points.shape[:3]
        confidence = 1 - 0.1 * torch.rand(count, 1, size, generator=generator) ** 2
        confidence = confidence.expand(-1, frames, -1).clone()
        doubted = stretches(count, frames, size, DOUBT, (0.1, 2.0), generator)
        doubt = 0.4 + 0.6 * torch.rand(count, 1, size, generator=generator)
        confidence = torch.where(doubted, confidence * doubt, confidence)
        cut = chance(count, CUT, generator)[..., None]
        confidence = torch.where(cut, self.cut(points, confidence, generator), confidence)
        hidden = stretches(count, frames, len(self.limbs), LIMB_HIDDEN, HIDDEN_SECONDS, generator)
        hidden &= chance(count, HIDDEN, generator)[..., None]
        for index, (_, limb) in enumerate(self.limbs):
            doubt = 0.5 * torch.rand(count, 1, len(limb), generator=generator)
            lost = torch.minimum(confidence[:, :, limb], doubt)
            confidence[:, :, limb] = torch.where(hidden[..., index, None], lost, confidence[:, :, limb])
        lost = stretches(count, frames, len(SIDES), 0.5, (0.1, 3.0), generator)
        always = torch.rand(count, 1, len(SIDES), generator=generator)
        lost = (lost & (always > HAND_FOUND / 2)) | (always > 0.8)
        trust = (1 - frames_since(~lost) / 12).clamp(min=0)
        for index, hand in enumerate(self.frame.hands if self.frame else ()):
            confidence[:, :, hand.knuckles] = trust[..., index, None].expand(-1, -1, len(hand.knuckles))
        return confidence, hidden.float()

    @staticmethod
    def cut(points, confidence, generator):
        """Confidences in a picture whose lower edge lies somewhere between the eyes and the feet, and stays there."""
        height = points[..., 1]
        low, high = height.amin((1, 2), keepdim=True), height.amax((1, 2), keepdim=True)
        place, depth = torch.rand(2, len(points), 1, 1, generator=generator)
        beyond = (height - low) / (high - low).clamp(min=1e-3) - 0.05 - 0.95 * place
        return torch.where(beyond > 0, 0.25 * (-20 * depth * beyond).exp(), confidence)

    def swing_hidden(self, points, hidden, generator):
        """points [B, T, K, 3] in which limbs are turned about their roots as far as they are hidden [B, T, 4]."""
        count, frames = points.shape[:2]
        turns = SWING * smooth_noise(count, frames, (len(self.limbs), 3), generator, SLOW)
        turns = roma.rotvec_to_rotmat(turns * hidden[..., None])
        moved = points.clone()
        for index, (root, limb) in enumerate(self.limbs):
            arms = points[:, :, limb] - points[:, :, root, None]
            moved[:, :, limb] = points[:, :, root, None] + arms @ turns[:, :, index].mT
        return moved

    def bend_wrongly(self, points, generator):
        """points [B, T, K, 3] in some of whose windows a limb, for a while, is mirrored along the line of sight."""
        count, frames = points.shape[:2]
        which = torch.randint(len(self.bends), (count, 1), generator=generator)
        wrong = stretches(count, frames, 1, 0.4, FLIP_SECONDS, generator)[..., 0] & chance(count, FLIPPED, generator)
        depth = points[..., 2]
        bent = depth.clone()
        for index, (root, limb) in enumerate(self.bends):
            mirrored = 2 * depth[:, :, root, None] - depth[:, :, limb]
            bent[:, :, limb] = torch.where((wrong & (which == index))[..., None], mirrored, bent[:, :, limb])
        return torch.cat([points[..., :2], bent[..., None]], -1)


def place_knuckles(hand, noisy, turned, orientations, strength, bias, confidence, new, generator):
    """noisy [B, T, K, 3] with one hand's knuckles put onto its wrist, as `KnuckleNoise` says, with errors that drift."""
    count, frames = noisy.shape[:2]
    age = 1 - confidence[:, :, hand.knuckles[:1]]
    arms = turned[:, :, hand.knuckles] - turned[:, :, hand.wrist, None]
    arms = arms + bias * (orientations[:, :, hand.joint, None] @ hand.offset[..., None])[..., 0]
    normal = smooth_noise(count, frames, (hand.factor.shape[-1],), generator, SLOW)
    normal = with_new(normal, new, generator)
    held = smooth_noise(count, frames, (3,), generator, SLOW)
    turn = bias[..., 0] * hand.tilt_mean + strength[..., 0] * (normal @ hand.tilt_factor.T) + HELD_TURN * age * held
    arms = arms @ roma.rotvec_to_rotmat(turn).mT
    error = torch.einsum("kcr,btr->btkc", hand.factor, normal)
    noisy = noisy.clone()
    noisy[:, :, hand.knuckles] = noisy[:, :, hand.wrist, None] + arms + bias * hand.mean + strength * error
    return noisy


def with_new(slow, share, generator):
    """Standard normal processes [B, T, ...] of whose variance a share [B, ...] is new in every frame."""
    return (1 - share).sqrt() * slow + share.sqrt() * torch.randn(slow.shape, generator=generator)


@lru_cache
def _shaping(frames, seconds):
    """[T, T] that makes of white noise a process whose correlation over t is (1 + t / seconds) exp(-t / seconds) at 30 Hz."""
    apart = np.abs(np.subtract.outer(np.arange(frames), np.arange(frames))) / (30.0 * seconds)
    correlation = (1 + apart) * np.exp(-apart) + 1e-6 * np.eye(frames)
    return torch.as_tensor(np.linalg.cholesky(correlation), dtype=torch.float32)


def smooth_noise(count, frames, shape, generator, seconds):
    """Standard normal processes [B, T, *shape] that change smoothly, each window with a time constant of its own in `seconds`."""
    low, high = seconds
    ladder = torch.stack([_shaping(frames, float(time)) for time in np.geomspace(low, high, 6)])
    shaping = ladder[torch.randint(len(ladder), (count,), generator=generator)]
    white = torch.randn(count, frames, int(np.prod(shape)), generator=generator)
    return (shaping @ white).reshape(count, frames, *shape)


def stretches(count, frames, size, share, seconds, generator):
    """[B, T, size] bool: one stretch in a share of the rows, of a length drawn evenly by its logarithm, anywhere."""
    low, high = (30 * item for item in seconds)
    middle, length, drawn = torch.rand(3, count, 1, size, generator=generator)
    length = low * (high / low) ** length
    time = torch.arange(frames)[None, :, None]
    return (drawn < share) & ((time - middle * frames).abs() <= length / 2)


def frames_since(found):
    """How many frames [B, T, N] the nearest frame in which found [B, T, N] is away, at most T."""
    frames = found.shape[1]
    time = torch.arange(frames)[None, :, None].expand_as(found)
    before = torch.where(found, time, -frames).cummax(1).values
    after = torch.where(found, time, 2 * frames).flip(1).cummin(1).values.flip(1)
    return torch.minimum(time - before, after - time).clamp(max=frames).float()
