"""Executors: where the clips of a plan are worked off. The coordinator chooses one by its name (`--executor`)."""
