"""What a diffusers adapter hands to its pipeline's call: prompts, images, the strength of guidance, sizes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Clip, Mode, RunSettings
from vcorr.diffusion.adapter_facts import AdapterFacts, C, missing_member
from vcorr.diffusion.images import starting_image
from vcorr.diffusion.prompts import PromptEncoding

if TYPE_CHECKING:
    from torch import Tensor


class AdapterInputs(AdapterFacts[C]):
    """The part of `DiffusersVideoModel` that makes the arguments of the pipeline's call."""

    # ------------------------------------------------------------------------------------- what a subclass may override

    @property
    def encoding(self) -> PromptEncoding | None:
        """How the pipeline encodes prompts; None if the model has no text or encodes it in a way of its own."""
        return None

    def text_limit(self) -> int | None:
        """Returns the largest number of prompt tokens that the text encoder reads; None if it reads any number."""
        encoding = self._encoding
        return None if encoding is None else int(encoding.tokens)

    def call_inputs(self, clip: Clip, grid: TokenGrid) -> Mapping[str, Any]:
        """Returns the clip's own arguments of the pipeline's call: prompt, image if the model needs one, and guidance.

        The strength of guidance is the one that `setting` returns. Without a text encoder there are stand-ins for the
        embedded prompt. Size, steps, generator and callback are not among the arguments.
        """
        prompt, encoding = self.prompt(clip), self._encoding
        given: Mapping[str, Any] = {"prompt": prompt}
        if not self.reads_prompt:
            given = {}
        elif encoding is not None:
            negative = self.setting("negative_prompt")
            given = encoding.call_inputs(self.pipe, prompt, self.device, self._dtype, negative)
        strength = self.setting("guidance_scale")
        given = given if strength is None else {**given, **self.guidance(strength)}
        return {**given, "image": self.image(clip, grid)} if self.needs_image else given

    def guidance(self, strength: float) -> Mapping[str, float]:
        """Returns the arguments of the pipeline's call for a strength of guidance: by default one."""
        return {self.guidance_argument: strength}

    def fill_template(self, clip: Clip, mode: Mode) -> Clip:
        """Returns the clip with its prompt in the template that counts in a mode, if there is one."""
        return replace(clip, prompt=self._settings.in_template(clip.prompt, mode))

    def image(self, clip: Clip, grid: TokenGrid) -> Any:
        """Returns the image that sampling starts from, frame 0 of the clip's video.

        Raises:
            UsageError: the clip has no video, or one of another size than the grid covers.
        """
        return starting_image(clip, grid, self.model_card().title)

    def embed(self, prompt: str) -> dict[str, Tensor]:
        """Embeds a prompt: (1, n, c), and its mask, (1, n), by the names of the pipeline's arguments.

        Raises:
            PluginError: the model does not declare its `encoding`.
        """
        encoding = self._encoding
        if encoding is None:
            raise missing_member(self, "encoding")
        return encoding.embed(self.pipe, prompt, self.device, self._dtype)

    # ----------------------------------------------------------------------------------------------------------- passes

    def keeping_prompts(self) -> AbstractContextManager[None]:
        """Lets the pipeline embed each prompt once while it is called in the block; see `KeptInputs`."""
        return self.kept_inputs.keeping_prompts(self.pipe, self.denoisers)

    def call(self, clip: Clip, grid: TokenGrid, settings: RunSettings, output_type: str) -> dict[str, Any]:
        """Returns the arguments of the pipeline's call, the same in all modes, so that their random draws agree."""
        from vcorr.diffusion.sampling import sampling_generator

        return {
            **self.call_inputs(self.fill_template(clip, settings.mode), grid),
            "height": round(grid.height),
            "width": round(grid.width),
            self.frames_argument: self.compression.frames_of_stills(grid.frames) if clip.stills else grid.video_frames,
            "num_inference_steps": settings.num_steps,
            "generator": sampling_generator(settings.seed),
            "output_type": output_type,
        }

    # --------------------------------------------------------------------------------------------------------- contract

    def prompt(self, clip: Clip) -> str:
        """Returns the text that the model gets for a clip.

        Raises:
            UsageError: the text is too long, so that the text encoder would cut it.
        """
        prompt = clip.prompt if self.config.prompt == "caption" else ""
        tokenizer, limit = getattr(self.pipe, "tokenizer", None), self.text_limit()
        if tokenizer is None or limit is None:
            return prompt
        count = len(tokenizer(prompt, verbose=False).input_ids)
        if count > limit:
            raise UsageError(
                f"The prompt of clip {clip.id} has {count} tokens; {self.model_card().title} reads {limit}.",
                hint="Shorten it, or leave it out: --set model.prompt=empty",
            )
        return prompt

    def guidance_branches(self, settings: RunSettings) -> int:
        """Returns the guidance branches per step: one without guidance, which is a strength of at most 1."""
        own = self.setting("guidance_scale")
        strength = own if settings.cfg is None else settings.cfg
        if strength is not None and strength <= 1:
            return 1
        return self.guided_branches or max(len(self.branches), len(self.passes))

    @property
    def _encoding(self) -> PromptEncoding | None:
        return None if self.encoding is None else self.encoding.with_sizes(self.network)
