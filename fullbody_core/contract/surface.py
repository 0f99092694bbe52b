"""Surfaces made of faces: triangles, normals, edges, the place nearest to a point, and the sides of a loop. numpy only."""

import numpy as np


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


def nearest_among(points, vertices, triangles, candidates):
    """(triangles [P], weights [P, 3], distance [P]) of the places on a surface [V, D] nearest to points [P, D].

    candidates [P, K]: the triangles that are looked at for each point.
    """
    corners = np.asarray(vertices, float)[triangles]
    weights = _nearest_in_triangle(points[:, None], corners[candidates])
    gaps = np.linalg.norm(np.einsum("pkc,pkcx->pkx", weights, corners[candidates]) - points[:, None], axis=-1)
    best, rows = gaps.argmin(1), np.arange(len(points))
    return candidates[rows, best], weights[rows, best], gaps[rows, best]


def face_edges(faces):
    """Directed edges [M, 2] of faces [F, N] (-1 pads), each as its face goes round it, and the face [M] of each."""
    faces = np.asarray(faces)
    following = np.roll(faces, -1, 1)
    following = np.where(following < 0, faces[:, :1], following)
    present = faces >= 0
    return np.stack([faces[present], following[present]], -1), np.broadcast_to(np.arange(len(faces))[:, None], faces.shape)[
        present
    ]


def parts_between(faces, loop=()):
    """For each of faces [F, N] the number of its part of the surface, when it is cut along the closed `loop` of vertices.

    Faces are of one part where they share an edge that is not the loop's. Parts are numbered by size, the largest first.
    """
    edges, owner = face_edges(faces)
    count = int(edges.max(initial=0)) + 1
    loop = np.asarray(loop, int)
    cut = np.sort(np.stack([loop, np.roll(loop, -1)], -1), 1) @ (count, 1)
    key = np.sort(edges, 1) @ np.array([count, 1])
    kept = ~np.isin(key, cut)
    # Every edge takes the lowest number of its faces, and every face of its edges, until nothing changes any more.
    _, edge = np.unique(key[kept], return_inverse=True)
    owner = owner[kept]
    part = np.arange(len(faces))
    while True:
        lowest = np.full(edge.max(initial=-1) + 1, len(faces))
        np.minimum.at(lowest, edge, part[owner])
        new = part.copy()
        np.minimum.at(new, owner, lowest[edge])
        new = new[new]  # a part's number is a face of the same part: so numbers travel in leaps
        if (new == part).all():
            break
        part = new
    _, part, sizes = np.unique(part, return_inverse=True, return_counts=True)
    rank = np.empty(len(sizes), int)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    return rank[part]


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
