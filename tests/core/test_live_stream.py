"""The stages of a live stream beside each other: the newest passes, what breaks ends all of it, and viewers hear why.

The stages here are as slow, or as broken, as a test wants them; the whole of it with real ones is in test_cli_live.py.
"""

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from synthetic_stream import Viewer, make_person, make_stream

from fullbody_core.contract.wire import BYE, ERROR, FRAME, PERSON, REQUEST, STATUS, WELCOME
from fullbody_core.live import stream as stream_module
from fullbody_core.live.server import LiveServer
from fullbody_core.live.sources import Picture, SourceError
from fullbody_core.live.stream import LiveStream, StreamFailure

STREAM = make_stream()


class Source:
    """Pictures of nothing at a steady rate."""

    def __init__(self, rate=100.0, count=None, error=None, is_rehearsal=False, hangs=False):
        self.rate, self.count, self.error, self.is_rehearsal, self.hangs = rate, count, error, is_rehearsal, hangs
        self.message, self.description = "", {"name": "Camera 0"}
        self.started = None

    def pictures(self, stop):
        sequence, self.started = 0, time.monotonic()
        while self.count is None or sequence < self.count:
            if stop.wait(max(0.0, self.started + sequence / self.rate - time.monotonic())):
                return
            yield Picture(sequence, sequence / self.rate, time.monotonic(), np.zeros((4, 4, 3), np.uint8))
            sequence += 1
        if self.error is not None:
            raise self.error
        if self.hangs:
            self.message = "The camera does not answer."
            time.sleep(20)


class Detector:
    """Finds the number of its call after so many seconds."""

    def __init__(self, seconds=0.0, fails_at=None):
        self.seconds, self.fails_at, self.calls = seconds, fails_at, 0

    def detect(self, image):
        time.sleep(self.seconds)
        self.calls += 1
        if self.calls == self.fails_at:
            raise ZeroDivisionError("the detector divides by zero")
        return self.calls


class Solver:
    """A pose that says whose it is; the person changes with every `changes`th frame."""

    def __init__(self, seconds=0.0, fails_at=None, changes=None):
        self.seconds, self.fails_at, self.changes, self.calls = seconds, fails_at, changes, 0
        self.person, self.state, self.progress, self.message, self.smoothing = (
            make_person(STREAM, 1),
            "running",
            1.0,
            "",
            0.5,
        )
        self.asked = 0

    def solve(self, keypoints, image, timestamp):
        time.sleep(self.seconds)
        self.calls += 1
        if self.calls == self.fails_at:
            raise FloatingPointError("the solver diverges")
        if self.changes and self.calls % self.changes == 0:
            self.person = make_person(STREAM, self.person.revision + 1)
        pose = np.full(156, float(self.person.revision))
        return SimpleNamespace(poses=pose, trans=np.zeros(3), expression=np.zeros(3), valid=np.ones(4, bool), network=0.0)

    def calibrate(self):
        self.asked += 1


@pytest.fixture
def run():
    """Starts a stream of these stages; gives it, its server and a function that waits for its end and gives its error."""
    running = []

    def start(source, detector=None, solver=None, **options):
        server = LiveServer(STREAM, log=lambda line: None)
        server.start()
        stream = LiveStream(source, detector or Detector(), solver or Solver(), server, **options)
        outcome = []

        def serve():
            try:
                outcome.append(stream.serve())
            except BaseException as error:
                outcome.append(error)

        thread = threading.Thread(target=serve)
        thread.start()
        running.append((stream, thread))

        def end(timeout=10):
            thread.join(timeout)
            assert not thread.is_alive(), "the stream does not end"
            return outcome[0]

        return stream, server, end

    yield start
    for stream, thread in running:
        stream.stop()
        thread.join(10)


def frames(viewer, count):
    return [viewer.until(FRAME) for _ in range(count)]


class TestFlow:
    def test_with_quick_stages_nothing_is_dropped(self, run):
        _, server, end = run(Source(rate=40, count=40, is_rehearsal=True))
        with Viewer(server.port, server.token) as viewer:
            items = viewer.rest()
            got = [item for kind, item in items if kind == FRAME]
            assert len(got) + got[-1].dropped == 40 and got[-1].dropped < 10, "a few, on a machine that is busy elsewhere"
            assert [frame.timestamp * 40 for frame in got] == pytest.approx([frame.sequence for frame in got])
            assert items[-1] == (BYE, {"reason": "The source has ended."})
        assert end() is None

    def test_with_a_slow_detector_frames_stay_new(self, run):
        stream, server, _ = run(Source(rate=200), Detector(0.05))
        with Viewer(server.port, server.token) as viewer:
            got = frames(viewer, 20)
            ages = [frame.waited for frame in got]
            assert np.median(ages) < 0.02, "the detector takes the newest picture, which came a moment ago"
            assert 0.045 < np.median([frame.network for frame in got]) < 0.09
            assert np.median(np.diff([frame.sequence for frame in got])) >= 8
            lost = got[-1].sequence - got[0].sequence - 19
            assert lost - 2 <= got[-1].dropped - got[0].dropped <= lost + 2

    def test_with_a_slow_solver_the_detector_goes_on(self, run):
        detector = Detector(0.01)
        stream, server, _ = run(Source(rate=200), detector, Solver(0.06))
        with Viewer(server.port, server.token) as viewer:
            got = frames(viewer, 15)
            assert detector.calls > 30, "it does not wait for the solver"
            assert np.median([frame.worked for frame in got]) < 0.06 + 0.03
            assert np.median([frame.network for frame in got]) < 0.03

    def test_the_stages_overlap(self, run):
        _, server, _ = run(Source(rate=200), Detector(0.03), Solver(0.03))
        with Viewer(server.port, server.token) as viewer:
            frames(viewer, 3)
            start = time.monotonic()
            frames(viewer, 20)
            assert time.monotonic() - start < 20 * 0.045, "one after the other they would take 0.06 s a frame"

    def test_times_add_up(self, run):
        _, server, _ = run(Source(rate=50), Detector(0.01), Solver(0.005))
        with Viewer(server.port, server.token) as viewer:
            for _ in range(20):
                frame = viewer.until(FRAME)
                age = time.monotonic() - frame.arrived
                assert 0.015 < frame.waited + frame.network + frame.worked < age

    def test_a_person_comes_before_their_frames(self, run):
        _, server, _ = run(Source(rate=200, is_rehearsal=True), solver=Solver(changes=5))
        with Viewer(server.port, server.token) as viewer:
            persons = 0
            while persons < 8:
                kind, item = viewer.next()  # a frame of somebody unknown raises in here
                persons += kind == PERSON
                if kind == FRAME:
                    assert item.poses[0] == item.person

    def test_a_rehearsal_waits_for_its_first_viewer(self, run):
        source = Source(is_rehearsal=True)
        _, server, _ = run(source)
        time.sleep(0.4)
        assert source.started is None
        with Viewer(server.port, server.token) as viewer:
            assert viewer.until(STATUS)["source"]["state"] == "waiting"
            assert frames(viewer, 1)[0].sequence == 0

    def test_receivers_get_every_frame_with_its_person(self, run):
        got = []
        _, server, end = run(
            Source(rate=100, count=30, is_rehearsal=True),
            solver=Solver(changes=7),
            receivers=[lambda frame, person: got.append((frame.sequence, frame.person == person.revision))],
        )
        assert end() is None
        assert len(got) >= 15 and all(right for _, right in got), "it does not wait for a viewer where others receive"


class TestTelling:
    def test_the_status_says_how_it_goes(self, run):
        said = []
        _, server, _ = run(Source(rate=100), Detector(0.02), Solver(0.004), say=said.append)
        with Viewer(server.port, server.token) as viewer:
            frames(viewer, 100)
            status = viewer.until(STATUS)
            while status["fps"] == 0 or status["captured_fps"] < 60:
                status = viewer.until(STATUS)
            assert 60 <= status["captured_fps"] < 150 and 10 < status["fps"] < 60
            assert 20 <= status["network_ms"] < 60 and 4 <= status["worked_ms"] < 60 and 0 <= status["waited_ms"] < 30
            assert status["dropped"] > 50 and status["viewers"] == 1 and status["state"] == "running"
            assert status["source"] == {"state": "running", "message": ""} and status["smoothing"] == 0.5
            assert status in said

    def test_changes_are_told_at_once(self, run):
        solver = Solver()
        _, server, _ = run(Source(rate=50), solver=solver)
        with Viewer(server.port, server.token) as viewer:
            while viewer.until(STATUS)["viewers"] == 0:
                pass
            solver.state = "calibrating"
            start = time.monotonic()
            while viewer.until(STATUS)["state"] != "calibrating":
                pass
            assert time.monotonic() - start < 0.5

    def test_requests_reach_the_solver(self, run):
        solver = Solver()
        _, server, _ = run(Source(), solver=solver)
        with Viewer(server.port, server.token) as viewer:
            viewer.say(REQUEST, {"calibrate": True, "smoothing": 0.9})
            while viewer.until(STATUS)["smoothing"] != 0.9:
                pass
            assert solver.asked == 1


class TestEnding:
    def test_by_a_stop(self, run):
        stream, server, end = run(Source(), Detector(0.02))
        with Viewer(server.port, server.token) as viewer:
            frames(viewer, 3)
            start = time.monotonic()
            stream.stop("Enough.")
            assert viewer.until(BYE)["reason"] == "Enough."
        assert end() is None
        assert time.monotonic() - start < 1 and stream.is_over

    def test_by_the_end_of_the_source_after_its_last_frame(self, run):
        _, server, end = run(Source(rate=100, count=10, is_rehearsal=True), Detector(0.03), Solver(0.03))
        with Viewer(server.port, server.token) as viewer:
            sequences = [item.sequence for kind, item in viewer.rest() if kind == FRAME]
        assert sequences[-1] == 9
        assert end() is None

    def test_by_a_source_that_is_gone(self, run):
        _, server, end = run(Source(count=10, error=SourceError("Camera 0 does not answer any more."), is_rehearsal=True))
        with Viewer(server.port, server.token) as viewer:
            assert viewer.rest()[-1] == (ERROR, {"message": "Camera 0 does not answer any more."})
        assert isinstance(end(), SourceError)

    def test_by_a_source_that_hangs_in_its_driver(self, run, monkeypatch):
        monkeypatch.setattr(stream_module, "HANG_SECONDS", 0.5)
        stream, server, end = run(Source(count=5, hangs=True, is_rehearsal=True))
        with Viewer(server.port, server.token) as viewer:
            kind, item = viewer.rest()[-1]
            assert kind == ERROR and "hangs" in item["message"]
        assert isinstance(end(), SourceError)
        assert not stream.is_over, "its thread cannot be ended, and the program knows"

    @pytest.mark.parametrize(
        "stages, part, cause",
        [
            ({"detector": Detector(fails_at=5)}, "detector", ZeroDivisionError),
            ({"solver": Solver(fails_at=5)}, "solver", FloatingPointError),
        ],
    )
    def test_by_a_stage_that_breaks(self, run, stages, part, cause):
        stream, server, end = run(Source(is_rehearsal=True), **stages)
        with Viewer(server.port, server.token) as viewer:
            kind, item = viewer.rest()[-1]
            assert kind == ERROR and "failed" in item["message"]
        error = end()
        assert isinstance(error, StreamFailure) and isinstance(error.__cause__, cause) and part in str(error)
        assert stream.is_over

    def test_by_a_source_that_breaks(self, run):
        _, _, end = run(Source(count=3, error=KeyError("a surprise")))
        assert isinstance(end(), StreamFailure)

    def test_a_viewer_is_welcome_throughout(self, run):
        _, server, _ = run(Source(rate=200))
        for _ in range(20):
            with Viewer(server.port, server.token) as viewer:
                assert viewer.until(WELCOME) == STREAM
                frames(viewer, 2)
