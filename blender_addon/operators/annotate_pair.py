# SPDX-License-Identifier: GPL-3.0-or-later
"""Opening a bridge kit, and saying on its two models where they are cut and how they lie."""

import bpy
from bpy.props import StringProperty
from bpy_extras.io_utils import ImportHelper

from .. import pair as pairs
from ..contract.bridge import BridgeError
from .polls import in_mode, is_model, is_of_pair


class FULLBODY_OT_open_bridge_kit(bpy.types.Operator, ImportHelper):
    """Open a body and a face model, with suggested boundaries, to join them"""

    bl_idname = "fullbody.open_bridge_kit"
    bl_label = "Open Bridge Kit"
    bl_options = {"REGISTER", "UNDO"}

    filename_ext = ".npz"
    filter_glob: StringProperty(default="*.npz", options={"HIDDEN"})

    @classmethod
    def poll(cls, context):
        return in_mode(cls, context, "OBJECT", "Switch to Object Mode to open a bridge kit")

    def execute(self, context):
        try:
            body, face = pairs.open_pair(bpy.path.abspath(self.filepath), context.scene)
        except BridgeError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        for item in context.view_layer.objects:
            item.select_set(item == face)
        context.view_layer.objects.active = face
        self.report({"INFO"}, f"Opened {body.name} and {face.name}")
        return {"FINISHED"}


class FULLBODY_OT_set_boundary(bpy.types.Operator):
    """Take the selected edges, one closed loop, as the boundary of this body or face"""

    bl_idname = "fullbody.set_boundary"
    bl_label = "Set Boundary"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        return is_model(cls, context) and in_mode(cls, context, "EDIT_MESH", "Select the loop in Edit Mode")

    def execute(self, context):
        item = context.object
        try:
            _check_only(item, context)
            loop = pairs.selected_loop(item)
            pairs.check_boundary(item, loop)
            faint = pairs.left_out(pairs.load_kit(pairs.pair_of(item)), item[pairs.ROLE_PROPERTY], loop)
        except BridgeError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        pairs.keep_boundary(item, loop, faint)
        self.report({"INFO"}, f"The boundary of {item.name} has {len(loop)} vertices")
        return {"FINISHED"}


class FULLBODY_OT_show_boundary(bpy.types.Operator):
    """Select the boundary that this body or face has"""

    bl_idname = "fullbody.show_boundary"
    bl_label = "Select Boundary"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        return is_model(cls, context) and in_mode(cls, context, "EDIT_MESH", "Boundaries are selected in Edit Mode")

    def execute(self, context):
        try:
            loop = pairs.boundary_of(context.object)
            pairs.check_boundary(context.object, loop)
            pairs.select_boundary(context.object, loop)
        except BridgeError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class FULLBODY_OT_suggest_boundary(bpy.types.Operator):
    """Go back to the boundary that the kit suggests for this body or face"""

    bl_idname = "fullbody.suggest_boundary"
    bl_label = "Suggested Boundary"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        return is_model(cls, context)

    def execute(self, context):
        item = context.object
        try:
            kit = pairs.load_kit(pairs.pair_of(item))
            role = item[pairs.ROLE_PROPERTY]
            loop = getattr(kit.suggestion, f"{role}_boundary")
            pairs.check_boundary(item, loop)
            faint = pairs.left_out(kit, role, loop)
        except BridgeError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        pairs.keep_boundary(item, loop, faint)
        return {"FINISHED"}


class FULLBODY_OT_align_face(bpy.types.Operator):
    """Put the face back where the points of the face mesh say it belongs"""

    bl_idname = "fullbody.align_face"
    bl_label = "Align Face"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        if not in_mode(cls, context, "OBJECT", "Switch to Object Mode to align the face"):
            return False
        return is_of_pair(cls, context)

    def execute(self, context):
        pair = pairs.pair_of(context.object)
        try:
            kit = pairs.load_kit(pair)
            body, face = pairs.body_and_face(pair)
        except BridgeError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        pairs.align_face(body, face, kit.suggestion)
        return {"FINISHED"}


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
