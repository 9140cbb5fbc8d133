"""The one definition of "comparable": which facts of two runs must agree, as properties over made-up facts."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcorr.analysis.comparable import ClipFacts, MeasuredOn, are_comparable, differences, note_clips
from vcorr.store.columns import to_table
from vcorr.store.schema import SCORES, ScoreRow

clip_facts = st.builds(
    ClipFacts,
    content=st.sampled_from(["", "a", "b"]),
    frames=st.sampled_from([0, 9, 17]),
    height=st.sampled_from([64, 128]),
    width=st.just(64),
    tracker=st.sampled_from(["exact", "dis"]),
    tracker_version=st.sampled_from([0, 1]),
    tracks=st.sampled_from(["", "x", "y"]),
    video=st.sampled_from(["", "v", "w"]),
)
measured = st.builds(
    MeasuredOn,
    dataset=st.sampled_from(["sprites", "video"]),
    version=st.just(1),
    split=st.sampled_from(["test", "train"]),
    options=st.fixed_dictionaries({"size": st.sampled_from([64, 128])}, optional={"new": st.sampled_from(["x", "y"])}),
    content=st.just({}),
    mode=st.sampled_from(["renoise", "generate"]),
    task=st.just("correspondence"),
    seed=st.sampled_from([1, 2]),
    noise_draw=st.sampled_from(["clip", "shared"]),
    tracker=st.sampled_from([{}, {"name": "dis", "version": 1}, {"name": "dis", "version": 2}]),
    scoring=st.sampled_from([1, 2]),
    metrics=st.dictionaries(
        st.sampled_from(["pck", "mine"]), st.fixed_dictionaries({"version": st.sampled_from([1, 2])}), max_size=2
    ),
    clips=st.dictionaries(st.sampled_from(["c1", "c2", "c3"]), clip_facts, max_size=3),
    videos_of=st.sampled_from(["", "run"]),
)


def agree(*values) -> bool:
    """Returns whether known values are equal."""
    return len({value for value in values if value}) <= 1


def slow(a: MeasuredOn, b: MeasuredOn) -> bool:
    """Applies the definition, fact by fact."""
    of_runs = all(getattr(a, name) == getattr(b, name) for name in ("dataset", "split", "mode", "tracker", "scoring"))
    common = set(a.clips) & set(b.clips)
    known = all(a.clips[clip].content and b.clips[clip].content for clip in common)
    names = set(a.options) & set(b.options) if known else set(a.options) | set(b.options)
    of_runs = of_runs and all(a.options.get(name) == b.options.get(name) for name in names)
    metrics = all(a.metrics[name] == b.metrics[name] for name in set(a.metrics) & set(b.metrics))
    generated, borrowed = a.mode == "generate", bool(a.videos_of or b.videos_of)
    for clip in set(a.clips) & set(b.clips):
        x, y = a.clips[clip], b.clips[clip]
        names = ("content", "frames", "tracker", "tracker_version")
        if not all(agree(getattr(x, name), getattr(y, name)) for name in names):
            return False
        if generated and not borrowed and x.height != y.height:
            return False
        if borrowed and not agree(x.video, y.video):
            return False
        if x.height == y.height and x.frames == y.frames and not agree(x.tracks, y.tracks):
            return False
    return of_runs and metrics and (not generated or (a.seed, a.noise_draw) == (b.seed, b.noise_draw))


@given(measured, measured)
def test_runs_compare_where_every_fact_agrees(a, b) -> None:
    assert are_comparable(a, b) == slow(a, b)
    assert are_comparable(a, b) == are_comparable(b, a)


@given(measured)
def test_a_run_compares_with_itself_and_with_fewer_of_its_clips(a) -> None:
    assert differences(a, a) == []
    assert differences(a, replace(a, clips=dict(list(a.clips.items())[:1]))) == []


@pytest.mark.parametrize(("content", "compare"), [("a", True), ("", False)])
def test_an_option_that_an_older_vcorr_lacks_counts_unless_the_content_is_known(content, compare) -> None:
    facts = {"version": 1, "split": "test", "content": {}, "mode": "renoise", "task": "", "seed": None}
    facts |= {"noise_draw": None, "tracker": {}, "scoring": 1, "metrics": {}}
    old = MeasuredOn("sprites", options={}, clips={"c1": ClipFacts(content=content)}, **facts)
    new = replace(old, options={"level": "easy"})
    assert are_comparable(old, new) is are_comparable(new, old) is compare
    assert not are_comparable(replace(old, options={"level": "hard"}), new)


def test_an_option_that_changes_the_clips_is_named_where_one_side_has_its_default() -> None:
    """Checks it for levels: a run on the default level has no such option."""
    facts = {"version": 1, "split": "test", "content": {}, "mode": "renoise", "task": "", "seed": None}
    facts |= {"noise_draw": None, "tracker": {}, "scoring": 1, "metrics": {}}
    easy = MeasuredOn("sprites", options={}, clips={"c1": ClipFacts(content="a")}, **facts)
    hard = replace(easy, options={"level": "hard"}, clips={"c1": ClipFacts(content="b")})
    (found,) = differences(easy, hard)
    assert (found.text, found.remedy) == ("option data.level: none and hard", "same data")
    (found,) = differences(easy, replace(hard, options={}))
    assert (found.what, found.remedy) == ("content of clip c1", "repeat")


@pytest.mark.parametrize("order", [1, -1])
def test_facts_come_from_the_scored_rows_of_each_clip(order) -> None:
    shared = {"frames": 17, "height": 64, "width": 32, "tracker": "exact", "tracker_version": 3}
    rows = [
        ScoreRow(clip="a", metric="pck_4", data_hash="1", **shared),
        ScoreRow(clip="a", metric="pck_8", data_hash="1", **shared),
        ScoreRow(clip="b", metric="pck_4", data_hash="2", **shared),
        ScoreRow(clip="failed", metric="", status="failed"),
    ]
    tables = [to_table(rows[::order], SCORES), to_table(rows[3:], SCORES)]
    found: dict[str, ClipFacts] = {}
    assert [table.num_rows for table in note_clips(iter(tables), found)] == [4, 1]
    assert found == {clip: ClipFacts(content, 17, 64, 32, "exact", 3) for clip, content in (("a", "1"), ("b", "2"))}
    assert all(isinstance(table, pa.Table) for table in tables)
