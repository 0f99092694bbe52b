"""Body model files of the SMPL-H schema (Romero et al. 2017): one .npz that `smplx.SMPLH` opens too, read strictly here."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..contract.npz_file import FileError, check_arrays, read_npz, write_npz
from ..contract.skeleton import JOINT_NAMES

FORMAT_NAME = "fullbody-body"
FORMAT_VERSION = 1

_ROOT_PARENT = 2**32 - 1
"""SMPL's mark for "no parent" in kintree_table."""

_SCHEMA = {
    "v_template": ("f", ("V", 3)),
    "f": ("i", ("F", 3)),
    "weights": ("f", ("V", "J")),
    "kintree_table": ("i", (2, "J")),
    "J_regressor": ("f", ("J", "V")),
    "shapedirs": ("f", ("V", 3, "B")),
    "posedirs": ("f", ("V", 3, "P")),
    "joint_names": ("U", ("J",)),
    "vt": ("f", ("T", 2)),
    "ft": ("i", ("F", 3)),
    "quads": ("i", ("Q", 4)),
    "quads_ft": ("i", ("Q", 4)),
    "landmark_names": ("U", ("L",)),
    "landmark_vertices": ("i", ("L",)),
    # Only smplx reads these: MANO's pose space, which here is the plain one (identity basis, flat hand as the mean).
    "hands_componentsl": ("f", (45, 45)),
    "hands_componentsr": ("f", (45, 45)),
    "hands_meanl": ("f", (45,)),
    "hands_meanr": ("f", (45,)),
    "meta": ("U", ()),
}
_OPTIONAL = ("vt", "ft", "quads", "quads_ft", "landmark_names", "landmark_vertices")


class BodyModelError(FileError):
    """A body model that cannot be used. The message is one sentence for the user."""


@dataclass
class BodyModelFile:
    """A skinned, shapeable body in the SMPL rest frame (y up, x to the person's left, z forward; metres), T-pose.

    v_template [V, 3]; f [F, 3] triangles; weights [V, 52] that sum to 1; parents [52] (-1 for the pelvis)
    J_regressor [52, V]: rows that sum to 1 and take a rest surface to its joints
    shapedirs [V, 3, B]: metres per unit of beta; posedirs [V, 3, 459]: metres per unit of pose feature, or all zero
    vt [T, 2] texture coordinates and ft [F, 3] their index per triangle corner (empty when the model has none)
    quads [Q, 4], quads_ft [Q, 4]: the same surface before it was cut into triangles (empty when the model has none)
    landmarks: surface points by name, as vertex indices, such as head_top or left_index_tip
    meta: dict with format, version, name, licence, produced_by; sha256: of the file it was read from, or None
    """

    v_template: np.ndarray
    f: np.ndarray
    weights: np.ndarray
    parents: np.ndarray
    J_regressor: np.ndarray
    shapedirs: np.ndarray
    posedirs: np.ndarray
    joint_names: tuple = JOINT_NAMES
    vt: np.ndarray = None
    ft: np.ndarray = None
    quads: np.ndarray = None
    quads_ft: np.ndarray = None
    landmarks: dict = field(default_factory=dict)
    meta: dict = field(default_factory=dict)
    sha256: str = None

    def __post_init__(self):
        if self.vt is None:
            self.vt, self.ft = np.zeros((0, 2), np.float32), np.zeros_like(self.f)
        if self.quads is None:
            self.quads = self.quads_ft = np.zeros((0, 4), np.int32)
        self._check()

    def save(self, path):
        """Writes the file whole or not at all. Raises `BodyModelError`."""
        try:
            write_npz(path, self._to_arrays())
        except FileError as error:
            raise BodyModelError(str(error)) from error

    @classmethod
    def load(cls, path):
        """Reads and checks a file that `save` wrote. Raises `BodyModelError`."""
        try:
            arrays = read_npz(path, "body model")
            meta = _parse_meta(arrays, path)
            if not isinstance(meta, dict) or meta.get("format") != FORMAT_NAME:
                raise BodyModelError(f"{path} is not a body model of this project.")
            if meta.get("version") != FORMAT_VERSION:
                raise BodyModelError(f"{path} is of body format {meta.get('version')}; this version reads {FORMAT_VERSION}.")
            body = cls.from_arrays(arrays, meta)
        except FileError as error:
            raise BodyModelError(str(error)) from error
        body.sha256 = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        return body

    @classmethod
    def from_arrays(cls, arrays, meta):
        """Builds the model from arrays named as in the schema; the texture, quad and landmark arrays may be left out.

        Every other key and every shape is checked. Raises `FileError` that names the first misfit.
        """
        absent = set(_OPTIONAL) - set(arrays)
        check_arrays(arrays, {name: kind for name, kind in _SCHEMA.items() if name not in absent}, "body model")
        parents = np.array(arrays["kintree_table"][0], np.int64)
        parents[parents == _ROOT_PARENT] = -1
        landmarks = {}
        if "landmark_names" in arrays:
            landmarks = {str(n): int(v) for n, v in zip(arrays["landmark_names"], arrays["landmark_vertices"])}
        same = ("v_template", "f", "weights", "J_regressor", "shapedirs", "posedirs", "vt", "ft", "quads", "quads_ft")
        return cls(
            parents=parents,
            joint_names=tuple(str(name) for name in arrays["joint_names"]),
            landmarks=landmarks,
            meta=meta,
            **{name: arrays[name] for name in same if name in arrays},
        )

    @property
    def rest_joints(self):
        """Joints [52, 3] m of the mean shape."""
        return np.asarray(self.J_regressor, float) @ self.v_template

    @property
    def joint_shapedirs(self):
        """How the joints move with the betas: [52, 3, B] metres per unit."""
        return np.tensordot(np.asarray(self.J_regressor, float), self.shapedirs, 1)

    def carrying_joint(self, vertex):
        """The joint that holds most of a vertex's weight: a landmark rides on it."""
        return int(np.argmax(self.weights[vertex]))

    def _to_arrays(self):
        parents = np.array(self.parents, np.int64)
        parents[0] = _ROOT_PARENT
        values = {name: getattr(self, name, None) for name in _SCHEMA}
        values["kintree_table"] = np.stack([parents, np.arange(len(parents))])
        values["joint_names"] = np.array(self.joint_names)
        values["landmark_names"] = np.array(list(self.landmarks), dtype=str if self.landmarks else "U1")
        values["landmark_vertices"] = np.array(list(self.landmarks.values()), np.int32)
        meta = {**self.meta, "format": FORMAT_NAME, "version": FORMAT_VERSION}
        values["meta"] = np.array(json.dumps(meta, sort_keys=True))
        for side in "lr":
            values[f"hands_components{side}"] = np.eye(45, dtype=np.float32)
            values[f"hands_mean{side}"] = np.zeros(45, np.float32)
        for name, array in values.items():
            # posedirs keep their width: all-zero ones are stored as half precision, which is a quarter of the memory.
            if array.dtype.kind == "f" and name != "posedirs":
                values[name] = array.astype(np.float32)
            elif array.dtype.kind == "i" and name != "kintree_table":
                values[name] = array.astype(np.int32)
        return values

    def _check(self):
        joints, vertices = len(JOINT_NAMES), len(self.v_template)
        if tuple(self.joint_names) != JOINT_NAMES:
            got = ", ".join(self.joint_names[:3])
            raise BodyModelError(f"The body model should have SMPL-H's {joints} joints in their order, got {got}, ...")
        parents = np.asarray(self.parents)
        if parents[0] != -1 or (parents[1:] < 0).any() or (parents >= np.arange(joints)).any():
            raise BodyModelError("The body model's joints are not one tree with parents first.")
        for name in ("f", "quads"):
            faces = getattr(self, name)
            if faces.size and (faces.min() < 0 or faces.max() >= vertices):
                raise BodyModelError(f"The body model's {name} point outside its {vertices} vertices.")
        if len(self.vt) and (max(self.ft.max(), self.quads_ft.max(initial=0)) >= len(self.vt) or self.ft.min() < 0):
            raise BodyModelError("The body model's texture faces point outside its texture coordinates.")
        columns = 9 * (joints - 1)
        if self.posedirs.shape[-1] != columns:
            raise BodyModelError(f"The body model's posedirs should have {columns} columns, got {self.posedirs.shape[-1]}.")
        if any(not 0 <= vertex < vertices for vertex in self.landmarks.values()):
            raise BodyModelError(f"The body model's landmarks point outside its {vertices} vertices.")
        for name, axis in (("weights", 1), ("J_regressor", 1)):
            if not np.allclose(getattr(self, name).sum(axis), 1, atol=1e-3):
                raise BodyModelError(f"The body model's {name} do not sum to one in every row.")


def _parse_meta(arrays, path):
    try:
        return json.loads(str(arrays.get("meta", "{}")))
    except json.JSONDecodeError as error:
        raise BodyModelError(f"{path} is not a body model of this project: its meta is not JSON.") from error
