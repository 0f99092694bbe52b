"""Reaching a Blender from the command line: which one, one run of a program of the add-on's in it, and one that is kept running."""

import importlib.util
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from .addon_package import PACKAGE_NAME

_NOISE = re.compile(r"Blender quit|Error: Not freed memory blocks|Warning|Info|Read prefs|\{|\s*$")
_KEPT_LINES = 200
"""Of what a Blender that is kept running prints."""

_START_SECONDS = 120.0
_GOODBYE_SECONDS = 5.0

_TRACEBACK_END = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit|Warning)\b")


class BlenderError(RuntimeError):
    """No Blender, or one that failed. The message is one sentence for the user; `output` is all that Blender printed."""

    def __init__(self, message, output=""):
        super().__init__(message)
        self.output = output


@dataclass(frozen=True)
class Blender:
    """A way to run Python code with bpy: `executable` is a Python that can import bpy, or a Blender program."""

    executable: str
    is_python: bool


def find_blender(explicit=None):
    """The Blender to use: `explicit` (a program, a macOS .app, or a Python that has bpy), else the bpy module of this
    interpreter, else `blender` on the PATH. Raises `BlenderError`. Nothing is imported.
    """
    if explicit is not None:
        return _identify(explicit)
    if importlib.util.find_spec("bpy") is not None:
        return Blender(sys.executable, is_python=True)
    found = shutil.which("blender")
    if found is None:
        raise BlenderError(
            "There is no Blender here: install Blender 4.5 or newer and give its program with --blender, "
            "or on Python 3.11 run pip install 'fullbody-mocap[blender]'."
        )
    return _identify(found)


def run_in_blender(staged_folder, arguments, blender=None, program="build_scene"):
    """Runs a program of the add-on's with command-line `arguments` and returns the JSON object it prints, as a dict.

    staged_folder: the folder that `stage_addon` was given; blender: what `find_blender` found, or None to look for one;
    program: the add-on's module to run, such as build_scene or evaluate.watch_live.
    Shows nothing of what Blender prints; `BlenderError` carries it. Ctrl-C ends Blender and whatever it started.
    """
    command, environment = _how_to_run(blender, staged_folder, program, arguments)
    code, stdout, stderr = _run(command, environment)
    output = f"{stdout}\n{stderr}".strip()
    if code != 0:
        raise BlenderError(_failure_sentence(code, stdout, stderr), output)
    for line in reversed(stdout.splitlines()):
        if line.startswith("{"):
            try:
                return json.loads(line)
            except ValueError:
                break
    raise BlenderError("Blender ended without saying what it made: run it again, and report what it printed.", output)


class BlenderWorker:
    """A Blender that is kept running: a program of the add-on's that answers one JSON line after another.

    Its first line says what it is (`greeting`, a dict with at least its pid). Whoever asks waits for the answer; `end` may be
    called from another thread meanwhile. To be used as a context manager, or ended.
    """

    def __init__(self, staged_folder, program, blender=None):
        """Starts it and waits for its greeting. Raises `BlenderError`."""
        command, environment = _how_to_run(blender, staged_folder, program, ())
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self._process = _start(command, environment, pipes)
        self.greeting = None
        self._answers, self._printed = queue.SimpleQueue(), deque(maxlen=_KEPT_LINES)
        self._readers = [threading.Thread(target=reader, daemon=True) for reader in (self._read_answers, self._read_stderr)]
        for reader in self._readers:
            reader.start()
        try:
            self.greeting = self._next_answer(_START_SECONDS)
        except BaseException:
            self.end()
            raise

    def ask(self, request, limit=None):
        """The answer to a JSON object, as a dict. limit: s it may take.

        Raises `BlenderError` where Blender went down or took longer; it is ended then.
        """
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except (OSError, ValueError):
            pass  # it is gone, which the answer that does not come tells better
        try:
            return self._next_answer(limit)
        except BaseException:
            self.end()
            raise

    def close(self):
        """Lets it end by itself, which it does when nothing is asked any more."""
        try:
            self._process.stdin.close()
            self._process.wait(_GOODBYE_SECONDS)
        except (OSError, subprocess.TimeoutExpired):
            pass
        self.end()

    def end(self):
        """Ends it and whatever it started, at once."""
        if self._process.poll() is None:
            _end(self._process)
        try:
            self._process.stdin.close()
        except OSError:
            pass

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self.close() if kind is None else self.end()

    def _next_answer(self, limit):
        try:
            answer = self._answers.get(timeout=limit)
        except queue.Empty:
            raise BlenderError(f"Blender took longer than {limit:g} seconds and was stopped.", self._output()) from None
        if answer is not None:
            return answer
        code = self._process.wait()
        for reader in self._readers:
            reader.join(_GOODBYE_SECONDS)  # what it said last may still be on its way
        raise BlenderError(_failure_sentence(code, "", self._last_words(code)), self._output())

    def _last_words(self, code):
        """What it printed, if that says why it ended: what Blender and its importers print along the way does not."""
        lines = [line for line in self._printed if line.strip()]
        telling = self.greeting is None or (code > 0 and lines and _TRACEBACK_END.match(lines[-1]))
        return self._output() if telling else ""

    def _output(self):
        return "\n".join(tuple(self._printed))

    def _read_answers(self):
        with self._process.stdout as lines:
            for line in lines:
                try:
                    self._answers.put(dict(json.loads(line)))
                except (TypeError, ValueError):
                    self._printed.append(line.rstrip())  # Blender's own words, before the program takes the place over
        self._answers.put(None)

    def _read_stderr(self):
        with self._process.stderr as lines:
            self._printed.extend(line.rstrip() for line in lines)


def _how_to_run(blender, staged_folder, program, arguments):
    """The command that runs a program of the add-on's, and its environment."""
    blender = find_blender() if blender is None else blender
    staged_folder = Path(staged_folder).resolve()
    environment = dict(os.environ, PYTHONUNBUFFERED="1", PYTHONIOENCODING="utf-8")
    if blender.is_python:
        inherited = os.environ.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([str(staged_folder)] + [inherited] * bool(inherited))
    return _command(blender, staged_folder, program, [str(argument) for argument in arguments]), environment


def _command(blender, staged_folder, program, arguments):
    if blender.is_python:
        # -P keeps the current folder out of the module search, whatever lies in it.
        return [blender.executable, "-P", "-m", f"{PACKAGE_NAME}.{program}", *arguments]
    script = str(staged_folder / PACKAGE_NAME / f"{program.replace('.', '/')}.py")
    # Without --python-exit-code a script that fails ends with success.
    options = ["--background", "--factory-startup", "--python-exit-code", "1", "--python", script]
    return [blender.executable, *options, "--", *arguments]


def _identify(name):
    """Tells a Blender program from a Python by what it says of its version."""
    bundled = Path(name) / "Contents" / "MacOS" / "Blender"
    found = bundled if bundled.is_file() else shutil.which(name)
    if found is None:
        raise BlenderError(f"There is no program at {name}: give the Blender program itself with --blender.")
    executable = os.path.abspath(found)
    try:
        result = subprocess.run([executable, "--version"], capture_output=True, text=True, errors="replace", timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BlenderError(f"{name} does not start: give the Blender program itself with --blender.") from error
    if re.search(r"^Blender \d", result.stdout, re.MULTILINE):
        return Blender(executable, is_python=False)
    if result.stdout.startswith("Python 3"):
        return Blender(executable, is_python=True)
    raise BlenderError(f"{name} is not Blender: give the Blender program itself with --blender.")


def _run(command, environment):
    """Runs to the end and returns (exit code, stdout, stderr); on any way out nothing is left running."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = _start(command, environment, pipes)
    try:
        stdout, stderr = process.communicate()
    except BaseException:
        _end(process)
        raise
    return process.returncode, stdout, stderr


def _start(command, environment, pipes):
    # A group of its own, so that Ctrl-C reaches this process first and it ends the child with all its children.
    group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if os.name == "nt" else {"start_new_session": True}
    try:
        return subprocess.Popen(command, env=environment, text=True, encoding="utf-8", errors="replace", **pipes, **group)
    except OSError as error:
        raise BlenderError(f"{command[0]} does not start: {error.strerror}.") from error


def _end(process):
    if os.name == "nt":
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], capture_output=True)
        process.wait()
        return
    # First what Ctrl-C does, so that half-written files are removed; then whatever of the group is left.
    try:
        _signal_group(process, signal.SIGINT)
        process.wait(3)
    except subprocess.TimeoutExpired:
        pass
    finally:
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _signal_group(process, signal_number):
    try:
        os.killpg(process.pid, signal_number)
    except ProcessLookupError:
        pass


def _failure_sentence(code, stdout, stderr):
    telling = [[line.strip() for line in text.splitlines() if not _NOISE.match(line)] for text in (stderr, stdout)]
    lines = telling[0] or telling[1]
    if "No module named 'bpy'" in stderr:
        return "That Python has no bpy: give the Blender program with --blender, or install bpy into it."
    if not lines:
        return f"Blender was ended by signal {-code}." if code < 0 else f"Blender failed with exit code {code}."
    if code < 0:
        return f"Blender was ended by signal {-code} after saying: {lines[-1]}"
    return f"Blender failed: {lines[-1]}" if _TRACEBACK_END.match(lines[-1]) else lines[-1]
