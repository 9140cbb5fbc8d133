"""Measures everything that tracks offline, for docs/tracking.md: ``python -m vcorr_tiny.tracked --docs docs``.

Each tracker, baseline and model follows the points of `sprites-tap`, easy and hard, and of `photos-tap`. The layer of
the embedded model and its threshold of visibility are chosen on clips of another split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vcorr import StoreError, installed
from vcorr.stats.intervals import mean_interval, no_interval_reason
from vcorr.stats.series import Series, gather
from vcorr.stats.sign_flips import holm, show_p, sign_flip_test
from vcorr.store.rundir import RunDirectory, find_runs
from vcorr.tracking.presets import find_preset
from vcorr_tiny.command_runs import Command, Work, end
from vcorr_tiny.measurements import Kept, Measurement, write_to
from vcorr_tiny.switches import best_layers
from vcorr_tiny.task_pool import Task

CLIPS, CHOOSING = 16, 8
"""Clips that are reported, and clips of another split that choose."""
PLACES_TRIED = ("first", "second", "third")
"""The layers of the embedded model that are tried, by their place when they match points of another split."""
CHOSEN_BY = "average_jaccard"
HEFT = "heft"
"""The preset that reads one head. Folders of runs that choose have it in their names."""
COLUMNS = {
    "delta_avg": "average_pts_within_thresh",
    "AJ": "average_jaccard",
    "OA": "occlusion_accuracy",
    "AJ after occlusion": "redetection_jaccard",
}
"""Columns of the table: titles, and the columns of scores."""
COMPARED = {title: COLUMNS[title] for title in ("delta_avg", "AJ", "AJ after occlusion")}
"""Columns in which the embedded model is compared with every other entrant."""
SECONDS = {"zncc-search": 12.0, "dense-search": 6.0, "tiny `qk`": 30.0, "tiny `heft`": 30.0, "tiny `latent`": 15.0}
"""About how long a clip takes, by the name of the entrant; others take two seconds."""
_FLOOR = "nothing moves, everything is visible"
REPORTED, CHOICE = "reported", "choice"
_HEADS = f"{HEFT}-heads"
"""Folder of the run that chooses the head."""
_MATCHING = "matching"
"""Folder of the run that chooses the layers that are tried."""
_CHOOSE_MATCHING = f"choose-{_MATCHING}"
_CHOOSE_HEAD, _CHOOSE_HEFT = f"choose-{_HEADS}", f"choose-{HEFT}-threshold"


@dataclass(frozen=True)
class Place:
    """Data on which everything is measured."""

    name: str
    words: tuple[str, ...]


_FRAMES = ("--set", "data.frames=24")
"""Half of the usual frames: as many points are hidden and return, and a network needs a quarter of the passes."""
_ONE_PASS = ("--set", "data.frames=17")
"""The frames that one pass of the embedded model reads; a query in a later frame could not be matched."""
PLACES = (
    Place("easy", ("--data", "sprites-tap", "--set", "data.level=easy", *_FRAMES)),
    Place("hard", ("--data", "sprites-tap", "--set", "data.level=hard", *_FRAMES)),
    Place("photos", ("--data", "photos-tap", *_FRAMES)),
)
CHOSEN_AT = PLACES[1]
"""Where the layer and the threshold of the embedded model are chosen."""


@dataclass(frozen=True)
class Entrant:
    """What follows points. words: of `vcorr track`. optional: left out if its plugin or a package is missing."""

    name: str
    words: tuple[str, ...]
    is_network: bool = False
    optional: bool = False

    @property
    def folder(self) -> str:
        """Name of the folder of its runs, and in the names of tasks."""
        return "-".join(word.strip("-") for word in self.words)


EMBEDDED = Entrant("tiny `qk`", ("--model", "tiny", "--probe", "qk"), is_network=True)
ONE_HEAD = Entrant("tiny `heft`", ("--model", "tiny", "--preset", HEFT), is_network=True)
ENTRANTS = (
    *(Entrant(name, ("--tracker", name)) for name in ("dis", "lk")),
    *(Entrant(name, ("--model", name)) for name in ("zncc-search", "dense-search", "token-patches", "zero-motion")),
    EMBEDDED,
    ONE_HEAD,
    Entrant("tiny `latent`", ("--model", "tiny", "--probe", "latent", "--steps", "last"), is_network=True),
    Entrant("xfeat", ("--model", "xfeat"), is_network=True, optional=True),
)


@dataclass(frozen=True)
class Measured:
    """The run of one entrant at one place. series: by the column of scores."""

    entrant: Entrant
    run: RunDirectory
    series: Mapping[str, Series]


# ------------------------------------------------------------------------------------------------------------ measuring


def list_tasks(work: Work) -> list[Task]:
    """Returns the tasks: those that choose layer, head and thresholds, and one per place and entrant."""
    needs = {EMBEDDED: tuple(_name_layer(place) for place in PLACES_TRIED), ONE_HEAD: (_CHOOSE_HEFT,)}
    entrants = [
        Task(
            f"{place.name}-{entrant.folder}",
            partial(_command, work, place, entrant),
            needs.get(entrant, ()),
            8 + SECONDS.get(entrant.name, 2.0) * work.limit,
        )
        for place in PLACES
        for entrant in ENTRANTS
        if not entrant.optional or entrant.words[1] in installed().models.names()
    ]
    few = min(work.limit, CHOOSING)
    return [*list_choices(work, 8 + SECONDS[EMBEDDED.name] * few), *entrants]


def list_choices(work: Work, seconds: float) -> list[Task]:
    """Returns the tasks on a few clips of another split.

    Every layer of the embedded model matches, and the three best ones track. For the preset, every head of every layer
    matches as it does; then the best one tracks, to find a threshold. A pass for matching reads the first 17 frames.
    """
    tried = [
        Task(_name_layer(place), partial(_try_layer, work, rank), (_CHOOSE_MATCHING,), seconds)
        for rank, place in enumerate(PLACES_TRIED)
    ]
    return [
        Task(_CHOOSE_MATCHING, partial(_match_layers, work), seconds=seconds / 4),
        *tried,
        Task(_CHOOSE_HEAD, partial(_match_heads, work), seconds=seconds / 2),
        Task(_CHOOSE_HEFT, partial(_track_head, work), (_CHOOSE_HEAD,), 2 * seconds),
    ]


def _name_layer(place: str) -> str:
    return f"choose-{place}-layer"


def _match_layers(work: Work) -> Command:
    return _choice(work, _MATCHING, ("run", *EMBEDDED.words, "--steps", "last", *_ONE_PASS))


def _try_layer(work: Work, rank: int) -> Command:
    layer = str(best_layers(RunDirectory(_find_one(work.out, _MATCHING)))[rank])
    return _choice(work, layer, ("track", *EMBEDDED.words, "--layers", layer, "--steps", "last"))


def _match_heads(work: Work) -> Command:
    preset = find_preset(HEFT)
    asked = {**preset.probe_options, "heads": "each"}
    words = [word for name, value in asked.items() for word in ("--set", f"probe.{name}={value}")]
    matching = ("run", "--model", "tiny", "--probe", preset.probe, "--steps", preset.steps, *words)
    return _choice(work, _HEADS, (*matching, *_ONE_PASS))


def _track_head(work: Work) -> Command:
    return _choice(work, HEFT, ("track", *ONE_HEAD.words, "--from", str(_find_one(work.out, _HEADS))))


def _choice(work: Work, name: str, words: Sequence[str]) -> Command:
    """Returns a command that reads clips of another split. name: of the folder of its run."""
    few = str(min(work.limit, CHOOSING))
    split = ("--set", "data.split=validation", "--limit", few, "--out", str(work.out / CHOICE / name))
    return Command((words[0], *CHOSEN_AT.words, *words[1:], *split), on_device=True)


def find_choice(out: Path) -> Path:
    """Returns the run of the layer that is best on the clips of another split.

    Raises:
        StoreError: none of them has been measured.
    """
    layers = (folder for folder in (out / CHOICE).glob("*") if folder.name.isdecimal())
    found = [run for layer in layers for run in find_runs(layer) if _is_whole(run)]
    if not found:
        raise _not_tried("layer", out)
    return max(found, key=lambda run: float(np.nanmean(_read_series(run)[CHOSEN_BY].score))).path


def _find_one(out: Path, name: str) -> Path:
    """Returns the newest whole run in one folder of choices; raises StoreError if there is none."""
    found = [run for run in find_runs(out / CHOICE / name) if _is_whole(run)]
    if not found:
        raise _not_tried("layer or head", out)
    return _newest(found).path


def _not_tried(what: str, out: Path) -> StoreError:
    return StoreError(f"No {what} was tried in {out / CHOICE}.", hint="Leave --tables-only out to run it.")


def _newest(runs: Sequence[RunDirectory]) -> RunDirectory:
    return max(runs, key=lambda run: run.record()["updated"])


def _command(work: Work, place: Place, entrant: Entrant) -> Command:
    choices: Mapping[Entrant, Callable[[Path], Path]] = {
        EMBEDDED: find_choice,
        ONE_HEAD: lambda out: _find_one(out, HEFT),
    }
    site = ("--from", str(choices[entrant](work.out))) if entrant in choices else ()
    where = ("--limit", str(work.limit), "--out", str(_folder(work.out, place, entrant)))
    words = ("track", *entrant.words, *site, *place.words, *where)
    return Command(words, on_device=entrant.is_network, optional=entrant.optional)


def _folder(out: Path, place: Place, entrant: Entrant) -> Path:
    return out / REPORTED / place.name / entrant.folder


# --------------------------------------------------------------------------------------------------------------- tables


def read_place(out: Path, place: Place, limit: int) -> list[Measured]:
    """Returns what was measured at a place over `limit` clips, best delta_avg first."""
    return read_runs({entrant: _folder(out, place, entrant) for entrant in ENTRANTS}, limit, COLUMNS)


def read_runs(folders: Mapping[Entrant, Path], limit: int, columns: Mapping[str, str]) -> list[Measured]:
    """Returns the newest whole run over `limit` clips of each entrant, the best one in the first column first.

    columns: titles, and columns of scores.
    """
    found, (first, *_) = [], columns.values()
    for entrant, folder in folders.items():
        runs = find_runs(folder)
        whole = [run for run in runs if _is_whole(run) and run.record()["clips"]["total"] == limit]
        if whole:
            newest = _newest(whole)
            found.append(Measured(entrant, newest, _read_series(newest, columns)))
    return sorted(found, key=lambda one: -float(np.nanmean(one.series[first].score)))


def _is_whole(run: RunDirectory) -> bool:
    return bool(run.record()["status"] == "complete")


def _read_series(run: RunDirectory, columns: Mapping[str, str] = COLUMNS) -> dict[str, Series]:
    scores = gather(run.iter_shards("scores"), lambda name: name in columns.values())
    return {s.key["metric"]: s for s in scores.series}


def make_table(
    found: Sequence[Measured],
    columns: Mapping[str, str] = COLUMNS,
    what: str = "what follows the points",
    floor: str = _FLOOR,
) -> str:
    """Returns a Markdown table: percent with 95 % intervals over clips, and seconds per clip.

    columns: titles, and columns of scores. what: title of the first column. floor: in words.
    """
    lines = [
        f"| {what} | {' | '.join(columns)} | seconds per clip |",
        "| --- |" + " ---: |" * (len(columns) + 1),
    ]
    for one in found:
        cells = (_percent(one.series[column]) for column in columns.values())
        lines.append(f"| {one.entrant.name} | {' | '.join(cells)} | {_seconds(one.run)} |")
    floors = (_percent(found[0].series[column], floor=True) for column in columns.values())
    lines.append(f"| floor: {floor} | {' | '.join(floors)} | – |")
    return "\n".join(lines)


def _percent(s: Series, *, floor: bool = False) -> str:
    found = mean_interval(s.floor[:, 0] if floor else s.score[:, 0])
    value = f"{100 * float(found.estimate):.1f}"
    if floor or no_interval_reason(found):
        return value
    return f"{value} ({100 * float(found.low):.1f} … {100 * float(found.high):.1f})"


def make_comparison(
    found: Sequence[Measured],
    entrant: Entrant = EMBEDDED,
    columns: Mapping[str, str] = COMPARED,
) -> str:
    """Returns a Markdown table: one entrant minus each other one, paired by clip, in percentage points.

    p is of a sign-flip test, corrected by Holm over the rows of a column. "" if the entrant is not there.
    """
    own = next((one for one in found if one.entrant is entrant), None)
    others = [one for one in found if one is not own]
    if own is None or not others:
        return ""
    texts = []
    for name in columns.values():
        differences = np.stack([_pair(own.series[name], one.series[name]) for one in others], axis=1)
        texts.append(list(map(_describe, differences.T, holm(sign_flip_test(differences)))))
    titles = [cell for title in columns for cell in (title, "p")]
    lines = [f"| {entrant.name} minus | {' | '.join(titles)} |", "| --- |" + " ---: |" * len(titles)]
    for one, *cells in zip(others, *texts, strict=True):
        lines.append(f"| {one.entrant.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _pair(a: Series, b: Series) -> NDArray[np.float64]:
    """Returns the differences per clip, (clips,)."""
    at = dict(zip(b.clips, b.score[:, 0], strict=True))
    return np.array([score - at[clip] for clip, score in zip(a.clips, a.score[:, 0], strict=True)])


def _describe(differences: NDArray[np.float64], p: float) -> str:
    """Returns two cells: the mean difference with its interval, and p."""
    found = mean_interval(differences)
    middle, low, high = (f"{100 * float(value):+.1f}" for value in (found.estimate, found.low, found.high))
    return f"{middle} ({low} … {high}) | {show_p(p)}"


def _seconds(run: RunDirectory) -> str:
    cost = run.record().get("cost") or {}
    return f"{cost['seconds_per_clip']:.2f}" if "seconds_per_clip" in cost else "–"


def page_blocks(out: Path, limit: int) -> Iterator[tuple[str, str]]:
    """Yields the generated blocks of docs/tracking.md by name: a table per place, with how the site was chosen."""
    for place in PLACES:
        found = read_place(out, place, limit)
        if not found:
            raise StoreError(f"No run over {limit} clips is in {out / REPORTED / place.name}.")
        chosen = RunDirectory(find_choice(out)).record()["resolved"]["sites"][0][0]
        split = f"{CHOOSING} clips of the validation split of {CHOSEN_AT.name}"
        choice = f"`tiny` is read at layer {chosen}, chosen like its threshold on {split}."
        tables = f"{make_table(found)}\n\n{make_comparison(found)}".rstrip()
        yield f"tracked-{place.name}", f"{tables}\n\n{limit} clips of 24 frames, in percent. {choice}"


KEPT = Kept(tuple(COLUMNS.values()), for_boards=True)
MEASUREMENT = Measurement("tracking", CLIPS, list_tasks, write_to("tracking.md", page_blocks), KEPT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return MEASUREMENT.run(MEASUREMENT.make_parser("tracked", __doc__ or "").parse_args(arguments))


if __name__ == "__main__":
    end(main)
