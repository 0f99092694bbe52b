"""A face model by its name: the open face, or a file of any kind that the project reads."""

import hashlib
import sys
from pathlib import Path

import numpy as np

from ..cache import kept_in_cache
from ..contract.morphable import FaceModelError, MorphableModel
from ..contract.npz_file import FileError, read_npz
from ..model_store import find_model
from .albedo import pigment_albedo
from .bfm_file import companions, read_bfm2009, read_bfm2017
from .correspondence import find_mesh_points
from .ict_file import folder_sha256, is_ict, read_ict_arrays, read_ict_folder
from .open_face import open_face_path
from .regions import draw_regions

READ_VERSION = 1
"""Counts up whenever the same file would be read to another model."""

_HDF5 = b"\x89HDF\r\n\x1a\n"
_MAT5 = b"MATLAB 5.0 MAT-file"


def load_face(name):
    """The 3DMM called 'open', or one that `fullbody weights add` has taken, or one in a file or folder. Raises `FaceModelError`.

    What kind of file it is, its content says: this project's own .npz, ICT-FaceKit's .npz or folder, BFM 2009's .mat, BFM
    2017's .h5. What the others lack (mesh points, regions, ICT's colours) is made once, in seconds, and kept in the cache.
    """
    if name == "open":
        return MorphableModel.load(open_face_path())
    path = Path(name)
    if not path.exists():
        try:
            path = find_model(str(name), "face")
        except FileError as error:
            raise FaceModelError(str(error)) from error
    if path.is_dir():
        return _completed(read_ict_folder, path, folder_sha256(path))
    start = _first_bytes(path)
    if start.startswith(b"PK"):
        try:
            arrays = read_npz(path, "face model")
        except FileError as error:
            raise FaceModelError(str(error)) from error
        if not is_ict(arrays):
            return MorphableModel.load(path)
        return _completed(lambda _: read_ict_arrays(arrays), path, source_sha256(path))
    if start.startswith(_HDF5):
        return _completed(read_bfm2017, path, source_sha256(path))
    if start.startswith(_MAT5):
        return _completed(read_bfm2009, path, source_sha256(path, *companions(path)))
    raise FaceModelError(
        f"{path} is no face model: give 'open', a face model's .npz, ICT-FaceKit's .npz or folder, or a BFM's .mat or .h5."
    )


def complete(model):
    """The model with mesh points, with the regions it lacks, and with colours of the project's own if it has none."""
    model.mesh_vertices, model.mesh_weights = find_mesh_points(model)
    places = model.mesh_points.mean
    places[~model.has_mesh_points] = np.nan
    drawn = draw_regions(np.asarray(model.mean, float), places, model.region("eyeballs"))
    model.regions = {name: np.clip(share, 0, 1).astype(np.float32) for name, share in (drawn | model.regions).items()}
    if not model.albedo_size:
        model.albedo_mean, model.albedo_basis, _ = pigment_albedo(model.mean, model.regions)
    return model


def _completed(read, path, sha256):
    """The model that `read` makes of a path, completed; kept in the cache under the source's sha256."""

    def make():
        model = read(path)
        print(f"Finding the face mesh's points on {path.name} (once, half a minute)...", file=sys.stderr, flush=True)
        return complete(model)

    model = MorphableModel.load(kept_in_cache(f"face_{sha256[:16]}_read{READ_VERSION}.npz", make, FaceModelError))
    model.sha256 = sha256
    return model


def _first_bytes(path):
    try:
        with open(path, "rb") as file:
            return file.read(32)
    except FileNotFoundError as error:
        raise FaceModelError(f"There is no face model at {path}.") from error
    except OSError as error:
        raise FaceModelError(f"Cannot read {path}: {error.strerror}.") from error


def source_sha256(*paths):
    """sha256 of what a model is read from, all its files together."""
    digest = hashlib.sha256()
    for path in paths:
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()
