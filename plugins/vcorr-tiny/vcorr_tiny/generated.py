"""Says what holds while the embedded model generates, from runs of `pieces.generate`.

Videos are sampled from the captions of held-out clips, and the model is probed during sampling. `dis` and, as a check,
`lk` track the videos, and baselines run on them. The statements are what DiffTrack says about its models (arXiv
2506.17220, section 4 and abstract).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vcorr import VcorrError
from vcorr.metrics.attention_scores import harmonic_mean
from vcorr.stats.series import Series
from vcorr.stats.stability import kendall_tau
from vcorr_tiny import pieces
from vcorr_tiny.command_runs import Command, Work
from vcorr_tiny.network_folder import SEEDS
from vcorr_tiny.pieces import FEATURES, SECOND_TRACKER, TRACKER, StoredRuns
from vcorr_tiny.place_results import compare, median_layer
from vcorr_tiny.reported_rows import ACROSS, ALL_POINTS, METRICS, QK, Results, Row, read_results
from vcorr_tiny.seed_statements import SeedStatement, join_seeds
from vcorr_tiny.statements import Difference, Statement, correct
from vcorr_tiny.task_pool import Task

BASELINES = ("zncc-search", "token-patches", "zero-motion")
"""Models without a network, on the generated videos."""
CONFIDENCE, ATTENTION, TEXT = "confidence_cross", "attention_cross", "attention_text"

Table = NDArray[np.float64]


@dataclass(frozen=True)
class Generated:
    """What was measured with one seed: on the same videos, under the first and the second tracker."""

    seed: int
    first: Results
    second: Results

    @classmethod
    def read(cls, stored: StoredRuns, seed: int) -> Generated:
        """Reads the runs of a seed.

        Raises:
            StoreError: one of them is missing.
        """
        network, again = (stored.find(pieces.generate(seed, tracker)) for tracker in (TRACKER, SECOND_TRACKER))
        baselines = [stored.find_on_videos(model, network) for model in BASELINES]
        metrics = (*METRICS, CONFIDENCE, ATTENTION, TEXT)
        return cls(seed, read_results([network, *filter(None, baselines)], metrics), read_results([again], metrics))


def list_tasks(work: Work) -> Iterator[Task]:
    """Yields the tasks that run the second tracker and the baselines on the videos of each seed."""
    for seed in SEEDS:
        made_by = pieces.generate(seed)
        second = pieces.generate(seed, SECOND_TRACKER)
        seconds = pieces.estimate(work, second) / 2
        yield Task(second.name, partial(_track_again, work, seed), (made_by.name,), seconds)
        for model in BASELINES:
            name = f"{made_by.name}-on-{model}"
            yield Task(name, partial(_run_baseline, work, seed, model), (made_by.name,), seconds / 4)


def _track_again(work: Work, seed: int) -> Command:
    second = pieces.generate(seed, SECOND_TRACKER)
    copy_predictions(_find_videos(work, seed), work.out / second.folder)
    return pieces.command_of(work, second)


def _run_baseline(work: Work, seed: int, model: str) -> Command:
    videos = f"run:{_find_videos(work, seed)}"
    return Command(("run", "--model", model, "--data", videos, "--out", str(work.out)))


def _find_videos(work: Work, seed: int) -> Path:
    """Returns the run that made the videos of a seed; raises StoreError if there is none."""
    return StoredRuns.read(work.out, work.limit).find(pieces.generate(seed)).path


def copy_predictions(run: Path, folder: Path) -> None:
    """Copies a run, so that another tracker finds its videos and predictions, unless they were copied already.

    Raises:
        VcorrError: the run has no predictions, because it is a small copy.
    """
    if not (run / "predictions").is_dir():
        raise VcorrError(f"{run} has no predictions to track again.", hint="Make pages of small copies: --tables-only")
    copy = folder / run.name
    if not copy.exists() or len(list(copy.glob("predictions/*"))) < len(list(run.glob("predictions/*"))):
        shutil.copytree(run, copy, dirs_exist_ok=True)


def statements(first: Results, second: Results) -> list[Statement]:
    """Returns the paper's statements with the numbers of this model, corrected for all comparisons.

    second: the results of the same videos under another tracker.
    """
    qk = first.choose([QK])
    last = _steps(first)[-1]
    at_last = first.choose([QK], steps=[last])
    skills = _compare_skills(first, second, qk, at_last)
    means = _compare_means(first, at_last.at_probe("attention"))
    return correct(
        [
            *(Statement.comparing(f"{text}; skill", compare(*rows)) for text, rows in skills.items()),
            *(Statement.comparing(text, difference) for text, difference in means.items()),
            _against_zncc(first, qk),
        ]
    )


def _steps(results: Results) -> list[int]:
    return sorted({site["step"] for site in results.get(*QK).sites})


def _compare_skills(first: Results, second: Results, qk: Row, at_last: Row) -> dict[str, tuple[Row, Row]]:
    """Returns the two rows that each statement on skill compares. qk: the best site; at_last: the best at the end."""
    steps = _steps(first)
    middle, last = steps[len(steps) // 2], steps[-1]
    median = median_layer(first, QK, last)
    return {
        "Queries and keys match better than the best of five probes of features": (
            qk,
            first.choose([("tiny", probe) for probe in FEATURES]),
        ),
        f"Few layers match: best minus median layer at step {last}": (at_last, median),
        f"Matching improves in the second half of sampling: step {last} minus step {middle}, best layer": (
            at_last,
            at_last.at_step(middle),
        ),
        f"Another tracker agrees: best minus median layer at step {last} under `{SECOND_TRACKER}`": (
            replace(at_last, results=second),
            replace(median, results=second),
        ),
        "The network adds to its input: `qk` minus `latent`": (qk, first.choose([("tiny", "latent")])),
    }


def _compare_means(first: Results, layer: Row) -> dict[str, Difference]:
    """Returns the differences of the statements on attention. layer: the best layer, read by the probe `attention`."""
    steps = _steps(first)
    begin, last = steps[min(1, len(steps) - 1)], steps[-1]
    return {
        f"The best layer is more confident than the mean of the others at step {last}": _over_others(layer, CONFIDENCE),
        f"The best layer attends more to later frames than the mean of the others at step {last}": _over_others(
            layer, ATTENTION
        ),
        f"Its attention to later frames grows during sampling: step {last} minus step {begin}": _change(
            layer, ATTENTION, last, begin
        ),
        f"Its confidence grows during sampling: step {last} minus step {begin}": _change(
            layer, CONFIDENCE, last, begin
        ),
        f"Its attention to the text falls during sampling: step {begin} minus step {last}": _change(
            layer, TEXT, begin, last
        ),
    }


def _against_zncc(results: Results, qk: Row) -> Statement:
    """Compares with a search in pixels. Nothing is claimed: the reference is a search in pixels too."""
    zncc = results.choose([("zncc-search", "direct")])
    difference = Difference.of_gains(qk.scores(ACROSS), zncc.scores(ACROSS))
    return Statement.comparing("`qk` minus `zncc-search`; gain", difference, None)


def _over_others(row: Row, metric: str) -> Difference:
    """Compares a row with the mean of all other layers at its steps."""
    others = np.full(len(row.results.get(*row.on_first.source, metric).clips), np.nan)
    for half, pick in zip(row.results.halves, (row.on_first, row.on_second), strict=True):
        s = row.results.get(*pick.source, metric)
        rest = [i for i, site in enumerate(s.sites) if site["layer"] != pick.layer and site["step"] == pick.step]
        others[half] = s.score[half][:, rest].mean(axis=1)
    return Difference.of_means(row.scores(metric).score, others)


def _change(row: Row, metric: str, later: int, earlier: int) -> Difference:
    """Compares a row with itself at two steps."""
    return Difference.of_means(*(row.at_step(step).scores(metric).score for step in (later, earlier)))


def tracker_agreement(first: Results, second: Results) -> float:
    """Returns Kendall's tau-b between the rankings of all layers and steps under two trackers."""
    a, b = (results.get(*QK).skill for results in (first, second))
    return float(kendall_tau(a, b[None])[0])


def read_all(stored: StoredRuns) -> list[Generated]:
    """Returns what was measured with each seed."""
    return [Generated.read(stored, seed) for seed in SEEDS]


def join_statements(found: Sequence[Generated]) -> list[SeedStatement]:
    """Returns the paper's statements with the numbers of every seed."""
    return join_seeds([statements(each.first, each.second) for each in found])


def say_rankings(found: Sequence[Generated]) -> str:
    """Returns which layers the paper's harmonic mean puts first, and how far the two trackers agree, for each seed."""
    first = "; ".join(f"seed {each.seed}: {_say_first(rank_layers(each.first))}" for each in found)
    taus = ", ".join(f"{tracker_agreement(each.first, each.second):.3f}" for each in found)
    return (
        f"The harmonic mean by which DiffTrack ranks layers puts these first at the last step, {first}. Kendall's "
        f"tau-b between the rankings of all layers and steps under `{TRACKER}` and under `{SECOND_TRACKER}`: {taus}."
    )


def rank_layers(results: Results) -> Table:
    """Returns the harmonic mean of accuracy, confidence and attention of each layer at the last step, (L,)."""
    scores = [results.get("tiny", "attention", name) for name in (CONFIDENCE, ATTENTION)]
    parts = [results.get(*QK, ALL_POINTS), *scores]
    return np.asarray(harmonic_mean(*map(_means, parts))[:, -1])


def _means(s: Series) -> Table:
    """Returns the mean over clips of each layer and step, (L, S)."""
    layers, steps = (len({site[key] for site in s.sites}) for key in ("layer", "step"))
    return np.asarray(np.nanmean(s.score, axis=0).reshape(layers, steps))


def _say_first(values: Table) -> str:
    order = [str(layer) for layer in np.argsort(-values, kind="stable")[:3]]
    return f"layers {', '.join(order[:-1])} and {order[-1]}"
