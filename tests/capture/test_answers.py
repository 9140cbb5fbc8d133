"""What probes are shown and what they answer: made once for all of them, in any frame, with what they know about it."""

import math

import numpy as np
import pytest
import torch

from vcorr.capture.recorder import Recorder
from vcorr.capture.rows import heads_on_grid
from vcorr.capture.split import Split
from vcorr.errors import NumericalError, PluginError, UsageError
from vcorr.functional.queries import QueryPoints
from vcorr.protocols import Positions
from vcorr.records import Queries
from vcorr.registry import installed


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
    monkeypatch.setattr("vcorr.capture.reader.Split", Counted)
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

    with pytest.raises(PluginError, match="Probe 'spy' answered other heads"):
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
