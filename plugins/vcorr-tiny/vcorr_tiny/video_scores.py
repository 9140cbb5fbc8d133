"""Validates scores of generated videos where the truth is known: ``python -m vcorr_tiny.video_scores --docs docs``.

Faults of fixed doses (`fault_doses`) are injected into rendered clips, and every score is computed on every dose. A
score that sees a fault rises or falls with its dose. All scores and all faults are reported, whatever they show.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vcorr import Queries, Tracks, VideoTracks, query_grid
from vcorr.plugins.builtin import video_metrics
from vcorr.store.arrow_files import write_table
from vcorr.trackers import ENTRIES
from vcorr_tiny.command_runs import end
from vcorr_tiny.fault_doses import CLIPS, INJECTED, LEVEL, SPLIT, InjectedFault
from vcorr_tiny.statements import write_blocks

POINTS = 16
"""Points along one side of the grid of queries in frame 0."""
TRACKERS = ("dis", "lk")
PIXELS = ("frame-changes", "subject-drift")
"""Metrics that read no tracks; their rows have no tracker."""
SCHEMA = pa.schema(
    [
        ("fault", pa.string()),
        ("dose", pa.float32()),
        ("clip", pa.string()),
        ("tracker", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float32()),
        ("n", pa.int32()),
        ("higher_is_better", pa.bool_()),
    ]
)


class Found(NamedTuple):
    """One score of a video. metric: the column. tracker: "" for scores that read no tracks."""

    tracker: str
    metric: str
    value: float
    n: int
    higher_is_better: bool


@dataclass(frozen=True)
class ScoreRow:
    """One score of one clip at one dose of a fault; the other fields are as in `Found`."""

    fault: str
    dose: float
    clip: str
    tracker: str
    metric: str
    value: float
    n: int
    higher_is_better: bool


# ------------------------------------------------------------------------------------------------------------ measuring


def measure(out: Path, clips: int, jobs: int) -> pa.Table:
    """Scores every dose of every fault on the first clips, and returns all rows; clips that are stored are read."""
    folder = out / settings_digest()
    folder.mkdir(parents=True, exist_ok=True)
    score = partial(score_stored, folder)
    if jobs == 1:
        tables = [score(index) for index in range(clips)]
    else:
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            tables = list(pool.map(score, range(clips)))
    return pa.concat_tables(tables)


def settings_digest() -> str:
    """Returns a hash of what decides the scores: doses, clips, points, trackers and metrics with their versions."""
    versions = [(entry.name, entry.version) for entry in (*video_metrics(), *ENTRIES)]
    said = repr((INJECTED, LEVEL, SPLIT, POINTS, TRACKERS, versions))
    return hashlib.sha256(said.encode()).hexdigest()[:12]


def score_stored(folder: Path, index: int) -> pa.Table:
    """Returns the rows of a clip from its file, or scores it and writes the file."""
    return read_or_make(folder / f"{SPLIT}-{index:04d}.arrow", lambda: score_clip(index))


def read_or_make(path: Path, make: Callable[[], Iterable[ScoreRow]]) -> pa.Table:
    """Returns the rows in a file. If it is not there or damaged, they are made and written."""
    try:
        table = pa.ipc.open_file(path).read_all()
    except (OSError, pa.ArrowException):
        table = None
    if table is None or not table.schema.equals(SCHEMA):
        table = pa.Table.from_pylist([asdict(row) for row in make()], SCHEMA)
        write_table(path, table)
    return table


def score_clip(index: int, *, size: int = 128, frames: int = 17) -> Iterator[ScoreRow]:
    """Yields the scores of one clip at every dose of every fault. The clean clip is scored once for all faults."""
    from vcorr_tiny.sprites.injections import render_injected

    known: dict[tuple[str, float], list[Found]] = {}
    for fault in INJECTED:
        for dose in fault.doses:
            key = ("", 0.0) if is_clean(fault, dose) else (fault.name, dose)
            if key not in known:
                known[key] = list(score_all(render_injected(fault, dose, SPLIT, index, size=size, frames=frames)))
            for found in known[key]:
                yield ScoreRow(fault.name, dose, f"{SPLIT}-{index:04d}", **found._asdict())


def is_clean(fault: InjectedFault, dose: float) -> bool:
    """Returns whether the clip is as it is rendered: no fault, or the control at its usual speed."""
    return dose == (0 if fault.is_fault else fault.worst)


def score_all(video: NDArray[np.uint8]) -> Iterator[Found]:
    """Yields every score of a video (T, H, W, 3)."""
    followed = {tracker: follow_grid(video, tracker) for tracker in TRACKERS}
    for entry in video_metrics():
        metric = entry.create()
        reads_pixels = entry.name in PIXELS
        for tracker in TRACKERS[:1] if reads_pixels else TRACKERS:
            for column, score in metric.score_video(video, followed[tracker]).items():
                yield Found("" if reads_pixels else tracker, column, score.value, score.n, metric.higher_is_better)


def follow_grid(video: NDArray[np.uint8], name: str) -> VideoTracks:
    """Follows a grid of points through a video (T, H, W, 3) and back, with a tracker at its default options."""
    tracker = next(entry for entry in ENTRIES if entry.name == name).create()
    height, width = video.shape[1:3]
    forward: Tracks = tracker.track(video, Queries.at(query_grid(POINTS, height, width)))
    ends = np.clip(forward.xy[:, -1], 0, [width, height])
    return VideoTracks(forward, tracker.track(video, Queries.at(ends, len(video) - 1)))


# ----------------------------------------------------------------------------------------------------------------- page


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    description = (__doc__ or "").split("\n\n", maxsplit=1)[0]
    parser = argparse.ArgumentParser(prog="python -m vcorr_tiny.video_scores", description=description)
    parser.add_argument("--out", type=Path, default=Path("runs/video-scores"), help="folder (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=CLIPS, help="clips (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="clips at a time (default: %(default)s)")
    parser.add_argument("--keep", type=Path, help="folder that keeps the table of all scores")
    parser.add_argument("--docs", type=Path, help="docs folder whose page and pictures are updated")
    options = parser.parse_args(arguments)
    table = measure(options.out, options.limit, options.jobs)
    for folder in filter(None, (options.out, options.keep)):
        folder.mkdir(parents=True, exist_ok=True)
        write_table(folder / "video-scores.arrow", table)
    from vcorr_tiny.video_score_tables import page_blocks

    blocks = page_blocks(table)
    if options.docs:
        from vcorr_tiny.video_score_charts import draw_all

        write_blocks(options.docs / "video-scores.md", blocks)
        draw_all(table, options.docs / "images")
    sys.stdout.write("\n\n".join(blocks.values()) + "\n")
    return 0


if __name__ == "__main__":
    end(main)
