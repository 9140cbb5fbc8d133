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
from vcorr.metrics.score_digits import count_decimals
from vcorr.board.tables.board_runs import TokenSize
from vcorr.stats.summary import SiteSummary

DASH = "–"
BAR_WIDTH = 56
"""Pixels of an interval bar, from 0 to 1."""
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
            "score": score,
            "index": index,
            "head": head,
            "short": short_weights,
            "size": size,
            "fact": fact,
            "link": link,
            "command": command,
            "sortable": sortable,
            "script_json": script_json,
            "interval": interval,
            "ends": ends,
            "token": token,
            "token_note": token_note,
            "token_frame": token_frame,
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


def score(value: float) -> str:
    """Formats a score of a generated video, with more digits below 0.01; NaN becomes a dash."""
    return number(value, count_decimals(value))


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


def interval_bar(cell: SiteSummary, by: str) -> Markup:
    """Draws gain or skill (`by`) and its interval as a small SVG from 0 to 1; values outside are drawn at the edge.

    Without an interval only the point is drawn.
    """
    value, *ends = (getattr(cell, name) for name in (by, f"{by}_low", f"{by}_high"))
    if math.isnan(value):
        return Markup("")
    low, high = (value if math.isnan(end) else end for end in ends)
    return Markup(
        '<svg class="bar" width="{width}" height="16" role="img" aria-label="{text}">'
        '<line class="bar-track" x1="{zero}" x2="{one}" y1="8" y2="8"/>'
        '<line class="bar-range" x1="{low}" x2="{high}" y1="8" y2="8"/>'
        '<circle class="bar-point" cx="{at}" cy="8" r="4"/></svg>'
    ).format(
        width=BAR_WIDTH + 2 * BAR_MARGIN,
        text=f"{by} {number(value)}, {interval(cell, by)}",
        zero=BAR_MARGIN,
        one=BAR_WIDTH + BAR_MARGIN,
        low=_bar_x(low),
        high=_bar_x(high),
        at=_bar_x(value),
    )


def interval(cell: SiteSummary, name: str) -> str:
    """Returns the interval of one number of a cell in words, or why there is none."""
    low, high = (getattr(cell, f"{name}_{end}") for end in ("low", "high"))
    if not math.isnan(low):
        return f"95 % interval {number(low)} to {number(high)}"
    reason = cell.no_interval if name == "value" else getattr(cell, f"no_{name}_interval")
    return f"no interval: {reason}" if reason else "no interval"


def ends(cell: SiteSummary, name: str) -> str:
    """Returns the ends of an interval for a table, or "no interval"."""
    low, high = (getattr(cell, f"{name}_{end}") for end in ("low", "high"))
    return "no interval" if math.isnan(low) else f"{number(low)} … {number(high)}"


def token(found: TokenSize | None) -> str:
    """Formats the size of a token in pixels of a 256x256 frame: a dash if it is not known or predictions are free."""
    if found is None or found.free:
        return DASH
    return f"{round(found.of_256, 1):g}"


def token_note(found: TokenSize | None) -> str:
    """Returns the size of a token in pixels of the frame that the model read."""
    if found is None:
        return "unknown or varies"
    if found.free:
        return "any position"
    sides = f"{found.width:g}" if found.width == found.height else f"{found.width:g}×{found.height:g}"
    return f"{sides} px"


def token_frame(found: TokenSize | None) -> str:
    """Returns the size of the frame that the pixels of `token_note` belong to."""
    return "" if found is None else f"of a frame of {found.frame_width}×{found.frame_height} pixels"


def _bar_x(value: float) -> str:
    return f"{BAR_MARGIN + BAR_WIDTH * min(max(value, 0.0), 1.0):.1f}"
