# SPDX-License-Identifier: GPL-3.0-or-later
"""A control rig's deforming bones as a plain armature, for other programs: no controls, constraints, drivers or bendy bones.

Exporters that leave out the controls leave deforming bones that hang from controls without a parent, and give constrained bones
stretched parents, whose shear no file format knows: heads were found 5 cm off. Here every bone is keyed where Blender puts it.
"""

from contextlib import contextmanager

import bpy
import numpy as np
from mathutils import Matrix

from ...contract.frames import continuous_quaternions, matrix_to_quaternion
from ...tracks import Track, bone_path, write_tracks

_SAME_PLACE = 1e-3
"""Of a bone's length: how far two bones that are one to the animator may rest from each other."""

_HAIR = np.array(Matrix.Rotation(1e-4, 4, "X"))

_STORES = {
    bpy.types.Action: lambda: bpy.data.actions,
    bpy.types.Armature: lambda: bpy.data.armatures,
    bpy.types.Object: lambda: bpy.data.objects,
}

STRETCH = 0.02
"""Scale of a bone, off one, that is worth a word."""


def is_control_rig(armature):
    """Whether bones that deform are moved by others through constraints, so that only they belong into another program's file."""
    bones = armature.data.bones
    if all(bone.use_deform for bone in bones) or not any(bone.use_deform for bone in bones):
        return False
    return any(
        bones[pose_bone.name].use_deform and any(not constraint.mute for constraint in pose_bone.constraints)
        for pose_bone in armature.pose.bones
    )


def pose_matrices(scene, armature, names, frames):
    """Evaluated matrices [T, B, 4, 4] of bones in their armature's space at whole scene frames, and [T, 4, 4] of the armature."""
    order = [armature.pose.bones.find(name) for name in names]
    matrices, places = np.empty((len(frames), len(names), 4, 4)), np.empty((len(frames), 4, 4))
    flat = np.empty(16 * len(armature.pose.bones), np.float32)
    for row, frame in enumerate(frames):
        scene.frame_set(frame)
        evaluated = armature.evaluated_get(bpy.context.evaluated_depsgraph_get())
        evaluated.pose.bones.foreach_get("matrix", flat)
        matrices[row] = flat.reshape(-1, 4, 4).swapaxes(1, 2)[order]  # Blender keeps them column by column
        places[row] = evaluated.matrix_world
    return matrices, places


@contextmanager
def plain_armature(armature, action, frames, objects):
    """Puts a plain armature that plays the same motion, and copies of the other objects that hang on it, in place of `objects`.

    frames: first and last. To be entered with the scene to work in as the window's own, holding `objects`, the armature first.
    Passes the plain armature, its action, and how far any bone is stretched. In the end all is as it was, but for that scene.
    """
    scene = bpy.context.scene
    kept = {item.parent_bone for item in objects if item.parent == armature and item.parent_type == "BONE"}
    names, parents = deforming_tree(armature, kept)
    span = range(frames[0], frames[1] + 1)
    replaced = [item for item in objects if item not in _above(armature)]
    for item in replaced[1:]:
        scene.collection.objects.unlink(item)  # no mesh needs to be deformed meanwhile
    rest, posed, stretch = _let_go(armature, names, parents, pose_matrices(scene, armature, names, span)[0])
    made, lent = [], {}
    try:
        plain = _make(armature, names, parents, rest, made)
        _lend_name(armature, plain, lent)
        _lend_name(armature.data, plain.data, lent)
        stand_ins = {armature: plain}
        for item in replaced[1:]:
            stand_ins[item] = item.copy()
            made.append(stand_ins[item])
            _lend_name(item, stand_ins[item], lent)
        for item, stand_in in stand_ins.items():
            _rehang(item, stand_in, stand_ins)
        scene.collection.objects.unlink(armature)
        for stand_in in stand_ins.values():
            scene.collection.objects.link(stand_in)
        played = bpy.data.actions.new(action.name)
        made.append(played)
        _lend_name(action, played, lent)
        _key(plain, played, names, _own_poses(rest, parents, posed), span)
        yield plain, played, stretch
    finally:
        for thing in reversed(made):
            _STORES[type(thing)]().remove(thing)
        for thing, name in lent.items():
            thing.name = name


def deforming_tree(armature, kept=()):
    """The deforming bones, and those `kept`, by name with parents first; and each one's parent, its place in that list or -1.

    A bone that hangs from a control gets the deforming bone that rests where this control does, or the next one above it.
    """
    bones = armature.data.bones
    chosen = [bone for bone in bones if bone.use_deform or bone.name in kept]
    known = {bone.name for bone in chosen}
    standing_in = {}
    for bone in bones:
        if bone.name not in known:
            match = next((other for other in chosen if _coincide(bone, other)), None)
            standing_in[bone.name] = match and match.name
    parent_of = {}
    for bone in chosen:
        line = (above.name if above.name in known else standing_in[above.name] for above in bone.parent_recursive)
        fitting = (name for name in line if name is not None and bone.name not in _line(name, parent_of))
        parent_of[bone.name] = next(fitting, None)
    names = sorted(known, key=lambda name: (len(_line(name, parent_of)), bones.find(name)))
    return names, [names.index(parent_of[name]) if parent_of[name] else -1 for name in names]


def _coincide(bone, other):
    apart = (bone.head_local - other.head_local).length
    aligned = bone.vector.length == 0 or bone.matrix_local.col[1].to_3d().dot(other.matrix_local.col[1].to_3d()) > 0.999
    return aligned and apart < _SAME_PLACE * max(bone.length, other.length)


def _line(name, parent_of):
    """A bone and those above it, as far as their parents are known."""
    line = []
    while name is not None:
        line.append(name)
        name = parent_of.get(name)
    return line


def _above(item):
    above = []
    while item.parent is not None:
        item = item.parent
        above.append(item)
    return above


def _make(armature, names, parents, rest, made):
    """The plain armature object, its bones at rest [B, 4, 4]."""
    data = bpy.data.armatures.new(armature.data.name)
    plain = bpy.data.objects.new(armature.name, data)
    made += [data, plain]
    scene, view_layer = bpy.context.scene, bpy.context.view_layer
    scene.collection.objects.link(plain)
    view_layer.objects.active = plain
    bpy.ops.object.mode_set(mode="EDIT")
    edit_bones = [data.edit_bones.new(name) for name in names]
    for bone, name, parent, matrix in zip(edit_bones, names, parents, rest):
        bone.tail = (0, armature.data.bones[name].length, 0)  # a bone without length would be taken away
        bone.matrix = Matrix(matrix)
        bone.parent = edit_bones[parent] if parent >= 0 else None
        bone.use_deform = armature.data.bones[name].use_deform
    bpy.ops.object.mode_set(mode="OBJECT")
    scene.collection.objects.unlink(plain)
    return plain


def _rehang(item, stand_in, stand_ins):
    """Gives a stand-in the place of an object, below the stand-ins of whatever that hangs on or is deformed by."""
    stand_in.parent = stand_ins.get(item.parent, item.parent)
    if item.parent is not None:
        stand_in.parent_type, stand_in.parent_bone = item.parent_type, item.parent_bone
    stand_in.rotation_mode = item.rotation_mode
    stand_in.matrix_parent_inverse, stand_in.matrix_basis = item.matrix_parent_inverse, item.matrix_basis
    for modifier in stand_in.modifiers:
        if getattr(modifier, "object", None) in stand_ins:
            modifier.object = stand_ins[modifier.object]


def _let_go(armature, names, parents, matrices):
    """Where bones rest [B, 4, 4] and how they are posed [T, B, 4, 4], without scale, and how far off one the largest scale was.

    A bone that a child moves away from is turned by a hair, at rest and posed alike: for Blender's FBX importer a child that begins
    right at the end of its parent's y axis cannot leave it, though the file says that it does.
    """
    left, scales, right = np.linalg.svd(matrices[..., :3, :3])
    posed, rest = matrices.copy(), np.array([armature.data.bones[name].matrix_local for name in names])
    posed[..., :3, :3] = left @ right
    moving = np.abs(_own_poses(rest, parents, posed)[..., :3, 3]).max((0, 2)) > 1e-5 * np.ptp(rest[:, :3, 3], axis=0).max()
    left_behind = sorted({parents[bone] for bone in np.flatnonzero(moving).tolist() if parents[bone] >= 0})
    rest[left_behind] = rest[left_behind] @ _HAIR
    posed[:, left_behind] = posed[:, left_behind] @ _HAIR
    return rest, posed, float(np.abs(scales - 1).max())


def _own_poses(rest, parents, posed):
    """Each bone's own pose [T, B, 4, 4] among `parents`, from rest [B, 4, 4] and posed matrices [T, B, 4, 4]."""
    carrier, below = np.maximum(parents, 0), np.asarray(parents)[:, None, None] >= 0
    own_rest = np.linalg.inv(np.where(below, rest[carrier], np.eye(4))) @ rest
    return np.linalg.inv(own_rest) @ np.linalg.inv(np.where(below, posed[:, carrier], np.eye(4))) @ posed


def _key(plain, played, names, poses, span):
    turns = continuous_quaternions(matrix_to_quaternion(poses[..., :3, :3]))
    frames, tracks = np.array(span, float), []
    for number, name in enumerate(names):
        plain.pose.bones[name].rotation_mode = "QUATERNION"
        tracks.append(Track(bone_path(name, "location"), frames, poses[:, number, :3, 3], name))
        tracks.append(Track(bone_path(name, "rotation_quaternion"), frames, turns[:, number], name))
    write_tracks(tracks, plain, played)


def _lend_name(owner, borrower, lent):
    """Lets a stand-in bear the name that files shall show. What is linked keeps its own."""
    if owner.library is None:
        lent[owner] = owner.name
        owner.name += " (kept)"
        borrower.name = lent[owner]
