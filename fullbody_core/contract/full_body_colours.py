"""The colour of a body with a face: the face's model says it, also outside. numpy only."""

import numpy as np

from .easing import smoothstep
from .surface import beside_edge

COLOUR_BAND = 0.05
"""m from the edge outwards, over which the body's colour goes from that of the edge beside it to the mean of all the edge."""


def colours(body, face, joined):
    """Mean [V, 3] and directions [A, V, 3] of the whole surface's colour, and each body vertex's distance from the face, m.

    On the face they are the model's. Outside, near its edge, they are those of the edge beside, and further away the mean of the
    edge's. All of it is linear, so that for every person the body has its face's colour at the seam.
    """
    from_edge, distance = _from_edge(body.vertices, face.mean[face.boundary])
    outside = np.setdiff1d(np.arange(joined.body_count), joined.face_vertices)
    from_edge = from_edge[joined.body_vertices[outside]]

    def extended(values):
        """Colours [..., W, 3] of the face's vertices on the whole [..., V, 3] float32."""
        whole = np.zeros((*values.shape[:-2], joined.count, 3), np.float32)
        whole[..., joined.face_vertices, :] = values
        of_edge = values[..., face.boundary, :].astype(float)
        whole[..., outside, :] = np.moveaxis(np.tensordot(from_edge, of_edge, (1, -2)), 0, -2)
        return whole

    return extended(face.albedo_mean), extended(face.albedo_basis), distance


def _from_edge(points, edge):
    """Rows [P, L] that sum to 1: of which vertices of the edge [L, 3] each of points [P, 3] has its colour; its distance [P] m."""
    nearest, near, distance = beside_edge(points, edge)
    near *= (1 - smoothstep(distance, 0, COLOUR_BAND))[:, None]
    rows = np.zeros((len(points), len(edge)))
    np.put_along_axis(rows, nearest, near, 1)
    return rows + (1 - rows.sum(1, keepdims=True)) / len(edge), distance
