"""Skill, intervals over clips, paired comparison, choice of a site, and stability of rankings. numpy only."""

from vcorr.stats.choice import CrossFit, choose_sites, cross_fit
from vcorr.stats.halves import Halves, split_clips
from vcorr.stats.intervals import (
    Bounded,
    Interval,
    compare_gains,
    compare_means,
    compare_skills,
    gain,
    gain_differences,
    gain_interval,
    linear_gains,
    linear_skills,
    mean_interval,
    no_interval_reason,
    skill,
    skill_differences,
    skill_interval,
)
from vcorr.stats.rank_correlation import rank_correlation, spearman
from vcorr.stats.sign_flips import holm, joint_sign_flip_test, sign_flip_test, smallest_p
from vcorr.stats.stability import Stability, kendall_tau, rank_stability

__all__ = [
    "Bounded",
    "CrossFit",
    "Halves",
    "Interval",
    "Stability",
    "choose_sites",
    "compare_gains",
    "compare_means",
    "compare_skills",
    "cross_fit",
    "gain",
    "gain_differences",
    "gain_interval",
    "holm",
    "joint_sign_flip_test",
    "kendall_tau",
    "linear_gains",
    "linear_skills",
    "mean_interval",
    "no_interval_reason",
    "rank_correlation",
    "rank_stability",
    "sign_flip_test",
    "skill",
    "skill_differences",
    "skill_interval",
    "smallest_p",
    "spearman",
    "split_clips",
]
