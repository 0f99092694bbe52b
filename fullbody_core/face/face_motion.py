"""What the face's capture passes on: who it is, how it looks, and what it does in each frame."""

from dataclasses import dataclass

import numpy as np

from ..camera import rays
from ..swing_twist import shortest_arc


@dataclass
class FaceMotion:
    """A face over T frames, in the terms of one `MorphableModel` of S shape, E expression and A albedo components.

    shape [S] and albedo [A]: standard deviations, one for the clip
    expression [T, E]: coefficients within the model's limits; zeros where not valid
    illumination [T, 3, 9]: linear RGB, spherical harmonics in camera axes (face/illumination.py)
    rotation [T, 3, 3], translation [T, 3] m: model to camera frame; the identity and zeros where not valid
    valid [T] bool: in which frames the face was found and can be believed
    matrix [3, 3] px: the camera that the face was fitted for and that rotation, translation and illumination are in
    albedo and illumination are None until the colours are solved.
    """

    shape: np.ndarray
    expression: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray
    valid: np.ndarray
    matrix: np.ndarray
    albedo: np.ndarray | None = None
    illumination: np.ndarray | None = None

    @classmethod
    def nobody(cls, model, frame_count, matrix):
        """T frames without a face."""
        return cls(
            shape=np.zeros(model.shape_size),
            expression=np.zeros((frame_count, model.expression_size)),
            rotation=np.tile(np.eye(3), (frame_count, 1, 1)),
            translation=np.zeros((frame_count, 3)),
            valid=np.zeros(frame_count, bool),
            matrix=np.asarray(matrix, float),
        )

    @property
    def frame_count(self):
        return len(self.valid)

    def rotation_in(self, matrix):
        """Rotations [T, 3, 3] for a camera with other intrinsics that shows the same picture.

        The angle at which a face is seen stays; where in space it stands, and with it the line of sight, is another.
        """
        middle = self.translation[:, :2] / np.where(self.valid, self.translation[:, 2], 1)[:, None]
        pixels = middle * self.matrix[[0, 1], [0, 1]] + self.matrix[:2, 2]
        turn = shortest_arc(rays(pixels, self.matrix), rays(pixels, matrix))
        return np.where(self.valid[:, None, None], turn @ self.rotation, self.rotation)

    def to_camera(self, points):
        """Points [T, P, 3] m of the model's frame in the camera frame."""
        return points @ np.swapaxes(self.rotation, -1, -2) + self.translation[:, None]
