"""The contract of model adapters, checked by running one on a clip."""

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
from vcorr.capture.passes import PassWatch
from vcorr.capture.recorder import Recorder
from vcorr.contract.bases import VideoModelBase, with_defaults
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.modes import mode_of
from vcorr.contract.records import NO_SITE, Clip, Prediction, RunSettings, Site
from vcorr.functional.query_points import QueryPoints
from vcorr.testing.entry_checks import light
from vcorr.testing.report import CheckFunction, Report, expect, make, run_checks
from vcorr.testing.rotary_checks import SameLength, Turned


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

    It is run several times; use a small configuration of the model.

    Args:
        model: a ModelEntry, a class, or an adapter that has not been loaded.
        clip: of the size the model takes, with queries; `vcorr.testing.random_clip` makes one.
        config: options of the adapter; the defaults when None.
        settings: what to run; when None, renoise at the first and the last of the model's `steps`.
        weights: passed to `load`, like device and dtype.
        device: where to run.
        dtype: of the model.
        plugin: the module listed as entry point, to check that importing it loads none of torch, diffusers and
            transformers.
        text_tokens: how many text tokens the attention sequence holds; checked when given.
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
        ("nothing is left behind", suite.restored),
        ("nothing is left behind after an error", suite.restored_after_error),
        ("one prediction a site and step", suite.predictions),
        ("frame 0 is the query", suite.first_frame),
        ("noise falls from step to step", suite.noise),
        ("sequences hold the same text everywhere", lambda: suite.text(text_tokens)),
        ("same seed, same result", suite.repeat),
        ("a step does not depend on the other steps", suite.steps),
        ("only chosen layers are read", suite.layers),
        ("what sites say beside attention can be read", suite.beside),
    ]
    if plugin is not None:
        checks.insert(0, ("importing the plugin stays light", lambda: light(plugin)))
    return run_checks(label, checks, skip)


class _StopError(Exception):
    """What the failing probe raises."""


class _Reader:
    """A probe whose answers depend on every tensor it is shown, so that equal answers mean equal tensors."""

    needs = frozenset({"q", "k", "v", "out"})
    readout = "free"

    def __init__(self) -> None:
        self.text: dict[tuple[int, int], int] = {}
        self.heads: dict[int, int] = {}

    def read(self, capture: Capture, queries: QueryPoints) -> dict[int, Tensor]:
        self.text[capture.site.layer, capture.step] = capture.k_text.shape[1]
        self.heads[capture.site.layer] = capture.q.shape[0]
        sums = [tensor.float().mean(dim=(0, 2, 3, 4)) for tensor in (capture.q, capture.k, capture.v, capture.out)]
        trace = torch.stack([sums[0] + sums[1], sums[2] + sums[3]], dim=-1)
        trace[0] = 0
        return {-1: queries.xy.to(trace.device)[:, None] + trace}


class _Beside:
    """A probe of one thing that is not in the attention call; answers that nothing moves."""

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
    """A recorder that also keeps what the denoiser puts out and what `attach` leaves on it."""

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
    ) -> Iterator[None]:
        modules = [denoisers] if isinstance(denoisers, nn.Module) else list(denoisers)
        before, original = [_hooks(module) for module in modules], F.scaled_dot_product_attention
        handles = [module.register_forward_hook(self._keep) for module in modules]
        try:
            with super().attach(denoisers, sites, layout, grid, watch=watch):
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
        expect(len(set(names)) == len(names), "two sites have one name.")
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
        self._loaded()

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
        expect(bool(plain), "the module given to recorder.attach() put nothing out.")
        expect(len(plain) == len(probed), f"{len(plain)} tensors put out without probes, {len(probed)} with.")
        for index, (one, other) in enumerate(zip(plain, probed, strict=True)):
            expect(torch.equal(one, other), f"output {index} is another under probes.")
        return f"{len(plain)} tensors"

    def restored(self) -> None:
        left = [*self._plain.left, *self._probed[0].left]
        expect(not left, f"left behind: {', '.join(left)}.")

    def restored_after_error(self) -> str | None:
        if not self._sites:
            return "no sites"
        witness = _Witness({"failing": _Failing()}, self._clip)
        try:
            self._run(witness)
        except _StopError:
            expect(not witness.left, f"left behind: {', '.join(witness.left)}.")
            return None
        expect(False, "an error of a probe was swallowed.")
        return None

    def predictions(self) -> str:
        found = self._probed[0].predictions
        if not self._sites:
            expect(
                len(found) == 1, f"a model without sites answers once with recorder.answer(), got {len(found)} answers."
            )
            return "one answer without attention"
        wanted = [(step, site.layer) for step in self._settings.steps for site in self._sites]
        got = [(prediction.step, prediction.layer) for prediction in found]
        expect(sorted(got) == sorted(wanted), f"(step, layer) {got} in place of {wanted}.")
        for prediction in found:
            grid = self._grid(self._sites_by_layer[prediction.layer])
            expect(prediction.grid == grid, f"layer {prediction.layer} was recorded on another grid than grid() tells.")
        for layer, heads in self._probed[1].heads.items():
            declared = self._sites_by_layer[layer].heads
            expect(declared in (0, heads), f"layer {layer}: {declared} heads declared, {heads} seen.")
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
        expect(falls, f"step 0 is the noisiest, but the levels are {ordered}.")
        return ", ".join(f"{level:.3g}" for level in ordered)

    def text(self, expected: int | None) -> str:
        counts = {
            count for (layer, _), count in self._probed[1].text.items() if not _is_temporal(self._sites_by_layer[layer])
        }
        expect(len(counts) <= 1, f"the number of text tokens differs between sites or steps: {sorted(counts)}.")
        if expected is not None:
            expect(counts == {expected}, f"{sorted(counts)} text tokens in place of {expected}: does the grid fit?")
        return f"{sum(counts)} text tokens"

    def repeat(self) -> None:
        self._expect_same(self._read()[0].predictions, self._probed[0].predictions, "the second time")

    def steps(self) -> str | None:
        if self._settings.mode != "renoise" or len(self._settings.steps) < 2:
            return "one step only" if self._settings.mode == "renoise" else f"{self._settings.mode} mode"
        last = self._settings.steps[-1]
        alone = self._read(RunSettings(steps=(last,), num_steps=self._settings.num_steps, seed=self._settings.seed))[0]
        together = [prediction for prediction in self._probed[0].predictions if prediction.step in (last, -1)]
        self._expect_same(alone.predictions, together, f"step {last} by itself")
        return None

    def layers(self) -> str | None:
        if not self._sites:
            return "no sites"
        chosen = self._sites[-1].layer
        witness = _Witness({"reader": _Reader()}, self._clip, layers={chosen})
        self._run(witness)
        got = {prediction.layer for prediction in witness.predictions}
        expect(got == {chosen}, f"layer {chosen} was chosen, {sorted(got)} were read.")
        return None

    def beside(self) -> str:
        needs = {
            "hidden": [site.layer for site in self._sites if site.block],
            "q_unrotated": [site.layer for site in self._sites if site.unrotated],
            "k_unrotated": [site.layer for site in self._sites if site.unrotated],
        }
        for part, layers in needs.items():
            if layers:
                witness = _Witness({part: _Beside(part)}, self._clip, layers=layers)
                self._run(witness)
                got = {prediction.layer for prediction in witness.predictions}
                expect(got == set(layers), f"{part}: layers {sorted(layers)} have it, {sorted(got)} were read.")
        self._expect_turned()
        needs["the rotary layout"] = self._expect_rotary()
        return ", ".join(f"{part} of {len(layers)} layers" for part, layers in needs.items() if layers) or "nothing"

    def _expect_turned(self) -> None:
        layers = [site.layer for site in self._sites if site.unrotated]
        if layers:
            self._run(_Witness({"turned": SameLength()}, self._clip, layers=layers))

    def _expect_rotary(self) -> list[int]:
        """Layers whose declared rotary layout turns queries and keys as the model does."""
        layers = [site.layer for site in self._sites if site.rotary and site.unrotated]
        if layers:
            self._run(_Witness({"rotary": Turned()}, self._clip, layers=layers))
        return layers

    def _expect_card(self, sites: Sequence[Site]) -> None:
        card, kinds = with_defaults(self._model, VideoModelBase).model_card(), {site.attention for site in sites}
        if sites and card is not None:
            said = card.attention
            expect(said in kinds, f"the model card says {said!r} attention, the sites have {sorted(kinds)}.")

    # ---------------------------------------------------------------------------------------------------------- shared

    @cached_property
    def _sites(self) -> list[Site]:
        return list(self._model.sites())

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
        reader = _Reader()
        witness = _Witness({"reader": reader}, self._clip)
        self._run(witness, settings)
        return witness, reader

    def _run(self, witness: _Witness, settings: RunSettings | None = None) -> Any:
        self._loaded()
        return self._model.run(self._clip, settings or self._settings, witness)

    def _loaded(self) -> None:
        if not getattr(self, "_is_loaded", False):
            self._model.load(*self._where)
            self._is_loaded = True

    def _grid(self, site: Site | None) -> TokenGrid:
        grid = self._model.grid(self._clip, site)
        expect(isinstance(grid, TokenGrid), f"grid() must return a vcorr.TokenGrid, got {type(grid).__name__}.")
        found: TokenGrid = grid
        return found

    def _expect_same(self, found: list[Prediction], wanted: list[Prediction], case: str) -> None:
        expect(len(found) == len(wanted), f"{case}: {len(found)} predictions in place of {len(wanted)}.")
        for one, other in zip(found, wanted, strict=True):
            same = np.allclose(one.xy, other.xy, rtol=1e-5, atol=1e-5)
            expect(same, f"{case}: layer {one.layer}, step {one.step} read other tensors. Seed every random number.")


def _is_temporal(site: Site) -> bool:
    """Whether its sequences hold one place over time, where there never is text."""
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
    """Copies of all tensors in what a module put out."""
    if isinstance(output, Tensor):
        return [output.detach().clone()]
    parts = output.values() if isinstance(output, Mapping) else output if isinstance(output, (tuple, list)) else ()
    return [tensor for part in parts for tensor in _tensors(part)]
