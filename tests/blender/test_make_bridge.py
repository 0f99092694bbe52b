# SPDX-License-Identifier: GPL-3.0-or-later
import json
import os
import subprocess
import sys
from dataclasses import replace

import bpy
import numpy as np
import pytest
from fullbody_mocap.contract.bridge import BridgeKit, BridgeRecipe
from fullbody_mocap.contract.character import CharacterTemplate
from fullbody_mocap.contract.frames import axis_angle_to_matrix
from fullbody_mocap.contract.full_body import full_body_template
from synthetic_pair import BODY_AROUND, make_kit, ring


@pytest.fixture
def folder(tmp_path, scene):
    make_kit().save(tmp_path / "kit.npz")
    (tmp_path / "out").mkdir()
    return tmp_path


def run(staged, folder, *arguments, program="make_bridge", as_file=False):
    """Runs a program of the add-on's as the core does: in a process of its own."""
    head = [str(staged / f"{program}.py"), "--"] if as_file else ["-m", f"fullbody_mocap.{program}"]
    environment = {**os.environ, "PYTHONPATH": "" if as_file else str(staged.parent)}
    command = [sys.executable, *head, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def made(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.parametrize("as_file", [False, True])
def test_writes_recipe_template_asset_and_pictures(staged, folder, as_file):
    shots = [
        {"path": str(folder / "out" / f"{k}.png"), "width": 60, "turn": 40 * k, "lift": 10, "gap": k == 1} for k in (0, 1)
    ]
    (folder / "shots.json").write_text(json.dumps(shots))
    outputs = ["--recipe-out", "out/pair.json", "--template-out", "out/pair.npz", "--asset-out", "out/pair.blend"]
    done = made(run(staged, folder, "--kit", "kit.npz", *outputs, "--shots", "shots.json", as_file=as_file))
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        "0.png",
        "1.png",
        "pair.blend",
        "pair.json",
        "pair.npz",
    ]
    kit, recipe = BridgeKit.load(folder / "kit.npz"), BridgeRecipe.load(folder / "out" / "pair.json")
    assert recipe.is_bridged and len(recipe.strip) == done["strip"] == done["body_boundary"] + done["face_boundary"]
    assert recipe.body_boundary.tolist() == kit.suggestion.body_boundary.tolist() and done["crossings"] == 0
    expected = full_body_template(kit.body, kit.face, recipe)
    written = CharacterTemplate.load(folder / "out" / "pair.npz")
    assert np.array_equal(written.faces, expected.faces) and len(written.vertices) == done["vertices"]
    pictures = [bpy.data.images.load(shot["path"]) for shot in shots]
    whole, gap = (np.array(image.pixels[:]) for image in pictures)
    assert pictures[0].size[0] == 60 and whole.std() > 0.05 and np.abs(whole - gap).max() > 0.05
    with bpy.data.libraries.load(str(folder / "out" / "pair.blend"), assets_only=True) as (there, _):
        assert there.collections == ["ball body + cap face"]


def test_takes_the_boundaries_of_a_recipe(staged, folder):
    annotated = make_kit(body_boundary=ring(6, BODY_AROUND), translation=make_kit().suggestion.translation + (0, 0, 0.001))
    annotated.suggestion.save(folder / "mine.json")
    made(run(staged, folder, "--kit", "kit.npz", "--recipe", "mine.json", "--recipe-out", "out/pair.json"))
    recipe = BridgeRecipe.load(folder / "out" / "pair.json")
    assert recipe.body_boundary.tolist() == ring(6, BODY_AROUND).tolist() and recipe.is_bridged
    assert recipe.translation.tolist() == annotated.suggestion.translation.tolist()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--kit", "none.npz"], "There is no bridge kit"),
        (["--kit", "mine.json"], "is not a bridge kit"),
        (["--kit", "kit.npz", "--recipe", "kit.npz"], "is not a bridge's recipe"),
        (["--kit", "kit.npz", "--recipe", "mine.json"], "another face model"),
        (["--kit", "kit.npz", "--recipe-out", "none/pair.json"], "in a folder that exists"),
        (["--kit", "kit.npz", "--asset-out", "out"], "in a folder that exists"),
    ],
)
def test_failure_is_one_sentence_and_writes_nothing(staged, folder, arguments, words):
    make_kit(face_fingerprint="0").suggestion.save(folder / "mine.json")
    done = run(staged, folder, "--recipe-out", "out/pair.json", "--template-out", "out/pair.npz", *arguments)
    assert done.returncode == 1 and words in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert not list((folder / "out").iterdir())


@pytest.mark.parametrize("pose_columns", [0, 459])
def test_check_character_says_what_blender_evaluates(staged, folder, pose_columns):
    """Also of a body with pose blend shapes, which the bones drive."""
    kit = BridgeKit.load(folder / "kit.npz")
    rng = np.random.default_rng(0)
    kit.body.posedirs = rng.normal(0, 0.003, (len(kit.body.vertices), 3, pose_columns)).astype(np.float32)
    kit.save(folder / "kit.npz")
    made(run(staged, folder, "--kit", "kit.npz", "--recipe-out", "pair.json", "--template-out", "pair.npz"))
    template = CharacterTemplate.load(folder / "pair.npz")
    assert template.posedirs.shape[-1] == pose_columns and not template.posedirs[template.face_vertices].any()
    parameters = {
        "betas": rng.uniform(-5, 5, (3, 6)),
        "shape": rng.normal(0, 2, (3, 3)),
        "expression": rng.uniform(0, 1, (3, 2)),
        "rotations": axis_angle_to_matrix(rng.normal(0, 0.5, (3, 52, 3))),
    }
    np.savez(folder / "check.npz", **parameters)
    arguments = ["--template", "pair.npz", "--check", "check.npz", "--out", "vertices.npz"]
    done = made(run(staged, folder, *arguments, program="evaluate.check_character"))
    with np.load(folder / "vertices.npz") as found:
        for row, vertices in enumerate(found["vertices"]):
            betas, shape, expression, rotations = (parameters[name][row] for name in parameters)
            expected = template.posed_surface(rotations, betas, shape, expression)
            assert np.abs(vertices - expected).max() < 1e-5
            without = replace(template, posedirs=None).posed_surface(rotations, betas, shape, expression)
            assert (np.abs(expected - without).max() > 0.001) == bool(pose_columns)
        assert done["build_seconds"] == found["seconds"].round(3).tolist() and len(found["seconds"]) == 3
    assert len(kit.face.mean) == len(template.face_vertices)
    np.savez(folder / "check.npz", betas=np.zeros((1, 6)))
    done = run(staged, folder, *arguments, program="evaluate.check_character")
    assert done.returncode == 1 and "lacks expression, rotations, shape" in done.stderr
