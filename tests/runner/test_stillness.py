"""The column `still`: the same for every model, and for every tracker of a run."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from support import sliding
from support.sliding import FRAMES, SIDE, STRIDE

import vcorr
from vcorr.metrics.stillness import stillness
from vcorr.runner.coordinator import execute
from vcorr.runner.plan import make_plan
from vcorr.runner.spec import RunSpec


class WideModel(sliding.SlidingModel):
    """Reads videos at another size than the data have, and tokens of another size."""

    def grid(self, clip, site):
        return vcorr.TokenGrid(frames=FRAMES, rows=3, cols=5, stride=(STRIDE, STRIDE))


class ShortModel(sliding.SlidingModel):
    """Reads the first two frames."""

    def grid(self, clip, site):
        side = SIDE // STRIDE
        return vcorr.TokenGrid(frames=2, rows=side, cols=side, stride=(STRIDE, STRIDE))


class SlowData(sliding.SlidingData):
    """Slides by less than a pixel of the resized videos, so that some points stay near their query for some frames."""

    def clip(self, clip_id):
        clip = super().clip(clip_id)
        steps = np.linspace(0, 2, len(clip.queries), dtype=np.float32)[:, None] * np.arange(FRAMES, dtype=np.float32)
        xy = clip.queries.xy[:, None] + np.stack([steps, np.zeros_like(steps)], axis=-1)
        return vcorr.Clip(id=clip_id, prompt="", queries=clip.queries.xy, video=clip.video, tracks=_tracks(xy))


class BareData(SlowData):
    """The same without tracks."""

    def clip(self, clip_id):
        clip = super().clip(clip_id)
        return vcorr.Clip(id=clip_id, prompt="", queries=clip.queries.xy, video=clip.video)


def _tracks(xy):
    return vcorr.Tracks(xy.astype(np.float32), np.ones(xy.shape[:2], dtype=bool), tracker="exact")


@vcorr.hookimpl
def vcorr_models():
    """Returns the models."""
    return sliding.entries_of(vcorr.ModelEntry, WideModel, ShortModel)


@vcorr.hookimpl
def vcorr_datasets():
    """Returns the datasets."""
    return sliding.entries_of(vcorr.DatasetEntry, SlowData, BareData)


@pytest.fixture
def found(plugins):
    return plugins(sys.modules[__name__])


def still_of(found, out, model="sliding-model", data="slowdata", **changes) -> dict[str, float]:
    spec = RunSpec(**{"model": model, "probe": "qk", "data": data, "steps": "9", "limit": 2, **changes})
    made = execute(make_plan(spec, found), out).run
    columns = [made.read(table).select(["clip", "still"]).to_pylist() for table in ("tracks", "scores")]
    tracks, scores = ({row["clip"]: row["still"] for row in rows} for rows in columns)
    assert str(tracks) == str(scores)
    return scores


def test_every_model_with_as_many_frames_has_the_same_value(found, tmp_path) -> None:
    whole = still_of(found, tmp_path / "a")
    assert whole == still_of(found, tmp_path / "b", model="widemodel")
    expected = stillness(SlowData(sliding.DataConfig()).clip("slide-0"), FRAMES)
    assert whole["slide-0"] == np.float32(expected)
    assert 0.1 < expected < 0.9
    assert still_of(found, tmp_path / "c", model="shortmodel")["slide-0"] > expected
    assert still_of(found, tmp_path / "d", model="random-token", probe="", steps=None) == whole


def test_the_tracker_of_a_run_does_not_change_it(found, tmp_path) -> None:
    assert still_of(found, tmp_path / "a", tracker="lk") == still_of(found, tmp_path / "b")


def test_it_is_not_known_without_tracks_of_the_data_and_in_mode_generate(found, tmp_path) -> None:
    assert np.isnan(list(still_of(found, tmp_path / "a", data="baredata", tracker="lk").values())).all()
    assert np.isnan(list(still_of(found, tmp_path / "b", mode="generate").values())).all()
