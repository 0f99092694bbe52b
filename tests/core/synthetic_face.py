"""A small 3DMM that tests make themselves: a bent grid with smooth random bases."""

import numpy as np

from fullbody_core.contract.morphable import MorphableModel
from fullbody_core.contract.skeleton import MESH_POINTS

NAMES = ("jawOpen", "eyeBlinkLeft", "eyeBlinkRight", "mouthSmileLeft", "mouthSmileRight", "browInnerUp")


def small_face(seed=0, side=15, shapes=8, albedos=6):
    """A `MorphableModel` of side x side vertices: a face-sized dome (16 x 20 cm) of quads, all of it skin."""
    rng = np.random.default_rng(seed)
    across, up = np.meshgrid(np.linspace(-0.08, 0.08, side), np.linspace(-0.1, 0.1, side))
    x, y = across.ravel(), up.ravel()
    mean = np.stack([x, y, 0.08 * np.cos(x / 0.08) * np.cos(y / 0.1)], -1)
    corner = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).ravel()
    faces = np.stack([corner, corner + 1, corner + side + 1, corner + side], -1)

    def smooth(count, size, channels=3):
        """Random smooth fields [count, V, channels] of standard deviation `size`."""
        waves = rng.normal(size=(count, 12, 2)) * 25
        phases, strengths = rng.uniform(0, 2 * np.pi, (count, 12, 1)), rng.normal(size=(count, 12, channels))
        fields = np.einsum("kwv,kwc->kvc", np.sin(waves @ np.stack([x, y]) + phases), strengths)
        return (size * fields / fields.std((1, 2), keepdims=True)).astype(np.float32)

    cell = rng.integers(0, len(faces), MESH_POINTS)
    weights = rng.dirichlet([1, 1, 1], MESH_POINTS)
    grid = np.arange(side * side).reshape(side, side)
    return MorphableModel(
        mean=mean.astype(np.float32),
        faces=faces.astype(np.int32),
        shape_basis=smooth(shapes, 0.003),
        expression_basis=smooth(len(NAMES), 0.006),
        expression_names=NAMES,
        expression_limits=np.tile([0.0, 1.0], (len(NAMES), 1)).astype(np.float32),
        albedo_mean=np.clip([0.45, 0.25, 0.18] + smooth(1, 0.03)[0], 0.02, 1),
        albedo_basis=smooth(albedos, 0.02),
        mesh_vertices=faces[cell][:, :3].astype(np.int32),
        mesh_weights=weights.astype(np.float32),
        regions={"skin": np.ones(len(mean), np.float32)},
        boundary=np.concatenate([grid[0], grid[1:, -1], grid[-1, -2::-1], grid[-2:0:-1, 0]]).astype(np.int32),
        meta={"name": "small face", "licence": "none"},
    )


ICT_NAMES = ("browDown_L", "jawOpen", "mouthSmile_R", "browInnerUp_L", "eyeLookOut_L")


def ict_arrays():
    """The arrays of an ICT-FaceKit .npz: a grid of quads and one triangle, in centimetres, whose last rows are no face."""
    rng = np.random.default_rng(0)
    face = small_face(side=6)
    vertices = np.concatenate([face.mean * 100, rng.normal(size=(4, 3)).astype(np.float32)])
    return {
        "vertices": vertices,
        "faces": np.concatenate([face.faces[:-1], [[28, 29, 34, -1], [36, 37, 38, 39]]]).astype(np.int32),
        "identity": rng.normal(size=(3, 40, 3)).astype(np.float16),
        "expression": rng.normal(size=(5, 40, 3)).astype(np.float16),
        "expression_names": np.array(ICT_NAMES),
        "landmarks68": np.arange(68, dtype=np.int32) % 36,
        "face_vertex_count": np.array(36, np.int32),
    }


def write_ict_folder(folder, ict):
    """The archive's folder with the same meshes, of the face only; returns it."""
    folder.mkdir(parents=True)
    neutral, faces = ict["vertices"][:36], ict["faces"][:-1]
    _write_obj(folder / "generic_neutral_mesh.obj", neutral, faces)
    for number, offsets in enumerate(ict["identity"][:, :36]):
        _write_obj(folder / f"identity{number:03d}.obj", neutral + offsets, faces)
    for name, offsets in zip(ICT_NAMES, ict["expression"][:, :36]):
        _write_obj(folder / f"{name}.obj", neutral + offsets, faces)
    (folder / "vertex_indices.json").write_text("{}")
    return folder


def _write_obj(path, vertices, faces):
    """As the archive writes its meshes: texture coordinates between, and corners as vertex/texture."""
    lines = ["# a mesh", *(f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices), "vt 0.5 0.5", "usemtl face"]
    lines += ["f " + " ".join(f"{corner + 1}/1" for corner in face if corner >= 0) for face in faces]
    path.write_text("\n".join(lines) + "\n")
