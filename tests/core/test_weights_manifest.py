"""The list of weight and model files: strict form, and true where the files are at hand."""

import hashlib
import importlib.metadata
import json
import re
from pathlib import Path, PurePosixPath

import pytest

MANIFEST = json.loads((Path(__file__).parents[2] / "weights_manifest.json").read_text(encoding="utf-8"))
ENTRIES = MANIFEST["entries"]

LICENCES = {"Apache-2.0", "CC0-1.0", "MIT", "CC-BY-4.0", "GPL-3.0-or-later", "BSD-3-Clause"}
RESTRICTED = re.compile(r"LicenseRef-[A-Za-z0-9.-]+")
ROOTS = {"site-packages", "cache", "package", "user"}
"""Where a file's path starts: Python's packages, this user's cache folder, fullbody_core itself, or chosen by the user."""

FIELDS = {
    "id": str, "purpose": str, "root": str, "files": list, "urls": list, "licence": str, "redistributable": bool,
    "commercial": bool, "needs_registration": bool, "produced_by": str,
}  # fmt: skip

TRAINING = {"command": str, "data": str, "date": str, "measured": dict}
"""What an entry says besides if the project trained it; `measured` maps a figure's name to a number."""


def by_id(items):
    return pytest.mark.parametrize("entry", items, ids=lambda entry: entry["id"])


def test_form_of_the_list():
    assert set(MANIFEST) == {"version", "entries"} and MANIFEST["version"] == 1
    ids = [entry["id"] for entry in ENTRIES]
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in ids)
    paths = [(entry["root"], file["path"]) for entry in ENTRIES for file in entry["files"]]
    assert len(set(paths)) == len(paths)


@by_id(ENTRIES)
def test_form_of_an_entry(entry):
    trained = {"training": dict} if entry["root"] == "package" else {}
    assert {name: type(value) for name, value in entry.items()} == FIELDS | trained
    assert all(entry[name].strip() for name in ("purpose", "produced_by", "licence"))
    assert entry["root"] in ROOTS and entry["files"]
    assert all(url.startswith("https://") for url in entry["urls"])
    terms = entry["licence"].split(" AND ")
    assert all(term in LICENCES or RESTRICTED.fullmatch(term) for term in terms)
    # Unknown terms allow nothing; the default path may hold only what anyone may use and pass on.
    if any(RESTRICTED.fullmatch(term) for term in terms):
        assert not entry["redistributable"]
    assert not (entry["redistributable"] and entry["needs_registration"])


@by_id([entry for entry in ENTRIES if entry["root"] == "package"])
def test_our_own_weights_say_how_they_were_made_and_how_good_they_are(entry):
    training = entry["training"]
    assert {name: type(value) for name, value in training.items()} == TRAINING
    assert training["command"].startswith("fullbody train ") and training["data"].strip()
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", training["date"])
    assert training["measured"] and all(isinstance(figure, (int, float)) for figure in training["measured"].values())
    assert sum(file["bytes"] for file in entry["files"]) < 16e6
    assert entry["redistributable"] and entry["commercial"] and not entry["needs_registration"]


@by_id(ENTRIES)
def test_form_of_its_files(entry):
    for file in entry["files"]:
        assert set(file) == {"path", "sha256", "bytes"}
        path = PurePosixPath(file["path"])
        assert not path.is_absolute() and ".." not in path.parts and "\\" not in file["path"]
        if file["sha256"] is None:
            # Made on this machine, or the user's own copy: nobody can know it beforehand.
            assert file["bytes"] is None and entry["root"] in ("cache", "user")
        else:
            assert re.fullmatch(r"[0-9a-f]{64}", file["sha256"])
            assert type(file["bytes"]) is int and file["bytes"] > 0


@by_id([entry for entry in ENTRIES if entry["root"] == "site-packages"])
def test_files_in_installed_packages(entry):
    for file in entry["files"]:
        package = PurePosixPath(file["path"]).parts[0]
        try:
            content = Path(importlib.metadata.distribution(package).locate_file(file["path"])).read_bytes()
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"{package} is not installed")
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (file["sha256"], file["bytes"])


@by_id([entry for entry in ENTRIES if entry["root"] == "package"])
def test_files_in_this_package(entry):
    for file in entry["files"]:
        content = (Path(__file__).parents[2] / "fullbody_core" / file["path"]).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (file["sha256"], file["bytes"])


def test_every_default_model_of_the_detector_is_listed():
    listed = {file["path"] for entry in ENTRIES for file in entry["files"]}
    detector = pytest.importorskip("fullbody_core.detect.mediapipe")
    assert {f"mediapipe/modules/{name}" for name in detector.MODELS} <= listed
