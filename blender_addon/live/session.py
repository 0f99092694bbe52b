# SPDX-License-Identifier: GPL-3.0-or-later
"""The live session: what lies between a running core and the character that follows it.

Blender's data is touched in `drain` and in what operators call, all in the main thread; the link's and the core's threads only fill
in plain Python values. The session keeps no reference into Blender's data from one tick to the next.
"""

import time
import traceback
from collections import deque

import bpy
import numpy as np
from bpy.app.handlers import persistent

from ..contract.npz_file import FileError
from ..importer import same_body
from ..keyframes import Timing, scene_fps
from .core_process import CoreProcess
from .link import Link
from .storage import log_path, takes_folder
from .take import LONGEST_SECONDS, Recording, make_take
from .target import Found, NotNow, TargetGone

_BUSY, _CALM, _IDLE = 0.002, 0.02, 0.1
"""Seconds to the next tick: while frames come, while none do, while the core loads. With windows Blender comes by every 5 ms."""

_READOUTS = 0.25  # s between updates of the panel
_RECENT = 150  # frames that the panel's latencies are of
_LAST_WORDS = 2.0  # s that a core whose link broke off may take to say why it ended
_BAD_INPUT = 2  # the core's exit code after one sentence on stderr
_TAKE = "Take "

_session = None
_search = None
_last_take = None


class Latencies:
    """Seconds from a picture's arrival in the core to its pose being set, of the last frames: `total` and `beyond` what its
    detector took."""

    def __init__(self):
        self.total, self.beyond = deque(maxlen=_RECENT), deque(maxlen=_RECENT)

    def add(self, frame, now):
        """Counts a frame whose pose is set `now`."""
        total = now - frame.arrived
        self.total.append(total)
        self.beyond.append(total - frame.waited - frame.network)


class Session:
    """One live capture, from Start to its end.

    target: what follows (see `target`); its scene's settings are the ones that count
    state: one sentence for the panel; problem: whether it is one; notes: what the target could not take on
    recording: the running `Recording`, or None; take: one sentence on what became of the last one, or None
    shown, fps, latencies: frames shown, how many a second, and the `Latencies` of the last few
    """

    def __init__(self, target, scene, process=None, link=None):
        self.target, self._scene = target, Found(scene, "scenes")
        self.process, self.link = process, link
        self.state, self.problem, self.notes, self.is_over = "Starting the core ...", False, [], False
        self.recording, self.take = None, None
        self.latencies = Latencies()
        self.shown, self.fps, self.frame, self._shown_at = 0, 0.0, None, 0.0
        self._revision = self._stream = self._smoothing = None
        self._first_frame, self._ask_again_at = 1, 0.0
        self._next_readout = self._counted = self._counted_at = 0.0
        self._broke_off_at = None

    # What the panel reads.

    @property
    def is_live(self):
        """Whether the core is there and sends."""
        return not self.is_over and self._stream is not None and not self.link.closed

    @property
    def last_lines(self):
        """What the core said last on stderr."""
        return self.process.last_lines if self.process else []

    def latency(self):
        """Medians (total, beyond) s of the last frames, or None."""
        latencies = self.latencies
        return (np.median(latencies.total), np.median(latencies.beyond)) if latencies.total else None

    def settings(self):
        """The `FullbodyLiveSettings` that count, or None where their scene was removed."""
        scene = self._scene.find()
        return scene.fullbody_live if scene else None

    # What operators do.

    def calibrate(self):
        self.link.request({"calibrate": True})

    def start_recording(self):
        self._first_frame = (self._scene.find() or bpy.context.scene).frame_current
        recording = Recording(takes_folder())
        self.link.record(recording)
        self.recording = recording
        self.take = None

    def finish_recording(self):
        """Makes the take an action of the target. Returns its name. Raises `FileError` or `TargetGone`; nothing is lost then."""
        global _last_take
        recording, self.recording = self.recording, None
        self.link.record(None)
        try:
            try:
                stream, items = recording.items()
            except FileError:
                recording.discard_journal()
                raise
            take = make_take(stream, items, self.target.template, same_body(stream.models, self.target.template))
            scene = self._scene.find() or bpy.context.scene
            name = next_take_name(scene.fullbody_live)
            _last_take = name, take.clip
            key_take(take, self.target, scene, self._first_frame, name)
            recording.discard_journal()
        finally:
            recording.close()
        self.take = f"{name}: {take.clip.frame_count} frames, {take.clip.duration:.1f} s"
        return name

    def end(self, sentence, problem=False):
        """Ends everything: a running take is finished, the core told to stop. Does nothing the second time."""
        if self.is_over:
            return
        self.is_over, self.state, self.problem = True, sentence, problem
        if self.recording is not None:
            self._finish_at_once()
        if self.link is not None:
            self.link.close()
        if self.process is not None:
            self.process.stop()
        try:
            self.target.show_animation()
        except TargetGone:
            pass
        except Exception:  # whatever it is, the rest has ended
            traceback.print_exc()
        self.target.let_go()

    def forget(self):
        """To be called after undo and redo: the target may be as it was long ago, or gone."""
        self._revision = None
        self.target.forget()

    def show_again(self):
        """Shows the last frame again, after the scene has gone to another one and put its own poses there."""
        if self.frame is not None and self.is_live:
            self.target.forget()
            self.target.show(self.frame)

    # What the timer does.

    def tick(self):
        """One step of everything. Returns the seconds to the next one; None at the end."""
        if self.link is None and not self._connect():
            return None if self.is_over else _IDLE
        is_busy = self._follow()
        if self.link.closed:
            self._say_farewell()
        now = time.monotonic()
        if now >= self._next_readout:
            self._next_readout = now + _READOUTS
            self._look_after(now)
        if self.is_over:
            redraw_panels()
            return None
        return _BUSY if is_busy else _CALM if self._stream is not None else _IDLE

    def _connect(self):
        """Links to the core once it listens. Returns whether that is so."""
        process = self.process
        if process.exit_code is not None:
            self.end(_complaint(process), problem=True)
            redraw_panels()
        elif process.ready is not None:
            settings = self.settings()
            self.link = Link(process.ready["port"], process.ready["token"], mirror=bool(settings and settings.mirror))
            return True
        else:
            lines = process.last_lines
            self._say(f"Starting: {lines[-1]}" if lines else "Starting the core ...")
        return False

    def _follow(self):
        """Shows what is new. Returns whether frames come."""
        link = self.link
        if self._stream is None and link.stream is not None:
            self._stream = link.stream
            self.target.connect(link.stream)
        now = time.monotonic()
        if link.person is not None and link.person.revision != self._revision and now >= self._ask_again_at:
            self._introduce(link.person, now)
        frame = link.newest()
        if frame is None or bpy.app.is_job_running("RENDER"):  # a render must show what is keyed
            return now - self._shown_at < 1.0
        self.target.show(frame)
        self._shown_at = now = time.monotonic()
        link.shown += 1
        self.shown, self.frame = self.shown + 1, frame
        self.latencies.add(frame, now)
        return True

    def _introduce(self, person, now):
        try:
            self.notes = self.target.introduce(person)
            self._revision = person.revision
        except NotNow as reason:
            self.notes, self._ask_again_at = [str(reason)], now + _READOUTS

    def _say_farewell(self):
        """The link has ended: keeps a running take at once, and says why as soon as that is known."""
        link, now = self.link, time.monotonic()
        if self.recording is not None:
            self._finish_at_once()
        if link.error is None:
            self.end(link.farewell or "The core has ended.")
            return
        self._broke_off_at = self._broke_off_at or now
        ended = self.process is not None and self.process.exit_code is not None
        if ended and "broke off" in link.error:
            self.end(f"The core ended unexpectedly (exit code {self.process.exit_code}).", problem=True)
        elif ended or self.process is None or now - self._broke_off_at > _LAST_WORDS:
            self.end(link.error, problem=True)

    def _finish_at_once(self):
        """Finishes the take where no operator does, so with an undo step of its own. Never raises: more than this has to end."""
        try:
            name = self.finish_recording()
            if bpy.ops.ed.undo_push.poll():
                bpy.ops.ed.undo_push(message=name)
        except FileError as error:
            self.take = str(error)
        except TargetGone as error:
            self.take = f"{error} Recover Take puts what was recorded on another character."
        except Exception as error:
            traceback.print_exc()
            self.take = f"The take could not be finished; Recover Take tries again: {type(error).__name__}: {error}."

    def _look_after(self, now):
        settings = self.settings()
        if settings is None:
            self.end("The scene that the live capture belonged to was removed.", problem=True)
            return
        self.target.check()
        self.link.mirror = settings.mirror
        if self._stream is not None and settings.smoothing != self._smoothing:
            self._smoothing = settings.smoothing
            self.link.request({"smoothing": round(settings.smoothing, 3)})
        if self.recording is not None and self.recording.seconds > LONGEST_SECONDS:
            self._finish_at_once()
        if now - self._counted_at >= 1.0:
            self.fps = (self.shown - self._counted) / (now - self._counted_at) if self._counted_at else 0.0
            self._counted, self._counted_at = self.shown, now
        if not self.is_over and not self.link.closed:
            self._say(_state_sentence(self.link))
        redraw_panels()

    def _say(self, sentence):
        if sentence != self.state:
            self.state = sentence
            redraw_panels()


def _complaint(process):
    """Why a core has ended before it was ready, as one sentence: its own, where it could not do what it was asked."""
    lines = process.last_lines
    if process.exit_code == _BAD_INPUT and lines:
        return lines[-1].removeprefix("fullbody: ")
    return f"The core ended before it was ready (exit code {process.exit_code})."


def _state_sentence(link):
    """What the core says of itself, as one sentence."""
    if link.stream is None:
        return "Connecting to the core ..."
    status = link.status
    source = status.get("source")
    for told in (source if isinstance(source, dict) else {}, status):
        if message := str(told.get("message") or ""):
            return message
    progress = status.get("progress")
    share = f" ({100 * progress:.0f} %)" if isinstance(progress, (int, float)) and 0 < progress < 1 else ""
    sentences = {
        "looking": "Step into the picture: nobody is seen yet.",
        "settling": f"Getting to know the person{share}.",
        "calibrating": f"Calibrating: stand still, arms out{share}.",
        "running": "Live.",
    }
    return sentences.get(str(status.get("state")), "Live.")


# Starting, ticking, stopping.


def session():
    """The present `Session`, or the last one, which is over; None before the first."""
    return _session


def is_running():
    return _session is not None and not _session.is_over


def last_take():
    """(name, `CaptureClip`) of the last take of this Blender session, or None."""
    return _last_take


def keep_take(name, clip):
    """Makes a recovered take the last one, which can be saved."""
    global _last_take
    _last_take = name, clip


def start(target, scene, command):
    """Starts a core by `command` and lets `target` follow it. Returns the `Session`. Raises `FileError`."""
    return watch(target, scene, process=_new_process(command))


def watch(target, scene, process=None, link=None):
    """Lets `target` follow a core that runs: a `CoreProcess`, or the `Link` to one that somebody else started."""
    global _session
    stop()
    _session = Session(target, scene, process, link)
    _ensure_timer()
    return _session


def stop(sentence="Stopped."):
    """Ends the live capture, if one runs."""
    if is_running():
        _session.end(sentence)
        redraw_panels()


def _new_process(command):
    if _session is not None and _session.process is not None:
        stop()
        _session.process.stop(wait=3.0)  # it may still hold the camera
    return CoreProcess(command, log_path())


def search_cameras(search):
    """Lets the panel show what a `CameraSearch` finds."""
    global _search
    _search = search
    _ensure_timer()


def camera_search():
    return _search


def drain():
    """One tick: the newest frame is shown, if there is one, and all else looked after. Returns the seconds to the next, or None.

    Never raises: an exception would silently end the timer.
    """
    searching = _search is not None and not _search.is_done
    if not is_running():
        return _READOUTS if searching else _end_of_timer()
    try:
        delay = _session.tick()
    except TargetGone as error:
        delay = _session.end(str(error), problem=True)
    except Exception as error:
        traceback.print_exc()
        delay = _session.end(f"Live capture has failed: {type(error).__name__}: {error}.", problem=True)
    if delay is None:
        redraw_panels()
        return _READOUTS if searching else None
    return delay


def _end_of_timer():
    redraw_panels()
    return None


def _ensure_timer():
    if not bpy.app.timers.is_registered(drain):
        bpy.app.timers.register(drain, first_interval=0.01, persistent=True)


def redraw_panels():
    """Draws the sidebars of all 3D views anew, when Blender next draws."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                for region in area.regions:
                    if region.type == "UI":
                        region.tag_redraw()


# Takes.


def key_take(take, target, scene, first_frame, name):
    """Keys a `Take` on a target from a frame of the scene on, which gets as long as the take. Counts it. Raises `TargetGone`."""
    timing = Timing(scene_fps(scene), first_frame, resample=False)
    target.key_take(take, timing, name)
    scene.fullbody_live.take_number = int(name.removeprefix(_TAKE)) + 1
    scene.frame_end = max(scene.frame_end, timing.frame_end(take.clip))


def next_take_name(settings):
    """The next take's name: the first free number from the settings' on."""
    number = settings.take_number
    while f"{_TAKE}{number:03d}" in bpy.data.actions:
        number += 1
    return f"{_TAKE}{number:03d}"


# What may happen to Blender's data meanwhile.


@persistent
def _before_leaving(*_):
    """A new file, or Blender's end: a running take stays as a journal, for Recover Take, since what it was for is closed."""
    if is_running():
        if _session.recording is not None:
            _session.link.record(None)
            _session.recording.close()
            _session.recording = None
        _session.end("Stopped, since the file was closed.")


@persistent
def _before_saving(*_):
    """A file is saved as it would be without the live pose, where that is not the target's own."""
    if is_running():
        try:
            _session.target.put_back()
        except TargetGone:
            pass  # the next tick says so


@persistent
def _after_undo(*_):
    if is_running():
        _session.forget()


@persistent
def _show_again(*_):
    """After another frame of the scene, or a saved file."""
    if is_running() and not bpy.app.is_job_running("RENDER"):
        try:
            _session.show_again()
        except TargetGone:
            pass  # the next tick says so


_HANDLERS = {
    "load_pre": _before_leaving,
    "exit_pre": _before_leaving,
    "undo_post": _after_undo,
    "redo_post": _after_undo,
    "frame_change_post": _show_again,
    "save_pre": _before_saving,
    "save_post": _show_again,
    "save_post_fail": _show_again,
}


def register():
    for name, handler in _HANDLERS.items():
        if hasattr(bpy.app.handlers, name):  # exit_pre came with 5.1
            getattr(bpy.app.handlers, name).append(handler)


def unregister():
    stop("Stopped, since the add-on was switched off.")
    if bpy.app.timers.is_registered(drain):
        bpy.app.timers.unregister(drain)
    for name, handler in _HANDLERS.items():
        handlers = getattr(bpy.app.handlers, name, ())
        if handler in handlers:
            handlers.remove(handler)
