"""Where a face model belongs on a body, and the two boundaries along which they could be joined: a start for whoever annotates.

Zhou et al. 2021, Sec. 3.1, annotate both boundaries and a similarity by hand, once for a pair of models. Here the points of
MediaPipe's face mesh, which are known on both, give the similarity and the outline of the face; the boundaries are the closed
loops of edges just outside it that are short, straight, and lie where both surfaces are near each other.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.spatial import cKDTree

from ..contract.bridge import BridgeError, BridgeRecipe, check_loop, fingerprint, sides
from ..contract.easing import smoothstep
from ..contract.skeleton import MESH_POINTS
from ..contract.surface import face_edges, parts_between, triangulate, vertex_normals
from ..contract.swing_twist import nearest_rotation, unit
from ..face.correspondence import is_symmetric, mirror_mesh_points
from ..face.landmarks import CONTOUR
from ..triangle_mesh import nearest_on_surface

KEPT = -0.02
"""m beyond the outline up to which the face model's surface is kept at least, where it reaches so far."""

WISHED, WISHED_BELOW = -0.003, 0.014
"""m beyond it up to which the face's surface should be kept, and under the jaw: the seam shall not run on its ridge."""

STRAY = 0.003
"""m off such a limit at which a boundary costs twice its length."""

REACH, REACH_ASIDE = 0.046, 0.018
"""m beyond the outline within which the body's boundary lies, and at the sides, where the ears are: the body keeps its own."""

SAME_SURFACE = 0.01
"""m between the two surfaces at which the body's boundary costs twice its length."""

GAP = (0.003, 0.008)
"""m that the face's boundary lies inside the body's: at least, and best."""

GAP_SLACK = 0.006
"""m off the best gap at which the face's boundary costs twice its length."""

BEND, FACE_BEND = 0.02, 0.008
"""m that a turn by a right angle costs, on the body and on the face model: there small steps across the grain of a fine mesh are
less to be seen than a wide gap."""

NOT_OUTWARDS = 6.0
"""How many times its length an edge costs more where the skin looks sideways from the head's middle, as in an ear."""

_OUTLINE_WEIGHT = 3.0  # of the outline's points, beside which the seam runs, against one of a feature
_FEWEST_POINTS = 20
_SLIDES, _HELD = 40, 0.06  # rounds of sliding, and how far in each a point is drawn back to its place
_MIDDLE_WIDTH = 1e-4  # m off the middle within which a vertex of a symmetric surface is its own mirror image


def suggest_bridge(body_template, face, body_points, slide=False):
    """A `BridgeRecipe`, not bridged yet, that puts a `MorphableModel` in the place of a body's face.

    body_template: `CharacterTemplate` of the body alone; body_points [478, 3] m: where the points of the face mesh belong on it,
    NaN where that is not known. slide: whether these were only found in pictures, so that a fit may move them along the skin. The
    answer depends on these only. Raises `BridgeError`.
    """
    body_points = np.asarray(body_points, float)
    body = _Surface(body_template.vertices, body_template.faces, _skin_of_body(body_template, body_points))
    scale, rotation, translation = _place(face, body, body_points, slide)
    vertices = scale * np.asarray(face.mean, float) @ rotation.T + translation
    placed = _Surface(vertices, face.faces, _skin_of_face(face))
    of_face = np.where(face.has_mesh_points[:, None], scale * face.mesh_points.mean @ rotation.T + translation, np.nan)
    # Either model's points say where the outline is, none of them exactly.
    both = np.where(np.isfinite(of_face), of_face, body_points), np.where(np.isfinite(body_points), body_points, of_face)
    outline = _Outline(np.mean(both, 0), body.is_symmetric)
    # The body's first: it has the longer edges, and the fewer ways round.
    body_boundary = _body_boundary(body, placed, outline)
    face_boundary = _face_boundary(placed, body.vertices[body_boundary], outline)
    return BridgeRecipe(
        body_name=str(body_template.meta.get("name") or "unnamed"),
        body_fingerprint=fingerprint(body_template.faces, len(body_template.vertices)),
        face_name=str(face.meta.get("name") or "unnamed"),
        face_fingerprint=fingerprint(face.faces, len(face.mean)),
        body_boundary=body_boundary,
        face_boundary=face_boundary,
        scale=float(scale),
        rotation=rotation,
        translation=translation,
        meta={"produced_by": "fullbody bridge"},
    )


def _place(face, body, body_points, slide):
    """Scale, rotation [3, 3] and translation [3] m that bring a face model's mesh points near to body_points [478, 3].

    Where on a cheek or forehead a point that was found in pictures lies is known to a centimetre only, but that it lies on the skin
    for sure: such points may `slide` along the body's surface after the first fit, held to their places by a little. Where both
    models are their own mirror images, the placed face is one, too. Raises `BridgeError` where too few points are known of both.
    """
    source, target = np.asarray(face.mesh_points.mean, float), body_points
    known, weights = face.has_mesh_points, np.ones(MESH_POINTS)
    weights[list(CONTOUR)] = _OUTLINE_WEIGHT
    if is_symmetric(np.asarray(face.mean, float)) and body.is_symmetric:
        mirror = mirror_mesh_points()
        source, target = (np.stack([points, points[mirror] * [-1, 1, 1]]).reshape(-1, 3) for points in (source, target))
        known, weights = np.concatenate([known, known[mirror]]), np.tile(weights, 2)
    known = known & np.isfinite(target).all(1)
    if known[:MESH_POINTS].sum() < _FEWEST_POINTS:
        raise BridgeError("The face model names too few points of the face mesh to be put on this body.")
    source, target, weights = source[known], target[known], weights[known]
    scale, rotation, translation = similarity(source, target, weights)
    for _ in range(_SLIDES if slide else 0):
        places = scale * source @ rotation.T + translation
        away = body.away(places)
        onto, off = places - away + _HELD * (target - places), np.linalg.norm(away, axis=-1)
        # What does not lie on the skin at all, such as an iris, says nothing about it.
        scale, rotation, translation = similarity(source, onto, weights / (1 + (off / SAME_SURFACE) ** 2))
    return scale, rotation, translation


def similarity(points, targets, weights):
    """Scale, rotation [3, 3] and translation [3] that bring points [N, 3] nearest to targets [N, 3]; weights [N].

    Least squares (Umeyama 1991).
    """
    weights = (weights / weights.sum())[:, None]
    centre, target_centre = (weights * points).sum(0), (weights * targets).sum(0)
    arms, target_arms = np.sqrt(weights) * (points - centre), np.sqrt(weights) * (targets - target_centre)
    # nearest_rotation centres what it is given: each arm and its opposite leave nothing to centre.
    rotation = nearest_rotation(np.concatenate([arms, -arms]), np.concatenate([target_arms, -target_arms]))
    scale = np.sum(arms @ rotation.T * target_arms) / np.square(arms).sum()
    return scale, rotation, target_centre - scale * rotation @ centre


class _Surface:
    """A surface with what is asked of it more than once: normals, edges, its own mirror image."""

    def __init__(self, vertices, faces, skin):
        """vertices [V, 3] m; faces [F, N]; skin [F] bool: which of the faces a boundary may run on."""
        self.vertices, self.faces = np.asarray(vertices, float), np.asarray(faces)[skin]
        self.triangles = triangulate(self.faces)
        self.normals = vertex_normals(self.vertices, self.triangles)
        directed, _ = face_edges(self.faces)
        self.edges, uses = np.unique(np.sort(directed, 1), axis=0, return_counts=True)
        self.outer = uses == 1
        self.own = np.unique(self.edges)
        self.is_symmetric = is_symmetric(self.vertices[self.own])

    def distance(self, points):
        """How far [P] points [P, 3] are from the surface."""
        return nearest_on_surface(points, self.vertices, self.triangles)[2]

    def away(self, points):
        """The part of the way [P, 3] from the nearest places of the surface to points [P, 3] that goes along its normal there."""
        triangle, weights, _ = nearest_on_surface(points, self.vertices, self.triangles)
        corners = self.triangles[triangle]
        places, normals = (np.einsum("pc,pcx->px", weights, values[corners]) for values in (self.vertices, self.normals))
        normals = unit(normals)
        return np.sum((points - places) * normals, -1, keepdims=True) * normals

    def mirror(self):
        """For each vertex its mirror image [V], -1 where there is none."""
        mirror = np.full(len(self.vertices), -1)
        distance, nearest = cKDTree(self.vertices[self.own]).query(self.vertices[self.own] * [-1, 1, 1])
        near = distance < _MIDDLE_WIDTH
        mirror[self.own[near]] = self.own[nearest[near]]
        return mirror


def _skin_of_body(template, points):
    """Which of a body's faces [F] belong to the piece that most of the face mesh's points lie on: not eyeballs, teeth or tongue."""
    part = parts_between(template.faces)
    corners = np.asarray(template.faces)[:, :3]
    known = points[np.isfinite(points).all(1)]
    nearest = cKDTree(np.asarray(template.vertices, float)[corners].mean(1)).query(known)[1]
    return part == np.bincount(part[nearest]).argmax()


def _skin_of_face(face):
    """Which of a face model's faces [F] belong to the piece that most mesh points lie on."""
    part = parts_between(face.faces)
    of_vertex = np.zeros(len(face.mean), int)
    of_vertex[np.asarray(face.faces)[:, :3]] = part[:, None]
    points = face.mesh_vertices[face.has_mesh_points, 0]
    return part == np.bincount(of_vertex[points]).argmax()


class _Outline:
    """The outline of the face as the face mesh draws it, and polar coordinates about the middle of what it encloses.

    A place has an angle round the axis that looks forward, 0 below and to the person's left from there, and lies beyond the
    outline by the length of the arc from there.
    """

    def __init__(self, points, symmetric):
        outline = points[list(CONTOUR)]
        if symmetric:
            outline = np.nanmean([outline, points[mirror_mesh_points()[list(CONTOUR)]] * [-1, 1, 1]], 0)
        outline = outline[np.isfinite(outline).all(1)]
        if len(outline) < len(CONTOUR) // 2:
            raise BridgeError("Too little of the face's outline is known on this body: annotate the bridge by hand.")
        self.middle = outline.mean(0)
        directions = np.linalg.svd(outline - self.middle)[2]
        self.forward = directions[2] * np.sign(directions[2] @ [0, 0.3, 1])
        self.down = unit(np.array([0.0, -1, 0]) + self.forward[1] * self.forward)
        self.side = np.cross(self.forward, self.down)
        angle, tilt, distance = self._polar(outline)
        order = np.argsort(angle)
        self._angles, self._tilts, self._distances = angle[order], tilt[order], distance[order]

    def _polar(self, points):
        arms = points - self.middle
        distance = np.maximum(np.linalg.norm(arms, axis=-1), 1e-9)
        tilt = np.arccos(np.clip(arms @ self.forward / distance, -1, 1))
        return np.arctan2(arms @ self.side, arms @ self.down), tilt, distance

    def angle(self, points):
        """Angles [P] in -pi..pi; the jump is above the forehead."""
        return self._polar(points)[0]

    def beyond(self, points):
        """How far [P] points [P, 3] are outside the outline, m."""
        angle, tilt, _ = self._polar(points)
        at, distance = (
            np.interp(angle, self._angles, values, period=2 * np.pi) for values in (self._tilts, self._distances)
        )
        return (tilt - at) * distance

    def sideways(self, surface):
        """How much [V] faces at a surface's vertices look elsewhere than away from the middle: 0 for not at all to 2."""
        corners = surface.vertices[surface.triangles]
        normals = unit(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))
        of_face = 1 - np.sum(normals * unit(corners.mean(1) - self.middle), -1)
        worst = np.zeros(len(surface.vertices))
        np.maximum.at(worst, surface.triangles, of_face[:, None])
        return worst

    def directions(self, points):
        """Unit vectors [P, 3] from the middle."""
        return unit(points - self.middle)


def _body_boundary(body, placed, outline):
    """B_b [B]: a little outside the outline, where there is room for the face's boundary inside it."""
    angle, beyond = outline.angle(body.vertices), outline.beyond(body.vertices)
    end, wished = _end_of(placed, outline)(angle), _wished(angle)
    reach = REACH_ASIDE + (REACH - REACH_ASIDE) * smoothstep(np.abs(np.cos(angle)), 0.2, 0.6)
    at_edges = np.stack([beyond - np.minimum(end, KEPT) - 2 * GAP[0], reach - beyond])[:, body.edges]
    allowed = (at_edges > 0).all((0, 2))
    stray = np.maximum(np.minimum(end, wished) + GAP[1] - beyond, 0) + np.maximum(
        beyond - np.minimum(end + GAP[1], reach - GAP[1]), 0
    )
    apart = np.zeros(len(body.vertices))
    asked = np.unique(body.edges[allowed])
    apart[asked] = placed.distance(body.vertices[asked])
    factor = 1 + (apart / SAME_SURFACE) ** 2 + (stray / STRAY) ** 2 + NOT_OUTWARDS * outline.sideways(body)
    return _best_loop(body, allowed, factor, angle, BEND, "the body")


def _wished(angle):
    """How far [P] beyond the outline the face's surface should be kept at angles [P], m."""
    return WISHED + (WISHED_BELOW - WISHED) * smoothstep(np.cos(angle), 0.1, 0.6)


def _end_of(placed, outline):
    """A function of angles [P]: how far beyond the outline the face model's surface ends, m; inf for one without an end."""
    outermost = placed.edges[_of_outermost(placed, outline)]
    if not len(outermost):
        return lambda angles: np.full(np.shape(angles), np.inf)
    points = placed.vertices[np.unique(outermost)]
    angles, beyond = _sorted_by(outline.angle(points), outline.beyond(points))
    return lambda wanted: np.interp(wanted, angles, beyond, period=2 * np.pi)


def _face_boundary(placed, body_loop, outline):
    """B_f [L]: inside the body's boundary, at body_loop [B, 3] m, by about `GAP`; or along the face's own outer edge."""
    curve = _along(body_loop)
    angles, limits = _sorted_by(outline.angle(curve), outline.beyond(curve))
    angle, beyond = outline.angle(placed.vertices), outline.beyond(placed.vertices)
    # As seen from the middle, so that a face above or below the body's surface does not overlap it either.
    turn, _ = cKDTree(outline.directions(curve)).query(outline.directions(placed.vertices))
    inside = beyond < np.interp(angle, angles, limits, period=2 * np.pi)
    room = np.where(inside, turn * np.linalg.norm(placed.vertices - outline.middle, axis=-1), -1)
    gap, _ = cKDTree(curve).query(placed.vertices)
    near = (beyond > KEPT) | (gap < 3 * GAP[1])
    allowed = (room[placed.edges].min(1) > GAP[0]) & (near[placed.edges].all(1) | _of_outermost(placed, outline))
    stray = np.maximum(_wished(angle) - beyond, 0)
    factor = 1 + ((gap - GAP[1]) / GAP_SLACK) ** 2 + (stray / STRAY) ** 2 + NOT_OUTWARDS * outline.sideways(placed)
    at_edge = np.zeros(len(placed.vertices), bool)
    at_edge[placed.edges[placed.outer]] = True
    # A loop that touches the outer edge here and there may leave scraps of the surface outside it, so that is the last resort.
    for candidates in (allowed & ~at_edge[placed.edges].any(1), allowed):
        try:
            return _best_loop(placed, candidates, factor, angle, FACE_BEND, "the face model")
        except BridgeError as error:
            failure = error
    raise failure


def _of_outermost(surface, outline):
    """Which edges [M] belong to the outer edge that goes round the whole face; holes for eyes and mouth do not."""
    if not surface.outer.any():
        return surface.outer
    edges = surface.edges[surface.outer]
    graph = coo_matrix((np.ones(len(edges)), edges.T), (len(surface.vertices),) * 2)
    part = connected_components(graph, directed=False)[1][edges[:, 0]]
    part = np.unique(part, return_inverse=True)[1]
    angles = outline.angle(surface.vertices[edges].mean(1))
    turns = [len(np.unique(np.floor(angles[part == number] * 4))) for number in range(part.max() + 1)]
    result = np.zeros(len(surface.edges), bool)
    result[surface.outer] = part == np.argmax(turns)
    return result


def _along(loop, step=0.001):
    """Places [N, 3] on a closed loop [L, 3], no further apart than about `step` m."""
    following = np.roll(loop, -1, 0)
    counts = np.maximum(np.ceil(np.linalg.norm(following - loop, axis=-1) / step).astype(int), 1)
    start = np.repeat(np.arange(len(loop)), counts)
    share = (np.arange(len(start)) - np.repeat(np.cumsum(counts) - counts, counts)) / counts[start]
    return loop[start] + share[:, None] * (following - loop)[start]


def _sorted_by(keys, values):
    order = np.argsort(keys, kind="stable")
    return keys[order], values[order]


# The best closed loop of edges.


@dataclass(frozen=True)
class _Steps:
    """Edges as a loop may take them: in the sense of a growing angle or against it.

    ends [D, 2] vertices; crosses [D]: how often the step passes the angle's jump, -1, 0 or 1; cost [D] m
    """

    ends: np.ndarray
    crosses: np.ndarray
    cost: np.ndarray


def _best_loop(surface, allowed, factor, angles, bend, whose):
    """The closed loop [L] once round the face with the lowest sum of edges' lengths times their `factor` [V], and of bends.

    bend: m that a turn by a right angle costs; allowed [M]: the edges that it may take. On a surface that is its own mirror image
    the loop is its own, too, where that works.
    """
    edges = surface.edges[allowed]
    ends = np.concatenate([edges, edges[:, ::-1]])
    turn = angles[ends[:, 1]] - angles[ends[:, 0]]
    crosses = -np.rint(turn / (2 * np.pi)).astype(int)
    lengths = np.linalg.norm(surface.vertices[ends[:, 1]] - surface.vertices[ends[:, 0]], axis=-1)
    steps = _Steps(ends, crosses, lengths * factor[ends].mean(1))
    for costly in (bend, bend / 3, 0.0):  # only with costly bends can it be cheaper to pass a vertex twice
        loop = _cheapest_round(surface.vertices, steps, costly)
        if loop is None:
            break
        if len(np.unique(loop)) == len(loop):
            loop = _mirrored_half(surface, loop, steps, costly)
            check_loop(surface.faces, loop, "The boundary")
            sides(surface.faces, loop)
            return loop
    raise BridgeError(f"No closed loop of edges goes round the face on {whose}: annotate the bridge by hand.")


def _cheapest_round(vertices, steps, bend):
    """The vertices [L] of the cheapest way once round, or None where there is no way."""
    count = len(steps.ends)
    first, second, cost = _successions(vertices, steps, bend)
    # A way starts with a step over the jump and ends before it would take the same one again: that one has a second number.
    starts = np.flatnonzero(steps.crosses == 1)
    if not len(starts):
        return None
    again = np.full(count, -1)
    again[starts] = count + np.arange(len(starts))
    arrives = np.where(steps.crosses[second] == 1, again[second], second)
    graph = coo_matrix((cost, (first, arrives)), (count + len(starts),) * 2).tocsr()
    best, way = np.inf, None
    for start in starts:
        distance, before = dijkstra(graph, indices=start, return_predecessors=True, limit=best)
        if distance[again[start]] < best:
            best, way, node = distance[again[start]], [], before[again[start]]
            while node != start:
                way.append(node)
                node = before[node]
            way = [start, *way[::-1]]
    return None if way is None else steps.ends[way, 0]


def _successions(vertices, steps, bend):
    """(first [K], second [K], cost [K]) of every step that may follow another: it goes on from its end, and not back.

    The cost is the second's own, and `bend` times how sharp the turn is: 1 for a right angle.
    """
    ends = steps.ends
    order = np.argsort(ends[:, 0], kind="stable")
    begin = np.searchsorted(ends[order, 0], ends[:, 1], "left")
    stop = np.searchsorted(ends[order, 0], ends[:, 1], "right")
    counts = stop - begin
    first = np.repeat(np.arange(len(ends)), counts)
    second = order[np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(begin, counts)]
    onward = (ends[second, 1] != ends[first, 0]) & (steps.crosses[second] >= 0)
    first, second = first[onward], second[onward]
    direction = unit(vertices[ends[:, 1]] - vertices[ends[:, 0]])
    return first, second, steps.cost[second] + bend * _sharp(direction[first], direction[second])


def _sharp(before, after):
    """How sharp [K] a turn from one unit direction to another is: 1 for a right angle, and 4 for the way back."""
    cosine = np.sum(before * after, -1)
    return 1 - cosine + 2 * np.maximum(-cosine, 0)


def _mirrored_half(surface, loop, steps, bend):
    """The loop made of its cheaper half and that one's mirror image, where both are loops of the surface; or else the loop."""
    if not surface.is_symmetric:
        return loop
    mirror, places = surface.mirror(), surface.vertices
    known = {tuple(pair) for pair in steps.ends.tolist()}
    candidates = []
    for side in (1, -1):
        on = side * places[loop, 0] > -_MIDDLE_WIDTH
        starts = np.flatnonzero(on & ~np.roll(on, 1))
        if len(starts) != 1:
            continue
        half = np.roll(loop, -starts[0])[: on.sum()]
        back = mirror[half[::-1]]
        whole = np.concatenate([half, back[~np.isin(back, half)]])
        pairs = zip(whole.tolist(), np.roll(whole, -1).tolist())
        if (back >= 0).all() and len(np.unique(whole)) == len(whole) and all(pair in known for pair in pairs):
            candidates.append((_length(places, steps, whole, bend), len(candidates), whole))
    return min(candidates)[2] if candidates else loop


def _length(vertices, steps, loop, bend):
    """What a loop [L] costs."""
    cost = {pair: value for pair, value in zip(map(tuple, steps.ends.tolist()), steps.cost.tolist())}
    direction = unit(vertices[np.roll(loop, -1)] - vertices[loop])
    sharp = _sharp(direction, np.roll(direction, -1, 0))
    return sum(cost[pair] for pair in zip(loop.tolist(), np.roll(loop, -1).tolist())) + bend * sharp.sum()
