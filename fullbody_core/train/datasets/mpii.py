"""The MPII Human Pose dataset (Andriluka et al. 2014).

    ROOT/images/015601864.jpg
    ROOT/mpii_human_pose_v1_u12_1.mat        or one folder deeper, in mpii_human_pose_v1_u12_2/, as the archive has it

Coordinates are MATLAB's, which count pixels from 1 at the first one's centre. Only the training pictures are annotated.
"""

import numpy as np

from .cropping import Person, arranged, box_of_points
from .pictures import read_picture
from .reader import Reader, load_mat, parsing

NAMES = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax", "upper_neck",
    "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
)  # fmt: skip
"""MPII's 16 keypoints by their id; left and right are the person's."""

FEWEST_KEYPOINTS = 6


class Mpii(Reader):
    """Annotated people of MPII's training pictures, one sample each."""

    name, title, kind, definition = "mpii", "MPII Human Pose", "body2d", "mpii"
    source = "download the images and the annotations (mpii_human_pose_v1_u12_2.zip) from human-pose.mpi-inf.mpg.de there"

    def __init__(self, root):
        super().__init__(root)
        file = "mpii_human_pose_v1_u12_1.mat"
        path = self.require(self.root / file, [self.root / "mpii_human_pose_v1_u12_2" / file])
        content = load_mat(path, struct_as_record=False, squeeze_me=True, variable_names=["RELEASE"])
        with parsing(path, "MPII's annotation file"):
            self._people = list(_people(content["RELEASE"]))

    def __len__(self):
        return len(self._people)

    def annotated(self, index):
        file, body, box = self._people[index]
        body2d, known = arranged("mpii", NAMES, body[:, :2], body[:, 2] > 0)
        return read_picture(self.root / "images" / file), Person("mpii", box, body2d, known)


def _people(release):
    """Yields (file name, keypoints [16, 3] with 1 where annotated, box [4]) in continuous pixels."""
    for picture, is_training in zip(np.atleast_1d(release.annolist), np.atleast_1d(release.img_train)):
        for rectangle in np.atleast_1d(picture.annorect) if is_training else ():
            body = _keypoints(getattr(rectangle, "annopoints", None))
            if body is not None and body[:, 2].sum() >= FEWEST_KEYPOINTS:
                yield str(picture.image.name), body, _box(rectangle, body)


def _keypoints(annotation):
    """Keypoints [16, 3], or None where nobody annotated this person."""
    points = getattr(annotation, "point", None)
    if points is None:
        return None
    body = np.zeros((len(NAMES), 3), np.float32)
    for point in np.atleast_1d(points):
        body[int(point.id)] = (float(point.x) - 0.5, float(point.y) - 0.5, 1)
    return body


def _box(rectangle, body):
    """The box around the keypoints and the head's rectangle."""
    head = [getattr(rectangle, name, ()) for name in ("x1", "y1", "x2", "y2")]
    points = body[body[:, 2] > 0, :2]
    if all(np.size(value) == 1 for value in head):
        points = np.concatenate([points, np.reshape(head, (2, 2)).astype(float) - 0.5])
    return box_of_points(points, np.ones(len(points), bool))
