"""Run directories: the record of a run and its three tables, with one atomic Arrow shard per clip.

docs/results-format.md describes them.
"""
