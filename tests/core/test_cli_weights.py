"""`fullbody weights`: models are recognised by their content, kept whole or not at all, found by name, and checked."""

import json

import numpy as np
import pytest
from licensed_standins import bfm_bases, small_smplh_arrays, write_bfm2009, write_bfm2017, write_smplh_npz, write_smplh_pkl
from synthetic_face import ict_arrays, small_face, write_ict_folder
from test_capture_file import make_clip

from fullbody_core import cli_weights, model_store
from fullbody_core.body.load_body import load_body
from fullbody_core.body.smplh_file import BodyModelError
from fullbody_core.cli import main, make_parser
from fullbody_core.contract.bridge import BridgeRecipe
from fullbody_core.contract.morphable import FaceModelError, MorphableModel
from fullbody_core.contract.npz_file import FileError
from fullbody_core.face.bfm_file import COMPANIONS, read_bfm2009
from fullbody_core.face.load_face import load_face
from fullbody_core.full_body.bridges import recipe_path
from fullbody_core.known_models import recognise
from fullbody_core.model_store import ModelStoreError, stored_models


@pytest.fixture(autouse=True)
def data_folder(tmp_path, monkeypatch):
    """This user's data, empty."""
    monkeypatch.setenv("FULLBODY_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("FULLBODY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "data"


@pytest.fixture
def run(capsys):
    """Runs `fullbody weights ...`: (exit code, what it said, what it complained of)."""

    def call(*words):
        code = main(["weights", *map(str, words)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.fixture
def smplh(tmp_path):
    return write_smplh_npz(tmp_path / "SMPLH_FEMALE.npz", small_smplh_arrays())


def contents(folder):
    """Every file under a folder and its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_smplh_is_kept_and_found_by_its_name(run, smplh, data_folder):
    code, said, _ = run("add", smplh)
    assert code == 0 and "SMPL-H female" in said and "research only" in said and "--body smplh_female" in said
    assert (data_folder / "models/smplh_female/model.npz").read_bytes() == smplh.read_bytes()
    body = load_body("smplh_female")
    assert body.sha256 == load_body(smplh).sha256 and body.meta["name"] == "SMPL-H female"
    with pytest.raises(FaceModelError, match="is a body model"):
        load_face("smplh_female")


def test_adding_the_same_again_changes_nothing(run, smplh, data_folder):
    run("add", smplh)
    before = contents(data_folder)
    code, said, _ = run("add", smplh)
    assert code == 0 and "there already" in said and contents(data_folder) == before


def test_another_file_under_a_taken_name_is_refused(run, smplh, tmp_path, data_folder):
    run("add", smplh)
    before = contents(data_folder)
    other = write_smplh_pkl(tmp_path / "SMPLH_female.pkl", small_smplh_arrays(1))
    code, _, complaint = run("add", other)
    assert code == 2 and "--name" in complaint and contents(data_folder) == before
    assert run("add", other, "--name", "her")[0] == 0
    np.testing.assert_allclose(load_body("her").v_template, small_smplh_arrays(1)["v_template"], rtol=1e-6)
    np.testing.assert_allclose(load_body("smplh_female").v_template, small_smplh_arrays()["v_template"], rtol=1e-6)


@pytest.mark.parametrize("name", ["open", "none", "a/b", "..", "", "Her", "a b", "-x", "x" * 60])
def test_a_name_that_could_be_something_else_is_refused(run, smplh, name, data_folder):
    code, _, complaint = run("add", smplh, f"--name={name}")
    assert code == 2 and "cannot be a model's name" in complaint and not list(data_folder.rglob("model.json"))


def test_bfm2009_is_kept_with_the_files_beside_it(run, body, face, tmp_path, data_folder):
    folder = tmp_path / "source"
    folder.mkdir()
    path = write_bfm2009(folder, bfm_bases(body, face, rings=12))
    code, said, _ = run("add", path)
    assert code == 0 and "Basel Face Model 2009" in said and "--face bfm2009" in said
    kept = data_folder / "models/bfm2009"
    assert all((kept / name).read_bytes() == (folder / name).read_bytes() for name in (path.name, *COMPANIONS))
    np.testing.assert_array_equal(read_bfm2009(kept / path.name).mean, read_bfm2009(path).mean)
    (folder / "std_exp.txt").unlink()
    code, _, complaint = run("add", path, "--name", "half")
    assert code == 2 and "std_exp.txt" in complaint and not (data_folder / "models/half").exists()


def test_bfm2017_is_kept(run, body, face, tmp_path):
    pytest.importorskip("h5py")
    path = write_bfm2017(tmp_path / "model2017-1_bfm_nomouth.h5", bfm_bases(body, face, rings=12))
    code, said, _ = run("add", path)
    assert code == 0 and "--face bfm2017" in said and [model.kind for model in stored_models()] == ["bfm2017"]


def test_ict_is_kept_as_file_and_as_folder(run, tmp_path):
    ict = ict_arrays()
    ict_folder = write_ict_folder(tmp_path / "ICT-FaceKit" / "FaceXModel", ict)
    np.savez(tmp_path / "ict.npz", **ict)
    for path, name in ((tmp_path / "ict.npz", "ict"), (ict_folder.parent, "ict_folder")):
        code, said, complaint = run("add", path, "--name", name)
        assert code == 0, complaint
        assert "MIT" in said and f"--face {name}" in said
    npz, folder = stored_models()
    assert npz.commercial and folder.main == "." and len(folder.files) == len(list(ict_folder.glob("*.obj")))
    assert (
        set(recognise(folder.path).sources) == set(recognise(ict_folder).sources) == {file["path"] for file in folder.files}
    )


def test_our_own_models_are_kept_under_their_own_licence(run, tmp_path, capsys):
    small_face().save(tmp_path / "My face.npz")
    code, said, _ = run("add", tmp_path / "My face.npz")
    assert code == 0 and "--face my_face" in said
    np.testing.assert_array_equal(load_face("my_face").mean, MorphableModel.load(tmp_path / "My face.npz").mean)
    assert [(model.kind, model.commercial) for model in stored_models()] == [("face", None)]


def recipe(strip=((0, 1, 3, -1),), scale=1.0):
    return BridgeRecipe("a body", "b" * 64, "a face", "f" * 64, [0, 1, 2], [5, 6, 7], scale, strip=np.array(strip))


def test_a_bridge_goes_to_the_bridges(run, tmp_path, data_folder):
    recipe().save(tmp_path / "pair.json")
    code, said, _ = run("add", tmp_path / "pair.json")
    kept = recipe_path(recipe())
    assert code == 0 and str(kept) in said and kept.is_relative_to(data_folder / "bridges")
    assert BridgeRecipe.load(kept).to_json() == recipe().to_json()
    assert run("add", tmp_path / "pair.json")[0] == 0
    recipe(scale=1.1).save(tmp_path / "pair.json")
    code, _, complaint = run("add", tmp_path / "pair.json")
    assert code == 2 and "another bridge of this pair" in complaint
    assert BridgeRecipe.load(kept).scale == 1.0


def test_a_bridge_that_is_none_is_refused(run, tmp_path, data_folder):
    recipe(strip=np.zeros((0, 4))).save(tmp_path / "annotated.json")
    (tmp_path / "other.json").write_text('{"format": "something"}')
    (tmp_path / "cut.json").write_text('{"format": "fullbody-br')
    recipe().save(tmp_path / "named.json")
    for name, says, words in (
        ("annotated.json", "not bridged yet", ()),
        ("other.json", "not a bridge's recipe", ()),
        ("cut.json", "cut short", ()),
        ("named.json", "--name", ("--name", "x")),
    ):
        code, _, complaint = run("add", tmp_path / name, *words)
        assert code == 2 and says in complaint, complaint
    assert not list(data_folder.rglob("*.json"))


def test_what_cannot_be_kept_is_told_for_what_it_is(run, tmp_path, data_folder):
    from safetensors.numpy import save_file

    from fullbody_core.body.lbs import to_character_template

    make_clip().save(tmp_path / "capture.npz")
    to_character_template(load_body(write_smplh_npz(tmp_path / "a.npz", small_smplh_arrays()))).save(
        tmp_path / "character.npz"
    )
    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "net.safetensors")
    np.savez(tmp_path / "motion.npz", poses=np.zeros((2, 156)), trans=np.zeros((2, 3)), betas=np.zeros(16))
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    for joints, name in ((24, "smpl"), (55, "smplx"), (16, "mano"), (5, "flame")):
        values = small_smplh_arrays() | {"weights": np.zeros((60, joints)), "kintree_table": np.zeros((2, joints), int)}
        write_smplh_npz(tmp_path / f"{name}.npz", values)
        write_smplh_pkl(tmp_path / f"{name}.pkl", values)
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "text.pkl").write_text("hello")
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "code.pkl").write_bytes(b"\x80\x02cos\nsystem\nU\x04true\x85R.")
    (tmp_path / "folder").mkdir()
    for name, says in (
        ("capture.npz", "is a capture"),
        ("character.npz", "is a finished character"),
        ("net.safetensors", "a network's weights"),
        ("motion.npz", "is a motion"),
        ("other.npz", "nothing that this project knows"),
        ("smpl.npz", "is SMPL ("),
        ("smplx.pkl", "is SMPL-X ("),
        ("mano.npz", "is MANO ("),
        ("flame.pkl", "is FLAME ("),
        ("text.txt", "nothing that this project knows"),
        ("text.pkl", "nothing that this project knows"),
        ("empty.npz", "nothing that this project knows"),
        ("code.pkl", "os.system"),
        ("folder", "generic_neutral_mesh.obj"),
        ("nowhere.npz", "There is no file"),
    ):
        code, said, complaint = run("add", tmp_path / name)
        assert code == 2 and says in complaint and complaint.count("\n") == 1 and not said, (name, complaint)
    assert not stored_models() and not list(data_folder.rglob("model.*"))


def test_a_copy_that_fails_leaves_nothing(run, smplh, data_folder, monkeypatch):
    def full_disk(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(model_store.os, "replace", full_disk)
        code, _, complaint = run("add", smplh)
    assert code == 2 and "No space left" in complaint
    assert not contents(data_folder) and not stored_models()
    assert run("add", smplh)[0] == 0


def test_list_shows_what_there_is(run, smplh):
    run("add", smplh, "--name", "her")
    code, said, _ = run("list")
    rows = {line.split("  ")[0]: line for line in said.splitlines()}
    assert code == 0 and "Apache-2.0" in rows["facenet"] and " yes " in rows["facenet"]
    assert "add it" in rows["bfm2009"] and "added" in rows["smplh"] and " no " in rows["smplh"]
    assert "research only" in rows["--body her"] and " no " in rows["--body her"] and "MB" in rows["--body her"]
    (model_store.stored_models()[0].path).write_bytes(b"spoilt")
    assert "DAMAGED" in next(line for line in run("list")[1].splitlines() if line.startswith("--body her"))


def test_verify_finds_what_is_damaged(run, smplh, monkeypatch):
    run("add", smplh)
    code, said, _ = run("verify")
    assert code == 0 and "undamaged" in said
    kept = stored_models()[0].path
    content = bytearray(kept.read_bytes())
    content[len(content) // 2] ^= 1
    kept.write_bytes(content)
    code, said, complaint = run("verify")
    assert code == 2 and str(kept) in said and "1 of the models" in complaint
    kept.write_bytes(smplh.read_bytes())
    assert run("verify")[0] == 0
    kept.unlink()
    assert run("verify")[0] == 2
    with pytest.raises(BodyModelError):
        load_body("smplh_female")


def test_verify_checks_the_projects_own_weights(run, monkeypatch, tmp_path):
    place = cli_weights.entry_path
    (tmp_path / "other").write_bytes(b"other")
    monkeypatch.setattr(
        cli_weights, "entry_path", lambda root, path: tmp_path / "other" if root == "package" else place(root, path)
    )
    code, said, _ = run("verify")
    assert code == 2 and "facenet" in said and "mediapipe-face-landmark" not in said


def test_a_damaged_record_is_told(run, smplh, data_folder):
    run("add", smplh)
    record = data_folder / "models/smplh_female/model.json"
    values = json.loads(record.read_text())
    for change in (
        {"main": "../../elsewhere"},
        {"main": "/etc/passwd"},
        {"name": "other"},
        {"version": 9},
        {"files": 3},
        None,
    ):
        record.write_text(json.dumps(values | change) if change else "{")
        with pytest.raises(ModelStoreError, match="is damaged: delete the folder") as error:
            stored_models()
        assert "\n" not in str(error.value)
    # Another model is found all the same.
    model_store.keep_model(*(getattr(recognise(smplh, "other"), part) for part in ("model", "sources")))
    assert load_body("other").sha256


def test_a_name_that_nobody_gave_is_told():
    for load in (load_body, load_face):
        with pytest.raises(FileError, match="nor one of that name.*weights list"):
            load("nobody")


def test_the_command_is_there(capsys):
    with pytest.raises(SystemExit):
        make_parser().parse_args(["weights", "--help"])
    said = capsys.readouterr().out
    assert all(word in said for word in ("add", "list", "verify"))
