# SPDX-License-Identifier: GPL-3.0-or-later
"""Where role maps lie that the user keeps: among this user's data, whichever file is open."""

from pathlib import Path

import bpy


def maps_folder():
    """The folder of the user's role maps, which may not be there yet."""
    try:
        return Path(bpy.utils.extension_path_user(__package__.rpartition(".")[0], path="role_maps"))
    except ValueError:  # not installed as an extension
        return Path(bpy.utils.user_resource("DATAFILES"), "fullbody_mocap", "role_maps")
