# SPDX-License-Identifier: GPL-3.0-or-later
"""The Fullbody tab of the 3D view's sidebar."""

import bpy

from .keyframes import CAPTURE_PROPERTY
from .operators.import_capture import FULLBODY_OT_import_capture

_PART_LABELS = {"body": "Body", "left_hand": "Left Hand", "right_hand": "Right Hand", "face": "Face"}


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
        _draw_row(box, "Frames", f"{summary['frames']}")
        _draw_row(box, "Frame Rate", f"{summary['fps']:.2f} fps")
        _draw_row(box, "Duration", f"{summary['duration']:.2f} s")
        box = layout.box()
        box.label(text="Captured", icon="CHECKMARK")
        for part, label in _PART_LABELS.items():
            _draw_row(box, label, f"{summary['valid_percent'][part]:.0f} %")


def captured_armature(active):
    """The captured character's armature that `active` is, or is part of, else None."""
    while active is not None and CAPTURE_PROPERTY not in active:
        active = active.parent
    return active


def _draw_row(layout, label, value):
    row = layout.split(factor=0.5)
    row.label(text=label)
    row.label(text=value)


CLASSES = (FULLBODY_PT_capture,)
