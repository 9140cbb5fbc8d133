"""The options of jobs on a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vcorr.contract.option_notes import option


@dataclass(frozen=True)
class JobOptions:
    """Options of `--executor submitit`."""

    cluster: Literal["slurm", "local"] = option("slurm", "Slurm, or processes of this machine to try things out.")
    partition: str = option("", "Partition of Slurm; empty for the default one.")
    hours: float = option(12.0, "Longest time of a job.", unit="hours", least=0.01)
    cpus: int = option(8, "CPU cores per job.", least=1)
    memory: int = option(64, "Memory per job.", unit="GB", least=1)
    gpus: int = option(1, "GPUs per job; 0 for a run on the CPU.", least=0, most=1)
    jobs: int = option(8, "Number of jobs; --workers says the same.", least=1)
