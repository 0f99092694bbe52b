# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a character: which bones turn and carry which, found by trying, without a change to anything of the user's.

A rig may pass motion on through any number of helper bones, constraints and drivers. What the solver needs of it is small: for
each mapped bone the mapped bone whose turn it takes over, and the one that carries its head. Where the way from bone to bone
is plain, the hierarchy says so; where it is not, a copy of the armature in a scene of its own, without the character's meshes,
is put into random poses, and what follows what is measured.
"""

from dataclasses import dataclass, replace

import bpy
import numpy as np

from ..guess.find import Skeleton
from ..pose import Controls
from ..roles import REQUIRED
from .ground import deformed_meshes, sole_height, world_matrix
from .probing import RigError, probe_bones, read_hierarchy
from .stand_in import standing_in, switch_value
from .steering import is_plain, off_rest, steering_bones


@dataclass(frozen=True)
class Rig:
    """A character as retargeting reads it.

    controls        the mapped bones (see `pose.Controls`)
    location_basis  [3, 3]: where a unit of each channel of the pelvis bone's location moves its head at rest, m in the world
    modes [N]       the controls' rotation modes
    at_rest         further bones that steer mapped ones and are not at rest now: the action keys them at rest
    notes           one sentence for each thing the user should know
    """

    controls: Controls
    location_basis: np.ndarray
    modes: tuple
    at_rest: tuple
    notes: tuple


def read_rig(armature, role_map, scene=None, *, probe=None):
    """Reads a character's `Rig`. Nothing of the user's is changed, not even for a while.

    scene: the one that it plays in, for its frame; the open one if None. probe: whether what follows what is measured; if
    None, where the hierarchy alone does not say. Raises `RigError`.
    """
    check_armature(armature)
    bones, roles, notes = _mapped_bones(armature, role_map)
    with standing_in(armature, role_map.switches, scene or bpy.context.scene) as stand_in:
        _check_axes(armature, stand_in.matrix, notes)
        steering = steering_bones(stand_in.armature, bones)
        off = off_rest(stand_in.armature, steering - set(bones))
        if probe or probe is None and not is_plain(stand_in.armature, steering, bones):
            reading, off, further = probe_bones(stand_in, bones, roles, off)
            notes += further
        else:
            reading = read_hierarchy(stand_in, bones, roles)
        controls = _controls(stand_in, reading)
        controls = replace(controls, sole=sole_height(deformed_meshes(armature), armature, stand_in, controls, reading))
    modes = tuple(armature.pose.bones[name].rotation_mode for name in controls.names)
    return Rig(controls, reading.location_basis, modes, tuple(sorted(off)), (*notes, *_animation_notes(armature)))


def skeleton_of(armature):
    """The `Skeleton` of an armature at rest in the world, for guessing roles by it."""
    bones, matrix = armature.data.bones, world_matrix(armature)
    index = {bone.name: number for number, bone in enumerate(bones)}
    ends = np.array([[bone.head_local, bone.tail_local] for bone in bones]).reshape(-1, 2, 3)
    ends = ends @ matrix[:3, :3].T + matrix[:3, 3]
    return Skeleton(
        names=tuple(index),
        parents=np.array([index[bone.parent.name] if bone.parent else -1 for bone in bones], int),
        heads=ends[:, 0],
        tails=ends[:, 1],
        deform=np.array([bone.use_deform for bone in bones], bool),
    )


def check_armature(armature):
    """Raises `RigError` unless `armature` is an armature object that can be given an action."""
    if armature is None or armature.type != "ARMATURE":
        what = "Nothing" if armature is None else f"{armature.name} is no armature, so nothing"
        raise RigError(f"{what} can be retargeted to: choose the character's armature object.")
    if not armature.pose or not armature.pose.bones:
        raise RigError(f"{armature.name} has no bones.")
    if armature.data.is_editmode:
        raise RigError(f"{armature.name} is in Edit Mode: leave it, then retarget.")
    if armature.library is not None:
        raise RigError(
            f"{armature.name} is linked from another file: make a library override of it first "
            "(Object > Library Override > Make), then retarget to the override."
        )
    if armature.animation_data and armature.animation_data.use_tweak_mode:
        raise RigError(f"An NLA strip of {armature.name} is being tweaked: leave Tweak Mode, then retarget.")


def _check_axes(armature, matrix, notes):
    """Raises `RigError` for a mirrored object; a note for one that is scaled unevenly."""
    sizes = np.linalg.norm(matrix[:3, :3], axis=0)
    if np.linalg.det(matrix[:3, :3]) <= 1e-6 * sizes.prod():
        raise RigError(
            f"The object {armature.name} is mirrored or flat: apply its scale (Object > Apply > Scale), then retarget."
        )
    if np.ptp(sizes) > 1e-3 * sizes.max():
        notes.append(f"The object {armature.name} is scaled unevenly, so directions may be off: apply its scale.")


def _mapped_bones(armature, role_map):
    """Names of the mapped bones that there are, their roles, and notes on those that there are not."""
    pairs = [(name, role) for role, names in role_map.bones.items() for name in names]
    there = armature.pose.bones
    lost = [name for name, _ in pairs if name not in there]
    pairs = [(name, role) for name, role in pairs if name in there]
    missing = [role for role in REQUIRED if role not in {role for _, role in pairs}]
    if missing:
        raise RigError(f"No bone of {armature.name} has the role {missing[0]}: choose one in the table of roles.")
    notes = [f"{armature.name} has no bone {lost[0]}, which the role map names."] if lost else []
    unset = [switch for switch in role_map.switches if switch_value(armature, switch) is None]
    if unset:
        notes.append(
            f"{armature.name} has no switch {unset[0].property} on its bone {unset[0].bone}, which the role map sets."
        )
    return [name for name, _ in pairs], [role for _, role in pairs], notes


def _controls(stand_in, reading):
    """The `Controls` of a reading, without the sole."""
    order = _parents_first(reading)
    place = {bone: number for number, bone in enumerate(order)} | {-1: -1}
    names = [reading.names[bone] for bone in order]
    bones = [stand_in.index[name] for name in names]
    matrices, data = reading.at_rest.matrices[bones], stand_in.armature.data.bones
    lengths = np.array([data[name].length for name in names])
    return Controls(
        names=tuple(names),
        roles=tuple(reading.roles[bone] for bone in order),
        heads=matrices[:, :3, 3],
        tails=matrices[:, :3, 3] + matrices[:, :3, 1] * lengths[:, None],
        axes=reading.at_rest.axes[bones],
        rotation_parents=np.array([place[reading.rotation_parents[bone]] for bone in order]),
        location_parents=np.array([place[reading.location_parents[bone]] for bone in order]),
        scale=float(np.abs(np.linalg.det(reading.location_basis)) ** (1 / 3)),
        origin=stand_in.matrix[:3, 3].copy(),
        sole=0.0,
    )


def _parents_first(reading):
    """The bones' order, parents before children and otherwise as they are mapped. Raises `RigError` for a ring."""
    waiting, order = list(range(len(reading.names))), []
    while waiting:
        done = {-1, *order}
        free = (bone for bone in waiting if {reading.rotation_parents[bone], reading.location_parents[bone]} <= done)
        bone = next(free, None)
        if bone is None:
            raise RigError(f"{reading.names[waiting[0]]} depends on bones that depend on it: check the rig's constraints.")
        order.append(bone)
        waiting.remove(bone)
    return order


def _animation_notes(armature):
    notes, name, animation = [], armature.name, armature.animation_data
    if animation:
        tracks = [track for track in animation.nla_tracks if len(track.strips)]
        if any(track.is_solo for track in tracks):
            notes.append(f"An NLA track of {name} plays solo, so the new action does not: take its star away.")
        elif animation.use_nla and not all(track.mute for track in tracks):
            notes.append(f"{name} has NLA strips, which play beneath the new action: mute them where they show.")
        if animation.action_influence < 1 or animation.action_blend_type != "REPLACE":
            notes.append(f"{name} blends its action: set Blending to Replace and Influence to 1 in the NLA editor.")
    if armature.data.pose_position == "REST":
        notes.append(f"{name} is shown in its rest position: choose Pose Position in its armature's properties.")
    if any(not constraint.mute for constraint in armature.constraints):
        notes.append(f"The object {name} has constraints, which move the whole motion along.")
    return notes
