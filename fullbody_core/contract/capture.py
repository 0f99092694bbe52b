"""The capture file: one person's motion in one video, as AMASS keys first and then ours.

Any tool that reads AMASS finds `poses`, `trans`, `betas`, `gender` and `mocap_framerate` where it looks for them.
"""

import json
from dataclasses import dataclass, field, fields

import numpy as np

from .npz_file import FileError, check_arrays, check_format, read_npz, write_npz
from .skeleton import BODY_DEFINITIONS, VALID_PARTS, full_keypoint_names

FORMAT_NAME = "fullbody-capture"
FORMAT_VERSION = 2
"""Since 2: a camera for each frame, and which parts were filled in. Files of version 1 are read, too."""

_SCHEMA = {
    "poses": ("f", ("T", 156)),
    "trans": ("f", ("T", 3)),
    "betas": ("f", (16,)),
    "gender": ("U", ()),
    "mocap_framerate": ("f", ()),
    "timestamps": ("f", ("T",)),
    "joints_camera": ("f", ("T", 52, 3)),
    "keypoints2d": ("f", ("T", "K", 3)),
    "keypoint_names": ("U", ("K",)),
    "valid": ("b", ("T", 4)),
    "filled": ("b", ("T", 4)),
    "face_shape": ("f", ("S",)),
    "face_expression": ("f", ("T", "E")),
    "expression_names": ("U", ("E",)),
    "face_albedo": ("f", ("A",)),
    "face_illumination": ("f", ("T", 3, 9)),
    "camera_matrix": ("f", (3, 3)),
    "camera_to_world": ("f", ("T", 4, 4)),
    "image_size": ("i", (2,)),
    "person_box": ("f", ("T", 4)),
    "meta": ("U", ()),
}


class CaptureError(FileError):
    """A capture file that cannot be used. The message is one sentence for the user."""


@dataclass
class CaptureClip:
    """One captured clip: T frames in the order of the video, none left out.

    poses [T, 156]          axis-angle rad, parent-relative, SMPL-H joint order; joint 0 turns rest axes into the world
    trans [T, 3]            m; the pelvis stands at trans + its rest place, as in AMASS and smplx
    betas [16]              shape coefficients of the body model named in meta
    mocap_framerate         mean frames per second; `timestamps` are what counts
    timestamps [T]          s, the video's own clock, increasing
    joints_camera [T,52,3]  m, posed joints in the camera frame
    keypoints2d [T, K, 3]   px in the upright image, and confidence 0..1; keypoint_names [K]
    valid [T, 4]            body, left hand, right hand, face: captured in this frame. Elsewhere poses hold the last good
                            value (rest before the first) for readers that know no `valid`; nothing is invented.
    filled [T, 4]           of the valid ones those that the video does not show: a gap of moments, bridged from both sides
    face_shape [S], face_expression [T, E], expression_names [E], face_albedo [A], face_illumination [T, 3, 9]
                            parameters of the 3DMM named in meta (Zhou et al. 2021 Eq. 3-5): shape and albedo in standard
                            deviations, one for the clip; the light by colour in linear RGB, second-order spherical
                            harmonics of normals in the camera frame. Expression and light are zero where the face is not
                            valid. S, E and A are 0 where no face model was solved.
    camera_matrix [3, 3]    px intrinsics
    camera_to_world [T,4,4] m, the camera's pose in each frame; one [4, 4] stands for a camera that does not move
    image_size [2]          px (width, height) of the upright image
    person_box [T, 4]       px (left, top, right, bottom); zeros where nobody is seen
    meta                    dict: format, version, models with sha256, source, detector, settings
    """

    poses: np.ndarray
    trans: np.ndarray
    betas: np.ndarray
    mocap_framerate: float
    timestamps: np.ndarray
    joints_camera: np.ndarray
    keypoints2d: np.ndarray
    keypoint_names: tuple
    valid: np.ndarray
    camera_matrix: np.ndarray
    camera_to_world: np.ndarray
    image_size: np.ndarray
    person_box: np.ndarray
    filled: np.ndarray = None
    gender: str = "neutral"
    face_shape: np.ndarray = field(default_factory=lambda: np.zeros(0))
    face_expression: np.ndarray = None
    expression_names: tuple = ()
    face_albedo: np.ndarray = field(default_factory=lambda: np.zeros(0))
    face_illumination: np.ndarray = None
    meta: dict = field(default_factory=dict)

    def __post_init__(self):
        if self.face_expression is None:
            self.face_expression = np.zeros((len(self.poses), len(self.expression_names)))
        if self.face_illumination is None:
            self.face_illumination = np.zeros((len(self.poses), 3, 9))
        if self.filled is None:
            self.filled = np.zeros((len(self.poses), len(VALID_PARTS)), bool)
        if np.shape(self.camera_to_world) == (4, 4):
            self.camera_to_world = np.broadcast_to(self.camera_to_world, (len(self.poses), 4, 4)).copy()

    @property
    def frame_count(self):
        return len(self.timestamps)

    @property
    def duration(self):
        """Seconds the clip is shown: up to the last frame's end, which lasts as long as the mean frame."""
        return float(self.timestamps[-1] - self.timestamps[0] + 1 / self.mocap_framerate)

    @property
    def body_definition(self):
        """The `KeypointDefinition` of the body keypoints, with which `keypoint_names` begins. Raises `CaptureError`."""
        for definition in BODY_DEFINITIONS.values():
            if tuple(self.keypoint_names) == full_keypoint_names(definition):
                return definition
        raise CaptureError("The capture's keypoints are of a definition that this version does not know: update fullbody.")

    def save(self, path):
        """Writes the file whole or not at all. Raises `CaptureError` for wrong contents or an unwritable place."""
        arrays = self._to_arrays()
        try:
            _check(arrays)
            write_npz(path, arrays)
        except FileError as error:
            raise CaptureError(str(error)) from error

    @classmethod
    def load(cls, path):
        """Reads and checks a file. Raises `CaptureError` for anything that is not exactly a capture of this version."""
        try:
            arrays = read_npz(path, "capture file")
            meta = check_format(arrays, FORMAT_NAME, FORMAT_VERSION, "capture file", path)
            if meta["version"] == 1:
                _bring_up_to_date(arrays)
            _check(arrays)
        except FileError as error:
            raise CaptureError(str(error)) from error
        values = dict(arrays, meta=meta)
        for name in ("keypoint_names", "expression_names"):
            values[name] = tuple(str(item) for item in arrays[name])
        values["gender"] = str(arrays["gender"])
        values["mocap_framerate"] = float(arrays["mocap_framerate"])
        return cls(**values)

    def _to_arrays(self):
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["meta"] = json.dumps({**self.meta, "format": FORMAT_NAME, "version": FORMAT_VERSION}, sort_keys=True)
        values["mocap_framerate"] = float(self.mocap_framerate)
        values["keypoint_names"] = np.array(self.keypoint_names, dtype=str)
        values["expression_names"] = np.array(self.expression_names, dtype="U1" if not self.expression_names else str)
        arrays = {name: np.asarray(values[name]) for name in _SCHEMA}
        # float32 keeps 1e-7 of a metre or radian; times stay in double so that long clips keep their milliseconds.
        single = {"timestamps", "mocap_framerate", "camera_matrix", "camera_to_world"}
        return {n: a.astype(np.float32) if a.dtype.kind == "f" and n not in single else a for n, a in arrays.items()}


def _bring_up_to_date(arrays):
    """Makes of the arrays of a file of version 1, in place, those of this version."""
    if "filled" not in arrays and "valid" in arrays:
        arrays["filled"] = np.zeros_like(arrays["valid"], bool)
    pose = arrays.get("camera_to_world")
    if pose is not None and pose.shape == (4, 4) and "timestamps" in arrays:
        arrays["camera_to_world"] = np.broadcast_to(pose, (len(arrays["timestamps"]), 4, 4))


def _check(arrays):
    sizes = check_arrays(arrays, _SCHEMA, "capture file")
    if sizes["T"] == 0:
        raise CaptureError("The capture file holds no frames.")
    if (np.diff(arrays["timestamps"]) <= 0).any():
        raise CaptureError("The capture file's timestamps do not increase.")
    if not float(arrays["mocap_framerate"]) > 0:
        raise CaptureError(
            f"The capture file's mocap_framerate should be above zero, got {float(arrays['mocap_framerate'])}."
        )
