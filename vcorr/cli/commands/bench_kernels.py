"""Defines `vcorr bench kernels`."""

from __future__ import annotations

from typing import Any

import click

from vcorr.cli.commands import run_flags
from vcorr.cli.views.terminal import console, plain_rows, print_json, say


@click.command("kernels", short_help="Check the fused kernels against float64, and time them.")
@run_flags.DEVICE
@click.option("--cases", type=click.IntRange(min=0), default=12, show_default=True, help="Drawn cases per dtype.")
@click.option("--dtypes", default="float32,bfloat16,float16", metavar="D[,D]", show_default=True, help="Of the cases.")
@click.option(
    "--widths", metavar="W[,W]", help="Channels of a head, in turns; each compiles anew.  [default: 64,128,72]"
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the cases.")
@click.option(
    "--pairs",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="Timed pairs per function; 0 times nothing.",
)
@click.option("--small", is_flag=True, help="Time a tiny layer in place of one of CogVideoX-2B.")
@click.option("--tune", is_flag=True, help="Also time every tiling of both passes of matching.")
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="Kernels compiled at a time.  [default: one per core]",
)
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0),
    default=300,
    show_default=True,
    metavar="SECONDS",
    help="End with what was measured until then.",
)
@run_flags.RESULTS_AS_JSON
def kernels(as_json: bool, **options: Any) -> int:
    """Check the fused kernels against float64 on drawn cases, then time them against plain PyTorch.

    \b
    On a GPU:
      vcorr bench kernels
    More shapes, and heads of other widths:
      vcorr bench kernels --cases 100 --widths 16,40,96,160,256 --pairs 0
    On a CPU, in Triton's interpreter, whose times mean nothing:
      TRITON_INTERPRET=1 vcorr bench kernels --device cpu --cases 1 --pairs 0

    The cases differ in size, layout, dtype and sharpness. A result is equal, equal up to rounding, or wrong. The
    times are of one layer of CogVideoX-2B, for 400 points and for every token. Exit code 1: a result is wrong. Most of
    its time compiles, once per dtype and width.
    """
    from vcorr.cli.quiet import quiet_libraries

    quiet_libraries()
    from vcorr.bench.kernel_bench import KernelOptions, run_kernel_bench
    from vcorr.cli.views.kernel_tables import agreement_table, tiling_table, time_table
    from vcorr.contract.errors import EXIT_OK, EXIT_SOME_FAILED

    found = run_kernel_bench(KernelOptions(**options), lambda line: say(line, stderr=True))
    if as_json:
        agreement, times, tilings = (plain_rows(rows) for rows in found.tables)
        tables = {"agreement": agreement, "times": times, "tilings": tilings}
        print_json({**found.facts, "stopped": found.stopped, **tables})
    else:
        out = console()
        if found.agreement:
            out.print(agreement_table(found.agreement))
        if found.times:
            out.print(time_table(found.times, f"{found.facts['layer']} on {found.facts['device']}, bfloat16"))
        if found.tilings:
            out.print(tiling_table(found.tilings))
        out.print(found.stopped or f"{found.facts['seconds']} seconds in all")
    return EXIT_SOME_FAILED if any(one.wrong for one in found.agreement) else EXIT_OK
