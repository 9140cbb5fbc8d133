"""The model suite passes an adapter that keeps the contract and names what a careless one breaks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from vcorr.capture import TokenLayout
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import ModelCard, RunSettings, Site, Unrotated
from vcorr.testing import assert_passed, check_model, random_clip

TEXT = 2


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(8, 24)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Denoiser(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.text = nn.Linear(3, 8), nn.Parameter(torch.randn(1, TEXT, 8))
        self.blocks = nn.ModuleList(Attention() for _ in range(2))

    def forward(self, tokens):
        x = torch.cat([self.text, self.embed(tokens)], dim=1)
        for block in self.blocks:
            x = x + block(x)
        return (x,)


class Adapter:
    """A pixel-space model: tokens are means of 8x8 pixels, every second frame."""

    steps = 3

    def sites(self):
        return [Site(layer, f"blocks.{layer}", heads=2) for layer in range(2)]

    def grid(self, clip, site):
        frames, height, width, _ = clip.video.shape
        return TokenGrid(frames=frames // 2 + 1, rows=height // 8, cols=width // 8, stride=(8, 8), temporal_ratio=2)

    def load(self, device, dtype, weights):
        self.denoiser = Denoiser().to(device, getattr(torch, dtype)).eval()

    def tokens(self, clip):
        video = torch.from_numpy(clip.video[::2]).float().permute(0, 3, 1, 2) / 255
        return F.avg_pool2d(video, 8).permute(0, 2, 3, 1).flatten(0, 2)[None]

    def noise(self, step, settings, like):
        generator = torch.Generator().manual_seed(1000 * settings.seed + step)
        return torch.randn(like.shape, generator=generator)

    def level(self, step, settings):
        return 1 - step / settings.num_steps

    def run(self, clip, settings, recorder):
        tokens = self.tokens(clip)
        with torch.no_grad(), self.attach(clip, recorder):
            for step in settings.steps:
                level = self.level(step, settings)
                with recorder.step(step, noise=level):
                    self.denoiser((1 - level) * tokens + level * self.noise(step, settings, tokens))

    def attach(self, clip, recorder):
        return recorder.attach(self.denoiser, self.sites(), TokenLayout("before"), lambda site: self.grid(clip, site))


class Unsorted(Adapter):
    def sites(self):
        return super().sites()[::-1]


class LateSites(Adapter):
    def sites(self):
        return [Site(i, f"blocks.{i}") for i in range(len(self.denoiser.blocks))]


class Unseeded(Adapter):
    def noise(self, step, settings, like):
        return torch.randn(like.shape)


class Sequential(Adapter):
    """Noise of a step depends on which steps ran before it."""

    def run(self, clip, settings, recorder):
        self.generator = torch.Generator().manual_seed(settings.seed)
        super().run(clip, settings, recorder)

    def noise(self, step, settings, like):
        return torch.randn(like.shape, generator=self.generator)


class Upside(Adapter):
    def level(self, step, settings):
        return step / settings.num_steps


class Smaller(Adapter):
    def grid(self, clip, site):
        frames, height, width, _ = clip.video.shape
        return TokenGrid(frames=frames // 2 + 1, rows=height // 8 - 1, cols=width // 8, stride=(8, 8), temporal_ratio=2)


class Leaves(Adapter):
    def run(self, clip, settings, recorder):
        with self.attach(clip, recorder):
            self.denoiser.blocks[0].register_forward_hook(lambda *_: None)
            with recorder.step(0):
                self.denoiser(self.tokens(clip))


class Swallows(Adapter):
    def run(self, clip, settings, recorder):
        try:
            super().run(clip, settings, recorder)
        except Exception:
            return np.zeros(3)


class Reacts(Adapter):
    """Computes something else when it is probed."""

    def run(self, clip, settings, recorder):
        self.denoiser.text.data.fill_(len(recorder._probes))
        super().run(clip, settings, recorder)


class SaysMore(Adapter):
    """Its blocks are their own attention, and have no rotary embedding to undo."""

    def sites(self):
        plain = Unrotated("qkv", "qkv", "bnc")
        return [Site(i, f"blocks.{i}", heads=2, block=f"blocks.{i}", unrotated=plain) for i in range(2)]


class SaysWrong(Adapter):
    def sites(self):
        return [Site(layer, f"blocks.{layer}", heads=2, block="embed.weight") for layer in range(2)]


class WrongHeads(Adapter):
    def sites(self):
        return [Site(layer, f"blocks.{layer}", heads=3) for layer in range(2)]


class Maps(Adapter):
    """Shows the attention of one layer alone, and the hidden states of both."""

    def sites(self):
        shown = Site(0, "blocks.0", heads=2, block="blocks.0")
        return [shown, Site(1, "second", attention="none", block="blocks.1")]


class SaysAttention(Maps):
    """Declares a module as attention that computes none."""

    def sites(self):
        return [Site(0, "embed", block="blocks.0"), *super().sites()[1:]]


class OnlyMaps(Adapter):
    def sites(self):
        return [Site(0, "both", attention="none", block=self.path)]

    path = "blocks.1"


class WrongMaps(OnlyMaps):
    path = "embed.bias"


class UnseededMaps(OnlyMaps, Unseeded):
    pass


class Still:
    def sites(self):
        return ()

    def grid(self, clip, site):
        frames, height, width, _ = clip.video.shape
        return TokenGrid(frames=frames, rows=height // 8, cols=width // 8, stride=(8, 8))

    def load(self, device, dtype, weights):
        pass

    def run(self, clip, settings, recorder):
        grid = self.grid(clip, None)
        recorder.answer(np.repeat(clip.queries.xy[:, None], grid.frames, axis=1), grid)


@pytest.fixture
def clip():
    return random_clip(5, 24, 32)


def failed(report):
    return {check.name for check in report.failures}


def test_a_right_adapter_passes(clip):
    assert_passed(check_model(Adapter(), clip, plugin="vcorr.plugins.builtin", text_tokens=TEXT))
    assert_passed(check_model(Adapter, clip, settings=RunSettings(steps=(1,), num_steps=4)))


class Carded(Adapter):
    """Says one kind of attention on its card and another of its sites."""

    def model_card(self):
        return ModelCard("carded", "Carded", "A model.", "factorised", "MIT")


def test_the_card_and_the_sites_tell_the_same_attention(clip):
    report = check_model(Carded(), clip)
    assert failed(report) == {"sites are known before loading"}
    assert "says 'factorised' attention, the sites have ['full3d']" in report.failures[0].reason


def test_a_model_without_sites_passes(clip):
    assert_passed(check_model(Still(), clip))


def test_hidden_states_that_sites_name_are_read(clip):
    report = check_model(SaysMore(), clip)
    assert failed(report) == {"what sites declare besides attention can be captured"}
    assert "6 key and value heads" in report.failures[0].reason


def test_models_without_attention_pass(clip):
    assert_passed(check_model(OnlyMaps(), clip, text_tokens=TEXT))
    report = check_model(Maps(), clip)
    assert_passed(report)
    remarks = {check.name: check.reason for check in report.checks}
    assert remarks["what sites declare besides attention can be captured"] == "q of 1 layers, hidden of 2 layers"


@pytest.mark.parametrize(
    ("adapter", "name"),
    [
        (WrongMaps, "one prediction per site and step"),
        (UnseededMaps, "same seed, same result"),
        (SaysAttention, "what sites declare besides attention can be captured"),
    ],
)
def test_what_models_without_attention_lack_is_found(clip, adapter, name):
    assert name in failed(check_model(adapter(), clip))


def test_built_in_baselines_pass(clip):
    from vcorr.plugins.builtin import vcorr_models

    for entry in vcorr_models():
        assert_passed(check_model(entry, clip))


@pytest.mark.parametrize(
    ("adapter", "names"),
    [
        (Unsorted, {"sites are known before loading", "runs"}),
        (LateSites, {"sites are known before loading"}),
        (Unseeded, {"same seed, same result", "the output is bit-identical under probes"}),
        (Sequential, {"a step does not depend on the other steps"}),
        (Upside, {"noise falls from step to step"}),
        (Smaller, {"the grid fits the clip", "all sites and steps have the same number of text tokens"}),
        (Leaves, {"nothing is left behind", "one prediction per site and step"}),
        (Swallows, {"nothing is left behind after an error"}),
        (Reacts, {"the output is bit-identical under probes"}),
        (WrongHeads, {"one prediction per site and step"}),
        (SaysMore, {"what sites declare besides attention can be captured"}),  # q, k and v come out of one projection
        (SaysWrong, {"what sites declare besides attention can be captured"}),
    ],
)
def test_a_careless_adapter_fails_the_right_check(clip, adapter, names):
    assert names <= failed(check_model(adapter(), clip, text_tokens=TEXT))


def test_a_heavy_plugin_is_named(clip):
    report = check_model(Still(), clip, plugin="torch.version")
    assert failed(report) == {"importing the plugin loads nothing heavy"}
    assert "imports torch" in report.failures[0].reason
    assert "No module named" in check_model(Still(), clip, plugin="no_such_plugin").failures[0].reason


@pytest.mark.parametrize(("modules", "right"), [(("norm_q", "norm_k"), True), (("to_q", "to_k"), False)])
def test_what_is_unrotated_has_the_length_of_what_attends(modules, right):
    from support.ltx import LTX, LTXConfig

    class Says(LTX):
        def sites(self):
            plain = Unrotated(*modules, "bnc")
            return [replace(site, unrotated=plain) for site in super().sites()]

    report = check_model(
        Says, random_clip(9, 64, 96), config=LTXConfig(), settings=RunSettings(steps=(0,), num_steps=4)
    )
    assert failed(report) == (set() if right else {"what sites declare besides attention can be captured"})
    assert right or "Is a norm in between" in report.failures[0].reason
