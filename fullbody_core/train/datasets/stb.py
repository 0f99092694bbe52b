"""STB, the Stereo Hand Pose Tracking Benchmark (Zhang et al. 2017): left hands of one person.

    ROOT/labels/B1Counting_BB.mat, B1Counting_SK.mat         handPara [3, 21, 1500] mm in the left stereo or the depth camera
    ROOT/images/B1Counting/BB_left_0.png, BB_right_0.png, SK_color_0.png       or ROOT/B1Counting/...

It marks the middle of the palm instead of the wrist. As is usual with this dataset, the wrist is taken to lie as far from the
palm's middle as the ring finger's root, on the other side.
"""

import numpy as np

from ...camera import project
from ...contract.frames import axis_angle_to_matrix
from ...contract.skeleton import HAND_21
from .cropping import Hand
from .pictures import read_picture
from .reader import Reader, load_mat, parsing

LEFT = 0

_ORDER = [0] + [
    HAND_21.index(f"{finger}_mcp") + part for finger in ("pinky", "ring", "middle", "index") for part in range(4)
]
STB_PLACES = np.array(_ORDER + [HAND_21.index("thumb_cmc") + part for part in range(4)])
"""For each of STB's 21 points its place in HAND_21: the palm's middle at the wrist's, then little finger to thumb, root first."""

SEQUENCES = {
    "test": ("B1Counting", "B1Random"),
    "train": tuple(f"B{part}{motion}" for part in range(2, 7) for motion in ("Counting", "Random")),
}
"""The usual split."""

_STEREO = np.array([[822.79041, 0, 318.47345], [0, 822.79041, 250.31296], [0, 0, 1]])
_COLOUR = np.array([[607.92271, 0, 314.78337], [0, 607.88192, 236.42484], [0, 0, 1]])
_BASELINE = np.array([120.054, 0, 0])
_COLOUR_TO_DEPTH = axis_angle_to_matrix([0.00531, -0.01196, 0.00301])
_COLOUR_CENTRE = np.array([-24.0381, -0.4563, -1.2326])
"""The dataset's calibration, px and mm: a point x of the depth camera is at R^T (x - centre) before the colour camera."""

VIEWS = {"BB_left": _STEREO, "BB_right": _STEREO, "SK_color": _COLOUR}


class Stb(Reader):
    """Both stereo pictures and the colour picture of every frame."""

    name, title, kind = "stb", "STB", "hand"
    source = "download the images and labels of the Stereo Hand Pose Tracking Benchmark (zhjwustc on GitHub) and unpack them there"

    def __init__(self, root, split="train"):
        """split: "train" (B2 to B6) or "test" (B1)."""
        super().__init__(root)
        self.check_split(split, ("train", "test"))
        self._samples = []
        for sequence in SEQUENCES[split]:
            folder = self.require(self.root / "images" / sequence, [self.root / sequence])
            for view in VIEWS:
                path = self.require(self.root / "labels" / f"{sequence}_{view[:2]}.mat")
                for frame, points in enumerate(_hand_points(path, view)):
                    self._samples.append((folder / f"{view}_{frame}.png", view, points))

    def __len__(self):
        return len(self._samples)

    def annotated(self, index):
        path, view, points = self._samples[index]
        points, known = points.astype(float), np.ones(21, bool)
        return read_picture(path), Hand(LEFT, project(points, VIEWS[view]), known, points, known, VIEWS[view])


def _hand_points(path, view):
    """Hands [T, 21, 3] m before the camera of a view, in HAND_21's order."""
    content = load_mat(path, variable_names=["handPara"])
    with parsing(path, "a label file of STB"):
        labelled = content["handPara"].astype(float).reshape(3, 21, -1).transpose(2, 1, 0)
    if view == "BB_right":
        labelled = labelled - _BASELINE
    elif view == "SK_color":
        labelled = (labelled - _COLOUR_CENTRE) @ _COLOUR_TO_DEPTH
    points = np.empty_like(labelled)
    points[:, STB_PLACES] = labelled / 1000
    points[:, 0] = 2 * points[:, 0] - points[:, HAND_21.index("ring_mcp")]
    return points.astype(np.float32)
