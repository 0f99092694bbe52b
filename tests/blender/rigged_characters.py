# SPDX-License-Identifier: GPL-3.0-or-later
"""Rigged characters to retarget to, built in the open scene, and what their bones are truly for."""

from pathlib import Path

import bpy
from fullbody_mocap.evaluate import make_characters, rig_variants

DEFINITIONS = rig_variants.read_definitions(Path(__file__).parent / "rig_definitions.json")


def make_rig(
    name,
    *,
    scale=1.0,
    turn=(0, 0, 0),
    place=(0, 0, 0),
    rotation_mode="QUATERNION",
    without_inherited_turn=(),
    object_name=None,
    **odd,
):
    """Builds "mixamo", "unreal", "cmu", "makehuman" or "vrm" with a skinned mesh; returns the armature object.

    odd: keyword arguments of `rig_variants.variant`: rolls, arms, facing, spine, fingers, lengths, split
    scale, turn (axis-angle, degrees), place (m): the armature object's own; the bones are laid out so that the character still
    stands upright, at the world's size and facing as `facing` says, on the ground below at `place`
    rotation_mode: of all pose bones; without_inherited_turn: bones with use_inherit_rotation off
    The true roles are `roles_of(armature)`.
    """
    rig = rig_arrays(name, **odd)
    armature = make_characters.build_rig(
        rig,
        name=object_name or name,
        scene=bpy.context.scene,
        view_layer=bpy.context.view_layer,
        matrix=make_characters.object_matrix(scale, turn, place),
        rotation_mode=rotation_mode,
        without_inherited_turn=without_inherited_turn,
    )
    return _note_roles(armature, rig.roles)


def rig_arrays(name, **odd):
    """The `rig_variants.Rig` that `make_rig` builds."""
    rig = rig_variants.make_rig_arrays(DEFINITIONS, name, make_characters.axes_from_roll)
    return rig_variants.variant(rig, **odd)


def save_rigify(path):
    """Generates Rigify's human rig in an empty file and saves it as `path` (.blend). Takes some seconds: once per session."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    armature = make_characters.build_rigify(bpy.context.scene, bpy.context.view_layer)
    _note_roles(armature, rig_variants.true_roles("rigify"))
    bpy.ops.wm.save_as_mainfile(filepath=str(path), check_existing=False)


def append_rig(path, name="rigify"):
    """Puts the armature object `name` of a .blend, with its mesh, into the open scene; returns the armature object."""
    with bpy.data.libraries.load(str(path), link=False) as (available, wanted):
        wanted.objects = [item for item in available.objects if item in (name, f"{name} body")]
    for item in wanted.objects:
        bpy.context.scene.collection.objects.link(item)
    bpy.context.view_layer.update()
    return bpy.data.objects[name]


def _note_roles(armature, roles):
    armature["true_roles"] = {role: ",".join(bones) for role, bones in roles.items()}
    return armature


def roles_of(armature):
    """{role: names of its bones} of a rig made here, for measuring; of Rigify its deforming bones."""
    return {role: tuple(bones.split(",")) for role, bones in armature["true_roles"].items()}
