"""Runs with faults: drawn edits of run.json and of shards, and what the reading commands say about them.

An edit changes a copy of a finished run. It says what has to come out: `SAME` for an edit that changes no value, `TOLD`
for one that a reader of that table must report, and `EITHER` where both are right.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from vcorr.cli import main as program
from vcorr.store.schema import SCHEMA_VERSION

SAME, TOLD, EITHER = "same", "told", "either"
Expected = Literal["same", "told", "either"]

RUN = ("run", "--model", "sliding-model", "--probe", "qk,attention", "--steps", "0,9", "--set", "data.clips=4")
TABLES = ("scores", "predictions", "tracks")
RECORD = "run.json"
SECONDS = 60
"""A command that takes longer hangs."""


@dataclass(frozen=True)
class Edit:
    """A change of one file below a run. table: the table whose readers must notice it; "" for run.json."""

    name: str
    table: str
    expected: Expected
    apply: Callable[[Path], None]

    def __repr__(self) -> str:
        return f"Edit({self.name})"


@dataclass(frozen=True)
class Outcome:
    """What a command did. crash: its traceback, "" if there is none."""

    command: str
    code: int
    out: str
    err: str
    crash: str = ""


# ----------------------------------------------------------------------------------------------------------- commands


def make_run(folder: Path) -> Path:
    """Makes the finished run below `folder` that edits change; returns its directory."""
    done = invoke(*RUN, "--out", str(folder), "--json")
    assert done.code == 0, done
    return Path(json.loads(done.out)["path"])


def invoke(*words: str) -> Outcome:
    """Runs a command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _no_hang():
            program.main(words)
    except SystemExit as ended:
        return Outcome(words[0], int(ended.code or 0), out.getvalue(), err.getvalue())
    except BaseException:
        return Outcome(words[0], -1, out.getvalue(), err.getvalue(), traceback.format_exc())
    raise AssertionError("the program always exits")


@contextlib.contextmanager
def _no_hang() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"still running after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def commands(results: Path, run: Path, other: Path, site: Path) -> dict[str, tuple[str, ...]]:
    """Returns the commands that read the run of a folder of results; `other` is a whole run with the same spec."""
    return {
        "show": ("show", "run", str(run)),
        "show --json": ("show", "run", str(run), "--json"),
        "compare": ("compare", str(run), str(other), "--json"),
        "compare, the other way round": ("compare", str(other), str(run)),
        "board": ("board", "build", "--results", str(results), "--out", str(site)),
        "score": ("score", str(run), "--json"),
        "run": (*RUN, "--out", str(results), "--json"),
    }


def try_edit(edit: Edit, whole: Path, scratch: Path, only: Sequence[str] = ()) -> dict[str, Outcome]:
    """Returns what the reading commands say about a run with this edit; each command gets a fresh copy.

    only: names of commands; empty for all.
    """
    found = {}
    for name in only or commands(scratch, scratch, scratch, scratch):
        shutil.rmtree(scratch, ignore_errors=True)
        results = scratch / "runs"
        run = Path(shutil.copytree(whole, results / whole.name))
        edit.apply(run)
        found[name] = invoke(*commands(results, run, whole, scratch / "site")[name])
    return found


# ----------------------------------------------------------------------------------------------------------- run.json

ODD_VALUES: tuple[Any, ...] = (
    None,
    "",
    "x",
    "\x1b[2J\r\n\x00",
    "\ud800",
    "complete",
    0,
    -1,
    -3,
    7,
    10**30,
    1.5,
    1e308,
    float("nan"),
    float("inf"),
    True,
    [],
    [[]],
    [None],
    ["x"],
    {},
    {"x": {}},
    {"name": "x"},
    [{"name": 3}],
    "x" * 100_000,
)


def nest(levels: int) -> Any:
    """Returns lists inside lists."""
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yields the path of every value inside a JSON document."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield from paths_of(part, (*path, key))


def _edit_value(path: tuple[Any, ...], value: Any, *, remove: bool = False) -> Callable[[Path], None]:
    def apply(run: Path) -> None:
        record = json.loads((run / RECORD).read_text(encoding="utf-8"))
        inside = record
        for key in path[:-1]:
            inside = inside[key]
        if remove:
            del inside[path[-1]]
        else:
            inside[path[-1]] = copy.deepcopy(value)
        (run / RECORD).write_text(json.dumps(record), encoding="utf-8")

    return apply


def record_edits(run: Path) -> st.SearchStrategy[Edit]:
    """Draws edits of one value of the record of `run`."""
    record = json.loads((run / RECORD).read_text(encoding="utf-8"))
    paths = sorted(paths_of(record), key=str)
    # a value at the top of the record is as likely as one inside `resolved`
    by_key = {key: [path for path in paths if path[0] == key] for key in record}
    values = st.one_of(st.sampled_from(ODD_VALUES), st.integers(5, 300).map(nest))

    @st.composite
    def draw(draw: Any) -> Edit:
        path = draw(st.sampled_from(by_key[draw(st.sampled_from(sorted(by_key)))]))
        if draw(st.integers(0, 3)) == 0:
            return Edit(f"run.json without {path}", "", EITHER, _edit_value(path, None, remove=True))
        value = draw(values)
        return Edit(f"run.json {path} = {str(value)[:40]!r}", "", EITHER, _edit_value(path, value))

    return draw()


def _replace_text(text: bytes) -> Callable[[Path], None]:
    return lambda run: _write(run / RECORD, text)


def _write(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def record_file_edits() -> list[Edit]:
    """Returns edits of run.json as a file."""
    texts = {
        "empty": b"",
        "null": b"null",
        "a list": b"[]",
        "a text": b'"x"',
        "an empty mapping": b"{}",
        "cut off": b'{"record_version": 2, "run": "a',
        "deep": b'{"card": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "no UTF-8": b'{"run": "\xff"}',
        "zeros": bytes(1000),
        "a long number": b'{"record_version": ' + b"9" * 5000 + b"}",
        "twice the same key": b'{"record_version": 2, "status": "complete", "status": "failed"}',
        "a newer version": b'{"record_version": 99}',
        "version -3": b'{"record_version": -3}',
    }
    found = [Edit(f"run.json: {name}", "", TOLD, _replace_text(text)) for name, text in texts.items()]
    places = {"a folder": _folder_at, "a link to itself": _loop_at, "a pipe": _pipe_at, "of 200 MB": _large_at}
    return found + [
        Edit(f"run.json: {name}", "", TOLD, lambda run, place=place: place(run / RECORD))
        for name, place in places.items()
    ]


def _folder_at(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _loop_at(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def _pipe_at(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _large_at(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        file.truncate(200_000_000)  # the file system stores no zeros


# ------------------------------------------------------------------------------------------------------------- shards

ODD_NUMBERS = (1e30, float("nan"), float("inf"), -float("inf"), -7.0, float(2**31 - 1), 1e9, 0.25)
ODD_TEXTS = ("", "x", "\x1b[2J", "token-3", "x" * 50_000, "{}", "null", "[1]", "failed", "ok", "corrected+nonsense=1")
VERSIONS = (b"-3", b"0", b"x", b"", str(SCHEMA_VERSION + 1).encode(), b"9" * 30, b"\xff", None)


def _rewrite(path: Path, table: pa.Table, *, compression: str | None = "zstd") -> None:
    path.unlink()
    with pa.ipc.new_file(str(path), table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table)


def _read(path: Path) -> pa.Table:
    """Reads a shard without its checksum, so that an edited one is refused for what is wrong in it."""
    table = pa.ipc.open_file(path.read_bytes()).read_all()
    metadata = table.schema.metadata or {}
    return table.replace_schema_metadata({k: v for k, v in metadata.items() if k != b"vcorr.sha256"})


def _table_edit(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    return lambda path: _rewrite(path, change(_read(path)))


def _with_metadata(key: bytes, value: bytes | None) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        metadata = {k: v for k, v in (table.schema.metadata or {}).items() if k != key}
        return table.replace_schema_metadata(metadata if value is None else {**metadata, key: value})

    return change


def _with_column(name: str, make: Callable[[pa.ChunkedArray], Any]) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        return table.set_column(table.column_names.index(name), name, make(table[name]))

    return change


def _with_cell(name: str, row: int, value: Any) -> Callable[[pa.Table], pa.Table]:
    def make(column: pa.ChunkedArray) -> pa.Array:
        cells = column.to_pylist()
        if cells:
            cells[row % len(cells)] = value
        return pa.array(cells, column.type)

    return _with_column(name, make)


def _in_dictionaries(table: pa.Table) -> pa.Table:
    for field in table.schema:
        if pa.types.is_string(field.type):
            table = _with_column(field.name, lambda column: column.dictionary_encode())(table)
    return table


def _in_wide_types(table: pa.Table) -> pa.Table:
    wide = {
        pa.string(): pa.large_string(),
        pa.float32(): pa.float64(),
        pa.int32(): pa.int64(),
        pa.list_(pa.float32()): pa.large_list(pa.float64()),
        pa.list_(pa.bool_()): pa.large_list(pa.bool_()),
    }
    return table.cast(pa.schema([(f.name, wide.get(f.type, f.type)) for f in table.schema], table.schema.metadata))


def _other_type(column: pa.ChunkedArray) -> pa.Array:
    if pa.types.is_string(column.type):
        return pa.array(range(len(column)), pa.int32())
    return pa.array([str(value) for value in column.to_pylist()], pa.string())


def write_bomb(path: Path, rows: int = 30_000_000) -> None:
    """Puts a small file in the place of a shard that declares `rows` rows of zeros, without ever holding them."""
    schema, chunk = _read(path).schema, 1 << 20
    columns = [
        pa.array([""] * chunk, field.type)
        if pa.types.is_string(field.type)
        else pa.nulls(chunk, field.type).fill_null(0)
        if not pa.types.is_list(field.type)
        else pa.array([[]] * chunk, field.type)
        for field in schema
    ]
    batch = pa.RecordBatch.from_arrays(columns, schema=schema)
    path.unlink()
    with pa.ipc.new_file(str(path), schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        for _ in range(rows // chunk):
            writer.write_batch(batch)


def _stream(path: Path) -> None:
    table = _read(path)
    path.unlink()
    with pa.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table)


def _parquet(path: Path) -> None:
    table = _read(path)
    path.unlink()
    pq.write_table(table, path)


def _in_batches(path: Path, *, empty: int) -> None:
    table = _read(path)
    path.unlink()
    with pa.ipc.new_file(str(path), table.schema) as writer:
        for _ in range(empty):
            writer.write_batch(pa.RecordBatch.from_pylist([], schema=table.schema))
        writer.write_table(table, max_chunksize=1)


def _other_file(path: Path, *, table: str) -> None:
    """Puts the shard of another clip, or of another table, in the place of this one."""
    others = sorted((path.parent.parent / table).glob("*.arrow"))
    other = others[(others.index(path) + 1) % len(others)] if path in others else others[0]
    _write(path, other.read_bytes())


def _file_edits(table: str) -> dict[str, tuple[Expected, Callable[[Path], None]]]:
    other_table = TABLES[(TABLES.index(table) + 1) % 3]
    return {
        "a stream": (TOLD, _stream),
        "Parquet": (TOLD, _parquet),
        "cut off": (TOLD, lambda path: _write(path, path.read_bytes()[:-100])),
        "empty file": (TOLD, lambda path: _write(path, b"")),
        "random bytes": (TOLD, lambda path: _write(path, bytes(range(256)) * 40)),
        "a folder": (TOLD, _folder_at),
        "a link to itself": (TOLD, _loop_at),
        "a pipe": (TOLD, _pipe_at),
        "of another clip": (TOLD, lambda path: _other_file(path, table=table)),
        "of another table": (TOLD, lambda path: _other_file(path, table=other_table)),
        "without compression": (SAME, lambda path: _rewrite(path, _read(path), compression=None)),
        "lz4": (SAME, lambda path: _rewrite(path, _read(path), compression="lz4")),
        "many batches": (SAME, lambda path: _in_batches(path, empty=50)),
        "texts in dictionaries": (SAME, _table_edit(_in_dictionaries)),
        "wide types": (SAME, _table_edit(_in_wide_types)),
        "a further column": (
            SAME,
            _table_edit(lambda t: t.append_column("further", pa.array([1] * t.num_rows))),
        ),
        "columns in another order": (SAME, _table_edit(lambda t: t.select(t.column_names[::-1]))),
        "rows twice": (TOLD, _table_edit(lambda t: pa.concat_tables([t, t]))),
        "a row twice": (TOLD, _table_edit(lambda t: pa.concat_tables([t, t.slice(0, 1)]))),
        "no rows": (EITHER, _table_edit(lambda t: t.slice(0, 0))),
        "rows in another order": (EITHER, _table_edit(lambda t: t.take(list(range(t.num_rows))[::-1]))),
    }


@st.composite
def _column_edit(draw: Any, columns: list[pa.Field]) -> tuple[str, Expected, Callable[[Path], None]]:
    field = draw(st.sampled_from(columns))
    kind = draw(st.sampled_from(("dropped", "renamed", "null", "nulls", "other type", "cell", "cell", "cell", "list")))
    row, name = draw(st.integers(0, 40)), field.name
    if kind == "dropped":
        return f"without {name}", TOLD, _table_edit(lambda t: t.drop_columns([name]))
    if kind == "renamed":
        names = lambda t: [f"{n}_x" if n == name else n for n in t.column_names]  # noqa: E731
        return f"{name} renamed", TOLD, _table_edit(lambda t: t.rename_columns(names(t)))
    if kind == "nulls":
        return f"{name} of nulls alone", TOLD, _table_edit(_with_column(name, lambda c: pa.nulls(len(c))))
    if kind == "other type":
        return f"{name} of another type", TOLD, _table_edit(_with_column(name, _other_type))
    if kind == "null":
        return f"{name}[{row}] null", TOLD, _table_edit(_with_cell(name, row, None))
    value, expected = draw(_cell(field))
    return f"{name}[{row}] = {str(value)[:30]!r}", expected, _table_edit(_with_cell(name, row, value))


def _cell(field: pa.Field) -> st.SearchStrategy[tuple[Any, Expected]]:
    if pa.types.is_string(field.type):
        return st.sampled_from(ODD_TEXTS).map(lambda text: (text, EITHER))
    if pa.types.is_list(field.type):
        inner = [True] if pa.types.is_boolean(field.type.value_type) else [0, -7, 10**9]
        if pa.types.is_floating(field.type.value_type):
            inner = list(ODD_NUMBERS)
        lists = [[], [None], *([x] for x in inner), *([x] * 50 for x in inner)]
        return st.sampled_from(lists).map(lambda cells: (cells, EITHER))
    if pa.types.is_integer(field.type):
        return st.sampled_from([-7, -1, 0, 3, 10**9, 2**31 - 1]).map(lambda x: (x, EITHER))
    told = field.name in ("value", "floor", "ceiling")
    return st.sampled_from(ODD_NUMBERS).map(lambda x: (x, TOLD if told and abs(x) > 1.01 else EITHER))


def shard_edits(run: Path) -> st.SearchStrategy[Edit]:
    """Draws edits of one shard of `run`: its file, its metadata, its columns, its rows, or one value."""

    @st.composite
    def draw(draw: Any) -> Edit:
        table = draw(st.sampled_from(TABLES))
        paths = sorted((run / table).glob("*.arrow"))
        name = draw(st.sampled_from(paths)).name
        kind = draw(st.sampled_from(("file", "metadata", "column", "column")))
        if kind == "file":
            found = _file_edits(table)
            label = draw(st.sampled_from(sorted(found)))
            expected, apply = found[label]
        elif kind == "metadata":
            version = draw(st.sampled_from(VERSIONS))
            label, expected = f"version {version!r}", TOLD
            apply = _table_edit(_with_metadata(b"vcorr.schema_version", version))
        else:
            label, expected, apply = draw(_column_edit(list(_read(paths[0]).schema)))
        return Edit(f"{table}/{name}: {label}", table, expected, lambda run: apply(run / table / name))

    return draw()
