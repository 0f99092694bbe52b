"""How far a captured motion is from the truth, or from what nobody does: places, paths, feet, shaking, speed. Numpy only.

Points are [T, K, 3] m over T frames at times [T] s; `shown` [T, K] says which of them count. Worlds have z up and their floor at
z = 0. What has nothing to say is NaN.
"""

import numpy as np

from ..contract.swing_twist import transpose

STILL, RESTS, STILL_FRAMES = 0.1, 0.15, 9
"""m/s of a point of the truth about the hips, and of a whole person by the median of their points; frames that they are so slow
for."""

FAST_SHARE = 0.05
"""Of a point's frames, the fastest: there its peak speed is measured."""

FAST = 0.5
"""m/s that a point must reach, or it has no peak speed to speak of."""

LARGEST_LAG = 4
"""Frames up to which a motion is looked for before and after its time."""


def procrustes(source, target, weights, with_scale=True):
    """The similarities that bring points onto others: Umeyama's (1991) least squares.

    source, target [..., K, 3]; weights [..., K]. Returns scale [...], turn [..., 3, 3] and shift [..., 3]: target is about
    scale turn source + shift.
    """
    share = weights / np.maximum(weights.sum(-1, keepdims=True), 1e-12)
    middle, other = ((share[..., None] * points).sum(-2) for points in (source, target))
    about, about_other = source - middle[..., None, :], target - other[..., None, :]
    left, sizes, right = np.linalg.svd(transpose(share[..., None] * about_other) @ about)
    sign = np.ones(sizes.shape)
    sign[..., 2] = np.sign(np.linalg.det(left @ right))
    turn = left * sign[..., None, :] @ right
    spread = np.maximum((share[..., None] * about**2).sum((-2, -1)), 1e-12)
    scale = (sizes * sign).sum(-1) / spread if with_scale else np.ones(sizes.shape[:-1])
    return scale, turn, other - scale[..., None] * (turn @ middle[..., None])[..., 0]


def moved(points, scale, turn, shift):
    """Points [..., K, 3] as a similarity of `procrustes` brings them."""
    return scale[..., None, None] * (points @ transpose(turn)) + shift[..., None, :]


def mean_error(points, truth, shown):
    """Mean distance in m over the points that are shown."""
    return _mean(np.linalg.norm(points - truth, axis=-1)[shown])


def aligned_error(points, truth, shown, fewest=4):
    """PA-MPJPE: the mean distance in m when each frame is first moved, turned and sized onto the truth."""
    shown = shown & (shown.sum(-1, keepdims=True) >= fewest)
    return mean_error(moved(points, *procrustes(points, truth, shown.astype(float))), truth, shown)


def path_errors(points, truth, shown):
    """World errors in m: (with the first frame brought onto the truth by one rigid motion, and with all frames by one).

    The first says how far a path drifts, W-MPJPE in the literature; the second, WA-MPJPE, how far its shape is off.
    """
    frames = np.flatnonzero(shown.sum(-1) >= 4)
    if not len(frames):
        return float("nan"), float("nan")
    first = procrustes(points[frames[0]], truth[frames[0]], shown[frames[0]].astype(float), with_scale=False)
    flat = [values.reshape(-1, 3) for values in (points, truth)]
    whole = procrustes(*flat, shown.reshape(-1).astype(float), with_scale=False)
    return tuple(mean_error(moved(points, *motion), truth, shown) for motion in (first, whole))


def accelerations(points, times):
    """Accelerations [T - 2, K, 3] m/s^2 at the inner frames."""
    steps = np.maximum(np.diff(times), 1e-6)[:, None, None]
    return np.diff(np.diff(points, axis=0) / steps, axis=0) / ((steps[1:] + steps[:-1]) / 2)


def acceleration_error(points, truth, shown, times):
    """Mean distance in m/s^2 between accelerations."""
    difference = accelerations(points, times) - accelerations(truth, times)
    return _mean(np.linalg.norm(difference, axis=-1)[_three(shown)])


def still_shaking(points, truth, shown, times, resting):
    """Jitter: mean acceleration in m/s^2, less the truth's own, of points whose truth is still in somebody who rests [T]."""
    difference = accelerations(points, times) - accelerations(truth, times)
    still = _still(truth, times) & resting[1:-1, None]
    return _mean(np.linalg.norm(difference, axis=-1)[_three(shown) & still])


def resting(world, times):
    """[T] bool: somebody, by the median of the true points [T, K, 3] m in the world, is slower than RESTS for STILL_FRAMES."""
    speed = np.median(np.linalg.norm(np.diff(world, axis=0), axis=-1), axis=-1) / np.diff(times)
    slow = _lasting(speed[:, None] < RESTS)[:, 0]
    return np.concatenate([slow[:1], slow]) & np.concatenate([slow, slow[-1:]])


def _still(truth, times):
    """[T - 2, K] bool: inner frames of the stretches in which a point is slower than STILL for STILL_FRAMES."""
    still = _lasting(np.linalg.norm(np.diff(truth, axis=0), axis=-1) < STILL * np.diff(times)[:, None])
    return still[1:] & still[:-1]


def _lasting(mask):
    """The runs of True along axis 0 of a mask [N, K] that last for STILL_FRAMES."""
    kept = np.zeros_like(mask)
    if len(mask) >= STILL_FRAMES:
        whole = np.lib.stride_tricks.sliding_window_view(mask, STILL_FRAMES, axis=0).all(-1)
        for late in range(STILL_FRAMES):
            kept[late : late + len(whole)] |= whole
    return kept


def _three(shown):
    """[T - 2, K] bool: shown in a frame and both its neighbours."""
    return shown[2:] & shown[1:-1] & shown[:-2]


def _central_velocities(points, times):
    return (points[2:] - points[:-2]) / np.maximum(times[2:] - times[:-2], 1e-6)[:, None, None]


def peak_speeds_kept(points, truth, shown, times):
    """How much of fast motions is kept, over the points that reach FAST at all: (share of the truth's 95 % speed that the points
    reach, share of its velocity that they have at the same time in the same direction).

    Shaking adds a little to the first, nothing to the second, on average; what comes late or goes elsewhere takes from the second.
    """
    velocity, true = _central_velocities(points, times), _central_velocities(truth, times)
    own, speed = (np.where(_three(shown), np.linalg.norm(each, axis=-1), np.nan) for each in (velocity, true))
    known = np.isfinite(speed).any(0)
    if not known.any():
        return float("nan"), float("nan")
    own, speed, velocity, true = own[:, known], speed[:, known], velocity[:, known], true[:, known]
    peaks, own_peaks = (np.nanquantile(each, 1 - FAST_SHARE, axis=0) for each in (speed, own))
    quick = peaks > FAST
    fast = (speed >= peaks) & quick
    if not fast.any():
        return float("nan"), float("nan")
    along = (velocity * true).sum(-1)[fast].sum() / (true**2).sum(-1)[fast].sum()
    return float(own_peaks[quick].sum() / peaks[quick].sum()), float(along)


def lag(points, truth, shown, times):
    """How much later in s than the truth points move, from where velocities fit best; to a fraction of a frame."""
    velocity, true = _central_velocities(points, times), _central_velocities(truth, times)
    usable, count = _three(shown).all(1), len(velocity)
    if count <= 4 * LARGEST_LAG or not usable.any():
        return float("nan")
    misfit = []
    for late in range(-LARGEST_LAG, LARGEST_LAG + 1):
        there = np.arange(LARGEST_LAG, count - LARGEST_LAG)
        both = there[usable[there] & usable[there + late]]
        misfit.append(_mean(((velocity[both + late] - true[both]) ** 2).sum(-1)))
    best = int(np.nanargmin(misfit)) if np.isfinite(misfit).any() else -1
    if not 0 < best < 2 * LARGEST_LAG:
        return float("nan") if best < 0 else (best - LARGEST_LAG) * float(np.median(np.diff(times)))
    before, at, after = misfit[best - 1 : best + 2]
    bend = before - 2 * at + after
    finer = 0.5 * (before - after) / bend if bend > 0 else 0.0
    return (best - LARGEST_LAG + finer) * float(np.median(np.diff(times)))


def sliding_speeds(soles, standing, times):
    """Speeds [N] in m/s of points of soles [T, ..., 3] from frame to frame where they stand in both: standing [T, ...]."""
    speed = np.linalg.norm(np.diff(soles, axis=0), axis=-1) / np.diff(times).reshape(-1, *[1] * (soles.ndim - 2))
    return speed[standing[1:] & standing[:-1]]


def penetrations(soles, shown):
    """m [N] below the floor of the lowest point of soles [T, 2, 3, 3] of each foot and frame that is shown [T, 2]; 0 above it."""
    return np.maximum(-soles[..., 2].min(-1), 0)[shown]


def contact_scores(contacts, truth, shown):
    """(precision, recall, F1) of contacts [T, 2, 3] where feet are shown [T, 2]."""
    shown = np.broadcast_to(shown[..., None], truth.shape)
    hits, found, true = ((mask & shown).sum() for mask in (contacts & truth, contacts, truth))
    if not true and not found:
        return (float("nan"),) * 3
    precision = hits / found if found else float("nan")
    recall = hits / true if true else float("nan")
    return float(precision), float(recall), float(2 * hits / (found + true))


def angle_of(a, b):
    """Degrees between vectors [3]."""
    cosine = a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12)
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _mean(values):
    return float(np.mean(values)) if np.size(values) else float("nan")
