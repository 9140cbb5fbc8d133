"""Names of files and folders in a run."""

from __future__ import annotations

from vcorr.store.schema import TableName

RECORD = "run.json"
PACKED = "scores.arrow"
"""The scores of all clips in one file, in a run that was made smaller to be shared (`vcorr board collect`)."""
TABLES: tuple[TableName, ...] = ("predictions", "tracks", "scores")
WRITE_ORDER = ("tracks", "predictions", "scores", RECORD)
"""The order in which files are written. Predictions come late: they mean that their clip need not be computed again."""
LOGS = "jobs"
"""The folder with the logs of jobs."""
