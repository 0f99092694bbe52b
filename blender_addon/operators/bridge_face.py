# SPDX-License-Identifier: GPL-3.0-or-later
"""Bridging the pair of a bridge kit into one character, and saving what came of it."""

import json
from pathlib import Path

import bpy
from bpy.props import BoolProperty, StringProperty
from bpy_extras.io_utils import ExportHelper

from .. import pair as pairs
from ..bridge import bridge_recipe, character_name, crossings_with_models
from ..character import build_character, check_template
from ..character_asset import write_asset
from ..contract.bridge import BridgeError, BridgeRecipe
from ..contract.full_body import full_body_template
from ..whole_files import whole_files
from .polls import in_mode, is_bridged, is_of_pair
from .reporting import ReportsErrors, select_only


class FULLBODY_OT_bridge_face(ReportsErrors, bpy.types.Operator):
    """Close the gap between the two boundaries and build the character of body and face"""

    bl_idname = "fullbody.bridge_face"
    bl_label = "Bridge"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        return in_mode(cls, context, "OBJECT", "Switch to Object Mode") and is_of_pair(cls, context)

    def act(self, context):
        pair = pairs.pair_of(context.object)
        kit = pairs.load_kit(pair)
        recipe = bridge_recipe(kit, pairs.annotated_recipe(kit, *pairs.body_and_face(pair)))
        template = full_body_template(kit.body, kit.face, recipe)
        check_template(template, ())
        select_only(_build(pair, recipe, template, context), context.view_layer)
        if len(recipe.strip) and (count := crossings_with_models(kit, recipe)):
            self.report({"WARNING"}, f"The bridge passes through the body or the face in {count} places: look at it closely")
        self.report({"INFO"}, f"Bridged with {len(recipe.strip)} triangles, {len(template.vertices)} vertices in all")


class FULLBODY_OT_edit_boundaries(ReportsErrors, bpy.types.Operator):
    """Hide the character and show the body and the face that it was bridged from"""

    bl_idname = "fullbody.edit_boundaries"
    bl_label = "Back to Boundaries"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        return in_mode(cls, context, "OBJECT", "Switch to Object Mode") and is_bridged(cls, context)

    def act(self, context):
        pair = pairs.pair_of(context.object)
        _, face = pairs.body_and_face(pair)
        pairs.show(pairs.bridged_character(pair), context.view_layer, False)
        pairs.show(pair, context.view_layer, True)
        select_only(face, context.view_layer)


class FULLBODY_OT_save_bridge(ReportsErrors, bpy.types.Operator, ExportHelper):
    """Save the bridge, and the character as a template and as an asset"""

    bl_idname = "fullbody.save_bridge"
    bl_label = "Save Bridge"

    filename_ext = ".json"
    filter_glob: StringProperty(default="*.json", options={"HIDDEN"})
    use_from_now_on: BoolProperty(
        name="Use from Now On",
        description="Also write the bridge where fullbody looks for them on this computer",
        default=True,
    )
    save_template: BoolProperty(
        name="Character (.npz)",
        description="Beside it, the character template that File > Import > Fullbody Capture takes",
        default=True,
    )
    save_asset: BoolProperty(
        name="Asset (.blend)",
        description="Beside it, a file with the character marked as an asset, for the asset browser",
        default=True,
    )

    @classmethod
    def poll(cls, context):
        return in_mode(cls, context, "OBJECT", "Switch to Object Mode") and is_bridged(cls, context)

    def invoke(self, context, event):
        pair = pairs.pair_of(context.object)
        self.filepath = str(Path(pair[pairs.KIT_PROPERTY]).with_name(f"{bpy.path.clean_name(pair.name)}.json"))
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def act(self, context):
        try:
            written = self._save(pairs.pair_of(context.object), Path(bpy.path.abspath(self.filepath)))
        except OSError as error:
            raise BridgeError(f"Cannot write {error.filename2 or error.filename}: {error.strerror}.") from error
        self.report({"INFO"}, f"Saved {', '.join(dict.fromkeys(path.name for path in written))}")

    def _save(self, pair, path):
        """Writes all that is wanted, or nothing; returns the paths. Raises `FileError` or `OSError`."""
        if not path.parent.is_dir():
            raise BridgeError(f"Cannot write {path}: there is no such folder.")
        kit = pairs.load_kit(pair)
        recipe = BridgeRecipe.from_json(json.loads(pair[pairs.RECIPE_PROPERTY]), path)
        template = full_body_template(kit.body, kit.face, recipe)
        kept = (
            Path(kit.recipes_folder) / path.name
            if self.use_from_now_on and Path(kit.recipes_folder or "?").is_dir()
            else None
        )
        wanted = {
            "recipe": path,
            "kept": kept if kept and kept.resolve() != path.resolve() else None,
            "template": path.with_suffix(".npz") if self.save_template else None,
            "asset": path.with_suffix(".blend") if self.save_asset else None,
        }
        if wanted["template"] and wanted["template"].resolve() == Path(pair[pairs.KIT_PROPERTY]):
            raise BridgeError("The character would take the place of the bridge kit: choose another name.")
        with whole_files(*wanted.values()) as parts:
            parts = dict(zip(wanted, parts))
            recipe.save(parts["recipe"])
            if parts["kept"]:
                recipe.save(parts["kept"])
            if parts["template"]:
                template.save(parts["template"])
            if parts["asset"]:
                write_asset(parts["asset"], wanted["asset"], pairs.bridged_character(pair), template)
        return [path for path in wanted.values() if path]


def _build(pair, recipe, template, context):
    """The character's armature, in a collection of its own that takes the place of the one bridged before; hides the pair."""
    if previous := pairs.bridged_character(pair):
        for item in list(previous.objects):
            bpy.data.objects.remove(item)
        bpy.data.collections.remove(previous)
    collection = bpy.data.collections.new(character_name(recipe))
    context.scene.collection.children.link(collection)
    character = build_character(template, (), name=collection.name, collection=collection, view_layer=context.view_layer)
    pair[pairs.RECIPE_PROPERTY], pair[pairs.CHARACTER_PROPERTY] = json.dumps(recipe.to_json()), collection
    pairs.show(pair, context.view_layer, False)
    return character.armature


CLASSES = (FULLBODY_OT_bridge_face, FULLBODY_OT_edit_boundaries, FULLBODY_OT_save_bridge)
