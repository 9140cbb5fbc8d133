"""Draws how tracking runs do by kind of pair, and how far their confidence can be trusted, for docs/tracking.md.

    python docs/draw_tracking.py RUN... --out docs/images

RUN is a folder of a tracking run with the scores of `track-detail`. All runs must have measured the same data; the
clips that all of them have are drawn. The pictures are `tracking-curves.png` and `tracking-reliability.png`. Values are
means over clips, with 95 % intervals over clips where there are enough.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vcorr.analysis.comparable import differences
from vcorr.analysis.stored_scores import StoredScores, load_scores
from vcorr.contract.errors import UsageError, VcorrError
from vcorr.contract.metric_columns import STRATUM_MARK
from vcorr.metrics.calibration import BINS
from vcorr.metrics.tapvid_metric import PRIMARY
from vcorr.metrics.track_detail import MEAN_CONFIDENCE, RIGHT
from vcorr.stats.series import Series, series
from vcorr.stats.summary import SiteSummary, site_summaries
from vcorr.store.run_search import locate_run

DIMENSIONS = {
    "frames": "frames from the query",
    "displacement": "displacement, px of 256",
    "occluded": "latest occlusion, frames",
}
"""Titles of the panels of the curves."""
COLOURS = ["#1b6ca8", "#d1662f", "#3f8f4f", "#8a4fa3", "#b03a4a", "#7a6a2f"]
FLOOR = "zero motion"
FLOOR_COLOUR = "#999999"

Record = dict[str, Any]


@dataclass(frozen=True)
class Drawn:
    """A run with its name in the pictures, and the strata of all its clips that are drawn, by column."""

    name: str
    strata: dict[str, SiteSummary]


def read_runs(paths: Sequence[Path]) -> list[Drawn]:
    """Reads the strata of runs over the clips that all of them have.

    Raises:
        UsageError: two runs measured different data, have no clip in common, or a run has no strata of tracks.
        StoreError: a run is damaged.
    """
    loaded = [load_scores(locate_run(path), is_drawn) for path in paths]
    for other in loaded[1:]:
        _check_same(loaded[0], other)
    clips = sorted(set.intersection(*(set(one.clips) for one in loaded)))
    if not clips:
        raise UsageError("The runs have no clip in common.")
    return _name_apart([_summarise(one, clips) for one in loaded])


def is_drawn(column: str) -> bool:
    """Returns whether a column is a stratum that the pictures show."""
    name, _, stratum = column.partition(STRATUM_MARK)
    return bool(stratum) and name in (PRIMARY, RIGHT, MEAN_CONFIDENCE)


def _check_same(first: StoredScores, other: StoredScores) -> None:
    found = differences(first.read_measured_on(), other.read_measured_on())
    if found:
        raise UsageError(f"{first.facts.path} and {other.facts.path} differ in {found[0].text}: no picture shows both.")


def _summarise(stored: StoredScores, clips: Sequence[str]) -> Drawn:
    own = [s for s in series(stored.scores) if s.key["variant"] == "corrected" and not s.key["switches"]]
    if not own:
        raise UsageError(
            f"{stored.facts.path} has no strata of tracks.",
            hint=f"vcorr score {stored.facts.path} --set metrics=tapvid,track-detail,track-calibration",
        )
    strata = {s.key["metric"]: site_summaries(s, sites=[0], clips=clips)[0] for s in own}
    return Drawn(_name_of(own[0], next(iter(strata.values()))), strata)


def _name_of(s: Series, site: SiteSummary) -> str:
    probe = "" if s.key["probe"] == "direct" else f" {s.key['probe']}"
    return f"{s.key['model']}{probe}{f' {site.site}' if site.site else ''}"


def _name_apart(runs: Sequence[Drawn]) -> list[Drawn]:
    """Returns runs whose names differ: equal ones get a number."""
    names = [run.name for run in runs]
    return [
        run if names.count(run.name) == 1 else Drawn(f"{run.name} ({1 + names[:i].count(run.name)})", run.strata)
        for i, run in enumerate(runs)
    ]


# ------------------------------------------------------------------------------------------------------- the pictures


def draw_all(runs: Sequence[Drawn], folder: Path) -> list[Path]:
    """Draws both pictures into a folder and returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    charts = {"tracking-curves": draw_curves(runs), "tracking-reliability": draw_reliability(runs)}
    paths = [folder / f"{name}.png" for name in charts]
    for path, chart in zip(paths, charts.values(), strict=True):
        chart.configure_axis(labelFontSize=11, titleFontSize=12).configure_legend(labelFontSize=11).save(
            str(path), scale_factor=2
        )
    return paths


def draw_curves(runs: Sequence[Drawn]) -> Any:
    """Draws the position accuracy by frame distance, displacement and length of the occlusion, a panel each."""
    import altair as alt

    panels = [_draw_panel(runs, dimension, title) for dimension, title in DIMENSIONS.items()]
    return alt.hconcat(*panels, spacing=24).resolve_scale(y="shared", color="shared")


def _draw_panel(runs: Sequence[Drawn], dimension: str, title: str) -> Any:
    import altair as alt

    rows = [row for run in runs for row in curve_rows(run, dimension)]
    labels = list(dict.fromkeys(row["stratum"] for row in sorted(rows, key=lambda row: lower_end(row["stratum"]))))
    first = curve_rows(runs[0], dimension)
    floors = [{"run": FLOOR, "stratum": row["stratum"], "value": row["floor"]} for row in first]
    x = alt.X("stratum:N", title=title, sort=labels, axis=alt.Axis(labelAngle=0), scale=alt.Scale(domain=labels))
    y = alt.Y("value:Q", title="delta_avg", scale=alt.Scale(domain=[0, 1]))
    colour = _colour([run.name for run in runs], FLOOR)
    base = alt.Chart({"values": [_plain(row) for row in rows]}).encode(x=x, color=colour)
    floor = alt.Chart({"values": [_plain(row) for row in floors]}).mark_line(strokeDash=[5, 4])
    return alt.layer(
        floor.encode(x=x, y=y, color=colour),
        base.mark_rule(opacity=0.6).encode(y=alt.Y("low:Q"), y2="high:Q"),
        base.mark_line(point=True).encode(y=y),
    ).properties(width=230, height=200)


def draw_reliability(runs: Sequence[Drawn]) -> Any:
    """Draws the share of right pairs over the confidence, a point per bin; on the dashed line both agree."""
    import altair as alt

    rows = [_plain(row) for run in runs for row in reliability_rows(run)]
    ends = alt.Scale(domain=[0, 1])
    diagonal = (
        alt.Chart({"values": [{"sure": 0, "right": 0}, {"sure": 1, "right": 1}]})
        .mark_line(strokeDash=[5, 4], color=FLOOR_COLOUR)
        .encode(x="sure:Q", y="right:Q")
    )
    base = alt.Chart({"values": rows}).encode(
        x=alt.X("sure:Q", title="mean confidence of a bin", scale=ends),
        color=_colour([run.name for run in runs]).legend(values=list(dict.fromkeys(row["run"] for row in rows))),
    )
    y = alt.Y("right:Q", title="visible and within 8 px", scale=ends)
    bars = base.mark_rule(opacity=0.6).encode(y=alt.Y("low:Q"), y2="high:Q")
    return alt.layer(diagonal, bars, base.mark_line(point=True).encode(y=y)).properties(width=320, height=320)


def curve_rows(run: Drawn, dimension: str) -> list[Record]:
    """Returns the strata of a dimension that have pairs, in their order."""
    found = {name.rpartition(":")[2]: s for name, s in run.strata.items() if name.startswith(f"{PRIMARY}@{dimension}:")}
    return [
        {"run": run.name, "stratum": label, "floor": s.floor, **_ends(s)}
        for label, s in sorted(found.items(), key=lambda item: lower_end(item[0]))
        if s.clips
    ]


def reliability_rows(run: Drawn) -> Iterator[Record]:
    """Yields the bins of the confidence that have pairs, in their order."""
    for label in BINS.labels:
        right, sure = (run.strata.get(f"{name}@{BINS.name}:{label}") for name in (RIGHT, MEAN_CONFIDENCE))
        if right is not None and sure is not None and right.clips:
            ends = _ends(right)
            yield {"run": run.name, "sure": sure.value, "right": ends.pop("value"), **ends}


def lower_end(stratum: str) -> float:
    """Returns the number at which a stratum begins; -1 for `none`, which comes first."""
    return -1.0 if stratum == "none" else float(stratum.rstrip("+").partition("-")[0])


def _ends(s: SiteSummary) -> Record:
    """Returns the mean and its interval, cut to [0, 1], where shares are."""
    low, high = (float(np.clip(end, 0, 1)) for end in (s.value_low, s.value_high))
    return {"value": s.value, "low": low, "high": high}


def _colour(names: Sequence[str], *grey: str) -> Any:
    import altair as alt

    colours = [COLOURS[i % len(COLOURS)] for i in range(len(names))] + [FLOOR_COLOUR] * len(grey)
    return alt.Color("run:N", title=None, scale=alt.Scale(domain=[*names, *grey], range=colours))


def _plain(row: Record) -> Record:
    """Returns a record without NaN, which JSON does not have."""
    return {key: None if isinstance(value, float) and np.isnan(value) else value for key, value in row.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of tracking runs")
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    options = parser.parse_args(arguments)
    try:
        for path in draw_all(read_runs(options.runs), options.out):
            sys.stdout.write(f"{path}\n")
    except VcorrError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
