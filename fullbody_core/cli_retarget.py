"""The command `fullbody retarget`: captures onto rigged characters of the user's own, many by many."""

import argparse
import sys
from pathlib import Path

from .usage import UsageError, add_blender_choice, make_folder, progress_bar

_DESCRIPTION = """Retargets every clip to every character, and writes a file for each pair in each format. What fails is told at
the end, and the rest is not stopped by it; the exit code then is 1. Files are named CLIP_CHARACTER, and take the place of
earlier ones only when they are complete."""


def add_retarget(commands):
    command = commands.add_parser("retarget", help="captures onto your own rigged characters", description=_DESCRIPTION)
    help_clips = "capture files, or motions in AMASS's format"
    command.add_argument("clips", nargs="+", type=Path, metavar="CLIP.npz", help=help_clips)
    help_character = "rigged characters (.blend, .fbx, .glb, .gltf, .vrm)"
    command.add_argument("--character", nargs="+", required=True, type=Path, metavar="RIG", help=help_character)
    command.add_argument("-o", "--output", required=True, type=Path, metavar="DIR", help="folder for the results")
    help_format = "what to write, with commas between: blend, fbx, glb, bvh, usd (default: blend)"
    command.add_argument("--format", type=_formats, default=("blend",), metavar="FORMATS", help=help_format)
    help_map = "role map: which bone is which, for all characters (default: what fits each one's bones)"
    command.add_argument("--map", type=Path, metavar="FILE.json", help=help_map)
    help_face_map = "which shape keys the expressions go to (default: by their names)"
    command.add_argument("--face-map", type=Path, metavar="FILE.json", help=help_face_map)
    help_armature = "the armature object, where a file has several (default: the one that fits best)"
    command.add_argument("--armature", metavar="NAME", help=help_armature)
    help_feet = "keep planted feet in place on the character (default: on)"
    command.add_argument("--plant-feet", action=argparse.BooleanOptionalAction, default=True, help=help_feet)
    help_heading = "walk as the capture did, or as the character stands (default: capture)"
    command.add_argument("--heading", choices=("capture", "character"), default="capture", help=help_heading)
    help_fps = "frames per second (default: each clip's own, to a whole number)"
    command.add_argument("--fps", type=float, metavar="N", help=help_fps)
    help_workers = "Blenders to run at a time (default: what cores and memory allow)"
    command.add_argument("--workers", type=int, metavar="N", help=help_workers)
    help_limit = "what one clip on one character may take (default: 600)"
    command.add_argument("--time-limit", type=float, default=600.0, metavar="SECONDS", help=help_limit)
    help_body = "the body model, if it has moved since the capture, or of AMASS motions (default: the open body)"
    command.add_argument("--body", metavar="open|NAME|FILE", help=help_body)
    add_blender_choice(command)
    command.set_defaults(run=run_retarget)


def run_retarget(options):
    """Returns the exit code."""
    from .retarget import BatchSettings, renamed, run_batch

    for path in filter(None, (options.map, options.face_map)):
        if not path.is_file():
            raise UsageError(f"There is no map at {path}: check the path.")
    settings = BatchSettings(
        formats=options.format,
        map_file=options.map,
        face_map=options.face_map,
        armature=options.armature,
        plant_feet=options.plant_feet,
        heading=options.heading,
        fps=options.fps,
        workers=options.workers,
        time_limit=options.time_limit,
        body=options.body,
        blender=options.blender,
    )
    make_folder(options.output)
    results = run_batch(options.clips, options.character, options.output, settings, progress_bar("Retargeting", "job"))
    for note in renamed([result.job for result in results]):
        print(f"Note: {note}", file=sys.stderr)
    print(summary(results))
    return 1 if any(result.error for result in results) else 0


def summary(results):
    """A table with a line for each job, then what was noted and what failed, once each with those whom it concerns."""
    from .table import format_table

    header = ["clip", "character", "map", "frames", "fps", "seconds", "result"]
    rows = [
        [
            result.job.clip.stem,
            result.job.character.name,
            result.role_map or "-",
            str(result.frames or "-"),
            f"{result.fps:g}" if result.fps else "-",
            f"{sum(result.seconds.values()):.1f}" if result.seconds else "-",
            "failed" if result.error else " ".join(result.files),
        ]
        for result in results
    ]
    failed = [result for result in results if result.error]
    lines = [format_table(header, rows), ""]
    lines += [f"Note ({_whom(jobs)}): {note}" for note, jobs in _by_sentence(results, lambda result: result.notes)]
    lines += [f"Failed ({_whom(jobs)}): {error}" for error, jobs in _by_sentence(failed, lambda result: [result.error])]
    written = f"{len(results) - len(failed)} of {len(results)} retargeted"
    return "\n".join([*lines, f"{written}, {len(failed)} failed." if failed else f"{written}."])


def _by_sentence(results, sentences):
    """(sentence, names of jobs) for each different sentence, in their order."""
    found = {}
    for result in results:
        for sentence in sentences(result):
            found.setdefault(sentence, []).append(result.job.name)
    return found.items()


def _whom(names):
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _formats(text):
    return tuple(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
