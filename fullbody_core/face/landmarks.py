"""MediaPipe's face mesh by name: its parts, the 68 points that faces are measured by, and how open eyes and lips are.

Left and right are the person's. Upper and lower rows run from the corner nearer the nose to the outer one for eyes, and from
the right corner of the mouth to the left one for lips.
"""

import numpy as np

RIGHT_EYE_UPPER = (133, 173, 157, 158, 159, 160, 161, 246, 33)
RIGHT_EYE_LOWER = (133, 155, 154, 153, 145, 144, 163, 7, 33)
LEFT_EYE_UPPER = (362, 398, 384, 385, 386, 387, 388, 466, 263)
LEFT_EYE_LOWER = (362, 382, 381, 380, 374, 373, 390, 249, 263)
"""The edges of the lids, both corners of the eye included."""

RIGHT_IRIS = (468, 469, 470, 471, 472)
LEFT_IRIS = (473, 474, 475, 476, 477)
"""The pupil first, then four points of the iris's edge."""

OUTER_LIP_UPPER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
OUTER_LIP_LOWER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
INNER_LIP_UPPER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
INNER_LIP_LOWER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)

RIGHT_BROW = (70, 63, 105, 66, 107, 46, 53, 52, 65, 55)
LEFT_BROW = (300, 293, 334, 296, 336, 276, 283, 282, 295, 285)

NOSE = (168, 6, 197, 195, 5, 4, 1, 2, 98, 97, 326, 327, 48, 278, 64, 294)

RIGHT_JAW = (127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148)
LEFT_JAW = (356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377)
CHIN = 152
FOREHEAD_OUTLINE = (162, 21, 54, 103, 67, 109, 10, 338, 297, 332, 284, 251, 389)
"""The outline, from beside the eyes down to the chin and over the forehead."""

CONTOUR = (*RIGHT_JAW, CHIN, *LEFT_JAW[::-1], *FOREHEAD_OUTLINE[::-1])
"""The outline as one loop: points that lie where the face turns out of sight. They slide along the skin when the head turns, and
the mesh model guesses those under hair, so a fit gives them little weight."""

LANDMARKS_68 = (
    *(127, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 356),
    *(70, 63, 105, 66, 107),
    *(336, 296, 334, 293, 300),
    *(168, 197, 5, 4),
    *(98, 97, 2, 326, 327),
    *(33, 160, 158, 133, 153, 144),
    *(362, 385, 387, 263, 373, 380),
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),
    *(78, 81, 13, 311, 308, 402, 14, 178),
)
"""The mesh points at the places of the 68 landmarks of iBUG's 300-W, in its order: jaw, brows, nose, eyes, outer and inner lips."""

EYE_CORNERS = {"left": (263, 362), "right": (33, 133)}
"""Outer and inner corner."""

_LID_PAIRS = {"left": ((385, 386, 387), (380, 374, 373)), "right": ((158, 159, 160), (153, 145, 144))}
_LIP_PAIRS = ((82, 13, 312), (87, 14, 317))


def eye_opening(mesh, side):
    """Distance between the lids over the width of the eye: [...] of mesh points [..., 478, 2 or 3]; side 'left' or 'right'."""
    outer, inner = EYE_CORNERS[side]
    width = np.linalg.norm(mesh[..., outer, :] - mesh[..., inner, :], axis=-1)
    return _gap(mesh, *_LID_PAIRS[side]) / np.maximum(width, 1e-9)


def lip_distance(mesh):
    """Distance between the inner lips over that between the outer eye corners: [...] of mesh points [..., 478, 2 or 3]."""
    width = np.linalg.norm(mesh[..., EYE_CORNERS["left"][0], :] - mesh[..., EYE_CORNERS["right"][0], :], axis=-1)
    return _gap(mesh, *_LIP_PAIRS) / np.maximum(width, 1e-9)


def _gap(mesh, upper, lower):
    return np.linalg.norm(mesh[..., list(upper), :] - mesh[..., list(lower), :], axis=-1).mean(-1)
