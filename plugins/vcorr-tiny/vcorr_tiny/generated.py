"""Measures the embedded model while it generates: ``python -m vcorr_tiny.generated --out runs/generated``.

Samples videos from the captions of held-out clips through the command line and probes the model during sampling.
Tracks the videos with `dis` and, as a check, with `lk`, and runs baselines on them. Prints which of DiffTrack's
statements (arXiv 2506.17220, section 4 and abstract) hold for this model. Then prints matching, confidence and
attention per layer and step, and the harmonic mean that ranks the layers.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vcorr import StoreError
from vcorr.metrics.attention_scores import harmonic_mean
from vcorr.stats.series import Series
from vcorr.stats.stability import kendall_tau
from vcorr.store.rundir import find_runs
from vcorr_tiny.command_runs import Work, end, make_parser, read_work
from vcorr_tiny.findings import FEATURES, best_table, compare, grid_table, median_layer, say_clips
from vcorr_tiny.reported_rows import ACROSS, ALL_POINTS, METRICS, QK, Results, Row, read_results
from vcorr_tiny.statements import Difference, Statement, correct, count_text, statement_table, write_blocks

PROBES = ("qk", "latent", *FEATURES, "attention")
SETTINGS = ("--mode", "generate", "--data", "sprites", "--set", "num_steps=20", "--set", "cfg=2")
BASELINES = ("zncc-search", "token-patches", "zero-motion")
"""Models without a network, on the generated videos."""
CLIPS = 64
TRACKER, SECOND_TRACKER = "dis", "lk"
CONFIDENCE, ATTENTION, TEXT = "confidence_cross", "attention_cross", "attention_text"

Table = NDArray[np.float64]


def run_all(work: Work) -> None:
    """Samples and tracks, tracks a copy of the run with the second tracker, and runs the baselines on the videos."""
    network = ["run", "--model", "tiny", "--probe", ",".join(PROBES), *SETTINGS]
    if not work.only or "tiny" in work.only:
        alone = replace(work, only=())
        alone.run([[*network, "--set", f"tracker={TRACKER}", "--out", str(work.out)]], ("tiny",))
        second = work.out / SECOND_TRACKER
        _copy_predictions(_find_network(work), second)
        alone.run([[*network, "--set", f"tracker={SECOND_TRACKER}", "--out", str(second)]], ("tiny",))
    rest = tuple(name for name in work.only if name != "tiny")
    if rest or not work.only:
        data = ["--data", f"run:{_find_network(work)}", "--out", str(work.out)]
        replace(work, only=rest).run([["run", "--model", model, *data] for model in BASELINES], ())


def _copy_predictions(run: Path, folder: Path) -> None:
    """Copies a run, so that another tracker finds its videos and predictions, unless they were copied already."""
    copy = folder / run.name
    if not copy.exists() or len(list(copy.glob("predictions/*"))) < len(list(run.glob("predictions/*"))):
        shutil.copytree(run, copy, dirs_exist_ok=True)


def _find_network(work: Work) -> Path:
    """Returns the directory of the run of the embedded model.

    Raises:
        StoreError: there is none.
    """
    for run in find_runs(work.out):
        if run.record()["spec"]["model"] == "tiny":
            return run.path
    raise StoreError(f"No run of tiny is in {work.out}.", hint="Run this command without --only first.")


def statements(first: Results, second: Results) -> list[Statement]:
    """Returns the paper's statements with the numbers of this model, corrected for all comparisons.

    second: the results of the same videos under another tracker.
    """
    qk = first.choose([QK])
    steps = sorted({site["step"] for site in first.get(*QK).sites})
    begin, middle, last = steps[min(1, len(steps) - 1)], steps[len(steps) // 2], steps[-1]
    at_last = first.choose([QK], steps=[last])
    median = median_layer(first, QK, last)
    skills = {
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
    layer = at_last.at_probe("attention")
    means = {
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
    return correct(
        [
            *(Statement.comparing(f"{text}; skill", compare(*rows)) for text, rows in skills.items()),
            *(Statement.comparing(text, difference) for text, difference in means.items()),
            _against_zncc(first, qk),
        ]
    )


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


def tables(first: Results, second: Results) -> dict[str, str]:
    """Returns the blocks of docs/findings.md by name. second: the results under the second tracker."""
    found = statements(first, second)
    qk = first.get(*QK, ALL_POINTS)
    measures = {
        "accuracy": _means(qk),
        "confidence": _means(first.get("tiny", "attention", CONFIDENCE)),
        "attention": _means(first.get("tiny", "attention", ATTENTION)),
    }
    ranking = harmonic_mean(measures["accuracy"], measures["confidence"], measures["attention"])
    last = ranking.shape[1] - 1
    return {
        "generated-statements": statement_table(found),
        "generated-conclusions": f"{count_text(found)} {_agreement(tracker_agreement(first, second))}",
        "generated-best": f"{say_clips(first)}\n\n{best_table(first)}",
        "generated-layers": grid_table(first.get(*QK)),
        "generated-last": _last_table({**measures, "harmonic mean": ranking}, last),
        "generated-ranking": _ranking_sentence(ranking[:, last]),
    }


def _means(s: Series) -> Table:
    """Returns the mean over clips of each layer and step, (L, S)."""
    layers, steps = (len({site[key] for site in s.sites}) for key in ("layer", "step"))
    return np.asarray(np.nanmean(s.score, axis=0).reshape(layers, steps))


def _last_table(measures: dict[str, Table], step: int) -> str:
    head = f"| layer | {' | '.join(measures)} |"
    rows = [
        f"| {layer} | " + " | ".join(f"{table[layer, step]:.4f}" for table in measures.values()) + " |"
        for layer in range(len(next(iter(measures.values()))))
    ]
    return "\n".join([head, "| ---: |" + " ---: |" * len(measures), *rows])


def _ranking_sentence(values: Table) -> str:
    """Returns which layers the harmonic mean puts first."""
    order = [str(layer) for layer in np.argsort(-values, kind="stable")[:3]]
    return f"The harmonic mean ranks layers {', '.join(order[:-1])} and {order[-1]} first."


def _agreement(tau: float) -> str:
    trackers = f"`{TRACKER}` and under `{SECOND_TRACKER}`"
    return f"Kendall's tau-b between the rankings of all layers and steps by skill under {trackers}: {tau:.3f}."


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    options = make_parser("vcorr_tiny.generated", __doc__ or "", "runs/generated", CLIPS).parse_args(arguments)
    work = read_work(options)
    if not work.tables_only:
        run_all(work)
    if work.only:
        return 0
    metrics = (*METRICS, CONFIDENCE, ATTENTION, TEXT)
    first, second = (read_results(folder, work.limit, metrics) for folder in (work.out, work.out / SECOND_TRACKER))
    blocks = tables(first, second)
    if options.docs:
        write_blocks(options.docs / "findings.md", blocks)
    sys.stdout.write("\n\n".join(blocks.values()) + "\n")
    return 0


if __name__ == "__main__":
    end(main)
