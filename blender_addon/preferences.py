# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on's preferences: which core the live link starts."""

import bpy
from bpy.props import StringProperty

from .live.core_process import core_command, split_options


class FULLBODY_AP_preferences(bpy.types.AddonPreferences):
    bl_idname = __package__

    core_program: StringProperty(
        name="Core",
        description="The fullbody program, or a Python that fullbody-mocap is installed in; empty for the one that FULLBODY_CORE "
        "names, else the one on the PATH",
        subtype="FILE_PATH",
    )
    core_options: StringProperty(
        name="Further Options",
        description="Options of fullbody live, as on a command line: a body or face model, a detector, VMC",
    )

    def draw(self, context):
        layout = self.layout
        layout.use_property_split = True
        layout.prop(self, "core_program")
        layout.prop(self, "core_options")


def chosen_core():
    """The command that starts the core, and the further options, both lists. Raises `CoreError`."""
    addon = bpy.context.preferences.addons.get(__package__)
    preferences = addon.preferences if addon else None  # None where a program registers the add-on by itself
    program = bpy.path.abspath(preferences.core_program) if preferences else ""
    return core_command(program), split_options(preferences.core_options) if preferences else []


CLASSES = (FULLBODY_AP_preferences,)
