# SPDX-License-Identifier: GPL-3.0-or-later
"""A captured motion onto a character: the passes, one after another."""

import contextlib
import time
from dataclasses import dataclass, field

import bpy
import numpy as np

from ..contract.skeleton import VALID_PARTS
from .face_keys import face_tracks
from .pose import Controls
from .rig.bake import write_action
from .rig.reading import read_rig
from .solve.solver import RetargetSettings, solve


@dataclass(frozen=True)
class Retargeted:
    """What a retargeting made: the new action, a sentence for each thing the user should know, the seconds of each pass."""

    action: bpy.types.Action
    notes: tuple
    controls: Controls
    seconds: dict = field(default_factory=dict)


def retarget(
    motion, armature, role_map, settings=RetargetSettings(), timing=None, *, name=None, view_layer=None, face_map=None
):
    """Retargets a `SourceMotion`, resampled at the moments to key, to an armature object. Returns `Retargeted`.

    timing: a `keyframes.Timing`, which says at which scene frames the moments lie. name: the action's; view_layer: of the scene
    that the character plays in, the open one if None; face_map: a `face.FaceMap` for its expressions, or None to go by names.
    Raises `RetargetError`; the character then is as it was.
    """
    scene = view_layer.id_data if view_layer else bpy.context.scene
    clock = _Clock()
    with clock("read the rig"):
        rig = read_rig(armature, role_map, scene)
    with clock("solve"):
        world = solve(motion, rig.controls, settings)
    frames = scene_frames(motion, timing, scene)
    with clock("match the face"):
        faces, face_notes = [], []
        if settings.face and len(motion.expression_names):
            faces, face_notes = face_tracks(motion, armature, settings, frames, face_map)
    with clock("write the action"):
        action = write_action(
            armature,
            rig,
            role_map,
            world,
            frames,
            motion.valid,
            name=name or f"{motion.name} {armature.name}",
            fingers=settings.fingers,
            faces=faces,
        )
    notes = (*role_map.notes, *rig.notes, *_part_notes(motion, settings), *face_notes)
    return Retargeted(action, notes, rig.controls, clock.seconds)


def scene_frames(motion, timing, scene):
    """Scene frames [T] of a motion's moments; without a timing its first moment is frame 1 at the scene's own rate."""
    fps = timing.fps if timing else scene.render.fps / scene.render.fps_base
    frames = (timing.frame_start if timing else 1) + (np.asarray(motion.times, float) - motion.times[0]) * fps
    # Whole frames exactly, so that keys lie on them.
    return np.where(np.abs(frames - np.round(frames)) < 1e-3, np.round(frames), frames)


def _part_notes(motion, settings):
    """Notes on parts that were never captured."""
    if not settings.fingers:
        return []
    lacking = [part.replace("_", " ") for part in VALID_PARTS[1:3] if not motion.valid[:, VALID_PARTS.index(part)].any()]
    return [f"{motion.name} has no {' and no '.join(lacking)}, so fingers stay as they are."] if lacking else []


class _Clock:
    """Seconds of passes by name."""

    def __init__(self):
        self.seconds = {}

    @contextlib.contextmanager
    def __call__(self, name):
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start
