"""What diffusers offers for speed and memory: each is read as the network computes it, or refused with advice."""

import inspect
import re
from copy import deepcopy

import diffusers
import pytest
import torch
from diffusers import hooks
from diffusers.models.cache_utils import CacheMixin
from torch import nn

from vcorr.capture import TokenLayout, intercept
from vcorr.capture.recorder import Recorder
from vcorr.contract.errors import CaptureError, UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Site

PARTS = ("q", "k", "v", "out", "hidden", "q_unrotated", "k_unrotated")


def every_step(name, **options):
    """Returns the settings of a cache that skips spatial attention whenever it can."""
    return getattr(diffusers, name)(
        spatial_attention_block_skip_range=2,
        spatial_attention_timestep_skip_range=(-1, 1001),
        current_timestep_callback=lambda: 500,
        **options,
    )


CACHES = {
    "Pyramid Attention Broadcast": lambda: every_step("PyramidAttentionBroadcastConfig"),
    "FasterCache": lambda: every_step("FasterCacheConfig", tensor_format="BFCHW"),
    "First Block Cache": lambda: hooks.FirstBlockCacheConfig(threshold=10.0),
    "MagCache": lambda: hooks.MagCacheConfig(threshold=10.0, num_inference_steps=4, mag_ratios=torch.ones(4)),
    "SeaCache": lambda: hooks.SeaCacheConfig(threshold=10.0),
    "TaylorSeer": lambda: hooks.TaylorSeerCacheConfig(use_lite_mode=True),
}


def read(tiny, run, queries, spy, layout=None):
    """Returns what a probe sees at every site of one pass, and the output of the pass."""
    found, outputs = spy(*PARTS), []
    run(tiny, {"spy": found}, queries, call=lambda: outputs.append(tiny()))
    return {(capture.site.name, part): getattr(capture, part) for capture in found.captures for part in PARTS} | {
        "output": outputs[0]
    }


def assert_equal(one, other):
    assert one.keys() == other.keys()
    assert len(one) > len(PARTS)
    assert [key for key in one if not torch.equal(one[key], other[key])] == []


@pytest.mark.parametrize("cache", list(CACHES))
def test_a_cache_is_refused_before_anything_runs_and_reads_alike_once_disabled(cog, cache, queries, spy, run):
    expected = read(cog, run, queries, spy)
    cog.module.enable_cache(CACHES[cache]())

    def never():
        raise AssertionError("the model ran")

    advice = rf"CogVideoXTransformer3DModel runs with {cache} .*\n?.*pipe\.transformer\.disable_cache\(\)"
    with pytest.raises(UsageError, match=advice):
        run(cog, {"spy": spy("q")}, queries, call=never)
    with (
        pytest.raises(UsageError, match=advice),
        intercept(cog.module, cog.names[0], lambda call, compute: compute(call)),
    ):
        never()
    cog.module.disable_cache()
    assert_equal(read(cog, run, queries, spy), expected)


def test_every_cache_of_diffusers_is_known_here():
    known = {type(make()).__name__ for make in CACHES.values()}
    named = set(re.findall(r"isinstance\(config, (\w+)\)", inspect.getsource(CacheMixin.enable_cache)))
    assert named - known == {"TextKVCacheConfig"}  # it keeps keys and values of the text, which do not change


def test_a_cache_that_disable_cache_does_not_know_says_so(cog, queries, spy, run):
    hooks.apply_first_block_cache(cog.module, hooks.FirstBlockCacheConfig())
    with pytest.raises(UsageError, match=r"First Block Cache.*\n?.*load the model anew"):
        run(cog, {"spy": spy("q")}, queries)


def test_the_second_of_two_denoisers_is_checked_too(cog, queries, spy):
    second = deepcopy(cog.module)
    second.enable_cache(CACHES["First Block Cache"]())
    recorder = Recorder({"spy": spy("q")}, queries)
    with (
        pytest.raises(UsageError, match="First Block Cache"),
        recorder.attach([cog.module, second], cog.sites, cog.layout, cog.grid),
    ):
        pass


def test_a_cache_of_text_alone_is_read(cog, queries, spy, run):
    expected = read(cog, run, queries, spy)
    cog.module.enable_cache(hooks.TextKVCacheConfig())
    assert_equal(read(cog, run, queries, spy), expected)


def test_skipped_blocks_are_named_with_the_likely_causes(cog, queries, spy, run):
    hooks.apply_layer_skip(cog.module, hooks.LayerSkipConfig(indices=[1], fqn="transformer_blocks"))
    with pytest.raises(CaptureError, match=r"blocks\.1\.attn1.*\n?.*cache-dit.*skip-layer"):
        run(cog, {"spy": spy("q")}, queries)


class Reused(nn.Module):
    """A denoiser that a foreign cache has taken over: it repeats its last output."""

    def __init__(self):
        super().__init__()
        self.block = nn.Identity()

    def forward(self, x):
        return x


def test_a_foreign_cache_that_skips_a_whole_pass_is_a_likely_cause(queries, spy):
    module, recorder = Reused(), Recorder({"spy": spy("q")}, queries)
    grid = TokenGrid(frames=3, rows=4, cols=6, stride=(16, 16), temporal_ratio=4)
    with (
        pytest.raises(CaptureError, match=r"none of the 1 tapped modules ran(.|\n)*TeaCache"),
        recorder.attach(module, [Site(0, "block", heads=2)], TokenLayout(), grid),
        recorder.step(0),
    ):
        module(torch.zeros(1, 1, 1))


# ------------------------------------------------------------------------------------------- placing, casting, fusing


def offload_groups(module, kind):
    from diffusers.hooks import apply_group_offloading

    cpu = torch.device("cpu")
    options = {"num_blocks_per_group": 1} if kind == "block_level" else {}
    apply_group_offloading(module, onload_device=cpu, offload_device=cpu, offload_type=kind, **options)


CHANGES = {
    "groups of leaves offloaded": lambda module: offload_groups(module, "leaf_level"),
    "groups of blocks offloaded": lambda module: offload_groups(module, "block_level"),
    "compiled": lambda module: module.compile(backend="eager"),
    "the native backend": lambda module: module.set_attention_backend("native"),
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_what_leaves_the_numbers_alone_is_read_alike(tiny, change, queries, spy, run):
    expected = read(tiny, run, queries, spy)
    torch._dynamo.reset()
    CHANGES[change](tiny.module)
    assert_equal(read(tiny, run, queries, spy), expected)


@pytest.mark.parametrize("undo", [False, True])
def test_fused_projections_are_read_alike(tiny, undo, queries, spy, run):
    expected = read(tiny, run, queries, spy)
    tiny.module.fuse_qkv_projections()
    if undo:
        tiny.module.unfuse_qkv_projections()
    found = read(tiny, run, queries, spy)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value)


def stored_in_eight_bits(module):
    """Returns whether layerwise casting stores the weights of this module."""
    return "layerwise_casting" in getattr(getattr(module, "_diffusers_hook", None), "hooks", {})


def test_weights_in_eight_bits_are_read_as_the_network_computes_with_them(tiny, queries, spy, run):
    plain, expected = deepcopy(tiny), read(tiny, run, queries, spy)
    tiny.module.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    for child, other in zip(plain.module.modules(), tiny.module.modules(), strict=True):
        if stored_in_eight_bits(other):
            for name, weight in child.named_parameters(recurse=False):
                weight.data = getattr(other, name).data.to(torch.float32)
    found = read(tiny, run, queries, spy)
    assert_equal(found, read(plain, run, queries, spy))
    assert not torch.equal(found["output"], expected["output"])


class Quantised(nn.Module):
    """A linear layer with integer weights, as quantisation packages put in the place of nn.Linear."""

    def __init__(self, linear):
        super().__init__()
        self.scale = linear.weight.detach().abs().max() / 127
        self.register_buffer("weight", (linear.weight.detach() / self.scale).round().to(torch.int8))
        self.bias = linear.bias

    @property
    def values(self):
        return self.weight.to(torch.float32) * self.scale

    def forward(self, x):
        return nn.functional.linear(x, self.values, self.bias)


def test_integer_weights_are_read_as_the_network_computes_with_them(tiny, queries, spy, run):
    rounded = deepcopy(tiny)
    for name, module in list(tiny.module.named_modules()):
        if isinstance(module, nn.Linear) and ".attn" in name:
            parent, _, last = name.rpartition(".")
            setattr(tiny.module.get_submodule(parent), last, Quantised(module))
            rounded.module.get_submodule(name).weight.data = Quantised(module).values
    assert_equal(read(tiny, run, queries, spy), read(rounded, run, queries, spy))
