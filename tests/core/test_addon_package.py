"""The extension's zip: what is in it, that it is the same every time, and that it is written whole or not at all."""

import hashlib
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest

import fullbody_core
from fullbody_core import addon_package
from fullbody_core.addon_package import AddonPackageError, stage_addon, zip_addon
from fullbody_core.contract.character import CharacterTemplate

ROOT = Path(__file__).parents[2]


@pytest.fixture
def template(tmp_path):
    """A tetrahedron with one joint."""
    path = tmp_path / "character.npz"
    CharacterTemplate(
        vertices=np.vstack([np.zeros(3), np.eye(3)]),
        faces=np.array([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]]),
        uv=np.zeros((4, 3, 2)),
        joint_names=("root",),
        parents=np.array([-1]),
        joints=np.zeros((1, 3)),
        weights=np.ones((4, 1)),
        shapedirs=np.zeros((4, 3, 1)),
        joint_shapedirs=np.zeros((1, 3, 1)),
    ).save(path)
    return path


def test_same_bytes_twice(tmp_path, template):
    first, second = zip_addon(tmp_path / "a.zip", template), zip_addon(tmp_path / "b.zip", template)
    assert first.read_bytes() == second.read_bytes()


def test_contents(tmp_path, template):
    with zipfile.ZipFile(zip_addon(tmp_path / "a.zip", template)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        manifest = tomllib.loads(archive.read("blender_manifest.toml").decode())
        assert archive.read("assets/open_character.npz") == template.read_bytes()
        for part in ("__init__", "frames", "skeleton", "capture", "character", "npz_file"):
            source = Path(fullbody_core.__file__).parent / "contract" / f"{part}.py"
            assert archive.read(f"contract/{part}.py") == source.read_bytes()
    assert names == sorted(names) and "__init__.py" in names and "LICENSE" in names
    assert not [name for name in names if name.startswith("evaluate/")]
    assert not [name for name in names if "__pycache__" in name or name.startswith((".", "/")) or ".." in name]
    assert manifest["id"] == addon_package.PACKAGE_NAME
    assert manifest["version"] == fullbody_core.__version__
    assert manifest["license"] == ["SPDX:GPL-3.0-or-later"]


def test_without_a_character(tmp_path):
    with zipfile.ZipFile(zip_addon(tmp_path / "a.zip")) as archive:
        assert not [name for name in archive.namelist() if name.startswith("assets/")]


def test_staged_folder_is_the_zip_and_programs_to_measure(tmp_path, template):
    staged = stage_addon(tmp_path / "staged", template)
    assert staged == tmp_path / "staged" / "fullbody_mocap"
    files = {path.relative_to(staged).as_posix(): path.read_bytes() for path in staged.rglob("*") if path.is_file()}
    assert any(name.startswith("evaluate/") for name in files)
    files = {name: content for name, content in files.items() if not name.startswith("evaluate/")}
    with zipfile.ZipFile(zip_addon(tmp_path / "a.zip", template)) as archive:
        assert files == {name: archive.read(name) for name in archive.namelist()}


def test_staged_contract_runs_without_the_core(tmp_path):
    """In Blender there is no fullbody_core: the copy must stand on its own."""
    staged = stage_addon(tmp_path)
    code = (
        "import sys; import contract.capture, contract.character, contract.frames, contract.skeleton; "
        "sys.exit(any(name.split('.')[0] in ('fullbody_core', 'torch', 'cv2', 'bpy') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=staged).returncode == 0


def test_addon_is_found_without_importing_it(tmp_path):
    stage_addon(tmp_path)
    assert not [name for name in sys.modules if name.split(".")[0] == "blender_addon"]


def test_errors_leave_nothing(tmp_path, template, monkeypatch):
    stage_addon(tmp_path / "once")
    with pytest.raises(AddonPackageError, match="exists already"):
        stage_addon(tmp_path / "once")
    with pytest.raises(AddonPackageError, match="no character template"):
        zip_addon(tmp_path / "a.zip", tmp_path / "missing.npz")
    with pytest.raises(AddonPackageError, match="folder that exists"):
        zip_addon(tmp_path / "no" / "a.zip")
    (tmp_path / "old.zip").write_text("old")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        zip_addon(tmp_path / "old.zip", template)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["character.npz", "old.zip", "once"]
    assert (tmp_path / "old.zip").read_text() == "old"


def run_build_addon(*arguments):
    return subprocess.run([sys.executable, ROOT / "build_addon.py", *arguments], capture_output=True, text=True, cwd=ROOT)


def test_command(tmp_path, template):
    result = run_build_addon("-o", tmp_path / "dist", "--character", template)
    assert result.returncode == 0, result.stderr
    (path,) = (tmp_path / "dist").iterdir()
    content = path.read_bytes()
    assert path.name == f"fullbody_mocap-{fullbody_core.__version__}.zip"
    assert str(path) in result.stdout and f"{len(content)} bytes" in result.stdout
    assert hashlib.sha256(content).hexdigest() in result.stdout


def test_command_refuses_what_is_no_character(tmp_path):
    (tmp_path / "wrong.npz").write_text("text")
    result = run_build_addon("-o", tmp_path / "dist", "--character", tmp_path / "wrong.npz")
    assert result.returncode == 2 and "character template" in result.stderr and "Traceback" not in result.stderr
    assert not list((tmp_path / "dist").iterdir())
