"""Says which scores of generated videos see which injected faults: rank correlations, and from which dose on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vcorr.stats.intervals import Interval, mean_interval, no_interval_reason
from vcorr.stats.rank_correlation import MIN_SITES, spearman
from vcorr.stats.sign_flips import SIGNIFICANT, holm, sign_flip_test
from vcorr_tiny.fault_doses import INJECTED, SEEN_ABOVE, InjectedFault

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Responses:
    """How one score responds to the doses of one fault.

    values: (clips, doses), NaN where nothing could be scored. tracker: "" for scores that read no tracks.
    """

    fault: InjectedFault
    metric: str
    tracker: str
    values: Floats
    higher_is_better: bool

    @property
    def worse(self) -> Floats:
        """The values with the sign that grows as the score gets worse."""
        return -self.values if self.higher_is_better else self.values

    def correlation(self) -> Interval:
        """Returns the mean over clips of the rank correlation of dose and score, positive if it gets worse.

        A score that does not change in a clip counts as 0. Left out, it would be judged by the clips that it sees.
        """
        doses = np.broadcast_to(np.array(self.fault.doses), self.values.shape)
        found = spearman(doses, self.worse)
        known = np.isfinite(self.values).sum(axis=1) >= MIN_SITES
        return mean_interval(np.where(known & np.isnan(found), 0.0, found))

    def changes(self) -> Floats:
        """Returns by how much the score gets worse from the first dose to each other one, (clips, doses - 1)."""
        return self.worse[:, 1:] - self.worse[:, :1]


def read_responses(table: pa.Table) -> list[Responses]:
    """Returns the responses of every score to every fault, in the order of the table."""
    rows = table.to_pylist()
    clips = list(dict.fromkeys(row["clip"] for row in rows))
    keys = dict.fromkeys((row["metric"], row["tracker"], row["higher_is_better"]) for row in rows)
    at = {(r["fault"], r["metric"], r["tracker"], r["clip"], round(r["dose"], 5)): r["value"] for r in rows}
    return [
        Responses(fault, metric, tracker, _gather(at, fault, metric, tracker, clips), higher)
        for metric, tracker, higher in keys
        for fault in INJECTED
    ]


def _gather(
    at: dict[tuple[str, str, str, str, float], float],
    fault: InjectedFault,
    metric: str,
    tracker: str,
    clips: Sequence[str],
) -> Floats:
    doses = [round(float(np.float32(dose)), 5) for dose in fault.doses]
    return np.array([[at[fault.name, metric, tracker, clip, dose] for dose in doses] for clip in clips])


def sees(found: Interval) -> bool:
    """Returns whether a score sees a fault: the whole interval, or the value on which all clips agree, is above 0.5."""
    low = found.estimate if agrees(found) else found.low
    return bool(low > SEEN_ABOVE)


def is_misled(found: Interval) -> bool:
    """Returns whether a score improves with the dose: the whole interval is below 0."""
    high = found.estimate if agrees(found) else found.high
    return bool(high < 0)


def agrees(found: Interval) -> bool:
    """Returns whether there is no interval because all clips have the same value."""
    return no_interval_reason(found).startswith("all ")


def correlation_table(responses: Sequence[Responses]) -> str:
    """Returns a Markdown table: the rank correlation of every score with the dose of every fault."""
    return _table(responses, {id(one): _say_correlation(one.correlation()) for one in responses})


def _say_correlation(found: Interval) -> str:
    value = f"{float(found.estimate):+.2f}"
    left_out = f"; {int(found.left_out)} clips left out" if found.left_out else ""
    if not found.n:
        return f"not scored{left_out}"
    low, high = np.clip([found.low, found.high], -1, 1)  # Student's t does not know that correlations end at 1
    span = "all clips" if agrees(found) else f"{low:+.2f} … {high:+.2f}"
    shown = f"**{value}**" if sees(found) else f"*{value}*" if is_misled(found) else value
    return f"{shown} ({no_interval_reason(found) if np.isnan(found.low) and not agrees(found) else span}{left_out})"


def ends_table(responses: Sequence[Responses]) -> str:
    """Returns a Markdown table: the mean of every score at the first and the last dose of every fault."""
    return _table(responses, {id(one): " → ".join(map(_short, _ends(one))) for one in responses})


def _ends(one: Responses) -> list[float]:
    return [float(mean_interval(one.values[:, at]).estimate) for at in (0, -1)]


def _short(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3g}"


def threshold_table(responses: Sequence[Responses]) -> str:
    """Returns a Markdown table: the least dose at which every score is worse than at the first one.

    By the sign-flip test over clips, corrected by Holm for all doses of all scores and faults of the table.
    """
    faults = [one for one in responses if one.fault.is_fault]
    changes = [one.changes() for one in faults]
    p = holm(np.concatenate([sign_flip_test(change) for change in changes]))
    cells, at = {}, 0
    for one, change in zip(faults, changes, strict=True):
        count = change.shape[1]
        worse = np.nan_to_num(mean_interval(change).estimate) > 0
        found = np.flatnonzero((p[at : at + count] <= SIGNIFICANT) & worse)
        cells[id(one)] = f"{one.fault.doses[found[0] + 1]:g}" if len(found) else "never"
        at += count
    return _table(faults, cells)


def _table(responses: Sequence[Responses], cells: dict[int, str]) -> str:
    faults = list(dict.fromkeys(one.fault for one in responses))
    lines = [f"| score | {' | '.join(fault.name for fault in faults)} |", "| --- |" + " ---: |" * len(faults)]
    for metric in dict.fromkeys(one.metric for one in responses):
        row = [cells[id(one)] for one in responses if one.metric == metric]
        lines.append(f"| `{metric}` | {' | '.join(row)} |")
    return "\n".join(lines)


def dose_table() -> str:
    """Returns a Markdown table of the injected faults and their doses."""
    lines = ["| fault | what happens | doses | unit |", "| --- | --- | --- | --- |"]
    for fault in INJECTED:
        doses = ", ".join(f"{dose:.3g}" for dose in fault.doses)
        lines.append(f"| `{fault.name}` | {fault.summary} | {doses} | {fault.unit} |")
    return "\n".join(lines)


def page_blocks(table: pa.Table) -> dict[str, str]:
    """Returns the generated blocks of docs/video-scores.md by name."""
    responses = read_responses(table)
    clips = len(responses[0].values)
    first = [one for one in responses if one.tracker in ("", "dis")]
    second = [one for one in responses if one.tracker == "lk"]
    counted = f"{clips} clips. {' '.join(_say_verdicts(first))}"
    return {
        "fault-doses": dose_table(),
        "score-correlations": f"{correlation_table(first)}\n\n{counted}",
        "score-thresholds": threshold_table(first),
        "score-ends": ends_table(first),
        "score-second-tracker": correlation_table(second),
    }


def _say_verdicts(responses: Sequence[Responses]) -> Iterator[str]:
    """Yields a sentence per fault: which scores see it, and which improve with it."""
    for fault in dict.fromkeys(one.fault for one in responses):
        found = {one.metric: one.correlation() for one in responses if one.fault == fault}
        seen = [f"`{name}`" for name, interval in found.items() if sees(interval)]
        misled = [f"`{name}`" for name, interval in found.items() if is_misled(interval)]
        verb = "see" if fault.is_fault else "get worse with"
        better = f"; better with it: {', '.join(misled)}" if misled else ""
        yield f"`{fault.name}`: {len(seen)} of {len(found)} scores {verb} it ({', '.join(seen) or 'none'}){better}."
