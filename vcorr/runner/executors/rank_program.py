"""What a process runs that shares every pass of the model with others: see `vcorr.runner.executors.team`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

from vcorr.runner.executors.messages import Begun, Broken, Computed, Order, SentEvents
from vcorr.runner.plan import Plan
from vcorr.runner.predict import error_code
from vcorr.runner.worker import follow_each, work_off_each
from vcorr.store.rundir import RunDirectory

T = TypeVar("T")

_LONGEST_WAIT = timedelta(days=7)
"""How long a process waits for the others. The process of the run notices a death at once, and ends the others."""


def work_in_rank(order: Order, plan: Plan, connection: Connection, clips: Iterator[str]) -> None:
    """Computes clips together with the other processes. Process 0 stores them, and sends reports and events."""
    _meet(order)
    run, agree = RunDirectory(Path(order.folder)), partial(_agree, connection, order.rank)
    if order.rank:
        follow_each(plan, run, clips, agree)
        return
    for report in work_off_each(plan, run, clips, events=SentEvents(connection.send), agree=agree):
        connection.send(report)


def _meet(order: Order) -> None:
    """Makes the group of all processes of the run: NCCL on GPUs, gloo on the CPU."""
    import torch
    from torch import distributed

    is_gpu = order.device.startswith("cuda")
    if is_gpu:
        os.environ.pop("LOCAL_RANK", None)  # of a launcher around the run: this process sees one GPU, number 0
        torch.cuda.set_device(0)
    # diffusers joins tokens by a function that torch 2.13 has renamed
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"diffusers\.hooks\.context_parallel")
    store = torch._C._distributed_c10d.FileStore(order.meeting, order.ranks)
    distributed.init_process_group(
        "nccl" if is_gpu else "gloo", store=store, rank=order.rank, world_size=order.ranks, timeout=_LONGEST_WAIT
    )


def _agree(connection: Connection, rank: int, compute: Callable[[], T]) -> T:
    """Computes something, and says how it went. Process 0 goes on when all have said the same."""
    connection.send(Begun())
    try:
        found = compute()
    except Exception as error:
        _say(connection, rank, Computed(error_code(error), Broken.of(error)))
        raise
    _say(connection, rank, Computed())
    return found


def _say(connection: Connection, rank: int, message: Computed) -> None:
    connection.send(message)
    if rank == 0:
        connection.recv()  # `Proceed`; the run ends this process instead if the others said something else
