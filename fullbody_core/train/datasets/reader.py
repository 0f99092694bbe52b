"""What every reader of a public dataset has in common."""

import json
import zlib
from abc import ABC, abstractmethod
from contextlib import contextmanager
from pathlib import Path

import scipy.io
from scipy.io.matlab import MatReadError

from ...contract.npz_file import FileError
from .cropping import Jitter


class DatasetError(FileError):
    """A dataset that is absent, or a file of it that cannot be used. The message is one sentence for the user."""


class Reader(ABC):
    """A dataset as a sequence of single `DetNetSamples`, each read from disk when it is asked for.

    name: of the dataset; title: as people write it; kind: "body_hands", "body3d", "body2d" or "hand", which decides how often a
    mini-batch takes it; definition: of its body keypoints; source: where it is to be had.
    """

    name = title = kind = source = ""
    definition = "smpl"

    def __init__(self, root):
        self.root = Path(root)

    @abstractmethod
    def __len__(self):
        """How many samples there are."""

    def __getitem__(self, index):
        return self.read(index)

    def read(self, index, rng=None):
        """Sample `index`. With a random generator the crop is larger or smaller, shifted and turned at random.

        Raises `DatasetError` for a picture that is absent or broken.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.title} has {len(self)} samples here, so there is no sample {index}.")
        picture, annotation = self.annotated(int(index) % len(self))
        jitter = Jitter() if rng is None else Jitter.draw(rng)
        return annotation.sample(picture, jitter)

    @abstractmethod
    def annotated(self, index):
        """The whole picture [H, W, 3] and the `cropping.Person` or `cropping.Hand` that sample `index` shows."""

    def check_split(self, split, splits):
        """Raises `DatasetError` for a split that is not one of the two."""
        if split not in splits:
            first, second = splits
            raise DatasetError(f'{self.title} has the splits "{first}" and "{second}", got "{split}".')

    def require(self, path, alternatives=()):
        """The path if it is there, else the first alternative that is. Raises `DatasetError` that says where to get it."""
        for candidate in (path, *alternatives):
            if candidate.exists():
                return candidate
        raise self.absent(path)

    def absent(self, expected):
        """The error for a dataset of which `expected` was not found."""
        return DatasetError(f"{self.title} was not found in {self.root}: {self.source} (expected {expected}).")


@contextmanager
def parsing(path, what):
    """While a file's content is picked apart: what does not fit becomes a `DatasetError` that names the file.

    what: of which kind the file should be, such as "an annotation of hands".
    """
    try:
        yield
    except DatasetError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(f"{path} is not {what}, or it was cut short: download or unpack it again.") from error


def load_json(path):
    """The content of a JSON file. Raises `DatasetError`."""
    try:
        return json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} is absent, no JSON file, or cut short: download or unpack it again.") from error


def load_mat(path, **options):
    """The content of a MATLAB file up to version 7.2, as `scipy.io.loadmat` gives it. Raises `DatasetError`."""
    try:
        return scipy.io.loadmat(path, **options)
    except (OSError, ValueError, TypeError, KeyError, NotImplementedError, EOFError, MatReadError, zlib.error) as error:
        raise DatasetError(f"{path} is not a MATLAB file of its dataset, or it was cut short: download it again.") from error
