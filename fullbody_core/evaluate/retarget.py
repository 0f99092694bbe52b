"""How well captures are carried over to rigged characters: true batches onto test characters, played by Blender and measured.

What is measured, and against what, is in `retarget_metrics`; which characters there are, in the add-on's `make_characters`.
"""

import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..addon_package import stage_addon
from ..blender_process import run_in_blender
from ..contract.amass import read_clip
from ..contract.npz_file import read_npz
from ..retarget import FORMATS, BatchSettings, body_rest, run_batch
from ..table import format_table
from . import retarget_metrics as metrics
from .played import played_of, source_of
from .rigged_characters import make_test_characters

SPEED_FRAMES = 1000
SPEED_CHARACTERS = ("rigify", "mixamo")
"""On which a motion of `SPEED_FRAMES` frames is timed."""

_SPEED_RUNS = 3
"""How often; the quickest counts, since the first has a Blender to warm up and all have others' work beside them."""

PAIRS = (("mixamo", "proportions"), ("mixamo", "rolled"), ("unreal", "rigify"), ("makehuman", "cmu"))
"""Characters of different proportions and rolls whose limbs are compared with each other."""


@dataclass(frozen=True)
class Measured:
    """One clip on one character: `figures` (see `retarget_metrics.Figures`), or `error`, one sentence.

    reimport: {format: (m of joints, m of rest joints, degrees of turns, bones missing)} against the .blend that was written
    directions: what `retarget_metrics.directions` found, with NaN for what was not captured; blend: the .blend
    centres [T, 3] m: the pelvis; height: m of the pelvis above the ground at rest: for pictures
    """

    clip: str
    character: object
    figures: object = None
    error: str = None
    reimport: dict = None
    directions: dict = None
    blend: Path = None
    centres: np.ndarray = None
    height: float = None


@dataclass(frozen=True)
class Evaluation:
    """measured: a `Measured` of each clip and character; clips: {name: its file}; sources: {clip: `Source`}
    seconds: {character: s for `SPEED_FRAMES` frames}; pairs: {(first, second): {role: degrees [T]}} over all clips
    """

    measured: list
    clips: dict
    sources: dict
    seconds: dict
    pairs: dict


def evaluate_retarget(clips, folder, only=None, formats=tuple(FORMATS), frames=None, settings=None, progress=None):
    """Retargets `clips` to test characters, plays what was written, and measures it. Returns an `Evaluation`.

    folder: where the characters and all results are kept; only: names of test characters, None for all; frames: of each clip
    at most; settings: a `BatchSettings`, whose formats are taken from `formats` (.blend is always written)
    Raises `FileError`, `BlenderError` or `RetargetError`.
    """
    folder = Path(folder)
    places = {name: folder / name for name in ("characters", "clips", "results", "speed")}
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    settings = replace(settings or BatchSettings(), formats=tuple(dict.fromkeys(("blend", *formats))))
    batch = {} if progress is None else {"progress": progress}
    characters = make_test_characters(places["characters"].resolve(), only, settings.blender)
    files = {path.stem: path for path in (_shortened(clip, frames, places["clips"]) for clip in clips)}
    paths = [character.path for character in characters]
    results = run_batch(list(files.values()), paths, places["results"], settings, **batch)
    seconds = _time(next(iter(files.values())), characters, places["speed"], settings)
    by_path = {character.path.resolve(): character for character in characters}
    sources = {
        name: _source(path, settings, next((one for one in results if one.job.clip == path and not one.error), None))
        for name, path in files.items()
    }
    with tempfile.TemporaryDirectory() as scratch:
        sampled = _sample(results, by_path, Path(scratch), settings.blender)
        measured = [
            _measure(result, by_path[result.job.character.resolve()], sources[result.job.clip.stem], found)
            for result, found in zip(results, sampled)
        ]
    return Evaluation(measured, files, sources, seconds, _compare_pairs(measured))


def _shortened(path, frames, folder):
    """The clip's first frames as a capture file in `folder`."""
    clip = read_clip(path)
    rows = slice(None) if frames is None else slice(0, frames)
    count = clip.frame_count
    cut = {
        name: value[rows]
        for name, value in vars(clip).items()
        if isinstance(value, np.ndarray) and value.ndim and len(value) == count and name in _PER_FRAME
    }
    short = folder / f"{Path(path).stem}.npz"
    replace(clip, **cut).save(short)
    return short


_PER_FRAME = (
    "poses",
    "trans",
    "timestamps",
    "joints_camera",
    "keypoints2d",
    "valid",
    "face_expression",
    "face_illumination",
    "person_box",
)


def _time(path, characters, folder, settings):
    """{character: least s that retargeting takes of a motion of `SPEED_FRAMES` frames}, made of a clip played to and fro."""
    clip = read_clip(path)
    timed = [character for character in characters if character.name in SPEED_CHARACTERS]
    if not timed:
        return {}
    turning = np.concatenate([np.arange(clip.frame_count), np.arange(clip.frame_count - 2, 0, -1)])
    rows = np.resize(turning, SPEED_FRAMES)
    long = {name: getattr(clip, name)[rows] for name in _PER_FRAME if name != "timestamps"}
    motion = replace(clip, timestamps=np.arange(SPEED_FRAMES) / clip.mocap_framerate, **long)
    copies = [folder / f"speed_{number}.npz" for number in range(_SPEED_RUNS)]
    for copy in copies:
        motion.save(copy)
    single = replace(settings, formats=("blend",), workers=1)
    results = run_batch(copies, [character.path for character in timed], folder, single)
    seconds = {}
    for character in timed:
        runs = [result for result in results if result.job.character == character.path and result.error is None]
        if runs:
            seconds[character.name] = min(result.seconds["retarget"] for result in runs)
    return seconds


def _source(path, settings, result):
    """The clip's `Source` at the scene frames of one of its results; None where nothing came of it."""
    if result is None:
        return None
    clip = read_clip(path)
    times = clip.timestamps[0] + np.arange(result.frames) / result.fps
    return source_of(clip, *body_rest(clip, settings.body), times)


def _sample(results, characters, scratch, blender):
    """{format: arrays of sample_bones, or the sentence why not} of each result."""
    jobs, found = [], []
    for number, result in enumerate(results):
        roles = characters[result.job.character.resolve()].roles
        bones = [name for names in roles.values() for name in names]
        outs = {format: scratch / f"{number}_{format}.npz" for format in result.files}
        found.append(outs)
        jobs += [
            {"file": str(path), "out": str(outs[format]), "bones": bones, "fps": result.fps, "frames": result.frames}
            for format, path in result.files.items()
        ]
    stage_addon(scratch)
    (scratch / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    failed = run_in_blender(scratch, ["--jobs", scratch / "jobs.json"], blender, program="evaluate.sample_bones")["failed"]
    return [
        {
            format: failed.get(str(result.files[format])) or read_npz(out, "file of sampled bones")
            for format, out in outs.items()
        }
        for result, outs in zip(results, found)
    ]


def _measure(result, character, source, sampled):
    if result.error:
        return Measured(result.job.clip.stem, character, error=result.error)
    blend = sampled.pop("blend")
    if isinstance(blend, str):
        return Measured(result.job.clip.stem, character, error=blend)
    played = played_of(blend, vars(character))
    return Measured(
        clip=result.job.clip.stem,
        character=character,
        figures=metrics.measure(source, played),
        reimport={
            format: other if isinstance(other, str) else metrics.reimport_errors(blend, other)
            for format, other in sampled.items()
        },
        directions=metrics.captured_directions(source, played),
        blend=result.files["blend"],
        centres=played.world[:, played.first("pelvis"), :3, 3],
        height=float(played.rest[played.first("pelvis"), 2, 3] - played.ground),
    )


def _compare_pairs(measured):
    found = {(one.clip, one.character.name): one for one in measured if one.directions}
    pairs = {}
    for first, second in PAIRS:
        errors = [
            metrics.compare(found[clip, first].directions, found[clip, second].directions)
            for clip in dict.fromkeys(one.clip for one in measured)
            if (clip, first) in found and (clip, second) in found
        ]
        if errors:
            pairs[first, second] = {role: np.concatenate([one[role] for one in errors]) for role in errors[0]}
    return pairs


def format_evaluation(evaluation):
    """All figures as tables for the terminal."""
    characters = list(dict.fromkeys(one.character.name for one in evaluation.measured))
    clips = list(evaluation.clips)
    blocks = [
        _figures_table("character", characters, lambda one: one.character.name, evaluation.measured),
        _figures_table("clip", clips, lambda one: one.clip, evaluation.measured),
        _pairs_table(evaluation.pairs),
        _formats_table(evaluation.measured),
        "\n".join(
            f"{SPEED_FRAMES} frames to {name}: {seconds:.2f} s to read the rig, solve and write the action."
            for name, seconds in evaluation.seconds.items()
        ),
    ]
    failed = [f"Failed: {one.clip} on {one.character.name}: {one.error}" for one in evaluation.measured if one.error]
    return "\n\n".join(filter(None, [*blocks, "\n".join(failed)]))


_HEADER = (
    "limbs, deg",
    "p99",
    "max",
    "where",
    "spine, deg",
    "max",
    "twist, deg",
    "max",
    "contacts",
    "slid p95, cm",
    "max",
    "source",
    "sunk, cm",
    "knee",
    "p95",
)


def _figures_table(what, names, key, measured):
    rows = []
    for name in names:
        those = [one for one in measured if key(one) == name and one.figures]
        if those:
            rows.append([name, *_figures_row(those, what)])
    return format_table([what, *_HEADER], rows) if rows else ""


def _figures_row(those, what):
    figures = [one.figures for one in those]
    worst = max(those, key=lambda one: metrics.worst(one.figures.direction)[2])
    role, frame, largest = metrics.worst(worst.figures.direction)
    other = worst.clip if what == "character" else worst.character.name
    pooled = {name: _pooled(figures, name) for name in ("direction", "spine", "twist")}
    slid = np.concatenate([one.sliding for one in figures])
    slid_by_source = np.concatenate([one.source_sliding for one in figures])
    return [
        f"{np.nanmean(pooled['direction']):.3f}",
        f"{np.nanpercentile(pooled['direction'], 99):.2f}",
        f"{largest:.2f}",
        f"{role} {other} {frame + 1}",
        f"{np.nanmean(pooled['spine']):.3f}",
        f"{np.nanmax(pooled['spine']):.2f}",
        f"{np.nanmean(pooled['twist']):.2f}",
        f"{np.nanmax(pooled['twist']):.1f}",
        str(len(slid)),
        f"{100 * np.percentile(slid, 95):.2f}" if len(slid) else "-",
        f"{100 * slid.max():.2f}" if len(slid) else "-",
        f"{100 * slid_by_source.max():.2f}" if len(slid) else "-",
        f"{100 * max(one.penetration.max() for one in figures):.2f}",
        f"{np.nanmax([one.knee_peak for one in figures]):.2f}",
        f"{np.nanmax([one.knee_p95 for one in figures]):.2f}",
    ]


def _pooled(figures, name):
    """All values of one kind of error, of all roles and clips."""
    return np.concatenate([values for one in figures for values in getattr(one, name).values()])


def _pairs_table(pairs):
    rows = [
        [f"{first} - {second}", f"{np.nanmean(np.concatenate(list(errors.values()))):.3f}", f"{worst[2]:.2f}", worst[0]]
        for (first, second), errors in pairs.items()
        for worst in [metrics.worst(errors)]
    ]
    return format_table(["two characters compared", "limbs, deg", "max", "where"], rows) if rows else ""


def _formats_table(measured):
    """How far files are off the .blend when they are read again: the worst of all."""
    rows = []
    for format in FORMATS:
        read = [one.reimport[format] for one in measured if one.reimport and format in one.reimport]
        errors = np.array([entry for entry in read if not isinstance(entry, str)]).reshape(-1, 4)
        if read:
            joints, rest, turns, missing = errors.max(0, initial=0)
            rows.append(
                [format, str(len(read)), str(len(read) - len(errors)), f"{1000 * joints:.3f}", f"{1000 * rest:.3f}"]
                + [f"{turns:.3f}", f"{missing:.0f}"]
            )
    header = ["format", "files", "unreadable", "joints, mm", "rest, mm", "turns, deg", "bones missing"]
    return format_table(header, rows) if rows else ""
