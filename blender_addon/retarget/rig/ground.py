# SPDX-License-Identifier: GPL-3.0-or-later
"""The ground under a character's feet, and the meshes that stand on it."""

import bpy
import numpy as np

from ...contract.skeleton import SIDES

FOOT_ROLES = tuple(f"{side}_{limb}" for side in SIDES for limb in ("ankle", "foot"))

_SOLE_WEIGHT = 0.5
"""A vertex is a foot's if more than this of its weight is."""


def sole_height(meshes, armature, stand_in, controls, reading):
    """Height, m, of the lowest point of mesh objects at rest that belongs to a foot; of the feet's bones where none does."""
    lowest = np.inf
    for foot, followers in reading.followers.items():
        number = stand_in.index[foot]
        moved = reading.at_rest.matrices[number] @ np.linalg.inv(stand_in.rest([foot]).matrices[0])
        for mesh_object in meshes:
            to_world = moved @ world_matrix(mesh_object, {armature: stand_in.matrix})
            lowest = min(lowest, _lowest_vertex(mesh_object, followers, to_world))
    if np.isfinite(lowest):
        return float(lowest)
    feet = [number for number, role in enumerate(controls.roles) if role in FOOT_ROLES]
    return float(np.minimum(controls.heads[feet, 2], controls.tails[feet, 2]).min())


def deformed_meshes(armature):
    """The mesh objects that an armature deforms."""
    return [
        item
        for item in bpy.data.objects
        if item.type == "MESH"
        and any(modifier.type == "ARMATURE" and modifier.object == armature for modifier in item.modifiers)
    ]


def world_matrix(item, known=None):
    """Where an object stands in the world [4, 4], also before Blender has evaluated it. known: {object: matrix}."""
    if known and item in known:
        return known[item]
    if item.constraints or (item.parent and item.parent_type not in ("OBJECT", "ARMATURE")):
        return np.array(item.matrix_world)
    if item.parent is None:
        return np.array(item.matrix_basis)
    return world_matrix(item.parent, known) @ np.array(item.matrix_parent_inverse @ item.matrix_basis)


def _lowest_vertex(mesh_object, bones, to_world):
    """Height, m, of the lowest vertex that belongs mostly to the named bones; infinite if none does."""
    groups = {group.index for group in mesh_object.vertex_groups if group.name in bones}
    vertices = mesh_object.data.vertices
    if not groups or not len(vertices):
        return np.inf
    points = np.empty(3 * len(vertices), np.float32)
    vertices.foreach_get("co", points)
    heights = points.reshape(-1, 3) @ to_world[2, :3] + to_world[2, 3]
    # From the lowest upwards: the first ones are a foot's nearly always.
    for vertex in np.argsort(heights).tolist():
        if sum(link.weight for link in vertices[vertex].groups if link.group in groups) > _SOLE_WEIGHT:
            return heights[vertex]
    return np.inf
