# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender's end of the live link: one connection to a running core, read in a thread of its own. Knows no bpy.

Everything that comes is read at once, and of the frames only the newest is kept: however long Blender is busy, what it shows next
is now. The format is `contract.wire`'s.
"""

import selectors
import socket
import threading
import time
from collections import deque
from dataclasses import replace

from ..contract import wire
from ..contract.mirror import mirror_order, mirror_pose

_TICK = 0.1  # s between looks at what is to be sent; a request waits no longer
_SEND_SECONDS = 2.0  # for a core that does not read
_RECEIVE_BUFFER = 16 << 10  # bytes; what waits in it for a busy Blender are old frames
_CHUNK = 64 << 10


class Link:
    """One connection to the core at a port of this machine, from its making to `close` or to the core's end.

    stream: the `Stream`, or None before the handshake is done; person: the last `Person`, or None; status: the last STATUS
    received, dropped: frames that came, and those of them that a newer one replaced before they were taken
    error: one sentence on why it ended, where that was not in order; farewell: the core's own reason for an orderly end
    closed: whether it has ended, or never began
    mirror: settable at any time; frames then come as a looking glass shows the person
    shown: how many frames were shown, told to the core; whoever shows them counts
    """

    def __init__(self, port, token, program="Blender", mirror=False):
        self.stream, self.person, self.status = None, None, {}
        self.received = self.dropped = self.shown = 0
        self.error, self.farewell, self.closed = None, None, False
        self.mirror = mirror
        self._hello = {"protocol": wire.PROTOCOL, "token": token, "program": program}
        self._address = "127.0.0.1", int(port)
        self._frame = self._mirrored_expression = self._recorder = None
        self._newest_lock, self._recorder_lock = threading.Lock(), threading.Lock()
        self._requests, self._closing = deque(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="fullbody link", daemon=True)
        self._thread.start()

    def newest(self):
        """The newest `Frame` if it was not given out before, else None."""
        with self._newest_lock:
            frame, self._frame = self._frame, None
        return frame

    def request(self, values):
        """Sends a REQUEST, such as {"calibrate": True}, soon. Never waits."""
        self._requests.append(values)

    def record(self, recorder):
        """From now on `recorder.add(item)` gets every `Person` and `Frame` as it comes, in the link's thread.

        `recorder.begin(stream, person)` comes first, here. None ends it. Call it once `stream` and `person` are known.
        """
        with self._recorder_lock:
            if recorder is not None:
                recorder.begin(self.stream, self.person)
            self._recorder = recorder

    def close(self, wait=0.0):
        """Ends the connection; waits up to `wait` s for that."""
        self._closing.set()
        self._thread.join(wait)

    # All below runs in the link's own thread.

    def _run(self):
        try:
            with self._connected() as connection:
                self._converse(connection)
        except wire.WireError as error:
            self.error = str(error)
        except OSError as error:
            self.error = f"The link to the core broke off: {error.strerror or error}."
        except Exception as error:  # a thread that dies silently would leave the panel waiting
            self.error = f"The link to the core failed: {type(error).__name__}: {error}."
        finally:
            self.closed = True

    def _connected(self):
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            connection.settimeout(wire.HANDSHAKE_SECONDS)
            connection.connect(self._address)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(_SEND_SECONDS)
        except BaseException:
            connection.close()
            raise
        return connection

    def _converse(self, connection):
        connection.sendall(wire.encode_json(wire.HELLO, self._hello))
        messages, reader = wire.MessageReader(wire.FROM_CORE), wire.StreamReader()
        with selectors.DefaultSelector() as selector:
            selector.register(connection, selectors.EVENT_READ)
            try:
                self._listen(connection, selector, messages, reader)
            except wire.WireError as error:
                connection.sendall(wire.encode_json(wire.ERROR, {"message": str(error)}))
                raise

    def _listen(self, connection, selector, messages, reader):
        heard = beat = time.monotonic()
        while not self._closing.is_set():
            if selector.select(_TICK):
                data = connection.recv(_CHUNK)
                if not data:
                    self.error = "The link to the core broke off."
                    return
                heard = time.monotonic()
                for kind, payload in messages.feed(data):
                    if not self._take(kind, reader.take(kind, payload)):
                        return
            now = time.monotonic()
            if self.stream is None and now - beat > wire.HANDSHAKE_SECONDS:
                raise wire.WireError(f"The core did not answer within {wire.HANDSHAKE_SECONDS:.0f} s.")
            if now - heard > wire.SILENCE_SECONDS:
                raise wire.WireError(f"The core has been silent for {wire.SILENCE_SECONDS:.0f} s.")
            while self._requests and self.stream is not None:
                connection.sendall(wire.encode_json(wire.REQUEST, self._requests.popleft()))
            if self.stream is not None and now - beat >= wire.HEARTBEAT_SECONDS:
                beat = now
                connection.sendall(wire.encode_json(wire.HEARTBEAT, {"shown": self.shown, "dropped": self.dropped}))
        connection.sendall(wire.encode_json(wire.BYE, {"reason": "The viewer has closed."}))

    def _take(self, kind, item):
        """Keeps what a message says. Returns whether the conversation goes on."""
        if kind == wire.ERROR:
            self.error = str(item.get("message") or "The core ended the link without a reason.")
        elif kind == wire.BYE:
            self.farewell = str(item.get("reason") or "The core has ended.")
        elif kind == wire.WELCOME:
            self._mirrored_expression = mirror_order(item.expression_names)
            self.stream = item
        elif kind == wire.STATUS:
            self.status = item
        else:
            self._keep(kind, item)
        return kind not in (wire.ERROR, wire.BYE)

    def _keep(self, kind, item):
        if kind == wire.FRAME and self.mirror:
            item = self._mirrored(item)
        with self._recorder_lock:
            if kind == wire.PERSON:
                self.person = item
            if self._recorder is not None:
                self._recorder.add(item)
        if kind == wire.FRAME:
            with self._newest_lock:
                self.received += 1
                self.dropped += self._frame is not None
                self._frame = item

    def _mirrored(self, frame):
        poses, trans, valid = mirror_pose(frame.poses, frame.trans, frame.valid)
        return replace(frame, poses=poses, trans=trans, valid=valid, expression=frame.expression[self._mirrored_expression])
