"""Readers of the public datasets that the paper trains DetNet on, each in the layout it is published in.

Every dataset comes with terms of its own, most for research only; none is downloaded or contained here. HUMBI's partner SPIN is
left out: its fits are parameters of SMPL, and of no use without that licensed model and the datasets they belong to.
"""

import inspect

from .cmu_hands import CmuHands
from .coco import Coco
from .freihand import FreiHand
from .human36m import Human36M
from .humbi import Humbi
from .mpi_inf_3dhp import MpiInf3dhp
from .mpii import Mpii
from .panoptic import Panoptic
from .reader import DatasetError
from .stb import Stb

READERS = {reader.name: reader for reader in (Panoptic, Humbi, MpiInf3dhp, Human36M, Mpii, Coco, FreiHand, Stb, CmuHands)}
"""The readers by name."""


def open_dataset(name, root, **options):
    """The reader `name` on a folder; options such as `split` are its own. Raises `DatasetError`."""
    if name not in READERS:
        raise DatasetError(f"There is no reader for the dataset {name!r}: choose one of {', '.join(READERS)}.")
    if unknown := set(options) - set(inspect.signature(READERS[name]).parameters):
        raise DatasetError(f"The dataset {name} has no {min(unknown)} to choose: leave it out.")
    return READERS[name](root, **options)
