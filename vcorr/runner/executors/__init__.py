"""Executors decide where the clips of a plan are worked off. `--executor` names one."""
