"""The mesh that synthetic heads are drawn with: a 3DMM's face thinned out, a skull grown behind its edge, and what goes about it.

Vertices of the face that lie in the same small cell, and are joined within it, become one of themselves; so lips that touch stay
apart. A drawn vertex is a combination of the model's own and moves with shape and expression as they do.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix, diags, vstack
from scipy.sparse.csgraph import connected_components

from ..contract.surface import vertex_normals
from .face_shaders import CLOTHES, EAR, FRAMES, HAIR, LENSES, MANE, NECK

CELLS = {"skin": 0.0065, "fine": 0.0028, "inside": 0.0055}
"""m: about how far apart vertices of the skin, of lips, lids and eyes, and of what is hardly seen are left."""

FEW = 3000
"""A face of no more vertices is drawn as it is."""

SKULL_RINGS = 7

_SHOWN = ("skin", "lips", "lids", "brows", "eyeballs", "irises", "mouth", "teeth")

_EYE_POINTS, _EAR_POINTS, _BRIDGE = ((33, 133), (263, 362)), (234, 454), 168
"""Of MediaPipe's mesh: the corners of each eye, where the face ends before the ears, the nose between the eyes."""


@dataclass(frozen=True)
class HeadMeasures:
    """Places [3] m on the mean face: top of the head, between the brows, the left ear, chin, left eye; half-width of an eye."""

    crown: np.ndarray
    brow: np.ndarray
    ear: np.ndarray
    chin: np.ndarray
    eye: np.ndarray
    eye_half: float

    @classmethod
    def of(cls, face):
        """From the mesh points, or by a face's usual proportions where the model lacks them."""
        skin = face.mean[face.region("skin") > 0.5] if face.region("skin").any() else face.mean
        low, high = skin.min(0), skin.max(0)
        front = np.quantile(skin[:, 2], 0.9)
        middle, width = (low + high) / 2, high[0] - low[0]
        points, known = face.mesh_points.mean, face.has_mesh_points
        if known[[*_EYE_POINTS[0], *_EYE_POINTS[1], *_EAR_POINTS, _BRIDGE, 152]].all():
            eyes = points[list(_EYE_POINTS[1])]
            ear, brow, chin = points[_EAR_POINTS[1]], points[_BRIDGE], points[152]
            eye, half = eyes.mean(0), np.linalg.norm(eyes[0] - eyes[1]) / 2
        else:
            eye = np.array([middle[0] + 0.21 * width, low[1] + 0.62 * (high[1] - low[1]), front - 0.01])
            half, chin = 0.11 * width, np.array([middle[0], low[1] + 0.02, front])
            ear, brow = np.array([high[0], eye[1] - 0.01, middle[2] - 0.02]), np.array([middle[0], eye[1] + 0.01, front])
        tall = brow[1] - chin[1]
        crown = np.array([middle[0], brow[1] + 0.85 * tall, ear[2] - 0.1 * tall])
        return cls(*(np.asarray(place, float) for place in (crown, brow, ear, chin, eye)), float(half))


class FaceMesh:
    """M drawn vertices, each a combination of the model's V.

    mean [M, 3], shape_basis [S, M, 3], expression_basis [E, M, 3], albedo_mean [M, 3], albedo_basis [A, M, 3]; triangles [F, 3]
    traits [M, 11] float32 for the shader: rest place, crease, skin, eyeball, behind the edge, lips, lids' edges, brows, mouth
    """

    def __init__(self, face):
        triangles, vertices = thin_out(face)
        rows = csr_matrix((np.ones(len(vertices)), (np.arange(len(vertices)), vertices)), (len(vertices), len(face.mean)))
        measures = HeadMeasures.of(face)
        skull, skull_places, skull_faces = grow_skull(face, measures, len(vertices))
        matrix = vstack([rows, skull]).tocsr()
        self.mean = np.concatenate([face.mean[vertices], skull_places]).astype(np.float32)
        self.shape_basis, self.expression_basis = (
            _combined(matrix, face.shape_basis),
            _combined(matrix, face.expression_basis),
        )
        # Colour goes back over the skull undiminished.
        share = np.asarray(matrix.sum(1))
        even = diags(1 / share[:, 0]) @ matrix
        self.albedo_mean, self.albedo_basis = (
            (even @ face.albedo_mean).astype(np.float32),
            _combined(even, face.albedo_basis),
        )
        self.triangles = np.concatenate([triangles, skull_faces]).astype(np.int32)
        region = {name: even @ face.region(name) for name in _SHOWN}
        if not face.region("skin").any():
            region["skin"] = np.ones(len(self.mean))
        behind = np.arange(len(self.mean)) >= len(vertices)
        normals = vertex_normals(self.mean.astype(float), self.triangles)
        crease = np.clip(2.5 * _hollow(self.mean, normals, self.triangles), 0, 0.8) * (region["eyeballs"] < 0.5) * ~behind
        edge = region["lids"] * np.clip(2 * _near(self, region["eyeballs"]), 0, 1)
        wet = np.maximum.reduce([region["eyeballs"], region["irises"], 0.2 * region["teeth"]])
        columns = [crease, region["skin"], wet, behind]
        columns += [region["lips"], edge, region["brows"], np.maximum(region["mouth"], 0.4 * region["teeth"])]
        self.traits = np.concatenate([self.mean, np.stack(columns, -1)], -1).astype(np.float32)


def thin_out(face):
    """(triangles [F, 3] between the kept vertices, kept vertices [M])."""
    count, triangles = len(face.mean), np.asarray(face.triangles)
    if count <= FEW:
        return triangles, np.arange(count)
    fine = np.maximum.reduce([face.region(name) for name in ("lips", "lids", "irises")]) > 0.3
    cell = np.where(fine, CELLS["fine"], CELLS["skin"])
    cell[~fine & (face.region("skin") < 0.5)] = CELLS["inside"]
    cell[~fine & (face.region("eyeballs") + face.region("teeth") > 0.5)] = 1.4 * CELLS["fine"]
    keys = np.concatenate([np.floor(face.mean / cell[:, None]).astype(int), fine[:, None]], 1)
    key = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    edges = edges[key[edges[:, 0]] == key[edges[:, 1]]]
    cluster = connected_components(coo_matrix((np.ones(len(edges)), edges.T), (count, count)), directed=False)[1]
    number = np.bincount(cluster)
    middle = np.stack([np.bincount(cluster, face.mean[:, axis]) / number for axis in range(3)], -1)
    order = np.lexsort((np.linalg.norm(face.mean - middle[cluster], axis=-1), cluster))
    kept = order[np.concatenate([[True], np.diff(cluster[order]) > 0])]
    triangles = cluster[triangles]
    a, b, c = triangles.T
    triangles = triangles[(a != b) & (b != c) & (c != a)]
    triangles = triangles[np.unique(np.sort(triangles, 1), axis=0, return_index=True)[1]]
    used, triangles = np.unique(triangles, return_inverse=True)
    return triangles.reshape(-1, 3), kept[used]


def grow_skull(face, measures, start):
    """A skull behind the face's edge: (matrix [K, V] of how it moves, places [K, 3], triangles [F, 3] that count from `start` on).

    Rings go from the edge round to the back of the head; the nearer the edge, the more they move with it.
    """
    loop = np.asarray(face.boundary)
    if len(loop) < 3:
        return csr_matrix((0, len(face.mean))), np.zeros((0, 3)), np.zeros((0, 3), int)
    middle, radii = skull_ellipsoid(measures)
    edge = face.mean[loop].astype(float)
    towards = (edge - middle) / radii
    reach = np.linalg.norm(towards, axis=-1, keepdims=True)
    towards /= reach
    back = np.array([0, 0.0, -1.0])
    angle = np.arccos(np.clip(towards @ back, -1, 1))[:, None]
    places, matrix = [], []
    for ring in range(SKULL_RINGS + 1):
        share = ring / SKULL_RINGS
        turned = (np.sin((1 - share) * angle) * towards + np.sin(share * angle) * back) / np.maximum(np.sin(angle), 1e-6)
        places.append(middle + radii * turned * (1 + (reach - 1) * (1 - share) ** 3))
        moved = np.full(len(loop), max((1 - share) ** 2, 1e-3))
        matrix.append(csr_matrix((moved, (np.arange(len(loop)), loop)), (len(loop), len(face.mean))))
    around = np.arange(len(loop))
    following = np.roll(around, -1)
    faces = []
    for ring in range(SKULL_RINGS):
        a, b = start + ring * len(loop), start + (ring + 1) * len(loop)
        faces += [
            np.stack([a + around, a + following, b + following], -1),
            np.stack([a + around, b + following, b + around], -1),
        ]
    places, faces = np.concatenate(places), np.concatenate(faces)
    a, b, c = (places[column - start] - middle for column in faces.T)
    # The edge may run either way round.
    inwards = np.sum(np.cross(a, b) * c) < 0
    return vstack(matrix), places, faces[:, ::-1] if inwards else faces


def skull_ellipsoid(measures):
    """(middle [3], radii [3]) m of the head above the jaw."""
    tall = measures.crown[1] - measures.chin[1]
    middle = np.array([measures.brow[0], measures.crown[1] - 0.42 * tall, measures.ear[2] - 0.08 * tall])
    deep = max(measures.brow[2] - middle[2], 0.05)
    return middle, np.array([1.04 * (measures.ear[0] - measures.brow[0]), 0.42 * tall, 1.02 * deep])


def about_the_head(measures):
    """What goes about a head: places [K, 3] m, normals [K, 3], kinds [K], and triangles [F, 3] by kind, those of lenses last."""
    middle, radii = skull_ellipsoid(measures)
    tall = measures.crown[1] - measures.chin[1]
    x = measures.brow[0]
    neck = np.array([x, measures.chin[1] - 0.25 * tall, measures.ear[2] - 0.14 * tall])
    pieces = [
        (HAIR, *_ellipsoid(middle, radii * 1.03, 24, 16)),
        (MANE, *_ellipsoid(middle + [0, -0.3 * tall, -0.06 * tall], radii * [1.25, 1.7, 0.85], 20, 12)),
        (NECK, *_ellipsoid(neck, np.array([0.27, 0.5, 0.27]) * tall, 16, 10)),
        (CLOTHES, *_ellipsoid(neck + [0, -0.72 * tall, 0], np.array([0.95, 0.55, 0.45]) * tall, 20, 12)),
    ]
    out = measures.ear[0] - x
    for side in (1, -1):
        ear = np.array([x + side * out * 1.03, measures.ear[1] - 0.01, measures.ear[2] - 0.012])
        pieces.append((EAR, *_ellipsoid(ear, np.array([0.012, 0.032, 0.02]), 10, 8)))
        eye = np.array([x + side * (measures.eye[0] - x), measures.eye[1], measures.eye[2]])
        ring = _lens(eye + [0, -0.003, 0.012], measures.eye_half * 1.75, measures.eye_half * 1.4, side)
        pieces.append((LENSES, *_disc(ring)))
        pieces.append((FRAMES, *_tube(ring, 0.0016)))
        hinge = ring[np.argmax(side * ring[:, 0])]
        temple = np.array([x + side * out * 1.08, measures.ear[1] + 0.02, measures.ear[2]])
        pieces.append((FRAMES, *_tube(hinge + np.linspace(0, 1, 4)[:, None] * (temple - hinge), 0.0018, closed=False)))
    bridge = np.array(
        [
            [x - 0.009, measures.eye[1] + 0.002, measures.brow[2] + 0.008],
            [x, measures.eye[1] + 0.004, measures.brow[2] + 0.01],
        ]
    )
    bridge = np.concatenate([bridge, bridge[:1] * [-1, 1, 1] + [2 * x, 0, 0]])
    pieces.append((FRAMES, *_tube(bridge, 0.0016, closed=False)))
    starts = np.cumsum([0, *(len(place) for _, place, _, _ in pieces)])
    # Lenses let through what was drawn before.
    triangles = {kind: [] for kind in (EAR, NECK, CLOTHES, HAIR, MANE, FRAMES, LENSES)}
    for (kind, _, _, faces), start in zip(pieces, starts):
        triangles[kind].append(faces + start)
    kinds = np.concatenate([np.full(len(place), kind) for kind, place, _, _ in pieces])
    places, normals = (np.concatenate([piece[part] for piece in pieces]) for part in (1, 2))
    return places, normals, kinds, {kind: np.concatenate(faces).astype(np.int32) for kind, faces in triangles.items()}


def _ellipsoid(middle, radii, around, rings):
    polar, turn = np.meshgrid(np.linspace(0, np.pi, rings + 1), 2 * np.pi * np.arange(around) / around, indexing="ij")
    ball = np.stack([np.sin(polar) * np.cos(turn), np.cos(polar), np.sin(polar) * np.sin(turn)], -1).reshape(-1, 3)
    normals = ball / radii
    return middle + ball * radii, normals / np.linalg.norm(normals, axis=-1, keepdims=True), _grid(rings + 1, around)


def _lens(middle, half_width, half_height, side):
    """A rounded rectangle [24, 3] that turns back a little towards the ear."""
    turn = 2 * np.pi * np.arange(24) / 24
    x, y = (np.sign(value) * np.abs(value) ** 0.6 for value in (np.cos(turn), np.sin(turn)))
    return middle + np.stack([half_width * x, half_height * y, -0.25 * half_width * side * x], -1)


def _disc(ring):
    places = np.concatenate([ring, ring.mean(0, keepdims=True)])
    around = np.arange(len(ring))
    faces = np.stack([around, np.roll(around, -1), np.full(len(ring), len(ring))], -1)
    return places, np.tile([0.0, 0, 1], (len(places), 1)), faces


def _tube(line, radius, closed=True, around=5):
    """A thin tube about a line of points [P, 3]."""
    along = np.roll(line, -1, 0) - np.roll(line, 1, 0) if closed else np.gradient(line, axis=0)
    along /= np.linalg.norm(along, axis=-1, keepdims=True)
    aside = np.cross(along, [0, 0, 1.0]) + 1e-6
    aside /= np.linalg.norm(aside, axis=-1, keepdims=True)
    up = np.cross(aside, along)
    turn = (2 * np.pi * np.arange(around) / around)[None, :, None]
    normals = np.cos(turn) * aside[:, None] + np.sin(turn) * up[:, None]
    places = line[:, None] + radius * normals
    faces = _grid(len(line), around)
    if closed:
        joint = _grid(2, around)
        faces = np.concatenate([faces, np.where(joint < around, joint + (len(line) - 1) * around, joint - around)])
    return places.reshape(-1, 3), normals.reshape(-1, 3), faces


def _grid(rows, columns):
    """Triangles [F, 3] of a grid of rows x columns vertices, whose rows are closed."""
    row, column = np.meshgrid(np.arange(rows - 1), np.arange(columns), indexing="ij")
    following = (column + 1) % columns
    a, b, c, d = (
        (r * columns + k).ravel() for r, k in ((row, column), (row, following), (row + 1, following), (row + 1, column))
    )
    return np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)])


def _combined(matrix, basis):
    """A basis [K, V, 3] on the drawn vertices [K, M, 3]."""
    flat = np.asarray(basis, np.float32).transpose(1, 0, 2).reshape(basis.shape[1], -1)
    return np.ascontiguousarray((matrix @ flat).reshape(matrix.shape[0], len(basis), 3).transpose(1, 0, 2), np.float32)


def _hollow(places, normals, triangles):
    """How hollow the surface is [M]: how far the neighbours lie above a vertex, for their distance from it."""
    pairs = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    pairs = np.concatenate([pairs, pairs[:, ::-1]])
    offset = places[pairs[:, 1]] - places[pairs[:, 0]]
    number = np.maximum(np.bincount(pairs[:, 0], minlength=len(places)), 1)
    height = np.sum(offset * normals[pairs[:, 0]], -1) / np.maximum(np.linalg.norm(offset, axis=-1), 1e-6)
    value = np.bincount(pairs[:, 0], height, len(places)) / number
    for _ in range(2):
        value = 0.5 * value + 0.5 * np.bincount(pairs[:, 0], value[pairs[:, 1]], len(places)) / number
    return value


def _near(mesh, share):
    """1 at vertices within 2.5 mm of those with a share above a half, falling to 0 at 4 mm [M]."""
    from scipy.spatial import cKDTree

    if not (share > 0.5).any():
        return np.zeros(len(share))
    distance = cKDTree(mesh.mean[share > 0.5]).query(mesh.mean)[0]
    return np.clip((0.004 - distance) / 0.0015, 0, 1)
