# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the bones of animated files are, frame by frame, as Blender itself evaluates them: what retargeting is measured by.

    python -m fullbody_mocap.evaluate.sample_bones --jobs JOBS.json
    blender --background --factory-startup --python-exit-code 1 --python sample_bones.py -- --jobs JOBS.json

JOBS.json is a list of {"file": .blend, .fbx, .glb, .vrm, .usd or .bvh, "out": .npz to write, "bones": names, or none for all,
"fps": frames a second (of a file that is imported), "frames": how many}. The last line on stdout is one JSON object with what
failed, by file.
"""

import argparse
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

if not __package__:  # run as a file by Blender: the add-on is the folder above this file's
    _addon = Path(__file__).resolve().parents[1]
    sys.path.insert(0, str(_addon.parent))
    __package__ = f"{_addon.name}.{Path(__file__).resolve().parent.name}"
    __import__(__package__)

import bpy
import numpy as np

from ..contract.npz_file import FileError, write_npz
from ..headless import exit_code, own_arguments


class SampleError(FileError):
    """A file that could not be sampled. The message is one sentence for the user."""


def sample(path, bones=None, fps=30.0, frame_count=None):
    """Arrays of an animated file, opened in place of the current one.

    names [B]; rest [B, 4, 4] and world [T, B, 4, 4]: the bones' matrices in the world (m), at rest and played
    lengths [B] m: of the bones at rest in the world; frames [T]; fps
    bones: names to keep, of which the file may lack some; None keeps all. frame_count: frames to play of a .blend, from frame 1.
    Of other files a frame more is played at either end: importers differ in whether a motion begins at frame 0 or 1. With None
    the first key to the last is played. Raises `SampleError`.
    """
    open_file(Path(path), fps)
    scene = bpy.context.scene
    armature = _animated_armature(bones, path)
    for item in list(scene.objects):  # skins follow the bones and take most of the time
        if item.type == "MESH":
            bpy.data.objects.remove(item)
    names = [bone.name for bone in armature.pose.bones]
    wanted = None if bones is None else {plain_name(name) for name in bones}
    kept = [index for index, name in enumerate(names) if wanted is None or plain_name(name) in wanted]
    if not kept:
        raise SampleError(f"{path} has none of the bones to sample.")
    if frame_count is None:
        first, last = (round(frame) for frame in armature.animation_data.action.frame_range)
    else:
        margin = int(Path(path).suffix != ".blend")
        first, last = 1 - margin, frame_count + margin
    frames = np.arange(first, last + 1)
    pose = np.empty((len(frames), len(kept), 4, 4))
    buffer = np.empty(16 * len(names), np.float32)
    for row, frame in enumerate(frames.tolist()):
        scene.frame_set(frame)
        evaluated = armature.evaluated_get(bpy.context.evaluated_depsgraph_get())
        evaluated.pose.bones.foreach_get("matrix", buffer)
        matrices = buffer.reshape(-1, 4, 4)[kept].swapaxes(-1, -2)
        pose[row] = np.array(evaluated.matrix_world) @ matrices
    data = [armature.data.bones[names[index]] for index in kept]
    rest = np.array(armature.matrix_world) @ np.array([bone.matrix_local for bone in data])
    return {
        "names": np.array([bone.name for bone in data]),
        "rest": rest,
        "world": pose,
        "lengths": np.linalg.norm(rest[:, :3, 1], axis=1) * [bone.length for bone in data],
        "frames": frames,
        "fps": np.array(scene.render.fps / scene.render.fps_base),
    }


def plain_name(name):
    """A bone's name as every kind of file can hold it: USD has letters, digits and underscores only."""
    return re.sub(r"\W", "_", name)


def open_file(path, fps):
    """Opens a .blend in place of the current file, or imports another kind into an empty scene of `fps` frames a second."""
    if not path.is_file():
        raise SampleError(f"There is no file {path}.")
    if path.suffix == ".blend":
        bpy.ops.wm.open_mainfile(filepath=str(path))
        return
    bpy.ops.wm.read_factory_settings(use_empty=True)
    render = bpy.context.scene.render
    render.fps = max(1, round(fps))  # importers lay out keys by the scene's rate
    render.fps_base = render.fps / fps
    if path.suffix == ".fbx":
        bpy.ops.import_scene.fbx(filepath=str(path))
    elif path.suffix in (".glb", ".gltf"):
        bpy.ops.import_scene.gltf(filepath=str(path))
    elif path.suffix == ".vrm":
        with tempfile.TemporaryDirectory() as folder:
            bpy.ops.import_scene.gltf(filepath=str(shutil.copy(path, Path(folder) / "character.glb")))
    elif path.suffix in (".usd", ".usdc", ".usda"):
        bpy.ops.wm.usd_import(filepath=str(path))
    elif path.suffix == ".bvh":
        bpy.ops.import_anim.bvh(filepath=str(path), update_scene_fps=True, update_scene_duration=True)
    else:
        raise SampleError(f"{path} is of no kind that can be sampled.")


def _animated_armature(bones, path):
    """The armature object with an action that has most of the bones."""

    def fit(item):
        own = {plain_name(bone.name) for bone in item.data.bones}
        return len(own) if bones is None else sum(plain_name(name) in own for name in bones)

    found = [
        item
        for item in bpy.context.scene.objects
        if item.type == "ARMATURE" and item.animation_data and item.animation_data.action
    ]
    if not found:
        raise SampleError(f"{path} has no animated armature.")
    return max(found, key=fit)


def main(argv=None):
    """Parses `argv`, samples, prints the JSON line. Returns the exit code: 0, or 1 after one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="sample_bones", description="Writes where the bones of animated files are.")
    parser.add_argument("--jobs", required=True, type=Path, help="list of files to sample (.json)")
    args = parser.parse_args(argv)

    def work():
        failed = {}
        for job in json.loads(args.jobs.read_text(encoding="utf-8")):
            try:
                write_npz(job["out"], sample(job["file"], job.get("bones"), job.get("fps", 30.0), job.get("frames")))
            except (FileError, RuntimeError) as error:  # importers raise the latter
                failed[job["file"]] = str(error).strip()
        return {"blender": bpy.app.version_string, "failed": failed}

    return exit_code(work, FileError)


if __name__ == "__main__":
    sys.exit(main(own_arguments()))
