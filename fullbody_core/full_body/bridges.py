"""The bridge of a pair of models: looked up among this user's and those that come with the project, or made through Blender."""

import importlib.resources
import re
import sys
import tempfile
from pathlib import Path

import numpy as np

from ..addon_package import stage_addon
from ..blender_process import Blender, find_blender, run_in_blender
from ..body.lbs import to_character_template
from ..cache import kept_in_cache
from ..contract.bridge import BridgeError, BridgeKit, BridgeRecipe, fingerprint
from ..contract.morphable import FaceModelError, MorphableModel
from ..contract.skeleton import JOINT_INDEX
from ..contract.surface import triangulate
from ..face.correspondence import find_mesh_points
from ..face.load_face import complete, load_face
from ..user_data import made_user_folder, user_folder
from .bridge_suggestion import suggest_bridge
from .sewn_face import sewn_recipe

POINTS_VERSION = 2
"""Counts up whenever the face mesh's points would be found elsewhere on the same body."""

_SAME_PLACE = 1e-4  # m


def find_recipe(body_template, face):
    """The bridged `BridgeRecipe` of a pair of models, or None where there is none yet.

    body_template: `CharacterTemplate` of the body alone; face: `MorphableModel`. This user's own come first, the newest of them,
    then those that come with the project. Raises `BridgeError` for a file that cannot be read.
    """
    shipped = importlib.resources.files("fullbody_core") / "assets" / "bridges"
    own = sorted(user_folder("bridges").glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in (*own, *sorted(shipped.iterdir(), key=lambda path: path.name)):
        recipe = BridgeRecipe.load(path)
        if recipe.is_bridged and fits(recipe, body_template, face):
            return recipe
    return None


def fits(recipe, body_template, face):
    """Whether a recipe is for these two models: their surfaces are the same, and a face that is sewn in does lie on the body."""
    if recipe.body_fingerprint != fingerprint(body_template.faces, len(body_template.vertices)):
        return False
    if recipe.face_fingerprint != fingerprint(face.faces, len(face.mean)):
        return False
    return not len(recipe.sewn) or recipe.lies_on(body_template.vertices, face.mean)


def recipe_for(body_file, face, blender=None, chosen=None):
    """The `BridgeRecipe` of a pair of models: the one there is, or one that is suggested, bridged in Blender, and kept.

    body_file: `BodyModelFile`; face: `MorphableModel`; blender: what `find_blender` takes or found, needed only where there
    is no recipe; chosen: path of a recipe that is used, bridged where it is not yet, and kept instead. Raises `BridgeError`, or
    `BlenderError` where there is no Blender to make one.
    """
    body_template = to_character_template(body_file)
    recipe = find_recipe(body_template, face) if chosen is None else BridgeRecipe.load(chosen)
    if recipe is not None and not fits(recipe, body_template, face):
        raise BridgeError(
            f"{chosen} is the bridge of other models ({recipe.face_name} on {recipe.body_name}): make one for these."
        )
    if recipe is not None and chosen is None:
        return recipe
    if recipe is None or not recipe.is_bridged:
        found = blender if isinstance(blender, Blender) else find_blender(blender)
        names = f"{_name(face.meta)} on {_name(body_file.meta)}"
        print(f"Bridging {names} in Blender (once for this pair)...", file=sys.stderr, flush=True)
        recipe = bridge_in_blender(make_kit(body_file, face, recipe), found)
    keep_recipe(recipe)
    return recipe


def keep_recipe(recipe):
    """Keeps a recipe among this user's, and returns its path. Raises `BridgeError`."""
    made_user_folder("bridges", BridgeError)
    path = recipe_path(recipe)
    recipe.save(path)
    return path


def recipe_path(recipe):
    """Where a recipe of this user's is kept: a name to recognise it by, and what tells the pair from others of these names."""
    names = (re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:40] for name in (recipe.body_name, recipe.face_name))
    pair = f"{recipe.body_fingerprint[:6]}{recipe.face_fingerprint[:6]}"
    return user_folder("bridges") / f"{'_with_'.join(names)}_{pair}.json"


def make_kit(body_file, face, suggestion=None):
    """The `BridgeKit` of a pair of models, with a suggestion of this module's where none is given. Raises `BridgeError`."""
    body_template = to_character_template(body_file)
    points, are_exact = body_mesh_points(body_file, body_template)
    suggestion = suggestion or suggest_bridge(body_template, face, points, slide=not are_exact)
    return BridgeKit(body_template, face, suggestion, points, str(made_user_folder("bridges", BridgeError)))


def bridge_in_blender(kit, blender, **outputs):
    """The kit's suggestion with a strip that Blender made: `BridgeRecipe`. blender: what `find_blender` found.

    outputs: paths of more that it shall write, by the names of make_bridge's options: template_out, asset_out, shots.
    Raises `BridgeError` or `BlenderError`.
    """
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        stage_addon(folder)
        kit.save(folder / "kit.npz")
        arguments = ["--kit", folder / "kit.npz", "--recipe-out", folder / "recipe.json"]
        if kit.suggestion.is_bridged:
            kit.suggestion.save(folder / "bridged.json")
            arguments += ["--recipe", folder / "bridged.json"]
        for name, path in outputs.items():
            arguments += [f"--{name.replace('_', '-')}", Path(path).resolve()]
        run_in_blender(folder, [str(argument) for argument in arguments], blender, program="make_bridge")
        recipe = BridgeRecipe.load(folder / "recipe.json")
    if not recipe.is_bridged:
        raise BridgeError("Blender did not close the gap between the two boundaries.")
    return recipe


# Where the points of the face mesh belong on a body.


def body_mesh_points(body_file, body_template):
    """Where the points of MediaPipe's face mesh belong on a body [478, 3] m, NaN where that is not known; whether that is exact.

    On the open body they are the open face's, which was made from it. On any other they are looked for in pictures of its
    head, once, and kept in the cache. Raises `BridgeError`.
    """
    open_face = load_face("open")
    try:
        if sewn_recipe(body_template, open_face).lies_on(body_template.vertices, open_face.mean):
            return np.asarray(open_face.mesh_points.mean, float), True
    except BridgeError:
        pass  # the open face was not cut from this body
    head = head_model(body_template)

    def make():
        print(
            f"Finding the face mesh's points on {_name(body_file.meta)} (once, half a minute)...",
            file=sys.stderr,
            flush=True,
        )
        # With the brows and lips that the first finding shows where to paint, the second finds the outline better.
        painted = complete(head)
        painted.mesh_vertices, painted.mesh_weights = find_mesh_points(painted)
        return painted

    mark = fingerprint(np.round(head.mean / _SAME_PLACE).astype(int), len(head.mean))
    try:
        found = MorphableModel.load(kept_in_cache(f"head_{mark[:16]}_points{POINTS_VERSION}.npz", make, FaceModelError))
    except FaceModelError as error:
        raise BridgeError(f"No face was found on the body {_name(body_file.meta)}: its head cannot be bridged.") from error
    points = np.asarray(found.mesh_points.mean, float)
    points[~found.has_mesh_points] = np.nan
    return points, False


def head_model(body_template):
    """A body's head and neck as a `MorphableModel` without shape, expression or colour of its own."""
    of_head = body_template.weights[:, [JOINT_INDEX["head"], JOINT_INDEX["neck"]]].sum(1) > 0.5
    triangles = triangulate(body_template.faces)
    triangles = triangles[of_head[triangles].all(1)]
    chosen, local = np.unique(triangles, return_inverse=True)
    none = np.zeros((0, len(chosen), 3), np.float32)
    return MorphableModel(
        mean=np.asarray(body_template.vertices[chosen], np.float32),
        faces=local.reshape(-1, 3).astype(np.int32),
        shape_basis=none,
        expression_basis=none,
        expression_names=(),
        expression_limits=np.zeros((0, 2), np.float32),
        albedo_mean=np.full((len(chosen), 3), 0.3, np.float32),
        albedo_basis=none,
        meta={"name": "head"},
    )


def _name(meta):
    return str(meta.get("name") or "a model without a name")
