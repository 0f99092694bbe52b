# SPDX-License-Identifier: GPL-3.0-or-later
"""What Blender makes of a character: its evaluated vertices, to be compared with the core's, and how long building takes.

    python -m fullbody_mocap.evaluate.check_character --template CHARACTER.npz --check PARAMETERS.npz --out VERTICES.npz
    blender --background --factory-startup --python-exit-code 1 --python check_character.py -- --template ...

The last line on stdout is one JSON object with the seconds of each build.
"""

import argparse
import sys
import time
from pathlib import Path

if not __package__:  # run as a file by Blender: the add-on is the folder above this file's
    _addon = Path(__file__).resolve().parents[1]
    sys.path.insert(0, str(_addon.parent))
    __package__ = f"{_addon.name}.{Path(__file__).resolve().parent.name}"
    __import__(__package__)

import bpy
import numpy as np

from .. import axes
from ..character import bone_rest, build_character
from ..contract.character import CharacterTemplate
from ..contract.frames import matrix_to_quaternion
from ..contract.npz_file import FileError, check_arrays, read_npz, write_npz
from ..headless import exit_code, own_arguments
from ..stage import evaluated_vertices

_SCHEMA = {
    "betas": ("f", ("N", "B")),
    "shape": ("f", ("N", "S")),
    "expression": ("f", ("N", "E")),
    "rotations": ("f", ("N", "J", 3, 3)),
}


def check(template, parameters):
    """Builds `template` N times and poses it: evaluated vertices [N, V, 3] m in the rest frame, and seconds [N] of each build.

    parameters: betas [N, B], shape [N, S], expression [N, E] and parent-relative rotations [N, J, 3, 3] in rest-frame axes.
    """
    vertices, seconds = [], []
    for betas, shape, expression, rotations in zip(*(parameters[name] for name in _SCHEMA)):
        bpy.ops.wm.read_factory_settings(use_empty=True)
        collection, view_layer = bpy.context.scene.collection, bpy.context.view_layer
        start = time.perf_counter()
        character = build_character(
            template, betas, name="Person", collection=collection, view_layer=view_layer, face_shape=shape
        )
        seconds.append(time.perf_counter() - start)
        pose(character, template, expression, rotations)
        view_layer.update()
        vertices.append(axes.scene_to_rest(evaluated_vertices(character.mesh, bpy.context.evaluated_depsgraph_get())))
    return np.array(vertices), np.array(seconds)


def pose(character, template, expression, rotations):
    """Sets expression [E] and parent-relative rotations [J, 3, 3] in rest-frame axes; the root stays at its place."""
    keys = character.shape_keys.key_blocks
    for name, value in zip(template.expression_names, expression):
        keys[name].value = value
    bone_to_rest = axes.bone_to_rest_quaternions(bone_rest(character.armature)[1])
    turned = axes.rest_to_bone_rotations(matrix_to_quaternion(rotations), bone_to_rest)
    for name, quaternion in zip(template.joint_names, turned.tolist()):
        character.armature.pose.bones[name].rotation_quaternion = quaternion


def main(argv=None):
    """Parses `argv`, builds, prints the JSON line. Returns the exit code: 0, or 1 after one sentence on stderr."""
    parser = argparse.ArgumentParser(
        prog="check_character", description="Builds a character and says where its vertices are."
    )
    parser.add_argument("--template", required=True, type=Path, help="character template (.npz)")
    parser.add_argument("--check", required=True, type=Path, help="parameters (.npz): betas, shape, expression, rotations")
    parser.add_argument("--out", required=True, type=Path, help="vertices (.npz) to write: vertices, seconds")
    args = parser.parse_args(argv)

    def work():
        template = CharacterTemplate.load(args.template)
        parameters = read_npz(args.check, "file of parameters")
        check_arrays(parameters, _SCHEMA, "file of parameters")
        vertices, seconds = check(template, parameters)
        write_npz(args.out, {"vertices": vertices, "seconds": seconds})
        return {"blender": bpy.app.version_string, "build_seconds": seconds.round(3).tolist()}

    return exit_code(work, FileError)


if __name__ == "__main__":
    sys.exit(main(own_arguments()))
