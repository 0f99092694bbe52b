"""Pickles: arrays come out of them as they went in, and nothing that they ask for is ever run."""

import copyreg
import io
import os
import pickle
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from licensed_standins import fake_chumpy
from scipy import sparse

from fullbody_core.body import pickle_arrays
from fullbody_core.body.pickle_arrays import PickleError, read_pickle

KINDS = hnp.integer_dtypes() | hnp.unsigned_integer_dtypes() | hnp.floating_dtypes(sizes=(16, 32, 64)) | hnp.boolean_dtypes()
ARRAYS = hnp.arrays(KINDS, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
SIMPLE = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
NESTED = st.recursive(
    SIMPLE | ARRAYS,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(), inside, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("pickles") / "model.pkl"


def written(path, content):
    path.write_bytes(content)
    return path


def assert_same(got, expected):
    if isinstance(expected, np.ndarray):
        assert isinstance(got, np.ndarray) and got.dtype == expected.dtype.newbyteorder("=") and got.shape == expected.shape
        np.testing.assert_array_equal(got, expected)
    elif isinstance(expected, dict):
        assert list(got) == list(expected)
        for name, value in expected.items():
            assert_same(got[name], value)
    elif isinstance(expected, list):
        assert len(got) == len(expected)
        for one, other in zip(got, expected):
            assert_same(one, other)
    else:
        assert type(got) is type(expected) and got == expected


@settings(max_examples=150, deadline=None)
@given(value=NESTED, protocol=st.integers(0, 5))
def test_what_was_pickled_comes_back(place, value, protocol):
    assert_same(read_pickle(written(place, pickle.dumps(value, protocol))), value)


@pytest.mark.parametrize("protocol", range(6))
def test_order_in_memory_numbers_texts_sets_and_sharing(place, protocol):
    array = np.arange(24.0).reshape(2, 3, 4)
    shared = np.arange(3)
    value = {
        "fortran": np.asfortranarray(array),
        "strided": array[:, ::2],
        "big": array.astype(">f4"),
        "number": np.float32(1.5),
        "texts": np.array(["left", "right"]),
        "bytes": np.array([b"ab", b"c"]),
        b"key": (1, "two"),
        "set": {"a"},
        "objects": np.array([shared, "x", None], object),
        "twice": [shared, shared],
    }
    got = read_pickle(written(place, pickle.dumps(value, protocol)))
    for name in ("fortran", "strided", "big", "texts", "bytes"):
        assert_same(got[name], np.asarray(value[name]))
    assert got["number"] == 1.5 and got["key"] == [1, "two"] and got["set"] == ["a"]
    assert_same(got["objects"], [shared, "x", None])
    assert got["twice"][0] is got["twice"][1]
    got["fortran"][0, 0, 0] = 7  # an array of its own, that may be written to


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
@pytest.mark.parametrize("kind", [sparse.csc_matrix, sparse.csr_matrix])
def test_sparse_matrices_come_dense(place, kind, protocol):
    dense = np.random.default_rng(0).normal(size=(5, 8)) * (np.random.default_rng(1).random((5, 8)) < 0.3)
    np.testing.assert_array_equal(read_pickle(written(place, pickle.dumps(kind(dense), protocol))), dense)


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_chumpys_arrays_come_as_what_they_hold_and_its_formulas_as_none(place, protocol):
    values = np.random.default_rng(2).normal(size=(4, 3, 5))
    with fake_chumpy() as chumpy:
        content = {"ch": chumpy.Ch(values), "select": chumpy.Select(values), "sum": chumpy.add(values)}
        content = pickle.dumps(content, protocol)
    assert not any(name.startswith("chumpy") for name in sys.modules)
    got = read_pickle(written(place, content))
    np.testing.assert_array_equal(got["ch"], values)
    np.testing.assert_array_equal(got["select"], values)
    assert got["sum"] is None


def test_texts_that_python_2_wrote_are_read(place):
    # {'a': array([1., 2.])} and a str beyond ASCII, as cPickle of Python 2 wrote them with protocol 2.
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02\x85cnumpy\ndtype\nU\x02f8"
    )
    array += (
        b"K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x10"
        + struct.pack("<2d", 1, 2)
        + b"tb"
    )
    got = read_pickle(written(place, b"\x80\x02}(U\x01a" + array + b"U\x01bU\x02\xe9\xff" + b"u."))
    np.testing.assert_array_equal(got["a"], [1.0, 2.0])
    assert got["b"] == "\xe9\xff"


# What is no array is refused, by name, and not run.


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def tripwire(*_):
    """Is called by a pickle that was let through."""
    tripwire.count += 1


tripwire.count = 0


def named(module, name, protocol=2, arguments=b"(t"):
    """A pickle that calls module.name by GLOBAL, or by STACK_GLOBAL for protocol 4."""
    if protocol >= 4:
        texts = b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name))
        return b"\x80\x04" + texts + b"\x93" + arguments + b"R."
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + arguments + b"R."


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"), ("posix", "system"), ("nt", "system"), ("subprocess", "Popen"), ("builtins", "eval"),
        ("builtins", "exec"), ("builtins", "getattr"), ("builtins", "__import__"), ("__builtin__", "apply"),
        ("builtins", "open"), ("numpy", "load"), ("numpy.testing", "measure"), ("numpy.core.multiarray", "fromfile"),
        ("numpy.core.multiarray", "frompyfunc"), ("numpy.f2py", "run_main"), ("numpy", "core.multiarray._reconstruct"),
        ("scipy.sparse", "load_npz"), ("scipy.sparse", "coo_matrix"), ("scipy.io", "loadmat"), ("chumpy.ch", "os.system"),
        ("torch", "load"), ("functools", "partial"), ("operator", "attrgetter"), ("_codecs", "lookup"),
        ("copyreg", "add_extension"), ("copy_reg", "_reduce_ex"),
        ("pickle", "loads"), ("ctypes", "CDLL"), ("test_pickle_arrays", "tripwire"),
        ("os.path\r", "join"), ("collections", "OrderedDict"),
    ],
)  # fmt: skip
def test_a_name_that_is_no_array_is_refused_by_name(place, module, name, protocol):
    with pytest.raises(PickleError) as error:
        read_pickle(written(place, named(module, name, protocol)))
    message = str(error.value)
    assert f"{module}.{name}".replace("\r", "?") in message and "which is no array" in message
    assert "\n" not in message and "\r" not in message and message.endswith(".")


def test_nothing_is_run(place, tmp_path):
    mark = tmp_path / "was_here"
    before = tripwire.count
    attacks = [
        Calls(os.system, f"touch {mark}"),
        Calls(eval, f"open({str(mark)!r}, 'w')"),
        Calls(Path.touch, mark),
        Calls(getattr, Calls(__import__, "os"), "system"),
        Calls(tripwire),
        {"v_template": np.zeros((3, 3)), "weights": [Calls(tripwire)]},
        np.array([Calls(tripwire)], object),
    ]
    for attack in attacks:
        for protocol in range(2, 6):
            with pytest.raises(PickleError):
                read_pickle(written(place, pickle.dumps(attack, protocol)))
    for module, name in (("os", "system"), ("test_pickle_arrays", "tripwire")):
        instance = f"(S'touch {mark}'\ni{module}\n{name}\n.".encode()  # INST calls at once
        with pytest.raises(PickleError, match="no array"):
            read_pickle(written(place, instance))
        with pytest.raises(PickleError, match="no array"):
            read_pickle(written(place, b"(c" + f"{module}\n{name}\nS'touch {mark}'\no.".encode()))  # OBJ
    assert not mark.exists() and tripwire.count == before
    # The same pickle does run when it is opened the usual way, so that this test can fail.
    pickle.loads(pickle.dumps(Calls(tripwire)))
    assert tripwire.count == before + 1


def test_things_outside_the_file_are_refused(place, monkeypatch):
    class Persistent(pickle.Pickler):
        def persistent_id(self, item):
            return "elsewhere" if item == "me" else None

    stream = io.BytesIO()
    Persistent(stream, 2).dump({"a": "me"})
    for content in (stream.getvalue(), b"Pelsewhere\n.", b"\x80\x05\x97."):
        with pytest.raises(PickleError, match="outside itself"):
            read_pickle(written(place, content))
    # An extension that was used before lies in a cache that asks nobody.
    monkeypatch.setitem(copyreg._extension_cache, 77, tripwire)
    for content in (b"\x80\x02\x82M(tR.", b"\x80\x02\x83M\x00(tR.", b"\x80\x02\x84M\x00\x00\x00(tR."):
        with pytest.raises(PickleError, match="EXT"):
            read_pickle(written(place, content))
    assert tripwire.count <= 1


def test_what_a_file_does_to_a_stand_in_ends_with_it(place):
    array = pickle.dumps(np.arange(3.0), 2)
    spoil = b"cnumpy\ndtype\n(NV\x72ebuild\nK\x01stb"  # BUILD with a state that would set attributes of the class
    for content in (b"\x80\x02" + spoil + b".", b"\x80\x02cnumpy\ndtype\n}(V\x72ebuild\nK\x01ub."):
        with pytest.raises(PickleError):
            read_pickle(written(place, content))
    np.testing.assert_array_equal(read_pickle(written(place, array)), np.arange(3.0))
    assert callable(pickle_arrays._Dtype.rebuild)


class Forged:
    """An array whose state is what one likes."""

    def __init__(self, *state):
        self.state = state

    def __reduce__(self):
        make, arguments, _ = np.zeros(0).__reduce__()
        return make, arguments, self.state


@pytest.mark.parametrize(
    "forged",
    [
        Forged(1, (3,), np.dtype("f8"), False, bytes(16)),
        Forged(1, (2**40, 2**40), np.dtype("f8"), False, bytes(16)),
        Forged(1, (-1,), np.dtype("f8"), False, bytes(8)),
        Forged(1, (1,), np.dtype("M8[s]"), False, bytes(8)),
        Forged(1, (1,), np.dtype([("a", "f8")]), False, bytes(8)),
        Forged(1, (1,), "f8", False, bytes(8)),
        Forged(1, (1,), np.dtype("O"), False, bytes(8)),
        Forged(1, (1,)),
        Forged(),
    ],
)
def test_an_array_that_does_not_hold_together_is_refused(place, forged):
    with pytest.raises(PickleError) as error:
        read_pickle(written(place, pickle.dumps(forged, 2)))
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


def test_a_sparse_matrix_that_does_not_hold_together_is_refused(place):
    for change in (
        {"indices": np.array([0, 9, 1], np.int32)},
        {"indices": np.array([0, -1, 1], np.int32)},
        {"indptr": np.array([0, 2, 1, 3], np.int32)},
        {"indptr": np.array([0, 1, 2], np.int32)},
        {"_shape": (2**20, 2**20)},
        {"_shape": "large"},
        {"data": np.array([1.0])},
        {"data": [1.0, 2.0, 3.0]},
    ):
        matrix = sparse.csc_matrix(np.eye(3))
        matrix.__dict__.update(change)
        with pytest.raises(PickleError, match="sparse"):
            read_pickle(written(place, pickle.dumps(matrix, 2)))


def test_files_built_to_exhaust_are_refused_at_once(place):
    holds_itself = []
    holds_itself.append(holds_itself)
    far = b"\x80\x02]r" + struct.pack("<I", 2**31 - 1) + b"."  # a table of 2^31 entries
    long = b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"abc."  # a text of a terabyte
    tuples = b"\x80\x02)" + b"\x85" * 1_000_000 + b"."
    laughs = b"\x80\x02]q\x00"  # each list holds the one before ten times
    for level in range(1, 50):
        laughs += b"](" + (b"h" + bytes([level - 1])) * 10 + b"eq" + bytes([level])
    contents = [_dumps_deep(2000), pickle.dumps(holds_itself, 2), far, long, tuples]
    for content in contents:
        with pytest.raises(PickleError):
            read_pickle(written(place, content))
    got = read_pickle(written(place, laughs + b"."))
    assert len(got) == 10 and got[0] is got[9]


def _dumps_deep(count):
    """A list in a list, `count` times."""
    return b"\x80\x02" + b"]" * count + b"a" * (count - 1) + b"."


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02", b"\x80\x02]", b"PK\x03\x04", b"\x80\x02.", b"\x80\x09N."])
def test_what_is_no_pickle_is_refused(place, content):
    with pytest.raises(PickleError, match="cut short") as error:
        read_pickle(written(place, content))
    assert str(error.value).endswith(".")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_pickle_is_refused_or_read_but_never_breaks(place, data):
    content = bytearray(
        pickle.dumps({"a": np.arange(6.0).reshape(2, 3), "b": [1, "x"], "c": sparse.csc_matrix(np.eye(2))}, 2)
    )
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    try:
        read_pickle(written(place, bytes(content)))
    except PickleError as error:
        assert str(error).endswith(".") and "\n" not in str(error)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(PickleError, match="Cannot read"):
        read_pickle(tmp_path / "nowhere.pkl")
