"""Measures how far generated layers depart from rigid motion: ``python -m vcorr_tiny.rigid_scores --docs docs``.

First on rendered clips, where the departure is known: with exact tracks and layers, with layers that are found, and
with tracks of a tracker. Then on videos that the embedded model generates from captions, next to the rendered clips of
the same captions under the same tracker.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vcorr import StoreError, Tracks, query_grid
from vcorr.data.dataset_options import RunVideosConfig
from vcorr.runner.generated_videos import RunVideos
from vcorr.stats.intervals import mean_interval
from vcorr.store.arrow_files import write_table
from vcorr.store.rundir import RunDirectory, find_runs
from vcorr_tiny.command_runs import Call, Command, Work, end
from vcorr_tiny.dataset import Sprites, SpritesConfig
from vcorr_tiny.fault_doses import MELT, SPLIT
from vcorr_tiny.measurements import Kept, Measurement, copy_picture
from vcorr_tiny.rigid_layers import RigidLayers, score_departure
from vcorr_tiny.statements import Difference, write_blocks
from vcorr_tiny.task_pool import Task
from vcorr_tiny.video_scores import POINTS, SCHEMA, TRACKERS, ScoreRow, follow_grid, read_or_make, settings_digest

CLIPS = 16
DRAWN = 3
"""Captions whose videos are drawn."""
METRIC = RigidLayers.primary
KNOWN, FOUND = "exact tracks, known layers", "exact tracks, found layers"
TRACKED = f"tracks of {TRACKERS[0]}, found layers"
RENDERED, GENERATED = "rendered", "generated"
BENDING, DEPARTURES = "bending", "departures"
"""Tasks, next to the one that generates."""
TABLE, PICTURE = "rigid-layers.arrow", "video-rigid.png"
KEPT_IN = Path("leaderboards", "video-scores")
"""Where the table is kept, next to the folder of the pages."""
SIZE = (128, 128)
COMMAND = ("generate", "--model", "tiny", "--data", "sprites", "--num-steps", "20", "--cfg", "2")
"""Generates a video per clip from its caption, as for docs/findings.md."""


def measure_bending(clips: int) -> Iterator[ScoreRow]:
    """Yields the departure of rendered clips at every dose of bending, in three ways of knowing tracks and layers."""
    import torch

    from vcorr_tiny.sprites.clips import frames_of
    from vcorr_tiny.sprites.injections import inject

    points = torch.from_numpy(query_grid(POINTS, *SIZE))
    for index in range(clips):
        for dose in MELT.doses:
            drawn = inject(MELT, dose, SPLIT, index)
            exact = drawn.tracks(points)
            tracks = Tracks(exact.xy[0].numpy(), exact.visible[0].numpy(), "exact")
            followed = follow_grid(frames_of(drawn).numpy(), TRACKERS[0]).forward
            clip = f"{SPLIT}-{index:04d}"
            yield _row(MELT.name, dose, clip, KNOWN, tracks, exact.layer[0].numpy())
            yield _row(MELT.name, dose, clip, FOUND, tracks)
            yield _row(MELT.name, dose, clip, TRACKED, followed)


def measure_generated(run: RunDirectory) -> Iterator[ScoreRow]:
    """Yields the departure of the videos of a run, and of the rendered clips with their captions."""
    for clip, name, video in read_pairs(run):
        yield _row(name, 0, clip, TRACKED, follow_grid(video, TRACKERS[0]).forward)


def read_pairs(run: RunDirectory) -> Iterator[tuple[str, str, NDArray[np.uint8]]]:
    """Yields clip, kind and video (T, H, W, 3): the videos of a run, each before the rendered clip of its caption."""
    generated, rendered = RunVideos(RunVideosConfig(path=str(run.path))), Sprites(SpritesConfig())
    for clip in generated.ids():
        for name, video in ((GENERATED, generated.clip(clip).video), (RENDERED, rendered.clip(clip).video)):
            if video is not None:
                yield clip, name, video


def draw_pairs(run: RunDirectory, table: pa.Table, path: Path) -> None:
    """Draws frames of the first videos of a run and of the rendered clips, each with its departure."""
    import torch

    from vcorr_tiny.training.sheets import sheet

    known = {(row["clip"], row["fault"]): row["value"] for row in table.to_pylist()}
    shown = list(islice(read_pairs(run), 2 * DRAWN))
    titles = [f"{name}, {clip}: departs by {known[clip, name]:.2f} px" for clip, name, _ in shown]
    sheet(path, [torch.from_numpy(video) for _, _, video in shown], titles)


def _row(
    fault: str, dose: float, clip: str, how: str, tracks: Tracks, layers: NDArray[np.int64] | None = None
) -> ScoreRow:
    score = score_departure(tracks, SIZE, layers)
    return ScoreRow(fault, dose, clip, how, METRIC, score.value, score.n, RigidLayers.higher_is_better)


def table_of_bending(table: pa.Table) -> str:
    """Returns a Markdown table: the mean departure at every dose, by how tracks and layers are known."""
    lines = [
        f"| slope of the waves | {' | '.join(f'{dose:g}' for dose in MELT.doses)} |",
        "| --- |" + " ---: |" * len(MELT.doses),
    ]
    for how in (KNOWN, FOUND, TRACKED):
        cells = (_say_mean(pick(table, MELT.name, how, dose)) for dose in MELT.doses)
        lines.append(f"| {how} | {' | '.join(cells)} |")
    return "\n".join(lines)


def table_of_generated(table: pa.Table) -> str:
    """Returns a Markdown table: generated and rendered videos of the same captions, and their paired difference."""
    made, shown = (pick(table, name, TRACKED, 0) for name in (GENERATED, RENDERED))
    difference = Difference.of_means(made, shown)
    lines = ["| videos | mean departure, px |", "| --- | ---: |"]
    lines += [f"| {name} | {_say_mean(values)} |" for name, values in ((GENERATED, made), (RENDERED, shown))]
    found = difference.interval
    span = f"{float(found.low):+.2f} … {float(found.high):+.2f}"
    lines.append(f"| generated minus rendered | {float(found.estimate):+.2f} ({span}); p = {difference.p:.2g} |")
    return "\n".join([*lines, "", f"{len(made)} captions."])


def pick(table: pa.Table, fault: str, how: str, dose: float) -> NDArray[np.float64]:
    """Returns the departures of one kind by clip, (clips,)."""
    rows = [row for row in table.to_pylist() if (row["fault"], row["tracker"]) == (fault, how)]
    return np.array([row["value"] for row in rows if np.isclose(row["dose"], dose)], dtype=np.float64)


def _say_mean(values: NDArray[np.float64]) -> str:
    found = mean_interval(values)
    mean = f"{float(found.estimate):.2f}"
    return mean if np.isnan(found.low) else f"{mean} ({float(found.low):.2f} … {float(found.high):.2f})"


def to_table(rows: Iterable[ScoreRow]) -> pa.Table:
    """Returns rows as a table of scores."""
    return pa.Table.from_pylist([asdict(row) for row in rows], SCHEMA)


def find_generated(out: Path) -> RunDirectory:
    """Returns the newest run of generated videos in a folder.

    Raises:
        StoreError: there is none.
    """
    found = find_runs(out / GENERATED)
    if not found:
        raise StoreError(f"No run is in {out / GENERATED}.", hint="Leave --tables-only out to make it.")
    return max(found, key=lambda run: str(run.record()["updated"]))


def list_tasks(work: Work) -> list[Task]:
    """Returns the tasks: bent clips, which need no network, generated videos, and how far those depart."""
    words = (*COMMAND, "--limit", str(work.limit), "--out", str(work.out / GENERATED))
    bent = Call("vcorr_tiny.rigid_scores:store_bending", (work.out, work.limit))
    scored = Call("vcorr_tiny.rigid_scores:store_generated", (work.out, work.limit))
    return [
        Task(BENDING, lambda: bent, seconds=8 + 12.0 * work.limit),
        Task(GENERATED, lambda: Command(words, on_device=True), seconds=8 + 5.0 * work.limit),
        Task(DEPARTURES, lambda: scored, (BENDING, GENERATED), 8 + 2.0 * work.limit),
    ]


def store_bending(out: str, limit: int) -> pa.Table:
    """Returns the departures of bent clips; they are measured once for a number of clips, and read after that."""
    path = Path(out, settings_digest(), f"bending-{limit}.arrow")
    path.parent.mkdir(parents=True, exist_ok=True)
    return read_or_make(path, lambda: measure_bending(limit))


def store_generated(out: str, limit: int) -> None:
    """Writes the table of all departures, and draws some of the generated videos next to rendered clips."""
    run = find_generated(Path(out))
    table = pa.concat_tables([store_bending(out, limit), to_table(measure_generated(run))])
    write_table(Path(out, TABLE), table)
    draw_pairs(run, table, Path(out, PICTURE))


def write_tables(work: Work, docs: Path | None) -> dict[str, str]:
    """Makes the blocks of docs/video-scores.md about rigid layers, and writes them, the picture and the table."""
    path = work.out / TABLE
    if not path.is_file():
        raise StoreError(f"{path} does not exist.", hint="Leave --tables-only out to measure it.")
    table = pa.ipc.open_file(path).read_all()
    blocks = {"rigid-rendered": table_of_bending(table), "rigid-generated": table_of_generated(table)}
    if docs:
        write_blocks(docs / "video-scores.md", blocks)
        copy_picture(work.out / PICTURE, docs)
        (docs.parent / KEPT_IN).mkdir(parents=True, exist_ok=True)
        write_table(docs.parent / KEPT_IN / TABLE, table)
    return blocks


MEASUREMENT = Measurement("video-scores", CLIPS, list_tasks, write_tables, Kept(files=(TABLE, PICTURE)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return MEASUREMENT.run(MEASUREMENT.make_parser("rigid_scores", __doc__ or "").parse_args(arguments))


if __name__ == "__main__":
    end(main)
