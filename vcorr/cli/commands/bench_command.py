"""Defines `vcorr bench`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from vcorr.cli.commands import run_flags
from vcorr.cli.commands.bench_kernels import kernels
from vcorr.cli.commands.bench_scoring import score
from vcorr.cli.views.terminal import console, plain_rows, print_json, say

if TYPE_CHECKING:
    from rich.console import RenderableType


def _on_device(command: Callable[..., int]) -> Callable[..., int]:
    """Adds the options that say where a measurement runs."""
    return run_flags.DEVICE(run_flags.DTYPE(command))


@click.group(short_help="Measure what probing, tracking and guiding cost.")
def bench() -> None:
    """Measure what probing, tracking and guiding cost."""


@bench.command(short_help="Time plain and probed passes of models with random weights.")
@click.option("--model", "-m", required=True, metavar="M[,M]", help="Models to time, one after the other.")
@click.option("--probe", "-p", default="qk", show_default=True, metavar="P[,P]", help="Probes, all in one pass.")
@run_flags.LAYERS_READ
@click.option("--points", type=click.IntRange(min=1), default=400, show_default=True, help="Number of query points.")
@click.option(
    "--pairs", type=click.IntRange(min=1), default=5, show_default=True, help="Pairs of passes, after one to warm up."
)
@click.option("--no-guidance", is_flag=True, help="Run only the conditional branch, for models that batch guidance.")
@click.option("--keep-vae", is_flag=True, help="Count the autoencoder's memory too.")
@_on_device
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="An option of the model, or e.g. probe.heads=each."
)
@run_flags.RESULTS_AS_JSON
def overhead(
    model: str,
    probe: str,
    layers: str | None,
    points: int,
    pairs: int,
    no_guidance: bool,
    keep_vae: bool,
    device: str | None,
    dtype: str | None,
    assignments: tuple[str, ...],
    as_json: bool,
) -> int:
    """Time plain and probed passes of models with random weights, and measure their memory.

    \b
    At true size on a GPU; nothing is downloaded:
      vcorr bench overhead --model cogvideox --probe qk
    Two layers of a larger network, one of them probed:
      vcorr bench overhead --model cogvideox-5b --set model.network.num_layers=2 --layers 1

    A pass is one call of the denoiser, with all guidance branches that the pipeline puts into one batch. Plain and
    probed passes take turns; the table shows medians. Times and memory do not depend on the values of the weights, so
    the weights are random and are created on the device itself.
    """
    from vcorr.cli.quiet import quiet_libraries
    from vcorr.cli.views import render

    quiet_libraries()
    from vcorr.bench.overhead import BenchOptions, make_bench
    from vcorr.contract.index_text import split_names
    from vcorr.plugins.registry import installed
    from vcorr.runner.spec import build_spec

    given = {"probe": probe, "layers": layers, "device": device, "dtype": dtype}
    options = BenchOptions(points, pairs, not no_guidance, keep_vae)
    named = _with_parts(assignments)
    benches = [
        make_bench(build_spec({**given, "model": name}, assignments=named), installed(), options)
        for name in split_names(model)
    ]
    found = [one.run(_show_progress(one.model.entry.name)) for one in benches]
    return _show(found, render.overhead_table, as_json=as_json)


@bench.command("track", short_help="Time tracking against the network's own passes, with random weights.")
@click.option("--model", "-m", required=True, metavar="M[,M]", help="Models to time, one after the other.")
@click.option("--probe", "-p", default="qk", show_default=True, metavar="P", help="The probe that tracks.")
@click.option("--layers", metavar="L[,L]", help="Layers to average.  [default: the middle one]")
@click.option("--points", type=click.IntRange(min=1), default=400, show_default=True, help="Number of query points.")
@click.option("--passes", type=click.IntRange(min=1), default=4, show_default=True, help="Passes that the clip takes.")
@click.option("--pairs", type=click.IntRange(min=1), default=5, show_default=True, help="Pairs, after one to warm up.")
@_on_device
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="An option of the model or the probe.")
@run_flags.RESULTS_AS_JSON
def track_cost(
    model: str,
    probe: str,
    layers: str | None,
    points: int,
    passes: int,
    pairs: int,
    device: str | None,
    dtype: str | None,
    assignments: tuple[str, ...],
    as_json: bool,
) -> int:
    """Time the tracking of a clip against the network's own passes, in one process, taking turns.

    \b
    At true size on a GPU; nothing is downloaded:
      vcorr bench track --model cogvideox --layers 17

    The network runs up to the last layer that is read. The tracker also adds noise, compares tokens both ways, and
    goes back for the visibility of every point. Encoding frames is not timed. The ratio is the median of the pairs.
    """
    from vcorr.cli.quiet import quiet_libraries
    from vcorr.cli.views import render

    quiet_libraries()
    from vcorr.bench.overhead import BenchOptions, make_bench
    from vcorr.bench.tracking_cost import measure_tracking, middle_layer
    from vcorr.contract.index_text import split_names
    from vcorr.plugins.registry import installed
    from vcorr.runner.spec import build_spec

    given = {"probe": probe, "device": device, "dtype": dtype}
    named = _with_parts(assignments)
    found = []
    for name in split_names(model):
        spec = build_spec({**given, "model": name, "layers": layers}, assignments=named)
        bench = make_bench(spec, installed(), BenchOptions(points, pairs))
        found.append(measure_tracking(bench if layers else middle_layer(bench), passes, _show_progress(name)))
    return _show(found, render.tracking_cost_table, as_json=as_json)


@bench.command("guidance", short_help="Time guided steps against plain ones, with random weights.")
@click.option("--model", "-m", required=True, metavar="M[,M]", help="Models to time, one after the other.")
@click.option("--guidance", default="cag", show_default=True, metavar="NAME", help="The guidance.")
@click.option("--layers", metavar="L[,L]", help="Layers that it perturbs.  [default: those on the model's card]")
@click.option(
    "--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Rounds, after one to warm up."
)
@_on_device
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="An option of the model or the guidance."
)
@run_flags.RESULTS_AS_JSON
def guidance_cost(
    model: str,
    guidance: str,
    layers: str | None,
    rounds: int,
    device: str | None,
    dtype: str | None,
    assignments: tuple[str, ...],
    as_json: bool,
) -> int:
    """Time guided steps of models with random weights against plain ones, in one process, taking turns.

    \b
    At true size on a GPU; nothing is downloaded:
      vcorr bench guidance --model cogvideox --layers 13,17,21
    On a CPU in seconds:
      vcorr bench guidance --model cogvideox --layers 1 --set size=small

    A step is plain, guided, guided with a whole further pass, or plain with one more row in the batch. The ratios are
    medians over the rounds, each against the plain step of its round. "more ms" is what a guided step costs in addition
    to a plain one. "memory" is the peak of a guided step / the peak of a plain step with one more row.
    """
    from vcorr.cli.quiet import quiet_libraries
    from vcorr.cli.views import render

    quiet_libraries()
    from vcorr.bench.guidance_cost import make_guidance_bench
    from vcorr.contract.index_text import split_names
    from vcorr.plugins.registry import installed
    from vcorr.runner.spec import build_spec

    named = _with_parts(assignments)
    named += [f"guidance.layers={layers}"] if layers is not None else []
    benches = [
        make_guidance_bench(
            build_spec({"model": name, "device": device, "dtype": dtype}, assignments=named),
            installed(),
            guidance,
            rounds,
        )
        for name in split_names(model)
    ]
    found = [one.run(_show_progress(one.model.entry.name)) for one in benches]
    return _show(found, render.guidance_cost_table, as_json=as_json)


@bench.command("clips", short_help="Time whole clips of mode renoise, in several ways in turns.")
@click.option("--model", "-m", required=True, metavar="NAME", help="Model to run.")
@click.option("--probe", "-p", default="qk", show_default=True, metavar="P[,P]", help="Probes, all in one pass.")
@run_flags.LAYERS_READ
@click.option("--levels", type=click.IntRange(min=1), default=8, show_default=True, help="Noise levels of a clip.")
@click.option("--noise-batch", default="2,4,8", show_default=True, metavar="N[,N]", help="Numbers of levels in a pass.")
@click.option("--points", type=click.IntRange(min=1), default=400, show_default=True, help="Number of query points.")
@click.option("--pairs", type=click.IntRange(min=1), default=5, show_default=True, help="Rounds, after one to warm up.")
@click.option("--weights", default="random", show_default=True, help="As of vcorr run.")
@_on_device
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="An option of the model or the probe.")
@run_flags.RESULTS_AS_JSON
def clip_speed(
    model: str,
    probe: str,
    layers: str | None,
    levels: int,
    noise_batch: str,
    points: int,
    pairs: int,
    weights: str,
    device: str | None,
    dtype: str | None,
    assignments: tuple[str, ...],
    as_json: bool,
) -> int:
    """Time whole clips of mode renoise, from their pixels to the predictions, in several ways in turns.

    \b
    At true size on a GPU; nothing is downloaded:
      vcorr bench clips --model cogvideox
    On a CPU:
      vcorr bench clips --model tiny --weights hub --pairs 3

    "level by level" embeds the prompt and encodes the video again for every noise level. "encoded once" does both once
    per clip, as a run does. "N in a pass" is --set noise_batch=N of a run. "encoded before" is a second run of the same
    clip in a process. The ratios are medians over the rounds, each against "level by level" of its round.
    """
    from vcorr.cli.quiet import quiet_libraries
    from vcorr.cli.views import render

    quiet_libraries()
    from vcorr.bench.clip_speed import ClipBench
    from vcorr.bench.overhead import BenchOptions, make_bench
    from vcorr.contract.index_text import split_names
    from vcorr.plugins.registry import installed
    from vcorr.runner.spec import build_spec

    given = {"model": model, "probe": probe, "layers": layers, "device": device, "dtype": dtype}
    spec = build_spec(given, assignments=_with_parts(assignments))
    batches = _read_counts(split_names(noise_batch), "--noise-batch", "noise levels")
    bench = make_bench(spec, installed(), BenchOptions(points, pairs))
    found = ClipBench(bench, levels, batches, weights).run(_show_progress(model))
    return _show(found, render.clip_speed_table, as_json=as_json)


@bench.command("executor", short_help="Time the same clips in one, two or more processes.")
@click.option("--model", "-m", required=True, metavar="NAME", help="Model to run.")
@click.option("--probe", "-p", default="qk", show_default=True, metavar="P[,P]", help="Probes, all in one pass.")
@click.option("--data", default="sprites", show_default=True, metavar="NAME", help="Dataset.")
@run_flags.LAYERS_READ
@click.option("--steps", default="last", show_default=True, metavar="S", help="Steps that each clip takes.")
@click.option("--clips", type=click.IntRange(min=1), default=32, show_default=True, help="Number of timed clips.")
@click.option("--workers", default="1,2,4", show_default=True, metavar="N[,N]", help="Numbers of processes.")
@click.option("--weights", default="random", show_default=True, help="As of vcorr run.")
@_on_device
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="An option of a part.")
@run_flags.RESULTS_AS_JSON
def executor_speed(clips: int, workers: str, assignments: tuple[str, ...], as_json: bool, **flags: Any) -> int:
    """Time the same clips in one, two or more processes, and compare the files that they write.

    \b
    At true size on all GPUs of a machine; nothing is downloaded:
      vcorr bench executor --model cogvideox --workers 1,2,4
    On a CPU:
      vcorr bench executor --model tiny --device cpu --workers 1,2 --clips 4

    Every process first loads the model and computes one clip, which is not timed. "load s" is the time for that.
    """
    import tempfile
    from pathlib import Path

    from vcorr.cli.quiet import quiet_libraries
    from vcorr.cli.views import render

    quiet_libraries()
    from vcorr.bench.executor_speed import time_executors
    from vcorr.contract.index_text import split_names
    from vcorr.plugins.registry import installed
    from vcorr.runner.plan import make_plan
    from vcorr.runner.spec import build_spec

    counts = _read_counts(split_names(workers), "--workers", "processes")
    given = {**flags, "workers": max(counts), "limit": clips + max(counts)}
    plan = make_plan(build_spec(given, assignments=_with_parts(assignments)), installed())
    with tempfile.TemporaryDirectory(prefix="vcorr-bench-") as folder:
        found = time_executors(plan, counts, clips, Path(folder), _show_progress(plan.parts.model.entry.name))
    return _show(found, render.executor_speed_table, as_json=as_json)


def _read_counts(words: Sequence[str], flag: str, what: str) -> list[int]:
    """Returns the numbers of a flag; raises UsageError for words that are none."""
    from vcorr.contract.errors import UsageError

    if not words or not all(word.isdigit() and int(word) > 0 for word in words):
        raise UsageError(f"{flag} takes numbers of {what}.", hint=f"For example: {flag} 1,2,4")
    return [int(word) for word in words]


def _with_parts(assignments: Sequence[str]) -> list[str]:
    """Returns the values of `--set`, in which a key without a part is an option of the model."""
    return [text if "." in text.partition("=")[0] else f"model.{text}" for text in assignments]


def _show_progress(model: str) -> Callable[[str], None]:
    """Returns what shows how far the measurement of a model is, on standard error."""

    def show(text: str) -> None:
        say(f"{model}: {text}", stderr=True)

    return show


def _show(found: Sequence[Any], table: Callable[[Any], RenderableType], *, as_json: bool) -> int:
    """Prints what was measured, and returns the exit code."""
    from vcorr.contract.errors import EXIT_OK, EXIT_SOME_FAILED

    if as_json:
        print_json(plain_rows(found))
    else:
        console().print(table(found))
    return EXIT_SOME_FAILED if any(one.error for one in found) else EXIT_OK


bench.add_command(kernels)
bench.add_command(score)
