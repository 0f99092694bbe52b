# SPDX-License-Identifier: GPL-3.0-or-later
"""What the live link moves: a target, either one of our own characters, here, or any other rig (`retarget.live_target`).

Both have the same methods, and the session does not ask which one it has.

`settings` says which objects can be chosen, and `operators.live` makes the target of the one that was.

A target keeps no references into Blender's data, which undo, a new file or the user may take away at any moment: it finds its
objects again each time.
"""

import bpy
import numpy as np

from .. import axes
from ..character import (
    BETA_LIMIT,
    CHARACTER_PROPERTY,
    Character,
    fits_template,
    has_body,
    has_face,
    set_body,
    set_face,
    widen_slider,
)
from ..contract.frames import pose_to_quaternions
from ..contract.skeleton import JOINT_NAMES
from ..importer import face_misfit, same_body
from ..keyframes import CAPTURE_PROPERTY, animate_character, capture_summary

_SAME_VALUE = 1e-4  # what a shape key may be off before it is set again


class TargetGone(Exception):
    """The target is not there any more, or has lost what is to be moved. The message is one sentence for the user."""


class NotNow(Exception):
    """Something that Blender does in Object Mode only. The message is one sentence on what the user can do."""


def is_character(scene_object):
    """Whether an object is the armature of one of our characters."""
    return scene_object.type == "ARMATURE" and CHARACTER_PROPERTY in scene_object


class Found:
    """An object or scene of the open file, found again by its name or, once that has changed, by Blender's number for it."""

    def __init__(self, item, kind="objects"):
        self.name, self._number, self._kind = item.name, item.session_uid, kind

    def find(self):
        """The object or scene itself, or None."""
        all_items = getattr(bpy.data, self._kind)
        found = all_items.get(self.name)
        if found is None or found.session_uid != self._number:
            found = next((item for item in all_items if item.session_uid == self._number), None)
            self.name = found.name if found else self.name
        return found


class CharacterTarget:
    """One of our characters, moved by the live link.

    template: the `CharacterTemplate` it was built from, or should have been: where it was not, it keeps its own shape.
    Every method may raise `TargetGone`.
    """

    def __init__(self, armature, template):
        mesh = _mesh_of(armature)
        if mesh is None:
            raise TargetGone(f"{armature.name} has no mesh with the character's shape keys.")
        self._armature, self._mesh, self._template = Found(armature), Found(mesh), template
        self._stream = None
        self.forget()

    @property
    def name(self):
        return self._armature.name

    @property
    def template(self):
        return self._template

    def connect(self, stream):
        """Says what will come: the `Stream`."""
        self._stream = stream
        self.forget()

    def forget(self):
        """To be called where anything but this may have changed the character: undo, another frame of its animation."""
        self._rest, self._values = None, np.full(len(self._stream.expression_names) if self._stream else 0, np.nan)
        self._key_numbers = None

    def let_go(self):
        """Frees what only a capture that runs needs: the template is large. `find` and `show_animation` still work."""
        self._template = None

    def find(self):
        """The `Character`. Raises `TargetGone` where it was deleted."""
        armature, mesh = self._armature.find(), self._mesh.find()
        if armature is None or mesh is None or mesh.data.shape_keys is None:
            raise TargetGone(f"{self.name} was deleted.")
        return Character(armature, mesh)

    def check(self):
        """Raises `TargetGone` where the character is in no scene any more: settings that name it keep its data alive."""
        character = self.find()
        if not any(character.armature.name in scene.objects for scene in bpy.data.scenes):
            raise TargetGone(f"{self.name} was deleted.")

    def introduce(self, person):
        """Makes the character a `Person`: body shape, bones, face and colours. Returns sentences on what it could not take on.

        Raises `NotNow`, before anything has changed.
        """
        character, template, stream = self.find(), self._template, self._stream
        if not fits_template(character, template):
            return [f"{self.name} was not built from the chosen character template: it keeps its own shape and face."]
        if any(item.library or item.override_library for item in (character.armature.data, character.mesh.data)):
            return [f"{self.name} is linked from another file: it keeps its own shape and face."]
        face = person.face_shape, person.albedo
        misfit = face_misfit(stream.models, tuple(map(len, face)), template)
        notes = [misfit] if misfit else []
        if not misfit and not has_face(character, *face):
            _ready_layer(character)  # before anything changes
        if same_body(stream.models, template):
            self._take_on_body(character, np.clip(person.betas, -BETA_LIMIT, BETA_LIMIT))
        else:
            notes.append("The person is captured with another body model than this character's: it keeps its own shape.")
        if not misfit and not has_face(character, *face):
            set_face(character, template, *face)
        self.forget()
        return notes

    def _take_on_body(self, character, betas):
        if has_body(character, self._template, betas):
            return
        try:
            set_body(character, self._template, betas, _ready_layer(character))
        except RuntimeError as error:
            raise NotNow(f"Show {self.name}, unlocked, so that it can take on the person's shape.") from error

    def show(self, frame):
        """Poses the character as a `Frame` says. Blender evaluates it when it next draws."""
        character = self.find()
        heads, bones, bone_to_rest = self._bone_rest(character.armature)
        rotations = axes.rest_to_bone_rotations(pose_to_quaternions(frame.poses[None])[0], bone_to_rest)
        pose_bones = character.armature.pose.bones
        try:
            for name, rotation in zip(JOINT_NAMES, rotations.tolist()):
                pose_bones[name].rotation_quaternion = rotation
            pose_bones[JOINT_NAMES[0]].location = axes.trans_to_root_location(frame.trans, heads[0], bones[0])
        except KeyError as error:
            raise self._without_bones() from error
        self._show_expression(character.shape_keys.key_blocks, frame.expression)

    def key_take(self, take, timing, name):
        """Keys a `Take` on the character as a new action of this name, which it then plays. Returns the action."""
        character = self.find()
        action, _ = animate_character(take.shown, character, timing, name=name)
        action.use_fake_user = True
        character.armature[CAPTURE_PROPERTY] = capture_summary(take.clip)
        self.forget()
        return action

    def put_back(self):
        """Gives back what only the live link has changed, so that it can be saved: nothing, the pose is the character's own."""

    def show_animation(self):
        """Goes back from the live pose to what the character plays at the current frame, if it plays anything."""
        character = self.find()
        for animated in (character.armature, character.mesh, character.shape_keys):
            if animated.animation_data and animated.animation_data.action:
                animated.update_tag(refresh={"TIME"})

    def _bone_rest(self, armature):
        """Heads [J, 3], axes [J, 3, 3] and turns to the rest frame [J, 4] of the bones, anew where they have been edited."""
        bones = armature.data.bones
        matrices = np.empty(16 * len(bones), np.float32)
        bones.foreach_get("matrix_local", matrices)
        if self._rest is None or not np.array_equal(self._rest[0], matrices):
            order = {bone.name: number for number, bone in enumerate(bones)}
            if not all(name in order for name in JOINT_NAMES):
                raise self._without_bones()
            # Written column by column.
            own = matrices.reshape(-1, 4, 4)[[order[name] for name in JOINT_NAMES]].transpose(0, 2, 1).astype(float)
            turns = own[:, :3, :3]
            self._rest = matrices, own[:, :3, 3], turns, axes.bone_to_rest_quaternions(turns)
        return self._rest[1:]

    def _without_bones(self):
        return TargetGone(f"{self.name} has lost some of its bones, or they were renamed.")

    def _show_expression(self, keys, values):
        """Sets the shape keys whose value has changed; those that the character lacks are left out."""
        names = self._stream.expression_names
        if self._key_numbers is None:
            self._key_numbers = [keys.find(name) for name in names]
        changed = ~(np.abs(values - self._values) <= _SAME_VALUE)
        for column in np.flatnonzero(changed).tolist():
            number, value = self._key_numbers[column], float(values[column])
            if number < 0:
                continue
            if number >= len(keys) or keys[number].name != names[column]:
                self.forget()  # keys were moved or renamed; the next frame finds them
                return
            key = keys[number]
            if not key.slider_min <= value <= key.slider_max:
                widen_slider(key, value, value)
            key.value = value
        self._values = np.where(changed, values, self._values)


def _mesh_of(armature):
    """The character's mesh: what hangs on its armature and has shape keys."""
    meshes = [item for item in armature.children if item.type == "MESH" and item.data.shape_keys]
    return next((item for item in meshes if item.find_armature() == armature), None)


def _ready_layer(character):
    """The view layer in which a character can be edited now. Raises `NotNow`."""
    view_layer = bpy.context.view_layer
    name, mode = character.armature.name, character.armature.mode
    if name not in view_layer.objects:
        raise NotNow(f"Go to a scene with {name} in it, so that it can take on the person's shape.")
    active = view_layer.objects.active
    if mode != "OBJECT" or character.mesh.mode != "OBJECT" or (active is not None and active.mode != "OBJECT"):
        raise NotNow(f"Go to Object Mode, so that {name} can take on the person's shape.")
    windows = bpy.context.window_manager.windows
    if any(modal.bl_idname.startswith("TRANSFORM_OT") for window in windows for modal in window.modal_operators):
        raise NotNow(f"Finish moving things, so that {name} can take on the person's shape.")
    return view_layer
