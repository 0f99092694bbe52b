# SPDX-License-Identifier: GPL-3.0-or-later
"""What the operators do alike: they say in Blender's own way what went wrong, and leave one object selected."""

from ..contract.npz_file import FileError


class ReportsErrors:
    """An operator whose work is `act(context)`: where that raises `FileError`, before it has changed anything, it is cancelled."""

    def execute(self, context):
        try:
            self.act(context)
        except FileError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


def select_only(selected, view_layer):
    """Selects one object and makes it the active one."""
    for scene_object in view_layer.objects:
        scene_object.select_set(scene_object == selected)
    view_layer.objects.active = selected
