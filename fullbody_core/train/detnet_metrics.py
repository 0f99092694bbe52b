"""Accuracy of DetNet on samples whose truth is known: held-out synthetic people, or a dataset's test split.

Metrics as in Zhou et al. 2021 (Sec. 4.1, supplementary Sec. 2 and 3): MPJPE, the same after Procrustes alignment (PA), PCK at
150 mm after it, and AUC of the PCK over 5 to 150 mm, each beside a predictor that answers every picture with the mean pose.
Keypoints outside the image are ignored, as on HUMBI. A hand is read from the hand image that comes with the sample.
"""

from dataclasses import dataclass

import numpy as np
import roma
import torch

from ..networks.body_keypoints import EXTENDED_BODIES
from ..networks.detnet import CELL, HAND_CELLS, IMAGE_SIZE
from ..networks.detnet_samples import HAND_ROOT, HAND_UNIT
from ..networks.heat_maps import SHOWN
from ..networks.localization import part_windows
from ..networks.posenet import read_out
from ..table import format_table
from .detnet_loss import DetNetTensors, heat_targets

PCK_DISTANCE = 150.0
AUC_DISTANCES = np.arange(5.0, 151.0, 5.0)
"""mm"""

PCK_SHARE = 0.1
"""2D keypoints count as correct within this share of the larger side of the person's box."""


@dataclass
class SamplePredictions:
    """DetNet's answers for N samples of one definition, in the samples' own units.

    body2d [N, K, 2] px of I, body3d [N, K, 3] m; hand2d [N, 2, 21, 2] px of I, hand3d [N, 2, 21, 3] in hand units;
    windows [N, 3, 3] cells (left hand, right hand, face)
    """

    body2d: np.ndarray
    body3d: np.ndarray
    hand2d: np.ndarray
    hand3d: np.ndarray
    windows: np.ndarray


@dataclass
class PartReport:
    """mpjpe, pa in mm; pck 0..1 at 150 mm after PA; auc 0..1; count of keypoints."""

    mpjpe: float
    pa: float
    pck: float
    auc: float
    count: int


@dataclass
class DetNetReport:
    """What was measured on N samples. parts: name to `PartReport`; pck2d: share of 2D body keypoints within PCK_SHARE of the box;
    hand_pixels: mean 2D error of hand keypoints as a share of the hand image; iou: mean of hand boxes and of face boxes."""

    parts: dict
    pck2d: float
    hand_pixels: float
    hand_iou: float
    face_iou: float


def predict_samples(network, samples, definition="smpl", batch=32, device="cpu"):
    """`SamplePredictions` of a `DetNet` (in eval mode) for `DetNetSamples`, all asked for one definition's keypoints."""
    answers = []
    with torch.inference_mode():
        for start in range(0, len(samples), batch):
            tensors = DetNetTensors.of(samples.take(slice(start, start + batch)), device)
            answers.append(_predict(network, tensors, definition))
    return SamplePredictions(*(torch.cat(items).float().cpu().numpy() for items in zip(*answers)))


def _predict(network, tensors, definition):
    boxes, present = tensors.hand_boxes, tensors.body_present.float()
    maps = network(tensors.image, tensors.hand_images, boxes, present, {definition: slice(None)})
    cells, locations, _ = read_out(maps.basic, maps.extended[definition])
    hand_cells, hand_locations, _ = (item.unflatten(1, (2, -1)) for item in read_out(*maps.hands))
    hand2d = CELL * (boxes[:, :, None, :2] + hand_cells / HAND_CELLS * boxes[:, :, None, 2:])
    windows = part_windows(maps.heat)
    return CELL * cells, locations, hand2d, hand_locations, windows


def constant_predictions(samples, training):
    """What a predictor answers that knows the mean of `training` and never looks at a picture, for `samples`."""
    count = len(samples)

    def mean(values, known):
        weight = known[..., None].astype(float)
        average = (values * weight).sum(0) / np.maximum(weight.sum(0), 1)
        return np.broadcast_to(average, (count, *average.shape)).copy()

    points = slice(len(EXTENDED_BODIES["smpl"].complete))
    hands, known = in_hand_units(training)
    return SamplePredictions(
        body2d=mean(training.body2d[:, points], training.body_known2d[:, points]),
        body3d=mean(training.body3d[:, points], training.body_known3d[:, points]),
        hand2d=mean(training.hand2d, training.hand_known2d),
        hand3d=mean(hands, known),
        windows=np.tile(np.array([12.0, 20, 24]), (count, 3, 1)),
    )


def in_hand_units(samples):
    """(hand3d [N, 2, 21, 3] from the root in hand units, what of it is known [N, 2, 21])."""
    wrist, middle = HAND_UNIT
    unit = np.linalg.norm(samples.hand3d[:, :, wrist] - samples.hand3d[:, :, middle], axis=-1)
    known = samples.hand_known3d & (unit > 0)[..., None] & samples.hand_known3d[:, :, [HAND_ROOT]]
    points = samples.hand3d - samples.hand3d[:, :, [HAND_ROOT]]
    return points / np.maximum(unit, 1e-9)[..., None, None], known & samples.hand_known3d[:, :, [wrist]]


def report_samples(samples, predicted):
    """`DetNetReport` of `SamplePredictions` against `DetNetSamples` whose 3D truth is in metres."""
    count = predicted.body3d.shape[1]
    inside = _inside(samples.body2d[:, :count])
    hands, hand_truth, hand_known = _hands_in_metres(samples, predicted)
    hand_ious, face_ious = window_overlaps(samples, predicted.windows)
    return DetNetReport(
        parts={
            "body": report_part(predicted.body3d, samples.body3d[:, :count], samples.body_known3d[:, :count] & inside),
            "hands": report_part(hands, hand_truth, hand_known),
        },
        pck2d=_mean(_box_shares(samples, predicted.body2d, samples.body_known2d[:, :count] & inside) < PCK_SHARE),
        hand_pixels=_mean(_hand_shares(samples, predicted.hand2d)),
        hand_iou=_mean(hand_ious),
        face_iou=_mean(face_ious),
    )


def report_part(predicted, truth, known):
    """`PartReport` of root-relative points [N, K, 3] m, of which known [N, K] count. PA takes items with at least three."""
    distance = 1000 * np.linalg.norm(predicted - truth, axis=-1)
    enough = known.sum(1) >= 3
    aligned = procrustes(predicted[enough], truth[enough], known[enough])
    left = 1000 * np.linalg.norm(aligned - truth[enough], axis=-1)[known[enough]]
    share = (left[:, None] <= AUC_DISTANCES).mean() if len(left) else float("nan")
    return PartReport(_mean(distance[known]), _mean(left), _mean(left <= PCK_DISTANCE), float(share), int(known.sum()))


def procrustes(points, truth, known):
    """Points [N, K, 3] turned, scaled and moved onto truth by least squares over the known ones [N, K]."""
    points, truth, weights = (torch.as_tensor(np.asarray(item), dtype=torch.float64) for item in (points, truth, known))
    if not len(points):
        return points.numpy()
    rotation, shift, scale = roma.rigid_points_registration(points, truth, weights, compute_scaling=True)
    return (scale[:, None, None] * points @ rotation.mT + shift[:, None]).numpy()


def window_overlaps(samples, windows):
    """Intersection over union of predicted windows [N, 3, 3] with those of the true heat-maps: of all hands [M] and faces [L] that
    are in the picture."""
    tensors = DetNetTensors.of(samples)
    truth, known = heat_targets(tensors, torch.arange(len(samples)))
    shown = (known & (truth.amax((2, 3)) > SHOWN)).numpy()
    overlap = _intersection_over_union(windows, part_windows(truth).numpy().astype(float))
    return overlap[:, :2][shown[:, :2]], overlap[:, 2][shown[:, 2]]


def _intersection_over_union(a, b):
    """Of squares [..., 3] (left, top, width)."""
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    return shared / (a[..., 2] ** 2 + b[..., 2] ** 2 - shared)


def _hands_in_metres(samples, predicted):
    """Predicted and true hands [2 N, 21, 3] m from their root, and which of their points count."""
    truth = samples.hand3d - samples.hand3d[:, :, [HAND_ROOT]]
    wrist, middle = HAND_UNIT
    unit = np.linalg.norm(truth[:, :, wrist] - truth[:, :, middle], axis=-1)[..., None, None]
    known = in_hand_units(samples)[1] & _inside(samples.hand2d) & (samples.hand_boxes[..., 2:] > 0)
    return tuple(item.reshape(-1, *item.shape[2:]) for item in (unit * predicted.hand3d, truth, known))


def _box_shares(samples, points, known):
    """2D errors of the known body keypoints as shares of the larger side of the box around a person's own keypoints."""
    truth = samples.body2d[:, : points.shape[1]]
    low = np.where(known[..., None], truth, np.inf).min(1)
    high = np.where(known[..., None], truth, -np.inf).max(1)
    side = np.broadcast_to((high - low).max(-1, keepdims=True), known.shape)
    return np.linalg.norm(points - truth, axis=-1)[known] / np.maximum(side[known], 1)


def _hand_shares(samples, points):
    """2D errors of the known hand keypoints as shares of the hand image's side."""
    known = samples.hand_known2d & _inside(samples.hand2d) & (samples.hand_boxes[..., 2:] > 0)
    side = np.broadcast_to(CELL * samples.hand_boxes[..., 2:], known.shape)
    return np.linalg.norm(points - samples.hand2d, axis=-1)[known] / side[known]


def _inside(points):
    """Which points [..., 2] px lie in I."""
    return ((points >= 0) & (points < IMAGE_SIZE)).all(-1)


def _mean(values):
    return float(np.mean(values)) if len(values) else float("nan")


def format_detnet_reports(reports):
    """The reports, by name, as a table for the terminal."""
    header = ("", "body MPJPE", "PA", "PCK@150", "AUC", "2D PCK@0.1", "hands MPJPE", "PA", "2D", "hand IoU", "face IoU")
    rows = []
    for name, report in reports.items():
        body, hands = report.parts["body"], report.parts["hands"]
        rows.append(
            (
                name,
                f"{body.mpjpe:.1f} mm",
                f"{body.pa:.1f} mm",
                f"{body.pck:.1%}",
                f"{body.auc:.3f}",
                f"{report.pck2d:.1%}",
                f"{hands.mpjpe:.1f} mm",
                f"{hands.pa:.1f} mm",
                f"{report.hand_pixels:.1%}",
                f"{report.hand_iou:.2f}",
                f"{report.face_iou:.2f}",
            )
        )
    return format_table(header, rows)
