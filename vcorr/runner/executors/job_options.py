"""The options of jobs on a cluster, and whether jobs can be started here."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Literal

from vcorr.contract.errors import MissingError
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


def find_job_lack(options: JobOptions) -> MissingError | None:
    """Returns the error for a machine without Slurm; None if jobs can be started here."""
    if options.cluster != "slurm" or shutil.which("srun"):
        return None
    return MissingError(
        "Jobs cannot be started here: this machine has no command srun, so it is not a part of a Slurm cluster.",
        hint="Run this on a machine of the cluster, or try it here: --set executor.cluster=local",
    )
