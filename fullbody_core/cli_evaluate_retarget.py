"""`fullbody evaluate retarget`: captures onto test characters, measured."""

import argparse
import tempfile
from contextlib import nullcontext
from pathlib import Path

from .usage import UsageError, add_blender_choice, check_writable, make_folder, print_warnings, progress_bar

_DESCRIPTION = """Makes test characters (public rigs, Rigify's, ours, and odd ones), retargets clips to them, plays what was
written, and prints how far limbs, spine, twist and feet are from the capture's, and files from each other when they are read
again."""


def add_evaluate_retarget(what):
    command = what.add_parser(
        "retarget", help="captures on rigged test characters: limbs, feet, files, speed", description=_DESCRIPTION
    )
    help_clips = "capture files or AMASS motions (default: the demo's own, captured first)"
    command.add_argument("clips", type=Path, nargs="*", metavar="CLIP", help=help_clips)
    command.add_argument("--character", nargs="+", metavar="NAME", help="only these of the test characters")
    command.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="keep the characters and all results here")
    command.add_argument("--format", nargs="*", default=None, metavar="FORMAT", help="besides .blend (default: all)")
    help_sheet = "also render each clip's sheet: the source beside all characters; with several clips, OUT_CLIP.png"
    command.add_argument("--sheet", type=Path, metavar="OUT.png", help=help_sheet)
    command.add_argument("--sheet-frames", type=int, default=4, metavar="N", help="frames of each clip on it (default: 4)")
    command.add_argument("--frames", type=int, metavar="N", help="only the first N frames of each clip")
    command.add_argument("--workers", type=int, metavar="N", help="Blenders to run at a time")
    help_feet = "keep planted feet in place on the character (default: on)"
    command.add_argument("--plant-feet", action=argparse.BooleanOptionalAction, default=True, help=help_feet)
    add_blender_choice(command)
    command.set_defaults(run=run_evaluate_retarget)


def run_evaluate_retarget(options):
    from .evaluate.retarget import evaluate_retarget, format_evaluation
    from .evaluate.retarget_sheet import write_retarget_sheet
    from .retarget import FORMATS, BatchSettings

    if options.frames is not None and options.frames < 2:
        raise UsageError(f"--frames should be at least 2, got {options.frames}.")
    if len({clip.stem for clip in options.clips}) < len(options.clips):
        raise UsageError("Two of the clips have the same name: give them different ones.")
    settings = BatchSettings(plant_feet=options.plant_feet, workers=options.workers, blender=options.blender)
    if options.output is not None:
        make_folder(options.output)
    if options.sheet is not None:
        check_writable(options.sheet)
    with nullcontext(options.output) if options.output else tempfile.TemporaryDirectory() as folder:
        evaluation = evaluate_retarget(
            options.clips or [_demo(Path(folder))],
            folder,
            only=options.character,
            formats=tuple(FORMATS if options.format is None else options.format),
            frames=options.frames,
            settings=settings,
            progress=progress_bar("Retargeting", "job"),
        )
        print(format_evaluation(evaluation))
        for clip in evaluation.clips if options.sheet is not None else ():
            write_retarget_sheet(
                _sheet_path(options.sheet, clip, evaluation.clips), evaluation, clip, options.sheet_frames, options.blender
            )


def _sheet_path(path, clip, clips):
    return path if len(clips) == 1 else path.with_name(f"{path.stem}_{clip}{path.suffix}")


def _demo(folder):
    """The demo's video, captured."""
    import importlib.resources

    from .pipeline import capture

    with importlib.resources.as_file(importlib.resources.files("fullbody_core") / "assets" / "demo.mp4") as video:
        clip, warnings = capture(video)
    print_warnings(warnings)
    clip.save(folder / "demo.npz")
    return folder / "demo.npz"
