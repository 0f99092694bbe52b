"""The body session of HUMBI (Yu et al. 2020): many cameras around 772 people, with SMPL meshes.

    ROOT/subject_82/body/intrinsic.txt, extrinsic.txt              or one folder deeper, as the archives have it (Body_81_140/)
    ROOT/subject_82/body/00000001/image/image0000024.jpg           the number is the camera's
    ROOT/subject_82/body/00000001/reconstruction/keypoints.txt         25 of OpenPose's points
    ROOT/subject_82/body/00000001/reconstruction/smpl_vertex.txt       6890 vertices
    ROOT/subject_82/body/00000001/reconstruction/smpl_parameter.txt    first the scale, in units of the room per metre of SMPL

Of the 33 keypoints on SMPL, the surface points are vertices of the mesh. The 22 joints and the finger roots need the
J_regressor of SMPL-H, which only its owner may give away: with a licensed body they are regressed from the posed mesh, which
is right to about a centimetre. Without one only the pelvis, elbows, wrists, knees and ankles are known, from OpenPose's points.
"""

from pathlib import Path

import numpy as np

from ...camera import project
from ...contract.skeleton import BODY_JOINT_NAMES, JOINT_INDEX
from .cropping import Person, arranged, box_of_points
from .pictures import read_picture
from .reader import DatasetError, Reader, parsing

SURFACE = {
    "head_top": 411, "left_eye": 2800, "right_eye": 6260,
    "left_big_toe": 3216, "right_big_toe": 6617, "left_little_toe": 3226, "right_little_toe": 6624,
}  # fmt: skip
"""Vertices of SMPL's mesh that lie at keypoints, as they are in general use."""

OPENPOSE = {
    "pelvis": 8, "left_elbow": 6, "right_elbow": 3, "left_wrist": 7, "right_wrist": 4,
    "left_knee": 13, "right_knee": 10, "left_ankle": 14, "right_ankle": 11,
}  # fmt: skip
"""The basic keypoints among OpenPose's 25; left and right are the person's."""

REGRESSED = {name: JOINT_INDEX[name] for name in BODY_JOINT_NAMES} | {
    f"{side}_{finger}_mcp": JOINT_INDEX[f"{side}_{finger}1"] for side in ("left", "right") for finger in ("index", "pinky")
}
"""Keypoints that are joints of SMPL-H."""

TEST_SUBJECTS = tuple(subject for subject in range(1, 61) if subject not in (5, 6, 16, 22, 26, 43))
"""The paper's test split (supplementary Sec. 3); the six that it leaves out are corrupted."""

VERTICES = 6890


class Humbi(Reader):
    """Every picture of every frame of the body sessions."""

    name, title, kind, definition = "humbi", "HUMBI", "body3d", "smpl"
    source = "download the body archives from humbi-data.net and unpack them there"

    def __init__(self, root, split="train", body=None):
        """split: "train" or "test", by subject; body: a `BodyModelFile` on SMPL-H's mesh, for its J_regressor."""
        super().__init__(root)
        self.check_split(split, ("train", "test"))
        if body is not None and body.J_regressor.shape[1] != VERTICES:
            raise DatasetError(f"HUMBI needs a body on SMPL's {VERTICES} vertices, got {body.J_regressor.shape[1]}.")
        self._regressor = None if body is None else np.asarray(body.J_regressor, float)[list(REGRESSED.values())]
        self._cameras, self._samples = {}, []
        sessions = sorted([*self.root.glob("subject_*/body"), *self.root.glob("*/subject_*/body")], key=_subject)
        if not sessions:
            raise self.absent(self.root / "subject_1" / "body")
        for session in sessions:
            if (_subject(session) in TEST_SUBJECTS) == (split == "test"):
                self._cameras[session] = read_cameras(session)
                self._samples += [
                    (session, picture) for picture in sorted(session.glob("*/image/image*.jpg")) if self._has_camera(picture)
                ]

    def _has_camera(self, picture):
        return _camera_number(picture) in self._cameras[picture.parents[2]]

    def __len__(self):
        return len(self._samples)

    def annotated(self, index):
        session, picture = self._samples[index]
        matrix, rotation, centre = self._cameras[session][_camera_number(picture)]
        reconstruction = picture.parents[1] / "reconstruction"
        vertices = (_numbers(reconstruction / "smpl_vertex.txt", (VERTICES, 3)) - centre) @ rotation.T
        openpose = (_numbers(reconstruction / "keypoints.txt", (25, 3)) - centre) @ rotation.T
        scale = _numbers(reconstruction / "smpl_parameter.txt", (86,))[0]
        body3d, known = self._keypoints(vertices, openpose)
        body2d, outline = project(body3d, matrix), project(vertices, matrix)
        seen = known & np.isfinite(body2d).all(-1)
        box = box_of_points(outline, np.isfinite(outline).all(-1))
        person = Person("smpl", box, np.nan_to_num(body2d), seen, body3d / scale, known, matrix)
        return read_picture(picture), person

    def _keypoints(self, vertices, openpose):
        """Keypoints [33, 3] in the camera's frame, in the room's units, and which are known [33]."""
        names = [*SURFACE, *(OPENPOSE if self._regressor is None else REGRESSED)]
        joints = openpose[list(OPENPOSE.values())] if self._regressor is None else self._regressor @ vertices
        points = np.concatenate([vertices[list(SURFACE.values())], joints])
        return arranged("smpl", names, points, np.ones(len(names)))


def read_cameras(session):
    """{number: (matrix [3, 3], rotation [3, 3], centre [3])}: a point x of the room is at rotation (x - centre)."""
    inner = _camera_blocks(session / "intrinsic.txt", 3)
    outer = _camera_blocks(session / "extrinsic.txt", 4)
    return {number: (inner[number], outer[number][1:], outer[number][0]) for number in sorted(inner.keys() & outer.keys())}


def _camera_blocks(path, rows):
    """{number: [rows, 3]} of a calibration file: three lines of heading, then "0 NUMBER" and the rows of each camera."""
    lines = [line.split() for line in _text(path).splitlines()[3:] if line.split()]
    with parsing(path, "a camera file of HUMBI"):
        starts = range(0, len(lines), rows + 1)
        return {int(lines[k][1]): np.array(lines[k + 1 : k + 1 + rows], float).reshape(rows, 3) for k in starts}


def _numbers(path, shape):
    with parsing(path, f"a reconstruction of HUMBI with numbers {list(shape)}"):
        return np.array(_text(path).split(), float).reshape(shape)


def _text(path):
    try:
        return Path(path).read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        raise DatasetError(f"Cannot read {path}: unpack HUMBI's archive again.") from error


def _subject(session):
    return int(session.parent.name.split("_")[1])


def _camera_number(picture):
    return int(picture.stem[len("image") :])
