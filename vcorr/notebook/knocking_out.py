"""Holds `knock_out`: cuts attention in a pipeline of the user's own, without a run."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from vcorr.capture.interceptors import intercept
from vcorr.capture.passes import Pass, PassListener, PassWatch
from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.noun_counts import say_count
from vcorr.contract.records import Site
from vcorr.interventions.knockout_cuts import CutKind
from vcorr.interventions.knockout_edits import Knockout
from vcorr.notebook.index_arguments import read_index_argument
from vcorr.notebook.layouts import Layout, Placement
from vcorr.notebook.pipeline_calls import check_pipeline, place_on_pipeline, restart_with_calls

_CALLER = "knock_out()"


@contextmanager
def knock_out(
    pipe: Any,
    layers: int | Collection[int],
    kind: CutKind = "cross-frame",
    *,
    layout: str | Layout,
    heads: int | Collection[int] = (),
    dose: float = 1.0,
    steps: int | Collection[int] | None = None,
    size: tuple[int, int, int] | None = None,
) -> Iterator[Knockout]:
    """Cuts attention in every call of a diffusers pipeline inside the block; afterwards the pipeline is as it was.

    ::

        with vcorr.knock_out(pipe, 4, layout="cogvideox"):
            video = pipe(prompt).frames[0]

    Args:
        pipe: the pipeline.
        layers: that are cut, counted from 0.
        kind: what is cut: "cross-frame", "self-frame", "text", "head" or "head-mean" (docs/knockouts.md).
        layout: where the tokens are: the name of a model that vcorr knows, or a `vcorr.Layout`.
        heads: that are cut in each of the layers; none for all.
        dose: share of the cut; 0 for no change, 1 for the whole cut.
        steps: of the sampler, counted from 0 in each call; None for all.
        size: (T, H, W) of the generated video, for models whose latents do not show it.

    Yields:
        What is cut.

    Raises:
        UsageError: an argument cannot be used, or nothing would be cut there; the message says why. At the end of the
            block: a chosen step never ran.
        CaptureError: the attention of a layer cannot be seen.
    """
    check_pipeline(pipe, _CALLER)
    placed = place_on_pipeline(pipe, layout, size)
    passes = _Passes(placed)
    chosen = read_index_argument(_CALLER, "layers", layers, "")
    every = isinstance(heads, Collection) and not len(heads)
    of_each = () if every else read_index_argument(_CALLER, "heads", heads, "() for all")
    only = None if steps is None else frozenset(read_index_argument(_CALLER, "steps", steps))
    cut = Knockout(kind, dict.fromkeys(chosen, of_each), passes.grid_at, placed.layout, dose, only)
    sites = cut.find_sites(placed.sites)
    with ExitStack() as stack:
        watch = stack.enter_context(PassWatch(placed.modules, placed.layout))
        watch.start(counted=True)
        stack.enter_context(restart_with_calls(pipe.scheduler, watch))
        stack.enter_context(watch.listen(passes))
        stack.enter_context(intercept(placed.modules, sites, cut, layout=placed.layout, watch=watch))
        yield cut
        passes.check_ran(only or frozenset())


class _Passes(PassListener):
    """The grid of a placement, read at every pass, and how many steps ran in the longest call."""

    def __init__(self, placed: Placement) -> None:
        self._placed = self._measured = placed
        self._steps = 0

    def pass_begins(self, now: Pass) -> None:
        """Reads the grid from the arguments of the pass."""
        self._measured = self._placed.measure(now.args, now.kwargs)
        self._steps = max(self._steps, 0 if now.step is None else now.step + 1)

    def check_ran(self, chosen: frozenset[int]) -> None:
        """Checks that the chosen steps ran; raises UsageError if one did not."""
        if missing := sorted(step for step in chosen if step >= self._steps):
            raise UsageError(
                f"{_CALLER}: step {missing[0]} never ran, so nothing was cut there; {self._placed.name} ran "
                f"{say_count(self._steps, 'step')}, counted from 0."
            )

    def grid_at(self, site: Site) -> TokenGrid:
        """Returns the grid of a site in the running pass."""
        return self._measured.grid_at(site)
