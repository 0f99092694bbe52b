"""Where a live stream's pictures come from: a camera, or a video that plays at its own pace.

A source numbers its pictures and never waits for who uses them. It hands them over in the thread that iterates over `pictures`.
"""

import gc
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PATIENCE_SECONDS = 5.0
"""How long a camera that gives nothing is tried again before it counts as gone."""

SILENT_SECONDS = 1.0
"""Without a picture for so long, a camera does not answer."""

RETRY_SECONDS = 0.5

LATE_SECONDS = 0.5
"""A video further behind than this goes on from where it is, in place of hurrying after its clock."""

_OTHER_CAMERAS = 6


class SourceError(ValueError):
    """A source without pictures. The message is one sentence for the user."""


@dataclass(frozen=True)
class Picture:
    """sequence: counts from 0; timestamp: s on the source's clock, increasing; arrived: s, `time.monotonic()` when it was handed
    over; image [H, W, 3] RGB uint8."""

    sequence: int
    timestamp: float
    arrived: float
    image: np.ndarray


class VideoSource:
    """A video file as if it happened now. Looping, its sequence numbers and timestamps go on increasing."""

    is_rehearsal = True
    """It can wait for its first viewer."""

    message = ""

    def __init__(self, path, loop=False):
        """Raises `VideoError` for an unusable video."""
        from ..video import open_video

        self._video = open_video(path)
        self._loop = loop
        self.image_size = self._video.image_size
        self.framerate = self._video.mean_framerate
        self.description = {"kind": "video", "name": Path(path).name, "loop": loop}

    @property
    def warnings(self):
        """Sentences for the user about damage, complete once the video has been through."""
        return self._video.warnings

    def pictures(self, stop):
        """Yields a `Picture` when its time has come, until the end or until `stop`, a `threading.Event`, is set.

        A picture that is late is handed over at once, and so is the next: who takes the newest alone catches up.
        """
        start = time.monotonic()
        for sequence, (timestamp, image) in enumerate(self._frames()):
            due = start + timestamp
            if stop.wait(max(0.0, due - time.monotonic())):
                return
            arrived = time.monotonic()
            start += arrived - due if arrived - due > LATE_SECONDS else 0.0
            yield Picture(sequence, timestamp, arrived, image)

    def _frames(self):
        offset = 0.0
        while True:
            timestamp = 0.0
            for timestamp, image in self._video.frames():
                yield offset + timestamp, image
            if not self._loop:
                return
            # A closed file and its decoder, of some 70 MB, refer to each other, so only a collection frees them.
            gc.collect()
            offset += timestamp + 1 / self.framerate


class CameraSource:
    """A camera. `image_size` and `framerate` are what it really gives, whatever it was asked for.

    A camera that stops answering is tried again for `patience` seconds; `message` says so meanwhile.
    """

    is_rehearsal = False
    warnings = ()

    def __init__(self, number, image_size=(1280, 720), framerate=30.0, patience=PATIENCE_SECONDS):
        """number: as `list_cameras` counts, or the path of a device. Raises `SourceError` where it gives no picture."""
        self._device, self._asked, self._patience = number, (image_size, framerate), patience
        self._capture, self._answered, self._failing_since = None, time.monotonic(), None
        first = self._first_picture()
        self.image_size = first.shape[1::-1]
        self.framerate, self._format = self._reported(framerate)
        self.description = {
            "kind": "camera",
            "name": _camera_name(number),
            "asked": f"{image_size[0]}x{image_size[1]} at {framerate:g}",
            "given": f"{self.image_size[0]}x{self.image_size[1]} at {self.framerate:g}",
            "format": self._format,
        }

    @property
    def message(self):
        """A sentence while no picture comes, else nothing."""
        silent = time.monotonic() - self._answered
        return f"The camera has not answered for {silent:.0f} s; it is tried again." if silent > SILENT_SECONDS else ""

    def pictures(self, stop):
        """Yields a `Picture` as soon as the camera gives one, until `stop`, a `threading.Event`, is set.

        Raises `SourceError` where it gives none any more.
        """
        import cv2

        sequence, start = 0, None
        try:
            while not stop.is_set():
                image = self._read()
                arrived = time.monotonic()
                if image is None:
                    self._reopen(stop)
                    continue
                start, self._answered, self._failing_since = arrived if start is None else start, arrived, None
                yield Picture(sequence, arrived - start, arrived, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
                sequence += 1
        finally:
            self._release()

    def _read(self):
        good, image = self._capture.read() if self._capture is not None else (False, None)
        return image if good and image is not None and image.size else None

    def _first_picture(self):
        """Opens the camera and waits for its first picture: some take a second or two."""
        self._capture = _open_camera(self._device, *self._asked)
        if self._capture is None:
            raise SourceError(
                f"{_camera_name(self._device)} cannot be opened: check that it is plugged in, that no other program uses it and"
                " that programs may use cameras here; `fullbody live --list-cameras` names those there are."
            )
        while (image := self._read()) is None:
            if time.monotonic() - self._answered > self._patience:
                self._release()
                raise SourceError(
                    f"{_camera_name(self._device)} gives no picture: close other programs that may use it, or plug it in anew."
                )
            time.sleep(0.05)
        self._answered = time.monotonic()
        return image

    def _reopen(self, stop):
        """Tries to get pictures again. Raises `SourceError` once that was tried long enough."""
        self._release()
        self._failing_since = self._failing_since or time.monotonic()
        if time.monotonic() - self._failing_since > self._patience:
            raise SourceError(
                f"{_camera_name(self._device)} does not answer any more: check its cable, then start the link again."
            )
        stop.wait(RETRY_SECONDS)
        self._capture = _open_camera(self._device, *self._asked)
        image = self._read()
        if image is not None and image.shape[1::-1] != self.image_size:
            raise SourceError(f"{_camera_name(self._device)} came back with pictures of another size: start the link again.")

    def _reported(self, asked):
        import cv2

        framerate = self._capture.get(cv2.CAP_PROP_FPS)
        code = int(self._capture.get(cv2.CAP_PROP_FOURCC))
        letters = (code & 0xFFFFFFFF).to_bytes(4, "little").decode("ascii", "replace").strip()
        return framerate if 0 < framerate < 1000 else asked, letters if letters.isalnum() else ""

    def _release(self):
        if self._capture is not None:
            self._capture.release()
        self._capture = None


def _backends():
    """OpenCV's names of the ways to a camera on this platform, the best first."""
    if sys.platform == "darwin":
        return ("CAP_AVFOUNDATION",)
    if sys.platform == "win32":
        return ("CAP_DSHOW", "CAP_MSMF")  # Media Foundation may take half a minute to open a camera
    return ("CAP_V4L2",)


def _open_camera(device, image_size, framerate):
    """An open `cv2.VideoCapture`, asked for these pictures, or None."""
    import cv2

    is_camera = isinstance(device, int) or str(device).startswith("/dev/")
    for backend in _backends() if is_camera else ("CAP_ANY",):
        capture = cv2.VideoCapture(device, getattr(cv2, backend))
        if capture.isOpened():
            # Cameras send large pictures fast enough as JPEGs alone; the format is to be asked for before the size.
            if backend != "CAP_AVFOUNDATION":
                capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter_fourcc(*"MJPG"))
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, image_size[0])
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, image_size[1])
            capture.set(cv2.CAP_PROP_FPS, framerate)
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # what waits in the driver is old
            return capture
        capture.release()
    return None


def list_cameras(folder=Path("/sys/class/video4linux")):
    """The cameras of this machine, [{"number", "name"}]. On Linux the system names them; elsewhere they are tried one by one."""
    if sys.platform.startswith("linux"):
        return sorted(_linux_cameras(folder), key=lambda camera: camera["number"])
    cameras = []
    for number in range(_OTHER_CAMERAS):
        capture = _open_camera(number, (1280, 720), 30)
        if capture is not None:
            capture.release()
            cameras.append({"number": number, "name": f"Camera {number}"})
    return cameras


def _linux_cameras(folder):
    for place in folder.glob("video*"):
        number = place.name.removeprefix("video")
        # A camera's further devices carry no pictures but what goes with them.
        if number.isdigit() and _first_line(place / "index") in ("0", ""):
            yield {"number": int(number), "name": _first_line(place / "name") or f"Camera {number}"}


def _first_line(path):
    try:
        return path.read_text(encoding="utf-8", errors="replace").partition("\n")[0].strip()
    except OSError:
        return ""


def _camera_name(device):
    if not isinstance(device, int):
        return f"Camera {os.path.basename(device)}"
    name = _first_line(Path(f"/sys/class/video4linux/video{device}/name"))
    return f"Camera {device} ({name})" if name else f"Camera {device}"
