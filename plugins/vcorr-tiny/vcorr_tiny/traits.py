"""Measures which trait of a head finds the heads that match: ``python -m vcorr_tiny.traits --docs docs``.

One run of the embedded model scores every head of every layer by query-key matching, at the cleanest step. It reads the
traits of the same heads. A table says how each trait ranks the heads, compared with their accuracy over moving points.
It also says what the head is worth that the trait would choose, and what the head is worth that tracks choose. Below
it, a sentence says how smooth the diagonal of the best head is, over points that stay and over points that move.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vcorr import StoreError, TokenGrid, Tracks
from vcorr.contract.head_traits import TRAITS
from vcorr.contract.noun_counts import say_count
from vcorr.contract.variants import DEFAULT_VARIANT
from vcorr.runner.unpacking import unpack_rows, unpack_tracks
from vcorr.stats import Bounded, Interval, choose_sites, mean_interval, rank_correlation, skill_interval, spearman
from vcorr.stats.series import Series, series
from vcorr.store.arrow_rows import rows_of
from vcorr.store.rundir import RunDirectory, find_runs
from vcorr.store.shards import read_shard
from vcorr_tiny.command_runs import Call, Command, Work, end
from vcorr_tiny.measurements import Kept, Measurement
from vcorr_tiny.statements import write_blocks
from vcorr_tiny.task_pool import Task

RUN = ("run", "--model", "tiny", "--data", "sprites", "--probe", "qk,head-traits", "--set", "probe.heads=each")
STEPS = "last"
CLIPS, LEAST = 16, 2
ACCURACY = "matching_accuracy_moving"
SHORTCUTS = (*(f"trait_{name}" for name in TRAITS), "attention_cross", "confidence_cross")
"""Columns that need no tracks: the traits, and the two that DiffTrack ranks layers by."""
HEADS, SMOOTHNESS = "heads", "smoothness"
"""The tasks."""
SAID = "smoothness.txt"
"""The file with the sentence about smoothness, so that pages need no predictions."""
WIDTH = 124
"""Letters per line of a page."""
STAYS, MOVES = 2.0, 12.0
"""Pixels: a point stays if it is never further from its query than the first, and moves if it once is by the second."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """The heads of one run: their accuracy with floor and ceiling, and each shortcut on the same clips and heads."""

    accuracy: Series
    shortcuts: dict[str, Series]


@dataclass(frozen=True)
class Shortcut:
    """What one column says about the heads.

    name: of the column. ranks: rank correlation with the accuracy of the same clip, averaged over clips. pooled: rank
    correlation of the means over clips with skill. rises: whether the chosen head is the one with the largest value.
    skill: of the heads that it chooses.
    """

    name: str
    ranks: Interval
    pooled: float
    rises: bool
    skill: Interval


def find_newest(out: Path) -> RunDirectory:
    """Returns the newest run below `out`.

    Raises:
        StoreError: there is no run.
    """
    runs = find_runs(out)
    if not runs:
        raise StoreError(f"{out} has no run.")
    return max(runs, key=lambda found: str(found.record()["updated"]))


def read_measured(out: Path) -> Measured:
    """Returns the heads of the newest run below `out`.

    Raises:
        StoreError: there is no run, or it lacks a column, or has one clip.
    """
    scores = find_newest(out).read("scores")
    known = {(s.key["probe"], s.key["metric"]): s for s in series(scores) if s.variant_text == DEFAULT_VARIANT.text}
    wanted = [("qk", ACCURACY), *(("head-traits", name) for name in SHORTCUTS)]
    missing = [" of ".join(reversed(key)) for key in wanted if key not in known]
    if missing:
        raise StoreError(f"{out}: the run has no {missing[0]}.")
    if len(known[wanted[0]].clips) < LEAST:
        raise StoreError(f"{out}: one half of the clips chooses a head for the other, so {LEAST} clips are needed.")
    accuracy, *shortcuts = (known[key].by_heads()["single"] for key in wanted)
    return Measured(accuracy, dict(zip(SHORTCUTS, shortcuts, strict=True)))


def judge(measured: Measured) -> list[Shortcut]:
    """Returns every shortcut, the one with the strongest rank correlation first."""
    found = [_judge(name, s, measured.accuracy) for name, s in measured.shortcuts.items()]
    return sorted(found, key=lambda shortcut: -abs(np.nan_to_num(float(shortcut.ranks.estimate))))


def _judge(name: str, s: Series, accuracy: Series) -> Shortcut:
    values, pooled = s.score, float(spearman(_mean(s.score), accuracy.skill))
    return Shortcut(name, rank_correlation(values, accuracy.score), pooled, pooled >= 0, _choice(values, accuracy))


def _choice(values: Floats, accuracy: Series) -> Interval:
    """Returns the skill of the heads that a column chooses on each half of the clips, reported on the other half.

    The half decides by its tracks whether large or small values are good, one bit; and by the column alone which head.
    """
    first, second = accuracy.halves()
    picked = np.full((3, len(accuracy.clips)), np.nan)
    for choosing, reporting in ((first, second), (second, first)):
        means = _mean(values[choosing])
        half = accuracy.select_clips([accuracy.clips[i] for i in choosing])
        rising = np.nan_to_num(float(spearman(means, half.skill))) >= 0
        best = int(np.nanargmax(means if rising else -means))
        for part, array in zip(picked, (accuracy.score, accuracy.floor, accuracy.ceiling), strict=True):
            part[reporting] = array[reporting, best]
    return skill_interval(*picked)


def _mean(values: Floats) -> Floats:
    return np.asarray(np.nanmean(values, axis=0))


def by_tracks(accuracy: Series) -> Interval:
    """Returns the skill of the heads that tracks choose, cross-fitted."""
    return skill_interval(*choose_sites(accuracy).pooled)


def by_chance(accuracy: Series) -> Interval:
    """Returns the skill of a head that is drawn: of the mean accuracy over all heads."""
    parts = (accuracy.score, accuracy.floor, accuracy.ceiling)
    return skill_interval(*Bounded(*(np.asarray(part.mean(axis=1)) for part in parts)))


def trait_table(measured: Measured) -> str:
    """Returns the shortcuts as a Markdown table, with the heads chosen by tracks and by chance below."""
    accuracy = measured.accuracy
    lines = [
        "| column | rank correlation per clip | 95 % interval | of means | chosen head | its skill | 95 % interval |",
        "| --- | ---: | ---: | ---: | --- | ---: | ---: |",
    ]
    for s in judge(measured):
        ranks = f"{_number(s.ranks.estimate, '+.2f')} | {_span(s.ranks, '+.2f')} | {_number(s.pooled, '+.2f')}"
        lines.append(f"| `{s.name}` | {ranks} | {'largest' if s.rises else 'smallest'} | {_skill(s.skill)} |")
    lines.append(f"| chosen by tracks | – | – | – | best | {_skill(by_tracks(accuracy))} |")
    lines.append(f"| any head | – | – | – | mean of all | {_skill(by_chance(accuracy))} |")
    (step,) = {(site["step"], site["noise"]) for site in accuracy.sites}
    layers = len({site["layer"] for site in accuracy.sites})
    heads = f"{len(accuracy.sites)} heads of {layers} layers, step {step[0]} (noise {step[1]:.2f})"
    return f"{len(accuracy.clips)} clips of `sprites`, {heads}:\n\n" + "\n".join(lines)


def say_smoothness(run: RunDirectory, accuracy: Series) -> str:
    """Returns in words how smooth the diagonal of the best head is, over points that stay and points that move.

    The best head is the one with the highest skill over all clips.
    """
    best = accuracy.sites[int(np.nanargmax(accuracy.skill))]
    by_clip = np.array([_smoothness(run, clip, best) for clip in accuracy.clips])
    stays, moves = (mean_interval(values) for values in by_clip.T)
    text = (
        f"The best head is head {best['head']} of layer {best['layer']}. Over points that stay within {STAYS:g} px of "
        f"their query, its smoothness is {_say(stays)}. Over points that move more than {MOVES:g} px, it is "
        f"{_say(moves)}. Only points count that are seen in every frame."
    )
    return textwrap.fill(text, WIDTH)


def _smoothness(run: RunDirectory, clip: str, site: Mapping[str, Any]) -> tuple[float, float]:
    """Returns the mean smoothness of a head, over points that stay and points that move; NaN without such points."""
    stored = rows_of(read_shard(run.shard("predictions", clip), "predictions"))
    wanted = {"probe": "head-traits", **{name: site[name] for name in ("layer", "step", "head")}}
    (row,) = [row for row in stored if all(row[name] == value for name, value in wanted.items())]
    found = unpack_rows(row, TokenGrid.from_dict(json.loads(row["grid"]))).traits
    if found is None:
        raise StoreError(f"{run.path}: clip {clip} has no traits.")
    values = found[:, TRAITS.index("smoothness")]
    away = find_motion(unpack_tracks(rows_of(read_shard(run.shard("tracks", clip), "tracks"))[0]))
    return _mean_of(values[away <= STAYS]), _mean_of(values[away > MOVES])


def _mean_of(values: NDArray[np.float32]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean(dtype=np.float64)) if len(known) else float("nan")


def find_motion(tracks: Tracks) -> Floats:
    """Returns how far each point is from its query at most, (N,) pixels; NaN for a point that is hidden in some frame.

    Where a point is hidden, no head can follow it.
    """
    queries = tracks.xy[np.arange(len(tracks.xy)), tracks.asked_in]
    away = np.linalg.norm(tracks.xy - queries[:, None], axis=2)
    return np.where(tracks.visible.all(axis=1), away.max(axis=1), np.nan)


def _say(interval: Interval) -> str:
    found = f"{say_count(int(interval.n), 'clip')}, no interval" if np.isnan(interval.low) else _span(interval, ".2f")
    return f"{_number(interval.estimate, '.2f')} ({found})"


def _skill(interval: Interval) -> str:
    return f"{_number(interval.estimate, '.2f')} | {_span(interval, '.2f')}"


def _number(value: ArrayLike, form: str) -> str:
    return "–" if np.isnan(value) else f"{float(np.asarray(value)):{form}}"


def _span(interval: Interval, form: str) -> str:
    if np.isnan(interval.low):
        return "–"
    return f"{float(interval.low):{form}} … {float(interval.high):{form}}"


def list_tasks(work: Work) -> list[Task]:
    """Returns the tasks: the run, then the sentence for which its predictions are read."""
    words = (*RUN, "--steps", STEPS, "--limit", str(work.limit), "--out", str(work.out))
    return [
        Task(HEADS, lambda: Command(words, on_device=True), seconds=8 + 5.0 * work.limit),
        Task(SMOOTHNESS, lambda: Call("vcorr_tiny.traits:store_smoothness", (work.out,)), (HEADS,), 20.0),
    ]


def store_smoothness(out: str) -> None:
    """Writes what `say_smoothness` says of the newest run below `out` into a file next to it."""
    folder = Path(out)
    text = say_smoothness(find_newest(folder), read_measured(folder).accuracy)
    (folder / SAID).write_text(text + "\n", encoding="utf-8")


def write_tables(work: Work, docs: Path | None) -> dict[str, str]:
    """Makes the block of docs/probes.md, and writes it."""
    said = work.out / SAID
    if not said.is_file():
        raise StoreError(f"{said} does not exist.", hint="Leave --tables-only out to measure it.")
    text = f"{trait_table(read_measured(work.out))}\n\n{said.read_text(encoding='utf-8').strip()}"
    if docs:
        write_blocks(docs / "probes.md", {"traits": text})
    return {"traits": text}


MEASUREMENT = Measurement("traits", CLIPS, list_tasks, write_tables, Kept((ACCURACY, *SHORTCUTS), (SAID,)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return MEASUREMENT.run(MEASUREMENT.make_parser("traits", __doc__ or "").parse_args(arguments))


if __name__ == "__main__":
    end(main)
