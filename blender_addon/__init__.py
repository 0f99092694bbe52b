# SPDX-License-Identifier: GPL-3.0-or-later
"""Fullbody Mocap in Blender: captured body, hands and face as ordinary keyframes."""

import bpy

from . import operators, panels

_CLASSES = operators.CLASSES + panels.CLASSES


def register():
    for cls in _CLASSES:
        bpy.utils.register_class(cls)
    operators.add_menu_entries()


def unregister():
    operators.remove_menu_entries()
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
