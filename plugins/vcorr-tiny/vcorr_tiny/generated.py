"""What the embedded model knows while it generates: ``python -m vcorr_tiny.generated --out runs/generated``.

Samples videos from the captions of held-out clips through the command line, probing on the way, tracks them with `dis`,
and prints matching, confidence and attention per layer and step, with the harmonic mean that ranks them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vcorr.errors import VcorrError
from vcorr.metrics.attention import harmonic_mean
from vcorr.stats.summary import Series, best_sites, series
from vcorr.store.rundir import RunDirectory, find_runs
from vcorr_tiny.findings import METRIC, fill

RUN = ("run", "--model", "tiny", "--probe", "qk,feature-fair,attention", "--mode", "generate", "--data", "sprites")
SETTINGS = ("--set", "num_steps=20", "--set", "guidance=2")
CLIPS = 16

Table = NDArray[np.float64]


def run(out: Path, limit: int) -> RunDirectory:
    """Generates and probes through the command line; what is there already is reused."""
    command = [sys.executable, "-m", "vcorr", *RUN, *SETTINGS, "--limit", str(limit), "--out", str(out)]
    if subprocess.run(command, check=False).returncode:
        raise VcorrError(f"{' '.join(command[2:])} did not end well.")
    return max(find_runs(out), key=lambda found: found.record()["updated"])


def tables(found: RunDirectory) -> dict[str, str]:
    """The blocks of docs/findings.md, by name."""
    scores = found.read("scores")
    of = {(s.key["probe"], s.key["metric"]): s for s in series(scores)}
    qk, confidence = of["qk", METRIC], of["attention", "confidence_cross"]
    attention = of["attention", "attention_cross"]
    measures = {"accuracy": _means(qk), "confidence": _means(confidence), "attention": _means(attention)}
    ranking = harmonic_mean(**measures)
    last = ranking.shape[1] - 1
    return {
        "generated-best": _best(found),
        "generated-layers": _grid_table(qk, qk.skill.reshape(ranking.shape)),
        "generated-last": _last_table({**measures, "harmonic mean": ranking}, last),
    }


def _means(s: Series) -> Table:
    """(L, S): means over clips of one value a layer and step."""
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


def _best(found: RunDirectory) -> str:
    lines = [
        "| probe | layer | step (noise) | value | floor | ceiling | skill | 95 % interval | regret | clips |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for best in best_sites(found.read("scores"), metric=METRIC):
        s = best.summary
        values = f"{s.value:.3f} | {s.floor:.3f} | {s.ceiling:.3f} | {s.skill:.3f}"
        span = f"{s.skill_low:.3f} … {s.skill_high:.3f}"
        place = f"{s.layer} | {s.step} ({s.noise:.2f})"
        lines.append(f"| {s.probe} | {place} | {values} | {span} | {best.regret:.3f} | {s.clips} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m vcorr_tiny.generated", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--out", type=Path, default=Path("runs/generated"), help="folder of the runs")
    parser.add_argument("--limit", type=int, default=CLIPS, help="clips (default: %(default)s)")
    parser.add_argument("--docs", type=Path, help="docs folder whose findings.md is brought up to date")
    options = parser.parse_args(arguments)
    blocks = tables(run(options.out, options.limit))
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
