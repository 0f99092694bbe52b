"""Captures onto rigged characters, many by many: the core's side of `fullbody retarget`.

Each pair of a clip and a character is a job. Blenders that are kept running take one job after another; each starts from a fresh
file, so that results do not depend on how many there are or on what ran before, and a Blender that goes down takes one job with it.
"""

import os
import queue
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .addon_package import stage_addon
from .blender_process import BlenderError, BlenderWorker, find_blender
from .body.load_body import load_body
from .contract.amass import is_amass, read_clip
from .contract.character import fitting
from .contract.npz_file import FileError, write_npz

FORMATS = {"blend": ".blend", "fbx": ".fbx", "glb": ".glb", "bvh": ".bvh", "usd": ".usd"}
"""What can be written, and how the files' names end."""

WORKER_MEMORY = 1.5 * 2**30
"""Bytes that a Blender with a character in it may take: what the number of workers goes by."""

_MOST_WORKERS = 4

_JOBS_OF_ONE_BLENDER = 50
"""After so many it makes place for a new one: each leaves some hundred kilobytes in it."""


class RetargetError(ValueError):
    """A batch that cannot be run as asked. The message is one sentence for the user."""


@dataclass(frozen=True)
class BatchSettings:
    """How a batch is run.

    formats: of `FORMATS`
    map_file: a role map for all characters, in place of what is found; face_map: likewise for expressions
    armature: name of the characters' armature object
    plant_feet: whether planted feet are kept in place; heading: "capture", or "character" to walk as it stands
    fps: frames per second of the results, None for each clip's own to a whole number
    workers: Blenders at a time, None for what fits the machine; time_limit: s for one job
    body: the body model, where it is not the one that the clip names; blender: see `find_blender`
    """

    formats: tuple = ("blend",)
    map_file: Path = None
    face_map: Path = None
    armature: str = None
    plant_feet: bool = True
    heading: str = "capture"
    fps: float = None
    workers: int = None
    time_limit: float = 600.0
    body: str = None
    blender: str = None

    def __post_init__(self):
        unknown = [name for name in self.formats if name not in FORMATS]
        if unknown or not self.formats:
            got = f"got {unknown[0]!r}" if unknown else "got none"
            raise RetargetError(f"The formats should be some of {', '.join(FORMATS)}, {got}.")
        for name, what in (("fps", "frames per second"), ("workers", "number of workers"), ("time_limit", "time limit")):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise RetargetError(f"The {what} should be above zero, got {value:g}.")


@dataclass(frozen=True)
class Job:
    """One clip onto one character. name: of the results without their endings; paths: {format: file}"""

    clip: Path
    character: Path
    name: str
    paths: dict


@dataclass(frozen=True)
class JobResult:
    """What came of a job: `error` is None, or one sentence for the user, and then no file of the job was written or changed.

    role_map: the map that was used, by name; notes: sentences for the user; seconds: of opening, retargeting and writing
    """

    job: Job
    error: str = None
    armature: str = ""
    role_map: str = ""
    frames: int = 0
    fps: float = 0.0
    notes: tuple = ()
    seconds: dict = field(default_factory=dict)

    @property
    def files(self):
        """{format: file written}."""
        return {} if self.error else self.job.paths


def run_batch(clips, characters, folder, settings=BatchSettings(), progress=lambda results, **_: results):
    """Retargets every clip to every character into `folder`. Returns a `JobResult` for each pair, clip by clip.

    clips: capture files or AMASS .npz files; characters: .blend, .fbx, .glb, .gltf or .vrm files; progress wraps the iterator
    over results, in the order in which they are finished (tqdm does). What fails, fails alone.
    Raises `RetargetError` or `BlenderError` where nothing can be run at all. Ctrl-C leaves whole files only.
    """
    jobs = plan_jobs(clips, characters, folder, settings.formats)
    blender = find_blender(settings.blender)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        stage_addon(scratch)
        sources, failed = prepare_sources([job.clip for job in jobs], scratch, settings)
        results = [JobResult(job, error=failed[job.clip]) for job in jobs if job.clip in failed]
        asked = [(job, _request(job, sources[job.clip], settings)) for job in jobs if job.clip in sources]
        count = min(settings.workers or default_workers(), max(1, len(asked)))
        with _Pool(scratch, blender, count, settings.time_limit) as pool:
            results += progress(pool.run(asked), total=len(asked))
    return sorted(results, key=lambda result: jobs.index(result.job))


def plan_jobs(clips, characters, folder, formats):
    """A `Job` for each pair, named after both; what would have one name is told apart by folders' names and then by numbers.

    What is given twice counts once. Raises `RetargetError` where a result would take the place of what was given.
    """
    clips, characters = ({Path(path).resolve(): Path(path) for path in paths} for paths in (clips, characters))
    clip_names, character_names = distinct_names(tuple(clips)), distinct_names(tuple(characters))
    jobs, taken = [], set()
    for clip in clips:
        for character in characters:
            name = _not_taken(f"{clip_names[clip]}_{character_names[character]}", taken)
            paths = {format: Path(folder) / f"{name}{FORMATS[format]}" for format in formats}
            for path in paths.values():
                if path.resolve() in clips.keys() | characters.keys():
                    raise RetargetError(
                        f"{path} would be written over, which is one of the files given: choose another folder."
                    )
            jobs.append(Job(clips[clip], characters[character], name, paths))
    return jobs


def distinct_names(paths):
    """{path: name} of files by their own names; what has the same has its folder's name before it, or its ending after it."""
    same = {}
    for path in paths:
        same.setdefault(path.stem.casefold(), []).append(path)
    names, taken = {}, set()
    for group in same.values():
        prefixes = _telling_ends({path.parent for path in group})
        for path in group:
            alone = sum(other.parent == path.parent for other in group) == 1
            words = [*prefixes[path.parent], path.stem] + [path.suffix.removeprefix(".")] * (not alone)
            names[path] = "_".join(words)
    return {path: _not_taken(names[path], taken) for path in paths}


def _telling_ends(folders):
    """{folder: its last parts}, as many as tell the folders apart; none where there is only one."""
    most = max(len(folder.parts) for folder in folders)
    for count in range(most + 1):
        ends = {folder: folder.parts[len(folder.parts) - count :] if count else () for folder in folders}
        if len({"/".join(parts).casefold() for parts in ends.values()}) == len(folders):
            break
    return {folder: [part.strip("/\\:") for part in parts if part.strip("/\\:")] for folder, parts in ends.items()}


def _not_taken(name, taken):
    """The name, or with a number where it is taken; file systems may not tell upper case from lower."""
    number, free = 2, name
    while free.casefold() in taken:
        free, number = f"{name}_{number}", number + 1
    taken.add(free.casefold())
    return free


def renamed(jobs):
    """Sentences on jobs whose results bear other names than the clip's and the character's own."""
    odd = [job for job in jobs if job.name != f"{job.clip.stem}_{job.character.stem}"]
    return [f"{job.clip} on {job.character} is called {job.name}, as others have the same names." for job in odd]


def prepare_sources(clips, scratch, settings):
    """Files with what Blender needs of each clip, {clip: (capture, body's rest)}, and {clip: sentence} of what cannot be read."""
    sources, failed = {}, {}
    for number, path in enumerate(dict.fromkeys(clips)):
        try:
            clip = read_clip(path)
            rest_joints, sole = body_rest(clip, settings.body)
        except FileError as error:
            failed[path] = str(error)
            continue
        body = scratch / f"{number}_body.npz"
        write_npz(body, {"rest_joints": rest_joints, "sole": np.array(sole)})
        capture = path
        if is_amass(clip):
            capture = scratch / f"{number}_clip.npz"
            clip.save(capture)
        sources[path] = capture, body
    return sources, failed


def body_rest(clip, body=None):
    """The rest joints [52, 3] m of the person of a clip, and the height m of the soles, in the rest frame.

    body: a body model in place of the one that the clip names. An AMASS file names none: it goes onto the open body's mean shape,
    since its betas are another model's, unless `body` says which. Raises `FileError`.
    """
    name = body or clip.meta.get("settings", {}).get("body", "open")
    model = load_body(name)
    betas = fitting(clip.betas if body or not is_amass(clip) else (), model.shapedirs.shape[-1])
    vertices = model.v_template[:, 1] + model.shapedirs[:, 1] @ betas
    return model.rest_joints + model.joint_shapedirs @ betas, float(vertices.min())


def default_workers():
    """Blenders at a time: one for each core, as many as half of the memory holds, a few at most."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        memory = 4 * WORKER_MEMORY
    fitting_count = min(os.cpu_count() or 1, int(memory / 2 / WORKER_MEMORY), _MOST_WORKERS)
    return max(1, fitting_count)


def _request(job, source, settings):
    clip, body = (str(path.resolve()) for path in source)
    return {
        "clip": clip,
        "clip_name": job.clip.stem,
        "body": body,
        "character": str(job.character.resolve()),
        "armature": settings.armature,
        "map": settings.map_file and str(Path(settings.map_file).resolve()),
        "face_map": settings.face_map and str(Path(settings.face_map).resolve()),
        "settings": {"plant_feet": settings.plant_feet, "heading": settings.heading},
        "fps": settings.fps,
        "name": job.name,
        "paths": {format: str(path.resolve()) for format, path in job.paths.items()},
    }


class _Pool:
    """Blenders that work off jobs, each in a thread of its own that waits for it. A context manager: none is left in the end."""

    def __init__(self, staged_folder, blender, count, time_limit):
        self._how = staged_folder, "retarget_files", blender
        self._count, self._limit = count, time_limit
        self._todo, self._done = queue.SimpleQueue(), queue.SimpleQueue()
        self._workers, self._threads, self._lock, self._stopped = {}, [], threading.Lock(), False

    def run(self, asked):
        """Yields the `JobResult` of each (job, request) as it is finished."""
        for pair in asked:
            self._todo.put(pair)
        if asked:
            # The first is started here: where it does not start, no other will.
            self._workers[0] = self._start()
        for number in range(self._count if asked else 0):
            self._todo.put(None)
            self._threads.append(threading.Thread(target=self._work, args=(number,), daemon=True))
            self._threads[-1].start()
        for _ in asked:
            yield self._next()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        with self._lock:
            self._stopped = True
            workers = list(self._workers.values())
        for worker in workers:
            worker.close() if kind is None else worker.end()
        for thread in self._threads:
            thread.join()

    def _start(self):
        try:
            return BlenderWorker(*self._how)
        except BlenderError:
            return BlenderWorker(*self._how)  # whatever ended it may not happen twice

    def _next(self):
        while True:
            try:
                return self._done.get(timeout=0.5)  # without an end to the waiting, Windows would not hear of Ctrl-C
            except queue.Empty:
                pass

    def _work(self, number):
        for done, (job, request) in enumerate(iter(self._todo.get, None), 1):
            if self._stopped:
                return
            self._done.put(self._do(number, job, request))
            if done % _JOBS_OF_ONE_BLENDER == 0 and number in self._workers:
                self._workers.pop(number).close()

    def _do(self, number, job, request):
        try:
            worker = self._worker(number)
        except BlenderError as error:
            return JobResult(job, error=str(error))
        try:
            made = worker.ask(request, self._limit)
        except BlenderError as error:
            self._workers.pop(number)
            _remove_parts(job, worker.greeting["pid"])
            return JobResult(job, error=str(error))
        if "error" in made:
            return JobResult(job, error=made["error"])
        return JobResult(job, **dict(made, notes=tuple(made["notes"])))

    def _worker(self, number):
        if number not in self._workers:
            worker = self._start()
            with self._lock:
                self._workers[number] = worker
                stopped = self._stopped
            if stopped:
                worker.end()
        return self._workers[number]


def _remove_parts(job, pid):
    """Removes what a Blender that went down in the middle of writing has left (see the add-on's `whole_files`)."""
    for path in job.paths.values():
        path.resolve().with_name(f".{path.stem}.{pid}.part{path.suffix}").unlink(missing_ok=True)
