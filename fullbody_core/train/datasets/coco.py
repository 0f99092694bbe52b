"""COCO 2017's people (Lin et al. 2014), with the hands and faces of COCO-WholeBody (Jin et al. 2020) where those are present.

    ROOT/train2017/000000000009.jpg
    ROOT/annotations/person_keypoints_train2017.json
    ROOT/annotations/coco_wholebody_train_v1.0.json     optional; holds all of the file above and more

Coordinates count pixels from 0 at the first one's centre. COCO annotates no pelvis, so it stays unknown.
"""

import numpy as np

from .cropping import Person, arranged
from .pictures import read_picture
from .reader import Reader, load_json, parsing

NAMES = ("nose",) + tuple(
    f"{side}_{part}"
    for part in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    for side in ("left", "right")
)
"""COCO's 17 keypoints in its order; left and right are the person's."""

FEWEST_KEYPOINTS, SMALLEST_PERSON = 6, 64
"""People with fewer keypoints, or less high and wide than so many px, are no main subject and are passed over."""


class Coco(Reader):
    """People of COCO, one sample each. Crowds, small and barely annotated people are left out."""

    name, title, kind, definition = "coco", "COCO", "body2d", "coco"

    def __init__(self, root, split="train"):
        """split: "train" or "val"."""
        super().__init__(root)
        self.check_split(split, ("train", "val"))
        self.pictures = self.root / f"{split}2017"
        self.source = f"download {split}2017 and the annotations from cocodataset.org and unpack them there"
        annotations = self.root / "annotations"
        whole_body = annotations / f"coco_wholebody_{split}_v1.0.json"
        plain = annotations / f"person_keypoints_{split}2017.json"
        path = whole_body if whole_body.exists() else self.require(plain)
        content = load_json(path)
        with parsing(path, "an annotation of people's keypoints"):
            files = {image["id"]: image["file_name"] for image in content["images"]}
            people = [item for item in content["annotations"] if _is_subject(item)]
            self._files = [files[item["image_id"]] for item in people]
            self._people = [_compact(item) for item in people]

    def __len__(self):
        return len(self._people)

    def annotated(self, index):
        box, body, hands, face = self._people[index]
        body2d, body_known = arranged("coco", NAMES, body[:, :2] + 0.5, body[:, 2] > 0)
        person = Person(
            definition="coco",
            box=box,
            body2d=body2d,
            body_known2d=body_known,
            hand2d=hands[..., :2] + 0.5,
            hand_known2d=hands[..., 2] > 0,
            face2d=face[:, :2] + 0.5,
            face_known=face[:, 2] > 0,
        )
        return read_picture(self.pictures / self._files[index]), person


def _is_subject(item):
    large = min(item["bbox"][2:]) >= SMALLEST_PERSON / 2 and max(item["bbox"][2:]) >= SMALLEST_PERSON
    return not item.get("iscrowd", 0) and item.get("num_keypoints", 0) >= FEWEST_KEYPOINTS and large


def _compact(item):
    """(box [4], body [17, 3], hands [2, 21, 3], face [F, 3]) as arrays, which take a tenth of the lists' memory."""
    left, top, width, height = item["bbox"]
    hands = np.zeros((2, 21, 3), np.float32)
    for hand, side in enumerate(("left", "right")):
        if item.get(f"{side}hand_valid"):
            hands[hand] = np.reshape(item[f"{side}hand_kpts"], (21, 3))
    face = np.reshape(item["face_kpts"], (68, 3)) if item.get("face_valid") else np.zeros((0, 3))
    body = np.reshape(item["keypoints"], (len(NAMES), 3))
    box = np.array([left, top, left + width, top + height], np.float32)
    return box, body.astype(np.float32), hands, face.astype(np.float32)
