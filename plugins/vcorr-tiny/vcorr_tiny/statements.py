"""Says which statements hold, on pages about the embedded model, and writes tables into these pages.

A statement holds if the whole interval of its number passes the limit. Where two rows are compared, the sign-flip test
also has to say that they differ. Its p is corrected by Holm for all comparisons of the page (docs/statistics.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from vcorr import VcorrError
from vcorr.stats.intervals import (
    Bounded,
    Interval,
    compare_gains,
    compare_means,
    compare_skills,
    gain_differences,
    no_interval_reason,
    skill_differences,
)
from vcorr.stats.sign_flips import SIGNIFICANT, holm, show_p, sign_flip_test, smallest_p


@dataclass(frozen=True)
class Difference:
    """Two rows compared on the same clips: the difference with its interval, and p of the sign-flip test."""

    interval: Interval
    p: float

    @classmethod
    def of_means(cls, a: ArrayLike, b: ArrayLike) -> Difference:
        """Compares means over clips. a, b: (clips,)."""
        differences = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
        return cls(compare_means(a, b), float(sign_flip_test(differences)))

    @classmethod
    def of_skills(cls, a: Bounded, b: Bounded) -> Difference:
        """Compares skills. The test gets their linearised differences, so its p is approximate."""
        return cls(compare_skills(a, b), float(sign_flip_test(skill_differences(a, b))))

    @classmethod
    def of_gains(cls, a: Bounded, b: Bounded) -> Difference:
        """Compares gains. The test gets their linearised differences, so its p is approximate."""
        return cls(compare_gains(a, b), float(sign_flip_test(gain_differences(a, b))))


@dataclass(frozen=True)
class Statement:
    """A number with its interval, and what is claimed of it.

    limit: the number that the whole interval has to lie above; None if nothing is claimed and the number is reported.
    p: of the sign-flip test; NaN if no two rows are compared. corrected: p after Holm's correction for the page.
    """

    text: str
    interval: Interval
    limit: float | None
    p: float = math.nan
    corrected: float = math.nan

    @classmethod
    def comparing(cls, text: str, difference: Difference, limit: float | None = 0.0) -> Statement:
        """Returns a statement about two rows; without a limit it says only whether they differ."""
        return cls(text, difference.interval, limit, difference.p)

    @property
    def value(self) -> float:
        """The measured number."""
        return float(self.interval.estimate)

    @property
    def compares(self) -> bool:
        """Whether two rows are compared."""
        return not math.isnan(self.p)

    @property
    def differs(self) -> bool:
        """Whether the test says that two rows differ, after the correction."""
        return self.corrected <= SIGNIFICANT

    @property
    def holds(self) -> bool:
        """Whether the whole interval passes the limit, and the test agrees where two rows are compared."""
        passes = self.limit is not None and float(self.interval.low) > self.limit
        return passes and (self.differs or not self.compares)

    @property
    def verdict(self) -> str:
        """What the last column of the table says."""
        if self.limit is not None:
            return "yes" if self.holds else "no"
        if not self.differs:
            return "undecided"
        return "higher" if self.value > 0 else "lower"


def correct(statements: Sequence[Statement]) -> list[Statement]:
    """Returns the statements with Holm's correction for all their comparisons; call it once per page."""
    corrected = holm(np.array([s.p for s in statements]))
    return [replace(s, corrected=float(p)) for s, p in zip(statements, corrected, strict=True)]


def statement_table(statements: Sequence[Statement]) -> str:
    """Returns the statements as a Markdown table."""
    lines = [
        "| statement | measured | 95 % interval | p | needed | holds |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for s in statements:
        needed = "–" if s.limit is None else f"> {s.limit:g}"
        lines.append(f"| {s.text} | {s.value:.3f} | {span(s.interval)} | {p_text(s)} | {needed} | {s.verdict} |")
    return "\n".join(lines)


def count_text(statements: Sequence[Statement]) -> str:
    """Returns how many statements hold, in a sentence that names the others."""
    claims = [s for s in statements if s.limit is not None]
    failing = [s.text for s in claims if not s.holds]
    if not failing:
        return f"All {len(claims)} statements hold."
    names = "; ".join(f'"{text}"' for text in failing)
    counted = f"{len(claims) - len(failing)} of {len(claims)} statements hold. These do not: {names}."
    return " ".join(filter(None, [counted, say_too_few(statements)]))


def say_too_few(statements: Sequence[Statement]) -> str:
    """Returns a sentence if there are too few clips for any comparison to hold after the correction; "" if not."""
    compared = [s for s in statements if s.compares]
    clips = max((int(s.interval.n) for s in compared), default=0)
    least = smallest_p(clips) * len(compared)
    if not compared or least <= SIGNIFICANT:
        return ""
    return (
        f"With {clips} clips no comparison can hold: the smallest p is {smallest_p(clips):.3f}, and {least:.3f} after "
        f"the correction for {len(compared)} comparisons."
    )


def span(interval: Interval) -> str:
    """Returns an interval of shape () as text, or why there is none."""
    return no_interval_reason(interval) or f"{float(interval.low):.3f} … {float(interval.high):.3f}"


def p_text(statement: Statement) -> str:
    """Returns the corrected p as text."""
    if not statement.compares:
        return "–"
    return show_p(statement.corrected)


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


def write_blocks(page: Path, blocks: Mapping[str, str]) -> None:
    """Fills generated blocks of a page."""
    text = page.read_text(encoding="utf-8")
    for name, content in blocks.items():
        text = fill(text, name, content)
    page.write_text(text, encoding="utf-8")
