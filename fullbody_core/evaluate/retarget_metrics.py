"""How well a character follows a capture: figures from its bones as Blender played them, against the capture's own joints.

Written apart from the solver, and plainly, so that what it measures is not what the solver computed. Numpy only; world axes
(z up), metres, angles in degrees unless a name says otherwise.

Directions. A limb's bone points from its head to the head of the next role's first bone, as its joint does to the next joint.
A foot and its toes point the way the foot heads at rest, level with the ground, turned with the bone; the last bone of a finger
goes on as the one before it does at rest. Pelvis, upper end of the spine and head are measured by their whole turn from rest.
"""

import re
from dataclasses import dataclass

import numpy as np

from ..contract.skeleton import FINGERS, JOINT_INDEX, SIDES
from ..contract.swing_twist import reject, shortest_arc, twist_angle, unit
from .angles import angle_between, turn_between
from .planted_feet import penetration, planted, sliding, sole_points, source_sole_points

CALM_KNEE = 500.0
"""Degrees/s^2, about half a degree from one frame to the next at 30 a second: nobody sees a knee pop by less."""

_CHAINS = [(f"{side}_{a}", f"{side}_{b}") for side in SIDES for a, b in (
    ("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"),
)]  # fmt: skip
_KNUCKLES = ("middle", "index", "ring", "pinky")


def directions(played):
    """{role: (source's next joint or "level" or "before", direction [T, 3])} of a character's limbs in the world.

    "level": the heading at rest, turned with the bone; "before": the rest direction of the finger's bone before, likewise.
    """
    found = {}
    for role, following in [*_CHAINS, *_hands(played)]:
        if (bone := played.first(role)) is not None:
            end = played.first(following)
            ends = played.ends(bone) if end is None else played.world[:, end, :3, 3]
            found[role] = (following, unit(ends - played.world[:, bone, :3, 3]))
    for side in SIDES:
        found |= _feet(played, side) | _fingers(played, side)
    return found


def _hands(played):
    """(wrist, knuckle) pairs: the middle finger's, or another that the character has; the bone's own end where it has none."""
    for side in SIDES:
        mapped = [f"{side}_{finger}1" for finger in _KNUCKLES if played.first(f"{side}_{finger}1") is not None]
        yield f"{side}_wrist", mapped[0] if mapped else f"{side}_middle1"


def _feet(played, side):
    ankle, toes = played.first(f"{side}_ankle"), played.bones(f"{side}_foot")
    tip = np.mean([played.at_rest(toe) for toe in toes], 0) if toes else played.at_rest(ankle, tail=True)
    heading = unit((tip - played.at_rest(ankle)) * (1, 1, 0))
    found = {f"{side}_ankle": ("level", played.turns(ankle) @ heading)}
    for number, toe in enumerate(toes):
        found[f"{side}_foot{f' {number + 1}' if number else ''}"] = ("level", played.turns(toe) @ heading)
    return found


def _fingers(played, side):
    found = {}
    for finger in FINGERS:
        bones = {f"{side}_{finger}{segment}": played.first(f"{side}_{finger}{segment}") for segment in (1, 2, 3)}
        chain = [(role, bone) for role, bone in bones.items() if bone is not None]
        for (role, bone), (following, end) in zip(chain, chain[1:]):
            found[role] = (following, unit(played.world[:, end, :3, 3] - played.world[:, bone, :3, 3]))
        if len(chain) > 1:
            (_, before), (role, bone) = chain[-2:]
            at_rest = unit(played.at_rest(bone) - played.at_rest(before))
            found[role] = (f"{chain[-2][0]} before", played.turns(bone) @ at_rest)
        elif chain:
            role, bone = chain[0]
            found[role] = (f"{role[:-1]}2", unit(played.ends(bone) - played.world[:, bone, :3, 3]))
    return found


def source_direction(source, role, following):
    """Direction [T, 3] of the source's limb that a character's role with `directions`' first value stands for."""
    joint = JOINT_INDEX[role.split(" ")[0]]
    side = role.partition("_")[0]
    if following == "level":
        ankle, foot = (source.rest_joints[JOINT_INDEX[f"{side}_{name}"]] for name in ("ankle", "foot"))
        return source.turns[:, joint] @ unit((foot - ankle) * (1, 1, 0))
    if following.endswith(" before"):
        before = source.rest_joints[JOINT_INDEX[following.split(" ")[0]]]
        return source.turns[:, joint] @ unit(source.rest_joints[joint] - before)
    return unit(source.joints[:, JOINT_INDEX[following]] - source.joints[:, joint])


def direction_errors(source, played):
    """{role: degrees [T]} between the source's and the character's limbs; NaN where the source was not captured."""
    errors = {}
    for role, (following, direction) in directions(played).items():
        error = angle_between(direction, source_direction(source, role, following))
        errors[role] = np.where(source.captured[:, JOINT_INDEX[role.split(" ")[0]]], error, np.nan)
    return errors


def captured_directions(source, played):
    """`directions` with NaN where the source was not captured: such limbs rest as each character does."""
    return {
        role: (following, np.where(source.captured[:, JOINT_INDEX[role.split(" ")[0]], None], direction, np.nan))
        for role, (following, direction) in directions(played).items()
    }


def spine_end_errors(source, played):
    """{"pelvis", "spine", "head": degrees [T]} between whole turns from rest: pelvis, last bone of the spine, head."""
    errors = {}
    for role, joint in (("pelvis", "pelvis"), ("spine", "spine3"), ("head", "head")):
        if bones := played.bones(role):
            error = turn_between(source.turns[:, JOINT_INDEX[joint]], played.turns(bones[-1]))
            errors[role] = np.where(source.captured[:, JOINT_INDEX[joint]], error, np.nan)
    return errors


def twist_errors(source, played):
    """{"left_elbow", "left_wrist"...: degrees [T]}: how far forearm and hand are turned about their own direction.

    At rest the palm tells how each is turned: the direction from the little finger's knuckle to the index finger's, carried by
    the forearm's turn or by the hand's, is compared with the source's about the source's forearm or hand. Characters without
    these knuckles are compared by turns from a rest that the smallest turns of upper arm, forearm and hand bring to the source's.
    """
    errors = {}
    for side in SIDES:
        knuckles = [f"{side}_index1", f"{side}_pinky1"]
        has_palm = all(played.first(knuckle) is not None for knuckle in knuckles)
        for part, following in (("elbow", "wrist"), ("wrist", "middle1")):
            role = f"{side}_{part}"
            joint, bone = JOINT_INDEX[role], played.first(role)
            rest = {name: source.rest_joints[JOINT_INDEX[name]] for name in (role, f"{side}_{following}", *knuckles)}
            along = unit(rest[f"{side}_{following}"] - rest[role])
            axis = source.turns[:, joint] @ along
            if has_palm:
                index, pinky = (played.at_rest(played.first(knuckle)) for knuckle in knuckles)
                own = played.turns(bone) @ _across(played, bone, following, side, index - pinky)
                theirs = source.turns[:, joint] @ reject(rest[knuckles[0]] - rest[knuckles[1]], along)
                error = angle_between(reject(own, axis), reject(theirs, axis))
            else:
                wanted = source.turns[:, joint] @ _arm_offset(source, played, side, part)
                error = np.abs(np.degrees(twist_angle(played.turns(bone) @ np.swapaxes(wanted, -1, -2), axis)))
            errors[role] = np.where(source.captured[:, joint], error, np.nan)
    return errors


def _across(played, bone, following, side, palm):
    """The part of a direction [3] that is square to a bone at rest, which points to the next role's."""
    end = played.first(f"{side}_{following}")
    end = played.at_rest(bone, tail=True) if end is None else played.at_rest(end)
    return reject(palm, unit(end - played.at_rest(bone)))


def _arm_offset(source, played, side, part):
    """Turn [3, 3] that brings the rest of the character's forearm ("elbow") or hand ("wrist") to the source's."""
    offset = np.eye(3)
    for name, following in (("shoulder", "elbow"), ("elbow", "wrist"), ("wrist", "middle1")):
        bone, end = played.first(f"{side}_{name}"), played.first(f"{side}_{following}")
        own = (played.at_rest(bone, tail=True) if end is None else played.at_rest(end)) - played.at_rest(bone)
        theirs = source.rest_joints[JOINT_INDEX[f"{side}_{following}"]] - source.rest_joints[JOINT_INDEX[f"{side}_{name}"]]
        offset = shortest_arc(offset @ own, theirs) @ offset
        if name == part:
            break
    return offset


def knee_accelerations(hips, knees, ankles, fps):
    """Degrees/s^2 [T - 2] of a knee's angle, from places [T, 3]."""
    angle = angle_between(hips - knees, ankles - knees)
    return np.abs(np.diff(angle, 2)) * fps**2


def knee_ratios(source, played):
    """The character's knees' largest acceleration and their 95th percentile, each over the source's or over `CALM_KNEE`."""
    own, theirs = [], []
    for side in SIDES:
        roles = [f"{side}_{name}" for name in ("hip", "knee", "ankle")]
        own.append(knee_accelerations(*(played.world[:, played.first(role), :3, 3] for role in roles), source.fps))
        theirs.append(knee_accelerations(*(source.joints[:, JOINT_INDEX[role]] for role in roles), source.fps))
    captured = source.captured[1:-1, JOINT_INDEX["left_knee"]]
    own, theirs = np.array(own)[:, captured], np.array(theirs)[:, captured]
    if own.shape[1] == 0:
        return float("nan"), float("nan")
    return float(own.max() / max(theirs.max(), CALM_KNEE)), float(
        np.percentile(own, 95) / max(np.percentile(theirs, 95), CALM_KNEE)
    )


@dataclass(frozen=True)
class Figures:
    """The issue's figures of one character on one clip; errors by role are kept for whoever asks which and when.

    direction, spine, twist: {role: degrees [T]}; sliding, source_sliding: m [contacts]; penetration: m [T]
    knee_peak, knee_p95: the knee's acceleration over the source's
    """

    direction: dict
    spine: dict
    twist: dict
    sliding: np.ndarray
    source_sliding: np.ndarray
    penetration: np.ndarray
    knee_peak: float
    knee_p95: float


def measure(source, played):
    """`Figures` of a character that played a source."""
    points = source_sole_points(source)
    contacts = planted(points, source.fps)
    return Figures(
        direction=direction_errors(source, played),
        spine=spine_end_errors(source, played),
        twist=twist_errors(source, played),
        sliding=sliding(sole_points(played), contacts),
        source_sliding=sliding(points, contacts),
        penetration=penetration(played),
        knee_peak=knee_ratios(source, played)[0],
        knee_p95=knee_ratios(source, played)[1],
    )


def compare(first, second):
    """{role: degrees [T]} between two characters' `directions` that played the same motion, where both have the limb."""
    return {
        role: angle_between(direction, second[role][1])
        for role, (following, direction) in first.items()
        if role in second and second[role][0] == following
    }


def worst(errors):
    """(role, frame, value) of the largest of {role: values [T]}."""
    role = max(errors, key=lambda name: np.nanmax(errors[name], initial=0.0))
    frame = int(np.nanargmax(errors[role])) if np.isfinite(errors[role]).any() else 0
    return role, frame, float(errors[role][frame])


def reimport_errors(reference, other):
    """m (joints played), m (rest joints) and degrees (turns from rest) that a re-imported file is off the one it was made from.

    Both are what sample_bones wrote; bones are matched by name, but for signs that not every kind of file can hold. The other
    file may have more frames, of which the stretch that fits best is taken: which frame a motion begins at is the importer's
    choice. Returns (joints, rest, turns, number of the first file's bones that the other lacks).
    """
    names = {_plain(name): place for place, name in enumerate(other["names"])}
    pairs = [(place, names[_plain(name)]) for place, name in enumerate(reference["names"]) if _plain(name) in names]
    mine, theirs = (list(column) for column in zip(*pairs)) if pairs else ([], [])
    ours, count = reference["world"][:, mine], len(reference["world"])
    starts = range(max(1, len(other["world"]) - count + 1))
    off, start = min(_joints_off(ours, other["world"][start : start + count, theirs], start) for start in starts)
    rest = np.linalg.norm(reference["rest"][mine][..., :3, 3] - other["rest"][theirs][..., :3, 3], axis=-1)
    ours = _turns_from_rest(ours, reference["rest"][mine])
    its = _turns_from_rest(other["world"][start : start + count, theirs], other["rest"][theirs])
    shared = min(len(ours), len(its))
    turns = turn_between(ours[:shared], its[:shared])
    return off, rest.max(initial=0), turns.max(initial=0), len(reference["names"]) - len(pairs)


def _joints_off(ours, its, start):
    """(m that joints [T, B, 4, 4] are apart at most, `start`), infinitely far where frames are missing."""
    if len(its) < len(ours):
        return np.inf, start
    return np.linalg.norm(ours[..., :3, 3] - its[..., :3, 3], axis=-1).max(initial=0), start


def _plain(name):
    return re.sub(r"\W", "_", str(name))


def _turns_from_rest(world, rest):
    world, rest = (
        matrices[..., :3, :3] / np.linalg.norm(matrices[..., :3, :3], axis=-2, keepdims=True) for matrices in (world, rest)
    )
    return world @ np.swapaxes(rest, -1, -2)
