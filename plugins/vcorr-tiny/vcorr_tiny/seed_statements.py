"""Joins the statements of several training seeds: a statement holds if it holds in each of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from vcorr import StoreError
from vcorr.stats.intervals import no_interval_reason
from vcorr_tiny.statements import Statement

NOT_MEASURED = "–"


@dataclass(frozen=True)
class SeedStatement:
    """One statement with the numbers of each training seed, in their order."""

    text: str
    by_seed: tuple[Statement, ...]

    @property
    def claims(self) -> bool:
        """Whether something is claimed. Other statements report a number."""
        return all(s.limit is not None for s in self.by_seed)

    @property
    def holds(self) -> bool:
        """Whether the statement holds in each seed."""
        return all(s.holds for s in self.by_seed)

    @property
    def verdict(self) -> str:
        """What the seeds say together: yes or no; of numbers without a claim, what all seeds say, or "mixed"."""
        if self.claims:
            return "yes" if self.holds else "no"
        said = {s.verdict for s in self.by_seed}
        return said.pop() if len(said) == 1 else "mixed"

    @property
    def cell(self) -> str:
        """Verdict, the number of each seed, and from where to where their intervals reach; p if it is not small."""
        numbers = ", ".join(f"{s.value:.3f}" for s in self.by_seed)
        p = max((s.corrected for s in self.by_seed if s.compares), default=0.0)
        notes = [self._reach, *([f"p {p:.3f}"] if p >= 0.001 else [])]
        return f"**{self.verdict}**: {numbers} ({'; '.join(notes)})"

    @property
    def _reach(self) -> str:
        reasons = [no_interval_reason(s.interval) for s in self.by_seed]
        if any(reasons):
            return next(filter(None, reasons))
        low = min(float(s.interval.low) for s in self.by_seed)
        return f"{low:.3f} … {max(float(s.interval.high) for s in self.by_seed):.3f}"


def join_seeds(found: Sequence[Sequence[Statement]]) -> list[SeedStatement]:
    """Joins the statements of each seed, the same ones in the same order.

    Raises:
        StoreError: two seeds have different statements.
    """
    joined = []
    for same in zip(*found, strict=True):
        if len({s.text for s in same}) > 1:
            raise StoreError(f"The seeds have different statements: {'; '.join(s.text for s in same)}.")
        joined.append(SeedStatement(same[0].text, tuple(same)))
    return joined


def find_weakest(text: str, statements: Sequence[Statement]) -> Statement:
    """Returns the claim that every one of some differences is above 0: the difference whose interval ends lowest.

    statements: after the correction. The claim needs all of them, so its p is the largest one, and needs no correction
    of its own.
    """
    worst = min(statements, key=lambda s: float(s.interval.low) if s.interval.low == s.interval.low else -math.inf)
    return replace(worst, text=text, limit=0.0, corrected=max(s.corrected for s in statements))


def seed_table(by_place: Mapping[str, Sequence[SeedStatement]]) -> str:
    """Returns the statements as a Markdown table with a column per place; a dash where a place lacks a statement."""
    texts = list(dict.fromkeys(s.text for found in by_place.values() for s in found))
    cells = {(place, s.text): s.cell for place, found in by_place.items() for s in found}
    lines = [f"| statement | {' | '.join(by_place)} |", "| --- |" + " --- |" * len(by_place)]
    for text in texts:
        row = " | ".join(cells.get((place, text), NOT_MEASURED) for place in by_place)
        lines.append(f"| {text} | {row} |")
    return "\n".join(lines)


def say_failing(statements: Sequence[SeedStatement], place: str) -> str:
    """Returns how many claims hold at a place, in a sentence that names the others."""
    claims = [s for s in statements if s.claims]
    failing = [f'"{s.text}"' for s in claims if not s.holds]
    counted = f"{len(claims) - len(failing)} of {len(claims)} claims hold on `{place}`"
    return f"{counted}." if not failing else f"{counted}. These do not: {'; '.join(failing)}."
