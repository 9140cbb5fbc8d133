"""The table of a study of accelerators: one row per accelerator and measure, paired with the plain model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vcorr.stats.intervals import mean_interval
from vcorr.stats.paired import PairedRow
from vcorr.stats.sign_flips import SIGNIFICANT, holm
from vcorr.store.columns import NAN, Float, Int32, Text, column
from vcorr.studies.paired_values import compare_values
from vcorr.studies.study_tables import StudyTable

SKILL, BEST, LOSS, PSNR, SECONDS, MEMORY = (
    *("skill", "best_skill", "denoising_loss"),
    *("psnr", "seconds_per_video", "peak_memory"),
)
"""Measures that are no score of a video."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceleratorRow:
    """One measure of one accelerator, compared with the plain model on the same clips or prompts."""

    model: Text = column("", "The plain model.")
    weights: Text = column("", "What identifies its weights.")
    device: Text = column("", "Device that computed.")
    dtype: Text = column("", "Number type of the computation.")
    dataset: Text = column("", "Dataset of the clips, or of the prompts.")
    split: Text = column("", "Its split.")
    accelerator: Text = column("", "The arm, as `--accelerator` takes it.")
    title: Text = column("", "What it is, in words.")
    note: Text = column("", "What readers must know, such as that it is simulated.")
    num_steps: Int32 = column(0, "Steps of sampling of its videos.", "count")
    metric: Text = column(
        "",
        "`skill` at one site, `best_skill` at the best site of each side, `denoising_loss`, `psnr` of its videos "
        "against the plain ones in dB, `seconds_per_video`, `peak_memory` in GiB, or a score of its videos.",
    )
    site: Text = column("", "Where attention was read, LAYER:STEP; empty for other measures.")
    better: Text = column("higher", "`higher` or `lower`: which values are better.")
    value: Float = column(NAN, "The accelerated model; NaN if it was not measured.")
    plain: Float = column(NAN, "The plain model on the same clips or prompts.")
    difference: Float = column(NAN, "The accelerated model minus the plain one.")
    low: Float = column(NAN, "Lower end of the 95 % interval of the difference, or of the value if there is none.")
    high: Float = column(NAN, "Upper end of the interval.")
    p: Float = column(NAN, "p-value of the sign-flip test of the difference.")
    p_holm: Float = column(NAN, "p corrected by Holm over the accelerators with this measure.")
    ratio: Float = column(NAN, "For seconds, the median over pairs of accelerated / plain, timed in turn.")
    clips: Int32 = column(0, "Number of clips or prompts that count.", "count")
    reason: Text = column("", "Why it was not measured; empty if it was.")

    @property
    def is_significant(self) -> bool:
        """Whether the test says that both differ."""
        return self.p_holm <= SIGNIFICANT


TABLE = StudyTable(AcceleratorRow, "accelerators", 1)


def compare_skills_of(common: AcceleratorRow, found: PairedRow) -> AcceleratorRow:
    """Returns the row of a comparison of two runs, A accelerated and B plain."""
    difference = found.skill_difference
    return replace(
        common,
        site=" | ".join(str(site.site) for site in found.a.sites),
        value=found.a.skill,
        plain=found.b.skill,
        difference=difference.estimate,
        low=difference.low,
        high=difference.high,
        p=difference.p,
        clips=found.clips,
        reason=difference.no_interval if math.isnan(difference.estimate) else "",
    )


def compare_values_of(common: AcceleratorRow, own: Mapping[str, float], plain: Mapping[str, float]) -> AcceleratorRow:
    """Returns the row of a measure per clip. own, plain: by clip; NaN where it was not measured."""
    clips = sorted(own.keys() & plain.keys())
    a, b = (np.array([side[clip] for clip in clips], np.float64) for side in (own, plain))
    found = compare_values(a, b)
    if not found.count:
        return replace(common, reason="no clip has a value on both sides")
    return replace(common, value=found.own, plain=found.other, clips=found.count, **found.difference_columns)


def describe_values(common: AcceleratorRow, own: Mapping[str, float]) -> AcceleratorRow:
    """Returns the row of a measure that compares with the plain model by itself. own: by clip."""
    found = mean_interval(np.array(list(own.values())))
    value, low, high = (float(one) for one in (found.estimate, found.low, found.high))
    return replace(common, value=value, low=low, high=high, clips=int(found.n))


def correct_rows(rows: Sequence[AcceleratorRow]) -> tuple[AcceleratorRow, ...]:
    """Returns the rows with p corrected by Holm within each measure."""
    corrected = list(rows)
    for metric in dict.fromkeys(row.metric for row in rows):
        members = [i for i, row in enumerate(rows) if row.metric == metric and not math.isnan(row.p)]
        for i, p in zip(members, holm([rows[i].p for i in members]) if members else [], strict=True):
            corrected[i] = replace(corrected[i], p_holm=float(p))
    return tuple(corrected)
