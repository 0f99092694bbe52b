"""The colours of a captured face: its albedo, one for the clip, and the light in each frame (Zhou et al. 2021, Eq. 4 and 5).

The geometry is known, so every visible point of the skin says what the picture shows there. With the albedo held the light has
a closed form, and with the light held so has the albedo; both in turn settle in a few rounds. A brighter face and a brighter
light look the same: the albedo's prior decides between them.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from scipy.sparse import csr_matrix

from ..camera import project
from .illumination import linear_to_srgb, shade, shading, solve_albedo, solve_illumination, srgb_to_linear
from .landmarks import CONTOUR

POINT_COUNT = 3000
"""Points of the skin that are looked at, spread evenly over its area."""

FACING = 0.4
"""Least cosine between a point's normal and the line to the camera. At the outline a small error of place hits another colour."""

HIDDEN = 0.015
"""m: a point this far behind the nearest one in the same small patch of the picture is hidden by it, as by the nose."""

PATCH = 0.03
"""Side of such a patch in heights of the face."""

ALBEDO_FRAMES = 60
ROUNDS = 8

OUTLIER = 0.1
"""Difference, in sRGB 0..1, at which a pixel's say has dropped to a quarter: hair, glasses, highlights."""

UNLIKE = 0.25
"""The same for the difference to the face's median colour, while there is no light to compare with."""

ALBEDO_PRIOR = 4e-6
"""Weight of a squared coefficient beside the mean squared difference of a pixel, in sRGB 0..1."""

_CHUNK = 32


@dataclass(frozen=True)
class ColourSamples:
    """What the frames show at P vertices of the skin.

    vertices [P]; pixels [T, P, 3] uint8 sRGB; normals [T, P, 3] float32 in camera axes; visible [T, P] bool
    """

    vertices: np.ndarray
    pixels: np.ndarray
    normals: np.ndarray
    visible: np.ndarray

    def take(self, frames):
        return replace(self, pixels=self.pixels[frames], normals=self.normals[frames], visible=self.visible[frames])


def solve_colour(frames, motion, model, matrix):
    """The `FaceMotion` with albedo and illumination, from the clip's RGB uint8 images in order (any iterator of all T)."""
    return solve_from_samples(sample_colours(frames, motion, model, matrix), motion, model)


def sample_colours(frames, motion, model, matrix):
    """`ColourSamples` of a clip, whose RGB uint8 images are given in order. One pass; no image is kept."""
    surface = _Surface.of(model)
    matrix = matrix if motion.matrix is None else motion.matrix
    count, points = motion.frame_count, len(surface.vertices)
    pixels = np.zeros((count, points, 3), np.uint8)
    normals, visible = np.zeros((count, points, 3), np.float32), np.zeros((count, points), bool)
    images = iter(frames)
    for start in range(0, count, _CHUNK):
        part = slice(start, min(start + _CHUNK, count))
        places, normals[part] = surface.posed(motion, part)
        where = project(places, matrix)
        for frame, image in zip(range(part.start, part.stop), images):
            if motion.valid[frame]:
                pixels[frame], inside = _look(image, where[frame - start])
                visible[frame] = inside & _unhidden(places[frame - start], normals[frame], where[frame - start])
    return ColourSamples(surface.vertices, pixels, normals, visible)


def solve_from_samples(samples, motion, model):
    """As `solve_colour`, from samples that are already there."""
    count = motion.frame_count
    known = np.flatnonzero(samples.visible.sum(1) >= 50)
    result = replace(motion, albedo=np.zeros(model.albedo_size), illumination=np.zeros((count, 3, 9)))
    if not len(known):
        return result
    mean, basis = model.albedo_mean[samples.vertices].astype(float), model.albedo_basis[:, samples.vertices]
    chosen = known[np.unique(np.linspace(0, len(known) - 1, ALBEDO_FRAMES).astype(int))]
    some = samples.take(chosen)
    shown = srgb_to_linear(some.pixels / 255)
    light, coefficients = None, result.albedo
    for _ in range(ROUNDS):
        albedo = mean + np.tensordot(coefficients, basis, 1)
        light = _solve_light(some, shown, albedo, light)
        weights = _weights(some, albedo, light)
        prior = ALBEDO_PRIOR * max(some.visible.sum(), 1)
        coefficients = solve_albedo(shown, shading(light, some.normals), weights, mean, basis, prior)
    result.albedo = coefficients
    albedo = mean + np.tensordot(coefficients, basis, 1)
    for start in range(0, len(known), _CHUNK):
        frames = known[start : start + _CHUNK]
        part = samples.take(frames)
        shown, light = srgb_to_linear(part.pixels / 255), None
        for _ in range(3):
            light = _solve_light(part, shown, albedo, light)
        result.illumination[frames] = light
    return result


def photometric_error(samples, motion, model):
    """Mean difference between the face as rendered and as seen, by channel: [3], in sRGB 0..1, over all visible samples.

    NaN where nothing is visible.
    """
    albedo = model.albedo_mean[samples.vertices] + np.tensordot(motion.albedo, model.albedo_basis[:, samples.vertices], 1)
    total, count = np.zeros(3), 0
    for frame in np.flatnonzero(samples.visible.any(1)):
        seen = samples.visible[frame]
        rendered = linear_to_srgb(shade(albedo[seen], motion.illumination[frame], samples.normals[frame, seen]))
        total += np.abs(rendered - samples.pixels[frame, seen] / 255).sum(0)
        count += seen.sum()
    return total / count if count else np.full(3, np.nan)


def _solve_light(samples, shown, albedo, light):
    """The light [T, 3, 9] of each frame, where pixels that the light before explains badly count for little."""
    return solve_illumination(shown, albedo, samples.normals.astype(float), _weights(samples, albedo, light))


def _weights(samples, albedo, light):
    """Weights [T, P, 3]: the solves are in linear RGB, while what counts is the difference that one sees."""
    seen = samples.pixels / 255
    # The slope of the sRGB curve at the pixel; that of black has no end.
    slope = np.maximum(srgb_to_linear(seen), 0.01) ** (1 / 2.4 - 1) * (1.055 / 2.4)
    weights = samples.visible[..., None] * slope**2
    if light is None:
        # Hair, beards and glasses are unlike most of the face; without them the first light is about right.
        typical = np.stack([np.median(frame[shown], axis=0) for frame, shown in zip(seen, samples.visible)])
        unlike = (seen - typical[:, None]).mean(-1, keepdims=True) ** 2
        return weights / (1 + unlike / UNLIKE**2) ** 2
    misfit = linear_to_srgb(shade(albedo, light, samples.normals)) - seen
    return weights / (1 + (misfit**2).mean(-1, keepdims=True) / OUTLIER**2) ** 2


def _inside_outline(model):
    """Which vertices [V], seen from the front, lie inside the outline of the face mesh; all of them in a model without it."""
    loop = list(CONTOUR)
    if not model.has_mesh_points[loop].all():
        return np.ones(len(model.mean), bool)
    start = model.mesh_points.mean[loop, :2]
    stop = np.roll(start, -1, 0)
    x, y = model.mean[:, :1], model.mean[:, 1:2]
    # A line from the vertex to the left crosses the loop an odd number of times.
    between = (start[:, 1] > y) != (stop[:, 1] > y)
    rise = np.where(stop[:, 1] == start[:, 1], 1, stop[:, 1] - start[:, 1])
    crossing = start[:, 0] + (y - start[:, 1]) / rise * (stop[:, 0] - start[:, 0])
    return (between & (crossing < x)).sum(1) % 2 == 1


def _look(image, where):
    """Pixels [P, 3] uint8 of an image at places [P, 2] px, between pixels by their neighbours, and which are inside [P]."""
    height, width = image.shape[:2]
    inside = np.isfinite(where).all(1)
    places = np.where(inside[:, None], where, 0).astype(np.float32)
    inside &= ((places >= 0.5) & (places <= [width - 0.5, height - 0.5])).all(1)
    # The middle of the first pixel is at one half.
    x, y = np.ascontiguousarray(places[None] - 0.5).transpose(2, 0, 1)
    return cv2.remap(image, np.ascontiguousarray(x), np.ascontiguousarray(y), cv2.INTER_LINEAR)[0], inside


def _unhidden(places, normals, where):
    """Which points [P] face the camera and have no other part of the face before them."""
    facing = -(places * normals).sum(-1) / np.linalg.norm(places, axis=-1) >= FACING
    flat = np.where(np.isfinite(where), where, 0)
    side = max(PATCH * np.ptp(flat[:, 1]), 1)
    cell = np.floor((flat - flat.min(0)) / side).astype(int)
    cell = cell[:, 0] * (cell[:, 1].max() + 1) + cell[:, 1]
    nearest = np.full(cell.max() + 1, np.inf)
    np.minimum.at(nearest, cell, places[:, 2])
    return facing & (places[:, 2] - nearest[cell] < HIDDEN)


@dataclass(frozen=True)
class _Surface:
    """The vertices that are looked at, with the triangles around them, which give their normals.

    vertices [P] of the model; own [P]: the same among the ring; corners [F, 3] of the ring; around [P, F] sparse
    mean [R, 3], shape_basis [S, R, 3], expression_basis [E, R, 3]: of the ring of R vertices
    """

    vertices: np.ndarray
    own: np.ndarray
    corners: np.ndarray
    around: csr_matrix
    mean: np.ndarray
    shape_basis: np.ndarray
    expression_basis: np.ndarray

    @classmethod
    def of(cls, model):
        triangles = model.triangles
        vertices = skin_vertices(model)
        triangles = triangles[np.isin(triangles, vertices).any(1)]
        ring, corners = np.unique(triangles, return_inverse=True)
        corners = corners.reshape(-1, 3)
        own = np.searchsorted(ring, vertices)
        row = np.full(len(ring), -1)
        row[own] = np.arange(len(own))
        rows = row[corners].ravel()
        columns = np.repeat(np.arange(len(corners)), 3)
        used = rows >= 0
        around = csr_matrix((np.ones(used.sum(), np.float32), (rows[used], columns[used])), (len(own), len(corners)))
        return cls(
            vertices, own, corners, around, model.mean[ring], model.shape_basis[:, ring], model.expression_basis[:, ring]
        )

    def posed(self, motion, frames):
        """Places [T, P, 3] m and unit normals [T, P, 3] in camera axes, of a slice of frames."""
        shaped = self.mean + np.tensordot(motion.shape.astype(np.float32), self.shape_basis, 1)
        expression = motion.expression[frames].astype(np.float32)
        ring = shaped + np.tensordot(expression, self.expression_basis, 1)
        a, b, c = (ring[:, self.corners[:, corner]] for corner in range(3))
        across = np.cross(b - a, c - a)  # [T, F, 3]
        flat = self.around @ across.transpose(1, 0, 2).reshape(len(self.corners), -1)
        normals = flat.reshape(len(self.own), len(ring), 3).transpose(1, 0, 2)
        normals = normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
        turn = np.swapaxes(motion.rotation[frames], -1, -2)
        return ring[:, self.own] @ turn + motion.translation[frames, None], normals @ turn


def skin_vertices(model, count=POINT_COUNT):
    """At most `count` vertices of the skin, spread evenly over its area: indices [P], ascending.

    Skin beyond the outline of the face mesh is under hair as often as not, and does not count.
    """
    corners = model.mean[model.triangles].astype(float)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    share = np.bincount(model.triangles.ravel(), np.repeat(area, 3), len(model.mean))
    share = np.where((model.region("skin") > 0.5) & _inside_outline(model), share, 0)
    if not share.any():
        return np.zeros(0, int)
    steps = (np.arange(count) + 0.5) / count * share.sum()
    return np.unique(np.searchsorted(np.cumsum(share), steps))
