"""ICT-FaceKit (Li et al. 2020; USC Institute for Creative Technologies, MIT) as a 3DMM, from its archive or from one .npz.

The archive's folder FaceXModel holds the same mesh once neutral, once per identity mode and once per expression, as .obj files.
The .npz holds that as offsets: vertices, faces, identity, expression, expression_names, landmarks68, face_vertex_count. Of the
head the face and the outer shells of the eyeballs are kept. Units there are centimetres, axes are ours.

Expressions have ARKit's names, with Left and Right for _L and _R. Four of them ARKit does not have, since it does not part
them: browInnerUpLeft, browInnerUpRight, cheekPuffLeft and cheekPuffRight. The archive's eyeballs do not turn with their eyeLook
expressions: here they do.
"""

import hashlib
from pathlib import Path

import numpy as np

from ..contract.morphable import FaceModelError, MorphableModel
from ..contract.npz_file import FileError, check_arrays
from ..contract.surface import triangulate
from .regions import IRIS_RADIUS
from .surface_edge import longest_edge_loop

METRES = 0.01
FULL_VERTEX_COUNT, FACE_VERTEX_COUNT = 26719, 9409
EYEBALLS = (range(21451, 22221), range(23021, 23791))
"""Vertices of the outer shells of the left and the right eyeball in the full head."""

EYE_TURN = np.radians(28)
"""How far an eye turns at an eyeLook coefficient of 1."""

NEUTRAL = "generic_neutral_mesh.obj"

CORNEA = 0.001
"""m that the middle of the cornea rises over its edge, about."""

_SCHEMA = {
    "vertices": ("f", ("V", 3)),
    "faces": ("i", ("F", 4)),
    "identity": ("f", ("S", "V", 3)),
    "expression": ("f", ("E", "V", 3)),
    "expression_names": ("U", ("E",)),
    "landmarks68": ("i", (68,)),
    "face_vertex_count": ("i", ()),
}
_LOOKS = {"Up": (-1, 0), "Down": (1, 0), "In": (0, -1), "Out": (0, 1)}
"""Turns of the left eye about x (to the person's left) and y (up), in EYE_TURN; the right eye's second is mirrored."""


def is_ict(arrays):
    """Whether named arrays are those of an ICT-FaceKit .npz."""
    return {"identity", "expression", "face_vertex_count"} <= set(arrays)


def read_ict_arrays(arrays):
    """`MorphableModel` of the .npz's arrays by name, without colours and mesh points. Raises `FaceModelError`."""
    try:
        sizes = check_arrays(arrays, _SCHEMA, "ICT-FaceKit file")
    except FileError as error:
        raise FaceModelError(str(error)) from error
    faces, count = arrays["faces"], int(arrays["face_vertex_count"])
    if not 0 < count <= sizes["V"] or faces[:, :3].min() < 0 or faces.min() < -1 or faces.max() >= sizes["V"]:
        raise FaceModelError("The ICT-FaceKit file's faces or its face_vertex_count point outside its vertices.")
    names = [str(name) for name in arrays["expression_names"]]
    return _build(arrays["vertices"], faces, arrays["identity"], arrays["expression"], names, count)


def read_ict_folder(path):
    """`MorphableModel` of the archive's folder (or of one that holds FaceXModel), as above. Raises `FaceModelError`."""
    folder = find_folder(path)
    neutral, faces = read_obj(folder / NEUTRAL, with_faces=True)
    identities = sorted(folder.glob("identity[0-9][0-9][0-9].obj"))
    if [file.name for file in identities] != [
        f"identity{number:03d}.obj" for number in range(len(identities))
    ] or not identities:
        raise FaceModelError(f"{folder} should hold identity000.obj, identity001.obj and so on, without gaps.")
    expressions = sorted(set(folder.glob("*.obj")) - set(identities) - {folder / NEUTRAL})
    # Pupils and the cheek raisers of older archives are no part of what the archive itself calls its expressions.
    expressions = [file for file in expressions if not file.stem.startswith(("Pupil", "cheekRaiser"))]
    if not expressions:
        raise FaceModelError(f"{folder} holds no expressions: unpack the whole archive of ICT-FaceKit.")

    def offsets(files):
        result = np.empty((len(files), *neutral.shape), np.float32)
        for number, file in enumerate(files):
            vertices = read_obj(file)
            if vertices.shape != neutral.shape:
                raise FaceModelError(f"{file} has {len(vertices)} vertices, but {NEUTRAL} has {len(neutral)}.")
            result[number] = vertices - neutral
        return result

    count = FACE_VERTEX_COUNT if len(neutral) == FULL_VERTEX_COUNT else len(neutral)
    names = [file.stem for file in expressions]
    return _build(neutral, faces, offsets(identities), offsets(expressions), names, count)


def find_folder(path):
    """The folder with the .obj files: `path` or its FaceXModel. Raises `FaceModelError`."""
    for folder in (Path(path), Path(path) / "FaceXModel"):
        if (folder / NEUTRAL).is_file():
            return folder
    raise FaceModelError(f"{path} is not the folder FaceXModel of ICT-FaceKit: it has no {NEUTRAL}.")


def folder_sha256(path):
    """What tells this archive from another: the neutral mesh, and the names and sizes of all meshes."""
    folder = find_folder(path)
    digest = hashlib.sha256((folder / NEUTRAL).read_bytes())
    for file in sorted(folder.glob("*.obj")):
        digest.update(f"{file.name} {file.stat().st_size}\n".encode())
    return digest.hexdigest()


def read_obj(path, with_faces=False):
    """Vertices [V, 3] of an .obj file of triangles and quads, or (vertices, faces [F, 4] with -1). Raises `FaceModelError`."""
    vertices, faces = [], []
    try:
        with open(path, encoding="ascii") as lines:
            for line in lines:
                if line.startswith("v "):
                    vertices.append([float(value) for value in line.split()[1:4]])
                elif with_faces and line.startswith("f "):
                    corners = [int(corner.split("/")[0]) - 1 for corner in line.split()[1:]]
                    if len(corners) not in (3, 4):
                        raise ValueError("more corners than four")
                    faces.append((corners + [-1])[:4])
        vertices = np.array(vertices, np.float32).reshape(-1, 3)
        faces = np.array(faces, np.int32).reshape(-1, 4)
        if not len(vertices) or not np.isfinite(vertices).all():
            raise ValueError("no vertices")
        if with_faces and (not len(faces) or faces[:, :3].min() < 0 or faces.max() >= len(vertices)):
            raise ValueError("faces outside the vertices")
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise FaceModelError(f"{path} is not a mesh of ICT-FaceKit, or it was cut short.") from error
    return (vertices, faces) if with_faces else vertices


def arkit_name(name):
    """The archive's name of an expression as ARKit writes it: browDown_L is browDownLeft."""
    return {"_L": name[:-2] + "Left", "_R": name[:-2] + "Right"}.get(name[-2:], name)


def _build(vertices, faces, identity, expression, names, face_count):
    kept, eyes = np.arange(len(vertices)) < face_count, []
    if len(vertices) == FULL_VERTEX_COUNT:
        eyes = [np.isin(np.arange(len(vertices)), shell) for shell in EYEBALLS]
        kept |= eyes[0] | eyes[1]
    eyes = [eye[kept] for eye in eyes]
    renumbered = np.cumsum(kept) - 1
    inside = np.where(faces >= 0, kept[faces], True).all(1)
    faces = np.where(faces[inside] >= 0, renumbered[faces[inside]], -1).astype(np.int32)
    mean = np.asarray(vertices[kept], np.float32) * METRES
    expression = np.asarray(expression[:, kept], np.float32) * METRES
    names = tuple(arkit_name(name) for name in names)
    eyeballs, irises = np.zeros(len(mean), np.float32), np.zeros(len(mean), np.float32)
    for eye, side in zip(eyes, ("Left", "Right")):
        arms = mean[eye] - ball_centre(mean[eye])
        eyeballs[eye] = 1
        # The cornea bulges, so that what is foremost is about the pupil; the eyes look a little outwards.
        pupil = arms[arms[:, 2] > arms[:, 2].max() - CORNEA].mean(0)
        irises[eye] = np.linalg.norm(arms - pupil, axis=-1) < IRIS_RADIUS
        _turn_eye(arms, expression, names, eye, side)
    return MorphableModel(
        mean=mean,
        faces=faces,
        shape_basis=np.asarray(identity[:, kept], np.float32) * METRES,
        expression_basis=expression,
        expression_names=names,
        expression_limits=np.tile(np.float32([0, 1]), (len(names), 1)),
        albedo_mean=np.full((len(mean), 3), 0.4, np.float32),
        albedo_basis=np.zeros((0, len(mean), 3), np.float32),
        regions={"skin": 1 - eyeballs} | ({"eyeballs": eyeballs, "irises": irises} if eyes else {}),
        boundary=longest_edge_loop(triangulate(faces)),
        meta={"name": "ICT-FaceKit", "licence": "MIT, USC Institute for Creative Technologies", "produced_by": "ict_file"},
    )


def ball_centre(points):
    """The centre [3] of the ball that the front half of points [N, 3] m lies on, by least squares."""
    front = points[points[:, 2] > np.median(points[:, 2])].astype(float)
    design = np.concatenate([2 * front, np.ones((len(front), 1))], 1)
    return np.linalg.lstsq(design, np.square(front).sum(1), rcond=None)[0][:3]


def _turn_eye(arms, expression, names, eye, side):
    """Lets an eyeball turn, in place, with its eyeLook expressions, if the source leaves it where it is.

    arms [N, 3] m: from the ball's middle to its vertices, which `eye` [V] marks.
    """
    for direction, (about_x, about_y) in _LOOKS.items():
        name = f"eyeLook{direction}{side}"
        if name in names and not expression[names.index(name)][eye].any():
            turn = EYE_TURN * np.array([about_x, about_y * (1 if side == "Left" else -1)])
            cos, sin = np.cos(np.abs(turn).sum()), np.sin(turn.sum())
            x, y, z = arms.T
            if about_x:
                turned = np.stack([x, cos * y - sin * z, sin * y + cos * z], -1)
            else:
                turned = np.stack([cos * x + sin * z, y, cos * z - sin * x], -1)
            expression[names.index(name)][eye] = turned - arms
