"""A body with a face of its own: the body's face is cut out and a 3DMM stands in its place (Zhou et al. 2021, Sec. 3.1, Fig. 3).

A `BridgeRecipe` says where the two are cut and what closes the gap. No vertex is made: the whole has the body's vertices that
remain and the face's that are kept, each with what it carries (weights, shapes, colours). The face turns with the head alone, and
over bands along the seam body and face go over into each other. numpy only: Blender composes with it, too.
"""

from dataclasses import replace

import numpy as np

from .bridge import BridgeError, sides
from .easing import smoothstep
from .fairing import faired
from .full_body_colours import colours
from .joined_mesh import JoinedMesh
from .surface import beside_edge, distance_along, distances, nearest_on_surface, parts_between, triangulate

BAND = 0.025
"""m from the face's edge to where the body's colour may be chosen by hand."""

CARRY_BAND = 0.1
"""m, along the surface, from the face's edge to where its shape and expressions move the body no more. Under an open jaw the
throat goes down by three centimetres: over a shorter way it would fold."""

WEIGHT_BAND = 0.12
"""m, along the body's surface, from its boundary to where it turns as the body did: under a chin that turns with the head alone,
over a shorter way the throat would fold."""

FAIR_BAND = 0.025
"""m, along the body's surface, from its boundary to where it is as it was."""

_OF_HEAD = 0.5  # a vertex of more weight than this hangs on the head


def full_body_template(body, face, recipe):
    """The character of a body with a face: `CharacterTemplate`.

    body: `CharacterTemplate` of the body alone; face: `MorphableModel`; recipe: `BridgeRecipe` of the two. Where that is not
    bridged yet, the gap stays open. Raises `BridgeError`.
    """
    recipe.check(body.faces, len(body.vertices), face.faces, len(face.mean))
    if len(recipe.sewn) and not recipe.lies_on(body.vertices, face.mean):
        raise BridgeError("The face's edge does not lie on the body's, so it cannot be sewn in: bridge the two.")
    meta = _describe(body, face)
    face, removed = placed_face(face, recipe), removed_faces(body, recipe)
    joined = JoinedMesh(body, removed, face, recipe)
    vertices = _vertices(body, face, joined, recipe)
    carried, carry = _carried(vertices, face, joined)
    own = _own_share(body, removed, recipe)

    def with_carried(basis):
        return np.concatenate([basis, carry(basis[:, face.boundary])], 1)

    mean, directions, distance = colours(body, face, joined)
    return replace(
        body,
        vertices=vertices,
        faces=joined.faces,
        uv=joined.uv,
        weights=joined.rows(_weights_outside(body, own), _head_alone(body)[None].repeat(len(face.mean), 0)),
        shapedirs=_shapedirs(body, removed, face, joined, carried, carry),
        posedirs=joined.rows(
            own[:, None, None] * body.posedirs, np.zeros((len(face.mean), *body.posedirs.shape[1:]), np.float32)
        ),
        face_vertices=joined.face_vertices,
        carried_vertices=carried,
        face_shapedirs=with_carried(face.shape_basis),
        expression_names=tuple(face.expression_names),
        expression_limits=face.expression_limits,
        expressiondirs=with_carried(face.expression_basis),
        albedo_mean=mean,
        albedodirs=directions,
        body_skin=joined.rows(smoothstep(distance, 0, BAND), np.zeros(len(face.mean))).astype(np.float32),
        eyeballs=joined.face_rows(np.maximum(face.region("eyeballs"), face.region("irises"))),
        meta=meta,
    )


def _describe(body, face):
    names = [str(model.meta.get("name") or "unnamed") for model in (body, face)]
    licences = dict.fromkeys(str(model.meta.get("licence") or "unknown") for model in (body, face))
    return {
        "name": " + ".join(names),
        "licence": "; ".join(licences),
        "body_sha256": body.meta.get("body_sha256"),
        "face_sha256": face.sha256,
        "face_name": names[1],
    }


# What of either there is.


def kept_face_vertices(face, recipe):
    """Which of a face model's vertices [W] the whole has, in its order: all but those beyond the boundary."""
    return _vertices_beside(face, _kept_faces(face, recipe))


def _vertices_beside(face, kept):
    lost = np.setdiff1d(face.faces[~kept], face.faces[kept])
    return np.setdiff1d(np.arange(len(face.mean)), lost)


def placed_face(face, recipe):
    """The part of a `MorphableModel` that is kept, in the body's rest frame: another, without mesh points."""
    kept_faces = _kept_faces(face, recipe)
    kept, faces = _vertices_beside(face, kept_faces), face.faces[kept_faces]
    number = np.full(len(face.mean), -1)
    number[kept] = np.arange(len(kept))
    return replace(
        face,
        mean=recipe.place(face.mean[kept]),
        faces=np.where(faces >= 0, number[faces], -1),
        shape_basis=recipe.turn(face.shape_basis[:, kept]),
        expression_basis=recipe.turn(face.expression_basis[:, kept]),
        albedo_mean=face.albedo_mean[kept],
        albedo_basis=face.albedo_basis[:, kept],
        mesh_vertices=None,
        mesh_weights=None,
        regions={name: share[kept] for name, share in face.regions.items()},
        boundary=number[recipe.face_boundary],
    )


def _kept_faces(face, recipe):
    """Which of a face model's faces [F] are kept: the side of the boundary with most points of the face mesh, and what is in it."""
    smaller, larger = sides(face.faces, recipe.face_boundary)
    points = np.take_along_axis(face.mesh_vertices, face.mesh_weights.argmax(1)[:, None], 1)[face.has_mesh_points]
    if np.isin(points, face.faces[smaller]).sum() > np.isin(points, face.faces[larger]).sum():
        smaller, larger = larger, smaller
    return larger | _pieces_beside(face.mean, face.faces, larger, smaller)


def removed_faces(body, recipe):
    """Which of a body's faces [F] a face replaces: the smaller side of the boundary, and what of the head is in it.

    Raises `BridgeError`.
    """
    smaller, larger = sides(body.faces, recipe.body_boundary)
    if not smaller.any():
        raise BridgeError("The body boundary encloses nothing: annotate it again.")
    apart = _pieces_beside(body.vertices, body.faces, smaller, larger)
    of_head = body.weights[:, body.joint_names.index("head")] > _OF_HEAD
    return smaller | (apart & np.where(body.faces >= 0, of_head[body.faces], True).all(1))


def _pieces_beside(vertices, faces, side, other):
    """Which faces [F] are of a piece apart (an eyeball, teeth) most of which is nearer to one side of a loop than to the other."""
    result = ~(side | other)
    if not other.any() or not result.any():
        return result
    apart = np.flatnonzero(result)
    part = parts_between(faces[apart])
    corners = faces[apart, 0]
    nearer = _nearest_distance(vertices, corners, faces[side]) <= _nearest_distance(vertices, corners, faces[other])
    result[apart] = (np.bincount(part, nearer) > 0.5 * np.bincount(part))[part]
    return result


def _nearest_distance(vertices, chosen, faces):
    """Distance [P] m from each of the `chosen` vertices to the nearest of the faces'."""
    others = np.unique(faces[faces >= 0])
    places, which = np.unique(chosen, return_inverse=True)
    blocks = np.array_split(places, 1 + len(places) // 512)
    return np.concatenate([distances(vertices[block], vertices[others]).min(1) for block in blocks])[which]


# How the whole moves.


def _own_share(body, removed, recipe):
    """How far [V] the body's vertices turn as the body did: 0 on the boundary, where they turn with the head, to 1."""
    distance = distance_along(body.vertices, body.faces[~removed], recipe.body_boundary, WEIGHT_BAND)
    return smoothstep(distance, 0, WEIGHT_BAND).astype(np.float32)


def _weights_outside(body, own):
    """Weights [V, J] of the body's vertices: their `own` share [V] of their own, and the head's alone."""
    return own[:, None] * body.weights + (1 - own[:, None]) * _head_alone(body)


def _head_alone(body):
    weights = np.zeros(len(body.joint_names), np.float32)
    weights[body.joint_names.index("head")] = 1
    return weights


def _shapedirs(body, removed, face, joined, carried, carry):
    """How betas move the whole [V, 3, B]: the face as one, and the body as its own, but what the face's edge carries along.

    Who somebody is, the face's own shape says: if betas changed the features too, they would be changed twice.
    """
    triangles = triangulate(body.faces[removed])
    nearest, weights, _ = nearest_on_surface(face.mean, body.vertices, triangles)
    under = np.einsum("wk,wkcb->wcb", weights, body.shapedirs[triangles[nearest]])
    as_one = _as_one(face.mean, under, face.region("skin") if face.region("skin").any() else np.ones(len(face.mean)))
    whole = joined.rows(body.shapedirs, as_one).astype(np.float32)
    whole[joined.face_vertices] = as_one
    whole[carried] += np.moveaxis(carry(np.moveaxis((as_one - under)[face.boundary], -1, 0)), 0, -1)
    return whole


def _as_one(vertices, directions, share):
    """The best shift and scale [W, 3, B] in place of each direction [W, 3, B], the vertices counting by their share [W]."""
    share = share / share.sum()
    arms = vertices - share @ vertices
    shift = np.einsum("w,wcb->cb", share, directions)
    scale = np.einsum("w,wc,wcb->b", share, arms, directions) / (share @ np.square(arms).sum(1))
    return shift + arms[:, :, None] * scale


def _carried(vertices, face, joined):
    """The body's vertices [C] that the face's edge carries along, and what gives their rows [N, C, 3] for the edge's [N, L, 3].

    The face moves wholly as its model says, and what is beside it with the edge that is near, the less the further away.
    """
    distance = distance_along(vertices, joined.faces, joined.face_vertices[face.boundary], CARRY_BAND)
    carried = np.setdiff1d(np.flatnonzero(distance < CARRY_BAND), joined.face_vertices)
    nearest, share, _ = beside_edge(vertices[carried], face.mean[face.boundary])
    share = (share * (1 - smoothstep(distance[carried], 0, CARRY_BAND))[:, None]).astype(np.float32)

    def carry(of_edge):
        return np.einsum("ck,nckx->ncx", share, of_edge[:, nearest])

    return carried.astype(np.int32), carry


# How it looks at rest.


def _vertices(body, face, joined, recipe):
    """The whole's vertices [V, 3]: both models' own, but those of the body beside a bridge, which are smoothed across it."""
    vertices = joined.rows(body.vertices, face.mean)
    if len(recipe.strip):
        seam = np.concatenate([joined.body_boundary, joined.face_vertices[face.boundary]])
        distance = distance_along(vertices, joined.faces, seam, FAIR_BAND)
        free = np.setdiff1d(np.flatnonzero(distance < FAIR_BAND), joined.face_vertices)
        vertices = faired(vertices, joined.faces, free, distance, FAIR_BAND)
    return vertices.astype(np.float32)
