# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on's operators: each reads its properties, calls, reports."""

from . import annotate_pair, bridge_face, import_capture, live, retarget

CLASSES = (
    import_capture.FULLBODY_OT_import_capture,
    *annotate_pair.CLASSES,
    *bridge_face.CLASSES,
    *live.CLASSES,
    *retarget.CLASSES,
)


def add_menu_entries():
    import_capture.add_menu_entry()


def remove_menu_entries():
    import_capture.remove_menu_entry()
