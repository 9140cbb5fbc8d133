"""Tests of published settings: each against its formula, written plainly on the tensors of the model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.small_models import load_small

import vcorr
from vcorr import Clip, ProbeBase, RunSettings, UsageError
from vcorr.capture.recorder import Recorder
from vcorr.contract.variants import NamedVariant
from vcorr.functional import match
from vcorr.probes.matching_probes import KeyKey, QueryKey
from vcorr.probes.probe_options import RotaryConfig
from vcorr.tracking.correspondence import CorrespondenceTracker
from vcorr.tracking.presets import PRESETS, find_preset
from vcorr.tracking.track_options import TrackOptions

STEP = RunSettings("renoise", (9,), 10)


class Kept(ProbeBase):
    """Keeps q and k of one head, (F, h*w, d)."""

    needs = frozenset({"q", "k"})

    def __init__(self, head):
        self.head = head

    def read(self, capture, queries):
        self.q, self.k = (tensor[self.head].flatten(1, 2).double().clone() for tensor in (capture.q, capture.k))
        return {-1: torch.zeros(0, capture.grid.frames, 2)}


@pytest.fixture(scope="module")
def model():
    return load_small("cogvideox-5b")


@pytest.fixture(scope="module")
def clip(model):
    video = np.random.default_rng(5).integers(0, 256, (3, model.config.height, model.config.width, 3), dtype=np.uint8)
    return Clip("clip", "", np.array([[3, 4], [20, 30], [31, 9]], np.float32), video)


def follow(model, clip, name, head):
    """Returns the tracks of a preset at layer 1 and the tensors of its one pass, (F, h*w, d)."""
    preset = find_preset(name)
    made = {"qk": QueryKey, "kk": KeyKey}[preset.probe]
    options = TrackOptions(**preset.options_of_tracking("cogvideox-5b", {}))
    probe = made(RotaryConfig(**preset.options_of_probe("cogvideox-5b", {"heads": str(head)})))
    tracker = CorrespondenceTracker(model, probe, (1,), STEP, options, variant=preset.variant)
    kept = Kept(head)
    chunk = Clip("clip, frames 0,1,2", "", np.zeros((0, 2), np.float32), clip.video, stills=True)
    settings = replace(STEP, add_noise=options.add_noise)
    model.run(chunk, settings, Recorder({"kept": kept}, chunk.queries, layers={1}))
    return tracker.follow(clip), kept, model.grid(chunk, model.sites()[1])


def test_ditracker_takes_the_best_key_of_one_head(model, clip):
    found, kept, grid = follow(model, clip, "ditracker", 1)
    tokens = grid.tokens_at(clip.queries.xy)
    for frame in (1, 2):
        best = (kept.q[0, tokens] @ kept.k[frame].T).argmax(1)
        moved = grid.centres[best] - grid.centres[tokens]
        np.testing.assert_allclose(found.xy[:, frame], clip.queries.xy + moved, atol=1e-4)
    assert found.visible.all()


def test_heft_weighs_slow_keys_around_the_best_one(model, clip):
    found, kept, grid = follow(model, clip, "heft", 0)
    tokens = grid.tokens_at(clip.queries.xy)
    keys = kept.k[..., slow_half(model.sites()[1].rotary)]
    centres = torch.from_numpy(grid.centres).double()
    rows, cols = np.divmod(np.arange(grid.tokens_per_frame), grid.cols)
    for frame in (1, 2):
        products = keys[0] @ keys[frame].T / keys.shape[-1] ** 0.5
        cost = (products.softmax(1) + products.softmax(0)) / 2
        for n, token in enumerate(tokens):
            best = int(cost[token].argmax())
            near = (abs(rows - rows[best]) <= 1) & (abs(cols - cols[best]) <= 1)
            weights = cost[token] * torch.from_numpy(near)
            landed = (weights[:, None] * centres).sum(0) / weights.sum()
            expected = clip.queries.xy[n] + landed.numpy() - grid.centres[token]
            np.testing.assert_allclose(found.xy[n, frame], expected, atol=1e-3)
            back = int(cost[:, best].argmax())
            away = np.linalg.norm(grid.in_strides(grid.centres[back] - grid.centres[token]))
            assert found.confidence[n, frame] == pytest.approx(1 / (1 + away), abs=1e-5)


def slow_half(rotary):
    """Returns the channels of the pairs that turn less than the median of their axis over one token."""
    one, two, three = rotary.angles(2, 1, 1)[0], rotary.angles(1, 2, 1)[0], rotary.angles(1, 1, 2)[0]
    turns = np.stack([one[1, 0, 0] - one[0, 0, 0], two[0, 1, 0] - two[0, 0, 0], three[0, 0, 1] - three[0, 0, 0]])
    axis, speed = np.abs(turns).argmax(0), np.abs(turns).max(0)
    first, second = rotary.channels()
    kept = [
        p for p in range(len(speed)) if (speed[axis == axis[p]] < speed[p]).sum() < np.ceil((axis == axis[p]).sum() / 2)
    ]
    return sorted([*first[kept], *second[kept]])


def test_difftrack_names_the_published_layers_and_the_variant_of_its_tapvid_path():
    preset = PRESETS["difftrack"]
    known = {name: preset.layer_of(name) for name in ("cogvideox", "cogvideox-5b", "hunyuanvideo", "tiny")}
    assert known == {"cogvideox": 17, "cogvideox-5b": 17, "hunyuanvideo": 16, "tiny": None}
    assert NamedVariant.parse(preset.variant).values == vcorr.functional.DIFFTRACK_TAPVID
    assert preset.options_of_tracking("cogvideox", {})["chunk"] == 13
    assert preset.options_of_tracking("cogvideox", {"chunk": 5})["chunk"] == 5
    assert preset.options_of_probe("tiny", {}) == {}


class AllHeads(ProbeBase):
    """Keeps q and k of each layer, (H, F, h, w, d)."""

    needs = frozenset({"q", "k"})

    def __init__(self):
        self.kept = []

    def read(self, capture, queries):
        self.kept.append((capture.q.clone(), capture.k.clone()))
        return {-1: torch.zeros(0, capture.grid.frames, 2)}


def test_difftrack_of_several_layers_joins_their_channels(model, clip):
    preset, layers = find_preset("difftrack"), (0, 1)
    options = TrackOptions(**preset.options_of_tracking("tiny", {}, len(layers)))
    found = CorrespondenceTracker(model, QueryKey(), layers, STEP, options, variant=preset.variant).follow(clip)
    reader = AllHeads()
    chunk = Clip("clip, frames 0,1,2", "", np.zeros((0, 2), np.float32), clip.video, stills=True)
    model.run(chunk, replace(STEP, add_noise=False), Recorder({"all": reader}, chunk.queries, layers=set(layers)))
    q, k = (torch.cat(parts, dim=-1) for parts in zip(*reader.kept, strict=True))
    grid = model.grid(chunk, model.sites()[1])
    points = torch.from_numpy(clip.queries.xy)
    expected = match(q, k, grid, points, variant=vcorr.functional.DIFFTRACK_TAPVID, scale=len(q) ** -0.5)
    np.testing.assert_allclose(found.xy, expected.numpy(), atol=1e-3)
    mean = CorrespondenceTracker(
        model, QueryKey(), layers, STEP, replace(options, combine="mean"), variant=preset.variant
    )
    assert not np.allclose(mean.follow(clip).xy, found.xy, atol=1), "the mean of both layers is something else"


def test_one_layer_of_difftrack_keeps_its_options():
    preset = PRESETS["difftrack"]
    assert "combine" not in preset.options_of_tracking("tiny", {}, 1)
    assert preset.options_of_tracking("tiny", {"combine": "mean"}, 2)["combine"] == "mean"


@pytest.mark.parametrize("name", PRESETS)
def test_options_of_presets_are_options(name):
    preset = PRESETS[name]
    for model in (*preset.sites, "tiny"):
        TrackOptions(**preset.options_of_tracking(model, {}))
        RotaryConfig(**preset.options_of_probe(model, {"heads": "0"}))
    assert preset.probe in {found.entry.name for found in vcorr.installed().probes.all()}
    assert "arXiv" in preset.source


def test_a_preset_of_one_head_asks_for_it_where_none_is_published():
    assert PRESETS["ditracker"].options_of_probe("cogvideox", {})["heads"] == "2"
    assert PRESETS["heft"].options_of_probe("cogvideox", {"heads": "4"})["heads"] == "4"
    with pytest.raises(UsageError, match="none of tiny is published"):
        PRESETS["heft"].options_of_probe("tiny", {})
    with pytest.raises(UsageError, match="Did you mean 'heft'"):
        find_preset("heftt")


def test_bands_are_chosen_where_something_turns(model):
    sites = model.sites()
    KeyKey(RotaryConfig(slow_bands=0.5)).check_sites(sites)
    with pytest.raises(UsageError, match="layer 0 has no rotary embedding"):
        KeyKey(RotaryConfig(slow_bands=0.5)).check_sites([replace(sites[0], rotary=None)])
    entry = next(found.entry for found in vcorr.installed().models.all() if found.entry.name == "ltx-video")
    unlike = entry.create(entry.config_type()(**entry.check)).sites()
    with pytest.raises(UsageError, match="2 heads turn by frequencies of their own"):
        KeyKey(RotaryConfig(slow_bands=0.5)).check_sites(unlike)
    for wrong in ({"slow_bands": 0}, {"slow_bands": 2}, {"slow_bands": 0.5, "rotary": False}):
        with pytest.raises(UsageError, match="slow_bands"):
            RotaryConfig(**wrong)
