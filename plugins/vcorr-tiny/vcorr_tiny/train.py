"""Trains the embedded model, on one GPU or, started by torchrun, on several of one machine.

The autoencoder is trained once::

    torchrun --nproc-per-node 2 -m vcorr_tiny.train run --out runs/vae --vae-seconds 500 --pictures train.safetensors

Each denoiser starts from it, with a seed of its own and the same number of steps::

    torchrun --nproc-per-node 2 -m vcorr_tiny.train run --out runs/seed-0 --vae runs/vae/state --seed 0 \\
        --dit-steps 9000 --pictures train.safetensors

Without torchrun, the same commands train in one process. A run that ``--stop-after`` stopped continues when its command
is repeated. The learning rate depends on the number of steps in the last fifth alone; until then the number may change.
When a denoiser is finished, the command measures the model, draws sample sheets and writes the pipeline folder. The
commands ``evaluate``, ``sheets`` and ``export`` do these one at a time. ``compare`` chooses one of several finished
denoisers by their validation clips.

``run --vae FOLDER --decoder-only --vae-seconds 250`` trains the decoder of a finished autoencoder on. Its encoder stays
bit for bit, so all denoisers stay valid: ``export --vae`` puts them together with the new decoder.

``run --from FOLDER`` continues to train the denoiser of a finished pipeline and does not change its autoencoder. A
lower ``--dit-rate`` keeps more of what it has learnt. ``--focus`` and ``--plain`` train outlines more: they draw more
timesteps where samples get their outlines, and more videos without faults. ``--given 0`` puts noise on all frames of
all videos; by default, one or two latent frames of half of the videos have none.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from vcorr import UsageError, VcorrError
from vcorr_tiny.command_runs import read_share
from vcorr_tiny.networks import TinyConfig
from vcorr_tiny.sprites.pictures import Pictures
from vcorr_tiny.training import results
from vcorr_tiny.training.choice import comparison, read_candidate
from vcorr_tiny.training.dit import DitSettings
from vcorr_tiny.training.ranks import join
from vcorr_tiny.training.run import Log, Run
from vcorr_tiny.training.stages import Training
from vcorr_tiny.training.vae import VaeSettings

SMALL = TinyConfig(size=32, frames=9, vae_channels=(8, 8, 8), latent_channels=4, layers=2, heads=2, head_dim=32)
"""A model for tests, which trains a few steps on a CPU in seconds; its videos are too small to look at."""


def build_parser() -> argparse.ArgumentParser:
    """Builds the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m vcorr_tiny.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="train, continuing from --state if it holds a checkpoint")
    evaluate = commands.add_parser("evaluate", help="matching and reconstruction of a checkpoint, as JSON")
    sheets = commands.add_parser("sheets", help="sample, reconstruction and data sheets of a checkpoint")
    export = commands.add_parser("export", help="write the pipeline folder of a checkpoint")
    for command in (run, evaluate, sheets, export):
        _add_common(command)
    _add_training(run)
    compare = commands.add_parser("compare", help="compare finished denoisers of one autoencoder, and choose one")
    compare.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="--out of a finished training")
    for command in (run, export):
        command.add_argument(
            "--denoiser-only", action="store_true", help="export no autoencoder, for a model that shares it"
        )
    for command in (run, evaluate):
        command.add_argument("--clips", type=int, default=128, help="validation videos of the final measurement")
        command.add_argument("--levels", action="store_true", help="measure at the end on every level")
    for command in (run, sheets):
        command.add_argument("--sample-steps", type=int, default=30, help="denoising steps of samples; 0: no sheets")
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="folder for log.jsonl, sheets and the pipeline")
    parser.add_argument("--state", type=Path, help="checkpoint folder (default: OUT/state)")
    parser.add_argument(
        "--vae", type=Path, help="pipeline or checkpoint folder whose finished autoencoder the denoiser uses"
    )
    parser.add_argument("--pictures", type=Path, help="safetensors file of pictures, textures of half of the videos")
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
    parser.add_argument(
        "--decoder-only", action="store_true", help="train the decoder of --vae on, and keep its encoder and latents"
    )
    parser.add_argument("--dit-seconds", type=float, default=0.0, help="time budget of the transformer stage")
    parser.add_argument("--dit-steps", type=int, default=0, help="its budget in steps; the first limit reached ends it")
    parser.add_argument("--stop-after", type=float, default=float("inf"), help="seconds after which to save and stop")
    within = "seconds within which training ends: budgets are shortened to it, and the rates still fall to their end"
    parser.add_argument("--finish-within", type=float, default=float("inf"), metavar="SECONDS", help=within)
    parser.add_argument("--vae-batch", type=int, default=vae.batch, help="videos per step, of all processes")
    parser.add_argument("--dit-batch", type=int, default=dit.batch, help="videos per step, of all processes")
    parser.add_argument("--dit-rate", type=float, default=dit.rate, help="learning rate of the denoiser")
    parser.add_argument("--focus", type=float, default=dit.focus, help="share of timesteps drawn between 400 and 900")
    parser.add_argument("--plain", type=read_share, default=dit.plain, help="share of videos without faults")
    parser.add_argument("--given", type=read_share, default=dit.given, help="share of videos with frames without noise")
    parser.add_argument("--pool", type=int, default=dit.pool, help="encoded videos from which batches are drawn")
    parser.add_argument("--fresh", type=int, default=dit.fresh, help="new videos per refill and process")
    parser.add_argument("--refill-every", type=int, default=dit.refill_every, help="steps between refills")
    parser.add_argument("--log-every", type=int, default=vae.log_every, help="steps between log records")
    parser.add_argument("--measure-every", type=int, default=500, help="steps between measurements; 0: only at the end")
    parser.add_argument("--measure-clips", type=int, default=32, help="validation videos per measurement")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--compact", type=Path, help="folder for a second checkpoint: averages in bfloat16")


def make_run(arguments: argparse.Namespace) -> Run:
    """Returns the settings that all commands share; under torchrun, joins the other processes."""
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    deadline = time.monotonic() + getattr(arguments, "stop_after", float("inf"))
    ranks = join(torch.device(arguments.device))
    return Run(
        config=SMALL if arguments.small else TinyConfig(),
        seed=arguments.seed,
        device=ranks.device,
        log=Log(arguments.out / "log.jsonl", silent=not ranks.first),
        deadline=deadline,
        ranks=ranks,
    )


def make_training(arguments: argparse.Namespace) -> Training:
    """Returns the training state of a command, restored from its checkpoint if there is one."""
    run = make_run(arguments)
    pictures = Pictures.load(arguments.pictures, run.device) if arguments.pictures else None
    training = Training(run, arguments.state or arguments.out / "state", pictures)
    if arguments.command == "run":
        _set_budgets(training, arguments)
    if getattr(arguments, "decoder_only", False):
        if not arguments.vae:
            raise UsageError("--decoder-only needs a finished autoencoder.", hint="Name its folder with --vae.")
        training.tune_decoder(arguments.vae)
    elif arguments.vae:
        training.share_vae(arguments.vae)
    if getattr(arguments, "start", None) and not training.has_checkpoint:
        training.start_from(arguments.start)
    training.resume()
    return training


def _set_budgets(training: Training, arguments: argparse.Namespace) -> None:
    training.finish_by = time.monotonic() + arguments.finish_within
    training.vae_budget.steps, training.vae_budget.seconds = arguments.vae_steps, arguments.vae_seconds
    training.dit_budget.steps, training.dit_budget.seconds = arguments.dit_steps, arguments.dit_seconds
    training.vae_settings = VaeSettings(
        batch=arguments.vae_batch, log_every=arguments.log_every, clips=arguments.measure_clips
    )
    training.dit_settings = DitSettings(
        batch=arguments.dit_batch,
        pool=arguments.pool,
        fresh=arguments.fresh,
        refill_every=arguments.refill_every,
        rate=arguments.dit_rate,
        focus=arguments.focus,
        plain=arguments.plain,
        given=arguments.given,
        log_every=arguments.log_every,
        compile=not arguments.no_compile,
    )


def train(training: Training, arguments: argparse.Namespace) -> bool:
    """Trains until the budgets or this invocation end; saves, and returns whether all budgets are used."""
    finished = training.train(arguments.measure_every, arguments.measure_clips)
    training.save(training.state)
    if arguments.compact:
        training.save(arguments.compact, compact=True)
    training.run.ranks.leave()
    return finished


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    arguments = build_parser().parse_args(argv)
    if arguments.command == "compare":
        sys.stdout.write(comparison([read_candidate(folder) for folder in arguments.folders]))
        return
    training = make_training(arguments)
    finished = arguments.command != "run" or train(training, arguments)
    if finished and training.run.ranks.first:
        if arguments.command in ("run", "sheets") and arguments.sample_steps:
            _draw_videos(training, arguments.out)
        if arguments.command == "run" and not training.has_denoiser:
            results.export_vae(training.autoencoder(), arguments.out / "pipe")
        if training.has_denoiser or arguments.command in ("evaluate", "export"):
            _leave_results(training, arguments)
    training.run.log.write("finished" if finished else "paused")


def _draw_videos(training: Training, folder: Path) -> None:
    results.draw_data(training.run, folder)
    vae, pictures = training.autoencoder(), training.pictures
    results.draw_reconstructions(training.run, vae, pictures, folder / "tiny-vae.png")


def _leave_results(training: Training, arguments: argparse.Namespace) -> None:
    model = training.take_model()
    if arguments.command in ("run", "export"):
        results.export(model, arguments.out / "pipe", arguments.denoiser_only)
    if arguments.command in ("run", "evaluate"):
        found = results.evaluate(model, arguments.clips, arguments.levels)
        (arguments.out / "evaluation.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if arguments.command in ("run", "sheets") and arguments.sample_steps:
        results.draw_samples(model, arguments.out / "tiny-samples.png", arguments.sample_steps)


if __name__ == "__main__":
    try:
        main()
    except VcorrError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
