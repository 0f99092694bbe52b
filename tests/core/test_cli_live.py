"""`fullbody live` as a program meets it: one line of JSON, a stream, an end within a second, and one sentence for wrong use."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from synthetic_stream import Viewer

from fullbody_core.cli import main
from fullbody_core.contract.skeleton import VALID_PARTS
from fullbody_core.contract.wire import BYE, FRAME, HEARTBEAT, PERSON, PROTOCOL, REQUEST, STATUS, WELCOME

COMMAND = [sys.executable, "-m", "fullbody_core.cli", "live"]


class Core:
    """A running `fullbody live`, with its one line read."""

    def __init__(self, *arguments, log):
        self._log = open(log, "w+")
        command = [*COMMAND, *map(str, arguments), "--end-with-stdin"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True)
        line = self.process.stdout.readline()
        assert line, self.log
        self.said = json.loads(line)

    @property
    def log(self):
        self._log.seek(0)
        return self._log.read()

    def viewer(self):
        return Viewer(self.said["port"], self.said["token"])

    def seconds_to_end(self):
        start = time.monotonic()
        self.process.wait(10)
        return time.monotonic() - start

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self._log.close()


def test_a_stream_from_its_first_line_to_its_end(demo_video, tmp_path):
    with Core("--video", demo_video, "--loop", "--smoothing", "0.25", log=tmp_path / "log") as core:
        said = core.said
        assert said["protocol"] == PROTOCOL and said["process"] == core.process.pid
        assert said["source"]["name"] == "demo.mp4" and all(len(sha256) == 64 for sha256 in said["models"].values())
        with core.viewer() as viewer, core.viewer() as other:
            stream = viewer.until(WELCOME)
            assert stream.beta_count == 16 and len(stream.expression_names) == 52
            assert stream.body["licence"] and {"body", "face", "pose_landmark_full.tflite"} < set(stream.models)
            viewer.say(REQUEST, {"smoothing": 0.75})
            frames, persons, statuses, end = [], [], [], time.monotonic() + 60
            # Revision 1 is the mean body in the person's place; the first guess of the body itself is the second.
            while not (
                len(frames) > 60 and persons and persons[-1].revision > 1 and statuses and statuses[-1]["smoothing"] == 0.75
            ):
                assert time.monotonic() < end, f"{len(frames)} frames, {len(persons)} persons, {statuses[-1:]}"
                kind, item = viewer.next()
                {FRAME: frames, PERSON: persons, STATUS: statuses}[kind].append(item)
                viewer.say(HEARTBEAT, {"shown": len(frames)})
            seen = np.mean([frame.valid for frame in frames[20:]], axis=0)
            assert seen[VALID_PARTS.index("body")] > 0.9
            assert all(b.timestamp > a.timestamp for a, b in zip(frames, frames[1:]))
            assert frames[-1].network > 0.005 and frames[-1].worked > 0 and 0 <= frames[-1].waited < 1
            assert persons[-1].revision > persons[0].revision and np.abs(persons[-1].betas).max() > 0
            assert {"state", "message", "progress", "fps", "dropped", "waited_ms", "network_ms", "worked_ms"} < set(
                statuses[-1]
            )
            assert isinstance(other.until(FRAME).sequence, int)
            core.process.stdin.close()
            assert core.seconds_to_end() < 1
            assert viewer.until(BYE)["reason"].endswith(".")
        assert core.process.returncode == 0
        assert core.process.stdout.read() == "", "the line of JSON is all there is"
        assert all(line.isprintable() for line in core.log.splitlines()) and "Traceback" not in core.log, core.log


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")
@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_it_within_a_second(demo_video, tmp_path, number, code):
    with Core("--video", demo_video, "--loop", "--face", "none", log=tmp_path / "log") as core, core.viewer() as viewer:
        viewer.until(FRAME)
        core.process.send_signal(number)
        assert core.seconds_to_end() < 1.2
        assert viewer.until(BYE)["reason"] == "The core was stopped."
        assert core.process.returncode == code, core.log
        assert core.log.splitlines()[-1] == "Stopped."


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="asks Linux whether a process is there")
def test_it_ends_with_a_parent_that_is_killed(demo_video, tmp_path):
    command = [*COMMAND, "--video", str(demo_video), "--face", "none", "--end-with-stdin"]
    program = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "print(child.stdout.readline().decode(), flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as parent:
        process = json.loads(parent.stdout.readline())["process"]
        parent.kill()
    end = time.monotonic() + 5
    while _is_running(process):
        assert time.monotonic() < end, "the core outlives its parent"
        time.sleep(0.05)


def _is_running(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_without_a_stdin_it_ends_while_models_load(demo_video):
    command = [*COMMAND, "--video", str(demo_video), "--end-with-stdin"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0 and done.stdout == ""


class TestWrongUse:
    def assert_refused(self, capsys, *arguments, says):
        code = main(["live", *map(str, arguments)])
        out, err = capsys.readouterr()
        message = [line for line in err.splitlines() if line.startswith("fullbody: ")]
        assert code == 2 and out == "" and len(message) == 1 and says in message[0], err

    def test_a_video_that_is_not_there(self, capsys, tmp_path):
        self.assert_refused(capsys, "--video", tmp_path / "missing.mp4", says="There is no video at")

    def test_a_file_that_is_no_video(self, capsys, tmp_path):
        (tmp_path / "text.mp4").write_text("no video")
        self.assert_refused(capsys, "--video", tmp_path / "text.mp4", says="is not a video")

    def test_a_camera_that_is_not_there(self, capsys):
        self.assert_refused(capsys, "--camera", 87, says="--list-cameras")

    def test_a_model_that_is_not_there(self, capsys, demo_video, tmp_path):
        self.assert_refused(capsys, "--video", demo_video, "--body", tmp_path / "body.npz", says="body.npz")

    def test_options_that_do_not_go_together(self, capsys, demo_video):
        self.assert_refused(capsys, "--loop", says="--video")
        self.assert_refused(capsys, "--video", demo_video, "--size", "640x480", says="--camera")
        self.assert_refused(capsys, "--video", demo_video, "--fps", "30", says="--camera")
        self.assert_refused(capsys, "--camera", -1, says="from 0")
        self.assert_refused(capsys, "--fps", "nan", says="--fps")

    @pytest.mark.parametrize("address", ["", "localhost:port", "localhost:0", "localhost:99999", "::1:5", "a b:5"])
    def test_addresses_that_are_none(self, capsys, demo_video, address):
        self.assert_refused(capsys, "--video", demo_video, "--vmc", address, says="HOST:PORT")

    @pytest.mark.parametrize(
        "arguments",
        [
            ("--size", "large"),
            ("--size", "0x480"),
            ("--smoothing", "2"),
            ("--smoothing", "nan"),
            ("--camera", "0", "--video", "x"),
        ],
    )
    def test_values_that_are_none(self, capsys, arguments):
        with pytest.raises(SystemExit) as end:
            main(["live", *arguments])
        assert end.value.code == 2


def test_cameras_are_listed_as_json(capsys):
    assert main(["live", "--list-cameras"]) == 0
    cameras = json.loads(capsys.readouterr().out)
    assert all(set(camera) == {"number", "name"} for camera in cameras)
