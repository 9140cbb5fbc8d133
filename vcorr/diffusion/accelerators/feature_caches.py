"""Caches of diffusers, which repeat results of earlier sampling steps in place of computing them.

They are on while a pipeline samples and at no other time, and each video begins with an empty cache.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from vcorr.capture.caches import find_cache
from vcorr.contract.errors import MissingError, UsageError, VcorrError
from vcorr.contract.option_notes import option
from vcorr.contract.records import RunSettings
from vcorr.diffusion.accelerators.accelerator import AcceleratedModel, Accelerator


class FeatureCache(Accelerator, ABC):
    """A cache that `enable_cache` of a denoiser switches on."""

    reuses_steps: ClassVar[bool] = True
    config_class: ClassVar[str] = ""
    """Name of the configuration in `diffusers`."""

    @abstractmethod
    def config(self, model: AcceleratedModel, settings: RunSettings) -> Any:
        """Returns the configuration of the cache for one video."""

    def check(self, model: AcceleratedModel) -> None:
        """Checks that the installed diffusers has this cache."""
        _find_config(self.config_class)

    def apply(self, model: AcceleratedModel) -> None:
        """Switches the cache on and off once, so that a denoiser that cannot take it is known at once."""
        with self._keep_on(model, RunSettings(mode="generate", num_steps=4)):
            pass

    @contextmanager
    def sampling(self, model: AcceleratedModel, settings: RunSettings) -> Iterator[None]:
        """Switches the cache on for one video."""
        with self._keep_on(model, settings):
            yield

    @contextmanager
    def _keep_on(self, model: AcceleratedModel, settings: RunSettings) -> Iterator[None]:
        denoisers = [getattr(model.pipe, name) for name in model.denoisers]
        switched: list[Any] = []
        try:
            for denoiser in denoisers:
                self._switch_on(denoiser, model, settings)
                switched.append(denoiser)
            yield
        finally:
            for denoiser in switched:
                denoiser.disable_cache()

    def _switch_on(self, denoiser: Any, model: AcceleratedModel, settings: RunSettings) -> None:
        name = type(denoiser).__name__
        if not hasattr(denoiser, "enable_cache"):
            raise UsageError(f"{name} takes no cache of diffusers, so no {self.title}.")
        config = self.config(model, settings)
        try:
            denoiser.enable_cache(config)
        except VcorrError:
            raise
        except Exception as error:  # diffusers raises any error for a network whose blocks it does not know
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UsageError(f"{name} cannot take the {self.title} of diffusers: {reason}") from error
        if find_cache(denoiser) is None:
            raise UsageError(f"The {self.title} of diffusers finds nothing in {name} that it could skip.")


def _find_config(name: str) -> Any:
    """Returns a configuration class of diffusers.

    Raises:
        MissingError: the installed version has none of this name.
    """
    import diffusers

    found = getattr(diffusers, name, None) or getattr(diffusers.hooks, name, None)
    if found is None:
        raise MissingError(
            f"diffusers {diffusers.__version__} has no {name}.", hint="Install the version that vcorr asks for."
        )
    return found


def _timestep_of(model: AcceleratedModel) -> Any:
    """Returns a function that says at which timestep the pipeline is.

    Raises:
        UsageError: the pipeline does not say it.
    """
    pipe = model.pipe
    if not hasattr(type(pipe), "current_timestep"):
        raise UsageError(f"{type(pipe).__name__} does not say at which timestep it is, as this cache needs.")
    return lambda: pipe.current_timestep


@dataclass(frozen=True)
class FirstBlockCache(FeatureCache):
    """Skips all blocks but the first while the first one's residual changes little between steps."""

    title: ClassVar[str] = "First Block Cache"
    config_class: ClassVar[str] = "FirstBlockCacheConfig"

    threshold: float = option(0.05, "Relative change of the first block's residual below which it skips.", least=0)

    def config(self, model: AcceleratedModel, settings: RunSettings) -> Any:
        """Returns the configuration of the cache for one video."""
        return _find_config(self.config_class)(threshold=self.threshold)


@dataclass(frozen=True)
class PyramidAttentionBroadcast(FeatureCache):
    """Computes attention every few steps and repeats its output between them."""

    title: ClassVar[str] = "Pyramid Attention Broadcast"
    config_class: ClassVar[str] = "PyramidAttentionBroadcastConfig"

    every: int = option(2, "Attention is computed in one of this many steps.", least=2)
    lowest: int = option(100, "Timestep under which nothing is skipped.", least=-1)
    highest: int = option(800, "Timestep above which nothing is skipped.", least=0)

    def config(self, model: AcceleratedModel, settings: RunSettings) -> Any:
        """Returns the configuration of the cache for one video."""
        return _find_config(self.config_class)(
            spatial_attention_block_skip_range=self.every,
            spatial_attention_timestep_skip_range=(self.lowest, self.highest),
            current_timestep_callback=_timestep_of(model),
        )


_FRAME_AXES = {"bcfhw": "BCFHW", "bfchw": "BFCHW"}
"""Orders of the latents' axes that FasterCache knows, by how adapters name them."""


@dataclass(frozen=True)
class FasterCache(FeatureCache):
    """Repeats attention as PAB does, and estimates the unconditional branch from the conditional one in some steps."""

    title: ClassVar[str] = "FasterCache"
    config_class: ClassVar[str] = "FasterCacheConfig"

    every: int = option(2, "Attention is computed in one of this many steps.", least=2)
    unconditional: int = option(5, "The unconditional branch is computed in one of this many steps.", least=1)
    weight: float = option(0.5, "Weight of the difference of the two kept attention outputs.", least=0)
    highest: int = option(681, "Timestep above which attention is not skipped.", least=0)

    def config(self, model: AcceleratedModel, settings: RunSettings) -> Any:
        """Returns the configuration of the cache for one video."""
        axes = _FRAME_AXES.get(model.latent_axes)
        if axes is None:
            raise UsageError(f"FasterCache needs latents with an axis of frames; these are {model.latent_axes!r}.")
        weight, batched = self.weight, len(model.layout().branches) > 1
        return _find_config(self.config_class)(
            spatial_attention_block_skip_range=self.every,
            spatial_attention_timestep_skip_range=(-1, self.highest),
            unconditional_batch_skip_range=self.unconditional,
            attention_weight_callback=lambda _: weight,
            tensor_format=axes,
            is_guidance_distilled=not batched,
            current_timestep_callback=_timestep_of(model),
        )


@dataclass(frozen=True)
class MagCache(FeatureCache):
    """Skips blocks while the error that known ratios of the residuals predict stays small."""

    title: ClassVar[str] = "MagCache"
    config_class: ClassVar[str] = "MagCacheConfig"

    ratios: str = option(
        "",
        "Ratios of the size of neighbouring steps' residuals, of this model, separated by '/'. diffusers measures them "
        "with MagCacheConfig(calibrate=True). Empty for 1 in every step, which assumes that sizes do not change.",
    )
    threshold: float = option(0.06, "Predicted error up to which blocks are skipped.", least=0)
    skips: int = option(3, "Most steps that are skipped in a row.", least=1)
    kept: float = option(0.2, "Share of the first steps that are never skipped.", least=0, most=1)

    def config(self, model: AcceleratedModel, settings: RunSettings) -> Any:
        """Returns the configuration of the cache for one video."""
        return _find_config(self.config_class)(
            threshold=self.threshold,
            max_skip_steps=self.skips,
            retention_ratio=self.kept,
            num_inference_steps=settings.num_steps,
            mag_ratios=self._read_ratios() or [1.0] * settings.num_steps,
        )

    def __post_init__(self) -> None:
        self._read_ratios()

    def _read_ratios(self) -> list[float]:
        try:
            return [float(text) for text in self.ratios.split("/") if text]
        except ValueError as error:
            raise UsageError(
                f"model.accelerate: mag-cache:ratios must be numbers separated by '/', got {self.ratios!r}."
            ) from error


@dataclass(frozen=True)
class TaylorSeer(FeatureCache):
    """Computes every few steps, and extrapolates the outputs of attention and feed-forward layers between them."""

    title: ClassVar[str] = "TaylorSeer"
    config_class: ClassVar[str] = "TaylorSeerCacheConfig"

    every: int = option(3, "The network is computed in one of this many steps.", least=2)
    order: int = option(1, "Order of the Taylor series.", least=0)
    first: int = option(3, "Number of first steps that are computed in full.", least=1)
    lite: bool = option(False, "Extrapolates the output of the whole network alone, and skips all of its blocks.")

    def config(self, model: AcceleratedModel, settings: RunSettings) -> Any:
        """Returns the configuration of the cache for one video."""
        denoiser = getattr(model.pipe, model.denoisers[0])
        # diffusers' own patterns miss modules whose names end in a digit, such as attn1
        layers = [name for site in model.sites() for name in (site.name, _feed_forward_of(site.name))]
        return _find_config(self.config_class)(
            cache_interval=self.every,
            max_order=self.order,
            disable_cache_before_step=self.first,
            taylor_factors_dtype=denoiser.dtype,
            cache_identifiers=None if self.lite else [re.escape(name) for name in layers],
            use_lite_mode=self.lite,
        )


def _feed_forward_of(site: str) -> str:
    """Returns the path of the feed-forward layer in the block of an attention module, by diffusers' usual name."""
    return f"{site.rpartition('.')[0]}.ff"
