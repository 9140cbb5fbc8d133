"""Builds a dataset: samples videos from a model, tracks them, filters them and stores all of them.

A build that was interrupted goes on with the first clip that is missing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from vcorr.contract.errors import InterruptedRunError, MissingError, PluginError, StoreError, UsageError, VcorrError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.part_calls import PartFailureError
from vcorr.contract.records import Clip
from vcorr.data.clip_filters import Filters, judge
from vcorr.data.clip_row import FAILED, RANDOM_NOTE, REJECTED, ClipRow
from vcorr.data.clip_table import read_rows
from vcorr.data.dataset_card import card
from vcorr.data.dataset_folder import CARD, VIDEOS, DatasetFolder, file_hash
from vcorr.data.video.lossless import write_lossless
from vcorr.runner.called_tracker import CalledTracker
from vcorr.runner.events import Events
from vcorr.runner.plan import Plan
from vcorr.runner.predict import error_code, prepare_clip, sample_clip
from vcorr.runner.spec import check_seed
from vcorr.store.atomic_files import make_folder
from vcorr.store.fingerprint import LENGTH, find_differences, fingerprint, plain
from vcorr.store.record import DamagedRecordError

SPLIT = "test"
SHOWN = 40
"""Longest value, in characters, that a message shows whole; hashes are longer."""

ABOUT = """\
Videos sampled from {model} by `vcorr dataset build`, with point tracks that {tracker} made on exactly these frames.
Clips in which too few points move or can be seen are kept as rows of status "rejected", with the reason."""


@dataclass(frozen=True)
class Item:
    """A clip to make: a prompt of the plan, and a seed."""

    prompt_id: str
    seed: int

    @property
    def clip_id(self) -> str:
        """Id of the clip in the dataset."""
        return f"{self.prompt_id}-seed{self.seed}"


@dataclass(frozen=True)
class Built:
    """How a build ended. rows: one per clip that was asked for, in order. reused: how many of them existed already."""

    folder: DatasetFolder
    rows: tuple[ClipRow, ...]
    reused: int

    def with_status(self, status: str) -> list[ClipRow]:
        """Returns the rows with this status."""
        return [row for row in self.rows if row.status == status]


def build_fingerprint(plan: Plan) -> str:
    """Returns the fingerprint of everything that can change a clip.

    The choice of prompts, seeds and filters is not part of it: they decide which clips there are.
    """
    return fingerprint(_identity(plan.predict_identity(), plan.tracker_identity()))


def _identity(resolved: Mapping[str, Any], tracker: Any) -> dict[str, Any]:
    # no attention is read while a video is made, so probes and sites cannot change it
    values = {k: v for k, v in resolved.items() if k not in ("capture", "probes", "sites")}
    settings = {k: v for k, v in resolved["settings"].items() if k not in ("seed", "steps")}
    return {**values, "settings": settings, "tracker": tracker}


def default_folder(plan: Plan) -> Path:
    """Returns the folder of a dataset for which the user named none."""
    return Path("built") / f"{plan.parts.model.entry.name}-{build_fingerprint(plan)[:LENGTH]}"


def items(plan: Plan, seeds: Sequence[int]) -> list[Item]:
    """Returns every prompt with every seed, prompt by prompt.

    Raises:
        UsageError: there is no seed, a seed is given twice, or a seed is out of range.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise UsageError(f"--seeds {','.join(map(str, seeds))}: name at least one, and each once.")
    for seed in seeds:
        check_seed(seed, "--seeds")
    return [Item(prompt_id, seed) for prompt_id in plan.selection.clips for seed in seeds]


def build(
    plan: Plan, wanted: Sequence[Item], filters: Filters, out: Path, events: Events, command: Sequence[str] = ()
) -> Built:
    """Makes the clips that are missing in a dataset.

    The video and the row of a clip are on disk before the next clip begins. A clip that fails becomes a row, and the
    next build tries it again. New filters are applied to the clips that exist, without sampling.

    Raises:
        StoreError: `out` holds another dataset, cannot be written, or another process is writing it.
        PluginError, MissingError: a part breaks its contract, or weights or data are not available. The clips that are
            done stay, as after an InterruptedRunError.
    """
    _check_same(plan, DatasetFolder(out))
    folder = DatasetFolder.create(out, build_fingerprint(plan))
    with folder.write_lock():
        return _build(plan, wanted, filters, folder, events, command)


def _build(
    plan: Plan, wanted: Sequence[Item], filters: Filters, folder: DatasetFolder, events: Events, command: Sequence[str]
) -> Built:
    folder.check(build_fingerprint(plan))  # another process may have made a dataset here before the lock was taken
    healed = folder.keep_damaged_record()
    record = _record(plan, folder, filters, command)
    folder.write_record(record, "started")
    maker = _Maker(plan, folder, str(record["name"]), filters, events)
    for note in (healed, *plan.selection.applied.notes, plan.parts.notice):
        if note:
            events.note(note)
    rows: list[ClipRow] = []
    try:
        rows.extend(maker.rows(wanted))
        maker.write_card()
    except BaseException as error:
        with contextlib.suppress(StoreError):  # the user must see the error that ended the build
            maker.write_card()
            folder.write_record(record, "partial")
        kept = sum(folder.row_path(item.clip_id).exists() for item in wanted)
        said = f"{kept} of {len(wanted)} clips are kept in {folder.path}. The same command goes on from there."
        if isinstance(error, KeyboardInterrupt):
            raise InterruptedRunError(said) from error
        if isinstance(error, StoreError):
            raise StoreError(error.message, hint=f"{error.hint}\n{said}".strip()) from error
        raise
    folder.write_record(record, "partial" if any(row.status == FAILED for row in rows) else "complete")
    return Built(folder, tuple(rows), maker.reused)


def _check_same(plan: Plan, folder: DatasetFolder) -> None:
    """Refuses a folder whose clips were built with other options, and lists the differences.

    Raises:
        StoreError: the folder holds such clips.
    """
    try:
        record = folder.record()
    except DamagedRecordError:
        return  # its clips say how they were built: `DatasetFolder.check`
    resolved = record.get("resolved")
    if not isinstance(resolved, dict) or not isinstance(resolved.get("settings"), dict):
        return  # not built here; `DatasetFolder.create` refuses it
    was = _identity(resolved, record.get("tracker"))
    apart = find_differences(was, plain(_identity(plan.predict_identity(), plan.tracker_identity())))
    for part in ("model", "data", "tracker"):
        if f"{part}.name" in apart:  # its options cannot be compared with the options of another part
            others = {name: pair for name, pair in apart.items() if not name.startswith(f"{part}.")}
            apart = {f"{part}.name": apart[f"{part}.name"], **others}
    if apart:
        lines = [f"  {name}: {_short(there)} there, {_short(here)} now" for name, (there, here) in apart.items()]
        raise StoreError(
            f"{folder.path} belongs to another dataset, which was built with other options:\n" + "\n".join(lines),
            hint="Repeat the command as it was (dataset.json holds it), or choose another folder with --out DIR.",
        )


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= SHOWN else f"{text[:LENGTH]}…"


class _Maker:
    """Makes clips one after the other. Loads the model for the first clip that needs it."""

    def __init__(self, plan: Plan, folder: DatasetFolder, name: str, filters: Filters, events: Events) -> None:
        assert plan.parts.tracker is not None
        self._plan, self._folder, self._name, self._filters, self._events = plan, folder, name, filters, events
        self._tracker = CalledTracker(plan.parts.tracker)
        self._fingerprint = build_fingerprint(plan)
        self._loaded = False
        self.reused = 0

    def rows(self, wanted: Sequence[Item]) -> Iterator[ClipRow]:
        """Yields the row of every clip, after it was written to disk."""
        for item in wanted:
            row = self._reuse(item)
            if row is not None:
                self.reused += 1
                self._events.clip_done(item.clip_id, reused=True)
            else:
                row = self._make(item)
            yield row

    def _reuse(self, item: Item) -> ClipRow | None:
        """Returns the stored row, judged by the present filters; None if the clip must be made."""
        path = self._folder.row_path(item.clip_id)
        if not path.exists():
            return None
        try:
            (row,) = read_rows(path)
            if row.status == FAILED:
                return None
            self._folder.check_video(row)
        except VcorrError as error:
            self._events.note(f"{error.message} The clip is made again.")
            return None
        judged = judge(row, prepare_clip(self._plan, item.prompt_id).grid, self._filters)
        if (judged.status, judged.reason) != (row.status, row.reason):
            self._write(judged)
        return judged

    def _make(self, item: Item) -> ClipRow:
        self._load()
        self._events.clip_started(item.clip_id)
        try:
            row = self._sample(item)
            self._write(row)
        except PartFailureError as error:
            return self._fail(item, error)
        except (PluginError, MissingError, StoreError):
            raise
        except Exception as error:
            return self._fail(item, error)
        finally:
            self._say_changes()
        if row.status == REJECTED:
            self._events.note(f"Clip {item.clip_id} is rejected: {row.reason}.")
        self._events.clip_done(item.clip_id, reused=False)
        return row

    def _fail(self, item: Item, error: Exception) -> ClipRow:
        row = replace(self._empty(item), status=FAILED, reason=error_code(error))
        self._write(row)
        self._events.clip_failed(item.clip_id, row.reason)
        return row

    def _say_changes(self) -> None:
        """Says which settings of the process the parts have changed."""
        live = self._plan.live
        in_run = live.adapter.probe_changes.take_notes([live.adapter.name])
        others = (part.take_notes() for part in (live.adapter, live.dataset, self._tracker))
        for note in (*in_run, *(note for notes in others for note in notes)):
            self._events.note(note)

    def _sample(self, item: Item) -> ClipRow:
        plan = self._plan.with_seed(item.seed)
        clip, grid = sample_clip(plan, item.prompt_id, partial(self._events.step_done, item.clip_id))
        return judge(self._track(item, clip, grid), grid, self._filters)

    def _track(self, item: Item, clip: Clip, grid: TokenGrid) -> ClipRow:
        """Returns the row of a sampled clip, after tracking it and writing its video."""
        assert clip.video is not None
        assert self._plan.parts.tracker is not None
        tracks = self._tracker.track(clip.video, clip.queries)
        name = self._folder.video_name(item.clip_id)
        path = self._folder.path / name
        make_folder(self._folder.path / VIDEOS)
        digest = write_lossless(path, clip.video, clip.playback_fps)
        return replace(
            self._empty(item),
            fps=clip.playback_fps,
            query_side=round(len(clip.queries) ** 0.5),
            queries=clip.queries.xy,
            query_frames=clip.queries.t,
            query_mode=clip.query_mode,
            input_class=clip.input_class,
            xy=tracks.xy,
            visible=tracks.visible,
            frames=len(clip.video),
            height=clip.video.shape[1],
            width=clip.video.shape[2],
            tracker=tracks.tracker,
            tracker_version=tracks.version,
            tracker_licence=self._plan.parts.licence,
            video=name,
            video_sha256=digest,
            file_sha256=file_hash(path),
        )

    def _empty(self, item: Item) -> ClipRow:
        return ClipRow(
            dataset=self._name,
            split=SPLIT,
            clip=item.clip_id,
            prompt=self._plan.live.dataset.clip(item.prompt_id).prompt,
            model=self._plan.parts.model.entry.name,
            weights=self._plan.identity.weights,
            seed=item.seed,
            num_steps=self._plan.selection.settings.num_steps,
        )

    def _write(self, row: ClipRow) -> None:
        self._folder.write(row, self._fingerprint)
        if not (self._folder.path / CARD).exists():
            self.write_card()  # so that the folder can be loaded even if the build ends early

    def write_card(self) -> None:
        """Writes the card of all clips in the folder; no card if there are none."""
        rows = self._folder.rows()
        if not rows:
            return
        assert self._plan.parts.tracker is not None
        about = ABOUT.format(model=f"`{rows[0].model}`", tracker=f"`{self._plan.parts.tracker.entry.name}`")
        if rows[0].random_weights:
            about += f"\n\n**{RANDOM_NOTE}**"
        licence = self._plan.live.card.licence if self._plan.live.card else "unknown"
        origin = {"licence of the model": licence, "made with": f"vcorr {metadata.version('vcorr')}"}
        self._folder.write_text(CARD, card(self._name, rows, about, origin))

    def _load(self) -> None:
        if not self._loaded:
            hardware = self._plan.hardware
            self._plan.live.adapter.load(hardware.device, hardware.dtype, self._plan.spec.weights)
            self._loaded = True


def _record(plan: Plan, folder: DatasetFolder, filters: Filters, command: Sequence[str]) -> dict[str, Any]:
    return {
        "name": folder.name(),
        "kind": "built",
        "command": list(command),
        "started": folder.record().get("started") or datetime.now(UTC).isoformat(timespec="seconds"),
        "fingerprint": build_fingerprint(plan),
        "spec": plain(plan.spec),
        "resolved": plan.predict_identity(),
        "tracker": plan.tracker_identity(),
        "filters": plain(filters),
        "card": plain(plan.live.card),
        "versions": {"vcorr": metadata.version("vcorr"), **plan.identity.versions},
        "device": {"name": plan.hardware.name, "dtype": plan.hardware.dtype},
    }
