"""The face of a clip: who it is, what it does, how it is coloured and lit (Zhou et al. 2021, Sec. 3.1 and 3.4)."""

from dataclasses import replace

import numpy as np

from .face_motion import FaceMotion
from .facenet import face_box
from .landmark_fit import believable, fit_landmarks, refine
from .photometric_fit import solve_colour
from .predict_face import predict_face

SOLVERS = ("auto", "landmarks", "facenet", "facenet-tight")
"""'facenet-tight' is FaceNet's answer drawn to the landmarks; 'auto' is what measures best: the landmarks where there are any."""


def solve_face(seen, images, image_size, timestamps, matrix, model, solver="auto"):
    """The `FaceMotion` of a clip in the terms of a `MorphableModel`.

    seen: `Keypoints` of T frames as detected; images: function that gives the clip's T RGB uint8 images from the start; image_size
    (width, height) px; timestamps [T] s; matrix [3, 3] px; solver: one of SOLVERS. Without a face mesh FaceNet looks into the
    detector's face boxes. Where no frame can be believed, none of the answer is valid. Raises `WeightsError`.
    """
    if solver not in SOLVERS:
        raise ValueError(f"There is no face solver {solver!r}: choose one of {', '.join(SOLVERS)}.")
    mesh = (seen.face3d, seen.face_confidence, image_size)
    has_mesh = seen.face3d.shape[1] > 0
    if has_mesh and solver in ("auto", "landmarks"):
        motion = fit_landmarks(*mesh, matrix, timestamps, model)
    else:
        boxes = mesh_boxes(*mesh) if has_mesh else located_boxes(seen)
        if not np.isfinite(boxes).any():
            motion = FaceMotion.nobody(model, len(timestamps))
        else:
            motion = predict_face(images(), boxes, image_size, model)
        if has_mesh and solver == "facenet-tight":
            # Whoever moves the points has the colours solved anew for their new places.
            motion = refine(replace(motion, albedo=None, illumination=None), *mesh, matrix, timestamps, model)
    if not motion.valid.any():
        return without_colours(motion, model)
    return motion if motion.albedo is not None else solve_colour(images(), motion, model, matrix)


def without_colours(motion, model):
    """The `FaceMotion` with the mean albedo and no light."""
    return replace(motion, albedo=np.zeros(model.albedo_size), illumination=np.zeros((motion.frame_count, 3, 9)))


def mesh_boxes(points, confidence, image_size):
    """Boxes [T, 4] px around the face meshes [T, 478, 3] px that can be believed, else NaN."""
    return np.where(believable(points, confidence, image_size)[:, None], face_box(points), np.nan)


def located_boxes(seen):
    """The detector's own face boxes [T, 4] px, else NaN."""
    return np.where(seen.face_box.any(1)[:, None], seen.face_box, np.nan)
