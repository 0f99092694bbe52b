"""What the face's capture passes on: who it is, how it looks, and what it does in each frame."""

from dataclasses import dataclass

import numpy as np

from ..camera import project, rays
from ..contract.swing_twist import shortest_arc


@dataclass
class FaceMotion:
    """A face over T frames, in the terms of one `MorphableModel` of S shape, E expression and A albedo components.

    shape [S] and albedo [A]: standard deviations, one for the clip
    expression [T, E]: coefficients within the model's limits; zeros where not valid
    illumination [T, 3, 9]: linear RGB, spherical harmonics in camera axes (face/illumination.py)
    rotation [T, 3, 3], translation [T, 3] m: model to camera frame; the identity and zeros where not valid
    valid [T] bool: in which frames the face was found and can be believed
    matrix [3, 3] px: the camera that rotation, translation and illumination are for, or None for the clip's own: a fit may find
        that the lens was longer than the clip's field of view says
    albedo and illumination are None until the colours are solved.
    """

    shape: np.ndarray
    expression: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray
    valid: np.ndarray
    matrix: np.ndarray | None = None
    albedo: np.ndarray | None = None
    illumination: np.ndarray | None = None

    @classmethod
    def nobody(cls, model, frame_count):
        """T frames without a face."""
        return cls(
            shape=np.zeros(model.shape_size),
            expression=np.zeros((frame_count, model.expression_size)),
            rotation=np.tile(np.eye(3), (frame_count, 1, 1)),
            translation=np.zeros((frame_count, 3)),
            valid=np.zeros(frame_count, bool),
        )

    @property
    def frame_count(self):
        return len(self.valid)

    def rotation_in(self, matrix, model):
        """Rotations [T, 3, 3] in the axes of the clip's own camera `matrix` [3, 3].

        The face is seen at the same angle; but with another focal length its place in the picture is another line of sight.
        """
        if self.matrix is None:
            return self.rotation
        middle = self.rotation @ model.mean.mean(0) + self.translation
        pixels = project(np.where(self.valid[:, None], middle, [0.0, 0, 1]), self.matrix)
        turn = shortest_arc(rays(pixels, self.matrix), rays(pixels, matrix))
        return np.where(self.valid[:, None, None], turn @ self.rotation, self.rotation)

    def to_camera(self, points):
        """Points [T, P, 3] m of the model's frame in the camera frame."""
        return points @ np.swapaxes(self.rotation, -1, -2) + self.translation[:, None]
