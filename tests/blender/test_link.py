# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender's end of the wire, against the core's real server and against a peer that breaks every rule."""

import socket
import threading
import time

import numpy as np
import pytest
from fullbody_mocap.contract import wire
from fullbody_mocap.contract.mirror import mirror_order, mirror_pose
from fullbody_mocap.live.link import Link
from live_scene import (
    EXPRESSIONS,
    frames_of,
    make_person,
    person_of,
    send,
    serving,
    stream_of,
    template_of_live,
    wait_until,
)


@pytest.fixture(scope="module")
def template():
    return template_of_live()


@pytest.fixture
def server(template):
    with serving(template) as server:
        yield server


@pytest.fixture
def link(server):
    link = Link(server.port, server.token)
    wait_until(lambda: link.stream is not None)
    yield link
    link.close(wait=2.0)


def send_each(server, link, frames):
    """Sends frames that all arrive: the server, too, keeps only the newest for a viewer that is busy."""
    for number, frame in enumerate(frames, link.received + 1):
        send(server, frame)
        wait_until(lambda: link.received == number)  # noqa: B023


def test_what_is_sent_arrives(server, link, template):
    clip = make_person(template)
    person, frame = person_of(clip), frames_of(clip)[3]
    send(server, person)
    send(server, frame)
    server.send_status({"state": "running"})
    wait_until(lambda: link.received and link.status)
    got = link.newest()
    assert link.newest() is None and link.stream == stream_of(template) and link.status == {"state": "running"}
    for name in ("poses", "trans", "expression", "valid"):
        assert np.array_equal(getattr(got, name), getattr(frame, name)), name
    assert (got.sequence, got.timestamp, got.arrived) == (frame.sequence, frame.timestamp, frame.arrived)
    assert np.array_equal(link.person.betas, person.betas)


def test_only_the_newest_frame_is_kept(server, link, template):
    clip = make_person(template, frames=60)
    send(server, person_of(clip))
    send_each(server, link, frames_of(clip))
    assert link.newest().sequence == 59 and link.dropped == 59


def test_recorder_gets_every_frame_and_the_person_first(server, link, template):
    clip = make_person(template, frames=50)
    send(server, person_of(clip))
    wait_until(lambda: link.person is not None)
    got = []

    class Recorder:
        def begin(self, stream, person):
            got.append(person.revision)

        def add(self, item):
            got.append(item)

    link.record(Recorder())
    send_each(server, link, frames_of(clip))
    link.record(None)
    assert got[0] == 1 and [frame.sequence for frame in got[1:]] == list(range(50))


def test_mirrored_frames_come_as_the_contract_mirrors_them(server, link, template):
    clip = make_person(template)
    clip.valid[:, 1] = False
    send(server, person_of(clip))
    link.mirror = True
    frame = frames_of(clip)[7]
    send(server, frame)
    wait_until(lambda: link.received)
    got, expected = link.newest(), mirror_pose(frame.poses, frame.trans, frame.valid)
    assert np.array_equal(got.poses, expected[0]) and np.array_equal(got.trans, expected[1])
    assert got.valid.tolist() == [True, True, False, True]
    assert np.array_equal(got.expression, frame.expression[mirror_order(EXPRESSIONS)])
    assert not np.array_equal(got.poses, frame.poses) and not np.array_equal(got.expression, frame.expression)


def test_requests_and_counts_reach_the_core(server, link):
    link.request({"calibrate": True})
    link.request({"smoothing": 0.25})
    link.shown = 7
    wait_until(lambda: len(server.requests) == 2)
    assert server.requests == [{"calibrate": True}, {"smoothing": 0.25}]
    wait_until(lambda: [viewer["shown"] for viewer in server.viewers] == [7])


def test_orderly_end_of_either_side(server, template):
    first, second = Link(server.port, server.token), Link(server.port, server.token)
    wait_until(lambda: len(server.viewers) == 2)
    first.close(wait=2.0)
    assert first.closed and first.error is None
    wait_until(lambda: len(server.viewers) == 1)
    server.close("The video has ended.")
    wait_until(lambda: second.closed)
    assert second.error is None and second.farewell == "The video has ended."


def test_wrong_token_is_told(server):
    link = Link(server.port, "wrong")
    wait_until(lambda: link.closed)
    assert "token" in link.error and link.stream is None


def test_core_that_fails_says_why(server, link):
    server.close("The camera is gone.", failed=True)
    wait_until(lambda: link.closed)
    assert link.error == "The camera is gone."


def test_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    link = Link(port, "token")
    wait_until(lambda: link.closed)
    assert "link to the core" in link.error


WELCOME = wire.encode_json(wire.WELCOME, stream_of(template_of_live()).to_json())


@pytest.mark.parametrize(
    "said, complaint",
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not a connection"),
        (wire.encode_json(wire.STATUS, {}), "before it introduced itself"),
        (wire.encode_json(wire.WELCOME, {"protocol": 99}), "protocol 99"),
        (wire.encode_json(wire.WELCOME, {"protocol": wire.PROTOCOL}), "unexpected form"),
        (WELCOME + WELCOME, "twice"),
        (WELCOME + wire.encode_json(wire.HELLO, {}), "may not come here"),
        (WELCOME + b"FBMC" + bytes([wire.FRAME, 0, 0, 0]) + b"\xff\xff\xff\x7f", "too large"),
        (WELCOME + b"FBMC" + bytes([wire.FRAME, 0, 0, 0]) + b"\x05\x00\x00\x00abcde", "size"),
        (WELCOME[: len(WELCOME) // 2], "broke off"),
    ],
)
def test_peer_that_breaks_the_rules_ends_the_link_and_nothing_else(said, complaint):
    """Also: the peer hears why before the connection closes."""
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def misbehave():
            peer, _ = listener.accept()
            with peer:
                peer.recv(1 << 16)
                peer.sendall(said)
                if complaint == "broke off":
                    return
                peer.settimeout(5)
                while data := peer.recv(1 << 16):
                    heard.append(data)

        thread = threading.Thread(target=misbehave)
        thread.start()
        link = Link(listener.getsockname()[1], "token")
        wait_until(lambda: link.closed)
        thread.join(5)
    assert complaint in link.error and len(link.error) < 200
    assert complaint == "broke off" or b"message" in b"".join(heard)


def test_silence_ends_the_link(monkeypatch):
    monkeypatch.setattr(wire, "SILENCE_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        link = Link(listener.getsockname()[1], "token")
        peer, _ = listener.accept()
        with peer:
            peer.sendall(WELCOME)
            began = time.monotonic()
            wait_until(lambda: link.closed)
            assert "silent" in link.error and time.monotonic() - began < 2
