# SPDX-License-Identifier: GPL-3.0-or-later
"""The Fullbody tab of the 3D view's sidebar."""

import textwrap

import bpy

from . import pair as pairs
from .keyframes import CAPTURE_PROPERTY
from .operators import annotate_pair, bridge_face
from .operators.import_capture import FULLBODY_OT_import_capture

_LETTER = 6.5  # px of an ordinary letter at a scale of one

PART_LABELS = {"body": "Body", "left_hand": "Left Hand", "right_hand": "Right Hand", "face": "Face"}


class FULLBODY_PT_capture(bpy.types.Panel):
    bl_idname = "FULLBODY_PT_capture"
    bl_label = "Capture"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Fullbody"

    def draw(self, context):
        layout = self.layout
        layout.operator(FULLBODY_OT_import_capture.bl_idname, text="Import Capture", icon="IMPORT")
        armature = captured_armature(context.object)
        if armature is None:
            layout.label(text="Select a captured character", icon="INFO")
            return
        summary = armature[CAPTURE_PROPERTY]
        box = layout.box()
        box.label(text=armature.name, icon="ARMATURE_DATA")
        draw_row(box, "Frames", f"{summary['frames']}")
        draw_row(box, "Frame Rate", f"{summary['fps']:.2f} fps")
        draw_row(box, "Duration", f"{summary['duration']:.2f} s")
        box = layout.box()
        box.label(text="Captured", icon="CHECKMARK")
        for part, label in PART_LABELS.items():
            filled = summary.get("filled_percent", {}).get(part, 0.0)
            bridged = f", {max(1, round(filled))} % bridged" if filled > 0 else ""
            draw_row(box, label, f"{summary['valid_percent'][part]:.0f} %{bridged}")


def captured_armature(active):
    """The captured character's armature that `active` is, or is part of, else None."""
    while active is not None and CAPTURE_PROPERTY not in active:
        active = active.parent
    return active


def draw_row(layout, label, value):
    row = layout.split(factor=0.5)
    row.label(text=label)
    row.label(text=value)


def draw_sentence(column, sentence, context, icon):
    """A sentence on as many lines as the sidebar's width makes of it."""
    column.scale_y = 0.8
    scale = context.preferences.system.ui_scale
    width = max(16, int((context.region.width / scale - 60) / _LETTER)) if context.region else 40
    for number, line in enumerate(textwrap.wrap(sentence, width)):
        column.label(text=line, icon=icon if number == 0 or icon == "NONE" else "BLANK1")


class FULLBODY_PT_bridge(bpy.types.Panel):
    bl_idname = "FULLBODY_PT_bridge"
    bl_label = "Bridge a Face"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Fullbody"
    bl_order = 2

    def draw(self, context):
        layout = self.layout
        layout.operator(annotate_pair.FULLBODY_OT_open_bridge_kit.bl_idname, icon="FILE_FOLDER")
        pair = pairs.pair_of(context.object)
        if pair is None:
            layout.label(text="Select a body or face of a kit", icon="INFO")
            return
        box = layout.box()
        for item in pair.objects:
            if item.type == "MESH" and pairs.BOUNDARY_PROPERTY in item:
                icon = "EDITMODE_HLT" if item == context.object else "MESH_DATA"
                box.label(text=f"{item.name}: {len(item[pairs.BOUNDARY_PROPERTY])} vertices", icon=icon)
        column = layout.column(align=True)
        column.operator(annotate_pair.FULLBODY_OT_set_boundary.bl_idname, icon="EDGESEL")
        column.operator(annotate_pair.FULLBODY_OT_show_boundary.bl_idname, icon="RESTRICT_SELECT_OFF")
        column.operator(annotate_pair.FULLBODY_OT_suggest_boundary.bl_idname, icon="LOOP_BACK")
        layout.operator(annotate_pair.FULLBODY_OT_align_face.bl_idname, icon="ORIENTATION_LOCAL")
        column = layout.column(align=True)
        column.scale_y = 1.3
        column.operator(bridge_face.FULLBODY_OT_bridge_face.bl_idname, icon="MOD_SKIN")
        column = layout.column(align=True)
        column.operator(bridge_face.FULLBODY_OT_edit_boundaries.bl_idname, icon="BACK")
        column.operator(bridge_face.FULLBODY_OT_save_bridge.bl_idname, icon="FILE_TICK")


CLASSES = (FULLBODY_PT_capture, FULLBODY_PT_bridge)
