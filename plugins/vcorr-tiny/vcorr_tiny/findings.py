"""Measures the findings about the embedded model: ``python -m vcorr_tiny.findings``.

Runs the embedded model, its untrained twin and models without a network on the same held-out clips, through the command
line. Then checks each statement on the tables. Ends with exit code 1 if a statement does not hold.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vcorr import StoreError, is_random
from vcorr.stats.intervals import (
    Interval,
    clip_means,
    gain_interval,
    mean_interval,
    no_interval_reason,
    skill,
    skill_interval,
)
from vcorr.stats.series import Series, series
from vcorr.stats.sites import SiteId
from vcorr.store.rundir import find_runs
from vcorr_tiny.command_runs import end, make_parser, read_work
from vcorr_tiny.reported_rows import ACROSS, ALL_POINTS, MOVING, QK, Pick, Results, Row, read_results
from vcorr_tiny.statements import (
    Difference,
    Statement,
    correct,
    count_text,
    span,
    statement_table,
    write_blocks,
)

FEATURES = ("feature", "feature-fair", "feature-cos", "feature-cos-token", "hidden-cos")
"""Probes of features; query-key matching is compared with the best of them."""
CONTROLS = ("latent", "qk-position")
"""Probes of what goes into the network, and of positions without content."""
PROBES = ("qk", *CONTROLS, *FEATURES)
TWIN_PROBES = ("qk", "feature-fair", "feature-cos")
BASELINES = ("zncc-search", "dense-search", "token-patches", "zero-motion")
"""Models without a network that the embedded model is compared with."""
WEAK_BASELINES = ("nearest-colour", "random-token")
"""Further models without a network, which appear in the table but in no statement."""
DRAWN = ("qk", "feature", "feature-fair", "feature-cos", "feature-cos-token", "hidden-cos")
"""The probes of the picture."""
CLIPS = 64
BEST_COLUMNS = (
    *("layer:step", "gain", "95 % interval", "ceiling", "skill", "95 % interval", "regret"),
    *("accuracy, all points", "skill, all points"),
)
"""Columns of the table of best sites, after model and probe."""
HEADS = "heads"
"""Folder of the run that reads every head. Its means over heads are in another run already."""


def commands(out: Path) -> list[list[str]]:
    """Returns the commands of all runs, without the options of `Work`. Heads are read in a run of their own."""
    common = ["--data", "sprites", "--out"]
    heads = ["--model", "tiny", "--probe", "qk", "--steps", "last", "--set", "probe.heads=each"]
    return [
        ["run", "--model", "tiny", "--probe", ",".join(PROBES), *common, str(out)],
        ["run", *heads, *common, str(out / HEADS)],
        ["run", "--model", "tiny-untrained", "--probe", ",".join(TWIN_PROBES), *common, str(out)],
        *(["run", "--model", model, *common, str(out)] for model in (*BASELINES, *WEAK_BASELINES)),
    ]


# ----------------------------------------------------------------------------------------------------------- statements


def statements(results: Results) -> list[Statement]:
    """Returns every finding with its interval, corrected for all comparisons."""
    qk, features = results.choose([QK]), results.choose([("tiny", probe) for probe in FEATURES])
    steps = sorted({site["step"] for site in results.get(*QK).sites})
    last, middle = steps[-1], steps[len(steps) // 2]
    at_last = results.choose([QK], steps=[last])
    compared = {
        f"Few layers match: best minus median layer at step {last}": (at_last, median_layer(results, QK, last)),
        f"Noise hinders matching: best layer at step {last} minus step {middle}": (at_last, at_last.at_step(middle)),
        "Queries and keys match better than the best of five probes of features": (qk, features),
        "They match by content: `qk` minus `qk-position`": (qk, results.choose([("tiny", "qk-position")])),
        "The network adds to its input: `qk` minus `latent`": (qk, results.choose([("tiny", "latent")])),
        "Training makes it: `qk` minus the best probe of the untrained twin": (
            qk,
            results.choose([("tiny-untrained", probe) for probe in TWIN_PROBES]),
        ),
    }
    return correct(
        [
            Statement("Skill of the best site of `qk`", skill_interval(*qk.scores()), 0.5),
            *(Statement.comparing(f"{text}; skill", compare(*rows)) for text, rows in compared.items()),
            *_against_baselines(results, qk),
        ]
    )


def compare(a: Row, b: Row) -> Difference:
    """Compares the skills of two rows on moving points."""
    return Difference.of_skills(a.scores(), b.scores())


def _against_baselines(results: Results, qk: Row) -> list[Statement]:
    """Compares the best site with models without a network, as gain; only token patches have to be worse."""
    found = []
    for model in BASELINES:
        row = results.choose([(model, "direct")])
        if model == "zero-motion":  # right for no moving point, by definition
            text, difference = "all points, accuracy", Difference.of_means(*_scores(qk, row, ALL_POINTS))
        else:
            text, difference = "gain", Difference.of_gains(qk.scores(ACROSS), row.scores(ACROSS))
        limit = None if model in ("zncc-search", "dense-search") else 0.0
        found.append(Statement.comparing(f"`qk` minus `{model}`; {text}", difference, limit))
    return found


def _scores(a: Row, b: Row, metric: str) -> tuple[NDArray[np.float64], ...]:
    return tuple(np.asarray(row.scores(metric).score) for row in (a, b))


def median_layer(results: Results, source: tuple[str, str], step: int) -> Row:
    """Returns the row of the layer in the middle of the ranking by skill at a step; of two, the better one.

    Each half of the clips ranks the layers for the other half.
    """

    def choose(s: Series, clips: NDArray[np.int64]) -> tuple[int, int]:
        here = np.array([i for i, site in enumerate(s.sites) if site["step"] == step])
        means, _ = clip_means([array[np.ix_(clips, here)] for array in s.rising])
        ranked = np.argsort(skill(*means), kind="stable")
        return int(s.sites[here[ranked[len(here) // 2]]]["layer"]), step

    return results.choose_by(source, choose)


# --------------------------------------------------------------------------------------------------------------- tables


def best_table(results: Results) -> str:
    """Returns every model and probe at its sites as a Markdown table, ranked by gain on moving points."""
    rows = sorted((results.choose([source]) for source in results.sources), key=lambda row: -_gain(row))
    lines = [
        f"| model | probe | {' | '.join(BEST_COLUMNS)} |",
        "| --- | --- |" + " ---: |" * len(BEST_COLUMNS),
    ]
    return "\n".join([*lines, *(_best_line(row) for row in rows)]) + _say_missing(rows)


def _say_missing(rows: Sequence[Row]) -> str:
    """Returns which rows have no interval, with the reasons, as a paragraph; "" if all have one."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if reason := no_interval_reason(gain_interval(*row.scores(ACROSS)[:2])):
            reasons.setdefault(reason, []).append(f"`{row.on_first.probe}` of {model_name(row)}")
    said = [f"{', '.join(names)} ({reason})" for reason, names in reasons.items()]
    return f"\n\nNo interval of the gain: {'; '.join(said)}." if said else ""


def _gain(row: Row) -> float:
    return float(gain_interval(*row.scores(ACROSS)[:2]).estimate)


def _best_line(row: Row) -> str:
    _, _, ceiling = row.scores()
    gain, skills, every = gain_interval(*row.scores(ACROSS)[:2]), skill_interval(*row.scores()), row.scores(ALL_POINTS)
    cells = [
        model_name(row),
        f"`{row.on_first.probe}`",
        places(row),
        f"{float(gain.estimate):.3f}",
        _short_span(gain),
        f"{float(mean_interval(ceiling).estimate):.3f}",
        f"{float(skills.estimate):.3f}",
        _short_span(skills),
        "–" if row.on_first.step < 0 else _number(row.regret),
        f"{float(mean_interval(every.score).estimate):.3f}",
        f"{float(skill_interval(*every).estimate):.3f}",
    ]
    return f"| {' | '.join(cells)} |"


def _short_span(interval: Interval) -> str:
    return "–" if no_interval_reason(interval) else span(interval)


def model_name(row: Row) -> str:
    """Returns the name of a row's model, with a note if its weights are random."""
    s = row.results.get(*row.on_first.source)
    return f"{s.key['model']} (random weights)" if is_random(s.key["weights"]) else str(s.key["model"])


def places(row: Row) -> str:
    """Returns the sites of a row as LAYER:STEP, both if the halves of the clips chose differently.

    Ties are said, and a choice that was not held out.
    """
    notes = [f"one of {row.tied} that tie"] * (row.tied > 1) + ["too few clips for halves"] * (not row.held_out)
    if row.on_first.step < 0:
        return "–"
    return " and ".join(map(_place, row.picks)) + (f" ({', '.join(notes)})" if notes else "")


def _place(pick: Pick) -> str:
    return str(SiteId(pick.layer, pick.step))


def layer_table(results: Results, probe: str = "qk") -> str:
    """Returns the skill of one probe per layer and step, over all clips, as a Markdown table."""
    return grid_table(results.get("tiny", probe))


def grid_table(s: Series) -> str:
    """Returns the skill per layer and step, over all clips, as a Markdown table."""
    steps = sorted({site["step"] for site in s.sites})
    noise = {site["step"]: site["noise"] for site in s.sites}
    value = {(site["layer"], site["step"]): v for site, v in zip(s.sites, s.skill, strict=True)}
    head = " | ".join(f"{step} ({noise[step]:.2f})" for step in steps)
    lines = [f"| layer | {head} |", "| ---: |" + " ---: |" * len(steps)]
    lines += [
        f"| {'input' if layer < 0 else layer} | "
        + " | ".join(_number(value.get((layer, step))) for step in steps)
        + " |"
        for layer in sorted({site["layer"] for site in s.sites})
    ]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "–" if value is None or np.isnan(value) else f"{value:.3f}"


def head_table(s: Series) -> str:
    """Returns the skill per layer of each head and of the mean over heads, over all clips, as a Markdown table.

    s: a series of one step with every head.
    """
    value = {(site["layer"], site["head"]): v for site, v in zip(s.sites, s.skill, strict=True)}
    heads = sorted({head for _, head in value if head >= 0})
    lines = [f"| layer | {' | '.join(f'head {h}' for h in heads)} | mean |", "| ---: |" + " ---: |" * (len(heads) + 1)]
    lines += [
        f"| {layer} | " + " | ".join(f"{value[layer, head]:.3f}" for head in [*heads, -1]) + " |"
        for layer in sorted({layer for layer, _ in value})
    ]
    return "\n".join(lines)


def say_clips(results: Results) -> str:
    """Returns on how many clips a table stands."""
    still = f" Clips without moving points, which count for all points alone: {results.still_clips}."
    return f"Over {len(results.get(*QK).clips)} clips.{still if results.still_clips else ''}"


def best_features(results: Results) -> str:
    """Returns the probe of features that the first half of the clips chose."""
    return results.choose([("tiny", probe) for probe in FEATURES]).on_second.probe


# --------------------------------------------------------------------------------------------------------------- page


def conclusions(results: Results, found: Sequence[Statement]) -> str:
    """Returns what the numbers say about the controls, in sentences."""
    qk = results.choose([QK])
    controls = [_control_sentence(results, qk, model, found) for model in ("zncc-search", "dense-search")]
    return " ".join([count_text(found), *controls])


def _control_sentence(results: Results, qk: Row, model: str, found: Sequence[Statement]) -> str:
    """Returns a sentence that compares the best site with a search in pixels."""
    (statement,) = (s for s in found if f"`qk` minus `{model}`" in s.text)
    verdict = {
        "lower": f"**`{model}` beats the best layer**",
        "higher": f"The best layer beats `{model}`",
        "undecided": f"The best layer and `{model}` do not differ significantly",
    }[statement.verdict]
    row = results.choose([(model, "direct")])
    pairs = [(_mean(row, metric), _mean(qk, metric)) for metric in (ALL_POINTS, MOVING)]
    numbers = "; ".join(
        f"{theirs:.3f} against {ours:.3f} on {points}"
        for (theirs, ours), points in zip(pairs, ("all points", "moving points"), strict=True)
    )
    return f"{verdict}: it has an accuracy of {numbers}."


def _mean(row: Row, metric: str) -> float:
    return float(mean_interval(row.scores(metric).score).estimate)


def page_blocks(results: Results, heads: Series, found: Sequence[Statement]) -> dict[str, str]:
    """Returns the generated blocks of docs/findings.md by name."""
    probe = best_features(results)
    return {
        "statements": statement_table(found),
        "conclusions": conclusions(results, found),
        "best": f"{say_clips(results)}\n\n{best_table(results)}",
        "layers-qk": layer_table(results, "qk"),
        "layers-features": f"Skill of `{probe}`, the best probe of features:\n\n{layer_table(results, probe)}",
        "heads": head_table(heads),
    }


def draw(results: Results, path: Path) -> None:
    """Draws the heat maps over layers and steps of several probes as one picture."""
    import altair as alt

    rows = [
        {
            "probe": probe,
            "layer": site["layer"],
            "step": f"{site['step']} ({site['noise']:.2f})",
            "order": site["step"],
            "skill": v,
        }
        for probe in DRAWN
        for s in [results.get("tiny", probe)]
        for site, v in zip(s.sites, s.skill.tolist(), strict=True)
    ]
    chart = (
        alt.Chart({"values": rows})
        .mark_rect()
        .encode(
            x=alt.X("step:O", title="step (noise)", sort=alt.SortField("order")),
            y=alt.Y("layer:O", title="layer"),
            color=alt.Color("skill:Q", scale=alt.Scale(scheme="viridis", domain=[0, 1], clamp=True), title="skill"),
            facet=alt.Facet("probe:N", title=None, sort=list(DRAWN), columns=3),
        )
        .properties(width=210, height=230)
        .configure_axis(labelFontSize=11, titleFontSize=12)
        .configure_header(labelFontSize=13, labelFontWeight="bold")
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    chart.save(str(path), scale_factor=2)


def read_heads(out: Path, limit: int) -> Series:
    """Returns the series of the run that read every head."""
    for run in find_runs(out / HEADS):
        if run.record()["status"] == "complete" and run.record()["clips"]["total"] == limit:
            return next(s for s in series(run.read("scores"), metric=MOVING) if s.key["probe"] == "qk")
    raise StoreError(f"No complete run of every head over {limit} clips is in {out / HEADS}.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    options = make_parser("vcorr_tiny.findings", __doc__ or "", "runs/findings", CLIPS).parse_args(arguments)
    work = read_work(options)
    work.run(commands(work.out), ("tiny", "tiny-untrained"))
    if work.only:
        return 0
    results, heads = read_results(work.out, work.limit), read_heads(work.out, work.limit)
    found = statements(results)
    blocks = page_blocks(results, heads, found)
    if options.docs:
        write_blocks(options.docs / "findings.md", blocks)
        draw(results, options.docs / "images" / "findings-heatmap.png")
    sys.stdout.write("\n\n".join(blocks.values()) + "\n")
    return 0 if all(s.holds for s in found if s.limit is not None) else 1


if __name__ == "__main__":
    end(main)
