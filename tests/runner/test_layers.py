"""Layers of points and layer maps travel with a clip: fitted to the model, hashed, and stored with the tracks."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import sliding
from support.sliding import FRAMES, SIDE, STRIDE

import vcorr
from vcorr import TokenGrid
from vcorr.runner.clip_fit import fit_clip
from vcorr.runner.content_hash import hash_of_video
from vcorr.runner.coordinator import execute
from vcorr.runner.plan import make_plan
from vcorr.runner.predict import prepare_clip
from vcorr.runner.spec import RunSpec
from vcorr.runner.unpacking import unpack_tracks
from vcorr.store.arrow_rows import rows_of

LAYERS = np.random.default_rng(0).integers(0, 4, (FRAMES, SIDE, SIDE), dtype=np.uint8)


class LayeredData(sliding.SlidingData):
    """The sliding pictures with made-up layers, one of them unknown."""

    def clip(self, clip_id):
        clip = super().clip(clip_id)
        layer = (np.arange(len(clip.queries)) % 4 - 1).astype(np.int32)
        return replace(clip, tracks=replace(clip.tracks, layer=layer), layers=LAYERS)


class SmallModel(sliding.SlidingModel):
    """Reads three frames of 32 x 48 pixels, and fails unless the layer map has this size."""

    def grid(self, clip, site):
        return TokenGrid(frames=3, rows=4, cols=6, stride=(STRIDE, STRIDE))

    def run(self, clip, settings, recorder):
        assert clip.layers.shape == (3, 32, 48)
        return super().run(clip, settings, recorder)


class SpoilingModel(sliding.SlidingModel):
    """Writes into the layer map that it gets."""

    def run(self, clip, settings, recorder):
        clip.layers[:] = 9
        return super().run(clip, settings, recorder)


@vcorr.hookimpl
def vcorr_models():
    return sliding.entries_of(vcorr.ModelEntry, SmallModel, SpoilingModel)


@vcorr.hookimpl
def vcorr_datasets():
    return sliding.entries_of(vcorr.DatasetEntry, LayeredData)


def make_layered():
    return LayeredData(sliding.DataConfig()).clip("slide-0")


@given(frames=st.integers(1, FRAMES), rows=st.integers(1, 12), cols=st.integers(1, 12), seed=st.integers(0, 99))
def test_a_fitted_map_has_the_layer_at_the_centre_of_each_new_pixel(frames, rows, cols, seed):
    found = fit_clip(make_layered(), TokenGrid(frames=frames, rows=rows, cols=cols, stride=(STRIDE, STRIDE)))
    height, width = rows * STRIDE, cols * STRIDE
    assert found.layers.shape == found.video.shape[:3] == (frames, height, width)
    rng = np.random.default_rng(seed)
    for _ in range(20):
        t, y, x = (int(rng.integers(n)) for n in found.layers.shape)
        # the same place in the frame; exact in integers, so that no rounding decides
        old_y, old_x = (2 * y + 1) * SIDE // (2 * height), (2 * x + 1) * SIDE // (2 * width)
        assert found.layers[t, y, x] == LAYERS[t, old_y, old_x]
    np.testing.assert_array_equal(found.tracks.layer, make_layered().tracks.layer)


def test_the_hash_covers_layers_where_they_are_known_and_is_the_old_one_elsewhere():
    clip = make_layered()
    bare = replace(clip, tracks=replace(clip.tracks, layer=None), layers=None)
    assert hash_of_video(bare) == "75d418c81512df01"  # in tests/data/layout-5, written before layers could be known
    other = clip.layers.copy()
    other[0, 0, 0] += 1
    clips = [
        bare,
        clip,
        replace(clip, layers=None),
        replace(clip, layers=other),
        replace(bare, layers=clip.layers),
        replace(clip, tracks=replace(clip.tracks, layer=clip.tracks.layer + np.int32(1))),
    ]
    assert len({hash_of_video(each) for each in clips}) == len(clips)
    wide = replace(clip.tracks, layer=clip.tracks.layer.astype(np.int64))
    assert hash_of_video(replace(clip, tracks=wide)) == hash_of_video(clip)


def test_a_model_cannot_change_the_layers_of_the_data(plugins, tmp_path):
    before = LAYERS.copy()
    spec = RunSpec(model="spoilingmodel", probe="qk", data="layereddata", steps="last", limit=1)
    execute(make_plan(spec, plugins(sys.modules[__name__])), tmp_path)
    np.testing.assert_array_equal(LAYERS, before)


@pytest.mark.parametrize("model", ["sliding-model", "smallmodel"])
def test_a_run_stores_the_layers_of_the_points(plugins, tmp_path, model):
    spec = RunSpec(model=model, probe="qk", data="layereddata", steps="last", limit=1)
    run = execute(make_plan(spec, plugins(sys.modules[__name__])), tmp_path).run
    (row,) = rows_of(run.read("tracks"))
    assert row["data_hash"] == hash_of_video(make_layered())
    np.testing.assert_array_equal(unpack_tracks(row).layer, make_layered().tracks.layer, strict=True)


def test_a_generated_video_has_no_layers_of_the_data(plugins):
    spec = RunSpec(model="sliding-model", probe="qk", data="layereddata", steps="last", mode="generate", limit=1)
    clip = prepare_clip(make_plan(spec, plugins(sys.modules[__name__])), "slide-0").clip
    assert (clip.video, clip.tracks, clip.layers) == (None, None, None)
