# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the live link keeps files: journals of takes among this user's data, the core's log in this Blender's temporary folder."""

import tempfile
from pathlib import Path

import bpy


def takes_folder():
    """The folder of the journals, which may not be there yet."""
    try:
        return Path(bpy.utils.extension_path_user(__package__.rpartition(".")[0], path="takes"))
    except ValueError:  # not installed as an extension
        return Path(bpy.utils.user_resource("DATAFILES"), "fullbody_mocap", "takes")


def log_path():
    """The core's log. Blender removes it with its temporary folder."""
    return Path(bpy.app.tempdir or tempfile.gettempdir(), "fullbody_core.log")
