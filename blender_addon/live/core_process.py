# SPDX-License-Identifier: GPL-3.0-or-later
"""The core as a child process: finding its program, starting it, hearing what it prints, ending all of it. Knows no bpy.

The child runs in a session of its own, so that whatever it starts ends with it, and with a pipe as its standard input, which closes
when Blender ends in whatever way: the core, started with --end-with-stdin, then ends by itself.
"""

import atexit
import json
import os
import shlex
import shutil
import signal
import subprocess
import threading
from collections import deque
from pathlib import Path

from ..contract.npz_file import FileError

PROGRAM_VARIABLE = "FULLBODY_CORE"
"""Environment variable that names the core's program where the preferences do not."""

_LAST_LINES = 12
_LONGEST_LINE = 1 << 16  # bytes
_LOG_LIMIT = 4 << 20  # bytes
_SEARCH_SECONDS = 60.0
_GRACE = 2.0  # s that the core has to end by itself
_ON_WINDOWS = os.name == "nt"
_OF_BLENDERS_OWN_PYTHON = ("PYTHONPATH", "PYTHONHOME", "PYTHONEXECUTABLE", "__PYVENV_LAUNCHER__")


class CoreError(FileError):
    """A core that cannot be started, or did not do what was asked. The message is one sentence for the user."""


def core_command(program=""):
    """The command that runs the core: a list of strings. Raises `CoreError`.

    program: the path of the `fullbody` program or of a Python that has it; empty for FULLBODY_CORE, else `fullbody` on the PATH.
    """
    program = program or os.environ.get(PROGRAM_VARIABLE, "")
    found = shutil.which(os.path.expanduser(program or "fullbody"))
    if found is None:
        what = f"There is no program {program}" if program else "The fullbody program was not found"
        raise CoreError(f"{what}: install fullbody-mocap, and choose its program in the add-on's preferences.")
    if Path(program).name.lower().startswith("python"):
        return [found, "-m", "fullbody_core.cli"]
    return [found]


def split_options(text):
    """Further options as a user types them, as a list. Raises `CoreError`."""
    try:
        return shlex.split(text, posix=not _ON_WINDOWS)
    except ValueError as error:
        raise CoreError(f"The core's further options in the preferences cannot be read: {text}") from error


class CoreProcess:
    """One run of the core. Reads what it prints in threads of its own; nothing here waits, unless it is asked to.

    ready: the JSON object it printed, as a dict, or None before that
    exit_code: None while it runs
    last_lines: the last it said on stderr; log_path: the file that holds all of it, up to 4 MB
    """

    def __init__(self, command, log_path):
        self.ready = self.exit_code = None
        self.log_path = Path(log_path)
        self._lines = deque(maxlen=_LAST_LINES)
        try:
            self._log = open(self.log_path, "wb")
        except OSError as error:
            raise CoreError(f"Cannot write {self.log_path}: {error.strerror}.") from error
        try:
            self._process = _start(command)
        except OSError as error:
            self._log.close()
            raise CoreError(f"Cannot start {command[0]}: {error.strerror}.") from error
        self._reaping, self._is_reaped = threading.Lock(), False
        self._readers = [self._thread(self._read_stdout), self._thread(self._read_stderr)]
        self._watcher = self._thread(self._watch)
        atexit.register(self.stop, wait=_GRACE)

    @property
    def pid(self):
        return self._process.pid

    @property
    def last_lines(self):
        return list(self._lines)

    def stop(self, wait=0.0):
        """Tells the core to end, and ends its whole tree if it does not within two seconds. Waits up to `wait` s for the end."""
        if self.exit_code is None:
            try:
                self._process.stdin.close()
            except OSError:
                pass  # it has ended, with something of ours unread
            self._thread(self._end_unless_ended)
        if wait:
            self.join(wait)
            self._end_tree()
            self.join(wait)

    def join(self, seconds):
        """Waits up to `seconds` for its end."""
        self._watcher.join(seconds)

    def _thread(self, work):
        thread = threading.Thread(target=work, name="fullbody core", daemon=True)
        thread.start()
        return thread

    def _end_unless_ended(self):
        self._watcher.join(_GRACE)
        self._end_tree()

    def _end_tree(self):
        with self._reaping:
            if not self._is_reaped:
                _end_tree(self._process)

    def _watch(self):
        if _ON_WINDOWS:
            self._process.wait()
        else:
            # Not reaped yet, so that its number, which is its group's, is nobody else's.
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
            self._end_tree()
        with self._reaping:
            code, self._is_reaped = self._process.wait(), True
        for reader in self._readers:
            reader.join(1.0)
        self._log.close()
        atexit.unregister(self.stop)
        self.exit_code = code

    def _read_stdout(self):
        for line in iter(lambda: self._process.stdout.readline(_LONGEST_LINE), b""):
            if self.ready is None and (values := _object(line)) is not None:
                self.ready = values

    def _read_stderr(self):
        written = 0
        for line in iter(lambda: self._process.stderr.readline(_LONGEST_LINE), b""):
            # A progress bar goes back to the start of its line; what was there last is what counts.
            text = line.decode("utf-8", "replace").rstrip().rsplit("\r", 1)[-1]
            if text:
                self._lines.append(text)
            try:
                if written < _LOG_LIMIT:
                    written += self._log.write(line)
                    self._log.flush()
            except (OSError, ValueError):
                written = _LOG_LIMIT  # a full disk, or the end: the last lines are still kept


class CameraSearch:
    """Asks the core which cameras there are. `cameras` is None until it has answered: [{"number", "name"}]; or `error` is set."""

    def __init__(self, command):
        self.cameras = self.error = None
        self._command = command
        threading.Thread(target=self._ask, name="fullbody cameras", daemon=True).start()

    @property
    def is_done(self):
        return self.cameras is not None or self.error is not None

    def _ask(self):
        try:
            process = _start([*self._command, "live", "--list-cameras"])
            try:
                output, complaint = process.communicate(timeout=_SEARCH_SECONDS)
            except subprocess.TimeoutExpired:
                _end_tree(process)
                raise
            self.cameras = _cameras(output)
            if self.cameras is None:
                lines = complaint.decode("utf-8", "replace").split("\n")
                self.error = next((line for line in reversed(lines) if line.strip()), "The core did not list the cameras.")
        except subprocess.TimeoutExpired:
            self.error = "The core did not list the cameras within a minute."
        except OSError as error:
            self.error = f"Cannot start {self._command[0]}: {error.strerror}."


def _cameras(output):
    for line in output.decode("utf-8", "replace").splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, list) and all(isinstance(item, dict) and isinstance(item.get("number"), int) for item in found):
            return [{"number": item["number"], "name": str(item.get("name") or "")} for item in found]
    return None


def _object(line):
    """The JSON object in a line, if it says where the core listens, else None."""
    try:
        values = json.loads(line)
    except ValueError:
        return None
    if not isinstance(values, dict):
        return None
    return values if isinstance(values.get("port"), int) and isinstance(values.get("token"), str) else None


def _start(command):
    environment = {name: value for name, value in os.environ.items() if name not in _OF_BLENDERS_OWN_PYTHON}
    environment |= {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
    own = {"creationflags": subprocess.CREATE_NO_WINDOW} if _ON_WINDOWS else {"start_new_session": True}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, **own)


def _end_tree(process):
    """Ends a process that nobody has waited for yet, and all that it started."""
    if _ON_WINDOWS:
        if process.poll() is None:
            kill = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
            subprocess.run(kill, capture_output=True, creationflags=subprocess.CREATE_NO_WINDOW)
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass  # all of it has ended; macOS refuses to signal a group of which only an ended leader is left
