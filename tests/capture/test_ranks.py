"""Processes that share a pass: what is refused, and which heads each of them reads."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from vcorr.capture import TokenLayout
from vcorr.capture.needs import PARTS
from vcorr.capture.ranks import ALONE, Ranks, find_ranks
from vcorr.capture.split import hidden_capture, split_call
from vcorr.capture.tap import AttentionCall
from vcorr.contract.errors import CaptureError, PluginError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Site, Unrotated

GRID = TokenGrid(frames=2, rows=3, cols=4, stride=(8, 8))


def denoiser(ulysses=2, ring=1, *, uneven=False):
    module = nn.Linear(1, 1)
    mesh = SimpleNamespace(get_group=lambda: "group")
    context = SimpleNamespace(ring_degree=ring, ulysses_degree=ulysses, ulysses_anything=uneven, _ulysses_mesh=mesh)
    module._parallel_config = SimpleNamespace(context_parallel_config=context)
    return module


def test_the_processes_are_those_that_diffusers_was_told_of():
    tensor = nn.Linear(1, 1)
    tensor._parallel_config = SimpleNamespace(context_parallel_config=None)
    assert find_ranks([nn.Linear(1, 1), tensor], TokenLayout("before")) == ALONE
    assert find_ranks([denoiser(4), denoiser(4)], TokenLayout()) == Ranks(4, "group")


@pytest.mark.parametrize(
    ("denoisers", "layout", "said"),
    [
        ([denoiser(1, ring=2)], TokenLayout(), "Under ring attention"),
        ([denoiser(uneven=True)], TokenLayout(), "with uneven shares"),
        ([denoiser(2), denoiser(4)], TokenLayout(), "different numbers of processes: 2, 4"),
        ([denoiser(2), nn.Linear(1, 1)], TokenLayout(), "different numbers of processes: 2, 1"),
        ([denoiser()], TokenLayout("before"), "Text and video tokens are in one sequence"),
    ],
)
def test_shares_that_cannot_be_joined_are_refused(denoisers, layout, said):
    with pytest.raises(CaptureError, match=said):
        find_ranks(denoisers, layout)


def test_one_process_has_everything_already():
    whole = torch.arange(6.0).view(2, 3)
    assert ALONE.join_heads(whole) is ALONE.join_tokens(whole, 1, 3) is ALONE.mean(whole) is whole


@pytest.mark.parametrize("total", [3, 7])
def test_tensors_that_are_no_share_of_the_tokens_stay_as_they_are(total):
    whole = torch.zeros(2, 3)
    assert Ranks(2).join_tokens(whole, 1, total) is whole


@pytest.fixture(params=[0, 1])
def rank(request, monkeypatch):
    """One of two processes, in which nothing may be joined."""
    monkeypatch.setattr(torch.distributed, "get_rank", lambda group: request.param)
    monkeypatch.setattr(Ranks, "_join", lambda *_: pytest.fail("heads of the other process were joined"))
    return request.param


def attention_call(kv_heads, heads=slice(None)):
    """Returns the call with some of four query heads, and as large a share of the key and value heads."""
    generator = torch.Generator().manual_seed(0)
    q, out = (torch.randn(1, 4, GRID.tokens, 6, generator=generator) for _ in range(2))
    k, v = (torch.randn(1, kv_heads, GRID.tokens, 6, generator=generator) for _ in range(2))
    shared = slice(*(None if end is None else end * kv_heads // 4 for end in (heads.start, heads.stop)))
    return AttentionCall("attn", q[:, heads], k[:, shared], v[:, shared], out[:, heads])


@pytest.mark.parametrize("kv_heads", [4, 2])
def test_the_own_heads_of_a_call_are_shown_without_joining(rank, kv_heads):
    before = torch.randn(1, GRID.tokens, kv_heads * 6)
    site, more = Site(0, "attn", 4, unrotated=Unrotated(axes="bnc")), {"step": 0, "noise": 0.5}
    more["unrotated"] = {"q": before.repeat(1, 1, 4 // kv_heads), "k": before}
    whole = split_call(attention_call(kv_heads), site, GRID, TokenLayout(), **more)
    mine = attention_call(kv_heads, slice(2 * rank, 2 * rank + 2))
    shown = split_call(mine, site, GRID, TokenLayout(), **more, ranks=Ranks(2))
    own = shown.restrict_to(frozenset({*PARTS})).own_heads
    assert own.share.processes == 2
    assert whole.own_heads is whole
    for part in ("q", "k", "v", "out", "k_text", "q_unrotated", "k_unrotated"):
        assert torch.equal(getattr(own, part), getattr(whole, part).chunk(2)[rank]), part
    assert own.key_mask is None


def test_the_own_heads_follow_the_rules_of_their_capture(rank):
    call = attention_call(4, slice(0, 2))
    shown = split_call(call, Site(0, "attn", 4), GRID, TokenLayout(), step=0, noise=0.5, ranks=Ranks(2))
    narrow = shown.restrict_to(frozenset({"q"}))
    narrow.watch_writes()
    with pytest.raises(PluginError, match="v of attn was read"):
        narrow.own_heads.v  # noqa: B018
    narrow.own_heads.q.add_(1)
    assert narrow.find_write() == "q"
    assert shown.replace(hidden=torch.zeros(2, 3, 4, 24)).own_heads.hidden.shape == (2, 3, 4, 24)
    changed = shown.replace(q=torch.zeros(4, 2, 3, 4, 6))
    assert changed.own_heads is changed


def test_a_hidden_state_has_no_heads_until_a_probe_takes_them(rank):
    site = Site(0, "attn", 4, block="block")
    capture = hidden_capture(
        torch.randn(1, GRID.tokens, 8), site, GRID, TokenLayout(), step=0, noise=0.5, ranks=Ranks(2)
    )
    own = capture.own_heads
    assert own.hidden is capture.hidden
    assert torch.equal(own.share.take(torch.arange(4)), torch.tensor([[0, 1], [2, 3]])[rank])
