"""The mask of a call: which text tokens are real, and whether that is all it says."""

import numpy as np
import pytest
import torch

from vcorr.capture import TokenLayout
from vcorr.capture.split import Split, split_call
from vcorr.capture.tap import AttentionCall
from vcorr.contract.errors import CaptureError, NumericalError, PluginError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import RowsPrediction, Site

GRID = TokenGrid(frames=2, rows=2, cols=3, stride=(8, 8))
TEXT, VIDEO = 4, GRID.tokens
REAL = torch.tensor([True, True, False, True])
OPEN = torch.ones(VIDEO, dtype=torch.bool)


def call(mask, causal=False, scale=None, batch=1):
    q, k, v, out = torch.randn(4, batch, 2, VIDEO + TEXT, 8)
    return AttentionCall("attn", q, k, v, out, mask=mask, causal=causal, scale=scale)


def keys(text="after", real=REAL):
    return torch.cat([real, OPEN] if text == "before" else [OPEN, real])


def shapes(row):
    """One row of a mask in all the forms torch's attention takes."""
    size = len(row)
    return {
        "n": row,
        "1n": row[None],
        "nn": row.expand(size, size),
        "b11n": row[None, None, None],
        "b1nn": row.expand(1, 1, size, size),
        "bh1n": row.expand(1, 2, 1, size),
        "bhnn": row.expand(1, 2, size, size),
    }


@pytest.mark.parametrize("text", ["before", "after"])
@pytest.mark.parametrize("form", list(shapes(torch.ones(1))))
@pytest.mark.parametrize("kind", ["bool", "-inf", "-10000"])
def test_padding_is_found_in_every_form(text, form, kind):
    row = keys(text)
    if kind != "bool":
        row = torch.where(row, 0.0, float(kind))
    made = call(shapes(row)[form])
    found = Split(made, Site(0, "attn"), GRID, TokenLayout(text)).mask
    assert torch.equal(found.real, REAL)
    assert bool(found.plain)
    capture = split_call(made, Site(0, "attn"), GRID, TokenLayout(text), step=0, noise=0.5)
    assert torch.equal(capture.key_mask, REAL)


def test_the_conditional_row_is_read():
    mask = torch.stack([keys(real=~REAL), keys()])[:, None, None]
    layout = TokenLayout("after", ("uncond", "cond"))
    assert torch.equal(Split(call(mask, batch=2), Site(0, "attn"), GRID, layout).mask.real, REAL)


def test_rows_of_text_queries_do_not_matter():
    """Hunyuan 1.5 lets padding attend to nothing."""
    both = keys()[:, None] & keys()[None]
    found = Split(call(both[None, None]), Site(0, "attn"), GRID, TokenLayout("after")).mask
    assert torch.equal(found.real, REAL)
    assert bool(found.plain)


@pytest.mark.parametrize("case", ["video hidden", "rows differ", "heads differ", "bias"])
def test_masks_that_say_more_are_found_out(case):
    mask = keys().expand(1, 2, VIDEO + TEXT, VIDEO + TEXT).clone()
    if case == "video hidden":
        mask[0, 0, 3, 5] = False
    elif case == "rows differ":
        mask[0, :, 2, VIDEO] = False
    elif case == "heads differ":
        mask[0, 1, :, VIDEO] = False
    else:
        mask = torch.where(mask, 0.0, -torch.inf)
        mask[..., 1] = 0.25
    assert not bool(Split(call(mask), Site(0, "attn"), GRID, TokenLayout("after")).mask.plain)


def test_without_a_mask_there_is_none_and_the_scale_is_carried():
    made = call(None, scale=0.5)
    assert Split(made, Site(0, "attn"), GRID, TokenLayout("after")).mask is None
    capture = split_call(made, Site(0, "attn"), GRID, TokenLayout("after"), step=0, noise=0.5)
    assert capture.key_mask is None
    assert capture.scale == 0.5


def test_causal_attention_is_refused():
    with pytest.raises(CaptureError, match="causal"):
        Split(call(None, causal=True), Site(0, "attn"), GRID, TokenLayout("after")).mask  # noqa: B018


class Rows:
    """Like `vcorr.functional.AttentionRows`: one number per query for every part but the frames."""

    def __init__(self, points, frames, text=0.25):
        self.peak_cross = torch.full((points, frames - 1), 0.125, dtype=torch.bfloat16)
        self.peak_self = torch.arange(points) / 8
        self.sum_cross = torch.full((points,), 0.5)
        self.sum_self = torch.full((points,), 0.375)
        self.peak_text = self.sum_text = torch.full((points,), text)


class RowReader:
    needs = frozenset({"q", "k", "mask"})

    def __init__(self, **changes):
        self.changes, self.masks = changes, []

    def read(self, capture, queries):
        self.masks.append(capture.key_mask)
        rows = Rows(len(queries), capture.grid.frames)
        for name, value in self.changes.items():
            setattr(rows, name, value)
        return {-1: rows, 1: queries.xy[:, None].expand(-1, capture.grid.frames, -1)}


def test_padding_of_hunyuan_reaches_the_probe(hunyuan_model, queries, run):
    reader = RowReader()
    run(hunyuan_model, {"rows": reader}, queries)
    expected = hunyuan_model.inputs["encoder_attention_mask"][0].bool()
    assert [mask.tolist() for mask in reader.masks] == [expected.tolist()] * 2


def test_models_without_a_mask_hand_none(cog, queries, run):
    reader = RowReader()
    run(cog, {"rows": reader}, queries)
    assert reader.masks == [None, None]


def test_rows_and_positions_become_records_in_order(cog, queries, run):
    recorder = run(cog, {"rows": RowReader()}, queries)
    assert [type(answer).__name__ for answer in recorder.answers] == ["RowsPrediction", "Prediction"] * 2
    assert recorder.rows + recorder.predictions == recorder.answers[::2] + recorder.answers[1::2]
    rows = recorder.rows[1]
    assert isinstance(rows, RowsPrediction)
    assert (rows.probe, rows.layer, rows.layer_name) == ("rows", 1, cog.names[1])
    assert (rows.step, rows.head, rows.noise, rows.attention, rows.grid) == (0, -1, 0.5, "full3d", cog.grid)
    assert rows.peak_cross.shape == (3, 2)
    assert (rows.peak_cross == 0.125).all()
    assert rows.peak_self.tolist() == [0.0, 0.125, 0.25]
    assert (rows.sum_cross == 0.5).all()
    assert (rows.sum_self == 0.375).all()
    assert (rows.peak_text == 0.25).all()
    assert {getattr(rows, part).dtype.name for part in ("peak_cross", "peak_text", "sum_self")} == {"float32"}


def test_rows_without_text(cog, queries, run):
    nothing = torch.full((3,), torch.nan)
    (rows, *_) = run(cog, {"rows": RowReader(peak_text=nothing, sum_text=nothing)}, queries).rows
    assert (rows.peak_text != rows.peak_text).all()
    assert rows.sum_self.tolist() == [0.375] * 3


def test_traits_that_do_not_exist_are_nan(cog, queries, run):
    traits = torch.rand(3, 6)
    traits[1, 3] = torch.nan
    (rows, *_) = run(cog, {"rows": RowReader(traits=traits)}, queries).rows
    np.testing.assert_equal(rows.traits, traits.numpy())
    (rows, *_) = run(cog, {"rows": RowReader()}, queries).rows
    assert rows.traits is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peak_cross": torch.zeros(3, 3)}, r"peak_cross must be a tensor of shape \(3, 2\), got \(3, 3\)"),
        ({"sum_self": [0.0] * 3}, "sum_self must be a tensor .* got list"),
        ({"traits": torch.zeros(3, 5)}, r"traits must be a tensor of shape \(3, 6\), got \(3, 5\)"),
        ({"traits": torch.full((3, 6), 1.5)}, r"traits .* a head and must lie in \[0, 1\], got 1.5 to"),
        ({"sum_self": torch.full((3,), -1.0)}, r"sum_self is a share of attention and must lie in \[0, 1\], got -1 to"),
    ],
)
def test_rows_that_break_the_contract_are_refused(cog, queries, run, change, message):
    with pytest.raises(PluginError, match=message):
        assert run(cog, {"rows": RowReader(**change)}, queries).rows


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sum_self": torch.full((3,), torch.nan)}, "NaN or infinity as sum_self at layer 0, step 0, head -1"),
        ({"sum_text": torch.tensor([0.0, torch.nan, 0.0])}, "NaN or infinity as sum_text"),
        ({"traits": torch.full((3, 6), torch.inf)}, "NaN or infinity as traits"),
    ],
)
def test_rows_that_are_not_finite_say_where(cog, queries, run, change, message):
    with pytest.raises(NumericalError, match=message):
        assert run(cog, {"rows": RowReader(**change)}, queries).rows


def test_rows_of_a_mask_over_video_are_refused_when_asked_for(cog, queries, run):
    hidden = torch.ones(77, 77, dtype=torch.bool)
    hidden[20, 60] = False
    for name in cog.names:
        cog.module.get_submodule(name).set_processor(Masked(hidden))
    recorder = run(cog, {"rows": RowReader()}, queries)
    with pytest.raises(CaptureError, match="mask hides video tokens"):
        assert recorder.rows


class Masked:
    """Attention under a mask that pipelines of this model never pass."""

    def __init__(self, mask):
        self.mask = mask

    def __call__(self, attn, hidden_states, encoder_hidden_states, attention_mask=None, image_rotary_emb=None):
        tokens = torch.cat([encoder_hidden_states, hidden_states], dim=1)
        q, k, v = (part(tokens).unflatten(2, (2, -1)).transpose(1, 2) for part in (attn.to_q, attn.to_k, attn.to_v))
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=self.mask)
        out = attn.to_out[0](out.transpose(1, 2).flatten(2))
        return out[:, encoder_hidden_states.shape[1] :], out[:, : encoder_hidden_states.shape[1]]
