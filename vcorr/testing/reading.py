"""Is what is read what it is said to be: the tokens where the pixels are, and the conditional branch?"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from vcorr.bases import VideoModelBase, with_defaults
from vcorr.capture.recorder import Recorder
from vcorr.entries import Entry
from vcorr.errors import UsageError
from vcorr.functional.queries import QueryPoints
from vcorr.records import Clip, RunSettings
from vcorr.testing.impulse import find_impulse, make_local, make_pointwise
from vcorr.testing.report import Report, expect, make, run_checks

NUM_STEPS = 3
GUIDANCE = 4.0
PROMPTS = ("a red disk", "two green boats far away at sea")

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

    A change of the pixels of one token is looked for in the queries of the first layer. A model with an autoencoder in
    `pipe.vae` has it made local first (`make_local`), and the convolutions of its `denoiser` as well, since random
    weights smear. Whether the branch is the conditional one shows in its dependence on the prompt: at step 0 the
    latents do not depend on it yet, and without the condition nothing else does.

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
        wrong = {token: found for token in self._tokens(model) if token not in (found := self._found(model, token))}
        said = ", ".join(f"{found[0]} in place of {token}" for token, found in wrong.items())
        expect(not wrong, f"(latent, row, column) {said}: is the grid, the order of tokens or the latent time another?")
        return f"{len(self._tokens(model))} tokens"

    def condition(self) -> str:
        model = self._whole
        if not model.sites():
            return "no sites"
        if not self._changes("renoise"):
            return "nothing that is read depends on the prompt"
        try:
            changes = self._changes("generate")
        except UsageError as error:
            return f"does not generate here: {error.message}"
        expect(changes, "what is read does not depend on the prompt: is it the unconditional branch?")
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

    def _found(self, model: Any, token: tuple[int, int, int]) -> list[tuple[int, ...]]:
        """Where noise that is inverted is found, and darkness that turns bright: a norm may hide one of the two."""
        steps = NUM_STEPS if with_defaults(model, VideoModelBase).steps else 0
        return [find_impulse(model, clip, token, steps - 1, steps) for clip in (self._clip, self._dark)]

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


def _localise(model: Any) -> None:
    """Makes a diffusers model with random weights pass a change on where it is, up to the first attention."""
    pipe = getattr(model, "pipe", None)
    autoencoder = getattr(pipe, "vae", None)
    denoiser = getattr(pipe, getattr(model, "denoiser", ""), None)
    if autoencoder is not None:
        make_local(autoencoder, causal=model.compression.causal)
    if denoiser is not None:
        make_pointwise(denoiser)
