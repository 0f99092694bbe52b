"""Faces for the open body that tests make themselves: one cut from it, to be sewn in, and a foreign one with a bridge."""

import numpy as np

from fullbody_core.contract.bridge import BridgeRecipe, fingerprint
from fullbody_core.contract.frames import axis_angle_to_matrix
from fullbody_core.contract.morphable import MorphableModel
from fullbody_core.contract.skeleton import MESH_POINTS
from fullbody_core.contract.surface import triangulate
from fullbody_core.face.subdivision import outer_loops, subdivide

RADIUS, INNER_RADIUS = 0.08, 0.055
"""m around the top of the head: the part that is cut out, and of it what a foreign face keeps."""


def top_of_head(body):
    """Which of the open body's quads [Q], within RADIUS."""
    rest = np.asarray(body.v_template, float)
    return np.linalg.norm(rest[body.quads].mean(1) - rest[body.landmarks["head_top"]], axis=-1) < RADIUS


def cut_face(body, seed=0, shapes=5, expressions=4, albedos=6):
    """A `MorphableModel` of the top of the body's head, refined once, with random bases: built as the open face is, but small."""
    rng = np.random.default_rng(seed)
    chosen = top_of_head(body)
    vertices, local = np.unique(body.quads[chosen], return_inverse=True)
    matrix, faces, _ = subdivide(local.reshape(-1, 4), len(vertices))
    (edge,) = outer_loops(faces)
    mean = matrix @ np.asarray(body.v_template, float)[vertices]
    count = len(mean)
    return MorphableModel(
        mean=mean.astype(np.float32),
        faces=faces.astype(np.int32),
        shape_basis=smooth_fields(rng, mean, shapes),
        expression_basis=smooth_fields(rng, mean, expressions),
        expression_names=tuple(f"expression {number}" for number in range(expressions)),
        expression_limits=np.tile(np.float32([-0.5, 1.5]), (expressions, 1)),
        albedo_mean=rng.uniform(0.2, 0.5, (count, 3)).astype(np.float32),
        albedo_basis=rng.normal(0, 0.02, (albedos, count, 3)).astype(np.float32),
        mesh_vertices=rng.integers(0, count, (MESH_POINTS, 3)).astype(np.int32),
        mesh_weights=rng.dirichlet([1, 1, 1], MESH_POINTS).astype(np.float32),
        regions={"skin": np.ones(count, np.float32)},
        boundary=np.array(edge, np.int32),
        meta={
            "name": "cut face",
            "licence": "none",
            "body_quads": np.flatnonzero(chosen).tolist(),
            "body_boundary": [sorted(vertices[matrix[row].indices[matrix[row].data > 1e-9]].tolist()) for row in edge],
        },
    )


def smooth_fields(rng, places, count, size=0.002):
    """Random displacements [count, V, 3] m of places [V, 3] that go on evenly, as faces' do."""
    waves, strengths = rng.normal(0, 10, (count, 12, 3)), rng.normal(size=(count, 12, 3))
    fields = np.einsum("kwv,kwc->kvc", np.sin(waves @ places.T + rng.uniform(0, 2 * np.pi, (count, 12, 1))), strengths)
    return (size * fields / fields.std((1, 2), keepdims=True)).astype(np.float32)


def foreign_pair(body, base, seed=0):
    """(face, `BridgeRecipe`): a face of another mesh, size and place, that reaches beyond the boundary it is cut at.

    It is the cut face of triangles, unevenly shaken, in centimetres and turned; between the boundaries is a gap of 1 to 2 cm.
    """
    rng = np.random.default_rng(seed)
    face = cut_face(body, seed)
    face.faces = triangulate(face.faces)
    inner = (
        np.linalg.norm(face.mean[face.faces].mean(1) - body.v_template[body.landmarks["head_top"]], axis=-1) < INNER_RADIUS
    )
    (face_loop,) = outer_loops(face.faces[inner])
    face.mesh_vertices = rng.choice(face.faces[inner].ravel(), (MESH_POINTS, 3)).astype(np.int32)
    (body_loop,) = outer_loops(body.quads[top_of_head(body)])
    places = face.mean + rng.normal(0, 0.0003, face.mean.shape)
    rotation, translation, scale = axis_angle_to_matrix([0.3, -1.2, 0.5]), np.array([0.1, -0.2, 0.3]), 0.01
    face.mean = ((places - translation) @ rotation / scale).astype(np.float32)
    for name in ("shape_basis", "expression_basis"):
        setattr(face, name, (getattr(face, name) @ rotation / scale).astype(np.float32))
    face.meta = {"name": "foreign face", "licence": "none"}
    recipe = BridgeRecipe(
        body_name="open",
        body_fingerprint=fingerprint(base.faces, len(base.vertices)),
        face_name="foreign face",
        face_fingerprint=fingerprint(face.faces, len(face.mean)),
        body_boundary=body_loop,
        face_boundary=face_loop,
        scale=scale,
        rotation=rotation,
        translation=translation,
        strip=zipped(body.v_template[body_loop], places[face_loop]),
    )
    return face, recipe


def zipped(first, second):
    """Triangles [S, 4] between two closed loops of points [B, 3] and [L, 3] that go round in one sense, as `BridgeRecipe.strip`.

    From one point of each on, it goes on along the loop where the new edge is the shorter.
    """
    start = int(np.linalg.norm(second - first[0], axis=-1).argmin())
    along, across, faces = 0, 0, []
    while along < len(first) or across < len(second):
        a, b = along % len(first), (start + across) % len(second)
        next_a, next_b = (along + 1) % len(first), (start + across + 1) % len(second)
        on_first = np.linalg.norm(first[next_a] - second[b]) < np.linalg.norm(first[a] - second[next_b])
        if across == len(second) or (along < len(first) and on_first):
            faces.append([a, next_a, len(first) + b, -1])
            along += 1
        else:
            faces.append([a, len(first) + next_b, len(first) + b, -1])
            across += 1
    return np.array(faces)
