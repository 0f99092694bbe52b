# SPDX-License-Identifier: GPL-3.0-or-later
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import bpy
import numpy as np
import pytest
from scene_reading import joints_over
from synthetic_person import make_clip, make_template, posed_joints
from test_camera import write_movie

SLOW_RENDER = """
import sys, time
from fullbody_mocap import build_scene, stage
stage.render_still = lambda *arguments, **options: time.sleep(30)
sys.exit(build_scene.main(sys.argv[1:]))
"""


@pytest.fixture
def folder(tmp_path, scene):
    template = make_template()
    clip = make_clip(template, frames=30, fps=29.97)
    template.save(tmp_path / "person.npz")
    clip.save(tmp_path / "walk.npz")
    write_movie(tmp_path / "film.mp4", scene)
    late = [{"frame": 99, "path": str(tmp_path / "out" / "late.png"), "width": 50, "box": None}]
    (tmp_path / "late.json").write_text(json.dumps(late))
    (tmp_path / "out").mkdir()
    return tmp_path


def build_scene(staged, folder, *arguments, as_file=False):
    """Runs it as the core does: in a process of its own."""
    head = [str(staged / "build_scene.py"), "--"] if as_file else ["-m", "fullbody_mocap.build_scene"]
    common = ["--clip", "walk.npz", "--template", "person.npz", "--out", "out/walk.blend"]
    environment = {**os.environ, "PYTHONPATH": "" if as_file else str(staged.parent)}
    command = [sys.executable, *head, *common, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_writes_a_blend_and_pictures(staged, folder):
    pictures = ["--render", "out/walk.png", "--render-3q", "out/side.png", "--render-frame", "12", "--width", "160"]
    done = build_scene(staged, folder, "--video", "film.mp4", *pictures)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout.strip().splitlines()[-1])
    assert (made["captured_frames"], made["scene_frames"], made["bones"], made["video"]) == (30, 30, 52, True)
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["side.png", "walk.blend", "walk.png"]

    bpy.ops.wm.open_mainfile(filepath=str(folder / "out" / "walk.blend"))
    scene = bpy.context.scene
    assert abs(scene.render.fps / scene.render.fps_base - 29.97) < 1e-3
    assert (scene.frame_start, scene.frame_end) == (1, 30)
    image = scene.camera.data.background_images[0].image
    assert image.filepath == "//../film.mp4" and tuple(image.size) == (64, 48)
    armature = next(item for item in scene.objects if item.type == "ARMATURE")
    from fullbody_mocap.contract.capture import CaptureClip
    from fullbody_mocap.contract.character import CharacterTemplate

    clip, template = CaptureClip.load(folder / "walk.npz"), CharacterTemplate.load(folder / "person.npz")
    assert np.abs(joints_over(scene, armature, 1 + np.arange(30)) - posed_joints(template, clip)).max() < 1e-4

    picture = bpy.data.images.load(str(folder / "out" / "walk.png"))
    width, height = picture.size
    pixels = np.array(picture.pixels[:]).reshape(height, width, 4)
    assert (width, height) == (160, 90)
    solid = pixels[..., 3] > 0.95
    assert 0.01 < solid.mean() < 0.5, "the person covers part of the picture, the rest is clear"
    # The person stands where the camera saw it: nearly all joints fall on solid pixels (rows count upwards in Blender).
    joints = clip.joints_camera[11] @ clip.camera_matrix.T
    columns, rows = (joints[:, :2] / joints[:, 2:] / 8).T
    inside = (columns > 0) & (columns < 159) & (rows > 0) & (rows < 89)
    assert solid[89 - rows[inside].astype(int), columns[inside].astype(int)].mean() > 0.7


def test_further_pictures_show_a_part_of_the_frame(staged, folder):
    """The part is what the whole picture has there, only larger."""
    box = [0.3, 0.1, 0.7, 0.9]
    shots = [
        {"frame": 12, "path": str(folder / "out" / "whole.png"), "width": 200, "box": None},
        {"frame": 12, "path": str(folder / "out" / "part.png"), "width": 160, "box": box},
        {"frame": 30, "path": str(folder / "out" / "last.png"), "width": 50, "box": None},
    ]
    (folder / "shots.json").write_text(json.dumps(shots))
    done = build_scene(staged, folder, "--shots", "shots.json")
    assert done.returncode == 0, done.stderr
    pictures = {}
    for shot in shots:
        image = bpy.data.images.load(shot["path"])
        pictures[Path(shot["path"]).stem] = np.array(image.pixels[:]).reshape(image.size[1], image.size[0], 4)[::-1, :, 3]
    assert pictures["whole"].shape == (112, 200) and pictures["last"].shape == (28, 50)
    height, width = pictures["part"].shape
    assert (width, height) == pytest.approx((160, 180), abs=1)
    rows, columns = (np.arange(112) + 0.5) / 112, (np.arange(200) + 0.5) / 200
    rows, columns = rows[(rows > box[1]) & (rows < box[3])], columns[(columns > box[0]) & (columns < box[2])]
    part_rows, part_columns = (rows - box[1]) / (box[3] - box[1]), (columns - box[0]) / (box[2] - box[0])
    part = pictures["part"][np.ix_((part_rows * height).astype(int), (part_columns * width).astype(int))]
    whole = pictures["whole"][np.ix_((rows * 112).astype(int), (columns * 200).astype(int))]
    solid, seen = whole > 0.5, part > 0.5
    assert solid.mean() > 0.02 and (solid & seen).sum() / (solid | seen).sum() > 0.85


def test_runs_as_a_file_after_blenders_own_arguments(staged, folder):
    done = build_scene(staged, folder, as_file=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.strip().splitlines()[-1])["video"] is False
    assert [path.name for path in (folder / "out").iterdir()] == ["walk.blend"]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--clip", "none.npz"], "no capture file"),
        (["--template", "walk.npz"], "not a character template"),
        (["--render", "out/walk.png", "--render-frame", "31"], "Frame 31"),
        (["--out", "nowhere/walk.blend"], "no such folder"),
        (["--shots", "late.json"], "Frame 99"),
    ],
)
def test_a_failure_is_a_failure_and_leaves_nothing(staged, folder, arguments, words):
    done = build_scene(staged, folder, *arguments)
    assert done.returncode == 1
    assert words in done.stderr and "Traceback" not in done.stderr
    assert list((folder / "out").iterdir()) == [] and not (folder / "nowhere").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows ends processes without asking them")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_render_leaves_nothing(staged, folder, number):
    arguments = ["--clip", "walk.npz", "--template", "person.npz", "--out", "out/walk.blend", "--render", "out/walk.png"]
    command = [sys.executable, "-c", SLOW_RENDER, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(staged.parent)}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    while not list((folder / "out").iterdir()):
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert list((folder / "out").iterdir()) == []


def test_a_missing_video_is_told(staged, folder):
    done = build_scene(staged, folder, "--video", "none.mp4")
    assert done.returncode == 0
    made = json.loads(done.stdout.strip().splitlines()[-1])
    assert made["video"] is False and "not found" in made["warnings"][0]
