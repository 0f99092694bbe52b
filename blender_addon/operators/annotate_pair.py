# SPDX-License-Identifier: GPL-3.0-or-later
"""Opening a bridge kit, and saying on its two models where they are cut and how they lie."""

import bpy
from bpy.props import StringProperty
from bpy_extras.io_utils import ImportHelper

from .. import pair as pairs
from ..contract.bridge import BridgeError
from .polls import in_mode, is_model, is_of_pair
from .reporting import ReportsErrors, select_only


class FULLBODY_OT_open_bridge_kit(ReportsErrors, bpy.types.Operator, ImportHelper):
    """Open a body and a face model, with suggested boundaries, to join them"""

    bl_idname = "fullbody.open_bridge_kit"
    bl_label = "Open Bridge Kit"
    bl_options = {"REGISTER", "UNDO"}

    filename_ext = ".npz"
    filter_glob: StringProperty(default="*.npz", options={"HIDDEN"})

    @classmethod
    def poll(cls, context):
        return in_mode(cls, context, "OBJECT", "Switch to Object Mode to open a bridge kit")

    def act(self, context):
        body, face = pairs.open_pair(bpy.path.abspath(self.filepath), context.scene)
        select_only(face, context.view_layer)
        self.report({"INFO"}, f"Opened {body.name} and {face.name}")


class FULLBODY_OT_set_boundary(ReportsErrors, bpy.types.Operator):
    """Take the selected edges, one closed loop, as the boundary of this body or face"""

    bl_idname = "fullbody.set_boundary"
    bl_label = "Set Boundary"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        return is_model(cls, context) and in_mode(cls, context, "EDIT_MESH", "Select the loop in Edit Mode")

    def act(self, context):
        item = context.object
        _check_only(item, context)
        loop = pairs.selected_loop(item)
        pairs.set_boundary(item, loop, pairs.load_kit(pairs.pair_of(item)))
        self.report({"INFO"}, f"The boundary of {item.name} has {len(loop)} vertices")


class FULLBODY_OT_show_boundary(ReportsErrors, bpy.types.Operator):
    """Select the boundary that this body or face has"""

    bl_idname = "fullbody.show_boundary"
    bl_label = "Select Boundary"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        return is_model(cls, context) and in_mode(cls, context, "EDIT_MESH", "Boundaries are selected in Edit Mode")

    def act(self, context):
        loop = pairs.boundary_of(context.object)
        pairs.check_boundary(context.object, loop)
        pairs.select_boundary(context.object, loop)


class FULLBODY_OT_suggest_boundary(ReportsErrors, bpy.types.Operator):
    """Go back to the boundary that the kit suggests for this body or face"""

    bl_idname = "fullbody.suggest_boundary"
    bl_label = "Suggested Boundary"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        return is_model(cls, context)

    def act(self, context):
        item = context.object
        kit = pairs.load_kit(pairs.pair_of(item))
        pairs.set_boundary(item, getattr(kit.suggestion, f"{item[pairs.ROLE_PROPERTY]}_boundary"), kit)


class FULLBODY_OT_align_face(ReportsErrors, bpy.types.Operator):
    """Put the face back where the points of the face mesh say it belongs"""

    bl_idname = "fullbody.align_face"
    bl_label = "Align Face"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        if not in_mode(cls, context, "OBJECT", "Switch to Object Mode to align the face"):
            return False
        return is_of_pair(cls, context)

    def act(self, context):
        pair = pairs.pair_of(context.object)
        pairs.align_face(*pairs.body_and_face(pair), pairs.load_kit(pair).suggestion)


def _check_only(item, context):
    """Raises `BridgeError` where edges of another object in edit mode are selected, too, or instead."""
    for other in context.objects_in_mode:
        if other != item and pairs.has_selected_edges(other):
            raise BridgeError(
                f"Edges of {other.name} are selected, and {item.name} is the active object: select one loop only."
            )


CLASSES = (
    FULLBODY_OT_open_bridge_kit,
    FULLBODY_OT_set_boundary,
    FULLBODY_OT_show_boundary,
    FULLBODY_OT_suggest_boundary,
    FULLBODY_OT_align_face,
)
