# SPDX-License-Identifier: GPL-3.0-or-later
"""Fullbody Mocap in Blender: captured body, hands and face as ordinary keyframes."""

import bpy

from . import operators, panels, preferences
from .live import panel as live_panel
from .live import session as live_session
from .live import settings as live_settings
from .retarget import panel as retarget_panel
from .retarget import properties as retarget_properties

_CLASSES = preferences.CLASSES + operators.CLASSES + panels.CLASSES + live_panel.CLASSES + retarget_panel.CLASSES


def register():
    live_settings.register()
    retarget_properties.register()
    for cls in _CLASSES:
        bpy.utils.register_class(cls)
    operators.add_menu_entries()
    live_session.register()


def unregister():
    live_session.unregister()  # first: it ends a capture that runs
    operators.remove_menu_entries()
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
    retarget_properties.unregister()
    live_settings.unregister()
