# SPDX-License-Identifier: GPL-3.0-or-later
"""Bridging two boundaries (Zhou et al. 2021, Sec. 3.1): the faces that close the gap between a body and the face put into it."""

import bmesh
import numpy as np

from . import axes
from .contract.bridge import BridgeError


def bridge_strip(body_points, face_points):
    """The strip [S, 4] of a `BridgeRecipe` between B_b at body_points [B, 3] and B_f at face_points [L, 3] m, rest frame.

    Faces are wound all the same way round; which way, the caller has to see. Raises `BridgeError`.
    """
    points = axes.rest_to_scene(np.concatenate([body_points, face_points]))
    build = bmesh.new()
    try:
        vertices = [build.verts.new(point) for point in points.tolist()]
        build.verts.index_update()
        edges = []
        for loop in (vertices[: len(body_points)], vertices[len(body_points) :]):
            edges += [build.edges.new(pair) for pair in zip(loop, loop[1:] + loop[:1])]
        faces = bmesh.ops.bridge_loops(build, edges=edges)["faces"]
        if not faces:
            raise BridgeError("Blender could not bridge the two boundaries.")
        bmesh.ops.recalc_face_normals(build, faces=faces)
        strip = np.full((len(faces), 4), -1)
        for row, face in zip(strip, faces):
            row[: len(face.verts)] = [vertex.index for vertex in face.verts]
    finally:
        build.free()
    return strip
