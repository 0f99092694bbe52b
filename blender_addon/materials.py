# SPDX-License-Identifier: GPL-3.0-or-later
"""What the character is made of: skin that shows the colour attribute, plain clothes, and wet eyes."""

import bpy
import numpy as np

from .colour import ATTRIBUTE

_SKIN_COLOUR = (0.45, 0.22, 0.14, 1.0)
_CLOTHES_COLOUR = (0.05, 0.08, 0.14, 1.0)
_CLOTHED_JOINTS = {"pelvis", "spine1", "spine2", "spine3"} | {
    f"{side}_{name}" for side in ("left", "right") for name in ("hip", "knee", "collar", "shoulder")
}


def add_materials(mesh, template):
    """Gives a mesh its materials and each face one of them; "Eyes" only where the template marks eyeballs."""
    index = np.where(_marked_faces(template, _clothed_share(template)), 1, 0)
    mesh.materials.append(_material("Skin", _SKIN_COLOUR, roughness=0.55, subsurface=0.08, coloured=True))
    mesh.materials.append(_material("Clothes", _CLOTHES_COLOUR, roughness=0.9, subsurface=0.0))
    eyes = _marked_faces(template, np.asarray(template.eyeballs))
    if eyes.any():
        mesh.materials.append(_material("Eyes", (0.7, 0.7, 0.7, 1.0), roughness=0.08, subsurface=0.0, coloured=True))
        index[eyes] = 2
    mesh.polygons.foreach_set("material_index", index.astype(np.int32))


def _clothed_share(template):
    """How much [V] of each vertex hangs on joints of the trunk, upper arms or legs."""
    clothed = np.isin(template.joint_names, list(_CLOTHED_JOINTS))
    return np.asarray(template.weights)[:, clothed].sum(1)


def _marked_faces(template, share):
    """Which faces [F] have a mean share over a half."""
    corners = template.faces >= 0
    return np.where(corners, share[template.faces], 0).sum(1) / corners.sum(1) > 0.5


def _material(name, colour, *, roughness, subsurface, coloured=False):
    """`colour` shows in the plain viewport, and in renders unless the material is `coloured` by the mesh's attribute."""
    material = bpy.data.materials.new(name)
    if material.node_tree is None:  # before 5.0 a new material has no nodes
        material.use_nodes = True
    nodes = material.node_tree.nodes
    shader = next(node for node in nodes if node.type == "BSDF_PRINCIPLED")
    shader.inputs["Base Color"].default_value = colour
    shader.inputs["Roughness"].default_value = roughness
    shader.inputs["Subsurface Weight"].default_value = subsurface
    shader.inputs["Subsurface Radius"].default_value = (0.01, 0.004, 0.002)
    material.diffuse_color = colour
    if coloured:
        attribute = nodes.new("ShaderNodeAttribute")
        attribute.attribute_type, attribute.attribute_name = "GEOMETRY", ATTRIBUTE
        attribute.location = (shader.location.x - 250, shader.location.y)
        material.node_tree.links.new(attribute.outputs["Color"], shader.inputs["Base Color"])
    return material
