"""What the lifter is trained on: windows of motions before random cameras, as a detector would have seen them.

As in `iknet_samples`, from the outside in; but everything is drawn for a window at once, so that what a detector does wrong stays
wrong for a while: errors drift, limbs are hidden, bent the wrong way or out of the picture for whole stretches, hands come and go.
Everything comes from one generator, so that a step of training depends on its number alone.
"""

from typing import NamedTuple

import numpy as np
import roma
import torch

from ..contract.skeleton import BODY_JOINTS, JOINT_INDEX, JOINT_NAMES, mirror_names
from ..ik.iknet import BODY_WEIGHTS, load_iknet
from ..ik.rest_skeleton import SOLE_PLACES, RestSkeleton
from ..networks.iknet import BLAZEPOSE_LAYOUT, SHAPE_SIZE, rotation_from_6d
from ..networks.lifter import FRAMERATE, LifterInput
from .iknet_samples import believed_betas, bind_keypoints, chance, random_cameras, random_rotations
from .lifter_noise import DetectorTrack, smooth_noise

SPEEDS = (0.7, 1.4)
"""A window's speed, of its motion's own."""

TUMBLED, SHAKEN, TURNED_WRISTS = 0.05, 0.4, 0.5
"""Share of windows turned over in space altogether, disturbed joint by joint, and given hands that turn about their wrists, which
motion capture seldom records."""

SHAKE, WRIST_TURN = np.radians(6), np.radians([22.0, 20.0, 30.0])
"""Deviations in radians: of each joint in a shaken window, and of a hand's twist and its two bends."""

WRONG_FOCAL, FOCAL_SPREAD = 0.5, 0.12
"""Share of windows whose camera is believed to have another focal length, and the deviation of its logarithm."""

DISTANCE, DISTANCE_SPREAD, NEAREST = 3.6, 0.4, 0.5
"""m: median of the person's distance, deviation of its logarithm, and what no point is nearer than."""

FURTHER_PITCH = np.radians(8)
"""Deviation of a camera's look down beyond that of `random_cameras`."""

ASIDE = np.radians([12.0, 5.0])
"""Deviations of the person's direction from the camera's axis, to the side and up or down."""

HOLED, LONGEST_HOLE, CUT_SHORT = 0.25, 15, 0.1
"""Share of windows with a hole in which nobody is found, its most frames, and share whose clip begins or ends within the window."""

STANDS_BELOW, STANDS_SOFT = 0.30, 0.06
"""m/s: a sole's point that is slower stands, and how soft that border is."""

LIFTED, LIFTED_SECONDS, OTHER_FOOT = 0.03, 0.35, 0.35
"""A point of a foot does not stand that is so many m above its lowest place within so many seconds, or so many above the other
foot."""


class LifterSample(NamedTuple):
    """given: `LifterInput`. Then the truth in the same axes.

    rotations [B, T, 22, 3, 3] relative to the parents, and orientations [B, T, 22, 3, 3]; betas [B, 16]; posed [B, T, K, 3] m about
    the root; contacts [B, T, 4] in 0..1; up [B, 3]
    grounded [B] bool: contacts and up mean something; inside [B, T] bool: frames that belong to the clip
    """

    given: LifterInput
    rotations: torch.Tensor
    orientations: torch.Tensor
    betas: torch.Tensor
    posed: torch.Tensor
    contacts: torch.Tensor
    up: torch.Tensor
    grounded: torch.Tensor
    inside: torch.Tensor


class MotionWindows:
    """Motions of the 22 body joints, from which windows are cut."""

    def __init__(self, motions, skeleton):
        """motions: of `load_motions`, with `trans`; skeleton: the mean body's `RestSkeleton`."""
        rotations, ways, contacts, self.first, self.count, self.rate = [], [], [], [], [], []
        for motion in motions:
            if len(motion.rotations) < 4:
                continue
            way, stands = plant(motion, skeleton)
            self.first.append(sum(map(len, rotations)))
            self.count.append(len(way))
            self.rate.append(motion.framerate)
            rotations.append(motion.rotations[:, BODY_JOINTS])
            ways.append(way)
            contacts.append(stands)

        def keep(values):
            return torch.as_tensor(np.concatenate(values), dtype=torch.float32)

        self.rotations, self.ways, self.contacts = keep(rotations), keep(ways), keep(contacts)
        self.first, self.count = torch.tensor(self.first), torch.tensor(self.count)
        self.rate = torch.tensor(self.rate)
        self.mirror = torch.tensor(mirror_names(JOINT_NAMES[BODY_JOINTS]))

    def draw(self, count, frames, generator, augment=True):
        """(rotations [B, T, 22, 3, 3] into a world with z up, ways [B, T, 3] m of the pelvis, contacts [B, T, 4], inside [B, T]).

        Long motions are as likely as they are long, within reason. Without augmentation neither speed nor sides change.
        """
        likely = self.count.clamp(min=frames, max=40 * frames).float()
        which = torch.multinomial(likely, count, replacement=True, generator=generator)
        low, high = SPEEDS if augment else (1.0, 1.0)
        speed = torch.exp(torch.rand(count, generator=generator) * np.log(high / low) + np.log(low))
        step = speed * self.rate[which] / FRAMERATE  # [B] frames of the motion a frame
        spare = self.count[which] - 1 - step * (frames - 1)
        start = torch.rand(count, generator=generator) * spare.clamp(min=0)
        places = start[:, None] + step[:, None] * torch.arange(frames)
        inside = places <= self.count[which, None] - 1
        places = torch.minimum(places, self.count[which, None] - 1.001)
        share = places.frac()
        before = self.first[which, None] + places.long()

        def between(values):
            ahead = share.reshape(share.shape + (1,) * (values.ndim - 1))
            return (1 - ahead) * values[before] + ahead * values[before + 1]

        columns = between(self.rotations[..., :2])
        rotations = rotation_from_6d(torch.cat([columns[..., 0], columns[..., 1]], -1))
        ways, contacts = between(self.ways), between(self.contacts)
        if augment:
            mirrored = chance(count, 0.5, generator)
            looking_glass = torch.diag(torch.tensor([-1.0, 1, 1]))
            other = looking_glass @ rotations[:, :, self.mirror] @ looking_glass
            rotations = torch.where(mirrored[..., None, None, None], other, rotations)
            ways = torch.where(mirrored[..., None], ways * torch.tensor([-1.0, 1, 1]), ways)
            contacts = torch.where(mirrored[..., None], contacts.roll(2, -1), contacts)
        return rotations, ways, contacts, inside


def plant(motion, skeleton):
    """(way of the pelvis [T, 3] m, contacts [T, 4] in 0..1: left heel and toe, right heel and toe) of a motion on a mean body.

    The sources' legs are longer or shorter than the body's: their way is taken at the scale at which standing feet slide least.
    """
    joints, orientations = skeleton.pose(motion.rotations)
    soles = skeleton.place(SOLE_PLACES, joints, orientations)
    trans = np.zeros((len(soles), 3)) if motion.trans is None else motion.trans - motion.trans[:1]

    def speeds(scale):
        return np.linalg.norm(np.gradient(soles + scale * trans[:, None], axis=0), axis=-1) * motion.framerate

    scales = np.arange(0.8, 1.2, 0.02)
    scale = min(scales, key=lambda scale: np.percentile(speeds(scale).min(1), 30))
    heights = soles[..., 2] + scale * trans[:, None, 2]
    reach = max(1, round(LIFTED_SECONDS * motion.framerate))
    padded = np.pad(heights, ((reach, reach), (0, 0)), mode="edge")
    lowest = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=0).min(-1)
    feet = heights.reshape(-1, 2, 3).min(2)
    down = (heights < lowest + LIFTED) & (heights < np.repeat(feet[:, ::-1], 3, 1) + OTHER_FOOT)
    stands = down / (1 + np.exp((speeds(scale) - STANDS_BELOW) / STANDS_SOFT))
    return scale * trans, stands[:, [0, 2, 3, 5]]


class LifterSampleMaker:
    """Draws `LifterSample`s."""

    def __init__(self, body, motions, noise=None, iknet=None):
        """body: `BodyModelFile`; motions: of `load_motions`; noise: `DetectorNoise`, or None for exact keypoints; iknet: the
        `IKNet` whose answers are the start, by default the shipped one."""
        self.layout = BLAZEPOSE_LAYOUT
        self.keypoints = bind_keypoints(body, self.layout)
        self.windows = MotionWindows(motions, RestSkeleton.of_body(body, np.zeros(SHAPE_SIZE)))
        self.noise = DetectorTrack(noise, self.layout)
        self.iknet = load_iknet(BODY_WEIGHTS["blazepose_33"])[0] if iknet is None else iknet

    @torch.no_grad()
    def draw(self, count, frames, generator, augment=True, hide=True):
        """B = count windows of T = frames.

        Without `augment` motions stay as they were captured, and a detector's errors are of their measured size in every window;
        without `hide` everything is seen in all frames.
        """
        rotations, ways, contacts, inside = self.windows.draw(count, frames, generator, augment)
        if augment:
            rotations = disturb_poses(rotations, generator)
        betas = torch.randn(count, SHAPE_SIZE, generator=generator)
        camera = random_cameras(count, generator)
        pitch = FURTHER_PITCH * torch.randn(count, 3, generator=generator) * torch.tensor([1.0, 0, 0])
        camera = roma.rotvec_to_rotmat(pitch) @ camera
        tumbled = chance(count, TUMBLED if augment else 0, generator)[:, 0]
        camera = torch.where(tumbled[:, None, None], random_rotations(count, generator), camera)
        up = camera[:, :, 2]
        rotations = torch.cat([(camera[:, None] @ rotations[:, :, 0])[:, :, None], rotations[:, :, 1:]], 2)
        ways = self.leg_ratio(betas)[:, None, None] * ways @ camera.mT

        flat = rotations.flatten(0, 1)
        joints, points, orientations = self.keypoints(betas.repeat_interleave(frames, 0), flat)
        points, orientations = points.unflatten(0, (count, frames)), orientations.unflatten(0, (count, frames))
        pelvis = self.place(points, ways, generator)
        stretch = torch.where(
            chance(count, WRONG_FOCAL, generator)[:, 0], torch.randn(count, generator=generator) * FOCAL_SPREAD, 0.0
        ).exp()
        seen, noisy, confidence, believed = self.detect(
            points, orientations, pelvis, stretch, generator, hide=hide, varied=augment
        )
        # What is seen is the person as from the believed direction.
        rotations = torch.cat([(believed[:, None] @ rotations[:, :, 0])[:, :, None], rotations[:, :, 1:]], 2)
        orientations = believed[:, None, None] @ orientations
        up = (believed @ up[..., None])[..., 0]
        believed_shape = believed_betas(betas, generator)
        reference = self.keypoints.rest(believed_shape)[1]
        valid = inside & ~self.draw_holes(count, frames, generator) if hide else inside
        with torch.autocast("cpu", dtype=torch.bfloat16):
            answer = self.iknet(noisy.flatten(0, 1), confidence.flatten(0, 1), reference.repeat_interleave(frames, 0))
        start = answer.rotations.unflatten(0, (count, frames))
        posed = self.keypoints(believed_shape.repeat_interleave(frames, 0), answer.rotations)[1].unflatten(
            0, (count, frames)
        )
        given = LifterInput(seen, noisy, confidence, start, posed, reference, valid)
        truth = rotations, orientations, betas, points @ believed.mT[:, None]
        return LifterSample(given, *truth, contacts, up, ~tumbled, inside)

    def leg_ratio(self, betas):
        """How long a shape's legs are, [B], of the mean's."""
        names = self.layout.joint_names
        leg = [names.index(f"left_{name}") for name in ("hip", "knee", "ankle")]

        def length(betas):
            joints = self.keypoints.rest(betas)[0][:, leg]
            return (joints[:, 1:] - joints[:, :-1]).norm(dim=-1).sum(1)

        return length(betas) / length(torch.zeros_like(betas[:1]))

    def place(self, points, ways, generator):
        """The pelvis's way [B, T, 3] m before the camera, such that all the points [B, T, K, 3] about it are before it, too."""
        count = len(points)
        middle = ways[:, ways.shape[1] // 2, None]
        ways = ways - middle
        aside = torch.randn(count, 2, generator=generator) * torch.tensor(ASIDE, dtype=torch.float32)
        distance = DISTANCE * (DISTANCE_SPREAD * torch.randn(count, generator=generator)).exp()
        nearest = (points[..., 2] + ways[..., 2:]).amin((1, 2))
        distance = torch.maximum(distance, NEAREST - nearest)
        return ways + torch.stack([aside[:, 0].tan() * distance, aside[:, 1].tan() * distance, distance], -1)[:, None]

    def detect(self, points, orientations, pelvis, stretch, generator, **how):
        """(lines of sight [B, T, 33, 3], points [B, T, K, 3] m, confidences [B, T, K]) as a detector and a camera whose focal
        length is wrong by `stretch` [B] give them; and the turn [B, 3, 3] from what is there to what is believed. how: as in
        `DetectorTrack.detect`."""
        direction = pelvis * torch.stack([torch.ones_like(stretch), torch.ones_like(stretch), stretch], -1)[:, None]
        view, believed = arc_from_forward(pelvis), arc_from_forward(direction)  # [B, T, 3, 3]
        turned = points @ view  # rows: view^T x
        distance = pelvis.norm(dim=-1)
        drawn, noisy, confidence = self.noise.detect(turned, view.mT[:, :, None] @ orientations, generator, **how)
        drawn = drawn + distance[..., None, None] * drawn.new_tensor([0.0, 0, 1])
        sights = drawn @ view.mT
        sights = torch.cat([sights[..., :2], sights[..., 2:].clamp(min=0.1) * stretch[:, None, None, None]], -1)
        middle = points.shape[1] // 2
        return sights, noisy @ believed.mT, confidence, (believed @ view.mT)[:, middle]

    @staticmethod
    def draw_holes(count, frames, generator):
        """Frames [B, T] in which nobody is found: a hole in some windows, and the beginning or the end of others."""
        time = torch.arange(frames)
        length = 1 + torch.randint(LONGEST_HOLE, (count, 1), generator=generator)
        first = torch.randint(frames, (count, 1), generator=generator)
        hole = chance(count, HOLED, generator) & (time >= first) & (time < first + length)
        edge = torch.randint(frames // 2, (count, 1), generator=generator)
        kind = torch.rand(count, 1, generator=generator)
        begins = (kind < CUT_SHORT / 2) & (time < edge)
        ends = (kind > 1 - CUT_SHORT / 2) & (time >= frames - edge)
        return hole | begins | ends


def disturb_poses(rotations, generator):
    """Rotations [B, T, 22, 3, 3] with some windows' joints turned a little, and some hands, both slowly."""
    count, frames, joints = rotations.shape[:3]
    amount = chance(count, SHAKEN, generator) * torch.rand(count, 1, generator=generator) * SHAKE
    turn = smooth_noise(count, frames, (joints, 3), generator, (0.4, 4.0)) * amount[..., None, None]
    turn[:, :, 0] = 0
    hands = smooth_noise(count, frames, (2, 3), generator, (0.15, 2.0)) * torch.tensor(WRIST_TURN, dtype=torch.float32)
    hands = hands * chance(count, TURNED_WRISTS, generator)[..., None, None]
    for index, side in enumerate(("left", "right")):
        # Half of the forearm's turn shows below the elbow and half at the wrist, as the closed form shares it.
        turn[:, :, JOINT_INDEX[f"{side}_elbow"], 0] += hands[:, :, index, 0] / 2
        turn[:, :, JOINT_INDEX[f"{side}_wrist"]] += hands[:, :, index] * hands.new_tensor([0.5, 1, 1])
    return rotations @ roma.rotvec_to_rotmat(turn)


def arc_from_forward(directions):
    """Rotations [..., 3, 3] that turn (0, 0, 1) into directions [..., 3] of any length on the shortest way."""
    x, y, z = torch.nn.functional.normalize(directions, dim=-1).unbind(-1)
    share = 1 / (1 + z).clamp(min=1e-3)
    rows = [1 - x * x * share, -x * y * share, x, -x * y * share, 1 - y * y * share, y, -x, -y, z]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))
