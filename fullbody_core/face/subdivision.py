"""Catmull-Clark subdivision (Catmull & Clark 1978) of a part of a mesh, as one sparse matrix.

Subdivision is linear in the vertices: what refines a mean refines its bases. The part's outer edge keeps to the coarse edges:
corners stay, edges are halved. So a finer part lies in the coarse surface without a gap.
"""

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix, vstack

from ..contract.surface import split_at


def subdivide(quads, count):
    """One step over all of quads [Q, 4] between `count` vertices, each used by some quad or left alone.

    Returns (matrix [V', V] sparse, rows that sum to 1; quads [4 Q, 4]; edges [M, 2]: the coarse ends of the edge points). The first
    `count` fine vertices are the coarse ones, moved; then come the M edges' points, then the quads' points.
    """
    quads = np.asarray(quads)
    edges, places, uses = quad_edges(quads)
    face_points = _rows(np.repeat(np.arange(len(quads)), 4), quads.ravel(), np.full(quads.size, 0.25), len(quads), count)
    middles = _rows(np.repeat(np.arange(len(edges)), 2), edges.ravel(), np.full(edges.size, 0.5), len(edges), count)
    beside = _rows(places.ravel(), np.repeat(np.arange(len(quads)), 4), np.ones(places.size), len(edges), len(quads))
    inner = (uses == 2)[:, None]
    # An inner edge's point is the mean of its ends and of the two quads beside it.
    edge_points = middles.multiply(np.where(inner, 0.5, 1.0)) + (beside @ face_points).multiply(np.where(inner, 0.25, 0.0))
    fine_vertices = _moved_corners(quads, edges, uses, face_points, middles, count)
    edge_corner, quad_corner = count + places, count + len(edges) + np.arange(len(quads))
    fine = [
        np.stack([quads[:, k], edge_corner[:, k], quad_corner, edge_corner[:, k - 1]], -1) for k in range(4)
    ]  # corner, the edge after it, the middle, the edge before it
    matrix = vstack([fine_vertices, edge_points, face_points]).tocsr()
    return matrix, np.stack(fine, 1).reshape(-1, 4), edges


def _moved_corners(quads, edges, uses, face_points, middles, count):
    """Rows [V, V] of the coarse vertices: (F + 2 R + (n - 3) P) / n of the mean quad point F and mean edge middle R around P.

    A vertex on the outer edge, or in no quad, stays.
    """
    around = _rows(quads.ravel(), np.repeat(np.arange(len(quads)), 4), np.ones(quads.size), count, len(quads))
    meeting = _rows(edges.ravel(), np.repeat(np.arange(len(edges)), 2), np.ones(edges.size), count, len(edges))
    valence = np.asarray(around.sum(1)).ravel()
    stays = valence == 0
    stays[edges[uses != 2]] = True
    n = np.maximum(valence, 1)
    free = np.where(stays, 0.0, 1.0)
    moved = (around @ face_points).multiply((free / n**2)[:, None]) + (meeting @ middles).multiply(
        (2 * free / n**2)[:, None]
    )
    own = np.where(stays, 1.0, (n - 3) / n)
    return moved + _rows(np.arange(count), np.arange(count), own, count, count)


def refine_part(quads, chosen, count):
    """One step over the chosen [Q] of the quads only; those beside them become triangles around the halved edges.

    Returns (matrix [V', V], faces [F, 4] with -1 for a missing fourth corner).
    """
    matrix, fine, edges = subdivide(quads[chosen], count)
    halved = {(int(a), int(b)): count + number for number, (a, b) in enumerate(edges)}
    rest = [face for quad in quads[~chosen] for face in split_at(quad, halved)]
    return matrix, np.concatenate([fine, np.array(rest, int).reshape(-1, 4)])


def quad_edges(quads):
    """Edges [M, 2] of quads [Q, 4], ends sorted; which edge [Q, 4] follows each corner; how many quads [M] use each."""
    ends = np.sort(np.stack([quads, np.roll(quads, -1, 1)], -1).reshape(-1, 2), 1)
    edges, places, uses = np.unique(ends, axis=0, return_inverse=True, return_counts=True)
    return edges, places.reshape(quads.shape), uses


def outer_loops(quads):
    """The outer edges of a surface as closed loops of vertices, each in the quads' own sense, the longest first.

    Raises `ValueError` where the outer edge touches itself, so that there is no telling how it goes on.
    """
    quads = np.asarray(quads)
    edges, places, uses = quad_edges(quads)
    outer = uses[places] == 1
    following = dict(zip(quads[outer].tolist(), np.roll(quads, -1, 1)[outer].tolist()))
    if len(following) != outer.sum():
        raise ValueError("The outer edge touches itself.")
    loops = []
    while following:
        start, vertex = following.popitem()
        loop = [start]
        while vertex != start:
            loop.append(vertex)
            vertex = following.pop(vertex)
        loops.append(loop)
    return sorted(loops, key=len, reverse=True)


def _rows(rows, columns, values, height, width):
    return coo_matrix((values, (rows, columns)), (height, width)).tocsr()


def identity(count):
    """The sparse matrix that changes nothing."""
    return csr_matrix((np.ones(count), (np.arange(count), np.arange(count))), (count, count))
