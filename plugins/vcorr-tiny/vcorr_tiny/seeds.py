"""Finds the networks of the training seeds of the embedded model: `--weights seed:0`, `seed:1`, `seed:2`.

All seeds were trained by one recipe on the latents of one autoencoder. The network of one seed comes with this package.
A checkout may hold the others in `plugins/vcorr-tiny/training/seeds`, outside the wheel: denoiser and text encoder,
without the parts that all seeds share. `VCORR_TINY_NETWORKS` names another folder (`vcorr_tiny.network_folder`).

``python -m vcorr_tiny.seeds 1 --out FOLDER`` writes a whole pipeline folder, for diffusers alone.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from vcorr import MissingError, UsageError, unknown_name
from vcorr.diffusion import check_pipeline_folder, folder_identity
from vcorr_tiny.command_runs import end
from vcorr_tiny.network_folder import SEEDS, find_networks

PREFIX = "seed:"
"""The beginning of `--weights seed:N`."""
OWN_PARTS = ("transformer", "text_encoder")
"""The components of a pipeline that a seed has for itself."""
_CLASS = "CogVideoXPipeline"


def read_seed(weights: str) -> int:
    """Returns the seed that the value of `--weights` names.

    Raises:
        UsageError: it is not one of `SEEDS`.
    """
    named = weights.removeprefix(PREFIX)
    if named not in map(str, SEEDS):
        raise unknown_name("training seed", named, list(map(str, SEEDS)))
    return int(named)


def find_parts(seed: int) -> Path:
    """Returns the folder with the components that a seed has for itself.

    Raises:
        MissingError: this installation does not have it.
    """
    networks = find_networks()
    folder, shipped = networks.find_own(seed), networks.facts.shipped
    if not all((folder / part / "config.json").is_file() for part in OWN_PARTS):
        raise MissingError(
            f"This installation of vcorr-tiny has no network of training seed {seed}. It would be in {folder}.",
            hint=f"Install vcorr-tiny from a checkout that holds plugins/vcorr-tiny/training/seeds/{seed}, or leave "
            f"--weights out for seed {shipped}.",
        )
    return folder


def find_pipeline(seed: int) -> Path:
    """Returns a pipeline folder of a seed that is not in the package.

    It is made once, in the cache of this user, of links to the components: `$XDG_CACHE_HOME/vcorr`, or
    `~/.cache/vcorr`. Its name changes with the content of the components.

    Raises:
        MissingError: this installation lacks a component.
        UsageError: the folder cannot be made.
    """
    own = find_parts(seed)
    made = _cache() / f"tiny-seed-{seed}-{folder_identity(own)}-{folder_identity(find_networks().pipeline)}"
    if not made.is_dir():
        join_parts(own, made)
    check_pipeline_folder(made, _CLASS)
    return made


def join_parts(own: Path, out: Path) -> None:
    """Makes the pipeline folder `out` of the components of a seed, in `own`, and of the shared ones.

    It appears whole: processes that make it at the same time do not disturb each other.

    Raises:
        UsageError: the folder cannot be made.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        waiting = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        try:
            for part in sorted(find_networks().pipeline.iterdir()):
                source = own / part.name if part.name in OWN_PARTS else part
                _link_tree(source, waiting / part.name)
            _rename_once(waiting, out)
        finally:
            shutil.rmtree(waiting, ignore_errors=True)
    except OSError as error:
        raise UsageError(
            f"{out} cannot be made: {error.strerror or error}.",
            hint="Choose another folder for caches with the environment variable XDG_CACHE_HOME.",
        ) from error


def _link_tree(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, copy_function=_link)
    else:
        _link(str(source), str(target))


def _link(source: str, target: str) -> None:
    """Links a file, or copies it where the file system does not link."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _rename_once(waiting: Path, out: Path) -> None:
    """Renames a folder, unless another process made `out` meanwhile."""
    try:
        waiting.rename(out)
    except OSError:
        if not out.is_dir():
            raise


def _cache() -> Path:
    named = os.environ.get("XDG_CACHE_HOME")
    return (Path(named) if named else Path.home() / ".cache") / "vcorr"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m vcorr_tiny.seeds", description="Write a seed's pipeline folder.")
    parser.add_argument("seed", help=f"one of {', '.join(map(str, SEEDS))}")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    options = parser.parse_args(arguments)
    seed = read_seed(options.seed)
    if options.out.exists():
        raise UsageError(f"{options.out} exists already.", hint="Name a new folder.")
    join_parts(find_parts(seed), options.out)
    sys.stdout.write(f"{options.out}\n")
    return 0


if __name__ == "__main__":
    end(main)
