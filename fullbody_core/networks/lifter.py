"""The lifter: a window of a detector's answers to the poses in all of its frames, with contacts and the vertical.

It is IKNet with time: Zhou et al. 2021 name it in their conclusion as what their per-frame networks lack. A frame alone does not
show whether a limb points at the camera or away from it; its path over a second or two does (VideoPose3D, Pavllo et al. 2019,
whose dilated residual convolutions over time these are, here for all frames of a window at once and with the window centred).

It reads the detector's points in the picture as lines of sight, its points in space, and what BodyIKNet made of each frame; what
it says is a correction of the latter. Everything is turned, and sized, for the window as a whole: into axes that look at the
person, upright in the picture, and into the person's own metres. So a person's movement within the window stays to be seen.
"""

from typing import NamedTuple

import torch
from torch import nn

from ..contract.npz_file import FileError
from ..weights import fill_network
from .iknet import BLAZEPOSE_LAYOUT, GIVEN_UP, rotation_from_6d

FORMAT_NAME, FORMAT_VERSION = "fullbody-lifter", 1

FRAMERATE = 30.0
"""Hz. What it was trained for; a motion's own speed may differ by a third."""

WIDTH, INNER = 224, 384
"""Numbers that describe a frame, and within a block."""

DILATIONS = (1, 2, 4, 8, 16, 1, 4)
"""Frames between the three that each block looks at: it sees 36 frames to either side."""

STEPS = 0.1, 1.0, 0.2, 0.3
"""What a number that leaves the network is worth as a rotation's, a contact's, the vertical's and its spread's: an optimiser of
Adam's kind moves all of them alike, and the start is good to a tenth."""

ERRORS = 4.0
"""By how much the start's errors are enlarged: metres that matter are small ones."""

CONTACTS = ("left_heel", "left_toe", "right_heel", "right_toe")


class LifterInput(NamedTuple):
    """B windows of T frames at FRAMERATE Hz, in axes that stay (a camera that turns counts as standing at its first frame).

    sights [B, T, 33, 3]: directions from the camera to BlazePose's points, of any length
    points [B, T, K, 3] m about any root, in the layout's definition, and confidence [B, T, K] in 0..1
    start [B, T, 22, 3, 3]: BodyIKNet's answer; posed [B, T, K, 3] m about any root: the points on the person in that pose
    reference [B, K, 3] m: the points on the person at rest
    valid [B, T] bool: frames in which there is a person at all. What stands in other frames is not read.
    """

    sights: torch.Tensor
    points: torch.Tensor
    confidence: torch.Tensor
    start: torch.Tensor
    posed: torch.Tensor
    reference: torch.Tensor
    valid: torch.Tensor


class LifterPose(NamedTuple):
    """rotations [B, T, 22, 3, 3]: the root's turns rest axes into the input's, the others are relative to their parents; contacts
    [B, T, 4] logits in the order of CONTACTS; up [B, T, 3] unit, in the input's axes; log_spread [B, T]: of the angle in radians by
    which up is off, its logarithm."""

    rotations: torch.Tensor
    contacts: torch.Tensor
    up: torch.Tensor
    log_spread: torch.Tensor


class LifterNet(nn.Module):
    """`LifterInput` to `LifterPose`, for windows of any length. Every finite input gives a finite answer."""

    def __init__(self, layout=BLAZEPOSE_LAYOUT):
        super().__init__()
        self.layout = layout
        keypoints = len(layout.definition)
        self.drawn_count = keypoints - 8  # the hand detector's knuckles have no line of sight here
        self.joint_count = len(layout.joint_names)
        # lines of sight, their rates and the start's errors there; the start, its errors in space, confidences; the person's place,
        # size and direction, and whether there is one
        inputs = 2 * 3 * self.drawn_count + 7 * keypoints + 6 * (2 * self.joint_count - 1) + 3 + 4 + 1
        self.enter = nn.Linear(inputs, WIDTH)
        self.rest = nn.Linear(3 * keypoints, WIDTH)
        self.blocks = nn.ModuleList(TemporalBlock(WIDTH, INNER, dilation) for dilation in DILATIONS)
        self.norm = nn.LayerNorm(WIDTH)
        self.leave = nn.Linear(WIDTH, 6 * self.joint_count + len(CONTACTS) + 3 + 1)
        # A fresh network passes BodyIKNet's answer on.
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

        def keep(name, values):
            self.register_buffer(name, torch.as_tensor(values), persistent=False)

        keep("parent", [parent for parent, _ in layout.size_bones])
        keep("child", [child for _, child in layout.size_bones])
        keep("trunk", list(layout.trunk))
        keep("above", list(layout.parents[1:]))

    def forward(self, given):
        # Only the layers may be asked for half precision: it is a centimetre in a line of sight.
        with torch.autocast(given.sights.device.type, enabled=False):
            axes, turned, features = self.read(given)
            reference = given.reference - given.reference[:, self.trunk].mean(1, keepdim=True)
        answer = self.think(features, reference)
        with torch.autocast(given.sights.device.type, enabled=False):
            return self.write(answer.float(), axes, turned)

    def read(self, given):
        """The window's axes [B, 3, 3], as columns; the start's orientations in them, two columns of each [B, T, J, 6]; and
        everything that the layers read, [B, T, N]."""
        valid = given.valid
        confidence = torch.where(valid[..., None], given.confidence.clamp(0, 1), 0.0)
        gate = (confidence / GIVEN_UP).clamp(max=1)
        sights = nn.functional.normalize(given.sights, dim=-1, eps=1e-6)
        sights, points, posed, start = bridge(valid, sights, given.points, given.posed, given.start[..., :2])
        axes = self.look_at(sights, valid)
        sights = sights @ axes[:, None]  # rows: axes^T x
        points, posed = self.centred(points @ axes[:, None]), self.centred(posed @ axes[:, None])
        local = two_columns(start)
        turned = two_columns(self.chain(axes.mT[:, None], rotation_from_6d(local)))

        seen = sights[..., :2] / sights[..., 2:].clamp(min=0.1)
        own = slice(0, self.drawn_count)
        in_metres, in_picture = self.sizes(points, posed, seen, gate)
        place = seen[:, :, self.trunk].mean(2)  # [B, T, 2]
        size = in_picture.log()
        window_size = self.window_mean(size[..., None], valid)[..., 0]  # [B]
        per_metre = window_size.exp()[:, None, None]
        middle = self.window_mean(place, valid)[:, None]
        rates = rate_of_change((seen - middle[:, :, None]) / per_metre[..., None])
        seen = seen - place[:, :, None]
        # Where the start would be seen, from as far away as its size says.
        drawn = posed[:, :, own, :2] / (1 + posed[:, :, own, 2:] * in_picture[..., None, None]).clamp(min=0.2)
        missed = seen / in_picture[..., None, None] - self.centred(drawn)
        seen = seen / per_metre[..., None]
        scale = self.window_mean(in_metres.log()[..., None], valid)[:, None]  # [B, 1, 1]
        points = points / scale.exp()[..., None]

        whole = torch.stack([window_size, scale[:, 0, 0], axes[:, 0, 2], axes[:, 1, 2]], -1)
        features = [
            (seen * gate[:, :, own, None]).flatten(2),
            (rates * gate[:, :, own, None]).flatten(2),
            (ERRORS * missed * gate[:, :, own, None]).flatten(2),
            posed.flatten(2),
            (ERRORS * (points - posed) * gate[..., None]).flatten(2),
            confidence,
            turned.flatten(2),
            local[:, :, 1:].flatten(2),
            (place - middle) / per_metre,
            (size - window_size[:, None])[..., None],
            whole[:, None].expand(-1, valid.shape[1], -1),
            valid[..., None].float(),
        ]
        return axes, turned, torch.cat(features, 2)

    def think(self, features, reference):
        """The layers: what leaves them [B, T, M], of features [B, T, N] and the person at rest [B, K, 3]."""
        hidden = self.enter(features) + self.rest(reference.flatten(1))[:, None]  # [B, T, width]
        for block in self.blocks:
            hidden = block(hidden)
        return self.leave(self.norm(hidden))

    def write(self, answer, axes, turned):
        """`LifterPose` of what left the layers.

        A joint's orientation in the window's axes is what the picture shows of it; its rotation relative to its parent, which has
        errors of its own, follows.
        """
        parts = answer.split([6 * self.joint_count, len(CONTACTS), 3, 1], 2)
        turns, contacts, up, log_spread = (part * step for part, step in zip(parts, STEPS))
        orientations = rotation_from_6d(turned + turns.unflatten(2, (self.joint_count, 6)))
        relative = orientations[:, :, self.above].mT @ orientations[:, :, 1:]
        rotations = torch.cat([(axes[:, None] @ orientations[:, :, 0])[:, :, None], relative], 2)
        # A level camera's up, and what the network would have it be instead.
        upright = -axes[:, 1, None]  # axes^T (0, -1, 0)
        up = nn.functional.normalize(upright + up, dim=-1, eps=1e-6) @ axes.mT
        return LifterPose(rotations, contacts, up, log_spread[..., 0] - 2.5)

    def look_at(self, sights, valid):
        """Axes [B, 3, 3], as columns, that look at the middle of the person in the window, without roll."""
        sights = nn.functional.normalize(sights[:, :, self.trunk], dim=-1, eps=1e-6)
        forward = self.window_mean(sights.mean(2), valid) + sights.new_tensor([0, 0, 1e-6])
        forward = nn.functional.normalize(forward, dim=-1)
        down = forward.new_tensor([0.0, 1, 0]).expand_as(forward)
        right = torch.linalg.cross(down, forward) + forward.new_tensor([1e-6, 0, 0])
        right = nn.functional.normalize(right, dim=-1)
        return torch.stack([right, torch.linalg.cross(forward, right), forward], -1)

    def chain(self, axes, rotations):
        """Orientations [B, T, J, 3, 3] of joints whose rotations [B, T, J, 3, 3] are relative to their parents, and the root's
        to axes [B, 1, 3, 3]."""
        orientations = [axes @ rotations[:, :, 0]]
        for joint, parent in enumerate(self.layout.parents[1:], 1):
            orientations.append(orientations[parent] @ rotations[:, :, joint])
        return torch.stack(orientations, 2)

    def centred(self, points):
        """Points [B, T, N, D] about the middle of the trunk."""
        return points - points[:, :, self.trunk].mean(2, keepdim=True)

    def sizes(self, points, posed, seen, gate):
        """How long a metre of the posed person is in the points' metres, and how long in the picture at depth one, [B, T] each.

        Over bones that are seen, and whatever there is without any."""
        weight = gate[:, :, self.parent] * gate[:, :, self.child] + 1e-3

        def total(items):
            return (weight * (items[:, :, self.child] - items[:, :, self.parent]).norm(dim=-1)).sum(2)

        in_metres = (total(points) + 1e-4) / (total(posed) + 1e-4)
        in_picture = (total(seen) + 1e-5) / (total(posed[..., :2]) + 3e-5)
        # No person is a hand's breadth away, or a mile.
        return in_metres.clamp(0.2, 5), in_picture.clamp(1e-3, 3)

    @staticmethod
    def window_mean(values, valid):
        """Mean [B, N] over the valid frames of values [B, T, N]."""
        weight = valid[..., None].float() + 1e-6
        return (values * weight).sum(1) / weight.sum(1)

    def to_tensors(self, reference):
        """(tensors in half precision, text metadata) to store. reference [K, 3] m: the mean body it was trained on, at rest."""
        tensors = {name: value.detach().half().contiguous() for name, value in self.state_dict().items()}
        metadata = {"format": FORMAT_NAME, "version": str(FORMAT_VERSION), "definition": self.layout.definition.name}
        return tensors | {"reference": reference.float().contiguous()}, metadata

    @classmethod
    def from_tensors(cls, tensors, metadata):
        """(network, reference [K, 3] m) from what `to_tensors` gave. Raises `FileError` that names the first misfit."""
        if metadata.get("format") != FORMAT_NAME or metadata.get("version") != str(FORMAT_VERSION):
            raise FileError(f"These are not lifter weights of format {FORMAT_VERSION}, got {metadata.get('format')!r}.")
        layout = BLAZEPOSE_LAYOUT
        if metadata.get("definition") != layout.definition.name:
            raise FileError(f"There is no lifter for {metadata.get('definition')!r} keypoints: update fullbody.")
        network = fill_network(cls(layout), tensors, "lifter", [("reference", (len(layout.definition), 3))])
        return network, tensors["reference"].float()


class TemporalBlock(nn.Module):
    """A frame and its neighbours `dilation` before and after it, through two layers about a short cut, normalised before."""

    def __init__(self, width, inner, dilation):
        super().__init__()
        self.dilation = dilation
        self.norm = nn.LayerNorm(width)
        self.first = nn.Linear(3 * width, inner)
        self.second = nn.Linear(inner, width)

    def forward(self, hidden):
        frames, beyond = hidden.shape[1], self.dilation
        padded = nn.functional.pad(self.norm(hidden), (0, 0, beyond, beyond))
        three = torch.cat([padded[:, start : start + frames] for start in (0, beyond, 2 * beyond)], -1)
        return hidden + self.second(nn.functional.silu(self.first(three)))


def two_columns(rotations):
    """The first two columns [..., 6] of rotations [..., 3, 2 or 3]."""
    return torch.cat([rotations[..., 0], rotations[..., 1]], -1)


def rate_of_change(values):
    """Rates of change [B, T, ...] of values, in 2 a second: over four frames, so that a detector's trembling is no movement."""
    first, last = values[:, :1], values[:, -1:]
    padded = torch.cat([first, first, values, last, last], 1)
    return (padded[:, 4:] - padded[:, :-4]) * (FRAMERATE / 4 / 2)


def bridge(valid, *values):
    """Values [B, T, ...] in which frames that are not valid [B, T] lie on the straight line between their neighbours in time.

    Before the first valid frame and after the last one it is that one's; without any, zero.
    """
    frames = torch.arange(valid.shape[1], device=valid.device).expand_as(valid)
    last = valid.shape[1] - 1
    before = torch.where(valid, frames, -1).cummax(1).values
    after = torch.where(valid, frames, last + 1).flip(1).cummin(1).values.flip(1)
    before, after = torch.where(before < 0, after, before), torch.where(after > last, before, after)
    share = (frames - before) / (after - before).clamp(min=1)
    nobody = ~valid.any(1)
    before, after = before.clamp(0, last), after.clamp(0, last)
    bridged = []
    for value in values:
        shape = valid.shape + (1,) * (value.ndim - 2)
        rows = torch.arange(len(valid), device=valid.device)[:, None]
        value = torch.where(valid.reshape(shape), value, 0.0)
        ahead = share.to(value.dtype).reshape(shape)
        value = (1 - ahead) * value[rows, before] + ahead * value[rows, after]
        bridged.append(torch.where(nobody.reshape(-1, *(1,) * (value.ndim - 1)), 0.0, value))
    return bridged
