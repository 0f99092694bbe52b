"""What is made once for a user and kept: baked models."""

import os
from pathlib import Path

import platformdirs

from .contract.npz_file import FileError


def kept_in_cache(name, make, error=FileError):
    """Path of a file in this user's cache, after `make()`, which gives something with `save(path)`, if it is not there yet.

    The folder is FULLBODY_CACHE, or the system's own for caches. Raises `error` where it cannot be made.
    """
    folder = Path(os.environ.get("FULLBODY_CACHE") or platformdirs.user_cache_dir("fullbody"))
    path = folder / name
    if not path.is_file():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as cause:
            raise error(f"Cannot make the cache folder {folder}: {cause.strerror}.") from cause
        make().save(path)
    return path
