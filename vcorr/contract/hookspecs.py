"""The hooks that a plugin may implement.

A plugin is a module listed under the entry-point group ``vcorr``. It defines any of these functions, marked with
`vcorr.hookimpl`. A hook returns (or yields) entries; it takes no arguments, gets no registry and changes nothing. The
factory of an entry makes an object that meets a protocol, such as `vcorr.Probe`. Base classes, such as
`vcorr.ProbeBase`, give the optional members their defaults.

Each docstring below holds the smallest complete plugin of its kind. The tests execute every one of them.
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from vcorr.contract.entries import (
    DatasetEntry,
    GuidanceEntry,
    MetricEntry,
    ModelEntry,
    PageEntry,
    ProbeEntry,
    TrackerEntry,
)

GROUP = "vcorr"

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def vcorr_models() -> Iterable[ModelEntry]:  # type: ignore[empty-body]
    """Offers models to probe.

    A model without attention, which predicts that every query point stays where it is::

        import numpy as np
        import vcorr

        class Still(vcorr.VideoModelBase):
            def sites(self):
                return ()

            def grid(self, clip, site):
                frames, height, width, _ = clip.video.shape
                return vcorr.TokenGrid(frames=frames, rows=height // 8, cols=width // 8, stride=(8, 8))

            def load(self, device, dtype, weights):
                pass

            def run(self, clip, settings, recorder):
                grid = self.grid(clip, None)
                recorder.answer(np.repeat(clip.queries.xy[:, None], grid.frames, axis=1), grid)

        @vcorr.hookimpl
        def vcorr_models():
            return [vcorr.ModelEntry(name="still", summary="Never moves.", factory=f"{__name__}:Still")]

    Returns:
        Entries whose factory makes a `vcorr.VideoModel`.
    """


@hookspec
def vcorr_probes() -> Iterable[ProbeEntry]:  # type: ignore[empty-body]
    """Offers probes: descriptors to read at every attention site.

    Key-key matching: the key at each query point is matched with the keys of the other frames::

        import vcorr
        from vcorr.functional import match

        class KeyKey(vcorr.ProbeBase):
            needs = frozenset({"k"})

            def read(self, capture, queries):
                return {-1: match(capture.k, capture.k, capture.grid, queries)}

        @vcorr.hookimpl
        def vcorr_probes():
            return [vcorr.ProbeEntry(name="my-kk", summary="Keys match keys.", factory=f"{__name__}:KeyKey")]

    Returns:
        Entries whose factory makes a `vcorr.Probe`.
    """


@hookspec
def vcorr_metrics() -> Iterable[MetricEntry]:  # type: ignore[empty-body]
    """Offers metrics: scores of predicted tracks against reference tracks.

    The share of visible points within three pixels of the reference::

        import numpy as np
        import vcorr

        class ThreePixels(vcorr.MetricBase):
            higher_is_better = True

            def score(self, tracks, reference, grid):
                pairs = reference.visible[:, 1:]
                hit = np.linalg.norm(tracks - reference.xy, axis=-1)[:, 1:] < 3
                value = hit[pairs].mean() if pairs.any() else float("nan")
                return {"three_pixels": vcorr.Score(float(value), int(pairs.sum()))}

            def hit_rules(self, reference, grid):
                counted = reference.visible.copy()
                counted[:, 0] = False
                return {"three_pixels": vcorr.HitRule(counted, limit=3.0)}

        @vcorr.hookimpl
        def vcorr_metrics():
            return [vcorr.MetricEntry(name="three-pixels", summary="Within 3 px.", factory=f"{__name__}:ThreePixels")]

    Returns:
        Entries whose factory makes a `vcorr.Metric`, `vcorr.RowMetric`, `vcorr.TrackMetric`, `vcorr.MaskMetric` or
        `vcorr.VideoMetric`.
    """


@hookspec
def vcorr_datasets() -> Iterable[DatasetEntry]:  # type: ignore[empty-body]
    """Offers datasets: clips to measure on.

    One clip, in which noise moves two pixels to the right per frame::

        import numpy as np
        import vcorr

        class Sliding(vcorr.DatasetBase):
            split = "test"

            def ids(self):
                return ("slide-0",)

            def clip(self, clip_id):
                picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
                video = np.stack([np.roll(picture, 2 * t, axis=1) for t in range(5)])
                queries = np.array([[20.5, 30.5], [10.5, 12.5]], dtype=np.float32)
                xy = queries[:, None] + np.arange(5, dtype=np.float32)[None, :, None] * np.float32([2, 0])
                tracks = vcorr.Tracks(xy, np.ones((2, 5), dtype=bool), tracker="exact")
                return vcorr.Clip(id=clip_id, prompt="noise", queries=queries, video=video, tracks=tracks)

        @vcorr.hookimpl
        def vcorr_datasets():
            return [vcorr.DatasetEntry(name="sliding", summary="Sliding noise.", factory=f"{__name__}:Sliding")]

    Returns:
        Entries whose factory makes a `vcorr.Dataset`.
    """


@hookspec
def vcorr_trackers() -> Iterable[TrackerEntry]:  # type: ignore[empty-body]
    """Offers point trackers: they make reference tracks, and `vcorr track --tracker NAME` follows points with them.

    A tracker for which nothing ever moves::

        import numpy as np
        import vcorr

        class Frozen(vcorr.TrackerBase):
            def track(self, video, queries):
                xy = np.repeat(queries.xy[:, None], len(video), axis=1)
                return vcorr.Tracks(xy, np.ones(xy.shape[:2], dtype=bool), tracker="frozen")

        @vcorr.hookimpl
        def vcorr_trackers():
            return [vcorr.TrackerEntry(name="frozen", summary="Nothing moves.", factory=f"{__name__}:Frozen")]

    Returns:
        Entries whose factory makes a `vcorr.Tracker`.
    """


@hookspec
def vcorr_guidances() -> Iterable[GuidanceEntry]:  # type: ignore[empty-body]
    """Offers guidances: ways to steer sampling.

    Away from a prediction in which the first layer only sees values, without attention::

        import vcorr

        class AwayFromValues(vcorr.GuidanceBase):
            def perturb(self, sites):
                return vcorr.Perturbation(layers=(sites[0].layer,), edit=lambda call: call.v)

            def combine(self, predictions, step):
                change = predictions["cond"] - predictions["perturbed"]
                return {branch: each + change for branch, each in predictions.items()}

        @vcorr.hookimpl
        def vcorr_guidances():
            factory = f"{__name__}:AwayFromValues"
            return [vcorr.GuidanceEntry(name="away", summary="Away from values.", factory=factory)]

    Returns:
        Entries whose factory makes a `vcorr.Guidance`.
    """


@hookspec
def vcorr_pages() -> Iterable[PageEntry]:  # type: ignore[empty-body]
    """Offers further pages of the board.

    A page with the number of runs::

        import vcorr

        class Count:
            def render(self, board):
                return f"<p>{len(board.runs)} runs.</p>"

        @vcorr.hookimpl
        def vcorr_pages():
            return [vcorr.PageEntry(name="count", summary="How many runs.", factory=f"{__name__}:Count")]

    Returns:
        Entries whose factory makes a `vcorr.Page`.
    """
