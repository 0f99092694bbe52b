"""Checkpoints of a training in files below 16 MB, of which the newest complete set counts."""

import re
from pathlib import Path

from ..tensor_shards import find_sets, read_shards, write_shards

_STEM = re.compile(r"checkpoint-(\d+)")


def save_checkpoint(folder, step, tensors, metadata):
    """Writes checkpoint-STEP-1ofN.safetensors and so on, and only then takes away those of other steps. Raises `FileError`.

    tensors: by name; metadata: text by name.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kept = set(write_shards(folder, f"checkpoint-{step:08d}", tensors, metadata))
    for path in folder.glob("checkpoint-*.safetensors"):
        if path not in kept:
            path.unlink(missing_ok=True)


def load_checkpoint(folder):
    """(step, tensors, metadata) of the newest complete checkpoint in a folder, or None. Raises `WeightsError`."""
    sets = {int(match[1]): paths for stem, paths in find_sets(folder).items() if (match := _STEM.fullmatch(stem))}
    if not sets:
        return None
    step = max(sets)
    return step, *read_shards(sets[step])
