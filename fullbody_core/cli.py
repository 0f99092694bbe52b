"""The command line: `fullbody COMMAND`. Errors are one sentence, exit code 2; Ctrl-C is 130 and leaves no half file."""

import argparse
import importlib.resources
import os
import sys
from pathlib import Path

from tqdm import tqdm

from . import __version__


def main(arguments=None):
    """Runs one command. Returns the exit code."""
    try:
        options = make_parser().parse_args(arguments)
        options.run(options)
    except KeyboardInterrupt:
        print("\nStopped; what was not finished was not written.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left; there is nobody to tell
        return 1
    except user_errors() as error:
        print(f"fullbody: {error}", file=sys.stderr)
        return 2
    return 0


def user_errors():
    """The errors whose message is one sentence for the user."""
    from .addon_package import AddonPackageError
    from .blend import BlendError
    from .blender_process import BlenderError
    from .camera import CameraError
    from .contract.npz_file import FileError
    from .pipeline import CaptureFailure
    from .video import VideoError

    return AddonPackageError, BlendError, BlenderError, CameraError, CaptureFailure, FileError, UsageError, VideoError


class UsageError(ValueError):
    """Options that do not go together. The message is one sentence for the user."""


def make_parser():
    parser = argparse.ArgumentParser(
        prog="fullbody", description="Markerless motion capture from video, as keyframes in Blender."
    )
    parser.add_argument("--version", action="version", version=f"fullbody {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_demo(commands)
    add_capture(commands)
    add_blend(commands)
    add_train(commands)
    add_evaluate(commands)
    return parser


def add_capture(commands):
    command = commands.add_parser(
        "capture", help="video to capture file (.npz)", description="Captures the person in a video."
    )
    command.add_argument("video", type=Path)
    command.add_argument("-o", "--output", type=Path, required=True, metavar="CLIP.npz")
    command.add_argument(
        "--overlay", type=Path, metavar="OUT.mp4", help="also write the video with the skeleton drawn over it"
    )
    add_capture_settings(command)
    command.set_defaults(run=run_capture)


def add_capture_settings(command):
    from .camera import DEFAULT_FOV

    command.add_argument("--detector", choices=("auto", "mediapipe"), default="auto")
    help_ik = "inverse kinematics: the trained networks or the closed form (default: the networks)"
    command.add_argument("--ik", choices=("auto", "iknet", "analytic"), default="auto", help=help_ik)
    help_fov = f"field of view in degrees across the longer side of the picture (default {DEFAULT_FOV:g})"
    command.add_argument("--fov", type=float, default=DEFAULT_FOV, metavar="DEG", help=help_fov)
    command.add_argument("--body", default="open", metavar="open|FILE", help="body model (default: the open body)")
    command.add_argument(
        "--smooth", action=argparse.BooleanOptionalAction, default=True, help="One-Euro filter (default: on)"
    )


def capture_settings(options):
    from .pipeline import CaptureSettings

    return CaptureSettings(
        detector=options.detector, ik=options.ik, fov=options.fov, body=options.body, smooth=options.smooth
    )


def run_capture(options):
    from .overlay import write_overlay
    from .pipeline import capture

    for path in filter(None, (options.output, options.overlay)):
        check_writable(path)
    clip, warnings = capture(options.video, capture_settings(options), progress_bar("Capturing"))
    clip.save(options.output)
    if options.overlay:
        write_overlay(clip, options.video, options.overlay, progress_bar("Drawing"))
    print_warnings(warnings)
    print(describe(clip, options.output))
    if options.overlay:
        print(f"Overlay: {options.overlay}")


def describe(clip, path):
    """One line about a finished capture."""
    body, left, right, face = clip.valid.mean(0)
    seen = f"body {body:.0%}, left hand {left:.0%}, right hand {right:.0%}, face {face:.0%} of the frames"
    return f"Capture: {path} ({clip.frame_count} frames, {clip.duration:.2f} s at {clip.mocap_framerate:.2f} fps; {seen})"


def add_blend(commands):
    command = commands.add_parser(
        "blend", help="capture file to .blend", description="Builds the animated character in Blender."
    )
    command.add_argument("clip", type=Path, metavar="CLIP.npz")
    command.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.blend")
    command.add_argument("--render", type=Path, metavar="OUT.png", help="also render a picture beside the video's frame")
    command.add_argument("--frame", type=int, help="which frame to render, from 0 (default: the middle)")
    command.add_argument("--video", type=Path, help="the video, if it has moved since the capture")
    command.add_argument("--body", metavar="open|FILE", help="the body model, if it has moved since the capture")
    add_blender_choice(command)
    command.set_defaults(run=run_blend)


def add_blender_choice(command):
    command.add_argument(
        "--blender", metavar="EXE", help="the Blender to use (default: the bpy module, or blender on the PATH)"
    )


def run_blend(options):
    from .blend import build_blend

    for path in filter(None, (options.output, options.render)):
        check_writable(path)
    print("Building the character in Blender ...", file=sys.stderr)
    made = build_blend(
        options.clip,
        options.output,
        body=options.body,
        video=options.video,
        render=options.render,
        blender=options.blender,
        frame=options.frame,
    )
    print_warnings(made["warnings"])
    print(f"Blend: {options.output} ({made['scene_frames']} frames at {made['fps']:.2f} fps, Blender {made['blender']})")
    if options.render:
        print(f"Picture: {options.render}")


def add_demo(commands):
    command = commands.add_parser("demo", help="the whole path on a small clip of the project's own")
    command.add_argument("-o", "--output", type=Path, default=Path("fullbody_demo"), metavar="FOLDER")
    add_blender_choice(command)
    command.set_defaults(run=run_demo)


def run_demo(options):
    from .blender_process import find_blender
    from .contract.npz_file import write_whole

    find_blender(options.blender)  # before the work, not after it
    make_folder(options.output)
    place = options.output / "demo"
    # A copy beside the results, so that the .blend finds its background.
    write_whole(f"{place}.mp4", (importlib.resources.files("fullbody_core") / "assets" / "demo.mp4").read_bytes())
    command = ["capture", f"{place}.mp4", "-o", f"{place}.npz", "--overlay", f"{place}_overlay.mp4"]
    run_capture(make_parser().parse_args(command))
    command = ["blend", f"{place}.npz", "-o", f"{place}.blend", "--render", f"{place}.png"]
    command += ["--blender", options.blender] * (options.blender is not None)
    run_blend(make_parser().parse_args(command))
    print(f"Open {place}.blend in Blender and press space; {place}.png shows the video and the character side by side.")


def add_train(commands):
    command = commands.add_parser("train", help="train a network")
    what = command.add_subparsers(required=True, metavar="NET")
    iknet = what.add_parser("iknet", help="BodyIKNet or HandIKNet", description="Trains an inverse-kinematics network.")
    iknet.add_argument("--part", choices=("body", "hand"), required=True)
    help_keypoints = "the body keypoints it is for (default: blazepose)"
    iknet.add_argument("--keypoints", choices=("blazepose", "smpl"), default="blazepose", help=help_keypoints)
    iknet.add_argument("--data", type=Path, metavar="FOLDER", help="motions in AMASS format (the hand needs none)")
    add_noise(iknet)
    iknet.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FOLDER", help="run folder; a stopped run goes on"
    )
    iknet.add_argument("--steps", type=int, default=60_000)
    iknet.add_argument("--batch", type=int, default=512)
    help_rate = (
        "Adam's rate at the start and at the end of its cosine (default: 1e-3 and 1e-6; the paper's are 1e-4 and 1e-4)"
    )
    iknet.add_argument(
        "--learning-rate", type=float, nargs=2, default=(1e-3, 1e-6), metavar=("START", "END"), help=help_rate
    )
    iknet.add_argument("--seed", type=int, default=0)
    iknet.add_argument("--device", default="auto", help="cuda, cpu, or auto (default)")
    iknet.set_defaults(run=run_train_iknet)


def run_train_iknet(options):
    from .train.iknet import IKNetTraining, make_trainer, write_weights

    if options.part == "body" and options.data is None:
        raise UsageError("BodyIKNet learns from motions: give a folder of AMASS-format files with --data.")
    definition = {"hand": "hand_21"}.get(options.part, IKNET_DEFINITIONS[options.keypoints])
    start_rate, final_rate = options.learning_rate
    settings = IKNetTraining(
        part=options.part,
        definition=definition,
        steps=options.steps,
        batch=options.batch,
        learning_rate=start_rate,
        final_rate=final_rate,
        seed=options.seed,
    )
    trainer = make_trainer(settings, options.data, load_noise(options.noise), options.output, pick_device(options.device))
    make_folder(options.output)
    with open(options.output / "train.log", "a", encoding="utf-8") as log_file:

        def log(line):
            print(line, flush=True)
            print(line, file=log_file, flush=True)

        trainer.run(log)
    path = options.output / f"iknet_{definition}.safetensors"
    write_weights(trainer, path)
    print(f"Weights: {path}")


IKNET_DEFINITIONS = {"blazepose": "blazepose_33_knuckles", "smpl": "smpl_33"}


def load_noise(path):
    """The detector's measured errors: a file's, or those that come with the project."""
    from .synth.detector_noise import DetectorNoise

    return DetectorNoise.load(path or importlib.resources.files("fullbody_core") / "assets" / "mediapipe_noise.npz")


def pick_device(name):
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def add_evaluate(commands):
    command = commands.add_parser("evaluate", help="measure quality and speed")
    what = command.add_subparsers(required=True, metavar="WHAT")
    clip = what.add_parser("clip", help="speed, validity and reprojection on videos, beside MediaPipe Holistic")
    clip.add_argument("videos", type=Path, nargs="+", metavar="VIDEO")
    add_capture_settings(clip)
    clip.set_defaults(run=run_evaluate_clip)
    ik = what.add_parser("ik", help="IKNet beside the closed form and a long optimisation, on held-out motions")
    add_motion_data(ik)
    add_noise(ik)
    ik.add_argument("--poses", type=int, default=2000, help="how many of each kind (default: 2000)")
    ik.set_defaults(run=run_evaluate_ik)

    detector = what.add_parser("detector", help="MediaPipe on renders of the open body, where the truth is known")
    add_motion_data(detector)
    detector.add_argument(
        "-o", "--output", type=Path, metavar="NOISE.npz", help="write its errors as a noise model for training"
    )
    detector.add_argument("--scenes", type=int, default=440, help="how many short scenes (default: 440, about half an hour)")
    detector.set_defaults(run=run_evaluate_detector)


def run_evaluate_detector(options):
    try:
        from .evaluate.detector import DetectorEvaluationError, evaluate_detector, format_report
    except ModuleNotFoundError as error:
        raise UsageError(f"Rendering needs {error.name}: install it with pip install 'fullbody-mocap[train]'.") from error
    if options.output:
        check_writable(options.output)
    try:
        report, noise = evaluate_detector(options.data, options.scenes, progress=progress_bar("Rendering", "scene"))
    except DetectorEvaluationError as error:
        raise UsageError(str(error)) from error
    print(format_report(report))
    if options.output:
        noise.save(options.output)
        print(f"Noise model: {options.output}")


def add_motion_data(command):
    command.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="motions in AMASS format")


def add_noise(command):
    help_noise = "errors of the detector (default: MediaPipe's, measured)"
    command.add_argument("--noise", type=Path, metavar="NOISE.npz", help=help_noise)


def run_evaluate_ik(options):
    from .evaluate.ik import evaluate_ik, format_ik_reports

    print(format_ik_reports(*evaluate_ik(options.data, load_noise(options.noise), options.poses)))


def run_evaluate_clip(options):
    from .evaluate.clip import evaluate_clip, format_reports

    settings = capture_settings(options)
    reports = [
        evaluate_clip(video, settings) for video in tqdm(options.videos, desc="Evaluating", unit="clip", disable=None)
    ]
    print(format_reports(reports))


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

    def wrap(frames, total=None):
        return tqdm(frames, total=total, desc=label, unit=unit, disable=None)

    return wrap


def print_warnings(warnings):
    for warning in warnings:
        print(f"Note: {warning}", file=sys.stderr)


def _hide_native_logs():
    """Keeps stderr for our own messages: the libraries under MediaPipe log to it from C++, and cannot be told not to.

    Their lines go to the null device; FULLBODY_NATIVE_LOGS=1 shows them.
    """
    if os.environ.get("FULLBODY_NATIVE_LOGS") == "1":
        return
    try:
        ours = os.fdopen(os.dup(sys.stderr.fileno()), "w", buffering=1)
    except (OSError, ValueError):
        return  # stderr is not a file, as under a test runner
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.stderr = ours


def run():
    """The console script."""
    _hide_native_logs()
    sys.exit(main())


if __name__ == "__main__":
    run()
