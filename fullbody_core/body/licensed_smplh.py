"""SMPL-H (Romero et al. 2017) from the files its licensees have, as .npz (AMASS's site) or .pkl (MANO's site), read strictly.

Poses here are axis-angle for every joint, and zero is the flat hand: that is smplx's SMPLH with use_pca=False and
flat_hand_mean=True, which looks at neither the hands' components nor their mean. So these are not read. Of the shape directions
16 are kept; a file with fewer (at least 10) gets directions of zero for the rest, since a capture has 16 betas.

SMPL, SMPL-X, MANO and FLAME come in files of the same keys; they are told apart by their joints, and refused.
"""

import hashlib
from pathlib import Path

import numpy as np

from ..contract.npz_file import FileError
from ..contract.skeleton import JOINT_NAMES, PARENTS
from ..npz_names import npz_array, npz_names
from .pickle_arrays import read_pickle
from .smplh_file import BodyModelError, BodyModelFile
from .smplh_landmarks import find_landmarks

BETA_COUNT, FEWEST_BETAS = 16, 10
LICENCE = "for research only, by the licence of SMPL-H and MANO (mano.is.tue.mpg.de); not to be passed on"

_NEEDED = {
    "v_template": ("f", ("V", 3)),
    "f": ("iu", ("F", 3)),
    "weights": ("f", ("V", "J")),
    "kintree_table": ("iu", (2, "J")),
    "J_regressor": ("f", ("J", "V")),
    "shapedirs": ("f", ("V", 3, "B")),
    "posedirs": ("f", ("V", 3, "P")),
}
_KINDS = {"f": "numbers with fractions", "iu": "whole numbers"}

FAMILIES = {24: "SMPL", 52: "SMPL-H", 55: "SMPL-X", 16: "MANO", 5: "FLAME"}
"""What a file of these keys is, by its number of joints."""

_OTHERS = {
    "SMPL": "a body without fingers",
    "SMPL-X": "a body with a face, on another surface",
    "MANO": "a hand alone",
    "FLAME": "a head alone",
}

_ROOT_PARENTS = (2**32 - 1, -1)
_LEAST_HEIGHT, _GREATEST_HEIGHT = 0.4, 3.0
"""m: a child's and a giant's; a model outside is not in metres, or does not stand along y."""


def read_smplh(path):
    """`BodyModelFile` of an SMPL-H file. Raises `BodyModelError` that says what is wrong, or what else the file is."""
    path = Path(path)
    arrays = _read(path)
    family = smpl_family(arrays)
    if family is None:
        missing = [name for name in _NEEDED if name not in arrays]
        raise BodyModelError(f"{path} is no SMPL-H model: it lacks {', '.join(missing)}.")
    if family != "SMPL-H":
        raise BodyModelError(
            f"{path} is {family} ({_OTHERS[family]}), and SMPL-H is needed: get it from mano.is.tue.mpg.de or amass.is.tue.mpg.de."
        )
    _check(arrays, path)
    body = _build(arrays, path)
    body.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return body


def smpl_family(arrays):
    """'SMPL-H', 'SMPL', 'SMPL-X', 'MANO' or 'FLAME' by arrays of a file; None where they are of none of these."""
    if not {"v_template", "f", "weights", "kintree_table"} <= set(arrays):
        return None
    joints = np.shape(arrays["weights"])[-1:] or (0,)
    # A damaged file of this family: what is wrong with it is for the checks to say.
    return FAMILIES.get(joints[0], "SMPL-H")


def is_pickle(start):
    """Whether a file's first bytes are those of a pickle: of protocol 2 or later, or a dict of protocol 0 or 1."""
    return start[:1] == b"\x80" or start[:2] in (b"(d", b"}q", b"}(")


def _read(path):
    """The arrays of a file by name: of an .npz the needed ones only, since others may be pickled. Raises `BodyModelError`."""
    try:
        with open(path, "rb") as file:
            start = file.read(4)
    except OSError as error:
        raise BodyModelError(f"Cannot read {path}: {error.strerror}.") from error
    if start[:2] == b"PK":
        return _read_npz(path)
    if not is_pickle(start):
        raise BodyModelError(f"{path} is no body model: it is neither an .npz file nor a pickle.")
    try:
        values = read_pickle(path)
    except FileError as error:
        raise BodyModelError(str(error)) from error
    if not isinstance(values, dict):
        raise BodyModelError(f"{path} is no body model: it holds no arrays by name.")
    return values


def _read_npz(path):
    try:
        return {name: npz_array(path, name) for name in _NEEDED if name in npz_names(path)}
    except FileError as error:
        raise BodyModelError(str(error)) from error


def _check(arrays, path):
    """Every needed array, its kind, its shape, and that it can be what it says. Raises `BodyModelError`."""
    sizes = {"J": len(JOINT_NAMES), "P": 9 * (len(JOINT_NAMES) - 1)}
    for name, (kinds, shape) in _NEEDED.items():
        array = arrays.get(name)
        if array is None:
            formula = name in arrays
            lacks = f"its {name} is a formula that would have to be computed" if formula else f"it lacks {name}"
            raise BodyModelError(f"{path} is no SMPL-H model as this project knows it: {lacks}.")
        if not isinstance(array, np.ndarray) or array.dtype.kind not in kinds:
            got = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            raise BodyModelError(f"{path} should have {_KINDS[kinds]} in {name}, got {got}.")
        expected = [sizes.get(size, size) for size in shape]
        fits = array.ndim == len(shape) and all(isinstance(e, str) or e == g for e, g in zip(expected, array.shape))
        if not fits or not array.size:
            raise BodyModelError(f"{path} should have {name} of shape {expected}, got {list(array.shape)}.")
        if kinds == "f" and not np.isfinite(array).all():
            raise BodyModelError(f"{path} has numbers in {name} that are not finite.")
        sizes.update({size: got for size, got in zip(shape, array.shape) if isinstance(size, str)})
    if sizes["B"] < FEWEST_BETAS:
        raise BodyModelError(f"{path} has {sizes['B']} shape directions; at least {FEWEST_BETAS} are needed.")
    _check_values(arrays, sizes["V"], path)


def _check_values(arrays, count, path):
    faces = arrays["f"].astype(np.int64)
    if faces.min() < 0 or faces.max() >= count:
        raise BodyModelError(f"{path} has faces in f outside its {count} vertices.")
    parents, numbers = arrays["kintree_table"].astype(np.int64)
    if parents[0] not in _ROOT_PARENTS or tuple(parents[1:]) != PARENTS[1:] or (numbers != np.arange(len(PARENTS))).any():
        raise BodyModelError(f"{path} has a tree of joints in kintree_table that is not SMPL-H's.")
    weights = arrays["weights"]
    if weights.min() < -1e-6 or not np.allclose(weights.sum(1), 1, atol=1e-3):
        raise BodyModelError(f"{path} has weights that are not shares that sum to one.")
    if not np.allclose(arrays["J_regressor"].sum(1), 1, atol=1e-3):
        raise BodyModelError(f"{path} has rows in J_regressor that do not sum to one.")
    height = np.ptp(arrays["v_template"][:, 1])
    if not _LEAST_HEIGHT < height < _GREATEST_HEIGHT:
        raise BodyModelError(f"{path} has a v_template {height:.3g} high, which cannot be a person in metres along y.")


def _build(arrays, path):
    vertices, weights = arrays["v_template"].astype(np.float32), arrays["weights"].astype(np.float32)
    regressor = arrays["J_regressor"].astype(np.float32)
    shapedirs = np.zeros((len(vertices), 3, BETA_COUNT), np.float32)
    given = arrays["shapedirs"][..., :BETA_COUNT]
    shapedirs[..., : given.shape[-1]] = given
    faces = arrays["f"].astype(np.int32)
    which = gender_of(path)
    try:
        return BodyModelFile(
            v_template=vertices,
            f=faces,
            weights=weights,
            parents=np.array(PARENTS),
            J_regressor=regressor,
            shapedirs=shapedirs,
            posedirs=arrays["posedirs"].astype(np.float32),
            landmarks=find_landmarks(vertices, faces, arrays["J_regressor"] @ arrays["v_template"], weights),
            meta={"name": f"SMPL-H {which}".strip(), "licence": LICENCE, "produced_by": "licensed_smplh"},
        )
    except BodyModelError as error:
        raise BodyModelError(f"{path} cannot be used: {error}") from error


def gender_of(path):
    """'female', 'male', 'neutral' or '' by the name of a file, or else of its folder: the files themselves do not say it."""
    for name in (Path(path).stem, Path(path).absolute().parent.name):
        for gender in ("female", "male", "neutral"):
            if gender in name.lower():
                return gender
    return ""
