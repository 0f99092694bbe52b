"""A body model by its name: the open body, one of the user's own, or a file of any kind that the project reads."""

from pathlib import Path

from ..contract.npz_file import FileError
from ..model_store import find_model
from ..npz_names import npz_names
from .licensed_smplh import is_pickle, read_smplh
from .open_body import open_body_path
from .smplh_file import BodyModelError, BodyModelFile


def load_body(name):
    """The body model called 'open', or one that `fullbody weights add` has taken, or the one in a file. Raises `BodyModelError`.

    What kind of file it is, its content says: this project's own .npz, or SMPL-H's .npz or .pkl.
    """
    if name == "open":
        return BodyModelFile.load(open_body_path())
    path = Path(name)
    if not path.is_file():
        try:
            path = find_model(str(name), "body")
        except FileError as error:
            raise BodyModelError(str(error)) from error
    start = _first_bytes(path)
    if start.startswith(b"PK"):
        return BodyModelFile.load(path) if _is_our_own(path) else read_smplh(path)
    if is_pickle(start):
        return read_smplh(path)
    raise BodyModelError(f"{path} is no body model: give 'open', a body model's .npz, or SMPL-H's .npz or .pkl.")


def _is_our_own(path):
    """Whether an .npz says of itself what it is; one that cannot be read is for the strict reader to refuse."""
    try:
        return "meta" in npz_names(path)
    except FileError:
        return True


def _first_bytes(path):
    try:
        with open(path, "rb") as file:
            return file.read(4)
    except OSError as error:
        raise BodyModelError(f"Cannot read {path}: {error.strerror}.") from error
