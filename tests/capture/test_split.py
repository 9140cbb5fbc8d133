"""A call cut into the conditional branch, video and text: views of the right elements."""

import pytest
import torch

from vcorr.capture import Capture, TokenLayout
from vcorr.capture.needs import CALL_PARTS, PARTS
from vcorr.capture.split import check_layout, split_call
from vcorr.capture.tap import AttentionCall
from vcorr.contract.errors import CaptureError, PluginError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Site

GRID = TokenGrid(frames=2, rows=3, cols=4, stride=(8, 8))
SITE = Site(0, "attn")
VIDEO = GRID.tokens


def made(batch, tokens, heads=2, width=3, kv_heads=None, keys=None):
    def tensor(count, length):
        return torch.randn(batch, length, count, width).transpose(1, 2)  # as models stride it

    q, out = tensor(heads, tokens), tensor(heads, tokens)
    k, v = tensor(kv_heads or heads, keys or tokens), tensor(kv_heads or heads, keys or tokens)
    return AttentionCall("attn", q, k, v, out)


def split(call, layout, **changes):
    return split_call(call, SITE, GRID, layout, **{"step": 3, "noise": 0.5, **changes})


@pytest.mark.parametrize(("text", "start"), [("before", 5), ("after", 0), ("none", 0)])
def test_video_tokens_are_the_right_ones(text, start):
    call = made(1, VIDEO + (0 if text == "none" else 5))
    capture = split(call, TokenLayout(text))
    for part in ("q", "k", "v", "out"):
        seen, whole = getattr(capture, part), getattr(call, part)
        assert seen.shape == (2, 2, 3, 4, 3)
        assert seen.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()
        frame, row, col = 1, 2, 3
        assert torch.equal(seen[:, frame, row, col], whole[0, :, start + (frame * 3 + row) * 4 + col])
    n = 0 if text == "none" else 5
    assert capture.k_text.shape == (2, n, 3)
    if text == "before":
        assert torch.equal(capture.k_text, call.k[0, :, :5])
    if text == "after":
        assert torch.equal(capture.k_text, call.k[0, :, VIDEO:])
    assert (capture.site, capture.grid, capture.step, capture.noise) == (SITE, GRID, 3, 0.5)


@pytest.mark.parametrize("branches", [("uncond", "cond"), ("cond", "uncond"), ("cond", "uncond", "uncond-image")])
def test_conditional_row_is_read(branches):
    call = made(len(branches), VIDEO)
    capture = split(call, TokenLayout("none", branches))
    row = branches.index("cond")
    assert torch.equal(capture.q.flatten(1, 3), call.q[row])
    assert torch.equal(capture.k.flatten(1, 3), call.k[row])


def test_batch_of_one_is_the_conditional_branch():
    call = made(1, VIDEO)
    assert torch.equal(split(call, TokenLayout("none", ("uncond", "cond"))).q.flatten(1, 3), call.q[0])


@pytest.mark.parametrize("needs", [frozenset(), frozenset({"q"}), frozenset({"k", "out"}), CALL_PARTS])
def test_a_probe_reads_what_it_asked_for_and_nothing_else(needs):
    whole = split(made(1, VIDEO), TokenLayout())
    capture = whole.restrict_to(needs)
    for part in PARTS - {"mask"}:
        if part in needs:
            assert getattr(capture, part) is getattr(whole, part)
        else:
            with pytest.raises(PluginError, match=f"{part} of attn was read(.|\n)*needs = "):
                getattr(capture, part)
    if "k" not in needs:
        with pytest.raises(PluginError, match="k_text"):
            capture.k_text  # noqa: B018
    with pytest.raises(PluginError, match=r"needs = frozenset\(.'mask'"):
        capture.key_mask  # noqa: B018


def test_tensors_are_made_when_they_are_first_read_and_only_once():
    made_parts = []

    def part():
        made_parts.append(1)
        return torch.zeros(2)

    capture = Capture(SITE, GRID, 0, 0.5, q=part, k=part)
    assert made_parts == []
    assert capture.q is capture.q
    assert capture.restrict_to(frozenset({"q"})).q is capture.q
    assert made_parts == [1]


def test_writes_into_tensors_and_into_what_they_are_views_of_are_found():
    base = torch.zeros(4, 3)
    capture = Capture(SITE, GRID, 0, 0.5, q=lambda: base[1:], k=torch.ones(2))
    capture.watch_writes()
    assert capture.find_write() is None
    capture.q  # noqa: B018
    assert capture.find_write() is None
    base += 1
    assert capture.find_write() == "q"
    capture.watch_writes()
    capture.k.mul_(2)
    assert capture.find_write() == "k"
    with torch.inference_mode():
        quiet = Capture(SITE, GRID, 0, 0.5, q=torch.zeros(2))
        quiet.watch_writes()
        quiet.q.add_(1)
        assert quiet.find_write() is None


@pytest.mark.parametrize("came", [1, 4])
def test_other_heads_than_declared_are_refused_with_both_numbers(came):
    declared = Site(0, "attn", heads=2)
    with pytest.raises(CaptureError, match=f"has {came} heads, the site declares 2(.|\n)*parallelism"):
        split_call(made(1, VIDEO, heads=came), declared, GRID, TokenLayout(), step=0, noise=0.5)


def test_grouped_queries_share_keys_as_torch_does():
    call = made(1, VIDEO, heads=4, kv_heads=2)
    capture = split(call, TokenLayout())
    k, v = capture.k.flatten(1, 3), capture.v.flatten(1, 3)
    expected = torch.nn.functional.scaled_dot_product_attention(call.q, call.k, call.v, enable_gqa=True)
    torch.testing.assert_close(torch.nn.functional.scaled_dot_product_attention(call.q[0], k, v), expected[0])


@pytest.mark.parametrize(
    ("call", "layout", "message"),
    [
        (made(1, VIDEO - 1), TokenLayout("before"), r"23 tokens, the grid 2 x 3 x 4 = 24 video tokens"),
        (made(1, VIDEO + 7), TokenLayout("none"), r"31 tokens.*declares no text(.|\n)*other 7"),
        (made(2, VIDEO), TokenLayout("none"), r"has 2 rows, but the layout declares 1 branch"),
        (made(4, VIDEO), TokenLayout("none", ("uncond", "cond")), r"has 4 rows"),
        (made(1, VIDEO, keys=5), TokenLayout("none"), r"24 queries attend to 5 keys"),
        (made(1, VIDEO, heads=3, kv_heads=2), TokenLayout("none"), r"3 query heads cannot share 2"),
        (
            AttentionCall("attn", *(torch.zeros(2, VIDEO, 3) for _ in range(4))),
            TokenLayout("none"),
            r"q must have shape \(B, H, N, D\)",
        ),
    ],
)
def test_other_layouts_than_declared_are_refused_with_numbers(call, layout, message):
    with pytest.raises(CaptureError, match=message):
        split(call, layout)


@pytest.mark.parametrize(
    "layout",
    [
        TokenLayout(branches=()),
        TokenLayout(branches=("uncond",)),
        TokenLayout(branches=("cond", "cond")),
        TokenLayout("left"),
    ],
)
def test_layouts_that_make_no_sense_are_refused(layout):
    with pytest.raises(PluginError, match="TokenLayout"):
        check_layout(layout)
