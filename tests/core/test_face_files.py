"""Face models of other makers: small files of exactly their schemas, read and compared with the obvious formula."""

import shutil
import sys

import h5py
import numpy as np
import pytest
from scipy.io import savemat
from synthetic_face import ict_arrays, small_face, write_ict_folder

from fullbody_core.contract.morphable import FaceModelError, MorphableModel
from fullbody_core.face.bfm_file import read_bfm2009, read_bfm2017
from fullbody_core.face.ict_file import EYEBALLS, FULL_VERTEX_COUNT, arkit_name, read_ict_arrays, read_ict_folder
from fullbody_core.face.illumination import linear_to_srgb, srgb_to_linear
from fullbody_core.face.load_face import load_face
from fullbody_core.face.regions import draw_regions


def one_sentence(message):
    return message.endswith(".") and "\n" not in message and message.count(". ") == 0


@pytest.fixture
def ict():
    return ict_arrays()


@pytest.fixture
def ict_folder(ict, tmp_path):
    return write_ict_folder(tmp_path / "ICT-FaceKit" / "FaceXModel", ict)


def test_ict_npz_is_the_sum_of_its_offsets_in_metres(ict):
    face = read_ict_arrays(ict)
    rng = np.random.default_rng(1)
    shape, expression = rng.normal(size=3), rng.uniform(size=5)
    expected = ict["vertices"].astype(float)
    for value, offsets in zip(shape, ict["identity"].astype(float)):
        expected = expected + value * offsets
    for value, offsets in zip(expression, ict["expression"].astype(float)):
        expected = expected + value * offsets
    np.testing.assert_allclose(face.geometry(shape, expression), 0.01 * expected[:36], atol=1e-6)
    assert face.expression_names == ("browDownLeft", "jawOpen", "mouthSmileRight", "browInnerUpLeft", "eyeLookOutLeft")
    np.testing.assert_array_equal(face.expression_limits, np.tile([0, 1], (5, 1)))
    np.testing.assert_array_equal(face.faces, ict["faces"][:-1])
    assert set(face.boundary) == set(small_face(side=6).boundary) - {35} and "MIT" in face.meta["licence"]


def test_ict_folder_is_the_same_model_as_the_npz(ict, ict_folder):
    from_npz, from_folder = read_ict_arrays(ict), read_ict_folder(ict_folder)
    order = [from_folder.expression_names.index(name) for name in from_npz.expression_names]
    np.testing.assert_allclose(from_folder.mean, from_npz.mean, atol=1e-7)
    np.testing.assert_allclose(from_folder.shape_basis, from_npz.shape_basis, atol=1e-7)
    np.testing.assert_allclose(from_folder.expression_basis[order], from_npz.expression_basis, atol=1e-7)
    np.testing.assert_array_equal(from_folder.faces, from_npz.faces)
    np.testing.assert_array_equal(read_ict_folder(ict_folder.parent).mean, from_folder.mean)


def test_eyeballs_of_the_full_head_turn_the_way_they_look():
    count = FULL_VERTEX_COUNT
    vertices = np.zeros((count, 3), np.float32)
    ball = np.random.default_rng(2).normal(size=(len(EYEBALLS[0]), 3))
    ball *= 1.2 / np.linalg.norm(ball, axis=1, keepdims=True)
    for shell, x in zip(EYEBALLS, (3.2, -3.2)):
        vertices[list(shell)] = ball + [x, 3.6, 8.0]
    names = [f"eyeLook{way}_{side}" for way in ("Up", "Down", "In", "Out") for side in "LR"]
    face = read_ict_arrays(
        {
            "vertices": vertices,
            "faces": np.array([[0, 1, 2, -1], [*EYEBALLS[0][:3], -1]], np.int32),
            "identity": np.zeros((1, count, 3), np.float16),
            "expression": np.zeros((8, count, 3), np.float16),
            "expression_names": np.array(names),
            "landmarks68": np.zeros(68, np.int32),
            "face_vertex_count": np.array(9409, np.int32),
        }
    )
    assert len(face.mean) == 9409 + 2 * 770 and face.region("eyeballs").sum() == 2 * 770
    for side, sign in (("Left", 1), ("Right", -1)):
        eye = (face.region("eyeballs") > 0) & (sign * face.mean[:, 0] > 0)
        centre = [0.032 * sign, 0.036, 0.08]
        front = np.flatnonzero(eye)[face.mean[eye, 2].argmax()]
        assert face.region("irises")[front] == 1
        for way, axis, direction in (("Up", 1, 1), ("Down", 1, -1), ("In", 0, -sign), ("Out", 0, sign)):
            moved = face.expression_basis[face.expression_names.index(f"eyeLook{way}{side}")]
            assert direction * moved[front, axis] > 0.004
            radii = np.linalg.norm(face.mean[eye] + moved[eye] - centre, axis=1)
            np.testing.assert_allclose(radii, 0.012, atol=1e-5)
            assert not moved[~eye].any()


def test_names_become_arkits():
    assert [arkit_name(name) for name in ("browDown_L", "jawOpen", "jawLeft")] == ["browDownLeft", "jawOpen", "jawLeft"]


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("identity", lambda a: a[:, :-1]),
        ("expression", lambda a: a[:-1]),
        ("faces", lambda a: a + 10),
        ("vertices", lambda a: a * np.nan),
        ("face_vertex_count", lambda a: a + 100),
        ("landmarks68", lambda a: a[:-1]),
    ],
)
def test_a_misfit_in_the_ict_npz_is_named(ict, key, change):
    with pytest.raises(FaceModelError) as error:
        read_ict_arrays(ict | {key: change(ict[key])})
    assert key in str(error.value) and one_sentence(str(error.value))


def test_a_broken_ict_folder_is_refused(ict_folder, tmp_path):
    with pytest.raises(FaceModelError, match="generic_neutral_mesh.obj"):
        read_ict_folder(tmp_path)
    cut = ict_folder / "identity001.obj"
    text = cut.read_text()
    cut.write_text(text[: len(text) // 4])
    with pytest.raises(FaceModelError, match="identity001.obj"):
        read_ict_folder(ict_folder)
    cut.unlink()
    with pytest.raises(FaceModelError, match="without gaps"):
        read_ict_folder(ict_folder)


def write_bfm2009(folder, face, kept, rng):
    """A BFM 2009 of a face [V] with its expressions for the vertices `kept`; returns what was written, in plain arrays."""
    count, total = len(face.mean), 3 * len(face.mean)
    content = {
        "shapeMU": (1e6 * face.mean).reshape(-1, 1).astype(np.float32),
        "shapePC": np.asfortranarray(rng.normal(size=(total, 6)).astype(np.float32)),
        "shapeEV": rng.uniform(100, 900, (6, 1)).astype(np.float32),
        "texMU": (255 * rng.uniform(0.2, 0.8, (total, 1))).astype(np.float32),
        "texPC": np.asfortranarray(rng.normal(size=(total, 5)).astype(np.float32)),
        "texEV": rng.uniform(1, 9, (5, 1)).astype(np.float32),
        "tl": (face.triangles[:, ::-1] + 1).astype(np.float64),  # wound inwards, from 1
        "segbin": np.zeros((count, 4), np.uint8),
    }
    savemat(folder / "01_MorphableModel.mat", content)
    savemat(folder / "BFM_exp_idx.mat", {"trimIndex": (kept + 1).reshape(-1, 1).astype(np.float64)})
    values = rng.normal(0, 300, (1 + 4, 3 * len(kept))).astype(np.float32)
    (folder / "Exp_Pca.bin").write_bytes(np.int32(4).tobytes() + values.tobytes())
    deviations = rng.uniform(1, 3, 4)
    np.savetxt(folder / "std_exp.txt", deviations[None])
    return content | {"expression": values, "deviations": np.loadtxt(folder / "std_exp.txt")}


@pytest.fixture
def bfm2009(tmp_path):
    rng = np.random.default_rng(3)
    return write_bfm2009(tmp_path, small_face(side=8), np.arange(64)[8:], rng) | {
        "folder": tmp_path,
        "kept": np.arange(8, 64),
    }


def test_bfm2009_is_the_obvious_sum_in_metres(bfm2009):
    face = read_bfm2009(bfm2009["folder"] / "01_MorphableModel.mat")
    rng = np.random.default_rng(4)
    shape, expression = rng.normal(size=6), rng.normal(size=4)
    full = bfm2009["shapeMU"][:, 0].astype(float)
    for k in range(6):
        full = full + shape[k] * bfm2009["shapeEV"][k, 0] * bfm2009["shapePC"][:, k]
    expected = full.reshape(-1, 3)[bfm2009["kept"]] + bfm2009["expression"][0].reshape(-1, 3)
    for k in range(4):
        expected = expected + expression[k] * bfm2009["deviations"][k] * bfm2009["expression"][1 + k].reshape(-1, 3)
    np.testing.assert_allclose(face.geometry(shape, expression), 1e-6 * expected, atol=1e-7)
    assert face.expression_names == tuple(f"expression_{k:02d}" for k in range(4))
    np.testing.assert_array_equal(face.expression_limits, np.tile([-3, 3], (4, 1)))


def test_bfm2009_keeps_the_expressions_vertices_and_looks_forwards(bfm2009):
    face = read_bfm2009(bfm2009["folder"] / "01_MorphableModel.mat")
    whole = small_face(side=8)
    kept = (whole.triangles >= 8).all(1)
    assert {tuple(np.roll(t, -t.argmin())) for t in face.faces} == {
        tuple(np.roll(t, -t.argmin())) for t in whole.triangles[kept] - 8
    }
    assert set(face.boundary) == {v - 8 for v in range(8, 64) if v < 16 or v >= 56 or v % 8 in (0, 7)}


def test_bfm2009_colours_are_linear_and_right_to_first_order(bfm2009):
    face = read_bfm2009(bfm2009["folder"] / "01_MorphableModel.mat")
    mean = bfm2009["texMU"].reshape(-1, 3)[bfm2009["kept"]] / 255
    np.testing.assert_allclose(face.albedo_mean, srgb_to_linear(mean), atol=1e-6)
    coefficients = 0.02 * np.random.default_rng(5).normal(size=5)
    moved = (bfm2009["texPC"].astype(float) * bfm2009["texEV"][:, 0]) @ coefficients
    expected = mean + moved.reshape(-1, 3)[bfm2009["kept"]] / 255
    np.testing.assert_allclose(linear_to_srgb(face.albedo(coefficients)), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "damage", "named"),
    [
        ("Exp_Pca.bin", lambda file: file.write_bytes(file.read_bytes()[:-4]), "Exp_Pca.bin"),
        ("Exp_Pca.bin", lambda file: file.unlink(), "Exp_Pca.bin"),
        ("std_exp.txt", lambda file: file.write_text("1 2 3"), "std_exp.txt"),
        ("std_exp.txt", lambda file: file.write_text("one two"), "std_exp.txt"),
        ("BFM_exp_idx.mat", lambda file: savemat(file, {"other": np.ones(3)}), "trimIndex"),
        ("BFM_exp_idx.mat", lambda file: savemat(file, {"trimIndex": np.arange(56) + 20}), "BFM_exp_idx.mat"),
        ("01_MorphableModel.mat", lambda file: file.write_bytes(file.read_bytes()[:3000]), "cut short"),
        ("01_MorphableModel.mat", lambda file: savemat(file, {"shapeMU": np.ones((9, 1))}), "lacks shapePC"),
    ],
)
def test_a_broken_bfm2009_is_refused(bfm2009, name, damage, named):
    damage(bfm2009["folder"] / name)
    with pytest.raises(FaceModelError, match=named) as error:
        read_bfm2009(bfm2009["folder"] / "01_MorphableModel.mat")
    assert one_sentence(str(error.value))


def write_bfm2017(path, face, rng):
    """A BFM 2017 of a face: returns its datasets by name."""
    total = 3 * len(face.mean)
    content = {"shape/model/mean": 1e3 * face.mean.ravel(), "color/model/mean": rng.uniform(0.2, 0.8, total)}
    content["expression/model/mean"] = rng.normal(0, 0.1, total)
    for part, size in (("shape", 7), ("expression", 3), ("color", 4)):
        content[f"{part}/model/pcaBasis"] = rng.normal(size=(total, size))
        content[f"{part}/model/pcaVariance"] = rng.uniform(0.01, 0.2, size) * (0.01 if part == "color" else 1)
        content[f"{part}/model/noiseVariance"] = np.zeros(1)
    content["shape/representer/cells"] = face.triangles.T
    content["shape/representer/points"] = 1e3 * face.mean.T
    with h5py.File(path, "w") as file:
        for name, values in content.items():
            file[name] = values.astype(np.uint32 if name.endswith("cells") else np.float32)
    return {name: values.astype(np.float32) for name, values in content.items()}


def test_bfm2017_is_the_obvious_sum_in_metres(tmp_path):
    small = small_face(side=8)
    content = write_bfm2017(tmp_path / "model2017.h5", small, np.random.default_rng(6))
    face = read_bfm2017(tmp_path / "model2017.h5")
    rng = np.random.default_rng(7)
    shape, expression = rng.normal(size=7), rng.normal(size=3)
    expected = content["shape/model/mean"] + content["expression/model/mean"]
    for part, values in (("shape", shape), ("expression", expression)):
        for k, value in enumerate(values):
            spread = np.sqrt(content[f"{part}/model/pcaVariance"][k])
            expected = expected + value * spread * content[f"{part}/model/pcaBasis"][:, k]
    np.testing.assert_allclose(face.geometry(shape, expression), 1e-3 * expected.reshape(-1, 3), atol=1e-7)
    np.testing.assert_allclose(face.albedo_mean, srgb_to_linear(content["color/model/mean"]).reshape(-1, 3), atol=1e-6)
    np.testing.assert_array_equal(face.faces, small.triangles)


def test_a_broken_bfm2017_is_refused(tmp_path):
    path = tmp_path / "model2017.h5"
    write_bfm2017(path, small_face(side=8), np.random.default_rng(6))
    with h5py.File(path, "a") as file:
        del file["expression/model/mean"]
    with pytest.raises(FaceModelError, match="lacks expression/model/mean"):
        read_bfm2017(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(FaceModelError, match="cut short"):
        read_bfm2017(path)


def test_without_h5py_the_user_is_told_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    path = tmp_path / "model2017.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(FaceModelError, match="pip install h5py") as error:
        load_face(path)
    assert one_sentence(str(error.value))


def test_load_face_knows_its_own_files(tmp_path):
    small_face().save(tmp_path / "own.npz")
    np.testing.assert_array_equal(load_face(tmp_path / "own.npz").mean, small_face().mean)
    assert load_face(str(tmp_path / "own.npz")).sha256 == MorphableModel.load(tmp_path / "own.npz").sha256


def test_load_face_refuses_what_is_no_face(tmp_path, ict):
    (tmp_path / "text.npz").write_text("no face")
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    np.savez(tmp_path / "ict.npz", **ict)
    whole = (tmp_path / "ict.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.mat").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for name, says in (
        ("text.npz", "is no face model"),
        ("other.npz", "is not a face model"),
        ("cut.npz", "cut short"),
        ("empty.mat", "is no face model"),
        ("folder", "generic_neutral_mesh.obj"),
        ("nothing.npz", "There is no face model"),
    ):
        with pytest.raises(FaceModelError, match=says) as error:
            load_face(tmp_path / name)
        assert one_sentence(str(error.value)), str(error.value)


def test_regions_are_drawn_around_the_mesh_points(face):
    places = face.mesh_points.mean
    regions = draw_regions(np.asarray(face.mean, float), places, face.region("eyeballs"))
    at_points = {
        name: np.einsum("pc,pc->p", face.mesh_weights, share[face.mesh_vertices]) for name, share in regions.items()
    }
    assert all(share.min() >= 0 and share.max() <= 1 + 1e-6 for share in regions.values())
    for name, inside, outside in (
        ("lips", [11, 16, 85, 315], [2, 199, 50, 280]),
        ("brows", [105, 334], [9, 151, 6]),
        ("lids", [159, 145, 386, 374], [9, 50, 280, 2]),
        ("nose", [4, 5, 195], [50, 280, 9, 17]),
        ("cheeks", [50, 280], [4, 9, 152]),
        ("forehead", [151, 9], [4, 50, 152]),
        ("beard", [199, 175, 18], [4, 9, 15]),
    ):
        assert at_points[name][inside].min() > 0.3 > 0.15 > at_points[name][outside].max(), name
    assert at_points["irises"][[468, 473]].min() > 0.9


@pytest.mark.slow
def test_a_bfm_made_of_the_open_face_is_completed_and_kept(face, tmp_path, monkeypatch):
    """Its surface goes through BFM 2009's files, without names, regions and mesh points, and gets them back."""
    monkeypatch.setenv("FULLBODY_CACHE", str(tmp_path / "cache"))
    names = ("jawOpen", "eyeBlinkLeft", "eyeBlinkRight", "mouthSmileLeft")
    rng = np.random.default_rng(8)
    write_bfm2009(tmp_path, face, np.arange(len(face.mean)), rng)
    rows = [face.expression_names.index(name) for name in names]
    values = np.concatenate([np.zeros((1, len(face.mean), 3)), 0.3e6 * face.expression_basis[rows]])
    (tmp_path / "Exp_Pca.bin").write_bytes(np.int32(4).tobytes() + values.astype(np.float32).tobytes())
    (tmp_path / "std_exp.txt").write_text("1 1 1 1")
    model = {"texMU": 255 * linear_to_srgb(np.clip(face.albedo_mean, 0, 1)).reshape(-1, 1), "texEV": np.ones((5, 1))}
    model |= {
        "shapeMU": 1e6 * face.mean.reshape(-1, 1),
        "shapePC": rng.normal(size=(face.mean.size, 6)),
        "shapeEV": np.ones((6, 1)),
    }
    model |= {"texPC": rng.normal(size=(face.mean.size, 5)), "tl": face.triangles[:, ::-1] + 1.0}
    savemat(tmp_path / "01_MorphableModel.mat", {name: np.asarray(a, np.float32) for name, a in model.items()})

    found = load_face(tmp_path / "01_MorphableModel.mat")
    off = np.linalg.norm(found.mesh_points.mean - face.mesh_points.mean, axis=1)
    assert found.has_mesh_points.all() and np.median(off) < 0.0005 and np.percentile(off, 95) < 0.003
    lips = face.region("lips") > 0.9
    assert found.region("lips")[lips].mean() > 0.7
    shutil.rmtree(tmp_path / "cache")
