"""What arrays an .npz holds, without reading them all."""

import zipfile

import numpy as np

from .contract.npz_file import FileError


def npz_names(path):
    """The names of an .npz file's arrays. Raises `FileError`."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")}
    except (OSError, zipfile.BadZipFile) as error:
        raise FileError(f"{path} is not an .npz file, or it was cut short.") from error


def npz_array(path, name):
    """One array of an .npz file by name. Objects are refused. Raises `FileError`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return file[name]
    except Exception as error:  # zip, zlib and numpy fail each in their own ways
        pickled = "Object arrays" in str(error)
        why = "is pickled inside an .npz, where it is not opened" if pickled else "is missing, cut short or damaged"
        raise FileError(f"{path} cannot be used: its {name} {why}.") from error
