"""Draws a training log: ``python -m vcorr_tiny.training.curves plugins/vcorr-tiny/training/curves.jsonl OUT.png``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import altair as alt

NOISE_SHOWN = "100"
"""Timestep of the matching curves, by its key in the log."""


def read_log(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Returns the records of a log by kind, in order."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        kinds.setdefault(record["kind"], []).append(record)
    return kinds


def chart(kinds: dict[str, list[dict[str, Any]]]) -> alt.HConcatChart:
    """Draws three panels over training steps: PSNR of the autoencoder, loss and matching of the transformer."""
    psnr = _lines(kinds["vae"], "psnr", "autoencoder: PSNR (dB)")
    loss = _lines(kinds["dit"], "loss", "transformer: v-prediction loss")
    return alt.hconcat(psnr, loss, _matching(kinds["matching"])).configure_axis(labelFontSize=11, titleFontSize=11)


def _lines(records: Sequence[dict[str, Any]], field: str, title: str) -> alt.Chart:
    values = [{"step": r["step"], "value": r[field]} for r in records]
    y = alt.Y("value:Q", title=None, scale=alt.Scale(zero=False))
    encoded = alt.Chart(alt.Data(values=values)).mark_line().encode(x=alt.X("step:Q", title="training step"), y=y)
    return encoded.properties(width=230, height=190, title=title)


def _matching(records: Sequence[dict[str, Any]]) -> alt.Chart:
    values = [
        {"step": r["step"], "layer": str(layer), "skill": skill}
        for r in records
        for layer, skill in enumerate(r["query_key"][NOISE_SHOWN])
    ]
    encoded = (
        alt.Chart(alt.Data(values=values))
        .mark_line(point=alt.OverlayMarkDef(size=14))
        .encode(
            x=alt.X("step:Q", title="training step"),
            y=alt.Y("skill:Q", title=None),
            color=alt.Color("layer:N", scale=alt.Scale(scheme="tableau10")),
        )
    )
    return encoded.properties(width=230, height=190, title=f"query-key skill per layer, t={NOISE_SHOWN}")


def main(arguments: Sequence[str]) -> None:
    """Draws the log named first into the picture named second."""
    log, picture = arguments
    chart(read_log(Path(log))).save(picture, scale_factor=2)


if __name__ == "__main__":
    main(sys.argv[1:])
