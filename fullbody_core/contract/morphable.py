"""Any 3D morphable face model (3DMM): V = mean + shape + expression, and a colour of its own (Zhou et al. 2021, Eq. 3 and 4).

Whatever the source (the open face, ICT-FaceKit, BFM), here it is metres, the rest frame (y up, x to the person's left, z
forward), linear RGB, and standard deviations. Nothing that uses a face asks which one it is.
"""

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from .npz_file import FileError, check_arrays, check_format, read_npz, write_npz
from .skeleton import MESH_POINTS
from .surface import triangulate

FORMAT_NAME = "fullbody-face"
FORMAT_VERSION = 1

REGIONS = ("skin", "lips", "brows", "lids", "nose", "cheeks", "forehead", "beard", "eyeballs", "irises", "mouth", "teeth")
"""What a model may say of its surface. `skin` is what a photograph shows of a face: without eyeballs, the inside of the mouth, and
what hair hides; `mouth` is that inside."""

_SCHEMA = {
    "mean": ("f", ("V", 3)),
    "faces": ("i", ("F", "N")),
    "shape_basis": ("f", ("S", "V", 3)),
    "expression_basis": ("f", ("E", "V", 3)),
    "expression_names": ("U", ("E",)),
    "expression_limits": ("f", ("E", 2)),
    "albedo_mean": ("f", ("V", 3)),
    "albedo_basis": ("f", ("A", "V", 3)),
    "mesh_vertices": ("i", (MESH_POINTS, 3)),
    "mesh_weights": ("f", (MESH_POINTS, 3)),
    "region_names": ("U", ("R",)),
    "region_weights": ("f", ("R", "V")),
    "boundary": ("i", ("L",)),
    "meta": ("U", ()),
}

_HALF = ("shape_basis", "expression_basis", "albedo_basis", "region_weights")
"""Kept as float16 in a file: 11 bits of a displacement of a centimetre are five micrometres."""


class FaceModelError(FileError):
    """A face model that cannot be used. The message is one sentence for the user."""


@dataclass
class MorphableModel:
    """A 3DMM of V vertices with S shape, E expression and A albedo components.

    mean [V, 3] m; faces [F, N] with N = 3 or 4, where -1 pads a triangle among quads
    shape_basis [S, V, 3], albedo_basis [A, V, 3]: m and linear RGB per standard deviation; albedo_mean [V, 3] linear RGB
    expression_basis [E, V, 3] m per unit; expression_names [E]; expression_limits [E, 2]: lowest and highest coefficient
    mesh_vertices, mesh_weights [478, 3]: the point of MediaPipe's face mesh on this surface, as three vertices and their
        barycentric weights; a point that the model lacks has weights of zero
    regions: shares 0..1 [V] by name, of REGIONS
    boundary [L]: the outer edge of the face as one loop of vertices, in order (empty where there is none)
    meta: dict with format, version, name, licence, produced_by; sha256: of the file it was read from, or None
    """

    mean: np.ndarray
    faces: np.ndarray
    shape_basis: np.ndarray
    expression_basis: np.ndarray
    expression_names: tuple
    expression_limits: np.ndarray
    albedo_mean: np.ndarray
    albedo_basis: np.ndarray
    mesh_vertices: np.ndarray = None
    mesh_weights: np.ndarray = None
    regions: dict = field(default_factory=dict)
    boundary: np.ndarray = None
    meta: dict = field(default_factory=dict)
    sha256: str = None

    def __post_init__(self):
        if self.mesh_vertices is None:
            self.mesh_vertices, self.mesh_weights = np.zeros((MESH_POINTS, 3), np.int32), np.zeros((MESH_POINTS, 3), np.float32)
        if self.boundary is None:
            self.boundary = np.zeros(0, np.int32)

    @property
    def shape_size(self):
        return len(self.shape_basis)

    @property
    def expression_size(self):
        return len(self.expression_basis)

    @property
    def albedo_size(self):
        return len(self.albedo_basis)

    @cached_property
    def triangles(self):
        """The faces cut into triangles [F', 3]."""
        return triangulate(self.faces)

    @property
    def has_mesh_points(self):
        """Which points of MediaPipe's face mesh [478] bool the model has."""
        return self.mesh_weights.any(1)

    def geometry(self, shape, expression):
        """Vertices [..., V, 3] m of shape [..., S] and expression [..., E] (Eq. 3)."""
        return self.mean + _combine(shape, self.shape_basis) + _combine(expression, self.expression_basis)

    def albedo(self, coefficients):
        """Reflectance [..., V, 3] in linear RGB of albedo coefficients [..., A] (Eq. 4); it may leave 0..1."""
        return self.albedo_mean + _combine(coefficients, self.albedo_basis)

    def region(self, name):
        """The share [V] of a region; zeros where the model does not have it."""
        return self.regions.get(name, np.zeros(len(self.mean), np.float32))

    def at(self, vertices, weights):
        """The model of P points only, each the mean of vertices [P, C] with weights [P, C]: `MorphablePoints`."""
        vertices, weights = np.asarray(vertices), np.asarray(weights, float)

        def of(values):
            return np.einsum("...pcx,pc->...px", np.asarray(values[..., vertices, :], float), weights)

        return MorphablePoints(of(self.mean), of(self.shape_basis), of(self.expression_basis))

    @cached_property
    def mesh_points(self):
        """`MorphablePoints` of MediaPipe's face mesh."""
        return self.at(self.mesh_vertices, self.mesh_weights)

    def save(self, path):
        """Writes the file whole or not at all. Raises `FaceModelError`."""
        try:
            write_npz(path, self.to_arrays())
        except FileError as error:
            raise FaceModelError(str(error)) from error

    def to_arrays(self):
        """The file's arrays by name, checked. Raises `FileError`."""
        arrays = {name: np.asarray(getattr(self, name)) for name in _SCHEMA if hasattr(self, name)}
        arrays["expression_names"] = np.array(self.expression_names, dtype=str)
        arrays["region_names"] = np.array(list(self.regions), dtype=str)
        arrays["region_weights"] = np.array(list(self.regions.values())).reshape(len(self.regions), len(self.mean))
        arrays["meta"] = np.array(json.dumps({**self.meta, "format": FORMAT_NAME, "version": FORMAT_VERSION}, sort_keys=True))
        for name, array in arrays.items():
            if array.dtype.kind == "f":
                arrays[name] = array.astype(np.float16 if name in _HALF else np.float32)
        _check(arrays)
        return arrays

    @classmethod
    def load(cls, path):
        """Reads and checks a file that `save` wrote. Raises `FaceModelError`."""
        try:
            model = cls.from_arrays(read_npz(path, "face model"), path)
        except FileError as error:
            raise FaceModelError(str(error)) from error
        model.sha256 = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        return model

    @classmethod
    def from_arrays(cls, arrays, path):
        """The model of a file's arrays by name, checked; `path` is the file's in errors. Raises `FileError`."""
        meta = check_format(arrays, FORMAT_NAME, FORMAT_VERSION, "face model", path)
        _check(arrays)
        arrays = {name: a.astype(np.float32) if a.dtype.kind == "f" else a for name, a in arrays.items()}
        names, weights = arrays.pop("region_names"), arrays.pop("region_weights")
        arrays["expression_names"] = tuple(str(name) for name in arrays["expression_names"])
        arrays |= {"regions": {str(n): w for n, w in zip(names, weights)}, "meta": meta}
        return cls(**arrays)


@dataclass(frozen=True)
class MorphablePoints:
    """P points of a 3DMM's surface: mean [P, 3] m, shape_basis [S, P, 3], expression_basis [E, P, 3]."""

    mean: np.ndarray
    shape_basis: np.ndarray
    expression_basis: np.ndarray

    def places(self, shape, expression):
        """Points [..., P, 3] m of shape [..., S] and expression [..., E]."""
        return self.mean + _combine(shape, self.shape_basis) + _combine(expression, self.expression_basis)


def _combine(coefficients, basis):
    """Sum of a basis [K, V, 3] with coefficients [..., K]: [..., V, 3]."""
    coefficients = np.asarray(coefficients)
    flat = coefficients.astype(basis.dtype, copy=False) @ basis.reshape(len(basis), -1)
    return flat.reshape(*coefficients.shape[:-1], *basis.shape[1:])


def _check(arrays):
    sizes = check_arrays(arrays, _SCHEMA, "face model")
    faces, count = arrays["faces"], sizes["V"]
    if sizes["N"] not in (3, 4) or faces[:, :3].min() < 0 or faces.min() < -1 or faces.max() >= count:
        raise FaceModelError("The face model's faces point outside its vertices.")
    for name in ("mesh_vertices", "boundary"):
        if arrays[name].size and (arrays[name].min() < 0 or arrays[name].max() >= count):
            raise FaceModelError(f"The face model's {name} point outside its vertices.")
    totals = arrays["mesh_weights"].sum(1)
    if not (np.isclose(totals, 1, atol=1e-3) | np.isclose(totals, 0)).all():
        raise FaceModelError("The face model's mesh_weights do not sum to one or zero at every point.")
    if unknown := sorted(set(arrays["region_names"].tolist()) - set(REGIONS)):
        raise FaceModelError(f"The face model has an unknown region {unknown[0]}.")
    limits = arrays["expression_limits"]
    if (limits[:, 0] > 0).any() or (limits[:, 1] < 0).any():
        raise FaceModelError("The face model's expression_limits leave out the face at rest.")
