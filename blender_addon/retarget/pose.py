# SPDX-License-Identifier: GPL-3.0-or-later
"""A character's mapped bones as the solver sees them: a small tree in world space, and poses of it. Numpy only.

Between two mapped bones there may be any number of others, helpers and constraints: what counts is whose turn a bone takes
over and whose motion carries its head. World axes are Blender's (z up), metres; rotations act on column vectors.
"""

from dataclasses import dataclass

import numpy as np

from ..contract.frames import matrix_to_quaternion


@dataclass(frozen=True)
class Controls:
    """The N mapped bones of one character at rest, parents before their children.

    names [N]                bones; roles [N]: the role of each (see `roles`), several bones of one in their order along the chain
    heads [N, 3], tails [N, 3]  m, where they rest in the world
    axes [N, 3, 3]           rotations whose columns are the bones' own x, y, z at rest in the world
    rotation_parents [N]     the bone whose turn each takes over before its own is applied, or -1 where nothing mapped turns it
    location_parents [N]     the bone whose motion carries each one's head, or -1
    scale                    metres in the world per unit of a bone's location
    origin [3]               m, where the character stands: its armature object's own place in the world
    sole                     m, height in the world of the ground under the feet at rest
    """

    names: tuple
    roles: tuple
    heads: np.ndarray
    tails: np.ndarray
    axes: np.ndarray
    rotation_parents: np.ndarray
    location_parents: np.ndarray
    scale: float
    origin: np.ndarray
    sole: float

    def of_role(self, role):
        """Indices of a role's bones, in their order along the chain."""
        return [index for index, name in enumerate(self.roles) if name == role]

    def first(self, role):
        """Index of a role's first bone, or None where it has none."""
        return next(iter(self.of_role(role)), None)


@dataclass(frozen=True)
class WorldPose:
    """Poses of `Controls` in the world: axes [T, N, 3, 3] as at rest, heads [T, N, 3] m."""

    axes: np.ndarray
    heads: np.ndarray


def place_bones(controls, axes, pelvis):
    """The `WorldPose` of bones with world axes [T, N, 3, 3] whose pelvis bone's head is at pelvis [T, 3] m.

    Only the pelvis moves freely; every other head is carried rigidly by its location parent, or stays where it rests.
    """
    heads = np.empty(axes.shape[:2] + (3,))
    root = controls.first("pelvis")
    turns = axes @ np.swapaxes(controls.axes, -1, -2)
    for bone, parent in enumerate(controls.location_parents):
        if bone == root:
            heads[:, bone] = pelvis
        elif parent < 0:
            heads[:, bone] = controls.heads[bone]
        else:
            heads[:, bone] = heads[:, parent] + turns[:, parent] @ (controls.heads[bone] - controls.heads[parent])
    return WorldPose(axes, heads)


def own_rotations(controls, axes):
    """Each bone's own rotation [T, N, 4] WXYZ, in its own axes, that gives world axes [T, N, 3, 3]."""
    turns = axes @ np.swapaxes(controls.axes, -1, -2)
    own = np.empty_like(axes)
    for bone, parent in enumerate(controls.rotation_parents):
        taken_over = controls.axes[bone] if parent < 0 else turns[:, parent] @ controls.axes[bone]
        own[:, bone] = np.swapaxes(taken_over, -1, -2) @ axes[:, bone]
    return matrix_to_quaternion(own)


def own_location(controls, world):
    """The pelvis bone's own location [T, 3], in its own axes and the bone's units, that puts its head where a `WorldPose` says."""
    bone = controls.first("pelvis")
    parent, turner = controls.location_parents[bone], controls.rotation_parents[bone]
    axes = np.swapaxes(controls.axes, -1, -2)
    carried = controls.heads[bone] - (0 if parent < 0 else controls.heads[parent])
    at_rest = carried if parent < 0 else world.heads[:, parent] + (world.axes[:, parent] @ axes[parent]) @ carried
    frame = controls.axes[bone] if turner < 0 else world.axes[:, turner] @ axes[turner] @ controls.axes[bone]
    moved = world.heads[:, bone] - at_rest
    return (np.swapaxes(frame, -1, -2) @ moved[..., None])[..., 0] / controls.scale
