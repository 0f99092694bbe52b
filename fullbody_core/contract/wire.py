"""The live link's wire format: how a core tells Blender, frame by frame, what the person before its camera does.

One TCP connection on the loopback interface. Everything is a message: a header of 12 bytes, `FBMC`, kind (one byte), three zero
bytes and the payload's length (32 bits, little endian), then the payload. JSON payloads are UTF-8 objects; binary ones are little
endian, with sizes that `Stream` fixes for the whole connection.

    viewer -> core   HELLO      JSON   protocol, token, program: the first message, within HANDSHAKE_SECONDS
    core -> viewer   WELCOME    JSON   the `Stream`: protocol, what is captured with, names and sizes
    core -> viewer   PERSON     binary `Person`: once after WELCOME if somebody is known, and whenever it changes
    core -> viewer   FRAME      binary `Frame`; sequence numbers only increase, and the person it belongs to came before it
    core -> viewer   STATUS     JSON   once a second, and at changes: what the panel shows; doubles as a sign of life
    viewer -> core   HEARTBEAT  JSON   once a second: how many frames were shown and dropped
    viewer -> core   REQUEST    JSON   {"calibrate": true}, {"smoothing": 0..1}
    either           ERROR      JSON   {"message": one sentence}: the sender closes after it
    either           BYE        JSON   {"reason": one sentence}: an orderly end

Who hears nothing for SILENCE_SECONDS closes. Whatever is malformed, too large, out of order or not finite raises `WireError`, ends
that connection with ERROR, and nothing else. A slow viewer gets fewer frames, never old ones: senders keep the latest only.

A recorded take is the same messages in a file: WELCOME, then PERSON and FRAME as they came (`read_recording`).
"""

import hmac
import json
import struct
from dataclasses import asdict, dataclass, field

import numpy as np

from .skeleton import JOINT_NAMES, VALID_PARTS

PROTOCOL = 1
"""Counts up with every change that an older program would misread."""

HELLO, WELCOME, PERSON, FRAME, STATUS, HEARTBEAT, REQUEST, ERROR, BYE = range(1, 10)

FROM_VIEWER = frozenset({HELLO, HEARTBEAT, REQUEST, ERROR, BYE})
FROM_CORE = frozenset({WELCOME, PERSON, FRAME, STATUS, ERROR, BYE})
RECORDED = frozenset({WELCOME, PERSON, FRAME})

HANDSHAKE_SECONDS = 5.0
HEARTBEAT_SECONDS = 1.0
SILENCE_SECONDS = 10.0

MAX_PAYLOAD = 1 << 20
"""bytes. A frame has about a thousand; nobody has more to say than this."""

_MAGIC = b"FBMC"
_HEADER = struct.Struct("<4sB3xI")
_FRAME_HEAD = struct.Struct("<QIQB7x5d")
_PERSON_HEAD = struct.Struct("<IB3x")


class WireError(ValueError):
    """A message that breaks the format. The message says which rule, in one sentence."""


@dataclass(frozen=True)
class Stream:
    """What a connection, or a recording, is about: fixed from WELCOME to its end.

    expression_names [E]; beta_count B, shape_count S, albedo_count A: sizes of the arrays of `Person`
    image_size: (width, height) px; framerate: frames a second asked of the source
    models: name to sha256; body, face: name, licence and file as in a capture's meta; source: what is watched
    """

    expression_names: tuple
    beta_count: int
    shape_count: int
    albedo_count: int
    image_size: tuple
    framerate: float
    models: dict = field(default_factory=dict)
    body: dict = field(default_factory=dict)
    face: dict = field(default_factory=dict)
    source: dict = field(default_factory=dict)
    software: str = ""

    def to_json(self):
        return {**asdict(self), "protocol": PROTOCOL}

    @classmethod
    def from_json(cls, values):
        """Raises `WireError` for anything that is not a stream of this protocol."""
        check_protocol(values)
        values = {key: value for key, value in values.items() if key != "protocol"}
        kinds = {"framerate": (int, float), "software": str, **dict.fromkeys(("models", "body", "face", "source"), dict)}
        counts = ("beta_count", "shape_count", "albedo_count")
        names, size = values.get("expression_names"), values.get("image_size")
        good = (
            set(values) == {*kinds, *counts, "expression_names", "image_size"}
            and all(isinstance(values[key], kind) for key, kind in kinds.items())
            and all(_is_count(values[key]) for key in counts)
            and isinstance(names, list)
            and len(set(map(str, names))) == len(names)
            and all(isinstance(name, str) for name in names)
            and isinstance(size, list)
            and len(size) == 2
            and all(_is_count(value) for value in size)
            and 0 < values["framerate"] < 10_000
        )
        if not good or len(names) > 10_000:
            raise WireError("The core's description of what it sends has an unexpected form: update both sides.")
        return cls(**{**values, "expression_names": tuple(names), "image_size": tuple(size)})


@dataclass(frozen=True)
class Person:
    """Who is captured and where the camera stands: what settles with calibration.

    revision: counts up with every change; settled: calibrated, not a first guess
    betas [B], face_shape [S], albedo [A]: as in a capture file
    camera_matrix [3, 3] px; camera_to_world [4, 4] m
    """

    revision: int
    settled: bool
    betas: np.ndarray
    face_shape: np.ndarray
    albedo: np.ndarray
    camera_matrix: np.ndarray
    camera_to_world: np.ndarray


@dataclass(frozen=True)
class Frame:
    """The person in one picture.

    sequence: counts pictures of the source, also those that were dropped; person: revision of the `Person` it belongs to
    valid [4] bool: body, left hand, right hand, face; poses [156] axis-angle rad, trans [3] m, expression [E]: as in a capture
    file; a part that is not valid holds its last good value
    timestamp: s on the source's own clock; arrived: s, `time.monotonic()` when the picture was handed over (one clock for all
    processes of a machine); waited: s until the detector was free for it; network: s in the networks; worked: s in all else,
    until it was sent
    dropped: how many pictures of the source were skipped so far
    """

    sequence: int
    person: int
    dropped: int
    valid: np.ndarray
    poses: np.ndarray
    trans: np.ndarray
    expression: np.ndarray
    timestamp: float
    arrived: float
    waited: float = 0.0
    network: float = 0.0
    worked: float = 0.0


def encode_json(kind, values):
    """A JSON message as bytes."""
    return _message(kind, json.dumps(values, allow_nan=False).encode())


def encode_person(person, stream):
    """A `Person` as bytes. Raises `WireError` where its sizes are not the stream's or a number is not finite."""
    arrays = _checked(person, _person_shapes(stream), "f8")
    return _message(PERSON, _PERSON_HEAD.pack(person.revision, bool(person.settled)) + b"".join(arrays))


def encode_frame(frame, stream):
    """A `Frame` as bytes. Raises `WireError` where its sizes are not the stream's or a number is not finite."""
    valid = np.asarray(frame.valid, bool)
    if valid.shape != (len(VALID_PARTS),):
        raise WireError(f"A frame's valid should have shape {[len(VALID_PARTS)]}, got {list(valid.shape)}.")
    bits = int(np.packbits(valid, bitorder="little")[0])
    times = (frame.timestamp, frame.arrived, frame.waited, frame.network, frame.worked)
    if not np.isfinite(times).all():
        raise WireError("A frame's times should be finite.")
    head = _FRAME_HEAD.pack(frame.sequence, frame.person, frame.dropped, bits, *times)
    return _message(FRAME, head + b"".join(_checked(frame, _frame_shapes(stream), "f4")))


def decode_json(payload):
    """A JSON payload as a dict. Raises `WireError`."""
    try:
        values = json.loads(payload.decode(), parse_constant=_refuse_constant)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise WireError("A message that should be JSON is not.") from error
    if not isinstance(values, dict):
        raise WireError("A message should be a JSON object.")
    return values


def decode_person(payload, stream):
    """Raises `WireError` for a payload that is not exactly a `Person` of the stream."""
    arrays = _arrays(payload, _PERSON_HEAD.size, _person_shapes(stream), "f8", "person")
    revision, settled = _PERSON_HEAD.unpack_from(payload)
    return Person(revision=revision, settled=bool(settled), **arrays)


def decode_frame(payload, stream):
    """Raises `WireError` for a payload that is not exactly a `Frame` of the stream."""
    arrays = _arrays(payload, _FRAME_HEAD.size, _frame_shapes(stream), "f4", "frame")
    sequence, person, dropped, bits, *times = _FRAME_HEAD.unpack_from(payload)
    if not np.isfinite(times).all():
        raise WireError("A frame's times should be finite.")
    valid = np.unpackbits(np.array([bits], np.uint8), bitorder="little").astype(bool)
    if valid[len(VALID_PARTS) :].any():
        raise WireError("A frame calls parts valid that there are not.")
    names = ("timestamp", "arrived", "waited", "network", "worked")
    return Frame(sequence, person, dropped, valid[: len(VALID_PARTS)], **arrays, **dict(zip(names, times)))


class MessageReader:
    """Cuts a stream of bytes into messages, however it arrives.

    allowed: the kinds that may come. Holds at most one message that is not whole yet.
    """

    def __init__(self, allowed):
        self._allowed = allowed
        self._buffer = bytearray()

    def feed(self, data):
        """The whole messages, (kind, payload) each, that end with these bytes: a list. Raises `WireError`."""
        self._buffer += data
        messages, start = [], 0
        while len(self._buffer) - start >= _HEADER.size:
            magic, kind, length = _HEADER.unpack_from(self._buffer, start)
            if magic != _MAGIC:
                raise WireError("This is not a connection of Fullbody's live link.")
            if kind not in self._allowed:
                raise WireError(f"A message of kind {kind} may not come here.")
            if length > MAX_PAYLOAD:
                raise WireError(f"A message of {length} bytes is too large; the limit is {MAX_PAYLOAD}.")
            end = start + _HEADER.size + length
            if len(self._buffer) < end:
                break
            messages.append((kind, bytes(self._buffer[start + _HEADER.size : end])))
            start = end
        del self._buffer[:start]
        return messages

    @property
    def is_between_messages(self):
        """Whether all that was fed has been given out."""
        return not self._buffer


class StreamReader:
    """What a viewer, or a reader of recordings, makes of the core's messages: it keeps their order.

    `take` gives a `Stream`, `Person`, `Frame` or a dict (STATUS, ERROR, BYE) with its kind. Raises `WireError`.
    """

    def __init__(self):
        self.stream = None
        self._revisions = set()
        self._sequence = -1

    def take(self, kind, payload):
        if kind in (ERROR, BYE):
            return decode_json(payload)
        if kind == WELCOME:
            if self.stream is not None:
                raise WireError("The core introduced itself twice.")
            self.stream = Stream.from_json(decode_json(payload))
            return self.stream
        if self.stream is None:
            raise WireError("The core sent something before it introduced itself.")
        if kind == STATUS:
            return decode_json(payload)
        if kind == PERSON:
            person = decode_person(payload, self.stream)
            self._revisions = {person.revision}
            return person
        frame = decode_frame(payload, self.stream)
        if frame.sequence <= self._sequence:
            raise WireError(f"Frame {frame.sequence} came after frame {self._sequence}.")
        if frame.person not in self._revisions:
            raise WireError(f"Frame {frame.sequence} is of a person who was not introduced.")
        self._sequence = frame.sequence
        return frame


def read_recording(data):
    """(Stream, [Person or Frame in order]) of a recorded take's bytes; a last message that was cut off is left out.

    Raises `WireError` for anything else that is not a recording.
    """
    reader = StreamReader()
    items = [reader.take(kind, payload) for kind, payload in MessageReader(RECORDED).feed(data)]
    if not items or reader.stream is None:
        raise WireError("This is not a recorded take, or it was cut off before its first frame.")
    return reader.stream, items[1:]


def check_protocol(values):
    """Raises `WireError` unless a HELLO or WELCOME is of this protocol."""
    version = values.get("protocol")
    if version != PROTOCOL:
        raise WireError(f"The other side speaks protocol {version!r} and this one {PROTOCOL}: update both to one version.")


def check_hello(values, token):
    """Raises `WireError` unless a HELLO is of this protocol and has the token. Comparing takes the same time for any token."""
    check_protocol(values)
    given = values.get("token")
    # ASCII, as tokens are: other text could not be encoded, or not be compared.
    if not isinstance(given, str) or not given.isascii() or not hmac.compare_digest(given, token):
        raise WireError("The token is wrong: this core belongs to another program.")


def _message(kind, payload):
    if len(payload) > MAX_PAYLOAD:
        raise WireError(f"A message of {len(payload)} bytes is too large; the limit is {MAX_PAYLOAD}.")
    return _HEADER.pack(_MAGIC, kind, len(payload)) + payload


def _frame_shapes(stream):
    return {"poses": (3 * len(JOINT_NAMES),), "trans": (3,), "expression": (len(stream.expression_names),)}


def _person_shapes(stream):
    return {
        "betas": (stream.beta_count,),
        "face_shape": (stream.shape_count,),
        "albedo": (stream.albedo_count,),
        "camera_matrix": (3, 3),
        "camera_to_world": (4, 4),
    }


def _checked(values, shapes, kind):
    """The arrays of a `Frame` or `Person` as bytes, in order."""
    arrays = []
    for name, shape in shapes.items():
        array = np.asarray(getattr(values, name), f"<{kind}")
        if array.shape != shape:
            raise WireError(f"{name} should have shape {list(shape)}, got {list(array.shape)}.")
        if not np.isfinite(array).all():
            raise WireError(f"{name} holds numbers that are not finite.")
        arrays.append(array.tobytes())
    return arrays


def _arrays(payload, head, shapes, kind, what):
    counts = [int(np.prod(shape, dtype=int)) for shape in shapes.values()]
    if len(payload) != head + sum(counts) * np.dtype(kind).itemsize:
        raise WireError(f"A {what} of {len(payload)} bytes does not have the size that was announced.")
    numbers = np.frombuffer(payload, f"<{kind}", offset=head).astype(float)
    if not np.isfinite(numbers).all():
        raise WireError(f"A {what} holds numbers that are not finite.")
    parts = np.split(numbers, np.cumsum(counts)[:-1])
    return {name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts)}


def _refuse_constant(name):
    raise ValueError(f"{name} is not JSON")


def _is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 100_000
