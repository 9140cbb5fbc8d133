"""Writes the photographs of one split to a file, for training on a machine without scikit-image."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vcorr import VcorrError
from vcorr_tiny.photos.reading import pictures_of
from vcorr_tiny.sprites.split_names import SPLITS


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    options = _build_parser().parse_args(arguments)
    try:
        pictures = pictures_of(options.split)
        pictures.save(options.file)
    except VcorrError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(f"{options.file}: {', '.join(pictures.names)}\n")
    return 0


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m vcorr_tiny.photos", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    export = commands.add_parser("export", help="write the photographs of a split as one safetensors file")
    export.add_argument("file", type=Path, metavar="FILE.safetensors")
    export.add_argument("--split", choices=SPLITS, default="train", help="default: train")
    return parser


if __name__ == "__main__":
    sys.exit(main())
