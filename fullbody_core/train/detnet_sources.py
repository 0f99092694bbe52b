"""Where DetNet's samples come from: synthetic people, and public datasets where the user has them."""

from pathlib import Path

import numpy as np

from ..body.load_body import load_body
from ..contract.npz_file import FileError
from ..networks.detnet_samples import DetNetSamples
from ..synth.body_poses import sample_body_poses
from .datasets import open_dataset
from .motions import Motion, load_motions

DRAWN_POSES = {False: 20_000, True: 2_000}
"""Poses drawn for training and for holding out, where there is no motion capture."""


class PeopleAbsent(FileError):
    """Synthetic people cannot be drawn here. The message is one sentence for the user."""


def open_people(data, held_out, device="cpu", backgrounds=None):
    """A `PeopleSampler` of the training or of the held-out motions. Its context belongs to the calling thread.

    data: folder of AMASS-format motions, or None for poses that are drawn within joint limits. Raises `MotionDataError`,
    `PeopleAbsent`.
    """
    from ..synth.gl_renderer import RendererError
    from ..synth.people_samples import PeopleSampler

    motions = drawn_motions(held_out) if data is None else load_motions(data, held_out)
    try:
        return PeopleSampler(load_body("open"), motions, backgrounds=backgrounds, device=device)
    except RendererError as error:
        raise PeopleAbsent(str(error)) from error


def drawn_motions(held_out):
    """One `Motion` of poses that have nothing to do with each other; training and held-out ones differ."""
    rng = np.random.default_rng([2021, held_out])
    return [Motion("drawn", sample_body_poses(rng, DRAWN_POSES[held_out]), 30.0)]


def open_datasets(pairs, **options):
    """Readers of (name, folder) pairs; options: such as the split, for each of them. Raises `DatasetError`."""
    return [open_dataset(name, Path(folder), **options) for name, folder in pairs]


def draw_samples(source, count, seed, progress, block=32):
    """`count` samples of a source, a block at a time."""
    starts = progress(range(0, count, block))
    return DetNetSamples.concatenate([source.draw(min(block, count - start), (*seed, start)) for start in starts])
