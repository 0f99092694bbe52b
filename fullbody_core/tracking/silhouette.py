"""Roughly which part of a picture people cover, as their keypoints say: what is not drawn here may be background."""

import cv2
import numpy as np

from ..contract.skeleton import BODY_BONES

LIMB = 0.4
"""Thickness of a limb, and radius of a head with its hair, in lengths of the longest bone seen: a trunk's side or a thigh."""

BESIDE_BOX = 0.06
"""Share of its size by which a box is too small: arms and feet stick out of it."""

_HEAD = ("nose", "eye", "ear", "mouth", "head")
_TRUNK = ("left_shoulder", "right_shoulder", "right_hip", "left_hip")


def background_mask(shape, scale, boxes=(), people=()):
    """[h, w] uint8 for a picture of `shape` (h, w) that is `scale` times as large as the video's: 255 where nobody is, 0 elsewhere.

    boxes [N, 4] px of the video's picture (left, top, right, bottom) of people of whom no more is known; people: single-frame
    `Keypoints`. All of a body's points count, also those that a detector but supposes behind something or outside of the picture:
    somebody's shoulders are there all the same, and are no background.
    """
    mask = np.full(shape, 255, np.uint8)
    for left, top, right, bottom in scale * np.asarray(boxes, float).reshape(-1, 4):
        beside = BESIDE_BOX * np.sqrt(max(right - left, 0) * max(bottom - top, 0))
        if beside > 0:
            corners = whole_pixels([[left - beside, top - beside], [right + beside, bottom + beside]])
            cv2.rectangle(mask, corners[0].tolist(), corners[1].tolist(), 0, cv2.FILLED)
    for person in people:
        if person.body_confidence.any():
            _draw_body(mask, scale, person)
        for hand in scale * person.hand2d[person.hand_confidence > 0]:
            _draw_hull(mask, hand, 0.5 * np.ptp(hand, axis=0).max())
        if person.face3d.size and person.face_confidence > 0:
            _draw_face(mask, scale * person.face3d[:, :2])
    return mask


def _draw_body(mask, scale, person):
    names, points = person.definition.names, scale * person.body2d
    bones = np.array(BODY_BONES[person.definition.name])
    lengths = np.linalg.norm(points[bones[:, 0]] - points[bones[:, 1]], axis=-1)
    thickness = LIMB * lengths.max(where=np.isfinite(lengths), initial=0)
    for parent, child in bones:
        _draw_hull(mask, points[[parent, child]], thickness)
    trunk = points[[names.index(name) for name in _TRUNK]]
    head = points[[any(part in name for part in _HEAD) for name in names]].mean(0)
    _draw_hull(mask, trunk, thickness)
    _draw_hull(mask, np.stack([trunk[:2].mean(0), head]), thickness)
    _draw_hull(mask, head[None], 2 * thickness)


def _draw_face(mask, points):
    """The mesh ends at the hairline: half as much again belongs to the head above it, and a quarter on each side."""
    low, high = points.min(0), points.max(0)
    hair = 0.5 * (high - low)[1]
    _draw_hull(mask, np.stack([low + [0, -0.5 * hair], [high[0], low[1] - 0.5 * hair], high, [low[0], high[1]]]), hair)


def _draw_hull(mask, points, thickness):
    """Fills the convex hull of points [N, 2] px, and as much around it as a line of this thickness."""
    if not np.isfinite(points).all():
        return
    hull = cv2.convexHull(whole_pixels(points))
    # Twice the larger side is beyond any picture; thicker lines are refused.
    width = int(np.clip(thickness, 1, min(2 * max(mask.shape), 32000)))
    cv2.fillConvexPoly(mask, hull, 0)
    cv2.polylines(mask, [hull], True, 0, width)


def whole_pixels(points):
    """Points as int32, none so far away that drawing to it would overflow."""
    return np.clip(np.round(points), -16000, 16000).astype(np.int32)
