"""The suites pass what is right, and name what is wrong."""

import dataclasses

import numpy as np
import pytest
import torch

from vcorr.contract.bases import DatasetBase, with_defaults
from vcorr.contract.errors import UsageError
from vcorr.contract.records import Clip, Queries, Score, Tracks
from vcorr.functional import attention_rows, match
from vcorr.testing import assert_passed, check_dataset, check_metric, check_probe, check_tracker, random_clip


def failed(report):
    return {check.name for check in report.failures}


# ------------------------------------------------------------------------------------------------------------- probes


class KeyKey:
    needs = frozenset({"k"})

    def read(self, capture, queries):
        return {-1: match(capture.k, capture.k, capture.grid, queries)}


class Stays(KeyKey):
    def read(self, capture, queries):
        return {-1: queries.xy[:, None].expand(-1, capture.grid.frames, -1)}


class Exchanged(KeyKey):
    """x and y the wrong way round on the way out."""

    def read(self, capture, queries):
        xy = match(capture.k, capture.k, capture.grid, queries)
        return {-1: torch.cat([xy[:, :1], (xy[:, 1:] - xy[:, :1]).flip(-1) + xy[:, :1]], 1)}


class Undeclared(KeyKey):
    needs = frozenset({"q"})


class Writes(KeyKey):
    def read(self, capture, queries):
        answer = super().read(capture, queries)
        capture.k.mul_(2)
        torch.rand(1)
        return answer


class Averages(KeyKey):
    def read(self, capture, queries):
        xy = super().read(capture, queries)[-1]
        return {-1: torch.cat([xy[:, :1], xy[:, 1:].mean(0, keepdim=True).expand(len(xy), -1, -1)], 1)}


class Flat(KeyKey):
    def read(self, capture, queries):
        return {5: super().read(capture, queries)[-1][:, 1:]}


def test_a_right_probe_passes():
    assert_passed(check_probe(KeyKey()))
    assert "one query does not depend on another" in {check.name for check in check_probe(KeyKey)}


@pytest.mark.parametrize(
    ("probe", "names"),
    [
        (Stays, {"finds a known motion"}),
        (Exchanged, {"finds a known motion"}),
        (Writes, {"tensors and random state are not changed"}),
        (Averages, {"one query does not depend on another", "finds a still picture", "finds a known motion"}),
    ],
)
def test_a_wrong_probe_fails_the_right_check(probe, names):
    assert names <= failed(check_probe(probe()))
    assert not check_probe(probe(), skip=["finds a still picture"]).passed


class InAll(KeyKey):
    """Answers under every variant."""

    answers = "positions"

    def read_each(self, capture, queries, variants):
        return [{-1: match(capture.k, capture.k, capture.grid, queries, variant=variant)} for variant in variants]


class OneForAll(InAll):
    def read_each(self, capture, queries, variants):
        return super().read_each(capture, queries, [variants[-1]] * len(variants))


class TooFew(InAll):
    def read_each(self, capture, queries, variants):
        return super().read_each(capture, queries, variants[:1])


class Misnamed(InAll):
    answers = "rows"


VARIANTS_CHECK = "several variants at once give the same as each alone"


def test_a_probe_that_knows_variants_is_asked_for_them():
    assert VARIANTS_CHECK not in {check.name for check in check_probe(KeyKey()).checks}
    report = check_probe(InAll())
    assert_passed(report)
    assert VARIANTS_CHECK in {check.name for check in report.checks}


@pytest.mark.parametrize("probe", [OneForAll, TooFew, Misnamed])
def test_a_probe_that_mixes_variants_up_fails(probe):
    assert failed(check_probe(probe())) == {VARIANTS_CHECK}


def test_a_probe_that_reads_what_it_does_not_need_fails():
    assert "predictions have the right form in float32" in failed(check_probe(Undeclared()))


def test_a_probe_of_the_wrong_shape_fails():
    report = check_probe(Flat(), dtypes=["float16"])
    assert {"predictions have the right form in float16", "takes a single latent frame"} <= failed(report)


def test_needs_are_checked():
    probe = KeyKey()
    probe.needs = frozenset({"logits"})
    assert "needs are known" in failed(check_probe(probe))


class RowsOf:
    needs = frozenset({"q", "k", "mask"})

    def __init__(self, **changes):
        self.changes = changes

    def read(self, capture, queries):
        rows = attention_rows(capture.q, capture.k, capture.k_text, capture.grid, queries, key_mask=capture.key_mask)
        return {-1: rows._replace(**{name: change(getattr(rows, name)) for name, change in self.changes.items()})}


def test_rows_are_checked_for_their_form():
    assert_passed(check_probe(RowsOf()))
    form = {"predictions have the right form in float32", "predictions have the right form in bfloat16"}
    assert failed(check_probe(RowsOf(peak_cross=lambda peak: peak[:, :1]))) == form
    assert failed(check_probe(RowsOf(sum_self=lambda total: total + 0.5))) == form
    assert failed(check_probe(RowsOf(peak_text=lambda peak: peak + 2))) == form
    assert failed(check_probe(RowsOf(peak_self=lambda peak: -peak))) == form


# ------------------------------------------------------------------------------------------------------------ metrics


class MeanDistance:
    """Mean distance over visible pairs after frame 0."""

    higher_is_better = False

    def score(self, tracks, reference, grid):
        pairs = reference.visible & (np.arange(reference.visible.shape[1]) > 0)
        error = np.linalg.norm(tracks - reference.xy, axis=-1)[pairs]
        return {"mean_error": Score(float(error.mean()) if error.size else float("nan"), int(pairs.sum()))}


class Backwards(MeanDistance):
    higher_is_better = True


class Hidden(MeanDistance):
    def score(self, tracks, reference, grid):
        error = np.linalg.norm(tracks - reference.xy, axis=-1)
        return {"mean_error": Score(float(error.mean()), int(error.size))}


class Ordered(MeanDistance):
    def score(self, tracks, reference, grid):
        return super().score(tracks[:5], Tracks(reference.xy[:5], reference.visible[:5], "exact"), grid)


class Zero(MeanDistance):
    def score(self, tracks, reference, grid):
        scores = super().score(tracks, reference, grid)
        return scores if reference.visible.any() else {}


class Numpy(MeanDistance):
    def score(self, tracks, reference, grid):
        tracks += 0.0001
        return {"mean error": Score(np.float32(1), np.int64(3))}


def test_a_right_metric_passes():
    assert_passed(check_metric(MeanDistance()))


@pytest.mark.parametrize(
    ("metric", "names"),
    [
        (Backwards, {"perfect tracks are best"}),
        (
            Hidden,
            {"without visible points, scores are NaN with n = 0", "hidden positions of the reference are not read"},
        ),
        (Ordered, {"the order of the points does not matter", "n counts what was scored"}),
        (Zero, {"columns do not change with the data"}),
        (Numpy, {"scores have the right form", "tracks are not changed"}),
    ],
)
def test_a_wrong_metric_fails_the_right_check(metric, names):
    assert names <= failed(check_metric(metric()))


class OfRows:
    """Mean weight on later frames of the points visible at first."""

    higher_is_better = True

    def score_rows(self, rows, reference, grid):
        seen = reference.visible[:, 0]
        return {"cross": Score(float(rows.sum_cross[seen].mean()) if seen.any() else float("nan"), int(seen.sum()))}


class Writes(OfRows):
    def score_rows(self, rows, reference, grid):
        rows.sum_cross[:] = np.sort(rows.sum_cross)
        return super().score_rows(rows, reference, grid)


def test_metrics_of_rows():
    assert_passed(check_metric(OfRows()))
    assert "tracks are not changed" in failed(check_metric(Writes()))


def test_built_in_metrics_pass():
    from vcorr.plugins.builtin import vcorr_metrics

    for entry in vcorr_metrics():
        assert_passed(check_metric(entry))


# ----------------------------------------------------------------------------------------------- datasets and trackers


class Noise:
    split = "test"

    def ids(self):
        return ("noise-0", "noise-1", "noise-2")

    def clip(self, clip_id):
        return random_clip(3, 16, 24, seed=int(clip_id[-1]))


class Careless(Noise):
    def ids(self):
        return ("noise-0", "noise-0")

    def clip(self, clip_id):
        clip = random_clip(3, 16, 64, seed=np.random.default_rng().integers(2**31))
        return Clip(
            id="other", prompt="", queries=clip.queries.xy[:, ::-1].copy(), video=clip.video, tracks=clip.tracks
        )


def test_datasets():
    assert_passed(check_dataset(Noise()))
    assert failed(check_dataset(Careless())) == {
        "ids are distinct names",
        "clips have the id that they are loaded by",
        "queries are inside the frame",
        "tracks start at the queries",
        "same id, same clip",
    }


class Layered(Noise):
    """The lower half of every frame is a thing."""

    def clip(self, clip_id):
        clip = super().clip(clip_id)
        layers = np.zeros((3, 16, 24), np.uint8)
        layers[:, 8:] = 1
        layer = (clip.queries.xy[:, 1] >= 8).astype(np.int32)
        return dataclasses.replace(clip, tracks=dataclasses.replace(clip.tracks, layer=layer), layers=layers)


class Misplaced(Layered):
    """The map is upside down."""

    def clip(self, clip_id):
        clip = super().clip(clip_id)
        return dataclasses.replace(clip, layers=clip.layers[:, ::-1].copy())


class Flickering(Layered):
    """Another map at every call."""

    def clip(self, clip_id):
        clip = super().clip(clip_id)
        clip.layers[:, 0] = np.random.default_rng().integers(256, size=24)
        return clip


def test_datasets_that_know_layers():
    report = check_dataset(Layered())
    assert_passed(report)
    assert "2 clips with layer maps" in {check.reason for check in report.checks}
    assert failed(check_dataset(Misplaced())) == {"layers of points agree with the layer map"}
    assert failed(check_dataset(Flickering())) == {"same id, same clip"}


class Drawn(Layered):
    """Two layers that slide by half a pixel a frame; what starts right of column 20 is seen in its own frame alone."""

    def clip(self, clip_id):
        clip = super().clip(clip_id)
        return dataclasses.replace(clip, tracks=self.track(clip_id, clip.queries))

    def track(self, clip_id, queries):
        start = queries.xy - np.float32([0.5, 0]) * queries.t[:, None]
        xy = start[:, None] + np.float32([0.5, 0]) * np.arange(3, dtype=np.float32)[:, None]
        visible = np.repeat(start[:, :1] < 20, 3, axis=1)
        visible[np.arange(len(queries)), queries.t] = True
        return Tracks(xy, visible, "exact", layer=(queries.xy[:, 1] >= 8).astype(np.int32))


class ForFrame0(Drawn):
    """Takes every query for one of frame 0."""

    def track(self, clip_id, queries):
        return super().track(clip_id, Queries.at(queries.xy))


class Vanishing(Drawn):
    """Hides what is asked for in a later frame."""

    def track(self, clip_id, queries):
        found = super().track(clip_id, queries)
        return dataclasses.replace(found, visible=found.visible & (queries.t == 0)[:, None])


class OneLayer(Drawn):
    """Says that everything asked for in a later frame is background."""

    def track(self, clip_id, queries):
        found = super().track(clip_id, queries)
        return dataclasses.replace(found, layer=found.layer * (queries.t == 0))


class Short(Drawn):
    """Forgets the last frame of later queries."""

    def track(self, clip_id, queries):
        found = super().track(clip_id, queries)
        if not queries.t.any():
            return found
        return dataclasses.replace(found, xy=found.xy[:, :2], visible=found.visible[:, :2])


class OwnPointsAlone(Drawn):
    """Calls every point hidden that is on no track of the clip."""

    def track(self, clip_id, queries):
        found = super().track(clip_id, queries)
        return found if len(queries) <= 5 else dataclasses.replace(found, visible=np.zeros_like(found.visible))


ANY_QUERY = "tracks of any query agree with the known tracks"


def test_datasets_that_track_any_query():
    assert_passed(check_dataset(Drawn()))
    assert {check.reason for check in check_dataset(Noise()) if check.name == ANY_QUERY} == {"not supported"}
    with pytest.raises(
        UsageError, match=r"Noise cannot track other queries in clip 'noise-0'(.|\n)*vcorr list trackers"
    ):
        with_defaults(Noise(), DatasetBase).track("noise-0", Queries.at(np.zeros((1, 2), np.float32)))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (ForFrame0, "px from their queries, in the queries' frames"),
        (Vanishing, "points have another track, visibility or layer when they are asked for in frame 1"),
        (OneLayer, "points have another track, visibility or layer when they are asked for in frame 1"),
        (Short, "not (5, 3, 2)"),
        (OwnPointsAlone, "50 of 50 random queries are not visible in their own frame"),
    ],
)
def test_a_dataset_that_tracks_queries_otherwise_than_its_clips_say(wrong, reason):
    (failure,) = check_dataset(wrong()).failures
    assert failure.name == ANY_QUERY
    assert reason in failure.reason


class Frozen:
    def track(self, video, queries):
        xy = np.repeat(queries.xy[:, None], len(video), axis=1)
        return Tracks(xy, np.ones(xy.shape[:2], dtype=bool), tracker="frozen")


class Drifting:
    calls = 0

    def track(self, video, queries):
        self.calls += 1
        video[:] = 0
        xy = np.repeat(queries.xy[:, None], len(video) + 1, axis=1) + np.float32(self.calls)
        return Tracks(xy.astype(np.float64), np.ones(xy.shape[:2], dtype=bool), tracker="")


class StartsInFrame0:
    """Takes every query for one of frame 0."""

    def track(self, video, queries):
        moves = np.arange(len(video), dtype=np.float32)[None, :, None]
        return Tracks(queries.xy[:, None] + moves, np.ones((len(queries), len(video)), bool), tracker="first")


class Crowded:
    """Queries of other frames push the first ones away."""

    def track(self, video, queries):
        pushed = np.float32((queries.t > 0).any() * (queries.t == 0))[:, None, None]
        moves = np.minimum(np.arange(len(video)), 1).astype(np.float32)[None, :, None] * pushed
        xy = queries.xy[:, None] + moves
        return Tracks(xy, np.ones(xy.shape[:2], bool), tracker="crowded")


def test_trackers_that_overlook_the_frame_of_a_query():
    assert failed(check_tracker(StartsInFrame0())) == {"a query may be in any frame"}
    assert failed(check_tracker(Crowded())) == {"one query does not depend on another"}


def test_trackers():
    assert_passed(check_tracker(Frozen()))
    assert_passed(check_tracker(Frozen, clip=random_clip(4, 32, 32)))
    assert len(failed(check_tracker(Drifting()))) == 6


def test_unknown_checks_cannot_be_skipped():
    with pytest.raises(UsageError, match="finds a known motion"):
        check_probe(KeyKey(), skip=["finds a known motoin"])
