"""The live stream: pictures in, poses out, every stage in a thread of its own.

    source ── newest picture ──> detector ── newest keypoints ──> solver ──> server, and whoever else receives

A stage that is not done when the next item comes gets the newest one when it is, so that nothing is ever older than it has to be.
"""

import threading
import time
from dataclasses import dataclass

import numpy as np

from ..contract.wire import Frame
from ..detect.keypoints import Keypoints
from .newest import Newest
from .sources import Picture, SourceError

STATUS_SECONDS = 1.0
_LOOK_SECONDS = 0.1
_JOIN_SECONDS = 0.7

HANG_SECONDS = 20.0
"""A source that neither gives a picture nor fails for so long hangs in its driver."""


class StreamFailure(RuntimeError):
    """A stage that broke. The message is one sentence; the cause says more."""


@dataclass(frozen=True)
class _Seen:
    """What the detector passes on: how long the picture waited for it and how long it took, s."""

    picture: Picture
    keypoints: Keypoints
    waited: float
    network: float


class LiveStream:
    """Runs a source through a detector and a solver to a server until something ends it.

    receivers: functions of each (`Frame`, `Person`) sent, beside the server's viewers; they may not wait
    say: is called with each status that the viewers get
    """

    def __init__(self, source, detector, solver, server, receivers=(), say=lambda status: None):
        self._source, self._detector, self._solver, self._server = source, detector, solver, server
        self._receivers, self._say = receivers, say
        self._pictures, self._seen = Newest(), Newest()
        self._stop, self._ended = threading.Event(), threading.Event()
        self._failure, self._reason = None, None
        self._captured = 0
        self._meter = _Meter()
        self._is_waiting = False
        stages = (self._capture, self._detect, self._solve)
        self._threads = [
            threading.Thread(target=self._run, args=(stage,), name=stage.__name__, daemon=True) for stage in stages
        ]
        server.on_request = self._take_request

    @property
    def is_over(self):
        """Whether all of its threads have ended."""
        return not any(thread.is_alive() for thread in self._threads)

    def serve(self):
        """Returns when the source has ended or `stop` was called. Raises `SourceError` or `VideoError` where the source is
        gone, and `StreamFailure` for a stage that broke. Viewers hear the reason in each case, Ctrl-C included."""
        try:
            self._server.send_person(self._solver.person)
            for thread in self._threads:
                thread.start()
            self._watch()
            if self._failure is not None:
                raise self._failure
        except KeyboardInterrupt:
            self.stop("The core was stopped.")
            raise
        except BaseException as error:
            self._failure = error
            self.stop(str(error) if isinstance(error, (ValueError, StreamFailure)) else f"The core has failed: {error!r}")
            raise
        finally:
            self._close()

    def stop(self, reason="The core was stopped."):
        """Ends the stream. May be called from any thread."""
        self._reason = self._reason or reason
        self._stop.set()
        self._ended.set()

    def _close(self):
        self._stop.set()
        self._pictures.close()
        self._seen.close()
        self._server.close(self._reason or "The source has ended.", failed=self._failure is not None)
        end = time.monotonic() + _JOIN_SECONDS
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, end - time.monotonic()))

    def _run(self, stage):
        try:
            stage()
        except BaseException as error:
            if self._failure is None and not self._stop.is_set():
                self._failure = error if isinstance(error, ValueError) and stage == self._capture else _broken(stage, error)
            self._ended.set()

    def _capture(self):
        """The source's thread."""
        if self._source.is_rehearsal and not self._receivers:
            self._wait_for_a_viewer()
        for picture in self._source.pictures(self._stop):
            self._captured = picture.sequence + 1
            self._pictures.put(picture)
        self._pictures.close()

    def _wait_for_a_viewer(self):
        """Nothing of a rehearsal is lost before there is somebody to see it."""
        self._is_waiting = True
        while not self._server.viewers and not self._stop.wait(0.02):
            pass
        self._is_waiting = False

    def _detect(self):
        """The detector's thread."""
        while (picture := self._pictures.take()) is not None:
            taken = time.monotonic()
            keypoints = self._detector.detect(picture.image)
            self._seen.put(_Seen(picture, keypoints, taken - picture.arrived, time.monotonic() - taken))
        self._seen.close()

    def _solve(self):
        """The solver's thread."""
        revision = self._solver.person.revision
        while (seen := self._seen.take()) is not None:
            if self._stop.is_set():
                return
            solved = self._solver.solve(seen.keypoints, seen.picture.image, seen.picture.timestamp)
            person = self._solver.person
            if person.revision != revision:
                revision = person.revision
                self._server.send_person(person)
            self._send(seen, solved, person)
        self._ended.set()

    def _send(self, seen, solved, person):
        picture, network = seen.picture, seen.network + solved.network
        worked = time.monotonic() - picture.arrived - seen.waited - network
        frame = Frame(
            sequence=picture.sequence,
            person=person.revision,
            dropped=self._dropped(),
            valid=solved.valid,
            poses=solved.poses,
            trans=solved.trans,
            expression=solved.expression,
            timestamp=picture.timestamp,
            arrived=picture.arrived,
            waited=seen.waited,
            network=network,
            worked=worked,
        )
        self._server.send_frame(frame)
        for receive in self._receivers:
            receive(frame, person)
        self._meter.add(seen.waited, network, worked)

    def _dropped(self):
        return self._pictures.dropped + self._seen.dropped

    def _take_request(self, request):
        """A viewer's wish, in the server's thread."""
        if "smoothing" in request:
            self._solver.smoothing = request["smoothing"]
        if request.get("calibrate"):
            self._solver.calibrate()

    def _watch(self):
        """Tells the viewers once a second, and at changes, how it goes, until the stream ends."""
        told, last, silent = None, -np.inf, 0.0
        while not self._ended.wait(_LOOK_SECONDS):
            # Counted in looks: of a process that was halted for a while, the clock says nothing about the source.
            silent = silent + _LOOK_SECONDS if self._source.message else 0.0
            if silent > HANG_SECONDS:
                raise SourceError(f"{self._source.description['name']} hangs: plug it in anew, then start the link again.")
            if not self._server.is_serving:
                raise StreamFailure("The server has failed, so nobody can be told anything.")
            now = time.monotonic()
            if self._what_changes() == told and now - last < STATUS_SECONDS:
                continue
            if now - last >= STATUS_SECONDS:
                self._meter.measure(now, self._captured)
                last = now
            told, status = self._what_changes(), self._status()
            self._server.send_status(status)
            self._say(status)

    def _what_changes(self):
        return (
            self._solver.state,
            self._solver.message,
            bool(self._source.message),
            self._is_waiting,
            len(self._server.viewers),
        )

    def _status(self):
        meter = self._meter
        place = "waiting" if self._is_waiting else "silent" if self._source.message else "running"
        return {
            "state": self._solver.state,
            "message": self._source.message or self._solver.message or _waiting_message(self._is_waiting),
            "progress": float(self._solver.progress),
            "smoothing": float(self._solver.smoothing),
            "captured_fps": meter.captured,
            "fps": meter.solved,
            "dropped": self._dropped(),
            "waited_ms": meter.waited,
            "network_ms": meter.network,
            "worked_ms": meter.worked,
            "viewers": len(self._server.viewers),
            "source": {"state": place, "message": self._source.message},
        }


class _Meter:
    """What the last second was like: pictures and poses a second, and the medians of where a frame's time went, ms."""

    def __init__(self):
        self.captured = self.solved = self.waited = self.network = self.worked = 0.0
        self._lock, self._times = threading.Lock(), []
        self._last = None

    def add(self, *parts):
        """A frame's parts (waited, network, worked), s."""
        with self._lock:
            self._times.append(parts)

    def measure(self, now, captured):
        """captured: how many pictures there were so far."""
        with self._lock:
            times, self._times = self._times, []
        since, before = self._last or (now - STATUS_SECONDS, 0)
        self._last = now, captured
        seconds = now - since
        self.captured, self.solved = round((captured - before) / seconds, 1), round(len(times) / seconds, 1)
        medians = np.median(times, axis=0) if times else np.zeros(3)
        self.waited, self.network, self.worked = (round(1e3 * float(value), 2) for value in medians)


def _waiting_message(is_waiting):
    return "The video starts with its first viewer." if is_waiting else ""


def _broken(stage, error):
    what = {"_capture": "source", "_detect": "detector", "_solve": "solver"}[stage.__name__]
    failure = StreamFailure(f"The {what} has failed: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure
