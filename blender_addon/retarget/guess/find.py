# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the role map of an unknown character: a preset's names, else names in general, else its shape. Numpy only, no bpy."""

import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from ...contract.skeleton import FINGERS, SIDES
from ..role_map import Preset, RoleMap, RoleMapError, presets
from ..roles import CHAINS, REQUIRED, ROLES
from .check import doubts, fill_in_line, plausible
from .names import names_by_role, side_of_name
from .shape import find_by_shape
from .tree import Tree

GUESSED = "guessed"
"""Name of a map that comes from no preset."""

_END = re.compile(r"(?i:[._ -](end|nub|leaf))(?i:[._]?[lr])?([._]\d+)?$|(End|Nub)$")
"""Bones that exporters add to mark where the last ones end."""

_MANY = 8
"""How many more roles the words in names must give than a preset does to be believed instead."""

_LEAST_SCORE, _SURE_SCORE = 0.5, 2.5
"""A shape's score, least, to be a person's at all, and surely."""


@dataclass(frozen=True)
class Skeleton:
    """The B bones of an armature at rest, in any order.

    names [B]; parents [B]: index of each one's parent, or -1; heads [B, 3], tails [B, 3] m, in the world
    deform [B]    whether each bone deforms a mesh
    """

    names: tuple
    parents: np.ndarray
    heads: np.ndarray
    tails: np.ndarray
    deform: np.ndarray

    @cached_property
    def depth(self):
        """How many bones each one has above it [B]."""
        depth, above = np.zeros(len(self.names), int), np.asarray(self.parents, int)
        while (above >= 0).any():
            depth += above >= 0
            above = np.where(above >= 0, np.asarray(self.parents, int)[above], -1)
        return depth


def find_role_map(skeleton, folders=()):
    """The `RoleMap` that fits a skeleton best; look at its notes, and at `missing()`.

    folders: with the user's own presets, which are tried first.
    """
    tree = Tree(skeleton, range(len(skeleton.names)))
    preset, notes = _best_preset(skeleton, folders)
    if preset is not None and preset.switches and not preset.missing():
        # A control rig's bones are related by constraints, so that its shape says nothing.
        return replace(preset, notes=notes + doubts(tree, _indices(skeleton, preset.bones)))
    named = _indices(skeleton, preset.bones) if preset is not None else {}
    worded = names_by_role(skeleton.names, skeleton.depth)
    shape = find_by_shape(skeleton, [bone for bone, name in enumerate(skeleton.names) if not _END.search(name)])
    name, roles = GUESSED, worded
    if _complete(named) and not (plausible(tree, worded) and len(worded) > len(named) + _MANY):
        name, roles = preset.name, named
    if _complete(named) or plausible(tree, worded):
        fill_in_line(tree, roles, skeleton.deform)
        said = _fill_from_shape(roles, shape)
    elif shape is not None and shape.score > _LEAST_SCORE:
        roles, said = _shape_with_words(skeleton, shape)
    else:
        # Better a few roles that are sure than all of them wrong.
        name, roles = (preset.name, named) if preset and len(named) >= len(worded) else (GUESSED, worded)
        said = ["This looks like no known rig: choose the bones of the missing roles by hand."]
    return _role_map(skeleton, roles, name, notes + said + doubts(tree, roles))


def _best_preset(skeleton, folders):
    """The map of the preset that fits best, or None where none fits at all, and notes on the user's presets that are broken."""
    own, notes = [], []
    for path in (path for folder in folders for path in sorted(Path(folder).glob("*.json"))):
        try:
            own.append(Preset.load(path))
        except RoleMapError as error:
            notes.append(str(error))
    found = [preset.fit(skeleton) for preset in (*own, *presets())]
    whole = [role_map for role_map in found[: len(own)] if not role_map.missing()]
    if whole:
        return max(whole, key=_bone_count), notes
    best = max(found, key=lambda role_map: (not role_map.missing(), len(role_map.switches), _bone_count(role_map)))
    return best if best.bones else None, notes


def _bone_count(role_map):
    return sum(map(len, role_map.bones.values()))


def _indices(skeleton, bones):
    place = {name: index for index, name in enumerate(skeleton.names)}
    return {role: [place[name] for name in names] for role, names in bones.items()}


def _role_map(skeleton, roles, name, notes):
    """The `RoleMap` of {role: [bone]}; a bone in two roles stays in the first."""
    taken, bones = set(), {}
    for role in ROLES:
        kept = tuple(bone for bone in roles.get(role, ()) if bone not in taken)
        taken.update(kept)
        if kept:
            bones[role] = tuple(skeleton.names[bone] for bone in kept)
    return RoleMap(name, bones, notes=tuple(dict.fromkeys(notes)))


def _complete(roles):
    return all(roles.get(role) for role in REQUIRED)


def _fill_from_shape(roles, shape):
    """Adds to roles by names what the shape knows beyond them, where both agree. Returns notes."""
    if shape is None or shape.score < _SURE_SCORE:
        return []
    differing = [role for role in REQUIRED if not set(roles[role]) & set(shape.roles.get(role, roles[role]))]
    exchanged = all(set(roles[role]) & set(shape.roles.get(_of_other_side(role), ())) for role in differing)
    if differing and exchanged:
        return []  # a note of its own says so
    if differing:
        return [f"By its place another bone would be the {differing[0]} than by its name: check the roles."]
    taken = {bone for bones in roles.values() for bone in bones}
    fingered = {side for side in SIDES for finger in FINGERS if f"{side}_{finger}1" in roles}
    for role, bones in shape.roles.items():
        side, _, part = role.partition("_")
        if role in CHAINS and role in roles:
            roles[role] = [bone for bone in bones if bone in roles[role] or bone not in taken]
        elif role not in roles and not taken & set(bones) and not (part[:-1] in FINGERS and side in fingered):
            roles[role] = bones
    return []


def _shape_with_words(skeleton, shape):
    """Roles by shape, and notes; names that say left and right decide where the shape leaves that open."""
    said = [
        (role.partition("_")[0], side_of_name(skeleton.names[bone]))
        for role, bones in shape.roles.items()
        for bone in bones
        if role.startswith(SIDES)
    ]
    contrary = sum((name is not None) * (1 if name != side else -1) for side, name in said)
    roles, notes = shape.roles, list(shape.notes)
    if shape.score < _SURE_SCORE:
        notes.append("The bones were told by their places alone, and not surely: check the roles.")
    if not shape.sides_sure and not contrary:
        notes.append("Which way the character faces is unclear: check that left and right are not exchanged.")
    if not shape.sides_sure and contrary > 0:
        roles = {_of_other_side(role): bones for role, bones in roles.items()}
    return roles, notes


def _of_other_side(role):
    side, _, part = role.partition("_")
    return f"{SIDES[side == SIDES[0]]}_{part}" if side in SIDES else role
