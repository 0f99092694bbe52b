"""Which points of the soles stand in a captured clip, from how they move, how high they are, and what a network says of it.

One camera sees sideways motion sharply and distance dimly: while a foot stands, its whole person seems to come and go. So speeds
are measured against those points that seem to stand, round by round, and along the line of sight they count less. Every piece of
evidence becomes a score, the logarithm of how much likelier it is of a point that stands; the likeliest sequence of standing and
moving is found for each point (Viterbi 1967), in which to change costs something, so that nothing flickers. That a network says
of heel and toe how likely each stands, and that both kinds of evidence are used, is from Rempe et al. 2020.
"""

from dataclasses import dataclass

import numpy as np

from ..contract.contacts import FLOOR_NEARBY, SHORTEST, USUAL_HIPS, closed, floor_nearby, longer, smoothed
from ..contract.skeleton import JOINT_INDEX, SIDES
from ..contract.swing_twist import unit
from ..ik.rest_skeleton import SOLE_PARTS, SOLE_PLACES


@dataclass(frozen=True)
class ContactSettings:
    """What tells a standing point from a moving one, for a person of usual size.

    smoothed: s, standard deviation of the bell that places are smoothed with before their speed is taken
    speed, height: m/s and m above the floor nearby at which a point is as likely to stand as not
    speed_score, height_score: score for a speed, or a height, of half or twice that; limit: the most that speed counts,
    or a network, and twice what the height does, which hangs on which way is up
    hint_share: how much of a network's own score counts
    change: score that it costs to begin or to end a contact
    first_share, depth_share: how much of a speed along the line of sight counts at first, and once it is known how the whole
    person drifts along it while a foot stands; drift_share: what is left of that drift
    """

    smoothed: float = 0.015
    speed: float = 0.21
    height: float = 0.03
    speed_score: float = 6.0
    height_score: float = 2.5
    limit: float = 3.3
    hint_share: float = 1.0
    change: float = 3.7
    first_share: float = 0.1
    depth_share: float = 0.45
    drift_share: float = 0.05


def sole_points(skeleton, joints, orientations, pelvis):
    """Sole points [T, 2, 3, 3] m of a posed `RestSkeleton`: left and right foot; heel, ball, toe; x y z.

    joints [T, 52, 3] m about the pelvis and orientations [T, 52, 3, 3] as from `RestSkeleton.pose`; pelvis [T, 3] m.
    """
    points = skeleton.place(SOLE_PLACES, joints, orientations) + pelvis[:, None]
    return points.reshape(len(points), len(SIDES), len(SOLE_PARTS), 3)


def person_size(skeleton):
    """The person's size of a usual one's, by how high the hip joints are above the soles at rest."""
    hips = skeleton.joints[[JOINT_INDEX[f"{side}_hip"] for side in SIDES], 1].mean()
    return float((hips - skeleton.at_rest(SOLE_PLACES)[:, 1].min()) / USUAL_HIPS)


def find_contacts(soles, timestamps, up, floor=None, hint=None, seen=None, size=1.0, settings=ContactSettings()):
    """[T, 2, 3] bool: which sole points stand; left and right foot; heel, ball, toe.

    soles [T, 2, 3, 3] m, the camera at the origin; timestamps [T] s; up [3]; floor: m along up, or None to judge heights by the
    floor nearby in time alone; hint [T, 2, 2]: a network's probabilities that heel and toe stand, or None; seen [T] or [T, 2]:
    how far the feet are to be believed, 0..1 (0 where nobody was captured: nothing stands there); size: `person_size`.
    """
    count = len(soles)
    if count < 3:
        return np.zeros((count, len(SIDES), len(SOLE_PARTS)), bool)
    step = float(np.median(np.diff(timestamps)))
    seen = np.ones((count, 1)) if seen is None else np.asarray(seen, float).reshape(count, -1)
    known = np.broadcast_to((seen > 0)[..., None], soles.shape[:3])
    steady = smoothed(soles / size, settings.smoothed / step)
    evidence = seen[..., None] * _height_score(steady @ up, None if floor is None else floor / size, step, settings)
    if hint is not None:
        evidence = evidence + settings.hint_share * _hint_score(hint, settings.limit)
    standing = None
    for _ in range(ROUNDS):
        speed = _pace(steady, timestamps, standing, settings)
        score = np.where(known, evidence + seen[..., None] * _speed_score(speed, settings), -settings.limit)
        standing = _likeliest(score.reshape(count, -1), settings.change / step / RATE).reshape(score.shape) & known
    return longer(closed(standing, SHORTEST / step), SHORTEST / step) & known


RATE = 30.0
"""Hz at which the scores of a frame are meant: those of neighbours at a higher rate say no more together."""

ROUNDS = 3
"""Of finding contacts, and from these how the whole person drifts along the line of sight."""


def _speed_score(speed, settings):
    score = -settings.speed_score * np.log2((speed + 0.02) / (settings.speed + 0.02))
    return np.clip(score, -settings.limit, settings.limit)


def _height_score(height, floor, step, settings):
    """Score [T, 2, 3] of heights [T, 2, 3] above the floor nearby in time, or above the floor where that is higher."""
    nearby = floor_nearby(height.min((1, 2)), FLOOR_NEARBY / step)
    if floor is not None:
        nearby = np.maximum(nearby, floor)
    above = np.maximum(height - nearby[:, None, None], 0)
    score = -settings.height_score * np.log2((above + 0.02) / (settings.height + 0.02))
    return np.clip(score, -settings.limit / 2, settings.limit / 2)


def _pace(points, timestamps, standing, settings):
    """Speed [T, 2, 3] of points [T, 2, 3, 3], the slower of before and after each frame, with less of it along the line of sight.

    Where points stand [T, 2, 3] (None: not yet known) what they seem to move along it is an error in how far off the person is,
    in which all of their points move from the camera or to it by one share of their distance.
    """
    steps, places = np.diff(points, axis=0), (points[1:] + points[:-1]) / 2
    share = settings.first_share
    if standing is not None:
        share = settings.depth_share
        steps = steps - (1 - settings.drift_share) * _drift(steps, places, standing)[:, None, None, None] * places
    sight = unit(places)
    steps = steps - (1 - share) * np.sum(steps * sight, -1, keepdims=True) * sight
    speed = np.linalg.norm(steps, axis=-1) / np.diff(timestamps)[:, None, None]
    return np.minimum(np.concatenate([speed[:1], speed]), np.concatenate([speed, speed[-1:]]))


def _drift(steps, places, standing):
    """Share [T - 1] of their distance by which points that stand move off in each step, evenly between where any does."""
    held = (standing[1:] & standing[:-1]).astype(float)
    share = (held * (steps * places).sum(-1)).sum((1, 2)) / np.maximum((held * (places**2).sum(-1)).sum((1, 2)), 1e-9)
    frames, some = np.arange(len(share)), held.any((1, 2))
    return np.interp(frames, frames[some], share[some]) if some.any() else np.zeros(len(share))


def _hint_score(hint, limit):
    """Score [T, 2, 3] of probabilities [T, 2, 2] for heel and toe; the ball stands where either does."""
    heel, toe = np.moveaxis(np.clip(np.asarray(hint, float), 1e-3, 1 - 1e-3), -1, 0)
    chance = np.stack([heel, np.maximum(heel, toe), toe], -1)
    return np.clip(np.log(chance / (1 - chance)), -limit, limit)


def _likeliest(score, change):
    """The likeliest [T, C] bool of columns that score [T, C] where True, and pay `change` wherever they change (Viterbi 1967)."""
    best = np.stack([np.zeros_like(score), score], -1)
    came = np.zeros(best.shape, bool)
    for frame in range(1, len(score)):
        stay, turn = best[frame - 1], best[frame - 1][..., ::-1] - change
        came[frame] = turn > stay
        best[frame] += np.maximum(stay, turn)
    state = np.empty(score.shape, bool)
    state[-1] = best[-1, :, 1] > best[-1, :, 0]
    columns = np.arange(score.shape[1])
    for frame in range(len(score) - 1, 0, -1):
        state[frame - 1] = state[frame] ^ came[frame, columns, state[frame].astype(int)]
    return state
