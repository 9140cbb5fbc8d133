"""Times a plain and a probed pass of CogVideoX models with random weights at true size, and measures their memory.

    python -m vcorr_cogvideox.bench --models cogvideox,cogvideox-5b --device cuda --probe qk

A pass is one call of the transformer as the pipeline makes it in a step: both guidance branches in one batch. Plain and
probed passes take turns; the table shows medians. Nothing is downloaded: times and memory do not depend on what the
weights are.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from vcorr import Clip, UsageError, VcorrError
from vcorr.capture.recorder import Recorder
from vcorr.capture.records import TokenLayout
from vcorr.diffusion.loading import cast_pipeline, torch_dtype
from vcorr.registry import installed
from vcorr.spec import make_config
from vcorr_cogvideox.model import CogVideoX
from vcorr_cogvideox.plugin import VARIANTS

_BATCHED = ("hidden_states", "encoder_hidden_states", "timestep")
_GIB = 2**30


@dataclass(frozen=True)
class Timing:
    """What was measured of one model.

    plain_ms, probed_ms: medians over the pairs of passes. ratio: the median of the ratios within a pair. plain_gib,
    probed_gib: most memory allocated on the device during a pass, weights included; NaN on a CPU.
    """

    model: str
    size: str
    tokens: int
    batch: int
    sites: int
    plain_ms: float
    probed_ms: float
    ratio: float
    plain_gib: float
    probed_gib: float


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        timings = [measure(name, options) for name in options.models.split(",")]
    except VcorrError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    text = json.dumps([asdict(timing) for timing in timings], indent=1) if options.json else table(timings)
    sys.stdout.write(text + "\n")
    return 0


def measure(name: str, options: argparse.Namespace) -> Timing:
    """Builds a model and times it.

    Raises:
        UsageError: an unknown model, probe or option.
    """
    model = _built(name, options)
    grid = model.grid(_clip(None), None)
    module, sites = model.pipe.transformer, model.sites()
    probes = {probe: installed().probes.get(probe).entry.create() for probe in options.probe.split(",")}
    queries = query_grid(options.points, grid.width, grid.height)
    inputs = _inputs(model, options)

    def plain() -> None:
        module(**inputs)

    def probed() -> None:
        recorder = Recorder(probes, queries)
        layout = TokenLayout(model.text, model.branches)
        with recorder.attach(module, sites, layout, grid), recorder.step(0, noise=0.5):
            module(**inputs)

    with torch.no_grad():
        pairs = [(_timed(plain, options.device), _timed(probed, options.device)) for _ in range(options.pairs + 1)][1:]
    return Timing(
        model=name,
        size=f"{grid.video_frames} x {grid.height:.0f} x {grid.width:.0f}",
        tokens=grid.tokens + model.text_limit(),
        batch=len(inputs["hidden_states"]),
        sites=len(sites),
        plain_ms=statistics.median(one.ms for one, _ in pairs),
        probed_ms=statistics.median(other.ms for _, other in pairs),
        ratio=statistics.median(other.ms / one.ms for one, other in pairs),
        plain_gib=max(one.gib for one, _ in pairs),
        probed_gib=max(other.gib for _, other in pairs),
    )


def query_grid(points: int, width: float, height: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    """About `points` queries, (N, 2) pixels, on a square grid with a margin of width / 64 on all sides."""
    side, margin = max(round(points**0.5), 1), width / 64
    x, y = np.meshgrid(np.linspace(margin, width - margin, side), np.linspace(margin, height - margin, side))
    return np.stack([x.ravel(), y.ravel()], axis=-1).astype(np.float32)


def table(timings: Sequence[Timing]) -> str:
    """The measurements, one line a model."""
    heads = ("model", "video", "tokens", "batch", "layers", "plain ms", "probed ms", "ratio", "plain GiB", "probed GiB")
    rows = [heads] + [
        (
            t.model,
            t.size,
            str(t.tokens),
            str(t.batch),
            str(t.sites),
            f"{t.plain_ms:.1f}",
            f"{t.probed_ms:.1f}",
            f"{t.ratio:.3f}",
            f"{t.plain_gib:.1f}",
            f"{t.probed_gib:.1f}",
        )
        for t in timings
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


@dataclass(frozen=True)
class _Pass:
    ms: float
    gib: float


def _timed(run: Callable[[], None], device: str) -> _Pass:
    cuda = torch.device(device).type == "cuda"
    if cuda:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    begin = time.perf_counter()
    run()
    if cuda:
        torch.cuda.synchronize(device)
    elapsed = 1000 * (time.perf_counter() - begin)
    return _Pass(elapsed, torch.cuda.max_memory_allocated(device) / _GIB if cuda else float("nan"))


def _built(name: str, options: argparse.Namespace) -> CogVideoX:
    """The model with random weights, made on the device itself: on a CPU, billions of random numbers take minutes."""
    entries = {entry.name: entry for entry in VARIANTS}
    if name not in entries:
        raise UsageError(f"Unknown model {name!r}.", hint=f"Known: {', '.join(entries)}.")
    settings = dict(_assignment(text) for text in options.set)
    model: CogVideoX = entries[name].create(make_config(entries[name].config_type(), settings, "model"))
    kind = torch_dtype(options.dtype)
    with torch.device(options.device), _default_dtype(kind):
        pipe = model.build(0)
    cast_pipeline(pipe, kind)
    model.adopt(pipe, options.device)
    return model


def _inputs(model: CogVideoX, options: argparse.Namespace) -> Mapping[str, Any]:
    """The arguments of a pass: noise as latents, the stand-in of an empty prompt, a black image where one is needed."""
    grid, config = model.grid(_clip(None), None), model.config
    scale = config.spatial_compression
    shape = (
        1,
        config.latent_channels,
        grid.frames * config.temporal_patch,
        config.height // scale,
        config.width // scale,
    )
    latents = torch.randn(shape, device=options.device, dtype=torch_dtype(options.dtype))
    image = np.zeros((1, config.height, config.width, 3), dtype=np.uint8)
    with torch.no_grad():
        condition = model.clip_condition(_clip(image), grid, 0)
    inputs = dict(model.inputs(latents, torch.tensor(500, device=options.device), condition))
    rows = 1 if options.no_guidance else len(model.branches)
    return {key: torch.cat([value] * rows) if key in _BATCHED else value for key, value in inputs.items()}


def _clip(video: Any) -> Clip:
    return Clip(id="bench", prompt="", queries=np.zeros((0, 2), dtype=np.float32), video=video)


def _assignment(text: str) -> tuple[str, Any]:
    key, found, value = text.partition("=")
    if not found:
        raise UsageError(f"--set {text!r}: expected KEY=VALUE.", hint="For example: --set num_layers=2")
    try:
        return key.removeprefix("model."), json.loads(value)
    except ValueError:
        return key.removeprefix("model."), value


@contextmanager
def _default_dtype(kind: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(kind)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vcorr_cogvideox.bench",
        description="Times a plain and a probed pass with random weights, and measures their memory.",
    )
    parser.add_argument("--models", default="cogvideox", help="names, by comma")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--probe", default="qk", help="names, by comma")
    parser.add_argument("--points", type=int, default=400, help="query points")
    parser.add_argument("--pairs", type=int, default=5, help="pairs of passes, after one to warm up")
    parser.add_argument("--no-guidance", action="store_true", help="the conditional branch alone")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="an option of the model")
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
