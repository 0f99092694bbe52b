"""A body with a face of its own: the body's face is cut out and a 3DMM stands in its place (Zhou et al. 2021, Sec. 3.1, Fig. 3).

A face made from this very body (the open one) shares its outer edge with the hole, and is sewn in without a gap. Any other is
brought there as a whole, by a similarity, and its edge stays open. Over a band along the edge the face goes from moving as the
body's own face did to moving as a face: rigid with the head, with a shape and expressions of its own.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import cKDTree

from ..contract.npz_file import FileError
from ..contract.skeleton import JOINT_INDEX
from ..contract.surface import triangulate
from ..face.subdivision import split_at
from ..swing_twist import nearest_rotation, smoothstep
from ..triangle_mesh import nearest_on_surface
from .lbs import to_character_template

BAND = 0.025
"""m, along the surface, from the face's edge to where it moves as a face only."""

COLOUR_BAND = 0.05
"""m from the edge outwards, over which the body's colour goes from that of the edge beside it to the mean of all the edge."""

_SAME_PLACE = 1e-4  # m; float16 and float32 files of one surface differ by less
_COVERED = 0.03  # m; the body's own face lies this near under another model's


class FullBodyError(FileError):
    """A face that cannot be put on a body. The message is one sentence for the user."""


@dataclass(frozen=True)
class _PlacedFace:
    """A face model in the body's rest frame, and what of the body makes way for it.

    vertices [W, 3] m, shape_basis [S, W, 3] and expression_basis [E, W, 3]: the model's, moved there
    removed [F]: which of the body's faces it replaces
    seam: {face vertex: (body vertices)}: one it coincides with, or two that it lies in the middle of; empty where a gap stays
    """

    vertices: np.ndarray
    shape_basis: np.ndarray
    expression_basis: np.ndarray
    removed: np.ndarray
    seam: dict


def full_body_template(file, face, bridge=None):
    """The character of a body with a face: `CharacterTemplate`.

    file: `BodyModelFile`; face: `MorphableModel`. bridge: a face made from this body, whose points of the face mesh say where
    another model's belong; needed for a face that was not made from this body. Raises `FullBodyError`.
    """
    base = to_character_template(file)
    placed = _place(file, base, face, bridge)
    joined = _Joined(base, face, placed)
    share = _share_of_face(face, placed)
    near = _on_body(base, placed)

    def blended(of_body, of_face):
        """Rows of the body where the face follows it, going over to the face's own."""
        amount = share.reshape(-1, *[1] * (of_face.ndim - 1))
        return (1 - amount) * _interpolated(near, of_body) + amount * of_face

    with_head = np.zeros((len(share), base.weights.shape[1]))
    with_head[:, JOINT_INDEX["head"]] = 1
    skin = _skin_share(face)
    moved = _as_one(placed.vertices, _interpolated(near, base.shapedirs), skin)
    mean, directions, distance = _colours(face, base, joined, placed)
    fade = share[:, None].astype(np.float32)
    return replace(
        base,
        vertices=joined.rows(base.vertices, placed.vertices).astype(np.float32),
        faces=joined.faces,
        uv=joined.uv,
        weights=joined.rows(base.weights, blended(base.weights, with_head)).astype(np.float32),
        shapedirs=joined.rows(base.shapedirs, blended(base.shapedirs, moved)).astype(np.float32),
        face_vertices=joined.face_vertices,
        face_shapedirs=placed.shape_basis * fade,
        expression_names=tuple(face.expression_names),
        expression_limits=face.expression_limits,
        expressiondirs=placed.expression_basis * fade,
        albedo_mean=mean,
        albedodirs=directions,
        body_skin=joined.rows(smoothstep(distance, 0, BAND), np.zeros(len(share))).astype(np.float32),
        eyeballs=joined.face_rows(np.maximum(face.region("eyeballs"), face.region("irises"))).astype(np.float32),
        meta=_describe(file, face),
    )


def _describe(file, face):
    names = [str(model.meta.get("name") or "unnamed") for model in (file, face)]
    licences = dict.fromkeys(str(model.meta.get("licence") or "unknown") for model in (file, face))
    return {
        "name": " + ".join(names),
        "licence": "; ".join(licences),
        "body_sha256": file.sha256,
        "face_sha256": face.sha256,
        "face_name": names[1],
    }


# Where the face belongs.


def _place(file, base, face, bridge):
    if _made_from(file, face):
        removed = np.zeros(len(base.faces), bool)
        removed[face.meta["body_quads"]] = True
        seam = dict(zip(np.asarray(face.boundary).tolist(), face.meta["body_boundary"]))
        return _PlacedFace(np.asarray(face.mean, float), face.shape_basis, face.expression_basis, removed, seam)
    if bridge is None or not _made_from(file, bridge):
        raise FullBodyError("This face was not made from this body, and nothing says where on it the face belongs.")
    both = face.has_mesh_points & bridge.has_mesh_points
    if both.sum() < 4:
        raise FullBodyError("The face model names too few points of the face mesh to be put on a body.")
    turn, shift = _similarity(face.mesh_points.mean[both], bridge.mesh_points.mean[both])
    vertices = face.mean @ turn.T + shift
    turned = [basis @ turn.T.astype(np.float32) for basis in (face.shape_basis, face.expression_basis)]
    return _PlacedFace(vertices, *turned, _covered(base, vertices, face), {})


def _made_from(file, face):
    """Whether a face says which of this body's quads it replaces, and its edge does lie on the body's edges."""
    quads, ends = face.meta.get("body_quads"), face.meta.get("body_boundary")
    if not quads or not ends or len(ends) != len(face.boundary) or max(quads) >= len(file.quads):
        return False
    if max(max(pair) for pair in ends) >= len(file.v_template):
        return False
    places = np.array([np.mean(file.v_template[list(pair)], 0) for pair in ends])
    return bool(np.abs(places - face.mean[face.boundary]).max() < _SAME_PLACE)


def _similarity(points, targets):
    """The scaled turn [3, 3] and shift [3] that bring points [N, 3] nearest to targets [N, 3] (Umeyama 1991)."""
    centre, target_centre = points.mean(0), targets.mean(0)
    points, targets = points - centre, targets - target_centre
    rotation = nearest_rotation(points, targets)
    turn = rotation * (np.sum(points @ rotation.T * targets) / np.square(points).sum())
    return turn, target_centre - turn @ centre


def _covered(base, vertices, face):
    """Which of the body's faces [F] lie under a face model: near it, and not nearest to its outer edge."""
    corners = base.faces >= 0
    centres = (base.vertices[base.faces] * corners[..., None]).sum(1) / corners.sum(1, keepdims=True)
    distance, nearest = cKDTree(vertices).query(centres)
    return (distance < _COVERED) & ~np.isin(nearest, face.boundary)


# One mesh of both.


class _Joined:
    """The joined mesh: first the body's vertices that remain, then the face's that are not among them."""

    def __init__(self, base, face, placed):
        body_count, face_count = len(base.vertices), len(face.mean)
        # Numbers until the mesh is packed: the body's vertices, then the face's; a face vertex on a body vertex is that one.
        own = body_count + np.arange(face_count)
        for vertex, ends in placed.seam.items():
            if len(ends) == 1:
                own[vertex] = ends[0]
        rest, rest_uv = _split_beside(base, placed, own)
        faces = np.asarray(face.faces)
        own_faces = np.where(faces >= 0, own[faces], -1)
        joined = _four_wide(np.concatenate([_four_wide(rest), _four_wide(own_faces)]))
        self.uv = np.concatenate([rest_uv, _four_wide(_uv_from_body(base, placed, faces), 0)]).astype(np.float32)
        used = np.union1d(joined[joined >= 0], own)
        packed = np.zeros(body_count + face_count, np.int32)
        packed[used] = np.arange(len(used))
        self.faces = np.where(joined >= 0, packed[joined], -1).astype(np.int32)
        self.face_vertices = packed[own].astype(np.int32)
        self.body_vertices = used[used < body_count]
        self._new = own >= body_count

    @property
    def count(self):
        return len(self.body_vertices) + int(self._new.sum())

    @property
    def outside(self):
        """Which of the template's vertices [V] the face does not have."""
        outside = np.ones(self.count, bool)
        outside[self.face_vertices] = False
        return outside

    def rows(self, of_body, of_face):
        """One row a vertex [V, ...]: the body's where it remains, also on the seam, the face's elsewhere."""
        return np.concatenate([np.asarray(of_body)[self.body_vertices], np.asarray(of_face)[self._new]])

    def face_rows(self, of_face):
        """The face's rows [W, ...] on its vertices, zero elsewhere: [V, ...]."""
        rows = np.zeros((self.count, *np.shape(of_face)[1:]), np.float32)
        rows[self.face_vertices] = of_face
        return rows


def _split_beside(base, placed, own):
    """The body's remaining faces [F', 4], cut where a face's vertex lies in the middle of an edge, and their uv [F', 4, 2]."""
    halved = {tuple(sorted(ends)): int(own[vertex]) for vertex, ends in placed.seam.items() if len(ends) == 2}
    rest, rest_uv = _four_wide(base.faces[~placed.removed]), _four_wide(base.uv[~placed.removed], 0)
    halves = np.array(list(halved), int).reshape(-1, 2)
    beside = np.flatnonzero(np.isin(rest, halves).sum(1) >= 2)
    cut, faces, uv = np.zeros(len(rest), bool), [], []
    for number in beside:
        corners = rest[number].tolist()
        if -1 in corners:
            continue  # only bodies of triangles have these, and no face is made from one
        pieces = split_at(corners, halved)
        if len(pieces) > 1:
            cut[number] = True
            places = dict(zip(corners, rest_uv[number]))
            for first, second in zip(corners, corners[1:] + corners[:1]):
                if (middle := halved.get((min(first, second), max(first, second)))) is not None:
                    places[middle] = (places[first] + places[second]) / 2
            faces += pieces
            uv += [[places.get(vertex, (0, 0)) for vertex in piece] for piece in pieces]
    return (
        np.concatenate([rest[~cut], np.array(faces, int).reshape(-1, 4)]),
        np.concatenate([rest_uv[~cut], np.array(uv, float).reshape(-1, 4, 2)]),
    )


def _four_wide(faces, padding=-1):
    """Faces [F, 3 or 4, ...] with four columns."""
    if faces.shape[1] == 4:
        return faces
    return np.concatenate([faces, np.full_like(faces[:, :1], padding)], 1)


def _body_triangles(base, placed):
    """Triangles [T, 3] of the body's faces that are removed, and their uv [T, 3, 2]."""
    faces, uv = base.faces[placed.removed], base.uv[placed.removed]
    if faces.shape[1] == 3:
        return faces, uv
    second = faces[:, 3] >= 0
    return triangulate(faces), np.concatenate([uv[:, :3], uv[second][:, [0, 2, 3]]])


def _uv_from_body(base, placed, faces):
    """Texture coordinates [F, N, 2] of the face's faces: those of the removed surface under each."""
    triangles, uv = _body_triangles(base, placed)
    present = faces >= 0
    corners = placed.vertices[faces]
    centres = (corners * present[..., None]).sum(1) / present.sum(1, keepdims=True)
    under = nearest_on_surface(centres, base.vertices, triangles)[0]
    first, sides = base.vertices[triangles[under, 0]], base.vertices[triangles[under, 1:]]
    steps = np.linalg.pinv((sides - first[:, None]).astype(float))  # [F, 3, 2]: from a place to its share of each side
    along = (corners - first[:, None]) @ steps
    weights = np.concatenate([1 - along.sum(-1, keepdims=True), along], -1)
    # A corner far outside the triangle under its face's middle says nothing: it is drawn towards that triangle.
    outward = weights - 1 / 3
    weights = 1 / 3 + outward / np.maximum(np.abs(outward).max(-1, keepdims=True), 1)
    return np.einsum("fnk,fkc->fnc", weights, uv[under]) * present[..., None]


# How the face moves.


def _on_body(base, placed):
    """Sparse rows [W, V] that sum to 1: where on the body's removed face each of the face's vertices lies."""
    triangles = _body_triangles(base, placed)[0]
    nearest, weights, _ = nearest_on_surface(placed.vertices, base.vertices, triangles)
    columns = triangles[nearest]
    for vertex, ends in placed.seam.items():  # exactly, whatever the triangles beside it are
        columns[vertex], weights[vertex] = [ends[0], ends[-1], ends[-1]], [0.5, 0.5, 0]
    rows = np.repeat(np.arange(len(columns)), 3)
    return coo_matrix((weights.ravel(), (rows, columns.ravel())), (len(columns), len(base.vertices))).tocsr()


def _interpolated(rows, values):
    """Sparse rows [W, V] times values [V, ...]."""
    return (rows @ values.reshape(len(values), -1)).reshape(-1, *values.shape[1:])


def _share_of_face(face, placed):
    """How far [W] each vertex moves as the face's alone: 0 at the outer edge, 1 from the band's end on, and in what hangs apart."""
    if not len(face.boundary):
        return np.ones(len(face.mean))
    ends = face.triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    ends = np.unique(np.sort(ends, 1), axis=0)
    lengths = np.linalg.norm(placed.vertices[ends[:, 0]] - placed.vertices[ends[:, 1]], axis=-1)
    graph = csr_matrix((np.maximum(lengths, 1e-9), ends.T), (len(face.mean),) * 2)
    distance = dijkstra(graph, directed=False, indices=face.boundary, min_only=True, limit=BAND)
    return smoothstep(distance, 0, BAND)


def _skin_share(face):
    share = face.region("skin")
    return share if share.any() else np.ones(len(face.mean), np.float32)


def _as_one(vertices, directions, share):
    """The best shift and scale [W, 3, B] in place of each direction [W, 3, B] in which a body's betas move its face.

    Who somebody is, the face's own shape says: if betas changed the features too, they would be changed twice.
    """
    share = share / share.sum()
    arms = vertices - share @ vertices
    shift = np.einsum("w,wcb->cb", share, directions)
    scale = np.einsum("w,wc,wcb->b", share, arms, directions) / (share @ np.square(arms).sum(1))
    return shift + arms[:, :, None] * scale


# What colour it has.


def _colours(face, base, joined, placed):
    """Mean [V, 3] and directions [A, V, 3] of the whole surface's colour, and each body vertex's distance from the face, m.

    On the face they are the model's. Outside, near the edge, they are those of the edge beside, and further away the mean of
    the edge's. All of it is linear, so that for every person the body has its face's colour at the seam.
    """
    edge = np.asarray(face.boundary) if len(face.boundary) else np.flatnonzero(_skin_share(face) > 0.5)
    distances, nearest = cKDTree(placed.vertices[edge]).query(base.vertices, k=min(8, len(edge)))
    near = 1 / np.maximum(distances, 1e-6) ** 2
    near *= (1 - smoothstep(distances[:, :1], 0, COLOUR_BAND)) / near.sum(1, keepdims=True)
    rows = np.repeat(np.arange(len(near)), near.shape[1])
    from_edge = coo_matrix((near.ravel(), (rows, nearest.ravel())), (len(near), len(edge))).tocsr()[joined.body_vertices]
    share_of_mean = 1 - np.asarray(from_edge.sum(1))
    outside = joined.outside

    def extended(values):
        whole = joined.face_rows(values)
        on_edge = values[edge]
        body = from_edge @ on_edge + share_of_mean * on_edge.mean(0)
        keep = outside[: len(body)]
        whole[: len(body)][keep] = body[keep]
        return whole

    directions = np.array([extended(basis) for basis in face.albedo_basis], np.float32)
    return extended(face.albedo_mean), directions.reshape(-1, joined.count, 3), distances[:, 0]
