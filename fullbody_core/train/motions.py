"""Motion-capture data for training: any folder of AMASS-format files, split by file into training and held-out motions."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..contract.frames import axis_angle_to_matrix, matrix_to_axis_angle
from ..contract.npz_file import FileError, read_npz
from ..contract.skeleton import JOINT_INDEX, JOINT_NAMES
from ..contract.swing_twist import about, reject, transpose, twist_angle

HELD_OUT_SHARE = 0.15


class MotionDataError(FileError):
    """Motion data that cannot be used. The message is one sentence for the user."""


@dataclass
class Motion:
    """rotations [T, 52, 3, 3] parent-relative, the pelvis's turned from SMPL's rest axes to AMASS's world (z up).

    trans [T, 3] m: SMPL's root translation in that world; None where a file has none.
    """

    name: str
    rotations: np.ndarray
    framerate: float
    trans: np.ndarray | None = None


def is_held_out(name):
    """Whether the motion of this file name (without its ending) is kept for evaluation.

    The name's own hash decides, so that the split is fixed for every data set and no list can go out of date.
    """
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") < HELD_OUT_SHARE * 2**32


def load_motions(folder, held_out, framerate=30.0):
    """The held-out or the training motions of a folder and its subfolders, sorted by path, at about `framerate` Hz.

    Elbows are brought to one convention (`align_elbows`).

    Files need `poses` [T, 156] (or the first 66 columns of it) and `mocap_framerate`; others are passed over, as AMASS keeps
    each subject's shape in a file of its own. Raises `MotionDataError` where no motion is found.
    """
    folder = Path(folder)
    motions = []
    for path in sorted(folder.rglob("*.npz")):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if is_held_out(name) == held_out and (motion := _read(path, name, framerate)) is not None:
            motions.append(motion)
    if not motions:
        kind = "held-out" if held_out else "training"
        raise MotionDataError(f"{folder} holds no {kind} motions: give a folder of AMASS-format .npz files with --data.")
    return motions


def _read(path, name, framerate):
    arrays = read_npz(path, "motion")
    rate = arrays.get("mocap_framerate", arrays.get("mocap_frame_rate"))
    if "poses" not in arrays or rate is None:
        return None
    poses = arrays["poses"]
    if poses.ndim != 2 or poses.shape[1] < 66 or poses.shape[1] % 3 or not np.isfinite(poses).all():
        raise MotionDataError(f"{path} should have finite poses [T, 156], got shape {poses.shape}: remove the file.")
    step = max(1, round(float(rate) / framerate))
    poses = poses[::step, : 3 * len(JOINT_NAMES)].reshape(len(poses[::step]), -1, 3)
    rotations = np.broadcast_to(np.eye(3), (len(poses), len(JOINT_NAMES), 3, 3)).copy()
    rotations[:, : poses.shape[1]] = axis_angle_to_matrix(poses)
    trans = arrays.get("trans")
    if trans is not None:
        trans = np.asarray(trans, float)[::step]
        if trans.shape != (len(poses), 3) or not np.isfinite(trans).all():
            raise MotionDataError(f"{path} should have finite trans [T, 3], a row for each pose: remove the file.")
    return Motion(name, align_elbows(rotations), float(rate) / step, trans)


def align_elbows(rotations):
    """The same motion [T, 52, 3, 3], every joint in its place and both hands as they were, with elbows that bend about one axis.

    Data sets disagree on it: CMU's skeleton bends its elbows about an axis that is turned by 30 degrees round the upper arm from
    DeepMimic's, and an upper arm's twist cannot be seen but by the plane of the elbow. Here, as in the closed form, the axis
    points straight down in the T-pose (up on the right), and the forearm's turn is shared evenly by elbow and wrist.
    """
    rotations = rotations.copy()
    for side, sign in (("left", 1.0), ("right", -1.0)):
        shoulder, elbow, wrist = (JOINT_INDEX[f"{side}_{name}"] for name in ("shoulder", "elbow", "wrist"))
        bone = np.array([sign, 0, 0])
        # Large bends say most about the axis; straight arms nothing.
        axis = matrix_to_axis_angle(rotations[:, elbow]).mean(0)
        turn = about(bone, _angle_about(bone, axis, np.array([0, -sign, 0])))
        rotations[:, shoulder] = rotations[:, shoulder] @ turn.T
        rotations[:, elbow] = turn @ rotations[:, elbow] @ turn.T
        rotations[:, wrist] = turn @ rotations[:, wrist]
        half = about(bone, twist_angle(rotations[:, wrist], bone) / 2)
        rotations[:, elbow] = rotations[:, elbow] @ half
        rotations[:, wrist] = transpose(half) @ rotations[:, wrist]
    return rotations


def _angle_about(axis, source, target):
    """Angle about unit `axis` [3] that brings `source` [3] nearest to `target` [3]; 0 where source says nothing."""
    source = reject(source, axis)
    if np.linalg.norm(source) < 1e-3:
        return 0.0
    return float(np.arctan2(axis @ np.cross(source, target), source @ target))
