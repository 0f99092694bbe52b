# SPDX-License-Identifier: GPL-3.0-or-later
"""What a scene remembers of its live capture."""

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, PointerProperty, StringProperty

from ..retarget.live_target import can_follow
from .target import is_character


class FullbodyLiveSettings(bpy.types.PropertyGroup):
    source: EnumProperty(
        name="Source",
        description="What is watched",
        items=(
            ("CAMERA", "Camera", "A camera of this computer"),
            ("VIDEO", "Video", "A video file, played at its own pace"),
        ),
    )
    camera: IntProperty(name="Camera", description="The camera's number, from 0", min=0, soft_max=9)
    video: StringProperty(name="Video", description="The video to play", subtype="FILE_PATH")
    loop: BoolProperty(name="Loop", description="Start the video again at its end", default=True)
    target: PointerProperty(
        name="Target",
        description="The character that follows: one of ours, or any armature with a person's bones, as the Retarget panel knows "
        "them. Empty: Start builds one",
        type=bpy.types.Object,
        poll=lambda settings, item: is_character(item) or can_follow(settings.id_data, item),
    )
    template_path: StringProperty(
        name="Character",
        description="Character template (.npz) that the target is built from, or whose body another rig follows; empty for the one "
        "that comes with the add-on",
        subtype="FILE_PATH",
    )
    mirror: BoolProperty(
        name="Mirror",
        description="Move as in a looking glass: your right hand moves the character's left one. Takes are recorded as shown",
        default=False,
    )
    smoothing: FloatProperty(
        name="Smoothing",
        description="From responsive, where fast motion is followed at once, to steady, where what stands still is still",
        min=0.0,
        max=1.0,
        default=0.5,
        subtype="FACTOR",
    )
    take_number: IntProperty(name="Take", description="Number of the next take", min=1, max=999, default=1)


def register():
    bpy.utils.register_class(FullbodyLiveSettings)
    bpy.types.Scene.fullbody_live = PointerProperty(type=FullbodyLiveSettings)


def unregister():
    del bpy.types.Scene.fullbody_live
    bpy.utils.unregister_class(FullbodyLiveSettings)
