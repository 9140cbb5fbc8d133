"""Tests of a model and a probe as a point tracker: against the probe, against plain formulas, by construction."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.small_models import load_small
from torch import nn

import vcorr
from tests.support.sliding import SHIFT, SIDE, ModelConfig, SlidingModel, slide
from vcorr import Clip, NumericalError, Queries, RunSettings, TokenGrid, UsageError
from vcorr.capture.captures import TokenLayout
from vcorr.capture.recorder import Recorder
from vcorr.functional import tapvid
from vcorr.probes.attention_probe import Attention
from vcorr.probes.cosine_probes import CosineConfig, FeatureCosine, FeatureCosineToken, HiddenCosine
from vcorr.probes.latent_probe import Latent
from vcorr.probes.matching_probes import (
    Feature,
    FeatureFair,
    Hidden,
    HiddenFair,
    KeyKey,
    QueryKey,
    QueryQuery,
    ValueValue,
)
from vcorr.probes.probe_options import ProbeConfig
from vcorr.tracking.correspondence import CorrespondenceTracker
from vcorr.tracking.track_options import TrackOptions

STEP = RunSettings("renoise", (7,), 10)
NO_STEP = RunSettings(steps=(-1,), num_steps=0)
PROBES = {
    "qk": QueryKey(),
    "kk": KeyKey(),
    "qq": QueryQuery(),
    "vv": ValueValue(),
    "latent": Latent(),
    "feature": Feature(),
    "feature-fair": FeatureFair(),
    "hidden": Hidden(),
    "hidden-fair": HiddenFair(),
    "feature-cos": FeatureCosine(),
    "feature-cos-token": FeatureCosineToken(),
    "hidden-cos": HiddenCosine(),
    "soft": QueryKey(ProbeConfig(radius=2)),
    "heads": QueryKey(ProbeConfig(heads="1")),
    "one way": KeyKey(ProbeConfig(symmetric=False)),
    "sharp": FeatureCosineToken(CosineConfig(heads="1,0", temperature=0.02)),
}


@pytest.fixture(scope="module")
def diffusion():
    return load_small("cogvideox-5b")


@pytest.fixture(scope="module")
def sliding():
    model = SlidingModel(ModelConfig())
    model.load("cpu", "float32", "random")
    return model


def clip_for(model, frames, queries):
    height, width = (getattr(model.config, side, None) or 32 for side in ("height", "width"))
    video = np.random.default_rng(3).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
    return Clip("clip", "", np.array(queries, np.float32), video)


def ask(model, clip, probe, layer, frames, settings=STEP):
    """Returns what a probe itself predicts on these frames of a clip, for the queries of the first of them."""
    name = f"{clip.id}, frames {','.join(map(str, frames))}"
    points = clip.queries.xy[clip.queries.t == frames[0]]
    chunk = Clip(name, "", points, clip.video[list(frames)], stills=True)
    recorder = Recorder({"probe": probe}, chunk.queries, layers=set() if layer is None else {layer})
    model.run(chunk, settings, recorder)
    return recorder.predictions[0].xy


@pytest.mark.parametrize("name", list(PROBES))
def test_one_chunk_says_what_the_probe_says(diffusion, name):
    layer = None if name == "latent" else 1
    clip = clip_for(diffusion, 3, [[0, 1, 2], [0, 30, 17], [0, 9, 9]])
    layers = () if layer is None else (layer,)
    tracker = CorrespondenceTracker(diffusion, PROBES[name], layers, STEP, TrackOptions(chunk=3))
    found = tracker.follow(clip)
    expected = ask(diffusion, clip, PROBES[name], layer, (0, 1, 2))
    # the best token is the same; a mean of tokens around it has the rounding of C
    np.testing.assert_allclose(found.xy, expected, rtol=1e-6 if name == "soft" else 0, atol=0)
    assert found.confidence.min() > 0
    assert found.confidence.max() <= 1
    assert tracker.facts.layer == (-1 if layer is None else 1)
    assert tracker.facts.noise == pytest.approx(ask_noise(diffusion))
    assert tracker.facts.head == (1 if name == "heads" else -1)


def ask_noise(model):
    return model.schedule(10, model.grid(Clip("c", "", np.zeros((0, 2), np.float32)), None)).noise[7]


def test_queries_in_any_frame_lead_chunks_of_their_own(diffusion):
    clip = clip_for(diffusion, 4, [[2, 5, 6], [0, 20, 8], [2, 30, 9]])
    tracker = CorrespondenceTracker(diffusion, QueryKey(), (0,), STEP, TrackOptions(chunk=4))
    found = tracker.follow(clip)
    middle = ask(diffusion, clip, QueryKey(), 0, (2, 0, 1, 3))
    np.testing.assert_array_equal(found.xy[[0, 2]][:, [2, 0, 1, 3]], middle)
    np.testing.assert_array_equal(found.xy[[1]], ask(diffusion, clip, QueryKey(), 0, (0, 1, 2, 3)))
    assert tracker.passes(4, clip.queries) == 2
    np.testing.assert_array_equal(found.confidence[[0, 1, 2], [2, 0, 2]], 1)


@pytest.mark.parametrize("order", ["interval", "sliding", "consecutive"])
def test_other_queries_change_nobodys_track(diffusion, order):
    rng = np.random.default_rng(0)
    points = np.column_stack([rng.integers(0, 7, 12), rng.uniform(0, 32, (12, 2))])
    clip = clip_for(diffusion, 7, points)
    options = TrackOptions(chunk=3, order=order)
    tracker = CorrespondenceTracker(diffusion, QueryKey(), (0, 1), STEP, options)
    together = tracker.follow(clip)
    few = tracker.follow(replace(clip, queries=clip.queries[np.array([3, 8])]))
    np.testing.assert_array_equal(few.xy, together.xy[[3, 8]])
    np.testing.assert_allclose(few.confidence, together.confidence[[3, 8]], atol=1e-6)


def correlations(model, clip, layers, chunks):
    """Returns C (P, P) between the query frame and every other frame, from the formulas, plainly."""

    class Kept(vcorr.ProbeBase):
        needs = frozenset({"q", "k"})

        def read(self, capture, queries):
            kept.append((capture.q.double().clone(), capture.k.double().clone()))
            return {-1: torch.zeros(0, capture.grid.frames, 2)}

    found = {}
    for chunk in chunks:
        kept = []
        name = f"{clip.id}, frames {','.join(map(str, chunk))}"
        cut = Clip(name, "", np.zeros((0, 2), np.float32), clip.video[list(chunk)], stills=True)
        model.run(cut, STEP, Recorder({"kept": Kept()}, cut.queries, layers=set(layers)))
        for latent, frame in enumerate(chunk[1:], start=1):
            for q, k in kept:
                (q1, qj), (k1, kj) = ([tensor[:, j].flatten(1, 2) for j in (0, latent)] for tensor in (q, k))
                scale = q.shape[-1] ** -0.5
                there = (q1 @ kj.mT * scale).softmax(-1)
                back = (qj @ k1.mT * scale).softmax(-1)
                found.setdefault(frame, []).append(((there + back.mT) / 2).mean(0))
    return {frame: torch.stack(each).mean(0) for frame, each in found.items()}


CHUNKS = {
    "sliding": [(1, 0, 2, 3), (1, 2, 3, 4), (1, 3, 4, 5)],
    "interval": [(1, 0, 3, 5), (1, 2, 4)],
}


@pytest.mark.parametrize("order", CHUNKS)
@pytest.mark.parametrize("visibility", ["cycle", "peak"])
def test_costs_are_averaged_over_layers_and_chunks_before_the_read_out(diffusion, visibility, order):
    clip = clip_for(diffusion, 6, [[1, 5, 6], [1, 20, 8], [1, 31, 31]])
    options = TrackOptions(chunk=4, order=order, visibility=visibility, threshold=0.4)
    found = CorrespondenceTracker(diffusion, QueryKey(), (0, 1), STEP, options).follow(clip)
    chunks = CHUNKS[order]
    grid = diffusion.grid(replace(clip, stills=True), diffusion.sites()[0])
    tokens = grid.tokens_at(clip.queries.xy)
    for frame, cost in correlations(diffusion, clip, (0, 1), chunks).items():
        best = cost[tokens].argmax(1)
        np.testing.assert_allclose(found.xy[:, frame], clip.queries.xy + grid.centres[best] - grid.centres[tokens])
        back = cost[:, best].argmax(0)  # the columns of the same matrix are the way back
        away = np.linalg.norm(grid.in_strides(grid.centres[back] - grid.centres[tokens]), axis=1)
        expected = 1 / (1 + away) if visibility == "cycle" else cost[tokens, best].numpy()
        np.testing.assert_allclose(found.confidence[:, frame], expected, rtol=1e-5)
    others = [0, 2, 3, 4, 5]
    np.testing.assert_array_equal(found.visible[:, others], found.confidence[:, others] > 0.4)


def test_a_pass_ends_at_the_last_layer_that_is_read(diffusion):
    clip = clip_for(diffusion, 3, [[0, 1, 2]])
    ran = []
    blocks = diffusion.pipe.transformer.transformer_blocks
    handles = [block.register_forward_pre_hook(lambda *_, n=n: ran.append(n)) for n, block in enumerate(blocks)]
    for probe, layers, expected in ((QueryKey(), (0,), [0]), (QueryKey(), (1,), [0, 1]), (Latent(), (), [])):
        ran.clear()
        CorrespondenceTracker(diffusion, probe, layers, STEP, TrackOptions(chunk=3)).follow(clip)
        assert ran == expected
    for handle in handles:
        handle.remove()
    recorder = Recorder({"qk": QueryKey()}, clip.queries)
    diffusion.run(clip_for(diffusion, diffusion.config.frames, [[0, 1, 2]]), STEP, recorder)
    assert {prediction.layer for prediction in recorder.predictions} == {0, 1}  # nothing is left behind


def test_a_known_motion_is_followed_forwards_and_backwards(sliding):
    video = slide(1)[0]
    queries = Queries.of(np.array([[0, 12, 20], [2, 30, 33], [4, 50, 7], [1, 3, 60]], np.float32))
    tracker = CorrespondenceTracker(sliding, QueryKey(), (0,), STEP, TrackOptions(chunk=3))
    found = tracker.follow(Clip("c", "", queries, video))
    moved = (np.arange(len(video))[None] - queries.t[:, None]) * SHIFT
    exact = queries.xy[:, None] + np.stack([moved, 0 * moved], -1)
    inside = (exact[..., 0] >= 0) & (exact[..., 0] < SIDE)
    np.testing.assert_allclose(found.xy[inside], exact[inside])
    assert found.visible[inside].all()
    assert not inside.all()  # points that left: their way back ends elsewhere
    large = tracker.track(np.repeat(np.repeat(video, 2, 1), 2, 2), Queries(queries.t, queries.xy * 2))
    assert large.xy.shape == found.xy.shape  # read at its own size, which this model takes


def test_tracks_of_a_resized_video_have_the_pixels_of_the_video(diffusion):
    video = np.random.default_rng(0).integers(0, 256, (3, 50, 70, 3), dtype=np.uint8)
    queries = Queries.of(np.array([[1, 70, 50], [0, 0, 0]], np.float32))
    tracker = CorrespondenceTracker(diffusion, QueryKey(), (1,), STEP)
    found = tracker.track(video, queries)
    grid = tracker.grid(Clip("c", "", queries, video))
    np.testing.assert_array_equal(found.xy[[0, 1], [1, 0]], queries.xy)
    moves = (found.xy - queries.xy[:, None]) / (np.array([70, 50]) / [grid.width, grid.height]) / grid.stride
    np.testing.assert_allclose(moves, np.round(moves), atol=1e-4)


def test_a_video_of_one_frame_gives_the_queries(diffusion):
    clip = clip_for(diffusion, 1, [[0, 3, 4], [0, 9, 9]])
    tracker = CorrespondenceTracker(diffusion, QueryKey(), (1,), STEP)
    found = tracker.follow(clip)
    np.testing.assert_array_equal(found.xy[:, 0], clip.queries.xy)
    assert found.visible.all()
    assert tracker.passes(1, clip.queries) == 0
    nobody = tracker.follow(replace(clip_for(diffusion, 3, [[0, 1, 1]]), queries=clip.queries[:0]))
    assert nobody.xy.shape == (0, 3, 2)


def test_videos_are_read_as_the_probe_reads_them(diffusion):
    frames = diffusion.config.frames
    clip = clip_for(diffusion, frames, [[0, 3, 4], [0, 30, 9]])
    name = f"{clip.id}, frames {','.join(map(str, range(frames)))}"
    recorder = Recorder({"qk": QueryKey()}, clip.queries, layers={1})
    diffusion.run(replace(clip, id=name), STEP, recorder)
    prediction = recorder.predictions[0]
    expected = vcorr.metrics.to_frames(prediction.xy, prediction.grid, clip.queries.xy)
    found = CorrespondenceTracker(diffusion, QueryKey(), (1,), STEP, TrackOptions(latents="video")).follow(clip)
    np.testing.assert_allclose(found.xy, expected, atol=1e-5)


FAMILIES = {
    "hunyuanvideo": QueryKey(),
    "wan2.1-1.3b": QueryKey(),
    "cogvideox-1.5-5b": QueryKey(),
    "cogvideox-5b-i2v": QueryKey(),
    "svd": QueryKey(),
    "latte": KeyKey(),
    "videomae-b": QueryKey(),
    "dino-s16": HiddenCosine(),
    "xfeat": HiddenCosine(),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_families_track_with_chunks_filled_up_where_they_need_it(name):
    model = load_small(name)
    tracker = CorrespondenceTracker(model, FAMILIES[name], (0,), STEP if model.steps else NO_STEP)
    clip = clip_for(model, 4, [[1, 3, 4], [0, 9, 9]])
    clip = replace(clip, video=clip.video[[0, 0, 0, 0]])  # nothing moves, so every point finds itself where it can see
    found = tracker.follow(clip)
    assert found.xy.shape == (2, 4, 2)
    assert tracker.grid(clip).frames == 4
    if name in ("dino-s16", "xfeat"):  # each frame by itself, so equal frames have equal tokens
        np.testing.assert_allclose(found.xy, np.repeat(clip.queries.xy[:, None], 4, 1), atol=1e-3)
        assert found.visible.all()


def test_stills_are_encoded_once_for_all_chunks_and_query_frames():
    model = load_small("cogvideox-5b")
    clip = clip_for(model, 6, [[frame, 3, 4] for frame in range(6)])
    tracker = CorrespondenceTracker(model, QueryKey(), (0,), STEP, TrackOptions(chunk=3, order="sliding"))
    tracker.follow(clip)
    assert tracker.passes(6, clip.queries) == 24
    assert model._stills.encoded == 6


def test_inversion_reads_the_same_chunks(diffusion):
    clip = clip_for(diffusion, 3, [[0, 3, 4]])
    tracker = CorrespondenceTracker(diffusion, QueryKey(), (1,), RunSettings("invert", (2,), 3), TrackOptions(chunk=3))
    found = tracker.follow(clip)
    assert tracker.passes(3, clip.queries) == 10
    assert found.xy.shape == (1, 3, 2)


class ReplayModel:
    """Attends with stored queries and keys; in pass c, queries are multiplied by 1 + c/10. Pixels say the frame."""

    steps = 1

    def __init__(self, q, k):
        self.q, self.k, self.passes = q, k, 0
        self.network = nn.ModuleDict({"attend": Attend()})

    def sites(self):
        return (vcorr.Site(0, "attend", 3),)

    def grid(self, clip, site):
        return TokenGrid(13 if clip.video is None else len(clip.video), 6, 9, (16, 16))

    def run(self, clip, settings, recorder):
        frames = clip.video[:, 0, 0, 0].astype(int)
        q, k = (tensor[:, frames].flatten(1, 3)[None] for tensor in (self.q, self.k))
        with (
            recorder.attach(self.network, self.sites(), TokenLayout(), self.grid(clip, None)),
            recorder.step(0, noise=0.1),
        ):
            self.passes += 1
            self.network["attend"](q * (1 + 0.1 * (self.passes - 1)), k)


class Attend(nn.Module):
    def forward(self, q, k):
        return nn.functional.scaled_dot_product_attention(q, k, k)


@pytest.mark.parametrize(("order", "kind"), [("interval", "interval_avg"), ("consecutive", "stride")])
def test_numbers_of_the_published_code(pytestconfig, order, kind):
    data = np.load(pytestconfig.rootpath / "tests" / "data" / "difftrack_scores.npz")
    stored = (torch.from_numpy(data[f"d_T24_{name}_i8"][0].astype(np.float32) / 32) for name in ("q", "k"))
    model = ReplayModel(*(each.transpose(0, 1).reshape(3, 24, 6, 9, 8) for each in stored))
    points = data["d_T24_query_points"][0]
    video = np.broadcast_to(np.arange(24, dtype=np.uint8)[:, None, None, None], (24, 96, 144, 3)).copy()
    options = TrackOptions(order=order, visibility="always", add_noise=False)
    tracker = CorrespondenceTracker(model, QueryKey(), (0,), RunSettings(), options, variant="difftrack+scale=heads")
    found = tracker.follow(Clip("clip", "", points.astype(np.float32), video))
    assert model.passes == len(json.loads(str(data[f"d_T24_{kind}_chunks"])))
    tracks = found.xy * (256 / np.array([144, 96]))
    np.testing.assert_allclose(tracks, data[f"d_T24_{kind}_pred_tracks"][0], atol=0.01)
    occluded = ~data["d_T24_visible"].T
    scores = tapvid(points, occluded, data["d_T24_tracks"].transpose(1, 0, 2), ~found.visible, tracks, mode="first")
    names, values = data[f"d_T24_{kind}_metric_keys"], data[f"d_T24_{kind}_metric_values"]
    np.testing.assert_allclose([scores[name] for name in names], values, atol=1e-9)


def test_what_cannot_track_is_refused_in_a_sentence(diffusion, sliding):
    clip = clip_for(diffusion, 3, [[0, 1, 1]])
    with pytest.raises(UsageError, match="Attention cannot track"):
        CorrespondenceTracker(diffusion, Attention(), (1,), STEP)
    with pytest.raises(UsageError, match="one prediction per head"):
        CorrespondenceTracker(diffusion, QueryKey(ProbeConfig(heads="each")), (1,), STEP)
    with pytest.raises(UsageError, match="no layer 99"):
        CorrespondenceTracker(diffusion, QueryKey(), (99,), STEP)
    with pytest.raises(UsageError, match="at least one layer"):
        CorrespondenceTracker(diffusion, QueryKey(), (), STEP)
    with pytest.raises(UsageError, match="one step; 2 were chosen"):
        CorrespondenceTracker(diffusion, QueryKey(), (1,), replace(STEP, steps=(1, 2)))
    with pytest.raises(UsageError, match="generates none"):
        CorrespondenceTracker(diffusion, QueryKey(), (1,), replace(STEP, mode="generate"))
    field = CorrespondenceTracker(diffusion, QueryKey(), (1,), STEP, variant="difftrack")
    with pytest.raises(UsageError, match="samples a field"):
        field.follow(clip)
    tracker = CorrespondenceTracker(diffusion, QueryKey(), (1,), STEP)
    with pytest.raises(UsageError, match="1 of 1 positions lie outside"):
        tracker.follow(replace(clip, queries=np.array([[400, 1]], np.float32)))
    with pytest.raises(UsageError, match="the model reads"):
        tracker.follow(replace(clip, video=clip.video[:, :8]))


class GroupingModel(SlidingModel):
    """Encodes frames in pairs, whatever `Clip.stills` says."""

    def grid(self, clip, site):
        grid = super().grid(clip, site)
        return replace(grid, frames=grid.frames // 2, temporal_ratio=2, causal=False, video_frames=grid.frames // 2 * 2)


def test_a_model_that_ignores_stills_is_refused():
    tracker = CorrespondenceTracker(GroupingModel(ModelConfig()), QueryKey(), (0,), STEP, TrackOptions(chunk=4))
    with pytest.raises(UsageError, match="4 frames 2 latents: it reads no frame by itself"):
        tracker.follow(Clip("c", "", np.array([[9, 9]], np.float32), slide(0)[0]))


def test_nan_in_the_network_is_an_error_of_the_clip(sliding):
    model = SlidingModel(ModelConfig(sharpness=float("nan")))
    model.load("cpu", "float32", "random")
    tracker = CorrespondenceTracker(model, QueryKey(), (0,), STEP)
    with pytest.raises(NumericalError, match="NaN"):
        tracker.follow(Clip("c", "", np.array([[9, 9]], np.float32), slide(0)[0]))
