# SPDX-License-Identifier: GPL-3.0-or-later
"""The core as a child process, with real children that do what a core may do, good and bad."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fullbody_mocap.live.core_process import (
    PROGRAM_VARIABLE,
    CameraSearch,
    CoreError,
    CoreProcess,
    core_command,
    split_options,
)
from live_scene import wait_until

READY = 'print(json.dumps({"port": 1234, "token": "secret", "process": os.getpid()}), flush=True)\n'
HEAD = "import json, os, subprocess, sys, time\n"
UNTIL_STDIN_ENDS = "sys.stdin.buffer.read()\n"
FOR_EVER = "while True: time.sleep(1)\n"
WITH_A_CHILD = (
    'child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])\n'
    'print(f"child {child.pid}", file=sys.stderr, flush=True)\n'
)


@pytest.fixture
def start(tmp_path):
    started = []

    def start(code):
        process = CoreProcess([sys.executable, "-c", HEAD + code], tmp_path / "core.log")
        started.append(process)
        return process

    yield start
    for process in started:
        process.stop(wait=5.0)
        assert process.exit_code is not None


def is_alive(number):
    """Whether a process runs; one that has ended and was not waited for by whoever adopted it does not."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{number}/stat")
    return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def child_of(process):
    wait_until(lambda: any(line.startswith("child ") for line in process.last_lines))
    return int(next(line for line in process.last_lines if line.startswith("child ")).split()[1])


def test_ready_line_and_what_it_says(start, tmp_path):
    process = start(
        'print("loading", file=sys.stderr, flush=True)\nprint("[1]")\nprint("noise")\n' + READY + UNTIL_STDIN_ENDS
    )
    wait_until(lambda: process.ready is not None and process.last_lines)
    assert (process.ready["port"], process.ready["token"]) == (1234, "secret")
    assert process.last_lines == ["loading"] and process.exit_code is None
    assert (tmp_path / "core.log").read_text() == "loading\n"


def test_stop_lets_it_end_by_itself_without_waiting(start):
    process = start(READY + UNTIL_STDIN_ENDS + "print('bye', file=sys.stderr)\nsys.exit(3)\n")
    wait_until(lambda: process.ready is not None)
    began = time.monotonic()
    process.stop()
    assert time.monotonic() - began < 0.1
    wait_until(lambda: process.exit_code is not None)
    assert process.exit_code == 3 and process.last_lines == ["bye"]
    process.stop()  # the second time does nothing


def test_stop_ends_the_whole_tree_of_one_that_does_not(start):
    process = start("import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + WITH_A_CHILD + FOR_EVER)
    child = child_of(process)
    process.stop()
    wait_until(lambda: process.exit_code is not None, 10)
    assert process.exit_code == -signal.SIGKILL
    wait_until(lambda: not is_alive(child))


def test_crash_leaves_no_children_and_its_last_words(start):
    process = start(
        WITH_A_CHILD
        + "for n in range(40): print(f'line {n}', file=sys.stderr)\nprint('child', child.pid, file=sys.stderr)\n1 / 0\n"
    )
    wait_until(lambda: process.exit_code is not None)
    assert process.exit_code == 1 and process.last_lines[-1] == "ZeroDivisionError: division by zero"
    assert len(process.last_lines) == 12 and len(process.log_path.read_text().splitlines()) > 40
    child = next(int(line.split()[1]) for line in process.last_lines if line.startswith("child "))
    wait_until(lambda: not is_alive(child))


def test_kill_of_blender_ends_the_core(tmp_path):
    """A process in Blender's place starts one and is killed: the pipe closes, and the core, which watches it, ends."""
    package = Path(sys.modules["fullbody_mocap"].__file__).parent.parent
    core = HEAD + READY + UNTIL_STDIN_ENDS
    parent = f"""if True:
        import sys, time
        import fullbody_mocap.live.core_process as core_process
        process = core_process.CoreProcess([sys.executable, "-c", {core!r}], {str(tmp_path / "log")!r})
        while process.ready is None: time.sleep(0.01)
        print(process.pid, flush=True)
        time.sleep(60)
    """
    environment = {**os.environ, "PYTHONPATH": str(package)}
    blender = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True, env=environment)
    with blender:
        core_number = int(blender.stdout.readline())
        was_alive = is_alive(core_number)
        blender.kill()
    assert was_alive
    wait_until(lambda: not is_alive(core_number))


def test_child_does_not_inherit_blenders_python(start, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/blenders/own")
    monkeypatch.setenv("PYTHONHOME", sys.prefix)
    process = start('print(sorted(n for n in os.environ if n in ("PYTHONPATH", "PYTHONHOME")), file=sys.stderr)\n')
    wait_until(lambda: process.exit_code is not None)
    assert process.last_lines == ["[]"]


def test_progress_bars_and_broken_text_do_no_harm(start):
    process = start(r"sys.stderr.buffer.write(b'10 %\r50 %\r100 %\n\xff\xfe end\n'); sys.stderr.flush()" + "\n")
    wait_until(lambda: process.exit_code is not None)
    assert process.last_lines[0] == "100 %" and process.last_lines[1].endswith("end")


def test_log_is_bounded(start):
    process = start("for _ in range(400): print('x' * 60_000, file=sys.stderr)\nprint('last', file=sys.stderr)\n")
    wait_until(lambda: process.exit_code is not None, 20)
    assert process.last_lines[-1] == "last" and process.log_path.stat().st_size < 5 << 20


def test_programs_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.delenv(PROGRAM_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CoreError, match="was not found.*preferences"):
        core_command()
    with pytest.raises(CoreError, match="no program /nowhere/fullbody"):
        core_command("/nowhere/fullbody")
    with pytest.raises(CoreError, match="Cannot start"):
        CoreProcess([str(tmp_path)], tmp_path / "log")
    with pytest.raises(CoreError, match="Cannot write"):
        CoreProcess([sys.executable], tmp_path / "nowhere" / "log")


def test_which_program_runs(tmp_path, monkeypatch):
    for name in ("fullbody", "other"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(PROGRAM_VARIABLE, raising=False)
    assert core_command() == [str(tmp_path / "fullbody")]
    monkeypatch.setenv(PROGRAM_VARIABLE, str(tmp_path / "other"))
    assert core_command() == [str(tmp_path / "other")]
    assert core_command(sys.executable) == [sys.executable, "-m", "fullbody_core.cli"]
    assert split_options("--body 'my body' --face none") == ["--body", "my body", "--face", "none"]
    with pytest.raises(CoreError, match="cannot be read"):
        split_options("--body 'open")


def search_with(code):
    # The options come after the code, where Python hands them to it.
    search = CameraSearch([sys.executable, "-c", HEAD + code])
    wait_until(lambda: search.is_done)
    return search


def test_camera_search():
    cameras = [{"number": 0, "name": "Built-in"}, {"number": 2, "name": ""}]
    search = search_with(f"assert sys.argv[1:] == ['live', '--list-cameras']\nprint({json.dumps(cameras)!r})\n")
    assert search.cameras == cameras and search.error is None
    assert search_with("print('[]')").cameras == []
    assert search_with("sys.exit('There is no cv2.')").error == "There is no cv2."
    assert search_with("print('{}')").error == "The core did not list the cameras."
