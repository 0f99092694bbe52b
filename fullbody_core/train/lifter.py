"""Training of the lifter: IKNet's losses over windows of time, and those of contacts and of the vertical.

The rotations' and the posed points' losses are Eq. 15 of Zhou et al. 2021, here also of the joints' orientations in the picture's
axes; the body's shape is not asked for, because the whole clip knows it better. To them come the posed points' velocities
(VideoPose3D, Pavllo et al. 2019, Eq. 4), a cross-entropy for each contact (as in Rempe et al. 2020), the vertical's angle from the
true one, and that angle's likelihood.
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from ..body.load_body import load_body
from ..contract.npz_file import write_whole
from ..networks.iknet import SHAPE_SIZE
from ..networks.lifter import LifterNet
from .lifter_samples import LifterSampleMaker
from .motions import load_motions
from .sample_pool import Ahead
from .training_run import TrainingError, TrainingRun, check_schedule

LOSS_WEIGHTS = {
    "rotation": 1.0,
    "orientation": 2.0,
    "posed": 20.0,
    "velocity": 40.0,
    "contact": 0.4,
    "up": 0.6,
    "spread": 0.01,
}
"""Such that the pose's terms make up most of the slope of what all of them share: with five to ten times these weights of contacts
and the vertical the pose had hardly moved after 750 steps. Velocities are metres a frame, and say how a limb shakes."""

LEAST_SPREAD = np.log(np.radians(1.0))
"""Below a degree the vertical is as good as known."""


@dataclass(frozen=True)
class LifterTraining:
    """Settings of one training: number of steps, windows a step and frames a window, learning rates at the start and at the end of
    the cosine, steps until the first of them is reached, and the seed of everything that is drawn."""

    steps: int = 20_000
    batch: int = 24
    frames: int = 48
    learning_rate: float = 1e-3
    final_rate: float = 1e-6
    warm_up: int = 100
    seed: int = 0

    def __post_init__(self):
        check_schedule(self)
        if self.frames < 4:
            raise TrainingError(f"A window should have at least 4 frames, got {self.frames}.")


def lifter_losses(pose, keypoints, sample):
    """The terms of the loss, each a mean over frames that belong to a clip.

    pose: `LifterPose`; keypoints: `BoundKeypoints`; sample: `LifterSample`.
    """
    inside = sample.inside
    count, frames = inside.shape
    betas = sample.betas.repeat_interleave(frames, 0)

    _, points, orientations = keypoints(betas, pose.rotations.flatten(0, 1))
    points, orientations, true = (
        points.unflatten(0, (count, frames)),
        orientations.unflatten(0, (count, frames)),
        sample.posed,
    )
    grounded = inside & sample.grounded[:, None]
    contact = nn.functional.binary_cross_entropy_with_logits(pose.contacts, sample.contacts, reduction="none").mean(-1)
    moved, truly = points[:, 1:] - points[:, :-1], true[:, 1:] - true[:, :-1]
    off = angle_between(pose.up, sample.up[:, None].expand_as(pose.up))
    spread = pose.log_spread.clamp(min=LEAST_SPREAD)
    return {
        "rotation": _mean((pose.rotations - sample.rotations).flatten(-2).norm(dim=-1).mean(-1), inside),
        "orientation": _mean((orientations - sample.orientations).flatten(-2).norm(dim=-1).mean(-1), inside),
        "posed": _mean((points - true).norm(dim=-1).mean(-1), inside),
        "velocity": _mean((moved - truly).norm(dim=-1).mean(-1), inside[:, 1:] & inside[:, :-1]),
        "contact": _mean(contact, grounded),
        "up": _mean(off, grounded),
        # Likelihood of a normal distribution of two angles. It does not pull at the vertical itself: its slope has no bound.
        "spread": _mean(0.5 * (off.detach() / spread.exp()).square() + 2 * spread, grounded),
    }


def angle_between(a, b):
    """Angles [...] in radians between unit vectors [..., 3]; their gradient is finite where they are one."""
    return 2 * torch.asin((0.5 * (a - b).square().sum(-1).clamp(min=1e-12).sqrt()).clamp(max=1 - 1e-6))


def _mean(values, where):
    return (values * where).sum() / where.sum().clamp(min=1)


class LifterTrainer(TrainingRun):
    """One training run in a folder: its checkpoint, its log, and at the end its weights."""

    may_differ = ("steps",)

    def __init__(self, settings, maker, folder, device="cpu"):
        """maker: the `LifterSampleMaker` of the training motions. Raises `TrainingError` if the folder holds another run."""
        self.maker, self.device = maker, torch.device(device)
        # A copy: samples are drawn on the CPU, whatever the network is trained on.
        self.keypoints = copy.deepcopy(maker.keypoints).to(self.device)
        self.ahead = Ahead(self)
        torch.manual_seed(settings.seed)
        super().__init__(settings, LifterNet(maker.layout).to(self.device), folder)

    def losses(self):
        """The terms of `lifter_losses` on fresh windows."""
        sample = to_device(self.ahead.draw(self.step), self.device)
        # Half precision where it is safe: the layers. Geometry and losses stay in single precision.
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            pose = self.network(sample.given)
        losses = lifter_losses(pose, self.keypoints, sample)
        return {"total": sum(LOSS_WEIGHTS[name] * loss for name, loss in losses.items())} | losses

    def draw(self, step):
        """The windows of a step."""
        settings = self.settings
        generator = torch.Generator().manual_seed((settings.seed + 1) * 1_000_003 + step)
        return self.maker.draw(settings.batch, settings.frames, generator)

    def learning_rate(self, step):
        """Linear warm-up, then half a cosine from `learning_rate` to `final_rate`."""
        settings = self.settings
        progress = step / max(settings.steps, 1)
        falling = settings.final_rate + (settings.learning_rate - settings.final_rate) * (1 + np.cos(np.pi * progress)) / 2
        return float(falling * min(1, (step + 1) / settings.warm_up))


def to_device(sample, device):
    """A `LifterSample` on a device."""
    given = type(sample.given)(*(item.to(device) for item in sample.given))
    return type(sample)(given, *(item.to(device) for item in sample[1:]))


def make_trainer(settings, data, noise, folder, device="cpu"):
    """The trainer of a lifter on the open body.

    data: folder of AMASS-format motions; noise: `DetectorNoise`. Raises `MotionDataError`, `TrainingError`, `WeightsError`.
    """
    maker = LifterSampleMaker(load_body("open"), load_motions(data, held_out=False), noise)
    return LifterTrainer(settings, maker, folder, device)


def write_weights(trainer, path):
    """Writes a trained network's weights in half precision, with the mean body's keypoints to know that body by."""
    network = trainer.network.to("cpu")
    mean = trainer.keypoints.to("cpu").rest(torch.zeros(1, SHAPE_SIZE))[1][0]
    tensors, metadata = network.to_tensors(mean)
    write_whole(path, save(tensors, metadata))
