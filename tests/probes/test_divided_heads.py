"""Processes that share a pass: each matches its heads, and their sum predicts what all heads predict."""

from functools import partial

import pytest
import torch
from support.head_shares import play

from vcorr.capture.captures import Capture
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Site
from vcorr.contract.variants import CORRECTED, DIFFTRACK, Switches
from vcorr.functional.head_shares import WHOLE
from vcorr.functional.query_points import QueryPoints
from vcorr.plugins.builtin import vcorr_probes

GRID = TokenGrid(frames=4, rows=4, cols=5, stride=(16, 8), temporal_ratio=4)
POINTS = torch.tensor([[3.0, 4.0], [40.5, 20.25], [79.0, 31.0], [60.0, 12.0]])
HEADS, QUERY_FRAME = 4, 5
HEADED = ("q", "k", "v", "out", "q_unrotated", "k_unrotated", "q_position", "k_position", "k_text")
SOFTMAX = ("qk", "qk-position", "kk", "qq", "vv", "feature-fair", "feature-cos", "hidden-fair")
ADDED = (*SOFTMAX, "feature", "attention", "head-traits")
"""The probes whose predictions are means over heads."""
ENTRIES = {entry.name: entry for entry in vcorr_probes()}


def draw(dtype=torch.float32):
    """Returns the tensors of one site."""
    generator = torch.Generator().manual_seed(0)
    tensors = {part: torch.randn(HEADS, 4, 4, 5, 8, generator=generator) for part in HEADED}
    tensors["k_text"] = torch.randn(HEADS, 3, 8, generator=generator)
    return {part: tensor.to(dtype) for part, tensor in tensors.items()}, torch.randn(4, 4, 5, HEADS * 6).to(dtype)


def capture_of(tensors, hidden, **more):
    return Capture(Site(0, "attn", HEADS, block="block"), GRID, 0, 0.5, **tensors, hidden=hidden, **more)


def show(tensors, hidden, share, *, gathers):
    """Returns what one process shows a probe: all heads, unless they must not be joined, and its own."""
    own = capture_of({part: share.take(tensor) for part, tensor in tensors.items()}, hidden, share=share)
    whole = tensors if gathers else {part: partial(_refuse, part) for part in tensors}
    return capture_of(whole, hidden, own=own)


def _refuse(part):
    pytest.fail(f"{part} was joined from all processes")


def compare(name, processes, variants=(CORRECTED,), dtype=torch.float32, *, gathers=False, **options):
    """Checks every process's predictions against one process's; returns the sums that the processes formed."""
    probe = ENTRIES[name].create(ENTRIES[name].config_type()(**options))
    drawn, points = draw(dtype), QueryPoints(POINTS, QUERY_FRAME)
    alone = probe.read_each(capture_of(*drawn), points, variants)
    played = play(processes, lambda share: probe.read_each(show(*drawn, share, gathers=gathers), points, variants))
    for found in played.results:
        for shown, expected in zip(found, alone, strict=True):
            assert shown.keys() == expected.keys()
            for head, prediction in expected.items():
                torch.testing.assert_close(shown[head], prediction, equal_nan=True)
    return played.sums


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("name", ADDED)
def test_one_sum_over_the_processes_predicts_what_all_heads_predict(name, processes):
    (rows,) = compare(name, processes)
    others, tokens = GRID.frames - 1, GRID.tokens_per_frame
    expected = (4, 3 + GRID.tokens) if name in ("attention", "head-traits") else (others, 4, tokens)
    assert rows.shape == expected


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"symmetric": False}, SOFTMAX),
        ({"radius": 1}, SOFTMAX),
        ({"rotary": False}, ("qk", "kk", "qq")),
        ({"temperature": 0.3}, ("feature-cos",)),
    ],
    ids=str,
)
def test_options_of_the_correlation_keep_one_sum(options, names):
    for name in names:
        assert len(compare(name, 2, **options)) == 1


@pytest.mark.parametrize("name", ADDED)
def test_half_precision_and_several_variants_from_one_reading(name):
    variants = [CORRECTED, Switches(scale="heads"), Switches(readout="field", lookup="exchanged", pooling="everything")]
    assert len(compare(name, 2, variants, torch.bfloat16)) == len(variants)


def test_many_points_are_added_up_in_blocks_of_query_tokens(monkeypatch):
    monkeypatch.setattr("vcorr.functional.blocks.BLOCK", 2 * (GRID.frames - 1) * GRID.tokens_per_frame)
    first, second = compare("qk", 2, radius=1)
    assert first.shape[1] == second.shape[1] == 2


@pytest.mark.parametrize("options", [{"heads": "each"}, {"heads": "0,3"}, {"heads": "2"}], ids=str)
@pytest.mark.parametrize("name", ["qk", "feature", "attention", "head-traits"])
def test_what_needs_heads_of_other_processes_joins_them(name, options):
    assert compare(name, 2, gathers=True, **options) == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", [*SOFTMAX, "feature"])
def test_a_second_softmax_joins_the_heads(name, dtype):
    assert compare(name, 2, [CORRECTED, DIFFTRACK], dtype, gathers=True) == []


def test_one_vector_of_all_heads_joins_them():
    assert compare("feature-cos-token", 2, gathers=True) == []


def test_a_second_softmax_does_not_concern_attention():
    assert len(compare("attention", 2, [CORRECTED, DIFFTRACK])) == 2


def test_one_process_adds_nothing_up():
    capture = capture_of(*draw())
    assert capture.own_heads is capture
    assert capture.share is WHOLE
