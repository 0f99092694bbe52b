"""What a model file is, by its content: which of them can be kept for later use, under what licence, and what the others are."""

import json
from dataclasses import dataclass
from pathlib import Path

from .body.licensed_smplh import LICENCE as SMPLH_LICENCE
from .body.licensed_smplh import gender_of, is_pickle, read_smplh
from .body.smplh_file import FORMAT_NAME as BODY_FORMAT
from .body.smplh_file import BodyModelFile
from .contract.bridge import KIT_FORMAT
from .contract.capture import FORMAT_NAME as CAPTURE_FORMAT
from .contract.character import FORMAT_NAME as CHARACTER_FORMAT
from .contract.morphable import FORMAT_NAME as FACE_FORMAT
from .contract.morphable import MorphableModel
from .contract.npz_file import read_npz
from .face.bfm_file import LICENCE as BFM_LICENCE
from .face.bfm_file import companions, read_bfm2009, read_bfm2017
from .face.ict_file import find_folder, is_ict, read_ict_arrays, read_ict_folder
from .model_store import ModelStoreError, StoredModel
from .npz_names import npz_array, npz_names

_PK, _HDF5, _MAT5 = b"PK", b"\x89HDF\r\n\x1a\n", b"MATLAB 5.0 MAT-file"
_NOT_KEPT = {
    CAPTURE_FORMAT: "a capture, not a model: give it to 'fullbody blend'",
    CHARACTER_FORMAT: "a finished character, not a model: open it in Blender",
    KIT_FORMAT: "what a bridge is annotated with, not a model: open it in Blender",
}
"""Files of the project's own that are used where they lie."""


@dataclass(frozen=True)
class KnownModel:
    """A model that can be kept: `model` without files, and the file for each name it gets in the store."""

    model: StoredModel
    sources: dict


def recognise(path, name=None):
    """`KnownModel` of a file or of ICT-FaceKit's folder, read and checked as it will be when it is used.

    name: to keep it by, instead of its usual one. Raises `FileError` that says what is wrong, or what the file is instead.
    """
    path = Path(path)
    if path.is_dir():
        read_ict_folder(path)
        folder = find_folder(path)
        # A file's place in the store is its name, so that the folder is found there as it was.
        return _known(name or "ict", "ict", "ICT-FaceKit", "face", ".", {file.name: file for file in folder.glob("*.obj")})
    start = _first_bytes(path)
    if start.startswith(_PK):
        return _recognise_npz(path, name)
    if start.startswith(_MAT5):
        read_bfm2009(path)
        sources = {file.name: file for file in (path, *companions(path))}
        return _known(name or "bfm2009", "bfm2009", "Basel Face Model 2009", "face", path.name, sources)
    if start.startswith(_HDF5):
        read_bfm2017(path)
        return _known(name or "bfm2017", "bfm2017", "Basel Face Model 2017", "face", "model.h5", {"model.h5": path})
    if is_pickle(start):
        return _smplh(path, name, "model.pkl")
    if _is_safetensors(path, start):
        raise ModelStoreError(
            f"{path} holds a network's weights: give them to --detector-weights or --weights where they lie."
        )
    raise ModelStoreError(
        f"{path} is nothing that this project knows: it takes SMPL-H, BFM 2009 and 2017, ICT-FaceKit, and its own models."
    )


def is_bridge(path):
    """Whether a file is JSON, as a bridge's recipe is."""
    return not Path(path).is_dir() and _first_bytes(path).lstrip()[:1] == b"{"


def _recognise_npz(path, name):
    names = npz_names(path)
    form = _own_format(path) if "meta" in names else None
    if form in _NOT_KEPT:
        raise ModelStoreError(f"{path} is {_NOT_KEPT[form]}.")
    if form == BODY_FORMAT:
        return _own(path, name, "body", BodyModelFile.load(path).meta)
    if form == FACE_FORMAT:
        return _own(path, name, "face", MorphableModel.load(path).meta)
    if is_ict(names):
        read_ict_arrays(read_npz(path, "face model"))
        return _known(name or "ict", "ict", "ICT-FaceKit", "face", "model.npz", {"model.npz": path})
    if {"poses", "trans"} <= names:
        raise ModelStoreError(f"{path} is a motion, not a model.")
    if not {"v_template", "weights"} & names:
        raise ModelStoreError(f"{path} is an .npz file of nothing that this project knows.")
    return _smplh(path, name, "model.npz")


def _own_format(path):
    try:
        return json.loads(str(npz_array(path, "meta"))).get("format")
    except (ValueError, AttributeError):
        return None


def _smplh(path, name, main):
    body = read_smplh(path)
    gender = gender_of(path)
    return _known(name or f"smplh_{gender}".rstrip("_"), "smplh", body.meta["name"], "body", main, {main: path})


def _own(path, name, use, meta):
    title = str(meta.get("name") or path.stem)
    licence = str(meta.get("licence") or "its maker did not say")
    usual = "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in path.stem.lower()).strip("_")
    model = StoredModel(name or usual[:40], use, title, use, licence, None, "model.npz", ())
    return KnownModel(model, {"model.npz": path})


_LICENCES = {
    "smplh": (SMPLH_LICENCE, False),
    "bfm2009": (BFM_LICENCE, False),
    "bfm2017": (BFM_LICENCE, False),
    "ict": ("MIT, by the USC Institute for Creative Technologies", True),
}
"""By kind: the licence in one sentence, and whether it allows commercial use."""


def _known(name, kind, title, use, main, sources):
    licence, commercial = _LICENCES[kind]
    return KnownModel(StoredModel(name, kind, title, use, licence, commercial, main, ()), sources)


def _first_bytes(path):
    try:
        with open(path, "rb") as file:
            return file.read(32)
    except FileNotFoundError as error:
        raise ModelStoreError(f"There is no file {path}.") from error
    except OSError as error:
        raise ModelStoreError(f"Cannot read {path}: {error.strerror}.") from error


def _is_safetensors(path, start):
    """Its first 8 bytes are the length of the JSON that follows."""
    length = int.from_bytes(start[:8], "little")
    return start[8:9] == b"{" and 2 <= length <= Path(path).stat().st_size
