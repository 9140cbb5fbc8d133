"""Skill, intervals over clips, paired comparison and the honest choice of a site (PROTOCOL section 5). numpy only."""

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

__all__ = [
    "Bounded",
    "Choice",
    "Interval",
    "bootstrap_mean",
    "bootstrap_skill",
    "choose_and_report",
    "paired_difference",
    "paired_skill_difference",
    "skill",
]
