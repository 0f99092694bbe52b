# SPDX-License-Identifier: GPL-3.0-or-later
"""Small pictures of animated .blend files, all from one side: for sheets on which retargeted characters are compared.

    python -m fullbody_mocap.evaluate.render_played --jobs JOBS.json
    blender --background --factory-startup --python-exit-code 1 --python render_played.py -- --jobs JOBS.json

JOBS.json is a list of {"file": .blend, "ground": m, "pictures": [{"frame", "path": .png, "centre": [x, y, z] m, "radius": m}]}:
the camera sees a ball of that radius about the centre. The last line on stdout is one JSON object.
"""

import argparse
import json
import sys
from pathlib import Path

if not __package__:  # run as a file by Blender: the add-on is the folder above this file's
    _addon = Path(__file__).resolve().parents[1]
    sys.path.insert(0, str(_addon.parent))
    __package__ = f"{_addon.name}.{Path(__file__).resolve().parent.name}"
    __import__(__package__)

import bpy
import numpy as np

from .. import stage
from ..contract.npz_file import FileError
from ..headless import exit_code, own_arguments

_SAMPLES = 6
_TURN, _LIFT = 25.0, 8.0  # degrees, of the camera to the person's left and up
_TILE = 0.5  # m, of the floor


def render(job, width):
    """Renders the pictures of one file, each `width` px wide and a third higher."""
    bpy.ops.wm.open_mainfile(filepath=job["file"])
    scene = bpy.context.scene
    for item in [item for item in scene.objects if item.is_shadow_catcher or item.type == "LIGHT"]:
        bpy.data.objects.remove(item)
    stage.add_light(scene, scene.collection)
    stage.set_render(scene, samples=_SAMPLES)
    scene.render.film_transparent = False
    camera = stage.add_camera("Sheet camera", scene.collection)
    for picture in job["pictures"]:
        scene.frame_set(picture["frame"])
        centre = np.array(picture["centre"])
        floor = _add_floor(scene.collection, centre, job["ground"])
        reach = picture["radius"] * np.array([[-1, -1, -1], [1, 1, 1]]) / np.sqrt(3)
        stage.look_at(camera, centre + reach, _TURN, _LIFT)
        stage.render_still(scene, camera, picture["path"], width, size=(3, 4))
        bpy.data.objects.remove(floor)


def _add_floor(collection, centre, height):
    """Tiles that lie still in the world, around a place."""
    start = np.floor(centre[:2] / _TILE).astype(int) - 8
    corners = [((start + (x, y)) * _TILE).tolist() + [height] for y in range(17) for x in range(17)]
    faces = [(17 * y + x, 17 * y + x + 1, 17 * y + x + 18, 17 * y + x + 17) for y in range(16) for x in range(16)]
    mesh = bpy.data.meshes.new("Floor")
    mesh.from_pydata(corners, [], faces)
    for shade in (0.12, 0.3):
        material = bpy.data.materials.new("Floor")
        if material.node_tree is None:  # before 5.0 a new material has no nodes
            material.use_nodes = True
        material.node_tree.nodes["Principled BSDF"].inputs["Base Color"].default_value = (shade, shade, shade, 1)
        mesh.materials.append(material)
    dark = [int(start.sum() + x + y) % 2 for y in range(16) for x in range(16)]
    mesh.polygons.foreach_set("material_index", np.array(dark, np.int32))
    floor = bpy.data.objects.new("Floor", mesh)
    collection.objects.link(floor)
    return floor


def main(argv=None):
    """Parses `argv`, renders, prints the JSON line. Returns the exit code: 0, or 1 after one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="render_played", description="Renders frames of animated files.")
    parser.add_argument("--jobs", required=True, type=Path, help="list of files and frames (.json)")
    parser.add_argument("--width", type=int, default=150, help="px of each picture")
    args = parser.parse_args(argv)

    def work():
        jobs = json.loads(args.jobs.read_text(encoding="utf-8"))
        for job in jobs:
            render(job, args.width)
        return {"blender": bpy.app.version_string, "pictures": sum(len(job["pictures"]) for job in jobs)}

    return exit_code(work, (FileError, stage.RenderError, RuntimeError))


if __name__ == "__main__":
    sys.exit(main(own_arguments()))
