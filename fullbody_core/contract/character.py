"""The character template: a rigged mesh that needs no body-model code to build, in the core's rest frame.

The core writes one from any body model (SMPL-H schema); the add-on builds the Blender character from it.
"""

import json
from dataclasses import dataclass, field, fields

import numpy as np

from .npz_file import FileError, check_arrays, check_format, read_npz, write_npz

FORMAT_NAME = "fullbody-character"
FORMAT_VERSION = 1

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
    "expression_names": ("U", ("E",)),
    "expressiondirs": ("f", ("E", "V", 3)),
    "meta": ("U", ()),
}


class CharacterError(FileError):
    """A character template that cannot be used. The message is one sentence for the user."""


@dataclass
class CharacterTemplate:
    """A rigged, morphable mesh in the rest frame (y up, x to the person's left, z forward; metres).

    vertices [V, 3]; faces [F, N] with N = 3 or 4, where -1 pads a triangle among quads; uv [F, N, 2] per face corner
    joint_names [J], parents [J] (-1 for the root), joints [J, 3] at betas = 0, weights [V, J] that sum to 1
    shapedirs [V, 3, B] and joint_shapedirs [J, 3, B]: metres per unit of beta for the surface and for the joints
    expression_names [E], expressiondirs [E, V, 3]: metres per unit of expression (E may be 0)
    meta: dict with format, version, name, licence, and the sha256 of the body model it was made from
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
    expression_names: tuple = ()
    expressiondirs: np.ndarray = None
    meta: dict = field(default_factory=dict)

    def __post_init__(self):
        if self.expressiondirs is None:
            self.expressiondirs = np.zeros((len(self.expression_names), len(self.vertices), 3), np.float32)

    def rest_joints(self, betas):
        """Joints [J, 3] m of the unposed body of shape `betas` [B]; fewer betas than B leave the rest at zero."""
        betas = np.asarray(betas, float)
        return self.joints + self.joint_shapedirs[..., : len(betas)] @ betas

    def save(self, path):
        """Writes the file whole or not at all. Raises `CharacterError`."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["meta"] = json.dumps({**self.meta, "format": FORMAT_NAME, "version": FORMAT_VERSION}, sort_keys=True)
        values["joint_names"] = np.array(self.joint_names, dtype=str)
        values["expression_names"] = np.array(self.expression_names, dtype="U1" if not self.expression_names else str)
        arrays = {name: np.asarray(values[name]) for name in _SCHEMA}
        arrays = {n: a.astype({"f": np.float32, "i": np.int32}.get(a.dtype.kind, a.dtype)) for n, a in arrays.items()}
        try:
            _check(arrays)
            write_npz(path, arrays)
        except FileError as error:
            raise CharacterError(str(error)) from error

    @classmethod
    def load(cls, path):
        """Reads and checks a template. Raises `CharacterError`."""
        try:
            arrays = read_npz(path, "character template")
            meta = check_format(arrays, FORMAT_NAME, FORMAT_VERSION, "character template", path)
            _check(arrays)
        except FileError as error:
            raise CharacterError(str(error)) from error
        values = dict(arrays, meta=meta)
        for name in ("joint_names", "expression_names"):
            values[name] = tuple(str(item) for item in arrays[name])
        return cls(**values)


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
