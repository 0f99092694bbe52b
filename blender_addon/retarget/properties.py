# SPDX-License-Identifier: GPL-3.0-or-later
"""What a scene remembers of its retargeting: captures, characters with their bones by role, settings, what came of the last run."""

import bpy
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    FloatProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)

from .role_labels import ROLE_LABELS, named_roles
from .role_map import RoleMap, Switch
from .roles import REQUIRED, ROLES
from .solve.solver import RetargetSettings


class FullbodyRetargetCapture(bpy.types.PropertyGroup):
    path: StringProperty(name="Capture", description="Capture file, or an AMASS motion (.npz)", subtype="FILE_PATH")
    use: BoolProperty(name="Use", description="Retarget this capture", default=True)


class FullbodyRetargetBone(bpy.types.PropertyGroup):
    """One bone of a role; `name` is free for Blender's own use."""

    bone: StringProperty(name="Bone", description="The bone, or control, that has this role")


class FullbodyRetargetRole(bpy.types.PropertyGroup):
    """One role, whose `name` it is, with room for at least one bone."""

    bones: CollectionProperty(type=FullbodyRetargetBone)


class FullbodyRetargetSwitch(bpy.types.PropertyGroup):
    bone: StringProperty()
    switched: StringProperty()
    value: FloatProperty()


class FullbodyRetargetCharacter(bpy.types.PropertyGroup):
    armature: PointerProperty(
        name="Character",
        description="The character's armature",
        type=bpy.types.Object,
        poll=lambda character, item: item.type == "ARMATURE",
    )
    use: BoolProperty(name="Use", description="Retarget to this character", default=True)
    map_name: StringProperty(name="Bone Map", description="Where the bones below come from")
    notes: StringProperty()
    roles: CollectionProperty(type=FullbodyRetargetRole)
    switches: CollectionProperty(type=FullbodyRetargetSwitch)
    face_map: StringProperty(
        name="Face Map",
        description="File (.json) that says what each shape key shows; empty to go by the names of the shape keys",
        subtype="FILE_PATH",
    )


class FullbodyRetargetResult(bpy.types.PropertyGroup):
    """What came of one job, whose `name` it is; `notes` are sentences of a line each."""

    text: StringProperty()
    notes: StringProperty()
    failed: BoolProperty()


class FullbodyRetargetSettings(bpy.types.PropertyGroup):
    captures: CollectionProperty(type=FullbodyRetargetCapture)
    capture_index: IntProperty(name="Capture")
    characters: CollectionProperty(type=FullbodyRetargetCharacter)
    character_index: IntProperty(name="Character")
    results: CollectionProperty(type=FullbodyRetargetResult)
    plant_feet: BoolProperty(
        name="Plant Feet",
        description="Keep a foot that stands where it stands, and soles on the ground, whatever the character's proportions",
        default=True,
    )
    fingers: BoolProperty(name="Fingers", description="Move the fingers as captured", default=True)
    face: BoolProperty(name="Face", description="Move the face's shape keys as captured", default=True)
    heading: EnumProperty(
        name="Heading",
        description="Which way the motion goes",
        items=(
            ("capture", "As Captured", "As in the world of the capture, whichever way the character faces"),
            ("character", "Character's", "Straight ahead in the capture is straight ahead for the character"),
        ),
    )
    own_scale: BoolProperty(
        name="Own Scale",
        description="Choose how large the steps are. Off: as large as the character's legs make them",
        default=False,
    )
    scale: FloatProperty(
        name="Scale",
        description="Size of the character's steps, and height of its hips, against the captured person's",
        min=0.001,
        soft_min=0.2,
        soft_max=5.0,
        max=1000.0,
        default=1.0,
    )
    expression_gain: FloatProperty(
        name="Gain", description="How strongly the face moves", min=0.0, soft_max=2.0, max=10.0, default=1.0
    )
    expression_offset: FloatProperty(
        name="Offset", description="What is added to every shape key of the face", min=-1.0, max=1.0, default=0.0
    )
    template_path: StringProperty(
        name="Body",
        description="Character template (.npz) of the captured body; empty for the one that comes with the add-on",
        subtype="FILE_PATH",
    )

    def chosen(self):
        """The `RetargetSettings` that these are. Raises `RetargetError`."""
        return RetargetSettings(
            plant_feet=self.plant_feet,
            fingers=self.fingers,
            face=self.face,
            heading=self.heading,
            scale=self.scale if self.own_scale else None,
            expression_gain=self.expression_gain,
            expression_offset=self.expression_offset,
        )

    @property
    def character(self):
        """The chosen `FullbodyRetargetCharacter`, or None."""
        chosen = 0 <= self.character_index < len(self.characters)
        return self.characters[self.character_index] if chosen else None


def is_there(character):
    """Whether a character is in a scene: one that was deleted lives on in the settings that name it."""
    armature = character.armature
    return armature is not None and any(armature.name in scene.objects for scene in bpy.data.scenes)


def set_role_map(character, role_map):
    """Makes a `RoleMap` a character's bones, in place of those it had."""
    character.map_name, character.notes = role_map.name, "\n".join(role_map.notes)
    character.roles.clear()
    for role in ROLES:
        item = character.roles.add()
        item.name = role
        for bone in role_map.bones.get(role, ("",)):
            item.bones.add().bone = bone
    character.switches.clear()
    for switch in role_map.switches:
        item = character.switches.add()
        item.bone, item.switched, item.value = switch.bone, switch.property, switch.value


def role_map_of(character):
    """A character's bones as a `RoleMap`. Raises `RoleMapError`."""
    return RoleMap(
        character.map_name or character.armature.name,
        {role: bones for role, bones in bones_by_role(character).items() if bones},
        tuple(Switch(item.bone, item.switched, item.value) for item in character.switches),
        tuple(filter(None, character.notes.split("\n"))),
    )


def bones_by_role(character):
    """{role: names of its bones, which may be none}."""
    return {item.name: tuple(slot.bone for slot in item.bones if slot.bone) for item in character.roles}


def lacks_bones(character):
    """Whether a required role has no bone: what a list can show of many characters with every move of the mouse."""
    found = (character.roles.get(role) for role in REQUIRED)
    return not all(item is not None and any(slot.bone for slot in item.bones) for item in found)


def problems_of(character):
    """Sentences on what keeps a character from being retargeted to, and the names of the bones that they are about."""
    by_role, there, wrong, roles_of = bones_by_role(character), character.armature.data.bones, [], {}
    for role, bones in by_role.items():
        for bone in bones:
            roles_of.setdefault(bone, []).append(role)
    lost = [bone for bone in roles_of if bone not in there]
    shared = {bone: roles for bone, roles in roles_of.items() if len(roles) > 1}
    if missing := [role for role in REQUIRED if not by_role.get(role)]:
        wrong.append(f"No bone for {named_roles(missing)}.")
    wrong += [f"{character.armature.name} has no bone {bone}." for bone in lost]
    for bone, roles in shared.items():
        twice = f"is {ROLE_LABELS[roles[0]]} twice" if len(set(roles)) == 1 else f"is more than one of {named_roles(roles)}"
        wrong.append(f"{bone} {twice}.")
    return wrong, {*lost, *shared}


_CLASSES = (
    FullbodyRetargetCapture,
    FullbodyRetargetBone,
    FullbodyRetargetRole,
    FullbodyRetargetSwitch,
    FullbodyRetargetCharacter,
    FullbodyRetargetResult,
    FullbodyRetargetSettings,
)


def register():
    for cls in _CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.Scene.fullbody_retarget = PointerProperty(type=FullbodyRetargetSettings)


def unregister():
    del bpy.types.Scene.fullbody_retarget
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
