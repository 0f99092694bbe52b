"""The core's end of the live link: whatever one viewer does, the others see every frame and the sender never waits."""

import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time

import pytest
from synthetic_stream import Viewer, make_frame, make_person, make_stream

from fullbody_core.contract.wire import (
    BYE,
    ERROR,
    FRAME,
    HEARTBEAT,
    HELLO,
    MAX_PAYLOAD,
    PERSON,
    PROTOCOL,
    REQUEST,
    STATUS,
    WELCOME,
    WireError,
    encode_frame,
    encode_json,
)
from fullbody_core.live import server as server_module
from fullbody_core.live.newest import Newest
from fullbody_core.live.server import MAX_CONNECTIONS, MAX_MESSAGES, MAX_VIEWERS, LiveServer, ServerError

STREAM = make_stream()


@pytest.fixture
def lines():
    return []


@pytest.fixture
def server(lines):
    with LiveServer(STREAM, log=lines.append) as server:
        server.send_person(make_person(STREAM, 1))
        yield server


def watch(server, **options):
    """A viewer that has been let in."""
    viewer = Viewer(server.port, server.token, **options)
    assert viewer.until(WELCOME) == STREAM
    return viewer


def wait_until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.005)


def send_frames(server, count, first=0, pause=0.0):
    """The longest time s that sending one of them took."""
    longest = 0.0
    for sequence in range(first, first + count):
        frame = make_frame(STREAM, sequence)
        start = time.perf_counter()
        server.send_frame(frame)
        longest = max(longest, time.perf_counter() - start)
        time.sleep(pause)
    return longest


class TestServing:
    def test_a_viewer_is_told_everything_in_order(self, server):
        server.send_status({"state": "looking"})
        with watch(server) as viewer:
            assert viewer.next()[1].revision == 1
            assert viewer.next() == (STATUS, {"state": "looking"})
            for sequence in (0, 4, 5):
                server.send_frame(make_frame(STREAM, sequence))
                assert viewer.until(FRAME).sequence == sequence
            server.send_person(make_person(STREAM, 2))
            server.send_frame(make_frame(STREAM, 6, 2))
            assert viewer.until(PERSON).revision == 2
            assert viewer.until(FRAME).person == 2
            server.close("That is all.")
            assert viewer.rest()[-1] == (BYE, {"reason": "That is all."})

    def test_who_comes_later_hears_who_is_there(self, server):
        send_frames(server, 3)
        server.send_person(make_person(STREAM, 7))
        with watch(server) as viewer:
            assert viewer.next()[1].revision == 7

    def test_without_a_person_there_is_none(self, lines):
        with LiveServer(STREAM, log=lines.append) as server, watch(server) as viewer:
            server.send_status({"state": "looking"})
            assert viewer.next() == (STATUS, {"state": "looking"})

    def test_several_see_the_same(self, server):
        viewers = [watch(server) for _ in range(3)]
        send_frames(server, 50, pause=0.002)
        for viewer in viewers:
            assert [viewer.until(FRAME).sequence for _ in range(50)] == list(range(50))
            viewer.close()

    def test_viewers_are_counted(self, server):
        assert server.viewers == []
        with watch(server) as viewer:
            send_frames(server, 5, pause=0.002)
            viewer.say(HEARTBEAT, {"shown": 3, "dropped": 2})
            wait_until(lambda: server.viewers == [{"program": "test", "sent": 5, "dropped": 0, "shown": 3}])
        wait_until(lambda: server.viewers == [])

    def test_a_sign_of_life_where_nothing_happens(self, server):
        with watch(server) as viewer:
            viewer.until(PERSON)
            start = time.monotonic()
            assert viewer.until(STATUS) == {} and viewer.until(STATUS) == {}
            assert 1 < time.monotonic() - start < 5

    def test_a_frame_out_of_order_is_the_senders_mistake(self, server):
        with watch(server) as viewer:
            server.send_frame(make_frame(STREAM, 5))
            for frame in (make_frame(STREAM, 5), make_frame(STREAM, 4), make_frame(STREAM, 6, person=2)):
                with pytest.raises(WireError):
                    server.send_frame(frame)
            server.send_frame(make_frame(STREAM, 6))
            assert [viewer.until(FRAME).sequence for _ in range(2)] == [5, 6]

    def test_requests_reach_the_core_and_its_failures_stay_there(self, lines):
        asked = []

        def on_request(request):
            asked.append(request)
            raise RuntimeError("nobody can do this")

        with LiveServer(STREAM, on_request=on_request, log=lines.append) as server, watch(server) as viewer:
            viewer.say(REQUEST, {"calibrate": True})
            viewer.say(REQUEST, {"smoothing": 0.25})
            wait_until(lambda: len(asked) == 2)
            assert asked == [{"calibrate": True}, {"smoothing": 0.25}]
            server.send_status({"state": "still here"})
            assert viewer.until(STATUS) == {"state": "still here"}

    def test_it_listens_on_loopback_only(self, server):
        assert server._listener.getsockname()[0] == "127.0.0.1"

    def test_tokens_differ(self, server, lines):
        with LiveServer(STREAM, log=lines.append) as other:
            assert len(other.token) >= 32 and other.token != server.token


class TestRefusing:
    """Each is told why in one sentence, and then there is no connection."""

    def assert_others_are_served(self, server, sequence=1000):
        with watch(server) as viewer:
            server.send_frame(make_frame(STREAM, sequence))
            assert viewer.until(FRAME).sequence == sequence

    @pytest.mark.parametrize("token", ["", "0" * 32, None, 5, "\u00e4", "\ud800"])
    def test_a_wrong_token(self, server, token):
        with Viewer(server.port, token) as viewer:
            assert "token" in viewer.refusal()
        self.assert_others_are_served(server)

    def test_another_protocol(self, server):
        with Viewer(server.port, hello=False) as viewer:
            viewer.say(HELLO, {"protocol": PROTOCOL + 1, "token": server.token})
            assert "update both" in viewer.refusal()

    @pytest.mark.parametrize(
        "data",
        [
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
            os.urandom(100_000),
            struct.pack("<4sB3xI", b"FBMC", HELLO, MAX_PAYLOAD + 1),
            struct.pack("<4sB3xI", b"FBMC", FRAME, 4) + b"1234",
            struct.pack("<4sB3xI", b"FBMC", HELLO, 4) + b"1234",
            encode_json(HEARTBEAT, {"shown": 1}),
            encode_json(REQUEST, {"calibrate": True}),
            encode_frame(make_frame(STREAM, 1), STREAM),
        ],
        ids=["HTTP", "noise", "too large", "a core's kind", "no JSON", "a heartbeat", "a request", "a frame"],
    )
    def test_garbage_in_place_of_a_greeting(self, server, data):
        with Viewer(server.port, hello=False) as viewer:
            viewer.handle.sendall(data)
            assert viewer.refusal().endswith(".")
        self.assert_others_are_served(server)

    @pytest.mark.parametrize(
        "kind, values",
        [
            (REQUEST, {"smoothing": 2}),
            (REQUEST, {"smoothing": "much"}),
            (REQUEST, {"calibrate": False}),
            (REQUEST, {"format the disk": True}),
            (HEARTBEAT, {"shown": -1}),
            (HEARTBEAT, {"shown": "all"}),
            (HELLO, {"protocol": PROTOCOL, "token": "x"}),
        ],
    )
    def test_nonsense_from_a_viewer(self, server, kind, values):
        with watch(server) as viewer, watch(server) as other:
            viewer.say(kind, values)
            viewer.refusal()
            server.send_frame(make_frame(STREAM, 1))
            assert other.until(FRAME).sequence == 1

    def test_a_number_that_is_none(self, server):
        with watch(server) as viewer:
            data = b'{"smoothing": NaN}'
            viewer.handle.sendall(struct.pack("<4sB3xI", b"FBMC", REQUEST, len(data)) + data)
            viewer.refusal()

    def test_who_never_stops_talking(self, server):
        with watch(server) as viewer:
            viewer.handle.sendall(encode_json(HEARTBEAT, {"shown": 1}) * (MAX_MESSAGES + 10))
            assert "in a second" in viewer.refusal()

    def test_one_too_many(self, server):
        viewers = [watch(server) for _ in range(MAX_VIEWERS)]
        with Viewer(server.port, server.token) as viewer:
            assert f"{MAX_VIEWERS} viewers" in viewer.refusal()
        viewers.pop().close()
        wait_until(lambda: len(server.viewers) == MAX_VIEWERS - 1)
        self.assert_others_are_served(server)
        for viewer in viewers:
            viewer.close()

    def test_connections_that_say_nothing_take_no_ones_place_for_long(self, server, monkeypatch):
        monkeypatch.setattr(server_module, "HANDSHAKE_SECONDS", 0.5)
        silent = [Viewer(server.port, hello=False) for _ in range(MAX_CONNECTIONS + 5)]
        assert "introduce itself" in silent[0].refusal()
        for viewer in silent:
            viewer.close()
        wait_until(lambda: not server._connections)
        self.assert_others_are_served(server)

    def test_half_a_greeting(self, server, monkeypatch):
        monkeypatch.setattr(server_module, "HANDSHAKE_SECONDS", 0.5)
        with Viewer(server.port, hello=False) as viewer:
            viewer.handle.sendall(encode_json(HELLO, {"protocol": PROTOCOL, "token": server.token})[:20])
            assert "introduce itself" in viewer.refusal()

    def test_a_silent_viewer(self, server, monkeypatch):
        monkeypatch.setattr(server_module, "SILENCE_SECONDS", 0.8)
        with watch(server) as silent, watch(server) as alive:
            for _ in range(8):
                alive.say(HEARTBEAT, {})
                time.sleep(0.2)
            assert "said nothing" in silent.refusal()
            server.send_status({"state": "running"})
            alive.until(STATUS)

    def test_complaints_are_not_repeated_without_end(self, server, lines):
        for _ in range(40):
            with Viewer(server.port, "wrong") as viewer:
                viewer.refusal()
        assert len(lines) < 10 and "token" in lines[0]


class TestVanishing:
    def test_a_viewer_that_is_cut_off(self, server):
        with watch(server) as other:
            gone = watch(server)
            gone.handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            gone.close()  # a reset, as from a process that was killed
            send_frames(server, 20, pause=0.002)
            assert [other.until(FRAME).sequence for _ in range(20)] == list(range(20))
            wait_until(lambda: len(server.viewers) == 1)

    def test_a_viewer_that_is_killed(self, server, tmp_path):
        program = (
            "import sys; sys.path.insert(0, sys.argv[1]); from synthetic_stream import *; from synthetic_stream import Viewer\n"
            "viewer = Viewer(int(sys.argv[2]), sys.argv[3]); viewer.next(); print('in', flush=True); viewer.rest()"
        )
        command = [sys.executable, "-c", program, os.path.dirname(__file__), str(server.port), server.token]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"in\n"
            send_frames(server, 5, pause=0.01)
            process.kill()
        assert send_frames(server, 50, first=5, pause=0.002) < 0.1
        wait_until(lambda: server.viewers == [])


class TestSlowViewers:
    def test_one_that_reads_nothing_gets_the_newest_later_and_delays_nobody(self, server):
        slow, quick = watch(server, buffer=4096), watch(server)
        seen = []
        reader = threading.Thread(target=lambda: seen.extend(quick.until(FRAME).sequence for _ in range(600)))
        reader.start()
        assert send_frames(server, 600, pause=0.001) < 0.1
        reader.join(20)
        assert seen == list(range(600))
        counts = {viewer["dropped"] > 0: viewer for viewer in server.viewers}
        assert counts[True]["sent"] + counts[True]["dropped"] >= 598, "one may wait, and one be on its way"
        got = []
        while not got or got[-1] < 599:
            got.append(slow.until(FRAME).sequence)
        assert len(got) < 300 and got == sorted(got)
        held_back = [b - a for a, b in zip(got, got[1:]) if b - a > 1]
        assert held_back, "it went from what lay in the system's buffers to the newest"
        slow.close()
        quick.close()

    def test_a_person_who_changes_while_a_frame_waits(self, server):
        with watch(server, buffer=4096) as slow:
            sequence = 0
            for revision in range(2, 60):
                server.send_person(make_person(STREAM, revision))
                for _ in range(20):
                    server.send_frame(make_frame(STREAM, sequence, revision))
                    sequence += 1
            frames = 0
            while (item := slow.next())[1] is None or getattr(item[1], "sequence", 0) < sequence - 1:
                frames += item[0] == FRAME  # the viewer itself refuses a frame of another person
            assert 0 < frames < sequence / 2

    def test_nothing_grows_behind_it(self, server):
        tracemalloc = pytest.importorskip("tracemalloc")
        with watch(server, buffer=4096):
            send_frames(server, 500)
            tracemalloc.start()
            send_frames(server, 3000, first=500)
            for _ in range(300):
                server.send_status({"message": "x" * 1000})
            held, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert held < 100_000

    def test_it_is_told_to_leave_like_all_others(self, lines):
        server = LiveServer(STREAM, log=lines.append)
        server.start()
        server.send_person(make_person(STREAM, 1))
        with watch(server, buffer=4096):
            send_frames(server, 2000)
            start = time.monotonic()
            server.close("stopped")
            assert time.monotonic() - start < 2
            assert not server._thread.is_alive()


class TestEnding:
    def test_a_failure_is_an_error(self, lines):
        server = LiveServer(STREAM, log=lines.append)
        server.start()
        with watch(server) as viewer:
            server.close("The solver failed.", failed=True)
            assert viewer.rest()[-1] == (ERROR, {"message": "The solver failed."})

    def test_twice_and_without_a_start(self, lines):
        for started in (False, True):
            server = LiveServer(STREAM, log=lines.append)
            if started:
                server.start()
            server.close()
            server.close()
            with pytest.raises(OSError):
                socket.create_connection(("127.0.0.1", server.port), timeout=1)

    def test_from_a_viewers_request(self, lines):
        with LiveServer(STREAM, log=lines.append, on_request=lambda _: server.close("as asked")) as server:
            with watch(server) as viewer:
                viewer.say(REQUEST, {"calibrate": True})
                assert viewer.rest()[-1] == (BYE, {"reason": "as asked"})

    def test_sending_afterwards_does_nothing(self, lines):
        server = LiveServer(STREAM, log=lines.append)
        server.start()
        server.send_person(make_person(STREAM, 1))
        server.close()
        send_frames(server, 3)

    def test_a_viewers_goodbye(self, server):
        with watch(server) as viewer:
            viewer.say(BYE, {"reason": "enough"})
            viewer.rest()
            wait_until(lambda: server.viewers == [])


class TestPlaces:
    def test_a_port_in_use(self, server, lines):
        with pytest.raises(ServerError, match=f"port {server.port}"):
            LiveServer(STREAM, port=server.port, log=lines.append)

    def test_no_port(self):
        with pytest.raises(ServerError, match="70000"):
            LiveServer(STREAM, port=70000)

    def test_a_port_is_free_at_once_again(self, lines):
        server = LiveServer(STREAM, log=lines.append)
        server.start()
        with watch(server):
            server.close()
        LiveServer(STREAM, port=server.port, log=lines.append).close()


def test_it_needs_numpy_alone():
    """Tests serve Blender from inside its own Python, where there is nothing else."""
    heavy = ("torch", "cv2", "av", "scipy", "mediapipe", "tqdm", "platformdirs", "safetensors", "roma", "pythonosc")
    program = f"import sys\nfor name in {heavy}: sys.modules[name] = None\nimport fullbody_core.live.server"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class TestNewest:
    def test_only_the_newest_is_kept_and_the_others_are_counted(self):
        slot = Newest()
        assert slot.take(0) is None
        for item in range(5):
            slot.put(item)
        assert slot.take() == 4 and slot.dropped == 4
        assert slot.take(0) is None

    def test_closing_leaves_the_last_one(self):
        slot = Newest()
        slot.put("last")
        slot.close()
        slot.put("later")
        assert not slot.is_closed and slot.take() == "last"
        assert slot.is_closed and slot.take() is None

    def test_between_threads_it_increases_and_ends(self):
        slot, taken = Newest(), []

        def take():
            while (item := slot.take()) is not None:
                taken.append(item)
                time.sleep(random.random() * 1e-4)

        thread = threading.Thread(target=take)
        thread.start()
        for item in range(1, 5001):
            slot.put(item)
        slot.close()
        thread.join(10)
        assert not thread.is_alive() and taken == sorted(set(taken)) and taken[-1] == 5000
        assert len(taken) + slot.dropped == 5000
