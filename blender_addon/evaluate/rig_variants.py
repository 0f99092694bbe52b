# SPDX-License-Identifier: GPL-3.0-or-later
"""Rigs as plain arrays, and what makes them odd, for characters that retargeting is tested on. Numpy only, no bpy.

The definitions of four public rigs come from a JSON file (see `read_definitions`). What the bones of each are for is written
out here by hand for measuring, on purpose without looking at the maps that retargeting itself uses.
"""

import json
from dataclasses import dataclass, replace

import numpy as np

from ..contract.frames import axis_angle_to_matrix
from ..contract.skeleton import FINGERS, SIDES
from ..contract.swing_twist import about, shortest_arc, unit

_UP = np.array([0.0, 0, 1])


@dataclass(frozen=True)
class Rig:
    """A skeleton of B bones at rest, upright on z = 0 and facing -y unless a variant says otherwise; parents come first.

    names [B]; parents [B] index or -1; heads, tails [B, 3] m; axes [B, 3, 3] rotations whose columns are the bones' x, y, z
    connected [B]; deform [B] bool; roles: {role: names of its bones, in their order}, see `retarget.roles`
    """

    names: tuple
    parents: tuple
    heads: np.ndarray
    tails: np.ndarray
    axes: np.ndarray
    connected: tuple
    deform: tuple
    roles: dict

    def index(self, name):
        return self.names.index(name)

    def below(self, name):
        """Mask [B] of a bone and all that hang from it."""
        mask = np.zeros(len(self.names), bool)
        mask[self.index(name)] = True
        for bone, parent in enumerate(self.parents):
            mask[bone] |= parent >= 0 and mask[parent]
        return mask

    def head(self, role):
        return self.heads[self.index(self.roles[role][0])]


def read_definitions(path):
    """{rig: {bone: [parent, head, tail, roll, connected]}} in m and radians, z up, facing -y, the ground at zero."""
    with open(path, encoding="utf-8") as file:
        return json.load(file)["rigs"]


# What the bones are for. {side} left, {Side} Left, {s} l, {S} L; a list is a chain, or the toes that lie side by side.
_MIXAMO = {
    "pelvis": ["Hips"],
    "spine": ["Spine", "Spine1", "Spine2"],
    "neck": ["Neck"],
    "head": ["Head"],
    "{side}_hip": ["{Side}UpLeg"],
    "{side}_knee": ["{Side}Leg"],
    "{side}_ankle": ["{Side}Foot"],
    "{side}_foot": ["{Side}ToeBase"],
    "{side}_collar": ["{Side}Shoulder"],
    "{side}_shoulder": ["{Side}Arm"],
    "{side}_elbow": ["{Side}ForeArm"],
    "{side}_wrist": ["{Side}Hand"],
}
_UNREAL = {
    "root": ["Root"],
    "pelvis": ["pelvis"],
    "spine": ["spine_01", "spine_02", "spine_03"],
    "neck": ["neck_01"],
    "head": ["head"],
    "{side}_hip": ["thigh_{s}"],
    "{side}_knee": ["calf_{s}"],
    "{side}_ankle": ["foot_{s}"],
    "{side}_foot": ["ball_{s}"],
    "{side}_collar": ["clavicle_{s}"],
    "{side}_shoulder": ["upperarm_{s}"],
    "{side}_elbow": ["lowerarm_{s}"],
    "{side}_wrist": ["hand_{s}"],
}
_CMU = _MIXAMO | {
    "spine": ["LowerBack", "Spine", "Spine1"],
    "neck": ["Neck", "Neck1"],
    "{side}_index1": ["{Side}HandFinger1"],
    "{side}_thumb1": ["{S}Thumb"],
}
_MAKEHUMAN = {
    "pelvis": ["root"],
    "spine": ["spine05", "spine04", "spine03", "spine02", "spine01"],
    "neck": ["neck01", "neck02", "neck03"],
    "head": ["head"],
    "{side}_hip": ["upperleg01.{S}", "upperleg02.{S}"],
    "{side}_knee": ["lowerleg01.{S}", "lowerleg02.{S}"],
    "{side}_ankle": ["foot.{S}"],
    "{side}_foot": [f"toe{toe}-1.{{S}}" for toe in range(1, 6)],
    "{side}_collar": ["clavicle.{S}", "shoulder01.{S}"],
    "{side}_shoulder": ["upperarm01.{S}", "upperarm02.{S}"],
    "{side}_elbow": ["lowerarm01.{S}", "lowerarm02.{S}"],
    "{side}_wrist": ["wrist.{S}"],
}
_RIGIFY = {
    "pelvis": ["DEF-spine"],
    "spine": ["DEF-spine.001", "DEF-spine.002", "DEF-spine.003"],
    "neck": ["DEF-spine.004", "DEF-spine.005"],
    "head": ["DEF-spine.006"],
    "{side}_hip": ["DEF-thigh.{S}", "DEF-thigh.{S}.001"],
    "{side}_knee": ["DEF-shin.{S}", "DEF-shin.{S}.001"],
    "{side}_ankle": ["DEF-foot.{S}"],
    "{side}_foot": ["DEF-toe.{S}"],
    "{side}_collar": ["DEF-shoulder.{S}"],
    "{side}_shoulder": ["DEF-upper_arm.{S}", "DEF-upper_arm.{S}.001"],
    "{side}_elbow": ["DEF-forearm.{S}", "DEF-forearm.{S}.001"],
    "{side}_wrist": ["DEF-hand.{S}"],
}
_VRM = {
    "pelvis": ["J_Bip_C_Hips"],
    "spine": ["J_Bip_C_Spine", "J_Bip_C_Chest", "J_Bip_C_UpperChest"],
    "neck": ["J_Bip_C_Neck"],
    "head": ["J_Bip_C_Head"],
    "{side}_hip": ["J_Bip_{S}_UpperLeg"],
    "{side}_knee": ["J_Bip_{S}_LowerLeg"],
    "{side}_ankle": ["J_Bip_{S}_Foot"],
    "{side}_foot": ["J_Bip_{S}_ToeBase"],
    "{side}_collar": ["J_Bip_{S}_Shoulder"],
    "{side}_shoulder": ["J_Bip_{S}_UpperArm"],
    "{side}_elbow": ["J_Bip_{S}_LowerArm"],
    "{side}_wrist": ["J_Bip_{S}_Hand"],
}
_LITTLE = {"pinky": "Little"}
_RIGIFY_FINGERS = {"thumb": "thumb"}
_MAKEHUMAN_FINGERS = {"thumb": 1, "index": 2, "middle": 3, "ring": 4, "pinky": 5}
_FINGERS = {
    "mixamo": lambda finger, segment: f"{{Side}}Hand{finger.title()}{segment}",
    "unreal": lambda finger, segment: f"{finger}_{segment:02d}_{{s}}",
    "makehuman": lambda finger, segment: f"finger{_MAKEHUMAN_FINGERS[finger]}-{segment}.{{S}}",
    "rigify": lambda finger, segment: f"DEF-{_RIGIFY_FINGERS.get(finger, 'f_' + finger)}.{segment:02d}.{{S}}",
    "vrm": lambda finger, segment: f"J_Bip_{{S}}_{_LITTLE.get(finger, finger.title())}{segment}",
}
_BODIES = {
    "mixamo": (_MIXAMO, "mixamorig:"),
    "unreal": (_UNREAL, ""),
    "cmu": (_CMU, ""),
    "makehuman": (_MAKEHUMAN, ""),
    "rigify": (_RIGIFY, ""),
    "vrm": (_VRM, ""),
}


def true_roles(name):
    """{role: names of its bones} of a rig, by its name, as its makers define it; of Rigify its deforming bones."""
    body, prefix = _BODIES[name]
    roles = {}
    for role, bones in body.items():
        for side in SIDES if "{side}" in role else SIDES[:1]:
            roles[role.format(side=side)] = tuple(prefix + _sided(bone, side) for bone in bones)
    for side in SIDES if name in _FINGERS else ():
        for finger in FINGERS:
            for segment in (1, 2, 3):
                roles[f"{side}_{finger}{segment}"] = (prefix + _sided(_FINGERS[name](finger, segment), side),)
    return roles


def _sided(pattern, side):
    return pattern.format(side=side, Side=side.title(), s=side[0], S=side[0].upper())


def make_rig_arrays(definitions, name, axes_from_roll):
    """`Rig` of a public rig as it is defined. axes_from_roll(direction [3], roll) -> [3, 3] is Blender's own convention.

    "unreal" gets the twist bones that the mannequin has and the definition lacks; "vrm" is Mixamo's under other names.
    """
    bones = definitions["mixamo" if name == "vrm" else name]
    names = tuple(bones)
    heads, tails = (np.array([bone[field] for bone in bones.values()], float) for field in (1, 2))
    rig = Rig(
        names=names,
        parents=tuple(names.index(bone[0]) if bone[0] else -1 for bone in bones.values()),
        heads=heads,
        tails=tails,
        axes=np.array([axes_from_roll(tail - head, bone[3]) for head, tail, bone in zip(heads, tails, bones.values())]),
        connected=tuple(bool(bone[4]) for bone in bones.values()),
        deform=tuple(name not in ("Root",) for name in names),
        roles=true_roles("mixamo" if name == "vrm" else name),
    )
    if name == "unreal":
        rig = with_twist_bones(rig)
    return renamed(rig, true_roles("vrm")) if name == "vrm" else rig


def variant(rig, *, rolls=None, arms=None, facing=0.0, spine=None, fingers=True, lengths=None, split=False):
    """The rig made odd.

    rolls: seed of random bone rolls; arms: degrees below horizontal (0 is a T-pose); facing: degrees to the left (90: +x)
    spine: number of spine bones; fingers: whether there are any; lengths: {"shoulder", "elbow", "hip" or "knee": factor}
    split: upper arms, forearms, thighs and shins in two pieces each
    """
    if spine is not None:
        rig = with_spine(rig, spine)
    if not fingers:
        rig = without_fingers(rig)
    if lengths is not None:
        rig = with_lengths(rig, lengths)
    if arms is not None:
        rig = with_arms(rig, arms)
    if split:
        rig = with_split_limbs(rig)
    if rolls is not None:
        rig = with_random_rolls(rig, rolls)
    return turned_left(rig, facing) if facing else rig


def with_twist_bones(rig):
    """The rig with two twist bones beside each upper arm, forearm, thigh and calf, named and numbered as UE5's mannequin's:
    01 lies nearer the body in an upper arm or thigh and nearer the hand or foot in a forearm or calf."""
    for side in SIDES:
        for role, following in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle")):
            bone = rig.index(rig.roles[f"{side}_{role}"][0])
            start, end = rig.heads[bone], rig.head(f"{side}_{following}")
            stem, letter = rig.names[bone].rsplit("_", 1)
            twists = []
            for number in (1, 2):
                share = number / 3 if role in ("shoulder", "hip") else 1 - number / 3
                head = start + share * (end - start)
                twists.append((f"{stem}_twist_{number:02d}_{letter}", head, head + (end - start) / 5))
            twists.sort(key=lambda twist: np.linalg.norm(twist[1] - start))
            rig = replace(
                rig,
                names=rig.names + tuple(twist[0] for twist in twists),
                parents=rig.parents + (bone, bone),
                heads=np.concatenate([rig.heads, [twist[1] for twist in twists]]),
                tails=np.concatenate([rig.tails, [twist[2] for twist in twists]]),
                axes=np.concatenate([rig.axes, np.repeat(rig.axes[bone : bone + 1], 2, 0)]),
                connected=rig.connected + (False, False),
                deform=rig.deform + (True, True),
                roles=rig.roles | {f"{side}_{role}_twist": tuple(twist[0] for twist in twists)},
            )
    return rig


def renamed(rig, roles):
    """The rig with the bones of its roles named as in `roles`."""
    new = {old: name for role, bones in rig.roles.items() for old, name in zip(bones, roles[role])}
    return replace(rig, names=tuple(new.get(name, name) for name in rig.names), roles=dict(roles))


def with_random_rolls(rig, seed=0):
    """Each bone turned about itself by some angle."""
    angles = np.random.default_rng(seed).uniform(-np.pi, np.pi, len(rig.names))
    return replace(rig, axes=rig.axes @ about(np.tile((0.0, 1, 0), (len(angles), 1)), angles))


def with_arms(rig, degrees):
    """The arms turned about the shoulders until they hang `degrees` below horizontal, straight to the side."""
    for side, sign in zip(SIDES, (1, -1)):
        shoulder, wrist = rig.head(f"{side}_shoulder"), rig.head(f"{side}_wrist")
        angle = np.radians(degrees)
        turn = shortest_arc(wrist - shoulder, (sign * np.cos(angle), 0.0, -np.sin(angle)))
        rig = _turned(rig, rig.below(rig.roles[f"{side}_shoulder"][0]), turn, shoulder)
    return rig


def turned_left(rig, degrees):
    """The rig turned to its left by `degrees`; 90 faces +x."""
    turn = axis_angle_to_matrix(np.radians(degrees) * _UP)
    return _turned(rig, np.ones(len(rig.names), bool), turn, np.zeros(3))


def _turned(rig, mask, turn, centre):
    heads, tails, axes = rig.heads.copy(), rig.tails.copy(), rig.axes.copy()
    heads[mask] = (heads[mask] - centre) @ turn.T + centre
    tails[mask] = (tails[mask] - centre) @ turn.T + centre
    axes[mask] = turn @ axes[mask]
    return replace(rig, heads=heads, tails=tails, axes=axes)


def with_lengths(rig, factors):
    """Segments stretched: {role: factor} makes "shoulder", "elbow", "hip" or "knee" longer on both sides, stood on z = 0."""
    following = {"shoulder": "elbow", "elbow": "wrist", "hip": "knee", "knee": "ankle"}
    rooted = np.array([name in rig.roles.get("root", ()) for name in rig.names])
    lowest = rig.heads[~rooted, 2].min()
    for role, factor in factors.items():
        for side in SIDES:
            bones = [rig.index(name) for name in rig.roles[f"{side}_{role}"] + rig.roles.get(f"{side}_{role}_twist", ())]
            start, end = rig.head(f"{side}_{role}"), rig.head(f"{side}_{following[role]}")
            beyond = rig.below(rig.roles[f"{side}_{role}"][0])
            beyond[bones] = False
            heads, tails = rig.heads.copy(), rig.tails.copy()
            heads[beyond] += (factor - 1) * (end - start)
            tails[beyond] += (factor - 1) * (end - start)
            heads[bones] = start + factor * (heads[bones] - start)
            tails[bones] = start + factor * (tails[bones] - start)
            rig = replace(rig, heads=heads, tails=tails)
    stand = np.where(rooted[:, None], 0, [0, 0, lowest - rig.heads[~rooted, 2].min()])
    return replace(rig, heads=rig.heads + stand, tails=rig.tails + stand)


def with_spine(rig, count):
    """The rig with `count` bones of equal length in place of its spine bones."""
    old = [rig.index(name) for name in rig.roles["spine"]]
    knots = np.concatenate([rig.heads[old], rig.tails[old[-1:]]])
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
    at = np.linspace(0, along[-1], count + 1)
    points = np.stack([np.interp(at, along, knots[:, axis]) for axis in range(3)], -1)
    names = [_spine_name(rig.names[old[0]], number) for number in range(count)]
    kept = [bone for bone in range(len(rig.names)) if bone not in old]
    insert = next(place for place, bone in enumerate(kept) if bone > old[0] or place == len(kept) - 1)
    order = kept[:insert] + [None] * count + kept[insert:]
    new_index = {bone: place for place, bone in enumerate(order) if bone is not None}
    new_index |= {bone: insert + max(0, round((k + 1) / len(old) * count) - 1) for k, bone in enumerate(old)}
    axes = np.array(
        [shortest_arc(rig.axes[old[0]][:, 1], b - a) @ rig.axes[old[0]] for a, b in zip(points[:-1], points[1:])]
    )
    parents = [new_index.get(rig.parents[bone], -1) if bone is not None else None for bone in order]
    for number in range(count):
        parents[insert + number] = insert + number - 1 if number else new_index[rig.parents[old[0]]]

    def merged(values, new):
        return [new[place - insert] if bone is None else values[bone] for place, bone in enumerate(order)]

    return replace(
        rig,
        names=tuple(merged(rig.names, names)),
        parents=tuple(parents),
        heads=np.array(merged(rig.heads, points[:-1])),
        tails=np.array(merged(rig.tails, points[1:])),
        axes=np.array(merged(rig.axes, axes)),
        connected=tuple(merged(rig.connected, [number > 0 for number in range(count)])),
        deform=tuple(merged(rig.deform, [True] * count)),
        roles=rig.roles | {"spine": tuple(names)},
    )


def _spine_name(first, number):
    """The name of a rig's spine bone, counted from zero, in the style of its first one."""
    if first.endswith("01"):
        return f"{first[:-2]}{number + 1:02d}"
    return first if number == 0 else f"{first}{number}"


def without_fingers(rig):
    """The rig without the bones beyond the hands."""
    keep = np.ones(len(rig.names), bool)
    for side in SIDES:
        keep &= ~rig.below(rig.roles[f"{side}_wrist"][0])
        keep[rig.index(rig.roles[f"{side}_wrist"][0])] = True
    return _only(rig, keep)


def _only(rig, keep):
    place = np.cumsum(keep) - 1
    names = tuple(np.array(rig.names)[keep].tolist())
    return Rig(
        names=names,
        parents=tuple(int(place[rig.parents[bone]]) if rig.parents[bone] >= 0 else -1 for bone in np.flatnonzero(keep)),
        heads=rig.heads[keep],
        tails=rig.tails[keep],
        axes=rig.axes[keep],
        connected=tuple(rig.connected[bone] for bone in np.flatnonzero(keep)),
        deform=tuple(rig.deform[bone] for bone in np.flatnonzero(keep)),
        roles={role: bones for role, bones in rig.roles.items() if all(bone in names for bone in bones)},
    )


def with_split_limbs(rig):
    """Each single bone of an upper arm, forearm, thigh and shin in two pieces, one behind the other."""
    for side in SIDES:
        for role, following in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle")):
            if len(rig.roles[f"{side}_{role}"]) == 1:
                rig = _split(rig, f"{side}_{role}", rig.head(f"{side}_{following}"))
    return rig


def _split(rig, role, end):
    bone = rig.index(rig.roles[role][0])
    middle, lower = (rig.heads[bone] + end) / 2, bone + 1
    moved = [parent + (parent > bone) if parent != bone else lower for parent in rig.parents]
    name = f"{rig.names[bone]}_lower"
    tails = rig.tails.copy()
    tails[bone] = middle
    return replace(
        rig,
        names=rig.names[:lower] + (name,) + rig.names[lower:],
        parents=tuple(moved[:lower] + [bone] + moved[lower:]),
        heads=np.insert(rig.heads, lower, middle, 0),
        tails=np.insert(tails, lower, end, 0),
        axes=np.insert(rig.axes, lower, rig.axes[bone], 0),
        connected=rig.connected[:lower] + (True,) + rig.connected[lower:],
        deform=rig.deform[:lower] + (True,) + rig.deform[lower:],
        roles=rig.roles | {role: rig.roles[role] + (name,)},
    )


def box_body(rig, ground=0.0):
    """A simple skin: vertices [V, 3] m, faces (lists of indices) and the one bone [V] that each vertex follows.

    A box along every deforming bone, and a flat sole under each foot from behind the ankle to the tip of the toes, so that
    the lowest vertices lie on the ground.
    """
    vertices, faces, bones = [], [], []
    widths = {name: size for role, names in rig.roles.items() for name in names for size in [_widths(role)]}
    left = unit((rig.head("left_hip") - rig.head("right_hip")) * (1, 1, 0))

    def add(corners, owners):
        faces.extend([[len(vertices) + corner for corner in face] for face in _BOX_FACES])
        vertices.extend(corners)
        bones.extend(owners)

    for bone in np.flatnonzero(rig.deform):
        sides = _box_sides(rig.axes[bone][:, 1], left, widths.get(rig.names[bone], (0.008, 0.008)))
        ends = (rig.heads[bone], rig.tails[bone])
        corners = np.array([end + sides @ corner for end in ends for corner in _SQUARE])
        add(np.maximum(corners, (-np.inf, -np.inf, ground)), [bone] * 8)
    for side in SIDES:
        for corners, bone in _sole(rig, side, ground):
            add(corners, [bone] * 8)
    return np.array(vertices), faces, np.array(bones)


_WIDTHS = {
    "pelvis": (0.15, 0.09),
    "spine": (0.13, 0.08),
    "neck": (0.05, 0.05),
    "head": (0.07, 0.08),
    "hip": (0.06, 0.06),
    "knee": (0.045, 0.045),
    "ankle": (0.035, 0.03),
    "foot": (0.01, 0.01),
    "collar": (0.03, 0.03),
    "shoulder": (0.04, 0.04),
    "elbow": (0.032, 0.032),
    "wrist": (0.035, 0.02),
}


def _widths(role):
    """Half of the width and depth (m) of the box around a role's bones: across the body or up, and front to back."""
    return _WIDTHS.get(role.removeprefix("left_").removeprefix("right_"), (0.008, 0.008))


def _box_sides(along, left, widths):
    """Vectors [3, 2] square to a bone along [3], whatever its roll: sideways as near as may be, or to the front in arms, and
    across. left [3]: the character's own."""
    wide = left if abs(along @ left) < 0.7 else np.cross(left, _UP)
    wide = unit(wide - (wide @ along) * along)
    return np.stack([wide * widths[0], np.cross(wide, along) * widths[1]], -1)


_SQUARE = [np.array(corner, float) for corner in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
_BOX_FACES = [(0, 1, 2, 3), (7, 6, 5, 4), (0, 4, 5, 1), (1, 5, 6, 2), (2, 6, 7, 3), (3, 7, 4, 0)]


def _sole(rig, side, ground):
    """Corners [8, 3] and bone of each slab of a sole: the foot's and, where there are toe bones, one under those."""
    ankle, foot = rig.head(f"{side}_ankle"), rig.index(rig.roles[f"{side}_ankle"][0])
    toes = [rig.index(name) for name in rig.roles.get(f"{side}_foot", ())]
    ball = rig.heads[toes].mean(0) if toes else rig.tails[foot]
    heading = unit((ball - ankle) * (1, 1, 0))
    width = 0.04 * np.cross(_UP, heading)
    heel, ground = ankle - 0.05 * heading, np.array([0, 0, ground])
    yield _slab(heel, ball, width, ground), foot
    for toe in toes[:1]:
        tip = ball + heading * max(np.linalg.norm(rig.tails[toe] - rig.heads[toe]), 0.03)
        yield _slab(ball, tip, width, ground), toe


def _slab(start, end, width, ground):
    flat = np.array([1, 1, 0])
    return [flat * point + ground + height * _UP + side * width for point in (start, end) for side, height in _SLAB]


_SLAB = [(-1, 0.0), (1, 0.0), (1, 0.025), (-1, 0.025)]
