"""Human3.6M (Ionescu et al. 2014), in the layout of pictures and JSON that Moon et al. 2019 published.

    ROOT/images/s_01_act_02_subact_01_ca_01/s_01_act_02_subact_01_ca_01_000001.jpg
    ROOT/annotations/Human36M_subject1_camera.json       {camera: {R, t, f, c}}: a point x of the world is at R (x - t)
    ROOT/annotations/Human36M_subject1_joint_3d.json     {action: {take: {frame: [17][3] mm in the world}}}

The dataset's own downloads are videos and CDF files, which need software of NASA's to be read; this one is plain JSON. The
places of the joints in the pictures are their projections.
"""

import numpy as np

from ...camera import project
from .cropping import Person, arranged, box_of_points
from .pictures import read_picture
from .reader import Reader, load_json, parsing

NAMES = (
    "pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "spine", "neck", "nose",
    "head_top", "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist",
)  # fmt: skip
"""The 17 of Human3.6M's 32 joints that move, in its order; left and right are the person's."""

SUBJECTS = {"train": (1, 5, 6, 7, 8), "test": (9, 11)}

_LOST = ("s_11_act_02_subact_02_ca_01",)
"""A recording of which the dataset has no picture."""


class Human36M(Reader):
    """Every `stride`-th frame of every recording from every camera, of the subjects that are there."""

    name, title, kind, definition = "human36m", "Human3.6M", "body3d", "h36m"
    source = (
        "register at vision.imar.ro/human3.6m, get the parsed pictures and annotations that 3DMPPE_POSENET_RELEASE links to"
    )

    def __init__(self, root, split="train", stride=5):
        """split: "train" (subjects 1, 5, 6, 7, 8) or "test" (9, 11); stride: frames, of which there are 50 a second."""
        super().__init__(root)
        self.check_split(split, SUBJECTS)
        self._cameras, self._joints, self._samples = {}, [], []
        annotations = self.root / "annotations"
        paths = [(subject, annotations / f"Human36M_subject{subject}_joint_3d.json") for subject in SUBJECTS[split]]
        for subject, path in [pair for pair in paths if pair[1].exists()]:
            camera_path = self.require(annotations / f"Human36M_subject{subject}_camera.json")
            with parsing(path, f"an annotation of Human3.6M that fits {camera_path.name}"):
                cameras = {int(name): _Camera(item) for name, item in load_json(camera_path).items()}
                self._cameras |= {(subject, name): camera for name, camera in cameras.items()}
                self._add(subject, cameras, load_json(path), stride)
        if not self._samples:
            raise self.absent(paths[0][1])
        self._joints = np.array(self._joints, np.float32).reshape(-1, len(NAMES), 3)

    def _add(self, subject, cameras, takes, stride):
        takes = [(action, part, frames) for action, parts in takes.items() for part, frames in parts.items()]
        for action, part, frames in takes:
            folders = {name: f"s_{subject:02}_act_{int(action):02}_subact_{int(part):02}_ca_{name:02}" for name in cameras}
            recordings = [(name, folder) for name, folder in folders.items() if folder not in _LOST]
            for frame in sorted(map(int, frames))[::stride]:
                self._samples += [(len(self._joints), (subject, name), folder, frame) for name, folder in recordings]
                self._joints.append(frames[str(frame)])

    def __len__(self):
        return len(self._samples)

    def annotated(self, index):
        pose, camera, folder, frame = self._samples[index]
        camera = self._cameras[camera]
        points = camera.to_camera(self._joints[pose]) / 1000
        body3d, known = arranged("h36m", NAMES, points, np.ones(len(NAMES)))
        body2d = project(body3d, camera.matrix)
        person = Person("h36m", box_of_points(body2d, known), body2d, known, body3d, known, camera.matrix)
        return read_picture(self.root / "images" / folder / f"{folder}_{frame + 1:06}.jpg"), person


class _Camera:
    def __init__(self, item):
        self.rotation = np.reshape(item["R"], (3, 3))
        self.centre = np.reshape(item["t"], 3)
        (focal_x, focal_y), (middle_x, middle_y) = np.reshape(item["f"], 2), np.reshape(item["c"], 2)
        self.matrix = np.array([[focal_x, 0, middle_x], [0, focal_y, middle_y], [0, 0, 1]])

    def to_camera(self, points):
        return (points - self.centre) @ self.rotation.T
