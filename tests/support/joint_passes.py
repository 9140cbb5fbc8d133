"""Runs every probe on small Wan and LTX-Video models in one process, and in several that share each pass.

    python tests/support/joint_passes.py FOLDER

It imports everything once and forks for each process, so that many of them are cheap. FOLDER/wan-4-3.pickle then holds
what process 3 of 4 has predicted, by probe, variant, layer and head, and which collective calls it made.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
import traceback
import warnings
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))

import numpy as np
import torch
from torch import distributed

from support import ltx, wan
from vcorr.capture.recorder import Recorder
from vcorr.contract.records import Clip, Queries, RunSettings, Unrotated
from vcorr.contract.variants import DEFAULT_VARIANT, NamedVariant
from vcorr.diffusion import attention_sites
from vcorr.plugins.builtin import vcorr_probes

HEADS = 4
UNROTATED = Unrotated("norm_q", "norm_k", "bnc")


class Wan(wan.Wan):
    """Says where everything is that a probe can read."""

    def sites(self):
        return attention_sites("blocks.{}.attn1", 2, HEADS, block="blocks.{}", unrotated=UNROTATED)


class LTX(ltx.LTX):
    """Says where everything is that a probe can read."""

    def sites(self):
        place = "transformer_blocks.{}"
        return attention_sites(f"{place}.attn1", 2, HEADS, block=place, unrotated=UNROTATED)


class OffloadedWan(Wan):
    """Its networks come to the device while they run; on the CPU this installs the same hooks as on a GPU."""

    def load(self, device, dtype, weights):
        super().load(device, dtype, weights)
        self.pipe.enable_model_cpu_offload(device=device)


def _wan(kind=Wan, **options):
    return kind(wan.WanConfig(height=64, width=96, num_attention_heads=HEADS, **options))


def _ltx(**options):
    return LTX(ltx.LTXConfig(height=32, width=64, num_attention_heads=HEADS, **options))


MODELS = {
    "wan": (_wan, (1, 2, 4)),
    "ltx": (_ltx, (1, 2, 4)),
    "wan offloaded int8": (partial(_wan, OffloadedWan, accelerate="int8"), (1, 2)),
    "ltx fp8": (partial(_ltx, accelerate="fp8"), (1, 2)),
}
"""How to make each model, and the numbers of processes in which it runs."""
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "qk each": ("qk", {"heads": "each"}),
    "feature each": ("feature", {"heads": "each"}),
    "attention each": ("attention", {"heads": "each"}),
    "vv chosen": ("vv", {"heads": "0,3"}),
    "qk radius": ("qk", {"radius": 1}),
    "kk unrotated": ("kk", {"rotary": False}),
}
"""Probes with other options than their defaults."""
SECOND = NamedVariant.parse("corrected+second_softmax=true")
WAIT = timedelta(seconds=600)
"""How long a process waits for the others, which compute for a second."""
ROWS = ("peak_cross", "peak_self", "sum_cross", "sum_self", "traits")
"""The parts of an attention summary without text."""


class Whole:
    """A probe as a plugin brings it: it reads q of all heads, and predicts the mean of q as a displacement."""

    needs = frozenset({"q"})

    def read(self, capture, queries):
        moved = capture.q.mean((0, 2, 3, 4))[None, :, None]
        return {-1: queries.xy[:, None].repeat(1, capture.grid.frames, 1) + moved}


def make_probes() -> dict[str, Any]:
    """Returns every built-in probe, some with other options, and one of a plugin."""
    entries = {entry.name: entry for entry in vcorr_probes()}
    made: dict[str, Any] = {name: entry.create() for name, entry in entries.items()}
    for name, (probe, options) in OPTIONS.items():
        made[name] = entries[probe].create(entries[probe].config_type()(**options))
    return {**made, "whole": Whole()}


@dataclass
class Found:
    """predictions: by probe, variant, layer and head. calls: each collective call and its bytes. seconds: of the
    processor, for the pass with the probes."""

    predictions: dict[tuple[Any, ...], np.ndarray[Any, Any]]
    calls: list[tuple[str, int]]
    seconds: float


def run(model: Any) -> Found:
    """Runs all probes on a clip."""
    grid = model.grid(Clip("clip", "", np.zeros((0, 2), np.float32)), None)
    size = (grid.video_frames, round(grid.height), round(grid.width))
    random = np.random.default_rng(0)
    queries = Queries(np.array([0] * 4 + [8] * 4), random.uniform(0, 1, (8, 2)) * size[:0:-1])
    clip = Clip("clip", "", queries, random.integers(0, 256, (*size, 3), np.uint8))
    made = make_probes()
    recorder = Recorder(made, clip.queries, variants={"kk": (DEFAULT_VARIANT, SECOND)})
    calls = watch_calls()
    began = time.process_time()
    model.run(clip, RunSettings(steps=(2,), num_steps=4), recorder)
    seconds = time.process_time() - began
    predictions = {(one.probe, str(one.variant), one.layer, one.head): values_of(one) for one in recorder.answers}
    return Found(predictions, calls, seconds)


def values_of(prediction: Any) -> np.ndarray[Any, Any]:
    """Returns positions (N, F, 2), or an attention summary (N, K) without text."""
    if hasattr(prediction, "xy"):
        return prediction.xy
    parts = [getattr(prediction, part) for part in ROWS]
    return np.concatenate([part.reshape(len(part), -1) for part in parts if part is not None], axis=1)


def watch_calls() -> list[tuple[str, int]]:
    """Returns a list that gets every collective call of this process from now on."""
    calls: list[tuple[str, int]] = []
    for name in ("all_reduce", "all_gather_single", "all_gather_into_tensor"):
        made = getattr(distributed, name, None)
        if made is not None:
            setattr(distributed, name, _noting(calls, name, made))
    return calls


def _noting(calls, name, call):
    def note(whole, *arguments, **options):
        calls.append((name, whole.nbytes))
        return call(whole, *arguments, **options)

    return note


def run_process(model: Any, rank: int, processes: int, output: Path) -> None:
    """Runs all probes in this process, and stores what they predict."""
    if processes > 1:
        store = torch._C._distributed_c10d.FileStore(str(output.parent / f"{output.stem}-store"), processes)
        distributed.init_process_group("gloo", store=store, rank=rank, world_size=processes, timeout=WAIT)
        model.share_passes(processes)
    output.with_name(f"{output.stem}-{rank}.pickle").write_bytes(pickle.dumps(asdict(run(model))))
    if processes > 1:
        distributed.barrier()


def run_together(model: Any, processes: int, output: Path) -> None:
    """Runs all probes in processes that share each pass; a single one is this process.

    Raises:
        SystemExit: one of them failed.
    """
    if processes == 1:
        run_process(model, 0, 1, output)  # what is imported at first use is then there for the forks
        return
    children = [_fork(model, rank, processes, output) for rank in range(processes)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if any(codes):
        sys.exit(f"{output.stem}: exit codes {codes}")


def _fork(model: Any, rank: int, processes: int, output: Path) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        run_process(model, rank, processes, output)
        code = 0
    except BaseException:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)


def main(folder: Path) -> None:
    """Runs every model in each number of processes."""
    torch.set_num_threads(1)
    # diffusers joins tokens by a function that torch 2.13 has renamed
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"diffusers\.hooks\.context_parallel")
    for name, (make, counts) in MODELS.items():
        model = make()
        model.load("cpu", "float32", "random")
        for processes in counts:
            run_together(model, processes, folder / f"{name}-{processes}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
