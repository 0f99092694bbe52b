"""Finding and running Blender, with small programs in its place. The true Blender is run by tests/blender."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fullbody_core import blender_process
from fullbody_core.blender_process import Blender, BlenderError, BlenderWorker, find_blender, run_in_blender

posix_only = pytest.mark.skipif(os.name == "nt", reason="programs made of a shell script")
THIS_PYTHON = Blender(sys.executable, is_python=True)


@pytest.fixture
def stage(tmp_path):
    """Returns a function that puts `code` in the place of the add-on's build_scene and returns the staged folder."""

    def put(code):
        package = tmp_path / "staged" / "fullbody_mocap"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "build_scene.py").write_text("import json, os, subprocess, sys, time\n" + code)
        return package.parent

    return put


@pytest.fixture
def fake_blender(tmp_path):
    """A program that calls itself Blender and runs --python FILE -- ARGS with this Python."""
    path = tmp_path / "bin" / "blender"
    path.parent.mkdir()
    path.write_text(
        f"""#!/bin/sh
if [ "$1" = --version ]; then echo "Blender 4.5.0"; exit 0; fi
echo "$@" > "{tmp_path}/called"
while [ "$1" != --python ]; do shift; done
script=$2
shift 3
"{sys.executable}" "$script" "$@"
code=$?
echo "Blender quit"
exit $code
"""
    )
    path.chmod(0o755)
    return path


def no_module(monkeypatch):
    monkeypatch.setattr(blender_process.importlib.util, "find_spec", lambda name: None)


def test_module_comes_before_the_path(monkeypatch):
    monkeypatch.setattr(blender_process.importlib.util, "find_spec", lambda name: object() if name == "bpy" else None)
    assert find_blender() == THIS_PYTHON


@posix_only
def test_program_on_the_path(monkeypatch, fake_blender):
    no_module(monkeypatch)
    monkeypatch.setenv("PATH", str(fake_blender.parent), prepend=os.pathsep)
    assert find_blender() == Blender(str(fake_blender), is_python=False)


def test_no_blender(monkeypatch, tmp_path):
    no_module(monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BlenderError, match="There is no Blender here: install") as error:
        find_blender()
    assert "\n" not in str(error.value)


@posix_only
def test_explicit_program(fake_blender):
    assert find_blender(str(fake_blender)) == Blender(str(fake_blender), is_python=False)
    assert find_blender(fake_blender).executable == str(fake_blender)


def test_explicit_python():
    assert find_blender(sys.executable) == THIS_PYTHON


@posix_only
def test_explicit_app_folder(fake_blender, tmp_path):
    inside = tmp_path / "Blender.app" / "Contents" / "MacOS" / "Blender"
    inside.parent.mkdir(parents=True)
    inside.write_bytes(fake_blender.read_bytes())
    inside.chmod(0o755)
    assert find_blender(tmp_path / "Blender.app").executable == str(inside)


def test_explicit_mistakes(tmp_path):
    with pytest.raises(BlenderError, match="There is no program at"):
        find_blender(tmp_path / "missing")
    if os.name != "nt":
        with pytest.raises(BlenderError, match="is not Blender"):
            find_blender("/bin/sh")


ECHO = "print('noise'); print(json.dumps({'arguments': sys.argv[1:], 'folder': os.getcwd()})); print('more noise')"


def test_run_as_module(stage, tmp_path, monkeypatch):
    staged = stage(ECHO)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "json.py").write_text("raise SystemExit('the current folder was searched')")
    made = run_in_blender(staged, ["--clip", Path("a b.npz"), "--render-frame", 3], THIS_PYTHON)
    assert made == {"arguments": ["--clip", "a b.npz", "--render-frame", "3"], "folder": str(tmp_path)}


@posix_only
def test_run_as_program(stage, tmp_path, fake_blender):
    made = run_in_blender(stage(ECHO), ["--clip", "a b.npz"], find_blender(fake_blender))
    assert made["arguments"] == ["--clip", "a b.npz"]
    called = (tmp_path / "called").read_text()
    assert called.startswith("--background --factory-startup --python-exit-code 1 --python ")


@pytest.mark.parametrize(
    "code, message",
    [
        ("print('There is no clip at x.', file=sys.stderr); sys.exit(1)", "There is no clip at x."),
        ("raise ValueError('broken')", "Blender failed: ValueError: broken"),
        ("sys.exit(3)", "Blender failed with exit code 3."),
        ("import bpy_missing", "Blender failed: ModuleNotFoundError: No module named 'bpy_missing'"),
        ("raise ModuleNotFoundError(\"No module named 'bpy'\")", "That Python has no bpy: give the Blender program with"),
        ("print('{}'); sys.exit(1)", "Blender failed with exit code 1."),
    ],
)
def test_failures(stage, code, message):
    with pytest.raises(BlenderError) as error:
        run_in_blender(stage(code), [], THIS_PYTHON)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


@posix_only
def test_failure_of_a_program(stage, fake_blender):
    staged = stage("print('There is no clip at x.', file=sys.stderr); sys.exit(1)")
    with pytest.raises(BlenderError, match="There is no clip at x."):
        run_in_blender(staged, [], find_blender(fake_blender))


@posix_only
def test_crash(stage):
    with pytest.raises(BlenderError, match="ended by signal 11"):
        run_in_blender(stage("os.kill(os.getpid(), 11)"), [], THIS_PYTHON)


@pytest.mark.parametrize("code", ["print('nothing')", "print('{not json')"])
def test_success_without_a_word_is_a_failure(stage, code):
    with pytest.raises(BlenderError, match="without saying what it made") as error:
        run_in_blender(stage(code), [], THIS_PYTHON)
    assert "not" in error.value.output


@posix_only
def test_interruption_ends_the_whole_group(stage, tmp_path):
    """Blender, deaf to Ctrl-C, and a child of its own: neither is left."""
    staged = stage(
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(tmp_path / 'pids')!r}, 'w').write(f'{{os.getpid()}} {{child.pid}} ')\n"
        "time.sleep(60)\n"
    )
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from fullbody_core.blender_process import Blender, run_in_blender\n"
        f"run_in_blender({str(staged)!r}, [], Blender({sys.executable!r}, True))"
    )
    environment = dict(os.environ, PYTHONPATH=str(Path(blender_process.__file__).parents[1]))
    caller = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True)
    pids_file = tmp_path / "pids"
    wait_for(lambda: pids_file.exists() and pids_file.read_text().endswith(" "))
    caller.send_signal(signal.SIGINT)
    _, stderr = caller.communicate(timeout=20)
    assert "KeyboardInterrupt" in stderr and caller.returncode != 0
    for pid in map(int, pids_file.read_text().split()):
        wait_for(lambda pid=pid: not is_running(pid))


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A killed grandchild stays in the table until init takes notice.
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] == "Z")


def wait_for(condition, patience_s=15):
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


WORKER = """
print("Blender 5.0 says hello")
print(json.dumps({"pid": os.getpid()}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if "code" in request:
        exec(request["code"])
    print(json.dumps({"twice": 2 * request.get("number", 0)}), flush=True)
open(os.environ["GOODBYE"], "w").close()
"""


@pytest.fixture
def worker(stage, tmp_path, monkeypatch):
    monkeypatch.setenv("GOODBYE", str(tmp_path / "goodbye"))
    with BlenderWorker(stage(WORKER), "build_scene", THIS_PYTHON) as worker:
        yield worker


def test_a_worker_answers_one_request_after_another(worker, tmp_path):
    assert [worker.ask({"number": number}) for number in range(3)] == [{"twice": 2 * number} for number in range(3)]
    assert worker.ask({"code": "print('words in between'); print('{not json}')", "number": 4}) == {"twice": 8}
    assert is_running(worker.greeting["pid"]) and not (tmp_path / "goodbye").exists()
    worker.close()
    assert (tmp_path / "goodbye").exists() and not is_running(worker.greeting["pid"])
    with pytest.raises(BlenderError):
        worker.ask({"number": 1})


def test_a_worker_may_say_much_between_answers(worker):
    """More than a pipe holds, on both ways, must not block it; what is kept of it stays little."""
    much = "for stream in (sys.stdout, sys.stderr): stream.write(('x' * 99 + chr(10)) * 20_000)"
    assert worker.ask({"code": much, "number": 1}, limit=20) == {"twice": 2}


@posix_only
@pytest.mark.parametrize(
    "code, message",
    [
        ("print('along the way', file=sys.stderr); os.kill(os.getpid(), 11)", "Blender was ended by signal 11."),
        ("raise ValueError('broken')", "Blender failed: ValueError: broken"),
        ("os._exit(3)", "Blender failed with exit code 3."),
    ],
)
def test_a_worker_that_goes_down(worker, code, message):
    with pytest.raises(BlenderError) as error:
        worker.ask({"code": code})
    assert str(error.value) == message


def test_a_worker_that_takes_too_long_is_ended(worker):
    with pytest.raises(BlenderError, match="longer than 0.2 seconds"):
        worker.ask({"code": "time.sleep(60)"}, limit=0.2)
    wait_for(lambda: not is_running(worker.greeting["pid"]))


def test_a_worker_may_be_ended_by_another_thread(worker):
    threading.Timer(0.3, worker.end).start()
    with pytest.raises(BlenderError):
        worker.ask({"code": "time.sleep(60)"})
    assert not is_running(worker.greeting["pid"])


def test_a_worker_that_does_not_start(stage):
    with pytest.raises(BlenderError, match="That Python has no bpy"):
        BlenderWorker(stage("raise ModuleNotFoundError(\"No module named 'bpy'\")"), "build_scene", THIS_PYTHON)


@posix_only
def test_a_worker_in_a_program(stage, fake_blender, tmp_path, monkeypatch):
    monkeypatch.setenv("GOODBYE", str(tmp_path / "goodbye"))
    with BlenderWorker(stage(WORKER), "build_scene", find_blender(fake_blender)) as worker:
        assert worker.ask({"number": 3}) == {"twice": 6}
    assert (tmp_path / "goodbye").exists()
