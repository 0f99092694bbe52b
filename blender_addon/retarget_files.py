# SPDX-License-Identifier: GPL-3.0-or-later
"""Retargets one clip to one character after another without windows: what `fullbody retarget` keeps running.

    python -m fullbody_mocap.retarget_files                                               (bpy as a module)
    blender --background --factory-startup --python-exit-code 1 --python retarget_files.py (a Blender)

Reads jobs as JSON objects, one a line, from stdin, and answers each with one line on stdout; the first line says which Blender
this is. A job starts from a fresh file, so it never depends on those before it. See `run_job` for what a job is.
"""

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

if not __package__:  # run as a file by Blender: the package is the folder this file lies in
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    __package__ = Path(__file__).resolve().parent.name
    __import__(__package__)

import bpy

from .contract.capture import CaptureClip
from .contract.npz_file import FileError, check_arrays, read_npz
from .keyframes import Timing, scene_fps
from .retarget.face import FaceMap
from .retarget.files.character_file import open_character
from .retarget.files.export import ExportError, write_files
from .retarget.guess.find import find_role_map
from .retarget.retargeting import retarget
from .retarget.rig.reading import skeleton_of
from .retarget.role_map import RoleMap
from .retarget.solve.solver import RetargetSettings
from .retarget.solve.source import source_motion

_BODY_SCHEMA = {"rest_joints": ("f", (52, 3)), "sole": ("f", ())}


def run_job(job):
    """Retargets and writes. Returns what was made, as a dict.

    job: a dict of
      clip, clip_name     capture file, and what the user calls it
      body                .npz: rest_joints [52, 3] m and the soles' height, in the rest frame
      character           file; armature: the object's name or None
      map, face_map       files or None
      settings            of `RetargetSettings`
      fps                 or None (see `set_rate`)
      name                of the action
      paths               {format: file to write}
    Raises `FileError` or `ExportError`; nothing has been written then.
    """
    start = time.perf_counter()
    clip = CaptureClip.load(job["clip"])
    body = read_npz(job["body"], "body's rest")
    check_arrays(body, _BODY_SCHEMA, "body's rest")
    armature, role_map, notes = open_character(job["character"], job["armature"])
    if job["map"] is not None:
        role_map = RoleMap.load(job["map"])
    elif role_map is None:
        role_map = find_role_map(skeleton_of(armature))
    role_map.check(skeleton_of(armature))
    opened = time.perf_counter()

    scene = bpy.context.scene
    set_rate(scene, clip, job["fps"])
    timing = Timing(scene_fps(scene), 1)
    scene.frame_start, scene.frame_end = 1, timing.frame_end(clip)
    motion = source_motion(
        clip, body["rest_joints"], float(body["sole"]), times=timing.times(clip), name=Path(job["clip_name"]).stem
    )
    made = retarget(
        motion,
        armature,
        role_map,
        RetargetSettings(**job["settings"]),
        timing,
        name=job["name"],
        view_layer=bpy.context.view_layer,
        face_map=FaceMap.load(job["face_map"]) if job["face_map"] else None,
    )
    retargeted = time.perf_counter()
    scene.frame_set(scene.frame_start)
    frames = scene.frame_start, scene.frame_end
    notes += [*made.notes, *write_files(job["paths"], armature, made.action, frames)]
    if scene.render.fps_base != 1 and {"fbx", "glb"} & set(job["paths"]):
        notes.append(
            f"At {scene_fps(scene):g} frames per second Blender itself imports .fbx and .glb a little fast or slow."
        )
    if Path(job["character"]).suffix.lower() == ".vrm" and "glb" in job["paths"]:
        notes.append(
            "The .glb has the character and its motion, but no VRM data: expressions' names and springs are left out."
        )
    return {
        "armature": armature.name,
        "role_map": role_map.name,
        "frames": timing.frame_count(clip),
        "fps": scene_fps(scene),
        "notes": list(dict.fromkeys(notes)),
        "seconds": {
            "open": opened - start,
            "retarget": retargeted - opened,
            "write": time.perf_counter() - retargeted,
        },
    }


def set_rate(scene, clip, fps):
    """Plays the scene at `fps`, which need not be whole, or at the whole rate that is nearest to the clip's own.

    Blender's importers of FBX and glTF are right for whole rates only, and a video's measured rate is such as 29.87.
    """
    rate = max(1, round(clip.mocap_framerate)) if fps is None else fps
    scene.render.fps = max(1, round(rate))
    scene.render.fps_base = scene.render.fps / rate


def answer(line):
    """The answer to a job as a dict: what was made, or the `error`, one sentence for the user."""
    try:
        return run_job(json.loads(line))
    except (FileError, ExportError) as error:
        return {"error": str(error)}
    except Exception as error:  # whatever it is, the jobs to come must not go down with it
        traceback.print_exc()
        return {"error": f"Blender failed: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"}


def limit_memory():
    """Lets this process have half of the machine's memory, where the system can: damaged files make importers ask for all of it."""
    try:
        import resource

        half = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
        resource.setrlimit(resource.RLIMIT_DATA, (half, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    except (ImportError, ValueError, OSError):
        pass


def main():
    limit_memory()
    # What Blender and its importers print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: os._exit(128 + number))
    print(json.dumps({"blender": bpy.app.version_string, "pid": os.getpid()}), file=answers)
    for line in sys.stdin:
        print(json.dumps(answer(line)), file=answers)
    answers.close()
    os._exit(0)  # Blender as a module can hang on its way out


if __name__ == "__main__":
    main()
