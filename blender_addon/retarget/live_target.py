# SPDX-License-Identifier: GPL-3.0-or-later
"""A rigged character of any kind as a target of the live link: each frame is solved as a whole capture would be.

What the character has of its own stays where it is: its action stays assigned and the live pose is set over what that last gave,
as often as need be. Whatever no action would bring back is remembered, and put back at the end and before a file is saved.
"""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import bpy
import numpy as np

from ..contract.character import fitting
from ..contract.skeleton import VALID_PARTS
from ..importer import same_body
from ..live.target import Found, TargetGone
from ..tracks import shape_key_path
from .face import key_weights, read_expressions
from .face_keys import face_tracks
from .guess.find import find_role_map
from .properties import problems_of, role_map_of
from .retargeting import retarget
from .rig.bake import bone_tracks, fixed_tracks
from .rig.reading import RigError, check_armature, read_rig, skeleton_of
from .rig.stand_in import switch_value
from .rig.steering import off_rest, steering_bones
from .role_labels import named_roles
from .role_map import RoleMapError
from .roles import REQUIRED
from .solve.solver import RetargetSettings, Solver
from .solve.source import RetargetError, source_motion
from .storage import maps_folder

_SAME_VALUE = 1e-4  # what a shape key may be off before it is set again
_SAME_AXES = 1e-5  # of an armature object's axes, before it counts as turned or scaled
_SLIGHT = 0.06  # of every expression: as much as makes its shape keys known

_ALL_SEEN = np.ones((1, len(VALID_PARTS)), bool)

_rated = {}


def can_follow(scene, scene_object):
    """Whether an armature's bones are known well enough to follow a person. Quick enough for a list of objects."""
    if scene_object.type != "ARMATURE" or scene_object.library is not None:
        return False
    if (listed := _listed(scene, scene_object)) is not None:
        return not problems_of(listed)[0]
    bones = scene_object.data.bones
    if len(bones) < len(REQUIRED):
        return False
    names = tuple(bone.name for bone in bones)
    known = _rated.get(scene_object.data.session_uid)
    if known is None or known[0] != names:
        known = names, not find_role_map(skeleton_of(scene_object), [maps_folder()]).missing()
        _rated[scene_object.data.session_uid] = known
    return known[1]


def role_map_for(scene, armature):
    """The bones of an armature by role: as the Retarget panel has them where it lists the character, else as they are found.

    Raises `RetargetError` or `RoleMapError` where some that are needed are not known.
    """
    check_armature(armature)
    if (listed := _listed(scene, armature)) is not None:
        if wrong := problems_of(listed)[0]:
            raise RoleMapError(f"{' '.join(wrong)} Correct the bones of {armature.name} in the Retarget panel.")
        return role_map_of(listed)
    role_map = find_role_map(skeleton_of(armature), [maps_folder()])
    if missing := role_map.missing():
        raise RoleMapError(
            f"No bone of {armature.name} is known for {named_roles(missing)}: "
            "add the character in the Retarget panel, and choose its bones there."
        )
    return role_map


def face_map_of(scene, armature):
    """Path of the face map that the Retarget panel has for a character, or nothing."""
    listed = _listed(scene, armature)
    return bpy.path.abspath(listed.face_map) if listed else ""


def _listed(scene, armature):
    return next((item for item in scene.fullbody_retarget.characters if item.armature == armature), None)


class RigTarget:
    """A rigged character that the live link moves, with the methods of `live.target.CharacterTarget`.

    template: the `CharacterTemplate` of the captured body, for its proportions; settings: how takes are retargeted, and live
    frames, too, as far as one alone allows; face_map: a `face.FaceMap`, or None to go by the shape keys' names
    Raises `RetargetError` where the character cannot be retargeted to. Every method may raise `TargetGone`.
    """

    def __init__(self, armature, role_map, template, settings=RetargetSettings(), face_map=None):
        self._armature, self._role_map, self._template = Found(armature), role_map, template
        self._settings, self._live_settings = settings, replace(settings, plant_feet=False)
        self._face_map, self._stream, self._body, self._face = face_map, None, None, None
        self._before, self._reading, self._solver = _Before(), None, None
        self._is_set = False
        self._read(armature)

    @property
    def name(self):
        return self._armature.name

    @property
    def template(self):
        return self._template

    def connect(self, stream):
        """Says what will come: the `Stream`."""
        self._stream, self._face = stream, None
        self._become(())

    def forget(self):
        """To be called where anything but this may have changed the character: undo, another frame of its animation."""
        self._is_set = False
        for face in self._face or ():
            face.forget()

    def let_go(self):
        """Frees what only a capture that runs needs: the template is large. `find` and `show_animation` still work."""
        self._template = None

    def find(self):
        """The armature object. Raises `TargetGone` where it was deleted."""
        armature = self._armature.find()
        if armature is None:
            raise TargetGone(f"{self.name} was deleted.")
        return armature

    def check(self):
        """Raises `TargetGone` where the character is in no scene any more. Reads it anew where its bones were edited."""
        armature = self.find()
        if not any(armature.name in scene.objects for scene in bpy.data.scenes):
            raise TargetGone(f"{self.name} was deleted.")
        self._follow_edits(armature)

    def introduce(self, person):
        """Goes by the proportions of a `Person` from now on. Returns sentences on what is not as one might think."""
        armature = self.find()
        self._follow_edits(armature)
        fits = same_body(self._stream.models, self._template)
        self._become(person.betas if fits else ())
        notes = [] if fits else ["The person is captured with another body model, so steps may be a little off in size."]
        self._face = None
        face_notes = self._match_face(armature)
        return list(dict.fromkeys([*notes, *self._role_map.notes, *self._reading.rig.notes, *face_notes]))

    def show(self, frame):
        """Poses the character as a `Frame` says. Blender evaluates it when it next draws."""
        armature = self.find()
        motion = self._motion(frame)
        if self._solver is None:
            self._solver = Solver(motion, self._reading.rig.controls, self._live_settings)
        world = self._solver.solve(motion)
        bones = armature.pose.bones
        try:
            rig = self._rig_in_modes(bones)
            if not self._is_set:
                self._set_once(armature)
            for track in bone_tracks(rig, world, np.zeros(1), motion.valid, fingers=self._settings.fingers):
                self._before.set(bones[track.group], track.data_path.rpartition(".")[2], track.values[0].tolist())
        except KeyError as error:
            raise TargetGone(f"{self.name} has lost some of its bones, or they were renamed.") from error
        if self._face is None:
            self._match_face(armature)
        for face in self._face:
            face.show(motion.expression, self._before)
        self._is_set = True

    def key_take(self, take, timing, name):
        """Retargets a `Take` as a new action of this name, which the character then plays. Returns the action.

        Raises `RetargetError`, too; the character then is as it was.
        """
        armature = self.find()
        # The action brings to rest whatever of the user's own pose is in its way, so it has to see that.
        self.put_back()
        try:
            rest = self._rest_of(take.clip.betas if same_body(self._stream.models, self._template) else ())
            motion = source_motion(take.shown, *rest, times=timing.times(take.clip), name=name)
            made = retarget(motion, armature, self._role_map, self._settings, timing, name=name, face_map=self._face_map)
        except RigError as error:
            raise RetargetError(f"{error} Recover Take then finishes the take.") from error
        return made.action

    def put_back(self):
        """Gives the character back as it was: pose, switches, shape keys. The next frame takes it up again."""
        armature = self._armature.find()
        if armature is not None:
            self._before.put_back(armature)
        self.forget()

    def show_animation(self):
        """Goes back from the live pose to what the character was before, or plays at the current frame if it plays anything."""
        self.put_back()
        faces = [face.find() for face in self._face or ()]
        for animated in (self.find(), *filter(None, faces)):
            if animated.animation_data:
                animated.update_tag(refresh={"TIME"})

    def _read(self, armature):
        """Reads the rig, as it is without the live pose. Raises `RigError`."""
        self.put_back()
        rig = read_rig(armature, self._role_map)
        helpers = steering_bones(armature, rig.controls.names) - set(rig.controls.names)
        idle = off_rest(armature, helpers) - set(rig.at_rest)
        self._reading = _Reading(rig, *_rest_of_bones(armature), frozenset(helpers - idle))
        self._solver = None

    def _follow_edits(self, armature):
        """Reads the rig anew where bones were edited or the object turned or scaled. Where it is moved, the motion goes along."""
        if armature.data.is_editmode or bpy.app.is_job_running("RENDER"):
            return
        rest, axes = _rest_of_bones(armature)
        same = np.array_equal(rest, self._reading.rest) and np.abs(axes - self._reading.axes).max() < _SAME_AXES
        if same:
            return
        try:
            self._read(armature)
        except RetargetError as error:
            raise TargetGone(str(error)) from error

    def _rig_in_modes(self, bones):
        """The `Rig`, with the rotation modes that its controls have now."""
        rig = self._reading.rig
        modes = tuple(bones[name].rotation_mode for name in rig.controls.names)
        if modes != rig.modes:
            self._reading = replace(self._reading, rig=replace(rig, modes=modes))
        return self._reading.rig

    def _set_once(self, armature):
        """Sets what no frame changes: switches, and at rest whatever else steers the body."""
        bones, before, reading = armature.pose.bones, self._before, self._reading
        if before.switch(armature, self._role_map.switches):
            armature.update_tag(refresh={"OBJECT", "DATA"})  # a custom property tells nobody of itself
        off = off_rest(armature, [name for name in reading.helpers if name in bones])
        rig = replace(reading.rig, at_rest=tuple(off))
        for track in fixed_tracks(armature, rig, replace(self._role_map, switches=()), np.zeros(1)):
            before.set(bones[track.group], track.data_path.rpartition(".")[2], track.values[0].tolist())

    def _become(self, betas):
        """Goes by a body of these betas."""
        rest = self._rest_of(betas)
        if self._body is None or not np.array_equal(rest[0], self._body[0]) or rest[1] != self._body[1]:
            self._body, self._solver = rest, None

    def _rest_of(self, betas):
        """Rest joints [52, 3] m of a body, and height of its soles, in the rest frame."""
        betas = fitting(betas, self._template.shapedirs.shape[-1])
        return self._template.rest_joints(betas), self._template.sole(betas)

    def _motion(self, frame):
        """A `Frame` as a `SourceMotion` of one moment. All of it is shown: a part that is not seen comes as it was last."""
        moment = SimpleNamespace(
            poses=frame.poses[None],
            trans=frame.trans[None],
            face_expression=frame.expression[None],
            expression_names=self._stream.expression_names,
            valid=_ALL_SEEN,
            timestamps=np.zeros(1),
            mocap_framerate=self._stream.framerate,
        )
        return source_motion(moment, *self._body, floor=0.0)

    def _match_face(self, armature):
        """Finds which shape keys show what. Returns sentences on those that do not."""
        self._face, names = (), tuple(self._stream.expression_names)
        if not (self._settings.face and names):
            return []
        slight = np.full((1, len(names)), _SLIGHT)
        motion = SimpleNamespace(expression_names=names, expression=slight, valid=_ALL_SEEN)
        found, notes = face_tracks(motion, armature, self._settings, np.zeros(1), self._face_map)
        expressions, faces = read_expressions(names, slight), []
        for shape_keys, tracks in found:
            moved = {track.data_path for track in tracks}
            weights = key_weights([key.name for key in shape_keys.key_blocks[1:]], expressions, self._face_map)
            weights = {name: what for name, what in weights.items() if shape_key_path(name) in moved}
            faces.append(_Face(shape_keys, names, weights, expressions, self._settings))
        self._face = tuple(faces)
        return notes


@dataclass(frozen=True)
class _Reading:
    """A `Rig` as it was read, and by what to see that it is another now.

    rest [16 B]: matrices of all bones at rest; axes [3, 3]: the armature object's own
    helpers: further bones that steer the mapped ones, and have to be at rest
    """

    rig: object
    rest: np.ndarray
    axes: np.ndarray
    helpers: frozenset


class _Face:
    """The shape keys of one mesh that follow: which, and by what weights."""

    def __init__(self, shape_keys, names, weights, expressions, settings):
        self._found, self._names = Found(shape_keys, "shape_keys"), names
        self._keys, sources = tuple(weights), tuple(expressions.values)
        self._weights = np.array([[of_key.get(source, 0.0) for source in sources] for of_key, _, _ in weights.values()])
        self._gain = np.array([gain for _, gain, _ in weights.values()]) * settings.expression_gain
        self._offset = np.array([offset for _, _, offset in weights.values()]) + settings.expression_offset
        self.forget()

    def find(self):
        """The `Key` datablock, or None."""
        return self._found.find()

    def forget(self):
        """To be called where anything but this may have changed the keys."""
        self._values = np.full(len(self._keys), np.nan)

    def show(self, expression, before):
        """Sets the keys whose value has changed for expression [1, E]; those that are gone are left out."""
        shape_keys = self.find()
        if shape_keys is None:
            return
        sources = np.concatenate(list(read_expressions(self._names, expression).values.values()))
        values = self._gain * (self._weights @ sources) + self._offset
        changed = ~(np.abs(values - self._values) <= _SAME_VALUE)
        blocks = shape_keys.key_blocks
        for number in np.flatnonzero(changed).tolist():
            if (key := blocks.get(self._keys[number])) is not None:
                before.set_key(self._found, key, float(values[number]))
        self._values = np.where(changed, values, self._values)


class _Before:
    """Sets values of a character and remembers what they were before, to put them back. Keeps no reference to anything."""

    def __init__(self):
        self._bones, self._switches, self._keys = {}, {}, {}

    def set(self, bone, attribute, values):
        """Sets an array of a pose bone."""
        place = bone.name, attribute
        if place not in self._bones:
            self._bones[place] = tuple(getattr(bone, attribute))
        setattr(bone, attribute, values)

    def switch(self, armature, switches):
        """Sets switches. Returns whether one of them changed."""
        changed = False
        for switch in switches:
            value = switch_value(armature, switch)
            bone = armature.pose.bones.get(switch.bone)
            if value is not None and bone[switch.property] != value:
                self._switches.setdefault((switch.bone, switch.property), bone[switch.property])
                bone[switch.property] = value
                changed = True
        return changed

    def set_key(self, found, key, value):
        """Sets a shape key of the `Key` datablock `found`; what goes beyond its slider is cut off."""
        place = found.name, key.name
        if place not in self._keys:
            self._keys[place] = found, key.value
        key.value = value

    def put_back(self, armature):
        """Puts back everything that is still there, and forgets it."""
        bones = armature.pose.bones
        for (name, attribute), values in self._bones.items():
            if name in bones:
                setattr(bones[name], attribute, values)
        for (name, switched), value in self._switches.items():
            if name in bones:
                bones[name][switched] = value
        if self._switches:
            armature.update_tag(refresh={"OBJECT", "DATA"})
        for (_, name), (found, value) in self._keys.items():
            shape_keys = found.find()
            if shape_keys is not None and name in shape_keys.key_blocks:
                shape_keys.key_blocks[name].value = value
        self.__init__()


def _rest_of_bones(armature):
    """Matrices [16 B] of all bones at rest, and the axes [3, 3] of the armature object in the world."""
    bones = armature.data.bones
    rest = np.empty(16 * len(bones), np.float32)
    bones.foreach_get("matrix_local", rest)
    return rest, np.array(armature.matrix_world.to_3x3())
