"""Builds the sentences below tables, and the cells that need them: intervals that are not there say why."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from vcorr.cli.views.terminal import DASH, number
from vcorr.contract.records import NO_SITE

if TYPE_CHECKING:
    from vcorr.stats.summary import ReportedSite

SITE_RULE = "Sites are LAYER:STEP for the mean over heads, LAYER:STEP:HEAD for one head alone."
LATENT_RULE = "Site none:STEP has no layer: the input of the denoiser at this step is matched."


class Remark(NamedTuple):
    """What has to be said of one row of a table, as a clause without its full stop. row: the name of the row."""

    row: str
    text: str


def gather_remarks(remarks: Sequence[Remark], rows: int) -> Iterator[str]:
    """Yields a sentence per different remark, with the rows that it holds for, unless it holds for all.

    rows: number of rows of the table.
    """
    groups: dict[str, list[str]] = {}
    for remark in remarks:
        groups.setdefault(remark.text.rstrip("."), []).append(remark.row)
    for text, named in groups.items():
        capital = f"{text[0].upper()}{text[1:]}."
        yield capital if len(named) >= rows else f"{', '.join(dict.fromkeys(named))}: {text}."


def is_of_latents(site: ReportedSite) -> bool:
    """Returns whether a site is a step without a layer, as of the probe `latent`."""
    return site.layer == NO_SITE and site.step != NO_SITE


def say_no_interval(reason: str) -> str:
    """Returns the remark on an interval that is not there."""
    return f"no interval: {reason}"


def interval_text(low: float, high: float, digits: int = 3, *, signed: bool = False) -> str:
    """Returns an interval as text, or a dash if there is none. signed: with a plus for positive numbers."""
    if math.isnan(low) or math.isnan(high):
        return DASH
    form = with_sign if signed else number
    return f"{form(low, digits)} … {form(high, digits)}"


def with_sign(value: float, digits: int = 3) -> str:
    """Formats a difference for a table: with a plus if it is positive, NaN as a dash."""
    text = number(value, digits)
    return text if text.startswith(("-", DASH)) or not float(text) else f"+{text}"
