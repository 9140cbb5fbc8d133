"""The table of a study of guidances: one row per score and pair of arms, with the paired difference over prompts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vcorr.runner.spec import NO_GUIDANCE
from vcorr.stats.sign_flips import SIGNIFICANT, holm
from vcorr.store.columns import NAN, Float, Int32, Text, column
from vcorr.studies.paired_values import compare_values
from vcorr.studies.study_tables import StudyTable

CONTROLS = (NO_GUIDANCE, "random-layers", "more-steps")
"""Arms that the others are compared with, as far as a study has them."""
Values = Mapping[str, Sequence[Mapping[str, float]]]
"""Values of one column by the label of the arm: for each seed, by prompt; NaN where not scored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidanceRow:
    """How one score of generated videos differs between a guidance and a control, on the same prompts and seeds."""

    model: Text = column("", "Model that generated.")
    weights: Text = column("", "What identifies its weights.")
    dataset: Text = column("", "Dataset of the prompts.")
    split: Text = column("", "Its split.")
    seeds: Text = column("", "Seeds, with commas.")
    guidance: Text = column("", "The arm: the name of a guidance, with the options that it has of its own.")
    control: Text = column("", "The arm that it is compared with.")
    layers: Text = column("", "Layers in which the guidance acts; empty without any.")
    metric: Text = column("", "Name of the score.")
    better: Text = column("higher", "`higher` or `lower`: which values of the score are better.")
    value: Float = column(NAN, "Mean over prompts under the guidance.")
    control_value: Float = column(NAN, "Mean over the same prompts under the control.")
    difference: Float = column(NAN, "Mean over prompts of the difference; a prompt counts as the mean of its seeds.")
    low: Float = column(NAN, "Lower end of its 95 % interval by Student's t; NaN with fewer than six prompts.")
    high: Float = column(NAN, "Upper end of the interval.")
    p: Float = column(NAN, "p-value of the sign-flip test over prompts.")
    p_holm: Float = column(NAN, "p corrected by Holm over the arms that are compared with this control by this score.")
    prompts: Int32 = column(0, "Number of prompts with a score on both sides.", "count")
    seconds: Float = column(NAN, "Seconds per video under the guidance; NaN where not measured.", "seconds")
    control_seconds: Float = column(NAN, "Seconds per video under the control.", "seconds")

    @property
    def is_significant(self) -> bool:
        """Whether the test says that the score differs."""
        return self.p_holm <= SIGNIFICANT

    @property
    def improves(self) -> bool:
        """Whether the mean is better under the guidance."""
        return self.difference > 0 if self.better == "higher" else self.difference < 0


TABLE = StudyTable(GuidanceRow, "guidance", 1)


def compare_arms(common: GuidanceRow, values: Values) -> list[GuidanceRow]:
    """Returns the rows of one column: every arm against every control that there is.

    common: a row with the metric and what all rows share. values: by arm, with the same seeds in the same order.
    """
    rows: list[GuidanceRow] = []
    for control in (name for name in CONTROLS if name in values):
        family = [_compare(common, values, arm, control) for arm in values if arm not in (control, NO_GUIDANCE)]
        corrected = holm([row.p for row in family]).tolist()
        rows += [replace(row, p_holm=p) for row, p in zip(family, corrected, strict=True)]
    return rows


def _compare(common: GuidanceRow, values: Values, arm: str, control: str) -> GuidanceRow:
    found = compare_values(*pair_by_prompt(values[arm], values[control]))
    row = replace(common, guidance=arm, control=control, prompts=found.count)
    return replace(row, value=found.own, control_value=found.other, **found.difference_columns)


def pair_by_prompt(
    own: Sequence[Mapping[str, float]], other: Sequence[Mapping[str, float]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the values of two arms by prompt, (P,) each: means over the seeds that have a value in both arms.

    A seed that one arm lacks is left out in the other one too: seeds differ more than guidances do.

    Args:
        own: values by prompt, for each seed; NaN where not scored.
        other: of the other arm, with the same seeds in the same order.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for one, another in zip(own, other, strict=True):
        for prompt in one.keys() & another.keys():
            pair = (one[prompt], another[prompt])
            if not any(map(math.isnan, pair)):
                found.setdefault(prompt, []).append(pair)
    means = [np.mean(found[prompt], axis=0) for prompt in sorted(found)]
    a, b = np.array(means, np.float64).reshape(-1, 2).T
    return a, b
