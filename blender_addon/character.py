# SPDX-License-Identifier: GPL-3.0-or-later
"""The character: an armature and a skinned, coloured mesh with shape keys, built from a `CharacterTemplate`.

Knows no body model: whatever the template holds is built the same way.
"""

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import bmesh
import bpy
import numpy as np
from mathutils import Matrix

from . import axes
from .colour import add_colour, set_colour
from .contract.character import CharacterError, fitting
from .contract.skeleton import JOINT_NAMES, PARENTS
from .materials import add_materials
from .pose_shapes import add_pose_shapes

CHARACTER_PROPERTY = "fullbody_character"
"""Custom property of the armature object that says what was built, and marks it as one of ours."""

FACE_PROPERTY = "fullbody_face"
"""Custom property of the mesh object that keeps the coefficients of the face's shape and albedo."""

IDENTITY_KEY = "face_identity"
"""The shape key that makes the face this person's: 1 is the person, 0 the mean face, 2 a caricature."""

BETA_LIMIT = 10.0
"""Blender's own limit of a shape key's slider."""

_SHORTEST_BONE = 0.005  # m; Blender drops bones of no length
_STILL = 1e-5  # m, by which bones may be off by rounding

# Where several bones go on from a joint, the one its bone points to.
_MAIN_CHILD = {
    "pelvis": "spine1",
    "spine3": "neck",
    "left_wrist": "left_middle1",
    "right_wrist": "right_middle1",
}

# Direction (rest frame) and length in metres of bones that end the chain and should not just go on as their parent does.
_END_BONES = {"head": ((0, 1, 0), 0.15), "left_foot": ((0, 0, 1), 0.06), "right_foot": ((0, 0, 1), 0.06)}


@dataclass
class Character:
    """A built character: the armature object at identity and its skinned mesh object."""

    armature: bpy.types.Object
    mesh: bpy.types.Object

    @property
    def shape_keys(self):
        """The mesh's `Key` datablock."""
        return self.mesh.data.shape_keys


def check_template(template, betas):
    """Raises `CharacterError` unless a character of shape `betas` [B] can be built. Changes nothing."""
    if tuple(template.joint_names) != JOINT_NAMES or tuple(template.parents) != PARENTS:
        raise CharacterError("The character template does not have the 52 SMPL-H joints in their order.")
    betas = np.asarray(betas, float)
    if np.abs(betas).max(initial=0) > BETA_LIMIT:
        raise CharacterError(
            f"The body shape has a coefficient of {np.abs(betas).max():.1f}; a character takes up to {BETA_LIMIT:.0f}."
        )
    count = template.shapedirs.shape[-1]
    if betas[count:].any():
        raise CharacterError(
            f"The clip's body shape has {len(betas)} coefficients and the character template takes {count}."
        )


def build_character(template, betas, *, name, collection, view_layer, face_shape=(), face_albedo=()):
    """Builds a `Character` of shape `betas` [B] into `collection`, which must be part of `view_layer`, in object mode.

    face_shape [S], face_albedo [A]: coefficients of the template's face, or empty for its mean. Bones rest at the joints of
    the body's shape, so bones and mesh agree. Raises `CharacterError` before anything is made.
    """
    check_template(template, betas)
    check_face(template, face_shape, face_albedo)
    betas = fitting_betas(template, betas)
    armature = _build_armature(template, betas, name, collection, view_layer)
    mesh = _build_mesh(template, f"{name} body", collection)
    _add_weights(mesh, template)
    _add_shape_keys(mesh, template, betas, face_shape)
    add_pose_shapes(mesh, armature, template, bone_rest(armature)[1])
    mesh.parent = armature
    mesh.modifiers.new("Armature", "ARMATURE").object = armature
    add_colour(mesh, template, face_albedo)
    _note_face(mesh, face_shape, face_albedo)
    armature[CHARACTER_PROPERTY] = _made_from(template)
    return Character(armature, mesh)


def fits_template(character, template):
    """Whether a character was built from a template of these models, and still has its vertices and bones."""
    made_from = character.armature[CHARACTER_PROPERTY].to_dict()
    return (
        all(made_from.get(name, value) == value for name, value in _made_from(template).items())
        and len(character.mesh.data.vertices) == len(template.vertices)
        and all(name in character.armature.data.bones for name in template.joint_names)
    )


def _made_from(template):
    meta = template.meta
    return {"template": str(meta.get("name") or "")} | {
        name: str(meta.get(name) or "") for name in ("body_sha256", "face_sha256")
    }


def check_face(template, face_shape, face_albedo):
    """Raises `CharacterError` unless the template's face takes these coefficients, or there are none."""
    for what, given, count in (
        ("shape", len(face_shape), len(template.face_shapedirs)),
        ("colour", len(face_albedo), len(template.albedodirs)),
    ):
        if given not in (0, count):
            raise CharacterError(
                f"The clip's face {what} has {given} coefficients and the character template takes {count}."
            )


def fitting_betas(template, betas):
    """`betas` [B] cut or filled with zeros to as many as the template has."""
    return fitting(betas, template.shapedirs.shape[-1])


def bone_rest(armature, joint_names=JOINT_NAMES):
    """Rest of the named bones: heads [J, 3] m and bone axes [J, 3, 3], both in armature space."""
    bones = armature.data.bones
    matrices = np.array([bones[name].matrix_local for name in joint_names])
    return matrices[:, :3, 3], matrices[:, :3, :3]


def _build_armature(template, betas, name, collection, view_layer):
    armature = bpy.data.objects.new(name, bpy.data.armatures.new(name))
    collection.objects.link(armature)
    joints = template.rest_joints(betas)
    directions, lengths = _bone_directions(joints, template.joint_names, template.parents)
    rotations, heads = axes.bone_to_scene(directions), axes.rest_to_scene(joints)

    with _editing(armature, view_layer) as edit_bones:
        for joint, (joint_name, parent) in enumerate(zip(template.joint_names, template.parents)):
            bone = edit_bones.new(joint_name)
            # The length must come first: a bone without one has no direction that the matrix could set.
            bone.head, bone.tail = (0, 0, 0), (0, lengths[joint], 0)
            matrix = np.eye(4)
            matrix[:3, :3], matrix[:3, 3] = rotations[joint], heads[joint]
            bone.matrix = Matrix(matrix.tolist())
            if parent >= 0:
                bone.parent = edit_bones[template.joint_names[parent]]
    for bone in armature.pose.bones:
        bone.rotation_mode = "QUATERNION"
    armature.show_in_front = True
    armature.data.display_type = "STICK"
    return armature


def has_body(character, template, betas):
    """Whether a character that fits the template has the body shape `betas` [B], in its bones and its shape keys."""
    betas, keys = fitting_betas(template, betas), character.shape_keys.key_blocks
    values = [keys[name].value if (name := _beta_key(number)) in keys else beta for number, beta in enumerate(betas)]
    return np.allclose(values, betas, atol=1e-5) and not _rest_differs(character, template, betas)


def has_face(character, face_shape, face_albedo):
    """Whether a character has the face of these coefficients, either of which may be none."""
    kept = character.mesh.get(FACE_PROPERTY)
    own = kept.to_dict() if kept is not None else {}
    wanted = {"shape": face_shape, "albedo": face_albedo} if len(face_shape) or len(face_albedo) else {}
    return own.keys() == wanted.keys() and all(np.array_equal(own[name], wanted[name]) for name in own)


def _rest_differs(character, template, betas):
    """Whether a character's bones do not rest at the joints of the body of shape `betas` [B]."""
    return np.abs(bone_rest(character.armature)[0] - axes.rest_to_scene(template.rest_joints(betas))).max() > _STILL


def _beta_key(number):
    return f"beta_{number:02d}"


def set_body(character, template, betas, view_layer):
    """Gives a character that fits the template the body shape `betas` [B]; object mode, the armature in `view_layer`.

    The bones move to the new joints and keep their axes, so that whatever was keyed on them still means the same.
    Raises `RuntimeError` where Blender does not let the bones be edited.
    """
    betas = fitting_betas(template, betas)
    if _rest_differs(character, template, betas):
        joints = template.rest_joints(betas)
        heads, lengths = axes.rest_to_scene(joints), _bone_directions(joints, template.joint_names, template.parents)[1]
        _, rotations = bone_rest(character.armature)
        with _editing(character.armature, view_layer) as edit_bones:
            for name, head, tail in zip(template.joint_names, heads, heads + lengths[:, None] * rotations[:, :, 1]):
                edit_bones[name].head, edit_bones[name].tail = head, tail
    for number, beta in enumerate(betas):
        key = character.shape_keys.key_blocks.get(_beta_key(number))
        if key is not None:
            key.value = beta


def set_face(character, template, face_shape, face_albedo):
    """Gives a character that fits the template a person's face: coefficients of its shape [S] and albedo [A], or none.

    Object mode. Raises `CharacterError` where the template's face does not take them.
    """
    check_face(template, face_shape, face_albedo)
    mesh = character.mesh
    if len(face_shape):
        basis = axes.rest_to_scene(template.vertices).astype(np.float32)
        identity = np.tensordot(np.asarray(face_shape, float), template.face_shapedirs, 1)
        key = character.shape_keys.key_blocks.get(IDENTITY_KEY)
        if key is None:
            _add_key(mesh, basis, IDENTITY_KEY, template.moved_vertices, identity, 0.0, 2.0).value = 1.0
        else:
            key.points.foreach_set("co", _moved(basis, template.moved_vertices, identity).ravel())
            mesh.data.update()
    if len(face_albedo):
        set_colour(mesh, template, face_albedo)
    _note_face(mesh, face_shape, face_albedo)


def _note_face(mesh, face_shape, face_albedo):
    """Keeps the coefficients of a face on its mesh object, if there are any."""
    if len(face_shape) or len(face_albedo):
        mesh[FACE_PROPERTY] = {"shape": np.asarray(face_shape).tolist(), "albedo": np.asarray(face_albedo).tolist()}


@contextmanager
def _editing(armature, view_layer):
    """The armature's edit bones; afterwards object mode again, and the active object as it was."""
    previous = view_layer.objects.active
    view_layer.objects.active = armature
    try:
        bpy.ops.object.mode_set(mode="EDIT")
        try:
            yield armature.data.edit_bones
        finally:
            bpy.ops.object.mode_set(mode="OBJECT")
    finally:
        view_layer.objects.active = previous


def _bone_directions(joints, names, parents):
    """Where each bone points: directions [J, 3] in the rest frame, and lengths [J] m."""
    index = {name: joint for joint, name in enumerate(names)}
    children = {joint: [child for child, parent in enumerate(parents) if parent == joint] for joint in range(len(names))}
    directions, lengths = np.zeros((len(names), 3)), np.zeros(len(names))
    for joint, name in enumerate(names):
        if name in _END_BONES:
            direction, length = _END_BONES[name]
        elif children[joint]:
            direction = joints[index.get(_MAIN_CHILD.get(name), children[joint][0])] - joints[joint]
            length = np.linalg.norm(direction)
        else:
            direction, length = directions[parents[joint]], 0.7 * lengths[parents[joint]]
        if np.linalg.norm(direction) < 1e-6:
            direction = (0, 1, 0)
        directions[joint], lengths[joint] = direction, max(length, _SHORTEST_BONE)
    return directions, lengths


def _build_mesh(template, name, collection):
    mesh = bpy.data.meshes.new(name)
    corners = template.faces >= 0
    loop_vertices = template.faces[corners]
    loop_starts = np.concatenate([[0], np.cumsum(corners.sum(1))[:-1]])
    mesh.vertices.add(len(template.vertices))
    mesh.vertices.foreach_set("co", axes.rest_to_scene(template.vertices).astype(np.float32).ravel())
    mesh.loops.add(len(loop_vertices))
    mesh.loops.foreach_set("vertex_index", loop_vertices.astype(np.int32))
    mesh.polygons.add(len(loop_starts))
    mesh.polygons.foreach_set("loop_start", loop_starts.astype(np.int32))
    mesh.polygons.foreach_set("use_smooth", np.ones(len(loop_starts), bool))
    uv_layer = mesh.uv_layers.new(name="UVMap")
    uv_layer.uv.foreach_set("vector", template.uv[corners].astype(np.float32).ravel())
    mesh.update(calc_edges=True)
    add_materials(mesh, template)
    mesh_object = bpy.data.objects.new(name, mesh)
    collection.objects.link(mesh_object)
    return mesh_object


def _add_weights(mesh_object, template):
    for name in template.joint_names:
        mesh_object.vertex_groups.new(name=name)
    weights = np.asarray(template.weights)
    vertices, joints = np.nonzero(weights > 0)
    build = bmesh.new()
    build.from_mesh(mesh_object.data)
    build.verts.ensure_lookup_table()
    layer, verts = build.verts.layers.deform.verify(), build.verts
    for vertex, joint, weight in zip(vertices.tolist(), joints.tolist(), weights[vertices, joints].tolist()):
        verts[vertex][layer][joint] = weight
    build.to_mesh(mesh_object.data)
    build.free()


def _add_shape_keys(mesh_object, template, betas, face_shape):
    """`beta_00`, `beta_01`... set to `betas`, the face's identity, the expressions at rest. Call it after the weights."""
    basis = axes.rest_to_scene(template.vertices).astype(np.float32)
    everywhere, own = np.arange(len(basis)), np.asarray(template.moved_vertices)
    mesh_object.shape_key_add(name="Basis", from_mix=False)
    add_key = partial(_add_key, mesh_object, basis)
    for number, beta in enumerate(betas):
        add_key(_beta_key(number), everywhere, template.shapedirs[..., number], -BETA_LIMIT, BETA_LIMIT).value = beta
    if len(face_shape):
        identity = np.tensordot(np.asarray(face_shape, float), template.face_shapedirs, 1)
        add_key(IDENTITY_KEY, own, identity, 0.0, 2.0).value = 1.0
    for name, offsets, limits in zip(template.expression_names, template.expressiondirs, template.expression_limits):
        add_key(name, own, offsets, *map(float, limits))


def _add_key(mesh_object, basis, name, vertices, offsets, low, high):
    """A new shape key at zero that moves `vertices` [W] of `basis` [V, 3] (scene rest) by offsets [W, 3] m in the rest frame."""
    key = mesh_object.shape_key_add(name=name, from_mix=False)
    key.value = 0.0  # 5.0 and later start at one
    key.slider_min, key.slider_max = max(low, -BETA_LIMIT), min(high, BETA_LIMIT)
    key.points.foreach_set("co", _moved(basis, vertices, offsets).ravel())
    return key


def _moved(basis, vertices, offsets):
    moved = basis.copy()
    moved[vertices] += axes.rest_to_scene(offsets).astype(np.float32)
    return moved


def widen_slider(key, low, high):
    """Lets a shape key take values from `low` to `high`: Blender cuts what lies outside the slider."""
    key.slider_min = min(key.slider_min, max(low, -BETA_LIMIT))
    key.slider_max = max(key.slider_max, min(high, BETA_LIMIT))
