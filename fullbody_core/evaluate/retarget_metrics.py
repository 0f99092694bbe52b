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

from ..contract.frames import (
    REST_TO_WORLD,
    axis_angle_to_matrix,
    forward_kinematics,
    matrix_to_axis_angle,
    pose_to_quaternions,
    quaternion_to_matrix,
    slerp_quaternions,
)
from ..contract.skeleton import FINGERS, JOINT_INDEX, PARENTS, PART_JOINTS, SIDES, VALID_PARTS
from ..contract.swing_twist import reject, shortest_arc, twist_angle, unit

HEEL_BEHIND, TOE_AHEAD = 0.3, 0.4
"""How far the heel lies behind the ankle and the tip of the toes before the ball, as shares of the way from ankle to ball."""

PLANTED_SPEED = 0.25
"""m/s; a point of the sole that is slower, after the mean over `WINDOW`, may be planted."""

PLANTED_HEIGHT, SOLES_APART = 0.04, 0.1
"""m above the lowest that a point comes itself within `FLOOR_WINDOW`, and that any point of the soles does: what is higher is
not planted."""

PLANTED_WITHIN, PIVOT = 0.05, 8.0
"""m and degrees; a point that ends up farther away than this has been moved, and one whose foot turns by more turns with it."""

WINDOW, FLOOR_WINDOW = 0.2, 2.0
"""s; jitter is averaged away over the one, and as long a contact must last at least; the floor is sought over the other."""

CALM_KNEE = 500.0
"""Degrees/s^2, about half a degree from one frame to the next at 30 a second: nobody sees a knee pop by less."""

_CHAINS = [(f"{side}_{a}", f"{side}_{b}") for side in SIDES for a, b in (
    ("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"),
)]  # fmt: skip
_KNUCKLES = ("middle", "index", "ring", "pinky")


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


def angle_between(a, b):
    """Degrees [...] between directions [..., 3]."""
    a, b = unit(a), unit(b)
    return np.degrees(2 * np.arctan2(np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1)))


def turn_between(a, b):
    """Degrees [...] from rotations a to b [..., 3, 3]."""
    return np.degrees(np.linalg.norm(matrix_to_axis_angle(b @ np.swapaxes(a, -1, -2)), axis=-1))


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


def source_sole_points(source):
    """{"left_heel", "left_ball", "left_toe"...: [T, 3]}: points of the soles, carried by the foot or, the toes, by their joint."""
    points = {}
    for side in SIDES:
        ankle, foot = JOINT_INDEX[f"{side}_ankle"], JOINT_INDEX[f"{side}_foot"]
        at_rest = _points_under(source.rest_joints[ankle], source.rest_joints[foot], source.sole)
        for name, point in at_rest.items():
            joint = foot if name == "toe" else ankle
            points[f"{side}_{name}"] = source.joints[:, joint] + source.turns[:, joint] @ (point - source.rest_joints[joint])
    return points


def sole_points(played):
    """The same points of a character; one without toes has its ball at 70 % of its foot bone."""
    points = {}
    for side in SIDES:
        ankle, toes = played.first(f"{side}_ankle"), played.bones(f"{side}_foot")
        start = played.rest[ankle, :3, 3]
        ball = np.mean(played.rest[toes, :3, 3], 0) if toes else start + 0.7 * (_tail(played, ankle) - start)
        for name, point in _points_under(start, ball, played.ground).items():
            bone = toes[0] if toes and name == "toe" else ankle
            own = played.rest[bone, :3, :3].T @ (point - played.rest[bone, :3, 3])
            points[f"{side}_{name}"] = played.world[:, bone, :3, 3] + played.world[:, bone, :3, :3] @ own
    return points


def _points_under(ankle, ball, ground):
    """Heel, ball and tip of the toes [3] at the ground's height, of a foot that rests with its ankle and ball at these places."""
    level = (ball - ankle) * (1, 1, 0)
    ends = {"heel": ankle - HEEL_BEHIND * level, "ball": ball, "toe": ball + TOE_AHEAD * level}
    return {name: end * (1, 1, 0) + (0, 0, ground) for name, end in ends.items()}


def _tail(played, bone):
    return played.rest[bone, :3, 3] + played.lengths[bone] * played.rest[bone, :3, 1]


def planted(points, fps):
    """When points of soles {"left_heel", "left_ball"...: [T, 3]} stand still: {name: [(first, last frame), ...]}.

    A point is planted that is slower than `PLANTED_SPEED` after averaging over `WINDOW`, less than `PLANTED_HEIGHT` above its
    own lowest place within `FLOOR_WINDOW` and above the lowest point of the same foot, and less than `SOLES_APART` above the
    lowest of all, for `WINDOW` at least after half a window is taken off either end, in which a foot still lands or rolls off
    already. Left out are points that go farther than `PLANTED_WITHIN` meanwhile, and of feet that pivot by more than `PIVOT`.
    """
    half, reach = round(WINDOW / 2 * fps), round(FLOOR_WINDOW / 2 * fps)
    smooth = {name: _mean_over(xyz, half) for name, xyz in points.items()}
    lowest = {name: _lowest_over(xyz[:, 2], reach) for name, xyz in smooth.items()}
    lowest_of_all = np.min(list(lowest.values()), 0)
    contacts = {}
    for name, xyz in smooth.items():
        foot = {part: smooth[f"{name.partition('_')[0]}_{part}"] for part in ("heel", "ball", "toe")}
        step = np.diff(xyz, axis=0, append=xyz[-1:])
        height = xyz[:, 2]
        low = (height - lowest[name] < PLANTED_HEIGHT) & (height - lowest_of_all < SOLES_APART)
        low &= height - np.min([points[:, 2] for points in foot.values()], 0) < PLANTED_HEIGHT
        runs = _runs(low & (np.linalg.norm(step, axis=1) * fps < PLANTED_SPEED))
        runs = [(first + half, last - half) for first, last in runs if last - first + 1 - 2 * half >= WINDOW * fps]
        contacts[name] = [run for run in runs if _stays(xyz, foot["toe"] - foot["heel"], *run)]
    return contacts


def _stays(xyz, heading, first, last):
    """Whether a point [T, 3] stays about where it is from frame `first` to `last`, and its foot's heading [T, 3] about as it is."""
    turned = angle_between(heading[first : last + 1] * (1, 1, 0), heading[first] * (1, 1, 0)).max()
    return _extent(xyz[first : last + 1, :2]) < PLANTED_WITHIN and turned < PIVOT


def _mean_over(xyz, half):
    """Points [T, 3] averaged over the frames up to `half` before and after."""
    return np.array([xyz[max(0, frame - half) : frame + half + 1].mean(0) for frame in range(len(xyz))])


def _lowest_over(heights, reach):
    """The least of heights [T] over the frames up to `reach` before and after."""
    return np.array([heights[max(0, frame - reach) : frame + reach + 1].min() for frame in range(len(heights))])


def _runs(mask):
    """(first, last) of each run of True in a mask [T]."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    return [(int(start), int(end) - 1) for start, end in zip(edges[::2], edges[1::2])]


def sliding(points, contacts):
    """m [contacts]: the farthest that two places of a planted point lie from each other on the ground, contact by contact."""
    slid = []
    for name, runs in contacts.items():
        for first, last in runs:
            slid.append(_extent(points[name][first : last + 1, :2]))
    return np.array(slid)


def _extent(places):
    """The farthest that two of places [T, 2] lie apart."""
    return np.linalg.norm(places[:, None] - places, axis=-1).max()


def penetration(played):
    """m [T]: how far the lowest point of a character's soles is below its ground."""
    return np.maximum(0.0, played.ground - np.min([xyz[:, 2] for xyz in sole_points(played).values()], 0))


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
