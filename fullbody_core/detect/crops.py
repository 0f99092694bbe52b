"""What DetNet sees of a picture: an upright rectangle around one person, resampled without aliasing.

Training and capture cut by the same rule, here. Pixels are continuous: the centre of the first pixel is (0.5, 0.5). A rectangle
is (left, top, width, height) in pixels of the picture and may reach outside it, where everything is black.
"""

import cv2
import numpy as np

ASPECT = 192 / 256
"""Width to height of DetNet's input: 768 x 1024, downscaled by 4 (Zhou et al. 2021, Sec. 3.2.1)."""

MARGIN = 0.25
"""By how much a crop is larger than the person's box, both sides together, as is customary since 2D pose estimators."""

_MOST_SAMPLES = 64
"""Samples for one pixel of a crop in each direction; OpenCV cannot draw pictures wider than 32767 px."""


def crop_rectangle(box, margin=MARGIN, aspect=ASPECT):
    """The rectangle [..., 4] of the given aspect around person boxes [..., 4] px (left, top, right, bottom).

    It shares the box's middle and holds the box with its margin; a box of no size counts as one pixel. Raises ValueError for
    numbers that are not finite.
    """
    box = np.asarray(box, float)
    if not np.isfinite(box).all():
        raise ValueError(f"A person's box should be finite, got {box.tolist()}.")
    size = np.maximum(box[..., 2:] - box[..., :2], 1) * (1 + margin)
    height = np.maximum(size[..., 1], size[..., 0] / aspect)
    size = np.stack([height * aspect, height], -1)
    return np.concatenate([(box[..., :2] + box[..., 2:] - size) / 2, size], -1)


def rectangle_middle(rectangle):
    """The middle [..., 2] of rectangles [..., 4]."""
    rectangle = np.asarray(rectangle, float)
    return rectangle[..., :2] + rectangle[..., 2:] / 2


def plane_rotation(angle):
    """Rotation [..., 2, 2] by angles [...] rad in the picture's axes: from x, right, towards y, down."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], -2)


def to_crop(points, rectangle, size, angle=0.0):
    """Pixels of the picture [..., N, 2] as pixels of the crop of `rectangle` [..., 4] that `cut` makes with the same arguments."""
    rectangle, middle = np.asarray(rectangle, float), rectangle_middle(rectangle)
    turned = (np.asarray(points, float) - middle[..., None, :]) @ np.swapaxes(plane_rotation(angle), -1, -2)
    return (turned / rectangle[..., None, 2:] + 0.5) * np.asarray(size, float)


def from_crop(points, rectangle, size, angle=0.0):
    """Pixels of a crop [..., N, 2] as pixels of the picture: the inverse of `to_crop`."""
    rectangle, middle = np.asarray(rectangle, float), rectangle_middle(rectangle)
    turned = (np.asarray(points, float) / np.asarray(size, float) - 0.5) * rectangle[..., None, 2:]
    return turned @ plane_rotation(angle) + middle[..., None, :]


def cut(image, rectangle, size, angle=0.0):
    """The part of a uint8 picture [H, W, C] inside `rectangle` [4], resampled to `size` (width, height) px; black outside.

    angle in radians turns what is seen about the rectangle's middle, clockwise. A pixel of the crop is the mean over the area
    that it covers; where the picture is enlarged it is interpolated bilinearly. Raises ValueError for another kind of picture
    and for a rectangle without area.
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or not image.size:
        raise ValueError(f"A picture should be uint8 and not empty, got {image.dtype} of shape {list(image.shape)}.")
    rectangle = np.asarray(rectangle, float)
    if not np.isfinite(rectangle).all() or (rectangle[2:] <= 0).any():
        raise ValueError(f"A crop needs a finite rectangle with an area, got {rectangle.tolist()}.")
    # Finer samples, at most a picture's pixel apart, whose means are the pixels of the crop.
    samples = np.ceil(rectangle[2:] / np.asarray(size) - 1e-6).clip(1, _MOST_SAMPLES).astype(int)
    fine_size = tuple(int(side) for side in samples * size)
    corners = to_crop([[0.5, 0.5], [1.5, 0.5], [0.5, 1.5]], rectangle, fine_size, angle) - 0.5  # of OpenCV's pixels 0 and 1
    image_to_fine = np.stack([corners[1] - corners[0], corners[2] - corners[0], corners[0]], -1)
    fine = cv2.warpAffine(image, image_to_fine, fine_size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return fine if fine_size == tuple(size) else cv2.resize(fine, tuple(size), interpolation=cv2.INTER_AREA)


def as_rgb(image):
    """A uint8 picture as RGB [H, W, 3]: grey [H, W] or [H, W, 1] is repeated, RGBA [H, W, 4] is laid over black."""
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
        raise ValueError(f"A picture should be grey, RGB or RGBA in uint8, got {image.dtype} of shape {list(image.shape)}.")
    if image.ndim == 2 or image.shape[2] == 1:
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    if image.shape[2] == 4:
        return np.round(image[..., :3] * (image[..., 3:] / np.float32(255))).astype(np.uint8)
    return image
