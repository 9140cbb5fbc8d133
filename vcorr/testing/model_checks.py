"""Checks the contract of model adapters by running one on a clip."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from vcorr.capture.captures import Capture, TokenLayout
from vcorr.capture.latent_tokens import LatentReading
from vcorr.capture.needs import has_attention
from vcorr.capture.passes import PassWatch
from vcorr.capture.recorder import Recorder
from vcorr.contract.bases import VideoModelBase, with_defaults
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.modes import mode_of
from vcorr.contract.part_calls import PartFailureError
from vcorr.contract.records import NO_SITE, Clip, Prediction, RunSettings, Site
from vcorr.functional.query_points import QueryPoints
from vcorr.testing.entry_checks import light
from vcorr.testing.report import CheckFunction, Report, expect, make, run_checks
from vcorr.testing.rotary_checks import Rotated, SameLength


def check_model(
    model: Any,
    clip: Clip,
    *,
    config: Any = None,
    settings: RunSettings | None = None,
    weights: str = "random",
    device: str = "cpu",
    dtype: str = "float32",
    plugin: str | None = None,
    text_tokens: int | None = None,
    skip: Collection[str] = (),
) -> Report:
    """Checks a model adapter against the contract of `vcorr.VideoModel`.

    The model runs several times, so use a small configuration.

    Args:
        model: a ModelEntry, a class, or an adapter that is not loaded.
        clip: of the size that the model takes, with queries; `vcorr.testing.random_clip` makes one.
        config: options of the adapter; the defaults when None.
        settings: what to run; when None, renoise at the first and the last of the model's `steps`.
        weights: passed to `load`, like device and dtype.
        device: where to run.
        dtype: of the model.
        plugin: the module listed as entry point, to check that importing it loads none of torch, diffusers and
            transformers.
        text_tokens: number of text tokens in the attention sequence; checked when given.
        skip: names of checks to leave out.
    """
    label, made = make(model, config)
    suite = _ModelSuite(made, clip, settings or _settings(made), (device, dtype, weights))
    checks: list[tuple[str, CheckFunction]] = [
        ("sites are known before loading", suite.sites),
        ("the grid fits the clip", suite.grid),
        ("weights load", suite.load),
        ("runs", suite.runs),
        ("the output is bit-identical under probes", suite.output),
        ("nothing is left behind", suite.cleanup),
        ("nothing is left behind after an error", suite.cleanup_after_error),
        ("one prediction per site and step", suite.predictions),
        ("frame 0 is the query", suite.first_frame),
        ("noise falls from step to step", suite.noise),
        ("all sites and steps have the same number of text tokens", lambda: suite.text(text_tokens)),
        ("same seed, same result", suite.repeat),
        ("a step does not depend on the other steps", suite.steps),
        ("only chosen layers are read", suite.layers),
        ("what sites declare besides attention can be captured", suite.site_members),
        ("the latents of every step can be read", suite.latents),
    ]
    if plugin is not None:
        checks.insert(0, ("importing the plugin loads nothing heavy", lambda: light(plugin)))
    return run_checks(label, checks, skip)


class _StopError(Exception):
    """Raised by the failing probe."""


class _Reader:
    """A probe whose predictions depend on every tensor that it gets, so that equal predictions mean equal tensors.

    Args:
        attention: whether it reads the attention of the sites, else their hidden state.
    """

    readout = "free"

    def __init__(self, attention: bool = True) -> None:
        self.needs = frozenset({"q", "k", "v", "out"} if attention else {"hidden"})
        self.text: dict[tuple[int, int], int] = {}
        self.heads: dict[int, int] = {}

    def read(self, capture: Capture, queries: QueryPoints) -> dict[int, Tensor]:
        trace = self._trace(capture)
        trace[0] = 0
        return {-1: queries.xy.to(trace.device)[:, None] + trace}

    def _trace(self, capture: Capture) -> Tensor:
        """Returns two sums over the tensors per frame, (F, 2)."""
        if "hidden" in self.needs:
            half = capture.hidden.float().flatten(1).tensor_split(2, dim=1)
            return torch.stack([part.mean(dim=1) for part in half], dim=-1)
        self.text[capture.site.layer, capture.step] = capture.k_text.shape[1]
        self.heads[capture.site.layer] = capture.q.shape[0]
        sums = [tensor.float().mean(dim=(0, 2, 3, 4)) for tensor in (capture.q, capture.k, capture.v, capture.out)]
        return torch.stack([sums[0] + sums[1], sums[2] + sums[3]], dim=-1)


class _OnePart:
    """A probe that needs one tensor that is not in the attention call; predicts that nothing moves."""

    def __init__(self, part: str) -> None:
        self._part = part
        self.needs = frozenset({part})

    def read(self, capture: Capture, queries: QueryPoints) -> dict[int, Tensor]:
        tensor = getattr(capture, self._part)
        expect(bool(tensor.isfinite().all()), f"{self._part} of {capture.site.name} is not finite.")
        return {-1: queries.xy[:, None].expand(-1, capture.grid.frames, -1)}


class _Failing(_Reader):
    def read(self, capture: Capture, queries: QueryPoints) -> dict[int, Tensor]:
        raise _StopError


class _Witness(Recorder):
    """A recorder that also keeps the outputs of the denoiser and notes what `attach` leaves behind."""

    def __init__(self, probes: Mapping[str, Any], clip: Clip, layers: Collection[int] | None = None) -> None:
        super().__init__(probes, clip.queries, layers=layers)
        self.outputs: list[Tensor] = []
        self.left: list[str] = []

    @contextmanager
    def attach(
        self,
        denoisers: nn.Module | Sequence[nn.Module],
        sites: Sequence[Site],
        layout: TokenLayout,
        grid: TokenGrid | Callable[[Site], TokenGrid],
        *,
        watch: PassWatch | None = None,
        latents: LatentReading | None = None,
    ) -> Iterator[None]:
        modules = [denoisers] if isinstance(denoisers, nn.Module) else list(denoisers)
        before, original = [_hooks(module) for module in modules], F.scaled_dot_product_attention
        handles = [module.register_forward_hook(self._keep) for module in modules]
        try:
            with super().attach(denoisers, sites, layout, grid, watch=watch, latents=latents):
                yield
        finally:
            for handle in handles:
                handle.remove()
            if [_hooks(module) for module in modules] != before:
                self.left.append("a forward hook")
            if F.scaled_dot_product_attention is not original:
                self.left.append("the patch of scaled_dot_product_attention")

    def _keep(self, module: nn.Module, args: Any, out: Any) -> None:
        self.outputs.extend(_tensors(out))


class _ModelSuite:
    def __init__(self, model: Any, clip: Clip, settings: RunSettings, where: tuple[str, str, str]) -> None:
        self._model = model
        self._clip = clip
        self._settings = settings
        self._where = where

    def sites(self) -> str:
        sites = list(self._model.sites())
        expect(all(isinstance(site, Site) for site in sites), "sites() must return vcorr.Site records.")
        layers, names = [site.layer for site in sites], [site.name for site in sites]
        expect(layers == sorted(set(layers)), f"layers must ascend without repetition, got {layers}.")
        expect(len(set(names)) == len(names), "two sites have the same name.")
        self._expect_card(sites)
        return f"{len(sites)} sites"

    def grid(self) -> str:
        sites: Sequence[Site | None] = self._sites or [None]
        grids = {self._grid(site) for site in sites}
        for grid in grids:
            if self._clip.video is not None:
                frames, height, width = self._clip.video.shape[:3]
                same = (grid.video_frames, grid.height, grid.width) == (frames, height, width)
                expect(
                    same,
                    f"the clip has {frames} frames of {width} x {height} pixels, the grid covers {grid.video_frames} "
                    f"of {grid.width:g} x {grid.height:g}.",
                )
        return ", ".join(f"{grid.frames} x {grid.rows} x {grid.cols} tokens" for grid in grids)

    def load(self) -> None:
        self._load_once()

    def runs(self) -> None:
        video = self._run(_Witness({}, self._clip))
        if not mode_of(self._settings.mode).makes_video:
            expect(video is None, f"run() must return None in {self._settings.mode} mode.")
        else:
            array = (
                isinstance(video, np.ndarray) and video.dtype == np.uint8 and video.ndim == 4 and video.shape[3] == 3
            )
            expect(array, "run() must return a video (T, H, W, 3) uint8 in generate mode.")

    def output(self) -> str:
        if not self._sites:
            return "no sites"
        plain, probed = self._plain.outputs, self._probed[0].outputs
        expect(bool(plain), "the module that recorder.attach() got returned no tensor.")
        expect(len(plain) == len(probed), f"{len(plain)} output tensors without probes, {len(probed)} with probes.")
        for index, (one, other) in enumerate(zip(plain, probed, strict=True)):
            expect(torch.equal(one, other), f"output {index} differs with probes.")
        return f"{len(plain)} tensors"

    def cleanup(self) -> None:
        left = [*self._plain.left, *self._probed[0].left]
        expect(not left, f"left behind: {', '.join(left)}.")

    def cleanup_after_error(self) -> str | None:
        if not self._sites:
            return "no sites"
        witness = _Witness({"failing": _Failing(self._attention)}, self._clip)
        try:
            self._run(witness)
        except PartFailureError:
            expect(not witness.left, f"left behind: {', '.join(witness.left)}.")
            return None
        expect(False, "run() did not pass on the exception of a probe.")
        return None

    def predictions(self) -> str:
        found = self._probed[0].predictions
        if not self._sites:
            expect(
                len(found) == 1,
                f"a model without sites calls recorder.answer() once per clip; it gave {len(found)} predictions.",
            )
            return "one prediction without attention"
        wanted = [(step, site.layer) for step in self._settings.steps for site in self._sites]
        got = [(prediction.step, prediction.layer) for prediction in found]
        expect(sorted(got) == sorted(wanted), f"(step, layer) {got} instead of {wanted}.")
        for prediction in found:
            grid = self._grid(self._sites_by_layer[prediction.layer])
            expect(
                prediction.grid == grid, f"layer {prediction.layer} was recorded on another grid than grid() returns."
            )
        for layer, heads in self._probed[1].heads.items():
            declared = self._sites_by_layer[layer].heads
            expect(declared in (0, heads), f"layer {layer}: {declared} heads are declared, the tensors have {heads}.")
        return f"{len(found)} predictions"

    def first_frame(self) -> None:
        for prediction in self._probed[0].predictions:
            same = np.array_equal(prediction.xy[:, 0], self._clip.queries.xy)
            expect(same, f"layer {prediction.layer}, step {prediction.step}: [:, 0] is not the query.")

    def noise(self) -> str:
        levels = {prediction.step: prediction.noise for prediction in self._probed[0].predictions}
        ordered = [levels[step] for step in sorted(levels)]
        if all(math.isnan(level) for level in ordered):
            return "no noise"
        falls = all(later <= earlier for earlier, later in pairwise(ordered))
        expect(falls, f"step 0 must have the highest noise level, but the levels are {ordered}.")
        return ", ".join(f"{level:.3g}" for level in ordered)

    def text(self, expected: int | None) -> str:
        counts = {
            count for (layer, _), count in self._probed[1].text.items() if not _is_temporal(self._sites_by_layer[layer])
        }
        expect(len(counts) <= 1, f"the number of text tokens differs between sites or steps: {sorted(counts)}.")
        if self._sites and not self._attention:
            return "no attention is read"
        if expected is not None:
            expect(counts == {expected}, f"{sorted(counts)} text tokens instead of {expected}: does the grid fit?")
        return f"{sum(counts)} text tokens"

    def repeat(self) -> None:
        self._expect_same(self._read()[0].predictions, self._probed[0].predictions, "the second time")

    def steps(self) -> str | None:
        if self._settings.mode != "renoise" or len(self._settings.steps) < 2:
            return "only one step" if self._settings.mode == "renoise" else f"{self._settings.mode} mode"
        last = self._settings.steps[-1]
        alone = self._read(RunSettings(steps=(last,), num_steps=self._settings.num_steps, seed=self._settings.seed))[0]
        together = [prediction for prediction in self._probed[0].predictions if prediction.step in (last, -1)]
        self._expect_same(alone.predictions, together, f"step {last} alone")
        return None

    def layers(self) -> str | None:
        if not self._sites:
            return "no sites"
        chosen = self._sites[-1].layer
        witness = _Witness({"reader": _Reader(self._attention)}, self._clip, layers={chosen})
        self._run(witness)
        got = {prediction.layer for prediction in witness.predictions}
        expect(got == {chosen}, f"layer {chosen} was chosen, but {sorted(got)} were read.")
        return None

    def site_members(self) -> str:
        shown = [] if self._attention else [site.layer for site in self._sites if has_attention(site)]
        needs = {
            "q": shown,
            "hidden": [site.layer for site in self._sites if site.block],
            "q_unrotated": [site.layer for site in self._sites if site.unrotated],
            "k_unrotated": [site.layer for site in self._sites if site.unrotated],
        }
        for part, layers in needs.items():
            if layers:
                witness = _Witness({part: _OnePart(part)}, self._clip, layers=layers)
                self._run(witness)
                got = {prediction.layer for prediction in witness.predictions}
                expect(got == set(layers), f"{part}: layers {sorted(layers)} declare it, {sorted(got)} were read.")
        self._expect_same_length()
        needs["the rotary layout"] = self._expect_rotary()
        return ", ".join(f"{part} of {len(layers)} layers" for part, layers in needs.items() if layers) or "nothing"

    def latents(self) -> str:
        if not with_defaults(self._model, VideoModelBase).has_latents:
            return "the model shows none"
        witness = _Witness({"latent": _OnePart("latent")}, self._clip)
        self._run(witness)
        got = [(prediction.layer, prediction.step) for prediction in witness.predictions]
        wanted = [(NO_SITE, step) for step in self._settings.steps]
        expect(sorted(got) == sorted(wanted), f"latents were read at {got} (layer, step) instead of {wanted}.")
        return f"{len(got)} steps"

    def _expect_same_length(self) -> None:
        layers = [site.layer for site in self._sites if site.unrotated]
        if layers:
            self._run(_Witness({"length": SameLength()}, self._clip, layers=layers))

    def _expect_rotary(self) -> list[int]:
        """Checks the declared rotary layouts with the model's q and k; returns the layers that declare one."""
        layers = [site.layer for site in self._sites if site.rotary and site.unrotated]
        if layers:
            self._run(_Witness({"rotary": Rotated()}, self._clip, layers=layers))
        return layers

    def _expect_card(self, sites: Sequence[Site]) -> None:
        card, kinds = with_defaults(self._model, VideoModelBase).model_card(), {site.attention for site in sites}
        if sites and card is not None:
            expect(
                card.attention in kinds,
                f"the model card says {card.attention!r} attention, the sites have {sorted(kinds)}.",
            )

    # ---------------------------------------------------------------------------------------------------------- shared

    @cached_property
    def _sites(self) -> list[Site]:
        return list(self._model.sites())

    @cached_property
    def _attention(self) -> bool:
        """Whether every site shows its attention; if not, the checks read hidden states."""
        return all(has_attention(site) for site in self._sites)

    @cached_property
    def _sites_by_layer(self) -> dict[int, Site]:
        return {site.layer: site for site in self._sites}

    @cached_property
    def _plain(self) -> _Witness:
        witness = _Witness({}, self._clip)
        self._run(witness)
        return witness

    @cached_property
    def _probed(self) -> tuple[_Witness, _Reader]:
        return self._read()

    def _read(self, settings: RunSettings | None = None) -> tuple[_Witness, _Reader]:
        reader = _Reader(self._attention)
        witness = _Witness({"reader": reader}, self._clip)
        self._run(witness, settings)
        return witness, reader

    def _run(self, witness: _Witness, settings: RunSettings | None = None) -> Any:
        self._load_once()
        return self._model.run(self._clip, settings or self._settings, witness)

    def _load_once(self) -> None:
        if not getattr(self, "_is_loaded", False):
            self._model.load(*self._where)
            self._is_loaded = True

    def _grid(self, site: Site | None) -> TokenGrid:
        grid = self._model.grid(self._clip, site)
        expect(isinstance(grid, TokenGrid), f"grid() must return a vcorr.TokenGrid, got {type(grid).__name__}.")
        found: TokenGrid = grid
        return found

    def _expect_same(self, found: list[Prediction], wanted: list[Prediction], case: str) -> None:
        expect(len(found) == len(wanted), f"{case}: {len(found)} predictions instead of {len(wanted)}.")
        for one, other in zip(found, wanted, strict=True):
            same = np.allclose(one.xy, other.xy, rtol=1e-5, atol=1e-5)
            expect(
                same, f"{case}: tensors differ at layer {one.layer}, step {one.step}. Is every random number seeded?"
            )


def _is_temporal(site: Site) -> bool:
    """Returns whether the site has temporal attention, whose sequences hold no text."""
    return site.factorised is not None and site.factorised.kind == "temporal"


def _settings(model: Any) -> RunSettings:
    steps = int(with_defaults(model, VideoModelBase).steps)
    if not steps:
        return RunSettings(steps=(NO_SITE,), num_steps=0)
    return RunSettings(steps=(0, steps - 1) if steps > 1 else (0,), num_steps=steps)


def _hooks(module: nn.Module) -> list[tuple[str, str, int]]:
    return [
        (name, kind, number)
        for name, child in module.named_modules()
        for kind in ("_forward_hooks", "_forward_pre_hooks")
        for number in getattr(child, kind)
    ]


def _tensors(output: Any) -> list[Tensor]:
    """Returns copies of all tensors in the output of a module."""
    if isinstance(output, Tensor):
        return [output.detach().clone()]
    parts = output.values() if isinstance(output, Mapping) else output if isinstance(output, (tuple, list)) else ()
    return [tensor for part in parts for tensor in _tensors(part)]
