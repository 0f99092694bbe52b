# SPDX-License-Identifier: GPL-3.0-or-later
"""A take: what came over the live link from Record to Stop, kept so that nothing is lost, and made into a capture. Knows no bpy.

While it is recorded, each message is also written to a journal, a file of the wire's own messages (`contract.wire`), which is there
whatever becomes of Blender. It is removed once the take is finished. A journal that nobody writes any more is an unfinished take.
"""

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..contract import wire
from ..contract.capture import CaptureClip
from ..contract.character import fitting
from ..contract.frames import axis_angle_to_matrix, forward_kinematics
from ..contract.npz_file import FileError
from ..contract.skeleton import PARENTS, VALID_PARTS

JOURNAL_SUFFIX = ".fbtake"

LONGEST_SECONDS = 3600.0
"""A take that lasts longer is finished by itself: some 150 MB of memory and of disk."""

_MOST_JOURNALS = 8
_LOCKED_BYTE = 1 << 40  # Windows locks ranges of bytes, against reading, too: one that no journal reaches
_CAPTURE_BETAS = 16


class TakeError(FileError):
    """A take that cannot be used. The message is one sentence for the user."""


class Recording:
    """What comes over a `Link` that was told to `record` it. `begin` and `add` are called by the link, in its thread.

    The frames are as the link gives them: mirrored where it mirrors.
    error: one sentence where the journal cannot be written, and the take is in memory only
    """

    def __init__(self, folder):
        self.error = None
        self.frame_count = 0
        self.began = time.monotonic()
        self.path, self._journal = None, None
        self._stream, self._messages = None, []
        try:
            self.path, self._journal = _new_journal(Path(folder))
        except OSError as error:
            self._fail(error)

    @property
    def seconds(self):
        return time.monotonic() - self.began

    def begin(self, stream, person):
        self._stream = stream
        self._keep(wire.encode_json(wire.WELCOME, stream.to_json()))
        if person is not None:
            self.add(person)

    def add(self, item):
        is_frame = isinstance(item, wire.Frame)
        self._keep(wire.encode_frame(item, self._stream) if is_frame else wire.encode_person(item, self._stream))
        self.frame_count += is_frame

    def items(self):
        """(Stream, [Person or Frame in order]). Raises `TakeError` where there is no frame."""
        return _checked(b"".join(self._messages))

    def discard_journal(self):
        """Call it once the take is kept elsewhere."""
        self.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def close(self):
        """Lets go of the journal, which stays."""
        journal, self._journal = self._journal, None
        if journal is not None:
            journal.close()

    def _keep(self, message):
        self._messages.append(message)
        if self._journal is None:
            return
        try:
            self._journal.write(message)
            self._journal.flush()
        except (OSError, ValueError) as error:
            self._fail(error)

    def _fail(self, error):
        reason = getattr(error, "strerror", None) or error
        self.error = f"The take is kept in memory only, since its journal cannot be written: {reason}."
        try:
            self.close()
        except OSError:
            pass  # what it still held finds no room either


def unfinished_takes(folder):
    """Paths of the journals in a folder that nobody writes, the newest first."""
    try:
        found = sorted(Path(folder).glob(f"*{JOURNAL_SUFFIX}"), reverse=True)
    except OSError:
        return []
    return [path for path in found if _is_left(path)]


def read_journal(path):
    """(Stream, [Person or Frame in order]) of an unfinished take. Raises `TakeError`."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise TakeError(f"Cannot read {path}: {error.strerror}.") from error
    return _checked(data)


@dataclass(frozen=True)
class Take:
    """clip: the `CaptureClip`; shown: the same as it was shown, where a part that was not captured stayed as it was."""

    clip: CaptureClip
    shown: CaptureClip


def make_take(stream, items, template, same_body):
    """The `Take` of a recording's `items`, of which one at least is a frame.

    template: the character that it was shown on, for its joints; same_body: whether it is of the body that was captured with.
    A clip has one person and one camera: those the take ended with. Frames from before a calibration keep the pelvis where it was.
    """
    people = {item.revision: item for item in items if isinstance(item, wire.Person)}
    frames = [item for item in items if isinstance(item, wire.Frame)]
    person = people[frames[-1].person]
    betas = {revision: one.betas if same_body else () for revision, one in people.items()}
    rest = {
        revision: template.rest_joints(fitting(values, template.shapedirs.shape[-1])) for revision, values in betas.items()
    }
    places = np.array([rest[frame.person][0] for frame in frames])
    own = rest[person.revision]
    trans = np.array([frame.trans for frame in frames]) + places - own[0]
    poses = np.array([frame.poses for frame in frames])
    timestamps = _increasing(frames)
    valid = np.array([frame.valid for frame in frames])
    expression = np.array([frame.expression for frame in frames]).reshape(len(frames), -1)
    clip = CaptureClip(
        poses=poses,
        trans=trans,
        betas=fitting(person.betas, _CAPTURE_BETAS),
        mocap_framerate=_mean_framerate(timestamps, stream),
        timestamps=timestamps,
        joints_camera=_joints_in_camera(own, poses, trans, person.camera_to_world),
        keypoints2d=np.zeros((len(frames), 0, 3)),
        keypoint_names=(),
        valid=valid,
        camera_matrix=person.camera_matrix,
        camera_to_world=person.camera_to_world,
        image_size=np.array(stream.image_size),
        person_box=np.zeros((len(frames), 4)),
        face_shape=person.face_shape,
        face_expression=np.where(valid[:, VALID_PARTS.index("face"), None], expression, 0.0),
        expression_names=stream.expression_names,
        face_albedo=person.albedo,
        meta={
            "software": {"fullbody": stream.software},
            "settings": {"live": True},
            "models": stream.models,
            "body": stream.body,
            "face": stream.face,
            "source": stream.source,
            "warnings": [],
        },
    )
    return Take(clip, replace(clip, valid=np.ones_like(valid), face_expression=expression))


def _joints_in_camera(rest_joints, poses, trans, camera_to_world):
    rotations = axis_angle_to_matrix(poses.reshape(len(poses), -1, 3))
    joints = forward_kinematics(rest_joints, rotations, PARENTS)[0] + trans[:, None]
    return (joints - camera_to_world[:3, 3]) @ camera_to_world[:3, :3]


def _increasing(frames):
    """The frames' own times [T] s; where a source started again, the time that really passed."""
    own, arrived = (np.array([getattr(frame, name) for frame in frames]) for name in ("timestamp", "arrived"))
    steps = np.diff(own)
    steps = np.where(steps > 0, steps, np.maximum(np.diff(arrived), 1e-3))
    return own[0] + np.concatenate([[0.0], np.cumsum(steps)])


def _mean_framerate(timestamps, stream):
    return float((len(timestamps) - 1) / (timestamps[-1] - timestamps[0]) if len(timestamps) > 1 else stream.framerate)


def _checked(data):
    try:
        stream, items = wire.read_recording(data)
    except wire.WireError as error:
        raise TakeError(str(error)) from error
    if not any(isinstance(item, wire.Frame) for item in items):
        raise TakeError("The take holds no frames: nobody was captured while it was recorded.")
    return stream, items


def _new_journal(folder):
    """(path, file) of a new journal that is this process's. Old ones give way where there are too many. Raises `OSError`."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in unfinished_takes(folder)[_MOST_JOURNALS - 1 :]:
        path.unlink(missing_ok=True)
    path = folder / f"{time.strftime('%Y-%m-%d %H-%M-%S')}.{time.monotonic_ns() % 10**9:09d}{JOURNAL_SUFFIX}"
    file = open(path, "xb")
    _lock(file)
    return path, file


def _is_left(path):
    """Whether the process that wrote a journal has let go of it, by ending if need be."""
    try:
        with open(path, "r+b") as file:
            _lock(file)
    except OSError:
        return False
    return True


def _lock(file):
    """Keeps other processes, and other openings of the file, from locking it until it is closed. Raises `OSError`."""
    if os.name == "nt":
        import msvcrt

        file.seek(_LOCKED_BYTE)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        file.seek(0)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
