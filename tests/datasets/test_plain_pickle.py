"""Pickles are read without Python's unpickler: nothing in them is called, and only plain values come out."""

import gzip
import io
import json
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import PurePosixPath

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcorr.contract.errors import MissingError, UsageError
from vcorr.data.plain_pickle import iterate_entries, read_plain

PLAIN = (str, bytes, int, float, bool, type(None))
ARRAYS = {
    "uint8": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    "big-endian": np.linspace(0, 1, 6, dtype=">f4").reshape(2, 3),
    "columns first": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "axes exchanged": np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2),
    "not contiguous": np.arange(20)[::3],
    "bool": np.array([[True, False], [False, False]]),
    "empty": np.zeros((0, 5, 2), np.float32),
    "one number": np.array(3.5),
    "half": np.float16([1, 2]),
    "bytes": np.array([b"\xff\xd8 a", b"\xff\xd8 longer"]),
    "text": np.array(["a", "été"]),
    "objects": np.array([b"a", b"bcd", None], object),
}


@pytest.fixture
def read(tmp_path):
    def from_bytes(data: bytes):
        path = tmp_path / "made.pkl"
        path.write_bytes(data)
        return read_plain(path)

    return from_bytes


def is_same(found, expected) -> bool:
    """Compares two values with their types; in an array, with its type, shape and values, in any order of bytes."""
    if isinstance(expected, np.ndarray):
        native = expected.astype(expected.dtype.newbyteorder("="))
        same = isinstance(found, np.ndarray) and (found.dtype, found.shape) == (native.dtype, native.shape)
        return bool(same and np.array_equal(found, native))
    if type(found) is not type(expected):
        return False
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(is_same(found[k], v) for k, v in expected.items())
    if isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(is_same, found, expected))
    return bool(found == expected or (found != found and expected != expected))


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_back_in_every_protocol_and_under_both_names_of_numpys_modules(read, name, protocol):
    array = ARRAYS[name]
    data = pickle.dumps([array, array, {"again": array}], protocol)
    old = data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray").replace(
        b"numpy._core.numeric", b"numpy.core.numeric"
    )
    if old != data and protocol >= 4:  # the length of the name comes before it, and the frame around it
        old = pickle.dumps([array, array, {"again": array}], 3).replace(b"numpy._core.", b"numpy.core.")
    for version in (data, old):
        found = read(version)
        assert is_same(found, [array, array, {"again": array}])
        assert found[0] is found[1] is found[2]["again"]


SCALARS = st.none() | st.booleans() | st.integers(-(2**200), 2**200) | st.floats() | st.text() | st.binary()
VALUES = st.recursive(
    SCALARS | st.sampled_from([*ARRAYS.values()]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4) | st.tuples(inner, inner),
    max_leaves=12,
)


@settings(max_examples=30, deadline=None)
@given(VALUES, st.integers(2, 5))
def test_every_plain_value_is_read_as_python_reads_it(tmp_path_factory, value, protocol):
    path = tmp_path_factory.getbasetemp() / "plain.pkl"
    path.write_bytes(pickle.dumps(value, protocol))
    assert is_same(read_plain(path), pickle.loads(path.read_bytes()))


@pytest.mark.parametrize("protocol", range(2, 6))
def test_sets_numbers_of_numpy_and_long_containers(read, protocol):
    value = {
        "set": {1, "a"},
        "frozen": frozenset([b"x"]),
        "many": list(range(3000)),
        "none": b"",
        "array": bytearray(b"ab"),
    }
    value["number"], value["true"], value["word"] = np.float32(1.5), np.bool_(True), np.str_("ab")
    found = read(pickle.dumps(value, protocol))
    assert found == {**value, "array": b"ab"}
    assert all(type(found[name]) in PLAIN for name in ("number", "true", "word", "array"))


class Call:
    """Its pickle calls a function."""

    def __init__(self, function, *arguments):
        self.called = function, arguments

    def __reduce__(self):
        return self.called


class Thing:
    """Its pickle names this class."""


HOSTILE = {
    "os.system": (Call(os.system, "touch ran"), "posix.system"),
    "eval": (Call(eval, "open('ran', 'w')"), "(builtins|__builtin__).eval"),
    "open": (Call(open, "ran", "w"), r"io.open|builtins.open|_io.open"),
    "a class": (Thing(), r"test_plain_pickle.Thing|copyreg|opcode NEWOBJ"),
    "an ordered dictionary": (OrderedDict(a=1), "collections.OrderedDict"),
    "a path": (PurePosixPath("a"), "pathlib"),
    "a masked array": (np.ma.array([1, 2], mask=[0, 1]), "numpy.ma"),
    "dates": (np.array(["2020-01-01"], "M8[D]"), "type 'M8"),
    "complex numbers": (np.zeros(2, complex), "type 'c16'"),
    "fields": (np.zeros(2, [("a", "f4")]), "type 'V4'"),
    "array of arrays": (np.array([np.zeros(2), None], object), "array of arrays"),
    "the type alone": (np.dtype("f4"), "no plain value"),
    "the class of arrays": ([np.ndarray], "no plain value"),
    "numpy.load": (Call(np.load, "x.npy"), "numpy.load|numpy.lib"),
    "a slice": (slice(3), "builtins.slice|__builtin__.slice"),
    "getattr of an array": (Call(getattr, np.zeros(2), "tofile"), "getattr"),
    "rot13": (Call(__import__("_codecs").encode, "a", "rot13"), "coding 'rot13'"),
}


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_plain_value_is_refused_before_anything_runs(read, name, protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    value, message = HOSTILE[name]
    with pytest.raises(UsageError, match=message) as raised:
        read(pickle.dumps({"video": [value]}, protocol))
    assert "made.pkl" in raised.value.message
    assert not os.path.exists("ran")


def test_buffers_outside_the_file_are_refused(read):
    outside = []
    data = pickle.dumps([np.zeros(9)], 5, buffer_callback=outside.append)
    assert outside
    with pytest.raises(UsageError, match="buffers outside the file"):
        read(data)


OPCODES = [bytes([code]) for code in range(256)]
NAMED = [("os", "system"), ("builtins", "eval"), ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")]
NAMED += [("numpy._core.multiarray", "_reconstruct"), ("numpy._core.numeric", "_frombuffer"), ("builtins", "set")]
PIECES = st.one_of(
    st.sampled_from(OPCODES),
    st.sampled_from(
        [b"]", b"}", b"(", b")", b"t", b"\x85", b"\x86", b"R", b"b", b"N", b"2", b"\x94", b"h\x00", b"h\x01"]
    ),
    st.sampled_from([f"c{module}\n{name}\n".encode() for module, name in NAMED]),
    st.sampled_from([b"\x8c\x02f4", b"C\x01b", b"\x8c\x06latin1", b"K\x00", b"K\x00\x85", b"C\x04abcd", b"\x8c\x01<"]),
)
WHOLE_ARRAY = pickle.dumps(np.arange(3), 4)[11:-1]


def holds_only_plain_values(value, seen) -> bool:
    if id(value) in seen:
        return True
    seen.add(id(value))
    if type(value) in PLAIN:
        return True
    if type(value) is np.ndarray:
        return value.dtype.kind in "biufSU" or all(type(item) in PLAIN for item in value.ravel().tolist())
    inner = [*value, *value.values()] if type(value) is dict else value
    return type(value) in (list, tuple, dict, set, frozenset) and all(holds_only_plain_values(v, seen) for v in inner)


def gives_plain_values_or_an_error_with_its_name(reader, path) -> bool:
    try:
        return holds_only_plain_values(reader(path), set())
    except UsageError as error:
        return path.name in error.message


@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES | st.just(WHOLE_ARRAY), max_size=24))
def test_drawn_opcodes_give_plain_values_or_one_error_and_run_nothing(tmp_path_factory, pieces):
    path = tmp_path_factory.getbasetemp() / "drawn.pkl"
    path.write_bytes(b"\x80\x04" + b"".join(pieces) + b".")
    for reader in (read_plain, lambda path: list(iterate_entries(path))):
        assert gives_plain_values_or_an_error_with_its_name(reader, path)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_changed_byte_or_an_early_end_is_one_error_or_plain_values(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "changed.pkl"
    whole = bytearray(
        pickle.dumps({"a": {"video": ARRAYS["uint8"], "points": ARRAYS["big-endian"]}}, data.draw(st.integers(2, 5)))
    )
    place = data.draw(st.integers(2, len(whole) - 1))
    if data.draw(st.booleans()):
        del whole[place:]
    else:
        whole[place] = data.draw(st.integers(0, 255))
    path.write_bytes(whole)
    assert gives_plain_values_or_an_error_with_its_name(read_plain, path)


def zip_up(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.pkl", data)
    return file.getvalue()


GOOD = pickle.dumps({"a": {"video": np.zeros(9, np.uint8)}}, 4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"empty \(0 bytes\)"),
        (gzip.compress(GOOD), "a gzip archive"),
        (zip_up(GOOD), "a zip archive"),
        (json.dumps({"a": [1]}).encode(), "JSON or other text"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"\x93NUMPY\x01\x00", "a .npy file"),
        (pickle.dumps([1], 0), "not a pickle of protocol 2 to 5"),
        (pickle.dumps([1], 1), "not a pickle of protocol 2 to 5"),
        (b"\x80\x09N.", "a pickle of protocol 9"),
        (b"\x7fELF\x00\x01", "something else"),
        (GOOD[:-1], "damaged or cut off"),
        (GOOD[:40], "damaged or cut off"),
        (b"\x80\x04NN.", "ends with 2 values"),
        (b"\x80\x04N", "it ends too early"),
        (b"\x80\x04I1\n.", "the opcode INT"),
        (b"\x80\x04U\x01aQ.", "the opcode BINPERSID"),
        (b"\x80\x04\xff.", "is no opcode"),
    ],
)
def test_what_is_no_whole_pickle_is_named_as_what_it_is(read, content, message):
    with pytest.raises(UsageError, match=message) as raised:
        read(content)
    assert "made.pkl" in raised.value.message
    assert raised.value.hint


def test_a_missing_file_and_a_folder(tmp_path):
    for path, message in ((tmp_path / "none.pkl", "No such file"), (tmp_path, "no ordinary file")):
        with pytest.raises(MissingError, match=message):
            read_plain(path)


def array_of(shape: tuple, data: bytes) -> bytes:
    """Returns a pickle of an array whose state is written by hand."""
    whole = pickle.dumps(np.zeros(4, np.uint8), 2)
    state = b"(K\x01" + pickle.dumps(shape, 2)[2:-1]
    begin, end = whole.index(b"(K\x01"), whole.index(b"cnumpy\ndtype")
    return (
        whole[:begin]
        + state
        + whole[end : whole.rindex(b"\x89") + 1]
        + b"B"
        + struct.pack("<I", len(data))
        + data
        + b"tb."
    )


BOMBS = {
    "an array of a terabyte": array_of((1 << 20, 1 << 20), b"abcd"),
    "a negative side": array_of((-4,), b"abcd"),
    "sides whose product overflows": array_of((1 << 32, 1 << 32), b"abcd"),
    "bytes of four gigabytes": b"\x80\x04B" + struct.pack("<I", (1 << 32) - 1) + b"abc.",
    "bytes of an exabyte": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"abc.",
    "a shape of more axes than arrays have": array_of((1,) * 64, b"a"),
    "a shape whose text has no end": array_of((), b"a").replace(b"K\x01)", b"K\x01)" + b"2\x86" * 60),
    "a coding whose text has no end": b"\x80\x04c_codecs\nencode\n\x8c\x01a)" + b"2\x86" * 60 + b"\x86R.",
    "a frame of an exabyte": b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"N.",
    "a number of a megabyte": b"\x80\x04\x8b" + struct.pack("<I", 1 << 20) + b"\x7f" * (1 << 20) + b".",
    "half a million lists": b"\x80\x04(" + b"]" * (1 << 19) + b"l.",
    "nested tuples as a key": b"\x80\x04})" + b"\x85" * 20_000 + b"Ns.",
    "a name without an end": b"\x80\x04c" + b"a" * 5000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_would_take_memory_out_of_proportion_is_refused(read, name):
    tracemalloc.start()
    with pytest.raises(UsageError, match="damaged or cut off"):
        read(BOMBS[name])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20


def test_the_array_written_by_hand_is_read_if_its_shape_fits(read):
    assert is_same(read(array_of((2, 2), b"abcd")), np.frombuffer(b"abcd", np.uint8).reshape(2, 2))


def entry(number: int) -> dict:
    return {"video": np.full(1 << 20, number, np.uint8), "points": np.full((1, 2), number, np.float32), "n": number}


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("container", [list, dict])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_entries_are_yielded_in_order_as_a_whole(tmp_path, container, protocol, count):
    entries = [entry(number) for number in range(count)]
    whole = entries if container is list else {f"clip {n}": value for n, value in enumerate(entries)}
    (tmp_path / "some.pkl").write_bytes(pickle.dumps(whole, protocol))
    found = list(iterate_entries(tmp_path / "some.pkl"))
    assert [key for key, _ in found] == (list(range(count)) if container is list else list(whole))
    assert all(map(is_same, [value for _, value in found], entries))


@pytest.mark.parametrize("container", [list, dict])
def test_memory_stays_flat_over_the_entries_of_a_file(tmp_path, container):
    entries = [entry(number) for number in range(24)]
    whole = entries if container is list else {f"clip {n}": value for n, value in enumerate(entries)}
    (tmp_path / "many.pkl").write_bytes(pickle.dumps(whole, 4))
    tracemalloc.start()
    for _, value in iterate_entries(tmp_path / "many.pkl"):
        assert value["video"].size == 1 << 20
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 << 20  # of 24 MiB


def test_an_entry_that_refers_to_the_data_of_an_earlier_one_is_an_error(tmp_path):
    video = np.zeros(4000, np.uint8)
    (tmp_path / "shared.pkl").write_bytes(pickle.dumps([{"video": video, "n": 1}, {"video": video, "n": 2}], 4))
    with pytest.raises(UsageError, match="data of an earlier entry"):
        list(iterate_entries(tmp_path / "shared.pkl"))


@pytest.mark.parametrize("value", [3, "text", (1, 2), np.zeros(3)])
def test_a_value_that_has_no_entries_is_refused(tmp_path, value):
    (tmp_path / "odd.pkl").write_bytes(pickle.dumps(value))
    with pytest.raises(UsageError, match="not a list or a dictionary of clips"):
        list(iterate_entries(tmp_path / "odd.pkl"))
