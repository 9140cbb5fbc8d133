"""Names of the tasks of runs, which share stages and tables."""

from __future__ import annotations

CORRESPONDENCE, TRACKING, GENERATION = "correspondence", "tracking", "generation"

PROPAGATION = "propagation"

TASKS = (CORRESPONDENCE, TRACKING, PROPAGATION, GENERATION, "intervention")
"""All tasks, as in the column `task` of the tables."""

AT_ONE_SITE = (TRACKING, PROPAGATION)
"""Tasks whose runs have a tracker, or a model at one site that was chosen before."""
