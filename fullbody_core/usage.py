"""What several commands share: how wrong use is told, settings of a capture, checks of places to write to, progress."""

import argparse
import os
import sys

from tqdm import tqdm


class UsageError(ValueError):
    """Options that do not go together. The message is one sentence for the user."""


def check_writable(path):
    """Refuses an output place before the work rather than after it. Raises `UsageError`."""
    folder = path.resolve().parent
    if not folder.is_dir():
        raise UsageError(f"Cannot write {path}: the folder {folder} does not exist.")
    if path.is_dir() or not os.access(folder, os.W_OK):
        raise UsageError(f"Cannot write {path}: choose a file name in a folder you may write to.")


def make_folder(path):
    """Makes a folder for the output where there is none. Raises `UsageError`."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"Cannot make the folder {path}: {error.strerror}.") from error


def progress_bar(label, unit="frame"):
    """A function that wraps an iterator of frames in a progress bar (none where the output is not a terminal)."""

    def wrap(frames, total=None, what=label):
        return tqdm(frames, total=total, desc=what, unit=unit, disable=None)

    return wrap


def print_warnings(warnings):
    for warning in warnings:
        print(f"Note: {warning}", file=sys.stderr)


def pick_device(name):
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def add_blender_choice(command):
    command.add_argument(
        "--blender", metavar="EXE", help="the Blender to use (default: the bpy module, or blender on the PATH)"
    )


def add_capture_settings(command):
    add_model_settings(command, face_solvers=("auto", "landmarks", "facenet", "facenet-tight"))
    help_refine = "one optimisation over the whole clip: feet that stay, limbs under their pixels (default: on)"
    command.add_argument("--refine", action=argparse.BooleanOptionalAction, default=True, help=help_refine)
    help_smooth = "One-Euro filter of what is not refined (default: on)"
    command.add_argument("--smooth", action=argparse.BooleanOptionalAction, default=True, help=help_smooth)
    help_person = (
        "whom to capture where several are seen: the largest, the one nearest to the picture's centre, the one at a place "
        "in the first picture (pixels, or shares up to 1), or all, each into a file of their own (default: largest)"
    )
    command.add_argument("--person", default="largest", metavar="largest|centre|X,Y|all", help=help_person)


def add_model_settings(command, face_solvers):
    """Which detector, solvers, body and face; what a capture from a file and one of a camera share."""
    from .camera import DEFAULT_FOV

    command.add_argument("--detector", choices=("auto", "mediapipe", "detnet"), default="auto")
    help_weights = "DetNet's weights: all of their files, one of them, or the folder of a training run"
    command.add_argument("--detector-weights", nargs="+", default=(), metavar="FILE", help=help_weights)
    help_ik = "inverse kinematics: the trained networks or the closed form (default: the networks)"
    command.add_argument("--ik", choices=("auto", "iknet", "analytic"), default="auto", help=help_ik)
    help_fov = f"field of view in degrees across the longer side (default: {DEFAULT_FOV:g}, in close-ups what the face says)"
    command.add_argument("--fov", type=float, metavar="DEG", help=help_fov)
    command.add_argument("--body", default="open", metavar="open|NAME|FILE", help="body model (default: the open body)")
    help_face = "3D morphable face model (default: the open face; none: no face is captured)"
    command.add_argument("--face", default="open", metavar="open|none|NAME|FILE", help=help_face)
    ways = {"landmarks": "from the landmarks", "facenet": "by FaceNet", "facenet-tight": "by FaceNet drawn to the landmarks"}
    help_solver = ", or ".join(way for name, way in ways.items() if name in face_solvers)
    help_solver += " (default: landmarks if there are any)"
    command.add_argument("--face-solver", choices=face_solvers, default="auto", help=help_solver)


def capture_settings(options):
    from .pipeline import CaptureSettings

    return CaptureSettings(
        detector=options.detector,
        detector_weights=tuple(options.detector_weights),
        ik=options.ik,
        fov=options.fov,
        body=options.body,
        face=options.face,
        face_solver=options.face_solver,
        smooth=options.smooth,
        refine=options.refine,
        person=options.person,
    )
