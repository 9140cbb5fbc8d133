"""Measures trackers against the exact tracks of a dataset: `python -m vcorr.bench.trackers --data sprites`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

from vcorr.bench.tracker_errors import evaluate, table
from vcorr.contract.errors import UsageError, VcorrError
from vcorr.plugins import registry
from vcorr.runner.called_tracker import CalledTracker
from vcorr.runner.parts import make_part
from vcorr.runner.run_data import ClipReader


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m vcorr.bench.trackers", description=(__doc__ or "").split(":")[0] + "."
    )
    parser.add_argument("--data", default="sprites", help="dataset with exact tracks (default: %(default)s)")
    parser.add_argument("--trackers", default="dis,lk", help="names, comma-separated (default: %(default)s)")
    parser.add_argument("--limit", type=int, help="the first N clips (default: all)")
    parser.add_argument("--set", action="append", default=[], metavar="data.KEY=VALUE", help="an option of the dataset")
    options = parser.parse_args(arguments)
    try:
        chosen = _read_options(options.set)
        sys.stdout.write(measure(options.data, options.trackers.split(","), options.limit, chosen) + "\n")
    except VcorrError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def _read_options(given: Sequence[str]) -> dict[str, str]:
    """Returns the options of the dataset by name, from texts data.KEY=VALUE; raises UsageError for any other text."""
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name.startswith("data.") or not equals:
            raise UsageError(f"--set {text!r} is not data.KEY=VALUE.", hint="For example: --set data.level=hard")
        found[name.removeprefix("data.")] = value
    return found


def measure(data: str, trackers: Sequence[str], limit: int | None, options: Mapping[str, str] | None = None) -> str:
    """Returns the table, under a line that names the data with its options, the split and the number of clips.

    Raises:
        UsageError: a name or an option is unknown, or a clip has no exact tracks.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"--limit must be at least 1, got {limit}.")
    asked = dict(options or {})
    dataset = open_dataset(data, asked)
    chosen = {name: open_tracker(name) for name in map(str.strip, trackers)}
    ids = list(dataset.ids())[:limit]
    reports = {name: evaluate(tracker, (dataset.clip(i) for i in ids)) for name, tracker in chosen.items()}
    named = " ".join([data, *(f"{key}={value}" for key, value in asked.items())])
    return f"{named}, split {dataset.split}, {len(ids)} clips\n\n{table(reports)}"


def open_dataset(name: str, options: Mapping[str, str]) -> ClipReader:
    """Returns a dataset with options as texts; raises UsageError if the name or an option is unknown."""
    return ClipReader(make_part(registry.installed().datasets.get(name), dict(options), "data"))


def open_tracker(name: str) -> CalledTracker:
    """Returns a tracker with its default options; raises UsageError if the name is unknown."""
    return CalledTracker(make_part(registry.installed().trackers.get(name), {}, "tracker"))


if __name__ == "__main__":
    sys.exit(main())
