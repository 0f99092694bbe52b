"""AMASS files as clips: motion of SMPL-H bodies in .npz files, as AMASS and the tools around it write them."""

import numpy as np

from .capture import CaptureClip
from .npz_file import FileError, read_npz
from .skeleton import LEFT_HAND_JOINTS, RIGHT_HAND_JOINTS

_RATE_NAMES = ("mocap_framerate", "mocap_frame_rate", "mocap_fps")
"""What AMASS's own files and those of others call frames per second."""

_BODY_COLUMNS = 66
"""Of `poses`: the pelvis and 21 body joints. The hands follow in SMPL-H; in SMPL-X's longer ones the face comes in between."""

_SMPLX_COLUMNS = 165
_SMPLX_HANDS = slice(75, 165)


class AmassError(FileError):
    """An AMASS file that cannot be used. The message is one sentence for the user."""


def is_amass(clip):
    """Whether a `CaptureClip` was read from an AMASS file."""
    return clip.meta.get("source", {}).get("kind") == "AMASS"


def read_clip(path):
    """The clip in a capture file, or in an AMASS file, whichever it is. Raises `FileError`."""
    arrays = read_npz(path, "capture file or AMASS motion")
    return CaptureClip.load(path) if "meta" in arrays or "timestamps" in arrays else _to_clip(arrays, path)


def read_amass(path):
    """The motion of an AMASS .npz file as a `CaptureClip` without a camera, keypoints or face. Raises `AmassError`.

    Needed are `poses` [T, 66 or more] axis-angle rad, `trans` [T, 3] m and the frame rate; `betas` of any length are cut or
    filled to 16. A hand whose pose is zero throughout was not captured.
    """
    try:
        return _to_clip(read_npz(path, "AMASS motion"), path)
    except AmassError:
        raise
    except FileError as error:
        raise AmassError(str(error)) from error


def _to_clip(arrays, path):
    for name in ("poses", "trans"):
        if name not in arrays:
            raise AmassError(f"{path} is neither a capture file nor an AMASS motion: it has no {name}.")
    poses = _whole_poses(_numbers(arrays["poses"], (None, None), "poses", path), path)
    trans = _numbers(arrays["trans"], (len(poses), 3), "trans", path)
    betas = _numbers(np.ravel(arrays.get("betas", ())), (None,), "betas", path)
    rate = next((arrays[name] for name in _RATE_NAMES if name in arrays), None)
    if rate is None or np.size(rate) != 1 or rate.dtype.kind not in "fiu" or not 0 < float(rate.reshape(())) < np.inf:
        raise AmassError(f"{path} does not say its frames per second: it needs a mocap_framerate above zero.")
    rate, count = float(rate.reshape(())), len(poses)
    valid = np.ones((count, 4), bool)
    for column, joints in ((1, LEFT_HAND_JOINTS), (2, RIGHT_HAND_JOINTS)):
        valid[:, column] = poses.reshape(count, -1, 3)[:, joints].any()
    valid[:, 3] = False
    return CaptureClip(
        poses=poses,
        trans=trans,
        betas=np.pad(betas[:16], (0, max(0, 16 - len(betas)))),
        mocap_framerate=rate,
        timestamps=np.arange(count) / rate,
        joints_camera=np.zeros((count, 52, 3)),
        keypoints2d=np.zeros((count, 0, 3)),
        keypoint_names=(),
        valid=valid,
        camera_matrix=np.eye(3),
        camera_to_world=np.eye(4),
        image_size=np.zeros(2, int),
        person_box=np.zeros((count, 4)),
        gender=str(np.asarray(arrays.get("gender", "neutral")).astype(str)),
        meta={"source": {"kind": "AMASS"}},
    )


def _whole_poses(poses, path):
    """Poses [T, N] of SMPL, SMPL-H or SMPL-X as SMPL-H's [T, 156], hands that they lack at zero."""
    count, columns = poses.shape
    if count == 0:
        raise AmassError(f"{path} holds no frames.")
    if columns < _BODY_COLUMNS:
        raise AmassError(f"{path} has poses of {columns} numbers, too few for a body: AMASS's have 156.")
    whole = np.zeros((count, 156))
    whole[:, :_BODY_COLUMNS] = poses[:, :_BODY_COLUMNS]
    if columns == _SMPLX_COLUMNS:
        whole[:, _BODY_COLUMNS:] = poses[:, _SMPLX_HANDS]
    elif columns >= 156:
        whole[:, _BODY_COLUMNS:] = poses[:, _BODY_COLUMNS:156]
    return whole


def _numbers(array, shape, name, path):
    """An array as float64, if it holds finite numbers in `shape`, where None is any size."""
    fits = array.ndim == len(shape) and all(want in (None, got) for want, got in zip(shape, array.shape))
    if not fits or (array.size and array.dtype.kind not in "fiu") or not np.isfinite(np.asarray(array, float)).all():
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise AmassError(f"{path} should have finite numbers of shape [{wanted}] as {name}, got {list(array.shape)}.")
    return np.asarray(array, float)
