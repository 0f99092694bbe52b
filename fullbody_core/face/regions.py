"""Regions of a face whose source marks none: drawn around the points of MediaPipe's face mesh, seen from the front."""

import cv2
import numpy as np

from .landmarks import (
    LEFT_EYE_LOWER,
    LEFT_EYE_UPPER,
    OUTER_LIP_LOWER,
    OUTER_LIP_UPPER,
    RIGHT_EYE_LOWER,
    RIGHT_EYE_UPPER,
)

PIXEL = 0.00025
"""m, the grain of the drawing."""

IRIS_RADIUS, LID_WIDTH = 0.0059, 0.006
"""m, of a human eye; of the lids around its opening."""

BEHIND = 0.05
"""m behind the outer corners of the eyes where nothing belongs to a region any more."""

_BROWS = ((70, 63, 105, 66, 107, 55, 65, 52, 53, 46), (300, 293, 334, 296, 336, 285, 295, 282, 283, 276))
_EYES = ((*RIGHT_EYE_UPPER, *RIGHT_EYE_LOWER[-2:0:-1]), (*LEFT_EYE_UPPER, *LEFT_EYE_LOWER[-2:0:-1]))
_LIPS = (*OUTER_LIP_UPPER, *OUTER_LIP_LOWER[-2:0:-1])
_NOSE = (168, 245, 198, 129, 98, 2, 327, 358, 420, 465)
_BEARD = (58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 436, 327, 2, 98, 216)
_CHEEKS, _FOREHEAD, _PUPILS = (50, 280), (151, 9), (468, 473)
_OUTER_CORNERS = (33, 263)


def draw_regions(vertices, places, eyeballs):
    """Shares [V] by name, of `morphable.REGIONS`, for a face with vertices [V, 3] m whose mesh points are at places [478, 3].

    eyeballs: the share [V] of eyes with a surface of their own, or zeros for a face whose eyes are part of its skin: then what
    the lids enclose is taken for them.
    """
    drawing = _Drawing(vertices, places)
    near = places[list(_OUTER_CORNERS), 2].min() - BEHIND
    front = (vertices[:, 2] > near).astype(float)
    of_ball = eyeballs > 0.5
    if not of_ball.any():
        eyeballs = front * drawing.inside(_EYES, blur=0.0004)
    skin = 1 - eyeballs
    lips = front * skin * drawing.inside([_LIPS], blur=0.001)
    pupils = np.linalg.norm(vertices[:, None, :2] - places[list(_PUPILS), :2], axis=-1).min(1)
    nose, beard = drawing.inside([_NOSE], blur=0.004), drawing.inside([_BEARD], blur=0.004)
    return {
        "skin": skin,
        "lips": lips,
        "brows": front * skin * drawing.inside(_BROWS, blur=0.0012),
        "lids": front * skin * drawing.inside(_EYES, blur=0.0015, grow=LID_WIDTH),
        "nose": front * skin * nose,
        "cheeks": front * skin * _blobs(vertices, places[list(_CHEEKS)], 0.022),
        "forehead": front * skin * _blobs(vertices, places[list(_FOREHEAD)], 0.032),
        "beard": front * skin * (1 - lips) * (1 - nose) * beard,
        "eyeballs": np.asarray(eyeballs, float),
        "irises": eyeballs * front * (pupils < IRIS_RADIUS),
    }


class _Drawing:
    """Polygons between mesh points, drawn flat from the front, and read at vertices."""

    def __init__(self, vertices, places):
        self.places = places[:, :2]
        self.corner = np.nanmin(self.places, 0) - 0.02
        self.size = np.ceil((np.nanmax(self.places, 0) + 0.02 - self.corner) / PIXEL).astype(int)
        self.pixels = np.floor((vertices[:, :2] - self.corner) / PIXEL).astype(int)
        self.seen = ((self.pixels >= 0) & (self.pixels < self.size)).all(1)

    def inside(self, polygons, blur, grow=0.0):
        """The share [V] within polygons of mesh points, with edges `blur` m soft and moved outwards by `grow` m."""
        picture = np.zeros(self.size[::-1], np.float32)
        for polygon in polygons:
            corners = (self.places[list(polygon)] - self.corner) / PIXEL
            if np.isfinite(corners).all():
                cv2.fillPoly(picture, [np.round(corners).astype(np.int32)], 1.0)
        if grow:
            width = 2 * int(round(grow / PIXEL)) + 1
            picture = cv2.dilate(picture, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)))
        picture = cv2.GaussianBlur(picture, (0, 0), blur / PIXEL)
        shares = np.zeros(len(self.pixels))
        shares[self.seen] = picture[self.pixels[self.seen, 1], self.pixels[self.seen, 0]]
        return shares


def _blobs(vertices, centres, radius):
    """Soft balls around centres [N, 3]: 1 in the middle, a half at the radius."""
    distance = np.linalg.norm(vertices[:, None] - centres, axis=-1).min(1)
    return np.exp(-np.log(2) * (distance / radius) ** 2)
