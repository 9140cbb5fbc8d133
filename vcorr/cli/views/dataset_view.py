"""Builds what `vcorr dataset` prints."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from vcorr.cli.views import listing_view, terminal
from vcorr.cli.views.terminal import cell
from vcorr.contract.noun_counts import say_count
from vcorr.data.clip_row import FAILED, OK, RANDOM_NOTE, REJECTED, ClipRow
from vcorr.data.dataset_folder import DatasetFolder

if TYPE_CHECKING:
    from vcorr.data.difftrack_import import ImportedSet
    from vcorr.data.tapvid_import import ImportedTapVid
    from vcorr.runner.dataset_building import Built

CLIPS_SHOWN = 20
PROMPT_WIDTH = 60


def describe_import(found: ImportedSet, *, by_name: bool) -> str:
    """Returns one line about an imported set: its counts, and the `--data` that names it."""
    images = f", {found.images} with an image" if found.images else ""
    use = f"difftrack:{found.name}" if by_name else str(found.path)
    return f"{found.name}: {found.clips} prompts, {found.with_tracks} with tracks{images}   --data {use}"


def report_clip(row: ClipRow) -> None:
    """Says on standard error that a clip was imported, or why it was not."""
    if row.status == FAILED:
        terminal.say(f"Clip {row.clip} cannot be used: {row.reason}.", stderr=True, label="failed")
    else:
        size = f"{row.frames} frames of {row.height}x{row.width}"
        terminal.say(f"Clip {row.clip}: {size}, {len(row.queries)} tracks", stderr=True)


def describe_tapvid(found: ImportedTapVid, *, by_name: bool) -> str:
    """Returns one line about an imported set of TAP-Vid: its counts, and the `--data` that names it."""
    kept, failed = found.clips - len(found.failed), len(found.failed)
    counts = say_count(kept, "clip") + (f", {failed} failed" if failed else "")
    counts += f"; already there: {found.reused}" if found.reused else ""
    counts += f"; missing: {say_count(found.missing_files, 'file')} of the set" if found.missing_files else ""
    use = found.name if by_name else f"{found.name}:{found.path}"
    return f"{found.name}: {counts}   --data {use}"


def print_build(done: Built) -> None:
    """Prints the end of a build: the clips that were not kept, the counts, and the folder."""
    out = terminal.console()
    odd = [row for row in done.rows if row.status != OK]
    if odd:
        out.print(_clips(odd, title="Not kept", column="reason"))
    counts = Counter(row.status for row in done.rows)
    reused = f"; {done.reused} were there already" if done.reused else ""
    kept = "1 clip" if counts[OK] == 1 else f"{counts[OK]} clips"
    out.print(f"{kept} kept, {counts[REJECTED]} rejected, {counts[FAILED]} failed{reused}.")
    out.print(cell(f"Dataset: {done.folder.path}"), soft_wrap=True)


def build_dict(done: Built) -> dict[str, Any]:
    """Returns what `vcorr dataset build --json` prints."""
    clips = [_plain(row) for row in done.rows]
    return {"path": str(done.folder.path), "reused": done.reused, "clips": clips}


def describe_dataset(folder: DatasetFolder, rows: Sequence[ClipRow]) -> RenderableType:
    """Builds the view of a dataset: facts, clips, and the clips that were not kept."""
    usable = [row for row in rows if row.status == OK]
    odd = [row for row in rows if row.status != OK]
    parts: list[RenderableType] = [listing_view.facts(_facts(folder, rows)), ""]
    if usable:
        title = f"Clips{_of(usable)}"
        parts.append(_clips(usable[:CLIPS_SHOWN], title=title, column="prompt"))
    if odd:
        parts.append(_clips(odd[:CLIPS_SHOWN], title=f"Not kept{_of(odd)}", column="reason"))
    return Group(*parts)


def dataset_dict(folder: DatasetFolder, rows: Sequence[ClipRow]) -> dict[str, Any]:
    """Returns what `vcorr dataset show --json` prints."""
    return {**_facts(folder, rows), "clips": [_plain(row) for row in rows]}


def _facts(folder: DatasetFolder, rows: Sequence[ClipRow]) -> dict[str, Any]:
    record = folder.record()
    counts = Counter(row.status for row in rows)
    facts = {
        "name": rows[0].dataset,
        "split": rows[0].split,
        "path": str(folder.path),
        "made": ", ".join(str(record[key]) for key in ("kind", "status", "updated") if key in record) or "unknown",
        "usable": counts[OK],
        "rejected": counts[REJECTED],
        "failed": counts[FAILED],
        "videos": sum(bool(row.video) for row in rows),
        "images": sum(bool(row.image) for row in rows),
        "tracks": sum(bool(len(row.queries)) for row in rows),
        "size": _each(f"{row.frames} frames of {row.width}x{row.height}" for row in rows if row.frames),
        "points": _each(str(len(row.queries)) for row in rows if len(row.queries)),
        "model": _each(row.model for row in rows),
        "weights": _each(row.weights for row in rows),
        "seeds": _each(str(row.seed) for row in rows),
        "steps": _each(str(row.num_steps) for row in rows),
        "tracker": _each(_tracker(row) for row in rows),
        "licence of the tracker": _each(row.tracker_licence for row in rows),
    }
    if maps := sum(bool(row.layers) for row in rows):
        facts["layer maps"] = maps
    if facts["tracks"] and not facts["videos"]:
        facts["note"] = "The videos are not here, so the tracks cannot serve as reference; only the prompts are used."
    if any(row.random_weights for row in rows):
        facts["note"] = RANDOM_NOTE
    return facts


def _tracker(row: ClipRow) -> str:
    return f"{row.tracker} (version {row.tracker_version})" if row.tracker_version else row.tracker


def _each(values: Any) -> str:
    return ", ".join(sorted({value for value in values if value})) or "none"


def _of(rows: Sequence[ClipRow]) -> str:
    return f" (the first {CLIPS_SHOWN} of {len(rows)})" if len(rows) > CLIPS_SHOWN else ""


def _clips(rows: Sequence[ClipRow], *, title: str, column: str) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    table.add_column("clip", no_wrap=True)
    for name in ("points", "moving", "visible"):
        table.add_column(name, justify="right")
    table.add_column(column, overflow="fold")
    for row in rows:
        text = getattr(row, column)
        short = text if column != "prompt" or len(text) <= PROMPT_WIDTH else text[: PROMPT_WIDTH - 1] + "…"
        shares = (terminal.number(share) for share in (row.moving_share, row.visible_share))
        table.add_row(cell(row.clip), str(len(row.queries)), *shares, cell(short))
    return table


def _plain(row: ClipRow) -> dict[str, Any]:
    shares = {"moving_share": row.moving_share, "visible_share": row.visible_share}
    return {
        "clip": row.clip,
        "status": row.status,
        "reason": row.reason,
        "prompt": row.prompt,
        "seed": row.seed,
        "points": len(row.queries),
        "video": row.video,
        **{name: None if math.isnan(share) else share for name, share in shares.items()},
    }
