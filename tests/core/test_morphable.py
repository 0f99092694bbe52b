"""3D morphable face models and their files: Eq. 3 and 4 against the obvious sums, and strict reading."""

import json

import numpy as np
import pytest
from synthetic_face import small_face

from fullbody_core.contract.morphable import FaceModelError, MorphableModel
from fullbody_core.contract.npz_file import read_npz, write_npz
from fullbody_core.contract.surface import triangulate


@pytest.fixture(scope="module")
def face():
    return small_face()


@pytest.fixture
def saved(face, tmp_path):
    path = tmp_path / "face.npz"
    face.save(path)
    return path


def test_geometry_and_albedo_are_the_plain_sums(face):
    rng = np.random.default_rng(0)
    shape, expression, albedo = rng.normal(size=8), rng.random(6), rng.normal(size=6)
    vertices, colour = face.mean.astype(float), face.albedo_mean.astype(float)
    for k in range(8):
        vertices = vertices + shape[k] * face.shape_basis[k]
    for k in range(6):
        vertices = vertices + expression[k] * face.expression_basis[k]
        colour = colour + albedo[k] * face.albedo_basis[k]
    np.testing.assert_allclose(face.geometry(shape, expression), vertices, atol=1e-6)
    np.testing.assert_allclose(face.albedo(albedo), colour, atol=1e-6)


def test_batches_equal_singles(face):
    rng = np.random.default_rng(1)
    shape, expression = rng.normal(size=(4, 3, 8)), rng.random((4, 3, 6))
    batch = face.geometry(shape, expression)
    assert batch.shape == (4, 3, len(face.mean), 3)
    np.testing.assert_allclose(batch[2, 1], face.geometry(shape[2, 1], expression[2, 1]), atol=1e-6)


def test_points_of_the_surface_move_as_the_surface_does(face):
    rng = np.random.default_rng(2)
    shape, expression = rng.normal(size=(5, 8)), rng.random((5, 6))
    surface = face.geometry(shape, expression)
    expected = np.einsum("npcx,pc->npx", surface[:, face.mesh_vertices], face.mesh_weights)
    np.testing.assert_allclose(face.mesh_points.places(shape, expression), expected, atol=1e-6)
    assert face.has_mesh_points.all()


def test_quads_become_two_triangles_and_padded_ones_one():
    faces = np.array([[0, 1, 2, 3], [3, 2, 4, -1]])
    assert triangulate(faces).tolist() == [[0, 1, 2], [3, 2, 4], [0, 2, 3]]
    assert triangulate(faces[:, :3]).tolist() == [[0, 1, 2], [3, 2, 4]]


def test_a_file_gives_back_what_was_saved(face, saved):
    again = MorphableModel.load(saved)
    assert again.expression_names == face.expression_names and again.sha256 and again.meta["name"] == "small face"
    np.testing.assert_array_equal(again.mean, face.mean)
    np.testing.assert_array_equal(again.boundary, face.boundary)
    for name in ("shape_basis", "expression_basis", "albedo_basis"):
        stored, original = getattr(again, name), getattr(face, name)
        assert stored.dtype == np.float32
        np.testing.assert_allclose(stored, original, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(again.region("skin"), 1)
    assert not again.region("lips").any(), "a region that the model lacks is empty"


BROKEN = {
    "a missing array": (lambda a: a.pop("mean"), "lacks mean"),
    "an unknown array": (lambda a: a.update(extra=np.zeros(3)), "unknown extra"),
    "a basis of other vertices": (lambda a: a.update(shape_basis=a["shape_basis"][:, 1:]), "shape_basis"),
    "faces out of range": (lambda a: a.update(faces=a["faces"] + 1), "outside its vertices"),
    "a boundary out of range": (lambda a: a.update(boundary=a["boundary"] + 999), "boundary"),
    "half a point": (lambda a: a.update(mesh_weights=a["mesh_weights"] / 2), "mesh_weights"),
    "an unknown region": (lambda a: a.update(region_names=np.array(["tail"])), "tail"),
    "limits without rest": (lambda a: a.update(expression_limits=a["expression_limits"] + 0.5), "at rest"),
    "a number that is none": (lambda a: a["mean"].__setitem__((0, 0), np.nan), "not finite"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_refused_by_name(saved, kind):
    change, message = BROKEN[kind]
    arrays = read_npz(saved, "face model")
    change(arrays)
    write_npz(saved, arrays)
    with pytest.raises(FaceModelError, match=message):
        MorphableModel.load(saved)


def test_a_newer_or_foreign_file_is_refused(saved, tmp_path):
    arrays = read_npz(saved, "face model")
    write_npz(saved, arrays | {"meta": np.array(json.dumps({"format": "fullbody-face", "version": 99}))})
    with pytest.raises(FaceModelError, match="newer version"):
        MorphableModel.load(saved)
    with pytest.raises(FaceModelError, match="no face model"):
        MorphableModel.load(tmp_path / "absent.npz")
    saved.write_bytes(saved.read_bytes()[:500])
    with pytest.raises(FaceModelError, match="cut short"):
        MorphableModel.load(saved)
