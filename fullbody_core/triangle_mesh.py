"""Surfaces made of triangles: cutting faces into them, their normals, and the place on them that is nearest to a point."""

import numpy as np
from scipy.spatial import cKDTree


def triangulate(faces):
    """Triangles [F', 3] of faces [F, N], N = 3 or 4 with -1 for a missing fourth corner; quads are cut along 0-2."""
    faces = np.asarray(faces)
    if faces.shape[1] == 3:
        return faces
    return np.concatenate([faces[:, :3], faces[faces[:, 3] >= 0][:, [0, 2, 3]]])


def vertex_normals(vertices, triangles):
    """Unit outward normals [V, 3] of a surface [V, 3], by area; zero where no triangle is."""
    edges = vertices[triangles[:, 1:]] - vertices[triangles[:, :1]]
    face_normals = np.cross(edges[:, 0], edges[:, 1])
    normals = np.stack(
        [np.bincount(triangles.ravel(), np.repeat(face_normals[:, axis], 3), len(vertices)) for axis in range(3)], -1
    )
    return normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-20)


def nearest_on_surface(points, vertices, triangles, candidates=24):
    """(triangles [P], weights [P, 3], distance [P]) of the places on a surface [V, D] nearest to points [P, D].

    Looks at the triangles whose middles are nearest, `candidates` of them: exact where triangles are of like size nearby.
    """
    corners = np.asarray(vertices, float)[triangles]
    chosen = cKDTree(corners.mean(1)).query(points, min(candidates, len(triangles)))[1].reshape(len(points), -1)
    weights = _nearest_in_triangle(points[:, None], corners[chosen])
    gaps = np.linalg.norm(np.einsum("pkc,pkcx->pkx", weights, corners[chosen]) - points[:, None], axis=-1)
    best, rows = gaps.argmin(1), np.arange(len(points))
    return chosen[rows, best], weights[rows, best], gaps[rows, best]


def _nearest_in_triangle(points, corners):
    """Weights [..., 3] of the place in each triangle [..., 3, D] nearest to a point [..., D]."""
    a, b, c = (corners[..., index, :] for index in range(3))
    options = [_foot_on_plane(points, a, b, c)]
    for index, (start, end) in enumerate(((a, b), (b, c), (c, a))):
        edge = end - start
        share = np.sum((points - start) * edge, -1) / np.maximum(np.sum(edge * edge, -1), 1e-20)
        share = np.clip(share, 0, 1)
        weights = np.zeros(share.shape + (3,))
        weights[..., index], weights[..., (index + 1) % 3] = 1 - share, share
        options.append(weights)
    options = np.stack(options)
    inside = (options >= -1e-12).all(-1)
    gaps = np.linalg.norm(np.einsum("o...c,...cx->o...x", options, corners) - points, axis=-1)
    best = np.where(inside, gaps, np.inf).argmin(0)
    return np.take_along_axis(options, best[None, ..., None], 0)[0]


def _foot_on_plane(points, a, b, c):
    """Weights [..., 3] of a point's foot on the plane of a triangle; they may be negative."""
    first, second, place = b - a, c - a, points - a
    one_one, one_two, two_two = (np.sum(x * y, -1) for x, y in ((first, first), (first, second), (second, second)))
    one, two = np.sum(place * first, -1), np.sum(place * second, -1)
    area = one_one * two_two - one_two**2
    area = np.where(area < 1e-24, 1e-24, area)
    v, w = (two_two * one - one_two * two) / area, (one_one * two - one_two * one) / area
    return np.stack([1 - v - w, v, w], -1)
