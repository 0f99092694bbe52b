# SPDX-License-Identifier: GPL-3.0-or-later
"""A bridge between a body and a face without windows: what `fullbody bridge` runs.

    python -m fullbody_mocap.make_bridge --kit KIT.npz --recipe-out BRIDGE.json ...                        (bpy as a module)
    blender --background --factory-startup --python-exit-code 1 --python make_bridge.py -- --kit ...       (a Blender)

The last line on stdout is one JSON object that says what was made. Exit code 0 only if everything asked for was written.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

if not __package__:  # run as a file by Blender: the package is the folder this file lies in
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    __package__ = Path(__file__).resolve().parent.name
    __import__(__package__)

import bpy
import numpy as np

from . import axes, stage
from .bridge import bridge_recipe, character_name, crossings_with_models
from .character import build_character
from .character_asset import write_asset
from .contract.bridge import BridgeError, BridgeKit, BridgeRecipe
from .contract.full_body import full_body_template
from .contract.npz_file import FileError
from .headless import exit_code, own_arguments
from .whole_files import whole_files_or_end


def make(kit_path, recipe_out, *, recipe_path=None, template_out=None, asset_out=None, shots=()):
    """Bridges a kit's pair of models from an empty scene and writes what is asked for. Returns what was made, as a dict.

    recipe_path: a recipe whose boundaries and transformation to take instead of the kit's suggestion.
    shots: pictures of the seam, each a dict of path, width (px), turn and lift: the view's angles in degrees, turned from the
    front to the person's left, and lifted above the horizon; and of gap, whether to leave the strip out.
    Raises `FileError` or `RenderError`; nothing has been written then but pictures.
    """
    kit = BridgeKit.load(kit_path)
    annotated = BridgeRecipe.load(recipe_path) if recipe_path else kit.suggestion
    for path in filter(None, (recipe_out, template_out, asset_out)):
        if path.is_dir() or not path.resolve().parent.is_dir():
            raise BridgeError(f"Cannot write {path}: choose a file name in a folder that exists.")

    bpy.ops.wm.read_factory_settings(use_empty=True)
    start = time.perf_counter()
    recipe = bridge_recipe(kit, annotated)
    bridge_seconds = time.perf_counter() - start
    template = full_body_template(kit.body, kit.face, recipe)
    with whole_files_or_end(recipe_out, template_out, asset_out) as (part_recipe, part_template, part_asset):
        recipe.save(part_recipe)
        if template_out:
            template.save(part_template)
        if asset_out:
            write_asset(part_asset, asset_out, _character_in(template, recipe).users_collection[0], template)
        if shots:
            take_shots(kit, recipe, template, shots)
    return {
        "recipe": str(recipe_out),
        "template": template_out and str(template_out),
        "asset": asset_out and str(asset_out),
        "blender": bpy.app.version_string,
        "body_boundary": len(recipe.body_boundary),
        "face_boundary": len(recipe.face_boundary),
        "strip": len(recipe.strip),
        "crossings": crossings_with_models(kit, recipe),
        "vertices": len(template.vertices),
        "bridge_seconds": round(bridge_seconds, 3),
    }


def _character_in(template, recipe):
    """The armature of the character of mean shape, in a collection of its own in the scene."""
    collection = bpy.data.collections.new(character_name(recipe))
    bpy.context.scene.collection.children.link(collection)
    view_layer = bpy.context.view_layer
    return build_character(template, (), name=collection.name, collection=collection, view_layer=view_layer).armature


def take_shots(kit, recipe, template, shots):
    """Renders pictures of the seam, as `make` says, in an empty scene."""
    scene = bpy.context.scene
    stage.add_light(scene, scene.collection)
    stage.set_render(scene)
    seam = np.concatenate([kit.body.vertices[recipe.body_boundary], recipe.place(kit.face.mean[recipe.face_boundary])])
    camera = stage.add_camera("Seam camera", scene.collection)
    for gap in (False, True):
        wanted = [shot for shot in shots if bool(shot.get("gap")) == gap]
        if not wanted:
            continue
        for scene_object in [item for item in scene.objects if item.type in ("MESH", "ARMATURE")]:
            bpy.data.objects.remove(scene_object)
        if gap:
            template = full_body_template(kit.body, kit.face, replace(recipe, strip=recipe.strip[:0], sewn=recipe.sewn[:0]))
        _character_in(template, recipe)
        for shot in wanted:
            stage.look_at(camera, axes.rest_to_scene(seam), shot.get("turn", 0.0), shot.get("lift", 0.0))
            stage.render_still(scene, camera, shot["path"], shot["width"], size=(1, 1))


def main(argv=None):
    """Parses `argv`, makes, prints the JSON line. Returns the exit code: 0, or 1 after one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="make_bridge", description="Bridges a body and a face model.")
    parser.add_argument("--kit", required=True, type=Path, help="bridge kit (.npz) of the two models")
    parser.add_argument("--recipe-out", required=True, type=Path, help="recipe (.json) to write")
    parser.add_argument("--recipe", type=Path, help="recipe (.json) whose boundaries and transformation to take")
    parser.add_argument("--template-out", type=Path, help="character template (.npz) to write")
    parser.add_argument("--asset-out", type=Path, help=".blend to write with the character as an asset")
    parser.add_argument("--shots", type=Path, metavar="FILE.json", help="list of pictures of the seam, as `make` takes them")
    args = parser.parse_args(argv)

    def work():
        return make(
            args.kit,
            args.recipe_out,
            recipe_path=args.recipe,
            template_out=args.template_out,
            asset_out=args.asset_out,
            shots=json.loads(args.shots.read_text()) if args.shots else (),
        )

    return exit_code(work, (FileError, stage.RenderError))


if __name__ == "__main__":
    sys.exit(main(own_arguments()))
