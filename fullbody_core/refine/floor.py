"""Which way is up in a clip, and where the floor is: from people who stand, planted feet, the camera, and a network's answer."""

from dataclasses import dataclass

import numpy as np

from ..contract.contacts import FLOOR_NEARBY, floor_nearby, levelled, runs
from ..contract.skeleton import BODY_JOINT_NAMES, BODY_JOINTS, JOINT_INDEX, SIDES
from ..contract.swing_twist import perpendicular, unit
from ..ground import upright

CAMERA_UP = np.array([0.0, -1.0, 0.0])
"""Up in the axes of a level camera."""

ROLL, PITCH = np.radians([2.0, 15.0])
"""rad that a camera usually leans to its side, and looks down or up."""

UPRIGHT, BENT, TRUNK = np.radians([[6.0, 2.2], [12.0, 5.0], [12.0, 8.0]])
"""rad that people lean in a frame, and on average over a clip: who stands upright, with the centre of mass over the feet; who does
not, likewise; and the trunk of who is not seen from the hips down. Measured on motion capture."""

MASSES = {
    "head": 0.081, "spine3": 0.2, "spine2": 0.15, "spine1": 0.147, "shoulder": 0.014, "elbow": 0.022, "wrist": 0.014,
    "hip": 0.057, "knee": 0.069, "ankle": 0.027, "foot": 0.0075,
}  # fmt: skip
"""Shares of a body's mass by joint, each side's for itself; from the segments' masses (Winter 2009, Table 4.1)."""

_MASSES = np.array([MASSES.get(name.split("_")[-1], 0.0) for name in BODY_JOINT_NAMES])
_MASSES /= _MASSES.sum()

ALIKE = 15
"""Frames that say no more than one."""

_LOOSE = (32, 16, 8, 4, 2, 1, 1, 1)
"""Times that feet may be farther from one plane than usual before they count little, round by round: at first nobody knows how it
lies (graduated non-convexity, Blake and Zisserman 1987)."""


@dataclass(frozen=True)
class Vertical:
    """up [3]: unit; spread: rad, the standard deviation of its error by what was known of it."""

    up: np.ndarray
    spread: float


def find_vertical(joints, feet_seen, soles, contacts, hint=None, hint_spread=np.inf):
    """The `Vertical` of a clip in the reference frame, by least squares over what says something of it.

    joints [T, 52, 3] m; feet_seen [T] bool: frames in which both feet are; soles [T, 2, 3, 3] m and contacts [T, 2, 3] bool: sole
    points that stand lie in one level plane, as far as they do; hint [3] and its spread rad: a network's answer. People keep
    their weight over their feet, and a camera has little roll.
    """
    up = CAMERA_UP if hint is None else _unit(np.asarray(hint, float))
    leans, stands = _leans(joints, np.asarray(feet_seen, bool)), _stands(soles, contacts)
    for loose in _LOOSE:
        found = [_from_camera(up), _from_stands(up, stands, loose), *(_from_lean(up, *lean) for lean in leans)]
        if hint is not None and np.isfinite(hint_spread):
            found.append(_from_hint(up, hint, hint_spread))
        across = np.stack([perpendicular(up), np.cross(up, perpendicular(up))])
        information = across @ sum(some for some, _ in found) @ across.T
        up = _unit(up + np.linalg.solve(information, across @ sum(pull for _, pull in found)) @ across)
    return Vertical(up, float(np.sqrt(np.trace(np.linalg.inv(information)) / 2)))


def _unit(vector):
    return vector / np.linalg.norm(vector)


def _from_hint(up, hint, spread):
    """Information [3, 3] and pull [3] of a network's answer."""
    variance = max(spread, 1e-3) ** 2
    return np.eye(3) / variance, (_unit(np.asarray(hint, float)) - up) / variance


def _from_camera(up):
    """Information [3, 3] about up, and its pull [3] on it: a camera without roll, more or less level."""
    information = np.diag([1 / ROLL**2, 0, 1 / PITCH**2])
    return information, -information @ up


def _leans(joints, feet_seen):
    """[(directions [N, 3], spreads)]: up by whoever keeps the weight over the feet, in frames of each kind that there is."""
    feet = joints[:, [JOINT_INDEX[f"{side}_{name}"] for side in SIDES for name in ("ankle", "foot")]].mean(1)
    balance = unit(np.einsum("j,tjc->tc", _MASSES, joints[:, BODY_JOINTS]) - feet)
    straight = upright(joints)
    kinds = [(balance[feet_seen & straight], UPRIGHT), (balance[feet_seen & ~straight], BENT)]
    if not feet_seen.any():
        hips = joints[:, [JOINT_INDEX[f"{side}_hip"] for side in SIDES]].mean(1)
        kinds = [(unit(joints[:, JOINT_INDEX["neck"]] - hips), TRUNK)]
    return [kind for kind in kinds if len(kind[0])]


def _from_lean(up, directions, spreads):
    """Information [3, 3] and pull [3] of directions [N, 3] that should be up; a few that lean far count little."""
    frame, clip = spreads
    weight = 1 / (1 + np.sum((directions - up) ** 2, -1) / (2 * frame) ** 2) ** 2
    variance = clip**2 + frame**2 / max(weight.sum() / ALIKE, 0.1)
    return np.eye(3) / variance, (_unit(weight @ directions) - up) / variance


@dataclass(frozen=True)
class Stand:
    """One stretch of time in which a foot stands: where [3] m, the mean of its lowest points, and for how many frames."""

    place: np.ndarray
    frames: int
    foot: int
    first: int
    end: int


def _stands(soles, contacts):
    """The `Stand`s of sole points [T, 2, 3, 3] m that stand [T, 2, 3]."""
    found = []
    for foot, first, end in zip(*runs(contacts.any(-1))):
        where = contacts[first:end, foot]
        found.append(Stand(soles[first:end, foot][where].mean(0), int(end - first), int(foot), int(first), int(end)))
    return found


APART, DEPTH_APART = 0.01, 0.016
"""m that places of standing feet are off, sideways and, per metre of distance, along the line of sight."""


def _from_stands(up, stands, loose):
    """Information [3, 3] and pull [3] of stands that lie in one level plane; a few on others of their own count little."""
    if len(stands) < 2:
        return np.zeros((3, 3)), np.zeros(3)
    places, frames = np.stack([stand.place for stand in stands]), np.array([stand.frames for stand in stands], float)
    distance = np.linalg.norm(places, axis=-1)
    sight = places / distance[:, None]
    spread = np.hypot(APART, DEPTH_APART * distance * np.abs(sight @ up))
    sure = np.minimum(frames / 5, 1) / spread**2
    weight = sure
    for _ in range(3):
        level = weight @ (places @ up) / weight.sum()
        weight = sure / (1 + ((places @ up - level) / (2 * loose * spread)) ** 2) ** 2
    about = places - weight @ places / weight.sum()
    information = about.T @ (weight[:, None] * about)
    return information, -information @ up


def find_floor(soles, contacts, up):
    """Height m of the floor along up [3]: the one on which most of the time is stood.

    soles [T, 2, 3, 3] m, contacts [T, 2, 3] bool. Where nothing ever stands it is the lowest height of the soles but for a
    twentieth of the frames.
    """
    stands = _stands(soles, contacts)
    if not stands:
        return float(np.percentile((soles @ up).min((1, 2)), 5))
    return _densest(np.array([_level(soles, contacts, stand, up) for stand in stands]), [stand.frames for stand in stands])


def _level(soles, contacts, stand, up):
    """Height m that a `Stand` is on: the middle over time of its lowest standing point."""
    heights = np.where(
        contacts[stand.first : stand.end, stand.foot], soles[stand.first : stand.end, stand.foot] @ up, np.inf
    )
    return np.median(heights.min(-1))


FLOOR_SPREAD = 0.04
"""m within which levels are of one floor."""


MOST_STARTS = 64


def _densest(heights, weights):
    """The height around which most of the weight lies, found from all over by mean shift (Comaniciu and Meer 2002)."""
    weights = np.asarray(weights, float)
    at = np.unique(np.quantile(heights, np.linspace(0, 1, MOST_STARTS), method="nearest"))
    for _ in range(30):
        near = weights * np.exp(-0.5 * ((at[:, None] - heights) / FLOOR_SPREAD) ** 2)
        at = near @ heights / near.sum(1)
    return float(at[np.argmax(near.sum(1))])


STEP_UP, STEP_DOWN = (0.08, 0.14), (0.2, 0.35)
"""m; feet that stand less than the first from the floor stand on it, more than the second on something of that height. Where the
floor was found there is seldom something lower, and what looks so is an error in how far off the person is."""


def stand_levels(soles, contacts, up, floor):
    """Heights [T, 2] m above the floor of what each foot stands on, one for each stretch of standing; 0 elsewhere.

    soles [T, 2, 3, 3] m, contacts [T, 2, 3] bool, up [3], floor m. Stairs, boxes and other people keep their own levels.
    """
    levels = np.zeros(contacts.shape[:2])
    for stand in _stands(soles, contacts):
        height = _level(soles, contacts, stand, up) - floor
        levels[stand.first : stand.end, stand.foot] = levelled(height, *(STEP_UP if height > 0 else STEP_DOWN))
    return levels


def lower_grounds(soles, timestamps, up, floor):
    """Heights [T] m above the floor that no sole goes below: 0, or less where for a while the whole person is farther below.

    soles [T, 2, 3, 3] m, timestamps [T] s, up [3], floor m. Who jumps off what the floor was found on is not held up there.
    """
    if len(timestamps) < 3:
        return np.zeros(len(timestamps))
    step = float(np.median(np.diff(timestamps)))
    lowest = (soles @ up).min((1, 2)) - floor
    nearby = np.minimum(floor_nearby(lowest, FLOOR_NEARBY / step), lowest + STEP_DOWN[0])
    return levelled(np.minimum(nearby, 0), *STEP_DOWN)
