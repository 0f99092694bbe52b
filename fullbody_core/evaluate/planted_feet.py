"""Where feet stand in a capture, and whether a character's do: contacts, sliding, penetration.

Written apart from the solver. Numpy only; world axes (z up), metres.
"""

import numpy as np

from ..contract.skeleton import JOINT_INDEX, SIDES
from .angles import angle_between

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
