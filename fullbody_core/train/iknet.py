"""Training of BodyIKNet and HandIKNet: Eq. 15 of Zhou et al. 2021 with the weights of its supplementary (Sec. 3).

The paper trains with Adam at a fixed rate of 1e-4 for as long as it takes. Here the rate starts higher and falls along a cosine,
which gets there in the hours that a CPU allows; `learning_rate` and `final_rate` at 1e-4 give the paper's schedule.
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from safetensors.torch import save

from ..body.load_body import load_body
from ..contract.npz_file import write_whole
from ..networks.iknet import LAYOUTS, SHAPE_SIZE, IKNet
from .iknet_samples import BodyPoses, HandPoses, SampleMaker
from .keypoint_noise import KeypointNoise
from .motions import load_motions
from .training_run import TrainingError, TrainingRun, check_schedule

LOSS_WEIGHTS = {
    "body": {"scale": 0.1, "shape": 0.001, "rotation": 1.0, "posed": 20.0, "rest": 0.1},
    "hand": {"scale": 0.1, "shape": 0.001, "rotation": 10.0, "posed": 20.0, "rest": 0.1},
}
"""The lambdas of Eq. 15: alpha, beta, theta, chi, chi-bar."""

STEADY_WEIGHT, STEADY_FROM, STEADY_SHARE = {"body": 20.0, "hand": 0.0}, 0.6, 0.25
"""Beyond Eq. 15: in the last part of a training, from this share of its steps on, a share of each batch is seen a second time with
its keypoints shaken as from one frame to the next, and the posed keypoints are to stay where they were."""

SHAKE = (0.005, 0.005, 0.011)
"""m, to the side, down and away: what is new in every frame of MediaPipe's errors (`DetectorNoise.jitter`), for a body."""


@dataclass(frozen=True)
class IKNetTraining:
    """Settings of one training. part: 'body' or 'hand'; definition: the keypoints' name; batch size and number of steps;
    learning rates at the start and at the end of the cosine; seed of everything that is drawn."""

    part: str = "body"
    definition: str = "blazepose_33_knuckles"
    steps: int = 60_000
    batch: int = 512
    learning_rate: float = 1e-3
    final_rate: float = 1e-6
    warm_up: int = 500
    seed: int = 0

    def __post_init__(self):
        if self.part not in LOSS_WEIGHTS or self.definition not in LAYOUTS:
            raise TrainingError(f"There is no IKNet for the {self.part} on {self.definition} keypoints.")
        check_schedule(self)


def iknet_losses(pose, keypoints, sample):
    """The five terms of Eq. 15, each a mean over the batch.

    pose: `IKNetPose`; keypoints: `BoundKeypoints`; sample: `IKSample`. L2 is read as the Euclidean norm, a vector at a time (a
    joint's rotation, a keypoint), in metres of the true body: squared, the paper's weights would leave a centimetre of error
    next to nothing. alpha is compared by its logarithm, as a ratio.
    """
    rest_joints, rest = keypoints.rest(pose.betas)
    _, posed, _ = keypoints(pose.betas, pose.rotations)
    # Too large a body at too small a scale covers the keypoints as well: what counts is the size in the keypoints' units.
    ratio = (pose.scale / sample.scale)[:, None, None]
    return {
        "scale": (pose.scale / sample.scale).log().abs().mean(),
        "shape": (pose.betas - sample.betas).norm(dim=-1).mean(),
        "rotation": (pose.rotations - sample.rotations).flatten(-2).norm(dim=-1).mean(),
        "posed": (ratio * posed - sample.posed).norm(dim=-1).mean(),
        "rest": (ratio * (rest - rest_joints[:, :1]) - sample.rest).norm(dim=-1).mean(),
    }


class IKNetTrainer(TrainingRun):
    """One training run in a folder: its checkpoint, its log, and at the end its weights."""

    def __init__(self, settings, maker, folder, device="cpu"):
        """maker: the `SampleMaker` of the training motions. Raises `TrainingError` if the folder holds another run."""
        self.maker, self.device = maker, torch.device(device)
        # A copy: samples are drawn on the CPU, whatever the network is trained on.
        self.keypoints = copy.deepcopy(maker.keypoints).to(self.device)
        torch.manual_seed(settings.seed)
        super().__init__(settings, IKNet(LAYOUTS[settings.definition]).to(self.device), folder)

    def losses(self):
        """The terms of Eq. 15 on a fresh batch."""
        settings = self.settings
        generator = torch.Generator().manual_seed((settings.seed + 1) * 1_000_003 + self.step)
        sample = type(drawn := self.maker.draw(settings.batch, generator))(*(item.to(self.device) for item in drawn))
        # Half precision where it is safe: the layers. Geometry and losses stay in single precision.
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            pose = self.network(sample.points, sample.confidence, sample.reference)
        losses = iknet_losses(pose, self.keypoints, sample)
        weights = LOSS_WEIGHTS[settings.part]
        total = sum(weights[name] * loss for name, loss in losses.items())
        if STEADY_WEIGHT[settings.part] and self.step >= STEADY_FROM * settings.steps:
            losses["steady"] = self.steady_loss(pose, sample, generator)
            total = total + STEADY_WEIGHT[settings.part] * losses["steady"]
        return {"total": total} | losses

    def steady_loss(self, pose, sample, generator):
        """How far the posed keypoints move, in m, when their input shakes as from frame to frame."""
        count = int(STEADY_SHARE * len(sample.points))
        shake = torch.randn(sample.points[:count].shape, generator=generator) * torch.tensor(SHAKE)
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            shaken = self.network(
                sample.points[:count] + shake.to(self.device), sample.confidence[:count], sample.reference[:count]
            )
        # The same body in both, so that only the pose is held.
        _, before, _ = self.keypoints(sample.betas[:count], pose.rotations[:count])
        _, after, _ = self.keypoints(sample.betas[:count], shaken.rotations)
        return (after - before).norm(dim=-1).mean()

    def learning_rate(self, step):
        """Linear warm-up, then half a cosine from `learning_rate` to `final_rate`."""
        settings = self.settings
        progress = step / max(settings.steps, 1)
        falling = settings.final_rate + (settings.learning_rate - settings.final_rate) * (1 + np.cos(np.pi * progress)) / 2
        return float(falling * min(1, (step + 1) / settings.warm_up))


def make_trainer(settings, data, noise, folder, device="cpu"):
    """The trainer of one IKNet on the open body.

    data: folder of AMASS-format motions (not needed for a hand); noise: `DetectorNoise`. Raises `MotionDataError`,
    `TrainingError`.
    """
    body, layout = load_body("open"), LAYOUTS[settings.definition]
    poses = HandPoses(body) if settings.part == "hand" else BodyPoses(load_motions(data, held_out=False))
    return IKNetTrainer(settings, SampleMaker(layout, body, poses, KeypointNoise(noise, layout)), folder, device)


def write_weights(trainer, path):
    """Writes a trained network's weights in half precision, with the mean body's keypoints to know that body by."""
    network = trainer.network.to("cpu")
    mean = trainer.keypoints.to("cpu").rest(torch.zeros(1, SHAPE_SIZE))[1][0]
    tensors, metadata = network.to_tensors(mean)
    write_whole(path, save(tensors, metadata))
