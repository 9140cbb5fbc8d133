"""Run directories: what a run was, and its three tables, one atomic Arrow shard a clip (docs/results-format.md)."""
