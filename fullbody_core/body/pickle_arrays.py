"""Pickles of arrays, opened without running anything in them: the licensed body models come as such.

A pickle is a program: it names functions and has them called. Here every name stands for an inert stand-in of our own, which only
keeps what it is given; the arrays are put together from that afterwards. So no code of numpy, scipy or chumpy runs for the file,
let alone any other, and a name that belongs to no array is refused as soon as it is read.
"""

import io
import pickle
import pickletools
import re
from pathlib import Path

import numpy as np

from ..contract.npz_file import FileError

MOST_BYTES = 4 * 2**30
MOST_STEPS = 5_000_000
"""Instructions in the pickle: an array is about ten, a list one for each of its items."""

MOST_TUPLES = 20_000
"""Tuples in each other can break the interpreter's stack when they are hashed."""

MOST_NESTING = 60
MOST_DENSE = 2**28
"""Entries of a sparse matrix when it is written out."""

_DTYPE = re.compile(r"[|<>=]?(?:b1|i[1248]|u[1248]|f[248]|S[1-9]\d*|U[1-9]\d*|O8?|\?)")


class PickleError(FileError):
    """A pickle that was not opened. The message is one sentence for the user."""


def read_pickle(path):
    """What a pickle holds, as arrays, numbers, texts, bytes, lists (also for tuples and sets), dicts and None.

    Texts that Python 2 wrote are read as Latin-1, and keys that are bytes become texts. Sparse matrices come dense. An array of
    chumpy's comes as what it holds; a formula of chumpy's, which one would have to compute, as None. Raises `PickleError`.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise PickleError(f"{path} is too large for a body model ({size / 2**30:.0f} GiB).")
        content = path.read_bytes()
    except OSError as error:
        raise PickleError(f"Cannot read {path}: {error.strerror}.") from error
    try:
        _check_steps(content, path)
        records = _Reader(content, path).load()
        return _Rebuilder().of(records)
    except PickleError:
        raise
    except _NoArray as error:
        raise PickleError(f"{path} holds {error}.") from error
    except Exception as error:  # damaged pickles fail in every way there is
        raise PickleError(f"{path} is not a pickle of arrays, or it was cut short.") from error


def _check_steps(content, path):
    """Refuses instructions that reach outside the file, and more of any kind than a file of arrays needs."""
    tuples = 0
    for step, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        name = opcode.name
        if name.startswith("EXT") or name in ("PERSID", "BINPERSID", "NEXT_BUFFER", "READONLY_BUFFER"):
            raise PickleError(f"{path} asks for something outside itself ({name}), which is no array: it was not opened.")
        tuples += name.startswith("TUPLE") or name == "FROZENSET"
        # The unpickler keeps a table as long as the largest of these numbers.
        far = name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > step
        if step > MOST_STEPS or tuples > MOST_TUPLES or far:
            raise PickleError(f"{path} is built like no file of arrays: it was not opened.")


class _NoArray(Exception):
    """What a record holds cannot be made an array; the message is the end of a sentence."""


class _Reader(pickle.Unpickler):
    """Knows the names that pickled arrays need, and gives a stand-in for each."""

    def __init__(self, content, path):
        super().__init__(io.BytesIO(content), encoding="latin1")
        self.path, self.known = path, {}

    def find_class(self, module, name):
        kind = _stand_in(module, name)
        if kind is None:
            raise PickleError(
                f"{self.path} asks for {_shown(f'{module}.{name}')}, which is no array: it was not opened, since such a file can "
                "run programs."
            )
        # A class of its own for each name and each reading: whatever a file does to it ends with it.
        if (module, name) not in self.known:
            self.known[module, name] = type("_StandIn", (kind,), {"what": f"{module}.{name}"})
        return self.known[module, name]

    def persistent_load(self, name):
        raise PickleError(f"{self.path} asks for something outside itself, which is no array: it was not opened.")


def _shown(name):
    """A name from a foreign file as a message can hold it."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)[:80]


class _Record:
    """Keeps what a pickle gives: the arguments it is called with, and the state it is given after."""

    what = ""

    def __new__(cls, *arguments, **_):
        record = object.__new__(cls)
        record.arguments, record.state = arguments, None
        return record

    def __init__(self, *_, **__):
        pass

    def __setstate__(self, state):
        self.state = state


class _Object(_Record):
    """An object by its class, in any of the ways that pickles make one."""


class _Array(_Record):
    """numpy's array: (class, shape, kind) and then (version, shape, dtype, is Fortran's order, content)."""

    def rebuild(self, of):
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            raise _NoArray("an array without content")
        _, shape, dtype, fortran, content = self.state
        return _array(content, dtype, shape, "F" if fortran else "C", of)


class _Buffer(_Record):
    """numpy's array in newer pickles: (content, dtype, shape, order)."""

    def rebuild(self, of):
        content, dtype, shape, order = self.arguments
        return _array(content, dtype, shape, order, of)


class _Scalar(_Record):
    """numpy's number: (dtype, content)."""

    def rebuild(self, of):
        dtype, content = self.arguments
        return _array(content, dtype, (), "C", of)[()]


class _Dtype(_Record):
    """numpy's dtype: (code, two switches) and then (version, byte order, ...)."""

    def rebuild(self, of):
        code = self.arguments[0] if self.arguments else None
        if not isinstance(code, str) or not _DTYPE.fullmatch(code):
            raise _NoArray(f"an array of {_shown(str(code))}, which are no numbers or texts")
        order = self.state[1] if isinstance(self.state, tuple) and len(self.state) > 1 else "="
        if order not in ("<", ">", "=", "|"):
            raise _NoArray("an array of an unknown byte order")
        dtype = np.dtype(code)
        return dtype if order == "|" else dtype.newbyteorder(order)


class _Bytes(_Record):
    """Bytes as Python 3 writes them for Python 2: (text, "latin1"), or (bytes,), or nothing."""

    def rebuild(self, of):
        if len(self.arguments) < 2:
            content = of(self.arguments[0]) if self.arguments else b""
            if not isinstance(content, (bytes, bytearray)):
                raise _NoArray("bytes of something else")
            return bytes(content)
        text, encoding = self.arguments
        if str(encoding).replace("-", "").replace("_", "") != "latin1":
            raise _NoArray(f"bytes in the encoding {_shown(str(encoding))}")
        return text.encode("latin1")


class _List(_Record):
    """A set, or another thing with items: (items,)."""

    def rebuild(self, of):
        return of(self.arguments[0]) if self.arguments else []


class _Sparse(_Record):
    """scipy's compressed matrix: its attributes are the state. It comes dense."""

    def rebuild(self, of):
        from scipy.sparse import csc_matrix, csr_matrix

        state = of(_state(self))
        state = state if isinstance(state, dict) else {}
        data, indices, indptr = (state.get(name) for name in ("data", "indices", "indptr"))
        shape = state.get("_shape", state.get("shape"))
        if not all(isinstance(part, np.ndarray) and part.ndim == 1 for part in (data, indices, indptr)):
            raise _NoArray("a sparse matrix without content")
        if not _is_shape(shape) or len(shape) != 2 or shape[0] * shape[1] > MOST_DENSE:
            raise _NoArray("a sparse matrix of no sensible size")
        whole = all(part.dtype.kind in "iu" for part in (indices, indptr)) and data.dtype.kind in "iufb"
        by_column = ".csc" in self.what or "csc_" in self.what
        major, minor = (shape[1], shape[0]) if by_column else shape
        if not whole or len(indptr) != major + 1 or len(data) != len(indices):
            raise _NoArray("a sparse matrix whose parts do not fit each other")
        steps = np.diff(indptr.astype(np.int64))
        sound = indptr[0] == 0 and indptr[-1] == len(data) and (steps >= 0).all()
        if not sound or (len(indices) and not 0 <= indices.min() <= indices.max() < minor):
            raise _NoArray("a sparse matrix whose parts do not fit each other")
        kind = csc_matrix if by_column else csr_matrix
        return kind((data, indices.astype(np.int64), indptr.astype(np.int64)), shape=tuple(shape)).toarray()


class _Chumpy(_Record):
    """An array of chumpy's: `Ch` holds it as x; `Select` chooses from an array a the places idxs. Others are formulas: None."""

    def rebuild(self, of):
        state = _state(self)
        if self.what.endswith(".Ch") and "x" in state:
            return of(state["x"])
        if self.what.endswith(".Select") and {"a", "idxs"} <= set(state):
            source, places, shape = (of(state.get(name)) for name in ("a", "idxs", "preferred_shape"))
            if not isinstance(source, np.ndarray) or not isinstance(places, np.ndarray) or places.dtype.kind not in "iu":
                return None
            if places.size and not 0 <= places.min() <= places.max() < source.size:
                raise _NoArray("a choice of places outside its array")
            chosen = source.ravel()[places]
            return chosen.reshape(shape) if _is_shape(shape) else chosen
        return None


class _Maker(_Record):
    """What makes an object of a class in old pickles: (class, base, state of the base)."""

    def __new__(cls, *arguments, **_):
        made = arguments[0] if arguments else None
        if not (isinstance(made, type) and issubclass(made, _Record)):
            raise _NoArray("an object of no known class")
        return made(*arguments[1:2])


def _stand_in(module, name):
    """The stand-in of what a pickle calls module.name, or None where it is nothing that arrays need."""
    if module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        return {"_reconstruct": _Array, "scalar": _Scalar}.get(name)
    if module in ("numpy.core.numeric", "numpy._core.numeric"):
        return {"_frombuffer": _Buffer}.get(name)
    if module == "numpy":
        return {"ndarray": _Object, "dtype": _Dtype}.get(name)
    if module in ("__builtin__", "builtins"):
        return {"object": _Object, "set": _List, "frozenset": _List, "bytes": _Bytes, "bytearray": _Bytes}.get(name)
    if module in ("copy_reg", "copyreg"):
        return {"_reconstructor": _Maker}.get(name)
    if module == "_codecs":
        return {"encode": _Bytes}.get(name)
    if re.fullmatch(r"scipy\.sparse(\._?cs[cr]|\._cs[cr])?", module):
        return _Sparse if name in ("csc_matrix", "csr_matrix", "csc_array", "csr_array") else None
    if re.fullmatch(r"chumpy(\.\w+)*", module) and re.fullmatch(r"\w+", name):
        return _Chumpy
    return None


def _state(record):
    """The attributes of an object: its state, or the first part of one in two parts."""
    state = record.state
    if isinstance(state, tuple) and len(state) == 2:
        state = {**(state[0] or {}), **(state[1] or {})}
    return state if isinstance(state, dict) else {}


def _is_shape(shape):
    """Whether it is a tuple of sizes, of Python's or numpy's integers."""
    return isinstance(shape, (list, tuple)) and all(isinstance(size, (int, np.integer)) and size >= 0 for size in shape)


def _array(content, dtype, shape, order, of):
    """The array of a content (bytes, text of Python 2, or a list of objects), as its own copy; of objects: nested lists."""
    dtype, shape = of(dtype), of(shape)
    if not isinstance(dtype, np.dtype) or not _is_shape(shape) or order not in ("C", "F"):
        raise _NoArray("an array whose shape or kind is unknown")
    if dtype.kind == "O":
        items = of(content)
        if not isinstance(items, list):
            raise _NoArray("an array of objects without content")
        array = np.empty(len(items), object)
        array[:] = items
        return array.reshape(shape, order=order).tolist()
    content = of(content)
    content = content.encode("latin1") if isinstance(content, str) else content
    count = int(np.prod([int(size) for size in shape], dtype=object)) if shape else 1
    if not isinstance(content, (bytes, bytearray)) or len(content) != count * dtype.itemsize:
        raise _NoArray("an array whose content is not of its shape")
    # Native byte order, in memory of its own: nothing holds on to the file's bytes.
    return np.frombuffer(content, dtype).reshape(shape, order=order).astype(dtype.newbyteorder("="), order="K")


class _Rebuilder:
    """Turns records into what they stand for, each once, however often the file refers to it."""

    def __init__(self):
        self.done, self.depth = {}, 0

    def of(self, value):
        if isinstance(value, np.dtype) or value is None or isinstance(value, (bool, int, float, str, bytes, bytearray)):
            return value
        key = id(value)
        if key in self.done:
            if self.done[key] is self:
                raise _NoArray("something that holds itself")
            return self.done[key][1]
        self.done[key] = self
        self.depth += 1
        if self.depth > MOST_NESTING:
            raise _NoArray("lists too deep in each other")
        made = self._make(value)
        self.depth -= 1
        self.done[key] = (value, made)  # the value, too: an id is its own only as long as it lives
        return made

    def _make(self, value):
        if isinstance(value, dict):
            return {_key(key, self.of): self.of(item) for key, item in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self.of(item) for item in value]
        if isinstance(value, _Record) and hasattr(value, "rebuild"):
            return value.rebuild(self.of)
        raise _NoArray("something that is no array, number or text")


def _key(key, of):
    key = of(key)
    if isinstance(key, (bytes, bytearray)):
        return bytes(key).decode("latin1")
    if isinstance(key, np.generic):
        key = key.item()
    if not isinstance(key, (str, int, float, bool)) and key is not None:
        raise _NoArray("a dict whose keys are no texts or numbers")
    return key
