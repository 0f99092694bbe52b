"""Smoothing a surface beside a seam. numpy only."""

import numpy as np

from .easing import smoothstep
from .surface import face_edges, triangulate, vertex_normals

_TURN = 0.5  # cosine of the largest angle that a face of the smoothed surface may be turned by
_STIFFNESS = 1e-6  # of a vertex that nothing else would hold
_SHORTEST = 0.25  # of the median edge; what is shorter counts as this long


def faired(vertices, faces, free, distance, band):
    """Vertices [V, 3] with the `free` ones moved so that the surface bends as little as it can at the seam.

    distance [V] m from the seam (inf where far): at the seam a vertex wants to lie amid its neighbours, and towards the band's end
    as it lay among them before. So what the surface had of detail stays, and what was a step is spread over the band.
    """
    vertices = np.array(vertices, float)
    start, end, weights = _edges(vertices, faces)
    near = np.isin(start, free) | np.isin(end, free)
    start, end, weights = start[near], end[near], weights[near]
    # Every vertex whose neighbourhood changes has a say, also those that stay.
    rows, row = np.unique(start, return_inverse=True)
    offsets = np.stack([np.bincount(row, weights * (vertices[end, axis] - vertices[start, axis])) for axis in range(3)], -1)
    column = np.full(len(vertices), len(free))
    column[free] = np.arange(len(free))
    matrix = np.zeros((len(rows), len(free) + 1))
    np.add.at(matrix, (row, column[end]), weights)
    np.add.at(matrix, (row, column[start]), -weights)
    wanted = (smoothstep(distance[rows], 0, band) - 1)[:, None] * offsets
    # Along its normal only: across it, vertices would be drawn over each other where edges differ in length.
    normals = vertex_normals(vertices, triangulate(faces))[free]
    matrix = matrix[:, :-1, None] * normals
    matrix, wanted = np.moveaxis(matrix, 2, 1).reshape(-1, len(free)), wanted.ravel()
    heights = np.linalg.solve(matrix.T @ matrix + _STIFFNESS * np.eye(len(free)), matrix.T @ wanted)
    moved = np.zeros_like(vertices)
    moved[free] = heights[:, None] * normals
    return vertices + _harmless(vertices, moved, faces, free) * moved


def _edges(vertices, faces):
    """Directed edges of faces [F, N] as (start [M], end [M], weight [M]): by 1 / length, and 1 in all at every start."""
    start, end = np.unique(np.concatenate([(edges := face_edges(faces)[0]), edges[:, ::-1]]), axis=0).T
    lengths = np.linalg.norm(vertices[end] - vertices[start], axis=-1)
    weights = 1 / np.maximum(lengths, _SHORTEST * np.median(lengths))
    return start, end, weights / np.bincount(start, weights)[start]


def _harmless(vertices, moved, faces, free):
    """The share of a movement [V, 3] after which no face among the free vertices is turned over: 1, a half, a quarter, or 0."""
    triangles = triangulate(faces)
    triangles = triangles[np.isin(triangles, free).all(1)]
    before = _normals(vertices, triangles)
    for share in (1.0, 0.5, 0.25):
        if (np.sum(before * _normals(vertices + share * moved, triangles), -1) > _TURN).all():
            return share
    return 0.0


def _normals(vertices, triangles):
    sides = vertices[triangles[:, 1:]] - vertices[triangles[:, :1]]
    normals = np.cross(sides[:, 0], sides[:, 1])
    return normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-20)
