"""A detector that follows one person by itself, as a tracker of people."""

import numpy as np

from ..detect.keypoints import Keypoints


class OnePersonTracker:
    """Whom a `Detector` finds is person 1. It does not choose among several, and does not know them again."""

    def __init__(self, detector):
        self._detector = detector
        self.name, self.definition, self.models = detector.name, detector.definition, detector.models

    def follow(self, pictures):
        """Yields ({identity: `Keypoints`}, boxes [N, 4] px of everybody known of) for pictures (RGB uint8 [H, W, 3], begins a
        shot), in order. It may ask for some more pictures before it answers."""
        for found in self._detector.detect_frames(image for image, _ in pictures):
            somebody = found.body_confidence.any()
            yield ({1: found} if somebody else {}), np.reshape(found.person_box, (-1, 4))[: int(somebody)]

    def nobody(self):
        """The answer for a frame in which a person is not seen."""
        return Keypoints.nobody(self.definition, getattr(self._detector, "face_count", 0))

    def close(self):
        self._detector.close()
