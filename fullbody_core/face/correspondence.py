"""Where the points of MediaPipe's face mesh lie on any 3DMM, found by showing the detector pictures of the mean face.

The mean face is drawn from several directions, with its own colours, and the points found in each picture are cast back along
their rays onto the surface. A lip or a lid is thin and the detector sees only the picture, so a point that moves with the skin
is put on the skin, an iris point on the eyeball, and the lips' inner edges are looked for with the mouth open.
"""

import cv2
import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from ..contract.morphable import FaceModelError
from ..contract.skeleton import MESH_POINTS
from ..contract.surface import vertex_normals
from ..triangle_mesh import nearest_on_surface
from .illumination import linear_to_srgb
from .landmarks import INNER_LIP_LOWER, INNER_LIP_UPPER

PICTURE_SIDE = 640
DISTANCE = 0.8
"""m from the camera to the middle of the face, that of a desk camera."""

FACE_SHARE = 0.62
"""How much of the picture the face fills, about as a detector's own pictures show it."""

TURNS = ((0, 0), (8, 0), (-8, 0), (0, 7), (0, -7), (12, 4), (-12, 4), (5, -5), (-5, -5))
"""Turns of the head to its left and upwards, degrees. They come in mirrored pairs, and each pair is lit from mirrored sides."""

SKIN, IRISES = np.arange(468), np.arange(468, 478)
INNER_LIPS = np.union1d(INNER_LIP_UPPER, INNER_LIP_LOWER)
"""The mesh's points on the edge where the lips meet."""

LIP_CENTRES = (0, 17)
"""The middle of the upper lip's upper edge and of the lower lip's lower edge."""

OPENING = 0.012
"""m by which the lips are parted to tell their inner edges from each other."""

REACH = 0.006
"""m by which a point may miss the surface, or its own part of it, and still be put there."""

_MIDDLE = (0, 1, 2, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 94, 151, 152, 164, 168, 175, 195, 197, 199, 200)
_RIGHT_HALF, _LEFT_HALF = np.setdiff1d(np.arange(248), _MIDDLE), np.arange(248, 468)
"""The skin's mesh points that are their own mirror images, and those of the person's right and left half in the same order: so
the mesh's graph is its own mirror image, but for the diagonals of six quads."""

_SKIN_COLOUR = np.array([0.45, 0.25, 0.18])
_GREY = 0.25


def find_mesh_points(model):
    """(mesh_vertices [478, 3] int32, mesh_weights [478, 3] float32) of a `MorphableModel` whose own ones are not looked at.

    A point that the model's surface lacks has weights of zero. The answer depends on the model only. Raises `FaceModelError`
    when no face is found in the pictures of the mean face.
    """
    import mediapipe

    triangles, mean = own_triangles(model), np.asarray(model.mean, float)
    with mediapipe.solutions.face_mesh.FaceMesh(
        static_image_mode=True, refine_landmarks=True, min_detection_confidence=0.3
    ) as detector:
        places = _mean_places(model, mean, detector, triangles)
        vertices, weights = _on_surface(places, mean, triangles)
        opened = _parted_lips(model, vertices, weights)
        if opened is not None:
            try:
                opened_places = _mean_places(model, opened, detector, triangles)
            except FaceModelError:
                return vertices, weights  # A mouth that does not open may leave nothing like a face when it is pulled.
            _tell_lips_apart((places, opened_places), (mean, opened), triangles[0], vertices, weights)
    return vertices, weights


def own_triangles(model):
    """The surfaces that points belong to: (triangles of the skin, triangles of the eyes), those of the skin twice without eyes."""
    eyes = np.maximum(model.region("eyeballs"), model.region("irises"))
    skin = model.regions["skin"] if "skin" in model.regions else 1 - np.maximum(eyes, model.region("mouth"))
    skin, eyes = (model.triangles[share[model.triangles].mean(1) > 0.5] for share in (skin, eyes))
    return skin, eyes if len(eyes) else skin


def _tell_lips_apart(places, surfaces, skin, vertices, weights):
    """Moves the lips' inner points, in place, to where they are nearest to what was found with closed and open mouth together.

    Closed lips touch; which of them a point belongs to shows when they are apart. Six coordinates hold both places of a point.
    places: two of [478, 3] m; surfaces: two of [V, 3] m; skin [F, 3]: its triangles.
    """
    places, surface = np.concatenate(places, -1), np.concatenate(surfaces, -1)
    points = INNER_LIPS[np.isfinite(places[INNER_LIPS]).all(1)]
    numbers, shares, distance = nearest_on_surface(places[points], surface, skin)
    near = distance < 2 * REACH
    vertices[points[near]], weights[points[near]] = skin[numbers[near]], shares[near]


def draw_face(vertices, triangles, colours, rotation, side=PICTURE_SIDE, light=(0.0, 0.4, 1.0)):
    """A picture of a face and what it takes to cast its points back: (RGB uint8 [side, side, 3], `View`).

    vertices [V, 3] m in the rest frame, colours [V, 3] linear RGB, rotation [3, 3] of the head about the middle of the face,
    light [3]: the direction of the main light, which does not turn with the head, in the axes of a head that faces the camera.
    """
    view = View.facing(vertices, triangles, rotation, side)
    numbers = view.paint_numbers()
    rows, columns = np.nonzero(numbers >= 0)
    chosen = numbers[rows, columns]
    weights = view.barycentrics(np.stack([columns, rows], -1) + 0.5, chosen)
    corners = triangles[chosen]
    normal = np.einsum("pc,pcx->px", weights, vertex_normals(vertices, triangles)[corners]) @ rotation.T
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
    direction = np.asarray(light, float) / np.linalg.norm(light)
    # Wrapped round the face as a large lamp's light would be, so that no side drowns in black.
    strength = 0.35 + 0.75 * np.clip((normal @ direction + 0.4) / 1.4, 0, 1)
    picture = np.full((side, side, 3), _GREY)
    picture[rows, columns] = np.einsum("pc,pcx->px", weights, colours[corners]) * strength[:, None]
    picture = (255 * linear_to_srgb(picture) + 0.5).astype(np.uint8)
    return cv2.GaussianBlur(picture, (3, 3), 0), view


class View:
    """A face in front of a pinhole camera: what a picture's points are on its surface."""

    def __init__(self, camera_vertices, triangles, focal, side):
        """camera_vertices [V, 3] m in camera axes (x right, y down, z away); focal: px; side: px of the square picture."""
        self.focal, self.side, self.camera_vertices, self.triangles = focal, side, camera_vertices, triangles
        self.points = focal * camera_vertices[:, :2] / camera_vertices[:, 2:] + side / 2
        self.corners, self.depths = self.points[triangles], camera_vertices[triangles, 2]
        first, second = self.corners[:, 1] - self.corners[:, 0], self.corners[:, 2] - self.corners[:, 0]
        # The picture's y goes down, so that triangles that turn left on the surface turn right in it.
        self.facing_camera = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0] < 0

    @classmethod
    def facing(cls, vertices, triangles, rotation, side):
        """The view of a face [V, 3] m turned by rotation [3, 3] about its middle."""
        low, high = vertices[np.unique(triangles)].min(0), vertices[np.unique(triangles)].max(0)
        turned = (vertices - (low + high) / 2) @ rotation.T
        focal = FACE_SHARE * side * DISTANCE / (high - low)[:2].max()
        return cls(turned * [1, -1, -1] + [0, 0, DISTANCE], triangles, focal, side)

    def of(self, triangles):
        """The same view of other triangles [F, 3]."""
        return View(self.camera_vertices, triangles, self.focal, self.side)

    def paint_numbers(self):
        """The number [side, side] of the triangle seen in each pixel, -1 for none: far ones first, near ones over them."""
        numbers = np.full((self.side, self.side), -1, np.int32)
        order = np.flatnonzero(self.facing_camera)
        order = order[np.argsort(-self.depths[order].mean(1), kind="stable")]
        # Whole numbers of 1/16 px; a pixel's middle is at +0.5.
        corners = np.round((self.corners - 0.5) * 16).astype(np.int32)
        for number in order:
            cv2.fillConvexPoly(numbers, corners[number], int(number), shift=4)
        return numbers

    def barycentrics(self, pixels, numbers):
        """Weights [P, 3] of triangles `numbers` [P] at picture points [P, 2], on the surface and not in the picture.

        A point beside its triangle gets the weights of a place on its edge.
        """
        corners, depths = self.corners[numbers], self.depths[numbers]
        weights = np.clip(_flat_barycentrics(pixels, corners), 0, None) / depths
        return weights / weights.sum(-1, keepdims=True)

    def cast(self, pixels, reach):
        """Corners [P, 3] and weights [P, 3] of the nearest surface under picture points [P, 2]; zeros where there is none.

        Only what faces the camera counts. A point that misses the surface by less than `reach` px belongs to the vertex next to it.
        """
        corners, depths = self.corners[self.facing_camera], self.depths[self.facing_camera]
        middles = corners.mean(1)
        radius = np.linalg.norm(corners - middles[:, None], axis=-1).max()
        near = cKDTree(middles).query_ball_point(pixels, radius)
        point = np.repeat(np.arange(len(pixels)), [len(each) for each in near])
        candidate = np.concatenate([np.asarray(each, int) for each in near])
        flat = _flat_barycentrics(pixels[point], corners[candidate])
        covered = flat.min(-1) >= -1e-9
        point, candidate, flat = point[covered], candidate[covered], flat[covered]
        # On the surface, seen in perspective, weights are those in the picture over the corners' depths.
        shares = flat / depths[candidate]
        order = np.lexsort((1 / shares.sum(-1), point))
        first = order[np.unique(point[order], return_index=True)[1]]
        vertices, weights = np.zeros((len(pixels), 3), int), np.zeros((len(pixels), 3))
        own = self.triangles[self.facing_camera]
        vertices[point[first]] = own[candidate[first]]
        weights[point[first]] = shares[first] / shares[first].sum(-1, keepdims=True)
        missed = np.flatnonzero(~weights.any(1))
        distance, nearest = cKDTree(corners.reshape(-1, 2)).query(pixels[missed])
        near = distance < reach
        vertices[missed[near], 0], weights[missed[near], 0] = own.ravel()[nearest[near]], 1
        return vertices, weights


def _flat_barycentrics(points, corners):
    """Weights [P, 3] of points [P, 2] in plane triangles [P, 3, 2]."""
    first, second, place = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], points - corners[:, 0]
    area = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    area = np.where(np.abs(area) < 1e-12, 1e-12, area)
    one = (place[:, 0] * second[:, 1] - place[:, 1] * second[:, 0]) / area
    two = (first[:, 0] * place[:, 1] - first[:, 1] * place[:, 0]) / area
    return np.stack([1 - one - two, one, two], -1)


def _mean_places(model, surface, detector, triangles):
    """Places [478, 3] m of the points found in pictures of a surface [V, 3], NaN where it has none.

    The median over the views, and the mean with the mirror image where the surface is its own; triangles: see `own_triangles`.
    """
    places, colours = np.full((len(TURNS), MESH_POINTS, 3), np.nan), _colours(model)
    for number, (yaw, pitch) in enumerate(TURNS):
        rotation = Rotation.from_euler("yx", [yaw, -pitch], degrees=True).as_matrix()
        light = (np.sin(np.radians(3 * yaw)), 0.4, 1.0)
        picture, view = draw_face(surface, model.triangles, colours, rotation, light=light)
        found = detector.process(picture).multi_face_landmarks
        if found:
            pixels = np.array([[point.x, point.y] for point in found[0].landmark]) * PICTURE_SIDE
            for points, own in zip((SKIN, IRISES), triangles):
                vertices, weights = view.of(own).cast(pixels[points], REACH * view.focal / DISTANCE)
                places[number, points] = np.einsum("pc,pcx->px", weights, surface[vertices])
                places[number, points[~weights.any(1)]] = np.nan
    seen = np.isfinite(places[..., 0]).sum(0)
    if not seen.any():
        raise FaceModelError("No face was found in the picture of the face model's mean, so its mesh points cannot be made.")
    result = np.full((MESH_POINTS, 3), np.nan)
    result[seen > len(TURNS) / 3] = np.nanmedian(places[:, seen > len(TURNS) / 3], 0)
    if is_symmetric(surface):
        both = np.stack([result, result[mirror_mesh_points()] * [-1, 1, 1]])
        known = np.isfinite(both).all(-1).sum(0)[:, None]
        result = np.where(known > 0, np.nansum(both, 0) / np.maximum(known, 1), np.nan)
    return result


def _colours(model):
    """The mean colours [V, 3], or those of skin with white eyes for a model that has none."""
    colours = np.clip(model.albedo_mean, 0, 1)
    if np.ptp(colours, axis=0).max() > 0.02:
        return colours
    colours = np.tile(_SKIN_COLOUR, (len(model.mean), 1))
    paints = {
        "lips": (0.35, 0.12, 0.1),
        "brows": (0.06, 0.04, 0.03),
        "eyeballs": (0.7, 0.68, 0.65),
        "irises": (0.05, 0.03, 0.02),
    }
    for name, paint in paints.items():
        share = model.region(name)[:, None]
        colours = colours + share * (paint - colours)
    return colours


def _parted_lips(model, vertices, weights):
    """The mean face [V, 3] with its lips parted, or None for a model without expressions.

    That is jawOpen where the model names its expressions; or else the most likely coefficients that move the lips apart.
    """
    lips = list(LIP_CENTRES)
    if not model.expression_size or not weights[lips].any(1).all():
        return None
    upper, lower = model.at(vertices[lips], weights[lips]).expression_basis[:, :, 1].T
    gap = upper - lower
    coefficients = np.zeros(model.expression_size)
    if "jawOpen" in model.expression_names:
        index = model.expression_names.index("jawOpen")
        coefficients[index] = np.clip(OPENING / max(gap[index], 1e-6), 0.0, model.expression_limits[index, 1])
    elif gap.any():
        coefficients = np.clip(OPENING * gap / (gap @ gap), *model.expression_limits.T)
    else:
        return None
    return model.geometry(np.zeros(model.shape_size), coefficients)


def is_symmetric(vertices, tolerance=0.0015):
    """Whether a surface [V, 3] m is its own mirror image across x = 0, but for a few vertices."""
    distance = cKDTree(vertices).query(vertices * [-1, 1, 1])[0]
    return bool(np.percentile(distance, 90) < tolerance)


def mirror_mesh_points():
    """For each point of MediaPipe's face mesh its mirror image [478]."""
    mirror = np.arange(MESH_POINTS)
    mirror[_RIGHT_HALF], mirror[_LEFT_HALF] = _LEFT_HALF, _RIGHT_HALF
    # An iris is its middle, then four points round it: in the picture's order right, top, left, bottom for either eye.
    mirror[IRISES] = [473, 476, 475, 474, 477, 468, 471, 470, 469, 472]
    return mirror


def _on_surface(places, surface, triangles):
    """The nearest points of a surface [V, 3], each on its own part: (vertices [478, 3] int32, weights [478, 3] float32)."""
    vertices, weights = np.zeros((MESH_POINTS, 3), np.int32), np.zeros((MESH_POINTS, 3), np.float32)
    for points, own in zip((SKIN, IRISES), triangles):
        points = points[np.isfinite(places[points]).all(1)]
        numbers, shares, distance = nearest_on_surface(places[points], surface, own)
        near = distance < REACH
        vertices[points[near]], weights[points[near]] = own[numbers[near]], shares[near]
    return vertices, weights
