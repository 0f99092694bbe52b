"""A prior on body poses, learned from motion capture: which rotation vectors people's joints have, together and at most.

A mixture of Gaussians on the 21 rotation vectors of SMPL-H's body below the pelvis, as SMPLify's (Bogo et al. 2016), and for every
component of them the range that motions show. Made from any folder of AMASS-format files:

    python -m fullbody_core.refine.pose_prior DATA -o pose_prior.npz
"""

import argparse
import importlib.resources
import json
from dataclasses import dataclass, field

import numpy as np

from ..contract.frames import MIRROR_TURN, matrix_to_axis_angle
from ..contract.npz_file import FileError, check_arrays, check_format, read_npz, write_npz
from ..contract.skeleton import BODY_JOINT_NAMES, BODY_JOINTS, mirror_names

FORMAT_NAME, FORMAT_VERSION = "fullbody-pose-prior", 1

_SCHEMA = {
    "meta": ("U", ()),
    "means": ("f", ("C", 63)),
    "factors": ("f", ("C", 63, 63)),
    "log_weights": ("f", ("C",)),
    "low": ("f", (63,)),
    "high": ("f", (63,)),
}


class PosePriorError(FileError):
    """A pose prior that cannot be used. The message is one sentence for the user."""


@dataclass
class PosePrior:
    """means [C, 63] and precisions [C, 63, 63] of rotation vectors in rad, log_weights [C]; low, high [63] rad.

    The rows are joints 1 to 21, x y z each. meta: dict with what it was made from.
    """

    means: np.ndarray
    precisions: np.ndarray
    log_weights: np.ndarray
    low: np.ndarray
    high: np.ndarray
    meta: dict = field(default_factory=dict)

    def __post_init__(self):
        # Each component's own height, over that of the highest: costs are then zero at the best pose of all.
        heights = self.log_weights + 0.5 * np.linalg.slogdet(self.precisions)[1]
        self._offsets = heights.max() - heights
        factors = np.linalg.cholesky(self.precisions)
        self._factors = np.concatenate(list(factors), 1)
        self._factored_means = (self.means[:, None] @ factors)[:, 0]

    def nearest(self, vectors):
        """Of rotation vectors [T, 63]: the likeliest component [T], and minus the logarithm of its density [T], 0 at the best."""
        # |F^T (v - m)|^2 with the precision's factor F, all components in one product.
        off = (vectors @ self._factors).reshape(len(vectors), *self.means.shape) - self._factored_means
        costs = 0.5 * (off**2).sum(-1) + self._offsets
        which = costs.argmin(1)
        return which, costs[np.arange(len(which)), which]

    def save(self, path):
        """Writes the file whole or not at all. Raises `FileError` for an unwritable place."""
        factors = np.linalg.cholesky(self.precisions)
        arrays = {
            "means": self.means,
            "factors": factors,
            "log_weights": self.log_weights,
            "low": self.low,
            "high": self.high,
        }
        meta = json.dumps({**self.meta, "format": FORMAT_NAME, "version": FORMAT_VERSION}, sort_keys=True)
        write_npz(path, {"meta": np.array(meta)} | {name: array.astype(np.float32) for name, array in arrays.items()})

    @classmethod
    def load(cls, path=None):
        """Reads and checks a file, by default the one that comes with the project. Raises `PosePriorError`."""
        path = (
            importlib.resources.files(__package__.rpartition(".")[0]) / "assets" / "pose_prior.npz" if path is None else path
        )
        try:
            arrays = read_npz(path, "pose prior")
            meta = check_format(arrays, FORMAT_NAME, FORMAT_VERSION, "pose prior", path)
            check_arrays(arrays, _SCHEMA, "pose prior")
        except FileError as error:
            raise PosePriorError(str(error)) from error
        means, factors, log_weights, low, high = (arrays[name].astype(float) for name in tuple(_SCHEMA)[1:])
        return cls(means, factors @ np.swapaxes(factors, 1, 2), log_weights, low, high, meta)


LIMIT_SHARE, LIMIT_MARGIN = 1e-3, np.radians(5)
"""Share of all frames that may be beyond a limit on either side, and how far beyond that it lies."""

SPREAD_FLOOR = np.radians(4)
"""rad, added to every direction: motion capture leaves joints out that people do have."""

LOOSE = {"left_collar": 10.0, "right_collar": 10.0, "left_ankle": 6.0, "right_ankle": 6.0}
"""Degrees by which some joints may turn more in every direction: the motions' own skeleton has them stiff."""

TWIST_FREE = ("left_wrist", "right_wrist")
"""Joints of which motions without hands know nothing: their spread is made this much wider, and they have no limits."""


def fit_pose_prior(vectors, components=8, rounds=30, seed=0):
    """The `PosePrior` of rotation vectors [N, 63] rad and their mirror images, by expectation maximisation."""
    vectors = np.concatenate([vectors, mirror_vectors(vectors)])
    rng = np.random.default_rng(seed)
    means = vectors[rng.choice(len(vectors), components, replace=False)]
    spread = np.cov(vectors.T) + SPREAD_FLOOR**2 * np.eye(vectors.shape[1])
    covariances, log_weights = np.repeat(spread[None], components, 0), np.full(components, -np.log(components))
    for _ in range(rounds):
        shares = _responsibilities(vectors, means, covariances, log_weights)
        counts = shares.sum(0) + 1e-9
        means = shares.T @ vectors / counts[:, None]
        for component in range(components):
            off = vectors - means[component]
            own = (shares[:, component, None] * off).T @ off / counts[component]
            # Few frames say little: so many of everybody's count with them.
            covariances[component] = (counts[component] * own + 200 * spread) / (counts[component] + 200)
            covariances[component] += SPREAD_FLOOR**2 * np.eye(len(own))
        log_weights = np.log(counts / counts.sum())
    low, high = np.quantile(vectors, [LIMIT_SHARE, 1 - LIMIT_SHARE], axis=0) + [[-LIMIT_MARGIN], [LIMIT_MARGIN]]
    for name, degrees in LOOSE.items():
        rows = _rows(name)
        covariances[:, rows, rows] += np.radians(degrees) ** 2 * np.eye(3)
        low[rows], high[rows] = low[rows] - np.radians(2 * degrees), high[rows] + np.radians(2 * degrees)
    for name in TWIST_FREE:
        rows = _rows(name)
        covariances[:, rows, rows] += np.radians(40) ** 2 * np.eye(3)
        low[rows], high[rows] = -np.pi, np.pi
    return PosePrior(means, np.linalg.inv(covariances), log_weights, low, high)


def _rows(name):
    """The rows of a joint's rotation vector among the 63."""
    first = 3 * BODY_JOINT_NAMES.index(name) - 3
    return slice(first, first + 3)


def _responsibilities(vectors, means, covariances, log_weights):
    scores = []
    for mean, covariance, log_weight in zip(means, covariances, log_weights):
        factor = np.linalg.cholesky(covariance)
        off = np.linalg.solve(factor, (vectors - mean).T)
        scores.append(log_weight - np.log(np.diag(factor)).sum() - 0.5 * (off**2).sum(0))
    scores = np.stack(scores, 1)
    shares = np.exp(scores - scores.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)


def mirror_vectors(vectors):
    """The same poses [N, 63] seen in a looking glass."""
    mirrored = mirror_names(BODY_JOINT_NAMES)
    rotations = np.concatenate([np.zeros((len(vectors), 1, 3)), vectors.reshape(len(vectors), -1, 3)], 1)[:, mirrored]
    return (rotations * MIRROR_TURN)[:, 1:].reshape(vectors.shape)


def main():
    """Makes the prior from the training motions of a folder."""
    from ..train.motions import load_motions

    parser = argparse.ArgumentParser(description="Learn a prior on body poses from AMASS-format motions.")
    parser.add_argument("data", help="folder of AMASS-format .npz files")
    parser.add_argument("-o", "--output", required=True, help="the .npz to write")
    chosen = parser.parse_args()
    motions = load_motions(chosen.data, held_out=False, framerate=10.0)
    rotations = np.concatenate([motion.rotations[:, BODY_JOINTS] for motion in motions])
    prior = fit_pose_prior(matrix_to_axis_angle(rotations[:, 1:]).reshape(len(rotations), -1))
    prior.meta = {"motions": len(motions), "frames": len(rotations)}
    prior.save(chosen.output)


if __name__ == "__main__":
    main()
