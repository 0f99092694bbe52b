# SPDX-License-Identifier: GPL-3.0-or-later
"""A copy of an armature that is posed and evaluated in the character's place, in a scene of its own and without its meshes."""

import contextlib
from dataclasses import dataclass

import bpy
import numpy as np

from .rotation_modes import channel, identity, mode_values
from .steering import active_drivers


@dataclass(frozen=True)
class BonePose:
    """All B bones in the world as Blender places them: matrices [B, 4, 4], and without scale axes [B, 3, 3] and heads [B, 3]."""

    matrices: np.ndarray

    @property
    def axes(self):
        return _rotations(self.matrices)

    @property
    def heads(self):
        return self.matrices[:, :3, 3]


class StandIn:
    """A copy of the armature in a scene of its own: it can be posed and evaluated, and no mesh is."""

    def __init__(self, armature, scene):
        self.armature, self.scene = armature, scene
        self.names = [bone.name for bone in armature.pose.bones]
        self.index = {name: index for index, name in enumerate(self.names)}
        self.evaluate()

    def evaluate(self):
        """The `BonePose` that the bones' channels give now."""
        view_layer = self.scene.view_layers[0]
        self.armature.update_tag(refresh={"OBJECT", "DATA"})
        view_layer.update()
        evaluated = self.armature.evaluated_get(view_layer.depsgraph)
        self.matrix = np.array(evaluated.matrix_world)
        matrices = np.empty(16 * len(self.names), np.float32)
        evaluated.pose.bones.foreach_get("matrix", matrices)
        # Columns one after another.
        return BonePose(self.matrix @ matrices.reshape(-1, 4, 4).swapaxes(1, 2).astype(float))

    def rest(self, names):
        """The `BonePose` of the armature's rest bones of these names."""
        bones = self.armature.data.bones
        return BonePose(self.matrix @ np.array([bones[name].matrix_local for name in names]))

    def turn(self, names, quaternions):
        """Sets the own rotations [N, 4] of bones, each in its own mode."""
        for name, quaternion in zip(names, np.asarray(quaternions)):
            bone = self.armature.pose.bones[name]
            mode = bone.rotation_mode
            setattr(bone, channel(mode), mode_values(mode, quaternion[None, None])[0, 0].tolist())

    def to_rest(self, names):
        for name in names:
            bone = self.armature.pose.bones[name]
            bone.location = (0, 0, 0)
            setattr(bone, channel(bone.rotation_mode), identity(bone.rotation_mode))


def _rotations(matrices):
    """The rotations [N, 3, 3] of matrices [N, 4, 4], the nearest where bones are scaled unevenly."""
    lengths = np.linalg.norm(matrices[:, :3, :3], axis=1)
    axes = matrices[:, :3, :3] / np.maximum(lengths, 1e-12)[:, None]
    sheared = np.abs(axes.swapaxes(1, 2) @ axes - np.eye(3)).max((1, 2)) > 1e-4
    if sheared.any():
        left, _, right = np.linalg.svd(axes[sheared])
        axes[sheared] = left @ right
    return axes


@contextlib.contextmanager
def standing_in(armature, switches, scene):
    """A `StandIn` of the armature as long as the context lasts: posed as it is, free of its animation, switches set."""
    stage, copy, data = bpy.data.scenes.new("Retargeting"), None, None
    try:
        # Not by frame_set, which runs whatever listens to it.
        stage.frame_float = scene.frame_float
        copy = armature.copy()
        copy.hide_viewport = False
        if armature.data.pose_position == "REST":
            copy.data = data = armature.data.copy()
            data.pose_position = "POSE"
        if copy.animation_data:
            copy.animation_data.action = None
            copy.animation_data.use_nla = False
        _point_to_copy(copy, armature)
        _set_switches(copy, switches)
        stage.collection.objects.link(copy)
        yield StandIn(copy, stage)
    finally:
        if copy:
            bpy.data.objects.remove(copy)
        if data:
            bpy.data.armatures.remove(data)
        bpy.data.scenes.remove(stage)


def _point_to_copy(copy, armature):
    """Lets the copy's constraints and drivers look at the copy where they looked at the armature itself."""
    for bone in copy.pose.bones:
        for constraint in bone.constraints:
            for holder in constraint.targets if constraint.type == "ARMATURE" else (constraint,):
                if getattr(holder, "target", None) == armature:
                    holder.target = copy
            if getattr(constraint, "pole_target", None) == armature:
                constraint.pole_target = copy
    for driver in active_drivers(copy):
        for variable in driver.driver.variables:
            for target in variable.targets:
                if target.id == armature:
                    target.id = copy


def _set_switches(armature, switches):
    for switch in switches:
        if (value := switch_value(armature, switch)) is not None:
            armature.pose.bones[switch.bone][switch.property] = value


def switch_value(armature, switch):
    """A switch's value in the type that the bone's property has; None where there is no such number to set."""
    bone = armature.pose.bones.get(switch.bone)
    value = bone.get(switch.property) if bone is not None else None
    return type(value)(switch.value) if isinstance(value, (bool, int, float)) else None
