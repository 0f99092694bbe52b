"""Augmentation of DetNet's samples once they are cropped: mirror, colours, blur, noise and things in the way.

Turns, shifts and scales are not done here but when a reader crops (`datasets.cropping.Jitter`), where the whole picture is at
hand. I and the hand images of a sample come from one picture, so they always change together.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from ..contract.skeleton import mirror_names
from ..networks.body_keypoints import DEFINITION_NAMES, EXTENDED_BODIES, MOST_KEYPOINTS
from ..networks.detnet_samples import CELL, HAND_SIZE, IMAGE_SIZE, image_to_hand

_LUMINANCE = np.array([0.299, 0.587, 0.114])


def _mirror_table():
    table = np.tile(np.arange(MOST_KEYPOINTS), (len(DEFINITION_NAMES), 1))
    for row, name in zip(table, DEFINITION_NAMES):
        complete = EXTENDED_BODIES[name].complete
        row[: len(complete)] = mirror_names(complete)
    return table


MIRROR = _mirror_table()
"""[definition, keypoint]: the counterpart of each keypoint on the other side, the filling-up ones being their own."""


@dataclass(frozen=True)
class Augmentation:
    """How much is changed. Chances are per sample; spreads are deviations of logarithms, but for `noise`, in grey levels."""

    mirror: float = 0.5
    brightness: float = 0.25
    contrast: float = 0.2
    saturation: float = 0.3
    white_balance: float = 0.08
    gamma: float = 0.2
    grey: float = 0.05
    noise_chance: float = 0.4
    noise: float = 8.0
    blur_chance: float = 0.3
    blur: float = 2.5
    """px of a hand image, at most."""
    cut_out_chance: float = 0.3
    hand_cut_out_chance: float = 0.15


def augment(samples, rng, settings=Augmentation()):
    """A batch of `DetNetSamples` changed at random by `rng`; the given one is left as it is."""
    samples = mirror(samples, rng.random(len(samples)) < settings.mirror)
    samples = cut_out(samples, *draw_cut_outs(samples, rng, settings))
    image, hand_images = samples.image.copy(), samples.hand_images.copy()
    for k in range(len(samples)):
        pictures = [image[k], *hand_images[k]]
        change = _ColourChange.draw(rng, settings)
        blur = rng.uniform(0, settings.blur) if rng.random() < settings.blur_chance else 0.0
        noise = rng.uniform(0, settings.noise) if rng.random() < settings.noise_chance else 0.0
        for picture, zoom in zip(pictures, (_hand_zoom(samples.hand_boxes[k]), 1, 1)):
            changed = _noisy(_blurred(change.apply(picture), blur / zoom), noise, rng)
            picture[:] = changed
    # What is not there stays black.
    image[~samples.body_present] = 0
    hand_images[samples.hand_boxes[..., 2] == 0] = 0
    return replace(samples, image=image, hand_images=hand_images)


def mirror(samples, which):
    """The samples `which` [N] bool picks as a mirror shows them: left is right, in the pictures as in every label."""
    image = np.where(which[:, None, None, None], samples.image[:, :, ::-1], samples.image)
    hands = np.where(which[:, None, None, None, None], samples.hand_images[:, ::-1, :, ::-1], samples.hand_images)
    order = np.where(which[:, None], MIRROR[samples.definition], np.arange(MOST_KEYPOINTS))
    side = np.where(which[:, None], [[1, 0]], [[0, 1]])

    def body(values):
        return np.take_along_axis(values, order.reshape(order.shape + (1,) * (values.ndim - 2)), 1)

    def hand(values):
        return np.take_along_axis(values, side.reshape(side.shape + (1,) * (values.ndim - 2)), 1)

    boxes = samples.hand_boxes.copy()
    boxes[..., 0] = np.where(boxes[..., 2] > 0, IMAGE_SIZE[0] / CELL - boxes[..., 0] - boxes[..., 2], 0)
    boxes = np.where(which[:, None, None], boxes, samples.hand_boxes)
    return replace(
        samples,
        image=image,
        hand_images=hands,
        hand_boxes=hand(boxes),
        body2d=body(_mirrored_pixels(samples.body2d, samples.body_known2d, which)),
        body3d=body(_mirrored_axes(samples.body3d, which)),
        body_known2d=body(samples.body_known2d),
        body_known3d=body(samples.body_known3d),
        hand2d=hand(_mirrored_pixels(samples.hand2d, samples.hand_known2d, which)),
        hand3d=hand(_mirrored_axes(samples.hand3d, which)),
        hand_known2d=hand(samples.hand_known2d),
        hand_known3d=hand(samples.hand_known3d),
        hand_map_known=hand(samples.hand_map_known),
        face2d=_mirrored_pixels(samples.face2d, samples.face_known, which),
    )


def _mirrored_pixels(points, known, which):
    """Pixels of I [N, ..., 2], mirrored where `which` [N] says so and they are `known` [N, ...]; the others are no places."""
    x = np.where(known & which.reshape((-1,) + (1,) * (known.ndim - 1)), IMAGE_SIZE[0] - points[..., 0], points[..., 0])
    return np.stack([x, points[..., 1]], -1)


def _mirrored_axes(points, which):
    sign = np.where(which, -1, 1).astype(points.dtype).reshape((-1,) + (1,) * (points.ndim - 2))
    return np.stack([points[..., 0] * sign, points[..., 1], points[..., 2]], -1)


def draw_cut_outs(samples, rng, settings=Augmentation()):
    """Rectangles (left, top, right, bottom) [N, 2, 4] px of I, zeros for none, and their colours [N, 2, 3] uint8.

    The first is anywhere in I, the second is of a hand's size and about one of its hands.
    """
    count = len(samples)
    size = np.array(IMAGE_SIZE)
    extent = rng.uniform(0.08, 0.4, (count, 2)) * size
    middle = rng.random((count, 2)) * size
    anywhere = np.concatenate([middle - extent / 2, middle + extent / 2], -1)
    side = rng.integers(0, 2, count)
    box = CELL * samples.hand_boxes[np.arange(count), side]
    extent = rng.uniform(0.15, 0.45, (count, 2)) * box[:, 2:]
    middle = box[:, :2] + rng.random((count, 2)) * box[:, 2:]
    near_hand = np.concatenate([middle - extent / 2, middle + extent / 2], -1)
    chosen = rng.random((count, 2)) < [settings.cut_out_chance, settings.hand_cut_out_chance]
    rectangles = np.where(chosen[..., None], np.stack([anywhere, near_hand], 1), 0)
    return rectangles, rng.integers(0, 256, (count, 2, 3), np.uint8)


def cut_out(samples, rectangles, colours):
    """The samples with rectangles [N, R, 4] px of I painted over in I and in the hand images. Labels stay: they are hidden."""
    image, hand_images = samples.image.copy(), samples.hand_images.copy()
    for k, place in zip(*np.nonzero((rectangles[..., 2:] > rectangles[..., :2]).all(-1))):
        corners = rectangles[k, place].reshape(2, 2)
        _paint(image[k], corners, colours[k, place])
        for side, box in enumerate(samples.hand_boxes[k]):
            if box[2] > 0:
                _paint(hand_images[k, side], image_to_hand(corners, box), colours[k, place])
    image[~samples.body_present] = samples.image[~samples.body_present]
    return replace(samples, image=image, hand_images=hand_images)


def _paint(picture, corners, colour):
    height, width = picture.shape[:2]
    (left, top), (right, bottom) = np.round(np.clip(corners, 0, (width, height))).astype(int)
    picture[top:bottom, left:right] = colour


@dataclass
class _ColourChange:
    """First a mixture of the channels [3, 3], then a curve for each of them [256, 3] uint8. Black stays black."""

    mixture: np.ndarray
    curves: np.ndarray

    @classmethod
    def draw(cls, rng, settings):
        saturation = 0.0 if rng.random() < settings.grey else np.exp(rng.normal(0, settings.saturation))
        mixture = saturation * np.eye(3) + (1 - saturation) * np.tile(_LUMINANCE, (3, 1))
        level = np.linspace(0, 1, 256)[:, None] ** np.exp(rng.normal(0, settings.gamma))
        # Contrast turns the curve about middle grey, but fades out towards black: dark stays dark.
        contrast = np.exp(rng.normal(0, settings.contrast))
        level = level + (contrast - 1) * (level - 0.5) * np.clip(4 * level, 0, 1)
        gain = np.exp(rng.normal(0, settings.brightness) + rng.normal(0, settings.white_balance, 3))
        return cls(mixture, np.round(255 * np.clip(level * gain, 0, 1)).astype(np.uint8))

    def apply(self, picture):
        return cv2.LUT(cv2.transform(picture, self.mixture), self.curves[:, None])


def _hand_zoom(boxes):
    """How many px of a hand image make one of I: that of the larger hand image, or a usual one where there is none."""
    width = boxes[:, 2].max()
    return HAND_SIZE / (CELL * width) if width > 0 else 3.0


def _blurred(picture, deviation):
    return cv2.GaussianBlur(picture, (0, 0), deviation) if deviation > 0.2 else picture


def _noisy(picture, deviation, rng):
    if deviation < 0.5:
        return picture
    noise = rng.standard_normal(picture.shape, np.float32) * np.float32(deviation)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)
