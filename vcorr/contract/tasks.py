"""Names of the tasks of runs, which share stages and tables."""

from __future__ import annotations

CORRESPONDENCE, TRACKING, GENERATION = "correspondence", "tracking", "generation"

TASKS = (CORRESPONDENCE, TRACKING, "propagation", GENERATION, "intervention")
"""All tasks, as in the column `task` of the tables."""
