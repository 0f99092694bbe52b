"""FreiHAND (Zimmermann et al. 2019): right hands with 3D keypoints, before four kinds of background.

ROOT/training_xyz.json, training_K.json              32560 annotations: m in the camera's frame, and the camera's matrix
ROOT/training/rgb/00000000.jpg                       four times as many pictures, the same poses again and again
ROOT/evaluation_xyz.json, evaluation_K.json, evaluation/rgb/
"""

import numpy as np

from ...camera import project
from .cropping import Hand
from .pictures import read_picture
from .reader import Reader, load_json, parsing

RIGHT = 1


class FreiHand(Reader):
    """Hands of FreiHAND, one picture each."""

    name, title, kind = "freihand", "FreiHAND", "hand"
    source = "download FreiHAND_pub_v2.zip (and its evaluation annotations) from lmb.informatik.uni-freiburg.de and unpack it there"

    def __init__(self, root, split="training"):
        """split: "training" or "evaluation"."""
        super().__init__(root)
        self.check_split(split, ("training", "evaluation"))
        places, matrices = (self.require(self.root / f"{split}_{what}.json") for what in ("xyz", "K"))
        with parsing(places, "an annotation of FreiHAND that fits its matrices"):
            self._points = np.array(load_json(places), np.float32).reshape(-1, 21, 3)
            self._matrices = np.array(load_json(matrices), np.float32).reshape(len(self._points), 3, 3)
        self._pictures = sorted(self.require(self.root / split / "rgb").glob("*.jpg"))

    def __len__(self):
        return len(self._pictures)

    def annotated(self, index):
        pose = int(self._pictures[index].stem) % len(self._points)
        points, matrix = self._points[pose].astype(float), self._matrices[pose].astype(float)
        known = np.ones(21, bool)
        return read_picture(self._pictures[index]), Hand(RIGHT, project(points, matrix), known, points, known, matrix)
