"""The Basel Face Model of 2009 (Paysan et al.) and of 2017 (Gerig et al.) as a 3DMM, from the files their licensees have.

2009: 01_MorphableModel.mat (micrometres, colours 0..255) and, beside it, the expressions of Guo et al. 2018 that the field uses
with it: Exp_Pca.bin (how many there are as int32, their mean and then each of them as float32, micrometres), std_exp.txt (their
standard deviations), and BFM_exp_idx.mat (trimIndex: which vertices they are for, from 1). Other vertices are left out.
2017: one .h5 with /shape, /expression and /color, each a mean, a basis and variances (millimetres, colours 0..1).

Both look along z with y up, as faces do here. The mean expression is added to the mean shape, as in the literature: the face
at rest is the mean of the scans. Colours are sRGB there and linear here: the basis is made linear at the mean colour.
"""

from pathlib import Path

import numpy as np

from ..contract.morphable import FaceModelError, MorphableModel
from .illumination import srgb_to_linear
from .surface_edge import longest_edge_loop

SHAPE_COUNT, EXPRESSION_COUNT, ALBEDO_COUNT = 80, 64, 80
"""As many as Zhou et al. 2021 (Sec. 3.1) use; a file with fewer gives what it has."""

LIMIT = 3.0
"""Standard deviations that an expression coefficient may have."""

LICENCE = "for research, by the University of Basel's licence of its face model; not to be passed on"
COMPANIONS = ("Exp_Pca.bin", "std_exp.txt", "BFM_exp_idx.mat")
"""The files with the expressions, which lie beside the .mat of 2009."""

_MAT_SHAPES = {
    "shapeMU": ("3V", 1), "shapePC": ("3V", "S"), "shapeEV": ("S", 1),
    "texMU": ("3V", 1), "texPC": ("3V", "A"), "texEV": ("A", 1), "tl": ("F", 3),
}  # fmt: skip
_H5_PARTS = {"shape": "S", "expression": "E", "color": "A"}


def read_bfm2009(path):
    """`MorphableModel` of 01_MorphableModel.mat and the files beside it, without mesh points. Raises `FaceModelError`."""
    path = Path(path)
    arrays = _read_mat(path)
    sizes = _check_shapes({name: arrays.get(name) for name in _MAT_SHAPES}, _MAT_SHAPES, path)
    count = _vertex_count(sizes, path)
    chosen, expression_mean, expressions, deviations = _read_expressions(path.parent)
    if chosen.min() < 0 or chosen.max() >= count:
        raise FaceModelError(f"{path.parent / 'BFM_exp_idx.mat'} points outside the vertices of {path.name}.")
    triangles = arrays["tl"].astype(int) - 1
    if triangles.min() < 0 or triangles.max() >= count:
        raise FaceModelError(f"{path} has triangles outside its vertices.")
    renumbered = np.full(count, -1)
    renumbered[chosen] = np.arange(len(chosen))
    triangles = renumbered[triangles]

    def basis(vectors, spread, number):
        return _basis(vectors, np.ravel(spread), number, count)[:, chosen]

    return _build(
        "Basel Face Model 2009",
        1e-6 * (_points(arrays["shapeMU"])[chosen] + expression_mean),
        triangles[(triangles >= 0).all(1)],
        1e-6 * basis(arrays["shapePC"], arrays["shapeEV"], SHAPE_COUNT),
        1e-6 * _basis(expressions, deviations, EXPRESSION_COUNT, len(chosen)),
        _points(arrays["texMU"])[chosen] / 255,
        basis(arrays["texPC"], arrays["texEV"], ALBEDO_COUNT) / 255,
    )


def companions(path):
    """Paths of the files that a .mat of 2009 is read with."""
    return [Path(path).parent / name for name in COMPANIONS]


def read_bfm2017(path):
    """`MorphableModel` of a .h5 of 2017, without mesh points. Needs the package h5py. Raises `FaceModelError`."""
    try:
        import h5py
    except ImportError as error:
        raise FaceModelError("To read a Basel Face Model of 2017 the package h5py is needed: 'pip install h5py'.") from error
    shapes = {f"{part}/model/mean": ("3V",) for part in _H5_PARTS}
    shapes |= {f"{part}/model/pcaBasis": ("3V", size) for part, size in _H5_PARTS.items()}
    shapes |= {f"{part}/model/pcaVariance": (size,) for part, size in _H5_PARTS.items()}
    shapes["shape/representer/cells"] = (3, "F")
    try:
        with h5py.File(path, "r") as file:
            arrays = {name: np.asarray(file[name]) if isinstance(file.get(name), h5py.Dataset) else None for name in shapes}
    except (OSError, ValueError, RuntimeError) as error:
        raise FaceModelError(f"{path} is not a Basel Face Model of 2017, or it was cut short.") from error
    sizes = _check_shapes(arrays, shapes, path)
    count = _vertex_count(sizes, path)
    triangles = arrays["shape/representer/cells"].T.astype(int)
    if triangles.min() < 0 or triangles.max() >= count:
        raise FaceModelError(f"{path} has triangles outside its vertices.")

    def part(name, number):
        mean, vectors, variance = (arrays[f"{name}/model/{key}"] for key in ("mean", "pcaBasis", "pcaVariance"))
        return _points(mean), _basis(vectors, np.sqrt(np.maximum(variance, 0)), number, count)

    shape, shape_basis = part("shape", SHAPE_COUNT)
    expression, expression_basis = part("expression", EXPRESSION_COUNT)
    colour, colour_basis = part("color", ALBEDO_COUNT)
    mean = 1e-3 * (shape + expression)
    return _build(
        "Basel Face Model 2017", mean, triangles, 1e-3 * shape_basis, 1e-3 * expression_basis, colour, colour_basis
    )


def _build(name, mean, triangles, shape_basis, expression_basis, colour, colour_basis):
    """The model of a mean [V, 3] m and its bases in m, and of colours [V, 3] sRGB 0..1 with their basis."""
    colour = np.clip(colour, 0, 1)
    step = 1e-4
    slope = (srgb_to_linear(colour + step) - srgb_to_linear(colour - step)) / (2 * step)
    edges = mean[triangles[:, 1:]] - mean[triangles[:, :1]]
    # A face is open behind, so that its triangles look forwards on the whole, if they look outwards.
    if np.cross(edges[:, 0], edges[:, 1])[:, 2].sum() < 0:
        triangles = triangles[:, ::-1]
    count = len(expression_basis)
    return MorphableModel(
        mean=mean.astype(np.float32),
        faces=np.ascontiguousarray(triangles, np.int32),
        shape_basis=shape_basis.astype(np.float32),
        expression_basis=expression_basis.astype(np.float32),
        expression_names=tuple(f"expression_{number:02d}" for number in range(count)),
        expression_limits=np.tile(np.float32([-LIMIT, LIMIT]), (count, 1)),
        albedo_mean=srgb_to_linear(colour).astype(np.float32),
        albedo_basis=(colour_basis * slope).astype(np.float32),
        boundary=longest_edge_loop(triangles),
        meta={"name": name, "licence": LICENCE, "produced_by": "bfm_file"},
    )


def _read_mat(path):
    """Numeric arrays of a .mat file of MATLAB's level 5 by name. Raises `FaceModelError`."""
    from scipy.io import loadmat

    if not path.is_file():
        raise FaceModelError(f"There is no {path}: it belongs to the Basel Face Model of 2009.")
    try:
        arrays = loadmat(path)
    except Exception as error:  # scipy's readers fail in many ways on bytes that are no .mat, or only the half of one
        raise FaceModelError(f"{path} is not a .mat file of the Basel Face Model of 2009, or it was cut short.") from error
    return {name: array for name, array in arrays.items() if isinstance(array, np.ndarray) and array.dtype.kind in "iuf"}


def _read_expressions(folder):
    """(vertices [V] from 0, mean [V, 3], vectors [3V, E], standard deviations [E]) of the files in a folder, micrometres."""
    missing = [name for name in COMPANIONS if not (folder / name).is_file()]
    if missing:
        raise FaceModelError(
            f"{folder} lacks {' and '.join(missing)}: the Basel Face Model of 2009 has its expressions there."
        )
    chosen = _read_mat(folder / "BFM_exp_idx.mat").get("trimIndex")
    if chosen is None or not chosen.size:
        raise FaceModelError(f"{folder / 'BFM_exp_idx.mat'} holds no trimIndex.")
    chosen = chosen.ravel().astype(int) - 1
    content = (folder / "Exp_Pca.bin").read_bytes()
    number = int(np.frombuffer(content, "<i4", 1)[0]) if len(content) >= 4 else 0
    if number < 1 or len(content) != 4 + 4 * 3 * len(chosen) * (number + 1):
        raise FaceModelError(
            f"{folder / 'Exp_Pca.bin'} should hold expressions of {len(chosen)} vertices: it was cut short."
        )
    values = np.frombuffer(content, "<f4", offset=4).reshape(number + 1, -1)
    try:
        deviations = np.loadtxt(folder / "std_exp.txt").ravel()
    except ValueError as error:
        raise FaceModelError(f"{folder / 'std_exp.txt'} should hold numbers only.") from error
    if len(deviations) != number or not (np.isfinite(values).all() and np.isfinite(deviations).all()):
        raise FaceModelError(
            f"{folder} should hold as many numbers in std_exp.txt as expressions in Exp_Pca.bin, all finite."
        )
    return chosen, _points(values[0]), values[1:].T, deviations


def _points(values):
    """Points [V, 3] of a vector [3V] or [3V, 1] that holds x, y, z of each in turn."""
    return np.asarray(values, float).reshape(-1, 3)


def _basis(vectors, deviations, number, count):
    """The first `number` columns of vectors [3V, K] times their standard deviations [K]: [number, V, 3]."""
    leading = np.asarray(vectors[:, :number], float) * deviations[:number]
    return leading.T.reshape(-1, count, 3)


def _check_shapes(arrays, shapes, path):
    """The sizes found; every array must be there, finite, and of its shape, in which equal symbols mean equal numbers."""
    sizes = {}
    for name, shape in shapes.items():
        array = arrays[name]
        if array is None or array.dtype.kind not in "iuf":
            raise FaceModelError(f"{path} is not a Basel Face Model as this project knows it: it lacks {name}.")
        fits = len(shape) == array.ndim and all(sizes.setdefault(size, got) == got if isinstance(size, str) else size == got
                                                for size, got in zip(shape, array.shape))  # fmt: skip
        if not fits or not array.size:
            raise FaceModelError(f"{path} has {name} of an unexpected shape {list(array.shape)}.")
        if not np.isfinite(array).all():
            raise FaceModelError(f"{path} has numbers in {name} that are not finite.")
    return sizes


def _vertex_count(sizes, path):
    if sizes["3V"] % 3:
        raise FaceModelError(f"{path} should hold three coordinates of each vertex.")
    return sizes["3V"] // 3
