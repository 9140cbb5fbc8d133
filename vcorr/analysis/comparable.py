"""Defines when two stored runs measure the same thing, so that their numbers can be compared (docs/statistics.md).

`vcorr compare` refuses two runs in which `differences` finds one, and a board never shows such runs in one table.
Beyond that, `vcorr compare` refuses only runs with too few clips in common.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vcorr.contract.errors import StoreError, UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.modes import mode_of
from vcorr.contract.records import NO_SITE
from vcorr.contract.seeds import noise_draw_of
from vcorr.contract.tasks import AT_ONE_SITE
from vcorr.runner.identity import SCORING_VERSION
from vcorr.store import shards
from vcorr.store.fingerprint import find_differences, flat
from vcorr.store.remedies import scoring_command
from vcorr.store.rundir import RunDirectory

OWN_TRACKS = "the data's own"
CLIP_CHOICES = frozenset({"limit", "clips"})
"""Options with which a dataset counts its clips. Like `--limit` they choose clips and change none of them."""

Remedy = Literal[
    "same videos",
    "same data",
    "same mode",
    "same task",
    "same seed",
    "same draw",
    "same size",
    "same frames",
    "same tracker",
    "score",
    "repeat",
]
"""What makes two runs comparable."""

_HINTS: Mapping[Remedy, str] = {
    "same videos": "Run the model without noise on the videos of the run that it is compared with: --data run:RUN",
    "same data": "Run both on the same data, with the same data options; --limit chooses how many clips.",
    "same mode": "Run both with the same --mode.",
    "same task": "Tracks compare with tracks, masks with masks, and correspondence with correspondence.",
    "same seed": "Generate both with the same --seed.",
    "same draw": "Generate both with the same --set noise_draw.",
    "same size": "Generate both at the same size.",
    "same frames": "Run both with the same number of frames.",
    "same tracker": "Run both with the same tracker: --set tracker=NAME",
    "score": "Score both with this vcorr: vcorr score RUN_A RUN_B",
    "repeat": "Repeat the older run: its command is in its run.json.",
}
_LONGEST, _SHOWN = 60, 12


class Difference(NamedTuple):
    """A fact in which two runs differ, with its value on both sides, and what makes them comparable."""

    what: str
    a: Any
    b: Any
    remedy: Remedy

    @property
    def text(self) -> str:
        """The difference as one line: what, and both values."""
        return f"{self.what}: {_short(self.a)} and {_short(self.b)}"


class ClipFacts(NamedTuple):
    """What a run measured on one clip. Facts that an older vcorr did not record are empty or 0, and match any other.

    content: hash of the clip as the dataset gives it. frames, height, width: of the video as the model read or made it.
    tracker, tracker_version: what made the reference tracks. tracks: hash of query points and tracks; empty for videos
    that the run made itself. video: hash of the video, if a run generated it.
    """

    content: str = ""
    frames: int = 0
    height: int = 0
    width: int = 0
    tracker: str = ""
    tracker_version: int = 0
    tracks: str = ""
    video: str = ""


@dataclass(frozen=True)
class MeasuredOn:
    """What the scores of a run were measured on, and how. Runs compare if these facts agree on the clips in common.

    Attributes:
        dataset, version, split: the dataset.
        options: its options by name, without those that only choose clips.
        content: what identifies its files, by name; compared only where clips have no hash of their own.
        mode, task: what the model does with a clip, and the task.
        seed: of the generated videos; None in modes that read the data's own videos.
        noise_draw: how their noise was drawn, "clip" or "shared"; None likewise.
        tracker: the tracker with its version, options and packages, by name; empty for the data's own tracks.
        scoring: version of floors, ceilings and time map.
        metrics: version and options of every metric.
        clips: the clips that have scores, by id.
        videos_of: id of the run whose generated videos this run reads; "" if it makes its own or reads the data's.
    """

    dataset: str
    version: int
    split: str
    options: Mapping[str, Any]
    content: Mapping[str, Any]
    mode: str
    task: str
    seed: int | None
    noise_draw: str | None
    tracker: Mapping[str, Any]
    scoring: int
    metrics: Mapping[str, Mapping[str, Any]]
    clips: Mapping[str, ClipFacts]
    videos_of: str = ""

    @property
    def makes_video(self) -> bool:
        """Whether the videos were generated: by this run, or by the one whose videos it reads."""
        return mode_of(self.mode).makes_video

    @property
    def frames(self) -> tuple[int, ...]:
        """The different numbers of frames of its clips, without unknown ones."""
        return tuple(sorted({clip.frames for clip in self.clips.values()} - {0}))


# ------------------------------------------------------------------------------------------------- what a run measured


def note_clips(tables: Iterable[pa.Table], facts: dict[str, ClipFacts]) -> Iterator[pa.Table]:
    """Yields tables of scores, and adds what they say of each scored clip to `facts`, by clip id."""
    for table in tables:
        for clip, row in _read_first_rows(table):
            facts.setdefault(clip, row)
        yield table


def _read_first_rows(table: pa.Table) -> Iterator[tuple[str, ClipFacts]]:
    """Yields what the first scored row of each clip says: all of them say the same."""
    names = [name for name in ClipFacts._fields if name not in ("content", "tracks", "video")]
    # a filter copies, so it gets no column that is not needed
    rows = table.select(["clip", "data_hash", *names]).filter(pc.not_equal(table["metric"], ""))
    if not rows.num_rows:
        return
    encoded = rows["clip"].combine_chunks().dictionary_encode()
    _, first = np.unique(encoded.indices.to_numpy(), return_index=True)
    for row in rows.take(first).to_pylist():
        yield row["clip"], ClipFacts(content=row["data_hash"], **{name: row[name] for name in names})


def read_measured_on(run: RunDirectory, record: Mapping[str, Any], facts: Mapping[str, ClipFacts]) -> MeasuredOn:
    """Returns what a run measured, from its record, the facts of its score rows, and its tracks.

    facts: from `note_clips`.

    Raises:
        StoreError: the record lacks what a comparison needs, or a shard of tracks is damaged.
    """
    if lacking := missing_facts(record):
        raise StoreError(
            f"{run.place}/run.json lacks {', '.join(lacking)}, without which runs cannot be compared.",
            hint=f"vcorr score {run.place} completes what an older vcorr wrote.",
        )
    context, made = record["row_context"], record.get("videos_of") or {}
    data, tracked_by = made.get("data") or record["resolved"]["data"], record["tracker"] or made.get("tracker")
    makes_video = mode_of(context["mode"]).makes_video
    options = {name: value for name, value in flat(data.get("config") or {}) if name not in CLIP_CHOICES}
    tracker = {name: value for name, value in flat(tracked_by or {}) if name != "licence"}
    return MeasuredOn(
        dataset=data["name"],
        version=data["version"],
        split=data["split"],
        options=options,
        content=dict(flat(data.get("content") or {})),
        mode=context["mode"],
        task=str(context.get("task") or ""),
        seed=(made or context).get("seed") if makes_video else None,
        noise_draw=noise_draw_of(record) if makes_video else None,
        tracker=tracker,
        scoring=record["scoring"],
        metrics={metric["name"]: metric for metric in record["metrics"]},
        clips={clip: _with_tracks(run, clip, found, makes_video) for clip, found in facts.items()},
        videos_of=str(made.get("run") or ""),
    )


def missing_facts(record: Mapping[str, Any]) -> list[str]:
    """Returns the names of the facts that a comparison needs and a record lacks."""
    lacking = [name for name in ("resolved", "row_context", "metrics", "scoring", "tracker") if name not in record]
    if "row_context" in record and "mode" not in record["row_context"]:
        lacking.append("row_context.mode")
    return lacking


def _with_tracks(run: RunDirectory, clip: str, facts: ClipFacts, makes_video: bool) -> ClipFacts:
    """Completes the facts of a clip from its tracks, if the run still has them.

    Rows of early layouts do not say the size of a video. Its tracks do.
    """
    path = run.shard("tracks", clip)
    if not path.exists():
        return facts
    tracks = shards.read_shard(path, "tracks")
    if not tracks.num_rows:
        return facts
    names = ("frames", "height", "width", "tracker", "tracker_version", "video")
    row = {name: tracks[name][0].as_py() for name in names}
    known = {name: getattr(facts, name) or value for name, value in row.items()}
    return facts._replace(**known, tracks="" if makes_video else _hash_tracks(tracks))


def _hash_tracks(tracks: pa.Table) -> str:
    digest = hashlib.sha256()
    for name in ("query_frames", "queries", "xy", "visible"):
        values = pc.list_flatten(tracks[name]).to_numpy()
        digest.update(f"{name}{values.dtype.str}{len(values)}".encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


# --------------------------------------------------------------------------------------------------------- differences


def differences(a: MeasuredOn, b: MeasuredOn) -> list[Difference]:
    """Returns every difference that forbids a comparison of two runs; none if they compare on their clips in common.

    The relation is symmetric. Clips that only one of the runs has do not matter.
    """
    if a.task != b.task:
        return [Difference("task", a.task, b.task, "same task")]
    if a.dataset != b.dataset:
        return [Difference("dataset", a.dataset, b.dataset, "same data")]
    return [
        *_data_differences(a, b),
        *_tracker_differences(a, b),
        *_scoring_differences(a, b),
        *_clip_differences(a, b),
    ]


def are_comparable(a: MeasuredOn, b: MeasuredOn) -> bool:
    """Returns whether two runs measured the same thing on the clips that both have."""
    return not differences(a, b)


def check_comparable(a: RunDirectory, b: RunDirectory, left: MeasuredOn, right: MeasuredOn) -> None:
    """Checks that two runs, of which `left` and `right` say what they measured, can be compared.

    Raises:
        UsageError: they differ. The message has every difference, both sides of it, and what to do.
    """
    found = differences(left, right)
    if not found:
        return
    # runs that differ only in their tracks have the same id
    names = (a.run_id, b.run_id) if a.run_id != b.run_id else (a.path, b.path)
    raise UsageError(
        f"Runs {names[0]} and {names[1]} measure different things:\n" + "\n".join(f"  {x.text}" for x in found),
        hint="\n".join(dict.fromkeys(_HINTS[x.remedy] for x in found)),
    )


def _data_differences(a: MeasuredOn, b: MeasuredOn) -> Iterator[Difference]:
    if a.version != b.version:
        yield Difference(f"version of dataset {a.dataset}", a.version, b.version, "repeat")
    if a.split != b.split:
        yield Difference(f"split of dataset {a.dataset}", a.split, b.split, "same data")
    for name, (x, y) in find_differences(a.options, b.options).items():
        if (name in a.options and name in b.options) or not _know_content(a, b) or _content_differs(a, b):
            yield Difference(f"option data.{name}", x, y, "same data")
    if a.mode != b.mode:
        yield Difference("mode", a.mode, b.mode, "same mode")
    if a.makes_video and b.makes_video and a.seed != b.seed:
        yield Difference("seed of the generated videos", a.seed, b.seed, "same seed")
    if a.makes_video and b.makes_video and a.noise_draw != b.noise_draw:
        yield Difference("noise draw of the generated videos", a.noise_draw, b.noise_draw, "same draw")


def _tracker_differences(a: MeasuredOn, b: MeasuredOn) -> Iterator[Difference]:
    name_a, name_b = (side.tracker.get("name", OWN_TRACKS) for side in (a, b))
    if name_a != name_b:
        yield Difference("tracks", name_a, name_b, "same tracker")
        return
    for name, (x, y) in find_differences(a.tracker, b.tracker).items():
        if name.startswith("versions.") and (x is None or y is None):
            continue  # an older vcorr did not record the versions of packages
        yield Difference(f"tracker {name_a}, {name}", x, y, "same tracker")


def _scoring_differences(a: MeasuredOn, b: MeasuredOn) -> Iterator[Difference]:
    for name in sorted(a.metrics.keys() & b.metrics.keys()):
        for field, (x, y) in find_differences(a.metrics[name], b.metrics[name]).items():
            yield Difference(f"metric {name}, {field}", x, y, "score")
    if a.scoring != b.scoring:
        yield Difference("version of floors, ceilings and time map", a.scoring, b.scoring, "score")


def _clip_differences(a: MeasuredOn, b: MeasuredOn) -> Iterator[Difference]:
    """Yields the first clip of each way in which clips in common differ."""
    common = sorted(a.clips.keys() & b.clips.keys())
    pairs = [(clip, a.clips[clip], b.clips[clip]) for clip in common if a.clips[clip] != b.clips[clip]]
    explained = bool(find_differences(a.options, b.options))  # by an option of the data, which is named before
    for words, pick, remedy in _CLIP_CHECKS:
        if words == "content" and explained:
            continue
        found = [
            (clip, pick(x), pick(y)) for clip, x, y in pairs if _differ(pick(x), pick(y)) and _counts(words, a, b, x, y)
        ]
        if found:
            clip, x, y = found[0]
            others = f" and {len(found) - 1} more" if len(found) > 1 else ""
            yield Difference(f"{words} of clip {clip}{others}", x, y, remedy)
    if not _know_content(a, b):
        yield from _content_differences(a, b)


def _know_content(a: MeasuredOn, b: MeasuredOn) -> bool:
    """Returns whether both sides know the content of every clip in common.

    It then decides alone where an older vcorr lacks an option of a dataset.
    """
    return all(a.clips[clip].content and b.clips[clip].content for clip in a.clips.keys() & b.clips.keys())


def _content_differs(a: MeasuredOn, b: MeasuredOn) -> bool:
    """Returns whether the content of a clip in common differs."""
    return any(_differ(a.clips[clip].content, b.clips[clip].content) for clip in a.clips.keys() & b.clips.keys())


def _content_differences(a: MeasuredOn, b: MeasuredOn) -> Iterator[Difference]:
    """Yields differences of the files of a dataset. Files that one side does not have may be clips of the other."""
    for name in sorted(a.content.keys() & b.content.keys()):
        if a.content[name] != b.content[name]:
            yield Difference(f"content of the data ({name})", a.content[name], b.content[name], "same data")


_CLIP_CHECKS: tuple[tuple[str, Callable[[ClipFacts], Any], Remedy], ...] = (
    ("frames", lambda clip: clip.frames, "same frames"),
    ("size", lambda clip: f"{clip.width}x{clip.height}" if clip.height else "", "same size"),
    ("content", lambda clip: clip.content, "repeat"),
    ("tracker", lambda clip: clip.tracker, "same tracker"),
    ("version of the tracker", lambda clip: clip.tracker_version, "same tracker"),
    ("query points or tracks", lambda clip: clip.tracks, "repeat"),
    ("generated video", lambda clip: clip.video, "same videos"),
)
"""Facts of a clip that must agree: in words, how to read it, and what makes it agree."""


def _differ(x: Any, y: Any) -> bool:
    """Returns whether two known facts differ."""
    return bool(x and y and x != y)


def _counts(words: str, a: MeasuredOn, b: MeasuredOn, x: ClipFacts, y: ClipFacts) -> bool:
    """Returns whether a fact counts. Models may read a video at sizes of their own, and tracks have its pixels.

    Models generate different videos from one prompt. A run that reads generated videos compares with those videos only.
    """
    reads_made = bool(a.videos_of or b.videos_of)
    if words == "size":
        return a.makes_video and not reads_made
    if words == "generated video":
        return reads_made
    if words == "query points or tracks":
        # one hash of both says which of the two changed
        return (x.height, x.width) == (y.height, y.width) and x.frames == y.frames and not _differ(x.content, y.content)
    return True


# ----------------------------------------------------------------------------------------------------- what may differ


def settings_apart(a: RunDirectory, b: RunDirectory) -> dict[str, tuple[Any, Any]]:
    """Returns what else differs between two comparable runs (model, weights, seed, device, ...), name to (A, B)."""
    return settings_of_records_apart(a.record(), b.record())


def settings_of_records_apart(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Returns the same from two records."""
    sides = [dict(flat(_settings(record))) for record in (a, b)]
    names = [*sides[0], *(name for name in sides[1] if name not in sides[0])]
    pairs = {name: (sides[0].get(name), sides[1].get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def is_earlier(scoring: int | None) -> bool:
    """Returns whether a version of floors, ceilings and time map is earlier than today's; None if it is not known."""
    return (scoring or 0) < SCORING_VERSION


def earlier_scoring_note(path: str, record: Mapping[str, Any]) -> list[str]:
    """Returns a note if an earlier version of vcorr scored the run at `path`, whose run.json is `record`."""
    if not is_earlier(record.get("scoring")):
        return []
    note = "Scored by an earlier version of vcorr, whose ceilings can be passed, so skills may be too high"
    return [f"{note}. This scores it again: {scoring_command(path, record)}"]


def stride_note(a: RunDirectory, b: RunDirectory) -> list[str]:
    """Returns a note if the tokens differ in size: metrics in units of tokens then do not compare.

    Tracking and propagation have no such metrics.
    """
    if a.record()["resolved"].get("task") in AT_ONE_SITE:
        return []
    sizes = [_strides(run) for run in (a, b)]
    if not all(sizes) or sizes[0] == sizes[1]:
        return []
    a_size, b_size = (" or ".join(f"{x:g}x{y:g}" for x, y in sorted(size)) for size in sizes)
    note = f"A's tokens are {a_size} pixels, B's {b_size}: matching_accuracy counts in tokens and does not compare"
    return [f"{note}; the gain of pck does."]


def _settings(record: Mapping[str, Any]) -> dict[str, Any]:
    resolved = {k: v for k, v in record["resolved"].items() if k not in ("data", "sites")}
    settings = resolved.get("settings")
    if isinstance(settings, dict) and settings.get("steps") == [NO_SITE]:  # a tracker or a model without noise
        resolved["settings"] = {k: v for k, v in settings.items() if k not in ("steps", "num_steps")}
    return {**resolved, "vcorr": record.get("versions", {}).get("vcorr")}


def _strides(run: RunDirectory) -> set[tuple[float, float]]:
    """Returns the token strides of the first clip that has predictions."""
    for shard in run.iter_shards("predictions"):
        grids = [text for text in pc.unique(shard["grid"]).to_pylist() if text]
        if grids:
            return {TokenGrid.from_dict(json.loads(text)).stride for text in grids}
    return set()


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_SHOWN]}…"
