"""`fullbody evaluate refine`: what the refinement of whole clips is worth.

On filmed clips with known truth (`synth.clips`, held-out motions): how far MediaPipe's own answer, the capture without refinement,
the refined capture, and that without each of its terms are from the truth. On real videos: how far the body is from what was
detected, and how much it shakes and slides, before and after. Everything is detected once and then solved in several ways.
"""

import resource
import time
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np

from ..body.load_body import load_body
from ..contract.skeleton import BLAZEPOSE_33, SIDES
from ..detect.keypoints import SEEN
from ..pipeline import (
    CaptureFailure,
    CaptureSettings,
    Equipment,
    decide_valid,
    estimate_shape,
    make_solver,
    make_tracker,
    solve_by_frames,
    to_clip,
    turn_to_camera,
)
from ..refine.whole_clip import PARTS, check_parts, solve_whole_clip
from ..synth.backgrounds import read_backgrounds
from ..synth.clips import load_truth, make_clip, save_truth, write_clip
from ..table import format_table
from ..tracking.watch import watch
from ..train.motions import load_motions
from ..video import open_video
from .against_truth import DETECTED, Moved, Scores, figure_of, moved_of_solved, moved_of_truth, score
from .clip import reprojection_errors, still_jitter
from .motion_metrics import penetrations, sliding_speeds

RAW, BEFORE, AFTER = "MediaPipe", "unrefined", "refined"


_COLUMNS = {
    "mpjpe": ("MPJPE mm", 1000, ".1f"),
    "pa_mpjpe": ("PA mm", 1000, ".1f"),
    "acceleration": ("accel. m/s2", 1, ".2f"),
    "jitter": ("jitter m/s2", 1, ".2f"),
    "drift": ("W mm", 1000, ".0f"),
    "path": ("WA mm", 1000, ".0f"),
    "sliding": ("slide cm/s", 100, ".2f"),
    "sliding_median": ("median", 100, ".2f"),
    "sliding_held": ("held", 100, ".2f"),
    "penetration": ("sunk 95% cm", 100, ".2f"),
    "deepest": ("most cm", 100, ".2f"),
    "precision": ("contact P", 1, ".2f"),
    "recall": ("R", 1, ".2f"),
    "f1": ("F1", 1, ".2f"),
    "peak_speed": ("peak speed", 1, ".0%"),
    "peak_velocity": ("velocity", 1, ".0%"),
    "lag": ("late ms", 1000, ".0f"),
    "hands": ("hands PA mm", 1000, ".1f"),
    "up": ("up deg", 1, ".1f"),
    "focal": ("focal", 1, ".1%"),
    "seconds": ("s/frame", 1, ".3f"),
}


_EXPLANATION = """MPJPE about the middle of the hips, PA when turned and sized, W with the first frame and WA with all frames
brought together; jitter of what is still in somebody who rests; slide: of soles that truly stand, mean and median, and mean
where they are found to stand, too; sunk: of the soles below the floor; peak speed and velocity: of wrists and ankles, shares of
the truth's; hands: of those found; focal: error of the focal length."""


@dataclass(frozen=True)
class MadeClips:
    """Which clips are filmed: of the held-out motions of folder `data`, kept in `folder`, `count` of them, with `seed`, before
    `backgrounds` (paths)."""

    data: Path
    folder: Path
    count: int
    seed: int
    backgrounds: tuple = ()

    def films(self, body):
        """Yields (path of the video, `Clip`), filming what is not in the folder yet. Raises `FileError` or `VideoError`."""
        motions, backgrounds = None, None
        for number in range(self.count):
            place = self.folder / f"refine_{self.seed}_{number:02d}"
            film, known = place.with_suffix(".mp4"), place.with_suffix(".npz")
            if not (film.is_file() and known.is_file()):
                if motions is None:
                    motions, backgrounds = load_motions(self.data, held_out=True), self._backgrounds()
                clip = make_clip(body, motions, self.seed, number)
                write_clip(clip, body, film, backgrounds)
                save_truth(known, clip)
            yield film, load_truth(known)

    def _backgrounds(self):
        if not self.backgrounds:
            return ()
        from ..detect.mediapipe import PersonFinder

        with closing(PersonFinder()) as finder:
            return read_backgrounds(self.backgrounds, finder)


@dataclass
class Watching:
    """A video that was looked at once, to be solved in several ways: the video, `Watched`, the person's `Keypoints`, the body and
    what they are solved with; seconds a frame."""

    video: object
    watched: object
    seen: object
    equipment: Equipment
    seconds: float

    @classmethod
    def of(cls, path, body, settings=CaptureSettings(face="none")):
        """Looks at a video. Raises `VideoError`, or `CaptureFailure` where nobody is found."""
        video = open_video(path)
        with closing(make_tracker(settings)) as tracker:
            solver, _ = make_solver(settings.ik, body, tracker.definition)
            start = time.perf_counter()
            watched = watch(video, tracker)
            seconds = (time.perf_counter() - start) / len(watched.timestamps)
            equipment = Equipment(settings, video, body, None, solver, tracker, lambda frames, **_: frames)
        if not watched.people:
            raise CaptureFailure(f"Nobody was found in {path}: leave this video out.")
        seen = max(watched.people.values(), key=lambda person: decide_valid(person)[:, 0].sum())
        return cls(video, watched, seen, equipment, seconds)

    def solve(self, refine, without=()):
        """(`motion.Solved`, seconds a frame with those of the looking)."""
        equipment = replace(self.equipment, settings=replace(self.equipment.settings, refine=refine, without=tuple(without)))
        start = time.perf_counter()
        matrix = equipment.first_matrix()
        betas, keypoints = estimate_shape(turn_to_camera(self.seen, matrix), equipment.body)
        solve = solve_whole_clip if refine else solve_by_frames
        solved = solve(keypoints, self.seen, betas, decide_valid(self.seen), matrix, self.watched, equipment)
        return solved, self.seconds + (time.perf_counter() - start) / len(self.watched.timestamps)

    def clip_of(self, solved):
        """The `CaptureClip` of an answer."""
        clip = to_clip(solved, self.seen, self.watched.timestamps, self.video)
        clip.meta = {"settings": {"body": self.equipment.settings.body}}
        return clip


def raw_answer(path, seen):
    """`Moved` of MediaPipe's own world landmarks, as its package gives them, and of its hands in the capture's `Keypoints` seen."""
    import mediapipe

    found, points = [], []
    with mediapipe.solutions.pose.Pose(model_complexity=1) as pose:
        for _, image in open_video(path).frames():
            landmarks = pose.process(image).pose_world_landmarks
            found.append(landmarks is not None)
            points.append([(p.x, p.y, p.z) for p in landmarks.landmark] if landmarks else np.zeros((len(BLAZEPOSE_33), 3)))
    valid = np.column_stack([found, seen.hand_confidence > 0, np.zeros(len(found), bool)])
    return Moved(np.array(points)[:, DETECTED], seen.hand3d, valid)


@dataclass
class Evaluation:
    """scores: by way of capturing, a list of `Scores`, one a clip; names: of the clips; memory: MB at the most."""

    names: list = field(default_factory=list)
    scores: dict = field(default_factory=dict)
    memory: float = float("nan")

    def add(self, way, figures):
        self.scores.setdefault(way, []).append(figures)


def terms_to_leave_out(names):
    """The refinement's terms that names ask to leave out in turn; 'all' for every one. Raises `UnknownPartError`."""
    if list(names) == ["all"]:
        return tuple(part for part in PARTS if not part.startswith("hand_"))
    check_parts(names)
    return tuple(names)


def evaluate_made_clips(made, without=(), draw=lambda name, *shown: None, progress=lambda clips, **_: clips):
    """The `Evaluation` of `MadeClips` made, with the refinement and without each of the parts `without`.

    draw(name, video, `Solved` before, after, timestamps, body, truth's `Clip`): draws a clip; progress wraps the iterator over
    clips (tqdm does). Raises `FileError` and `VideoError`.
    """
    body, evaluation = load_body("open"), Evaluation()
    for film, clip in progress(made.films(body), total=made.count):
        watching, truth = Watching.of(film, body), moved_of_truth(clip, body)
        timestamps = watching.watched.timestamps
        raw = raw_answer(film, watching.seen)
        found = raw.valid[:, 0]
        evaluation.names.append(f"{film.stem} {clip.name}")
        evaluation.add(RAW, score(raw, truth, clip, timestamps, found))
        solved = {}
        ways = [(BEFORE, False, ()), (AFTER, True, ()), *((f"without {part}", True, (part,)) for part in without)]
        for way, refine, left_out in ways:
            solved[way], seconds = watching.solve(refine, left_out)
            figures = score(moved_of_solved(solved[way], timestamps), truth, clip, timestamps, found, seconds)
            evaluation.add(way, figures)
        draw(film.stem, film, solved[BEFORE], solved[AFTER], timestamps, body, clip)
    evaluation.memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return evaluation


def format_made(evaluation):
    """The tables of `evaluate_made_clips` as text: medians and means over the clips, and each clip before and after."""
    lines = []
    for title, middle in (("median", np.nanmedian), ("mean", np.nanmean)):
        rows = [(way, *_summary(figures, middle)) for way, figures in evaluation.scores.items()]
        lines += [f"{title} of {len(evaluation.names)} clips", format_table(_head("way"), rows), ""]
    lines += ["each clip", _format_each(evaluation), "", _format_gains(evaluation)]
    lines.append(_EXPLANATION)
    lines.append(f"peak memory {evaluation.memory:.0f} MB")
    return "\n".join(lines)


def _head(first):
    return (first, *(head for head, _, _ in _COLUMNS.values()))


def _summary(figures, middle):
    """One cell per column of the figures of several clips."""
    cells = []
    for item in fields(Scores):
        values = np.array([getattr(one, item.name) for one in figures], float)
        values = values[np.isfinite(values)]
        _, unit, form = _COLUMNS[item.name]
        cells.append(format(unit * middle(values), form) if len(values) else "")
    return cells


def _format_each(evaluation):
    rows = []
    for number, name in enumerate(evaluation.names):
        for way in (RAW, BEFORE, AFTER):
            rows.append((name if way == RAW else "", way, *_summary([evaluation.scores[way][number]], np.mean)))
    return format_table(("clip", *_head("way")), rows)


def _format_gains(evaluation):
    """How much lower the refined capture's mean errors are than those of the other two."""
    lines = []
    for way in (RAW, BEFORE):
        for name, label in (("mpjpe", "MPJPE"), ("pa_mpjpe", "PA-MPJPE")):
            mean = [np.nanmean([getattr(one, name) for one in evaluation.scores[each]]) for each in (way, AFTER)]
            lines.append(f"{label} {1 - mean[1] / mean[0]:.1%} lower than {way}")
    return "refined: " + ", ".join(lines)


@dataclass
class VideoScores:
    """Of one video and one way to capture it: reprojection as shares of the person box's height, jitter in m/s^2, m/s, m, s."""

    name: str
    way: str
    frames: int
    median: float
    p90: float
    jitter: float
    sliding: float
    penetration: float
    deepest: float
    standing: float
    seconds: float


def evaluate_videos(paths, draw=lambda name, *shown: None, progress=lambda videos, **_: videos):
    """`VideoScores` of videos, unrefined and refined. draw and progress: as for `evaluate_made_clips`, without a truth.

    Raises `VideoError`, or `CaptureFailure` where nobody is found.
    """
    body, found = load_body("open"), []
    for path in progress(list(paths), total=len(paths)):
        watching = Watching.of(path, body)
        timestamps = watching.watched.timestamps
        before, after = watching.solve(False), watching.solve(True)
        answers = [moved_of_solved(solved, timestamps) for solved, _ in (before, after)]
        # Where the refined person stands, both are asked to.
        standing = answers[1].contacts & _feet_seen(watching.seen)[..., None]
        for way, (solved, seconds), answer in zip((BEFORE, AFTER), (before, after), answers):
            found.append(_video_scores(Path(path).name, way, watching, solved, seconds, answer, standing))
        draw(Path(path).stem, path, before[0], after[0], timestamps, body, None)
    return found


def _feet_seen(seen):
    """[T, 2] bool: feet whose heel and toe are seen."""
    points = [[BLAZEPOSE_33.index(f"{side}_{name}") for name in ("heel", "foot_index")] for side in SIDES]
    return (seen.body_confidence[:, points] >= SEEN).all(-1)


def _video_scores(name, way, watching, solved, seconds, answer, standing):
    clip = watching.clip_of(solved)
    errors, (jitter, _) = reprojection_errors(clip), still_jitter(clip)
    depths = penetrations(answer.soles, _feet_seen(watching.seen) & answer.valid[:, :1])
    return VideoScores(
        name=name,
        way=way,
        frames=len(answer.valid),
        median=figure_of(np.median, errors),
        p90=figure_of(lambda values: np.percentile(values, 90), errors),
        jitter=jitter,
        sliding=figure_of(np.mean, sliding_speeds(answer.soles, standing, watching.watched.timestamps)),
        penetration=figure_of(lambda values: np.percentile(values, 95), depths),
        deepest=figure_of(np.max, depths),
        standing=float(standing.any((1, 2)).mean()),
        seconds=seconds,
    )


def format_videos(scores):
    """The table of `evaluate_videos` as text."""
    head = ("video", "way", "frames", "reproj. median", "p90", "jitter m/s2", "slide cm/s", "sunk 95% cm", "most cm")
    rows = [
        (
            one.name if one.way == BEFORE else "",
            one.way,
            str(one.frames),
            f"{one.median:.2%}",
            f"{one.p90:.2%}",
            f"{one.jitter:.2f}",
            f"{100 * one.sliding:.2f}",
            f"{100 * one.penetration:.2f}",
            f"{100 * one.deepest:.2f}",
            f"{one.standing:.0%}",
            f"{one.seconds:.3f}",
        )
        for one in scores
    ]
    return format_table((*head, "standing", "s/frame"), rows)
