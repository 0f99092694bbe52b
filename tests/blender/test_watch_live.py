# SPDX-License-Identifier: GPL-3.0-or-later
"""The program that measures the live link, in a Blender of its own, against a true server in the test."""

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from live_scene import frames_of, make_person, on_cores_side, person_of, send, stream_of, template_of_live

from fullbody_core.live.server import LiveServer

FRAMERATE = 50


@contextmanager
def moving_person(template, last_frame=None):
    """A `LiveServer` that sends a person's frames, each with 5 ms of waiting, 20 of networks and 1 of the rest to its name."""
    clip = make_person(template)
    server, ended = LiveServer(on_cores_side(stream_of(template)), log=lambda line: None), threading.Event()

    def play():
        for number in range(last_frame or 10**6):
            if ended.wait(1 / FRAMERATE):
                return
            frame = frames[number % len(frames)]
            times = {"timestamp": number / FRAMERATE, "arrived": time.monotonic() - 0.026}
            send(server, replace(frame, sequence=number, waited=0.005, network=0.020, worked=0.001, **times))
        server.close("That was all.")

    frames = frames_of(clip)
    player = threading.Thread(target=play)
    with server:
        send(server, person_of(clip))
        player.start()
        yield server
        ended.set()
        player.join()


@pytest.fixture
def watch(tmp_path, staged):
    """Returns a function that runs the program on a server: (what it printed, what it measured), or its failure."""
    template_of_live().save(tmp_path / "character.npz")

    def run(server, *options, token=None, as_file=False):
        (tmp_path / "core.json").write_text(json.dumps({"port": server.port, "token": token or server.token}))
        head = (
            [str(staged / "evaluate" / "watch_live.py"), "--"] if as_file else ["-m", "fullbody_mocap.evaluate.watch_live"]
        )
        files = ["--connection", "core.json", "--template", "character.npz", "--out", "frames.npz"]
        environment = {**os.environ, "PYTHONPATH": "" if as_file else str(staged.parent)}
        environment["BLENDER_USER_RESOURCES"] = str(tmp_path / "user")
        command = [sys.executable, *head, *files, *options]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        if done.returncode:
            return done
        with np.load(tmp_path / "frames.npz") as measured:
            return json.loads(done.stdout.strip().splitlines()[-1]), dict(measured)

    return run


@pytest.mark.parametrize("as_file", [False, True])
def test_measures_every_frame_that_it_shows(watch, as_file):
    with moving_person(template_of_live()) as server:
        made, measured = watch(server, "--seconds", "2", as_file=as_file)
    assert made["errors"] == [] and made["playback"] is None
    count = len(measured["sequence"])
    assert 10 < count <= made["received"] and np.all(np.diff(measured["sequence"]) > 0)
    # The next frame may have come while one was shown: then it is counted with both.
    assert np.all(np.diff(measured["received"]) >= 0) and np.all(measured["received"] >= np.arange(1, count + 1))
    np.testing.assert_allclose(measured["network"], 0.020)
    total = measured["shown"] - measured["arrived"]
    assert np.all(total > 0.026) and 0.026 + np.median(measured["writing"]) < np.median(total) < 0.2
    assert np.all(measured["writing"] > 0) and np.all(measured["evaluating"] > 0)


def test_a_take_plays_what_was_shown(watch, tmp_path):
    with moving_person(template_of_live()) as server:
        made, _ = watch(server, "--seconds", "3", "--record")
    assert made["errors"] == [] and 0 <= made["playback"] < 1e-3
    assert not list((tmp_path / "user").rglob("*.fbtake")), "the journal is gone once the take is finished"


def test_a_core_that_ends_early_is_an_error(watch):
    with moving_person(template_of_live(), last_frame=100) as server:
        made, measured = watch(server, "--seconds", "30")
    assert made["errors"] == ["That was all."] and len(measured["sequence"]) > 0


def test_a_core_that_sends_nothing_is_one_sentence(watch):
    with moving_person(template_of_live()) as server:
        done = watch(server, "--seconds", "1", token="0" * 32)
    assert done.returncode == 1 and "The token is wrong" in done.stderr and "Traceback" not in done.stderr
