"""Joint trees and keypoint definitions.

Sources: SMPL-H (Romero et al. 2017) for the 52 joints; Zhou et al. 2021, supplementary Sec. 3 "Keypoint Definitions" for the
33 keypoints on SMPL; BlazePose (Bazarevsky et al. 2020) for the other 33; minimal-hand (Zhou et al. 2020) for the hand's 21.
"""

from dataclasses import dataclass

SIDES = ("left", "right")
"""The person's."""

BODY_JOINT_NAMES = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle", "spine3",
    "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist",
)  # fmt: skip
BODY_PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19)

FINGERS = ("index", "middle", "pinky", "ring", "thumb")
"""SMPL-H's finger order, which is alphabetical but for the thumb."""


def _hand_joint_names(side):
    return tuple(f"{side}_{finger}{segment}" for finger in FINGERS for segment in (1, 2, 3))


def _hand_parents(wrist, first):
    return tuple(wrist if segment == 0 else first + 3 * finger + segment - 1 for finger in range(5) for segment in range(3))


JOINT_NAMES = BODY_JOINT_NAMES + _hand_joint_names("left") + _hand_joint_names("right")
"""The 52 SMPL-H joints: 22 of the body, 15 of the left hand, 15 of the right hand."""

PARENTS = BODY_PARENTS + _hand_parents(20, 22) + _hand_parents(21, 37)
"""Parent index of each joint; -1 for the pelvis. Parents come before their children."""

JOINT_INDEX = {name: index for index, name in enumerate(JOINT_NAMES)}
BODY_JOINTS = slice(0, 22)
LEFT_HAND_JOINTS = slice(22, 37)
RIGHT_HAND_JOINTS = slice(37, 52)

PART_JOINTS = {"body": BODY_JOINTS, "left_hand": LEFT_HAND_JOINTS, "right_hand": RIGHT_HAND_JOINTS}
"""The joints that each part captures, in the order of `VALID_PARTS`; the face has none of its own."""

VALID_PARTS = ("body", "left_hand", "right_hand", "face")
"""Columns of the capture file's `valid`."""


@dataclass(frozen=True)
class KeypointDefinition:
    """A named list of keypoints: what a detector speaks and an IK solver is made for."""

    name: str
    names: tuple

    def __post_init__(self):
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"keypoint definition {self.name!r} names a keypoint twice")

    def __len__(self):
        return len(self.names)

    def index(self, name):
        return self.names.index(name)


BLAZEPOSE_33 = KeypointDefinition(
    "blazepose_33",
    ("nose",)
    + tuple(f"{side}_eye_{part}" for side in SIDES for part in ("inner", "centre", "outer"))
    + ("left_ear", "right_ear", "left_mouth", "right_mouth")
    + tuple(
        f"{side}_{part}"
        for part in ("shoulder", "elbow", "wrist", "pinky", "index", "thumb", "hip", "knee", "ankle", "heel", "foot_index")
        for side in SIDES
    ),
)
"""BlazePose's 33 body keypoints in its order; left and right are the person's."""

SMPL_33 = KeypointDefinition(
    "smpl_33",
    BODY_JOINT_NAMES
    + (
        "head_top", "left_eye", "right_eye", "left_index_mcp", "right_index_mcp", "left_pinky_mcp", "right_pinky_mcp",
        "left_big_toe", "right_big_toe", "left_little_toe", "right_little_toe",
    ),
)  # fmt: skip
"""The paper's 33 body keypoints on SMPL: its 22 joints and 11 surface points."""

HAND_21 = KeypointDefinition(
    "hand_21",
    ("wrist", "thumb_cmc", "thumb_mcp", "thumb_ip", "thumb_tip")
    + tuple(f"{finger}_{part}" for finger in ("index", "middle", "ring", "pinky") for part in ("mcp", "pip", "dip", "tip")),
)
"""The 21 keypoints of one hand, wrist first, thumb to little finger."""

BLAZEPOSE_33_KNUCKLES = KeypointDefinition(
    "blazepose_33_knuckles",
    BLAZEPOSE_33.names
    + tuple(f"{side}_hand_{finger}_mcp" for side in SIDES for finger in ("index", "middle", "ring", "pinky")),
)
"""BlazePose's keypoints with the knuckles of the hand detector, which alone show how the wrist is turned."""

HAND_BONES = tuple((0 if point % 4 == 1 else point - 1, point) for point in range(1, 21))
"""(parent, child) keypoint pairs of HAND_21, for drawing and for bone lengths."""

BLAZEPOSE_BONES = tuple(
    (BLAZEPOSE_33.index(parent), BLAZEPOSE_33.index(child))
    for parent, child in [("left_shoulder", "right_shoulder"), ("left_hip", "right_hip")]
    + [
        (f"{side}_{parent}", f"{side}_{child}")
        for side in SIDES
        for parent, child in (
            ("shoulder", "elbow"), ("elbow", "wrist"), ("shoulder", "hip"), ("hip", "knee"), ("knee", "ankle"),
            ("ankle", "heel"), ("heel", "foot_index"), ("ankle", "foot_index"),
        )
    ]
)  # fmt: skip

SMPL_BONES = tuple((BODY_PARENTS[joint], joint) for joint in range(1, len(BODY_PARENTS))) + tuple(
    (SMPL_33.index(parent), SMPL_33.index(child))
    for parent, child in [("head", "head_top")]
    + [
        (parent.format(side), f"{side}_{child}")
        for side in SIDES
        for parent, child in (
            ("head", "eye"), ("{}_wrist", "index_mcp"), ("{}_wrist", "pinky_mcp"), ("{}_ankle", "big_toe"),
            ("{}_ankle", "little_toe"),
        )
    ]
)  # fmt: skip
"""SMPL's tree, and the surface points on the joints that carry them."""

BODY_DEFINITIONS = {definition.name: definition for definition in (BLAZEPOSE_33, SMPL_33)}
"""The definitions that body detectors speak, by name."""

BODY_BONES = {BLAZEPOSE_33.name: BLAZEPOSE_BONES, SMPL_33.name: SMPL_BONES}
"""(parent, child) keypoint pairs of each of them, for drawing."""


def full_keypoint_names(body):
    """Names of a body definition's keypoints followed by both hands' 21, as the capture file's `keypoint_names`."""
    hands = tuple(f"{side}_hand_{name}" for side in SIDES for name in HAND_21.names)
    return body.names + hands


def mirror_names(names, left="left_", right="right_"):
    """For each name the index of its counterpart on the other side; a name of neither side is its own."""
    place = {name: index for index, name in enumerate(names)}
    swap = {name: name.replace(left, right) if left in name else name.replace(right, left) for name in names}
    return [place[swap[name]] for name in names]

MESH_POINTS = 478
"""Points of MediaPipe's face mesh: 468 of the skin, then five of each iris, the person's right one first."""
