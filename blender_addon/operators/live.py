# SPDX-License-Identifier: GPL-3.0-or-later
"""The live capture: starting and stopping it, calibrating, recording takes."""

from pathlib import Path

import bpy
from bpy.props import IntProperty, StringProperty
from bpy_extras.io_utils import ExportHelper

from ..character import build_character, check_template
from ..contract.character import CharacterTemplate
from ..contract.wire import Person
from ..importer import same_body
from ..live import session as live
from ..live.core_process import CameraSearch, CoreError
from ..live.storage import takes_folder
from ..live.take import TakeError, make_take, read_journal, unfinished_takes
from ..live.target import CharacterTarget, NotNow, TargetGone, is_character
from ..preferences import chosen_core
from ..retarget.face import FaceMap
from ..retarget.live_target import RigTarget, face_map_of, role_map_for
from .import_capture import DEFAULT_TEMPLATE
from .reporting import ReportsErrors, select_only

_LOG_TEXT = "Fullbody Core Log"


class FULLBODY_OT_live_start(ReportsErrors, bpy.types.Operator):
    """Start the capture: the target character follows the person before the camera, or in the video"""

    bl_idname = "fullbody.live_start"
    bl_label = "Start"
    bl_options = {"UNDO"}

    @classmethod
    def poll(cls, context):
        if live.is_running():
            cls.poll_message_set("The live capture is running")
            return False
        return _has_target_or_object_mode(cls, context)

    def act(self, context):
        settings = context.scene.fullbody_live
        command, options = chosen_core()
        command = [*command, "live", *_source_options(settings), "--smoothing", f"{settings.smoothing:.3f}"]
        live.start(_target(context), context.scene, [*command, "--end-with-stdin", *options])


class FULLBODY_OT_live_stop(ReportsErrors, bpy.types.Operator):
    """Stop the capture and its core; a running take is finished"""

    bl_idname = "fullbody.live_stop"
    bl_label = "Stop"
    bl_options = {"UNDO"}

    @classmethod
    def poll(cls, context):
        return _is_running(cls)

    def act(self, context):
        live.stop()
        _report_take(self)


class FULLBODY_OT_live_calibrate(ReportsErrors, bpy.types.Operator):
    """Settle body shape, size, face and floor: step back until you are seen whole, arms out, and stand still for a second"""

    bl_idname = "fullbody.live_calibrate"
    bl_label = "Calibrate"

    @classmethod
    def poll(cls, context):
        return _is_live(cls)

    def act(self, context):
        live.session().calibrate()


class FULLBODY_OT_live_record(ReportsErrors, bpy.types.Operator):
    """Record a take, which will begin at the current frame"""

    bl_idname = "fullbody.live_record"
    bl_label = "Record"

    @classmethod
    def poll(cls, context):
        return _is_live(cls) and live.session().recording is None

    def act(self, context):
        live.session().start_recording()


class FULLBODY_OT_live_stop_recording(ReportsErrors, bpy.types.Operator):
    """Finish the take: it becomes a new action of the target"""

    bl_idname = "fullbody.live_stop_recording"
    bl_label = "Stop Recording"
    bl_options = {"UNDO"}

    @classmethod
    def poll(cls, context):
        return live.is_running() and live.session().recording is not None

    def act(self, context):
        try:
            live.session().finish_recording()
        except TargetGone as error:
            raise TakeError(f"{error} Recover Take puts what was recorded on another character.") from error
        _report_take(self)


class FULLBODY_OT_live_recover_take(ReportsErrors, bpy.types.Operator):
    """Finish the newest take that was cut off, by a crash or a closed file: it becomes an action of the target"""

    bl_idname = "fullbody.live_recover_take"
    bl_label = "Recover Take"
    bl_options = {"UNDO"}

    @classmethod
    def poll(cls, context):
        if live.is_running():
            cls.poll_message_set("Stop the live capture first")
            return False
        return _has_target_or_object_mode(cls, context)

    def act(self, context):
        journals = unfinished_takes(takes_folder())
        if not journals:
            raise TakeError("There is no unfinished take.")
        try:
            stream, items = read_journal(journals[0])
        except TakeError:
            journals[0].unlink(missing_ok=True)  # there is nothing in it
            raise
        target = _target(context)
        target.connect(stream)
        people = [item for item in items if isinstance(item, Person)]
        try:
            notes = target.introduce(people[-1])
        except NotNow as error:
            raise TakeError(str(error)) from error
        for note in notes:
            self.report({"WARNING"}, note)
        name = live.next_take_name(context.scene.fullbody_live)
        take = make_take(stream, items, target.template, same_body(stream.models, target.template))
        live.key_take(take, target, context.scene, context.scene.frame_current, name)
        live.keep_take(name, take.clip)
        journals[0].unlink(missing_ok=True)
        self.report({"INFO"}, f"Recovered {name}: {take.clip.frame_count} frames, {take.clip.duration:.1f} s")


class FULLBODY_OT_live_save_take(ReportsErrors, bpy.types.Operator, ExportHelper):
    """Save the last take as a capture file, which File > Import and the core read"""

    bl_idname = "fullbody.live_save_take"
    bl_label = "Save Take"

    filename_ext = ".npz"
    filter_glob: StringProperty(default="*.npz", options={"HIDDEN"})

    @classmethod
    def poll(cls, context):
        if live.last_take() is None:
            cls.poll_message_set("Record a take first")
        return live.last_take() is not None

    def invoke(self, context, event):
        self.filepath = str(Path(bpy.path.abspath("//") or Path.home(), f"{live.last_take()[0]}.npz"))
        return super().invoke(context, event)

    def act(self, context):
        name, clip = live.last_take()
        path = bpy.path.abspath(self.filepath)
        clip.save(path)
        self.report({"INFO"}, f"Saved {name} as {path}")


class FULLBODY_OT_live_find_cameras(ReportsErrors, bpy.types.Operator):
    """Ask the core which cameras there are"""

    bl_idname = "fullbody.live_find_cameras"
    bl_label = "Find Cameras"

    @classmethod
    def poll(cls, context):
        search = live.camera_search()
        return not live.is_running() and (search is None or search.is_done)

    def act(self, context):
        live.search_cameras(CameraSearch(chosen_core()[0]))


class FULLBODY_OT_live_choose_camera(bpy.types.Operator):
    """Watch with this camera"""

    bl_idname = "fullbody.live_choose_camera"
    bl_label = "Choose Camera"
    bl_options = {"UNDO", "INTERNAL"}

    number: IntProperty()

    def execute(self, context):
        context.scene.fullbody_live.camera = self.number
        return {"FINISHED"}


class FULLBODY_OT_live_show_log(ReportsErrors, bpy.types.Operator):
    """Open what the core has printed in a text editor"""

    bl_idname = "fullbody.live_show_log"
    bl_label = "Show Log"

    @classmethod
    def poll(cls, context):
        return live.session() is not None and live.session().process is not None

    def act(self, context):
        path = live.session().process.log_path
        try:
            content = path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise CoreError(f"Cannot read {path}: {error.strerror}.") from error
        text = bpy.data.texts.get(_LOG_TEXT) or bpy.data.texts.new(_LOG_TEXT)
        text.from_string(content)
        if not bpy.app.background:
            _show_text(text, context)


def _show_text(text, context):
    """Shows a text in the text editor that is open, else in a window of its own."""
    editors = [
        area for window in context.window_manager.windows for area in window.screen.areas if area.type == "TEXT_EDITOR"
    ]
    if not editors:
        bpy.ops.wm.window_new()
        editors = context.window_manager.windows[-1].screen.areas[:1]
        editors[0].type = "TEXT_EDITOR"
    space = editors[0].spaces.active
    space.text, space.top = text, max(0, len(text.lines) - 20)


def _source_options(settings):
    """What is watched, as options of `fullbody live`. Raises `CoreError`."""
    if settings.source == "CAMERA":
        return ["--camera", str(settings.camera)]
    video = bpy.path.abspath(settings.video)
    if not video or not Path(video).is_file():
        raise CoreError(f"There is no video {video}: choose one." if video else "Choose a video to watch.")
    return ["--video", video, *["--loop"] * settings.loop]


def _target(context):
    """What the scene's settings name as target; where they name none, a character is built and named. Raises `FileError`."""
    scene, settings = context.scene, context.scene.fullbody_live
    template = CharacterTemplate.load(bpy.path.abspath(settings.template_path) or str(DEFAULT_TEMPLATE))
    check_template(template, ())
    if not _has_target(context):
        collection = bpy.data.collections.new("Live")
        scene.collection.children.link(collection)
        character = build_character(template, (), name="Live Person", collection=collection, view_layer=context.view_layer)
        select_only(character.armature, context.view_layer)
        settings.target = character.armature
    if not is_character(settings.target):
        return _rig_target(settings.target, template, scene)
    try:
        return CharacterTarget(settings.target, template)
    except TargetGone as error:
        raise CoreError(f"{error} Choose another target.") from error


def _rig_target(armature, template, scene):
    """The target that another rig is, as the Retarget panel knows it. Raises `FileError`."""
    role_map, path = role_map_for(scene, armature), face_map_of(scene, armature)
    face_map = FaceMap.load(path) if path else None
    return RigTarget(armature, role_map, template, scene.fullbody_retarget.chosen(), face_map)


def _has_target(context):
    """Whether the target is there: one that was deleted lives on in the settings that name it."""
    target = context.scene.fullbody_live.target
    return target is not None and any(target.name in scene.objects for scene in bpy.data.scenes)


def _has_target_or_object_mode(cls, context):
    if context.mode == "OBJECT" or _has_target(context):
        return True
    cls.poll_message_set("Choose a target, or switch to Object Mode to have one built")
    return False


def _is_running(cls):
    if not live.is_running():
        cls.poll_message_set("Start the live capture first")
    return live.is_running()


def _is_live(cls):
    session = live.session()
    is_live = session is not None and session.is_live
    if not is_live:
        cls.poll_message_set("The core is still getting ready" if live.is_running() else "Start the live capture first")
    return is_live


def _report_take(operator):
    if sentence := live.session().take:
        operator.report({"INFO"}, sentence)


CLASSES = (
    FULLBODY_OT_live_start,
    FULLBODY_OT_live_stop,
    FULLBODY_OT_live_calibrate,
    FULLBODY_OT_live_record,
    FULLBODY_OT_live_stop_recording,
    FULLBODY_OT_live_recover_take,
    FULLBODY_OT_live_save_take,
    FULLBODY_OT_live_find_cameras,
    FULLBODY_OT_live_choose_camera,
    FULLBODY_OT_live_show_log,
)
