"""What a user has given the project to keep: licensed models and bridges of their own. What can be made again is in `cache`."""

import os
from pathlib import Path

import platformdirs

from .contract.npz_file import FileError


def user_folder(name):
    """The folder of that name among this user's data: under FULLBODY_DATA, or the system's own place. It may be missing."""
    return Path(os.environ.get("FULLBODY_DATA") or platformdirs.user_data_dir("fullbody")) / name


def made_user_folder(name, error=FileError):
    """The same, made where it is missing. Raises `error` where it cannot be made."""
    folder = user_folder(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise error(f"Cannot make the folder {folder}: {cause.strerror}.") from cause
    return folder
