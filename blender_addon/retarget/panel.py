# SPDX-License-Identifier: GPL-3.0-or-later
"""The Retarget panel of the Fullbody tab."""

import json
from functools import lru_cache

import bpy

from ..operators import retarget as operators
from ..panels import draw_sentence
from .properties import is_there, lacks_bones, problems_of
from .role_labels import OF_SEVERAL, ROLE_GROUPS, ROLE_LABELS
from .role_map import PRESETS
from .roles import CHAINS, REQUIRED

_ROWS = 3  # of a list before it scrolls
_UNFOLDED = ("Body", "Arms", "Legs")


class FULLBODY_UL_retarget_captures(bpy.types.UIList):
    def draw_item(self, context, layout, data, item, icon, active_data, active_property, index=0, flt_flag=0):
        layout.prop(item, "use", text="")
        layout.label(text=item.name, icon="ANIM_DATA")


class FULLBODY_UL_retarget_characters(bpy.types.UIList):
    def draw_item(self, context, layout, data, item, icon, active_data, active_property, index=0, flt_flag=0):
        layout.prop(item, "use", text="")
        if not is_there(item):
            layout.label(text=f"{item.name} was deleted", icon="ERROR")
            return
        row = layout.split(factor=0.6)
        row.label(text=item.armature.name, icon="ERROR" if lacks_bones(item) else "ARMATURE_DATA")
        row.label(text=item.map_name)


class FULLBODY_MT_retarget_maps(bpy.types.Menu):
    """Take the bones by the names of a common kind of rig, or as saved before"""

    bl_idname = "FULLBODY_MT_retarget_maps"
    bl_label = "Bone Map"

    def draw(self, context):
        layout = self.layout
        layout.operator(operators.FULLBODY_OT_retarget_guess_bones.bl_idname, icon="VIEWZOOM")
        load = operators.FULLBODY_OT_retarget_load_map.bl_idname
        for folder in (operators.maps_folder(), PRESETS):
            layout.separator()
            layout.operator_context = "EXEC_DEFAULT"
            for path in sorted(folder.glob("*.json")):
                layout.operator(load, text=_map_name(path, path.stat().st_mtime_ns)).filepath = str(path)
        layout.separator()
        layout.operator_context = "INVOKE_DEFAULT"
        layout.operator(load, text="Load ...", icon="FILE_FOLDER").filepath = ""
        layout.operator(operators.FULLBODY_OT_retarget_save_map.bl_idname, text="Save ...", icon="FILE_TICK")


@lru_cache(maxsize=256)
def _map_name(path, _changed):
    """The name that a bone map gives itself; its file's where it cannot be read, which loading it will explain."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["name"])
    except (OSError, ValueError, TypeError, KeyError):
        return path.stem


class _RetargetPanel:
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Fullbody"


class FULLBODY_PT_retarget(_RetargetPanel, bpy.types.Panel):
    bl_idname = "FULLBODY_PT_retarget"
    bl_label = "Retarget"
    bl_order = 3
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context):
        layout, settings = self.layout, context.scene.fullbody_retarget
        _draw_list(
            layout,
            settings,
            "captures",
            "capture_index",
            operators.FULLBODY_OT_retarget_add_captures,
            operators.FULLBODY_OT_retarget_remove_capture,
        )
        _draw_list(
            layout,
            settings,
            "characters",
            "character_index",
            operators.FULLBODY_OT_retarget_add_characters,
            operators.FULLBODY_OT_retarget_remove_character,
        )
        if running := operators.running():
            done, total, title = running
            layout.progress(factor=done / total, text=f"{done + 1} of {total}: {title}")
        else:
            captures, characters = (sum(item.use for item in items) for items in (settings.captures, settings.characters))
            column = layout.column()
            column.scale_y = 1.3
            count = captures * characters
            text = f"Retarget: {count} Actions" if count > 1 else "Retarget"
            column.operator(operators.FULLBODY_OT_retarget.bl_idname, text=text, icon="ARMATURE_DATA")


class FULLBODY_PT_retarget_bones(_RetargetPanel, bpy.types.Panel):
    bl_idname = "FULLBODY_PT_retarget_bones"
    bl_label = "Bones"
    bl_parent_id = "FULLBODY_PT_retarget"

    @classmethod
    def poll(cls, context):
        character = context.scene.fullbody_retarget.character
        return character is not None and is_there(character)

    def draw(self, context):
        layout, character = self.layout, context.scene.fullbody_retarget.character
        layout.label(text=character.armature.name, icon="ARMATURE_DATA")
        row = layout.row(align=True)
        row.menu(FULLBODY_MT_retarget_maps.bl_idname, text=character.map_name)
        row.operator(operators.FULLBODY_OT_retarget_guess_bones.bl_idname, text="", icon="VIEWZOOM")
        row.operator(operators.FULLBODY_OT_retarget_load_map.bl_idname, text="", icon="FILE_FOLDER").filepath = ""
        row.operator(operators.FULLBODY_OT_retarget_save_map.bl_idname, text="", icon="FILE_TICK")
        problems, wrong = problems_of(character)
        for problem in problems:
            column = layout.column()
            column.alert = True
            draw_sentence(column, problem, context, "ERROR")
        for note in filter(None, character.notes.split("\n")):
            draw_sentence(layout.column(), note, context, "INFO")
        for group, roles in ROLE_GROUPS.items():
            _draw_group(layout, character, group, roles, wrong, context.mode == "POSE")


class FULLBODY_PT_retarget_results(_RetargetPanel, bpy.types.Panel):
    bl_idname = "FULLBODY_PT_retarget_results"
    bl_label = "Results"
    bl_parent_id = "FULLBODY_PT_retarget"

    @classmethod
    def poll(cls, context):
        return bool(context.scene.fullbody_retarget.results)

    def draw(self, context):
        layout, results = self.layout, context.scene.fullbody_retarget.results
        column = layout.column(align=True)
        for result in results:
            row = column.split(factor=1.0 if result.failed else 0.62)
            row.alert = result.failed
            row.label(text=result.name, icon="ERROR" if result.failed else "CHECKMARK")
            if result.failed:
                draw_sentence(column.column(), result.text, context, "BLANK1")
            else:
                row.label(text=result.text)
        # Many captures to many characters would say the same many times.
        for note in dict.fromkeys(note for result in results for note in result.notes.split("\n") if note):
            draw_sentence(layout.column(), note, context, "INFO")


class FULLBODY_PT_retarget_face(_RetargetPanel, bpy.types.Panel):
    bl_idname = "FULLBODY_PT_retarget_face"
    bl_label = "Face"
    bl_parent_id = "FULLBODY_PT_retarget"
    bl_options = {"DEFAULT_CLOSED"}

    def draw_header(self, context):
        self.layout.prop(context.scene.fullbody_retarget, "face", text="")

    def draw(self, context):
        settings = context.scene.fullbody_retarget
        column = self.layout.column()
        column.use_property_split, column.use_property_decorate = True, False
        column.active = settings.face
        column.prop(settings, "expression_gain")
        column.prop(settings, "expression_offset")
        character = settings.character
        if character is not None and is_there(character):
            column.label(text=character.armature.name, icon="ARMATURE_DATA")
            column.prop(character, "face_map")
            column.operator(operators.FULLBODY_OT_retarget_save_face_map.bl_idname, icon="FILE_TICK")


class FULLBODY_PT_retarget_settings(_RetargetPanel, bpy.types.Panel):
    bl_idname = "FULLBODY_PT_retarget_settings"
    bl_label = "Settings"
    bl_parent_id = "FULLBODY_PT_retarget"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context):
        settings = context.scene.fullbody_retarget
        column = self.layout.column()
        column.use_property_split, column.use_property_decorate = True, False
        column.prop(settings, "plant_feet")
        column.prop(settings, "fingers")
        column.prop(settings, "heading")
        column.prop(settings, "own_scale")
        row = column.row()
        row.active = settings.own_scale
        row.prop(settings, "scale")
        column.prop(settings, "template_path")


def _draw_list(layout, settings, items, index, add, remove):
    layout.label(text=items.capitalize())
    row = layout.row()
    row.template_list(f"FULLBODY_UL_retarget_{items}", "", settings, items, settings, index, rows=_ROWS)
    column = row.column(align=True)
    column.operator(add.bl_idname, text="", icon="ADD")
    column.operator(remove.bl_idname, text="", icon="REMOVE")


def _draw_group(layout, character, group, roles, wrong, posing):
    """One part of the table; the bones in `wrong`, and the empty places that need one, are shown in red.

    In Pose Mode (`posing`) there are buttons that take the active bone; without them names have more room.
    """
    items = [item for role in roles if (item := character.roles.get(role)) is not None]
    header, body = layout.panel(f"fullbody_retarget_{group}", default_closed=group not in _UNFOLDED)
    filled = sum(any(slot.bone for slot in item.bones) for item in items)
    header.label(text=group)
    header.label(text=f"{filled} of {len(items)}")
    if body is None:
        return
    column = body.column(align=True)
    for item in items:
        for place, slot in enumerate(item.bones):
            row = column.split(factor=0.42, align=True)
            row.alert = slot.bone in wrong or (not slot.bone and item.name in REQUIRED)
            row.label(text=ROLE_LABELS[item.name] if place == 0 else "")
            row = row.row(align=True)
            row.prop_search(slot, "bone", character.armature.data, "bones", text="")
            if posing:
                take = row.operator(operators.FULLBODY_OT_retarget_take_bone.bl_idname, text="", icon="EYEDROPPER")
                take.role, take.place = item.name, place
            if place > 0:
                remove = row.operator(operators.FULLBODY_OT_retarget_remove_bone.bl_idname, text="", icon="REMOVE")
                remove.role, remove.place = item.name, place
            elif item.name in OF_SEVERAL and (posing or item.name in CHAINS):
                row.operator(operators.FULLBODY_OT_retarget_add_bone.bl_idname, text="", icon="ADD").role = item.name


CLASSES = (
    FULLBODY_UL_retarget_captures,
    FULLBODY_UL_retarget_characters,
    FULLBODY_MT_retarget_maps,
    FULLBODY_PT_retarget,
    FULLBODY_PT_retarget_results,
    FULLBODY_PT_retarget_bones,
    FULLBODY_PT_retarget_face,
    FULLBODY_PT_retarget_settings,
)
