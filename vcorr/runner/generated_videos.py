"""The dataset `run`: videos that a run generated, with the query points and tracks of that run (`--data run:RUN`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from vcorr.contract.bases import DatasetBase
from vcorr.contract.errors import MissingError, StoreError, UsageError, unknown_name
from vcorr.contract.modes import mode_of
from vcorr.contract.origins import MadeClip, VideoOrigin
from vcorr.contract.records import Clip
from vcorr.contract.seeds import noise_draw_of
from vcorr.contract.visible_text import join_words
from vcorr.data.dataset_options import RunVideosConfig
from vcorr.data.video.lossless import read_lossless
from vcorr.runner.content_hash import hash_of_tracks
from vcorr.runner.repeat import words_to_repeat
from vcorr.runner.track import video_path
from vcorr.runner.unpacking import Stored, unpack_queries, unpack_tracks
from vcorr.store.arrow_rows import rows_of
from vcorr.store.remote.addresses import folder_of
from vcorr.store.run_search import open_run
from vcorr.store.shards import read_shard


class RunVideos(DatasetBase):
    """Clips of a run in mode generate: its videos, at their own size, with its query points and tracks.

    Clips that failed or have no tracks are left out.

    Raises:
        UsageError: no run was named, or the run read videos and made none.
        StoreError: there is no such run.
    """

    def __init__(self, config: RunVideosConfig) -> None:
        if not config.path:
            raise UsageError("--data run names no run.", hint="For example: --data run:ID (vcorr list runs)")
        self._run = open_run(folder_of(config.path))
        self._record = self._run.record()
        self._check_mode()

    @property
    def split(self) -> str:
        """The split of the dataset that the run generated from."""
        return str(self._record["resolved"]["data"]["split"])

    def ids(self) -> Sequence[str]:
        """Returns the ids of the clips with a video and tracks, in the order of their files.

        Raises:
            StoreError: a shard of tracks is damaged.
        """
        return tuple(self._clips)

    def clip(self, clip_id: str) -> Clip:
        """Reads a clip; its video is the one that was made, bit for bit.

        Raises:
            UsageError: there is no such clip.
            MissingError: the run does not have its video.
            StoreError: the file holds another video.
        """
        if clip_id not in self._clips:
            raise unknown_name("clip", clip_id, list(self._clips))
        self._check_video(clip_id)
        row = self._row(clip_id)
        video = read_lossless(video_path(self._run, clip_id), self._clips[clip_id].video)
        return Clip(
            id=clip_id,
            prompt=row["prompt"],
            queries=unpack_queries(row),
            video=video,
            tracks=replace(unpack_tracks(row), licence=row["licence"]),
            input_class=row["input_class"],
            query_mode=row["query_mode"],
        )

    def check_files(self, clip_ids: Sequence[str]) -> None:
        """Checks that the run still has the videos of these clips.

        Raises:
            MissingError: it does not have one. The error has the command that makes it again.
        """
        for clip_id in clip_ids:
            self._check_video(clip_id)

    def identity(self) -> Mapping[str, Any]:
        """Returns a hash per clip: of its video, query points and tracks. Where the run lies does not count."""
        return {"clips": {clip_id: hash_of_tracks(self._row(clip_id)) for clip_id in self._clips}}

    def origin(self) -> VideoOrigin:
        """Returns what the run says about its own data."""
        context = self._record["row_context"]
        return VideoOrigin(
            self._run.run_id,
            self._record["resolved"]["data"],
            context["mode"],
            context["seed"],
            self._record["tracker"],
            self._clips,
            noise_draw_of(self._record),
        )

    def _check_mode(self) -> None:
        record, path = self._record, self._run.path
        lacking = [name for name in ("resolved", "row_context", "tracker") if name not in record]
        if lacking:
            raise StoreError(
                f"{path}/run.json lacks {', '.join(lacking)}.", hint="Repeat the command that made the run."
            )
        made = record.get("videos_of")
        if made:
            raise UsageError(
                f"{path} reads the videos of run {made['run']} and made none.",
                hint="Name the run that made them: --data run:RUN",
            )
        mode = record["row_context"]["mode"]
        if not mode_of(mode).makes_video:
            name = record["resolved"]["data"]["name"]
            raise UsageError(
                f"{path} is a run in mode {mode}: it read the videos of {name} and made none.",
                hint="Run the model on the same data: --data as in its command, which vcorr show run prints.",
            )

    @cached_property
    def _clips(self) -> dict[str, MadeClip]:
        tables = (read_shard(path, "tracks") for path in self._run.shard_paths("tracks"))
        rows = [row for table in tables for row in rows_of(table.select(["clip", "video", "data_hash", "still"]))]
        return {row["clip"]: MadeClip(row["video"], row["data_hash"], row["still"]) for row in rows}

    def _row(self, clip_id: str) -> Stored:
        return rows_of(read_shard(self._run.shard("tracks", clip_id), "tracks"))[0]

    def _check_video(self, clip_id: str) -> None:
        if video_path(self._run, clip_id).is_file():
            return
        words = join_words([*words_to_repeat(self._record), "--out", str(self._run.path.parent)])
        raise MissingError(
            f"Run {self._run.place} does not have the video of clip {clip_id} that it made: its folder "
            f"{video_path(self._run, clip_id).parent.name} was left out or deleted.",
            hint=f"The command that made the run makes what is missing: {words}",
        )
