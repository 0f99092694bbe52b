"""How a face model is joined to a body model: annotated and bridged once for the pair, and used ever after.

Zhou et al. 2021, Sec. 3.1, "Combining Face and Body": a boundary B_b on the body, the corresponding boundary B_f on the 3DMM, a
rigid transformation with a scale factor that puts the face in its place, and the faces that close the gap between the two.

`BridgeRecipe` is that, as vertex numbers and nothing of the models themselves, so that it may be passed on for models that may
not. `BridgeKit` is what a person in Blender needs to make one: both models and a suggestion to start from. It holds the models.
"""

import hashlib
import json
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

from .character import CharacterTemplate
from .morphable import MorphableModel
from .npz_file import FileError, check_arrays, check_format, read_npz, write_npz, write_whole
from .skeleton import MESH_POINTS
from .surface import face_edges, parts_between

RECIPE_FORMAT, RECIPE_VERSION = "fullbody-bridge", 1
KIT_FORMAT, KIT_VERSION = "fullbody-bridge-kit", 1

_ROTATION_ERROR = 1e-4
_SAME_PLACE = 1e-4  # m; float16 and float32 files of one surface differ by less
_KIT_SCHEMA = {"body_points": ("f", (MESH_POINTS, 3)), "has_body_points": ("b", (MESH_POINTS,)), "meta": ("U", ())}


class BridgeError(FileError):
    """A bridge that cannot be made or used. The message is one sentence for the user."""


@dataclass(frozen=True)
class BridgeRecipe:
    """One face model on one body model.

    body_name, face_name; body_fingerprint, face_fingerprint: of the surfaces that the vertex numbers are for (`fingerprint`)
    body_boundary [B], face_boundary [L]: B_b and B_f, closed simple loops of vertices, in order
    scale, rotation [3, 3], translation [3] m: the face's place in the body's rest frame, x to scale * rotation @ x + translation
    strip [S, 4]: the faces of the bridge, -1 for a missing fourth corner, facing outwards; a number k < B stands for the vertex
        body_boundary[k], and B + k for face_boundary[k]. Empty where the two are not bridged (yet)
    sewn [L, 2]: instead of a strip, for a face cut from this very body: each vertex of B_f lies in the middle between these two
        of body_boundary, or on the one that both say; else empty [0, 2]
    meta: dict; produced_by
    """

    body_name: str
    body_fingerprint: str
    face_name: str
    face_fingerprint: str
    body_boundary: np.ndarray
    face_boundary: np.ndarray
    scale: float = 1.0
    rotation: np.ndarray = field(default_factory=lambda: np.eye(3))
    translation: np.ndarray = field(default_factory=lambda: np.zeros(3))
    strip: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), int))
    sewn: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), int))
    meta: dict = field(default_factory=dict)

    def __post_init__(self):
        kinds = {
            "body_boundary": int,
            "face_boundary": int,
            "strip": int,
            "sewn": int,
            "rotation": float,
            "translation": float,
        }
        for name, kind in kinds.items():
            object.__setattr__(self, name, np.asarray(getattr(self, name), kind))
        object.__setattr__(self, "strip", self.strip.reshape(-1, 4))
        object.__setattr__(self, "sewn", self.sewn.reshape(-1, 2))

    @property
    def is_bridged(self):
        """Whether the two surfaces are joined; if not, the recipe is an annotation that still wants its bridge."""
        return bool(len(self.strip) or len(self.sewn))

    def place(self, points):
        """Points [..., 3] m of the face model in the body's rest frame."""
        return self.turn(points) + self.translation

    def turn(self, directions):
        """Displacements [..., 3] m of the face model in the body's rest frame."""
        return self.scale * (np.asarray(directions) @ self.rotation.T.astype(np.asarray(directions).dtype))

    def lies_on(self, body_vertices, face_vertices):
        """Whether a sewn face's edge does lie on the body's, at vertices [V, 3] and, of the face model, [W, 3] m."""
        ends = np.asarray(body_vertices, float)[self.body_boundary[self.sewn]].mean(1)
        return bool(np.abs(ends - self.place(face_vertices[self.face_boundary])).max() < _SAME_PLACE)

    def check(self, body_faces, body_count, face_faces, face_count):
        """Raises `BridgeError` unless these are the surfaces that the recipe was made for, and it is sound on them."""
        for which, name, mark, faces, count, loop in (
            ("body", self.body_name, self.body_fingerprint, body_faces, body_count, self.body_boundary),
            ("face", self.face_name, self.face_fingerprint, face_faces, face_count, self.face_boundary),
        ):
            if fingerprint(faces, count) != mark:
                raise BridgeError(
                    f"The bridge was annotated on another {which} model ({name}), or that has changed since: annotate it again."
                )
            check_loop(faces, loop, f"The {which} boundary")

    def save(self, path):
        """Writes the recipe (.json) whole or not at all. Raises `BridgeError`."""
        lines = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in self.to_json().items()]
        try:
            write_whole(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())
        except FileError as error:
            raise BridgeError(str(error)) from error

    def to_json(self):
        """What `from_json` reads: numbers, texts, lists and dicts by name."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}
        return {"format": RECIPE_FORMAT, "version": RECIPE_VERSION, **values}

    @classmethod
    def load(cls, path):
        """Reads and checks a recipe. Raises `BridgeError`."""
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise BridgeError(f"There is no bridge at {path}.") from error
        except (OSError, ValueError) as error:
            raise BridgeError(f"{path} is not a bridge's recipe, or it was cut short.") from error
        return cls.from_json(values, path)

    @classmethod
    def from_json(cls, values, path):
        """The recipe of what JSON gave for `path`. Raises `BridgeError`."""
        if not isinstance(values, dict) or values.get("format") != RECIPE_FORMAT:
            raise BridgeError(f"{path} is not a bridge's recipe.")
        values = {name: value for name, value in values.items() if name != "format"}
        if (version := values.pop("version", None)) != RECIPE_VERSION:
            raise BridgeError(f"{path} is of bridge format {version}; this version reads {RECIPE_VERSION}.")
        names = {item.name for item in fields(cls)}
        if misfit := sorted(names ^ set(values)):
            raise BridgeError(f"{path} lacks or has an unknown {misfit[0]}.")
        try:
            recipe = cls(**values)
            recipe._check_shapes()
        except (TypeError, ValueError) as error:
            raise BridgeError(f"{path} is not a sound bridge's recipe: {error}.") from error
        return recipe

    def _check_shapes(self):
        loops = {"body_boundary": self.body_boundary, "face_boundary": self.face_boundary}
        for name, loop in loops.items():
            if loop.ndim != 1 or len(loop) < 3 or loop.min() < 0 or len(np.unique(loop)) < len(loop):
                raise ValueError(f"{name} is no loop")
        body, both = len(self.body_boundary), len(self.body_boundary) + len(self.face_boundary)
        if self.strip.min(initial=0) < -1 or (self.strip[:, :3] < 0).any() or self.strip.max(initial=0) >= both:
            raise ValueError("strip points outside the boundaries")
        if (
            len(self.sewn) not in (0, len(self.face_boundary))
            or self.sewn.min(initial=0) < 0
            or self.sewn.max(initial=0) >= body
        ):
            raise ValueError("sewn does not fit the boundaries")
        turn = self.rotation
        if (
            turn.shape != (3, 3)
            or not np.allclose(turn @ turn.T, np.eye(3), atol=_ROTATION_ERROR)
            or np.linalg.det(turn) < 0
        ):
            raise ValueError("rotation is none")
        if self.translation.shape != (3,) or not np.isfinite(self.translation).all() or not 0 < float(self.scale) < np.inf:
            raise ValueError("translation or scale is none")
        if not all(isinstance(text, str) for text in (self.body_name, self.face_name)) or not isinstance(self.meta, dict):
            raise ValueError("names and meta are missing")


@dataclass
class BridgeKit:
    """Both models of a pair, and a recipe to start from.

    body: `CharacterTemplate` of the body alone; face: `MorphableModel`; suggestion: `BridgeRecipe`, not bridged
    body_points [478, 3] m: where on the body the points of the face mesh belong; NaN where that is not known
    recipes_folder: where the core looks for recipes of this user's, or ""
    """

    body: CharacterTemplate
    face: MorphableModel
    suggestion: BridgeRecipe
    body_points: np.ndarray
    recipes_folder: str = ""

    def save(self, path):
        """Writes the file whole or not at all. Raises `BridgeError`."""
        points = np.asarray(self.body_points, np.float32)
        meta = {
            "format": KIT_FORMAT,
            "version": KIT_VERSION,
            "suggestion": self.suggestion.to_json(),
            "recipes_folder": self.recipes_folder,
            "face_sha256": self.face.sha256,
        }
        arrays = {f"body.{name}": array for name, array in self.body.to_arrays().items()}
        arrays |= {f"face.{name}": array for name, array in self.face.to_arrays().items()}
        arrays |= {
            "body_points": np.nan_to_num(points),
            "has_body_points": np.isfinite(points).all(1),
            "meta": json.dumps(meta),
        }
        try:
            write_npz(path, arrays)
        except FileError as error:
            raise BridgeError(str(error)) from error

    @classmethod
    def load(cls, path):
        """Reads and checks a kit. Raises `BridgeError`."""
        what = "bridge kit"
        try:
            arrays = read_npz(path, what)
            meta = check_format(arrays, KIT_FORMAT, KIT_VERSION, what, path)
            parts = {
                part: {name.split(".", 1)[1]: arrays.pop(name) for name in list(arrays) if name.startswith(f"{part}.")}
                for part in ("body", "face")
            }
            check_arrays(arrays, _KIT_SCHEMA, what)
            body, face = CharacterTemplate.from_arrays(parts["body"], path), MorphableModel.from_arrays(parts["face"], path)
            face.sha256 = meta.get("face_sha256")
            suggestion = BridgeRecipe.from_json(meta.get("suggestion"), path)
        except FileError as error:
            raise BridgeError(str(error)) from error
        points = np.where(arrays["has_body_points"][:, None], arrays["body_points"], np.nan)
        return cls(body, face, suggestion, points, str(meta.get("recipes_folder") or ""))


def fingerprint(faces, count):
    """What tells the surface that vertex numbers are for from others: sha256 of faces [F, N] and the number of vertices.

    Shapes of one topology share it: a recipe for a neutral body serves the female and the male one.
    """
    faces = np.asarray(faces)
    digest = hashlib.sha256(f"{count} {faces.shape[0]} {faces.shape[1]} ".encode())
    digest.update(np.ascontiguousarray(faces, "<i4").tobytes())
    return digest.hexdigest()


def check_loop(faces, loop, what):
    """Raises `BridgeError` unless `loop` [L] goes along edges of faces [F, N] and parts the surface it lies on in two.

    what: how the message names the loop, such as "The body boundary".
    """
    loop = np.asarray(loop, int)
    edges, _ = face_edges(faces)
    count = max(int(edges.max()), int(loop.max(initial=0))) + 1
    along = np.sort(np.stack([loop, np.roll(loop, -1)], -1), 1) @ (count, 1)
    if (
        len(loop) < 3
        or len(np.unique(loop)) < len(loop)
        or not np.isin(along, np.sort(edges, 1) @ np.array([count, 1])).all()
    ):
        raise BridgeError(f"{what} is not one closed simple loop of the model's edges: annotate it again.")


def sides(faces, loop):
    """Which faces [F] bool lie on the smaller side of a closed `loop`, and which [F] bool on the larger.

    Parts of the surface that the loop does not touch are on neither. At a surface's outer edge the smaller side may be empty.
    """
    part = parts_between(faces, loop)
    on_loop = np.isin(faces, loop).sum(1) >= 2
    beside = np.unique(part[on_loop])
    if len(beside) > 2:
        raise BridgeError("The boundary does not part its surface in two.")
    larger = part == beside[0]
    smaller = part == beside[1] if len(beside) == 2 else np.zeros(len(part), bool)
    return smaller, larger
