"""The landmark fit frame by frame, for a live picture: who it is is known, and each frame starts where the last one ended."""

from dataclasses import dataclass

import numpy as np

from .face_motion import FaceMotion
from .landmark_fit import (
    LARGEST_ANGLE,
    WORST_MISFIT,
    FitSettings,
    FitState,
    FitTarget,
    believable,
    misfit,
    solve_pose,
    take_step,
    view_angle,
)

LONGEST_GAP = 0.5
"""s without a face after which its last pose says nothing any more."""


@dataclass(frozen=True)
class TrackedFace:
    """What a face does in one frame: expression [E], rotation [3, 3] and translation [3] m, model to the tracker's camera."""

    expression: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray


class FaceTracker:
    """Fits a `MorphableModel` to one face mesh after another, its shape [S] held: as `fit_landmarks`, but without looking ahead.

    matrix [3, 3] px: the camera under which the shape was found, `FaceMotion.matrix`; `rotation_in` turns to another one.
    steps: Gauss-Newton steps from the last frame's answer. Without one the pose is found by PnP and takes settings.frame_steps.
    """

    def __init__(self, model, shape, matrix, settings=FitSettings(), steps=2):
        self.model, self.shape, self.settings, self.steps = model, np.asarray(shape, float), settings, steps
        nobody = np.zeros((0, len(model.mesh_weights), 3))
        self._face = FitTarget.of(nobody, matrix, model, settings).with_shape(self.shape)
        self.lose()

    def lose(self):
        """Forgets the last frame: the next one is found anew."""
        self._last, self._seen_at = None, -np.inf

    def track(self, points, confidence, image_size, timestamp):
        """The `TrackedFace` in a face mesh [478, 3] px, or None where there is none or it cannot be believed.

        confidence: 0 where no face was found; image_size (width, height) px; timestamp s, later than the last one's.
        """
        if timestamp - self._seen_at > LONGEST_GAP:
            self.lose()
        points = np.asarray(points, float)[None]
        if not believable(points, np.array([confidence]), image_size)[0]:
            return None
        target = self._face.with_points(points, self.settings)
        state = None if self._last is None else self._follow(target, timestamp - self._seen_at)
        if state is None or not self._good(state, target):
            # The face may have leapt, or have been taken for another one.
            state = self._find(target)
            if not self._good(state, target):
                self.lose()
                return None
        self._last, self._seen_at = state, timestamp
        return TrackedFace(state.expression[0], state.rotation[0], state.translation[0])

    def rotation_in(self, face, matrix):
        """Rotation [3, 3] of a `TrackedFace` in the axes of another camera `matrix` [3, 3], as `FaceMotion.rotation_in`."""
        motion = FaceMotion(
            shape=self.shape,
            expression=face.expression[None],
            rotation=face.rotation[None],
            translation=face.translation[None],
            valid=np.array([True]),
            matrix=self._face.matrix,
        )
        return motion.rotation_in(matrix, self.model)[0]

    def _follow(self, target, elapsed):
        """The fit from the last frame's answer, to which the expression is drawn as a film's frames are to their neighbours."""
        # One neighbour of the two that a frame of a film has; the later it comes, the less it says.
        count = min(1, 1 / 30 / max(elapsed, 1e-6)) / 2
        neighbours = self._last.expression, np.array([count])
        state = self._last
        for _ in range(self.steps):
            state = take_step(state, target, self.settings, neighbours)
        return state

    def _find(self, target):
        """The fit from PnP on the steady points and the face at rest."""
        rotation, translation = solve_pose(target.mean[target.steady], target.pixels[0, target.steady], target.matrix)
        state = FitState(np.zeros(0), np.zeros((1, target.expression_size)), rotation[None], translation[None])
        for _ in range(self.settings.frame_steps):
            state = take_step(state, target, self.settings)
        return state

    def _good(self, state, target):
        """Whether the answer is a face that looks about here and lies on its points."""
        return (
            np.isfinite(state.translation).all()
            and view_angle(state, target)[0] <= np.radians(LARGEST_ANGLE)
            and misfit(state, target)[0] <= WORST_MISFIT
        )
