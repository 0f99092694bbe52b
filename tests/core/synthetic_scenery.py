"""Made-up scenery for tests of what looks at whole pictures: places, and the views of a camera that turns there."""

import cv2
import numpy as np

from fullbody_core.camera import camera_matrix

SIZE = (320, 180)
MATRIX = camera_matrix(SIZE, 55.0)
_GRAIN = np.random.default_rng(0).normal(0, 1, (SIZE[1], SIZE[0], 3)).astype(np.float32)


def scenery(seed, size=(640, 360), tint=None):
    """A picture of `size` (width, height) px: spots of all sizes on a ground of one of many colours; RGB uint8."""
    rng = np.random.default_rng(seed)
    picture = np.full((size[1], size[0], 3), rng.uniform(40, 200, 3) if tint is None else tint, float)
    for _ in range(400):
        place, colour = rng.uniform(0, size, 2), rng.uniform(0, 255, 3)
        box = np.concatenate([place, place + rng.uniform(0.01, 0.12, 2) * size[0]]).astype(int).tolist()
        cv2.rectangle(picture, box[:2], box[2:], colour.tolist(), cv2.FILLED)
    return np.clip(cv2.GaussianBlur(picture, (0, 0), 1.0), 0, 255).astype(np.uint8)


def view(place, turn, noise=2.0, seed=0):
    """What a camera turned by `turn` [3, 3] sees of a place far away, SIZE px, with grey noise of that standard deviation."""
    height, width = place.shape[:2]
    # The place hangs on a plane before the camera as it stood, at twice the width of what that camera saw.
    plane = np.array([[MATRIX[0, 0], 0, width / 2], [0, MATRIX[1, 1], height / 2], [0, 0, 1]])
    mapping = MATRIX @ turn @ np.linalg.inv(plane)
    picture = cv2.warpPerspective(place, mapping, SIZE, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    grain = noise * np.roll(_GRAIN, (31 * seed, 57 * seed), (0, 1))
    return np.clip(picture + grain, 0, 255).astype(np.uint8)
