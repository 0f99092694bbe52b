"""The core's end of the live link: it tells every viewer the newest frame, and waits for none of them.

Loopback only. A sender writes to the sockets itself, as far as they take it without waiting; the rest, and all that viewers say,
is one thread's. So a viewer that reads nothing, or says nothing, or nonsense, costs the others nothing.

Needs numpy and nothing else, so that tests can serve Blender from inside Blender's own Python.
"""

import secrets
import selectors
import socket
import sys
import threading
import time

from ..contract.wire import (
    BYE,
    ERROR,
    FROM_VIEWER,
    HANDSHAKE_SECONDS,
    HEARTBEAT,
    HEARTBEAT_SECONDS,
    HELLO,
    REQUEST,
    SILENCE_SECONDS,
    STATUS,
    WELCOME,
    MessageReader,
    WireError,
    check_hello,
    decode_json,
    encode_frame,
    encode_json,
    encode_person,
)

MAX_VIEWERS = 8

MAX_CONNECTIONS = 2 * MAX_VIEWERS
"""Viewers, those who have not introduced themselves yet, and those who are being shown out."""

MAX_MESSAGES = 500
"""What a viewer may say in a second: far more than a panel ever does."""

FAREWELL_SECONDS = 0.5
"""How long the reason of an end may take to reach a viewer before its connection is simply closed."""

_SEND_BUFFER = 16 * 1024
_TICK_SECONDS = 0.25
_LOG_SECONDS = 1.0


class ServerError(ValueError):
    """A server that cannot start. The message is one sentence for the user."""


class LiveServer:
    """Serves one `Stream` to its viewers.

        server = LiveServer(stream)         # .port and .token are what a viewer needs
        server.start()
        server.send_person(person)          # before the first frame that belongs to it
        server.send_frame(frame)
        server.close("stopped")

    on_request: called with the dict of a viewer's REQUEST, in the server's thread: it should return at once
    log: called with a line of text about connections, at most about one a second; by default they go to stderr
    The three `send_...` never wait and may be called from any thread; each is latest-wins for itself.
    """

    def __init__(self, stream, token=None, port=0, on_request=None, log=None):
        self.stream = stream
        self.token = token or secrets.token_hex(16)
        self.on_request = on_request
        self._log = _QuietLog(log or (lambda line: print(line, file=sys.stderr, flush=True)))
        self._welcome = encode_json(WELCOME, stream.to_json())
        self._lock = threading.Lock()
        self._connections = []
        self._person = self._status = None
        self._revision = None
        self._sequence = -1
        self._farewell = None
        self._listener = _listen(port)
        self.port = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._awake, self._waker = socket.socketpair()
        for end in (self._awake, self._waker):
            end.setblocking(False)
        self._thread = threading.Thread(target=self._serve, name="live server", daemon=True)

    def start(self):
        self._thread.start()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def is_serving(self):
        """Whether its thread runs."""
        return self._thread.is_alive()

    @property
    def viewers(self):
        """What is known of each viewer: program, sent and dropped frames, and what it says it has shown."""
        with self._lock:
            return [connection.counts() for connection in self._connections if connection.is_viewer]

    def send_person(self, person):
        """Tells all viewers, and those who come later. Raises `WireError` for one that is not the stream's."""
        message = encode_person(person, self.stream)
        with self._lock:
            self._person, self._revision = message, person.revision
            self._send("person", message)

    def send_frame(self, frame):
        """Tells all viewers. Raises `WireError` for one that is not the stream's, comes late or is of another person."""
        message = encode_frame(frame, self.stream)
        with self._lock:
            if frame.sequence <= self._sequence:
                raise WireError(f"Frame {frame.sequence} came after frame {self._sequence}.")
            if frame.person != self._revision:
                raise WireError(f"Frame {frame.sequence} is of a person who was not introduced.")
            self._sequence = frame.sequence
            self._send("frame", message)

    def send_status(self, status):
        """Tells all viewers, and those who come later, a dict that JSON can hold."""
        message = encode_json(STATUS, status)
        with self._lock:
            self._status = message
            self._send("status", message)

    def close(self, reason="The core has stopped.", failed=False):
        """Tells viewers why (ERROR where the core has failed, else BYE), waits a moment for them to hear it, and ends."""
        with self._lock:
            first, self._farewell = self._farewell is None, self._farewell or _farewell(reason, failed)
        if not self._thread.is_alive():
            if first and self._thread.ident is None:
                self._release()
            return
        self._wake()
        if threading.current_thread() is not self._thread:
            self._thread.join(2 * FAREWELL_SECONDS)

    def _send(self, what, message):
        """Offers a message to every viewer. Call it with the lock."""
        stuck = [viewer.offer(what, message) for viewer in self._connections if viewer.is_viewer]
        if any(stuck):
            self._wake()

    def _wake(self):
        try:
            self._waker.send(b"\0")
        except OSError:
            pass  # it is full, so the thread wakes anyway, or closed, so there is no thread

    def _serve(self):
        try:
            self._selector.register(self._listener, selectors.EVENT_READ)
            self._selector.register(self._awake, selectors.EVENT_READ)
            while self._farewell is None or self._connections:
                for key, events in self._selector.select(_TICK_SECONDS):
                    self._serve_one(key, events)
                self._look_after(time.monotonic())
        finally:
            self._release()

    def _serve_one(self, key, events):
        if key.fileobj is self._listener:
            self._accept()
        elif key.fileobj is self._awake:
            _drain(self._awake)
        else:
            with self._lock:
                if events & selectors.EVENT_WRITE:
                    key.data.flush()
            if events & selectors.EVENT_READ:
                self._read(key.data)

    def _accept(self):
        try:
            handle, _ = self._listener.accept()
            connection = _Connection(handle)
        except OSError:  # it left before it was let in, or this process has too many files open
            time.sleep(0.01)
            return
        with self._lock:
            if self._farewell is not None:
                handle.close()
                return
            if len(self._connections) >= MAX_CONNECTIONS:
                handle.close()
                self._log.line("A connection was refused: too many are open.")
                return
            self._connections.append(connection)
        self._selector.register(handle, selectors.EVENT_READ, connection)

    def _read(self, connection):
        """Takes what a viewer says. Whatever is wrong with it ends this connection."""
        data = connection.receive()
        if not data or connection.is_ending:
            return
        try:
            for kind, payload in connection.reader.feed(data):
                self._take(connection, kind, decode_json(payload))
                if connection.is_ending:
                    return
        except WireError as error:
            self._show_out(connection, str(error))
        except Exception as error:  # what nobody thought of ends this connection, and not the others'
            self._show_out(connection, f"A message could not be read: {_printable(repr(error))}.")

    def _take(self, connection, kind, values):
        connection.count_message()
        if kind in (BYE, ERROR):
            connection.is_gone = True
            if kind == ERROR:
                self._log.line(f"{connection.name} left: {_printable(values.get('message', ''))}")
        elif kind == HELLO:
            self._welcome_viewer(connection, values)
        elif not connection.is_viewer:
            raise WireError("A viewer has to introduce itself first.")
        elif kind == HEARTBEAT:
            connection.shown = _count(values, "shown")
        elif kind == REQUEST:
            self._pass_on(_checked_request(values))

    def _welcome_viewer(self, connection, values):
        if connection.is_viewer:
            raise WireError("The viewer introduced itself twice.")
        check_hello(values, self.token)
        connection.name = _printable(values.get("program") or "A viewer")
        with self._lock:
            if sum(other.is_viewer for other in self._connections) >= MAX_VIEWERS:
                raise WireError(f"{MAX_VIEWERS} viewers are connected, and no more are served: close one.")
            connection.is_viewer = True
            for what, message in (("welcome", self._welcome), ("person", self._person), ("status", self._status)):
                if message is not None:
                    connection.offer(what, message)
        self._log.line(f"{connection.name} is watching.")

    def _pass_on(self, request):
        if self.on_request is None:
            return
        try:
            self.on_request(request)
        except Exception as error:  # a viewer's wish must never end the others' stream
            self._log.line(f"A request failed: {error!r}")

    def _look_after(self, now):
        """Ends who is late or silent, gives a sign of life, and watches for room to write where something waits."""
        for connection in list(self._connections):
            if self._farewell is not None and not connection.is_ending:
                with self._lock:
                    connection.end(self._farewell)
            elif not connection.is_ending and connection.is_late(now):
                self._show_out(connection, connection.lateness)
            with self._lock:
                if connection.is_viewer and now - connection.last_sent > HEARTBEAT_SECONDS:
                    connection.offer("status", self._status or encode_json(STATUS, {}))
                if connection.has_ended(now):
                    self._connections.remove(connection)
                    self._selector.unregister(connection.handle)
                    connection.handle.close()
                    if connection.is_viewer:
                        self._log.line(f"{connection.name} left.")
                    continue
                events = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.is_stuck else 0)
            if self._selector.get_key(connection.handle).events != events:
                self._selector.modify(connection.handle, events, connection)

    def _show_out(self, connection, reason):
        self._log.line(f"{connection.name} was refused: {reason}")
        with self._lock:
            connection.end(_farewell(reason, failed=True))

    def _release(self):
        with self._lock:
            handles = [connection.handle for connection in self._connections]
            self._connections.clear()
        for handle in (*handles, self._listener, self._awake, self._waker):
            handle.close()
        self._selector.close()


class _Connection:
    """One viewer, or who wants to become one. What writes or reads its slots holds the server's lock."""

    _ORDER = ("welcome", "person", "frame", "status", "farewell")

    def __init__(self, handle):
        handle.setblocking(False)
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # What lies in a buffer is old: a small one keeps a slow viewer near the present.
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self.handle = handle
        self.reader = MessageReader(FROM_VIEWER)
        self.name = "A connection"
        self.is_viewer = self.is_ending = self.is_gone = self.is_stuck = False
        self.shown = 0
        self.last_heard = self.last_sent = self._since = time.monotonic()
        self._deadline = None
        self._slots = {}
        self._sending, self._rest = None, b""
        self._sent = self._dropped = 0
        self._said, self._said_since = 0, self._since

    def counts(self):
        return {"program": self.name, "sent": self._sent, "dropped": self._dropped, "shown": self.shown}

    def offer(self, what, message):
        """Sends a message as far as there is room now; returns whether the rest needs the server's thread to wake."""
        if self.is_ending or self.is_gone:
            return False
        if "frame" in self._slots and what in ("frame", "person"):
            # A frame that still waits here when a new person comes belongs to the one before.
            del self._slots["frame"]
            self._dropped += 1
        self._slots[what] = message
        if self.is_stuck:
            return False
        self.flush()
        return self.is_stuck or self.is_gone

    def flush(self):
        """Writes what waits until it is done or the socket takes no more."""
        try:
            while self._rest or self._next():
                self._rest = self._rest[self.handle.send(self._rest) :]
                self.last_sent = time.monotonic()
                if not self._rest:
                    self._sent += self._sending == "frame"
            if self.is_ending:
                self.handle.shutdown(socket.SHUT_WR)
            self.is_stuck = False
        except BlockingIOError:
            self.is_stuck = True
        except OSError:
            self.is_gone, self.is_stuck = True, False

    def _next(self):
        self._sending = next((what for what in self._ORDER if what in self._slots), None)
        if self._sending is None:
            return False
        self._rest = memoryview(self._slots.pop(self._sending))
        return True

    def receive(self):
        """Bytes that came, or none."""
        try:
            data = self.handle.recv(1 << 16)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self.is_gone = True
        self.last_heard = time.monotonic()
        return data

    def count_message(self):
        """Raises `WireError` for a viewer that never stops talking."""
        if self.last_heard - self._said_since > 1:
            self._said, self._said_since = 0, self.last_heard
        self._said += 1
        if self._said > MAX_MESSAGES:
            raise WireError(f"The viewer said more than {MAX_MESSAGES} things in a second.")

    def is_late(self, now):
        if self.is_viewer:
            return now - self.last_heard > SILENCE_SECONDS
        return now - self._since > HANDSHAKE_SECONDS

    @property
    def lateness(self):
        if self.is_viewer:
            return f"The viewer said nothing for {SILENCE_SECONDS:g} seconds."
        return f"The viewer did not introduce itself within {HANDSHAKE_SECONDS:g} seconds."

    def end(self, farewell):
        """Says why, after a message that is under way, and nothing else any more."""
        self._slots = {"farewell": farewell}
        self._deadline = time.monotonic() + FAREWELL_SECONDS
        self.is_viewer, self.is_ending = False, True
        self.flush()

    def has_ended(self, now):
        # Closed before the other side has closed, with bytes of it unread, the last message would be lost with them.
        return self.is_gone or (self.is_ending and now > self._deadline)


class _QuietLog:
    """Passes about one line a second on, and says how many it kept to itself."""

    def __init__(self, write):
        self._write = write
        self._last, self._kept = -_LOG_SECONDS, 0

    def line(self, text):
        now = time.monotonic()
        if now - self._last < _LOG_SECONDS:
            self._kept += 1
            return
        more = f" ({self._kept} lines before it were left out.)" if self._kept else ""
        self._last, self._kept = now, 0
        try:
            self._write(text + more)
        except OSError:
            pass  # whoever read the lines has left; the viewers have not


def _listen(port):
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # Windows, where SO_REUSEADDR would share the port with anybody
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(MAX_CONNECTIONS)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise ServerError(f"Cannot serve on port {port}: {reason}; choose another, or 0 for any that is free.") from error
    listener.setblocking(False)
    return listener


def _drain(handle):
    try:
        while handle.recv(1 << 12):
            pass
    except OSError:
        pass


def _farewell(reason, failed):
    return encode_json(ERROR, {"message": reason}) if failed else encode_json(BYE, {"reason": reason})


def _count(values, name):
    value = values.get(name, 0)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise WireError(f"A viewer's count of frames should be a number from zero, got {_printable(value)}.")
    return value


def _checked_request(values):
    """A viewer's request with known keys and values in range. Raises `WireError`."""
    known = {
        "calibrate": lambda value: value is True,
        "smoothing": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1,
    }
    for name, value in values.items():
        if name not in known or not known[name](value):
            raise WireError(f"A viewer asked for what there is not: {_printable(name)} = {_printable(value)}.")
    return values


def _printable(value):
    """Foreign text as one short line that any terminal can show."""
    text = str(value)[:80].encode("ascii", "backslashreplace").decode()
    return "".join(letter if letter.isprintable() else "?" for letter in text)
