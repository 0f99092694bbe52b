"""From a clip's keypoints to poses by the lifter (`networks.lifter`): long clips in windows that overlap, at any frame rate.

It starts from BodyIKNet's answers, reads a second or so to either side of each frame, and fills frames in which nobody was seen.
It looks twice, the second time in a looking glass, and takes the mean.
"""

from dataclasses import dataclass

import numpy as np
import torch

from ..camera import rays
from ..contract.frames import MIRROR, matrix_to_quaternion, quaternion_to_matrix, slerp_quaternions
from ..contract.skeleton import BLAZEPOSE_33, BODY_JOINTS, JOINT_NAMES, mirror_names
from ..contract.swing_twist import transpose
from ..networks.lifter import FRAMERATE, LifterInput, LifterNet
from ..weights import WeightsUnsuited, load_shipped, read_tensors
from .face_mesh import with_found_head
from .iknet import BODY_WEIGHTS, SAME_BODY, body_points, load_iknet, rest_keypoints, run_network
from .rest_skeleton import RestSkeleton, keypoint_places

WEIGHTS = "lifter-blazepose"

WINDOW, STRIDE = 96, 56
"""Frames at FRAMERATE in one window, and from one window to the next: what two of them say of the same frames is mixed."""

AT_ONCE = 16
"""Windows in one call: memory does not grow with the clip."""

NEAR_RATE = 0.25
"""A video whose frame rate is off from FRAMERATE by less than this share is read frame by frame: people are slow and quick, too."""

SPREAD_FLOOR = np.radians(3.5)
"""What comes to the vertical's spread on pictures: on rendered clips it is off by this much more than on made windows."""


@dataclass
class Lifted:
    """What the lifter makes of T frames.

    rotations [T, 22, 3, 3]: the pelvis's turns rest axes into the camera's of its frame, the others are relative to their parents;
    contacts [T, 2, 2] in 0..1: how surely heel and toe of the left and the right foot stand still on something; up [3] unit, in the
    axes of the reference camera; up_spread rad: deviation of up's angle from the true one.
    """

    rotations: np.ndarray
    contacts: np.ndarray
    up: np.ndarray
    up_spread: float


def load_lifter(path=None):
    """(network, reference [K, 3] m, sha256) of the shipped lifter, or of a weight file, whose sha256 is None.

    Raises `WeightsError` or `FileError`.
    """
    tensors, metadata, sha256 = load_shipped(WEIGHTS) if path is None else (*read_tensors(path), None)
    return *LifterNet.from_tensors(tensors, metadata), sha256


@dataclass
class Lifter:
    """The lifter and the BodyIKNet that it starts from, with their weights. sha256: of the shipped weight files, by id."""

    network: LifterNet
    iknet: torch.nn.Module
    sha256: dict

    name = "lifter"

    @classmethod
    def load(cls, body, definition, path=None):
        """For `BodyModelFile` body and a detector's `KeypointDefinition`; path: of other weights than the shipped ones.

        Raises `WeightsUnsuited` for a body or keypoints that it was not trained for, `WeightsError` for weights it cannot use.
        """
        if definition.name != BLAZEPOSE_33.name:
            raise WeightsUnsuited(f"The lifter was trained on BlazePose's keypoints, and these are {definition.name}.")
        network, reference, sha256 = load_lifter(path)
        iknet_id = BODY_WEIGHTS[definition.name]
        iknet, _, iknet_sha256 = load_iknet(iknet_id)
        mean = rest_keypoints(RestSkeleton.of_body(body, np.zeros(body.shapedirs.shape[-1])), network.layout)
        apart = (mean - mean.mean(0)) - (reference - reference.mean(0)).numpy()
        if np.linalg.norm(apart, axis=-1).max() > SAME_BODY:
            raise WeightsUnsuited("The lifter was trained on the open body, and this is another one.")
        listed = {WEIGHTS: sha256, iknet_id: iknet_sha256}
        return cls(network, iknet, {name: value for name, value in listed.items() if value is not None})

    def lift(self, keypoints, skeleton, matrix, timestamps, camera_turns=None, valid=None):
        """`Lifted` of a shot's keypoints.

        keypoints: `Keypoints` with a leading T axis, body3d in the camera's axes (`pipeline.turn_to_camera`); skeleton:
        `RestSkeleton`; matrix [3, 3] px; timestamps [T] s, rising; camera_turns [T, 3, 3] from the reference camera to each
        frame's, none by default; valid [T] bool: frames in which the person was found, by default those in which any point was.
        The answer is always finite; without any valid frame it is BodyIKNet's usual pose before a level camera.
        """
        count = len(timestamps)
        turns = np.broadcast_to(np.eye(3), (count, 3, 3)) if camera_turns is None else np.asarray(camera_turns, float)
        valid = keypoints.body_confidence.max(1) > 0 if valid is None else np.asarray(valid, bool)
        seen = self._observe(keypoints, skeleton, matrix, valid)
        times = np.asarray(timestamps, float)
        one = self._answer(seen, skeleton, turns, times)
        # The two pictures' errors differ, the person does not.
        other = mirrored_answer(*self._answer(self._mirrored(seen), skeleton, MIRROR @ turns @ MIRROR, times))
        rotations, contacts, ups, spreads = ((a + b) / 2 for a, b in zip(one, other))
        rotations = nearest_rotations(rotations)
        rotations[:, 0] = turns @ rotations[:, 0]
        up, spread = mean_direction(ups[valid], spreads[valid]) if valid.any() else (np.array([0.0, -1, 0]), np.pi / 2)
        return Lifted(rotations, contacts.reshape(count, 2, 2), up, spread)

    def _observe(self, keypoints, skeleton, matrix, valid):
        """What is seen of each frame, by name: arrays [T, ...] in the camera's axes, and `reference` [K, 3]: the person at rest."""
        layout = self.network.layout
        points, confidence = body_points(with_found_head(keypoints, skeleton), skeleton, layout.definition)
        sights = rays(keypoints.body2d, matrix)
        return {
            "sights": sights / np.linalg.norm(sights, axis=-1, keepdims=True),
            "points": np.where(valid[:, None, None], points, 0.0),
            "confidence": np.where(valid[:, None], confidence, 0.0),
            "valid": valid,
            "reference": rest_keypoints(skeleton, layout),
        }

    def _mirrored(self, seen):
        """The same as a looking glass shows it."""
        names = self.network.layout.definition.names
        points, drawn = mirror_names(names), mirror_names(BLAZEPOSE_33.names)
        return seen | {
            "sights": seen["sights"][:, drawn] @ MIRROR,
            "points": seen["points"][:, points] @ MIRROR,
            "confidence": seen["confidence"][:, points],
            "reference": seen["reference"][points] @ MIRROR,
        }

    def _answer(self, seen, skeleton, turns, times):
        """(rotations [T, 22, 3, 3], contacts [T, 4], ups [T, 3], log spreads [T]) in the reference camera's axes."""
        start = run_network(self.iknet, seen["points"], seen["confidence"], seen["reference"])[0]
        posed = place_body(skeleton, start, keypoint_places(self.network.layout.definition))
        start[:, 0] = transpose(turns) @ start[:, 0]
        given = seen | {"start": start, "posed": posed @ turns}  # rows: turns^T x
        given |= {name: seen[name] @ turns for name in ("sights", "points")}
        rate = FRAMERATE if len(times) < 2 else (len(times) - 1) / max(times[-1] - times[0], 1e-6)
        if abs(rate / FRAMERATE - 1) < NEAR_RATE:
            return self._run(given, turns)
        return self._run_resampled(given, turns, times)

    def _run_resampled(self, given, turns, times):
        """As `_run`, on frames at FRAMERATE between those that there are, and back."""
        grid = np.arange(times[0], times[-1] + 0.5 / FRAMERATE, 1 / FRAMERATE)
        there, back = Between.of(times, grid), Between.of(grid, times)
        even = {name: there.linear(given[name]) for name in ("sights", "points", "posed", "confidence")}
        even["start"] = there.rotations(given["start"])
        even["valid"] = given["valid"][there.before] & given["valid"][there.after]
        even["reference"] = given["reference"]
        rotations, contacts, ups, spreads = self._run(even, there.rotations(turns))
        return back.rotations(rotations), back.linear(contacts), back.linear(ups), back.linear(spreads)

    def _run(self, given, turns):
        """(rotations [T, 22, 3, 3], contacts [T, 4], ups [T, 3], log spreads [T]) in the reference axes, of frames at FRAMERATE."""
        count = len(given["valid"])
        length = min(count, WINDOW)
        firsts = window_starts(count, length, STRIDE)
        parts = []
        for start in range(0, len(firsts), AT_ONCE):
            rows = firsts[start : start + AT_ONCE, None] + np.arange(length)
            parts.append(self._run_windows(given, turns, rows))
        answers = (np.concatenate(items) for items in zip(*parts))
        return tuple(join_windows(item, firsts, count) for item in answers)

    def _run_windows(self, given, turns, rows):
        """The network's answers to the frames of `rows` [B, T], each window in the axes of the camera in its middle."""
        axes = turns[rows[:, rows.shape[1] // 2]]  # [B, 3, 3] from the reference camera to that one
        by_row = transpose(axes)[:, None]
        start = given["start"][rows]
        start[:, :, 0] = axes[:, None] @ start[:, :, 0]
        arrays = [given["sights"][rows] @ by_row, given["points"][rows] @ by_row, given["confidence"][rows], start]
        arrays.append(given["posed"][rows] @ by_row)
        arrays.append(np.broadcast_to(given["reference"], (len(rows), *given["reference"].shape)))
        tensors = [torch.from_numpy(np.ascontiguousarray(array, np.float32)) for array in arrays]
        with torch.inference_mode():
            pose = self.network(LifterInput(*tensors, torch.from_numpy(given["valid"][rows])))
        rotations, up = pose.rotations.double().numpy(), pose.up.double().numpy()
        rotations[:, :, 0] = transpose(axes)[:, None] @ rotations[:, :, 0]
        return rotations, torch.sigmoid(pose.contacts).double().numpy(), up @ axes, pose.log_spread.double().numpy()


def mirrored_answer(rotations, contacts, ups, log_spreads):
    """What `Lifter._answer` says of a looking glass's picture, for the person before it."""
    joints = mirror_names(JOINT_NAMES[BODY_JOINTS])
    return MIRROR @ rotations[:, joints] @ MIRROR, np.roll(contacts, 2, 1), ups @ MIRROR, log_spreads


def place_body(skeleton, rotations, places):
    """Places [T, N, 3] m about the pelvis of a skeleton whose 22 body joints are turned by rotations [T, 22, 3, 3]."""
    whole = np.broadcast_to(np.eye(3), (len(rotations), len(JOINT_NAMES), 3, 3)).copy()
    whole[:, BODY_JOINTS] = rotations
    return skeleton.place(places, *skeleton.pose(whole))


def window_starts(count, length, stride):
    """First frames [N] of windows of `length` that cover `count` frames, `stride` apart but for the last, which ends with them."""
    return np.unique(np.minimum(np.arange(0, max(count - length, 0) + stride, stride), count - length))


def join_windows(values, firsts, count):
    """Values [N, L, ...] of windows that start at `firsts` [N] as one [count, ...], mixed smoothly where two or more overlap.

    Rotations [..., 3, 3] come out as rotations.
    """
    length = values.shape[1]
    # Frames at a window's edge saw little of what is beyond it; what begins or ends the clip has nothing else.
    weight = 1e-3 + np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2
    total, joined = np.zeros(count), np.zeros((count, *values.shape[2:]))
    for first, window in zip(firsts, values):
        total[first : first + length] += weight
        joined[first : first + length] += weight.reshape(-1, *(1,) * (window.ndim - 1)) * window
    joined /= total.reshape(-1, *(1,) * (joined.ndim - 1))
    return nearest_rotations(joined) if joined.shape[-2:] == (3, 3) else joined


def nearest_rotations(matrices):
    """The rotations nearest to matrices [..., 3, 3] that are nearly some."""
    u, _, v = np.linalg.svd(matrices)
    u[..., -1] *= np.linalg.det(u @ v)[..., None]
    return u @ v


def mean_direction(directions, log_spreads):
    """Mean unit vector [3] of directions [N, 3], by how sure each is, and the deviation in radians of its angle.

    Frames of one clip err together: their mean is as far off as each of them, and what they differ by comes on top.
    """
    weight = np.exp(-2 * log_spreads)
    weight = weight / weight.sum()
    mean = weight @ (directions / np.linalg.norm(directions, axis=-1, keepdims=True))
    mean /= np.linalg.norm(mean)
    usual = np.exp(weight @ log_spreads)
    return mean, float(np.hypot(usual, SPREAD_FLOOR))


@dataclass
class Between:
    """Where times lie between others: values at frames `before` and `after` [N], mixed by `share` [N] of the latter."""

    before: np.ndarray
    after: np.ndarray
    share: np.ndarray

    @classmethod
    def of(cls, known, wanted):
        """Of rising times `known` [T] s at `wanted` [N] s; outside of them the first or the last holds."""
        after = np.clip(np.searchsorted(known, wanted), 1, max(len(known) - 1, 1)).clip(max=len(known) - 1)
        before = np.maximum(after - 1, 0)
        gap = np.maximum(known[after] - known[before], 1e-9)
        return cls(before, after, np.clip((wanted - known[before]) / gap, 0, 1))

    def linear(self, values):
        """Values [T, ...] at the wanted times [N, ...]."""
        share = self.share.reshape(-1, *(1,) * (values.ndim - 1))
        return (1 - share) * values[self.before] + share * values[self.after]

    def rotations(self, values):
        """Rotations [T, ..., 3, 3] at the wanted times, turned evenly."""
        quaternions = matrix_to_quaternion(values).reshape(len(values), -1, 4)
        share = np.broadcast_to(self.share[:, None], (len(self.share), quaternions.shape[1]))
        turned = slerp_quaternions(quaternions[self.before], quaternions[self.after], share)
        return quaternion_to_matrix(turned).reshape(-1, *values.shape[1:])
