"""`fullbody live`: serves the live link, for Blender's add-on or for other programs, until it is stopped."""

import argparse
import ctypes
import gc
import json
import os
import platform
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

from . import __version__
from .usage import UsageError, add_model_settings, capture_settings, print_warnings

GRACE_SECONDS = 3.0
"""How long a process whose end is asked for may take, whatever hangs in it."""

SWITCH_SECONDS = 0.001

_MMAP_THRESHOLD, _ARENA_MAX = -3, -8  # of glibc's mallopt

_DESCRIPTION = """Captures the person before a camera, or in a video, while it happens, and serves the motion on a local port.
Prints one line of JSON: the port, the token that a viewer needs, and what it is about; all else goes to stderr."""


def keep_numpy_to_one_thread():
    """To be called before numpy is imported. One frame's arrays are too small for OpenBLAS's threads, and while those wait they
    take the cores from the detector: on two cores that was half of all frames."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def add_live(commands):
    command = commands.add_parser("live", help="a camera drives the character in Blender", description=_DESCRIPTION)
    source = command.add_mutually_exclusive_group()
    source.add_argument("--camera", type=int, metavar="N", help="number of the camera (default: 0)")
    source.add_argument("--video", type=Path, metavar="FILE", help="play a video in place of a camera, at its own pace")
    source.add_argument("--list-cameras", action="store_true", help="print the cameras as one line of JSON, and end")
    command.add_argument("--loop", action="store_true", help="start the video again at its end")
    command.add_argument("--size", type=_size, metavar="WxH", help="pictures to ask the camera for (default: 1280x720)")
    command.add_argument("--fps", type=float, metavar="F", help="pictures a second to ask the camera for (default: 30)")
    help_smoothing = "0 responsive to 1 steady (default: 0.5); viewers may change it"
    command.add_argument("--smoothing", type=_fraction, default=0.5, metavar="X", help=help_smoothing)
    help_vmc = "also send to a program that speaks VMC, such as VRM tools (port 39539 unless given)"
    command.add_argument("--vmc", metavar="HOST:PORT", help=help_vmc)
    help_stdin = "end when stdin closes: for programs that start this one"
    command.add_argument("--end-with-stdin", action="store_true", help=help_stdin)
    add_model_settings(command, face_solvers=("auto", "landmarks", "facenet"))
    command.set_defaults(run=run_live, smooth=True, refine=False, person="largest")


def run_live(options):
    from .live.sources import list_cameras

    if options.list_cameras:
        print(json.dumps(list_cameras()), flush=True)
        return
    _check(options)
    _keep_memory_flat()
    end = _End(options.end_with_stdin)
    _say("Loading the models ...")
    source = _open_source(options)
    stream, announcement = _prepare(options, source)
    _make_responsive()
    with end.of(stream):
        print(json.dumps(announcement), flush=True)
        _say(f"Serving {announcement['source']['name']} on port {announcement['port']}; Ctrl-C ends it.")
        stream.serve()
        print_warnings(source.warnings)


def _keep_memory_flat():
    """Where the C library is glibc, keeps it from hoarding: it has a heap for each of many threads, and pictures that one
    thread makes and another frees leave holes in them, some megabytes a second. Pictures get mappings of their own instead."""
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(_ARENA_MAX, 2)
        library.mallopt(_MMAP_THRESHOLD, 1 << 18)


def _make_responsive():
    """Keeps Python from halting frames: what was loaded stays, so collections need not look through all of it again and again,
    and threads, of which a frame passes several, are switched more often than every 5 ms. Torch gets one thread, as numpy does."""
    import torch

    gc.collect()
    gc.freeze()
    sys.setswitchinterval(SWITCH_SECONDS)
    torch.set_num_threads(1)


def _check(options):
    if options.video is None and options.loop:
        raise UsageError("--loop is for --video: a camera has no end.")
    if options.video is not None and (options.size or options.fps):
        raise UsageError("--size and --fps are for --camera: a video has its own.")
    if options.fps is not None and not 0 < options.fps < 1000:
        raise UsageError(f"--fps should be above 0 and below 1000, got {options.fps:g}.")
    if options.camera is not None and options.camera < 0:
        raise UsageError(f"Cameras are counted from 0, got {options.camera}.")


def _open_source(options):
    from .live.sources import CameraSource, VideoSource

    if options.video is not None:
        return VideoSource(options.video, options.loop)
    source = CameraSource(options.camera or 0, options.size or (1280, 720), options.fps or 30.0)
    _say(f"{source.description['name']}: asked for {source.description['asked']}, gives {source.description['given']}.")
    return source


def _prepare(options, source):
    """(LiveStream, what to announce) with everything loaded, and the port open."""
    import numpy as np

    from .body.load_body import load_body
    from .contract.wire import PROTOCOL, Stream
    from .face.load_face import load_face
    from .live.server import LiveServer
    from .live.solver import LiveSolver
    from .live.stream import LiveStream
    from .pipeline import make_detector

    address = _vmc_address(options.vmc)
    body = load_body(options.body)
    face = None if options.face == "none" else load_face(options.face)
    detector = make_detector(capture_settings(options))
    solver = LiveSolver(
        body,
        face,
        detector.definition,
        source.image_size,
        fov=options.fov,
        ik=options.ik,
        face_solver=options.face_solver,
        smoothing=options.smoothing,
    )
    print_warnings(solver.notes)
    detector.detect(np.zeros((*source.image_size[::-1], 3), np.uint8))  # the first picture takes the longest
    about = Stream(
        **solver.stream_sizes(),
        image_size=tuple(map(int, source.image_size)),
        framerate=float(source.framerate),
        models={**detector.models, **solver.models, "body": body.sha256} | ({"face": face.sha256} if face else {}),
        body=_about(body, options.body),
        face=_about(face, options.face) if face else {},
        source=source.description,
        software=__version__,
    )
    server = LiveServer(about)
    receivers = _receivers(address, about, body)
    server.start()
    announcement = {
        "port": server.port,
        "token": server.token,
        "protocol": PROTOCOL,
        "software": __version__,
        "models": about.models,
        "source": about.source,
        "process": os.getpid(),
    }
    return LiveStream(source, detector, solver, server, receivers, _Reporter()), announcement


def _about(model, file):
    return {"name": model.meta.get("name", ""), "licence": model.meta.get("licence", ""), "file": str(file)}


def _vmc_address(text):
    if text is None:
        return None
    from .live.vmc import parse_address

    return parse_address(text)


def _receivers(address, about, body):
    if address is None:
        return ()
    from .live.vmc import VmcSender

    sender = VmcSender(*address, about.expression_names, lambda betas: body.rest_joints + body.joint_shapedirs @ betas)
    return (sender.send,)


class _End:
    """Who may end this process besides Ctrl-C: SIGTERM, and the parent that holds stdin open."""

    def __init__(self, with_stdin):
        self._stream = None
        self._exit_code = 130
        if with_stdin:
            threading.Thread(target=self._watch_parent, name="parent", daemon=True).start()

    def of(self, stream):
        """A context in which an end is an end of the stream; afterwards nothing that still hangs holds the process up."""
        self._stream = stream
        return self

    def __enter__(self):
        self._before = signal.signal(signal.SIGTERM, self._terminate)
        return self

    def __exit__(self, kind, error, _):
        """Ends the process, at once: the libraries take a second to unload, and nothing is left to be saved.

        An error goes on to whoever tells the user, unless a thread hangs that Python would wait for.
        """
        signal.signal(signal.SIGTERM, self._before)
        if kind is None:
            _exit_at_once(0)
        if kind is KeyboardInterrupt:
            _say("Stopped.")
            _exit_at_once(self._exit_code)
        if not self._stream.is_over:
            is_users = isinstance(error, ValueError)
            _say(f"fullbody: {error}" if is_users else "".join(traceback.format_exception(error)))
            _exit_at_once(2 if is_users else 1)

    def _terminate(self, *_):
        self._exit_code = 128 + signal.SIGTERM
        raise KeyboardInterrupt

    def _watch_parent(self):
        """The pipe to a parent closes when that has gone, however it went."""
        try:
            while os.read(0, 1 << 12):
                pass
        except OSError:
            pass  # there is no stdin: nobody holds it open
        if self._stream is None:
            _exit_at_once(0)  # models are loading: there is nothing to put in order
        self._stream.stop("The program that started the core has ended.")
        time.sleep(GRACE_SECONDS)
        _exit_at_once(0)


def _exit_at_once(code):
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
    os._exit(code)


class _Reporter:
    """Says how it goes: at changes, and every few seconds in a terminal, every minute in a log."""

    def __init__(self):
        self._every = 5.0 if sys.stderr.isatty() else 60.0
        self._last, self._said = -self._every, None

    def __call__(self, status):
        now, what = time.monotonic(), (status["state"], status["message"], status["viewers"])
        if what == self._said and now - self._last < self._every:
            return
        self._last, self._said = now, what
        _say(_one_line(status))


def _one_line(status):
    parts = f"waited {status['waited_ms']:.0f}, networks {status['network_ms']:.0f}, the rest {status['worked_ms']:.1f} ms"
    rates = f"{status['fps']:.1f} of {status['captured_fps']:.1f} frames a second, {status['dropped']} dropped"
    line = f"{status['state']}: {rates}; {parts}; viewers: {status['viewers']}."
    return f"{line} {status['message']}".rstrip()


def _say(line):
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        pass  # whoever read it has left; the viewers have not


def _size(text):
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and 0 < int(width) <= 16384 and 0 < int(height) <= 16384):
        raise argparse.ArgumentTypeError(f"{text!r} is no size: give WIDTHxHEIGHT, such as 1280x720")
    return int(width), int(height)


def _fraction(text):
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 1")
    return value
