"""Batches of retargeting, with a small program in the place of the add-on's. The true one is run by tests/blender."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fullbody_core import cli, retarget
from fullbody_core.blender_process import BlenderError
from fullbody_core.body.lbs import BodyModel
from fullbody_core.contract.amass import read_amass
from fullbody_core.retarget import (
    BatchSettings,
    RetargetError,
    body_rest,
    default_workers,
    distinct_names,
    plan_jobs,
    run_batch,
)

posix_only = pytest.mark.skipif(os.name == "nt", reason="signals")

PROGRAM = """
import json, os, sys, time
from pathlib import Path

answers = sys.stdout
print(json.dumps({"blender": "none", "pid": os.getpid()}), file=answers, flush=True)
for line in sys.stdin:
    job = json.loads(line)
    character = Path(job["character"])
    if character.stem.startswith("broken"):
        print(json.dumps({"error": f"{character.name} is broken."}), flush=True)
        continue
    for path in map(Path, job["paths"].values()):
        part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
        part.write_text(json.dumps([job["clip_name"], character.name, job["settings"], job["fps"], job["name"]]))
        if character.stem.startswith("crash"):
            os.kill(os.getpid(), 9)
        if character.stem.startswith("hang"):
            (path.parent / "hangs").touch()
            time.sleep(60)
        os.replace(part, path)
    made = {"armature": "Armature", "role_map": "Mixamo", "frames": 7, "fps": 30.0, "notes": ["One.", "One of " + character.name]}
    print("a word in between")
    print(json.dumps(dict(made, seconds={"open": 0.1, "retarget": 0.2, "write": 0.3})), flush=True)
"""


@pytest.fixture
def program(monkeypatch, tmp_path_factory):
    """The small program in place of the add-on; the folder that it is staged from."""
    source = tmp_path_factory.mktemp("program")
    (source / "__init__.py").touch()
    (source / "retarget_files.py").write_text(PROGRAM)
    monkeypatch.setattr(retarget, "stage_addon", lambda folder: shutil.copytree(source, Path(folder) / "fullbody_mocap"))
    return source


@pytest.fixture
def folder(tmp_path):
    """Clips walk and run in one folder, another walk in a second one, and a folder for results."""
    rng = np.random.default_rng(0)
    for name in ("a/walk", "a/run", "b/walk"):
        path = tmp_path / f"{name}.npz"
        path.parent.mkdir(exist_ok=True)
        arrays = {"poses": rng.normal(size=(3, 156)) / 9, "trans": np.zeros((3, 3)), "betas": np.ones(10)}
        np.savez(path, **arrays, mocap_framerate=30.0)
    (tmp_path / "out").mkdir()
    return tmp_path


def settings(**changes):
    return BatchSettings(**{"blender": sys.executable, "formats": ("fbx", "glb"), **changes})


def run(folder, clips, characters, **changes):
    clips, characters = ([folder / name for name in names] for names in (clips, characters))
    return run_batch(clips, characters, folder / "out", settings(**changes))


def written(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "out").iterdir())}


def test_a_file_for_each_pair_in_each_format(program, folder):
    results = run(folder, ["a/walk.npz", "a/run.npz"], ["hero.fbx", "villain.vrm"])
    pairs = [(result.job.clip.stem, result.job.character.name) for result in results]
    assert pairs == [("walk", "hero.fbx"), ("walk", "villain.vrm"), ("run", "hero.fbx"), ("run", "villain.vrm")]
    names = [f"{clip}_{Path(character).stem}" for clip, character in pairs]
    assert set(written(folder)) == {f"{name}.{ending}" for name in names for ending in ("fbx", "glb")}
    said = json.loads(results[1].files["glb"].read_text())
    assert said == ["walk", "villain.vrm", {"plant_feet": True, "heading": "capture"}, None, "walk_villain"]
    assert results[0].error is None and (results[0].frames, results[0].role_map) == (7, "Mixamo")
    assert results[1].notes == ("One.", "One of villain.vrm") and results[1].seconds["write"] == 0.3


def test_results_do_not_depend_on_the_number_of_workers(program, folder):
    seen = []
    for workers in (1, 3):
        results = run(folder, ["a/walk.npz", "a/run.npz"], ["one.fbx", "crash.fbx", "three.fbx"], workers=workers)
        seen.append(([(result.job.name, result.error) for result in results], written(folder)))
        for path in (folder / "out").iterdir():
            path.unlink()
    assert seen[0] == seen[1] and len(seen[0][1]) == 8


@posix_only
@pytest.mark.parametrize("workers", [1, 2])
def test_a_blender_that_goes_down_takes_one_job_with_it(program, folder, workers):
    earlier = folder / "out" / "walk_crash.fbx"
    earlier.write_text("what was there before")
    results = run(folder, ["a/walk.npz"], ["first.fbx", "crash.fbx", "broken.fbx", "last.fbx"], workers=workers)
    assert [result.error for result in results] == [None, "Blender was ended by signal 9.", "broken.fbx is broken.", None]
    assert results[1].files == {} and earlier.read_text() == "what was there before"
    assert len(written(folder)) == 2 * 2 + 1, "nothing half-written is left"


@posix_only
def test_a_job_that_hangs_is_stopped(program, folder):
    start = time.monotonic()
    results = run(folder, ["a/walk.npz"], ["hang.fbx", "last.fbx"], workers=1, time_limit=0.5)
    assert results[0].error == "Blender took longer than 0.5 seconds and was stopped." and results[1].error is None
    assert time.monotonic() - start < 8
    assert set(written(folder)) == {"hangs", "walk_last.fbx", "walk_last.glb"}


def test_clips_that_cannot_be_read_fail_alone(program, folder):
    (folder / "text.npz").write_text("not a file of arrays")
    results = run(folder, ["text.npz", "a/walk.npz", "none.npz"], ["hero.fbx"])
    assert [result.error is None for result in results] == [False, True, False]
    assert "cut short" in results[0].error and "There is no" in results[2].error
    assert all("hero" not in result.error for result in results if result.error)


def test_all_clips_unreadable_starts_no_blender(folder, monkeypatch):
    monkeypatch.setattr(retarget, "BlenderWorker", None)
    assert [bool(result.error) for result in run(folder, ["none.npz"], ["hero.fbx", "villain.fbx"])] == [True, True]


def test_a_blender_that_does_not_start_ends_the_batch(program, folder):
    with pytest.raises(BlenderError, match="There is no program"):
        run(folder, ["a/walk.npz"], ["hero.fbx"], blender=str(folder / "nothing"))
    (program / "retarget_files.py").unlink()
    with pytest.raises(BlenderError, match="retarget_files"):
        run(folder, ["a/walk.npz"], ["hero.fbx"])


def test_names_that_clash_are_told_apart(folder):
    clips = [folder / "a" / "walk.npz", folder / "b" / "walk.npz", folder / "a" / "walk.npz", folder / "a" / "run.npz"]
    jobs = plan_jobs(clips, [folder / "hero.fbx", folder / "HERO.glb"], folder / "out", ("fbx",))
    heroes = ["hero_fbx", "HERO_glb"]
    assert [job.name for job in jobs] == [f"{clip}_{hero}" for clip in ("a_walk", "b_walk", "run") for hero in heroes]
    assert len(jobs) == 6, "a clip that is given twice counts once"
    assert all(note.endswith("as others have the same names.") for note in retarget.renamed(jobs))
    across = plan_jobs([Path("x/a_b.npz"), Path("x/a.npz")], [Path("c.fbx"), Path("b_c.fbx")], Path("out"), ("fbx",))
    assert len({job.paths["fbx"] for job in across}) == 4


_PATHS = st.lists(st.sampled_from("aAbB"), min_size=1, max_size=3).map(lambda parts: Path("/", *parts).with_suffix(".npz"))


@given(st.lists(_PATHS, unique=True, max_size=12))
def test_distinct_names_are_distinct_and_stem_alone_where_it_is_enough(paths):
    names = distinct_names(paths)
    assert len({name.casefold() for name in names.values()}) == len(paths)
    stems = [path.stem.casefold() for path in paths]
    if len(set(stems)) == len(stems):
        assert all(names[path] == path.stem for path in paths)


def test_what_was_given_is_never_written_over(folder):
    (folder / "a" / "walk_hero.fbx").touch()
    characters = [folder / "a" / "walk_hero.fbx", folder / "hero.fbx"]
    with pytest.raises(RetargetError, match="would be written over"):
        plan_jobs([folder / "a" / "walk.npz"], characters, folder / "a", ("fbx",))


@pytest.mark.parametrize(
    "change", [{"formats": ("fbx", "max")}, {"formats": ()}, {"fps": 0}, {"workers": 0}, {"time_limit": float("nan")}]
)
def test_settings_that_cannot_be(change):
    with pytest.raises(RetargetError, match="should be"):
        BatchSettings(**change)


def test_the_body_at_rest(folder, body):
    """AMASS's betas are another model's than the open body's, so they are used with a body that is named only."""
    clip = read_amass(folder / "a" / "walk.npz")
    mean, shaped = body_rest(clip), body_rest(clip, "open")
    model = BodyModel(body, torch.float64)
    for (joints, sole), betas in ((mean, np.zeros(16)), (shaped, clip.betas)):
        betas = torch.tensor(betas[None])
        np.testing.assert_allclose(joints, model.rest_joints(betas)[0], atol=1e-6)
        assert sole == pytest.approx(float(model.rest_vertices(betas)[..., 1].min()), abs=1e-6)
    assert abs(mean[1] - shaped[1]) > 1e-3


def test_as_many_workers_as_the_machine_holds(monkeypatch):
    assert 1 <= default_workers() <= 4
    for cores, gigabytes, count in ((1, 64, 1), (2, 64, 2), (16, 64, 4), (16, 4, 1), (4, 9, 3)):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": gigabytes * 2**18}
        monkeypatch.setattr(os, "sysconf", sizes.get, raising=False)
        assert default_workers() == count


def test_the_command(program, folder, capsys):
    clips = [str(folder / "a" / "walk.npz"), str(folder / "b" / "walk.npz")]
    command = ["retarget", *clips, "-o", str(folder / "new"), "--format", "FBX, bvh", "--blender", sys.executable]
    command += ["--no-plant-feet", "--fps", "24", "--workers", "2", "--character", "hero.fbx"]
    assert cli.main([*command, "broken.fbx"]) == 1
    printed = capsys.readouterr()
    assert {path.name for path in (folder / "new").iterdir()} == {
        f"{name}_walk_hero.{ending}" for name in "ab" for ending in ("fbx", "bvh")
    }
    assert json.loads((folder / "new" / "a_walk_hero.bvh").read_text())[2:4] == [
        {"plant_feet": False, "heading": "capture"},
        24.0,
    ]
    lines = printed.out.splitlines()
    assert [line.split()[-1] for line in lines[1:5]] == ["bvh", "failed", "bvh", "failed"]
    assert "Failed (a_walk_broken and 1 more): broken.fbx is broken." in lines
    assert "Note (a_walk_hero and 1 more): One." in lines
    assert lines[-1] == "2 of 4 retargeted, 2 failed."
    assert "is called a_walk_hero, as others have the same names" in printed.err
    assert cli.main(command) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 of 2 retargeted."


@pytest.mark.parametrize(
    "arguments, words",
    [(["--format", "max"], "formats should be"), (["--map", "none.json"], "no map at"), (["--workers", "0"], "above zero")],
)
def test_wrong_use_of_the_command(folder, capsys, arguments, words):
    command = ["retarget", str(folder / "a" / "walk.npz"), "--character", "hero.fbx", "-o", str(folder / "out")]
    assert cli.main([*command, *arguments]) == 2
    assert words in capsys.readouterr().err and written(folder) == {}


def test_a_folder_that_cannot_be_made(folder, capsys):
    (folder / "file").touch()
    assert cli.main(["retarget", "x.npz", "--character", "hero.fbx", "-o", str(folder / "file" / "out")]) == 2
    assert "Cannot make the folder" in capsys.readouterr().err


@posix_only
def test_ctrl_c_leaves_whole_files_only(program, folder):
    code = f"""
import shutil, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from fullbody_core import cli, retarget
retarget.stage_addon = lambda folder: shutil.copytree({str(program)!r}, f"{{folder}}/fullbody_mocap")
sys.exit(cli.main(sys.argv[1:]))"""
    command = [sys.executable, "-c", code, "retarget", str(folder / "a" / "walk.npz"), "-o", str(folder / "out")]
    command += ["--character", "first.fbx", "hang.fbx", "--format", "fbx", "--blender", sys.executable, "--workers", "1"]
    environment = dict(os.environ, PYTHONPATH=str(Path(retarget.__file__).parents[1]))
    caller = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while not (folder / "out" / "hangs").exists():
        assert time.monotonic() < deadline and caller.poll() is None
        time.sleep(0.05)
    caller.send_signal(signal.SIGINT)
    _, stderr = caller.communicate(timeout=20)
    assert caller.returncode == 130 and "Stopped" in stderr
    assert set(written(folder)) == {"hangs", "walk_first.fbx"}
