"""Checks that an adapter reads the right tensors: each token where its pixels are, and the conditional branch."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from vcorr.capture.needs import has_attention
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
    "the tensors that are read in {mode} mode do not depend on the prompt. Is the unconditional branch read, or is the "
    "prompt not passed on? A model that reads no prompt sets reads_prompt = False."
)

Readings = dict[tuple[int, str], Tensor]
"""Tensors of the sites, by (layer, name of the tensor)."""


def check_reading(
    model: Any,
    clip: Clip,
    *,
    config: Any = None,
    weights: str = "random",
    device: str = "cpu",
    skip: Collection[str] = (),
) -> Report:
    """Checks that an adapter reads the tokens of its grid, in the conditional branch.

    Tokens: the pixels of one token are changed, and the change must appear at this token in the queries of every layer.
    Where a site shows no attention, the hidden states are compared.
    A module that attends to something else, such as sound, therefore fails as a site. In a network of several
    resolutions only the first layer is checked. Random weights spread a change, so an autoencoder in `pipe.vae` and the
    convolutions of the `denoiser` are made local first (`make_local`).

    Branch: what is read at step 0 must depend on the prompt, in both modes. The latents do not depend on it yet, so
    only the condition can make a difference. A model that reads no prompt sets `reads_prompt = False`. Some random
    weights let no prompt through because their gates start at zero; open these first
    (`vcorr.diffusion.open_gates`).

    Args:
        model: a ModelEntry or a class, which makes adapters that are not loaded.
        clip: with a video of the size that the model takes.
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
            ("a change of pixels is found at its token", suite.tokens),
            ("the conditional branch is read", suite.condition),
        ],
        skip,
    )


class _Keep:
    """Keeps the tensors that it gets; predicts that nothing moves."""

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

    def tokens(self) -> str:
        model = self._load()
        if not model.sites():
            return "no sites"
        _localise(model)
        found = {token: self._find(model, token) for token in self._tokens(model)}
        first, *others = self._local_sites(model)
        wrong = {token: each for token, each in found.items() if token not in [seen[first.layer] for seen in each]}
        pairs = ", ".join(f"{each[0][first.layer]} instead of {token}" for token, each in wrong.items())
        expect(
            not wrong,
            f"changes appear at (latent, row, column) {pairs}. "
            "Is the grid wrong, the order of the tokens, or the latent time?",
        )
        for site in others:
            missed = [t for t, each in found.items() if t not in [seen[site.layer] for seen in each]]
            expect(
                not missed,
                f"layer {site.layer} ({site.name}) does not show changes of the video at {missed}, but layer "
                f"{first.layer} does. Does its attention run over the video's tokens?",
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
            return f"generate mode was not checked: {error.message}"
        expect(changes, _NO_PROMPT.format(mode="generate"))
        return f"guidance {GUIDANCE:g}"

    # ---------------------------------------------------------------------------------------------------------- shared

    def _load(self) -> Any:
        model = make(self._part, self._config)[1]
        model.load(*self._where)
        return model

    @cached_property
    def _dark(self) -> Clip:
        if self._clip.video is None:
            return self._clip  # find_impulse raises and names the missing video
        return replace(self._clip, video=self._clip.video // 4)

    @cached_property
    def _whole(self) -> Any:
        """A loaded adapter with its own weights; `tokens` changes the weights of the adapter that it uses."""
        return self._load()

    def _tokens(self, model: Any) -> Sequence[tuple[int, int, int]]:
        """Returns the first token, the last, and one between.

        A model that starts from an image sees frame 0 everywhere, so its first token is in the second latent frame.
        """
        grid = model.grid(self._clip, model.sites()[0])
        first = int(with_defaults(model, VideoModelBase).needs_image)
        last = (grid.frames - 1, grid.rows - 1, grid.cols - 1)
        return list(dict.fromkeys([(first, 0, 0), (grid.frames // 2, grid.rows // 2, grid.cols // 3), last]))

    def _find(self, model: Any, token: tuple[int, int, int]) -> list[dict[int, tuple[int, ...]]]:
        """Finds the tokens of two changes, inverted noise and brightened dark pixels; a norm may hide one of them."""
        steps = NUM_STEPS if with_defaults(model, VideoModelBase).steps else 0
        sites = self._local_sites(model)
        return [find_impulses(model, clip, token, steps - 1, steps, sites) for clip in (self._clip, self._dark)]

    def _local_sites(self, model: Any) -> Sequence[Site]:
        """Returns the sites where a change must appear: all, or only the first in a network of several resolutions.

        Such a network mixes tokens between its resolutions.
        """
        sites = list(model.sites())
        grids = {model.grid(self._clip, site) for site in sites}
        return sites if len(grids) == 1 else sites[:1]

    def _changes(self, mode: Any) -> bool:
        """Returns whether any tensor that is read at the first step differs between two prompts."""
        first, second = (self._read(prompt, mode) for prompt in PROMPTS)
        return any(not torch.equal(first[key], second[key]) for key in first)

    def _read(self, prompt: str, mode: Any) -> Readings:
        clip, keep = replace(self._clip, prompt=prompt), _Keep()
        steps = NUM_STEPS if with_defaults(self._whole, VideoModelBase).steps else 0
        settings = RunSettings(mode, (min(0, steps - 1),), steps, cfg=GUIDANCE)
        self._whole.run(clip, settings, Recorder({"keep": keep}, clip.queries))
        return keep.seen


def _reads_prompt(model: Any) -> bool:
    """Returns whether the model declares that it reads a prompt; models without noise are backbones and read none."""
    declared = with_defaults(model, VideoModelBase)
    empty = getattr(getattr(model, "config", None), "prompt", "") == "empty"
    return bool(declared.reads_prompt and declared.steps and not empty)


def _localise(model: Any) -> None:
    """Sets weights so that a change stays at its position up to the first attention of a diffusers model.

    In a convolutional `network` without attention, it stays there up to the end.
    """
    pipe = getattr(model, "pipe", None)
    autoencoder = getattr(pipe, "vae", None)
    denoiser = getattr(pipe, getattr(model, "denoiser", ""), None)
    if autoencoder is not None:
        make_local(autoencoder, causal=model.compression.causal)
    if denoiser is not None:
        make_pointwise(denoiser)
    network = getattr(model, "network", None)
    if isinstance(network, nn.Module) and not any(has_attention(site) for site in model.sites()):
        make_pointwise(network)
