"""Training of FaceNet (Zhou et al. 2021, Sec. 3.4): synthetic faces with their truth, and real ones by landmarks and pixels.

Adam with a linear warm-up and half a cosine. Faces are rendered while the network is trained on those before.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from safetensors.torch import save

from ..contract.npz_file import write_whole
from ..networks.facenet import FaceNet, FaceNetPose
from ..synth.face import FaceSampler
from .face_samples import FacePool, as_pictures, load_clips
from .facenet_loss import REAL_WEIGHTS, WEIGHTS, FaceNetLoss, FaceTruth, total
from .facenet_metrics import HELD_OUT_SEED, format_errors, measure
from .sample_pool import Ahead
from .training_run import TrainingError, TrainingRun, check_schedule


@dataclass(frozen=True)
class FaceNetTraining:
    """Settings of one training.

    steps; batch: synthetic faces in a step; real: faces of videos in a step, where there are videos; learning rates at the start
    and at the end of the cosine; reuse: how often a rendered face is seen on average; evaluate_every: steps between looks at
    `held_out` synthetic faces; seed of everything that is drawn.
    """

    steps: int = 8000
    batch: int = 48
    real: int = 12
    learning_rate: float = 1.5e-3
    final_rate: float = 1e-5
    warm_up: int = 200
    reuse: int = 4
    evaluate_every: int = 1000
    held_out: int = 256
    seed: int = 0

    def __post_init__(self):
        check_schedule(self)
        if min(self.reuse, self.evaluate_every, self.held_out) < 1 or self.real < 0:
            raise TrainingError("Reuse, looks and held-out faces of a training should be at least 1, real faces at least 0.")


PRESETS = {
    # About an hour on two cores.
    "small": FaceNetTraining(),
    # Made for a GPU.
    "full": FaceNetTraining(steps=60_000, batch=192, real=48, reuse=2, evaluate_every=5000),
    # Shows in a minute that everything is there.
    "tiny": FaceNetTraining(steps=40, batch=8, real=4, evaluate_every=20, held_out=16, warm_up=10),
}


@dataclass
class FaceBatch:
    """A step's faces: pictures [N, 3, 128, 128] 0..1, the synthetic ones first, their truth, and of the real ones points
    [R, 478, 2] and person [R], or None."""

    pictures: torch.Tensor
    truth: FaceTruth
    points: torch.Tensor = None
    person: torch.Tensor = None


class FaceBatches:
    """Draws a `FaceBatch` a step, which depends on the seed and the step alone."""

    def __init__(self, settings, face, pool, clips=None):
        """pool: `FacePool`; clips: `ClipFaces` or None."""
        self.settings, self.face, self.pool, self.clips = settings, face, pool, clips

    def draw(self, step):
        samples = self.pool.draw(step)
        pictures, real = samples.pictures, ()
        if self.clips is not None and self.settings.real:
            rng = np.random.default_rng((self.settings.seed, 2, step))
            shown, points, person = self.clips.draw(self.settings.real, rng)
            pictures, real = np.concatenate([pictures, shown]), (torch.as_tensor(points), torch.as_tensor(person))
        return FaceBatch(as_pictures(pictures), FaceTruth.of(samples, self.face), *real)


class FaceNetTrainer(TrainingRun):
    """One training run in a folder: its checkpoint, its log, and at the end its weights. A run may be resumed with more steps."""

    largest_gradient = 20.0
    may_differ = ("steps",)

    def __init__(self, settings, face, batches, held_out, folder, device="cpu"):
        """face: `MorphableModel`; batches: draw(step) -> `FaceBatch`; held_out: `FaceSamples` never trained on. Raises
        `TrainingError` if the folder holds another run."""
        self.face, self.batches, self.held_out, self.device = face, batches, held_out, torch.device(device)
        self.look_every = settings.evaluate_every
        torch.manual_seed(settings.seed)
        self.loss = FaceNetLoss(face).to(self.device)
        network = FaceNet(face.shape_size, face.expression_limits, face.albedo_size)
        super().__init__(settings, network.to(self.device, memory_format=torch.channels_last), folder)

    def losses(self):
        """The terms on the step's batch."""
        batch = self.batches.draw(self.step)
        pictures = batch.pictures.to(self.device)
        # Half precision where it is safe: the layers. Geometry and losses stay in single precision.
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            pose = self.network(pictures)
        synthetic = len(batch.truth.shape)
        losses = self.loss.synthetic(
            FaceNetPose(*(value[:synthetic] for value in pose)), batch.truth.to(self.device), pictures[:synthetic]
        )
        whole = total(losses, WEIGHTS)
        if batch.points is not None:
            real = self.loss.real(
                FaceNetPose(*(value[synthetic:] for value in pose)),
                batch.points.to(self.device),
                batch.person.to(self.device),
                pictures[synthetic:],
            )
            whole = whole + total(real, REAL_WEIGHTS) * len(batch.points) / synthetic
            losses |= {f"real_{name}": value for name, value in real.items()}
        return {"total": whole} | losses

    def learning_rate(self, step):
        """Linear warm-up, then half a cosine from `learning_rate` to `final_rate`."""
        settings = self.settings
        progress = step / max(settings.steps, 1)
        falling = settings.final_rate + (settings.learning_rate - settings.final_rate) * (1 + np.cos(np.pi * progress)) / 2
        return float(falling * min(1, (step + 1) / settings.warm_up))

    def look(self, log):
        """Measures the held-out synthetic faces and logs it."""
        errors = measure(self.network.eval(), self.face, self.held_out, self.device)
        log(f"step {self.step} held out: " + " ".join(f"{name} {value:.4g}" for name, value in errors.items()))

    def final_table(self):
        """A table of the network on the held-out faces, beside the mean face."""
        return format_errors(self.network.eval(), self.face, self.held_out, self.device)


def write_weights(trainer, path):
    """Writes a trained network's weights in half precision, with what they say of their face model."""
    tensors, metadata = trainer.network.to("cpu").to_tensors(trainer.face)
    write_whole(path, save(tensors, metadata))


def make_trainer(settings, face, folder, clips=(), device="cpu", progress=lambda items, total=None: items):
    """The trainer of one run on a `MorphableModel`; clips: `ClipPart`s. Raises `RendererError`, `VideoError`, `TrainingError`."""
    if not face.has_mesh_points.any():
        raise TrainingError("This face model has no points of the face mesh, which FaceNet learns from: find them first.")
    sampler = FaceSampler(face)
    held_out = sampler.draw(settings.held_out, (HELD_OUT_SEED, 0))
    if not clips:
        settings = replace(settings, real=0)
    real = load_clips(clips, face, progress) if clips else None
    pool = FacePool(sampler, settings.batch, settings.reuse, seed=settings.seed)
    return FaceNetTrainer(settings, face, Ahead(FaceBatches(settings, face, pool, real)), held_out, folder, device)
