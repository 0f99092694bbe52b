"""FaceNet on held-out synthetic faces, where the truth is known, and how fast it is here."""

import time
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from ..face.facenet import FaceNetPredictor
from ..face.landmarks import LANDMARKS_68
from ..networks.facenet import INPUT_SIZE, FaceNet, FaceNetPose, FacePoints, face_middle
from ..synth.face import FaceSampler
from ..table import format_table
from .detnet_timing import REPEATS, WARM_UP, describe_device

UNITS = {
    "landmarks": "px of 224", "surface": "mm", "shape": "sd", "expression": "0..1", "colour": "0..1", "albedo": "sd",
    "light": "share of level", "rotation": "deg",
}  # fmt: skip
"""Of the errors: the 68 landmarks in the crop; the face mesh in the face's own frame; root mean squares of shape and albedo
coefficients; means of expression coefficients, of the skin's linear RGB, and of the light's, over its ambient level."""

BATCH = 64

HELD_OUT_SEED = 1_000_003
"""Of the synthetic faces that are only measured on: no training's seed goes with it."""


@torch.no_grad()
def predict_pictures(network, pictures, device="cpu"):
    """`FaceNetPose`, on the CPU, of pictures [N, H, H, 3] uint8."""
    parts = []
    for start in range(0, len(pictures), BATCH):
        part = torch.as_tensor(pictures[start : start + BATCH]).to(device).permute(0, 3, 1, 2).float() / 255
        parts.append([value.float().cpu() for value in network(part)])
    return FaceNetPose(*(torch.cat(values) for values in zip(*parts)))


def true_pose(samples, face):
    """What FaceNet should answer to `FaceSamples` of the `MorphableModel` face."""
    heads = samples.truth
    arrays = (
        heads.shape,
        heads.expression,
        heads.albedo,
        heads.illumination,
        heads.rotation,
        heads.place(face_middle(face)),
    )
    return FaceNetPose(*(torch.as_tensor(np.asarray(array, np.float32)) for array in arrays))


def mean_answer(truth):
    """The best answer that never looks: the means of the truth, and a head seen from the front."""
    means = [value.mean(0, keepdim=True).expand_as(value) for value in truth]
    frontal = torch.diag(torch.tensor([1.0, -1, -1])).expand_as(truth.rotation)
    return FaceNetPose(*means)._replace(rotation=frontal)


@torch.no_grad()
def pose_errors(pose, truth, face):
    """Mean errors by the names of UNITS. pose, truth: `FaceNetPose`."""
    mesh = FacePoints(face)
    places, true_places = mesh(pose.shape, pose.expression), mesh(truth.shape, truth.expression)
    shown, true_shown = (
        mesh.in_crop(points, item.rotation, item.place) for points, item in ((places, pose), (true_places, truth))
    )
    skin = face.region("skin") > 0.5 if face.region("skin").any() else np.ones(len(face.mean), bool)
    colours = torch.as_tensor(face.albedo_basis[:, skin][:, ::20].reshape(face.albedo_size, -1))
    between = (pose.rotation.transpose(1, 2) @ truth.rotation).diagonal(dim1=1, dim2=2).sum(-1)
    points = [point for point in LANDMARKS_68 if face.has_mesh_points[point]]
    errors = {
        "landmarks": 112 * (shown - true_shown)[:, points].norm(dim=-1).mean(),
        "surface": 1000 * (places - true_places)[:, face.has_mesh_points].norm(dim=-1).mean(),
        "shape": (pose.shape - truth.shape).square().mean().sqrt(),
        "expression": (pose.expression - truth.expression).abs().mean(),
        "colour": ((pose.albedo - truth.albedo) @ colours).abs().mean(),
        "albedo": (pose.albedo - truth.albedo).square().mean().sqrt(),
        "light": ((pose.illumination - truth.illumination).abs().mean((1, 2)) / truth.illumination[..., 0].mean(1)).mean(),
        "rotation": torch.rad2deg(((between - 1) / 2).clamp(-1, 1).acos()).mean(),
    }
    return {name: float(value) for name, value in errors.items()}


def measure(network, face, samples, device="cpu"):
    """Mean errors by the names of UNITS of a `FaceNet` in eval mode on `FaceSamples`."""
    return pose_errors(predict_pictures(network, samples.pictures, device), true_pose(samples, face), face)


def evaluate_facenet(face, weights=None, count=512, device="cpu"):
    """The table of `format_errors` on held-out synthetic faces. weights: a file, or None for the shipped ones. Raises as
    `FaceNetPredictor.load` does, and `RendererError`."""
    predictor = FaceNetPredictor.load(face, weights, device)
    samples = FaceSampler(face).draw(count, (HELD_OUT_SEED, 0))
    return format_errors(predictor.network, face, samples, device)


def format_errors(network, face, samples, device="cpu"):
    """A table of FaceNet's errors beside those of the mean answer."""
    truth = true_pose(samples, face)
    answers = {
        "FaceNet": measure(network, face, samples, device),
        "mean answer": pose_errors(mean_answer(truth), truth, face),
    }
    rows = [(name, unit, *(f"{errors[name]:.3f}" for errors in answers.values())) for name, unit in UNITS.items()]
    return f"{len(samples)} held-out synthetic faces\n" + format_table(("error of", "unit", *answers), rows)


@dataclass
class FaceNetTiming:
    """rows: ms a face by what is timed; operations: of one face; parameters: how many."""

    device: str
    rows: dict
    operations: int
    parameters: int


def bench_facenet(face, device="cpu", batch=32, threads=1, seconds=4.0):
    """`FaceNetTiming` of an untrained FaceNet for a `MorphableModel`. threads: CPU cores to use; seconds: for each figure."""
    torch.set_num_threads(threads)
    network = FaceNet(face.shape_size, face.expression_limits, face.albedo_size).eval()
    parameters = sum(value.numel() for value in network.parameters())
    predictor = FaceNetPredictor(network, face, device)
    network, device = predictor.network, predictor.device
    rows, operations = {}, 0
    for count in (1, batch):
        pictures = torch.rand(count, 3, INPUT_SIZE, INPUT_SIZE, device=device).to(memory_format=torch.channels_last)
        if count == 1:
            with torch.inference_mode(), FlopCounterMode(display=False) as counter:
                network(pictures)
            operations = counter.get_total_flops()
        rows[f"batch {count}"] = _milliseconds(partial(network, pictures), device, seconds) / count
    frame, box = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8), [[200, 100, 450, 350]]
    rows["batch 1, with cutting out and landmarks"] = _milliseconds(lambda: predictor.predict([frame], box), device, seconds)
    return FaceNetTiming(describe_device(device, threads), rows, operations, parameters)


def _milliseconds(step, device, seconds):
    """Median duration of a step."""
    durations, started = [], time.perf_counter()
    with torch.inference_mode():
        while len(durations) <= WARM_UP or (len(durations) < REPEATS + WARM_UP and time.perf_counter() - started < seconds):
            start = time.perf_counter()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            durations.append(time.perf_counter() - start)
    return 1000 * float(np.median(durations[WARM_UP:]))


def format_timing(timing):
    """The figures as text for the terminal."""
    lines = [f"FaceNet on {timing.device}"]
    lines += [f"{name}: {value:.2f} ms a face, {1000 / value:.0f} a second" for name, value in timing.rows.items()]
    lines.append(
        f"{timing.parameters / 1e6:.2f} million parameters, {timing.operations / 1e9:.2f} GFLOP a face (paper: 1.92 ms on a GPU)"
    )
    return "\n".join(lines)
