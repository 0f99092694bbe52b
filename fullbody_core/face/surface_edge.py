"""The outer edge of a surface made of triangles."""

import numpy as np

from .subdivision import outer_loops


def longest_edge_loop(triangles):
    """The longest closed edge [L] int32 of a surface of triangles [F, 3], in order; empty where it has none or touches itself."""
    try:
        loops = outer_loops(triangles)
    except ValueError:
        loops = []
    return np.array(loops[0] if loops else [], np.int32)
