# SPDX-License-Identifier: GPL-3.0-or-later
"""A solved motion as one new action of a character. What the character had before stays as it was, its actions included."""

import contextlib

import bpy
import numpy as np

from ...contract.skeleton import PART_JOINTS, VALID_PARTS
from ...tracks import CONSTANT, Track, bone_path, write_tracks
from ..pose import own_location, own_rotations
from ..roles import JOINT_OF_ROLE
from .reading import RigError, switch_value
from .rotation_modes import channel, identity, mode_values


def write_action(armature, rig, role_map, world, frames, valid, *, name, fingers=True, faces=()):
    """Keys a `WorldPose` of the rig's controls at scene frames [T] as a new action, which then plays. Returns the action.

    valid [T, 4]: which parts were captured then; the others get no keys there. fingers: whether they are keyed at all
    faces: (`Key` datablock, its tracks) for each mesh whose expression is keyed along
    The action has a slot for the armature and one for each `Key`, and is kept by a fake user; so is the action that played
    before. Where anything fails the character has its earlier action again. Raises `RigError`.
    """
    frames = np.asarray(frames, float)
    tracks = bone_tracks(rig, world, frames, valid, fingers=fingers) + fixed_tracks(armature, rig, role_map, frames)
    _let_override_be_edited(armature)
    animated = [armature, *(key for key, _ in faces)]
    with _earlier_kept(animated):
        action = bpy.data.actions.new(name)
        try:
            action.use_fake_user = True
            write_tracks(tracks, armature, action)
            for key, face_tracks in faces:
                write_tracks(face_tracks, key, action)
            check_plays(armature, action)
        except BaseException:
            bpy.data.actions.remove(action)
            raise
    # Bulk keys tell nobody of themselves.
    armature.update_tag(refresh={"DATA"})
    return action


def bone_tracks(rig, world, frames, valid, *, fingers=True):
    """The moving tracks: every control's own rotation in its own mode, and the pelvis bone's location."""
    controls = rig.controls
    rotations = own_rotations(controls, world.axes)
    parts = np.array([part_of_role(role) for role in controls.roles])
    tracks = []
    for part in VALID_PARTS[:3]:
        rows = np.flatnonzero(valid[:, VALID_PARTS.index(part)])
        if len(rows) == 0 or (part != "body" and not fingers):
            continue
        if part == "body":
            tracks.append(_location_track(rig, world, frames, rows))
        for mode in sorted(set(rig.modes)):
            bones = [bone for bone in np.flatnonzero(parts == part) if rig.modes[bone] == mode]
            values = mode_values(mode, rotations[np.ix_(rows, bones)])
            for column, bone in enumerate(bones):
                bone_name = controls.names[bone]
                tracks.append(Track(bone_path(bone_name, channel(mode)), frames[rows], values[:, column], bone_name))
    return tracks


def part_of_role(role):
    """Which captured part a role's bones belong to."""
    joint = JOINT_OF_ROLE.get(role, 0)
    return next(part for part, joints in PART_JOINTS.items() if joints.start <= joint < joints.stop)


def _location_track(rig, world, frames, rows):
    controls = rig.controls
    pelvis = controls.first("pelvis")
    # In the rest world, as the channels' own axes need not be the bone's.
    moved = own_location(controls, world)[rows] * controls.scale @ controls.axes[pelvis].T
    values = np.linalg.solve(rig.location_basis, moved.T).T
    return Track(bone_path(controls.names[pelvis], "location"), frames[rows], values, controls.names[pelvis])


def fixed_tracks(armature, rig, role_map, frames):
    """One key each at the first frame: switches, and rest for whatever else of the steering bones is off rest."""
    pose, pelvis = armature.pose.bones, rig.controls.names[rig.controls.first("pelvis")]

    def fixed(bone, attribute, values):
        return Track(bone_path(bone, attribute), frames[:1], np.array([values], float), bone, CONSTANT)

    tracks = []
    for switch in role_map.switches:
        if (value := switch_value(armature, switch)) is not None:
            path = f'{bone_path(switch.bone)}["{bpy.utils.escape_identifier(switch.property)}"]'
            tracks.append(Track(path, frames[:1], np.array([[value]], float), switch.bone, CONSTANT))
    for bone in rig.at_rest:
        tracks.append(fixed(bone, "location", (0, 0, 0)))
        mode = pose[bone].rotation_mode
        tracks.append(fixed(bone, channel(mode), identity(mode)))
    for bone in rig.controls.names:
        if bone != pelvis and pose[bone].location.length > 0:
            tracks.append(fixed(bone, "location", (0, 0, 0)))
    return tracks


def check_plays(animated, action):
    """Raises `RigError` unless an action plays on a datablock."""
    animation = animated.animation_data
    if animation is None or animation.action != action or animation.action_slot is None:
        raise RigError(f"{animated.name} does not take a new action: check that it can be edited.")


def _let_override_be_edited(armature):
    """Makes an override of the user's out of one that Blender made along the way, as editing it by hand would."""
    override = armature.override_library
    if override is not None and override.is_system_override:
        override.is_system_override = False


@contextlib.contextmanager
def _earlier_kept(animated):
    """Keeps actions that lose their last user, by a fake one. Where the body raises, the datablocks have theirs again."""
    earlier = [(item, item.animation_data is not None, *_action_of(item)) for item in animated]
    try:
        yield
    except BaseException:
        for item, was_animated, action, slot in earlier:
            if not was_animated:
                item.animation_data_clear()
                continue
            item.animation_data.action = action
            if action is not None:
                item.animation_data.action_slot = slot
        raise
    for _, _, action, _ in earlier:
        if action is not None and action.library is None and action.users == 0:
            action.use_fake_user = True


def _action_of(item):
    animation = item.animation_data
    return (animation.action, animation.action_slot) if animation else (None, None)
