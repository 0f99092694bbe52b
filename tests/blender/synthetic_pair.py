# SPDX-License-Identifier: GPL-3.0-or-later
"""A made-up pair to bridge: a head that is a ball on the SMPL-H tree, and a cap of another topology as its face. Numpy only."""

import numpy as np
from fullbody_mocap.contract.bridge import BridgeKit, BridgeRecipe, fingerprint
from fullbody_mocap.contract.character import CharacterTemplate
from fullbody_mocap.contract.frames import axis_angle_to_matrix
from fullbody_mocap.contract.morphable import MorphableModel
from fullbody_mocap.contract.skeleton import JOINT_NAMES, MESH_POINTS, PARENTS
from synthetic_person import rest_joints

RADIUS = 0.1  # m
BODY_RINGS, BODY_AROUND = 16, 24
FACE_RINGS, FACE_AROUND = 9, 31
FACE_ANGLE = 48.0  # degrees from the face's middle to its edge
BODY_RING = 5  # the ring of the body that is its boundary, at 5/16 of 180 degrees


def _ball(angles, around, phase=0.0):
    """Rings of a ball about z: the pole [1, 3] and a ring of `around` at each polar angle [R], degrees."""
    polar, turns = np.radians(angles)[:, None], 2 * np.pi * (np.arange(around) / around + phase)
    rings = np.stack(
        [
            np.sin(polar) * np.cos(turns),
            np.sin(polar) * np.sin(turns),
            np.broadcast_to(np.cos(polar), (len(angles), around)),
        ],
        -1,
    )
    return RADIUS * np.concatenate([[[0.0, 0, 1]], rings.reshape(-1, 3)])


def ring(number, around):
    """The vertices of ring `number` (from 1, after the pole) of a ball, in order."""
    return 1 + (number - 1) * around + np.arange(around)


def make_body():
    """The ball, of quads, as a character's body: it hangs on head and neck."""
    angles = np.arange(1, BODY_RINGS) * 180 / BODY_RINGS
    vertices = np.concatenate([_ball(angles, BODY_AROUND), [[0, 0, -RADIUS]]])
    faces = [(0, a, b, -1) for a, b in _around(ring(1, BODY_AROUND))]
    for number in range(1, BODY_RINGS - 1):
        inner, outer = _around(ring(number, BODY_AROUND)), _around(ring(number + 1, BODY_AROUND))
        faces += [(a, c, d, b) for (a, b), (c, d) in zip(inner, outer)]
    faces += [(len(vertices) - 1, b, a, -1) for a, b in _around(ring(BODY_RINGS - 1, BODY_AROUND))]
    joints = rest_joints()
    head = JOINT_NAMES.index("head")
    vertices = vertices + joints[head] + (0, 0.08, 0)
    weights = np.zeros((len(vertices), len(JOINT_NAMES)))
    weights[:, head] = np.clip(0.5 - vertices[:, 2] / RADIUS, 0.2, 1)
    weights[:, PARENTS[head]] = 1 - weights[:, head]
    rng = np.random.default_rng(0)
    fields, shifts = rng.normal(0, 0.01, (6, 3, 3)), rng.normal(0, 0.003, (6, 3))
    return CharacterTemplate(
        vertices=vertices.astype(np.float32),
        faces=np.array(faces, np.int32),
        uv=rng.uniform(0, 1, (len(faces), 4, 2)).astype(np.float32),
        joint_names=JOINT_NAMES,
        parents=np.array(PARENTS),
        joints=joints.astype(np.float32),
        weights=weights.astype(np.float32),
        shapedirs=(np.einsum("bij,vj->vib", fields, vertices) + shifts.T).astype(np.float32),
        joint_shapedirs=(np.einsum("bij,vj->vib", fields, joints) + shifts.T).astype(np.float32),
        meta={"name": "ball body", "licence": "CC0", "body_sha256": "body"},
    )


def make_face():
    """The cap, of triangles, half as large, with its middle at the origin."""
    angles = np.arange(1, FACE_RINGS + 1) * FACE_ANGLE / FACE_RINGS
    vertices = _ball(angles, FACE_AROUND, phase=0.013)
    faces = [(0, a, b) for a, b in _around(ring(1, FACE_AROUND))]
    for number in range(1, FACE_RINGS):
        inner, outer = _around(ring(number, FACE_AROUND)), _around(ring(number + 1, FACE_AROUND))
        faces += [triangle for (a, b), (c, d) in zip(inner, outer) for triangle in ((a, c, d), (a, d, b))]
    rng = np.random.default_rng(1)
    picked = rng.integers(0, ring(4, FACE_AROUND)[0], MESH_POINTS)
    return MorphableModel(
        mean=((vertices - (0, 0, RADIUS)) / 2).astype(np.float32),
        faces=np.array(faces, np.int32),
        shape_basis=rng.normal(0, 0.0005, (3, len(vertices), 3)).astype(np.float32),
        expression_basis=rng.normal(0, 0.0005, (2, len(vertices), 3)).astype(np.float32),
        expression_names=("smile", "jawOpen"),
        expression_limits=np.float32([[0, 1], [0, 1]]),
        albedo_mean=np.full((len(vertices), 3), 0.4, np.float32),
        albedo_basis=rng.normal(0, 0.02, (2, len(vertices), 3)).astype(np.float32),
        mesh_vertices=np.repeat(picked[:, None], 3, 1).astype(np.int32),
        mesh_weights=np.tile(np.float32([1, 0, 0]), (MESH_POINTS, 1)),
        boundary=ring(FACE_RINGS, FACE_AROUND).astype(np.int32),
        meta={"name": "cap face", "licence": "CC0"},
        sha256="face",
    )


def make_kit(**changes):
    """Both, the face twice as large and turned a little about the body's middle; `changes` go into the suggestion."""
    body, face = make_body(), make_face()
    rotation = axis_angle_to_matrix([0.02, -0.03, 0.4])
    translation = body.vertices[0] + (0.0, 0.0, 0.002)
    values = {
        "body_name": "ball body",
        "body_fingerprint": fingerprint(body.faces, len(body.vertices)),
        "face_name": "cap face",
        "face_fingerprint": fingerprint(face.faces, len(face.mean)),
        "body_boundary": ring(BODY_RING, BODY_AROUND),
        "face_boundary": face.boundary,
        "scale": 2.0,
        "rotation": rotation,
        "translation": translation,
    }
    recipe = BridgeRecipe(**values | changes)
    return BridgeKit(body, face, recipe, recipe.place(face.mesh_points.mean))


def _around(loop):
    return list(zip(loop.tolist(), np.roll(loop, -1).tolist()))
