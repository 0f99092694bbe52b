# SPDX-License-Identifier: GPL-3.0-or-later
"""Keyframes in bulk, for whatever is animated.

Nothing here knows of captures, so that a live recording or a retargeted motion is written by the same code.
"""

from dataclasses import dataclass

import bpy
import numpy as np

CONSTANT, LINEAR = 0, 1
"""Keyframe interpolation as `foreach_set` takes it."""

BREAKDOWN = "BREAKDOWN"
"""Keyframe type of what was filled in: animators know it as what stands between the poses that count."""


def bone_path(bone, attribute=None):
    """The RNA path of a pose bone, by its name, or of one of its properties."""
    path = f'pose.bones["{bpy.utils.escape_identifier(bone)}"]'
    return f"{path}.{attribute}" if attribute else path


def shape_key_path(name):
    """The RNA path of a shape key's value in its `Key` datablock."""
    return f'key_blocks["{bpy.utils.escape_identifier(name)}"].value'


@dataclass(frozen=True)
class Track:
    """One animated property: its RNA path, scene frames [N], values [N, C] (one curve a column), and its group's name.

    filled [N] bool, or None: which of them nobody saw, and are shown as breakdowns in the dope sheet.
    """

    data_path: str
    frames: np.ndarray
    values: np.ndarray
    group: str
    interpolation: int = LINEAR
    filled: np.ndarray = None


def write_tracks(tracks, animated, action):
    """Writes tracks as curves of `action` for the datablock `animated`, which then plays them. Empty ones are left out.

    Keys that a curve has already stay, but for those on the same frames.
    """
    tracks = [track for track in tracks if len(track.frames)]
    if not tracks:
        return
    curves, groups = _curves_for(animated, action)
    for track in tracks:
        group = groups.get(track.group) or groups.new(track.group)
        for column in range(track.values.shape[1]):
            curve = curves.find(track.data_path, index=column)
            if curve is None:
                curve = curves.new(track.data_path, index=column)
                curve.group = group
            _write_curve(curve, track.frames, track.values[:, column], track.interpolation)
            if track.filled is not None and track.filled.any():
                _mark_filled(curve, track.frames[track.filled])


def _write_curve(curve, frames, values, interpolation):
    # float32 is what Blender stores; doubles would be converted one by one, several times slower.
    points = np.stack([frames, values], -1).astype(np.float32)
    if len(curve.keyframe_points):
        earlier = np.empty(2 * len(curve.keyframe_points), np.float32)
        curve.keyframe_points.foreach_get("co", earlier)
        earlier = earlier.reshape(-1, 2)
        points = np.concatenate([earlier[~np.isin(earlier[:, 0], points[:, 0])], points])
        points = points[np.argsort(points[:, 0])]
        curve.keyframe_points.clear()
    curve.keyframe_points.add(len(points))
    curve.keyframe_points.foreach_set("co", points.ravel())
    curve.keyframe_points.foreach_set("interpolation", np.full(len(points), interpolation, np.int32))
    curve.update()


def _mark_filled(curve, frames):
    """Shows the keys on these frames [N] as breakdowns."""
    points = np.empty(2 * len(curve.keyframe_points), np.float32)
    curve.keyframe_points.foreach_get("co", points)
    for index in np.flatnonzero(np.isin(points[::2], np.float32(frames))).tolist():
        curve.keyframe_points[index].type = BREAKDOWN


def _curves_for(animated, action):
    """The curves and groups of `action` that drive `animated`, made if need be: the only code that knows action slots.

    An action assigned without a slot animates nothing and says nothing, so both are always set.
    """
    animation = animated.animation_data or animated.animation_data_create()
    slot = animation.action_slot if animation.action == action else None
    slot = slot or action.slots.new(id_type=animated.id_type, name=animated.name)
    layer = action.layers[0] if action.layers else action.layers.new("Layer")
    strip = layer.strips[0] if layer.strips else layer.strips.new(type="KEYFRAME")
    animation.action = action
    animation.action_slot = slot
    channels = strip.channelbag(slot, ensure=True)
    return channels.fcurves, channels.groups
