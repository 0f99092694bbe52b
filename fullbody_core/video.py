"""Video files in and out: upright RGB pictures with the container's own times (PyAV).

Reading honours variable frame rates, the orientation flag of phones, mirrored and anamorphic pictures. Damaged files give
what can be decoded and say what is missing in `Video.warnings`. Writing leaves whole files only.
"""

import math
import os
import secrets
import stat
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition

_UNSPECIFIED_COLORSPACE = 2  # AVCOL_SPC_UNSPECIFIED
_HDR_TRANSFERS = (16, 18)  # AVCOL_TRC_SMPTE2084 (PQ) and AVCOL_TRC_ARIB_STD_B67 (HLG)
_BT709 = 1  # the same number for colour space, primaries and transfer
_LIMITED_RANGE = 1
_TICKS = 90000  # per second, in the files written here
_FALLBACK_FRAMERATE = Fraction(30)
_RESTART_S = 1  # a step back of at least this is a clock that started again, not a disordered frame


class VideoError(ValueError):
    """A video that cannot be read or written. The message is one sentence for the user."""


def open_video(path):
    """Opens a video file and decodes its first picture to know that there is one.

    Returns a `Video`; raises `VideoError` for anything else than a readable file with at least one picture.
    """
    path = Path(path)
    _check_regular_file(path)
    with _opened(path) as (container, stream):
        losses = _Losses()
        first = next(_decoded_frames(container, stream, losses), None)
        if first is None:
            raise VideoError(f"{path} holds no picture that can be decoded: export it again, for example as H.264 .mp4.")
        framerate = _plausible_framerate(stream)
        return Video(
            path=path,
            image_size=_upright_size(first, stream),
            mean_framerate=float(framerate),
            frame_count_estimate=_estimate_frame_count(container, stream, framerate),
        )


@dataclass
class Video:
    """A readable video file. Made by `open_video`; holds no open file between calls, so it needs no closing.

    image_size             (width, height) px of the upright picture with square pixels; every frame has it
    mean_framerate         frames per second as the container says (30 where it does not); the timestamps are what counts
    frame_count_estimate   for progress bars; None where the container does not say
    warnings               sentences for the user about what was repaired or lost, complete once `frames()` has ended
    """

    path: Path
    image_size: tuple
    mean_framerate: float
    frame_count_estimate: int | None
    warnings: list = field(default_factory=list)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False

    def frames(self):
        """Yields (timestamp_s, image [H, W, 3] RGB uint8 upright) for every picture that decodes, in the order shown.

        Timestamps are seconds from the first shown picture by the container's clock, and strictly increasing. Only unusable
        times are changed, and counted in `warnings`: a missing time becomes one mean frame after the picture before; a time
        that does not increase becomes half a mean frame after it, so that the clock is met again; where the clock starts
        anew (a step back of a second or more) the rest of the file follows on.
        """
        with _opened(self.path) as (container, stream):
            losses = _Losses()
            clock = _Clock(stream.time_base, 1 / Fraction(self.mean_framerate).limit_denominator(100000))
            count = damaged = 0
            for frame in _decoded_frames(container, stream, losses):
                timestamp = float(clock.place(_frame_pts(frame)))
                count += 1
                damaged += bool(frame.is_corrupt)
                yield timestamp, self._upright_image(frame, stream)
            self._report(clock, losses, count, damaged)
            if losses.unreadable or losses.last_is_partial or _ends_early(self.path, container, stream, losses):
                self._warn(f"{self.path.name} ends in the middle, as if it was cut short: {count} pictures were kept.")
            elif not losses.undecodable:
                self._report_shortage(count)

    def _report_shortage(self, count):
        # Not every format says so where it skips over damage, and a variable frame rate may look the same.
        announced = self.frame_count_estimate
        if announced and count < 0.95 * announced - 1:
            self._warn(f"{self.path.name} gives {count} pictures of the about {announced} it announces: some may be lost.")

    def _upright_image(self, frame, stream):
        if stream.codec_context.color_trc in _HDR_TRANSFERS:
            self._warn(f"{self.path.name} is HDR, so the face's colours will be off: record in SDR where they matter.")
        transposed, flip_x, flip_y, exact = _orientation(frame)
        if not exact:
            self._warn(f"{self.path.name} asks to be shown at a slant; it was turned by quarter turns only.")
        if _upright_size(frame, stream) != self.image_size:
            self._warn(f"{self.path.name} changes its picture size; all pictures were scaled to the first one's.")
        width, height = self.image_size[::-1] if transposed else self.image_size
        image = frame.to_ndarray(format="rgb24", width=width, height=height, **_colour_arguments(frame))
        image = image.transpose(1, 0, 2) if transposed else image
        return np.ascontiguousarray(image[:: -1 if flip_y else 1, :: -1 if flip_x else 1])

    def _report(self, clock, losses, count, damaged):
        name = self.path.name
        if clock.missing:
            self._warn(f"{name} gives no time for {clock.missing} of its {count} pictures; the mean frame rate did.")
        if clock.disordered:
            self._warn(f"{name} gives {clock.disordered} of its {count} pictures times that do not increase; those moved.")
        if clock.restarts:
            self._warn(f"{name} restarts its clock {clock.restarts} times; the parts were put one after another.")
        if losses.undecodable:
            self._warn(f"{name} is damaged: {losses.undecodable} of its packets do not decode, so pictures are missing.")
        if damaged:
            self._warn(f"{name} is damaged: {damaged} of its {count} pictures were decoded with errors and kept.")

    def _warn(self, sentence):
        if sentence not in self.warnings:
            self.warnings.append(sentence)


def read_frame(path, time_s):
    """The picture shown at `time_s` seconds after the first one: (its timestamp_s, image [H, W, 3] RGB uint8 upright).

    Before the first picture that is the first, after the last the last. Decodes from the start, so that the answer is the
    frame that `Video.frames` gives whatever the file's index says. Raises `VideoError`.
    """
    shown = None
    for timestamp, image in open_video(path).frames():
        if shown is not None and timestamp > time_s:
            break
        shown = timestamp, image
    return shown


class VideoWriter:
    """Writes an H.264 .mp4 that any player and Blender's sequencer open. Use it as a context manager:

        with VideoWriter("overlay.mp4", (width, height), framerate) as writer:
            writer.write(timestamp_s, image)

    The file appears under its name when the block ends well; after an error or Ctrl-C nothing is left behind and a file
    that was there before stays. Timestamps are kept to 1/90000 s. H.264's 4:2:0 needs even sizes: an odd one gets its last
    column or row doubled. Raises `VideoError` for an unwritable place, wrong images, or timestamps that do not increase.
    """

    def __init__(self, path, image_size, mean_framerate=30.0):
        self.path = Path(path)
        self.image_size = tuple(int(size) for size in image_size)
        if min(self.image_size) < 1 or not mean_framerate > 0:
            raise VideoError(f"A video's size and rate should be above zero, got {self.image_size} at {mean_framerate}.")
        if self.path.is_dir() or not self.path.parent.is_dir():
            raise VideoError(f"Cannot write {self.path}: choose a file name in a folder that exists.")
        self._temporary = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.part")
        self._container = None
        self._last_pts = None
        self._interval = max(1, round(_TICKS / mean_framerate))
        try:
            self._open(mean_framerate)
        except BaseException as error:
            self.discard()
            if isinstance(error, (av.FFmpegError, OSError, ValueError)):
                raise self._failure(error) from error
            raise

    def _open(self, mean_framerate):
        self._container = av.open(_url(self._temporary), "w", format="mp4", options={"movflags": "+faststart"})
        codec = "libx264" if "libx264" in av.codecs_available else "h264"
        # yuv420p at a constant quality that keeps thin overlay lines; players choke on the other chroma formats.
        options = {"crf": "18", "preset": "veryfast"} if codec == "libx264" else {}
        rate = Fraction(mean_framerate).limit_denominator(1001)
        self._stream = self._container.add_stream(codec, rate=rate, options=options)
        self._stream.width, self._stream.height = (size + size % 2 for size in self.image_size)
        self._stream.pix_fmt = "yuv420p"
        self._stream.time_base = Fraction(1, _TICKS)
        context = self._stream.codec_context
        context.time_base = Fraction(1, _TICKS)
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED_RANGE

    def write(self, timestamp_s, image):
        """Appends an image [H, W, 3] RGB uint8 shown from `timestamp_s` on (s from the start; 0 or more, increasing)."""
        width, height = self.image_size
        image = np.asarray(image)
        if image.shape != (height, width, 3) or image.dtype != np.uint8:
            expected = [height, width, 3]
            raise VideoError(f"A frame should be uint8 of shape {expected}, got {image.dtype} of {list(image.shape)}.")
        pts = round(Fraction(timestamp_s) * _TICKS) if math.isfinite(timestamp_s) else -1
        if pts < 0 or (self._last_pts is not None and pts <= self._last_pts):
            raise VideoError(f"Timestamps should increase from zero, got {timestamp_s} s for a frame of {self.path}.")
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        frame.pts, frame.time_base = pts, Fraction(1, _TICKS)
        self._encode(frame)
        self._last_pts = pts

    def _encode(self, frame):
        try:
            for packet in self._stream.encode(frame):
                if not packet.duration:
                    packet.duration = self._interval  # the last one is shown for as long as its duration says
                self._container.mux(packet)
        except (av.FFmpegError, OSError) as error:
            raise self._failure(error) from error

    def close(self):
        """Finishes the file and puts it in its place. Raises `VideoError` where that fails or nothing was written."""
        if self._container is None:
            return
        try:
            if self._last_pts is None:
                raise VideoError(f"No frame was written to {self.path}, so there is no video.")
            self._encode(None)
            container, self._container = self._container, None
            try:
                container.close()
                os.replace(self._temporary, self.path)
            except (av.FFmpegError, OSError) as error:
                raise self._failure(error) from error
        finally:
            self.discard()

    def discard(self):
        """Forgets what was written. The place keeps what it held before. Does nothing after `close`."""
        container, self._container = self._container, None
        try:
            if container is not None:
                container.close()
        except (av.FFmpegError, OSError, ValueError):
            pass  # what cannot be finished is about to be removed
        finally:
            self._temporary.unlink(missing_ok=True)

    def __enter__(self):
        return self

    def __exit__(self, error_type, *_):
        if error_type is None:
            self.close()
        else:
            self.discard()
        return False

    def _failure(self, error):
        return VideoError(f"Cannot write {self.path}: {getattr(error, 'strerror', None) or error}.")


@dataclass
class _Losses:
    """What went wrong between the file and the decoder."""

    undecodable: int = 0
    unreadable: bool = False
    last_is_partial: bool = False
    last_end: int = None  # end of the last packet in the stream's time base


class _Clock:
    """Turns the container's times into strictly increasing seconds from the first picture. See `Video.frames`."""

    def __init__(self, time_base, interval):
        self.time_base = Fraction(time_base)
        self.interval = interval
        self.missing = self.disordered = self.restarts = 0
        self._offset = None
        self._previous = None

    def place(self, pts):
        """Seconds (exact fraction) of the next picture with time `pts` in units of the time base, or None."""
        self._previous = self._next(pts)
        return self._previous

    def _next(self, pts):
        after = Fraction(0) if self._previous is None else self._previous + self.interval
        if pts is None:
            self.missing += 1
            return after
        raw = pts * self.time_base
        if self._offset is None:
            self._offset = after - raw
        if self._previous is None or raw + self._offset > self._previous:
            return raw + self._offset
        if self._previous - (raw + self._offset) >= _RESTART_S:
            self.restarts += 1
            self._offset = after - raw
            return after
        self.disordered += 1
        return self._previous + self.interval / 2


def _check_regular_file(path):
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise VideoError(f"There is no video at {path}: check the path.") from error
    except (OSError, ValueError) as error:
        raise VideoError(f"Cannot read {path}: {getattr(error, 'strerror', None) or error}.") from error
    if stat.S_ISDIR(mode):
        raise VideoError(f"{path} is a folder: give a video file, or use `fullbody batch` for a folder.")
    if not stat.S_ISREG(mode):
        raise VideoError(f"{path} is not a file: give a video file.")
    if path.stat().st_size == 0:
        raise VideoError(f"{path} is empty: copy or export the video again.")


def _url(path):
    # Without the protocol a name such as "take:1.mp4" would be taken for one.
    return f"file:{path}"


@contextmanager
def _opened(path):
    """The container and its picture stream, ready to decode. Closed on every way out, Ctrl-C included."""
    try:
        # Playlists may name other files; only this one is read, and nothing from a network.
        container = av.open(_url(path), options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except PermissionError as error:
        raise VideoError(f"Cannot read {path}: you have no permission to.") from error
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = "is not a video, or it was cut short before its index was written"
        raise VideoError(f"{path} {reason}: copy or export it again.") from error
    try:
        yield container, _picture_stream(path, container)
    finally:
        container.close()


def _picture_stream(path, container):
    # "tty" is FFmpeg's reading of a text file as terminal output.
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if container.format.name == "tty" or not container.streams:
        raise VideoError(f"{path} is not a video: give a file such as .mp4, .mov, .mkv or .avi.")
    if not streams:
        raise VideoError(f"{path} holds sound or other data but no pictures: give a video file.")
    stream = max(streams, key=lambda s: (s.codec_context is not None) and s.codec_context.width * s.codec_context.height)
    if stream.codec_context is None:
        raise VideoError(f"{path} is encoded in a way this machine cannot decode: export it again, for example as H.264.")
    stream.thread_type = "AUTO"
    return stream


def _decoded_frames(container, stream, losses):
    """Yields the frames that decode, in the order shown; what cannot be read or decoded is noted in `losses`."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, OSError):
            losses.unreadable = True
            packet = None
        if packet is not None and packet.size:
            _note_packet(packet, losses)
        try:
            frames = packet.decode() if packet is not None else stream.decode(None)
        except av.EOFError:
            frames = []  # the demuxer's last, empty packet had already emptied the decoder
        except (av.FFmpegError, OSError):
            losses.undecodable += 1
            frames = []
        yield from frames
        if packet is None:
            return


def _note_packet(packet, losses):
    losses.last_is_partial = bool(packet.is_corrupt)
    start = packet.pts if packet.pts is not None else packet.dts
    if start is not None:
        end = start + (packet.duration or 0)
        losses.last_end = end if losses.last_end is None else max(losses.last_end, end)


def _ends_early(path, container, stream, losses):
    """Whether the file announces more than it holds, by half a second or more, or stops inside a transport packet."""
    if container.format.name == "mpegts":  # a format without an end, in packets of 188 (192, 204) bytes
        return all(path.stat().st_size % size for size in (188, 192, 204))
    announced = _announced_duration(container, stream)
    if announced is None or losses.last_end is None:
        return False
    end = (losses.last_end - (stream.start_time or 0)) * stream.time_base
    return announced - end >= Fraction(1, 2)


def _announced_duration(container, stream):
    """Seconds of video that the headers announce, or None. Sound may last longer, so it has no say."""
    whole = Fraction(container.duration, av.time_base) if container.duration else None
    if stream.duration:
        own = stream.duration * stream.time_base
        return own if whole is None else min(own, whole)  # an edit list shows less than the stream holds
    tag = stream.metadata.get("DURATION", "")  # Matroska, as hours:minutes:seconds
    try:
        hours, minutes, seconds = (Fraction(part) for part in tag.split(":"))
        return hours * 3600 + minutes * 60 + seconds
    except (ValueError, ZeroDivisionError):
        return whole if len(container.streams) == 1 else None


def _plausible_framerate(stream):
    # Broken headers say 0 or the tick rate of the clock.
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and Fraction(1, 10) <= rate <= 1000:
            return Fraction(rate)
    return _FALLBACK_FRAMERATE


def _estimate_frame_count(container, stream, framerate):
    duration = _announced_duration(container, stream)
    by_duration = [max(1, round(duration * framerate))] if duration else []
    return min([stream.frames] * bool(stream.frames) + by_duration, default=None)  # a trimmed .mp4 holds more than it shows


def _frame_pts(frame):
    # Some .avi files carry decoding times only, which the decoder hands on as dts.
    return frame.pts if frame.pts is not None else frame.dts


def _orientation(frame):
    """How to turn the stored picture upright: (transpose, then flip x, flip y, whether that is exact).

    The display matrix maps stored to shown pixels, both y down: x' = a x + c y, y' = b x + d y (ISO 14496-12, 8.5.2).
    PyAV's `frame.rotation` is its angle alone, which is wrong for the mirrored pictures of front cameras.
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return False, False, False, True
    (a, b), (c, d) = np.frombuffer(bytes(data), np.int32).reshape(3, 3)[:2, :2].astype(float)
    transposed = abs(b) + abs(c) > abs(a) + abs(d)
    (x, y), rest = ((c, b), abs(a) + abs(d)) if transposed else ((a, d), abs(b) + abs(c))
    return transposed, x < 0, y < 0, rest <= 0.02 * (abs(x) + abs(y))


def _upright_size(frame, stream):
    """(width, height) of the shown picture, anamorphic pixels widened or narrowed to square ones."""
    width, height = frame.width, frame.height
    aspect = stream.sample_aspect_ratio
    # Ratios of nearly one are rounding in the file; far-off ones are mistakes.
    if aspect and 0.01 < abs(aspect - 1) and Fraction(1, 4) <= aspect <= 4:
        width = max(1, round(width * aspect))
    return (height, width) if _orientation(frame)[0] else (width, height)


def _colour_arguments(frame):
    # Untagged video is BT.709 in HD and BT.601 below by custom; FFmpeg alone would assume BT.601 for both.
    is_yuv = not frame.format.is_rgb and len(frame.format.components) >= 3
    if is_yuv and frame.colorspace == _UNSPECIFIED_COLORSPACE and (frame.width >= 1280 or frame.height > 576):
        return {"src_colorspace": "ITU709"}
    return {}
