# SPDX-License-Identifier: GPL-3.0-or-later
"""The Live panel of the Fullbody tab."""

import time

import bpy

from ..operators import live as operators
from ..panels import PART_LABELS, draw_row, draw_sentence
from . import session as live
from .storage import takes_folder
from .take import unfinished_takes

_LAST_LINES = 4
_LOOK_AGAIN = 2.0  # s
_unfinished = float("-inf"), 0


class FULLBODY_PT_live(bpy.types.Panel):
    bl_idname = "FULLBODY_PT_live"
    bl_label = "Live"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Fullbody"
    bl_order = 1

    def draw(self, context):
        layout, session = self.layout, live.session()
        running = live.is_running()
        settings = (session.settings() if running else None) or context.scene.fullbody_live
        if running:
            column = layout.column(align=True)
            column.scale_y = 1.3
            column.operator(operators.FULLBODY_OT_live_stop.bl_idname, icon="SNAP_FACE")
        else:
            _draw_source(layout, settings)
            column = layout.column(align=True)
            column.scale_y = 1.3
            column.operator(operators.FULLBODY_OT_live_start.bl_idname, icon="PLAY")
        column = layout.column()
        column.use_property_split, column.use_property_decorate = True, False
        column.prop(settings, "mirror")
        column.prop(settings, "smoothing", slider=True)
        if running:
            layout.operator(operators.FULLBODY_OT_live_calibrate.bl_idname, icon="ARMATURE_DATA")
        _draw_takes(layout, session, settings, running)
        if session is not None:
            _draw_state(layout, session, context)


def _draw_source(layout, settings):
    layout.row().prop(settings, "source", expand=True)
    column = layout.column()
    column.use_property_split, column.use_property_decorate = True, False
    if settings.source == "VIDEO":
        column.prop(settings, "video")
        column.prop(settings, "loop")
    else:
        column.prop(settings, "camera")
        _draw_cameras(layout, settings)
    column = layout.column()
    column.use_property_split, column.use_property_decorate = True, False
    column.prop(settings, "target", icon="ARMATURE_DATA")
    column.prop(settings, "template_path")


def _draw_cameras(layout, settings):
    column, search = layout.column(align=True), live.camera_search()
    if search is not None and not search.is_done:
        column.label(text="Looking for cameras ...", icon="SORTTIME")
        return
    column.operator(operators.FULLBODY_OT_live_find_cameras.bl_idname, icon="VIEWZOOM")
    if search is None:
        return
    if search.error:
        column.label(text=search.error, icon="ERROR")
    elif not search.cameras:
        column.label(text="No camera was found", icon="INFO")
    for camera in search.cameras or ():
        button = column.operator(
            operators.FULLBODY_OT_live_choose_camera.bl_idname,
            text=f"{camera['number']}: {camera['name'] or 'Camera'}",
            icon="RADIOBUT_ON" if camera["number"] == settings.camera else "RADIOBUT_OFF",
        )
        button.number = camera["number"]


def _draw_takes(layout, session, settings, running):
    column = layout.column(align=True)
    if running and session.recording is not None:
        row = column.row()
        row.alert = True
        seconds = session.recording.seconds
        row.operator(
            operators.FULLBODY_OT_live_stop_recording.bl_idname,
            text=f"Stop Recording   {seconds // 60:.0f}:{seconds % 60:04.1f}",
            icon="SNAP_FACE",
        )
    elif running:
        name = live.next_take_name(settings)
        column.operator(operators.FULLBODY_OT_live_record.bl_idname, text=f"Record {name}", icon="REC")
    if live.last_take() is not None:
        column.operator(operators.FULLBODY_OT_live_save_take.bl_idname, text=f"Save {live.last_take()[0]}", icon="FILE_TICK")
    if not running and (left := _unfinished_count()):
        text = "Recover Take" if left == 1 else f"Recover Take (1 of {left})"
        column.operator(operators.FULLBODY_OT_live_recover_take.bl_idname, text=text, icon="RECOVER_LAST")


def _unfinished_count():
    """How many takes could be recovered, as of at most two seconds ago: panels are drawn with every move of the mouse."""
    global _unfinished
    now = time.monotonic()
    if now - _unfinished[0] > _LOOK_AGAIN:
        _unfinished = now, len(unfinished_takes(takes_folder()))
    return _unfinished[1]


def _draw_state(layout, session, context):
    box = layout.box()
    column = box.column()
    column.alert = session.problem
    draw_sentence(column, session.state, context, "ERROR" if session.problem else "INFO")
    sentences = [*session.notes, session.take, session.recording and session.recording.error]
    for sentence in filter(None, sentences):
        draw_sentence(box.column(), sentence, context, "DOT")
    if session.is_live:
        _draw_readouts(box, session)
    if session.problem:
        column = box.column(align=True)
        for line in session.last_lines[-_LAST_LINES:]:
            draw_sentence(column, line, context, "NONE")
    if session.process is not None:
        box.operator(operators.FULLBODY_OT_live_show_log.bl_idname, icon="TEXT")


def _draw_readouts(box, session):
    link, latency = session.link, session.latency()
    column = box.column(align=True)
    draw_row(column, "Target", session.target.name)
    if latency is not None:
        draw_row(column, "Latency", f"{1e3 * latency[0]:.0f} ms")
        draw_row(column, "  Beyond Networks", f"{1e3 * latency[1]:.0f} ms")
    draw_row(column, "Frame Rate", f"{session.fps:.1f} fps")
    frame = session.frame
    draw_row(column, "Dropped by Core", f"{frame.dropped if frame else 0}")
    draw_row(column, "Dropped Here", f"{link.dropped}")
    for number, label in enumerate(PART_LABELS.values()):
        captured = frame is not None and frame.valid[number]
        row = column.split(factor=0.5)
        row.label(text=label)
        row.label(text="Captured" if captured else "-", icon="CHECKMARK" if captured else "BLANK1")


CLASSES = (FULLBODY_PT_live,)
