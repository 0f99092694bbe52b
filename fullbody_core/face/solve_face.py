"""The face of a clip: who it is, what it does, how it is coloured and lit (Zhou et al. 2021, Sec. 3.1 and 3.4)."""

import numpy as np

from ..read_ahead import decoded_ahead
from .face_motion import FaceMotion
from .landmark_fit import fit_landmarks
from .photometric_fit import solve_colour


def solve_face(seen, video, timestamps, matrix, model, progress):
    """The `FaceMotion` of a clip in the terms of a `MorphableModel`.

    seen: `Keypoints` of T frames as detected; video: opened anew for its colours; timestamps [T] s; matrix [3, 3] px; progress
    wraps the iterator over frames. Without a face mesh, or where no frame can be believed, no frame of the answer is valid.
    """
    motion = FaceMotion.nobody(model, len(timestamps))
    if seen.face3d.shape[1]:
        motion = fit_landmarks(seen.face3d, seen.face_confidence, video.image_size, matrix, timestamps, model)
    if not motion.valid.any():
        motion.albedo, motion.illumination = np.zeros(model.albedo_size), np.zeros((len(timestamps), 3, 9))
        return motion
    images = (image for _, image in decoded_ahead(video.frames()))
    return solve_colour(progress(images, total=len(timestamps), what="Colours of the face"), motion, model, matrix)
