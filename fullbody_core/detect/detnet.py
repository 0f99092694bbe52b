"""DetNet as a detector: the paper's 33 body keypoints on SMPL and 21 points a hand (Zhou et al. 2021, Sec. 3.2).

It sees one person, cut from the full picture by `tracking.PersonTracker`. As the rectangle stays where it is for many frames, it is
taken to stay for the next few, which go through the network together; frames that turn out to need another one are done again.
So the answers are those of one frame at a time. There is no face mesh.
"""

from collections import deque
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from ..contract.skeleton import HAND_21, SIDES, SMPL_33
from ..networks.detnet_predictor import CROP_SIZE, load_detnet
from ..tensor_shards import find_sets
from ..weights import WeightsAbsent, WeightsError, shipped_files
from .crops import as_rgb, cut, from_crop, rectangle_middle
from .keypoints import SEEN, SMALLEST_FACE, Keypoints, doubt_outside, points_box
from .mediapipe import PersonFinder
from .tracking import PersonTracker

WEIGHTS = "detnet"
"""Their id in the manifest, and how their files' names begin."""

PALM_LENGTH = 0.105
"""m, wrist to middle knuckle of the mean body: DetNet gives a hand in this unit."""

CUDA_BATCH = 16
"""Frames that are tried together on a CUDA device. On a processor one at a time is as fast, and nothing is done twice."""

_WRIST = HAND_21.index("wrist")
_BODY_WRISTS = [SMPL_33.index(f"{side}_wrist") for side in SIDES]


class DetNetDetector:
    """SMPL_33 and two hands, from DetNet's weights."""

    name = "detnet"
    definition = SMPL_33

    def __init__(self, paths, device="auto", batch=None, finder=None):
        """paths: all files of one DetNet's weights; batch: most frames in one call; finder: says where the person is at first, by
        default `PersonFinder`. Raises `WeightsError` or `FileError`."""
        cuda = torch.cuda.is_available() if device == "auto" else torch.device(device).type == "cuda"
        network, models = load_detnet(paths, ("cuda" if cuda else "cpu") if device == "auto" else device)
        self._finder = PersonFinder() if finder is None else finder
        self._keypoints = DetNetKeypoints(network, self._finder.find, batch or (CUDA_BATCH if cuda else 1))
        self.models = models | self._finder.models

    def detect(self, image):
        """Keypoints in a uint8 image [H, W, 3] of any size. Frames are to be given in order."""
        return self._keypoints.find([image])[0]

    def detect_frames(self, images):
        """Yields the keypoints of each image."""
        return self._keypoints.find_all(images)

    def close(self):
        self._finder.close()


def find_weights(paths=()):
    """All files of one DetNet's weights: `paths` name them, one of them, or the folder they are in; without, the shipped ones.

    Raises `WeightsError`.
    """
    if not paths:
        try:
            return list(shipped_files(WEIGHTS))
        except WeightsAbsent as error:
            raise WeightsAbsent(
                "DetNet's weights do not come with this version: train them with `fullbody train detnet` and give them with "
                "--detector-weights, or use --detector mediapipe."
            ) from error
    paths = [Path(path) for path in paths]
    for path in paths:
        if not path.exists():
            raise WeightsError(f"There are no weights at {path}: give the files that `fullbody train detnet` wrote.")
    if len(paths) > 1:
        return paths
    (path,) = paths
    if path.is_file():
        return next((files for files in find_sets(path.parent).values() if path in files), paths)
    sets = list(find_sets(path, f"{WEIGHTS}_*").values())
    if len(sets) != 1:
        raise WeightsError(
            f"There are {len(sets)} DetNets in {path}: give the files of one that `fullbody train detnet` wrote."
        )
    return sets[0]


class DetNetKeypoints:
    """From pictures to `Keypoints`: tracking, cutting, the network, and its answers in pixels of the picture."""

    def __init__(self, network, find_person, batch):
        """network: `DetNetPredictor`; find_person: as `PersonTracker`'s; batch: most frames in one call."""
        self.network, self.batch = network, batch
        self.tracker = PersonTracker(find_person)
        complete = network.definition.complete
        self._order = [complete.index(name) for name in SMPL_33.names]

    def find_all(self, images):
        """Yields the keypoints of each image."""
        images, waiting, ahead = iter(images), deque(), self.batch
        while True:
            waiting.extend(islice(images, max(0, ahead - len(waiting))))
            if not waiting:
                return
            # Powers of two, because a network keeps a recording of itself for every batch size.
            count = ahead if len(waiting) >= ahead else 1 << (len(waiting).bit_length() - 1)
            found = self.find(list(islice(waiting, count)))
            for keypoints in found:
                waiting.popleft()
                yield keypoints
            # Somebody who runs about needs a new rectangle soon: no more frames are tried than twice those that were right.
            ahead = min(self.batch, 1 << len(found).bit_length())

    def find(self, images):
        """Keypoints of the first of some images, and of as many that follow as are to be cut by the same rectangle: a list."""
        images = [as_rgb(image) for image in images]
        rectangle = self.tracker.look(images[0])
        if rectangle is None:
            return [Keypoints.nobody(SMPL_33)]
        crops = np.stack([cut(image, rectangle, CROP_SIZE) for image in images])
        answer = self.network.predict(torch.from_numpy(crops))
        found = self._read(answer, rectangle, images)
        kept = 0
        for points, confidence in zip(found.body2d, found.body_confidence):
            kept += 1
            if not self.tracker.follow(points, confidence):
                break
        return [found.take(frame) for frame in range(kept)]

    def _read(self, answer, rectangle, images):
        """A `DetNetPrediction` of B crops of one rectangle as a sequence of B `Keypoints`."""
        answer = type(answer)(*(item.double().cpu().numpy() for item in answer))
        sizes = np.array([image.shape[1::-1] for image in images])  # [B, 2]
        body2d = from_crop(answer.body2d[:, self._order], rectangle, CROP_SIZE)
        confidence = np.clip(answer.body_confidence[:, self._order], 0, 1)
        confidence = doubt_outside(body2d, confidence, sizes[:, None])
        hand2d = from_crop(answer.hand2d, rectangle, CROP_SIZE)
        boxes = from_crop(answer.hand_box.reshape(-1, 2, 2, 2), rectangle, CROP_SIZE)  # [B, 2, corner, 2]
        hand_confidence = _hand_confidence(answer, hand2d, boxes, body2d, confidence, sizes)
        found = hand_confidence > 0
        _take_finer_wrists(body2d, confidence, hand2d, hand_confidence)
        face_box = from_crop(answer.face_box.reshape(-1, 2, 2), rectangle, CROP_SIZE).reshape(-1, 4)
        face_confidence = _face_confidence(answer.face_found, face_box, sizes)
        return Keypoints(
            definition=SMPL_33,
            body2d=body2d,
            body3d=answer.body3d[:, self._order],
            body_confidence=confidence,
            body_centre=np.broadcast_to(rectangle_middle(rectangle), (len(images), 2)),
            hand2d=np.where(found[..., None, None], hand2d, 0),
            hand3d=np.where(found[..., None, None], PALM_LENGTH * answer.hand3d, 0),
            hand_confidence=hand_confidence,
            hand_centre=np.where(found[..., None], boxes.mean(2), 0),
            face3d=np.zeros((len(images), 0, 3)),
            face_confidence=face_confidence,
            face_box=np.where(face_confidence[:, None] > 0, face_box, 0),
            person_box=np.stack([points_box(*frame) for frame in zip(body2d, confidence, sizes)]),
        )


def _hand_confidence(answer, hand2d, boxes, body2d, confidence, sizes):
    """[B, 2]: how surely each hand is where its points are; 0 where it was not found.

    hand2d [B, 2, 21, 2] and boxes [B, 2, 2, 2] (corners) in px of the picture; body2d [B, 33, 2], confidence [B, 33]; sizes [B, 2]
    (width, height) px. A hand is found where its heat-map says so, inside the picture, and at its own wrist if that is seen.
    """
    middle, side = boxes.mean(2), (boxes[:, :, 1] - boxes[:, :, 0]).max(-1)
    inside = ((middle >= 0) & (middle < sizes[:, None])).all(-1)
    apart = np.linalg.norm(hand2d[:, :, _WRIST] - body2d[:, _BODY_WRISTS], axis=-1)
    attached = (apart <= side) | (confidence[:, _BODY_WRISTS] < SEEN)
    there = (answer.hand_found >= SEEN) & inside & attached & (side > 0)
    sure = np.clip(answer.hand_found, 0, 1) * np.clip(answer.hand_confidence, 0, 1).mean(-1)
    return np.where(there, sure, 0.0)


def _face_confidence(found, box, sizes):
    """[B]: how surely the face is in its box [B, 4] px; 0 for a box that is tiny or whose middle is outside the picture."""
    middle, side = (box[:, :2] + box[:, 2:]) / 2, box[:, 2] - box[:, 0]
    inside = ((middle >= 0) & (middle < sizes)).all(-1)
    return np.where((found >= SEEN) & inside & (side >= SMALLEST_FACE), np.clip(found, 0, 1), 0.0)


def _take_finer_wrists(body2d, confidence, hand2d, hand_confidence):
    """Where a hand was found, the body's wrist is its: it was seen in four times as many pixels. Changes the body's arrays."""
    found = hand_confidence > 0
    body2d[:, _BODY_WRISTS] = np.where(found[..., None], hand2d[:, :, _WRIST], body2d[:, _BODY_WRISTS])
    confidence[:, _BODY_WRISTS] = np.maximum(confidence[:, _BODY_WRISTS], hand_confidence)
