"""The live link's format: what is encoded is decoded, however it is cut, and nothing else is taken for it."""

import dataclasses
import json
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from synthetic_stream import make_frame, make_person, make_stream

from fullbody_core.contract import wire
from fullbody_core.contract.wire import (
    BYE,
    ERROR,
    FRAME,
    FROM_CORE,
    FROM_VIEWER,
    HEARTBEAT,
    HELLO,
    MAX_PAYLOAD,
    PERSON,
    PROTOCOL,
    RECORDED,
    REQUEST,
    STATUS,
    WELCOME,
    Frame,
    MessageReader,
    Person,
    Stream,
    StreamReader,
    WireError,
    check_hello,
    decode_frame,
    decode_json,
    decode_person,
    encode_frame,
    encode_json,
    encode_person,
    read_recording,
)

STREAM = make_stream()
HEADER = 12
WELCOMED = encode_json(WELCOME, STREAM.to_json())
EVERYTHING = b"".join(
    [
        WELCOMED,
        encode_person(make_person(STREAM, 1), STREAM),
        encode_frame(make_frame(STREAM, 0), STREAM),
        encode_json(STATUS, {"state": "running", "message": "Größe"}),
        encode_frame(make_frame(STREAM, 5), STREAM),
        encode_person(make_person(STREAM, 2), STREAM),
        encode_frame(make_frame(STREAM, 6, 2), STREAM),
        encode_json(BYE, {"reason": "The end."}),
    ]
)
TAKE = b"".join(
    [
        WELCOMED,
        encode_person(make_person(STREAM, 1), STREAM),
        *(encode_frame(make_frame(STREAM, number), STREAM) for number in range(3)),
        encode_person(make_person(STREAM, 2), STREAM),
        encode_frame(make_frame(STREAM, 9, 2), STREAM),
    ]
)


def same(a, b):
    """Whether two of the format's dataclasses hold the same values; float32 where the format has it."""
    if type(a) is not type(b):
        return False
    pairs = [(getattr(a, item.name), getattr(b, item.name)) for item in dataclasses.fields(a)]
    return all(
        x.shape == y.shape and np.array_equal(np.float32(x), np.float32(y)) if isinstance(x, np.ndarray) else x == y
        for x, y in pairs
    )


def read(data, cuts=()):
    """All items of a core's bytes, handed over in pieces."""
    messages, reader = MessageReader(FROM_CORE), StreamReader()
    edges = [0, *sorted(cuts), len(data)]
    return [
        reader.take(kind, payload) for a, b in zip(edges, edges[1:]) for kind, payload in messages.feed(data[a:b])
    ], messages


class TestRoundTrips:
    def test_a_stream(self):
        stream = Stream.from_json(decode_json(WELCOMED[HEADER:]))
        assert stream == STREAM and json.loads(WELCOMED[HEADER:])["protocol"] == PROTOCOL

    @given(st.data())
    def test_a_person(self, data):
        numbers = st.floats(allow_nan=False, allow_infinity=False)
        sizes = {"betas": (4,), "face_shape": (3,), "albedo": (2,), "camera_matrix": (3, 3), "camera_to_world": (4, 4)}
        arrays = {
            name: np.reshape(data.draw(st.lists(numbers, min_size=(count := int(np.prod(size))), max_size=count)), size)
            for name, size in sizes.items()
        }
        person = Person(data.draw(st.integers(0, 2**32 - 1)), data.draw(st.booleans()), **arrays)
        back = decode_person(encode_person(person, STREAM)[HEADER:], STREAM)
        assert (back.revision, back.settled) == (person.revision, person.settled)
        assert all(np.array_equal(getattr(back, name), arrays[name]) for name in arrays), "persons are sent exactly"

    @given(st.data())
    def test_a_frame(self, data):
        numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
        times = st.floats(allow_nan=False, allow_infinity=False)
        arrays = {
            name: np.array(data.draw(st.lists(numbers, min_size=count, max_size=count)))
            for name, count in {"trans": 3, "expression": 3}.items()
        }
        frame = Frame(
            sequence=data.draw(st.integers(0, 2**64 - 1)),
            person=data.draw(st.integers(0, 2**32 - 1)),
            dropped=data.draw(st.integers(0, 2**64 - 1)),
            valid=np.array(data.draw(st.lists(st.booleans(), min_size=4, max_size=4))),
            poses=np.linspace(-3, 3, 156),
            **arrays,
            **{name: data.draw(times) for name in ("timestamp", "arrived", "waited", "network", "worked")},
        )
        assert same(frame, decode_frame(encode_frame(frame, STREAM)[HEADER:], STREAM))

    def test_sizes_of_none(self):
        stream = make_stream(expression_names=(), beta_count=0, shape_count=0, albedo_count=0)
        assert Stream.from_json(decode_json(encode_json(WELCOME, stream.to_json())[HEADER:])) == stream
        for item, encode, decode in (
            (make_person(stream), encode_person, decode_person),
            (make_frame(stream, 1), encode_frame, decode_frame),
        ):
            assert same(item, decode(encode(item, stream)[HEADER:], stream))

    def test_a_frame_is_small(self):
        stream = make_stream(expression_names=tuple(f"e{number}" for number in range(64)))
        assert len(encode_frame(make_frame(stream, 1), stream)) < 1024


class TestEncodingRefuses:
    @pytest.mark.parametrize("changes", [{"poses": np.zeros(155)}, {"trans": np.zeros((1, 3))}, {"expression": np.zeros(2)}])
    def test_a_frame_of_other_sizes(self, changes):
        with pytest.raises(WireError, match="should have shape"):
            encode_frame(make_frame(STREAM, 1, **changes), STREAM)

    @pytest.mark.parametrize("changes", [{"trans": [0, np.nan, 0]}, {"arrived": np.inf}, {"timestamp": np.nan}])
    def test_a_frame_that_is_not_finite(self, changes):
        with pytest.raises(WireError, match="finite"):
            encode_frame(make_frame(STREAM, 1, **changes), STREAM)

    @pytest.mark.parametrize("changes", [{"betas": np.zeros(5)}, {"albedo": [np.inf, 0]}])
    def test_a_person(self, changes):
        with pytest.raises(WireError):
            encode_person(make_person(STREAM, 1, **changes), STREAM)

    def test_a_message_over_the_limit(self):
        with pytest.raises(WireError, match="too large"):
            encode_json(STATUS, {"message": "x" * MAX_PAYLOAD})


class TestCuttingIntoMessages:
    @given(st.lists(st.integers(0, len(EVERYTHING)), max_size=30))
    def test_any_cuts_give_the_same(self, cuts):
        whole, _ = read(EVERYTHING)
        pieces, messages = read(EVERYTHING, cuts)
        assert messages.is_between_messages and len(whole) == 8
        assert all(a == b if isinstance(a, dict) else same(a, b) for a, b in zip(whole, pieces, strict=True))

    def test_byte_by_byte(self):
        items, _ = read(EVERYTHING, range(len(EVERYTHING)))
        assert [type(item) for item in items] == [Stream, Person, Frame, dict, Frame, Person, Frame, dict]

    def test_a_message_that_is_not_whole_is_waited_for(self):
        messages = MessageReader(FROM_CORE)
        assert messages.feed(WELCOMED[:-1]) == [] and not messages.is_between_messages
        assert messages.feed(WELCOMED[-1:]) == [(WELCOME, WELCOMED[HEADER:])] and messages.is_between_messages

    @pytest.mark.parametrize(
        "data",
        [
            b"GET / HTTP/1.1\r\n\r\n",
            struct.pack("<4sB3xI", b"FBMC", FRAME, 2),
            struct.pack("<4sB3xI", b"FBMC", 77, 2),
            struct.pack("<4sB3xI", b"FBMC", HELLO, MAX_PAYLOAD + 1),
            struct.pack("<4sB3xI", b"FBMC", HELLO, 2**32 - 1),
        ],
        ids=["another protocol", "a core's", "unknown", "one too large", "huge"],
    )
    def test_foreign_headers_are_refused_at_once(self, data):
        with pytest.raises(WireError):
            MessageReader(FROM_VIEWER).feed(data)

    def test_what_waits_is_bounded(self):
        messages = MessageReader(FROM_VIEWER)
        data = struct.pack("<4sB3xI", b"FBMC", HELLO, MAX_PAYLOAD) + bytes(MAX_PAYLOAD)
        tracemalloc.start()
        for _ in range(20):
            for start in range(0, len(data), 1 << 16):
                messages.feed(data[start : start + (1 << 16)])
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 6 * MAX_PAYLOAD


class TestMutations:
    """Bytes that were changed on their way give a `WireError` or a message in which every number can be used."""

    @settings(max_examples=400, deadline=None)
    @given(
        st.lists(st.tuples(st.integers(0, len(EVERYTHING) - 1), st.integers(0, 255)), min_size=1, max_size=6),
        st.integers(0, len(EVERYTHING)),
        st.binary(max_size=20),
    )
    def test_changed_and_inserted_bytes(self, changes, place, inserted):
        data = bytearray(EVERYTHING)
        for index, value in changes:
            data[index] = value
        data[place:place] = inserted
        self.check(bytes(data))

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=300))
    def test_anything_as_each_payload(self, payload):
        for kind in range(12):
            self.check(WELCOMED + wire._message(kind, payload))

    @settings(max_examples=200, deadline=None)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=6,
        ),
        st.sampled_from([*STREAM.to_json(), "other"]),
    )
    @example([640, 480, 3], "image_size")
    @example([True, 480], "image_size")
    @example(["a", "a"], "expression_names")
    @example(float("nan"), "framerate")
    @example(10**400, "framerate")
    @example("\ud800", "software")
    def test_anything_as_each_value_of_a_stream(self, value, name):
        payload = json.dumps(STREAM.to_json() | {name: value}).encode()
        self.check(wire._message(WELCOME, payload))

    @staticmethod
    def check(data):
        try:
            items, _ = read(data)
        except WireError as error:
            assert str(error).isprintable()
            return
        for item in items:
            if isinstance(item, (Person, Frame)):
                arrays = [getattr(item, field.name) for field in dataclasses.fields(item)]
                assert all(np.isfinite(values).all() for values in arrays)
            elif isinstance(item, Stream):
                assert np.isfinite(item.framerate) and len(item.image_size) == 2

    @pytest.mark.parametrize(
        "payload", [b"", b"[1]", b"{", b"\xff{}", b"[" * 100_000, b'{"a": ' * 100_000, b'{"a": ' + b"9" * 100_000 + b"}"]
    )
    def test_what_is_no_json_object(self, payload):
        with pytest.raises(WireError):
            decode_json(payload)

    def test_a_frame_with_parts_that_there_are_not(self):
        payload = bytearray(encode_frame(make_frame(STREAM, 1), STREAM)[HEADER:])
        payload[20] |= 16
        with pytest.raises(WireError, match="parts"):
            decode_frame(bytes(payload), STREAM)


class TestOrder:
    def take(self, *messages):
        return read(b"".join(messages))[0]

    def test_nothing_comes_before_the_welcome(self):
        with pytest.raises(WireError, match="before it introduced itself"):
            self.take(encode_json(STATUS, {}))
        assert self.take(encode_json(ERROR, {"message": "No."})) == [{"message": "No."}]

    def test_a_second_welcome(self):
        with pytest.raises(WireError, match="twice"):
            self.take(WELCOMED, WELCOMED)

    @pytest.mark.parametrize("sequence", [0, 4, 5])
    def test_sequence_numbers_increase(self, sequence):
        person = encode_person(make_person(STREAM, 1), STREAM)
        frames = [encode_frame(make_frame(STREAM, number), STREAM) for number in (5, sequence)]
        with pytest.raises(WireError, match="came after"):
            self.take(WELCOMED, person, *frames)

    def test_a_frame_follows_its_person(self):
        persons = [encode_person(make_person(STREAM, revision), STREAM) for revision in (1, 2)]
        frame = encode_frame(make_frame(STREAM, 5), STREAM)
        with pytest.raises(WireError, match="not introduced"):
            self.take(WELCOMED, frame)
        with pytest.raises(WireError, match="not introduced"):
            self.take(WELCOMED, *persons, frame)

    def test_another_protocol(self):
        welcome = encode_json(WELCOME, STREAM.to_json() | {"protocol": PROTOCOL + 1})
        with pytest.raises(WireError, match="update both"):
            self.take(welcome)


class TestHello:
    def test_the_right_one(self):
        check_hello({"protocol": PROTOCOL, "token": "abc"}, "abc")

    @pytest.mark.parametrize("token", [None, "", "abd", "abcd", 7, ["abc"], {"abc": 1}, "\u00e4", "\ud800"])
    def test_wrong_tokens(self, token):
        with pytest.raises(WireError, match="token is wrong"):
            check_hello({"protocol": PROTOCOL, "token": token}, "abc")

    @pytest.mark.parametrize("version", [None, 0, PROTOCOL + 1, "1", [PROTOCOL], {}])
    def test_other_protocols(self, version):
        with pytest.raises(WireError, match="update both"):
            check_hello({"protocol": version, "token": "abc"}, "abc")


class TestRecordings:
    def test_all_of_it(self):
        stream, items = read_recording(TAKE)
        assert stream == STREAM and [type(item) for item in items] == [Person, Frame, Frame, Frame, Person, Frame]
        assert [item.sequence for item in items if isinstance(item, Frame)] == [0, 1, 2, 9]

    def test_cut_anywhere_it_keeps_what_is_whole(self):
        _, whole = read_recording(TAKE)
        counts = []
        for end in range(len(TAKE) + 1):
            try:
                _, items = read_recording(TAKE[:end])
            except WireError:
                assert end < len(WELCOMED)
                continue
            assert all(same(a, b) for a, b in zip(items, whole))
            counts.append(len(items))
        assert counts == sorted(counts) and set(counts) == set(range(7))

    @pytest.mark.parametrize("kind", [STATUS, BYE, ERROR, HELLO, HEARTBEAT, REQUEST])
    def test_it_holds_nothing_else(self, kind):
        with pytest.raises(WireError, match="may not come"):
            read_recording(TAKE + encode_json(kind, {}))

    def test_without_its_head(self):
        for data in (b"", b"x" * 50, TAKE[len(WELCOMED) :]):
            with pytest.raises(WireError):
                read_recording(data)

    def test_the_kinds_it_may_hold(self):
        assert RECORDED == {WELCOME, PERSON, FRAME} and RECORDED < FROM_CORE
