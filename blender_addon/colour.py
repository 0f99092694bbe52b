# SPDX-License-Identifier: GPL-3.0-or-later
"""The character's colour, R = mean + sum of gamma E (Zhou et al. 2021, Eq. 4), added up by Blender itself.

Point attributes hold the directions E of the leading coefficients, and one the rest of the sum; a geometry-nodes modifier adds
them up into the colour attribute that the materials show. The leading coefficients are the modifier's inputs, so they can be
keyed, and the file shows it all without this add-on.
"""

import bpy
import numpy as np

from .tracks import Track, write_tracks

ATTRIBUTE = "Albedo"
"""The colour attribute: FLOAT_COLOR on points, linear RGB, alpha one."""

MODIFIER = "Albedo"

KEYABLE = 8
"""Albedo coefficients that can be keyed; a face model has them in order of how much they change."""

BODY_COLOUR, OWN_BODY_COLOUR = "Body Colour", "Own Body Colour"
"""Inputs of the modifier: a colour, and how far it takes the place of the face's colour on the rest of the skin."""

_BASE, _BODY_SKIN = "albedo_base", "body_skin"


def add_colour(mesh_object, template, coefficients):
    """Colours a mesh built from `template` by albedo coefficients [A], or the mean where there are none.

    Call it after the armature's modifier was added: the colours are then the last thing made, and deformation stays as it was.
    """
    mesh = mesh_object.data
    leading = min(KEYABLE, len(template.albedodirs))
    for number in range(leading):
        _set_attribute(mesh, _direction_name(number), "FLOAT_VECTOR", "vector", template.albedodirs[number])
    _set_attribute(mesh, _BODY_SKIN, "FLOAT", "value", template.body_skin)
    modifier = mesh_object.modifiers.new(MODIFIER, "NODES")
    modifier.node_group = _node_group(f"{mesh_object.name} albedo", leading)
    set_colour(mesh_object, template, coefficients)
    set_input(modifier, OWN_BODY_COLOUR, 0.0)


def set_colour(mesh_object, template, coefficients):
    """Gives a mesh that `add_colour` has coloured other albedo coefficients [A] of the same template, or the mean's."""
    mesh = mesh_object.data
    coefficients = np.zeros(len(template.albedodirs)) if len(coefficients) == 0 else np.asarray(coefficients, float)
    leading = min(KEYABLE, len(coefficients))
    whole = template.albedo(coefficients)
    trailing = np.r_[np.zeros(leading), coefficients[leading:]]
    _set_attribute(mesh, _BASE, "FLOAT_VECTOR", "vector", template.albedo(trailing))
    # What programs see that run no modifiers, and the viewport before the first evaluation.
    _set_attribute(mesh, ATTRIBUTE, "FLOAT_COLOR", "color", np.c_[whole, np.ones(len(whole))])
    mesh.attributes.active_color_name = ATTRIBUTE
    mesh.update()

    modifier = mesh_object.modifiers.get(MODIFIER)
    if modifier is None or modifier.node_group is None:
        return  # somebody wanted plain colours
    for number in range(leading):
        set_input(modifier, _input_name(number), float(coefficients[number]))
    skin = np.asarray(template.body_skin) > 0.5
    body = whole[skin].mean(0) if skin.any() else whole.mean(0)
    set_input(modifier, BODY_COLOUR, (*body.tolist(), 1.0))
    mesh_object.update_tag()


def key_albedo(character, frames, coefficients, action=None):
    """Keys the leading albedo coefficients [N, K] at scene frames [N]; K is at most `keyable(character)`.

    Keys that are there already stay, but for those on the same frames. Without `action` they go into the one that the mesh plays.
    """
    mesh, frames, coefficients = character.mesh, np.asarray(frames, float), np.asarray(coefficients, float)
    count = keyable(character)
    if coefficients.shape[1:] > (count,) or coefficients.shape[:1] != frames.shape:
        raise ValueError(
            f"Expected at most {count} coefficients for each of {len(frames)} frames, got {coefficients.shape}."
        )
    if action is None:
        playing = mesh.animation_data and mesh.animation_data.action
        action = playing or bpy.data.actions.new(f"{mesh.name} albedo")
    modifier = mesh.modifiers[MODIFIER]
    paths = [input_path(modifier, _input_name(number)) for number in range(coefficients.shape[1])]
    write_tracks(
        [Track(path, frames, coefficients[:, [number]], "Albedo") for number, path in enumerate(paths)], mesh, action
    )


def keyable(character):
    """How many albedo coefficients of a character can be keyed."""
    attributes = character.mesh.data.attributes
    return sum(_direction_name(number) in attributes for number in range(KEYABLE))


def input_path(modifier, name):
    """The path, from the object, of a geometry-nodes modifier's input: for keyframes and drivers."""
    identifier = _identifier(modifier, name)
    owner = f'modifiers["{bpy.utils.escape_identifier(modifier.name)}"]'
    if hasattr(modifier, "properties"):  # from 5.2 on inputs are real properties
        return f"{owner}.properties.inputs.{identifier}.value"
    return f'{owner}["{identifier}"]'


def set_input(modifier, name, value):
    """Sets a geometry-nodes modifier's input."""
    identifier = _identifier(modifier, name)
    if hasattr(modifier, "properties"):
        getattr(modifier.properties.inputs, identifier).value = value
    else:
        modifier[identifier] = value


def _identifier(modifier, name):
    sockets = modifier.node_group.interface.items_tree
    return next(socket.identifier for socket in sockets if socket.name == name and socket.in_out == "INPUT")


def _direction_name(number):
    return f"albedo_{number:02d}"


def _input_name(number):
    return f"Albedo {number}"


def _set_attribute(mesh, name, kind, item, values):
    attribute = mesh.attributes.get(name) or mesh.attributes.new(name, kind, "POINT")
    attribute.data.foreach_set(item, np.ascontiguousarray(values, np.float32).ravel())


def _node_group(name, leading):
    """The node tree: base + sum of coefficient * direction, then the body's own colour on its skin, stored as the attribute."""
    tree = bpy.data.node_groups.new(name, "GeometryNodeTree")
    tree.is_modifier = True
    _add_sockets(tree.interface, leading)
    nodes, link = tree.nodes, tree.links.new
    inputs, outputs = nodes.new("NodeGroupInput"), nodes.new("NodeGroupOutput")

    def place(node, column, row):
        node.location = (column * 220, -row * 160)
        return node

    def stored(attribute, kind, column, row):
        node = place(nodes.new("GeometryNodeInputNamedAttribute"), column, row)
        node.data_type = kind
        node.inputs["Name"].default_value = attribute
        return node.outputs["Attribute"]

    total = stored(_BASE, "FLOAT_VECTOR", 0, 1)
    for number in range(leading):
        add = place(nodes.new("ShaderNodeVectorMath"), number + 2, 1)
        add.operation = "MULTIPLY_ADD"
        link(stored(_direction_name(number), "FLOAT_VECTOR", number + 1, 2), add.inputs[0])
        link(inputs.outputs[_input_name(number)], add.inputs[1])
        link(total, add.inputs[2])
        total = add.outputs[0]

    share = place(nodes.new("ShaderNodeMath"), leading + 2, 2)
    share.operation = "MULTIPLY"
    link(stored(_BODY_SKIN, "FLOAT", leading + 1, 3), share.inputs[0])
    link(inputs.outputs[OWN_BODY_COLOUR], share.inputs[1])
    mix = place(nodes.new("ShaderNodeMix"), leading + 3, 1)
    mix.data_type = "RGBA"
    link(share.outputs[0], _socket(mix.inputs, "Factor_Float"))
    link(total, _socket(mix.inputs, "A_Color"))
    link(inputs.outputs[BODY_COLOUR], _socket(mix.inputs, "B_Color"))

    store = place(nodes.new("GeometryNodeStoreNamedAttribute"), leading + 4, 0)
    store.data_type, store.domain = "FLOAT_COLOR", "POINT"
    store.inputs["Name"].default_value = ATTRIBUTE
    link(inputs.outputs["Geometry"], store.inputs["Geometry"])
    link(_socket(mix.outputs, "Result_Color"), next(socket for socket in store.inputs if socket.name == "Value"))
    link(store.outputs["Geometry"], outputs.inputs["Geometry"])
    place(outputs, leading + 5, 0)
    place(inputs, -1, 0)
    return tree


def _add_sockets(interface, leading):
    interface.new_socket("Geometry", in_out="INPUT", socket_type="NodeSocketGeometry")
    interface.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    interface.new_socket(BODY_COLOUR, in_out="INPUT", socket_type="NodeSocketColor")
    own = interface.new_socket(OWN_BODY_COLOUR, in_out="INPUT", socket_type="NodeSocketFloat")
    own.subtype, own.min_value, own.max_value = "FACTOR", 0.0, 1.0
    for number in range(leading):
        socket = interface.new_socket(_input_name(number), in_out="INPUT", socket_type="NodeSocketFloat")
        socket.min_value, socket.max_value = -10.0, 10.0
        socket.description = "Standard deviations of the face's colour"


def _socket(sockets, identifier):
    return next(socket for socket in sockets if socket.identifier == identifier)
