"""Is what is read what it is said to be: the tokens where the pixels are, and the conditional branch?"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from vcorr.capture.recorder import Recorder
from vcorr.contract.bases import VideoModelBase, with_defaults
from vcorr.contract.entries import Entry
from vcorr.contract.errors import UsageError
from vcorr.contract.records import Clip, RunSettings, Site
from vcorr.functional.query_points import QueryPoints
from vcorr.testing.impulse import find_impulses, make_local, make_pointwise
from vcorr.testing.report import Report, expect, make, run_checks

NUM_STEPS = 3
GUIDANCE = 4.0
PROMPTS = ("a red disk", "two green boats far away at sea")

_NO_PROMPT = (
    "what is read in {mode} mode does not depend on the prompt: is it the unconditional branch, or is the prompt not "
    "passed on? A model that reads none says so: reads_prompt = False."
)

Readings = dict[tuple[int, str], Tensor]
"""What a site held, by its layer and the name of the tensor."""


def check_reading(
    model: Any,
    clip: Clip,
    *,
    config: Any = None,
    weights: str = "random",
    device: str = "cpu",
    skip: Collection[str] = (),
) -> Report:
    """Checks that an adapter reads the tokens its grid says, of the branch that knows the prompt.

    A change of the pixels of one token is looked for in the queries of every layer, so that a module that attends to
    anything else, sound for instance, is no site. In a network of several resolutions the first layer alone is asked.
    A model with an autoencoder in `pipe.vae` has it made local first (`make_local`), and the convolutions of its
    `denoiser` as well, since random weights smear. Whether the branch is the conditional one shows in its dependence
    on the prompt, in both modes: at step 0 the latents do not depend on it yet, and without the condition nothing else
    does. A model that reads no prompt says so, `reads_prompt = False`. Random weights that no prompt gets through,
    because gates start at zero, have to be opened first (`vcorr.diffusion.open_gates`).

    Args:
        model: a ModelEntry, or a class: something that makes adapters that have not been loaded.
        clip: with a video of the size the model reads.
        config: options of the adapter; the defaults when None.
        weights: passed to `load`, like device.
        device: where to run.
        skip: names of checks to leave out.
    """
    label = model.label if isinstance(model, Entry) else model.__name__
    suite = _ReadingSuite(model, config, clip, (device, "float32", weights))
    return run_checks(
        label,
        [
            ("a change of pixels is found at its token", suite.places),
            ("the conditional branch is read", suite.condition),
        ],
        skip,
    )


class _Keep:
    """Keeps what it is shown; answers that nothing moves."""

    needs = frozenset({"q", "k", "v", "out"})

    def __init__(self) -> None:
        self.seen: Readings = {}

    def read(self, capture: Any, queries: QueryPoints) -> dict[int, Tensor]:
        for name in sorted(self.needs):
            self.seen[capture.site.layer, name] = getattr(capture, name).detach().clone()
        return {-1: queries.xy[:, None].expand(-1, capture.grid.frames, -1)}


class _ReadingSuite:
    def __init__(self, model: Any, config: Any, clip: Clip, where: tuple[str, str, str]) -> None:
        self._part = model
        self._config = config
        self._clip = clip
        self._where = where

    def places(self) -> str:
        model = self._loaded()
        if not model.sites():
            return "no sites"
        _localise(model)
        found = {token: self._found(model, token) for token in self._tokens(model)}
        first, *others = self._local_sites(model)
        wrong = {token: each for token, each in found.items() if token not in [seen[first.layer] for seen in each]}
        said = ", ".join(f"{each[0][first.layer]} in place of {token}" for token, each in wrong.items())
        expect(not wrong, f"(latent, row, column) {said}: is the grid, the order of tokens or the latent time another?")
        for site in others:
            missed = [t for t, each in found.items() if t not in [seen[site.layer] for seen in each]]
            expect(
                not missed,
                f"layer {site.layer} ({site.name}) does not show changes of the video at {missed}, where layer "
                f"{first.layer} does: is its attention over the video's tokens?",
            )
        return f"{len(found)} tokens, {1 + len(others)} sites"

    def condition(self) -> str:
        model = self._whole
        if not model.sites():
            return "no sites"
        if not _reads_prompt(model):
            return "reads no prompt"
        expect(self._changes("renoise"), _NO_PROMPT.format(mode="renoise"))
        try:
            changes = self._changes("generate")
        except UsageError as error:
            return f"does not generate here: {error.message}"
        expect(changes, _NO_PROMPT.format(mode="generate"))
        return f"guidance {GUIDANCE:g}"

    # ---------------------------------------------------------------------------------------------------------- shared

    def _loaded(self) -> Any:
        model = make(self._part, self._config)[1]
        model.load(*self._where)
        return model

    @cached_property
    def _dark(self) -> Clip:
        if self._clip.video is None:
            return self._clip  # find_impulse says what is missing
        return replace(self._clip, video=self._clip.video // 4)

    @cached_property
    def _whole(self) -> Any:
        """A loaded adapter as it is; `places` changes the one it uses."""
        return self._loaded()

    def _tokens(self, model: Any) -> Sequence[tuple[int, int, int]]:
        """The first token, the last, and one between.

        A model that starts from an image is conditioned on frame 0 everywhere: its first token is of the second latent.
        """
        grid = model.grid(self._clip, model.sites()[0])
        first = int(with_defaults(model, VideoModelBase).needs_image)
        last = (grid.frames - 1, grid.rows - 1, grid.cols - 1)
        return list(dict.fromkeys([(first, 0, 0), (grid.frames // 2, grid.rows // 2, grid.cols // 3), last]))

    def _found(self, model: Any, token: tuple[int, int, int]) -> list[dict[int, tuple[int, ...]]]:
        """Where noise that is inverted is found, and darkness that turns bright: a norm may hide one of the two."""
        steps = NUM_STEPS if with_defaults(model, VideoModelBase).steps else 0
        sites = self._local_sites(model)
        return [find_impulses(model, clip, token, steps - 1, steps, sites) for clip in (self._clip, self._dark)]

    def _local_sites(self, model: Any) -> Sequence[Site]:
        """The sites where a change is looked for: all of them, or the first one of a network of several resolutions,
        whose later ones mix tokens in between.
        """
        sites = list(model.sites())
        grids = {model.grid(self._clip, site) for site in sites}
        return sites if len(grids) == 1 else sites[:1]

    def _changes(self, mode: Any) -> bool:
        """Whether anything that is read at the first step differs between two prompts."""
        first, second = (self._read(prompt, mode) for prompt in PROMPTS)
        return any(not torch.equal(first[key], second[key]) for key in first)

    def _read(self, prompt: str, mode: Any) -> Readings:
        clip, keep = replace(self._clip, prompt=prompt), _Keep()
        steps = NUM_STEPS if with_defaults(self._whole, VideoModelBase).steps else 0
        settings = RunSettings(mode, (min(0, steps - 1),), steps, cfg=GUIDANCE)
        self._whole.run(clip, settings, Recorder({"keep": keep}, clip.queries))
        return keep.seen


def _reads_prompt(model: Any) -> bool:
    """Whether the prompt is said to change what is read; models without noise are backbones, which read none."""
    said = with_defaults(model, VideoModelBase)
    empty = getattr(getattr(model, "config", None), "prompt", "") == "empty"
    return bool(said.reads_prompt and said.steps and not empty)


def _localise(model: Any) -> None:
    """Makes a diffusers model with random weights pass a change on where it is, up to the first attention."""
    pipe = getattr(model, "pipe", None)
    autoencoder = getattr(pipe, "vae", None)
    denoiser = getattr(pipe, getattr(model, "denoiser", ""), None)
    if autoencoder is not None:
        make_local(autoencoder, causal=model.compression.causal)
    if denoiser is not None:
        make_pointwise(denoiser)
