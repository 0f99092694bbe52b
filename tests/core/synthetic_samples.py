"""Samples for DetNet without a renderer: dots of a colour of their own where the keypoints are."""

import numpy as np

from fullbody_core.networks.body_keypoints import EXTENDED_BODIES
from fullbody_core.networks.detnet import CELL, HAND_SIZE, IMAGE_SIZE
from fullbody_core.networks.detnet_samples import DetNetSamples, image_to_hand


def dotted_samples(count, seed=0, definition="smpl"):
    """`DetNetSamples` of random points, all known, with both hands inside the picture."""
    rng = np.random.default_rng(seed)
    samples = DetNetSamples.blank(definition, count)
    points = len(EXTENDED_BODIES[definition].complete)
    samples.body2d[:, :points] = rng.uniform(8, np.array(IMAGE_SIZE) - 8, (count, points, 2))
    samples.body3d[:, 1:points] = rng.normal(0, 0.3, (count, points - 1, 3))
    samples.body_known2d[:, :points] = samples.body_known3d[:, :points] = True
    boxes = np.concatenate([rng.integers(0, [30, 40], (count, 2, 2)), rng.integers(7, 14, (count, 2, 1))], -1)
    samples.hand_boxes[:] = boxes
    corner, side = CELL * samples.hand_boxes[:, :, None, :2], CELL * samples.hand_boxes[:, :, None, 2:]
    samples.hand2d[:] = corner + side * rng.uniform(0.15, 0.85, samples.hand2d.shape)
    samples.hand3d[:] = rng.normal(0, 0.05, samples.hand3d.shape)
    samples.hand_known2d[:] = samples.hand_known3d[:] = samples.hand_map_known[:] = True
    samples.face2d[:] = rng.uniform([80, 20], [110, 50], samples.face2d.shape)
    samples.face_known[:] = samples.face_map_known[:] = samples.body_present[:] = True
    colours = np.random.default_rng(99).integers(60, 256, (60, 3))
    in_hands = image_to_hand(samples.hand2d, samples.hand_boxes)
    for item in range(count):
        _dots(samples.image[item], samples.body2d[item, :points], colours)
        for side in range(2):
            _dots(samples.image[item], samples.hand2d[item, side], colours[36:] // 2)
            _dots(samples.hand_images[item, side], in_hands[item, side], colours)
    assert samples.hand_images.shape[-2] == HAND_SIZE
    return samples


def _dots(image, points, colours, radius=3):
    for (x, y), colour in zip(points.astype(int), colours):
        image[max(y - radius, 0) : y + radius, max(x - radius, 0) : x + radius] = colour
