"""Measures the embedded model while it generates: ``python -m vcorr_tiny.generated --out runs/generated``.

Samples videos from the captions of held-out clips through the command line and probes the model during sampling.
Tracks the videos with `dis` and, as a check, with `lk`. Prints which of DiffTrack's statements (arXiv 2506.17220,
section 4 and abstract) hold for this model, with intervals. Then prints matching, confidence and attention per layer
and step, and the harmonic mean that ranks the layers.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vcorr import VcorrError
from vcorr.contract.variants import DEFAULT_VARIANT
from vcorr.metrics.attention_scores import harmonic_mean
from vcorr.stats import Interval, compare_means
from vcorr.stats.series import Series, series
from vcorr.stats.stability import kendall_tau
from vcorr.stats.summary import best_sites
from vcorr.store.rundir import find_runs
from vcorr_tiny.findings import METRIC, Site, Statement, choose, fill, gap, statement_table

RUN = ("run", "--model", "tiny", "--probe", "qk,feature-fair,attention", "--mode", "generate", "--data", "sprites")
SETTINGS = ("--set", "num_steps=20", "--set", "cfg=2")
CLIPS = 64
TRACKER, SECOND_TRACKER = "dis", "lk"

Table = NDArray[np.float64]
Measures = dict[tuple[str, str], Series]
"""Series by probe and metric."""


def run(out: Path, limit: int, tracker: str, device: str) -> pa.Table:
    """Runs the model and a tracker through the command line, or reuses a stored run; returns the scores."""
    options = ["--limit", str(limit), "--out", str(out), "--device", device, "--dtype", "float32"]
    command = [sys.executable, "-m", "vcorr", *RUN, *SETTINGS, *options, "--set", f"tracker={tracker}"]
    if subprocess.run(command, check=False).returncode:
        raise VcorrError(f"{' '.join(command[2:])} failed.")
    return max(find_runs(out), key=lambda found: found.record()["updated"]).read("scores")


def measures_of(scores: pa.Table) -> Measures:
    """Returns the series of a run in the default variant."""
    return {(s.key["probe"], s.key["metric"]): s for s in series(scores) if s.variant_text == DEFAULT_VARIANT.text}


def statements(first: Measures, second: Measures) -> list[Statement]:
    """Returns the paper's statements with the numbers of this model; one holds if its interval lies above zero.

    The best site is chosen on one half of the clips. All numbers are from the other half, paired by clip.
    second: the measures of the same videos under another tracker.
    """
    qk, fair = first["qk", METRIC], first["feature-fair", METRIC]
    (layer, step), (choosing, at) = choose(qk)
    steps = sorted({site["step"] for site in qk.sites})
    begin, middle, end = steps[0], steps[len(steps) // 2], steps[-1]
    median = _median_layer(qk, end, choosing)
    confidence, attention = first["attention", "confidence_cross"], first["attention", "attention_cross"]
    found = {
        "Queries and keys match better than features matched by the same method (skill, best site of each)": gap(
            qk, (layer, step), fair, choose(fair)[0], at
        ),
        "Few layers match: best minus median layer (skill, last step)": gap(qk, (layer, end), qk, (median, end), at),
        "Matching improves during sampling: last minus first step (skill, best layer)": gap(
            qk, (layer, end), qk, (layer, begin), at
        ),
        "It still improves in the second half: last minus middle step (skill, best layer)": gap(
            qk, (layer, end), qk, (layer, middle), at
        ),
        "The best layer is more confident than the mean of the others (last step)": _against_others(
            confidence, layer, end, at
        ),
        "The best layer attends more to later frames than the mean of the others (last step)": _against_others(
            attention, layer, end, at
        ),
        "Its attention to later frames grows during sampling: last minus first step": _change(
            attention, layer, (end, begin), at
        ),
        "Its confidence grows during sampling: last minus first step": _change(confidence, layer, (end, begin), at),
        "Its attention to the text falls during sampling: first minus last step": _change(
            first["attention", "attention_text"], layer, (begin, end), at
        ),
        f"Another tracker agrees: best minus median layer (skill under {SECOND_TRACKER}, last step)": gap(
            second["qk", METRIC], (layer, end), second["qk", METRIC], (median, end), at
        ),
    }
    return [Statement(text, interval, 0.0, len(at)) for text, interval in found.items()]


def tracker_agreement(first: Measures, second: Measures) -> float:
    """Returns Kendall's tau-b between the rankings of all layers and steps under two trackers."""
    a, b = (measures["qk", METRIC].skill for measures in (first, second))
    return float(kendall_tau(a, b[None])[0])


def _median_layer(s: Series, step: int, clips: Sequence[str]) -> int:
    """Returns the layer in the middle of the ranking by mean score at a step; the better one of two in the middle."""
    means = {
        site["layer"]: np.nanmean(_column(s, (site["layer"], step), clips)) for site in s.sites if site["step"] == step
    }
    ranked = sorted(means, key=lambda layer: means[layer])
    return int(ranked[len(ranked) // 2])


def _against_others(s: Series, layer: int, step: int, clips: Sequence[str]) -> Interval:
    others = [site["layer"] for site in s.sites if site["step"] == step and site["layer"] != layer]
    mean = np.mean([_column(s, (other, step), clips) for other in others], axis=0)
    return compare_means(_column(s, (layer, step), clips), mean)


def _change(s: Series, layer: int, steps: tuple[int, int], clips: Sequence[str]) -> Interval:
    more, less = (_column(s, (layer, step), clips) for step in steps)
    return compare_means(more, less)


def _column(s: Series, site: Site, clips: Sequence[str]) -> Table:
    """Returns the scores at one layer and step, (clips,)."""
    column = next(i for i, x in enumerate(s.sites) if (x["layer"], x["step"]) == site)
    return np.asarray(s.score[[s.clips.index(clip) for clip in clips], column])


def tables(scores: pa.Table, second: pa.Table) -> dict[str, str]:
    """Returns the blocks of docs/findings.md by name. second: the scores under the second tracker."""
    of, others = measures_of(scores), measures_of(second)
    qk, confidence = of["qk", METRIC], of["attention", "confidence_cross"]
    attention = of["attention", "attention_cross"]
    measures = {"accuracy": _means(qk), "confidence": _means(confidence), "attention": _means(attention)}
    ranking = harmonic_mean(**measures)
    last = ranking.shape[1] - 1
    return {
        "generated-statements": statement_table(statements(of, others)),
        "generated-trackers": _agreement(tracker_agreement(of, others)),
        "generated-best": _best(scores),
        "generated-layers": _grid_table(qk, qk.skill.reshape(ranking.shape)),
        "generated-last": _last_table({**measures, "harmonic mean": ranking}, last),
    }


def _means(s: Series) -> Table:
    """Returns the mean over clips of each layer and step, (L, S)."""
    layers, steps = (len({site[key] for site in s.sites}) for key in ("layer", "step"))
    return np.asarray(np.nanmean(s.score, axis=0).reshape(layers, steps))


def _grid_table(s: Series, values: Table) -> str:
    steps = {site["step"]: site["noise"] for site in s.sites}
    head = " | ".join(f"{step} ({noise:.2f})" for step, noise in sorted(steps.items()))
    rows = [f"| {layer} | " + " | ".join(f"{v:.3f}" for v in row) + " |" for layer, row in enumerate(values)]
    return "\n".join([f"| layer | {head} |", "| ---: |" + " ---: |" * len(steps), *rows])


def _last_table(measures: dict[str, Table], step: int) -> str:
    head = f"| layer | {' | '.join(measures)} |"
    rows = [
        f"| {layer} | " + " | ".join(f"{table[layer, step]:.4f}" for table in measures.values()) + " |"
        for layer in range(len(next(iter(measures.values()))))
    ]
    return "\n".join([head, "| ---: |" + " ---: |" * len(measures), *rows])


def _agreement(tau: float) -> str:
    trackers = f"`{TRACKER}` and under `{SECOND_TRACKER}`"
    return f"Kendall's tau-b between the rankings of all layers and steps by skill under {trackers}: {tau:.3f}."


def _best(scores: pa.Table) -> str:
    lines = [
        "| probe | layer | step (noise) | value | floor | ceiling | skill | 95 % interval | regret | clips |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for best in best_sites(scores, metric=METRIC):
        s = best.summary
        values = f"{s.value:.3f} | {s.floor:.3f} | {s.ceiling:.3f} | {s.skill:.3f}"
        span = f"{s.skill_low:.3f} … {s.skill_high:.3f}"
        place = f"{s.layer} | {s.step} ({s.noise:.2f})"
        lines.append(f"| {s.probe} | {place} | {values} | {span} | {best.regret:.3f} | {s.clips} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m vcorr_tiny.generated", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--out", type=Path, default=Path("runs/generated"), help="folder of the runs")
    parser.add_argument("--limit", type=int, default=CLIPS, help="clips (default: %(default)s)")
    parser.add_argument("--docs", type=Path, help="docs folder whose findings.md is updated")
    parser.add_argument("--device", default="cpu", help="where to sample (default: %(default)s)")
    options = parser.parse_args(arguments)
    # the default tracker comes last, so that the run keeps its scores
    second, first = (run(options.out, options.limit, name, options.device) for name in (SECOND_TRACKER, TRACKER))
    blocks = tables(first, second)
    if options.docs:
        page = options.docs / "findings.md"
        text = page.read_text(encoding="utf-8")
        for name, block in blocks.items():
            text = fill(text, name, block)
        page.write_text(text, encoding="utf-8")
    sys.stdout.write("\n\n".join(blocks.values()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
