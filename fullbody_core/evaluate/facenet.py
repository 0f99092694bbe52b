"""FaceNet on held-out synthetic faces, where the truth is known, and how fast it is here."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from ..face.facenet import FaceNetPredictor
from ..networks.facenet import INPUT_SIZE, FaceNet
from ..synth.face import FaceSampler
from ..train.facenet_metrics import HELD_OUT_SEED, format_errors
from .detnet_timing import describe_device, milliseconds


def evaluate_facenet(face, weights=None, count=512, device="cpu"):
    """The table of `format_errors` on held-out synthetic faces. weights: a file, or None for the shipped ones. Raises as
    `FaceNetPredictor.load` does, and `RendererError`."""
    predictor = FaceNetPredictor.load(face, weights, device)
    samples = FaceSampler(face).draw(count, (HELD_OUT_SEED, 0))
    return format_errors(predictor.network, face, samples, device)


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
        rows[f"batch {count}"] = milliseconds(partial(network, pictures), device, seconds) / count
    frame, box = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8), [[200, 100, 450, 350]]
    rows["batch 1, with cutting out and landmarks"] = milliseconds(lambda: predictor.predict([frame], box), device, seconds)
    return FaceNetTiming(describe_device(device, threads), rows, operations, parameters)


def format_timing(timing):
    """The figures as text for the terminal."""
    lines = [f"FaceNet on {timing.device}"]
    lines += [f"{name}: {value:.2f} ms a face, {1000 / value:.0f} a second" for name, value in timing.rows.items()]
    lines.append(
        f"{timing.parameters / 1e6:.2f} million parameters, {timing.operations / 1e9:.2f} GFLOP a face (paper: 1.92 ms on a GPU)"
    )
    return "\n".join(lines)
