"""Named tensors in several safetensors files, none larger than a limit: weights and checkpoints that are too large for one.

Every file says which set it belongs to and how many there are, so that a missing or a foreign one is noticed.
"""

import hashlib
import re
from pathlib import Path

import torch
from safetensors.torch import save

from .contract.npz_file import write_whole
from .weights import WeightsError, read_tensors

LARGEST_FILE = 15_500_000
"""Bytes: below 16 MB with the header."""

_SHARD_NAME = re.compile(r"(?P<stem>.+)-(?P<number>\d+)of(?P<count>\d+)\.safetensors")


def write_shards(folder, stem, tensors, metadata, limit=LARGEST_FILE):
    """Writes `folder`/`stem`-1of3.safetensors and so on, each whole or not at all, and returns their paths.

    metadata: text by name, repeated in every file. A tensor larger than `limit` bytes gets a file of its own. Raises `FileError`.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    groups, size = [{}], 0
    for name, value in tensors.items():
        if groups[-1] and size + value.nbytes > limit:
            groups.append({})
            size = 0
        groups[-1][name] = value
        size += value.nbytes
    digest = hashlib.sha256()
    for name, value in tensors.items():
        digest.update(name.encode() + value.reshape(-1).view(torch.uint8).numpy().tobytes())
    marks = {"set": digest.hexdigest()}
    paths = []
    for number, group in enumerate(groups, 1):
        paths.append(Path(folder) / f"{stem}-{number}of{len(groups)}.safetensors")
        write_whole(paths[-1], save(group, metadata | marks | {"shard": f"{number}/{len(groups)}"}))
    return paths


def read_shards(paths):
    """(tensors by name, metadata) of all the files of one set, in any order. Raises `WeightsError`."""
    tensors, metadata, shards = {}, None, set()
    for path in paths:
        part, own = read_tensors(path)
        shards.add(own.pop("shard", "1/1"))
        if metadata is not None and own != metadata:
            raise WeightsError(f"{path} belongs to other weights than the files given with it.")
        metadata = own
        tensors |= part
    if not shards:
        raise WeightsError("There are no weight files to read.")
    count = next(iter(shards)).partition("/")[2]
    if shards != {f"{number}/{count}" for number in range(1, int(count) + 1)}:
        raise WeightsError(f"{len(shards)} of {count} weight files of {Path(paths[0]).name} are given: give all of them.")
    metadata.pop("set", None)
    return tensors, metadata


def find_sets(folder, pattern="*"):
    """Lists of paths of the complete sets in a folder, by stem; `pattern` is a glob for the stems."""
    sets = {}
    for path in sorted(Path(folder).glob(f"{pattern}.safetensors")):
        if match := _SHARD_NAME.fullmatch(path.name):
            sets.setdefault((match["stem"], int(match["count"])), []).append(path)
    return {stem: paths for (stem, count), paths in sets.items() if len(paths) == count}
