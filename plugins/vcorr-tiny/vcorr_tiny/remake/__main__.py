"""Makes the networks of the embedded model again: ``python -m vcorr_tiny.remake run``.

Trains the autoencoder unless one is given, then three seeds side by side, one per device. Baselines are measured
meanwhile, on processor cores of their own. Then the seed to ship is chosen, and everything is measured. The same
command goes on after an interruption. ``pack`` writes archives of what is finished. ``adopt`` puts the result into the
checkout.
"""

from __future__ import annotations

import argparse
import math
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from vcorr import UsageError, VcorrError
from vcorr.cli.stopping import stop_in_order
from vcorr_tiny.command_runs import count_cores, end, read_count, read_share
from vcorr_tiny.network_folder import SEEDS, VARIABLE
from vcorr_tiny.remake.adopting import PLUGIN, adopt
from vcorr_tiny.remake.choosing import assemble_networks
from vcorr_tiny.remake.packing import MOST_BYTES, pack
from vcorr_tiny.remake.recipe import COPIES, NETWORKS, RUNS, VAE, Recipe, is_finished
from vcorr_tiny.remake.workers import Cores, Workers, name_devices, read_devices, say, share_cores


@dataclass(frozen=True)
class Measuring:
    """What is measured. only, limit: as `vcorr_tiny.measure` takes them; "" and 0 for everything. jobs: at a time."""

    jobs: int
    only: str = ""
    limit: int = 0

    def make_words(self, out: Path, device: str, jobs: int, until: float) -> list[str]:
        """Returns the words of the command. until: seconds from now."""
        chosen = [*(["--only", self.only] if self.only else []), *(["--limit", str(self.limit)] if self.limit else [])]
        ends = ["--until", f"{until:.0f}"] if math.isfinite(until) else []
        where = ["--out", str(out / RUNS), "--copies", str(out / COPIES), "--device", device, "--jobs", str(jobs)]
        return ["vcorr_tiny.measure", *where, *chosen, *ends]


def remake(recipe: Recipe, measuring: Measuring, workers: Workers, devices: Sequence[str], kept: float = 0.0) -> None:
    """Trains networks, chooses one, and measures everything. kept: seconds for measuring, before the deadline.

    Raises:
        VcorrError: a stage failed, or time was up; the same call goes on.
    """
    recipe.keep(workers.out)
    cores = share_cores(len(devices))
    with _measure_baselines(measuring, workers, cores):
        _train_vae(recipe, workers, devices, cores)
        trainings = recipe.list_trainings(workers.out)
        missing = {name: words for name, words in trainings.items() if not is_finished(workers.out / name)}
        workers.train(missing, devices, cores, kept)
        _check_finished(workers.out, trainings)
        say(assemble_networks(workers.out, SEEDS).rstrip())
    environment = {VARIABLE: str((workers.out / NETWORKS).absolute()), "OMP_NUM_THREADS": "1"}
    words = measuring.make_words(workers.out, ",".join(devices), measuring.jobs, workers.seconds_left)
    workers.run_or_fail("measure", words, frozenset(), environment)


def _train_vae(recipe: Recipe, workers: Workers, devices: Sequence[str], cores: Cores) -> None:
    """Trains the autoencoder on all devices together, unless one was given or it is finished."""
    if not recipe.trains_vae or is_finished(workers.out / VAE):
        return
    device, environment = name_devices(devices)
    words = [*recipe.train_vae(workers.out), "--device", device]
    if math.isfinite(workers.deadline):
        words += ["--stop-after", f"{workers.seconds_left:.0f}"]
    count, port = str(len(devices)), str(_find_port())
    launcher = ["torch.distributed.run", "--nproc-per-node", count, "--master-port", port, "-m"]
    own: frozenset[int] = frozenset().union(*cores.trainings)
    workers.run_or_fail(VAE, [*(launcher if device == "cuda" else []), *words], own, environment)
    _check_finished(workers.out, [VAE])


def _find_port() -> int:
    """Returns a free port: the usual one may be in use, such as by a training that was killed just before."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _check_finished(out: Path, trainings: Iterable[str]) -> None:
    """Raises VcorrError if trainings were stopped before their end."""
    paused = [name for name in trainings if not is_finished(out / name)]
    if paused:
        raise VcorrError(f"Time is up before these were finished: {', '.join(paused)}.", hint="Repeat the command.")


@contextmanager
def _measure_baselines(measuring: Measuring, workers: Workers, cores: Cores) -> Iterator[None]:
    """Measures what needs no network during the block, on the cores that trainings leave. The block's end stops it."""
    beside = Workers(workers.out, workers.deadline)
    words = [*measuring.make_words(workers.out, "cpu", len(cores.rest), workers.seconds_left), "--without-networks"]
    environment = {"OMP_NUM_THREADS": "1"}
    thread = Thread(target=lambda: beside.run("baselines", words, cores.rest, environment))
    if cores.rest:
        thread.start()
    try:
        yield
    finally:
        beside.processes.stop()
        if cores.rest:
            thread.join()


def build_parser() -> argparse.ArgumentParser:
    """Builds the parser of the command line."""
    lines = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m vcorr_tiny.remake", description=__doc__, formatter_class=lines)
    commands = parser.add_subparsers(dest="command", required=True)
    taken = commands.add_parser("adopt", help="put the networks and their records into the checkout")
    taken.add_argument("out", type=Path, help="--out of a finished run")
    taken.add_argument("--plugin", type=Path, default=PLUGIN, help="folder of vcorr-tiny (default: %(default)s)")
    packed = commands.add_parser("pack", help="pack what is finished, also during a run")
    packed.add_argument("out", type=Path, help="--out of a run")
    packed.add_argument("--to", type=Path, required=True, help="folder of the archives; an earlier pack is replaced")
    packed.add_argument("--bytes", type=read_count, default=MOST_BYTES, help="of an archive (default: %(default)s)")
    _add_run(commands.add_parser("run", help="train, choose and measure"))
    return parser


def _add_run(run: argparse.ArgumentParser) -> None:
    recipe = Recipe(0)
    run.add_argument("--out", type=Path, default=Path("runs", "remake"), help="its folder (default: %(default)s)")
    run.add_argument("--device", default="cpu", help="such as cuda:0,cuda:1 (default: %(default)s)")
    run.add_argument("--steps", type=read_count, required=True, help="steps of each seed's transformer")
    run.add_argument("--vae", default=recipe.vae, help="autoencoder of all seeds (default: the package's)")
    run.add_argument("--vae-seconds", type=float, default=0.0, help="train an autoencoder so long, in place of --vae")
    run.add_argument("--vae-steps", type=int, default=0, help="train an autoencoder for so many steps")
    run.add_argument("--decoder-seconds", type=float, default=0.0, help="train the decoder on for so long")
    run.add_argument("--decoder-steps", type=int, default=0, help="train the decoder on for so many steps")
    run.add_argument("--pictures", default="", help="safetensors file of pictures, textures of half of the videos")
    run.add_argument("--plain", type=read_share, help="share of videos without faults (default: the trainer's)")
    run.add_argument(
        "--given", type=read_share, help="share of videos with frames without noise (default: the trainer's)"
    )
    run.add_argument("--small", action="store_true", help="the small model of the tests")
    run.add_argument("--until", type=float, default=math.inf, help="seconds after which everything is interrupted")
    kept = "seconds of --until that are kept for measuring: trainings are shortened to end before (default: 0)"
    run.add_argument("--keep", type=float, default=0.0, metavar="SECONDS", help=kept)
    run.add_argument("--jobs", type=read_count, default=count_cores(), help="processes that measure at a time")
    run.add_argument("--only", default="", metavar="NAME[,NAME]", help="measure only tasks that begin so")
    run.add_argument("--limit", type=int, default=0, help="clips that are measured (default: all)")


def _check_options(options: argparse.Namespace) -> list[str]:
    """Returns the devices.

    Raises:
        UsageError: an option could not be followed. Hours later, this would cost more.
    """
    if options.pictures and not Path(options.pictures).is_file():
        raise UsageError(f"{options.pictures} is no file.", hint="Name a safetensors file with --pictures.")
    if not options.keep < options.until:
        raise UsageError(f"--keep {options.keep:g} leaves no time of --until {options.until:g}.", hint="Keep less.")
    return read_devices(options.device)


def _pack(options: argparse.Namespace) -> int:
    """Packs what is finished; returns 1 if files are too large for an archive."""
    too_large = pack(options.out, options.to, options.bytes)
    sizes = [path.stat().st_size for path in options.to.glob("*.tar")]
    sys.stdout.write(f"Packed: {options.to}, {len(sizes)} archives, {sum(sizes) / 1e6:.1f} MB\n")
    sys.stdout.write("".join(f"Too large, not packed: {path}\n" for path in too_large))
    return 1 if too_large else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    started = time.monotonic()
    options = build_parser().parse_args(arguments)
    if options.command == "adopt":
        sys.stdout.write(adopt(options.out, options.plugin))
        return 0
    if options.command == "pack":
        return _pack(options)
    recipe = Recipe(**{name: getattr(options, name) for name in Recipe.__dataclass_fields__})
    devices = _check_options(options)
    measuring = Measuring(options.jobs, options.only, options.limit)
    with stop_in_order():
        remake(recipe, measuring, Workers(options.out, started + options.until), devices, options.keep)
    sys.stdout.write(f"Networks: {options.out / NETWORKS}, copies: {options.out / COPIES}\n")
    return 0


if __name__ == "__main__":
    end(main)
