"""The command line: `fullbody COMMAND`. Errors are one sentence, exit code 2; Ctrl-C is 130 and leaves no half file.

A command of many parts that goes on where one fails ends with 1 then.
"""

import argparse
import importlib.resources
import os
import sys
from pathlib import Path

from . import __version__
from .cli_bridge import add_bridge
from .cli_live import add_live, keep_numpy_to_one_thread
from .cli_networks import add_bench, add_evaluate, add_train
from .cli_retarget import add_retarget
from .cli_weights import add_weights
from .usage import (
    UsageError,
    add_blender_choice,
    add_capture_settings,
    capture_settings,
    check_writable,
    make_folder,
    print_warnings,
    progress_bar,
)


def main(arguments=None):
    """Runs one command. Returns the exit code."""
    try:
        options = make_parser().parse_args(arguments)
        return options.run(options) or 0
    except KeyboardInterrupt:
        print("\nStopped; what was not finished was not written.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left; there is nobody to tell
        return 1
    except user_errors() as error:
        print(f"fullbody: {error}", file=sys.stderr)
        return 2


def user_errors():
    """The errors whose message is one sentence for the user."""
    from .addon_package import AddonPackageError
    from .blend import BlendError
    from .blender_process import BlenderError
    from .camera import CameraError
    from .contract.npz_file import FileError
    from .live.server import ServerError
    from .live.sources import SourceError
    from .live.vmc import VmcError
    from .pipeline import CaptureFailure
    from .refine.whole_clip import UnknownPartError
    from .retarget import RetargetError
    from .tracking.person_choice import PersonChoiceError
    from .video import VideoError

    found = AddonPackageError, BlendError, BlenderError, CameraError, CaptureFailure, FileError, ServerError, SourceError
    return *found, PersonChoiceError, RetargetError, UnknownPartError, UsageError, VideoError, VmcError


def make_parser():
    parser = argparse.ArgumentParser(
        prog="fullbody", description="Markerless motion capture from video, as keyframes in Blender."
    )
    parser.add_argument("--version", action="version", version=f"fullbody {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_demo(commands)
    add_capture(commands)
    add_blend(commands)
    add_retarget(commands)
    add_live(commands)
    add_bridge(commands)
    add_weights(commands)
    add_train(commands)
    add_evaluate(commands)
    add_bench(commands)
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


def run_capture(options):
    from .overlay import write_overlay
    from .pipeline import capture_people

    for path in filter(None, (options.output, options.overlay)):
        check_writable(path)
    settings = capture_settings(options)
    clips, warnings = capture_people(options.video, settings, progress_bar("Capturing"))
    places = {identity: output_of(options.output, identity, settings.person) for identity in clips}
    for identity, clip in clips.items():
        clip.save(places[identity])
    if options.overlay:
        write_overlay(clips, options.video, options.overlay, progress_bar("Drawing"))
    print_warnings(warnings)
    for identity, clip in clips.items():
        print(describe(clip, places[identity]))
    if options.overlay:
        print(f"Overlay: {options.overlay}")


def output_of(path, identity, person):
    """Where the capture of one person goes: CLIP.npz itself, or CLIP_1.npz, CLIP_2.npz where all people are captured."""
    return path.with_name(f"{path.stem}_{identity}{path.suffix}") if person == "all" else path


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
    command.add_argument(
        "--render", type=Path, metavar="OUT.png", help="also render a sheet: the video's frames beside the character"
    )
    command.add_argument(
        "--frame", type=int, nargs="+", metavar="N", help="frames to render, from 0, a row each (default: one in the middle)"
    )
    command.add_argument(
        "--close-up",
        action=argparse.BooleanOptionalAction,
        help="show the faces near, too (default: where they are large enough in the video)",
    )
    command.add_argument("--video", type=Path, help="the video, if it has moved since the capture")
    command.add_argument("--body", metavar="open|NAME|FILE", help="the body model, if it has moved since the capture")
    command.add_argument("--face", metavar="open|none|NAME|FILE", help="the face model, if it has moved since the capture")
    add_blender_choice(command)
    command.set_defaults(run=run_blend)


def run_blend(options):
    from .blend import build_blend

    for path in filter(None, (options.output, options.render)):
        check_writable(path)
    print("Building the character in Blender ...", file=sys.stderr)
    made = build_blend(
        options.clip,
        options.output,
        body=options.body,
        face=options.face,
        video=options.video,
        render=options.render,
        blender=options.blender,
        frames=options.frame,
        close_up=options.close_up,
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
    if sys.argv[1:2] == ["live"]:
        keep_numpy_to_one_thread()
    sys.exit(main())


if __name__ == "__main__":
    run()
