"""A noise model of a keypoint detector, made from what it really does where the truth is known.

For one part (the body or a hand) with K points a detector's answer to a true pose is taken to be

    detected_k = s R (P_k + Q_k o_k - root) + m_k + g_k a e_k            then moved so that its own root is at zero

    P_k, Q_k   m: the true place of point k, and the orientation of the joint that carries it, in camera axes
    o_k        definition offset: the detector marks another place than the body does, and it turns with the carrier
    root       the part's root (middle of the hips, mean of the hand), of the points with their offsets
    s          size: log-normal
    R          tilt: a rotation about the root, its rotation vector normal
    m_k        what is left on average in camera axes
    e          what is left beyond that, normal over all points at once
    a          log-normal with mean square 1, one for a frame: good frames and bad ones
    g_k        1, or `unseen_gain` where the detector itself is not sure of the point

log s, the tilt and e are mixtures of the same R standard normal numbers z, because they hang together: where a wrong leg has
turned the whole person, the residual turns the head back.

    log s = log_scale + scale_factor z,    rotation vector of R = tilt_mean + tilt_factor z,    e = factor z

Residuals know nothing of a limb's direction, but a detector keeps to a person's bones better than to their places. So the
bones of a draw, from the trunk outwards, keep their drawn directions and get the length

    |bone_b| = true length * (bone_mean_b + bone_slope_b (log s - log_scale) + bone_std_b y_b),    y standard normal

Within a sequence y is slow and z is the sum of a slow and smooth part, whose correlation over t seconds is (1 + t / slow_time)
exp(-t / slow_time), and of one that is new in every frame; the latter's share of the variance at 30 Hz is `pose_jitter` for
size and tilt and `jitter` for each point.
Frames in which the detector finds nobody, takes left for right or is wrong altogether are counted and not modelled.
"""

import json
from dataclasses import dataclass, field, fields

import numpy as np

from ..contract.frames import axis_angle_to_matrix, matrix_to_axis_angle
from ..contract.npz_file import FileError, check_arrays, check_format, read_npz, write_npz
from ..contract.skeleton import BLAZEPOSE_33, HAND_21, HAND_BONES
from ..detect.keypoints import SIDES
from ..swing_twist import rotate, transpose, unit

FORMAT_NAME = "fullbody-detector-noise"
FORMAT_VERSION = 1

BODY_RANK, HAND_RANK = 32, 24

FIT_ROUNDS = 12

OFFSET_RIDGE, MEAN_RIDGE = 1.0, 4.0
"""In frames. Where nobody turned round, offset and mean cannot be told apart; then the offset is to have it."""

SHORTEST_BONE = 0.1
"""Of a bone's true length: no draw is shorter."""

UNSEEN_WEIGHT = 0.1
"""Weight in the alignment of a point that the detector is not sure of."""

FEWEST_UNSEEN = 30
"""Frames below which a point's own `unseen_gain` is not trusted and that of all points is taken."""

_PART_SCHEMA = {
    "points": ("U", ("K",)),
    "carriers": ("U", ("K",)),
    "offset": ("f", ("K", 3)),
    "log_scale": ("f", ()),
    "scale_factor": ("f", ("R",)),
    "tilt_mean": ("f", (3,)),
    "tilt_factor": ("f", (3, "R")),
    "mean": ("f", ("K", 3)),
    "factor": ("f", ("K3", "R")),
    "bone_mean": ("f", ("B",)),
    "bone_slope": ("f", ("B",)),
    "bone_std": ("f", ("B",)),
    "amplitude": ("f", ()),
    "unseen_gain": ("f", ("K",)),
    "unseen_share": ("f", ("K",)),
    "jitter": ("f", ("K",)),
    "pose_jitter": ("f", (2,)),
    "slow_time": ("f", ()),
    "miss_rate": ("f", ()),
    "swap_rate": ("f", ()),
    "gross_rate": ("f", ()),
}


class DetectorNoiseError(FileError):
    """A noise model that cannot be used. The message is one sentence for the user."""


@dataclass(frozen=True)
class Part:
    """What is known of a part before anything is measured.

    points [K] names; carriers [K]: the joint in whose axes a point's offset is constant; root [K]: weights, summing to 1, of
    the mean that stands at zero; aligned [K] bool: the points that size and tilt are measured on; mirror [K]: each point's
    counterpart on the other side of the body, or None for a part that has one side only; bones [B]: (parent, child) points,
    from the trunk outwards; stiffness: what holds a frame's size and tilt to one and none, as a share of the typical sum of
    squared distances of its points from the root.
    """

    points: tuple
    carriers: tuple
    root: np.ndarray
    aligned: np.ndarray
    mirror: np.ndarray
    bones: tuple
    stiffness: float

    def rooted(self, points):
        """Points [N, K, 3] m moved so that the root is at zero."""
        return points - np.einsum("k,nkc->nc", self.root, points)[:, None]


def _body_carrier(keypoint):
    """A limb's end rides on the bone that leads to it; hips and shoulders on the trunk, so that they keep still as limbs turn."""
    side, _, name = keypoint.partition("_")
    on_side = {
        "elbow": "shoulder", "wrist": "elbow", "pinky": "wrist", "index": "wrist", "thumb": "wrist",
        "knee": "hip", "ankle": "knee", "heel": "ankle", "foot_index": "ankle",
    }  # fmt: skip
    if name in on_side:
        return f"{side}_{on_side[name]}"
    return {"hip": "pelvis", "shoulder": "spine3"}.get(name, "head")


def _hand_carrier(keypoint):
    """As for limbs: a knuckle rides on the wrist, every further point on the bone before it."""
    finger, _, name = keypoint.partition("_")
    order = ("cmc", "mcp", "ip", "tip") if finger == "thumb" else ("mcp", "pip", "dip", "tip")
    return f"left_{finger}{order.index(name)}" if name and order.index(name) else "left_wrist"


def _counterpart(keypoint):
    other = dict(zip(SIDES, SIDES[::-1]))
    side, _, name = keypoint.partition("_")
    return f"{other[side]}_{name}" if side in other else keypoint


_BODY_BONES = tuple(
    (BLAZEPOSE_33.index(f"{side}_{parent}"), BLAZEPOSE_33.index(f"{side}_{child}"))
    for parent, child in (
        ("shoulder", "elbow"), ("elbow", "wrist"), ("wrist", "pinky"), ("wrist", "index"), ("wrist", "thumb"),
        ("hip", "knee"), ("knee", "ankle"), ("ankle", "heel"), ("ankle", "foot_index"),
    )
    for side in SIDES
)  # fmt: skip

_LIMBS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")

BODY_PART = Part(
    points=BLAZEPOSE_33.names,
    carriers=tuple(map(_body_carrier, BLAZEPOSE_33.names)),
    root=np.array([0.5 * name.endswith("_hip") for name in BLAZEPOSE_33.names]),
    aligned=np.array([name.endswith(_LIMBS) for name in BLAZEPOSE_33.names]),
    mirror=np.array([BLAZEPOSE_33.index(_counterpart(name)) for name in BLAZEPOSE_33.names]),
    bones=_BODY_BONES,
    stiffness=0.3,
)
HAND_PART = Part(
    points=HAND_21.names,
    carriers=tuple(map(_hand_carrier, HAND_21.names)),
    root=np.full(len(HAND_21), 1 / len(HAND_21)),
    aligned=np.ones(len(HAND_21), bool),
    mirror=None,
    bones=HAND_BONES,
    stiffness=0.2,
)
"""A left hand. For a right one mirror the truth (x negated, orientations M Q M), draw, and mirror back."""

MIRROR = np.diag([-1.0, 1, 1])
"""The other way round: of points in the camera frame, and on both sides of an orientation."""


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
class PartNoise:
    """The noise of one part, in the terms of the formula above. Metres and radians, camera axes unless said otherwise.

    points [K], carriers [K]   names of the points and of the joints that carry them
    offset [K, 3]              o: definition offset in the carrier's axes
    log_scale, scale_factor [R]        mean of log s, and what z makes of it
    tilt_mean [3], tilt_factor [3, R]  the same of R's rotation vector
    mean [K, 3]                m
    factor [3K, R]             what z makes of e, rows ordered point by point, x y z; R here is the count of normal numbers
    bone_mean, bone_std [B]    of the ratio of drawn to true length of the part's bones, and bone_slope [B]: how it follows log s
    amplitude                  standard deviation of log a
    unseen_gain [K]            g of unsure points; unseen_share [K]: how often a point is one
    jitter [K]                 share of e's variance that is new in every frame at 30 Hz
    pose_jitter [2]            the same share of log s and of the tilt
    slow_time                  s: time constant of everything else
    miss_rate                  share of all frames in which the part was not found
    swap_rate, gross_rate      share of the found frames with limbs of the other side (a hand: turned by more than 75 degrees,
                               as when its palm is taken for its back), and of others that are wrong altogether
    """

    points: tuple
    carriers: tuple
    offset: np.ndarray
    log_scale: float
    scale_factor: np.ndarray
    tilt_mean: np.ndarray
    tilt_factor: np.ndarray
    mean: np.ndarray
    factor: np.ndarray
    bone_mean: np.ndarray
    bone_slope: np.ndarray
    bone_std: np.ndarray
    amplitude: float
    unseen_gain: np.ndarray
    unseen_share: np.ndarray
    jitter: np.ndarray
    pose_jitter: np.ndarray
    slow_time: float
    miss_rate: float = 0.0
    swap_rate: float = 0.0
    gross_rate: float = 0.0

    def draw(self, part, rng, truth, carriers, seen=None, framerate=None):
        """What the detector might answer: [N, K, 3] m, root at zero.

        truth [N, K, 3] m and carriers [N, K, 3, 3] in camera axes; seen [N, K] bool, all by default. The N frames are one
        sequence at `framerate` Hz, or have nothing to do with each other where it is None.
        """
        count, size = truth.shape[:2]
        slow, new = rng.standard_normal((2, count, self.factor.shape[1]))
        log_amplitude, stretch = rng.standard_normal(count), rng.standard_normal((count, len(part.bones)))
        if framerate is not None:
            step = 1 / (framerate * self.slow_time)
            slow, log_amplitude, stretch = (smooth_process(rng, each, step) for each in (slow, log_amplitude, stretch))

        def mix(factor, jitter):
            return np.sqrt(1 - jitter) * (slow @ factor.T) + np.sqrt(jitter) * (new @ factor.T)

        log_scale = self.log_scale + mix(self.scale_factor[None], self.pose_jitter[0])
        tilt = self.tilt_mean + mix(self.tilt_factor, self.pose_jitter[1])
        residual = mix(self.factor, np.repeat(self.jitter, 3)).reshape(count, size, 3)
        amplitude = np.exp(self.amplitude * log_amplitude - self.amplitude**2)[:, None]
        gain = np.ones((count, size)) if seen is None else np.where(seen, 1, self.unseen_gain)
        turned = _place(part, truth, carriers, self.offset) @ transpose(axis_angle_to_matrix(tilt))
        noisy = np.exp(log_scale)[..., None] * turned + self.mean + gain[..., None] * amplitude[..., None] * residual
        ratio = self.bone_mean + self.bone_slope * (log_scale - self.log_scale) + self.bone_std * stretch
        lengths = bone_lengths(truth, part.bones) * np.maximum(ratio, SHORTEST_BONE)
        return part.rooted(set_bone_lengths(noisy, part.bones, lengths))


@dataclass
class DetectorNoise:
    """The noise of a detector's body and of its left hand. meta: dict with what it was measured on."""

    body: PartNoise
    hand: PartNoise
    meta: dict = field(default_factory=dict)

    def save(self, path):
        """Writes the file whole or not at all. Raises `DetectorNoiseError` for wrong contents or an unwritable place."""
        meta = json.dumps({**self.meta, "format": FORMAT_NAME, "version": FORMAT_VERSION}, sort_keys=True)
        arrays = {"meta": np.array(meta)}
        for name, part in (("body", self.body), ("hand", self.hand)):
            for item in fields(part):
                array = np.asarray(getattr(part, item.name))
                arrays[f"{name}_{item.name}"] = array.astype(np.float32) if array.dtype.kind == "f" else array
        try:
            _check(arrays)
            write_npz(path, arrays)
        except FileError as error:
            raise DetectorNoiseError(str(error)) from error

    @classmethod
    def load(cls, path):
        """Reads and checks a file. Raises `DetectorNoiseError` for anything that is not exactly a noise model."""
        try:
            arrays = read_npz(path, "detector noise model")
            meta = check_format(arrays, FORMAT_NAME, FORMAT_VERSION, "detector noise model", path)
            _check(arrays)
        except FileError as error:
            raise DetectorNoiseError(str(error)) from error
        return cls(*(_read_part(arrays, name) for name in ("body", "hand")), meta)


def _check(arrays):
    schema = {"meta": ("U", ())}
    for name in ("body", "hand"):
        sizes = {size: f"{name} {size}" for size in ("K", "K3", "R", "B")}
        for key, (kind, shape) in _PART_SCHEMA.items():
            schema[f"{name}_{key}"] = (kind, tuple(sizes.get(size, size) for size in shape))
    sizes = check_arrays(arrays, schema, "detector noise model")
    for name, part in (("body", BODY_PART), ("hand", HAND_PART)):
        if tuple(arrays[f"{name}_points"]) != part.points or tuple(arrays[f"{name}_carriers"]) != part.carriers:
            raise DetectorNoiseError(
                f"The detector noise model's {name} is of other points than this version's: make it anew."
            )
        if sizes[f"{name} K3"] != 3 * len(part.points) or sizes[f"{name} B"] != len(part.bones):
            raise DetectorNoiseError(
                f"The detector noise model's {name} should have three rows a point and {len(part.bones)} bones."
            )


def _read_part(arrays, name):
    values = {item.name: arrays[f"{name}_{item.name}"] for item in fields(PartNoise)}
    for key, value in values.items():
        if value.dtype.kind == "U":
            values[key] = tuple(str(item) for item in value)
        else:
            values[key] = value.astype(float) if value.ndim else float(value)
    return PartNoise(**values)


def smooth_process(rng, start, step):
    """Standard normal rows like start [N, ...] of which the first stays, and neighbours are alike and change smoothly.

    The correlation over t is (1 + t) exp(-t), with `step` the t of one frame: a Matern process of order 3/2, made exactly from
    value and rate (a critically damped spring that is struck at random).
    """
    forward = np.exp(-step) * np.array([[1 + step, step], [-step, 1 - step]])
    # Both value and rate have variance one in these units; the strikes put back what the step takes away.
    strike = np.linalg.cholesky(np.eye(2) - forward @ forward.T + 1e-15 * np.eye(2))
    values, rate = start.copy(), rng.standard_normal(start.shape[1:])
    for index in range(1, len(values)):
        blow = np.tensordot(strike, np.stack([start[index], rng.standard_normal(start.shape[1:])]), 1)
        previous = np.stack([values[index - 1], rate])
        values[index], rate = np.tensordot(forward, previous, 1) + blow
    return values


def bone_lengths(points, bones):
    """Lengths [N, B] m of bones [B] (parent, child) of points [N, K, 3] m."""
    parents, children = np.reshape(bones, (-1, 2)).astype(int).T
    return np.linalg.norm(points[:, children] - points[:, parents], axis=-1)


def set_bone_lengths(points, bones, lengths):
    """Points [N, K, 3] m whose bones [B] have lengths [N, B] m and their old directions; bones come parents first."""
    moved = points.copy()
    for (parent, child), length in zip(bones, lengths.T):
        moved[:, child] = moved[:, parent] + unit(points[:, child] - points[:, parent]) * length[:, None]
    return moved


def _place(part, truth, carriers, offset):
    """Points [N, K, 3] m where the detector would mark them, about their own root."""
    return part.rooted(truth + rotate(carriers, offset))


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
        points = _place(part, pairs.truth, pairs.carriers, offset)
        scale, turn = _align_some(points, pairs.detected - mean, weights, part.stiffness)
        similarity = scale[:, None, None] * turn
        residual = pairs.detected - mean - points @ transpose(similarity)
        offset_step, mean_step = _regress(similarity[:, None] @ pairs.carriers, residual, pairs.seen)
        offset = offset + offset_step
        offset -= _size_in(offset, (transpose(pairs.carriers) @ pairs.truth[..., None])[..., 0].mean(0), part.aligned)
        mean = mean + mean_step
        mean -= _pose_in(mean, (points @ transpose(similarity)).mean(0), part.aligned)
    points = _place(part, pairs.truth, pairs.carriers, offset)
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
