"""One mesh of a body and a face: its faces, its vertices' new numbers, and its texture coordinates. numpy only."""

import numpy as np

from .bridge import BridgeError
from .surface import face_edges, nearest_on_surface, split_at, triangulate


class JoinedMesh:
    """First the body's vertices that remain, then the face's that are not among them; V in all.

    faces [F, 4] with -1 for a missing fourth corner, and uv [F, 4, 2]: the body's that remain, the face's, the strip's
    body_vertices [X]: the body's that remain, and so the first X; body_count: X; count: V
    face_vertices [W], body_boundary [B]: the numbers of the face's vertices, and of those on the body's boundary
    """

    def __init__(self, body, removed, face, recipe):
        """body: `CharacterTemplate`; removed [F]: its faces that are not there; face: `MorphableModel` in its place."""
        body_count = len(body.vertices)
        # Numbers until the mesh is packed: the body's vertices, then the face's; a face vertex on a body vertex is that one.
        own = body_count + np.arange(len(face.mean))
        ends = recipe.body_boundary[recipe.sewn]
        if len(ends):
            on_vertex = ends[:, 0] == ends[:, 1]
            own[face.boundary[on_vertex]] = ends[on_vertex, 0]
        places = np.concatenate([body.vertices, face.mean])
        rest, rest_uv = _split_beside(
            _four_wide(body.faces[~removed]), _four_wide(body.uv[~removed], 0), ends, own[face.boundary], places
        )
        own_faces = _four_wide(np.where(face.faces >= 0, own[face.faces], -1))
        loops = recipe.body_boundary, own[face.boundary]
        strip = np.append(np.concatenate(loops), -1)[recipe.strip]
        if len(strip):
            strip = _facing_outwards(strip, np.concatenate([rest, own_faces]), loops)
        new_uv = _uv_under(body, removed, places, np.concatenate([own_faces, strip]))
        _take_uv_beside(new_uv[len(own_faces) :], strip, body_count, rest, rest_uv)
        joined = np.concatenate([rest, own_faces, strip])
        used = np.union1d(joined[joined >= 0], own)
        packed = np.zeros(body_count + len(own), np.int32)
        packed[used] = np.arange(len(used))
        self.faces = np.where(joined >= 0, packed[joined], -1).astype(np.int32)
        self.uv = np.concatenate([rest_uv, new_uv]).astype(np.float32)
        self.face_vertices, self.body_boundary = packed[own], packed[recipe.body_boundary]
        self.body_vertices = used[used < body_count]
        self.body_count, self.count = len(self.body_vertices), len(used)
        self._new = own >= body_count

    def rows(self, of_body, of_face):
        """One row a vertex [V, ...]: the body's where it remains, also on the seam, the face's elsewhere."""
        return np.concatenate([np.asarray(of_body)[self.body_vertices], np.asarray(of_face)[self._new]])

    def face_rows(self, of_face):
        """The face's rows [W, ...] on its vertices, zero elsewhere: [V, ...] float32."""
        rows = np.zeros((self.count, *np.shape(of_face)[1:]), np.float32)
        rows[self.face_vertices] = of_face
        return rows


def _four_wide(faces, padding=-1):
    """Faces [F, 3 or 4, ...] with four columns."""
    if faces.shape[1] == 4:
        return faces
    return np.concatenate([faces, np.full_like(faces[:, :1], padding)], 1)


def _split_beside(faces, uv, ends, seam, places):
    """Faces [F', 4] and uv [F', 4, 2], cut where a vertex of the seam [L] lies amid the edge between its `ends` [L, 2].

    places [., 3] m: of the vertices.
    """
    halved = {(min(pair), max(pair)): vertex for pair, vertex in zip(ends.tolist(), seam.tolist()) if pair[0] != pair[1]}
    beside = np.flatnonzero(np.isin(faces, ends).sum(1) >= 2)
    cut, pieces, pieces_uv = np.zeros(len(faces), bool), [], []
    for number in beside:
        corners = [corner for corner in faces[number].tolist() if corner >= 0]
        parts = split_at(corners, halved, places)
        if len(parts) > 1:
            cut[number] = True
            corner_uv = dict(zip(corners, uv[number]))
            for first, second in zip(corners, corners[1:] + corners[:1]):
                if (middle := halved.get((min(first, second), max(first, second)))) is not None:
                    corner_uv[middle] = (corner_uv[first] + corner_uv[second]) / 2
            pieces += parts
            pieces_uv += [[corner_uv.get(vertex, (0, 0)) for vertex in part] for part in parts]
    return (
        np.concatenate([faces[~cut], np.array(pieces, int).reshape(-1, 4)]),
        np.concatenate([uv[~cut], np.array(pieces_uv, float).reshape(-1, 4, 2)]),
    )


# The strip.


def _facing_outwards(strip, faces, loops):
    """The strip [S, 4] as it goes round against its neighbours among `faces`. Raises `BridgeError` where it closes no gap."""
    count = max(faces.max(), strip.max()) + 1
    place, back = np.array([count, 1]), np.array([1, count])
    seam = np.concatenate([np.stack([loop, np.roll(loop, -1)], -1) for loop in loops])
    edges, beside = face_edges(strip)[0], face_edges(faces)[0]
    beside = beside[np.isin(beside @ place, np.concatenate([seam @ place, seam @ back]))]
    if np.isin(edges @ place, beside @ place).sum() > np.isin(edges @ back, beside @ place).sum():
        strip, edges = _turned_over(strip), edges[:, ::-1]
    both = np.concatenate([edges, beside])
    if not np.array_equal(np.sort(both @ place), np.unique(both @ back)):
        raise BridgeError("The strip of the bridge does not close the gap between the two boundaries: bridge them again.")
    return strip


def _turned_over(faces):
    """Faces [F, 4] with -1 padding, the other way round."""
    triangles, quads = faces[:, [0, 2, 1, 3]], faces[:, [0, 3, 2, 1]]
    return np.where(faces[:, 3:] < 0, triangles, quads)


def _take_uv_beside(uv, strip, body_count, faces, faces_uv):
    """Gives a strip's [S, 4] corners on the body, in place, the uv that is nearest to their own of those in the `faces` beside."""
    of_body = (strip >= 0) & (strip < body_count)
    beside = np.isin(faces, strip[of_body])
    misfit = np.abs(uv[of_body][:, None] - faces_uv[beside]).sum(-1)
    misfit[strip[of_body][:, None] != faces[beside]] = np.inf
    if misfit.size:
        uv[of_body] = faces_uv[beside][misfit.argmin(1)]


# The texture.


def _uv_under(body, removed, vertices, faces):
    """Texture coordinates [F, 4, 2] of `faces` of `vertices` [V, 3]: those of the body's removed surface under each."""
    triangles, uv = _triangles_with_uv(body.faces[removed], body.uv[removed])
    present = faces >= 0
    corners = vertices[faces]
    centres = (corners * present[..., None]).sum(1) / present.sum(1, keepdims=True)
    under = nearest_on_surface(centres, body.vertices, triangles)[0]
    first, sides = body.vertices[triangles[under, 0]], body.vertices[triangles[under, 1:]]
    steps = np.linalg.pinv((sides - first[:, None]).astype(float))  # [F, 3, 2]: from a place to its share of each side
    along = (corners - first[:, None]) @ steps
    weights = np.concatenate([1 - along.sum(-1, keepdims=True), along], -1)
    # A corner far outside the triangle under its face's middle says nothing: it is drawn towards that triangle.
    outward = weights - 1 / 3
    weights = 1 / 3 + outward / np.maximum(np.abs(outward).max(-1, keepdims=True), 1)
    return np.einsum("fnk,fkc->fnc", weights, uv[under]) * present[..., None]


def _triangles_with_uv(faces, uv):
    """Triangles [T, 3] of faces [F, N], and their uv [T, 3, 2]."""
    if faces.shape[1] == 3:
        return faces, uv
    second = faces[:, 3] >= 0
    return triangulate(faces), np.concatenate([uv[:, :3], uv[second][:, [0, 2, 3]]])
