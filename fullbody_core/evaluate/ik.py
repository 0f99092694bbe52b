"""`fullbody evaluate ik`: IKNet, the closed form and a long optimisation on held-out poses whose truth is known.

The body's poses are the held-out motions' (`train.motions.is_held_out`), a hand's are drawn anew from `synth.hand_poses`. Each is
given twice: exact keypoints, and keypoints with a detector's measured errors. All errors are about the root (the middle of the
hips or the pelvis; the root of the middle finger, as in the paper's supplementary, Sec. 3), in millimetres of the true body.
"""

import time
from dataclasses import dataclass

import numpy as np
import roma
import torch

from ..body.load_body import load_body
from ..contract.skeleton import BLAZEPOSE_33, BODY_JOINTS, HAND_21
from ..detect.keypoints import Keypoints
from ..ik.analytic import solve_pose
from ..ik.analytic_hand import palm_orientation, solve_fingers
from ..ik.iknet import BODY_WEIGHTS, HAND_WEIGHTS, load_iknet
from ..ik.rest_skeleton import RestSkeleton
from ..motion import LIMB_BONES
from ..networks.iknet import IKNetPose, rotation_from_6d
from ..table import format_table
from ..train.iknet_samples import BodyPoses, HandPoses, IKSample, SampleMaker
from ..train.keypoint_noise import KeypointNoise
from ..train.motions import load_motions

OPTIMISATION_STEPS, TIMED_CALLS = 400, 50

HOLD = 1e-7
"""m^2. Weight of one squared unit of the optimisation's rotations or betas against squared distances."""


@dataclass
class IKReport:
    """Errors of one method on one kind of input. mm, degrees, shares; NaN where a method has no such figure.

    joints: the part's joints; keypoints: the part's keypoints after the solution; input: the same before it; limbs: lengths of
    the estimated body against the true one's; `true_shape` says whether the method was told the shape.
    """

    keypoints_of: str
    noisy: bool
    method: str
    true_shape: bool
    joints: float
    keypoints: float
    input: float
    rotation: float
    limbs: float


class IKEvaluation:
    """Held-out samples of one layout, clean or noisy, and what each method makes of them."""

    def __init__(self, network, body, poses, noise, noisy):
        """network: `IKNet`; poses [B, J, 3, 3] its layout's rotations; noise: `DetectorNoise`."""
        self.network, self.body, self.noisy = network, body, noisy
        self.layout = network.layout
        self.hand = self.layout.definition is HAND_21
        maker = SampleMaker(self.layout, body, None, SeenNoise(noise, self.layout) if noisy else None)
        self.keypoints = maker.keypoints
        self.sample: IKSample = maker.complete(poses, torch.Generator().manual_seed(1))
        self.mean_reference = self.keypoints.rest(torch.zeros_like(self.sample.betas))[1]
        self.true_reference = self.keypoints.rest(self.sample.betas)[1]

    def reports(self):
        """One `IKReport` a method."""
        poses = {
            ("IKNet", False): self.iknet(self.mean_reference),
            ("IKNet", True): self.iknet(self.true_reference),
            ("optimisation", False): self.optimise(self.iknet(self.mean_reference)),
        }
        if self.layout.definition.names[: len(BLAZEPOSE_33)] == BLAZEPOSE_33.names or self.hand:
            poses["closed form", True] = self.closed_form()
        return [self.measure(method, told, pose) for (method, told), pose in poses.items()]

    @torch.no_grad()
    def iknet(self, reference):
        """IKNet's answers. Told the shape, its rotations are posed on the true body (GT-beta in the paper's Table 3)."""
        pose = self.network(self.sample.points, self.sample.confidence, reference)
        if reference is self.true_reference:
            pose = pose._replace(betas=self.sample.betas, scale=self.sample.scale)
        return pose

    def closed_form(self):
        """The closed form's answers, sample by sample, as each has a body of its own."""
        solve = self._closed_form_hand if self.hand else self._closed_form_body
        rotations = np.stack([solve(index) for index in range(len(self.sample.betas))])
        rotations = torch.as_tensor(rotations, dtype=torch.float32)
        return IKNetPose(rotations, self.sample.betas, self.sample.scale)

    def _closed_form_body(self, index):
        skeleton, points = self._skeleton_and_points(index)
        found = Keypoints.stack([Keypoints.nobody(BLAZEPOSE_33)])
        found.body3d[0], found.body_confidence[0] = points[: len(BLAZEPOSE_33)], 1
        for side, first in ((0, len(BLAZEPOSE_33)), (1, len(BLAZEPOSE_33) + 4)):
            wrist = points[BLAZEPOSE_33.index(("left_wrist", "right_wrist")[side])]
            found.hand3d[0, side, [HAND_21.index(f"{f}_mcp") for f in ("index", "middle", "ring", "pinky")]] = (
                points[first : first + 4] - wrist
            )
            found.hand_confidence[0, side] = 1
        return solve_pose(found, skeleton)[0, BODY_JOINTS]

    def _closed_form_hand(self, index):
        skeleton, points = self._skeleton_and_points(index)
        palm = palm_orientation(points[None], skeleton.joints, "left")
        return np.concatenate([palm, solve_fingers(points[None], palm, skeleton.joints, "left")[0]])

    def _skeleton_and_points(self, index):
        skeleton = RestSkeleton.of_body(self.body, self.sample.betas[index].double().numpy())
        return skeleton, self.sample.points[index].double().numpy()

    def optimise(self, start):
        """Rotations, betas and scale whose keypoints are nearest: Adam from the network's answer, weakly held to it.

        start: `IKNetPose`. The hold settles what the keypoints leave open; it is the only prior there is.
        """
        sample = self.sample
        six = torch.cat([start.rotations[..., 0], start.rotations[..., 1]], -1).clone().requires_grad_()
        first_six = six.detach().clone()
        betas, log_scale = start.betas.clone().requires_grad_(), start.scale.log().clone().requires_grad_()
        optimiser = torch.optim.Adam([six, betas, log_scale], lr=0.02)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, OPTIMISATION_STEPS, eta_min=1e-4)
        for _ in range(OPTIMISATION_STEPS):
            posed = self.keypoints(betas, rotation_from_6d(six))[1] * log_scale.exp()[:, None, None]
            # Without a root both clouds are compared about their own middle.
            apart = (posed - posed.mean(1, keepdim=True)) - (sample.points - sample.points.mean(1, keepdim=True))
            hold = (six - first_six).square().sum((1, 2)) + betas.square().sum(1)
            loss = apart.square().sum(-1).mean(1) + HOLD * hold
            optimiser.zero_grad()
            loss.sum().backward()
            optimiser.step()
            schedule.step()
        return IKNetPose(rotation_from_6d(six.detach()), betas.detach(), log_scale.detach().exp())

    @torch.no_grad()
    def measure(self, method, told, pose):
        sample = self.sample
        ratio = (pose.scale / sample.scale)[:, None, None]
        joints, points, _ = self.keypoints(pose.betas, pose.rotations)
        true_joints, _, _ = self.keypoints(sample.betas, sample.rotations)
        turns = roma.rotmat_geodesic_distance(pose.rotations, sample.rotations)
        return IKReport(
            keypoints_of=self.layout.definition.name,
            noisy=self.noisy,
            method=method,
            true_shape=told,
            joints=_mean_distance(ratio * joints, true_joints),
            keypoints=_mean_distance(self._rooted(ratio * points), self._rooted(sample.posed)),
            input=_mean_distance(self._rooted(sample.points / sample.scale[:, None, None]), self._rooted(sample.posed)),
            rotation=float(torch.rad2deg(turns).mean()),
            limbs=float("nan") if told else self._limb_error(pose),
        )

    def _rooted(self, points):
        """The definition's own points about its root; a hand detector's knuckles are no part of the body detector's answer."""
        definition = self.layout.definition
        if self.hand:
            return points - points[:, definition.index("middle_mcp"), None]
        if "pelvis" in definition.names:
            return points - points[:, definition.index("pelvis"), None]
        points = points[:, : len(BLAZEPOSE_33)]
        hips = [definition.index("left_hip"), definition.index("right_hip")]
        return points - points[:, hips].mean(1, keepdim=True)

    def _limb_error(self, pose):
        """Mean error of bone lengths at rest, in the keypoints' units: betas and alpha together say how long a limb is."""
        lengths = self._rest_lengths(pose.betas) * pose.scale[:, None]
        true = self._rest_lengths(self.sample.betas) * self.sample.scale[:, None]
        return float((lengths / true - 1).abs().mean())

    def _rest_lengths(self, betas):
        joints = self.keypoints.rest(betas)[0]
        names = self.layout.joint_names
        bones = [(names.index(a), names.index(b)) for a, b in LIMB_BONES] if not self.hand else _hand_bones(names)
        parent, child = zip(*bones)
        return (joints[:, parent] - joints[:, child]).norm(dim=-1)


class SeenNoise(KeypointNoise):
    """A detector's errors at their measured size, with every point seen."""

    def draw_strengths(self, count, generator):
        return torch.ones(2, count)

    def draw_confidence(self, points, generator):
        return torch.ones(points.shape[:2])


def _mean_distance(a, b):
    return float((a - b).norm(dim=-1).mean() * 1000)


def _hand_bones(names):
    return [(names.index(f"left_{f}{s}"), names.index(f"left_{f}{s + 1}")) for f in ("index", "middle") for s in (1, 2)]


@dataclass
class IKTiming:
    """single: seconds for one body and two hands at batch 1 on one core; rate: persons a second at batch 256, on all cores."""

    single: float
    rate: float
    cores: int


def evaluate_ik(data, noise, count=2000, seed=7, networks=None):
    """(list of `IKReport`, `IKTiming`) of the shipped weights, or of other `networks` ([body, body on SMPL-33, hand]).

    data: folder of AMASS-format motions; noise: `DetectorNoise`; count: poses of each kind. Raises `WeightsError` or
    `MotionDataError`.
    """
    body = load_body("open")
    if networks is None:
        networks = [load_iknet(weights)[0] for weights in (*BODY_WEIGHTS.values(), HAND_WEIGHTS)]
    held_out = BodyPoses(load_motions(data, held_out=True))
    reports = []
    for network in networks:
        generator = torch.Generator().manual_seed(seed)
        if network.layout.definition is HAND_21:
            poses = HandPoses(body, seed=seed, pool_size=count).draw(count, generator, augment=False)
        else:
            poses = held_out.draw(count, generator, augment=False)
        for noisy in (False, True):
            reports += IKEvaluation(network, body, poses, noise, noisy).reports()
    return reports, time_networks(networks[0], networks[-1])


def time_networks(body_network, hand_network):
    """`IKTiming` by the median of TIMED_CALLS; a person is one body and two hands."""
    cores = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        single = _median_seconds(body_network, hand_network, 1)
    finally:
        torch.set_num_threads(cores)
    return IKTiming(single, 256 / _median_seconds(body_network, hand_network, 256), cores)


def _median_seconds(body_network, hand_network, batch):
    inputs = []
    for network, people in ((body_network, batch), (hand_network, 2 * batch)):
        points = torch.randn(people, len(network.layout.definition), 3)
        inputs.append((network, points, torch.ones(points.shape[:2]), torch.randn_like(points)))
    seconds = []
    with torch.inference_mode():
        for _ in range(TIMED_CALLS + 5):
            start = time.perf_counter()
            for network, *arguments in inputs:
                network(*arguments)
            seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[5:]))


def format_ik_reports(reports, timing):
    """The reports as one table for the terminal, and a line of timings."""
    header = ("keypoints", "input", "method", "shape", "joints mm", "keypoints mm", "input mm", "rotation deg", "limbs %")
    rows = [
        (
            report.keypoints_of,
            "noisy" if report.noisy else "exact",
            report.method,
            "true" if report.true_shape else "estimated",
            f"{report.joints:.1f}",
            f"{report.keypoints:.1f}",
            f"{report.input:.1f}",
            f"{report.rotation:.1f}",
            "-" if np.isnan(report.limbs) else f"{100 * report.limbs:.1f}",
        )
        for report in reports
    ]
    timings = (
        f"One body and two hands: {1000 * timing.single:.2f} ms at batch 1 on one core; "
        f"{timing.rate:,.0f} persons a second at batch 256 on {timing.cores} cores."
    )
    return format_table(header, rows) + "\n" + timings
