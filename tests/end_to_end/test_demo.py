"""The README's first command, as a user runs it: `fullbody demo` in an environment that has bpy."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from fullbody_core.contract.capture import CaptureClip
from fullbody_core.video import open_video

READ_BLEND = """
import bpy, json, sys
bpy.ops.wm.open_mainfile(filepath=sys.argv[1])
scene = bpy.context.scene
rig = next(o for o in scene.objects if o.type == "ARMATURE")
body = next(o for o in scene.objects if o.type == "MESH" and o.parent == rig)
def wrist_height(frame):
    scene.frame_set(frame)
    return (rig.matrix_world @ rig.pose.bones["right_wrist"].head).z
background = scene.camera.data.background_images
print(json.dumps({
    "fps": scene.render.fps / scene.render.fps_base, "frames": scene.frame_end - scene.frame_start + 1,
    "bones": len(rig.data.bones), "vertices": len(body.data.vertices), "action": rig.animation_data.action.name,
    "raised": wrist_height(36), "lowered": wrist_height(96), "backgrounds": len(background)}), flush=True)
import os; os._exit(0)
"""


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "out"
    command = [sys.executable, "-m", "fullbody_core.cli", "demo", "-o", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_everything_it_promises_is_there(demo):
    assert {path.name for path in demo.iterdir()} == {"demo.mp4", "demo.npz", "demo_overlay.mp4", "demo.blend", "demo.png"}


def test_capture_and_overlay_are_whole(demo):
    clip = CaptureClip.load(demo / "demo.npz")
    assert clip.valid[:, 0].all()
    assert sum(1 for _ in open_video(demo / "demo_overlay.mp4").frames()) == clip.frame_count


def test_blend_holds_the_moving_character(demo):
    command = [sys.executable, "-c", READ_BLEND, str(demo / "demo.blend")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(next(line for line in reversed(done.stdout.splitlines()) if line.startswith("{")))
    clip = CaptureClip.load(demo / "demo.npz")
    assert found["bones"] == 52 and found["vertices"] > 10000 and found["backgrounds"] == 1
    assert found["fps"] == pytest.approx(24, abs=0.01) and found["frames"] == clip.frame_count
    assert found["raised"] > found["lowered"] + 0.3, "the waving arm goes up and comes down again"


def test_picture_shows_the_video_and_the_character(demo):
    picture = cv2.imread(str(demo / "demo.png")).astype(float)
    height, width = picture.shape[:2]
    video, character = picture[:, : width // 2], picture[:, width // 2 :]
    middle = slice(height // 4, 3 * height // 4), slice(width // 8, 3 * width // 8)
    for half in (video, character):
        assert np.ptp(half[middle].mean(-1)) > 60, "somebody stands there"
