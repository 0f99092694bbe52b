# SPDX-License-Identifier: GPL-3.0-or-later
"""The shape keys of a character's meshes, and their keyframes for a retargeted face."""

import bpy
import numpy as np

from ..contract.skeleton import VALID_PARTS
from ..tracks import Track, shape_key_path
from .face import key_values, key_weights, read_expressions
from .rig.reading import deformed_meshes

_CLIPPED = 0.02  # of a slider's range; less beyond its end is not worth a sentence
_MOVES = 0.05  # how large an expression must become to be missed


def face_tracks(motion, armature, settings, frames, face_map=None):
    """Keyframes of a `SourceMotion`'s expressions at scene frames [T]: [(Key datablock, its tracks)], and notes for the user.

    settings: `RetargetSettings`, for its gain and offset. face_map: a `FaceMap` that counts alone, or None for what is found by
    the keys' names. Sliders keep their ranges: what goes beyond is cut off. Changes nothing.
    """
    rows = np.flatnonzero(motion.valid[:, VALID_PARTS.index("face")])
    if not len(motion.expression_names) or not len(rows):
        return [], []
    expressions = read_expressions(motion.expression_names, motion.expression[rows])
    faces, notes, shown = [], _unknown(face_map, expressions), set()
    for shape_keys, mesh in _shape_keys_of(armature).items():
        weights = key_weights([key.name for key in shape_keys.key_blocks[1:]], expressions, face_map)
        if not weights:
            continue
        shown |= {name for of_key, _, _ in weights.values() for name in of_key}
        if shape_keys.library is not None:
            notes.append(f"{mesh.name}'s mesh is linked: make a library override of its data to have its shape keys move.")
            continue
        tracks, of_mesh = _tracks_of(shape_keys, weights, expressions, np.asarray(frames)[rows], settings)
        if tracks:
            faces.append((shape_keys, tracks))
        notes += [f"{mesh.name}: {note}" for note in of_mesh] + _sharers(shape_keys, armature)
    return faces, notes + _missing(expressions, shown, armature)


def character_meshes(armature):
    """The mesh objects that an armature object deforms or carries: children of it or its bones, and their children, too."""
    carried = {armature}
    for item in sorted(bpy.data.objects, key=_depth):
        if item.parent in carried and (item.type != "ARMATURE" or item == armature):
            carried.add(item)
    deformed = set(deformed_meshes(armature))
    return [item for item in bpy.data.objects if item.type == "MESH" and (item in carried or item in deformed)]


def _depth(item):
    depth = 0
    while item.parent is not None:
        item, depth = item.parent, depth + 1
    return depth


def key_names(armature):
    """Names [[K]] of the shape keys of each of a character's meshes."""
    return [[key.name for key in shape_keys.key_blocks[1:]] for shape_keys in _shape_keys_of(armature)]


def _shape_keys_of(armature):
    """{Key datablock: the first mesh object that shows it} of a character's meshes, by the objects' names."""
    meshes = sorted(character_meshes(armature), key=lambda item: item.name)
    of_meshes = {}
    for mesh in meshes:
        if mesh.data.shape_keys is not None and mesh.data.shape_keys.use_relative:
            of_meshes.setdefault(mesh.data.shape_keys, mesh)
    return of_meshes


def _tracks_of(shape_keys, weights, expressions, frames, settings):
    """Tracks of one `Key` datablock, and notes on keys that are driven or would go beyond their sliders' ends."""
    animation = shape_keys.animation_data
    driven_paths = {curve.data_path for curve in animation.drivers} if animation else set()
    tracks, driven, clipped = [], [], {}
    for name, (of_key, gain, offset) in weights.items():
        key, path = shape_keys.key_blocks[name], shape_key_path(name)
        if path in driven_paths:
            driven.append(name)
            continue
        values = key_values(of_key, expressions, gain * settings.expression_gain, offset + settings.expression_offset)
        low, high = key.slider_min, key.slider_max
        # A key with negative weights shows how far one expression exceeds another: below the slider's end there is nothing to lose.
        below = 0.0 if min(of_key.values()) < 0 else low - values.min()
        if (beyond := max(below, values.max() - high)) > _CLIPPED * (high - low):
            clipped[name] = beyond
        tracks.append(Track(path, frames, np.clip(values, low, high)[:, None], "Expression"))
    notes = []
    if driven:
        notes.append(f"Drivers move {_named(driven)}, which the face leaves alone.")
    if clipped:
        most = max(clipped, key=clipped.get)
        notes.append(f"Values beyond the ends of sliders are cut off, those of {most} most ({clipped[most]:.2f} beyond).")
    return tracks, notes


def _sharers(shape_keys, armature):
    """A note where other characters show the same mesh."""
    own = set(character_meshes(armature))
    others = sorted(
        item.name for item in bpy.data.objects if item.data == shape_keys.user and item not in own and item.users_scene
    )
    return [f"{_named(others)} shows the same mesh, so its face moves alike."] if others else []


def _unknown(face_map, expressions):
    """A note on expressions that a user's map names and the capture does not have, such as misspelt ones."""
    named = dict.fromkeys(name for weights in face_map.keys.values() for name in weights) if face_map else ()
    unknown = [name for name in named if name not in expressions.values]
    return [f"The face map {face_map.name} names {_named(unknown)}, which the capture does not have."] if unknown else []


def _missing(expressions, shown, armature):
    """A note on captured expressions that no shape key shows, of those that move."""
    reached = set().union(*map(expressions.origin, shown))
    moving = [name for name in expressions.captured if np.abs(expressions.values[name]).max() > _MOVES]
    missing = [name for name in moving if name not in reached]
    if not missing or not any(key_names(armature)):
        return []
    if not reached:
        return [f"{armature.name} has no shape keys that show the capture's expressions, so its face stays as it is."]
    return [f"{armature.name} has no shape key for {len(missing)} of the capture's expressions, such as {missing[0]}."]


def _named(names):
    """A few of many names, for a sentence."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
