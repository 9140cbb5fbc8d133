"""Collects what the page of a clip shows: the reference tracks, and the tracks of each row of a table of tracking."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr.board.site.file_names import slug
from vcorr.board.tables.ranking import Ranking, Row
from vcorr.contract.errors import StoreError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.tasks import TRACKING
from vcorr.runner.row_words import POSITIONS
from vcorr.runner.unpacking import Stored, unpack_positions, unpack_tracks
from vcorr.store.arrow_rows import rows_of
from vcorr.store.rundir import RunDirectory
from vcorr.store.schema import TableName

MOST_CLIPS = 4
"""Clips of a table that have a page: the first ones."""
MOST_POINTS = 36
"""Points that a page draws, spread over all of the clip."""
UNIT = 10_000
"""Positions are whole numbers: so many are the width, or the height, of the frame."""


@dataclass(frozen=True)
class ClipPage:
    """A page. path: inside the board. group: what the rows share. rows: their names. points: number of all points.

    tracks: what the script draws, as plain values (`_draw`).
    """

    path: str
    clip: str
    title: str
    group: Mapping[str, str]
    rows: tuple[str, ...]
    points: int
    tracks: Mapping[str, Any]


def make_clip_pages(ranking: Ranking) -> list[ClipPage]:
    """Returns pages of the first clips of a table of tracking runs; none for other tables, or where no run has tracks.

    Small copies of runs have scores alone. A row whose files of a clip are damaged is left out of its page.
    """
    if ranking.board.task != TRACKING:
        return []
    return [page for clip in ranking.clips[:MOST_CLIPS] if (page := _make_page(ranking, clip)) is not None]


def _make_page(ranking: Ranking, clip: str) -> ClipPage | None:
    found = [(row, stored) for row in ranking.rows if (stored := _read_clip(row, clip)) is not None]
    if not found:
        return None
    first = found[0][1].tracks
    points = int(first["points"])
    alike = [(row, stored) for row, stored in found if _shape(stored.tracks) == _shape(first)]
    shown = np.unique(np.linspace(0, points - 1, min(points, MOST_POINTS)).astype(int))
    names = tuple(_name(row) for row, _ in alike)
    return ClipPage(
        path=f"clips/{slug(' '.join([ranking.board.title, *ranking.group.values(), clip]))}.html",
        clip=clip,
        title=ranking.board.title,
        group=ranking.group,
        rows=names,
        points=points,
        tracks=_draw([stored for _, stored in alike], names, shown),
    )


def _name(row: Row) -> str:
    sites = row.at.site_texts if row.at.has_sites else ()
    return ", ".join([row.run.title, row.name, *sites, *([row.options] if row.options else [])])


@dataclass(frozen=True)
class _StoredClip:
    """The row of tracks and the row of predictions of one clip and run."""

    tracks: Stored
    prediction: Stored


def _read_clip(row: Row, clip: str) -> _StoredClip | None:
    """Returns the stored tracks of a row; None if its run has none, or they are damaged."""
    key = row.series.key
    try:
        tracks = next(_rows(row.run.directory, "tracks", clip), None)
        wanted = (
            stored
            for stored in _rows(row.run.directory, "predictions", clip)
            if stored["kind"] == POSITIONS and (stored["probe"], stored["variant"]) == (key["probe"], key["variant"])
        )
        prediction = next(wanted, None)
    except StoreError:
        return None
    if tracks is None or prediction is None or prediction["latents"] != tracks["frames"] or not tracks["points"]:
        return None
    return _StoredClip(tracks, prediction)


def _rows(run: RunDirectory, table: TableName, clip: str) -> Iterator[Stored]:
    return (row for shard in run.iter_shards(table, [clip]) for row in rows_of(shard))


def _shape(tracks: Stored) -> tuple[int, int]:
    return int(tracks["points"]), int(tracks["frames"])


def _draw(clips: Sequence[_StoredClip], names: Sequence[str], shown: NDArray[np.intp]) -> dict[str, Any]:
    """Returns frames, the shape of the frame, query frames, the reference, and the tracks of every row.

    Tracks are `xy`, a flat list of N x T x 2 whole numbers (`UNIT`), and `visible`, N x T zeros and ones. A number is
    null where there is no position.
    """
    first = clips[0].tracks
    reference = unpack_tracks(first)
    rows = []
    for name, stored in zip(names, clips, strict=True):
        predicted = unpack_positions(stored.prediction, TokenGrid.from_dict(json.loads(stored.prediction["grid"])))
        visible = predicted.visible if predicted.visible is not None else np.ones(reference.visible.shape, np.bool_)
        rows.append({"name": name, **_plain_tracks(predicted.xy[shown], visible[shown], stored.tracks)})
    return {
        "frames": int(first["frames"]),
        "ratio": first["width"] / max(first["height"], 1),
        "queries": [int(frame) for frame in np.asarray(first["query_frames"])[shown]],
        "unit": UNIT,
        "reference": _plain_tracks(reference.xy[shown], reference.visible[shown], first),
        "rows": rows,
    }


def _plain_tracks(xy: NDArray[Any], visible: NDArray[np.bool_], tracks: Stored) -> dict[str, list[int | None]]:
    size = np.array([max(tracks["width"], 1), max(tracks["height"], 1)])
    shares = np.clip(xy / size, -1, 2).ravel().tolist()  # a reference may have no position where the point is hidden
    places = [round(share * UNIT) if math.isfinite(share) else None for share in shares]
    return {"xy": places, "visible": visible.astype(int).ravel().tolist()}
