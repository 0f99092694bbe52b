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
The numbers are estimated in `noise_fit`.
"""

import json
from dataclasses import dataclass, field, fields

import numpy as np

from ..contract.frames import axis_angle_to_matrix
from ..contract.npz_file import FileError, check_arrays, check_format, read_npz, write_npz
from ..contract.skeleton import BLAZEPOSE_33, HAND_21, HAND_BONES, SIDES, mirror_names
from ..contract.swing_twist import rotate, transpose, unit

FORMAT_NAME = "fullbody-detector-noise"
FORMAT_VERSION = 1

SHORTEST_BONE = 0.1
"""Of a bone's true length: no draw is shorter."""

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
    mirror=np.array(mirror_names(BLAZEPOSE_33.names)),
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
        turned = marked_points(part, truth, carriers, self.offset) @ transpose(axis_angle_to_matrix(tilt))
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


def marked_points(part, truth, carriers, offset):
    """Points [N, K, 3] m where the detector would mark them, about their own root."""
    return part.rooted(truth + rotate(carriers, offset))
