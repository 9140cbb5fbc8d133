"""Models whose passes several processes share, without diffusers; some of them fail in one process.

Which clip fails, and how, is in an environment variable, so that it is no part of what a run is.
"""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import vcorr
from support import sliding

FAILING = "VCORR_TEST_TOGETHER"
"""Environment variable: clips with the process and what it does there, as in "slide-0 all raise; slide-1 1 kill"."""
FOLDER = "VCORR_TEST_TOGETHER_FOLDER"
"""Environment variable: the folder in which each process leaves a file with its id as the name."""


class Together(sliding.SlidingModel):
    """Its two heads differ: head h attends one more token to the side. A process computes its share of the heads."""

    ranks, rank = 1, 0

    def check_sharing(self):
        """Any number of processes can share its passes."""

    def load(self, device, dtype, weights):
        super().load(device, dtype, weights)
        if folder := os.environ.get(FOLDER):
            Path(folder, str(os.getpid())).touch()
        for module in self.network.modules():
            if not list(module.children()):
                module.forward = self.attend

    def share_passes(self, processes):
        import torch

        self.ranks, self.rank = processes, torch.distributed.get_rank()
        mesh = SimpleNamespace(get_group=lambda: None)
        shared = SimpleNamespace(ring_degree=1, ulysses_anything=False, ulysses_degree=processes, _ulysses_mesh=mesh)
        self.network._parallel_config = SimpleNamespace(context_parallel_config=shared)

    def attend(self, x):
        import torch

        keys = torch.stack([head.roll(number, 0) for number, head in enumerate(x[0])])[None]
        own = [heads.chunk(self.ranks, dim=1)[self.rank] for heads in (x, keys, x)]
        return torch.nn.functional.scaled_dot_product_attention(*own)

    def run(self, clip, settings, recorder):
        import torch

        if self.ranks > 1:
            _fail_on_request(clip.id, self.rank)
            torch.distributed.barrier()
        return super().run(clip, settings, recorder)


def _fail_on_request(clip, rank):
    for request in os.environ.get(FAILING, "").split(";"):
        named, _, rest = request.strip().partition(" ")
        process, _, how = rest.partition(" ")
        if named == clip and process in ("all", str(rank)):
            _fail(how, rank)


def _fail(how, rank):
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "lack":
        raise vcorr.MissingError("The shelf is empty.", hint="Fill it.")
    raise ValueError("no such colour" if how == "raise" else f"process {rank} has no such colour")


@vcorr.hookimpl
def vcorr_models():
    """Returns the model."""
    return [replace(entry, data="token-slide") for entry in sliding.entries_of(vcorr.ModelEntry, Together)]
