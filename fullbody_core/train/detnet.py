"""Training of DetNet (Zhou et al. 2021, Sec. 3.2; supplementary Sec. 3, Training Details).

Adam at 1e-3, and at 1e-4 from when the loss on held-out samples stops decreasing, as in the paper, or from the last part of the
steps on, whichever comes first.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from ..networks.body_keypoints import EXTENDED_BODIES
from ..networks.detnet import SIZES, DetNet, to_tensors
from ..tensor_shards import write_shards
from .augmentation import augment
from .detnet_loss import DetNetTensors, detnet_losses, total_loss
from .detnet_metrics import constant_predictions, format_detnet_reports, predict_samples, report_samples
from .detnet_sources import draw_samples, open_people
from .mini_batches import PAPER_SIZE, MiniBatches, OwnThread
from .sample_pool import Ahead, SamplePool
from .training_run import TrainingError, TrainingRun, check_schedule

LARGEST_GRADIENT = 3000.0
"""Norm to which gradients are cut. Losses are sums over maps: usual gradients are in the hundreds."""

VALIDATION_BATCH = 32

POOL_BLOCKS = 128
"""Blocks of a batch's size that the pool holds: 128 of 16 samples are half a gigabyte."""


@dataclass(frozen=True)
class DetNetTraining:
    """Settings of one training.

    size: a name in `networks.detnet.SIZES`; definitions: the ExtBody-PoseNets to train; steps and batch size; learning_rate, and
    final_rate from the plateau on; evaluate_every: steps between looks at the held-out samples; patience: how many looks without
    a better loss make a plateau; final_share: the last part of the steps, which has the final rate in any case; reuse: how often
    a synthetic sample is seen on average; seed of everything that is drawn.
    """

    size: str = "small"
    definitions: tuple = ("smpl",)
    steps: int = 8000
    batch: int = 16
    learning_rate: float = 1e-3
    final_rate: float = 1e-4
    warm_up: int = 200
    evaluate_every: int = 500
    patience: int = 3
    final_share: float = 0.25
    reuse: int = 4
    seed: int = 0

    def __post_init__(self):
        if self.size not in SIZES or not self.definitions or not set(self.definitions) <= set(EXTENDED_BODIES):
            raise TrainingError(f"There is no DetNet of size {self.size!r} for {', '.join(self.definitions)} keypoints.")
        if min(self.evaluate_every, self.patience, self.reuse) < 1:
            raise TrainingError("Looks, patience and reuse of a training should be at least 1.")
        check_schedule(self)


PRESETS = {
    # About an hour on two cores.
    "small": DetNetTraining(size="small", steps=4500, batch=16),
    # What the paper's network asks for; made for a GPU.
    "full": DetNetTraining(size="full", steps=200_000, batch=64, evaluate_every=2000),
    # Shows in a minute that everything is there.
    "tiny": DetNetTraining(size="tiny", steps=60, batch=4, evaluate_every=10),
}


class DetNetTrainer(TrainingRun):
    """One training run in a folder: its checkpoint, its log, and at the end its weights.

    A run may be resumed with more steps, if it turns out to be worth it.
    """

    largest_gradient = LARGEST_GRADIENT
    may_differ = ("steps",)

    def __init__(self, settings, batches, held_out, folder, device="cpu"):
        """batches: draw(step) -> `DetNetSamples`; held_out: `DetNetSamples` that are never trained on. Raises `TrainingError` if
        the folder holds another run."""
        self.batches, self.held_out, self.device = batches, held_out, torch.device(device)
        self.look_every = settings.evaluate_every
        torch.manual_seed(settings.seed)
        network = DetNet(settings.size, settings.definitions)
        super().__init__(settings, network.to(self.device, memory_format=torch.channels_last), folder)

    def losses(self):
        """The terms of Eq. 11 on the step's batch."""
        losses = detnet_losses(self.network, DetNetTensors.of(self.batches.draw(self.step), self.device))
        return {"total": total_loss(losses)} | losses

    def learning_rate(self, step):
        """Linear warm-up to `learning_rate`; `final_rate` after the plateau or in the last part of the steps."""
        settings = self.settings
        fallen = "fell_at" in self.progress or step >= (1 - settings.final_share) * settings.steps
        rate = settings.final_rate if fallen else settings.learning_rate
        return float(rate * min(1, (step + 1) / settings.warm_up))

    def look(self, log):
        """Measures the held-out samples, logs it, and notices a plateau."""
        loss = self.validation_loss()
        report = report_samples(self.held_out, predict_samples(self.network.eval(), self.held_out, device=self.device))
        body, hands = report.parts["body"], report.parts["hands"]
        log(
            f"step {self.step} held out: loss {loss:.1f} body {body.mpjpe:.1f} mm PA {body.pa:.1f} mm 2D {report.pck2d:.1%} "
            f"hands {hands.mpjpe:.1f} mm PA {hands.pa:.1f} mm 2D {report.hand_pixels:.1%} "
            f"IoU hand {report.hand_iou:.2f} face {report.face_iou:.2f}"
        )
        if loss < self.progress.get("best", float("inf")):
            self.progress |= {"best": loss, "waited": 0}
            return
        self.progress["waited"] = self.progress.get("waited", 0) + 1
        if self.progress["waited"] >= self.settings.patience and "fell_at" not in self.progress:
            self.progress["fell_at"] = self.step
            log(f"step {self.step} the loss stopped decreasing: learning rate {self.settings.final_rate:.0e} from here on")

    def validation_loss(self):
        """Eq. 11 on the held-out samples."""
        self.network.eval()
        total = 0.0
        with torch.no_grad():
            for start in range(0, len(self.held_out), VALIDATION_BATCH):
                part = self.held_out.take(slice(start, start + VALIDATION_BATCH))
                losses = detnet_losses(self.network, DetNetTensors.of(part, self.device))
                total += float(total_loss(losses)) * len(part)
        return total / len(self.held_out)

    def final_table(self):
        """A table of the network on the held-out samples, beside the best predictor that never looks: their own mean pose."""
        predicted = predict_samples(self.network.eval(), self.held_out, device=self.device)
        constant = constant_predictions(self.held_out, self.held_out)
        reports = {"DetNet": predicted, "constant pose": constant}
        return format_detnet_reports({name: report_samples(self.held_out, item) for name, item in reports.items()})


def write_weights(network, folder):
    """Writes a trained `DetNet` in half precision and returns the files' paths."""
    return write_shards(folder, f"detnet_{network.size}", *to_tensors(network))


def make_trainer(
    settings, data, readers, folder, device="cpu", held_out=256, overfit=None, backgrounds=None, progress=lambda items: items
):
    """The trainer of one run.

    data: folder of AMASS-format motions or None; readers: of public datasets, which join the synthetic people in the paper's
    composition; held_out: number of held-out synthetic people; overfit: train and measure on this many fixed samples instead.
    Raises `MotionDataError`, `PeopleAbsent`, `DatasetError`, `TrainingError`.
    """
    settings = replace(settings, definitions=tuple(dict.fromkeys(("smpl", *(reader.definition for reader in readers)))))
    if overfit is not None:
        samples = draw_samples(open_people(data, False, device, backgrounds), overfit, (settings.seed, 3), progress)
        return DetNetTrainer(settings, FixedSamples(samples, settings.batch, settings.seed), samples, folder, device)
    kept = draw_samples(open_people(data, True, device, backgrounds), held_out, (settings.seed, 2), progress)
    people = OwnThread(lambda: open_people(data, False, device, backgrounds))
    if readers:
        batches = MiniBatches([*readers, people], settings.seed, multiple=max(1, settings.batch // PAPER_SIZE))
    else:
        batches = SamplePool(people, settings.batch, settings.reuse, POOL_BLOCKS, settings.seed, augment)
    return DetNetTrainer(settings, Ahead(batches), kept, folder, device)


class FixedSamples:
    """Batches from a few samples that never change, each epoch in a new order."""

    def __init__(self, samples, batch, seed):
        self.samples, self.batch, self.seed = samples, min(batch, len(samples)), seed

    def draw(self, step):
        """The batch of that step."""
        epoch, place = divmod(step * self.batch, len(self.samples) // self.batch * self.batch)
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.samples))
        return self.samples.take(order[place : place + self.batch])
