"""Motion capture on a body of another build, with feet that stand: the truth that a benchmark of captures needs.

A source's joint angles on other legs let standing feet slide and float. Here the way of the hips is sized and shifted first, so
that what stands stays where it is as far as one shift can do it, and then each foot is set down by its own leg. World frame: z up,
the floor at z = 0.
"""

import numpy as np
from scipy.linalg import solve
from scipy.ndimage import gaussian_filter1d

from ..contract.frames import matrix_to_axis_angle
from ..contract.skeleton import JOINT_INDEX, PARENTS, SIDES
from ..contract.swing_twist import fraction_of, reject, shortest_arc, transpose, unit
from ..ik.rest_skeleton import SOLE_PLACES

SCALES = np.linspace(0.75, 1.3, 23)
"""Sizes of the way of the hips that are tried."""

LANDED, LANDED_HEIGHT = 0.35, 0.07
"""m/s and m above the ground nearby: a point of a sole below both stands in the source."""

STANDS, STANDS_STILL = (0.015, 0.015), (0.03, 0.025)
"""m/s and m above the floor: a point of a sole stands in the result where it comes below the first and stays below the second."""

FEWEST = 3
"""Frames that a contact lasts."""

NEARBY = 0.7
"""s before and after a moment within which the lowest that a sole comes is the ground."""

HIPS, FEET = (4e-3, 4e-3, 1e-3, 0.3), (2e-4, 1e-3, 3e-3, 0.05)
"""Of shifts of the hips, and then of each foot: m that a standing point may move in a frame, that it may stand off the floor, by
which the shift may change pace in a frame, and of the shift, each as dear as the others."""

SLIPS = 0.05
"""m/s from which a point that seemed to stand counts little: a foot rolls over it."""

ROUNDS = 6
"""Of setting the feet down: what goes through the floor in one is held above it in the next, what slips counts less."""

LONGEST_REACH, LOWERED = 0.9995, 3
"""Of a leg's length; and how often the hips come down to feet that are farther."""

EASED, PIVOTS = 2.0, np.radians(20)
"""Frames over which a foot comes to lie level, and the turn from which a foot that stands is taken to swivel."""

REST_UP = np.array([0.0, 1, 0])


def plant(skeleton, rotations, trans, framerate):
    """(rotations [T, 52, 3, 3], pelvis [T, 3] m, contacts [T, 2, 3] bool): the motion on this skeleton, with feet that stand.

    rotations: of the source, parent-relative, the pelvis's to the world; trans [T, 3] m: the source's way through the world;
    contacts: left and right foot; heel, ball, toe.
    """
    feet = _Feet(skeleton, rotations)
    pelvis = _sized_way(feet, trans, framerate)
    soles = feet.soles + pelvis[:, None, None]
    standing = _landed(soles, framerate)
    pelvis = pelvis + _shift(soles, standing, framerate, *HIPS)
    level = feet.levelled(standing)
    shifts = level.shifts(pelvis, standing, framerate)
    for _ in range(LOWERED):
        # Where a leg would have to be longer than it is, the hips come down to it.
        short = gaussian_filter1d(level.beyond_reach(shifts).max(1), 0.1 * framerate, mode="nearest")
        pelvis = pelvis - 1.5 * short[:, None] * [0, 0, 1]
        shifts = level.shifts(pelvis, standing, framerate)
    rotations = level.moved(shifts)
    soles = _Feet(skeleton, rotations).soles + pelvis[:, None, None]
    return rotations, pelvis, find_standing(soles, framerate)


class _Feet:
    """The legs of a posed skeleton about its pelvis: soles [T, 2, 3, 3] m, and what turns and moves them."""

    def __init__(self, skeleton, rotations):
        self.skeleton, self.rotations = skeleton, rotations
        self.joints, self.turns = skeleton.pose(rotations)
        self.soles = skeleton.place(SOLE_PLACES, self.joints, self.turns).reshape(len(rotations), 2, 3, 3)

    def levelled(self, standing):
        """The same with soles that stand on two points, and toes that stand, level and turned as on average: standing [T, 2, 3]."""
        rotations = self.rotations.copy()
        for foot, side in enumerate(SIDES):
            knee, ankle, toes = (JOINT_INDEX[f"{side}_{name}"] for name in ("knee", "ankle", "foot"))
            sole = _held_level(self.turns[:, ankle], standing[:, foot, 0] & standing[:, foot, 1])
            tip = _held_level(sole @ rotations[:, toes], standing[:, foot, 1] & standing[:, foot, 2])
            rotations[:, ankle] = transpose(self.turns[:, knee]) @ sole
            rotations[:, toes] = transpose(sole) @ tip
        return _Feet(self.skeleton, rotations)

    def shifts(self, pelvis, standing, framerate):
        """Shifts [T, 2, 3] m of the feet of a body with its pelvis [T, 3] m there, by which they stand where they are to."""
        soles = self.soles + pelvis[:, None, None]
        feet = range(len(SIDES))
        return np.stack([_shift(soles[:, [foot]], standing[:, [foot]], framerate, *FEET) for foot in feet], 1)

    def beyond_reach(self, shifts):
        """m [T, 2] by which ankles moved by shifts [T, 2, 3] m are farther from their hips than legs are long."""
        missing = np.zeros(shifts.shape[:2])
        for foot, side in enumerate(SIDES):
            hip, knee, ankle = (JOINT_INDEX[f"{side}_{name}"] for name in ("hip", "knee", "ankle"))
            lengths = np.linalg.norm(self.joints[:, [knee, ankle]] - self.joints[:, [hip, knee]], axis=-1).sum(1)
            way = np.linalg.norm(self.joints[:, ankle] + shifts[:, foot] - self.joints[:, hip], axis=-1)
            missing[:, foot] = np.maximum(way - LONGEST_REACH * lengths, 0)
        return missing

    def moved(self, shifts):
        """Rotations [T, 52, 3, 3] whose ankles are moved by shifts [T, 2, 3] m; the knees keep their side, the feet their turns."""
        rotations = self.rotations.copy()
        for foot, side in enumerate(SIDES):
            hip, knee, ankle = (JOINT_INDEX[f"{side}_{name}"] for name in ("hip", "knee", "ankle"))
            start, bend, end = (self.joints[:, joint] for joint in (hip, knee, ankle))
            thigh, shin = bend - start, end - bend
            new_thigh, new_shin = _two_bones(thigh, shin, end + shifts[:, foot] - start)
            upper = shortest_arc(thigh, new_thigh) @ self.turns[:, hip]
            lower = shortest_arc(shin, new_shin) @ self.turns[:, knee]
            rotations[:, hip] = transpose(self.turns[:, PARENTS[hip]]) @ upper
            rotations[:, knee] = transpose(upper) @ lower
            rotations[:, ankle] = transpose(lower) @ self.turns[:, ankle]
        return rotations


def _two_bones(thigh, shin, target):
    """Thigh and shin [T, 3] m that end at target [T, 3] m from the hip, in the plane in which the leg is bent already."""
    upper, lower = np.linalg.norm(thigh, axis=-1, keepdims=True), np.linalg.norm(shin, axis=-1, keepdims=True)
    way = np.linalg.norm(target, axis=-1, keepdims=True)
    reach = np.clip(way, np.abs(upper - lower) + 1e-3, LONGEST_REACH * (upper + lower))
    along, end = unit(target), unit(target) * reach
    share = (upper**2 + reach**2 - lower**2) / (2 * reach)
    aside = np.sqrt(np.maximum(upper**2 - share**2, 0))
    knee = share * along + aside * unit(reject(thigh, along))
    return knee, end - knee


def _held_level(turns, standing):
    """World turns [T, 3, 3] of soles: level, and as on average over each run of standing [T], with soft ways there and back."""
    runs = [(first, end) for _, first, end in _runs(standing[:, None])]
    up = np.array([0.0, 0, 1])
    for first, end in runs:
        held = turns[first:end]
        held = shortest_arc(held @ REST_UP, np.broadcast_to(up, (len(held), 3))) @ held
        left, _, right = np.linalg.svd(held.sum(0))
        share = np.zeros(len(turns))
        share[first:end] = 1
        share = np.clip(1.3 * gaussian_filter1d(share, EASED, mode="nearest"), 0, 1)
        change = (left * [1, 1, np.linalg.det(left @ right)] @ right) @ transpose(turns)
        still = np.linalg.norm(matrix_to_axis_angle(transpose(held[0]) @ held), axis=-1).max() < PIVOTS
        if not still:
            change = shortest_arc(turns @ REST_UP, np.broadcast_to(up, (len(turns), 3)))
        turns = fraction_of(change, share) @ turns
    return turns


def _sized_way(feet, trans, framerate):
    """Way of the pelvis [T, 3] m: the source's, of the size with which feet slide least, over a floor at z = 0."""

    def slide(scale):
        soles = feet.soles + scale * trans[:, None, None]
        speed = np.linalg.norm(np.diff(soles[..., :2], axis=0), axis=-1) * framerate
        return np.minimum(speed.min((1, 2)), 0.5).mean()

    way = min(SCALES, key=lambda scale: slide(scale) + 0.02 * abs(scale - 1)) * (trans - trans[:1])
    lowest = (feet.soles + way[:, None, None])[..., 2].min((1, 2))
    return way - [0, 0, np.percentile(lowest, 20)]


def _landed(soles, framerate):
    """[T, 2, 3] bool: points of soles [T, 2, 3, 3] m that stand, in a source whose ground drifts."""
    smooth = gaussian_filter1d(soles, 0.03 * framerate, axis=0, mode="nearest")
    reach = max(1, round(NEARBY * framerate))
    padded = np.pad(smooth[..., 2].min((1, 2)), reach, mode="edge")
    ground = np.percentile(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1), 10, axis=-1)
    low = smooth[..., 2] - ground[:, None, None] < LANDED_HEIGHT
    slow = _speeds(smooth, framerate) < LANDED
    return _lasting(low & slow)


def find_standing(soles, framerate):
    """[T, 2, 3] bool: points of soles [T, 2, 3, 3] m of a clean motion that stand on the floor at z = 0."""
    speed, height = _speeds(soles, framerate), np.abs(soles[..., 2])
    comes, stays = ((speed < fast) & (height < high) for fast, high in (STANDS, STANDS_STILL))
    flat, entered = stays.reshape(len(stays), -1), comes.reshape(len(stays), -1)
    kept = np.zeros_like(flat)
    for point, first, end in _runs(flat):
        kept[first:end, point] = entered[first:end, point].any()
    kept = kept.reshape(stays.shape)
    # A point that leaps from one place of rest to the next stands in the one frame only.
    leaps = np.linalg.norm(np.diff(soles, axis=0), axis=-1) * framerate > STANDS_STILL[0]
    kept[1:] &= ~(leaps & kept[:-1])
    return _without_short(kept, True)


def _speeds(points, framerate):
    """Speed [T, ...] m/s since the frame before or until the one after, the slower: what has just landed is at rest."""
    steps = np.linalg.norm(np.diff(points, axis=0), axis=-1) * framerate
    return np.minimum(np.concatenate([steps[:1], steps]), np.concatenate([steps, steps[-1:]]))


def _runs(mask):
    """(column, first, end) of the runs of True along axis 0 of a mask [T, C]; end is one after the last."""
    edges = np.diff(np.pad(mask, ((1, 1), (0, 0))).astype(np.int8), axis=0).T
    return list(zip(*np.nonzero(edges == 1), np.nonzero(edges == -1)[1]))


def _lasting(mask):
    """A mask [T, ...] with gaps shorter than FEWEST frames closed, and then runs shorter than those left out."""
    return _without_short(_without_short(mask, False), True)


def _without_short(mask, value):
    """A mask [T, ...] in which runs of a value shorter than FEWEST frames are not so; gaps at either end stay."""
    flat = mask.reshape(len(mask), -1).copy()
    for column, first, end in _runs(flat == value):
        inside = value or (first > 0 and end < len(flat))
        if inside and end - first < FEWEST:
            flat[first:end, column] = not value
    return flat.reshape(mask.shape)


def _shift(soles, standing, framerate, slip, off, bend, far):
    """Shift [T, 3] m that holds the standing points of soles [T, N, 3, 3] m in place, on the floor, and none below it.

    slip, off, bend, far: as in `HIPS`. A least-squares problem for each axis, in which points that slip weigh less and less
    (Geman and McClure's weights).
    """
    count = len(soles)
    points, stands = soles.reshape(count, -1, 3), standing.reshape(count, -1)
    step, pace = np.diff(np.eye(count), axis=0), np.diff(np.eye(count), 2, axis=0)
    stiff = pace.T @ pace / bend**2 + np.eye(count) / far**2
    moved, shift = np.diff(points, axis=0), np.zeros((count, 3))
    held, down = (stands[1:] & stands[:-1]) / slip**2, stands.astype(float)
    for _ in range(ROUNDS):
        speed = np.linalg.norm(moved + np.diff(shift, axis=0)[:, None], axis=-1) * framerate
        firm = held / (1 + (speed / SLIPS) ** 2) ** 2
        matrix = stiff + step.T @ (firm.sum(1)[:, None] * step)
        right = -step.T @ (firm[..., None] * moved).sum(1)
        shift[:, :2] = solve(matrix, right[:, :2], assume_a="pos")
        level = down / off**2
        shift[:, 2] = solve(matrix + np.diag(level.sum(1)), right[:, 2] - (level * points[..., 2]).sum(1), assume_a="pos")
        down = np.maximum(down, points[..., 2] + shift[:, 2:] < -1e-3)
    return shift


def posed_soles(skeleton, rotations, pelvis):
    """The sole points [T, 2, 3, 3] m of a motion: left and right foot; heel, ball, toe."""
    joints, turns = skeleton.pose(rotations)
    return skeleton.place(SOLE_PLACES, joints, turns).reshape(len(rotations), 2, 3, 3) + pelvis[:, None, None]
