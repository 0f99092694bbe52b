"""Estimates `detector_noise`'s model of a part from pairs of what a detector answered and what is true: `fit_part` splits the
answers into size, tilt, offset, mean and residual, and `estimate_part` makes of these the `PartNoise` that draws their like.
Both want pairs without gross errors, which `is_swapped` and `is_turned` help to find.
"""

from dataclasses import dataclass, fields

import numpy as np

from ..contract.frames import MIRROR, axis_angle_to_matrix, matrix_to_axis_angle
from ..contract.swing_twist import transpose
from .detector_noise import PartNoise, bone_lengths, marked_points

BODY_RANK, HAND_RANK = 32, 24

FIT_ROUNDS = 12

OFFSET_RIDGE, MEAN_RIDGE = 1.0, 4.0
"""In frames. Where nobody turned round, offset and mean cannot be told apart; then the offset is to have it."""

UNSEEN_WEIGHT = 0.1
"""Weight in the alignment of a point that the detector is not sure of."""

FEWEST_UNSEEN = 30
"""Frames below which a point's own `unseen_gain` is not trusted and that of all points is taken."""


@dataclass
class PartPairs:
    """N frames in which a part was found, in camera axes.

    detected, truth [N, K, 3] m, roots at zero; carriers [N, K, 3, 3]: orientations of the carrying joints; seen [N, K] bool:
    the detector is sure of the point; burst [N] and frame [N]: frames of one burst are 1/30 s apart where `frame` is by one.
    """

    detected: np.ndarray
    truth: np.ndarray
    carriers: np.ndarray
    seen: np.ndarray
    burst: np.ndarray
    frame: np.ndarray

    def __len__(self):
        return len(self.truth)

    def take(self, chosen):
        """The chosen frames (bool [N] or indices)."""
        return PartPairs(*(getattr(self, item.name)[chosen] for item in fields(self)))

    def mirrored(self, mirror):
        """The same frames as a looking glass shows them, as bursts of their own. mirror [K] as in `Part`."""
        return PartPairs(
            self.detected[:, mirror] @ MIRROR,
            self.truth[:, mirror] @ MIRROR,
            MIRROR @ self.carriers[:, mirror] @ MIRROR,
            self.seen[:, mirror],
            self.burst + self.burst.max(initial=-1) + 1,
            self.frame,
        )

    @classmethod
    def join(cls, parts):
        """Several sets of pairs as one."""
        return cls(*(np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(cls)))


@dataclass
class PartFit:
    """Offset [K, 3], mean [K, 3], and per frame the log of the size [N], the tilt [N, 3] rad and the residual [N, K, 3] m."""

    offset: np.ndarray
    mean: np.ndarray
    log_scale: np.ndarray
    tilt: np.ndarray
    residual: np.ndarray


def fit_part(part, pairs):
    """Splits pairs into the terms of the model, by turns: size and tilt of each frame, then offset and mean of each point."""
    offset, mean = np.zeros((2, len(part.points), 3))
    weights = np.where(pairs.seen, 1.0, UNSEEN_WEIGHT) * part.aligned
    for _ in range(FIT_ROUNDS):
        points = marked_points(part, pairs.truth, pairs.carriers, offset)
        scale, turn = _align_some(points, pairs.detected - mean, weights, part.stiffness)
        similarity = scale[:, None, None] * turn
        residual = pairs.detected - mean - points @ transpose(similarity)
        offset_step, mean_step = _regress(similarity[:, None] @ pairs.carriers, residual, pairs.seen)
        offset = offset + offset_step
        offset -= _size_in(offset, (transpose(pairs.carriers) @ pairs.truth[..., None])[..., 0].mean(0), part.aligned)
        mean = mean + mean_step
        mean -= _pose_in(mean, (points @ transpose(similarity)).mean(0), part.aligned)
    points = marked_points(part, pairs.truth, pairs.carriers, offset)
    scale, turn = _align_some(points, pairs.detected - mean, weights, part.stiffness)
    residual = pairs.detected - mean - points @ transpose(scale[:, None, None] * turn)
    return PartFit(offset, mean, np.log(scale), matrix_to_axis_angle(turn), residual)


def _align_some(source, target, weights, stiffness):
    """As `align`, but short of the best fit: size and tilt take from a frame's errors what they explain well, and no more.

    The best fit makes size and tilt of whatever is wrong and leaves a residual that cancels them in this pose alone. Drawn for
    another pose, the two add up: errors a fifth too large. So they are held to one and none by `Part.stiffness`.
    """
    _, turn = align(source, target, weights)
    spread = np.einsum("nk,nki,nkj->nij", weights, source, source)
    extent = np.trace(spread, axis1=-2, axis2=-1)
    ridge = stiffness * extent.mean()
    inertia = extent[:, None, None] * np.eye(3) - spread
    tilt = np.linalg.solve(inertia + ridge * np.eye(3), inertia @ matrix_to_axis_angle(turn)[..., None])[..., 0]
    turn = axis_angle_to_matrix(tilt)
    overlap = np.einsum("nk,nki,nij,nkj->n", weights, target, turn, source)
    return np.maximum((overlap + ridge) / (extent + ridge), 1e-3), turn


def _size_in(offset, points, aligned):
    """What of offsets [K, 3] would make the mean person [K, 3], each point in its carrier's axes, larger: the size's affair."""
    share = np.sum((offset * points)[aligned]) / np.sum(np.square(points[aligned]))
    return share * points


def _pose_in(mean, points, aligned):
    """What of means [K, 3] would size and turn the mean person [K, 3] in camera axes: the affair of size and tilt."""
    columns = np.stack([points, *(np.cross(axis, points) for axis in np.eye(3))], -1)  # [K, 3, 4]
    share = np.linalg.lstsq(columns[aligned].reshape(-1, 4), mean[aligned].ravel(), rcond=1e-3)[0]
    return columns @ share


def align(source, target, weights):
    """Size [N] and rotation [N, 3, 3] about the origin that best take source [N, K, 3] to target, weights [N, K].

    Kabsch's rotation, and the least-squares size with it.
    """
    correlation = np.einsum("nk,nki,nkj->nij", weights, target, source)
    u, _, v = np.linalg.svd(correlation)
    u[..., 2] *= np.linalg.det(u @ v)[:, None]
    turn = u @ v
    overlap = np.einsum("nij,nij->n", correlation, turn)
    return np.maximum(overlap / np.einsum("nk,nkc,nkc->n", weights, source, source), 1e-3), turn


def _regress(turned_carriers, residual, seen):
    """Steps [K, 3] of offset and mean that lessen residuals [N, K, 3]; carriers [N, K, 3, 3] with size and tilt applied.

    Large residuals weigh less, by the square of how far they exceed twice the median.
    """
    distance = np.linalg.norm(residual, axis=-1)
    typical = 2 * np.median(distance, axis=0) + 1e-9
    weights = seen * np.minimum(1, typical / np.maximum(distance, 1e-9)) ** 2
    system = np.concatenate([turned_carriers, np.broadcast_to(np.eye(3), turned_carriers.shape)], -1)
    normal = np.einsum("nk,nkci,nkcj->kij", weights, system, system) + np.diag([OFFSET_RIDGE] * 3 + [MEAN_RIDGE] * 3)
    solution = np.linalg.solve(normal, np.einsum("nk,nkci,nkc->ki", weights, system, residual)[..., None])[..., 0]
    return solution[:, :3], solution[:, 3:]


def estimate_part(part, pairs, rank, rng):
    """The `PartNoise` of pairs from which gross errors are taken out already; its three rates are left at zero.

    A part with two sides is measured together with its mirror image, so the result is the same for both. rng: for the
    simulation that tells how much amplitudes of normal residuals differ of themselves.
    """
    if part.mirror is not None:
        pairs = PartPairs.join([pairs, pairs.mirrored(part.mirror)])
    fit = fit_part(part, pairs)
    scale_factor, tilt_factor, factor = _factors(part, pairs, fit, rank)
    power = np.square(factor).reshape(-1, 3 * rank).sum(1)
    slow_time = _slow_time(fit.residual, pairs)
    jitter, pose_jitter = _jitter(fit, pairs, slow_time)
    bone_mean, bone_slope, bone_std = _bone_errors(part, pairs, fit.log_scale)
    return PartNoise(
        points=part.points,
        carriers=part.carriers,
        offset=fit.offset,
        log_scale=float(fit.log_scale.mean()),
        scale_factor=scale_factor,
        tilt_mean=fit.tilt.mean(0),
        tilt_factor=tilt_factor,
        mean=fit.mean,
        factor=factor,
        bone_mean=bone_mean,
        bone_slope=bone_slope,
        bone_std=bone_std,
        amplitude=_amplitude(fit.residual, pairs.seen, factor, power, rng),
        unseen_gain=_unseen_gain(fit.residual, pairs.seen, power),
        unseen_share=1 - pairs.seen.mean(0),
        jitter=jitter,
        pose_jitter=pose_jitter,
        slow_time=slow_time,
    )


def _factors(part, pairs, fit, rank):
    """scale_factor [R], tilt_factor [3, R] and factor [3K, R] of the common covariance of size, tilt and residuals.

    Residuals count where their points are seen. Every row keeps its whole variance, however small the rank.
    """
    # Times the part's radius, size and tilt are lengths such as residuals are, and weigh as much as what they move.
    radius = np.sqrt(np.square(pairs.truth[:, part.aligned]).sum(-1).mean())
    pose = radius * np.concatenate([fit.log_scale[:, None], fit.tilt], 1)
    residual = np.where(pairs.seen[..., None], fit.residual, 0).reshape(len(pairs), -1)
    values = np.concatenate([pose - pose.mean(0), residual], 1)
    present = np.concatenate([np.ones_like(pose), np.repeat(pairs.seen, 3, axis=1)], 1)
    covariance = values.T @ values / np.maximum(present.T @ present, 1)
    # Pairs of points are seen together in different frames, so the matrix may be indefinite: only its large values count.
    variances, vectors = np.linalg.eigh(covariance)
    factor = vectors[:, ::-1][:, :rank] * np.sqrt(np.clip(variances[::-1][:rank], 0, None))
    factor *= np.sqrt(np.diag(covariance) / np.maximum(np.square(factor).sum(1), 1e-12))[:, None]
    return factor[0] / radius, factor[1:4] / radius, factor[4:]


def _bone_errors(part, pairs, log_scale):
    """Mean, slope on log size, and remaining standard deviation [B] of detected over true length, where both ends are seen."""
    ratio = bone_lengths(pairs.detected, part.bones) / np.maximum(bone_lengths(pairs.truth, part.bones), 1e-6)
    parents, children = np.transpose(part.bones)
    unseen = ~(pairs.seen[:, parents] & pairs.seen[:, children])
    ratio, size = (np.ma.masked_array(np.broadcast_to(each, unseen.shape), unseen) for each in (ratio, log_scale[:, None]))
    mean, size = ratio.mean(0), size - size.mean()
    slope = ((ratio - mean) * size).mean(0) / np.maximum((size**2).mean(0), 1e-12)
    spread = (ratio - mean - slope * size).std(0)
    return mean.filled(1.0), slope.filled(0.0), spread.filled(0.0)


def _frame_amplitude(residual, seen, power):
    """Root mean square [N] of a frame's seen residuals, each against the variance [K] of its point."""
    relative = np.square(residual).sum(-1) / np.maximum(power, 1e-12)
    return np.sqrt((relative * seen).sum(1) / np.maximum(seen.sum(1), 1))


def _amplitude(residual, seen, factor, power, rng):
    """Standard deviation of log a, beyond what normal residuals from the same factor would show by themselves."""
    normal = (rng.standard_normal((len(residual), factor.shape[1])) @ factor.T).reshape(residual.shape)
    enough = seen.sum(1) >= 3
    found, expected = (
        np.log(_frame_amplitude(values[enough], seen[enough], power) + 1e-9).var() for values in (residual, normal)
    )
    return float(np.sqrt(max(found - expected, 0)))


def _unseen_gain(residual, seen, power):
    """How much larger [K] residuals [N, K, 3] of unsure points are than those of sure ones, as root mean squares."""
    unseen = ~seen
    count = unseen.sum(0)
    squared = np.square(residual).sum(-1) * unseen
    typical = np.maximum(power, 1e-12)
    overall = (squared / typical).sum() / max(count.sum(), 1) if count.any() else 1.0
    own = squared.sum(0) / np.maximum(count, 1) / typical
    return np.sqrt(np.maximum(np.where(count >= FEWEST_UNSEEN, own, overall), 1))


def following(pairs, steps):
    """Indices [M] of frames whose burst goes on for `steps` more frames without a hole."""
    start = np.arange(len(pairs) - steps)
    unbroken = (pairs.burst[start + steps] == pairs.burst[start]) & (
        pairs.frame[start + steps] == pairs.frame[start] + steps
    )
    return start[unbroken]


def second_differences(values, start):
    return values[start] - 2 * values[start + 1] + values[start + 2]


def _second_difference(step):
    """Variance of x - 2 x' + x'' of the slow part, of variance one, with `step` the time of one frame in `slow_time`."""
    near, far = ((1 + lag) * np.exp(-lag) for lag in (step, 2 * step))
    return 6 - 8 * near + 2 * far


def _jitter(fit, pairs, slow_time, framerate=30.0):
    """Share [K] of residual variance that is new in every frame, and the same [2] of log size and tilt.

    A second difference of three frames holds 1 + 4 + 1 times the variance of what is new in each, and next to nothing of
    what is slow.
    """
    start = following(pairs, 2)
    together = pairs.seen[start] & pairs.seen[start + 1] & pairs.seen[start + 2]
    bend = np.square(second_differences(fit.residual, start)).sum(-1)
    bend = (bend * together).sum(0) / np.maximum(together.sum(0), 1)
    whole = (np.square(fit.residual).sum(-1) * pairs.seen).sum(0) / np.maximum(pairs.seen.sum(0), 1)
    pose = [
        np.square(second_differences(values, start)).sum() / max(len(start), 1) / (values.var(0).sum() + 1e-12)
        for values in (fit.log_scale[:, None], fit.tilt)
    ]
    slow = _second_difference(1 / (framerate * slow_time))
    return tuple(np.clip((np.asarray(bent) - slow) / (6 - slow), 0, 1) for bent in (bend / np.maximum(whole, 1e-12), pose))


def _slow_time(residual, pairs, framerate=30.0, longest=5, candidates=np.geomspace(0.03, 3, 60)):
    """Time constant in s of the slow part, from how products of residuals fall off between lags of 1 and `longest` frames."""
    values = np.where(pairs.seen[..., None], residual, 0)
    # The same starts for every lag, so that what differs between bursts cannot pass for decay.
    start = following(pairs, longest)
    products = np.array([(values[start] * values[start + lag]).sum() for lag in range(1, longest + 1)])
    steps = np.arange(1, longest + 1) / (framerate * candidates[:, None])
    expected = (1 + steps) * np.exp(-steps)
    measured = products / max(products[0], 1e-12)
    return float(candidates[np.argmin(np.square(expected / expected[:, :1] - measured).sum(1))])


def is_turned(detected, truth, largest=np.radians(75)):
    """[N] bool: frames that are turned by more than `largest` rad as a whole, such as a palm taken for a back."""
    _, turn = align(truth, detected, np.ones(truth.shape[:2]))
    return np.linalg.norm(matrix_to_axis_angle(turn), axis=-1) > largest


def is_swapped(part, detected, truth, least=0.1):
    """[N] bool: frames whose aligned points fit much better with left and right exchanged. detected, truth [N, K, 3] m."""
    straight, exchanged = (
        np.linalg.norm(points - truth, axis=-1)[:, part.aligned].mean(1) for points in (detected, detected[:, part.mirror])
    )
    return (straight > least) & (exchanged < 0.6 * straight)
