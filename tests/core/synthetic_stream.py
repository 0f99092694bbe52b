"""A small live stream of random numbers, and a viewer as simple as the format allows."""

import socket
import time

import numpy as np

from fullbody_core.contract.wire import (
    ERROR,
    FROM_CORE,
    HELLO,
    PROTOCOL,
    Frame,
    MessageReader,
    Person,
    Stream,
    StreamReader,
    encode_json,
)


def make_stream(**changes):
    values = dict(
        expression_names=("jawOpen", "eyeBlinkLeft", "eyeBlinkRight"),
        beta_count=4,
        shape_count=3,
        albedo_count=2,
        image_size=(640, 480),
        framerate=29.97,
        models={"a.tflite": "ab" * 32},
        body={"name": "open", "licence": "CC0", "file": "open"},
        face={},
        source={"kind": "video", "name": "Größe.mp4"},
        software="0.1",
    )
    return Stream(**values | changes)


def make_person(stream, revision=1, **changes):
    rng = np.random.default_rng(revision)
    values = dict(
        revision=revision,
        settled=bool(revision % 2),
        betas=rng.normal(size=stream.beta_count),
        face_shape=rng.normal(size=stream.shape_count),
        albedo=rng.normal(size=stream.albedo_count),
        camera_matrix=rng.normal(size=(3, 3)),
        camera_to_world=rng.normal(size=(4, 4)),
    )
    return Person(**values | changes)


def make_frame(stream, sequence, person=1, **changes):
    rng = np.random.default_rng(sequence)
    values = dict(
        sequence=sequence,
        person=person,
        dropped=sequence // 2,
        valid=rng.random(4) < 0.5,
        poses=rng.normal(size=156),
        trans=rng.normal(size=3),
        expression=rng.random(len(stream.expression_names)),
        timestamp=sequence / 30,
        arrived=time.monotonic(),
        waited=0.001,
        network=0.03,
        worked=0.004,
    )
    return Frame(**values | changes)


class Viewer:
    """Connects to a core and reads what it says, in the calling thread."""

    def __init__(self, port, token=None, hello=True, buffer=None):
        self.handle = socket.socket()
        if buffer is not None:
            self.handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.handle.settimeout(20)
        self.handle.connect(("127.0.0.1", port))
        self._messages, self._reader, self._waiting = MessageReader(FROM_CORE), StreamReader(), []
        if hello:
            self.say(HELLO, {"protocol": PROTOCOL, "token": token, "program": "test"})

    def say(self, kind, values):
        self.handle.sendall(encode_json(kind, values))

    def next(self):
        """(kind, item) of the next message, or None at the end of the connection."""
        while not self._waiting:
            data = self.handle.recv(1 << 16)
            if not data:
                assert self._messages.is_between_messages, "the core ended in the middle of a message"
                return None
            self._waiting += self._messages.feed(data)
        kind, payload = self._waiting.pop(0)
        return kind, self._reader.take(kind, payload)

    def until(self, wanted):
        """The item of the next message of a kind; those before it are passed over."""
        kind, item = None, "nothing"
        while kind != wanted:
            found = self.next()
            assert found is not None, f"the core ended, and its last message was {item}"
            kind, item = found
        return item

    def rest(self):
        """All that still comes until the connection ends."""
        return list(iter(self.next, None))

    def refusal(self):
        """The sentence with which the core ends this connection; fails where it ends without one."""
        kind, item = self.rest()[-1]
        assert kind == ERROR
        return item["message"]

    def close(self):
        self.handle.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
