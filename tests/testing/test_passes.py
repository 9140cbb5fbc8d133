"""The suites of passes and of reading pass a family of thirty lines, and fail what was passed before."""

import ast
import dataclasses
import inspect
import re
from pathlib import Path

import pytest
import torch
from support import family
from support.family import Walker
from support.schedules import noise_schedule
from torch import nn

from vcorr import ModelEntry, Site
from vcorr.contract.records import RunSettings
from vcorr.testing import assert_passed, check_entry, check_model, check_passes, check_reading, random_clip

(ENTRY,) = family.vcorr_models()
CONFIG = ENTRY.config_type()(**ENTRY.check)
CLIP = random_clip(9, 64, 96)
ARGUMENTS, SCHEDULE = "arguments are the pipeline's own, at every step", "renoise and generate have the same schedule"
NOISE, LATENTS = "the video gets the noise level of the step", "latents enter the denoiser as in the pipeline"
BRANCH, TOKEN, PROMPT = (
    "the pass is the conditional branch",
    "a change of pixels is found at its token",
    "the conditional branch is read",
)


def variant(kind):
    """The entry of the family with another class."""
    kind.__module__, kind.__qualname__ = __name__, kind.__name__
    globals()[kind.__name__] = kind
    return ModelEntry(
        name="walker",
        summary="x",
        factory=f"{__name__}:{kind.__name__}",
        config=ENTRY.config,
        card=ENTRY.card,
        configs=ENTRY.configs,
    )


def failures(suite, entry):
    return {check.name: check.reason for check in suite(entry, CLIP, config=CONFIG).failures}


# ------------------------------------------------------------------------------------------------------- a new family


def test_a_family_is_thirty_lines():
    tree = ast.parse(Path(family.__file__).read_text())
    (adapter,) = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    (hook,) = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    lines = sum(node.end_lineno - node.lineno + 1 for node in (adapter, hook))
    assert lines <= 30


def test_it_passes_every_suite():
    assert_passed(check_entry(ENTRY))
    for mode in ("renoise", "generate"):
        assert_passed(check_model(ENTRY, CLIP, config=CONFIG, settings=RunSettings(mode, (0, 2), 4), text_tokens=0))
    assert_passed(check_reading(ENTRY, CLIP, config=CONFIG))
    assert_passed(check_passes(ENTRY, CLIP, config=CONFIG))


def test_a_model_that_is_no_diffusers_pipeline_is_refused():
    class Other:
        pass

    report = check_passes(Other, CLIP)
    assert not report.passed
    assert all("is not a vcorr.diffusion.DiffusersVideoModel" in check.reason for check in report.failures)


# ------------------------------------------------------------------------------------------------------------ mutants


class Deaf(Walker):
    """Gives every clip the same prompt."""

    def prompt(self, clip):
        return "always this"


class Unshifted(Walker):
    """Renoises with steps that the pipeline does not have: the scheduler without its shift."""

    def borrow(self, clip, grid, settings):
        found = super().borrow(clip, grid, settings)
        scheduler = type(self.pipe.scheduler).from_config(self.pipe.scheduler.config, flow_shift=1.0)
        object.__setattr__(found, "schedule", noise_schedule(scheduler, settings.num_steps))
        return found


class ByHand(Walker):
    """Reads its scheduler itself, and wrongly, so that both modes agree."""

    def noise_levels(self, scheduler):
        own = super().noise_levels(scheduler)
        return dataclasses.replace(own, sigmas=own.sigmas / 2)


class Noisier(Walker):
    """Has the pipeline's timesteps, and other noise levels."""

    def run(self, clip, settings, recorder):
        own = self.encode
        if settings.mode == "renoise":
            self.encode = lambda video: own(video) / 2
        try:
            return super().run(clip, settings, recorder)
        finally:
            self.encode = own


class Unconditional(Walker):
    """Borrows the pass without the prompt."""

    def call_inputs(self, clip, grid):
        given = super().call_inputs(clip, grid)
        borrowing = inspect.stack()[2].function == "_borrow_first"
        return {**given, "prompt_embeds": given["negative_prompt_embeds"]} if borrowing else given


class Transposed(Walker):
    """Exchanges rows and columns of the latents."""

    def denoiser_input(self, latents, own):
        return latents.transpose(3, 4).reshape(own.shape)


class Sound(nn.Module):
    """Self-attention over as many tokens as the video has, of something else."""

    def __init__(self, tokens):
        super().__init__()
        self.register_buffer("tokens", torch.randn(1, 2, tokens, 12))

    def forward(self):
        return nn.functional.scaled_dot_product_attention(self.tokens, self.tokens, self.tokens)


class Hears(Walker):
    """Has a stream of sound as well as the video, and declares the attention of the sound as a site."""

    def sites(self):
        own = super().sites()
        return (*own, Site(len(own), "sound", heads=2))

    def load(self, device, dtype, weights):
        super().load(device, dtype, weights)
        denoiser = self.pipe.transformer
        denoiser.sound = Sound(3 * 4 * 6)
        denoiser.register_forward_pre_hook(_play)


def _play(module, args):
    module.sound()


@pytest.mark.parametrize(
    ("kind", "suite", "name", "reason"),
    [
        (Deaf, check_reading, PROMPT, "do not depend on the prompt"),
        (Unshifted, check_passes, SCHEDULE, "the pipeline samples at 999, 900, 750, 500"),
        (Unshifted, check_passes, ARGUMENTS, "timestep is not the pipeline's"),
        (ByHand, check_passes, SCHEDULE, "the adapter's `noise_levels` has sigmas .*; the scheduler has"),
        (Noisier, check_passes, NOISE, "instead of"),
        (Unconditional, check_passes, ARGUMENTS, "encoder_hidden_states is not the pipeline's"),
        (Transposed, check_passes, LATENTS, "hidden_states is not the pipeline's"),
        (Hears, check_reading, TOKEN, "sound.*Does its attention run over the video's tokens"),
    ],
)
def test_a_careless_adapter_is_found_out(kind, suite, name, reason):
    found = failures(suite, variant(kind))
    assert re.search(reason, found[name]), found


def test_swapped_branches_are_found_out():
    from support.ltx import LTX, LTXConfig

    class Swapped(LTX):
        branches = ("cond", "uncond")

    clip = random_clip(9, 64, 96)
    assert_passed(check_passes(LTX, clip, config=LTXConfig()))
    found = {check.name: check.reason for check in check_passes(Swapped, clip, config=LTXConfig()).failures}
    assert "encoder_hidden_states is not the pipeline's own" in found[ARGUMENTS]


def test_an_image_in_place_of_latents_has_to_stay():
    from diffusers import LTXImageToVideoPipeline
    from support.ltx import LTX, LTXConfig

    class Forgets(LTX):
        pipeline_class = "LTXImageToVideoPipeline"
        needs_image = True

        def build(self, seed):
            return LTXImageToVideoPipeline(**super().build(seed).components)

        def call_inputs(self, clip, grid):
            return {**super().call_inputs(clip, grid), "image": self.image(clip, grid)}

    class Keeps(Forgets):
        def denoiser_input(self, latents, own):
            image = self.as_latents(own, latents)[:, :, :1].to(latents)
            return super().denoiser_input(torch.cat([image, latents[:, :, 1:]], dim=2), own)

    clip = random_clip(9, 64, 96)
    assert_passed(check_passes(Keeps, clip, config=LTXConfig()))
    found = {check.name: check.reason for check in check_passes(Forgets, clip, config=LTXConfig()).failures}
    assert list(found) == [LATENTS]
    assert "`denoiser_input` has to keep these values of `own`" in found[LATENTS]
