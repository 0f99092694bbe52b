"""Motion-capture data for training: any folder of AMASS-format files, split by file into training and held-out motions."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..contract.frames import axis_angle_to_matrix
from ..contract.npz_file import FileError, read_npz
from ..contract.skeleton import JOINT_NAMES

HELD_OUT_SHARE = 0.15


class MotionDataError(FileError):
    """Motion data that cannot be used. The message is one sentence for the user."""


@dataclass
class Motion:
    """rotations [T, 52, 3, 3] parent-relative, the pelvis's turned from SMPL's rest axes to AMASS's world (z up)."""

    name: str
    rotations: np.ndarray
    framerate: float


def is_held_out(name):
    """Whether the motion of this file name (without its ending) is kept for evaluation.

    The name's own hash decides, so that the split is fixed for every data set and no list can go out of date.
    """
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") < HELD_OUT_SHARE * 2**32


def load_motions(folder, held_out, framerate=30.0):
    """The held-out or the training motions of a folder and its subfolders, sorted by path, at about `framerate` Hz.

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
    return Motion(name, rotations, float(rate) / step)
