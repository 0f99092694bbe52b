"""How fast and how steady the live link is: a true core that captures a video, and a true Blender that shows it, each in a
process of its own, and what they measure of every frame.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..addon_package import stage_addon
from ..blender_process import run_in_blender
from ..body.lbs import to_character_template
from ..body.load_body import load_body
from ..contract.full_body import full_body_template
from ..contract.npz_file import check_arrays, read_npz
from ..face.load_face import load_face
from ..full_body.bridges import recipe_for
from ..table import format_table

START_SECONDS = 180.0
"""How long a core may take until it serves. The first one ever bakes its models."""

END_SECONDS = 10.0
"""How long a core may take to end by itself when its starter closes the connection to it."""

WARM_UP_SECONDS = 20.0
"""What is left out of all figures at the start, or a fifth of a shorter run: the first guess of the person, and full caches."""

_SCHEMA = {
    "sequence": ("i", ("N",)),
    "person": ("i", ("N",)),
    "received": ("i", ("N",)),
    "arrived": ("f", ("N",)),
    "shown": ("f", ("N",)),
    "waited": ("f", ("N",)),
    "network": ("f", ("N",)),
    "worked": ("f", ("N",)),
    "writing": ("f", ("N",)),
    "evaluating": ("f", ("N",)),
    "memory": ("f", ("M", 2)),
}
"""What `watch_live` writes of the frames that it showed, and of its memory: (s, MiB), all on the machine's monotonic clock."""


class LiveLinkError(RuntimeError):
    """A run that could not be measured. The message is one sentence for the user."""


@dataclass(frozen=True)
class LinkFigures:
    """What is measured of a run, after its warm-up.

    seconds; pictures: of the source in that time; received: frames of them that came to Blender; shown: those that it set
    total, beyond: ms from a picture's arrival to its pose set in Blender, and the same without the networks and the wait for
        them [shown]
    waited, network, worked: ms of it in the core, and link: between the core's sending and Blender's taking it up [shown]
    writing, evaluating: ms in Blender to set a frame, and to evaluate the character for it [shown]
    core_memory, blender_memory: MiB at the start, at the end and at most; None where the system does not tell
    errors: sentences; playback: m, largest distance of a joint of the recorded take from what was shown, None without --record
    """

    seconds: float
    pictures: int
    received: int
    shown: int
    total: np.ndarray
    waited: np.ndarray
    network: np.ndarray
    worked: np.ndarray
    link: np.ndarray
    writing: np.ndarray
    evaluating: np.ndarray
    core_memory: tuple | None
    blender_memory: tuple | None
    errors: tuple
    playback: float | None

    @property
    def beyond(self):
        return self.total - self.network - self.waited


def bench_live(video, seconds=30.0, blender=None, record=False, body="open", face="open"):
    """`LinkFigures` of a looping video that is captured live and shown in Blender for `seconds`.

    blender: what `find_blender` found, or None to look for one; record: also record a take and compare its playback.
    Raises `LiveLinkError`, and `BlenderError` for a Blender that fails.
    """
    template = _character_template(body, face, blender)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)  # only this user may look into it, so the token may lie there
        stage_addon(folder)
        template.save(folder / "character.npz")
        options = ["--video", video, "--loop", "--body", body, "--face", face]
        with running_core(options, folder / "core.log") as core, _MemoryWatch(core.process.pid) as memory:
            (folder / "connection.json").write_text(json.dumps({"port": core.port, "token": core.token}))
            arguments = ["--connection", folder / "connection.json", "--template", folder / "character.npz"]
            arguments += ["--seconds", seconds, "--out", folder / "frames.npz"] + ["--record"] * record
            made = run_in_blender(folder, arguments, blender, program="evaluate.watch_live")
            code = core.process.poll()
        errors = list(made["errors"])
        if code is not None:
            errors.append(f"The core ended by itself with exit code {code}: {core.last_line()}")
        elif core.process.returncode != 0:
            errors.append(f"The core ended with exit code {core.process.returncode}: {core.last_line()}")
        errors += core.failures()
        measured = read_npz(folder / "frames.npz", "file of measured frames")
        check_arrays(measured, _SCHEMA, "file of measured frames")
    return link_figures(measured, np.array(memory.samples), errors, made["playback"])


def link_figures(measured, core_memory=(), errors=(), playback=None):
    """`LinkFigures` of what `watch_live` measured (arrays by name) and of the core's memory [M, 2] (s, MiB).

    Raises `LiveLinkError` where hardly a frame was shown.
    """
    shown = measured["shown"]
    start = shown[0] + min(WARM_UP_SECONDS, (shown[-1] - shown[0]) / 5) if len(shown) else 0.0
    kept = shown >= start
    if kept.sum() < 2:
        raise LiveLinkError(f"Blender showed {len(shown)} frames, too few to measure: {' '.join(errors) or 'run longer.'}")
    frames = {name: values[kept] for name, values in measured.items() if name != "memory"}
    milliseconds = {name: 1000 * frames[name] for name in ("waited", "network", "worked", "writing", "evaluating")}
    total = 1000 * (frames["shown"] - frames["arrived"])
    count = {name: int(frames[name][-1] - frames[name][0]) for name in ("sequence", "received")}
    return LinkFigures(
        seconds=float(frames["shown"][-1] - frames["shown"][0]),
        pictures=count["sequence"],
        received=count["received"],
        shown=len(total) - 1,  # the first one is where counting starts
        total=total,
        link=total - sum(milliseconds[name] for name in ("waited", "network", "worked", "writing")),
        core_memory=_course(core_memory, start),
        blender_memory=_course(measured["memory"], start),
        errors=tuple(errors),
        playback=playback,
        **milliseconds,
    )


def format_link_figures(figures):
    """The figures as a table for the terminal."""

    def spread(values):
        return f"{np.median(values):.1f} / {np.percentile(values, 99):.1f} / {values.max():.1f}"

    def growth(memory):
        return (
            "not told by this system"
            if memory is None
            else f"{memory[0]:.0f} / {memory[1]:.0f} / {memory[1] - memory[0]:+.1f} / {memory[2]:.0f}"
        )

    rate = (figures.pictures / figures.seconds, figures.shown / figures.seconds)
    rows = [
        ("measured, s", f"{figures.seconds:.1f}"),
        ("pictures a second, of the source / shown", f"{rate[0]:.1f} / {rate[1]:.1f}"),
        ("pictures that the core did not get to", f"{figures.pictures - figures.received} of {figures.pictures}"),
        ("frames that a newer one replaced in Blender", f"{max(0, figures.received - figures.shown)} of {figures.received}"),
        ("", "median / p99 / largest"),
        ("from a picture's arrival to the pose, ms", spread(figures.total)),
        ("the same beyond the networks, ms", spread(figures.total - figures.network)),
        ("the same beyond them and the wait for them, ms", spread(figures.beyond)),
        ("waiting for the detector, ms", spread(figures.waited)),
        ("networks, ms", spread(figures.network)),
        ("all else in the core, ms", spread(figures.worked)),
        ("link and waiting for Blender, ms", spread(figures.link)),
        ("setting the pose in Blender, ms", spread(figures.writing)),
        ("evaluating the character, ms", spread(figures.evaluating)),
        ("setting and evaluating, ms", spread(figures.writing + figures.evaluating)),
        ("", "start / end / growth / most"),
        ("memory of the core, MiB", growth(figures.core_memory)),
        ("memory of Blender, MiB", growth(figures.blender_memory)),
        ("errors", str(len(figures.errors))),
    ]
    if figures.playback is not None:
        rows.append(("recorded take off what was shown, largest mm", f"{1000 * figures.playback:.3f}"))
    return "\n".join([format_table(("live link", ""), rows), *figures.errors])


class RunningCore:
    """A `fullbody live` in a process of its own. Made by `running_core`."""

    def __init__(self, process, log):
        self.process, self._log = process, log
        self.greeting, self.port, self.token = self._read_greeting()

    def last_line(self):
        """The last line that it wrote to its log."""
        return next((line for line in reversed(self._lines()) if line.strip()), "it said nothing.")

    def failures(self):
        """The lines of its log in which a failure was reported that it should have had none of."""
        return [line for line in self._lines() if line.startswith("Traceback") or "failed" in line]

    def _lines(self):
        return [line.strip() for line in self._log.read_text(errors="replace").splitlines()]

    def _read_greeting(self):
        line = []
        reader = threading.Thread(target=lambda: line.append(self.process.stdout.readline()), daemon=True)
        reader.start()
        reader.join(START_SECONDS)
        try:
            greeting = json.loads(line[0])
            return greeting, greeting["port"], greeting["token"]
        except (LookupError, TypeError, ValueError) as error:
            raise LiveLinkError(f"The core does not start: {self.last_line()}") from error


@contextmanager
def running_core(options, log):
    """A `RunningCore` with `fullbody live`'s options, that ends with the block; log: file for what it says.

    Raises `LiveLinkError` for one that does not start.
    """
    command = [sys.executable, "-m", "fullbody_core.cli", "live", "--end-with-stdin", *map(str, options)]
    with open(log, "wb") as stderr:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": stderr}
        process = subprocess.Popen(command, text=True, **pipes)
    try:
        yield RunningCore(process, Path(log))
    finally:
        process.stdin.close()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


class _MemoryWatch:
    """`samples` [(s, MiB)] of a process's memory, once a second while the block runs; none where the system does not tell."""

    def __init__(self, pid):
        self._status = Path(f"/proc/{pid}/status")
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.samples = []

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()

    def _watch(self):
        while not self._done.wait(1.0):
            memory = resident_memory(self._status)
            if memory is None:
                return
            self.samples.append((time.monotonic(), memory))


def resident_memory(status):
    """MiB that a process has in memory, of its /proc/.../status; None where there is none."""
    try:
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS:"))
    except (OSError, StopIteration):
        return None
    return int(line.split()[1]) / 1024


def _course(samples, start):
    """Medians of memory [M, 2] over the first and the last tenth of what was sampled after `start` s, and the largest; or None."""
    samples = np.reshape(samples, (-1, 2))
    values = samples[samples[:, 0] >= start, 1]
    if len(values) < 2:
        return None
    tenth = max(1, len(values) // 10)
    return float(np.median(values[:tenth])), float(np.median(values[-tenth:])), float(values.max())


def _character_template(body, face, blender):
    body_file = load_body(body)
    template, model = to_character_template(body_file), load_face(face)
    return full_body_template(template, model, recipe_for(body_file, model, blender))
