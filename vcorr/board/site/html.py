"""Turns data into HTML: the template environment, and the filters that round, shorten and escape values."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from vcorr.contract.records import HEAD_MEAN, NO_SITE
from vcorr.contract.visible_text import escape_line, join_words
from vcorr.stats.summary import SiteSummary

DASH = "–"
BAR_WIDTH = 96
"""Pixels of an interval bar, from skill 0 to skill 1."""
BAR_MARGIN = 6

_HEX_TAIL = re.compile(r"([0-9a-f]{8})[0-9a-f]{4,}$")
_WEB = re.compile(r"https?://[^\s]+")


@functools.cache
def environment() -> Environment:
    """Returns the templates of the package; they escape all text that this module does not mark as HTML."""
    found = Environment(
        loader=PackageLoader("vcorr.board.site", "assets"),
        autoescape=select_autoescape(default_for_string=True, default=True),
        undefined=StrictUndefined,
        finalize=_show_controls,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(
        {
            "number": number,
            "index": index,
            "head": head,
            "short": short_weights,
            "size": size,
            "fact": fact,
            "link": link,
            "command": command,
            "sortable": sortable,
            "script_json": script_json,
        }
    )
    found.globals["interval_bar"] = interval_bar
    return found


def _show_controls(value: Any) -> Any:
    """Returns text with its control characters shown; the marks that reverse the writing direction are among them."""
    return escape_line(value) if type(value) is str else value


def formula_safe(value: Any) -> Any:
    """Returns a cell of a CSV file; text that a spreadsheet would take for a formula gets an apostrophe in front."""
    if not isinstance(value, str):
        return value
    text = escape_line(value)
    return f"'{text}" if value.lstrip()[:1] in ("=", "+", "-", "@") or value[:1] in ("\t", "\r", "\n") else text


def number(value: float | None, digits: int = 3) -> str:
    """Formats a value for a table: NaN becomes a dash, and zero has no minus sign."""
    return DASH if value is None or math.isnan(value) else f"{round(value, digits) + 0.0:.{digits}f}"


def index(value: int) -> str:
    """Formats a layer or step; a dash when there is none."""
    return DASH if value == NO_SITE else str(value)


def head(value: int) -> str:
    """Formats a head; "mean" for the mean over heads."""
    return "mean" if value == HEAD_MEAN else str(value)


def sortable(value: float | None) -> str:
    """Formats a number for the script that sorts tables; empty for NaN, which it sorts last in both directions."""
    return "" if value is None or math.isnan(value) else repr(round(float(value), 9))


def short_weights(identity: str) -> str:
    """Shortens the hash in a weights id to eight characters."""
    return _HEX_TAIL.sub(r"\1", identity)


def size(count: float) -> str:
    """Formats a number of bytes with a decimal unit (kB, MB, GB)."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def fact(value: Any) -> str:
    """Formats a value of a model card or of run.json: mappings and lists on one line, digits of integers in groups."""
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f") if abs(value) >= 10_000 else str(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {fact(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        between = " × " if value and all(isinstance(v, int) for v in value) and len(value) == 2 else "; "
        return between.join(fact(item) for item in value)
    return str(value)


def link(text: str) -> Markup:
    """Returns text as HTML; an http or https address becomes a link, any other scheme stays text."""
    text = escape_line(text)
    if _WEB.fullmatch(text):
        return Markup('<a href="{0}" rel="noopener noreferrer">{0}</a>').format(text)
    return escape(text)


def command(words: Any) -> str:
    """Joins the words of a command to a line that a shell accepts."""
    return join_words(words) if isinstance(words, list) else ""


def script_json(value: Any) -> Markup:
    """Returns JSON for the inside of a <script> element: no character can end the element or begin a comment."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&'":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def interval_bar(x: SiteSummary) -> Markup:
    """Draws skill and its interval as a small SVG from 0 to 1; values outside are drawn at the edge."""
    if math.isnan(x.skill):
        return Markup("")
    low, high = (x.skill if math.isnan(end) else end for end in (x.skill_low, x.skill_high))
    text = f"skill {number(x.skill)}, 95 % interval {number(x.skill_low)} to {number(x.skill_high)}"
    return Markup(
        '<svg class="bar" width="{width}" height="16" role="img" aria-label="{text}">'
        '<line class="bar-track" x1="{zero}" x2="{one}" y1="8" y2="8"/>'
        '<line class="bar-range" x1="{low}" x2="{high}" y1="8" y2="8"/>'
        '<circle class="bar-point" cx="{at}" cy="8" r="4"/></svg>'
    ).format(
        width=BAR_WIDTH + 2 * BAR_MARGIN,
        text=text,
        zero=BAR_MARGIN,
        one=BAR_WIDTH + BAR_MARGIN,
        low=_bar_x(low),
        high=_bar_x(high),
        at=_bar_x(x.skill),
    )


def _bar_x(skill: float) -> str:
    return f"{BAR_MARGIN + BAR_WIDTH * min(max(skill, 0.0), 1.0):.1f}"
