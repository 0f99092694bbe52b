"""Surfaces made of faces: triangles, normals, edges, nearest places, distances along them, parts and pieces. numpy only."""

import numpy as np

_ROUNDING = 1e-6  # m; more than `distances` is wrong by


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
    weights, gaps = _nearest_places(points[:, None], corners[candidates])
    best, rows = gaps.argmin(1), np.arange(len(points))
    return candidates[rows, best], weights[rows, best], gaps[rows, best]


def nearest_on_surface(points, vertices, triangles):
    """(triangles [P], weights [P, 3], distance [P]) of the places on a surface [V, 3] nearest to points [P, 3]. Exact."""
    points, corners = np.asarray(points, float), np.asarray(vertices, float)[triangles]
    middles = corners.mean(1)
    # No triangle is further from a point than its middle, or nearer than that by more than its reach.
    reach = np.linalg.norm(corners - middles[:, None], axis=-1).max(1)
    pairs = _pairs_within_reach(points, middles, reach)
    point, triangle, away = (np.concatenate(column) for column in zip(*pairs))
    # The triangle with the nearest middle bounds the distance, and of equally near ones it counts.
    order = np.lexsort((away, point))
    point, triangle, away = point[order], triangle[order], away[order]
    _, bound = _nearest_places(points, corners[triangle[_first_of_each(point)]])
    hopeful = away - reach[triangle] <= bound[point] + _ROUNDING
    point, triangle = point[hopeful], triangle[hopeful]
    weights, gaps = _nearest_places(points[point], corners[triangle])
    best = np.lexsort((gaps, point))[_first_of_each(point)]
    return triangle[best], weights[best], gaps[best]


def _cubes(points, side):
    """Indices of points [P, 3], those in one cube of space together."""
    cells = np.floor((points - points.min(0)) / side).astype(np.int64)
    order = np.lexsort(cells.T)
    return np.split(order, np.flatnonzero(np.diff(cells[order], axis=0).any(1)) + 1)


def _pairs_within_reach(points, middles, reach):
    """Yields (points [M], triangles [M], distance [M] of its middle) for a cube of space: all that may be nearest to each other."""
    cubes = _cubes(points, 2 * reach.mean())
    centres = np.array([points[members].mean(0) for members in cubes])
    for first in range(0, len(cubes), 256):
        from_centre = distances(centres[first : first + 256], middles)
        nearest = from_centre.min(1)
        from_centre -= reach
        for members, centre, lowest, least in zip(cubes[first:], centres[first:], from_centre, nearest):
            inside = points[members]
            radius = np.sqrt(np.square(inside - centre).sum(1).max())
            near = np.flatnonzero(lowest <= least + 2 * radius + _ROUNDING)
            away = distances(inside, middles[near])
            point, triangle = np.nonzero(away - reach[near] <= away.min(1, keepdims=True) + _ROUNDING)
            yield members[point], near[triangle], away[point, triangle]


def _first_of_each(number):
    """Where each of the numbers in a sorted [M] stands first."""
    return np.flatnonzero(np.diff(number, prepend=-1))


def distances(points, others):
    """Distances [P, Q] between points [P, 3] and others [Q, 3], to some 1e-8 of the points' own size."""
    points, others = np.asarray(points, float), np.asarray(others, float)
    squares = np.square(points).sum(1)[:, None] + np.square(others).sum(1) - 2 * points @ others.T
    return np.sqrt(np.maximum(squares, 0))


def distance_along(vertices, faces, sources, limit):
    """Distance [V] m along the edges of faces [F, N], cut into triangles, from the nearest of `sources`; inf beyond `limit`."""
    triangles = triangulate(faces)
    ends = np.unique(np.sort(triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), 1), axis=0)
    ends = np.concatenate([ends, ends[:, ::-1]])
    start, end = ends.T
    lengths = np.linalg.norm(np.asarray(vertices, float)[start] - vertices[end], axis=-1)
    distance = np.full(len(vertices), np.inf)
    distance[sources] = 0
    while True:
        through = distance[start] + lengths
        shorter = (through < distance[end]) & (through <= limit)
        if not shorter.any():
            return distance
        np.minimum.at(distance, end[shorter], through[shorter])


def beside_edge(points, edge, count=8):
    """(which of the edge's vertices [P, K], their shares [P, K], distance [P] m): what of an edge [L, 3] is near each point [P, 3].

    The `count` nearest, by the inverse square of how far they are; shares sum to 1.
    """
    away = distances(points, edge)
    count = min(count, len(edge))
    nearest = np.argpartition(away, count - 1, 1)[:, :count]
    away = np.linalg.norm(points[:, None] - edge[nearest], axis=-1)
    near = 1 / np.maximum(away, 1e-6) ** 2
    return nearest, near / near.sum(1, keepdims=True), away.min(1)


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


def split_at(quad, halved, vertices=None):
    """A quad whose edges may have a vertex in their middle (`halved`: it by the sorted ends), as faces of 4 with -1 padding.

    With `vertices` [V, 3] the best-shaped of the ways there are: also the same on the other side of a symmetric surface.
    """
    corners = [int(vertex) for vertex in quad]
    outline, middle = [], []
    for first, second in zip(corners, corners[1:] + corners[:1]):
        outline.append(first)
        point = halved.get((min(first, second), max(first, second)))
        if point is not None:
            middle.append(len(outline))
            outline.append(point)
    if not middle:
        return [corners]
    if len(middle) == 4:
        points = [outline[place] for place in middle]
        ears = [[outline[place - 1], points[k], points[k - 1], -1] for k, place in enumerate(middle)]
        return ears + [points]
    # Fanned from a halved edge's middle, no triangle lies on one straight edge.
    fans = []
    for place in middle if vertices is not None else middle[:1]:
        turned = outline[place:] + outline[:place]
        fans.append([[turned[0], turned[k], turned[k + 1], -1] for k in range(1, len(turned) - 1)])
    return max(fans, key=lambda fan: smallest_angles(vertices[np.array(fan)[:, :3]]).min()) if len(fans) > 1 else fans[0]


def smallest_angles(corners):
    """The smallest angle [T], in degrees, of triangles with corners [T, 3, 3]; of one without area 0."""
    ahead = np.roll(corners, -1, 1) - corners
    ahead = ahead / np.maximum(np.linalg.norm(ahead, axis=-1, keepdims=True), 1e-20)
    cosines = -np.sum(ahead * np.roll(ahead, 1, 1), -1)
    return np.degrees(np.arccos(np.clip(cosines.max(1), -1, 1)))


def _nearest_places(points, corners):
    """(weights [..., 3], distance [...]) of the places in triangles [..., 3, D] nearest to points [..., D]."""
    weights = _nearest_in_triangle(points, corners)
    return weights, np.linalg.norm(np.einsum("...c,...cx->...x", weights, corners) - points, axis=-1)


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
