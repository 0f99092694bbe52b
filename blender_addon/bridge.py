# SPDX-License-Identifier: GPL-3.0-or-later
"""Bridging two boundaries (Zhou et al. 2021, Sec. 3.1): the faces that close the gap between a body and the face put into it.

Blender's own bridge of edge loops knows two curves in space and no surfaces: where the boundaries of two models have teeth, and
vertices at uneven distances, it makes folds and slivers. Here the strip is the cheapest of all strips of triangles between the two
loops (Fuchs, Kedem and Uselton 1977), and its triangles are to be short, well shaped, and to face as the surfaces beside them do.
"""

from dataclasses import replace

import numpy as np
from mathutils.bvhtree import BVHTree

from .contract.bridge import BridgeError, sides
from .contract.full_body import placed_face, removed_faces
from .contract.surface import face_edges, smallest_angles, triangulate, vertex_normals

SMALLEST_ANGLE = 1.0
"""Degrees; a triangle of the strip with a smaller one is taken as degenerate."""

_STEEPEST_FOLD = 150.0  # degrees between the outer sides of two neighbours in the strip
_SLIVER = 0.002  # m of a triangle's girth that the best shape is worth, over the shape's quality from 0 to 1
_WORST_QUALITY = 0.02
_TURNED_AWAY = 0.05  # m of girth for each unit by which a triangle's cosine to its surroundings is under ...
_FACING = 0.3


def bridge_recipe(kit, recipe):
    """`recipe` with its strip, for the models of a `BridgeKit`. One that is sewn comes back as it is. Raises `BridgeError`."""
    body, face = kit.body, kit.face
    recipe.check(body.faces, len(body.vertices), face.faces, len(face.mean))
    if len(recipe.sewn):
        return recipe
    sides(face.faces, recipe.face_boundary)  # raises where the boundary does not part the face in two
    points = body.vertices[recipe.body_boundary], recipe.place(face.mean[recipe.face_boundary])
    normals = (
        vertex_normals(body.vertices, triangulate(body.faces))[recipe.body_boundary],
        vertex_normals(face.mean, face.triangles)[recipe.face_boundary] @ recipe.rotation.T,
    )
    strip = bridge_strip(*points, *normals, against=_runs_with_body(body.faces, recipe.body_boundary))
    if problem := strip_problem(strip, np.concatenate(points), len(points[0])):
        raise BridgeError(problem)
    return replace(recipe, strip=strip)


def character_name(recipe):
    """What the character of a recipe is called in a scene."""
    return f"{recipe.body_name} + {recipe.face_name}"


def bridge_strip(body_points, face_points, body_normals, face_normals, against=True):
    """The cheapest strip [B + L, 4] of a `BridgeRecipe` between B_b at body_points [B, 3] and B_f at face_points [L, 3] m.

    body_normals, face_normals: outward normals of the surfaces there. The strip's triangles go along B_b against its order, or
    with it. Its first edge joins the two nearest points; which way round the face's loop runs does not matter.
    """
    gaps = np.linalg.norm(body_points[:, None] - face_points[None], axis=-1)
    body_count, face_count = gaps.shape
    body_start, face_start = np.unravel_index(gaps.argmin(), gaps.shape)
    nearest = gaps.argmin(1)
    steps = (np.diff(nearest, append=nearest[0]) + face_count // 2) % face_count - face_count // 2
    way = 1 if np.sign(steps).sum() >= 0 else -1
    on_body = (body_start + np.arange(body_count + 1)) % body_count
    on_face = (face_start + way * np.arange(face_count + 1)) % face_count
    a, b = body_points[on_body], face_points[on_face]
    normals_a, normals_b = body_normals[on_body], face_normals[on_face]
    side = 1 if against else -1
    along_body = _costs(a[1:, None], a[:-1, None], b, side * (normals_a[1:, None] + normals_a[:-1, None] + normals_b))
    along_face = _costs(a[:, None], b[:-1], b[1:], side * (normals_a[:, None] + normals_b[:-1] + normals_b[1:]))
    strip = []
    for row, column, step_on_body in _cheapest_path(along_body, along_face):
        last = on_body[row - 1] if step_on_body else body_count + on_face[column - 1]
        strip.append((on_body[row], last, body_count + on_face[column]))
    strip = np.array(strip)[:, [0, 1, 2] if against else [0, 2, 1]]
    return np.concatenate([strip, np.full_like(strip[:, :1], -1)], 1)


def _costs(a, b, c, facing):
    """What triangles with corners a, b, c [..., 3] cost in m: their girth, and more for slivers and for not `facing` [..., 3]."""
    a, b, c, facing = np.broadcast_arrays(a, b, c, facing)
    lengths = np.linalg.norm(np.stack([b - a, c - b, a - c]), axis=-1)
    normals = np.cross(b - a, c - a)
    doubled_area = np.linalg.norm(normals, axis=-1)
    quality = 2 * np.sqrt(3) * doubled_area / np.maximum(np.square(lengths).sum(0), 1e-20)  # 1 where all sides are the same
    cosine = np.sum(normals * facing, -1) / np.maximum(doubled_area * np.linalg.norm(facing, axis=-1), 1e-20)
    turned_away = np.maximum(_FACING - cosine, 0)
    return lengths.sum(0) + _SLIVER / np.maximum(quality, _WORST_QUALITY) + _TURNED_AWAY * turned_away


def _cheapest_path(down, right):
    """The cheapest steps from the last to the first node of a grid: (row, column they start from, whether they go up a row).

    down [R, C + 1] and right [R + 1, C]: the costs of steps between neighbouring rows and columns.
    """
    rows, columns = len(right), len(right[0])
    total, came_down = np.zeros(columns + 1), np.ones((rows, columns + 1), bool)
    for row in range(rows):
        total = total + down[row - 1] if row else np.r_[0.0, np.full(columns, np.inf)]
        sums, steps = total.tolist(), right[row].tolist()
        for column, step in enumerate(steps, 1):
            if sums[column - 1] + step < sums[column]:
                sums[column] = sums[column - 1] + step
                came_down[row, column] = False
        total = np.array(sums)
    row, column, path = rows - 1, columns, []
    while row or column:
        path.append((row, column, bool(came_down[row, column])))
        row, column = (row - 1, column) if came_down[row, column] else (row, column - 1)
    return path


def _runs_with_body(body_faces, loop):
    """Whether a loop [B] goes as the body's remaining faces beside it do, so that the strip has to go against it.

    Raises `BridgeError`.
    """
    smaller, larger = sides(body_faces, loop)
    if not smaller.any():
        raise BridgeError("The body boundary does not go round a part of the body: annotate it again.")
    kept, _ = face_edges(body_faces[larger])
    place = np.array([int(body_faces.max()) + 1, 1])
    along = np.isin(np.stack([loop, np.roll(loop, -1)], -1) @ place, kept @ place)
    if along.any() and not along.all():
        raise BridgeError("The body's surface beside the boundary is not all on one side: annotate it again.")
    return bool(along.all())


def strip_problem(strip, points, body_count):
    """One sentence on what is wrong with a strip [S, 4] between points [P, 3], the first `body_count` of B_b, or None."""
    between = "the strip between the two boundaries"
    edges, _ = face_edges(strip)
    place = np.array([len(points), 1])
    ordered = edges @ place
    if not len(strip) or len(np.unique(ordered)) < len(ordered):
        return f"The two boundaries cannot be bridged: {between} would have a face twice."
    free = edges[~np.isin(ordered, edges[:, ::-1] @ place)]
    loops = np.arange(body_count), np.arange(body_count, len(points))
    seam = np.concatenate([np.stack([loop, np.roll(loop, -1)], -1) for loop in loops])
    if not np.array_equal(np.sort(np.sort(free, 1) @ place), np.sort(np.sort(seam, 1) @ place)):
        return f"The two boundaries cannot be bridged: {between} would leave an edge out."
    triangles = triangulate(strip)
    if smallest_angles(points[triangles]).min() <= SMALLEST_ANGLE:
        return f"A triangle of {between} has no width: bring the boundaries nearer together, or keep them from touching."
    if _folds(points, triangles).max() > _STEEPEST_FOLD or crossings(points, triangles):
        return f"There are folds in {between}: move the face, or choose boundaries that run alongside each other."
    return None


def crossings(points, triangles, others=None):
    """How many pairs of triangles [T, 3] pass through each other, or through triangles of `others` (points, triangles)."""
    tree = BVHTree.FromPolygons(points.tolist(), triangles.tolist())
    if others is None:
        return len(tree.overlap(tree)) // 2
    return len(tree.overlap(BVHTree.FromPolygons(others[0].tolist(), others[1].tolist())))


def crossings_with_models(kit, recipe):
    """How many pairs of a triangle of the strip and one of the body or face that it does not touch pass through each other."""
    face, removed = placed_face(kit.face, recipe), removed_faces(kit.body, recipe)
    points = np.concatenate([kit.body.vertices[recipe.body_boundary], recipe.place(kit.face.mean[recipe.face_boundary])])
    strip = triangulate(recipe.strip)
    total = 0
    for vertices, faces, loop in (
        (kit.body.vertices, kit.body.faces[~removed], recipe.body_boundary),
        (face.mean, face.faces, face.boundary),
    ):
        triangles = triangulate(faces)
        total += crossings(points, strip, (vertices, triangles[~np.isin(triangles, loop).any(1)]))
    return total


def _folds(points, triangles):
    """Angles in degrees between the normals of triangles [T, 3] that share an edge."""
    corners = points[triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-20)
    edges, owner = face_edges(triangles)
    place = np.array([len(points), 1])
    forth, back = edges @ place, edges[:, ::-1] @ place
    _, ours, theirs = np.intersect1d(forth, back, return_indices=True)
    cosines = np.sum(normals[owner[ours]] * normals[owner[theirs]], -1)
    return np.degrees(np.arccos(np.clip(cosines, -1, 1)))
