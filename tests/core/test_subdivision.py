"""Catmull-Clark subdivision as a matrix: against its definition, on closed, open and partly refined meshes."""

import numpy as np
import pytest

from fullbody_core.contract.surface import triangulate
from fullbody_core.face.subdivision import outer_loops, quad_edges, refine_part, split_at, subdivide

CUBE = np.array([[x, y, z] for x in (-1.0, 1) for y in (-1.0, 1) for z in (-1.0, 1)])
CUBE_QUADS = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])


def grid(side):
    """Vertices [side^2, 3] and quads of a flat square grid."""
    y, x = np.mgrid[:side, :side].astype(float)
    corner = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).ravel()
    quads = np.stack([corner, corner + 1, corner + side + 1, corner + side], -1)
    return np.stack([x.ravel(), y.ravel(), 0 * x.ravel()], -1), quads


def obvious(vertices, quads):
    """Catmull and Clark's rules on a closed mesh, one vertex at a time."""
    face_points = [vertices[quad].mean(0) for quad in quads]
    edges, _, _ = quad_edges(quads)
    beside = [[number for number, quad in enumerate(quads) if a in quad and b in quad] for a, b in edges]
    edge_points = [
        (vertices[a] + vertices[b] + face_points[f] + face_points[g]) / 4 for (a, b), (f, g) in zip(edges, beside)
    ]
    moved = []
    for number, vertex in enumerate(vertices):
        around = [face_points[f] for f, quad in enumerate(quads) if number in quad]
        middles = [(vertices[a] + vertices[b]) / 2 for a, b in edges if number in (a, b)]
        n = len(around)
        moved.append((np.mean(around, 0) + 2 * np.mean(middles, 0) + (n - 3) * vertex) / n)
    return np.array([*moved, *edge_points, *face_points])


def test_a_closed_mesh_follows_catmull_and_clarks_rules():
    matrix, quads, _ = subdivide(CUBE_QUADS, len(CUBE))
    np.testing.assert_allclose(matrix @ CUBE, obvious(CUBE, CUBE_QUADS), atol=1e-12)
    assert quads.shape == (24, 4) and (quad_edges(quads)[2] == 2).all()
    again, finer, _ = subdivide(quads, matrix.shape[0])
    np.testing.assert_allclose(again @ (matrix @ CUBE), obvious(matrix @ CUBE, quads), atol=1e-12)


def test_rows_sum_to_one_and_the_winding_stays():
    matrix, quads, _ = subdivide(CUBE_QUADS, len(CUBE))
    np.testing.assert_allclose(np.asarray(matrix.sum(1)).ravel(), 1)
    fine = matrix @ CUBE
    for vertices, faces in ((CUBE, CUBE_QUADS), (fine, quads)):
        corners = vertices[triangulate(faces)]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        outward = np.sum(normals * corners.mean(1), -1)
        assert (outward > 0).all() or (outward < 0).all()


def test_the_outer_edge_keeps_to_the_coarse_one():
    vertices, quads = grid(5)
    vertices[:, 2] = np.random.default_rng(0).normal(size=len(vertices))
    matrix, fine, edges = subdivide(quads, len(vertices))
    (loop,) = outer_loops(fine)
    for vertex in loop:
        row = matrix[vertex]
        kept = row.nnz == 1 and row.indices[0] == vertex
        assert kept or np.allclose(row.data[row.data != 0], 0.5), "a corner stays, an edge's point is its middle"
    assert len(loop) == 2 * len(outer_loops(quads)[0])


def test_a_flat_grid_stays_flat_and_even():
    vertices, quads = grid(6)
    matrix, fine, _ = subdivide(quads, len(vertices))
    places = np.unique(np.round(matrix @ vertices, 9), axis=0)
    np.testing.assert_allclose(places[:, 2], 0)
    inner = places[(places[:, :2] > 1.01).all(1) & (places[:, :2] < 3.99).all(1)]
    np.testing.assert_allclose(inner * 2, np.round(inner * 2), atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_a_part_refined_leaves_no_gap(seed):
    vertices, quads = grid(8)
    chosen = np.random.default_rng(seed).random(len(quads)) < 0.5
    matrix, faces = refine_part(quads, chosen, len(vertices))
    triangles = triangulate(faces)
    edges = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), 1)
    uses = np.unique(edges, axis=0, return_counts=True)[1]
    assert uses.max() == 2
    places = matrix @ vertices
    once = np.unique(edges, axis=0)[uses == 1]
    outer = (np.isclose(places[once][..., :2], 0) | np.isclose(places[once][..., :2], 7)).any(-1)
    assert outer.all(), "only the square's own outer edge is used once"
    corners = places[triangles]
    area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2] / 2
    assert (area > 1e-9).all(), "nothing is turned over or empty"


def test_split_at_covers_the_quad_whatever_is_halved():
    corners = np.array([[0.0, 0], [2, 0], [2, 2], [0, 2]])
    middles = np.array([[1.0, 0], [2, 1], [1, 2], [0, 1]])
    places = np.concatenate([corners, middles])
    sides = [(0, 1), (1, 2), (2, 3), (0, 3)]
    for mask in range(16):
        halved = {side: 4 + number for number, side in enumerate(sides) if mask >> number & 1}
        triangles = triangulate(np.array(split_at([0, 1, 2, 3], halved)))
        a, b, c = places[triangles].transpose(1, 0, 2)
        area = ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2
        assert (area > 1e-9).all() and np.isclose(area.sum(), 4)
        assert set(halved.values()) <= set(triangles.ravel().tolist())


def test_loops_are_found_and_one_that_touches_itself_is_refused():
    vertices, quads = grid(5)
    ring = np.delete(quads, [5, 6, 9, 10], axis=0)
    assert [len(loop) for loop in outer_loops(ring)] == [16, 8]
    with pytest.raises(ValueError, match="touches itself"):
        outer_loops(quads[[0, 5]])
