"""What inverse kinematics needs to know of a body: its joints and a few points of its surface, for one shape."""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from ..body.smplh_file import BodyModelFile
from ..contract.frames import forward_kinematics_by_level
from ..contract.skeleton import BLAZEPOSE_33, BLAZEPOSE_33_KNUCKLES, HAND_21, JOINT_INDEX, PARENTS, SIDES, SMPL_33


def _blazepose_place(keypoint):
    """BlazePose's own hand points mark knuckles; its toe is the big one, its eye centres the eyes."""
    side, _, part = keypoint.partition("_")
    if part.startswith("hand_"):
        return f"{side}_{_hand_place(part.removeprefix('hand_'))}"
    knuckles = {"pinky": "pinky1", "index": "index1", "thumb": "thumb2"}
    names = {"eye_centre": "eye", "foot_index": "big_toe"} | knuckles
    return f"{side}_{names[part]}" if part in names else keypoint


def _hand_place(keypoint):
    """SMPL-H numbers a finger's joints from its root."""
    finger, _, part = keypoint.partition("_")
    if not part or part == "tip":
        return keypoint
    return finger + str((("cmc", "mcp", "ip") if finger == "thumb" else ("mcp", "pip", "dip")).index(part) + 1)


def _smpl_place(keypoint):
    """The paper's finger roots are SMPL-H's first finger joints."""
    return keypoint.replace("_mcp", "1")


BODY_PLACES = {
    BLAZEPOSE_33.name: tuple(map(_blazepose_place, BLAZEPOSE_33.names)),
    BLAZEPOSE_33_KNUCKLES.name: tuple(map(_blazepose_place, BLAZEPOSE_33_KNUCKLES.names)),
    SMPL_33.name: tuple(map(_smpl_place, SMPL_33.names)),
}
"""For each keypoint of a body definition, the joint or landmark of the body that marks its place."""

_BLAZEPOSE_TRACKED = (
    "nose",
    *(f"{side}_eye_centre" for side in SIDES),
    *(f"{side}_{name}" for side in SIDES for name in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")),
    *(f"{side}_heel" for side in SIDES),
    *(f"{side}_foot_index" for side in SIDES),
)

TRACKED = {
    BLAZEPOSE_33.name: tuple(map(BLAZEPOSE_33.index, _BLAZEPOSE_TRACKED)),
    SMPL_33.name: tuple(range(len(SMPL_33))),
}
"""The keypoints of a detector's definition that it puts where their places are, as indices: by these the body is placed."""


@lru_cache
def hand_places(side):
    """For each of HAND_21's keypoints, the joint or landmark of the body that marks its place on that side's hand."""
    return tuple(f"{side}_{_hand_place(keypoint)}" for keypoint in HAND_21.names)


def keypoint_places(definition):
    """The places of a `KeypointDefinition`'s keypoints: a body's, or a left hand's."""
    return hand_places("left") if definition is HAND_21 else BODY_PLACES[definition.name]


@lru_cache
def tracked_places(definition):
    """The places of a body definition's TRACKED keypoints."""
    return tuple(BODY_PLACES[definition.name][keypoint] for keypoint in TRACKED[definition.name])


SOLE_PARTS = ("heel", "ball", "toe")

SOLE_PLACES = tuple(f"{side}_{part}_sole" for side in SIDES for part in SOLE_PARTS)
"""Landmarks of `RestSkeleton.of_body`: where the soles touch a floor, left foot first. Under the heel and the big toe, and under
the joint of the ball, at the height of the lowest point of the unposed body: landmarks on the skin lie a centimetre higher."""


@dataclass
class RestSkeleton:
    """joints [52, 3] m in the rest frame; landmarks: name to (joint that carries it, rest place [3] m).

    Neither changes once it is made: what was looked up by name is kept.
    """

    joints: np.ndarray
    landmarks: dict
    _looked_up: dict = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of_body(cls, body: BodyModelFile, betas):
        """The skeleton of `body` at shape `betas` [B]. Each landmark rides on the joint that holds most of its weight."""
        betas = np.asarray(betas, float)
        landmarks = {
            name: (body.carrying_joint(vertex), body.v_template[vertex] + body.shapedirs[vertex] @ betas)
            for name, vertex in body.landmarks.items()
        }
        joints = body.rest_joints + body.joint_shapedirs @ betas
        return cls(joints, landmarks | _sole_landmarks(body, betas, joints, landmarks))

    def pose(self, rotations):
        """Posed joints [T, 52, 3] m about a pelvis at the origin, and joint orientations [T, 52, 3, 3]."""
        joints, orientations = forward_kinematics_by_level(self.joints, rotations, PARENTS)
        return joints - joints[:, :1], orientations

    def at_rest(self, names):
        """Rest places [N, 3] m of joints or landmarks by name."""
        return self._look_up(names)[1].copy()

    def place(self, names, joints, orientations):
        """Posed places [T, N, 3] m of joints or landmarks by name; `joints` and `orientations` as from `pose`."""
        carrying, _, offsets = self._look_up(names)
        return joints.take(carrying, 1) + (orientations.take(carrying, 1) @ offsets[..., None])[..., 0]

    def tracked_points(self, definition, rotations):
        """The TRACKED points [T, N, 3] m of a definition about a pelvis at the origin."""
        return self.place(tracked_places(definition), *self.pose(rotations))

    def _look_up(self, names):
        """Of joints or landmarks by name: the joints that carry them [N], where they are at rest [N, 3] m, and from the joints."""
        names = tuple(names)
        if names not in self._looked_up:
            found = [
                (JOINT_INDEX[name], self.joints[JOINT_INDEX[name]]) if name in JOINT_INDEX else self.landmarks[name]
                for name in names
            ]
            carrying, places = np.array([joint for joint, _ in found]), np.stack([place for _, place in found])
            self._looked_up[names] = carrying, places, places - self.joints[carrying]
        return self._looked_up[names]


def _sole_landmarks(body, betas, joints, landmarks):
    """`SOLE_PLACES` as landmarks: the toes' rides on the foot's joint, the others on the ankle. None for a body without feet."""
    if not {f"{side}_{name}" for side in SIDES for name in ("heel", "big_toe")} <= landmarks.keys():
        return {}
    sole = np.min(body.v_template[:, 1] + body.shapedirs[:, 1] @ betas)
    found = {}
    for side in SIDES:
        ankle, foot = JOINT_INDEX[f"{side}_ankle"], JOINT_INDEX[f"{side}_foot"]
        above = landmarks[f"{side}_heel"][1], joints[foot], landmarks[f"{side}_big_toe"][1]
        for part, joint, (x, _, z) in zip(SOLE_PARTS, (ankle, ankle, foot), above):
            found[f"{side}_{part}_sole"] = joint, np.array([x, sole, z])
    return found
