"""Names of the tasks of runs, which share stages and tables."""

from __future__ import annotations

CORRESPONDENCE, TRACKING = "correspondence", "tracking"

TASKS = (CORRESPONDENCE, TRACKING, "propagation", "generation", "intervention")
"""All tasks, as in the column `task` of the tables."""
