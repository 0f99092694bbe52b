"""What a user has given the project to keep: licensed models and bridges of their own. What can be made again is in `cache`."""

import os
from pathlib import Path

import platformdirs

from .contract.npz_file import FileError


def user_folder(name, error=FileError):
    """The folder of that name among this user's data, made where it is missing.

    It lies under FULLBODY_DATA, or the system's own place for data. Raises `error` where it cannot be made.
    """
    folder = Path(os.environ.get("FULLBODY_DATA") or platformdirs.user_data_dir("fullbody")) / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise error(f"Cannot make the folder {folder}: {cause.strerror}.") from cause
    return folder
