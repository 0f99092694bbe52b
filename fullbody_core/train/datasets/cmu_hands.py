"""The CMU Panoptic hand database (Simon et al. 2017), 2D: manual, synthetic and multi-view labels.

    ROOT/hand_labels/manual_train/*.json, *.jpg         also manual_test; {"hand_pts": [21][x, y, valid], "is_left": 0 or 1}
    ROOT/hand_labels_synth/synth1 ... synth4/*.json, *.jpg
    ROOT/hand143_panopticdb/hands_v143_14817.json       {"root": [{"img_paths", "joint_self": [21][x, y, valid]}]}
    ROOT/hand143_panopticdb/imgs/*.jpg

Any of the three parts will do. The multi-view labels do not say which hand it is; as elsewhere they are taken for
right hands.
"""

import numpy as np

from .cropping import Hand
from .pictures import read_picture
from .reader import Reader, load_json, parsing

LEFT, RIGHT = 0, 1

FOLDERS = {
    "train": ("hand_labels/manual_train", *(f"hand_labels_synth/synth{part}" for part in range(1, 5))),
    "test": ("hand_labels/manual_test",),
}

FEWEST_POINTS = 9


class CmuHands(Reader):
    """Hands of all parts that are there, one sample each; those with few points are left out."""

    name, title, kind = "cmu_hands", "The CMU Panoptic hand database", "hand"
    source = "download hand_labels, hand_labels_synth or hand143_panopticdb from domedb.perception.cs.cmu.edu and unpack them there"

    def __init__(self, root, split="train"):
        """split: "train", or "test" (manual_test only)."""
        super().__init__(root)
        self.check_split(split, FOLDERS)
        self._samples = []
        for folder in FOLDERS[split]:
            for path in sorted((self.root / folder).glob("*.json")):
                item = load_json(path)
                self._add(path, path.with_suffix(".jpg"), item, "hand_pts", LEFT if item.get("is_left") else RIGHT)
        multi_view = self.root / "hand143_panopticdb" / "hands_v143_14817.json"
        if split == "train" and multi_view.exists():
            for item in load_json(multi_view).get("root", ()):
                self._add(multi_view, multi_view.parent / item.get("img_paths", ""), item, "joint_self", RIGHT)
        if not self._samples:
            raise self.absent(self.root / FOLDERS[split][0])

    def _add(self, path, picture, item, key, side):
        with parsing(path, "an annotation of hands"):
            points = np.array(item[key], np.float32)
        # Some synthetic hands have other points than the usual ones.
        if points.shape == (21, 3) and (points[:, 2] > 0).sum() >= FEWEST_POINTS:
            self._samples.append((picture, side, points))

    def __len__(self):
        return len(self._samples)

    def annotated(self, index):
        path, side, points = self._samples[index]
        return read_picture(path), Hand(side, points[:, :2].astype(float) + 0.5, points[:, 2] > 0)
