"""Measures the findings about the embedded model: ``python -m vcorr_tiny.findings``.

Runs the embedded model, its untrained twin and the baselines on the same held-out clips through the command line.
Then checks each statement on the tables. Comparisons are paired by clip. Sites are chosen on one half of the clips and
reported on the other half. Ends with exit code 1 if a statement does not hold.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vcorr import StoreError, VcorrError, is_random
from vcorr.contract.variants import DEFAULT_VARIANT
from vcorr.stats import Bounded, Interval, compare_means, compare_skills
from vcorr.stats.series import Series, series
from vcorr.stats.summary import BestSite, best_site, site_summaries
from vcorr.store.rundir import RunDirectory, find_runs

METRIC = "matching_accuracy"
MOVING = "matching_accuracy_moving"
PROBES = "qk,feature,feature-fair"
BASELINES = ("zero-motion", "token-patches", "dense-search")
"""Models without a network that the embedded model is compared with."""
WEAK_BASELINES = ("random-token", "nearest-colour")
"""Further models without a network, which appear in the tables but in no statement."""
CLIPS = 64

Site = tuple[int, int]
"""Layer and step; the score is the one of the mean over heads."""


@dataclass(frozen=True)
class Statement:
    """One finding: its text, the measured number with its interval, and the bar that the number has to reach.

    bar: 0 if the interval has to lie above zero; None if the number is only reported. clips: number of clips.
    """

    text: str
    interval: Interval
    bar: float | None
    clips: int

    @property
    def value(self) -> float:
        """The measured number."""
        return float(self.interval.estimate)

    @property
    def holds(self) -> bool:
        """Whether the number reaches the bar; for bar 0, whether the whole interval lies above zero."""
        low = float(self.interval.low)
        return self.value >= self.bar if self.bar else low > 0


@dataclass(frozen=True)
class Results:
    """The series of all runs by (model, probe, metric)."""

    series: dict[tuple[str, str, str], Series]

    def get(self, model: str, probe: str, metric: str = METRIC) -> Series:
        """Returns one series.

        Raises:
            StoreError: no run has it.
        """
        try:
            return self.series[model, probe, metric]
        except KeyError as error:
            raise StoreError(f"No run has {metric} of probe {probe!r} of model {model!r}.") from error


def run_all(out: Path, limit: int) -> None:
    """Runs all models through the command line; reuses stored runs."""
    common = ["--data", "sprites", "--limit", str(limit), "--out", str(out)]
    _vcorr(["run", "--model", "tiny", "--probe", PROBES, "--set", "probe.heads=each", *common])
    _vcorr(["run", "--model", "tiny-untrained", "--probe", PROBES, *common])
    for model in (*BASELINES, *WEAK_BASELINES):
        _vcorr(["run", "--model", model, *common])


def read_results(out: Path, limit: int) -> Results:
    """Returns the series of the complete runs over `limit` clips below `out`."""
    found: dict[tuple[str, str, str], Series] = {}
    for run in find_runs(out):
        record = run.record()
        if record["status"] == "complete" and record["clips"]["total"] == limit:
            found |= _series_of(run)
    return Results(found)


def statements(results: Results) -> list[Statement]:
    """Returns every finding with its interval."""
    qk = results.get("tiny", "qk")
    fair, raw = results.get("tiny", "feature-fair"), results.get("tiny", "feature")
    chosen, halves = choose(qk)
    last, first = max(s["step"] for s in qk.sites), min(s["step"] for s in qk.sites)
    worst = _worst(qk, last)
    at = halves[1]
    return [
        Statement("Skill of the best query-key site", _skill(qk, chosen, at), 0.5, len(at)),
        Statement(
            "Best minus worst layer, skill at the cleanest step",
            gap(qk, (chosen[0], last), qk, (worst, last), at),
            0.2,
            len(at),
        ),
        Statement(
            "Best layer at the cleanest minus at the noisiest step, skill",
            gap(qk, (chosen[0], last), qk, (chosen[0], first), at),
            0.2,
            len(at),
        ),
        Statement(
            "Query-key minus feature matching by the same method (`feature-fair`), best site of each, skill",
            gap(qk, chosen, fair, choose(fair)[0], at),
            0.0,
            len(at),
        ),
        Statement(
            "Query-key minus the paper's one-way feature matching (`feature`), best site of each, skill",
            gap(qk, chosen, raw, choose(raw)[0], at),
            0.0,
            len(at),
        ),
        *(_against(results, qk, chosen, at, model, metric) for metric in (METRIC, MOVING) for model in BASELINES),
        _against_twin(results, qk, chosen, at),
    ]


def _against(results: Results, qk: Series, chosen: Site, at: Sequence[str], model: str, metric: str) -> Statement:
    ours, theirs = results.get("tiny", "qk", metric), results.get(model, "direct", metric)
    points = "moving points" if metric == MOVING else "all visible points"
    difference = compare_means(_values(ours, chosen, at), _values(theirs, (-1, -1), at))
    # dense search predicts every second pixel of every frame, finer than the whole tokens at latent times of the model
    bar = None if model == "dense-search" else 0.0
    return Statement(f"Best query-key site minus {model}, accuracy over {points}", difference, bar, len(at))


def _against_twin(results: Results, qk: Series, chosen: Site, at: Sequence[str]) -> Statement:
    twin = results.get("tiny-untrained", "qk")
    text = "Best query-key site minus the best site of the untrained twin, skill"
    return Statement(text, gap(qk, chosen, twin, choose(twin)[0], at), 0.0, len(at))


def choose(s: Series) -> tuple[Site, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Returns the best site by skill on the first, third, ... clip, and both halves: (choosing, reporting)."""
    choosing, reporting = s.clips[0::2], s.clips[1::2]
    means = [i for i, site in enumerate(s.sites) if site["head"] < 0]
    skills = [x.skill for x in site_summaries(s, sites=means, clips=choosing)]
    best = s.sites[means[int(np.nanargmax(skills))]]
    return (best["layer"], best["step"]), (choosing, reporting)


def _worst(s: Series, step: int) -> int:
    """Returns the layer of the lowest skill at a step, on the choosing half."""
    here = [i for i, site in enumerate(s.sites) if site["head"] < 0 and site["step"] == step]
    skills = [x.skill for x in site_summaries(s, sites=here, clips=s.clips[0::2])]
    return int(s.sites[here[int(np.nanargmin(skills))]]["layer"])


def _scores_at(s: Series, site: Site, clips: Sequence[str]) -> Bounded:
    column = next(i for i, x in enumerate(s.sites) if (x["layer"], x["step"]) == site and x["head"] < 0)
    rows = [s.clips.index(clip) for clip in clips]
    return Bounded(s.score[rows, column], s.floor[rows, column], s.ceiling[rows, column])


def _values(s: Series, site: Site, clips: Sequence[str]) -> np.ndarray:
    return np.asarray(_scores_at(s, site, clips).score)


def _skill(s: Series, site: Site, clips: Sequence[str]) -> Interval:
    from vcorr.stats import skill_interval

    return skill_interval(*_scores_at(s, site, clips))


def gap(a: Series, site_a: Site, b: Series, site_b: Site, clips: Sequence[str]) -> Interval:
    """Returns the skill of `a` at its site minus the skill of `b` at its site, paired by clip."""
    return compare_skills(_scores_at(a, site_a, clips), _scores_at(b, site_b, clips))


def _series_of(run: RunDirectory) -> dict[tuple[str, str, str], Series]:
    tables = run.read("scores")
    return {
        (s.key["model"], s.key["probe"], s.key["metric"]): s
        for metric in (METRIC, MOVING)
        for s in series(tables, metric=metric)
        if s.variant_text == DEFAULT_VARIANT.text
    }


def _vcorr(arguments: Sequence[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "vcorr", *arguments], check=False)
    if done.returncode:
        raise VcorrError(f"vcorr {' '.join(arguments)} ended with exit code {done.returncode}.")


# --------------------------------------------------------------------------------------------------------------- tables


def statement_table(found: Sequence[Statement]) -> str:
    """Returns the statements as a Markdown table."""
    lines = ["| statement | measured | 95 % interval | needed | holds |", "| --- | ---: | ---: | ---: | --- |"]
    for s in found:
        needed = "–" if s.bar is None else f"≥ {s.bar:g}" if s.bar else "> 0"
        span = f"{float(s.interval.low):.3f} … {float(s.interval.high):.3f}"
        holds = "–" if s.bar is None else "yes" if s.holds else "no"
        lines.append(f"| {s.text} | {s.value:.3f} | {span} | {needed} | {holds} |")
    return "\n".join(lines)


def best_table(results: Results, metric: str) -> str:
    """Returns the best site of every model and probe under one metric as a Markdown table."""
    lines = [
        "| model | probe | layer | step (noise) | value | floor | ceiling | skill | 95 % interval | regret |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    rows = [best_site(_head_means(s)) for key, s in sorted(results.series.items()) if key[2] == metric]
    ranked = sorted((b for b in rows if b is not None), key=lambda b: -b.summary.skill)
    return "\n".join([*lines, *(_best_line(b) for b in ranked)])


def _best_line(b: BestSite) -> str:
    s = b.summary
    model = f"{s.model} (random weights)" if is_random(s.weights) else s.model
    where = f"{s.layer} | {s.step} ({s.noise:.2f})" if s.layer >= 0 else "– | –"
    regret = "–" if s.layer < 0 else f"{b.regret:.3f}"
    span = f"{s.skill_low:.3f} … {s.skill_high:.3f}"
    values = f"{s.value:.3f} | {s.floor:.3f} | {s.ceiling:.3f} | {s.skill:.3f} | {span}"
    return f"| {model} | {s.probe} | {where} | {values} | {regret} |"


def layer_table(results: Results, probe: str = "qk") -> str:
    """Returns the skill of one probe per layer and step, over all clips, as a Markdown table."""
    s = _head_means(results.get("tiny", probe))
    steps = sorted({site["step"] for site in s.sites})
    noise = {site["step"]: site["noise"] for site in s.sites}
    value = {(site["layer"], site["step"]): v for site, v in zip(s.sites, s.skill, strict=True)}
    head = " | ".join(f"{step} ({noise[step]:.2f})" for step in steps)
    lines = [f"| layer | {head} |", "| ---: |" + " ---: |" * len(steps)]
    lines += [
        f"| {layer} | " + " | ".join(f"{value[layer, step]:.3f}" for step in steps) + " |"
        for layer in sorted({site["layer"] for site in s.sites})
    ]
    return "\n".join(lines)


def _head_means(s: Series) -> Series:
    return s.by_heads()["mean"]


def fill(text: str, name: str, content: str) -> str:
    """Returns `text` with `content` between the markers of `name`.

    Raises:
        VcorrError: the markers are not there.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if begin not in text or end not in text:
        raise VcorrError(f"The page has no block {begin} … {end}.")
    head, rest = text.split(begin, 1)
    return f"{head}{begin}\n\n{content}\n\n{end}{rest.split(end, 1)[1]}"


def write_page(page: Path, results: Results, found: Sequence[Statement]) -> None:
    """Fills the generated blocks of docs/findings.md."""
    text = page.read_text(encoding="utf-8")
    blocks = {
        "statements": statement_table(found),
        "best": best_table(results, METRIC),
        "best-moving": best_table(results, MOVING),
        "layers-qk": layer_table(results, "qk"),
        "layers-feature-fair": layer_table(results, "feature-fair"),
        "heads": head_table(results),
    }
    for name, content in blocks.items():
        text = fill(text, name, content)
    page.write_text(text, encoding="utf-8")


def head_table(results: Results) -> str:
    """Returns the skill per layer of each head and of the mean over heads as a Markdown table.

    Values are from the cleanest step, over all clips.
    """
    s = results.get("tiny", "qk")
    last = max(site["step"] for site in s.sites)
    value = {(site["layer"], site["head"]): v for site, v in zip(s.sites, s.skill, strict=True) if site["step"] == last}
    heads = sorted({head for _, head in value if head >= 0})
    lines = [f"| layer | {' | '.join(f'head {h}' for h in heads)} | mean |", "| ---: |" + " ---: |" * (len(heads) + 1)]
    lines += [
        f"| {layer} | " + " | ".join(f"{value[layer, head]:.3f}" for head in [*heads, -1]) + " |"
        for layer in sorted({layer for layer, _ in value})
    ]
    return "\n".join(lines)


def draw(results: Results, path: Path) -> None:
    """Draws the layer x step heat maps of the three probes as one picture."""
    import altair as alt

    rows = [
        {
            "probe": probe,
            "layer": site["layer"],
            "step": f"{site['step']} ({site['noise']:.2f})",
            "order": site["step"],
            "skill": v,
        }
        for probe in PROBES.split(",")
        for s in [_head_means(results.get("tiny", probe))]
        for site, v in zip(s.sites, s.skill.tolist(), strict=True)
    ]
    chart = (
        alt.Chart(alt.Data(values=rows))
        .mark_rect()
        .encode(
            x=alt.X("step:O", title="step (noise)", sort=alt.SortField("order")),
            y=alt.Y("layer:O", title="layer"),
            color=alt.Color("skill:Q", scale=alt.Scale(scheme="viridis", domain=[0, 1], clamp=True), title="skill"),
            column=alt.Column("probe:N", title=None, sort=PROBES.split(",")),
        )
        .properties(width=210, height=230)
        .configure_axis(labelFontSize=11, titleFontSize=12)
        .configure_header(labelFontSize=13, labelFontWeight="bold")
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    chart.save(str(path), scale_factor=2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m vcorr_tiny.findings", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/findings"), help="folder of the runs")
    parser.add_argument("--limit", type=int, default=CLIPS, help="clips (default: %(default)s)")
    parser.add_argument("--docs", type=Path, help="docs folder whose findings.md and picture are updated")
    options = parser.parse_args(arguments)
    run_all(options.out, options.limit)
    results = read_results(options.out, options.limit)
    found = statements(results)
    if options.docs:
        write_page(options.docs / "findings.md", results, found)
        draw(results, options.docs / "images" / "findings-heatmap.png")
    sys.stdout.write(f"{statement_table(found)}\n\n{best_table(results, METRIC)}\n")
    return 0 if all(s.holds for s in found if s.bar is not None) else 1


if __name__ == "__main__":
    sys.exit(main())
