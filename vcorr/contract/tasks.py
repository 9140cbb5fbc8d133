"""Names of the tasks of runs, which share stages and tables."""

from __future__ import annotations

CORRESPONDENCE, TRACKING, GENERATION = "correspondence", "tracking", "generation"

PROPAGATION, INTERVENTION = "propagation", "intervention"

TASKS = (CORRESPONDENCE, TRACKING, PROPAGATION, GENERATION, INTERVENTION)
"""All tasks, as in the column `task` of the tables."""

AT_ONE_SITE = (TRACKING, PROPAGATION)
"""Tasks whose runs have a tracker, or a model at one site that was chosen before."""

MAKING_VIDEOS = (GENERATION,)
"""Tasks whose runs make and score videos, and read no attention."""
