"""DetNet for inference: from crops of 768 x 1024 px to keypoints, in one call for any batch.

Normalisations are folded into convolutions, memory is channels-last, and on a CUDA device numbers are halves and the whole call,
localisation and read-out included, is recorded once per batch size as a CUDA graph. `plain=True` runs the same operations one by
one.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from ..tensor_shards import read_shards
from .body_keypoints import EXTENDED_BODIES
from .detnet import CELL, DOWNSCALE, HAND_CELLS, HAND_SIZE, IMAGE_SIZE, from_tensors
from .localization import part_windows
from .posenet import bilinear_crop, map_maxima, read_out
from .resnet import fold_batch_norms

CROP_SIZE = (DOWNSCALE * IMAGE_SIZE[0], DOWNSCALE * IMAGE_SIZE[1])
"""px (width, height) of I_h."""

CELL_IN_CROP = DOWNSCALE * CELL

OVERSAMPLE = 2
"""Samples per hand image pixel and axis: a large hand is scaled down when it is cut, and must not shimmer."""

WARM_UP = 3
"""Runs before a CUDA graph is recorded, in which convolutions choose their algorithms."""


class DetNetPrediction(NamedTuple):
    """Keypoints in B crops. Places are in px of the 768 x 1024 crop, confidences in 0..1.

    body2d [B, 33, 2], body3d [B, 33, 3] m from the pelvis, body_confidence [B, 33]: the complete body of the definition
    hand2d [B, 2, 21, 2]; hand3d [B, 2, 21, 3] in wrist-to-middle-knuckle lengths from the middle knuckle; hand_confidence
    [B, 2, 21]; hand_box [B, 2, 4] (left, top, right, bottom); hand_found [B, 2]; left hand first
    face_box [B, 4], face_found [B]
    """

    body2d: torch.Tensor
    body3d: torch.Tensor
    body_confidence: torch.Tensor
    hand2d: torch.Tensor
    hand3d: torch.Tensor
    hand_confidence: torch.Tensor
    hand_box: torch.Tensor
    hand_found: torch.Tensor
    face_box: torch.Tensor
    face_found: torch.Tensor


class DetNetPredictor(nn.Module):
    """A trained DetNet on one device, ready to predict. The network that it is given becomes its own."""

    def __init__(self, network, device="cpu", half=None, definition="smpl", plain=False):
        """half: 16-bit floats, by default on a CUDA device; definition: whose extended keypoints complete the body; plain: no CUDA
        graphs."""
        super().__init__()
        self.device = torch.device(device)
        self.dtype = torch.float16 if (self.device.type == "cuda" if half is None else half) else torch.float32
        self.definition = EXTENDED_BODIES[definition]
        network = fold_batch_norms(network.eval()).requires_grad_(False)
        self.network = network.to(self.device, self.dtype, memory_format=torch.channels_last)
        self.plain = plain or self.device.type != "cuda"
        self._graphs = {}

    def predict(self, images):
        """`DetNetPrediction` in RGB uint8 crops [B, 1024, 768, 3]. Raises ValueError for another shape or type."""
        if images.dtype != torch.uint8 or images.ndim != 4 or tuple(images.shape[1:]) != (*CROP_SIZE[::-1], 3):
            raise ValueError(f"DetNet reads uint8 crops [B, {CROP_SIZE[1]}, {CROP_SIZE[0]}, 3], got {tuple(images.shape)}.")
        images = images.to(self.device)
        with torch.inference_mode():
            return self(images) if self.plain else self._replay(images)

    def forward(self, images):
        """The plain path: every operation one by one."""
        high = self.as_features(images)
        starred, basic, extended, heat = self.find_body(high)
        boxes = self.localize(heat)
        hands = self.find_hands(starred, high, boxes)
        return self.read(basic, extended, heat, boxes, hands)

    def as_features(self, images):
        """I_h [B, 3, 1024, 768] in 0..1 from uint8 crops [B, 1024, 768, 3], whose memory is channels-last already."""
        return images.permute(0, 3, 1, 2).float().div_(255)

    def find_body(self, high):
        """The body branch on I_h [B, 3, 1024, 768]: F*, both `PoseMaps`, heat-maps."""
        image = functional.avg_pool2d(high, DOWNSCALE).to(self.dtype)
        starred, basic, extended, heat = self.network.body(image, {self.definition.name: slice(None)})
        return starred, basic, extended[self.definition.name], heat

    def localize(self, heat):
        """Windows [B, 3, 3] (u, v, w) in cells of the left hand, the right hand and the face (Eq. 6)."""
        return part_windows(heat)

    def find_hands(self, starred, high, boxes):
        """The hand branch on the windows [B, 2 or 3, 3]: `PoseMaps` of the left and right hands."""
        left, right = boxes[:, 0], boxes[:, 1]
        present = torch.ones(len(high), device=high.device, dtype=self.dtype)
        images = [self.cut_hand(high, box) for box in (left, right)]
        return self.network.hands([self.network.body_features(starred)] * 2, images, [left, right], [present] * 2)

    def cut_hand(self, high, box):
        """Hand images [B, 3, 128, 128] from I_h. Places are computed in 32 bits: halves are half a pixel off at 1024."""
        image = bilinear_crop(high, CELL_IN_CROP * box, OVERSAMPLE * HAND_SIZE)
        return functional.avg_pool2d(image, OVERSAMPLE).to(self.dtype, memory_format=torch.channels_last)

    def read(self, basic, extended, heat, boxes, hands):
        """`DetNetPrediction` from all maps and windows."""
        points = len(self.definition.complete)
        cells, locations, confidence = read_out(basic, extended, *hands)
        fingers = [item[:, points:].unflatten(1, (2, -1)) for item in (cells, locations, confidence)]
        windows = CELL_IN_CROP * boxes.float()  # [B, 3, 3]
        corner, side = windows[..., :2], windows[..., 2:]
        squares = torch.cat([corner, corner + side], -1)
        found = map_maxima(heat)[0].clamp(0, 1).float()
        return DetNetPrediction(
            body2d=CELL_IN_CROP * cells[:, :points].float(),
            body3d=locations[:, :points].float(),
            body_confidence=confidence[:, :points].float(),
            hand2d=corner[:, :2, None] + side[:, :2, None] / HAND_CELLS * fingers[0].float(),
            hand3d=fingers[1].float(),
            hand_confidence=fingers[2].float(),
            hand_box=squares[:, :2],
            hand_found=found[:, :2],
            face_box=squares[:, 2],
            face_found=found[:, 2],
        )

    def _replay(self, images):
        """The answer of the batch size's CUDA graph, recorded on its first use."""
        count = len(images)
        if count not in self._graphs:
            self._graphs[count] = self._record(images)
        graph, given, answer = self._graphs[count]
        given.copy_(images)
        graph.replay()
        # The graph writes its next answer to the same place.
        return DetNetPrediction(*(item.clone() for item in answer))

    def _record(self, images):
        given = images.clone()
        aside = torch.cuda.Stream(self.device)
        aside.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(aside), torch.backends.cudnn.flags(benchmark=True):
            for _ in range(WARM_UP):
                self(given)
        torch.cuda.current_stream(self.device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph), torch.backends.cudnn.flags(benchmark=True):
            answer = self(given)
        return graph, given, answer


def load_detnet(paths, device="cpu", half=None, plain=False):
    """(`DetNetPredictor`, sha256 by file name) from all the files of one DetNet's weights. Raises `WeightsError`, `FileError`."""
    paths = [Path(path) for path in paths]
    tensors, metadata = read_shards(paths)
    sha256 = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    return DetNetPredictor(from_tensors(tensors, metadata), device, half, plain=plain), sha256
