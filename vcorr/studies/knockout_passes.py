"""The passes and videos of a knock-out study, read from its rows, with what each outcome counts as harm."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vcorr.contract.metric_columns import MAIN_COLUMN
from vcorr.contract.records import NO_SITE
from vcorr.metrics.motion_guard import GUARD
from vcorr.runner.metric_trial import check_columns
from vcorr.runner.plan import Plan
from vcorr.studies.knockout_plan import KnockoutPlan
from vcorr.studies.knockout_rows import CONTROL, LOSS, PLAIN

LOSS_OUTCOME, MATCHING_OUTCOME = "loss", "matching"
OUTCOMES = (LOSS_OUTCOME, MATCHING_OUTCOME)
"""What is measured on real clips. loss: the denoising loss, as a share of the loss without a cut. matching: the
skill at the layers that are read. Of generated videos, an outcome is a column of their scores, or matching."""


@dataclass(frozen=True)
class OnePass:
    """One pass, or one generated video.

    values: the loss, or the scores of the video, by metric. scores: value, floor and ceiling by layer.
    """

    dose: float
    values: dict[str, float] = field(default_factory=dict)
    scores: dict[int, tuple[float, float, float]] = field(default_factory=dict)


class Passes:
    """All passes of a study, by what they are. directions: see `find_directions`; here by the metric of a row."""

    def __init__(self, study: KnockoutPlan, rows: Iterable[Mapping[str, Any]]) -> None:
        self.clips = study.plan.selection.clips
        self.directions = {LOSS: 1} if study.videos is None else find_directions(study.videos)
        self.steps = study.steps if study.videos is None else (NO_SITE,)
        self._found: dict[tuple[Any, ...], OnePass] = {}
        ratios = []
        for row in rows:
            key = (
                *(row["clip"], row["step"] if study.videos is None else NO_SITE, row["role"], row["control"]),
                row["matched"],
                *("" if row["role"] == CONTROL else row["cut_sites"], dose_key(row["cut_dose"]), _size(row)),
            )
            one = self._found.setdefault(key, OnePass(row["dose"]))
            if row["metric"] in self.directions:
                one.values[row["metric"]] = row["value"]
                if row["role"] == CONTROL and row["norm"] > 0:
                    ratios.append(row["norm_made"] / row["norm"])
            elif row["metric"] == MAIN_COLUMN:
                one.scores[row["layer"]] = (row["value"], row["floor"], row["ceiling"])
        self.norm_made = (min(ratios), max(ratios)) if ratios else (math.nan, math.nan)

    def read(self, steps: Sequence[int], role: str, what: tuple[Any, ...]) -> list[list[OnePass]]:
        """Returns the passes of every clip, a list over steps each. what: the rest of the key."""
        return [[self._found[(clip, step, role, *what)] for step in steps] for clip in self.clips]

    def mean_plain(self) -> dict[str, float]:
        """Returns the mean of each score of the videos without a cut over clips; empty on real clips."""
        if self.steps != (NO_SITE,):
            return {}
        found = [clip[0].values for clip in self.read(self.steps, PLAIN, PLAIN_KEY)]
        return {name: float(mean_known([one.get(name, math.nan) for one in found])) for name in self.directions}


PLAIN_KEY = (-1, "", "", -1.0, 0)
"""The rest of the key of passes without a cut."""


def mean_known(values: Any) -> Any:
    """Returns the mean over the first axis, without NaN; NaN where there is nothing else."""
    found = np.asarray(values, dtype=np.float64)
    counts = np.isfinite(found).sum(axis=0)
    return np.where(counts > 0, np.nansum(found, axis=0) / np.maximum(counts, 1), np.nan)


def dose_key(dose: float) -> float:
    """Returns a dose as a part of a key: rounded, and -1 where there is none."""
    return -1.0 if math.isnan(dose) else round(dose, 6)


def _size(row: Mapping[str, Any]) -> int:
    """Returns the number of heads of a control set; 0 for other rows."""
    return str(row["cut_sites"]).count("+") + 1 if row["role"] == CONTROL else 0


def find_directions(videos: Plan) -> dict[str, int]:
    """Returns every column of the scores of videos, with 1 where a rise is a harm and -1 where a fall is one.

    The guard is neither better nor worse; less motion counts as harm.
    """
    found = check_columns(videos.parts.metrics)
    return {column: -1 if one.higher_is_better or column == GUARD else 1 for one in found for column in one.columns}
