"""`fullbody bench detnet`: milliseconds, parameters and floating-point operations module by module, beside the paper's Table 1.

A module is timed on the inputs that it gets in a prediction, with untrained weights: what they are changes nothing but where the
windows lie. On a CUDA device the whole prediction is also replayed from its CUDA graph, which is what live capture uses.
"""

import platform
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from ..networks.detnet import DetNet, parameter_counts
from ..networks.detnet_predictor import CROP_SIZE, DetNetPredictor
from ..table import format_table

PAPER_MILLISECONDS = {"DetNet-B": 16.9, "DetNet-H": 10.3, "DetNet": 27.2}
"""Zhou et al. 2021, Table 1, on an Nvidia 2080Ti."""

REPEATS, WARM_UP = 200, 3
"""A figure is the median of so many calls, or of as many as fit in the seconds given; the first ones choose algorithms."""


@dataclass
class DetNetTiming:
    """Figures of one DetNet on one device. rows: name to (ms at batch 1, ms a frame at the large batch); parameters: name to count;
    operations: of one frame; post_processing: ms at batch 1 of everything beyond convolutions."""

    device: str
    size: str
    batch: int
    rows: dict
    parameters: dict
    operations: int
    post_processing: float


def bench_detnet(size="full", device="cpu", batch=32, threads=1, seconds=4.0):
    """`DetNetTiming`. threads: CPU cores to use; seconds: for each figure."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network = DetNet(size)
    parameters = parameter_counts(network)
    predictor = DetNetPredictor(network, device)
    rows, operations = {}, 0
    for count in (1, batch):
        images = torch.randint(0, 256, (count, *CROP_SIZE[::-1], 3), dtype=torch.uint8).to(predictor.device)
        steps = prediction_steps(predictor, images)
        if count == 1:
            with torch.inference_mode(), FlopCounterMode(display=False) as counter:
                predictor(images)
            operations = counter.get_total_flops()
        for name, step in steps.items():
            rows.setdefault(name, []).append(milliseconds(step, predictor.device, seconds) / count)
    post = rows["windows (Eq. 6)"][0] + rows["read-out"][0]
    return DetNetTiming(describe_device(predictor.device, threads), size, batch, rows, parameters, operations, post)


def prediction_steps(predictor, images):
    """The parts of a prediction, by name, as functions without arguments that run on their real inputs."""
    with torch.inference_mode():
        high = predictor.as_features(images)
        starred, basic, extended, heat = predictor.find_body(high)
        boxes = predictor.localize(heat)
        hands = predictor.find_hands(starred, high, boxes)
    steps = {
        "DetNet-B": lambda: predictor.find_body(predictor.as_features(images)),
        "DetNet-H": lambda: predictor.find_hands(starred, high, boxes),
        "windows (Eq. 6)": lambda: predictor.localize(heat),
        "read-out": lambda: predictor.read(basic, extended, heat, boxes, hands),
        "DetNet": lambda: predictor(images),
    }
    if not predictor.plain:
        steps["DetNet, CUDA graph"] = lambda: predictor.predict(images)
    return steps


def describe_device(device, threads):
    """A device as a reader would name it."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, 16-bit floats"
    return f"{platform.machine()} CPU, {threads} core{'s' * (threads > 1)}, 32-bit floats"


def milliseconds(step, device, seconds):
    """Median duration of a step."""
    durations = []
    started = time.perf_counter()
    with torch.inference_mode():
        while len(durations) <= WARM_UP or (len(durations) < REPEATS + WARM_UP and time.perf_counter() - started < seconds):
            _wait(device)
            start = time.perf_counter()
            step()
            _wait(device)
            durations.append(time.perf_counter() - start)
    return 1000 * float(np.median(durations[WARM_UP:]))


def _wait(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def format_timing(timing):
    """The figures as text for the terminal."""
    header = ("module", "ms, batch 1", f"ms a frame, batch {timing.batch}", "paper, 2080Ti")
    rows = [
        (name, f"{single:.2f}", f"{large:.2f}", f"{PAPER_MILLISECONDS[name]:.1f}" if name in PAPER_MILLISECONDS else "")
        for name, (single, large) in timing.rows.items()
    ]
    fastest = min(large for name, (_, large) in timing.rows.items() if name.startswith("DetNet") and name[6:7] != "-")
    total = sum(timing.parameters.values())
    lines = [
        f"DetNet ({timing.size}) on {timing.device}",
        format_table(header, rows),
        f"{1000 / fastest:.0f} frames a second at batch {timing.batch}",
        f"{timing.post_processing:.2f} ms of post-processing at batch 1",
        f"{total / 1e6:.2f} million parameters ("
        + ", ".join(f"{name} {count / 1e6:.2f}" for name, count in timing.parameters.items())
        + f"); {timing.operations / 1e9:.1f} GFLOP a frame",
    ]
    return "\n".join(lines)
