"""The user's own models: licensed ones and others, copied into this user's folder `models` and found there by name.

A model is a folder of that name with the files as they came and `model.json`, which says what they are and their sha256.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from .contract.npz_file import FileError
from .user_data import made_user_folder, user_folder

RECORD_NAME, RECORD_FORMAT, RECORD_VERSION = "model.json", "fullbody-model", 1
RESERVED = ("open", "none", "auto")

_NAME = r"[a-z0-9][a-z0-9_-]{0,39}"
_CHUNK = 2**22


class ModelStoreError(FileError):
    """A model that cannot be kept or found. The message is one sentence for the user."""


@dataclass(frozen=True)
class StoredModel:
    """One of the user's models.

    name: by which --body or --face finds it; kind: such as smplh or bfm2009; title: what it is; use: 'body' or 'face'
    licence: one sentence; commercial: whether it may be used so, None where nobody said; main: the file or folder to open, as a
    path inside `folder` ('.' is the folder); files: {"path", "sha256", "bytes"} of each
    """

    name: str
    kind: str
    title: str
    use: str
    licence: str
    commercial: bool
    main: str
    files: tuple

    @property
    def folder(self):
        return user_folder("models") / self.name

    @property
    def path(self):
        """What to open."""
        return self.folder / self.main

    @property
    def size(self):
        return sum(file["bytes"] for file in self.files)

    def damaged_files(self):
        """Paths of files that are missing or no longer what was added."""
        return [self.folder / file["path"] for file in self.files if not _is_sound(self.folder / file["path"], file)]


def find_model(name, use):
    """The path to open of the user's model of that name, for use as 'body' or 'face'. Raises `ModelStoreError`."""
    record = user_folder("models") / str(name) / RECORD_NAME
    # Other models' records are not looked at: a damaged one must not be in the way of this.
    if not re.fullmatch(_NAME, str(name)) or not record.is_file():
        raise ModelStoreError(
            f"There is no {use} model at {name}, nor one of that name: 'fullbody weights list' shows those there are."
        )
    found = _read_record(record)
    if found.use != use:
        raise ModelStoreError(f"The model {name} is a {found.use} model ({found.title}), and a {use} model is needed.")
    return found.path


def stored_models():
    """All of the user's models, by name. Raises `ModelStoreError` for a record that cannot be read."""
    folder = user_folder("models")
    return [_read_record(path) for path in sorted(folder.glob(f"*/{RECORD_NAME}")) if not path.parent.name.startswith(".")]


def keep_model(model, sources):
    """Copies a model's files into the store, all or none, and returns (`StoredModel`, whether it is new).

    model: `StoredModel` without files; sources: path by the name each gets in the store. The same files under the same name
    change nothing. Raises `ModelStoreError`.
    """
    check_name(model.name)
    folder = made_user_folder("models", ModelStoreError)
    target = folder / model.name
    temporary = None
    try:
        temporary = Path(tempfile.mkdtemp(dir=folder, prefix=f".{model.name}."))
        files = tuple(_copy(path, temporary / name, name) for name, path in sorted(sources.items()))
        made = StoredModel(**{**asdict(model), "files": files})
        record = {"format": RECORD_FORMAT, "version": RECORD_VERSION, **asdict(made)}
        (temporary / RECORD_NAME).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        if (target / RECORD_NAME).is_file():
            return _same_or_refused(made), False
        if target.exists():
            raise ModelStoreError(f"{target} is in the way: move it, or choose another name with --name.")
        os.replace(temporary, target)
    except OSError as error:
        raise ModelStoreError(f"Cannot keep the model in {folder}: {error.strerror or error}.") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return made, True


def check_name(name):
    """Refuses a name that a command line or a folder could take for something else. Raises `ModelStoreError`."""
    if not re.fullmatch(_NAME, name) or name in RESERVED:
        raise ModelStoreError(
            f"{name!r} cannot be a model's name: use small letters, digits, _ and -, and none of {', '.join(RESERVED)}."
        )


def _same_or_refused(made):
    """The model kept under that name, if its files are those of `made`. Raises `ModelStoreError` if they are others."""
    kept = _read_record(made.folder / RECORD_NAME)
    if kept.files != made.files:
        raise ModelStoreError(
            f"Another model is called {made.name} already ({kept.title}): give this one another name with --name."
        )
    if damaged := kept.damaged_files():
        raise ModelStoreError(f"{damaged[0]} is damaged: delete the folder {made.folder} and add the model again.")
    return kept


def _copy(source, target, name):
    """Copies a file and returns its entry, of the bytes that were written."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with open(source, "rb") as original, open(target, "wb") as copy:
        while chunk := original.read(_CHUNK):
            copy.write(chunk)
            digest.update(chunk)
            size += len(chunk)
    return {"path": name, "sha256": digest.hexdigest(), "bytes": size}


def _is_sound(path, entry):
    return path.is_file() and path.stat().st_size == entry["bytes"] and file_sha256(path) == entry["sha256"]


def file_sha256(path):
    """sha256 of a file of any size."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_record(path):
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.pop("format") != RECORD_FORMAT or values.pop("version") != RECORD_VERSION:
            raise ValueError("another format")
        model = StoredModel(**values | {"files": tuple(values["files"])})
        listed = [model.main, *(file["path"] for file in model.files if {"path", "sha256", "bytes"} == set(file))]
        inside = all(not Path(name).is_absolute() and ".." not in Path(name).parts for name in listed)
        if model.name != path.parent.name or not inside or len(listed) != 1 + len(model.files):
            raise ValueError("a record of something else")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelStoreError(f"{path} is damaged: delete the folder {path.parent} and add the model again.") from error
    return model
