"""The project's own weights: found by their entry in weights_manifest.json, opened only if every byte and shape is as listed."""

import hashlib
import json
import sysconfig
from pathlib import Path

from safetensors import SafetensorError, safe_open

from .contract.npz_file import FileError

MANIFEST_NAME = "weights_manifest.json"


class WeightsError(FileError):
    """Weights that cannot be used. The message is one sentence for the user."""


class WeightsAbsent(WeightsError):
    """Weights that are not there at all, where something else may do instead."""


class WeightsUnsuited(WeightsError):
    """Weights that are sound and made for something else, where something else may do instead."""


def manifest_path():
    """The manifest beside the sources, or where an installed package keeps it. Raises `WeightsError`."""
    installed = Path(sysconfig.get_path("data")) / "share" / "fullbody-mocap" / MANIFEST_NAME
    for path in (Path(__file__).parents[1] / MANIFEST_NAME, installed):
        if path.is_file():
            return path
    raise WeightsError(f"{MANIFEST_NAME} is missing: install fullbody again.")


def manifest_entries():
    """All of the manifest's entries. Raises `WeightsError`."""
    return json.loads(manifest_path().read_text(encoding="utf-8"))["entries"]


def find_entry(weights_id):
    """The manifest's entry of that id. Raises `WeightsAbsent`."""
    for entry in manifest_entries():
        if entry["id"] == weights_id:
            return entry
    raise WeightsAbsent(f"{MANIFEST_NAME} lists no weights called {weights_id}.")


def load_shipped(weights_id):
    """(tensors, metadata, sha256) of one of the project's own files. Raises `WeightsAbsent` or `WeightsError`."""
    ((path, sha256),) = shipped_files(weights_id).items()
    return *read_tensors(path), sha256


def shipped_files(weights_id):
    """sha256 by path of the files of one of the project's own weights, each checked. Raises `WeightsAbsent` or `WeightsError`."""
    files = {Path(__file__).parent / file["path"]: file["sha256"] for file in find_entry(weights_id)["files"]}
    for path, sha256 in files.items():
        if not path.is_file():
            raise WeightsAbsent(f"The weights {path.name} are missing: install fullbody again.")
        if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            raise WeightsError(
                f"The weights {path.name} are damaged (their sha256 is not the listed one): install fullbody again."
            )
    return files


def fill_network(network, tensors, what, beside=()):
    """Fills a network with tensors [any precision] by name, every one of them and no other, and makes it ready for inference.

    what: the network's name in errors; beside: (name, shape) of tensors that belong to the file and not to the network. Raises
    `FileError` that names the first misfit.
    """
    expected = {(name, tuple(value.shape)) for name, value in network.state_dict().items()} | set(beside)
    if misfits := {name for name, _ in expected ^ {(name, tuple(value.shape)) for name, value in tensors.items()}}:
        raise FileError(f"The {what} weights' {min(misfits)} is missing, unknown, or of another shape.")
    if not all(value.isfinite().all() for value in tensors.values()):
        raise FileError(f"The {what} weights hold numbers that are not finite.")
    # Copying into a parameter keeps the parameter's own precision.
    network.load_state_dict({name: tensors[name] for name in network.state_dict()})
    return network.eval().requires_grad_(False)


def read_tensors(path):
    """(tensors by name, text metadata) of a safetensors file. Raises `WeightsError`."""
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} is not a safetensors file, or it was cut short.") from error
