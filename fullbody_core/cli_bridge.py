"""The command `fullbody bridge`: one closed mesh of a body model and a face model, annotated once for the pair."""

import sys
from pathlib import Path

from .usage import UsageError, add_blender_choice, check_writable


def add_bridge(commands):
    command = commands.add_parser(
        "bridge",
        help="join a face model to a body model",
        description="Finds the bridge of a body model and a face model, or suggests one and makes it in Blender; it is kept.",
    )
    command.add_argument("--body", default="open", metavar="open|NAME|FILE", help="body model (default: the open body)")
    command.add_argument("--face", required=True, metavar="open|NAME|FILE", help="3D morphable face model")
    command.add_argument(
        "--kit", type=Path, metavar="PAIR.npz", help="only write what it takes to annotate the bridge by hand in Blender"
    )
    command.add_argument(
        "--recipe", type=Path, metavar="FILE.json", help="use this bridge, and keep it, instead of suggesting one"
    )
    command.add_argument("-o", "--output", type=Path, metavar="CHARACTER.npz", help="also write the character")
    command.add_argument(
        "--asset", type=Path, metavar="PAIR.blend", help="also write the character as a .blend for the asset browser"
    )
    add_blender_choice(command)
    command.set_defaults(run=run_bridge)


def run_bridge(options):
    from .body.lbs import to_character_template
    from .body.load_body import load_body
    from .contract.bridge import BridgeRecipe
    from .contract.full_body import full_body_template
    from .evaluate.bridge import find_seam, measure_seam, seam_line
    from .face.load_face import load_face
    from .full_body.bridges import make_kit, recipe_for

    if options.kit and (options.output or options.asset):
        raise UsageError("With --kit nothing is bridged yet: leave out --output and --asset.")
    for path in filter(None, (options.kit, options.output, options.asset)):
        check_writable(path)
    body, face = load_body(options.body), load_face(options.face)
    if options.kit:
        make_kit(body, face, BridgeRecipe.load(options.recipe) if options.recipe else None).save(options.kit)
        print(f"Kit: {options.kit} (open it in Blender: Fullbody tab > Bridge a Face)")
        return
    recipe = recipe_for(body, face, options.blender, options.recipe)
    body_template = to_character_template(body)
    template = full_body_template(body_template, face, recipe)
    if options.output:
        template.save(options.output)
    if options.asset:
        write_asset(options, body, face, recipe)
    print(f"Bridge: {recipe.face_name} on {recipe.body_name}, {where(recipe)}")
    print(f"Seam: {seam_line(measure_seam(body_template, face, recipe, find_seam(body_template, face, recipe, template)))}")
    for name, path in (("Character", options.output), ("Asset", options.asset)):
        if path:
            print(f"{name}: {path}")


def write_asset(options, body, face, recipe):
    """The .blend with the character of a bridged pair, marked as an asset."""
    from .blender_process import find_blender
    from .full_body.bridges import bridge_in_blender, make_kit

    print("Building the asset in Blender...", file=sys.stderr, flush=True)
    bridge_in_blender(make_kit(body, face, recipe), find_blender(options.blender), asset_out=options.asset)


def where(recipe):
    """Where a recipe was found: this user's own, by its path, or one that comes with the project."""
    from .full_body.bridges import recipe_path

    path = recipe_path(recipe)
    return str(path) if path.is_file() else "which comes with the project"
