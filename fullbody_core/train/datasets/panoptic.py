"""The CMU Panoptic Studio (Joo et al. 2017), whose range-of-motion sequences are the paper's MTC (Xiang et al. 2019).

    ROOT/171204_pose1/calibration_171204_pose1.json
    ROOT/171204_pose1/hdPose3d_stage1_coco19/body3DScene_00000123.json      body, cm in the world, with a confidence
    ROOT/171204_pose1/hdHand3d/handRecon3D_hd00000123.json                  hands, optional
    ROOT/171204_pose1/hdFace3d/faceRecon3D_hd00000123.json                  faces, optional
    ROOT/171204_pose1/hdImgs/00_00/00_00_00000123.jpg                       or hdVideos/hd_00_00.mp4

MTC's own files (a4_release) are Python pickles, which run code when they are opened, so this reads the studio's JSON instead:
it is the same recordings, cameras and hands.
"""

import numpy as np

from .cropping import Person, arranged, box_of_points
from .pictures import read_picture, read_video_picture
from .reader import Reader, load_json, parsing

NAMES = (
    "neck", "nose", "pelvis",
    *(f"left_{part}" for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")),
    *(f"right_{part}" for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")),
    "left_eye", "left_ear", "right_eye", "right_ear",
)  # fmt: skip
"""The 19 points of "coco19" in their order; left and right are the person's."""

CONFIDENT = 0.1
"""A point of less confidence was not found; the studio's own tools draw the line there."""

SHOWN = 0.5
"""Share of the known points that a camera must see for its picture to be taken."""


class Panoptic(Reader):
    """Every person in every `stride`-th HD frame from every HD camera that shows it."""

    name, title, kind, definition = "panoptic", "The CMU Panoptic Studio dataset", "body_hands", "mtc"
    source = (
        "download sequences such as 171204_pose1 with the scripts of panoptic-toolbox, whose JSON holds what MTC's a4_release "
        "keeps in pickles, which are not read"
    )

    def __init__(self, root, stride=10):
        """stride: HD frames, of which there are 30 a second."""
        super().__init__(root)
        self._samples = []
        sequences = sorted(self.root.glob("*/hdPose3d_stage1_coco19"))
        if not sequences:
            raise self.absent(self.root / "171204_pose1" / "hdPose3d_stage1_coco19")
        for bodies in sequences:
            sequence = bodies.parent
            cameras = _cameras(self.require(sequence / f"calibration_{sequence.name}.json"))
            sources = [(camera, source) for camera in cameras if (source := _picture_source(sequence, camera))]
            if not sources:
                raise self.absent(sequence / "hdImgs" / "00_00")
            for path in sorted(bodies.glob("body3DScene_*.json"))[::stride]:
                self._samples += _frame_samples(path, sources)

    def __len__(self):
        return len(self._samples)

    def annotated(self, index):
        sequence, frame, identity, points, camera, (folder, video) = self._samples[index]
        known = points[:, 3] > CONFIDENT
        body3d, known = arranged("mtc", NAMES, camera.to_camera(points[:, :3]), known)
        body2d, seen = camera.pixels(body3d)
        hand3d, hand_known = _hands(sequence, frame, identity)
        face3d, face_known = _face(sequence, frame, identity)
        hand3d, face3d = camera.to_camera(hand3d), camera.to_camera(face3d)
        hand2d, hand_seen = camera.pixels(hand3d)
        face2d, face_seen = camera.pixels(face3d)
        person = Person(
            definition="mtc",
            box=box_of_points(body2d, known & seen),
            body2d=body2d,
            body_known2d=known & seen,
            body3d=body3d,
            body_known3d=known,
            matrix=camera.matrix,
            hand2d=hand2d,
            hand_known2d=hand_known & hand_seen,
            hand3d=hand3d,
            hand_known3d=hand_known,
            face2d=face2d,
            face_known=face_known & face_seen,
        )
        if folder is not None:
            return read_picture(folder / f"{camera.name}_{frame:08}.jpg"), person
        return read_video_picture(video, frame), person


class _Camera:
    """One HD camera. A point x of the world (cm) is at (R x + t) / 100 m in its frame."""

    def __init__(self, item):
        self.name = item["name"]
        self.size = np.array(item["resolution"], float)
        self.matrix = np.reshape(item["K"], (3, 3)).astype(float)
        self.rotation, self.translation = np.reshape(item["R"], (3, 3)), np.reshape(item["t"], 3)
        self.distortion = np.ravel(item["distCoef"]).astype(float)

    def to_camera(self, points):
        return (points @ self.rotation.T + self.translation) / 100

    def pixels(self, points):
        """Pixels [..., 2] of points [..., 3] m, with OpenCV's distortion, and whether they are before the camera."""
        before = points[..., 2] > 0.01
        x, y = np.moveaxis(points[..., :2] / np.where(before, points[..., 2], 1)[..., None], -1, 0)
        k1, k2, p1, p2, k3 = self.distortion
        squared = x * x + y * y
        radial = 1 + squared * (k1 + squared * (k2 + squared * k3))
        bent = np.stack(
            [
                x * radial + 2 * p1 * x * y + p2 * (squared + 2 * x * x),
                y * radial + p1 * (squared + 2 * y * y) + 2 * p2 * x * y,
            ],
            -1,
        )
        return np.where(before[..., None], bent @ self.matrix[:2, :2].T + self.matrix[:2, 2], 0), before


def _cameras(path):
    content = load_json(path)
    with parsing(path, "a calibration of the Panoptic Studio"):
        return [_Camera(item) for item in content["cameras"] if item["type"] == "hd"]


def _picture_source(sequence, camera):
    """(folder, None) or (None, video) of a camera's pictures, or None where there are none."""
    folder, video = sequence / "hdImgs" / camera.name, sequence / "hdVideos" / f"hd_{camera.name}.mp4"
    return (folder, None) if folder.is_dir() else (None, video) if video.exists() else None


def _frame_samples(path, sources):
    """The samples of one frame: each person from each camera that shows enough of it."""
    frame, samples = int(path.stem.split("_")[-1]), []
    content = load_json(path)
    with parsing(path, "a frame of the Panoptic Studio"):
        bodies = [(body["id"], np.reshape(body["joints19"], (len(NAMES), 4))) for body in content["bodies"]]
    for identity, points in bodies:
        known = points[:, 3] > CONFIDENT
        for camera, source in sources:
            pixels, seen = camera.pixels(camera.to_camera(points[:, :3]))
            shown = known & seen & (pixels >= 0).all(-1) & (pixels < camera.size).all(-1)
            if known.any() and shown.sum() >= SHOWN * known.sum():
                samples.append((path.parents[1], frame, identity, points.astype(np.float32), camera, source))
    return samples


def _hands(sequence, frame, identity):
    """Hands [2, 21, 3] cm in the world and which points were found [2, 21], left first."""
    found = _landmarks(sequence / "hdHand3d" / f"handRecon3D_hd{frame:08}.json", identity, ("left_hand", "right_hand"), 21)
    return tuple(map(np.stack, zip(*found)))


def _face(sequence, frame, identity):
    """The face's first 68 landmarks [68, 3] cm in the world and which were found [68]; the last two of 70 are the pupils."""
    ((points, known),) = _landmarks(sequence / "hdFace3d" / f"faceRecon3D_hd{frame:08}.json", identity, ("face70",), 70)
    return points[:68], known[:68]


def _landmarks(path, identity, parts, count):
    """For each part of one person its points [count, 3] cm and which were found [count]: none where the file is absent."""
    content = load_json(path) if path.exists() else {"people": []}
    with parsing(path, "a reconstruction of the Panoptic Studio"):
        person = next((person for person in content["people"] if person["id"] == identity), {})
        return [_points(person.get(part, {}), count) for part in parts]


def _points(item, count):
    if "landmarks" not in item:
        return np.zeros((count, 3)), np.zeros(count, bool)
    points = np.reshape(item["landmarks"], (count, 3)).astype(float)
    return points, np.reshape(item.get("averageScore", np.ones(count)), count) > CONFIDENT
