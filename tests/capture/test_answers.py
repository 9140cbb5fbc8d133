"""What probes are shown and what they answer: made once for all of them, in any frame, with what they know about it."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vcorr.capture import TokenLayout
from vcorr.capture.batch_rows import heads_on_grid
from vcorr.capture.recorder import Recorder
from vcorr.capture.split import Split
from vcorr.contract.errors import CaptureError, NumericalError, PluginError, UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.protocols import Positions
from vcorr.contract.records import Prediction, Queries, Site
from vcorr.functional.query_points import QueryPoints
from vcorr.plugins.registry import installed


class Spy:
    """Answers the queries themselves."""

    needs = frozenset({"q"})

    def read(self, capture, queries):
        return {-1: queries.xy[:, None].expand(-1, capture.grid.frames, -1)}


class Answers(Spy):
    def __init__(self, answer):
        self.answer = answer

    def read(self, capture, queries):
        return self.answer(capture, queries)


def record(tiny, recorder):
    with recorder.attach(tiny.module, tiny.sites, tiny.layout, tiny.grid), recorder.step(0, noise=0.5):
        tiny()


# ------------------------------------------------------------------------------------- once for all probes and points


SIX = ("qk", "kk", "qq", "vv", "feature", "attention")


def test_two_calls_and_six_probes_are_two_splits_and_points_are_located_once(cog, queries, monkeypatch):
    splits, tensors, lookups = [], [], []

    class Counted(Split):
        def __post_init__(self):
            splits.append(self.call.name)
            super().__post_init__()

    def on_grid(rows, *args):
        tensors.append(rows)
        return heads_on_grid(rows, *args)

    def located(points, *args):
        before = points.lookups
        found = lookup(points, *args)
        lookups.append(points.lookups - before)
        return found

    lookup = QueryPoints._lookup
    monkeypatch.setattr("vcorr.capture.step_reader.Split", Counted)
    monkeypatch.setattr("vcorr.capture.split.heads_on_grid", on_grid)
    monkeypatch.setattr(QueryPoints, "_lookup", located)
    probes = {name: installed().probes.get(name).entry.create() for name in SIX}
    recorder = Recorder(probes, queries)
    record(cog, recorder)
    assert len(recorder.answers) == 2 * len(SIX)
    assert splits == cog.names
    assert len(tensors) == 2 * len(("q", "k", "v", "out"))
    assert sum(lookups) == 1
    assert len(lookups) == 2 * len(SIX)


def test_each_tensor_is_made_once_for_all_probes(cog, queries):
    seen = []

    class Look(Spy):
        def read(self, capture, queries):
            seen.append(capture.q)
            return super().read(capture, queries)

    record(cog, Recorder({name: Look() for name in "abc"}, queries))
    assert len(seen) == 6
    assert seen[0] is seen[1] is seen[2]
    assert seen[3] is not seen[0]


@pytest.mark.parametrize("part", ["q", "out", "hidden"])
def test_a_probe_that_writes_into_the_models_memory_is_named(cog, queries, part):
    def scale(capture, queries):
        getattr(capture, part).mul_(2)
        return {-1: queries.xy[:, None].expand(-1, 3, -1)}

    writer = Answers(scale)
    writer.needs = frozenset({part})
    with pytest.raises(PluginError, match=rf"Probe 'writer' wrote into {part} of transformer_blocks.0.attn1"):
        record(cog, Recorder({"reader": Spy(), "writer": writer}, queries))


def test_a_probe_that_clones_first_is_not(cog, queries):
    def scale(capture, queries):
        capture.q.clone().mul_(2)
        return {-1: queries.xy[:, None].expand(-1, 3, -1)}

    record(cog, Recorder({"careful": Answers(scale)}, queries))


# -------------------------------------------------------------------------------------------- queries with a time


def test_queries_in_several_frames_are_asked_frame_by_frame_and_joined(cog, queries):
    frames = np.array([8, 0, 8], dtype=np.int32)
    asked = []

    def answer(capture, points):
        asked.append((points.frame, points.xy.tolist()))
        return {head: points.xy[:, None] + torch.arange(3)[None, :, None] + head for head in (-1, 0)}

    recorder = Recorder({"spy": Answers(answer)}, Queries(frames, queries))
    record(cog, recorder)
    assert asked == [(0, queries[1:2].tolist()), (8, queries[[0, 2]].tolist())] * 2
    for prediction in recorder.predictions:
        assert np.array_equal(prediction.xy, queries[:, None] + np.arange(3)[None, :, None] + prediction.head)


def test_what_is_joined_is_what_each_frame_is_answered_by_itself(cog, queries):
    frames = np.array([5, 0, 8], dtype=np.int32)
    probes = {name: installed().probes.get(name).entry.create() for name in ("qk", "feature", "attention")}
    together = Recorder(probes, Queries(frames, queries))
    record(cog, together)
    for index in range(3):
        alone = Recorder(probes, Queries.at(queries[index : index + 1], int(frames[index])))
        record(cog, alone)
        for one, other in zip(together.answers, alone.answers, strict=True):
            for part in ("xy",) if hasattr(one, "xy") else ("peak_cross", "peak_self", "sum_cross", "sum_text"):
                np.testing.assert_allclose(getattr(one, part)[index], getattr(other, part)[0], atol=1e-5)


def test_probes_that_answer_frames_differently_are_refused(cog, queries):
    def answer(capture, points):
        return {0 if points.frame else -1: points.xy[:, None].expand(-1, 3, -1)}

    with pytest.raises(PluginError, match="Probe 'spy' must return the same heads"):
        record(cog, Recorder({"spy": Answers(answer)}, Queries(np.array([0, 0, 8], dtype=np.int32), queries)))


def test_queries_after_the_last_frame_are_refused_before_anything_runs(cog, queries):
    late = Queries.at(queries, 9)
    with pytest.raises(UsageError, match="9"):
        record(cog, Recorder({"spy": Spy()}, late))


# --------------------------------------------------------------------------------------- visibility and confidence


def positions(**extra):
    def answer(capture, points):
        xy = points.xy[:, None].expand(-1, 3, -1)
        return {-1: Positions(xy, **{name: make(xy[..., 0]) for name, make in extra.items()})}

    return Answers(answer)


def test_visibility_and_confidence_are_kept_where_they_are_answered(cog, queries):
    made = {
        "both": positions(visible=lambda x: x > 50, confidence=lambda x: x / 100),
        "sure": positions(confidence=lambda x: x / 100),
        "none": positions(),
    }
    recorder = Recorder(made, queries)
    record(cog, recorder)
    both, sure, none = recorder.predictions[:3]
    expected = np.repeat(queries[:, :1], 3, axis=1)
    for prediction in (both, sure, none):
        assert np.array_equal(prediction.xy, np.repeat(queries[:, None], 3, axis=1))
    assert np.array_equal(both.visible, expected > 50)
    assert both.visible.dtype == np.bool_
    np.testing.assert_allclose(both.confidence, expected / 100)
    np.testing.assert_allclose(sure.confidence, expected / 100)
    assert sure.visible is None
    assert none.visible is none.confidence is None


@pytest.mark.parametrize(
    ("extra", "error", "message"),
    [
        ({"visible": lambda x: x[:, 1:] > 0}, PluginError, r"visible must be a tensor of shape \(3, 3\)"),
        ({"confidence": lambda x: [1.0]}, PluginError, "confidence must be a tensor"),
        ({"confidence": lambda x: x + 1}, PluginError, r"confidence must lie in \[0, 1\]"),
        ({"confidence": lambda x: x * math.nan}, NumericalError, "NaN"),
    ],
)
def test_extras_that_break_the_contract_name_the_probe(cog, queries, extra, error, message):
    def predict():
        recorder = Recorder({"spy": positions(**extra)}, queries)
        record(cog, recorder)
        return recorder.predictions

    with pytest.raises(error, match=f"Probe 'spy'.*{message}"):
        predict()


ALL = (*SIX, "hidden", "hidden-fair", "feature-cos", "feature-cos-token", "hidden-cos")


@given(st.data())
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_answer_depends_on_its_own_query_alone(cog, data):
    """Other queries in the same clip, in any order and any frames, change nothing."""
    count = data.draw(st.integers(2, 6))
    place = st.tuples(st.integers(0, 8), st.floats(0, 95.5, width=32), st.floats(0, 63.5, width=32))
    drawn = np.array(data.draw(st.lists(place, min_size=count, max_size=count)), dtype=np.float32)
    order = np.array(data.draw(st.permutations(range(count)))[: data.draw(st.integers(1, count))])
    probes = {name: installed().probes.get(name).entry.create() for name in ALL}
    queries, found = Queries(drawn[:, 0], drawn[:, 1:]), []
    for asked in (queries, queries[order]):
        recorder = Recorder(probes, asked, layers=[1])
        record(cog, recorder)
        found.append(recorder.answers)
    for together, apart in zip(*found, strict=True):
        parts = ("xy",) if isinstance(together, Prediction) else ("peak_cross", "peak_self", "sum_cross", "sum_self")
        for part in parts:
            np.testing.assert_allclose(getattr(together, part)[order], getattr(apart, part), atol=1e-3)
        if isinstance(together, Prediction):
            own = together.grid.latents_at(queries.t)
            assert np.array_equal(together.xy[np.arange(count), own], queries.xy)


# ------------------------------------------------------------------------------------------- captures that are kept


class Attention(torch.nn.Module):
    """Attention over 2 x 3 x 4 tokens whose q, output and mask are at hand."""

    def __init__(self):
        super().__init__()
        self.q = torch.randn(1, 2, GRID.tokens + 2, 8, generator=torch.Generator().manual_seed(0))
        self.mask = torch.ones(1, 1, 1, GRID.tokens + 2, dtype=torch.bool)

    def forward(self, x):
        self.out = F.scaled_dot_product_attention(self.q, self.q, self.q, attn_mask=self.mask)
        return x


class Block(torch.nn.Module):
    """Puts the tokens out as they are; `over` is done between its attention and its end."""

    def __init__(self, over):
        super().__init__()
        self.attn, self.over = Attention(), over

    def forward(self, x):
        self.attn(x)
        self.over(self.attn)
        return x


GRID = TokenGrid(frames=2, rows=3, cols=4, stride=(8, 8))
SITE = Site(0, "0.attn", heads=2, block="0")


def nothing(attention):
    """Leaves everything as it is."""


def run_block(probes, over=nothing):
    model = torch.nn.Sequential(Block(over))
    recorder = Recorder(probes, [[4.0, 4.0]])
    with recorder.attach(model, [SITE], TokenLayout("after"), GRID), recorder.step(0):
        model(torch.ones(1, GRID.tokens, 16))
    return model[0].attn


class Keeps(Spy):
    """Keeps its capture; reads `read` of it at once."""

    def __init__(self, *needs, read=()):
        self.needs, self.now = frozenset(needs), read

    def read(self, capture, queries):
        for part in self.now:
            getattr(capture, part)
        self.capture = capture
        return super().read(capture, queries)


@pytest.mark.parametrize("read", [(), ("q", "out")])
def test_a_kept_capture_is_read_as_it_was_or_refused(read):
    probe = Keeps("q", "out", read=read)
    attention = run_block({"keeps": probe})
    tokens = attention.q[0, :, : GRID.tokens].view(2, 2, 3, 4, 8)
    assert torch.equal(probe.capture.q, tokens)
    attention.q.add_(1)
    with pytest.raises(CaptureError, match=r"q of 0.attn cannot be read any more(.|\n)*keep a clone"):
        probe.capture.q  # noqa: B018
    assert torch.equal(probe.capture.out.flatten(1, 3), attention.out[0, :, : GRID.tokens])


@pytest.mark.parametrize("read", [(), ("q",)])
def test_under_inference_mode_nobody_can_tell_so_a_kept_capture_is_refused(read):
    probe = Keeps("q", read=read)
    with torch.inference_mode():
        run_block({"keeps": probe})
        with pytest.raises(CaptureError, match="inference_mode"):
            probe.capture.q  # noqa: B018


@pytest.mark.parametrize("early", [(), ("out",)])
def test_a_probe_of_the_hidden_state_is_not_shown_what_the_block_has_written_over(early):
    """The probe runs after the block, when the memory of the attention may hold something else."""
    probes = {"early": Keeps("out", read=early), "late": Keeps("out", "hidden", read=("hidden", "out"))}
    run_block(probes)
    with pytest.raises(CaptureError, match=r"out of 0\.attn cannot be read any more"):
        run_block(probes, over=lambda attention: attention.out.mul_(2))
    run_block(probes, over=lambda attention: attention.q.mul_(2))  # which is not read


@pytest.mark.parametrize("part", ["q", "k", "k_text", "v", "out", "key_mask", "hidden"])
@pytest.mark.parametrize("before", [(), ("part",)])
def test_every_part_that_a_probe_writes_into_is_named(part, before):
    need = {"k_text": "k", "key_mask": "mask"}.get(part, part)

    def write(capture, queries):
        getattr(capture, part)[:1].zero_()
        return {-1: queries.xy[:, None].expand(-1, capture.grid.frames, -1)}

    writer = Answers(write)
    writer.needs = frozenset({need})
    readers = {"reader": Keeps(need, read=(part,))} if before else {}
    with pytest.raises(PluginError, match=rf"Probe 'writer' wrote into {part} of 0.attn"):
        run_block({**readers, "writer": writer})


def test_a_probe_that_writes_into_the_query_points_is_named():
    def write(capture, queries):
        queries.xy.add_(1)
        return {-1: queries.xy[:, None].expand(-1, capture.grid.frames, -1)}

    with pytest.raises(PluginError, match="Probe 'writer' wrote into the query points"):
        run_block({"writer": Answers(write)})
