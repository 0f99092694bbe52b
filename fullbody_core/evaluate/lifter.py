"""`fullbody evaluate lifter`: the lifter beside BodyIKNet and the detector on windows of held-out motions whose truth is known.

The windows are the held-out motions' (`train.motions.is_held_out`) before random cameras, with a detector's errors of their
measured size (`train.lifter_noise`), once with everything seen and once with limbs hidden, hands lost and frames without anybody.
"""

from dataclasses import dataclass

import numpy as np
import roma
import torch

from ..body.load_body import load_body
from ..ik.lifter import load_lifter
from ..networks.lifter import FRAMERATE
from ..table import format_table
from ..train.lifter import angle_between
from ..train.lifter_samples import LifterSampleMaker
from ..train.motions import load_motions

FRAMES = 96

LIMBS = tuple(
    f"{side}_{name}" for side in ("left", "right") for name in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle", "heel")
)


@dataclass
class LifterReport:
    """Errors of one method. NaN where a method has no such figure.

    points, aligned: mean distance of the limbs' points from the truth, in mm about the middle of the hips, and after the best
    similarity of each frame (PA); shake: mean error of their acceleration, mm/frame^2; rotation: mean over the 22 joints, degrees;
    up: median angle by which the vertical is off, degrees; contacts: F1 of heels and toes that stand.
    """

    hidden: bool
    method: str
    points: float
    aligned: float
    shake: float
    rotation: float
    up: float
    contacts: float


class LifterEvaluation:
    """Windows of held-out motions, and what each method makes of them."""

    def __init__(self, maker, hidden, windows=64, seed=7):
        """maker: `LifterSampleMaker` of held-out motions with a detector's noise; hidden: some of the person is not seen."""
        self.hidden, self.keypoints, self.layout = hidden, maker.keypoints, maker.layout
        self.sample = maker.draw(windows, FRAMES, torch.Generator().manual_seed(seed), augment=False, hide=hidden)
        names = self.layout.definition.names
        self.limbs = [names.index(name) for name in LIMBS]
        self.truth = self.sample.posed

    @torch.no_grad()
    def reports(self, network):
        """One `LifterReport` a method, the lifter's that of `LifterNet` network."""
        given = self.sample.given
        pose = network(given)
        return [
            self.measure("detector", given.points),
            self.measure("BodyIKNet", self.posed(given.start), given.start),
            self.measure("lifter", self.posed(pose.rotations), pose.rotations, pose),
        ]

    def posed(self, rotations):
        """Keypoints [B, T, K, 3] m about the root of the true bodies in a pose."""
        count, frames = rotations.shape[:2]
        betas = self.sample.betas.repeat_interleave(frames, 0)
        return self.keypoints(betas, rotations.flatten(0, 1))[1].unflatten(0, (count, frames))

    def measure(self, method, points, rotations=None, pose=None):
        sample, inside = self.sample, self.sample.inside
        hips = [self.limbs[LIMBS.index(f"{side}_hip")] for side in ("left", "right")]
        found, true = ((item - item[:, :, hips].mean(2, keepdim=True))[:, :, self.limbs] for item in (points, self.truth))
        apart = found - true
        shake = (apart[:, 2:] - 2 * apart[:, 1:-1] + apart[:, :-2]).norm(dim=-1)[inside[:, 2:]]
        turns = roma.rotmat_geodesic_distance(sample.rotations if rotations is None else rotations, sample.rotations)
        report = LifterReport(
            hidden=self.hidden,
            method=method,
            points=1000 * float(apart.norm(dim=-1)[inside].mean()),
            aligned=1000 * procrustes_distance(found[inside], true[inside]),
            shake=1000 * float(shake.mean()),
            rotation=float("nan") if rotations is None else float(torch.rad2deg(turns[inside]).mean()),
            up=float("nan"),
            contacts=float("nan"),
        )
        if pose is not None:
            grounded = inside & sample.grounded[:, None]
            off = angle_between(pose.up, sample.up[:, None].expand_as(pose.up))
            report.up = float(torch.rad2deg(off[grounded]).median())
            report.contacts = f1_score(pose.contacts[grounded] > 0, sample.contacts[grounded] > 0.5)
        return report


def procrustes_distance(found, true):
    """Mean distance of points found [N, K, 3] from true [N, K, 3] after the similarity that brings each N nearest (PA-MPJPE)."""
    found, true = found - found.mean(1, keepdim=True), true - true.mean(1, keepdim=True)
    turn = roma.special_procrustes(true.mT @ found)  # found to true
    turned = found @ turn.mT
    scale = (turned * true).sum((1, 2)) / found.square().sum((1, 2)).clamp(min=1e-12)
    return float((scale[:, None, None] * turned - true).norm(dim=-1).mean())


def f1_score(found, true):
    """Harmonic mean of precision and recall of bool tensors; 1 where there is nothing to find and nothing was."""
    hits = float((found & true).sum())
    both = float(found.sum() + true.sum())
    return 2 * hits / both if both else 1.0


def evaluate_lifter(data, noise, windows=64, network=None):
    """List of `LifterReport` of the shipped weights, or of another `LifterNet`.

    data: folder of AMASS-format motions; noise: `DetectorNoise`. Raises `WeightsError` or `MotionDataError`.
    """
    network = load_lifter()[0] if network is None else network
    maker = LifterSampleMaker(load_body("open"), load_motions(data, held_out=True), noise)
    return [report for hidden in (False, True) for report in LifterEvaluation(maker, hidden, windows).reports(network)]


def format_lifter_reports(reports):
    """The reports as one table for the terminal."""
    header = ("person", "method", "points mm", "PA mm", "shake mm", "rotation deg", "up deg", "contacts F1")

    def figure(value, digits):
        return "-" if np.isnan(value) else f"{value:.{digits}f}"

    rows = [
        (
            "partly hidden" if report.hidden else "seen",
            report.method,
            figure(report.points, 1),
            figure(report.aligned, 1),
            figure(report.shake, 1),
            figure(report.rotation, 1),
            figure(report.up, 1),
            figure(report.contacts, 2),
        )
        for report in reports
    ]
    return (
        format_table(header, rows)
        + f"\nWindows of {FRAMES} frames at {FRAMERATE:g} Hz; BodyIKNet's answers are not smoothed."
    )
