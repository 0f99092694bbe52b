"""`fullbody evaluate refine`: what the refinement of whole clips is worth, on clips with known truth and on videos."""

import tempfile
from contextlib import nullcontext
from pathlib import Path

from .usage import UsageError, check_writable, make_folder, progress_bar

_DESCRIPTION = """Films the open body in motions that no network was trained on, captures these clips with and without the
refinement, and prints how far both are from the truth, beside MediaPipe's own answer; on videos, how far the body is from what
was detected, and how much it shakes and slides."""


def add_evaluate_refine(what):
    """Adds the command `refine` to the subparsers of `fullbody evaluate`."""
    command = what.add_parser(
        "refine",
        help="captures with and without refinement on clips with known truth, and on videos",
        description=_DESCRIPTION,
    )
    command.add_argument("--data", type=Path, metavar="FOLDER", help="AMASS-format motions; the held-out ones are filmed")
    help_backgrounds = "pictures, videos or folders of them to film before (default: rooms that are painted)"
    command.add_argument("--backgrounds", type=Path, nargs="+", default=(), metavar="PATH", help=help_backgrounds)
    command.add_argument("--clips", type=int, default=20, metavar="N", help="clips with known truth (default: 20)")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of the clips (default: 0)")
    command.add_argument("--video", type=Path, nargs="+", default=(), metavar="VIDEO", help="also measure these videos")
    help_without = "also measure the refinement without each of these terms; 'all' for every one in turn"
    command.add_argument("--without", nargs="+", default=(), metavar="TERM", help=help_without)
    help_output = "keep the filmed clips and captures here; clips that are there already are not filmed again"
    command.add_argument("-o", "--output", type=Path, metavar="FOLDER", help=help_output)
    help_sheet = "also draw each clip: the video, before and after, from the camera and from the side; OUT_CLIP.png"
    command.add_argument("--sheet", type=Path, metavar="OUT.png", help=help_sheet)
    command.add_argument("--sheet-frames", type=int, default=4, metavar="N", help="frames of each clip on it (default: 4)")
    command.set_defaults(run=run_evaluate_refine)


def run_evaluate_refine(options):
    from .evaluate.refine import (
        MadeClips,
        evaluate_made_clips,
        evaluate_videos,
        format_made,
        format_videos,
        terms_to_leave_out,
    )
    from .evaluate.refine_sheet import write_refine_sheet

    if options.data is None and not options.video:
        raise UsageError("Give motions with --data, or videos with --video.")
    if options.clips < 1:
        raise UsageError(f"--clips should be at least 1, got {options.clips}.")
    if options.sheet is not None:
        check_writable(options.sheet)
    if options.output is not None:
        make_folder(options.output)
    without = terms_to_leave_out(options.without)

    def draw(name, *shown):
        if options.sheet is not None:
            path = options.sheet.with_name(f"{options.sheet.stem}_{name}{options.sheet.suffix}")
            write_refine_sheet(path, *shown, frame_count=options.sheet_frames)

    with nullcontext(options.output) if options.output else tempfile.TemporaryDirectory() as folder:
        if options.data is not None:
            made = MadeClips(options.data, Path(folder), options.clips, options.seed, tuple(options.backgrounds))
            print(format_made(evaluate_made_clips(made, without, draw, progress_bar("Filming and capturing", "clip"))))
        if options.video:
            print(format_videos(evaluate_videos(options.video, draw, progress_bar("Capturing", "video"))))
