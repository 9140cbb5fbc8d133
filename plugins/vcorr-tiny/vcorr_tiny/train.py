"""Trains the embedded model.

The shipped weights were trained on an H200 with
``python -m vcorr_tiny.train run --out runs/tiny --vae-seconds 300 --dit-seconds 820``. The same command continues a
stopped run (for instance by ``--stop-after``) from the checkpoint in ``--state``. When both stages are finished, it
measures the model, draws sample sheets and writes the pipeline folder. The commands ``evaluate``, ``sheets`` and
``export`` do these one at a time.

``run --from FOLDER`` continues to train the denoiser of a finished pipeline and does not change its autoencoder.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from vcorr_tiny.networks import TinyConfig
from vcorr_tiny.training.dit import DitSettings
from vcorr_tiny.training.run import Log, Run
from vcorr_tiny.training.stages import Training
from vcorr_tiny.training.vae import VaeSettings

SMALL = TinyConfig(size=32, frames=9, vae_channels=(8, 8, 8), latent_channels=4, layers=2, heads=2, head_dim=32)
"""A model for tests, which trains a few steps on a CPU in seconds; its videos are too small to look at."""


def build_parser() -> argparse.ArgumentParser:
    """Builds the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m vcorr_tiny.train", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="train, continuing from --state if it holds a checkpoint")
    evaluate = commands.add_parser("evaluate", help="matching and reconstruction of a checkpoint, as JSON")
    sheets = commands.add_parser("sheets", help="sample, reconstruction and data sheets of a checkpoint")
    export = commands.add_parser("export", help="write the pipeline folder of a checkpoint")
    for command in (run, evaluate, sheets, export):
        _add_common(command)
    _add_training(run)
    for command in (run, evaluate):
        command.add_argument("--clips", type=int, default=128, help="validation videos of the final measurement")
    for command in (run, sheets):
        command.add_argument("--sample-steps", type=int, default=30, help="denoising steps of samples; 0: no sheets")
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="folder for log.jsonl, sheets and the pipeline")
    parser.add_argument("--state", type=Path, help="checkpoint folder (default: OUT/state)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--small", action="store_true", help="the small model of the tests, for a few seconds on a CPU")


def _add_training(parser: argparse.ArgumentParser) -> None:
    vae, dit = VaeSettings(), DitSettings()
    parser.add_argument(
        "--from", dest="start", type=Path, help="pipeline folder to start from, unless --state holds a checkpoint"
    )
    parser.add_argument("--vae-seconds", type=float, default=0.0, help="time budget of the autoencoder stage")
    parser.add_argument("--vae-steps", type=int, default=0, help="its budget in steps; the first limit reached ends it")
    parser.add_argument("--dit-seconds", type=float, default=0.0, help="time budget of the transformer stage")
    parser.add_argument("--dit-steps", type=int, default=0, help="its budget in steps; the first limit reached ends it")
    parser.add_argument("--stop-after", type=float, default=float("inf"), help="seconds after which to save and stop")
    parser.add_argument("--vae-batch", type=int, default=vae.batch)
    parser.add_argument("--dit-batch", type=int, default=dit.batch)
    parser.add_argument("--pool", type=int, default=dit.pool, help="encoded videos from which batches are drawn")
    parser.add_argument("--fresh", type=int, default=dit.fresh, help="new videos per step")
    parser.add_argument("--log-every", type=int, default=vae.log_every, help="steps between log records")
    parser.add_argument("--measure-every", type=int, default=500, help="steps between measurements; 0: only at the end")
    parser.add_argument("--measure-clips", type=int, default=32, help="validation videos per measurement")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--compact", type=Path, help="folder for a second checkpoint, bfloat16 without moments")


def make_run(arguments: argparse.Namespace) -> Run:
    """Returns the settings that all commands share."""
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    run = Run(
        config=SMALL if arguments.small else TinyConfig(),
        seed=arguments.seed,
        device=torch.device(arguments.device),
        log=Log(arguments.out / "log.jsonl"),
    )
    return replace(run, deadline=time.monotonic() + getattr(arguments, "stop_after", float("inf")))


def make_training(arguments: argparse.Namespace) -> Training:
    """Returns the training state of a command, restored from its checkpoint if there is one."""
    training = Training(make_run(arguments), arguments.state or arguments.out / "state")
    if arguments.command == "run":
        training.vae_budget.steps, training.vae_budget.seconds = arguments.vae_steps, arguments.vae_seconds
        training.dit_budget.steps, training.dit_budget.seconds = arguments.dit_steps, arguments.dit_seconds
        training.vae_settings = VaeSettings(batch=arguments.vae_batch, log_every=arguments.log_every)
        training.dit_settings = DitSettings(
            batch=arguments.dit_batch,
            pool=arguments.pool,
            fresh=arguments.fresh,
            log_every=arguments.log_every,
            compile=not arguments.no_compile,
        )
    if getattr(arguments, "start", None) and not training.has_checkpoint:
        training.start_from(arguments.start)
    training.resume()
    return training


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    arguments = build_parser().parse_args(argv)
    training = make_training(arguments)
    finished = True
    if arguments.command == "run":
        finished = training.train(arguments.measure_every, arguments.measure_clips)
        training.save(training.state)
        if arguments.compact:
            training.save(arguments.compact, compact=True)
    if finished and arguments.command in ("run", "export"):
        training.export(arguments.out / "pipe")
    if finished and arguments.command in ("run", "evaluate"):
        results = training.evaluate(arguments.clips)
        (arguments.out / "evaluation.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if finished and arguments.command in ("run", "sheets") and arguments.sample_steps:
        training.draw_sheets(arguments.out, arguments.sample_steps)
    training.run.log.write("finished" if finished else "paused")


if __name__ == "__main__":
    main()
