"""Spatial and temporal attention: batch rows are put together into the video they belong to."""

import math
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

import vcorr
from vcorr.capture import TokenLayout
from vcorr.capture.needs import check_sites
from vcorr.capture.recorder import Recorder
from vcorr.capture.split import check_layout
from vcorr.contract.errors import CaptureError, PluginError, UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Factorised, Site, Unrotated
from vcorr.probes.attention_probe import Attention as AttentionProbe
from vcorr.probes.matching_probes import Hidden, QueryKey

GRID = TokenGrid(frames=4, rows=3, cols=5, stride=(8, 8))
SPACE, HEADS, WIDTH, CLASS = GRID.tokens_per_frame, 2, 16, 3
QUERIES = np.array([[4.0, 4.0], [12.5, 9.0], [20.0, 20.0]], dtype=np.float32)
BRANCHES = ("uncond", "cond")
SPATIAL, TEMPORAL = Factorised("spatial"), Factorised("temporal")


class Attend(nn.Module):
    """Attention whose queries, keys and values are its input, (rows, tokens, heads x width)."""

    def __init__(self):
        super().__init__()
        self.norm = nn.Identity()

    def forward(self, x):
        heads = self.norm(x.unflatten(-1, (HEADS, -1)).transpose(1, 2))
        return F.scaled_dot_product_attention(heads, heads, heads).transpose(1, 2).flatten(2)


class Block(nn.Module):
    """Puts out its input, as tokens or as maps of channels, after attention."""

    def __init__(self, axes="bnc"):
        super().__init__()
        self.attend, self.axes = Attend(), axes

    def forward(self, x):
        self.attend(x)
        size = (GRID.rows, GRID.cols)
        if self.axes == "fhwc":
            return x.unflatten(1, size)
        return x.transpose(1, 2).unflatten(2, size) if self.axes == "fchw" else x


class Spy:
    def __init__(self, *needs):
        self.needs, self.captures = frozenset(needs), []

    def read(self, capture, queries):
        self.captures.append(capture)
        return {-1: queries.xy[:, None].expand(-1, capture.grid.frames, -1)}


def video(seed=0, shift=1):
    """Returns (F, h*w, C): a random picture that moves `shift` columns per frame and wraps round at the edges."""
    picture = torch.randn(GRID.rows, GRID.cols, HEADS, WIDTH, generator=torch.Generator().manual_seed(seed))
    picture = 12 * picture / picture.norm(dim=-1, keepdim=True)
    return torch.stack([picture.roll(shift * j, dims=1).flatten(0, 1) for j in range(GRID.frames)]).flatten(2)


def rows(tokens, factorised):
    """(R, tokens of a row, C)"""
    return tokens if factorised.kind == "spatial" else tokens.transpose(0, 1)


def batch(branches, factorised):
    """The rows of several branches, (B, tokens of a row, C), in the order the site says."""
    each = torch.stack([rows(tokens, factorised) for tokens in branches])
    return (each if factorised.order == "branch-major" else each.transpose(0, 1)).flatten(0, 1).contiguous()


def record(probe, site, layout, *passes, grid=GRID, module=None):
    module = module or Block()
    recorder = Recorder({"probe": probe}, QUERIES)
    with recorder.attach(module, [site], layout, grid), recorder.step(0, noise=0.5):
        for tokens in passes:
            module(tokens)
    return recorder.predictions


def site(factorised, **more):
    return Site(0, "attend", HEADS, "factorised", factorised=factorised, block="", **more)


def inner(factorised, **more):
    """The site of a block inside another module, so that the block has a name."""
    return Site(0, "block.attend", HEADS, "factorised", factorised=factorised, block="block", **more)


def wrapped(**options):
    return nn.Sequential(OrderedDict(block=Block(**options)))


def on_grid(tokens):
    """(F, h*w, C) as (H, F, h, w, d), by hand."""
    return tokens.view(GRID.frames, GRID.rows, GRID.cols, HEADS, WIDTH).permute(3, 0, 1, 2, 4)


@pytest.mark.parametrize("order", ["branch-major", "interleaved"])
@pytest.mark.parametrize("kind", ["spatial", "temporal"])
@pytest.mark.parametrize("branches", [BRANCHES, BRANCHES[::-1], ("cond",)])
def test_the_conditional_video_is_put_together(kind, order, branches):
    factorised, cond = Factorised(kind, order), video(1)
    tokens = batch([cond if name == "cond" else video(2) for name in branches], factorised)
    spy = Spy("q", "k", "v", "out")
    record(spy, site(factorised), TokenLayout("none", branches), tokens)
    (capture,) = spy.captures
    for part in (capture.q, capture.k, capture.v):
        assert torch.equal(part, on_grid(cond))
    each = rows(cond, factorised)
    expected = torch.stack([Attend()(one[None])[0] for one in each])  # one frame or position at a time
    expected = expected if kind == "spatial" else expected.transpose(0, 1)
    torch.testing.assert_close(capture.out, on_grid(expected))
    assert capture.k_text.shape == (HEADS, 0, WIDTH)


def test_a_batch_without_guidance_is_the_conditional_branch():
    spy = Spy("q")
    record(spy, site(SPATIAL), TokenLayout("none", BRANCHES), video(1))
    assert torch.equal(spy.captures[0].q, on_grid(video(1)))


@pytest.mark.parametrize("kind", ["spatial", "temporal"])
@pytest.mark.parametrize("shift", [0, 1, 2])
def test_a_known_motion_is_found(kind, shift):
    factorised = Factorised(kind)
    tokens = batch([video(7, 0), video(1, shift)], factorised)
    (prediction,) = record(QueryKey(), site(factorised), TokenLayout("none", BRANCHES), tokens)
    columns = QUERIES[:, 0] // 8
    moved = (columns[:, None] + shift * np.arange(GRID.frames)) % GRID.cols - columns[:, None]
    expected = QUERIES[:, None] + np.stack([moved * 8, np.zeros_like(moved)], axis=-1)
    assert np.array_equal(prediction.xy, expected)
    assert prediction.attention == "factorised"


def test_each_site_has_its_own_grid():
    coarse = TokenGrid(frames=4, rows=1, cols=5, stride=(8, 24))
    module = nn.ModuleDict({"fine": Attend(), "coarse": Attend()})
    sites = [
        Site(layer, name, HEADS, "factorised", factorised=SPATIAL) for layer, name in enumerate(("fine", "coarse"))
    ]
    grids = {"fine": GRID, "coarse": coarse}
    recorder = Recorder({"qk": QueryKey()}, QUERIES)
    with recorder.attach(module, sites, TokenLayout(), lambda found: grids[found.name]), recorder.step(0):
        module["fine"](video())
        module["coarse"](video()[:, :5])
    assert [prediction.grid for prediction in recorder.predictions] == [GRID, coarse]
    with pytest.raises(CaptureError, match=r"15 tokens, the grid 1 x 5 = 5 tokens per frame"):
        record(QueryKey(), site(SPATIAL), TokenLayout(), video(), grid=coarse)


# ------------------------------------------------------------------------------------------------------ frames in parts


@pytest.mark.parametrize("sizes", [(4,), (2, 2), (3, 1), (1, 1, 1, 1)])
@pytest.mark.parametrize("classes", [0, CLASS])
def test_frames_may_come_in_several_passes(sizes, classes):
    whole = video(3)
    padded = torch.cat([torch.randn(GRID.frames, classes, HEADS * WIDTH), whole], dim=1)
    layout = TokenLayout("before", text_tokens=classes) if classes else TokenLayout()
    spy = Spy("q", "k", "hidden", "q_unrotated")
    turned = Unrotated("norm", "norm", "bhnd")
    record(spy, inner(SPATIAL, unrotated=turned), layout, *padded.split(list(sizes)), module=wrapped())
    (capture,) = spy.captures
    assert torch.equal(capture.q, on_grid(whole))
    assert torch.equal(capture.k, on_grid(whole))
    assert torch.equal(capture.q_unrotated, on_grid(whole))
    assert torch.equal(capture.hidden, whole.view(GRID.frames, GRID.rows, GRID.cols, -1))
    assert torch.equal(capture.k_text, padded[0, :classes].unflatten(-1, (HEADS, -1)).transpose(0, 1))


def test_parts_are_kept_when_the_model_writes_over_its_memory():
    spy, first, second = Spy("q"), *video(3).split(2)
    memory, module = first.clone(), Block()
    recorder = Recorder({"spy": spy}, QUERIES)
    with recorder.attach(module, [site(SPATIAL)], TokenLayout(), GRID), recorder.step(0):
        module(memory)
        memory.copy_(second)
        module(memory)
    assert torch.equal(spy.captures[0].q, on_grid(video(3)))


@pytest.mark.parametrize(
    ("passes", "layout", "reason"),
    [
        (video().split(3)[:1], TokenLayout(), r"did not run: attend \(3 of 4 frames came\)"),
        (video().repeat(2, 1, 1).split(3), TokenLayout(), r"computed attention for 6 frames in all; the grid has 4"),
        ([video(), video()], TokenLayout(), "computed attention twice"),
        ([video()[:3]], TokenLayout("none", BRANCHES), r"has 3 rows, .* 2 branch\(es\) .* of 4 frames each"),
        ([video().repeat(3, 1, 1)], TokenLayout("none", BRANCHES), "has 12 rows"),
        ([video()[:, :9]], TokenLayout(), r"9 tokens, the grid 3 x 5 = 15 tokens per frame"),
        ([video()], TokenLayout("before", text_tokens=1), r"leaves 0 for the text, of which the layout declares 1"),
    ],
)
def test_what_does_not_make_the_grid_is_refused(passes, layout, reason):
    with pytest.raises(CaptureError, match=reason):
        record(Spy("q"), site(SPATIAL), layout, *passes)


def test_positions_come_at_once():
    with pytest.raises(CaptureError, match=r"has 7 rows, .* of 15 positions each"):
        record(Spy("q"), site(TEMPORAL), TokenLayout(), video().transpose(0, 1)[:7])
    with pytest.raises(CaptureError, match=r"the sequence has 3 tokens, the grid 4 frames"):
        record(Spy("q"), site(TEMPORAL), TokenLayout(), video()[:3].transpose(0, 1))


# -------------------------------------------------------------------------------------------------------- hidden states


@pytest.mark.parametrize("axes", ["bnc", "fnc", "fchw", "fhwc"])
@pytest.mark.parametrize("kind", ["spatial", "temporal"])
def test_hidden_states_by_their_axes(kind, axes):
    factorised = Factorised(kind if axes == "bnc" else "spatial")
    spy = Spy("hidden")
    tokens = batch([video(7), video(1)], factorised)
    layout = TokenLayout("none", BRANCHES)
    where = inner(Factorised(kind), block_axes=axes)
    record(spy, where, layout, tokens, module=wrapped(axes=axes))
    assert torch.equal(spy.captures[0].hidden, video(1).view(GRID.frames, GRID.rows, GRID.cols, -1))


def test_hidden_states_find_a_known_motion_in_parts():
    parts = video(1, 1).split(3)
    (prediction,) = record(
        Hidden(), inner(SPATIAL, block_axes="fchw"), TokenLayout(), *parts, module=wrapped(axes="fchw")
    )
    assert prediction.xy[0].tolist() == [[4.0 + 8 * j, 4.0] for j in range(4)]


def test_hidden_states_of_another_form_are_refused():
    with pytest.raises(CaptureError, match=r"must be a tensor \(B, C, h, w\), got \(4, 15, 32\)"):
        record(Spy("hidden"), inner(SPATIAL, block_axes="fchw"), TokenLayout(), video(), module=wrapped())
    with pytest.raises(CaptureError, match=r"must be a tensor \(B, h, w, C\), got \(4, 15, 32\)"):
        record(Spy("hidden"), inner(SPATIAL, block_axes="fhwc"), TokenLayout(), video(), module=wrapped())


def test_places_without_attention_show_their_hidden_state_alone():
    nothing = Site(0, "any name", attention="none", block="block", block_axes="fchw")
    parts = video(1, 1).split(3)
    (prediction,) = record(Hidden(), nothing, TokenLayout(), *parts, module=wrapped(axes="fchw"))
    assert (prediction.attention, prediction.xy[0].tolist()) == ("none", [[4.0 + 8 * j, 4.0] for j in range(4)])
    spatial = [replace(inner(SPATIAL), layer=layer, name=f"attend.{layer}") for layer in (1, 3)]
    with pytest.raises(UsageError, match=r"'qk' reads attention; Net shows none at any name\.(.|\n)*--layers 1,3$"):
        check_sites({"qk": QueryKey.needs}, [spatial[0], nothing, spatial[1]], "Net")
    with pytest.raises(UsageError, match=r"--probe hidden-cos$"):
        check_sites({"both": frozenset({"hidden", "v"})}, [nothing], "Net")
    check_sites({"qk": QueryKey.needs}, spatial, "Net")
    check_sites({"hidden": Hidden.needs, "latent": frozenset({"latent"})}, [*spatial, nothing], "Net")


# ------------------------------------------------------------------------------------------------------------- refusals


def test_rows_over_all_tokens_are_refused_by_name():
    needs = {"qk": QueryKey.needs, "attention": AttentionProbe.needs}
    message = r"'attention' reads attention .*attend of Net has none(.|\n)*temporal, along time at one position"
    with pytest.raises(UsageError, match=message):
        check_sites(needs, [site(TEMPORAL)], "Net")
    with pytest.raises(UsageError, match="spatial, within one frame"):
        record(AttentionProbe(), site(SPATIAL), TokenLayout(), video())


def test_records_that_contradict_themselves_are_refused():
    with pytest.raises(UsageError, match="not full3d"):
        Site(0, "attend", factorised=SPATIAL)
    with pytest.raises(UsageError, match="kind must be 'spatial' or 'temporal', got 'frame'"):
        Factorised("frame")
    with pytest.raises(UsageError, match="order must be 'branch-major' or 'interleaved', got 'row'"):
        Factorised("spatial", "row")
    with pytest.raises(UsageError, match="block_axes"):
        Site(0, "attend", block_axes="nchw")
    for layout in (TokenLayout("none", text_tokens=1), TokenLayout("before", text_tokens=-1)):
        with pytest.raises(PluginError, match="text_tokens"):
            check_layout(layout)


def test_models_without_noise_have_no_step():
    recorder = Recorder({"qk": QueryKey()}, QUERIES)
    module = Block()
    with recorder.attach(module, [site(SPATIAL)], TokenLayout(), GRID):
        with recorder.step(-1):
            module(video())
        with pytest.raises(CaptureError, match="recorded before"), recorder.step(-1):
            module(video())
        with pytest.raises(PluginError, match="must be NaN"), recorder.step(-1, noise=0.5):
            module(video())
    (prediction,) = recorder.predictions
    assert prediction.step == -1
    assert math.isnan(prediction.noise)


@pytest.mark.parametrize("kind", ["spatial", "temporal"])
def test_a_layout_written_by_hand(kind):
    factorised, module = Factorised(kind), wrapped()
    layout = vcorr.Layout(
        grid=GRID,
        sites="block.attend",
        branches=BRANCHES,
        heads=HEADS,
        attention="factorised",
        factorised=factorised,
        block="block",
        block_axes="bnc",
    )
    with vcorr.record(module, layout=layout, probes=["qk", "hidden"], queries=QUERIES) as rec:
        module(batch([video(7, 0), video(1, 1)], factorised))
    assert {(p.probe, p.attention) for p in rec.predictions} == {("qk", "factorised"), ("hidden", "factorised")}
    for prediction in rec.predictions:
        assert prediction.xy[0].tolist() == [[4.0 + 8 * j, 4.0] for j in range(4)]
    with pytest.raises(UsageError, match="not full3d"):
        vcorr.record(module, layout=vcorr.Layout(GRID, "block.attend", factorised=factorised), probes=["qk"])
