# SPDX-License-Identifier: GPL-3.0-or-later
"""A capture as retargeting reads it: world turns of the SMPL-H joints at the moments to key. Numpy only, no bpy."""

from dataclasses import dataclass, replace

import numpy as np

from ...contract.frames import (
    REST_TO_WORLD,
    forward_kinematics_by_level,
    pose_to_quaternions,
    quaternion_to_matrix,
)
from ...contract.npz_file import FileError
from ...contract.skeleton import JOINT_INDEX, JOINT_NAMES, PARENTS, PART_JOINTS, SIDES, VALID_PARTS
from ...sampling import sample_captured

_BODY = VALID_PARTS.index("body")
_HIPS = [JOINT_INDEX[f"{side}_hip"] for side in SIDES]
_FEET = [JOINT_INDEX[f"{side}_{joint}"] for side in SIDES for joint in ("ankle", "foot")]

_LOW = 5
"""Per cent of the frames in which the feet may be lower than the floor."""

_TRUSTED = 0.25
"""m above z = 0; feet that are never lower than this say that somebody climbs or hangs, not where the floor is."""


class RetargetError(FileError):
    """A motion, a character or a setting that cannot be retargeted. The message is one sentence for the user."""


@dataclass(frozen=True)
class SourceMotion:
    """A person's motion at T moments, in the world: z up, metres, seconds.

    turns [T, 52, 3, 3]    each joint's turn from the upright rest, in which the person stands in a T-pose and faces -y
    joints [T, 52, 3]      where the joints are; rest_joints [52, 3] where they are in that rest; sole its soles' height
    floor                  height of the floor in the world
    valid [T, 4]           body, left hand, right hand, face: captured then. What was not lies between what was.
    expression [T, E], expression_names [E]
    """

    name: str
    times: np.ndarray
    turns: np.ndarray
    joints: np.ndarray
    rest_joints: np.ndarray
    sole: float
    floor: float
    valid: np.ndarray
    expression: np.ndarray
    expression_names: tuple

    @property
    def hips(self):
        """The middle between the hip joints, [T, 3] m."""
        return self.joints[:, _HIPS].mean(1)

    @property
    def hip_height(self):
        """m from the soles up to the middle between the hip joints, at rest."""
        return float(self.rest_joints[_HIPS, 2].mean() - self.sole)

    def turned(self, turn):
        """The whole motion turned by `turn` [3, 3] about the world's origin."""
        return replace(self, turns=turn @ self.turns, joints=self.joints @ turn.T)


def source_motion(clip, rest_joints, sole, times=None, name="motion", floor=None):
    """The `SourceMotion` of a `CaptureClip` whose body has `rest_joints` [52, 3] m and soles at y = `sole` m, in the rest frame.

    times: moments [T] s on the clip's own clock, its own frames where None. The clip's poses are interpolated as Blender would,
    each part across the frames in which it was not captured. floor: m, or None to find it under the feet.
    Raises `RetargetError`.
    """
    rest_joints = _checked_rest(rest_joints, sole)
    times, reach = _moments(clip, times)
    if not np.asarray(clip.valid, bool)[:, _BODY].any():
        raise RetargetError(f"{name} has no frame in which the body was captured, so there is nothing to retarget.")
    samplings = {part: _sampling(clip, part, times) for part in VALID_PARTS}
    quaternions = pose_to_quaternions(clip.poses)
    if not (np.isfinite(quaternions).all() and np.isfinite(clip.trans).all()):
        raise RetargetError(f"{name} has poses that are not numbers: capture it again.")
    rotations = _rotations(quaternions, samplings)
    joints, turns = _posed(rest_joints, rotations, samplings["body"].linear(np.asarray(clip.trans, float)))
    upright = rest_joints @ REST_TO_WORLD.T
    valid = np.stack([samplings[part].near(reach) for part in VALID_PARTS], -1)
    return SourceMotion(
        name=name,
        times=times,
        turns=turns,
        joints=joints,
        rest_joints=upright,
        sole=float(sole),
        floor=_floor(joints[valid[:, _BODY]], upright, sole) if floor is None else float(floor),
        valid=valid,
        expression=samplings["face"].linear(np.asarray(clip.face_expression, float)),
        expression_names=tuple(clip.expression_names),
    )


def _sampling(clip, part, times):
    """Between which captured frames of a part each moment lies; of all frames, and never near, for a part that was not captured."""
    captured = np.asarray(clip.valid, bool)[:, VALID_PARTS.index(part)]
    if captured.any():
        return sample_captured(clip.timestamps, captured, times)
    sampling = sample_captured(clip.timestamps, ~captured, times)
    return replace(sampling, away=np.full(len(times), np.inf))


def _rotations(quaternions, samplings):
    """Parent-relative rotations [T, 52, 3, 3] in world axes; joint 0's is its turn from the upright rest."""
    sampled = np.concatenate([samplings[part].slerp(quaternions[:, joints]) for part, joints in PART_JOINTS.items()], 1)
    # A change of axes turns a quaternion's vector only.
    sampled[..., 1:] = sampled[..., 1:] @ REST_TO_WORLD.T
    return quaternion_to_matrix(sampled)


def _posed(rest_joints, rotations, trans):
    """World joints [T, 52, 3] and turns [T, 52, 3, 3]."""
    joints, turns = forward_kinematics_by_level(rest_joints @ REST_TO_WORLD.T, rotations, PARENTS)
    # As in AMASS the pelvis stands at trans + its rest place, whose rest-frame numbers are taken as they are.
    return joints + (trans + rest_joints[0] - joints[:, 0])[:, None], turns


def _floor(joints, rest_joints, sole):
    """Height of the floor: under the lower foot in all but a few of the frames; z = 0 where that is far above it."""
    soles = joints[:, _FEET, 2] - (rest_joints[_FEET, 2] - sole)
    lowest = float(np.percentile(soles.min(1), _LOW)) if len(soles) else 0.0
    return lowest if lowest <= _TRUSTED else 0.0


def _moments(clip, times):
    """Moments [T] s, and how far, s, one may lie from a captured frame to be captured."""
    if times is None:
        return np.array(clip.timestamps, float), 0.0
    times = np.asarray(times, float)
    if times.ndim != 1 or len(times) == 0 or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        raise RetargetError("The moments to retarget must be at least one, and increase.")
    step = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    return times, 0.5 * max(step, 1 / clip.mocap_framerate)


def _checked_rest(rest_joints, sole):
    rest_joints = np.asarray(rest_joints, float)
    if rest_joints.shape != (len(JOINT_NAMES), 3) or not np.isfinite(rest_joints).all():
        raise RetargetError(
            f"The body's rest joints should be {len(JOINT_NAMES)} x 3 finite numbers, got shape {rest_joints.shape}."
        )
    if not sole < rest_joints[_HIPS, 1].min():
        raise RetargetError(f"The body's soles should lie below its hip joints, got {float(sole):.3f} m.")
    return rest_joints
