"""The mesh that people are drawn with: the open body thinned out where nobody would see it, in two finenesses.

A body's model spends most of its triangles on the head and the feet, which are a few dozen pixels high in I. Vertices that fall
into the same small cell become one of themselves, so that a drawn vertex is a body's vertex with its own shape directions and
weights. Hand images show the hands as they are; everything else, and I, is drawn from the thinned mesh.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..body.lbs import KinematicTree
from ..body.surface_parts import eye_parts, hidden_parts, separate_parts
from ..contract.skeleton import FINGERS, JOINT_INDEX, SIDES
from ..contract.surface import vertex_normals
from .shells import long_hair, skirt

WHOLE, HANDS = range(2)
"""Finenesses: for I, and for hand images."""

CELLS = ((0.032, 0.009, 0.02, 0.008), (0.032, 0.009, 0.03, 0.0))
"""m: how far apart the vertices of body, head, feet and hands are, about, in each fineness; 0 leaves them as they are."""

SKIN, HAND, HEAD, EYE, HAIR, SKIRT = 0.0, 1.0, 3.0, 5.0, 7.0, 9.0
"""What a vertex is, for the shader."""


@dataclass(frozen=True)
class Surface:
    """Where the triangles of a mesh are cut from.

    vertices [M] of the body; levels: for each fineness its triangles [F, 3] between them.
    """

    vertices: np.ndarray
    levels: tuple


PARTS = ("head", "left_hand", "right_hand", "arms", "legs", "hair", "skirt")
"""What is drawn separately, so that a view leaves out what it does not show. `arms` has the trunk as well; hair is long hair."""


def thin_out(body):
    """The `Surface` of a body of the open body's topology or another."""
    rest, owner = np.asarray(body.v_template, float), body.weights.argmax(1)
    part = separate_parts(body.f, len(rest))
    feet = [JOINT_INDEX[f"{side}_{name}"] for side in SIDES for name in ("ankle", "foot")]
    regions = (owner == JOINT_INDEX["head"], np.isin(owner, feet), hand_vertices(owner))
    shown = body.f[~np.isin(part[body.f[:, 0]], hidden_parts(body, part))]
    normals = vertex_normals(rest, body.f)
    levels = []
    for body_cell, *others in CELLS:
        cell = np.full(len(rest), body_cell)
        for region, size in zip(regions, others):
            cell[region] = size
        levels.append(_collapse(shown, _representatives(rest, normals, owner, part, cell)))
    vertices, places = np.unique(np.concatenate(levels), return_inverse=True)
    levels = np.split(places.reshape(-1, 3).astype(np.int32), np.cumsum([len(level) for level in levels])[:-1])
    return Surface(vertices, tuple(levels))


def hand_vertices(owner):
    """[V] bool: the vertices that a wrist or a finger holds. owner [V]: the joint that holds most of each."""
    names = [f"{side}_wrist" for side in SIDES]
    names += [f"{side}_{finger}{segment}" for side in SIDES for finger in FINGERS for segment in (1, 2, 3)]
    return np.isin(owner, [JOINT_INDEX[name] for name in names])


def _representatives(rest, normals, owner, part, cell):
    """For each vertex the one [V] that stands for it: the nearest to the middle of those in the same cell of size `cell` [V]."""
    keep = cell == 0
    size = np.where(keep, 1, cell)[:, None]
    # Surfaces that face different ways stay apart, or thin parts such as ears and lips would collapse.
    towards = np.abs(normals).argmax(1) * 2 + (np.take_along_axis(normals, np.abs(normals).argmax(1)[:, None], 1)[:, 0] > 0)
    keys = np.concatenate([np.round(rest / size).astype(int), np.stack([owner, part, towards], 1)], 1)
    keys[keep] = 0
    keys = np.concatenate([keys, np.where(keep, np.arange(len(rest)) + 1, 0)[:, None]], 1)
    cluster = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)
    number = np.bincount(cluster)
    middle = np.stack([np.bincount(cluster, rest[:, axis]) / number for axis in range(3)], -1)
    distance = np.linalg.norm(rest - middle[cluster], axis=-1)
    order = np.lexsort((distance, cluster))
    first = np.concatenate([[True], np.diff(cluster[order]) > 0])
    return order[first][cluster]


def _collapse(faces, representatives):
    """Faces [F, 3] between the representatives, without those that have shrunk to an edge or come twice."""
    faces = representatives[faces]
    a, b, c = faces.T
    faces = faces[(a != b) & (b != c) & (c != a)]
    return faces[np.unique(np.sort(faces, 1), axis=0, return_index=True)[1]]


class PersonMesh(nn.Module):
    """The thinned surface, ready to shape and pose in batches.

    levels: for each fineness its triangles [F, 3] int32 and the place in PARTS [F] of each.
    traits [M, 8] float32, for the shader: rest place, how far the rest normal points up, kind, cavity (0 open to 1 in a crease),
    nail, and crease (1 on the lines at which fingers bend).
    """

    def __init__(self, body):
        super().__init__()
        surface, shells = thin_out(body), (long_hair(body), skirt(body))
        vertices = surface.vertices
        starts = np.cumsum([len(vertices)] + [len(shell.places) for shell in shells])
        hanging = [shell.faces + start for shell, start in zip(shells, starts)]
        self.vertices = vertices  # of the body; the shells' follow
        traits = [surface_traits(body)[vertices]] + [shell_traits(shell, kind) for shell, kind in zip(shells, (HAIR, SKIRT))]
        self.traits = np.concatenate(traits).astype(np.float32)
        part = np.concatenate(
            [vertex_parts(body)[vertices]]
            + [np.full(len(shell.places), PARTS.index(name)) for shell, name in zip(shells, ("hair", "skirt"))]
        )
        self.part_vertices = [np.flatnonzero(part == number) for number in range(len(PARTS))]
        levels = [np.concatenate([faces, *hanging]) for faces in surface.levels]
        self.levels = tuple((faces, part[faces].max(1)) for faces in levels)
        self.tree = KinematicTree(body.parents)

        def keep(name, array):
            self.register_buffer(name, torch.as_tensor(np.asarray(array), dtype=torch.float32), persistent=False)

        normals = vertex_normals(np.asarray(body.v_template, float), body.f)
        shaped = np.concatenate([vertices] + [shell.nearest for shell in shells])
        keep("template", np.concatenate([body.v_template[vertices]] + [shell.places for shell in shells]))
        keep("shapedirs", body.shapedirs[shaped].reshape(-1, body.shapedirs.shape[-1]).T)  # [S, 3 M]
        keep("normals", np.concatenate([normals[vertices]] + [shell.normals for shell in shells]))
        keep("weights", np.concatenate([body.weights[vertices]] + [shell.weights for shell in shells]))
        keep("joint_template", body.rest_joints)
        keep("joint_shapedirs", body.joint_shapedirs)

    @torch.no_grad()
    def forward(self, betas, rotations, pelvis):
        """Posed places, m, and normals of about unit length [N, M, 6], with the pelvis joint at `pelvis` [N, 3].

        The normals are the mean shape's, turned with the skin: shapes hardly turn a surface.
        """
        rest_joints = self.joint_template + torch.einsum("jcs,bs->bjc", self.joint_shapedirs, betas)
        joints, orientations = self.tree(rest_joints, rotations)
        shifts = joints - (orientations @ rest_joints[..., None])[..., 0] + (pelvis - joints[:, 0])[:, None]
        transforms = torch.cat([orientations, shifts[..., None]], -1).flatten(-2)  # [N, 52, 12]
        blended = (self.weights @ transforms).unflatten(-1, (3, 4))  # [N, M, 3, 4]
        rest = self.template + (betas @ self.shapedirs).unflatten(-1, (-1, 3))
        places = (blended[..., :3] @ rest[..., None])[..., 0] + blended[..., 3]
        normals = (blended[..., :3] @ self.normals[..., None])[..., 0]
        return torch.cat([places, normals], -1)


def surface_traits(body):
    """The `traits` [V, 8] of all of a body's vertices."""
    rest, owner = np.asarray(body.v_template, float), body.weights.argmax(1)
    normals = vertex_normals(rest, body.f)
    part = separate_parts(body.f, len(rest))
    kind = np.full(len(rest), SKIN)
    kind[hand_vertices(owner)] = HAND
    kind[owner == JOINT_INDEX["head"]] = HEAD
    kind[np.isin(part, eye_parts(body, part))] = EYE
    return np.concatenate(
        [
            rest,
            normals[:, 1:2],
            np.stack([kind, _cavity(rest, normals, body.f), _nails(body, rest, normals), _creases(body)], -1),
        ],
        -1,
    )


def shell_traits(shell, kind):
    """The `traits` [M, 8] of a `Shell`'s vertices."""
    count = len(shell.places)
    return np.concatenate([shell.places, shell.normals[:, 1:2], np.full((count, 1), kind), np.zeros((count, 3))], 1)


def vertex_parts(body):
    """The place in PARTS [V] of every vertex."""
    held = {
        "head": ["head", "neck"],
        "legs": [f"{side}_{name}" for side in SIDES for name in ("hip", "knee", "ankle", "foot")],
    }
    for side in SIDES:
        fingers = [f"{side}_{finger}{segment}" for finger in FINGERS for segment in (1, 2, 3)]
        held[f"{side}_hand"] = [f"{side}_wrist", *fingers]
    owner = body.weights.argmax(1)
    part = np.full(len(owner), PARTS.index("arms"))
    for name, joints in held.items():
        part[np.isin(owner, [JOINT_INDEX[joint] for joint in joints])] = PARTS.index(name)
    return part


def _cavity(rest, normals, faces):
    """How hollow the surface is [V], 0..1: how far the neighbours' middle lies above a vertex, for its distance from them."""
    value = np.zeros(len(rest))
    pairs = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    pairs = np.concatenate([pairs, pairs[:, ::-1]])
    offset = rest[pairs[:, 1]] - rest[pairs[:, 0]]
    number = np.maximum(np.bincount(pairs[:, 0], minlength=len(rest)), 1)
    height = np.sum(offset * normals[pairs[:, 0]], -1) / np.maximum(np.linalg.norm(offset, axis=-1), 1e-6)
    value = np.bincount(pairs[:, 0], height, len(rest)) / number
    # Once over the neighbours: single vertices say little.
    value = 0.5 * value + 0.5 * np.bincount(pairs[:, 0], value[pairs[:, 1]], len(rest)) / number
    return np.clip(value / 0.5, 0, 1)


def _nails(body, rest, normals):
    """[V] 0..1: the backs of the fingertips."""
    value = np.zeros(len(rest))
    for side in SIDES:
        for finger in FINGERS:
            joint = JOINT_INDEX[f"{side}_{finger}3"]
            bone = rest[body.landmarks[f"{side}_{finger}_tip"]] - body.rest_joints[joint]
            length = np.linalg.norm(bone)
            along = (rest - body.rest_joints[joint]) @ bone / length**2
            # The flat hand's palm faces down; the thumb's nail faces up and forward.
            back = np.array([0.0, 0.75, 0.65] if finger == "thumb" else [0.0, 1, 0])
            back -= bone * (back @ bone) / length**2
            facing = normals @ back / np.linalg.norm(back)
            value[(body.weights[:, joint] > 0.5) & (along > 0.5) & (along < 0.98) & (facing > 0.72)] = 1
    return value


def _creases(body):
    """[V] 0..1: where two segments of a finger, or a finger and the palm, hold a vertex alike."""
    value = np.zeros(len(body.v_template))
    for side in SIDES:
        for finger in FINGERS:
            chain = [JOINT_INDEX[f"{side}_wrist"]] + [JOINT_INDEX[f"{side}_{finger}{segment}"] for segment in (1, 2, 3)]
            for first, second in zip(chain, chain[1:]):
                value = np.maximum(value, 4 * body.weights[:, first] * body.weights[:, second])
    return np.clip((value - 0.6) / 0.4, 0, 1)
