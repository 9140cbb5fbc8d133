"""Skill, intervals over clips, paired comparison, choice of a site, and stability of rankings. numpy only."""

from vcorr.stats.bootstrap import (
    Bounded,
    Interval,
    bootstrap_mean,
    bootstrap_skill,
    compare_means,
    compare_skills,
    skill,
)
from vcorr.stats.choice import Choice, choose_and_report
from vcorr.stats.sign_flips import holm, sign_flip_test, smallest_p
from vcorr.stats.stability import Stability, kendall_tau, rank_stability

__all__ = [
    "Bounded",
    "Choice",
    "Interval",
    "Stability",
    "bootstrap_mean",
    "bootstrap_skill",
    "choose_and_report",
    "compare_means",
    "compare_skills",
    "holm",
    "kendall_tau",
    "rank_stability",
    "sign_flip_test",
    "skill",
    "smallest_p",
]
