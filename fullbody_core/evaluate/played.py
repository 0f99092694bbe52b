"""A capture's motion and a character's, as they are compared: the one solved plainly, the other as Blender played it.

Numpy only; world axes (z up), metres.
"""

from dataclasses import dataclass

import numpy as np

from ..contract.frames import (
    REST_TO_WORLD,
    axis_angle_to_matrix,
    forward_kinematics,
    pose_to_quaternions,
    quaternion_to_matrix,
    slerp_quaternions,
)
from ..contract.skeleton import PARENTS, PART_JOINTS, VALID_PARTS


@dataclass(frozen=True)
class Source:
    """A person's motion at T moments: joints [T, 52, 3], their turns [T, 52, 3, 3] from the upright rest in which the person
    faces -y; rest_joints [52, 3] there and `sole`, the height of the soles; captured [T, 52]; fps."""

    joints: np.ndarray
    turns: np.ndarray
    rest_joints: np.ndarray
    sole: float
    captured: np.ndarray
    fps: float


@dataclass(frozen=True)
class Played:
    """A character's bones as sampled: names [B]; rest [B, 4, 4], world [T, B, 4, 4] rigid in the world; lengths [B] m.

    roles: {role: names of its bones}, the true ones; facing: degrees to the left of -y that the character faces at rest
    ground: m, the height of its soles at rest
    """

    names: tuple
    rest: np.ndarray
    world: np.ndarray
    lengths: np.ndarray
    roles: dict
    facing: float
    ground: float

    def bones(self, role):
        """Indices of a role's bones that were sampled."""
        return [self.names.index(name) for name in self.roles.get(role, ()) if name in self.names]

    def first(self, role):
        return next(iter(self.bones(role)), None)

    def turns(self, bone):
        """Turn [T, 3, 3] of a bone in the world from a rest in which the character faces -y."""
        front = axis_angle_to_matrix(np.radians(self.facing) * np.array([0.0, 0, 1]))
        return self.world[:, bone, :3, :3] @ self.rest[bone, :3, :3].T @ front

    def at_rest(self, bone, tail=False):
        """Where a bone begins, or ends, at rest, of a character that faces -y."""
        front = axis_angle_to_matrix(np.radians(-self.facing) * np.array([0.0, 0, 1]))
        return front @ (self.rest[bone, :3, 3] + tail * self.lengths[bone] * self.rest[bone, :3, 1])

    def ends(self, bone):
        """Where a bone ends [T, 3]."""
        return self.world[:, bone, :3, 3] + self.lengths[bone] * self.world[:, bone, :3, 1]


def source_of(clip, rest_joints, sole, times):
    """The `Source` of a `CaptureClip` at times [T] s on its own clock.

    rest_joints [52, 3] and sole (m) of the clip's body in the rest frame. Rotations relative to the parent are interpolated
    between the frames in which a part was captured; what lies more than half a frame from such a frame was not captured.
    """
    rotations = np.empty((len(times), len(PARENTS), 3, 3))
    captured = np.zeros((len(times), len(PARENTS)), bool)
    quaternions = pose_to_quaternions(clip.poses)
    step = 1 / clip.mocap_framerate if len(times) < 2 else float(np.median(np.diff(times)))
    trans = None
    for part, joints in PART_JOINTS.items():
        rows = np.flatnonzero(clip.valid[:, VALID_PARTS.index(part)])
        known = np.asarray(clip.timestamps, float)[rows]
        if len(rows) == 0:
            rotations[:, joints] = np.eye(3)
            continue
        place = np.interp(times, known, np.arange(len(rows)))
        below = np.minimum(place.astype(int), max(len(rows) - 2, 0))
        above = np.minimum(below + 1, len(rows) - 1)
        share = place - below
        rotations[:, joints] = quaternion_to_matrix(
            slerp_quaternions(
                quaternions[rows[below]][:, joints],
                quaternions[rows[above]][:, joints],
                np.repeat(share[:, None], len(range(len(PARENTS))[joints]), 1),
            )
        )
        nearest = np.abs(np.asarray(times)[:, None] - known).min(1)
        captured[:, joints] = (nearest <= 0.5 * max(step, 1 / clip.mocap_framerate) + 1e-6)[:, None]
        if part == "body":
            trans = clip.trans[rows[below]] + share[:, None] * (clip.trans[rows[above]] - clip.trans[rows[below]])
    # `pose_to_quaternions` turns joint 0 from a person who stands upright, so the whole tree is stood up afterwards.
    joints, turns = forward_kinematics(rest_joints, rotations, PARENTS)
    joints = (joints - rest_joints[0]) @ REST_TO_WORLD.T + rest_joints[0] + trans[:, None]
    return Source(
        joints=joints,
        turns=REST_TO_WORLD @ turns @ REST_TO_WORLD.T,
        rest_joints=rest_joints @ REST_TO_WORLD.T,
        sole=float(sole),
        captured=captured,
        fps=1 / step,
    )


def played_of(sampled, sidecar):
    """`Played` of what sample_bones wrote (arrays by name) and the character's sidecar: roles, facing, ground."""

    def rigid(matrices):
        scale = np.linalg.norm(matrices[..., :3, :3], axis=-2, keepdims=True)
        return np.concatenate([matrices[..., :3, :3] / scale, matrices[..., :3, 3:]], -1)

    return Played(
        names=tuple(str(name) for name in sampled["names"]),
        rest=rigid(sampled["rest"]),
        world=rigid(sampled["world"]),
        lengths=sampled["lengths"],
        roles={role: tuple(names) for role, names in sidecar["roles"].items()},
        facing=float(sidecar["facing"]),
        ground=float(sidecar["ground"]),
    )
