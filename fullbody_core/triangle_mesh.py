"""The place on a surface that is nearest to a point, also on large ones; `contract.surface` has what numpy alone can do."""

import numpy as np
from scipy.spatial import cKDTree

from .contract.surface import nearest_among


def nearest_on_surface(points, vertices, triangles, candidates=24):
    """(triangles [P], weights [P, 3], distance [P]) of the places on a surface [V, D] nearest to points [P, D].

    Looks at the triangles whose middles are nearest, `candidates` of them: exact where triangles are of like size nearby.
    """
    middles = np.asarray(vertices, float)[triangles].mean(1)
    chosen = cKDTree(middles).query(points, min(candidates, len(triangles)))[1].reshape(len(points), -1)
    return nearest_among(points, vertices, triangles, chosen)
