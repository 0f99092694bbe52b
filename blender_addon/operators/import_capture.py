# SPDX-License-Identifier: GPL-3.0-or-later
"""File > Import > Fullbody capture."""

from pathlib import Path

import bpy
from bpy.props import BoolProperty, StringProperty
from bpy_extras.io_utils import ImportHelper

from ..importer import import_capture, load_capture, source_video
from ..keyframes import Timing, scene_fps, set_scene_fps
from .reporting import ReportsErrors, select_only

DEFAULT_TEMPLATE = Path(__file__).parent.parent / "assets" / "open_character.npz"


class FULLBODY_OT_import_capture(ReportsErrors, bpy.types.Operator, ImportHelper):
    """Build the captured person as an animated character from a capture file"""

    bl_idname = "fullbody.import_capture"
    bl_label = "Import Fullbody Capture"
    bl_options = {"REGISTER", "UNDO"}

    filename_ext = ".npz"
    filter_glob: StringProperty(default="*.npz", options={"HIDDEN"})
    template_path: StringProperty(
        name="Character",
        description="Character template (.npz) to build; empty for the one that comes with the add-on",
        subtype="FILE_PATH",
    )
    resample: BoolProperty(
        name="Whole Frames",
        description="Key whole scene frames. Off: key every captured frame at its own time, between scene frames if need "
        "be. The motion lasts as long as the video either way",
        default=True,
    )
    set_scene_fps: BoolProperty(
        name="Set Frame Rate",
        description="Play the scene at the clip's frame rate. Off: the scene keeps its own, and the motion its duration",
        default=False,
    )
    add_camera: BoolProperty(
        name="Camera and Video",
        description="Add the video's camera, with the video behind the character where it is found, and render at the "
        "video's size",
        default=True,
    )
    video_path: StringProperty(
        name="Video",
        description="Video for the camera's background; empty for the one the capture file names",
        subtype="FILE_PATH",
    )

    @classmethod
    def poll(cls, context):
        if context.mode != "OBJECT":
            cls.poll_message_set("Switch to Object Mode to import a capture")
            return False
        return True

    def draw(self, context):
        layout = self.layout
        layout.use_property_split = True
        layout.prop(self, "template_path")
        layout.prop(self, "resample")
        layout.prop(self, "set_scene_fps")
        layout.prop(self, "add_camera")
        row = layout.row()
        row.active = self.add_camera
        row.prop(self, "video_path")

    def act(self, context):
        clip_path = bpy.path.abspath(self.filepath)
        template_path = bpy.path.abspath(self.template_path) or str(DEFAULT_TEMPLATE)
        clip, template = load_capture(clip_path, template_path)
        scene = context.scene
        if self.set_scene_fps:
            set_scene_fps(scene, clip)
        timing = Timing(scene_fps(scene), scene.frame_start, self.resample)
        imported = import_capture(
            clip,
            template,
            timing,
            name=Path(clip_path).stem,
            scene=scene,
            view_layer=context.view_layer,
            add_camera=self.add_camera,
            video=bpy.path.abspath(self.video_path) or source_video(clip, clip_path),
        )
        select_only(imported.character.armature, context.view_layer)
        for warning in imported.warnings:
            self.report({"WARNING"}, warning)
        self.report({"INFO"}, f"Imported {clip.frame_count} captured frames, {clip.duration:.2f} s")


def _draw_menu_entry(menu, context):
    menu.layout.operator(FULLBODY_OT_import_capture.bl_idname, text="Fullbody Capture (.npz)")


def add_menu_entry():
    bpy.types.TOPBAR_MT_file_import.append(_draw_menu_entry)


def remove_menu_entry():
    bpy.types.TOPBAR_MT_file_import.remove(_draw_menu_entry)
