"""How a diffusers adapter gets its pipeline: from a folder, with random weights, or built elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from vcorr.contract.errors import UsageError
from vcorr.diffusion.adapter_facts import C
from vcorr.diffusion.adapter_layout import AdapterLayout
from vcorr.diffusion.configs import folder_configs, pipeline_configs
from vcorr.diffusion.weights import WeightsSource, locate_weights

if TYPE_CHECKING:
    import torch

    from vcorr.diffusion.accelerators.accelerator import AcceleratedModel


class AdapterLoading(AdapterLayout[C]):
    """The part of `DiffusersVideoModel` that finds weights and loads the pipeline."""

    # ------------------------------------------------------------------------------------- what a subclass may override

    def build(self, seed: int) -> Any:
        """Builds the pipeline with random weights at the sizes of the configurations.

        When it is called, torch's generators are seeded with `seed`, and torch's default device and dtype are the ones
        that the model will run in.
        """
        from vcorr.diffusion.random_weights import pipeline_from_configs

        return pipeline_from_configs(self.pipeline_class, self._packaged, self.stand_ins())

    def stand_ins(self) -> Mapping[str, Any]:
        """Returns the components, by name, that a pipeline with random weights has in addition to the configured ones.

        For example a stand-in for a text encoder.
        """
        return {}

    def vae_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """Returns the dtype of the autoencoder in a run of `dtype`."""
        from vcorr.diffusion.loading import torch_dtype

        name = self.setting("vae_dtype")
        return dtype if name in (None, "model") else torch_dtype(name)

    def locate(self, weights: str) -> WeightsSource:
        """Finds the source that `--weights` names, without loading it; raises as `vcorr.diffusion.locate_weights`."""
        return locate_weights(weights, self.model_card(), self.saved_as or (self.pipeline_class,))

    def read(self, source: WeightsSource, dtype: torch.dtype) -> Any:
        """Loads the pipeline from the folder that `locate` found, on the CPU."""
        from vcorr.diffusion.loading import load_pipeline

        assert source.folder is not None  # `build` makes random weights
        further = self.accelerators.loading(self.denoisers, dtype)
        return load_pipeline(self.pipeline_class, source.folder, dtype, self.vae_dtype(dtype), **further)

    # --------------------------------------------------------------------------------------------------------- contract

    def weights_id(self, weights: str) -> str:
        """Returns the identity of the weights: "hub:ID@REVISION", "path:HASH", "embedded:HASH" or "random:SEED".

        "+lora:HASH" follows if low-rank weights are merged in, with several denoisers
        "+lora:transformer=HASH,transformer_2=HASH". "+accelerate:TEXT" follows if an
        accelerator is on. This imports neither torch nor diffusers. It raises as `locate`, and if a file of low-rank
        weights cannot be used.
        """
        source = self.locate(weights)
        self._take_sizes_from(source)
        parts = [source.identity]
        if files := self.lora_files():
            from vcorr.diffusion.lora_files import lora_identity

            parts.append(f"lora:{lora_identity(files, len(self.denoisers))}")
        if self.accelerators.each:
            parts.append(f"accelerate:{self.accelerators.text}")
        return "+".join(parts)

    def lora_files(self) -> Mapping[str, str]:
        """Returns the path of the low-rank weights of each denoiser, by its name: `model.lora` for all of them."""
        return {} if self.config.lora is None else dict.fromkeys(self.denoisers, self.config.lora)

    def load(self, device: str, dtype: str, weights: str) -> None:
        """Loads the pipeline; never downloads anything.

        Raises:
            MissingError: the weights or a package are not in reach.
            UsageError: the weights belong to another class or size than the configuration says, or an option does not
                work with this pipeline.
        """
        source = self.locate(weights)
        from vcorr.diffusion.kept_inputs import autoencoder_writes
        from vcorr.diffusion.loading import torch_dtype
        from vcorr.diffusion.lora import merge_lora
        from vcorr.diffusion.lora_files import lora_file
        from vcorr.diffusion.options import apply_options, cast_autoencoder, shift_schedule

        kind, files = torch_dtype(dtype), self.lora_files()
        for path in files.values():
            lora_file(path)  # raises for a wrong path before gigabytes are read
        self._take_sizes_from(source)
        self._pipe, self.device = self._load_pipeline(source, kind, device), device
        self._forget()
        shift, vae_dtype = self.setting("flow_shift"), self.vae_dtype(kind)
        try:
            if shift is not None:
                shift_schedule(self._pipe, shift)
            if vae_dtype != kind:
                cast_autoencoder(self._pipe, vae_dtype)
            if self.configs:
                self.take_sizes(pipeline_configs(self._pipe))
            self._expose_attention()
            if files:
                merge_lora(self._pipe, files)
            self.accelerators.apply(self._whole)
            apply_options(self._pipe, self.config, device)
            # random weights depend on the sizes of all networks, which their identity does not say
            self._loaded = (source.identity, autoencoder_writes(self._pipe)) if source.folder is not None else None
        except BaseException:
            self._pipe = None
            raise

    def adopt(self, pipe: Any, device: str) -> None:
        """Uses a pipeline that was built elsewhere and is on `device` already; replaces `load`."""
        self._pipe, self.device = pipe, device
        self._forget()
        if self.configs:
            self.take_sizes(pipeline_configs(pipe))
        self._expose_attention()
        self.accelerators.apply(self._whole)
        pipe.set_progress_bar_config(disable=True)

    def check_loading(self, device: str, dtype: str) -> None:
        """Checks that the options can be applied on this device, and that the packages they need are installed.

        Raises:
            MissingError: a package is not installed.
            UsageError: an option does not work on this device.
        """
        from vcorr.diffusion.lora_files import check_peft
        from vcorr.diffusion.options import check_offload

        if self.lora_files():
            check_peft()
        self.accelerators.check(self._whole)
        if self.config.offload:
            check_offload(device)

    def check_sharing(self) -> None:
        """Checks that diffusers' Ulysses parallelism works with the model, and that its attention can be read then.

        Raises:
            UsageError: the denoiser says nowhere how its tokens are split, or text is in the same sequence. Or an
                accelerator replaces attention, or keeps results of earlier steps.
        """
        from vcorr.diffusion.context_parallel import has_plan

        kinds = {name: self.config_of(name).get("_class_name", "") for name in self.denoisers}
        unplanned = next((kind for kind in kinds.values() if not has_plan(kind)), None)
        if unplanned is not None:
            kind = unplanned or "its denoiser"
            raise UsageError(f"Processes cannot share a pass of this model: {kind} of diffusers has no plan for it.")
        if self.text != "none" or self.per_sample:
            raise UsageError(
                "Processes cannot share a pass of this model: text and video are one sequence, and its order would "
                "change."
            )
        if self.accelerators.replaces_attention or self.accelerators.reuses_steps:
            raise UsageError(
                f"Processes cannot share a pass under model.accelerate={self.accelerators.text}.",
                hint="fp8, int8 and nf4 only store weights differently, and can be combined with --parallel.",
            )

    def share_passes(self, processes: int) -> None:
        """Shares the passes of the denoisers through diffusers' Ulysses parallelism; see `vcorr.VideoModelBase`."""
        from vcorr.diffusion.context_parallel import share_passes

        denoisers, sites = [getattr(self.pipe, name) for name in self.denoisers], {site.name for site in self.sites()}
        share_passes(denoisers, sites, processes, self.device)

    # ---------------------------------------------------------------------------------------------------------- loading

    @property
    def _whole(self) -> AcceleratedModel:
        """The model itself, which has more members than this part of it."""
        return cast("AcceleratedModel", self)

    def _forget(self) -> None:
        """Drops what was computed with an earlier pipeline."""
        self._borrowed = self._stills = self._kept = self._loaded = None

    def _load_pipeline(self, source: WeightsSource, kind: torch.dtype, device: str) -> Any:
        from vcorr.diffusion.random_weights import random_pipeline

        if source.folder is not None:
            return self.read(source, kind)
        # with offloading the networks take turns on the device, which may be too small for all of them
        device = "cpu" if self.config.offload else device
        return random_pipeline(self.build, source.seed, device, kind, self.denoiser)

    def _take_sizes_from(self, source: WeightsSource) -> None:
        """Reads sizes from the folder of the weights, if they are in a folder that diffusers saved.

        Raises:
            UsageError: options set values of the network, which such weights fix.
        """
        if self.config.network and source.folder is not None:
            given = ", ".join(f"model.network.{name}" for name in self.config.network)
            raise UsageError(f"{given}: weights that are not random bring their own sizes.", hint="Leave it out.")
        if self.configs and source.folder is not None:
            found = folder_configs(source.folder)
            self._folder_scheduler = found.get("scheduler", {})
            self.take_sizes(found)

    def _expose_attention(self) -> None:
        from vcorr.diffusion.backend import use_torch_attention
        from vcorr.diffusion.loading import networks

        for network in networks(self.pipe):  # networks that take turns all have the sites
            use_torch_attention(network, [site.name for site in self.sites()])
