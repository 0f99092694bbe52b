"""The joint tree and the keypoint definitions: order, symmetry, and smplx as the reference."""

import pytest

from fullbody_core.contract import skeleton
from fullbody_core.contract.skeleton import (
    BLAZEPOSE_33,
    BLAZEPOSE_BONES,
    BODY_JOINT_NAMES,
    BODY_JOINTS,
    FINGERS,
    HAND_21,
    HAND_BONES,
    JOINT_INDEX,
    JOINT_NAMES,
    LEFT_HAND_JOINTS,
    PARENTS,
    RIGHT_HAND_JOINTS,
    SMPL_33,
    KeypointDefinition,
    full_keypoint_names,
)


def mirrored(name):
    swap = {"left": "right", "right": "left"}
    side, _, rest = name.partition("_")
    return f"{swap[side]}_{rest}" if side in swap else name


def ancestors(joint):
    chain = []
    while joint >= 0:
        chain.append(JOINT_NAMES[joint])
        joint = PARENTS[joint]
    return chain


def test_52_joints_with_names_of_their_own():
    assert len(JOINT_NAMES) == len(PARENTS) == len(set(JOINT_NAMES)) == 52
    assert all(JOINT_NAMES[index] == name for name, index in JOINT_INDEX.items()) and len(JOINT_INDEX) == 52


def test_parents_come_first_and_there_is_one_root():
    assert PARENTS[0] == -1 and JOINT_NAMES[0] == "pelvis"
    assert all(0 <= parent < joint for joint, parent in enumerate(PARENTS) if joint > 0)


def test_slices_cover_the_joints_once():
    parts = [JOINT_NAMES[part] for part in (BODY_JOINTS, LEFT_HAND_JOINTS, RIGHT_HAND_JOINTS)]
    assert sum(parts, ()) == JOINT_NAMES and [len(part) for part in parts] == [22, 15, 15]
    assert parts[0] == BODY_JOINT_NAMES
    for side, names in (("left", parts[1]), ("right", parts[2])):
        assert all(name.startswith(f"{side}_") for name in names)


def test_left_mirrors_right():
    for joint, parent in enumerate(PARENTS):
        name = JOINT_NAMES[joint]
        twin = JOINT_INDEX[mirrored(name)]
        assert (twin == joint) == (not name.startswith(("left_", "right_")))
        if parent >= 0:
            assert JOINT_NAMES[PARENTS[twin]] == mirrored(JOINT_NAMES[parent])


def test_limbs_hang_together():
    assert ancestors(JOINT_INDEX["left_foot"]) == ["left_foot", "left_ankle", "left_knee", "left_hip", "pelvis"]
    assert ancestors(JOINT_INDEX["head"]) == ["head", "neck", "spine3", "spine2", "spine1", "pelvis"]
    arm = ["right_pinky3", "right_pinky2", "right_pinky1", "right_wrist", "right_elbow", "right_shoulder", "right_collar"]
    assert ancestors(JOINT_INDEX["right_pinky3"])[:7] == arm


def test_fingers_in_smplh_order():
    """Index, middle, pinky, ring, thumb: not the order of a hand, and a common source of crossed fingers."""
    assert FINGERS == ("index", "middle", "pinky", "ring", "thumb")
    expected = tuple(f"{finger}{segment}" for finger in FINGERS for segment in (1, 2, 3))
    for side, part in (("left", LEFT_HAND_JOINTS), ("right", RIGHT_HAND_JOINTS)):
        assert tuple(name.removeprefix(f"{side}_") for name in JOINT_NAMES[part]) == expected
        for joint in range(part.start, part.stop):
            first = (joint - part.start) % 3 == 0
            assert PARENTS[joint] == (JOINT_INDEX[f"{side}_wrist"] if first else joint - 1)


def test_names_and_parents_are_those_of_smplx():
    names = pytest.importorskip("smplx.joint_names").SMPLH_JOINT_NAMES
    assert JOINT_NAMES == tuple(names[:52])


@pytest.mark.parametrize("definition, count", [(BLAZEPOSE_33, 33), (SMPL_33, 33), (HAND_21, 21)])
def test_definitions(definition, count):
    assert len(definition) == len(set(definition.names)) == count
    assert [definition.index(name) for name in definition.names] == list(range(count))
    for name in definition.names:
        assert mirrored(name) in definition.names
    with pytest.raises(ValueError):
        definition.index("tail")


def test_a_definition_that_repeats_itself_is_refused():
    with pytest.raises(ValueError, match="'twice' names a keypoint twice"):
        KeypointDefinition("twice", ("nose", "wrist", "nose"))


def test_definitions_cannot_be_changed():
    with pytest.raises(AttributeError):
        BLAZEPOSE_33.names = ()


def test_blazepose_places_that_mediapipe_fixes():
    """Numbers from BlazePose's own chart of landmarks."""
    fixed = {
        0: "nose", 2: "left_eye_centre", 5: "right_eye_centre", 7: "left_ear", 8: "right_ear", 9: "left_mouth",
        11: "left_shoulder", 12: "right_shoulder", 15: "left_wrist", 16: "right_wrist", 17: "left_pinky", 19: "left_index",
        22: "right_thumb", 23: "left_hip", 26: "right_knee", 28: "right_ankle", 29: "left_heel", 32: "right_foot_index",
    }  # fmt: skip
    assert {index: BLAZEPOSE_33.names[index] for index in fixed} == fixed


def test_smpl_33_starts_with_the_body_joints():
    assert SMPL_33.names[:22] == BODY_JOINT_NAMES


def test_hand_bones_are_five_chains_from_the_wrist():
    assert len(HAND_BONES) == 20 and {child for _, child in HAND_BONES} == set(range(1, 21))
    names = [(HAND_21.names[parent], HAND_21.names[child]) for parent, child in HAND_BONES]
    expected = []
    for finger in ("thumb", "index", "middle", "ring", "pinky"):
        parts = ("cmc", "mcp", "ip", "tip") if finger == "thumb" else ("mcp", "pip", "dip", "tip")
        chain = ["wrist"] + [f"{finger}_{part}" for part in parts]
        expected += zip(chain[:-1], chain[1:])
    assert names == expected


def test_blazepose_bones_are_symmetric_and_join_neighbours():
    names = {(BLAZEPOSE_33.names[a], BLAZEPOSE_33.names[b]) for a, b in BLAZEPOSE_BONES}
    assert len(names) == len(BLAZEPOSE_BONES)
    assert {frozenset(map(mirrored, bone)) for bone in names} == {frozenset(bone) for bone in names}
    assert all(a != b for a, b in BLAZEPOSE_BONES)
    assert {("left_elbow", "left_wrist"), ("right_hip", "right_knee"), ("left_ankle", "left_heel")} <= names


@pytest.mark.parametrize("body", [BLAZEPOSE_33, SMPL_33], ids=lambda body: body.name)
def test_full_keypoint_names(body):
    names = full_keypoint_names(body)
    assert len(names) == len(set(names)) == 75
    assert names[:33] == body.names
    assert names[33:54] == tuple(f"left_hand_{name}" for name in HAND_21.names)
    assert names[54:] == tuple(f"right_hand_{name}" for name in HAND_21.names)


def test_the_parts_of_valid():
    assert skeleton.VALID_PARTS == ("body", "left_hand", "right_hand", "face")
