"""Makes the small video that `fullbody demo` captures: the open body and face, moved by formulas and rendered in Blender.

    python -m fullbody_core.synth.demo_clip assets/demo.mp4 [--blender EXE]

Nothing of it comes from a recording of a person. The motion is kept beside the video's making, so that a test can hold the
capture against the truth.
"""

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np

from ..addon_package import stage_addon
from ..blender_process import find_blender, run_in_blender
from ..body.lbs import to_character_template
from ..body.load_body import load_body
from ..body.smplh_file import BodyModelFile
from ..camera import camera_matrix
from ..contract.capture import CaptureClip
from ..contract.frames import CAMERA_TO_WORLD, REST_TO_CAMERA, REST_TO_WORLD, axis_angle_to_matrix, matrix_to_axis_angle
from ..contract.full_body import full_body_template
from ..contract.skeleton import JOINT_INDEX, JOINT_NAMES
from ..face.albedo import sample_albedos
from ..face.load_face import load_face
from ..full_body.bridges import recipe_for
from ..ground import SOLES
from ..ik.rest_skeleton import RestSkeleton
from ..video import VideoWriter

FRAMERATE = 24
SECONDS = 4
IMAGE_SIZE = (600, 800)
FOV = 45.0
DISTANCE, CAMERA_HEIGHT = 2.7, 1.0
"""m, from the camera to the person and to the floor."""

X, Y, Z = np.eye(3)


def demo_motion(body: BodyModelFile):
    """The truth of the demo: a person who waves with the right hand, closes it, bends the left arm, and dips the knees."""
    frame_count = FRAMERATE * SECONDS
    times = np.arange(frame_count) / FRAMERATE
    rotations = np.broadcast_to(np.eye(3), (frame_count, 52, 3, 3)).copy()
    dip = np.radians(28) * _bump(times, 2.2, 3.6)
    _set(rotations, "pelvis", _turn(Y, np.radians(18) * np.sin(2 * np.pi * times / SECONDS)))
    for name, axis, angle in _arms(times) + _legs(dip) + _trunk(times):
        _set(rotations, name, rotations[:, JOINT_INDEX[name]] @ _turn(axis, angle))
    _curl_fingers(rotations, "right", 1.4 * _bump(times, 1.1, 3.0))
    _curl_fingers(rotations, "left", 0.35 + 0.25 * np.sin(2 * np.pi * times / 2))
    skeleton = RestSkeleton.of_body(body, np.zeros(body.shapedirs.shape[-1]))
    return _to_clip(skeleton, rotations, times, body)


def _arms(times):
    """(joint, rest axis, angle [T] rad), applied in order: the right arm waves beside the head, the left one bends."""
    raised = _bump(times, 0.2, 3.2)
    return [
        ("left_shoulder", Z, np.full_like(times, np.radians(-68))),
        ("left_elbow", Y, -np.radians(20 + 65 * _bump(times, 0.8, 3.8))),
        ("right_shoulder", Z, np.radians(68 - 55 * raised)),
        ("right_shoulder", X, -np.radians(90) * raised),
        ("right_elbow", Y, np.radians(15 + 85 * raised + 22 * raised * np.sin(2 * np.pi * times * 1.4))),
    ]


def _legs(dip):
    """Hips back, knees bent, feet flat: three turns about one axis that add up to none."""
    return [
        (f"{side}_{joint}", X, share * dip)
        for side in ("left", "right")
        for joint, share in (("hip", -1), ("knee", 2), ("ankle", -1))
    ]


def _trunk(times):
    return [
        ("spine2", Z, np.radians(5) * np.sin(2 * np.pi * times / 2)),
        ("head", Y, np.radians(18) * np.sin(2 * np.pi * times / 3)),
    ]


def _curl_fingers(rotations, side, angle):
    axis = -Z if side == "left" else Z
    for finger in ("index", "middle", "ring", "pinky"):
        for segment in (1, 2, 3):
            _set(rotations, f"{side}_{finger}{segment}", _turn(axis, angle * (0.8 if segment == 3 else 1)))


def add_demo_face(clip, face):
    """Adds the truth of the demo's face to its clip: somebody who blinks twice, smiles, raises the brows and says something.

    face: the open face.
    """
    times, names = clip.timestamps, face.expression_names
    speech = _bump(times, 2.0, 3.4, 0.2) * (0.5 - 0.5 * np.cos(2 * np.pi * times * 2.5))
    curves = {
        "eyeBlink": 0.8 * (_bump(times, 0.9, 1.15, 0.08) + _bump(times, 2.7, 2.95, 0.08)),
        "mouthSmile": 0.8 * _bump(times, 0.3, 1.9, 0.3),
        "mouthUpperUp": 0.5 * _bump(times, 0.3, 1.9, 0.3),
        "browInnerUp": 0.8 * _bump(times, 2.0, 3.6, 0.3),
        "browOuterUp": 0.6 * _bump(times, 2.0, 3.6, 0.3),
        "jawOpen": 0.45 * speech,
        "mouthFunnel": 0.4 * speech * np.sin(np.pi * times),
    }
    expression = np.zeros((len(times), len(names)))
    for name, curve in curves.items():
        for side in ("", "Left", "Right"):
            if name + side in names:
                expression[:, names.index(name + side)] = np.clip(curve, 0, 1)
    clip.face_expression, clip.expression_names = expression, names
    clip.face_shape = 0.7 * np.random.default_rng(5).normal(size=face.shape_size)
    clip.face_albedo = sample_albedos(face, 1, seed=4)[0]
    clip.meta["models"]["face"] = face.sha256


def _bump(times, start, stop, ease=0.5):
    """0, then 1 between start and stop, with smooth flanks of `ease` seconds."""
    up = np.clip((times - start) / ease, 0, 1)
    down = np.clip((stop - times) / ease, 0, 1)
    flank = np.minimum(up, down)
    return flank * flank * (3 - 2 * flank)


def _turn(axis, angle):
    return axis_angle_to_matrix(axis * np.asarray(angle)[:, None])


def _set(rotations, name, value):
    rotations[:, JOINT_INDEX[name]] = value


def _to_clip(skeleton, rotations, times, body):
    """The motion as a capture file: feet on the floor, seen by a level camera."""
    joints, orientations = skeleton.pose(rotations)
    soles = skeleton.place(SOLES, joints, orientations)
    pelvis_rest = np.stack([np.zeros_like(times), -soles[..., 1].min(1), np.zeros_like(times)], -1)
    pelvis_world = pelvis_rest @ REST_TO_WORLD.T
    camera_to_world = np.eye(4)
    camera_to_world[:3, :3] = CAMERA_TO_WORLD
    camera_to_world[:3, 3] = [0, -DISTANCE, CAMERA_HEIGHT]
    pelvis_camera = (pelvis_world - camera_to_world[:3, 3]) @ CAMERA_TO_WORLD
    world = rotations.copy()
    world[:, 0] = REST_TO_WORLD @ rotations[:, 0]
    frame_count = len(times)
    return CaptureClip(
        poses=matrix_to_axis_angle(world).reshape(frame_count, 3 * len(JOINT_NAMES)),
        trans=pelvis_world - skeleton.joints[0],
        betas=np.zeros(16),
        mocap_framerate=FRAMERATE,
        timestamps=times,
        joints_camera=joints @ REST_TO_CAMERA.T + pelvis_camera[:, None],
        keypoints2d=np.zeros((frame_count, 0, 3)),
        keypoint_names=(),
        valid=np.ones((frame_count, 4), bool),
        camera_matrix=camera_matrix(IMAGE_SIZE, FOV),
        camera_to_world=camera_to_world,
        image_size=np.array(IMAGE_SIZE),
        person_box=np.zeros((frame_count, 4)),
        meta={"models": {"body": body.sha256}, "settings": {"body": "open"}, "source": {"name": "", "path": ""}},
    )


def backdrop():
    """A plain room [H, W, 3] RGB uint8: a wall that darkens downwards and a floor."""
    width, height = IMAGE_SIZE
    rows = np.linspace(0, 1, height)[:, None, None]
    wall = np.array([[[176, 190, 202]]]) * (1 - 0.25 * rows)
    floor = np.array([[[120, 104, 92]]]) * (0.8 + 0.3 * rows)
    return np.broadcast_to(np.where(rows < 0.78, wall, floor), (height, width, 3)).astype(np.uint8)


def make_demo_clip(output, blender=None):
    """Renders the demo in Blender and writes it as a video. Takes about ten minutes on two cores."""
    body, face = load_body("open"), load_face("open")
    clip = demo_motion(body)
    add_demo_face(clip, face)
    with tempfile.TemporaryDirectory() as folder, VideoWriter(output, IMAGE_SIZE, FRAMERATE) as writer:
        folder = Path(folder)
        stage_addon(folder)
        clip.save(folder / "truth.npz")
        template = full_body_template(to_character_template(body), face, recipe_for(body, face))
        template.save(folder / "character.npz")
        arguments = ["--clip", folder / "truth.npz", "--template", folder / "character.npz", "--out", folder / "demo.blend"]
        run_in_blender(folder, [*arguments, "--render-all", folder], find_blender(blender))
        for frame in range(FRAMERATE * SECONDS):
            picture = cv2.imread(str(folder / f"{frame + 1:04d}.png"), cv2.IMREAD_UNCHANGED)
            picture = cv2.resize(picture, IMAGE_SIZE, interpolation=cv2.INTER_AREA)
            opacity = picture[..., 3:] / 255.0
            over = picture[..., 2::-1] * opacity + backdrop() * (1 - opacity)
            writer.write(frame / FRAMERATE, over.astype(np.uint8))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--blender")
    options = parser.parse_args()
    make_demo_clip(options.output, options.blender)


if __name__ == "__main__":
    main()
