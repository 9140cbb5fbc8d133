"""Flags that several commands have in the same words. Each is a decorator that adds one flag to a command."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import click

from vcorr.cli.folder_type import RESULTS
from vcorr.cli.number_types import NUMBER, WHOLE_NUMBER

PROBED_MODEL = click.option("--model", "-m", metavar="NAME", help="Model to probe; see: vcorr list models.")
PROBES = click.option("--probe", "-p", metavar="P[,P]", help="Probes, all read in one pass; see: vcorr list probes.")
DATA = click.option(
    "--data", metavar="NAME", help="Dataset (vcorr list datasets) or video file.  [default: the model's own]"
)
PROMPT = click.option("--prompt", metavar="TEXT", help="Generate from this one prompt.")
MODE = click.option(
    "--mode", metavar="renoise|generate|invert", help="What the model does with a clip; see docs/protocol.md."
)
STEPS_READ = click.option(
    "--steps", metavar="0,10-20", help="Steps: indices and ranges, 'last', 'all', 'N-spread'.  [default: 8-spread]"
)
VAE_TILING = click.option("--vae-tiling", is_flag=True, help="Encode the video tile by tile.")
ASSIGNMENTS = click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any option, e.g. --set probe.heads=each."
)
SAVE_VIDEOS = click.option(
    "--save-videos", is_flag=True, help="Draw query, predicted and reference tracks over every clip, as mp4."
)
GENERATING_MODEL = click.option("--model", "-m", metavar="NAME", help="Model that generates; see: vcorr list models.")
LIMIT_CLIPS = click.option("--limit", type=WHOLE_NUMBER, metavar="N", help="Only the first N clips.")
LIMIT_PROMPTS = click.option("--limit", type=WHOLE_NUMBER, metavar="N", help="Only the first N prompts.")
LAYERS_READ = click.option("--layers", metavar="1,5-9", help="Layers to read.  [default: all]")
NUM_STEPS = click.option(
    "--num-steps", type=WHOLE_NUMBER, metavar="N", help="Steps of the sampler.  [default: the model's own]"
)
CFG = click.option("--cfg", type=NUMBER, metavar="STRENGTH", help="Strength of classifier-free guidance; 1 for none.")
SEED = click.option("--seed", type=WHOLE_NUMBER, metavar="S", help="Seed of the noise.  [default: 42]")
SCORING_TRACKER = click.option(
    "--tracker", metavar="NAME", help="Tracker for the scores; see: vcorr list trackers.  [default: dis]"
)
DATA_ROOT = click.option(
    "--data-root", metavar="PATH", help="Folder of the dataset's files; means --set data.path=PATH."
)
DEVICE = click.option("--device", metavar="DEVICE", help="cpu, cuda, cuda:1 ...  [default: cuda if there is one]")
DEVICES = click.option(
    "--device", metavar="DEVICE", help="cpu, cuda, cuda:1, cuda:0,cuda:1 ...  [default: every GPU, else cpu]"
)
DTYPE = click.option(
    "--dtype", metavar="DTYPE", help="float32, bfloat16 or float16.  [default: bfloat16 on cuda, else float32]"
)
WEIGHTS = click.option(
    "--weights", metavar="hub|random|PATH", help="Weights: the released ones, seeded random ones, or a folder."
)
OFFLOAD = click.option("--offload", is_flag=True, help="Keep parts of the model on the CPU while they are not used.")
OUT_RUNS = click.option(
    "--out", type=RESULTS, default=Path("runs"), show_default=True, help="Folder of runs, or its URL, as s3://…"
)
REUSE = click.option(
    "--reuse",
    type=click.Choice(["never", "matching", "only"]),
    default="matching",
    show_default=True,
    help="Earlier results: continue from them (matching), compute nothing new (only), or start a new run (never).",
)
EXECUTOR = click.option(
    "--executor", metavar="NAME", help="Where the clips are computed: local, submitit or ray.  [default: local]"
)
WORKERS = click.option(
    "--workers", type=WHOLE_NUMBER, metavar="N", help="Processes that share the clips.  [default: one per GPU]"
)
PARALLEL = click.option(
    "--parallel", metavar="ulysses:N", help="N GPUs share every pass of the model; see docs/scaling.md."
)
DRY_RUN = click.option(
    "--dry-run", is_flag=True, help="Print what would run, its time, memory and disk, and what is missing."
)
RESULTS_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Results as JSON on standard output.")
FACTS_AS_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON on standard output.")


def add_spec_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the flags that say what a run probes, and where. `vcorr run` and `vcorr sweep` have all of them."""
    return reduce(lambda made, flag: flag(made), reversed(_SPEC_FLAGS), command)


_SPEC_FLAGS = (
    PROBED_MODEL,
    PROBES,
    DATA,
    PROMPT,
    MODE,
    LAYERS_READ,
    STEPS_READ,
    LIMIT_CLIPS,
    SEED,
    CFG,
    OUT_RUNS,
    DEVICES,
    DTYPE,
    WEIGHTS,
    OFFLOAD,
    VAE_TILING,
    REUSE,
    EXECUTOR,
    WORKERS,
    PARALLEL,
)
"""In the order in which the help shows them."""
