"""What is made of a live run's measurements, with times that are known."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fullbody_core.evaluate.live_link import (
    LiveLinkError,
    format_link_figures,
    link_figures,
    resident_memory,
    running_core,
)


def measured(seconds=100.0, rate=20.0, skipped=0.0, missed=0):
    """A steady run: every stage takes as many ms as its place in the list.

    skipped: share of further pictures that the core did not get to; every `missed`th frame came to Blender and was not shown.
    """
    arrived = np.arange(0, seconds, 1 / rate)
    if missed:
        arrived = arrived[np.arange(len(arrived)) % missed != 0]
    received = np.rint(arrived * rate).astype(np.int64)
    sequence = np.rint(received * (1 + skipped)).astype(np.int64)
    stages = dict(zip(("waited", "network", "worked", "writing", "evaluating"), 0.001 * np.arange(1, 6)))
    times = {name: np.full(len(arrived), value) for name, value in stages.items()}
    whole = sum(stages.values()) - stages["evaluating"] + 0.006
    memory = np.stack([np.arange(0, seconds), 100 + 0.5 * np.arange(0, seconds)], -1)
    counts = {"sequence": sequence, "received": received, "person": np.ones(len(arrived), int)}
    return dict(times, arrived=arrived, shown=arrived + whole, memory=memory, **counts)


def test_stages_add_up_to_the_whole():
    figures = link_figures(measured())
    np.testing.assert_allclose(figures.total, 16)
    np.testing.assert_allclose(figures.beyond, 13)
    np.testing.assert_allclose(figures.link, 6)
    parts = (figures.waited, figures.network, figures.worked, figures.link, figures.writing)
    np.testing.assert_allclose(sum(parts), figures.total)


def test_warm_up_is_left_out():
    slow = measured()
    slow["shown"][slow["arrived"] < 15] += 0.5
    assert link_figures(slow).total.max() == pytest.approx(16)
    slow["shown"][slow["arrived"] > 50] += 0.5
    assert link_figures(slow).total.max() == pytest.approx(516)


def test_every_picture_is_accounted_for():
    figures = link_figures(measured(skipped=0.5, missed=4))
    assert figures.pictures == pytest.approx(80 * 30, abs=6)
    assert figures.received == pytest.approx(80 * 20, abs=4) and figures.shown == pytest.approx(80 * 15, abs=4)


def test_memory_at_both_ends_after_the_warm_up():
    start, end, most = link_figures(measured()).blender_memory
    assert start == pytest.approx(100 + 0.5 * 24.5, abs=1) and end == pytest.approx(100 + 0.5 * 95.5, abs=1)
    assert most == pytest.approx(100 + 0.5 * 99, abs=1)
    assert link_figures(measured()).core_memory is None


def test_a_run_without_frames_says_why():
    with pytest.raises(LiveLinkError, match="showed 0 frames.*broke off"):
        link_figures({name: values[:0] for name, values in measured().items()}, errors=["The link broke off."])


def test_a_core_that_does_not_start_says_why(tmp_path):
    with pytest.raises(LiveLinkError, match="does not start: .*no video"):
        with running_core(["--video", tmp_path / "none.mp4"], tmp_path / "core.log"):
            pass


def test_the_table_shows_figures_and_errors():
    table = format_link_figures(link_figures(measured(), errors=["Something went wrong."], playback=0.0004))
    assert "16.0 / 16.0 / 16.0" in table and "0.400" in table and table.endswith("Something went wrong.")
    assert "not told by this system" in table


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_memory_is_the_processes_own():
    own = resident_memory(Path(f"/proc/{os.getpid()}/status"))
    code = "import sys; taken = bytearray(200 << 20); print(flush=True); sys.stdin.read()"
    large = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    large.stdout.readline()
    assert 200 < resident_memory(Path(f"/proc/{large.pid}/status")) < 300 and own > 20
    large.communicate()
    assert resident_memory(Path(f"/proc/{large.pid}/status")) is None
