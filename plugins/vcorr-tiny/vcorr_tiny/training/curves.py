"""Draws training logs: ``python -m vcorr_tiny.training.curves LOG.jsonl ... OUT.png``.

Name the log of the autoencoder, if it has one of its own, and one log per seed. The curves of matching are from the
first log that has them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt

NOISE_SHOWN = "100"
"""Timestep of the matching curves, by its key in the log."""
KIND_SHOWN = "hard"
"""Kind of clips of the matching curves; the first logs measured one kind and did not name it."""

Log = dict[str, list[dict[str, Any]]]
"""The records of a log by kind, in order."""


def read_log(path: Path) -> Log:
    """Returns the records of a log by kind, in order."""
    kinds: Log = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        kinds.setdefault(record["kind"], []).append(record)
    return kinds


def chart(logs: Mapping[str, Log]) -> alt.HConcatChart:
    """Draws three panels over training steps: PSNR of the autoencoder, loss and matching of the transformer.

    logs: by the names that the legend of the losses shows; it is left out for a single one.
    """
    psnr = _lines(_series(logs, "vae", "psnr"), "autoencoder: PSNR (dB)")
    loss = _lines(_series(logs, "dit", "loss"), "transformer: v-prediction loss")
    matching = next((log["matching"] for log in logs.values() if "matching" in log), [])
    panels = alt.hconcat(psnr, loss, _matching(matching)).resolve_scale(color="independent")
    drawn: alt.HConcatChart = panels.configure_axis(labelFontSize=11, titleFontSize=11)
    return drawn


def _series(logs: Mapping[str, Log], kind: str, field: str) -> dict[str, list[dict[str, Any]]]:
    """Returns step and value of the records of one kind, by log; logs without such records are left out."""
    return {
        name: [{"log": name, "step": record["step"], "value": record[field]} for record in log[kind]]
        for name, log in logs.items()
        if kind in log
    }


def _lines(series: Mapping[str, list[dict[str, Any]]], title: str) -> alt.Chart:
    values = [value for listed in series.values() for value in listed]
    y = alt.Y("value:Q", title=None, scale=alt.Scale(zero=False))
    legend = alt.Legend(title=None) if len(series) > 1 else None
    colour = alt.Color("log:N", legend=legend, scale=alt.Scale(scheme="tableau10"))
    lines = alt.Chart(alt.Data(values=values)).mark_line()
    return _panel(lines.encode(x=alt.X("step:Q", title="step"), y=y, color=colour), title)


def _matching(records: Sequence[dict[str, Any]]) -> alt.Chart:
    values = [
        {"step": record["step"], "layer": str(layer), "skill": skill}
        for record in records
        for layer, skill in enumerate(record.get(KIND_SHOWN, record)["query_key"][NOISE_SHOWN])
    ]
    encoded = (
        alt.Chart(alt.Data(values=values))
        .mark_line(point=alt.OverlayMarkDef(size=14))
        .encode(
            x=alt.X("step:Q", title="step"),
            y=alt.Y("skill:Q", title=None),
            color=alt.Color("layer:N", scale=alt.Scale(scheme="tableau10")),
        )
    )
    clips = f", {KIND_SHOWN} clips" if records and KIND_SHOWN in records[0] else ""
    return _panel(encoded, f"query-key skill per layer, t={NOISE_SHOWN}{clips}")


def _panel(encoded: alt.Chart, title: str) -> alt.Chart:
    sized: alt.Chart = encoded.properties(width=230, height=190, title=title)
    return sized


def _name(path: Path) -> str:
    """Returns the name of a log in the legend: of its file, or of its folder while it is where it was written."""
    return path.resolve().parent.name if path.stem == "log" else path.stem


def main(arguments: Sequence[str]) -> None:
    """Draws the logs named first into the picture named last."""
    *paths, picture = arguments
    logs = {_name(Path(path)): read_log(Path(path)) for path in paths}
    chart(logs).save(picture, scale_factor=2)


if __name__ == "__main__":
    main(sys.argv[1:])
