# SPDX-License-Identifier: GPL-3.0-or-later
"""Captures to characters, many by many: one job after another, none of which stops the others."""

import traceback
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np

from ..character import check_template
from ..contract.amass import read_clip
from ..contract.character import CharacterTemplate
from ..contract.npz_file import FileError
from ..keyframes import Timing, scene_fps
from ..live.target import Found
from .face import FaceMap
from .properties import is_there, problems_of, role_map_of
from .retargeting import retarget
from .role_map import RoleMap
from .solve.source import RetargetError, source_motion


@dataclass(frozen=True)
class Job:
    """One capture to one character. problem: why it cannot be done, where that is known already."""

    capture: str
    character: str
    armature: Found | None
    role_map: RoleMap
    face_map: str
    problem: str

    @property
    def title(self):
        return f"{Path(self.capture).stem} to {self.character}"


@dataclass(frozen=True)
class Result:
    """What came of a job: sentences for the user. notes: on what was done otherwise than one might think."""

    title: str
    text: str
    failed: bool = False
    notes: tuple = ()


class Batch:
    """The jobs that a scene's settings ask for, as they are now. Each `run_next` does one of them.

    Keeps no reference into Blender's data, since the user may do anything between two jobs. Raises `FileError` where the
    settings or the captured body's template cannot be used.
    """

    def __init__(self, scene, default_template):
        settings = scene.fullbody_retarget
        self._scene, self._settings = Found(scene, "scenes"), settings.chosen()
        self._has_own_template = bool(settings.template_path)
        self._template = CharacterTemplate.load(bpy.path.abspath(settings.template_path) or str(default_template))
        check_template(self._template, ())
        captures = [bpy.path.abspath(item.path) for item in settings.captures if item.use]
        characters = [item for item in settings.characters if item.use]
        self.jobs = [job for capture in captures for job in map(lambda item, path=capture: _job(path, item), characters)]
        self.done, self._loaded = 0, (None, None)

    @property
    def next(self):
        """The `Job` that comes next, or None."""
        return self.jobs[self.done] if self.done < len(self.jobs) else None

    def run_next(self):
        """Does the next job. Returns its `Result`: whatever went wrong is in there."""
        job = self.next
        self.done += 1
        try:
            return Result(job.title, *self._run(job))
        except FileError as error:
            return Result(job.title, str(error), True)
        except Exception as error:  # whatever it is, the other jobs can be done
            traceback.print_exc()
            return Result(job.title, f"Failed unexpectedly ({type(error).__name__}: {error}).", True)

    def _run(self, job):
        """What a `Result` says of a job that could be done. Raises `FileError`."""
        if job.problem:
            raise RetargetError(job.problem)
        scene, armature = self._scene.find(), job.armature.find()
        if scene is None or armature is None:
            raise RetargetError(f"{job.character} was deleted.")
        face_map = FaceMap.load(job.face_map) if job.face_map else None
        clip = self._clip(job.capture)
        rest_joints, sole, notes = rest_of(clip, self._template, self._has_own_template)
        timing = Timing(scene_fps(scene), scene.frame_start)
        motion = source_motion(clip, rest_joints, sole, timing.times(clip), Path(job.capture).stem)
        view_layer = bpy.context.view_layer if bpy.context.scene == scene else scene.view_layers[0]
        made = retarget(
            motion,
            armature,
            job.role_map,
            self._settings,
            timing,
            name=f"{motion.name} {armature.name}",
            view_layer=view_layer,
            face_map=face_map,
        )
        scene.frame_end = max(scene.frame_end, timing.frame_end(clip))
        done = f"{len(motion.times)} frames"
        return done, False, tuple(dict.fromkeys([*notes, *made.notes]))

    def _clip(self, path):
        """A capture's clip, kept until another one comes. Raises `FileError`, again for each of its jobs."""
        if self._loaded[0] != path:
            self._loaded = None, None
            self._loaded = path, read_clip(path)
        return self._loaded[1]


def _job(capture, character):
    if not is_there(character):
        return Job(capture, character.name, None, None, "", f"{character.name} was deleted.")
    role_map, problem = None, " ".join(problems_of(character)[0])
    if not problem:
        role_map = role_map_of(character)
    return Job(
        capture,
        character.armature.name,
        Found(character.armature),
        role_map,
        bpy.path.abspath(character.face_map),
        problem,
    )


def rest_of(clip, template, trusted):
    """Rest joints [52, 3] m of a clip's body, height of its soles, both in the rest frame, and notes for the user.

    The shape is the person's where the clip was captured with the template's body, or names none and the template is `trusted` to
    be its; else it is the mean's, which changes the size of the steps a little.
    """
    models = clip.meta.get("models")
    captured, own = models.get("body") if isinstance(models, dict) else None, template.meta.get("body_sha256")
    notes = []
    if not (trusted if not captured else captured == own):
        betas = ()
        if captured:
            notes.append("The clip was captured with another body model than the chosen one, whose mean shape is used.")
    else:
        betas = np.asarray(clip.betas, float)[: template.shapedirs.shape[-1]]
    return template.rest_joints(betas), template.sole(betas), notes
