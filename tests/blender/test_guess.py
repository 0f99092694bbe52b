# SPDX-License-Identifier: GPL-3.0-or-later
from dataclasses import replace

import numpy as np
import pytest
from fullbody_mocap.contract.frames import axis_angle_to_matrix
from fullbody_mocap.contract.skeleton import FINGERS, SIDES
from fullbody_mocap.retarget.guess.find import Skeleton, find_role_map
from fullbody_mocap.retarget.roles import REQUIRED
from rigged_characters import rig_arrays

RIGS = ("mixamo", "unreal", "cmu", "makehuman")


@pytest.fixture(autouse=True)
def scene():
    """None: nothing here touches Blender."""


class Bones(dict):
    """{name: [parent's name or None, head [3], tail [3]]}, to be made odd."""

    def __init__(self, rig):
        parents = [rig.names[parent] if parent >= 0 else None for parent in rig.parents]
        super().__init__({name: list(each) for name, *each in zip(rig.names, parents, rig.heads.copy(), rig.tails.copy())})

    def add(self, name, parent, head):
        self[name] = [parent, np.array(head, float), np.array(head, float) + (0, 0, 0.02)]

    def chain(self, name, parent, head, step, count):
        for number in range(count):
            self.add(f"{name}{number}", parent, np.asarray(head) + number * np.asarray(step, float))
            parent = f"{name}{number}"

    def below(self, name):
        """A bone and all that hang from it."""
        found = [name]
        for each in found:
            found += [child for child, bone in self.items() if bone[0] == each]
        return found


def no_names(bones, seed=0):
    """A `Skeleton` of bones in any order, size, place and direction, called bone.000...; and {bone: its new name}."""
    random = np.random.default_rng(seed)
    order = list(bones)
    random.shuffle(order)
    turn, size, place = axis_angle_to_matrix(random.normal(size=3) * 2), random.uniform(0.02, 50), random.normal(size=3)
    names = {name: f"bone.{number:03d}" for number, name in enumerate(order)}
    return in_order(bones, order, lambda points: points @ turn.T * size + place, names), names


def in_order(bones, order, placed=lambda points: points, names=None):
    index = {name: number for number, name in enumerate(order)}
    return Skeleton(
        tuple(names[name] if names else name for name in order),
        np.array([index.get(bones[name][0], -1) for name in order]),
        placed(np.array([bones[name][1] for name in order])),
        placed(np.array([bones[name][2] for name in order])),
        np.ones(len(order), bool),
    )


def assert_roles(bones, roles, seed=0):
    """The true roles, and no others, are found without names, nor doubts."""
    skeleton, names = no_names(bones, seed)
    found = find_role_map(skeleton)
    back = {new: old for old, new in names.items()}
    old = {role: tuple(back[bone] for bone in bones) for role, bones in found.bones.items()}
    for each in (old, roles):  # toes lie side by side, in no order
        each.update({role: tuple(sorted(each[role])) for role in each if role.endswith("foot")})
    assert old == roles
    assert found.name == "guessed" and found.notes == ()


@pytest.mark.parametrize("rig_name", RIGS)
@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"arms": 0},
        {"arms": 70},
        {"spine": 1},
        {"spine": 6},
        {"fingers": False},
        {"split": True},
        {"lengths": {"shoulder": 0.7, "elbow": 0.7, "knee": 1.2}},
    ],
)
def test_bones_without_names_are_known_by_their_shape(rig_name, variant):
    rig = rig_arrays(rig_name, **variant)
    for seed in range(2):
        assert_roles(Bones(rig), dict(rig.roles), seed)


def test_the_order_of_the_bones_makes_no_difference():
    bones = Bones(rig_arrays("unreal"))
    for name in list(bones):
        bones.add(f"x{name}", name, bones[name][1])
    first, second = (find_role_map(in_order(bones, order)) for order in (list(bones), list(bones)[::-1]))
    assert first.bones == second.bones


def with_hair_skirt_tail_and_sword(bones, roles):
    head, pelvis, chest = (roles[role][-1] for role in ("head", "pelvis", "spine"))
    for number, angle in enumerate(np.linspace(0, 2 * np.pi, 12, endpoint=False)):
        around = np.array([np.cos(angle), np.sin(angle), 0])
        bones.chain(f"hair{number} ", head, bones[head][1] + 0.09 * around + (0, 0, 0.15), (0, 0.005, -0.1), 6)
        bones.chain(f"skirt{number} ", pelvis, bones[pelvis][1] + 0.15 * around, 0.02 * around - (0, 0, 0.12), 6)
    bones.chain("tail", pelvis, bones[pelvis][1] + (0, 0.1, 0), (0, 0.08, -0.05), 9)
    bones.chain("cape", chest, bones[chest][1] + (0, 0.12, 0.1), (0, 0.01, -0.15), 8)
    bones.add("sword", roles["right_wrist"][0], bones[roles["right_wrist"][0]][2])
    bones.add("sword's tip", "sword", bones["sword"][1] + (0, -1, 0))
    return roles


def with_wings(bones, roles):
    chest = roles["spine"][-1]
    for side, sign in zip(SIDES, (1, -1)):
        bones.chain(f"{side} wing", chest, bones[chest][1] + (0.06 * sign, 0.1, 0.1), (0.3 * sign, 0.1, 0.08), 4)
    return roles


def with_a_face(bones, roles):
    head = bones[roles["head"][0]][1]
    bones.add("face", roles["head"][0], head + (0, -0.02, 0.02))
    for number, offset in enumerate(np.random.default_rng(2).normal(size=(150, 3)) * (0.05, 0.03, 0.06)):
        bones.add(f"face{number}", "face", head + (0, -0.09, 0.06) + offset)
    return roles


def with_ik_and_correcting_bones(bones, roles):
    root = roles.setdefault("root", ("world",))[0]
    if root not in bones:
        bones.add(root, None, (0, 0, 0))
        bones[roles["pelvis"][0]][0] = root
    bones.add("ik feet", root, (0, 0, 0))
    for side in SIDES:
        bones.add(f"ik {side}", "ik feet", bones[roles[f"{side}_ankle"][0]][1])
        bones.add(f"knee of {side} foot", roles[f"{side}_ankle"][0], bones[roles[f"{side}_knee"][0]][1])
        for limb in ("hip", "knee", "shoulder", "elbow", "wrist"):
            bone = roles[f"{side}_{limb}"][0]
            bones.add(f"correct {bone}", bone, bones[bone][1])
            for number, offset in enumerate(np.random.default_rng(1).normal(size=(3, 3)) * 0.05):
                bones.add(f"correct {bone} {number}", f"correct {bone}", bones[bone][1] + offset)
    return roles


def with_a_pelvis_beside_the_spine(bones, roles):
    pelvis = roles["pelvis"][0]
    bones["hip"] = [bones[pelvis][0], bones[pelvis][1] + (0, 0, 0.02), bones[pelvis][2]]
    bones[pelvis][0] = bones[roles["spine"][0]][0] = "hip"
    return roles | {"pelvis": ("hip",)}


def with_four_fingers(bones, roles):
    for side in SIDES:
        for bone in bones.below(roles[f"{side}_pinky1"][0]) if f"{side}_pinky1" in roles else ():
            del bones[bone]
    return {role: names for role, names in roles.items() if "pinky" not in role}


def with_nothing_but_heads(bones, roles):
    """No toes, and tails as some files have them: anywhere."""
    for side in SIDES:
        for toe in roles.pop(f"{side}_foot"):
            for bone in bones.below(toe):
                del bones[bone]
    for bone, offset in zip(bones.values(), np.random.default_rng(3).normal(size=(len(bones), 3)) * 0.05):
        bone[2] = bone[1] + offset
    return roles


def in_a_pose(bones, roles):
    for role, turn in (("left_shoulder", (0, 0, -1)), ("right_hip", (-0.4, 0, 0)), ("right_knee", (0.8, 0, 0))):
        bone = roles[role][0]
        centre, turn = bones[bone][1].copy(), axis_angle_to_matrix(turn)
        for below in bones.below(bone):
            bones[below][1:] = [centre + turn @ (point - centre) for point in bones[below][1:]]
    return roles


@pytest.mark.parametrize("rig_name", ["unreal", "makehuman"])
@pytest.mark.parametrize(
    "odd",
    [
        with_hair_skirt_tail_and_sword,
        with_wings,
        with_a_face,
        with_ik_and_correcting_bones,
        with_a_pelvis_beside_the_spine,
        with_four_fingers,
        with_nothing_but_heads,
        in_a_pose,
    ],
)
def test_what_characters_have_beside_a_body_does_not_mislead(rig_name, odd):
    rig = rig_arrays(rig_name)
    bones = Bones(rig)
    assert_roles(bones, odd(bones, dict(rig.roles)))


def words(pattern, sides, **parts):
    return {
        f"{side}_{role}": pattern.format(word, part=part) for side, word in zip(SIDES, sides) for role, part in parts.items()
    }


MANNERS = {
    "VRChat": words(
        "{} {part}", ("Left", "Right"),
        collar="shoulder", shoulder="arm", elbow="elbow", wrist="wrist", hip="leg", knee="knee", ankle="ankle", foot="toe",
    ),
    "joints": words(
        "jnt_{part}_{}", ("lf", "rt"),
        collar="clav", shoulder="shoulder", elbow="elbow", wrist="wrist", hip="hip", knee="knee", ankle="ankle", foot="ball",
    ),
    "Blender": words(
        "{part}.{}", ("L", "R"),
        collar="collarbone", shoulder="upper_arm", elbow="lower_arm", wrist="hand", hip="upper_leg", knee="lower_leg",
        ankle="foot", foot="toe",
    ),
    "small": words(
        "{}{part}", ("l", "r"),
        collar="clavicle", shoulder="arm", elbow="forearm", wrist="hand", hip="thigh", knee="shin", ankle="foot", foot="toe",
    ),
    "German": words(
        "{part}_{}", ("links", "rechts"),
        collar="Clavicle", shoulder="UpperArm", elbow="Forearm", wrist="Hand", hip="Thigh", knee="Calf", ankle="Foot", foot="Toe",
    ),
}  # fmt: skip


@pytest.mark.parametrize("manner", MANNERS)
def test_words_in_names_are_understood_in_many_manners(manner):
    rig = rig_arrays("mixamo", fingers=False)
    trunk = {"pelvis": ["hips"], "spine": ["spine", "chest", "chest upper"], "neck": ["neck"], "head": ["head"]}
    named = trunk | {role: [name] for role, name in MANNERS[manner].items()}
    new = {old: name for role, bones in rig.roles.items() for old, name in zip(bones, named[role])}
    # A shape that says nothing, so that the words alone count: all limbs are there, but hang from nothing.
    parents = np.full(len(rig.names), -1)
    skeleton = Skeleton(tuple(new[name] for name in rig.names), parents, rig.heads, rig.tails, np.ones(len(parents), bool))
    assert find_role_map(skeleton).bones == {role: tuple(names) for role, names in named.items()}


def test_names_of_fingers_are_believed_before_their_places():
    rig = rig_arrays("mixamo")
    swapped = {"Index": "Ring", "Ring": "Index"}
    bones = Bones(rig)
    new = {name: name for name in bones}
    for name in bones:
        for word, other in swapped.items():
            new[name] = name.replace(word, other) if word in name else new[name]
    skeleton = in_order({new[name]: [new.get(bone[0]), *bone[1:]] for name, bone in bones.items()}, list(new.values()))
    assert find_role_map(skeleton).bones["left_ring2"] == ("mixamorig:LeftHandRing2",)


def test_doubts_are_said():
    rig = rig_arrays("mixamo")
    other = {"Left": "Right", "Right": "Left"}
    exchanged = tuple(next((name.replace(word, other[word]) for word in other if word in name), name) for name in rig.names)
    skeleton = Skeleton(exchanged, np.array(rig.parents), rig.heads, rig.tails, np.ones(len(exchanged), bool))
    (note,) = find_role_map(skeleton).notes
    assert "exchanged" in note

    short = rig_arrays("mixamo", lengths={"knee": 0.3})
    skeleton = replace(skeleton, names=short.names, heads=short.heads, tails=short.tails)
    assert any("thigh and the shin" in note for note in find_role_map(skeleton).notes)


def test_a_body_that_shows_no_front_is_left_to_names_or_to_the_user():
    rig = rig_arrays("unreal", fingers=False, arms=0)
    bones, roles = Bones(rig), dict(rig.roles)
    for side in SIDES:
        for toe in roles.pop(f"{side}_foot"):
            del bones[toe]
        for upper, middle, lower in (("hip", "knee", "ankle"), ("shoulder", "elbow", "wrist")):
            ends = [bones[roles[f"{side}_{role}"][0]][1] for role in (upper, lower)]
            bones[roles[f"{side}_{middle}"][0]][1] = np.mean(ends, 0)
    for bone in bones.values():
        bone[2] = bone[1] - (0, 0, 0.05)
    skeleton, names = no_names(bones)
    assert any("left and right" in note for note in find_role_map(skeleton).notes)
    side_of = {names[bone]: role[0] for role, found in roles.items() for bone in found if role.startswith(SIDES)}
    for letters in ({"l": "L", "r": "R"}, {"l": "R", "r": "L"}):
        sided = tuple(name + "_" + letters.get(side_of.get(name), "C") for name in skeleton.names)
        found = find_role_map(replace(skeleton, names=sided))
        assert all(bone.endswith("L") for role, bones in found.bones.items() if role.startswith("left") for bone in bones)
        assert found.notes == ()


def quadruped():
    bones = Bones(replace(rig_arrays("mixamo"), names=(), parents=(), heads=np.zeros((0, 3)), tails=np.zeros((0, 3))))
    bones.add("hip", None, (0, 0.4, 0.7))
    bones.chain("spine", "hip", (0, 0.3, 0.72), (0, -0.2, 0), 4)
    bones.chain("neck", "spine3", (0, -0.45, 0.8), (0, -0.1, 0.15), 3)
    bones.chain("tail", "hip", (0, 0.5, 0.68), (0, 0.1, -0.05), 6)
    hind = ((0.12, 0.42, 0.62), (0.12, 0.35, 0.4), (0.12, 0.5, 0.2), (0.12, 0.45, 0.05), (0.12, 0.38, 0))
    fore = ((0.07, -0.3, 0.75), (0.12, -0.38, 0.58), (0.12, -0.28, 0.4), (0.12, -0.3, 0.15), (0.12, -0.4, 0))
    for side in (1, -1):
        for base, joints in (("hip", hind), ("spine3", fore)):
            parent = base
            for number, joint in enumerate(joints):
                bones.add(f"{base}{side}{number}", parent, joint * np.array([side, 1, 1]))
                parent = f"{base}{side}{number}"
    return bones


def part_of_a_body(*left_out):
    bones = Bones(rig_arrays("mixamo"))
    for name in list(bones):
        if any(word in name for word in left_out):
            del bones[name]
    return bones


def any_tree(seed):
    random = np.random.default_rng(seed)
    bones = quadruped()
    bones.clear()
    bones.add("0", None, (0, 0, 0))
    for number in range(1, 60):
        parent = str(random.integers(max(0, number - 6), number))
        bones.add(str(number), parent, bones[parent][1] + random.normal(size=3) * 0.2)
    return bones


@pytest.mark.parametrize(
    "make",
    [quadruped, lambda: part_of_a_body("Leg", "Foot", "Toe"), lambda: part_of_a_body("Arm", "Hand", "Shoulder")]
    + [lambda seed=seed: any_tree(seed) for seed in range(6)],
)
def test_what_is_no_person_is_not_called_one(make):
    found = find_role_map(no_names(make())[0])
    assert found.missing() == REQUIRED
    assert any("by hand" in note for note in found.notes)


def test_one_bone_and_none_at_all_are_said_to_be_no_person():
    for count in (0, 1):
        nowhere = np.zeros((count, 3))
        skeleton = Skeleton(("bone",) * count, np.full(count, -1), nowhere, nowhere, np.ones(count, bool))
        assert find_role_map(skeleton).missing() == REQUIRED


def test_fingers_are_found_in_either_hand_alike():
    rig = rig_arrays("makehuman")
    found = find_role_map(no_names(Bones(rig))[0])
    for finger in FINGERS:
        assert f"left_{finger}3" in found.bones and f"right_{finger}3" in found.bones
