"""The character template: a rigged mesh that needs no body-model code to build, in the core's rest frame.

The core writes one from any body model (SMPL-H schema) and any face model (3DMM); the add-on builds the Blender character from it.
"""

import json
from dataclasses import dataclass, field, fields

import numpy as np

from .frames import forward_kinematics
from .npz_file import FileError, check_arrays, check_format, read_npz, write_npz

FORMAT_NAME = "fullbody-character"
FORMAT_VERSION = 3

_SCHEMA = {
    "vertices": ("f", ("V", 3)),
    "faces": ("i", ("F", "N")),
    "uv": ("f", ("F", "N", 2)),
    "joint_names": ("U", ("J",)),
    "parents": ("i", ("J",)),
    "joints": ("f", ("J", 3)),
    "weights": ("f", ("V", "J")),
    "shapedirs": ("f", ("V", 3, "B")),
    "joint_shapedirs": ("f", ("J", 3, "B")),
    "posedirs": ("f", ("V", 3, "P")),
    "face_vertices": ("i", ("W",)),
    "carried_vertices": ("i", ("C",)),
    "face_shapedirs": ("f", ("S", "M", 3)),
    "expression_names": ("U", ("E",)),
    "expression_limits": ("f", ("E", 2)),
    "expressiondirs": ("f", ("E", "M", 3)),
    "albedo_mean": ("f", ("V", 3)),
    "albedodirs": ("f", ("A", "V", 3)),
    "body_skin": ("f", ("V",)),
    "eyeballs": ("f", ("V",)),
    "meta": ("U", ()),
}

_HALF = ("face_shapedirs", "expressiondirs", "albedodirs", "body_skin", "eyeballs")
"""Kept as float16 in a file: a full head has some ten million of these numbers."""

_STEPS = {"shapedirs": 2.0**-18, "posedirs": 2.0**-18, "albedodirs": 2.0**-13}
_STEPS |= {"face_shapedirs": 2.0**-17, "expressiondirs": 2.0**-17}
"""Written are whole multiples of these (4 and 8 micrometres, a 30th of a grey level), which pack to half the size or less."""

DEFAULT_SKIN = (0.45, 0.22, 0.14)
"""Linear RGB of a character that no face model has coloured."""


def fitting(coefficients, count):
    """Coefficients [C] cut or filled with zeros to `count`."""
    fit = np.zeros(count)
    kept = min(count, len(coefficients))
    fit[:kept] = coefficients[:kept]
    return fit


class CharacterError(FileError):
    """A character template that cannot be used. The message is one sentence for the user."""


@dataclass
class CharacterTemplate:
    """A rigged, morphable, coloured mesh in the rest frame (y up, x to the person's left, z forward; metres).

    vertices [V, 3]; faces [F, N] with N = 3 or 4, where -1 pads a triangle among quads; uv [F, N, 2] per face corner
    joint_names [J], parents [J] (-1 for the root), joints [J, 3] at betas = 0, weights [V, J] that sum to 1
    shapedirs [V, 3, B] and joint_shapedirs [J, 3, B]: metres per unit of beta for the surface and for the joints
    posedirs [V, 3, P]: metres per unit of pose feature, the nine numbers of R - I of each joint but the root; or P = 0
    face_vertices [W]: the vertices that are the face's own, in the face model's order (W = 0: a body without one)
    carried_vertices [C]: others beside it, which its shape and expressions carry along; M = W + C, the face's own first
    face_shapedirs [S, M, 3]: metres per standard deviation of the face's shape
    expression_names [E], expression_limits [E, 2] (0..1 by default), expressiondirs [E, M, 3]: metres per unit of expression
    albedo_mean [V, 3], albedodirs [A, V, 3]: linear RGB, and linear RGB per unit of albedo coefficient, of the whole surface
    body_skin [V], eyeballs [V]: shares 0..1; skin outside the face, whose colour may be chosen by hand, and wet eyeballs
    meta: dict with format, version, name, licence, and the sha256 of the models it was made from
    """

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    joint_names: tuple
    parents: np.ndarray
    joints: np.ndarray
    weights: np.ndarray
    shapedirs: np.ndarray
    joint_shapedirs: np.ndarray
    posedirs: np.ndarray = None
    face_vertices: np.ndarray = None
    carried_vertices: np.ndarray = None
    face_shapedirs: np.ndarray = None
    expression_names: tuple = ()
    expression_limits: np.ndarray = None
    expressiondirs: np.ndarray = None
    albedo_mean: np.ndarray = None
    albedodirs: np.ndarray = None
    body_skin: np.ndarray = None
    eyeballs: np.ndarray = None
    meta: dict = field(default_factory=dict)

    def __post_init__(self):
        count, expressions = len(self.vertices), len(self.expression_names)
        for name in ("face_vertices", "carried_vertices"):
            if getattr(self, name) is None:
                setattr(self, name, np.zeros(0, np.int32))
        moved = len(self.face_vertices) + len(self.carried_vertices)
        defaults = {
            "posedirs": np.zeros((count, 3, 0), np.float32),
            "face_shapedirs": np.zeros((0, moved, 3), np.float32),
            "expression_limits": np.tile(np.float32([0, 1]), (expressions, 1)),
            "expressiondirs": np.zeros((expressions, moved, 3), np.float32),
            "albedo_mean": np.tile(np.float32(DEFAULT_SKIN), (count, 1)),
            "albedodirs": np.zeros((0, count, 3), np.float32),
            "body_skin": np.ones(count, np.float32),
            "eyeballs": np.zeros(count, np.float32),
        }
        for name, default in defaults.items():
            if getattr(self, name) is None:
                setattr(self, name, default)

    @property
    def moved_vertices(self):
        """The vertices [M] that the face's shape and expressions move: its own and those beside it."""
        return np.concatenate([self.face_vertices, self.carried_vertices])

    def part(self, vertices):
        """The template of some vertices [P] only, in their order, without faces and colours: for those that only pose it."""
        number = np.full(len(self.vertices), -1)
        number[vertices] = np.arange(len(vertices))
        there = number[self.moved_vertices] >= 0
        return CharacterTemplate(
            vertices=self.vertices[vertices],
            faces=np.zeros((0, 3), np.int32),
            uv=np.zeros((0, 3, 2), np.float32),
            joint_names=self.joint_names,
            parents=self.parents,
            joints=self.joints,
            weights=self.weights[vertices],
            shapedirs=self.shapedirs[vertices],
            joint_shapedirs=self.joint_shapedirs,
            posedirs=self.posedirs[vertices],
            face_vertices=number[self.moved_vertices[there]],
            face_shapedirs=self.face_shapedirs[:, there],
            expression_names=self.expression_names,
            expression_limits=self.expression_limits,
            expressiondirs=self.expressiondirs[:, there],
        )

    def rest_joints(self, betas):
        """Joints [J, 3] m of the unposed body of shape `betas` [B]; fewer betas than B leave the rest at zero."""
        betas = np.asarray(betas, float)
        return self.joints + self.joint_shapedirs[..., : len(betas)] @ betas

    def rest_surface(self, betas, shape=(), expression=()):
        """Surface [V, 3] m of the unposed character of body shape `betas`, face `shape` and `expression`.

        Of each, fewer coefficients than the template has leave the rest at zero.
        """
        betas = np.asarray(betas, float)
        surface = self.vertices + self.shapedirs[..., : len(betas)] @ betas
        surface[self.moved_vertices] += _combine(shape, self.face_shapedirs) + _combine(expression, self.expressiondirs)
        return surface

    def sole(self, betas):
        """Height, m, of the soles of the unposed body of shape `betas` [B]: its lowest point's y in the rest frame."""
        return float(self.rest_surface(betas)[:, 1].min())

    def posed_surface(self, rotations, betas, shape=(), expression=(), translation=(0, 0, 0)):
        """Surface [..., V, 3] m of the character in poses: pose blend shapes, if it has any, and linear blend skinning.

        rotations [..., J, 3, 3] parent-relative, the root's about its rest place; translation [..., 3] m moves everything after;
        the rest as in `rest_surface`, for one person at a time.
        """
        joints = self.rest_joints(betas)
        rotations = np.asarray(rotations, float)
        posed, orientations = forward_kinematics(joints, rotations, self.parents)
        # A rest point x follows joint k to orientation_k (x - joint_k) + posed_k, written as one 3x4 matrix per joint.
        shifts = posed - (orientations @ joints[..., None])[..., 0] + np.asarray(translation, float)[..., None, :]
        transforms = np.concatenate([orientations, shifts[..., None]], -1)
        blended = self.weights @ transforms.reshape(*transforms.shape[:-2], 12)
        blended = blended.reshape(*blended.shape[:-1], 3, 4)
        surface = self.rest_surface(betas, shape, expression)
        if self.posedirs.shape[-1]:
            feature = (rotations[..., 1:, :, :] - np.eye(3)).reshape(*rotations.shape[:-3], -1)
            surface = surface + np.tensordot(feature, self.posedirs, (-1, -1))
        return (blended[..., :3] @ surface[..., None])[..., 0] + blended[..., 3]

    def albedo(self, coefficients):
        """Reflectance [V, 3] in linear RGB of albedo coefficients (Zhou et al. 2021, Eq. 4); it may leave 0..1."""
        return self.albedo_mean + _combine(coefficients, self.albedodirs)

    def save(self, path):
        """Writes the file whole or not at all. Raises `CharacterError`."""
        try:
            write_npz(path, self.to_arrays())
        except FileError as error:
            raise CharacterError(str(error)) from error

    def to_arrays(self):
        """The file's arrays by name, checked. Raises `CharacterError`."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["meta"] = json.dumps({**self.meta, "format": FORMAT_NAME, "version": FORMAT_VERSION}, sort_keys=True)
        values["joint_names"] = np.array(self.joint_names, dtype=str)
        values["expression_names"] = np.array(self.expression_names, dtype="U1" if not self.expression_names else str)
        arrays = {name: np.asarray(values[name]) for name in _SCHEMA}
        kinds = {"f": np.float32, "i": np.int32}
        for name, array in arrays.items():
            if name in _STEPS and array.dtype.kind == "f":
                array = np.rint(array / _STEPS[name]) * _STEPS[name]
            arrays[name] = array.astype(np.float16 if name in _HALF else kinds.get(array.dtype.kind, array.dtype))
        try:
            _check(arrays)
        except FileError as error:
            raise CharacterError(str(error)) from error
        return arrays

    @classmethod
    def load(cls, path):
        """Reads and checks a template. Raises `CharacterError`."""
        try:
            return cls.from_arrays(read_npz(path, "character template"), path)
        except FileError as error:
            raise CharacterError(str(error)) from error

    @classmethod
    def from_arrays(cls, arrays, path):
        """The template of a file's arrays by name, checked; `path` is the file's in errors. Raises `FileError`."""
        meta = check_format(arrays, FORMAT_NAME, FORMAT_VERSION, "character template", path)
        if meta["version"] < FORMAT_VERSION:
            raise CharacterError(
                f"{path} is of an older format ({meta['version']}; this one reads {FORMAT_VERSION}): make it again."
            )
        _check(arrays)
        values = {name: array.astype(np.float32) if name in _HALF else array for name, array in arrays.items()}
        values["meta"] = meta
        for name in ("joint_names", "expression_names"):
            values[name] = tuple(str(item) for item in arrays[name])
        return cls(**values)


def _combine(coefficients, directions):
    """Sum [X, 3] of directions [K, X, 3] by coefficients of at most K."""
    coefficients = np.asarray(coefficients, float)
    return np.tensordot(coefficients, directions[: len(coefficients)], 1)


def _check(arrays):
    sizes = check_arrays(arrays, _SCHEMA, "character template")
    if 0 in (sizes["F"], sizes["J"]):
        raise CharacterError("The character template holds no faces or no joints.")
    faces, parents = arrays["faces"], arrays["parents"]
    if sizes["N"] not in (3, 4) or faces.min() < -1 or (faces[:, :3] < 0).any() or faces.max() >= sizes["V"]:
        raise CharacterError("The character template's faces point outside its vertices.")
    if parents[0] != -1 or (parents[1:] < 0).any() or (parents >= np.arange(sizes["J"])).any():
        raise CharacterError("The character template's parents are not one tree with parents first.")
    if not np.allclose(arrays["weights"].sum(1), 1, atol=1e-4):
        raise CharacterError("The character template's weights do not sum to one at every vertex.")
    if sizes["P"] not in (0, 9 * (sizes["J"] - 1)):
        raise CharacterError(f"The character template's posedirs should have {9 * (sizes['J'] - 1)} columns or none.")
    moved, limits = np.concatenate([arrays["face_vertices"], arrays["carried_vertices"]]), arrays["expression_limits"]
    if len(moved) != sizes["M"]:
        expected, got = [sizes["S"], len(moved), 3], list(arrays["face_shapedirs"].shape)
        raise CharacterError(f"The character template's face_shapedirs should have shape {expected}, got {got}.")
    if len(moved) and (moved.min() < 0 or moved.max() >= sizes["V"] or len(np.unique(moved)) < len(moved)):
        raise CharacterError(
            "The character template's face_vertices and carried_vertices are not some of its vertices, each once."
        )
    if (limits[:, 0] > 0).any() or (limits[:, 1] < 0).any():
        raise CharacterError("The character template's expression_limits leave out the face at rest.")
    names = arrays["expression_names"]
    if len(np.unique(names)) < len(names):
        raise CharacterError("The character template has an expression twice.")
    for name in ("body_skin", "eyeballs"):
        if arrays[name].min() < 0 or arrays[name].max() > 1:
            raise CharacterError(f"The character template's {name} should be shares from 0 to 1.")
