# SPDX-License-Identifier: GPL-3.0-or-later
"""Retargeting in Blender: its lists of captures and characters, the bones of a character by role, and the work itself."""

from pathlib import Path

import bpy
from bpy.props import BoolProperty, CollectionProperty, IntProperty, StringProperty
from bpy_extras.io_utils import ExportHelper, ImportHelper

from ..contract.npz_file import FileError
from ..live.target import Found
from ..retarget.batch import Batch
from ..retarget.face import found_map
from ..retarget.face_keys import key_names
from ..retarget.guess.find import find_role_map
from ..retarget.properties import is_there, role_map_of, set_role_map
from ..retarget.rig.reading import skeleton_of
from ..retarget.role_labels import ROLE_LABELS, named_roles
from ..retarget.role_map import Preset, RoleMap, RoleMapError
from ..retarget.storage import maps_folder
from .import_capture import DEFAULT_TEMPLATE
from .reporting import ReportsErrors

_TICK = 0.05  # s; enough for the windows to be drawn between two jobs

_running = None


def running():
    """(jobs done, jobs in all, title of the one at work) of the retargeting that runs, or None."""
    return _running


class FULLBODY_OT_retarget_add_captures(ReportsErrors, bpy.types.Operator, ImportHelper):
    """Add capture files or AMASS motions to the list"""

    bl_idname = "fullbody.retarget_add_captures"
    bl_label = "Add Captures to Retarget"
    bl_options = {"UNDO"}

    filename_ext = ".npz"
    filter_glob: StringProperty(default="*.npz", options={"HIDDEN"})
    files: CollectionProperty(type=bpy.types.OperatorFileListElement, options={"HIDDEN", "SKIP_SAVE"})
    directory: StringProperty(subtype="DIR_PATH", options={"HIDDEN", "SKIP_SAVE"})

    def act(self, context):
        settings = context.scene.fullbody_retarget
        chosen = [str(Path(self.directory, item.name)) for item in self.files if item.name] or [self.filepath]
        there = {bpy.path.abspath(item.path) for item in settings.captures}
        new = [path for path in dict.fromkeys(map(bpy.path.abspath, chosen)) if path not in there and Path(path).is_file()]
        if not new:
            raise FileError("Choose capture files (.npz) that are not in the list yet.")
        for path in new:
            item = settings.captures.add()
            item.path, item.name = path, Path(path).stem
        settings.capture_index = len(settings.captures) - 1
        self.report({"INFO"}, f"Added {_counted(len(new), 'capture')}")


class FULLBODY_OT_retarget_remove_capture(bpy.types.Operator):
    """Take the chosen capture off the list; its file stays"""

    bl_idname = "fullbody.retarget_remove_capture"
    bl_label = "Remove Capture to Retarget"
    bl_options = {"UNDO"}

    @classmethod
    def poll(cls, context):
        settings = context.scene.fullbody_retarget
        return _is_chosen(cls, settings.captures, settings.capture_index, "Choose a capture of the list")

    def execute(self, context):
        settings = context.scene.fullbody_retarget
        settings.captures.remove(settings.capture_index)
        settings.capture_index = max(0, min(settings.capture_index, len(settings.captures) - 1))
        return {"FINISHED"}


class FULLBODY_OT_retarget_add_characters(ReportsErrors, bpy.types.Operator):
    """Add the selected characters to the list, and find which of their bones is which"""

    bl_idname = "fullbody.retarget_add_characters"
    bl_label = "Add Selected Characters to Retarget"
    bl_options = {"UNDO"}

    @classmethod
    def poll(cls, context):
        if not _armatures(context):
            cls.poll_message_set("Select the armatures of the characters, or their meshes")
            return False
        return True

    def act(self, context):
        settings = context.scene.fullbody_retarget
        there = {item.armature for item in settings.characters}
        new = [armature for armature in _armatures(context) if armature not in there]
        if not new:
            raise FileError("The selected characters are in the list already.")
        found = [(armature, find_role_map(skeleton_of(armature), [maps_folder()])) for armature in new]
        for armature, role_map in found:
            item = settings.characters.add()
            item.armature, item.name = armature, armature.name
            set_role_map(item, role_map)
        settings.character_index = len(settings.characters) - 1
        for armature, role_map in found:
            _report_map(self, armature, role_map)


class FULLBODY_OT_retarget_remove_character(bpy.types.Operator):
    """Take the chosen character off the list, with the bones chosen for it"""

    bl_idname = "fullbody.retarget_remove_character"
    bl_label = "Remove Character to Retarget"
    bl_options = {"UNDO"}

    @classmethod
    def poll(cls, context):
        settings = context.scene.fullbody_retarget
        return _is_chosen(cls, settings.characters, settings.character_index, "Choose a character of the list")

    def execute(self, context):
        settings = context.scene.fullbody_retarget
        settings.characters.remove(settings.character_index)
        settings.character_index = max(0, min(settings.character_index, len(settings.characters) - 1))
        return {"FINISHED"}


class FULLBODY_OT_retarget_guess_bones(ReportsErrors, bpy.types.Operator):
    """Find again which bone is which, by names and shape; what was chosen by hand is lost"""

    bl_idname = "fullbody.retarget_guess_bones"
    bl_label = "Guess Bones"
    bl_options = {"UNDO"}

    @classmethod
    def poll(cls, context):
        return _has_character(cls, context)

    def act(self, context):
        character = context.scene.fullbody_retarget.character
        role_map = find_role_map(skeleton_of(character.armature), [maps_folder()])
        set_role_map(character, role_map)
        _report_map(self, character.armature, role_map)


class FULLBODY_OT_retarget_load_map(ReportsErrors, bpy.types.Operator, ImportHelper):
    """Take a character's bones from a saved bone map, or by the names that a preset knows"""

    bl_idname = "fullbody.retarget_load_map"
    bl_label = "Load Bone Map"
    bl_options = {"UNDO"}

    filename_ext = ".json"
    filter_glob: StringProperty(default="*.json", options={"HIDDEN"})

    @classmethod
    def poll(cls, context):
        return _has_character(cls, context)

    def act(self, context):
        character = context.scene.fullbody_retarget.character
        role_map = Preset.load(bpy.path.abspath(self.filepath)).fit(skeleton_of(character.armature))
        if not role_map.bones:
            raise RoleMapError(f"{character.armature.name} has none of the bones of {role_map.name}: choose another map.")
        set_role_map(character, role_map)
        _report_map(self, character.armature, role_map)


class FULLBODY_OT_retarget_save_map(ReportsErrors, bpy.types.Operator, ExportHelper):
    """Save which bone of this character is which"""

    bl_idname = "fullbody.retarget_save_map"
    bl_label = "Save Bone Map"

    filename_ext = ".json"
    filter_glob: StringProperty(default="*.json", options={"HIDDEN"})
    use_from_now_on: BoolProperty(
        name="Use from Now On",
        description="Also keep the map among the presets, so that it is found for characters with the same bones",
        default=True,
    )

    @classmethod
    def poll(cls, context):
        return _has_character(cls, context)

    def invoke(self, context, event):
        armature = context.scene.fullbody_retarget.character.armature
        self.filepath = f"{bpy.path.clean_name(armature.name)}.json"
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def act(self, context):
        path = Path(bpy.path.abspath(self.filepath))
        role_map = role_map_of(context.scene.fullbody_retarget.character)
        role_map = RoleMap(path.stem, role_map.bones, role_map.switches)
        if not role_map.bones:
            raise RoleMapError("There is nothing to save: choose some bones first.")
        role_map.save(path)
        if self.use_from_now_on:
            try:
                maps_folder().mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise RoleMapError(f"Cannot keep the map among the presets: {error.strerror}.") from error
            role_map.save(maps_folder() / path.name)
        self.report({"INFO"}, f"Saved {path.name}")


class FULLBODY_OT_retarget_add_bone(bpy.types.Operator):
    """Add one more bone to this role, next to the ones it has"""

    bl_idname = "fullbody.retarget_add_bone"
    bl_label = "Add Bone to Role"
    bl_options = {"UNDO", "INTERNAL"}

    role: StringProperty()

    @classmethod
    def poll(cls, context):
        return _has_character(cls, context)

    def execute(self, context):
        role = context.scene.fullbody_retarget.character.roles.get(self.role)
        if role is None:
            return {"CANCELLED"}
        role.bones.add()
        return {"FINISHED"}


class FULLBODY_OT_retarget_remove_bone(bpy.types.Operator):
    """Take this bone out of the role"""

    bl_idname = "fullbody.retarget_remove_bone"
    bl_label = "Remove Bone from Role"
    bl_options = {"UNDO", "INTERNAL"}

    role: StringProperty()
    place: IntProperty()

    @classmethod
    def poll(cls, context):
        return _has_character(cls, context)

    def execute(self, context):
        role = context.scene.fullbody_retarget.character.roles.get(self.role)
        if role is None or not 0 <= self.place < len(role.bones):
            return {"CANCELLED"}
        if len(role.bones) > 1:
            role.bones.remove(self.place)
        else:
            role.bones[0].bone = ""
        return {"FINISHED"}


class FULLBODY_OT_retarget_take_bone(bpy.types.Operator):
    """Take the bone that is active in Pose Mode for this role, away from any other that has it"""

    bl_idname = "fullbody.retarget_take_bone"
    bl_label = "Take Active Bone"
    bl_options = {"UNDO", "INTERNAL"}

    role: StringProperty()
    place: IntProperty()

    @classmethod
    def poll(cls, context):
        bone = context.active_pose_bone
        if not _has_character(cls, context):
            return False
        if bone is None or bone.id_data != context.scene.fullbody_retarget.character.armature:
            cls.poll_message_set("Click on a bone of the character in Pose Mode first")
            return False
        return True

    def execute(self, context):
        character, bone = context.scene.fullbody_retarget.character, context.active_pose_bone.name
        role = character.roles.get(self.role)
        if role is None or not 0 <= self.place < len(role.bones):
            return {"CANCELLED"}
        for other in character.roles:
            for slot in other.bones:
                slot.bone = "" if slot.bone == bone else slot.bone
        role.bones[self.place].bone = bone
        self.report({"INFO"}, f"{ROLE_LABELS[self.role]} is {bone}")
        return {"FINISHED"}


class FULLBODY_OT_retarget_save_face_map(ReportsErrors, bpy.types.Operator, ExportHelper):
    """Save which shape key of this character shows what, as found by their names, to be changed in a text editor"""

    bl_idname = "fullbody.retarget_save_face_map"
    bl_label = "Save Face Map"

    filename_ext = ".json"
    filter_glob: StringProperty(default="*.json", options={"HIDDEN"})

    @classmethod
    def poll(cls, context):
        return _has_character(cls, context)

    def act(self, context):
        armature = context.scene.fullbody_retarget.character.armature
        path = Path(bpy.path.abspath(self.filepath))
        face_map = found_map(key_names(armature), path.stem)
        face_map.save(path)
        self.report({"INFO"}, f"Saved {path.name} with {_counted(len(face_map.keys), 'shape key')}")


class FULLBODY_OT_retarget(bpy.types.Operator):
    """Move every character as every capture did: one new action for each. Esc stops after the one at work"""

    bl_idname = "fullbody.retarget"
    bl_label = "Retarget Captures"
    bl_options = {"UNDO"}

    @classmethod
    def poll(cls, context):
        settings = context.scene.fullbody_retarget
        for is_missing, message in (
            (_running is not None, "Retargeting is at work: press Esc to stop it"),
            (not any(item.use for item in settings.captures), "Add a capture to the list first"),
            (not any(item.use for item in settings.characters), "Add a character to the list first"),
            (context.mode not in ("OBJECT", "POSE"), "Switch to Object Mode or Pose Mode"),
        ):
            if is_missing:
                cls.poll_message_set(message)
                return False
        return True

    def execute(self, context):
        if not self._begin(context):
            return {"CANCELLED"}
        while self._batch.next is not None:
            self._do_one()
        return self._finish(context)

    def invoke(self, context, event):
        if context.window is None:
            return self.execute(context)
        if not self._begin(context):
            return {"CANCELLED"}
        manager = context.window_manager
        manager.progress_begin(0, len(self._batch.jobs))
        self._timer, self._window = manager.event_timer_add(_TICK, window=context.window), True
        manager.modal_handler_add(self)
        self._announce(context)
        return {"RUNNING_MODAL"}

    def modal(self, context, event):
        try:
            return self._answer(context, event)
        except Exception:
            self._leave(context)
            raise

    def _answer(self, context, event):
        if event.type == "ESC" and event.value == "PRESS":
            return self._finish(context)
        if event.type == "TIMER" and not self._is_drawn:
            self._is_drawn = True  # now the title of the job that comes is to be read
        elif event.type == "TIMER":
            self._do_one()
            if self._batch.next is None:
                return self._finish(context)
            self._announce(context)
        return {"RUNNING_MODAL"}  # nothing else is let through: a change under way would be half retargeted

    def cancel(self, context):
        """Blender ends the operator, such as to open another file."""
        self._leave(context)

    def _begin(self, context):
        self._window, self._timer, self._failed = False, None, []
        try:
            self._batch = Batch(context.scene, DEFAULT_TEMPLATE)
        except FileError as error:
            self.report({"ERROR"}, str(error))
            return False
        self._scene = Found(context.scene, "scenes")
        context.scene.fullbody_retarget.results.clear()
        return True

    def _do_one(self):
        result = self._batch.run_next()
        self._failed += [result] * result.failed
        if scene := self._scene.find():
            line = scene.fullbody_retarget.results.add()
            line.name, line.text, line.failed = result.title, result.text, result.failed
            line.notes = "\n".join(result.notes)

    def _announce(self, context):
        """Shows which job comes next before it keeps Blender busy."""
        global _running
        batch = self._batch
        _running = batch.done, len(batch.jobs), batch.next.title
        self._is_drawn = False
        context.window_manager.progress_update(batch.done)
        context.workspace.status_text_set(
            f"Retargeting {batch.done + 1} of {len(batch.jobs)}: {batch.next.title}   Esc: stop after this one"
        )
        _redraw(context)

    def _finish(self, context):
        self._leave(context)
        done, failed = self._batch.done, len(self._failed)
        sentence = f"Retargeted {done - failed} of {len(self._batch.jobs)}"
        if failed:
            why = f"{self._failed[0].title}: {self._failed[0].text}" if failed == 1 else f"{failed} failed, see the panel"
            self.report({"WARNING" if done > failed else "ERROR"}, f"{sentence}. {why}")
        else:
            self.report({"INFO"}, sentence)
        return {"FINISHED"} if done > failed else {"CANCELLED"}

    def _leave(self, context):
        global _running
        _running = None
        if self._window:
            context.window_manager.event_timer_remove(self._timer)
            context.window_manager.progress_end()
            context.workspace.status_text_set(None)
            _redraw(context)


def _redraw(context):
    for window in context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                area.tag_redraw()


def _armatures(context):
    """The selected armatures, and those that move the selected meshes."""
    found = []
    for item in context.selected_objects:
        armature = item if item.type == "ARMATURE" else item.find_armature() if item.type == "MESH" else None
        if armature is not None and armature not in found:
            found.append(armature)
    return found


def _is_chosen(cls, items, index, message):
    is_chosen = 0 <= index < len(items)
    if not is_chosen:
        cls.poll_message_set(message)
    return is_chosen


def _has_character(cls, context):
    character = context.scene.fullbody_retarget.character
    if character is None or not is_there(character):
        cls.poll_message_set("Choose a character of the list that is in a scene")
        return False
    return True


def _report_map(operator, armature, role_map):
    count = sum(map(len, role_map.bones.values()))
    operator.report({"INFO"}, f"{armature.name}: {_counted(count, 'bone')} found ({role_map.name})")
    if missing := role_map.missing():
        operator.report({"WARNING"}, f"{armature.name} has no bone for {named_roles(missing)}: choose it in the panel")


def _counted(count, thing):
    return f"{count} {thing}" + ("" if count == 1 else "s")


CLASSES = (
    FULLBODY_OT_retarget_add_captures,
    FULLBODY_OT_retarget_remove_capture,
    FULLBODY_OT_retarget_add_characters,
    FULLBODY_OT_retarget_remove_character,
    FULLBODY_OT_retarget_guess_bones,
    FULLBODY_OT_retarget_load_map,
    FULLBODY_OT_retarget_save_map,
    FULLBODY_OT_retarget_add_bone,
    FULLBODY_OT_retarget_remove_bone,
    FULLBODY_OT_retarget_take_bone,
    FULLBODY_OT_retarget_save_face_map,
    FULLBODY_OT_retarget,
)
