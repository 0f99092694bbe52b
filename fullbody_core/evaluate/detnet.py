"""`fullbody evaluate detnet`: trained weights on held-out synthetic people, and on public datasets where the user has them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ..networks.body_keypoints import BASIC_BODY
from ..networks.detnet import from_tensors
from ..networks.detnet_samples import DetNetSamples
from ..tensor_shards import read_shards
from ..train.detnet_metrics import constant_predictions, predict_samples, report_samples
from ..train.detnet_sources import draw_samples, open_people


def evaluate_detnet(paths, data=None, readers=(), count=512, device="cpu", seed=0, progress=lambda items: items):
    """Reports by name for the weights in files `paths`: on held-out synthetic people and on the datasets' splits that are given.

    data: folder of AMASS-format motions or None; readers: of public datasets, of each of which up to `count` samples, spread
    evenly, are looked at. Raises `WeightsError`, `FileError`.
    """
    network = from_tensors(*read_shards([Path(path) for path in paths])).to(device, memory_format=torch.channels_last)
    people = draw_samples(open_people(data, True, device), count, (seed, 2), progress)
    reports = {
        "synthetic people": report_samples(people, predict_samples(network, people, device=device)),
        "the same, constant pose": report_samples(people, constant_predictions(people, people)),
    }
    for reader in readers:
        definition = reader.definition if reader.definition in network.definitions else network.definitions[0]
        chosen = np.linspace(0, len(reader) - 1, min(count, len(reader))).astype(int)
        samples = DetNetSamples.stack([reader[int(index)] for index in progress(chosen)])
        if definition != reader.definition:
            samples = only_basic(samples)
        reports[reader.title] = report_samples(samples, predict_samples(network, samples, definition, device=device))
    return reports


def only_basic(samples):
    """The same samples with the basic keypoints alone known, for a network that lacks the dataset's extended ones."""
    count = len(BASIC_BODY)
    known2d, known3d = (
        np.where(np.arange(item.shape[1]) < count, item, False) for item in (samples.body_known2d, samples.body_known3d)
    )
    return replace(samples, body_known2d=known2d, body_known3d=known3d)
