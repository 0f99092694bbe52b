"""The command `fullbody weights`: what models and weights there are, those a user adds, and whether all are undamaged."""

import importlib.metadata
from pathlib import Path

from .usage import UsageError


def add_weights(commands):
    command = commands.add_parser(
        "weights",
        help="models and weights: add your own, list them, check them",
        description="Keeps models of your own (SMPL-H, BFM, ICT-FaceKit, bridges), lists all models and weights, checks them.",
    )
    what = command.add_subparsers(required=True, metavar="WHAT")
    add = what.add_parser("add", help="keep a model of your own, to be found by its name")
    help_file = "SMPL-H (.npz, .pkl), BFM 2009 (.mat) or 2017 (.h5), ICT-FaceKit (.npz, folder), or this project's own"
    add.add_argument("file", type=Path, metavar="FILE", help=help_file)
    add.add_argument("--name", help="to find it by (default: what it is, such as smplh_neutral)")
    add.set_defaults(run=run_add)
    what.add_parser("list", help="all models and weights: what for, licence, whether they are here").set_defaults(
        run=run_list
    )
    what.add_parser("verify", help="compare all of them with their sha256").set_defaults(run=run_verify)


def run_add(options):
    from .known_models import is_bridge, recognise
    from .model_store import check_name, keep_model

    if is_bridge(options.file):
        add_bridge_recipe(options.file, options.name)
        return
    if options.name is not None:
        check_name(options.name)
    known = recognise(options.file, options.name)
    model, is_new = keep_model(known.model, known.sources)
    print(f"It is {model.title}. Licence: {model.licence}.")
    done = f"Kept as {model.name} ({size_text(model.size)}) in" if is_new else f"It is there already as {model.name}, in"
    print(f"{done} {model.folder}: use it with --{model.use} {model.name}.")


def add_bridge_recipe(path, name):
    """Keeps a bridge among this user's own. Raises `BridgeError` or `UsageError`."""
    from .contract.bridge import BridgeRecipe
    from .full_body.bridges import keep_recipe, recipe_path

    recipe = BridgeRecipe.load(path)
    if name is not None:
        raise UsageError("A bridge has no name of its own, it is found by its two models: leave out --name.")
    if not recipe.is_bridged:
        raise UsageError(f"{path} is annotated and not bridged yet: give it to 'fullbody bridge --recipe'.")
    kept = recipe_path(recipe)
    there = kept.is_file()
    if there and BridgeRecipe.load(kept).to_json() != recipe.to_json():
        raise UsageError(f"There is another bridge of this pair, {kept}: 'fullbody bridge --recipe' replaces it.")
    if not there:
        keep_recipe(recipe)
    print(f"A bridge of {recipe.face_name} on {recipe.body_name}; it holds nothing of the models themselves.")
    print(f"{'It is there already' if there else 'Kept'}: {kept}, found whenever this body and face are used together.")


def run_list(options):
    from .model_store import stored_models
    from .weights import manifest_entries

    rows, kept = [], stored_models()
    for entry in manifest_entries():
        if entry["root"] == "user":
            there = "add it" if all(model.kind != entry["id"] for model in kept) else "added"
        else:
            there = {"sound": "yes", "absent": "no", "made here": "made when needed"}.get(entry_state(entry), "DAMAGED")
        size = sum(file["bytes"] or 0 for file in entry["files"])
        rows.append((entry["id"], size_text(size), yes_no(entry["commercial"]), there, entry["licence"], entry["purpose"]))
    for model in kept:
        there = "DAMAGED" if model.damaged_files() else "yes"
        row = (
            f"--{model.use} {model.name}",
            size_text(model.size),
            yes_no(model.commercial),
            there,
            model.licence,
            model.title,
        )
        rows.append(row)
    header = ("name", "size", "commercial", "here", "licence", "what for")
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def run_verify(options):
    from .model_store import stored_models
    from .weights import manifest_entries

    damaged, counted = [], 0
    for entry in manifest_entries():
        state = entry_state(entry)
        counted += state == "sound"
        if state == "damaged" or (state == "absent" and entry["root"] == "package"):
            damaged.append(entry["id"])
    for model in stored_models():
        files = model.damaged_files()
        counted += not files
        damaged += [str(path) for path in files]
    for name in damaged:
        print(f"DAMAGED or missing: {name}")
    if damaged:
        raise UsageError(
            f"{len(damaged)} of the models and weights are damaged or missing: install fullbody again, or add them again."
        )
    print(f"All {counted} models and weights that are here are undamaged.")


def entry_state(entry):
    """'sound', 'damaged' or 'absent' of an entry of the manifest; 'made here' where nobody can know its sha256 beforehand."""
    from .model_store import file_sha256

    states = set()
    for file in entry["files"]:
        path = entry_path(entry["root"], file["path"])
        if file["sha256"] is None:
            states.add("made here")
        elif path is None or not path.is_file():
            states.add("absent")
        else:
            states.add("sound" if file_sha256(path) == file["sha256"] else "damaged")
    return next(state for state in ("damaged", "absent", "made here", "sound") if state in states)


def entry_path(root, path):
    """Where a file of the manifest lies on this machine, or None."""
    if root == "package":
        return Path(__file__).parent / path
    if root == "site-packages":
        try:
            return Path(importlib.metadata.distribution(path.split("/")[0]).locate_file(path))
        except importlib.metadata.PackageNotFoundError:
            return None
    return None


def size_text(count):
    return f"{count / 1e6:.1f} MB" if count else "-"


def yes_no(value):
    return {True: "yes", False: "no", None: "ask"}[value]
