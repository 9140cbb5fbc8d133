"""Skill, intervals over clips, paired comparison, the honest choice of a site, stable rankings. numpy only."""

from vcorr.stats.bootstrap import (
    Bounded,
    Interval,
    bootstrap_mean,
    bootstrap_skill,
    paired_difference,
    paired_skill_difference,
    skill,
)
from vcorr.stats.choice import Choice, choose_and_report
from vcorr.stats.stability import Stability, kendall_tau, rank_stability

__all__ = [
    "Bounded",
    "Choice",
    "Interval",
    "Stability",
    "bootstrap_mean",
    "bootstrap_skill",
    "choose_and_report",
    "kendall_tau",
    "paired_difference",
    "paired_skill_difference",
    "rank_stability",
    "skill",
]
