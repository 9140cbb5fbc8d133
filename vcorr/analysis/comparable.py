"""Checks whether two stored runs measure the same thing, so that their numbers can be compared."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from vcorr.contract.errors import StoreError, UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.modes import mode_of
from vcorr.store import shards
from vcorr.store.fingerprint import find_differences, flat
from vcorr.store.rundir import RunDirectory

OWN_TRACKS = "the data's own"
_MANY = 12
_RESCORE = "Score both with this vcorr: vcorr score RUN_A RUN_B"
_REPEAT = "Repeat the older run: its command is in its run.json."
_SAME_DATA = "Run both on the same data, with the same data options; --limit chooses how many clips."


class _Apart(NamedTuple):
    what: str
    a: Any
    b: Any
    hint: str


def check_comparable(a: RunDirectory, b: RunDirectory) -> None:
    """Checks that data, tracker and metrics of two runs are the same.

    Raises:
        UsageError: they differ. The message has every difference, both sides of it, and what to do.
        StoreError: a record is damaged.
    """
    records = [_record(run) for run in (a, b)]
    apart = [*_data_apart(*records), *_tracker_apart(*records), *_scoring_apart(*records)]
    if not apart:
        return
    lines = [f"  {x.what}: {_short(x.a)} and {_short(x.b)}" for x in apart]
    # runs that differ only in their tracks have the same id
    names = (a.run_id, b.run_id) if a.run_id != b.run_id else (a.path, b.path)
    raise UsageError(
        f"Runs {names[0]} and {names[1]} measure different things:\n" + "\n".join(lines),
        hint="\n".join(dict.fromkeys(x.hint for x in apart)),
    )


def check_same_content(a: RunDirectory, b: RunDirectory, clips: Sequence[str]) -> None:
    """Checks that clips with the same name have the same content, where both runs read the data's own videos.

    Compares the hashes of the content if both runs have them, and query points and tracks if the videos have one size.
    Generated videos are not compared, because each run makes its own.

    Raises:
        UsageError: a clip differs.
    """
    if any(mode_of(_record(run)["row_context"]["mode"]).makes_video for run in (a, b)):
        return
    for clip in clips:
        left, right = (shards.read_shard(run.shard("tracks", clip), "tracks") for run in (a, b))
        _check_hashes(clip, a, b, [_hashes(table) for table in (left, right)])
        if any(left[name].to_pylist() != right[name].to_pylist() for name in ("height", "width", "frames")):
            continue
        if any(not left[name].equals(right[name]) for name in ("query_frames", "queries", "xy", "visible")):
            raise UsageError(
                f"Clip {clip} has other query points or tracks in run {a.run_id} than in {b.run_id}: the data changed "
                "between the two.",
                hint=_REPEAT,
            )


def _hashes(table: pa.Table) -> set[str]:
    """Returns the hash of the clip's content, as a set; empty if an older vcorr did not store it."""
    return {found for found in table["data_hash"].to_pylist() if found}


def _check_hashes(clip: str, a: RunDirectory, b: RunDirectory, hashes: Sequence[set[str]]) -> None:
    if all(hashes) and hashes[0] != hashes[1]:
        raise UsageError(
            f"Clip {clip} has other content in run {a.run_id} than in {b.run_id}: the data changed between the two.",
            hint=_REPEAT,
        )


def settings_apart(a: RunDirectory, b: RunDirectory) -> dict[str, tuple[Any, Any]]:
    """Returns what else differs between two comparable runs (model, weights, seed, device, ...), name to (A, B)."""
    sides = [dict(flat(_settings(_record(run)))) for run in (a, b)]
    names = [*sides[0], *(name for name in sides[1] if name not in sides[0])]
    pairs = {name: (sides[0].get(name), sides[1].get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def stride_note(a: RunDirectory, b: RunDirectory) -> list[str]:
    """Returns a note if the tokens differ in size: metrics in units of tokens then do not compare."""
    sizes = [_strides(run) for run in (a, b)]
    if not all(sizes) or sizes[0] == sizes[1]:
        return []
    a_size, b_size = (" or ".join(f"{x:g}x{y:g}" for x, y in sorted(size)) for size in sizes)
    note = f"A's tokens are {a_size} pixels, B's {b_size}: matching_accuracy counts in tokens and does not compare"
    return [f"{note}; pck does."]


def _data_apart(a: dict[str, Any], b: dict[str, Any]) -> Iterator[_Apart]:
    left, right = a["resolved"]["data"], b["resolved"]["data"]
    if left["name"] != right["name"]:
        yield _Apart("dataset", left["name"], right["name"], _SAME_DATA)
        return
    for name in ("version", "split"):
        if left[name] != right[name]:
            hint = _REPEAT if name == "version" else _SAME_DATA
            yield _Apart(f"{name} of dataset {left['name']}", left[name], right[name], hint)
    for name, (x, y) in find_differences(left.get("config"), right.get("config")).items():
        yield _Apart(f"option data.{name}", x, y, _SAME_DATA)
    for name, (x, y) in find_differences(left.get("content"), right.get("content")).items():
        yield _Apart(f"content of the data ({name})", x, y, _SAME_DATA)
    mode_a, mode_b = (record["row_context"]["mode"] for record in (a, b))
    if mode_a != mode_b:
        yield _Apart("mode", mode_a, mode_b, "Run both with the same --mode.")


def _tracker_apart(a: dict[str, Any], b: dict[str, Any]) -> Iterator[_Apart]:
    hint = "Run both with the same tracker: --set tracker=NAME"
    tracker_a, tracker_b = a["tracker"] or {}, b["tracker"] or {}
    name_a, name_b = (tracker.get("name", OWN_TRACKS) for tracker in (tracker_a, tracker_b))
    if name_a != name_b:
        yield _Apart("tracks", name_a, name_b, hint)
        return
    for name, (x, y) in find_differences(tracker_a, tracker_b).items():
        yield _Apart(f"tracker {name_a}, {name}", x, y, hint)


def _scoring_apart(a: dict[str, Any], b: dict[str, Any]) -> Iterator[_Apart]:
    left, right = ({metric["name"]: metric for metric in record["metrics"]} for record in (a, b))
    for name in sorted(left.keys() & right.keys()):
        for field, (x, y) in find_differences(left[name], right[name]).items():
            yield _Apart(f"metric {name}, {field}", x, y, _RESCORE)
    if a["scoring"] != b["scoring"]:
        yield _Apart("version of floors, ceilings and time map", a["scoring"], b["scoring"], _RESCORE)


def _settings(record: dict[str, Any]) -> dict[str, Any]:
    resolved = {k: v for k, v in record["resolved"].items() if k not in ("data", "sites")}
    return {**resolved, "vcorr": record.get("versions", {}).get("vcorr")}


def _strides(run: RunDirectory) -> set[tuple[float, float]]:
    """Returns the token strides of the first clip that has predictions."""
    for shard in run.iter_shards("predictions"):
        grids = [text for text in pc.unique(shard["grid"]).to_pylist() if text]
        if grids:
            return {TokenGrid.from_dict(json.loads(text)).stride for text in grids}
    return set()


def _record(run: RunDirectory) -> dict[str, Any]:
    """Returns the content of run.json, which must have every field that a comparison needs.

    Raises:
        StoreError: a field is missing.
    """
    record = run.record()
    lacking = [name for name in ("resolved", "row_context", "metrics", "scoring", "tracker") if name not in record]
    if lacking:
        raise StoreError(
            f"{run.path}/run.json lacks {', '.join(lacking)}, without which runs cannot be compared.",
            hint=f"vcorr score {run.path} completes what an older vcorr wrote.",
        )
    return record


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 5 * _MANY else f"{text[:_MANY]}…"
