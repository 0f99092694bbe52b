"""Licensed models, in stand-ins of exactly their form: SMPL-H against smplx, .npz against .pkl, and BFM in any memory order."""

import pickle

import numpy as np
import pytest
import smplx
import torch
from licensed_standins import (
    bfm_bases,
    fake_chumpy,
    small_smplh_arrays,
    smplh_arrays,
    write_bfm2009,
    write_bfm2017,
    write_smplh_npz,
    write_smplh_pkl,
)
from scipy.io import loadmat, savemat

from fullbody_core.body.lbs import BodyModel, to_character_template
from fullbody_core.body.licensed_smplh import gender_of, read_smplh, smpl_family
from fullbody_core.body.load_body import load_body
from fullbody_core.body.smplh_file import BodyModelError
from fullbody_core.body.smplh_landmarks import find_landmarks
from fullbody_core.contract.frames import axis_angle_to_matrix
from fullbody_core.contract.skeleton import JOINT_NAMES, PARENTS
from fullbody_core.face.bfm_file import COMPANIONS, companions, read_bfm2009, read_bfm2017
from fullbody_core.face.load_face import load_face, source_sha256

ARRAYS = ("v_template", "f", "weights", "parents", "J_regressor", "shapedirs", "posedirs")
NEEDED = ("v_template", "f", "weights", "kintree_table", "J_regressor", "shapedirs", "posedirs")


def one_sentence(message):
    return message.endswith(".") and "\n" not in message and message.count(". ") == 0


@pytest.fixture(scope="module")
def arrays(body):
    return smplh_arrays(body)


@pytest.fixture(scope="module")
def smplh_npz(arrays, tmp_path_factory):
    return write_smplh_npz(tmp_path_factory.mktemp("smplh") / "SMPLH_NEUTRAL.npz", arrays)


@pytest.fixture(scope="module")
def smplh_body(smplh_npz):
    return load_body(smplh_npz)


# SMPL-H.


def test_posed_vertices_are_smplxs(smplh_npz, smplh_body, monkeypatch):
    """100 random shapes and poses of every joint; our float64 model against the reference on the same file."""
    # smplx takes a file of fewer than 300 shape directions for one of 10, whatever num_betas says.
    monkeypatch.setattr(smplx.SMPL, "SHAPE_SPACE_DIM", 16)
    options = dict(ext="npz", use_pca=False, flat_hand_mean=True, num_betas=16, dtype=torch.float64)
    batch = 10
    reference = smplx.SMPLH(model_path=str(smplh_npz), batch_size=batch, **options)
    ours = BodyModel(smplh_body, torch.float64)
    rng = np.random.default_rng(11)
    worst = joints_worst = 0.0
    for _ in range(10):
        axis_angle = torch.tensor(rng.normal(size=(batch, 52, 3)) * 0.7)
        betas, translation = torch.tensor(1.5 * rng.normal(size=(batch, 16))), torch.tensor(rng.normal(size=(batch, 3)))
        with torch.no_grad():
            theirs = reference(
                betas=betas,
                global_orient=axis_angle[:, 0],
                body_pose=axis_angle[:, 1:22].reshape(batch, -1),
                left_hand_pose=axis_angle[:, 22:37].reshape(batch, -1),
                right_hand_pose=axis_angle[:, 37:].reshape(batch, -1),
                transl=translation,
            )
            vertices, joints = ours(betas, torch.tensor(axis_angle_to_matrix(axis_angle.numpy())), translation)
        worst = max(worst, float((vertices - theirs.vertices).norm(dim=-1).max()))
        joints_worst = max(joints_worst, float((joints - theirs.joints[:, :52]).norm(dim=-1).max()))
    assert worst < 1e-5 and joints_worst < 1e-5, (worst, joints_worst)
    # The pose blend shapes are in it: without them the difference would be millimetres.
    assert np.abs(smplh_body.posedirs).max() > 1e-3


def test_the_template_for_blender_has_the_pose_blend_shapes(smplh_body):
    rng = np.random.default_rng(12)
    template, betas = to_character_template(smplh_body), rng.normal(size=16)
    rotations = axis_angle_to_matrix(rng.normal(size=(3, 52, 3)) * 0.7)
    model = BodyModel(smplh_body, torch.float64)
    expected, _ = model(*map(torch.as_tensor, (np.tile(betas, (3, 1)), rotations, np.zeros((3, 3)))))
    np.testing.assert_allclose(template.posed_surface(rotations, betas), expected, atol=1e-6)


def assert_same_body(one, other):
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.landmarks == other.landmarks and one.joint_names == JOINT_NAMES
    assert "research" in one.meta["licence"] and len(one.sha256) == 64


def test_npz_and_pkl_are_the_same_body(arrays, smplh_body, tmp_path):
    from_pkl = load_body(write_smplh_pkl(tmp_path / "SMPLH_neutral.pkl", arrays))
    assert_same_body(from_pkl, smplh_body)
    assert from_pkl.meta["name"] == smplh_body.meta["name"] == "SMPL-H neutral"


def test_what_is_saved_again_is_the_same_body(tmp_path):
    first = load_body(write_smplh_npz(tmp_path / "SMPLH_male.npz", small_smplh_arrays()))
    first.save(tmp_path / "own.npz")
    again = load_body(str(tmp_path / "own.npz"))
    assert_same_body(again, first)
    assert again.meta["format"] == "fullbody-body" and again.meta["name"] == "SMPL-H male"
    (tmp_path / "cut.npz").write_bytes((tmp_path / "own.npz").read_bytes()[:-200])
    with pytest.raises(BodyModelError, match="cut short"):
        load_body(tmp_path / "cut.npz")


def test_the_body_is_the_files(arrays, smplh_body):
    np.testing.assert_allclose(smplh_body.rest_joints, arrays["J"], atol=1e-6)
    np.testing.assert_array_equal(smplh_body.f, arrays["f"])
    assert tuple(smplh_body.parents) == PARENTS
    template = to_character_template(smplh_body)
    assert template.faces.shape[1] == 3 and len(template.vertices) == len(arrays["v_template"])


def test_a_gender_is_told_by_the_name_of_the_file_or_its_folder():
    assert [gender_of(name) for name in ("SMPLH_FEMALE.pkl", "smplh/male/model.npz", "neutral/SMPLH_male.pkl", "a/model.npz")] == [
        "female", "male", "male", "",
    ]  # fmt: skip


@pytest.mark.parametrize("count", [10, 12, 16, 40])
def test_shape_directions_are_cut_to_16_or_filled_up_with_zeros(tmp_path, count):
    values = small_smplh_arrays()
    values["shapedirs"] = np.random.default_rng(3).normal(size=(60, 3, count))
    shapedirs = read_smplh(write_smplh_npz(tmp_path / "a.npz", values)).shapedirs
    kept = min(count, 16)
    assert shapedirs.shape == (60, 3, 16) and not shapedirs[..., kept:].any()
    np.testing.assert_allclose(shapedirs[..., :kept], values["shapedirs"][..., :kept], rtol=1e-6)


def test_keys_may_be_bytes_and_unneeded_ones_anything(tmp_path):
    values = small_smplh_arrays()
    path = tmp_path / "bytes.pkl"
    path.write_bytes(pickle.dumps({name.encode(): array for name, array in values.items()}, 2))
    np.testing.assert_array_equal(read_smplh(path).f, values["f"])
    # Pickled members of an .npz are not opened; where they are not needed they do no harm.
    np.savez(tmp_path / "a.npz", **values | {"dd": np.array({"a": 1}, object)})
    np.testing.assert_array_equal(read_smplh(tmp_path / "a.npz").f, values["f"])


@pytest.mark.parametrize("suffix", ["npz", "pkl"])
@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_array_is_named(tmp_path, name, suffix):
    values = small_smplh_arrays()
    path = tmp_path / f"a.{suffix}"
    if suffix == "npz":
        del values[name]
        write_smplh_npz(path, values)
    else:
        write_smplh_pkl(path, values, {name: None})
    with pytest.raises(BodyModelError, match=f"lacks {name}") as error:
        load_body(path)
    assert one_sentence(str(error.value))


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("v_template", lambda a: a[:, :2], "v_template"),
        ("v_template", lambda a: a * np.nan, "v_template that are not finite"),
        ("v_template", lambda a: a * 100, "metres"),
        ("v_template", lambda a: a.astype(int), "fractions in v_template, got int"),
        ("v_template", lambda a: a[:0], "v_template of shape"),
        ("f", lambda a: a.astype(float), "whole numbers in f"),
        ("f", lambda a: a + 60, "faces in f outside its 60 vertices"),
        ("f", lambda a: a[:, :2], "f of shape"),
        ("weights", lambda a: a[:-1], "weights of shape"),
        ("weights", lambda a: 2 * a, "weights that are not shares"),
        ("weights", lambda a: np.stack([a[:, 0] - 2, *a.T[1:-1], a[:, -1] + 2], 1), "weights that are not shares"),
        ("kintree_table", lambda a: a[:1], "kintree_table of shape"),
        ("kintree_table", lambda a: a[:, ::-1], "tree of joints"),
        ("kintree_table", lambda a: np.where(a == 20, 19, a), "tree of joints"),
        ("kintree_table", lambda a: a.astype(float), "whole numbers in kintree_table"),
        ("J_regressor", lambda a: a[:, :-1], "J_regressor of shape"),
        ("J_regressor", lambda a: a.T, "J_regressor of shape"),
        ("J_regressor", lambda a: 2 * a, "J_regressor that do not sum to one"),
        ("shapedirs", lambda a: a[..., :9], "9 shape directions"),
        ("shapedirs", lambda a: a[:, :, 0], "shapedirs of shape"),
        ("shapedirs", lambda a: np.full_like(a, np.inf), "shapedirs that are not finite"),
        ("posedirs", lambda a: a[..., :207], "posedirs of shape"),
        ("posedirs", lambda a: a.astype("U9"), "fractions in posedirs, got <U9"),
    ],
)  # fmt: skip
def test_a_misfit_is_named(tmp_path, name, change, says):
    values = small_smplh_arrays()
    with pytest.raises(BodyModelError, match=says) as error:
        read_smplh(write_smplh_npz(tmp_path / "a.npz", values | {name: change(values[name])}))
    assert one_sentence(str(error.value)) and "a.npz" in str(error.value)


def test_the_root_may_be_marked_in_either_way(tmp_path):
    values = small_smplh_arrays()
    table = values["kintree_table"].copy()
    table[0, 0] = -1
    for number, kind in ((table, np.int32), (values["kintree_table"], np.uint32)):
        read_smplh(write_smplh_npz(tmp_path / "a.npz", values | {"kintree_table": number.astype(kind)}))


@pytest.mark.parametrize(("joints", "family"), [(24, "SMPL"), (55, "SMPL-X"), (16, "MANO"), (5, "FLAME")])
def test_other_models_of_the_family_are_recognised_and_refused(tmp_path, joints, family):
    values = small_smplh_arrays()
    values["weights"], values["J_regressor"] = values["weights"][:, :joints], values["J_regressor"][:joints]
    if joints == 55:
        values["weights"] = np.zeros((60, 55))
    values["kintree_table"] = np.zeros((2, joints), int)
    assert smpl_family(values) == family
    with pytest.raises(BodyModelError, match=f"is {family} .*SMPL-H is needed") as error:
        load_body(write_smplh_pkl(tmp_path / "model.pkl", values))
    assert one_sentence(str(error.value).replace("mano.is.tue.mpg.de", "").replace("amass.is.tue.mpg.de", ""))


def test_what_is_no_body_is_refused(tmp_path, arrays):
    whole = write_smplh_pkl(tmp_path / "whole.pkl", small_smplh_arrays()).read_bytes()
    (tmp_path / "text.pkl").write_text("no body")
    (tmp_path / "cut.pkl").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "list.pkl").write_bytes(b"\x80\x02].")
    (tmp_path / "code.pkl").write_bytes(b"\x80\x02cos\nsystem\nU\x04true\x85R.")
    (tmp_path / "empty.npz").write_bytes(b"")
    objects = small_smplh_arrays()
    objects["weights"] = objects["weights"].astype(object)
    np.savez(tmp_path / "objects.npz", **objects)
    write_smplh_npz(tmp_path / "cut.npz", small_smplh_arrays())
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:20000])
    for name, says in (
        ("text.pkl", "no body model"),
        ("cut.pkl", "cut short"),
        ("list.pkl", "holds no arrays by name"),
        ("code.pkl", "asks for os.system, which is no array"),
        ("empty.npz", "no body model"),
        ("objects.npz", "weights is pickled inside an .npz"),
        ("cut.npz", "cut short"),
        ("nowhere.npz", "There is no body model"),
    ):
        with pytest.raises(BodyModelError, match=says) as error:
            load_body(tmp_path / name)
        assert one_sentence(str(error.value)), str(error.value)


def test_a_formula_of_chumpys_in_place_of_an_array_is_named(tmp_path):
    values = small_smplh_arrays()
    with fake_chumpy() as chumpy:
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(values | {"weights": chumpy.add(values["weights"])}, 2))
        (tmp_path / "b.pkl").write_bytes(pickle.dumps(values | {"posedirs": chumpy.add(values["posedirs"])}, 2))
    for name, key in (("a.pkl", "weights"), ("b.pkl", "posedirs")):
        with pytest.raises(BodyModelError, match=f"its {key} is a formula") as error:
            read_smplh(tmp_path / name)
        assert one_sentence(str(error.value))


def test_landmarks_lie_where_the_open_bodys_do(body, smplh_body):
    """The stand-in is the open body's own skin: what was found by its names there is found by shape here."""
    assert set(smplh_body.landmarks) == set(body.landmarks)
    for name, vertex in body.landmarks.items():
        off = smplh_body.v_template[smplh_body.landmarks[name]] - body.v_template[vertex]
        # The open body's inner corners of the eyes lie behind the skin's edge.
        depth = 0.02 if name.endswith("eye_inner") else 0.005
        assert np.abs(off[:2]).max() < 0.005 and abs(off[2]) < depth, (name, off)
        joint = JOINT_NAMES[smplh_body.carrying_joint(smplh_body.landmarks[name])]
        assert joint == JOINT_NAMES[body.carrying_joint(vertex)], name


def test_known_vertices_are_taken_on_smpls_surface_only(smplh_body):
    """A surface of SMPL's size whose known vertices lie where they should, and the same one in another order."""
    count, triangles = 6890, 13776
    rng = np.random.default_rng(4)
    chosen = rng.choice(len(smplh_body.v_template), count, replace=False)
    chosen = np.unique(np.r_[list(smplh_body.landmarks.values()), chosen])[:count]
    chosen = np.union1d(chosen, list(smplh_body.landmarks.values()))[:count]
    vertices, weights = smplh_body.v_template[chosen].copy(), smplh_body.weights[chosen].copy()
    faces = rng.integers(0, count, (triangles, 3))
    by_shape = find_landmarks(vertices, faces[:-1], smplh_body.rest_joints, weights)
    known = {"nose": 332, "left_index_tip": 2319, "right_heel": 6787}
    # As it is, those vertices lie anywhere, and the shape decides.
    assert find_landmarks(vertices, faces, smplh_body.rest_joints, weights)["nose"] == by_shape["nose"]
    for name, vertex in known.items():
        vertices[vertex] = vertices[by_shape[name]] - [0, 0, 0.002]
        weights[vertex] = weights[by_shape[name]]
    found = find_landmarks(vertices, faces, smplh_body.rest_joints, weights)
    assert {name: found[name] for name in known} == known


# The Basel Face Model.


@pytest.fixture(scope="module")
def bases(body, face):
    return bfm_bases(body, face, rings=24)


def test_bfm_is_the_sheet_it_was_made_of(bases, tmp_path):
    model = read_bfm2009(write_bfm2009(tmp_path, bases))
    inner = bases["inner"]
    rng = np.random.default_rng(5)
    shape, expression = rng.normal(size=model.shape_size), rng.normal(size=model.expression_size)
    expected = bases["mean"][inner] + np.einsum("k,kvc->vc", shape, bases["shape"][:80, inner])
    expected = expected + np.einsum("k,kvc->vc", expression, bases["expression"][:, inner])
    np.testing.assert_allclose(model.geometry(shape, expression), expected, atol=2e-6)
    assert model.shape_size == 80 and model.expression_size == 64
    # Rings 0 to 22 are kept: one open sheet whose edge is the last of them.
    assert len(model.boundary) == 6 * 22 and len(model.mean) == len(inner)


def test_memory_order_and_number_kinds_make_no_difference(bases, tmp_path):
    models = []
    for name, order, kinds in (
        ("f", "F", {}),
        ("c", "C", {}),
        ("d", "C", {"tl": np.int32, "shapePC": float, "texPC": float}),
    ):
        folder = tmp_path / name
        folder.mkdir()
        path = write_bfm2009(folder, bases, order)
        if kinds:
            content = {key: value for key, value in loadmat(path).items() if not key.startswith("__")}
            savemat(path, {key: value.astype(kinds.get(key, value.dtype)) for key, value in content.items()})
        models.append(read_bfm2009(path))
    for other in models[1:]:
        for name in ("mean", "faces", "shape_basis", "expression_basis", "albedo_mean", "albedo_basis", "boundary"):
            np.testing.assert_array_equal(getattr(other, name), getattr(models[0], name))


def test_bfm2017_is_the_2009_of_the_same_sheet(bases, tmp_path):
    pytest.importorskip("h5py")
    new, old = read_bfm2017(write_bfm2017(tmp_path / "model2017.h5", bases)), read_bfm2009(write_bfm2009(tmp_path, bases))
    inner = bases["inner"]
    np.testing.assert_allclose(new.mean[inner], old.mean, atol=1e-6)
    np.testing.assert_allclose(new.shape_basis[:, inner], old.shape_basis, atol=1e-6)
    np.testing.assert_allclose(new.expression_basis[:, inner], old.expression_basis, atol=1e-6)
    np.testing.assert_allclose(new.albedo_mean[inner], old.albedo_mean, atol=1e-5)


def test_the_face_mesh_is_found_on_the_sheet(body, face, tmp_path, monkeypatch):
    """The whole reading of a BFM: its mesh points are made, near the open face's own, and its file is kept."""
    monkeypatch.setenv("FULLBODY_CACHE", str(tmp_path / "cache"))
    path = write_bfm2009(tmp_path, bfm_bases(body, face))
    model = load_face(path)
    off = np.linalg.norm(model.mesh_points.mean - face.mesh_points.mean, axis=1)
    assert model.has_mesh_points.all() and np.median(off) < 0.0015 and np.percentile(off, 95) < 0.005
    assert len(list((tmp_path / "cache").glob("face_*.npz"))) == 1
    np.testing.assert_array_equal(load_face(path).mesh_vertices, model.mesh_vertices)
    # Other expressions in the files beside it make it another model.
    for name in COMPANIONS:
        before = source_sha256(path, *companions(path))
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes() + b"\n")
        assert source_sha256(path, *companions(path)) != before
