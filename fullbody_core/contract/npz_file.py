"""Strict .npz files: every key, every shape, nothing pickled, written whole or not at all."""

import io
import json
import os
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np


class FileError(ValueError):
    """A file that cannot be used. The message is one sentence for the user."""


def write_npz(path, arrays):
    """Writes named arrays to `path`, whole or not at all. Raises `FileError`."""
    # Packed in memory first: numpy's zip writer, interrupted by a full disk, complains again when it is collected.
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    write_whole(path, packed.getbuffer())


def write_whole(path, content):
    """Writes bytes to `path`, which appears complete or keeps what it held before. Raises `FileError`."""
    path = Path(path)
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:
        raise FileError(f"Cannot write {path}: {error.strerror}.") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o666 & ~_current_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise FileError(f"Cannot write {path}: {error.strerror}.") from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def _current_umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read_npz(path, what):
    """All arrays of an .npz file by name. `what` names the kind of file in errors. Object arrays are refused."""
    path = Path(path)
    if not path.is_file():
        raise FileError(f"There is no {what} at {path}.")
    try:
        file = np.load(path, allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise FileError(f"{path} is not a {what}: it holds one bare array.")
        with file:
            arrays = {name: file[name] for name in file.files}
    except FileError:
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        raise FileError(f"{path} is not a {what}, or it was cut short.") from error
    if not all(isinstance(array, np.ndarray) for array in arrays.values()):
        raise FileError(f"{path} is not a {what}: it holds more than arrays.")
    return arrays


def check_format(arrays, name, newest, what, path):
    """The meta (a dict, JSON in the file) of arrays read from `path`, if it says format `name` and a version up to `newest`.

    Call it before `check_arrays`: of a newer file the user must hear that, and not of its unknown keys. Raises `FileError`.
    """
    try:
        meta = json.loads(str(arrays["meta"]))
        version = meta["version"] if meta["format"] == name else None
    except (KeyError, TypeError, ValueError):
        version = None
    if not isinstance(version, int):
        raise FileError(f"{path} is not a {what}.")
    if version > newest:
        raise FileError(
            f"{path} was written by a newer version (format {version}; this one reads {newest}): update the add-on."
        )
    return meta


def check_arrays(arrays, schema, what):
    """Checks names, kinds and shapes; returns the symbolic sizes found, such as {'T': 120}.

    `schema` maps a name to (kind, shape): kind is 'f' (float), 'i' (integer), 'b' (bool) or 'U' (text), and shape mixes
    numbers with symbols that must agree over the whole file. Raises `FileError` that names the first misfit.
    """
    missing = sorted(set(schema) - set(arrays))
    unknown = sorted(set(arrays) - set(schema))
    if missing or unknown:
        parts = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has unknown {', '.join(unknown)}"] * bool(unknown)
        raise FileError(f"The {what} {' and '.join(parts)}.")
    sizes = {}
    for name, (kind, shape) in schema.items():
        array = arrays[name]
        if array.dtype.kind != kind:
            raise FileError(f"The {what}'s {name} should be of kind {kind!r}, got {array.dtype}.")
        expected = tuple(sizes.get(size, size) for size in shape)
        fits = len(expected) == array.ndim and all(isinstance(e, str) or e == g for e, g in zip(expected, array.shape))
        if not fits:
            raise FileError(f"The {what}'s {name} should have shape {list(expected)}, got {list(array.shape)}.")
        sizes.update({size: got for size, got in zip(shape, array.shape) if isinstance(size, str)})
        if kind == "f" and not np.isfinite(array).all():
            raise FileError(f"The {what}'s {name} holds numbers that are not finite.")
    return sizes
