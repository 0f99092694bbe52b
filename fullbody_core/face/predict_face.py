"""A clip's face by FaceNet: frame by frame, then one shape and one albedo for all (Zhou et al. 2021, Sec. 3.4)."""

import itertools
from dataclasses import fields, replace

import numpy as np

from .face_motion import FaceMotion
from .facenet import CHUNK, FaceNetPredictor


def predict_face(images, boxes, image_size, model, predictor=None):
    """`FaceMotion` of a clip whose faces are in boxes [T, 4] px, NaN where there is none.

    images: iterator of all T RGB uint8 images; predictor: `FaceNetPredictor`, by default with the shipped weights. Shape and
    albedo are medians over the frames; so is the lens, which the motion's `matrix` is. Raises `WeightsError`.
    """
    found = np.isfinite(boxes).all(1)
    motion = FaceMotion.nobody(model, len(boxes))
    motion.albedo, motion.illumination = np.zeros(model.albedo_size), np.zeros((len(boxes), 3, 9))
    if not found.any():
        return motion
    predictor = predictor or FaceNetPredictor.load(model)
    frames, parts = iter(images), []
    for start in range(0, len(boxes), CHUNK):
        some = list(itertools.islice(frames, CHUNK))
        chosen = np.flatnonzero(found[start : start + len(some)])
        parts.append(predictor.predict([some[index] for index in chosen], boxes[start + chosen]))
    estimate = _joined(parts)
    matrix = estimate.lens(image_size)
    estimate = estimate.seen_by(matrix)
    motion.expression[found] = np.clip(estimate.expression, *model.expression_limits.T)
    motion.rotation[found], motion.translation[found] = estimate.rotation, estimate.translation
    motion.illumination[found] = estimate.illumination
    return replace(
        motion, shape=np.median(estimate.shape, 0), albedo=np.median(estimate.albedo, 0), matrix=matrix, valid=found
    )


def _joined(parts):
    """Several `FaceEstimate`s as one."""
    names = [item.name for item in fields(parts[0]) if item.name != "centre"]
    return replace(parts[0], **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})
