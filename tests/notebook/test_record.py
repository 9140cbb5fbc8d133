"""vcorr.record reads a pipeline's own loop, counts its steps, and says what it cannot use."""

import dataclasses
import math
import runpy
import threading
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from support.wan import TwoStageWan, WanConfig
from torch import nn

import vcorr
from vcorr.capture.captures import TokenLayout
from vcorr.capture.recorder import Recorder
from vcorr.contract.errors import CaptureError, UsageError
from vcorr.data.query_grids import query_grid
from vcorr.diffusion import Compression
from vcorr.functional import match
from vcorr.notebook.layouts import latent_size, token_grid
from vcorr.probes.matching_probes import QueryKey

COOKBOOK = Path(__file__).parents[2] / "docs" / "cookbook"
GRID = vcorr.TokenGrid(frames=2, rows=3, cols=4, stride=(8, 8), temporal_ratio=4)
TEXT = 2
ORIGINAL = F.scaled_dot_product_attention


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(8, 24)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = Attention()

    def forward(self, x):
        return x + self.attn(x)


class Denoiser(nn.Module):
    def __init__(self, labels=True):
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.seen = []
        if labels:
            self.cache_context = self.label

    @contextmanager
    def label(self, name, **fields):
        self.seen.append((name, fields))
        yield

    def forward(self, tokens, fail=False):
        for block in self.blocks:
            tokens = block(tokens)
            if fail:
                raise KeyError("broken")
        return tokens


@pytest.fixture
def denoiser():
    return Denoiser()


@pytest.fixture(autouse=True)
def restored():
    yield
    assert F.scaled_dot_product_attention is ORIGINAL


def layout(**changes):
    return vcorr.Layout(**{"grid": GRID, "sites": "blocks.{}.attn", "text": "after", "heads": 2, **changes})


def tokens(step=0, batch=1):
    generator = torch.Generator().manual_seed(step)
    return torch.randn(batch, GRID.tokens + TEXT, 8, generator=generator)


def sample(denoiser, steps=3, labels=("cond", "uncond")):
    """A pipeline's loop."""
    for step in range(steps):
        for label in labels:
            with denoiser.cache_context(label, step_index=step):
                denoiser(tokens(step) if label == "cond" else tokens(100), fail=label == "broken")


def in_another_thread(denoiser):
    thread = threading.Thread(target=sample, args=(denoiser,))
    thread.start()
    thread.join()


def record(denoiser, **options):
    return vcorr.record(denoiser, **{"layout": layout(), "probes": ["qk"], **options})


def where(rec):
    return [(p.step, p.layer) for p in rec.predictions]


# ------------------------------------------------------------------------------------------------------------ reading


def test_it_reads_what_a_recorder_reads(denoiser):
    with record(denoiser, layers=[0, 2], steps=[1, 2], noise=[0.9, 0.5, 0.25]) as rec:
        sample(denoiser)
    recorder = Recorder({"qk": QueryKey()}, rec.queries, layers=[0, 2])
    with recorder.attach(denoiser, rec.sites, TokenLayout("after"), GRID):
        for step, noise in ((1, 0.5), (2, 0.25)):
            with recorder.step(step, noise=noise):
                denoiser(tokens(step))
    assert where(rec) == [(1, 0), (1, 2), (2, 0), (2, 2)]
    for one, other in zip(rec.predictions, recorder.predictions, strict=True):
        assert np.array_equal(one.xy, other.xy)
        assert (one.noise, one.layer_name, one.grid) == (other.noise, other.layer_name, other.grid)
    assert rec.steps == 3
    assert rec.grid is GRID


def test_queries_are_a_grid_over_the_frame_unless_given(denoiser):
    with record(denoiser) as rec:
        sample(denoiser, steps=1)
    assert rec.queries == vcorr.Queries.at(query_grid(20, 24, 32))
    given = torch.tensor([[3.0, 4.0], [30.0, 20.0]])
    with record(denoiser, queries=given) as rec:
        sample(denoiser, steps=1)
    assert np.array_equal(rec.predictions[0].xy[:, 0], given.numpy())
    assert math.isnan(rec.predictions[0].noise)


def test_a_variant_is_read_as_the_functions_read_it(denoiser):
    with record(denoiser, layers=[1], variant="both") as rec:
        sample(denoiser, steps=1)
    corrected, published = rec.predictions
    with record(denoiser, layers=[1], variant="difftrack") as alone:
        sample(denoiser, steps=1)
    assert [p.variant.base for p in (corrected, published, *alone.predictions)] == ["corrected", *["difftrack"] * 2]
    assert np.array_equal(alone.predictions[0].xy, published.xy)
    assert not np.array_equal(corrected.xy, published.xy)
    q, k, _ = denoiser.blocks[1].attn.qkv(denoiser.blocks[0](tokens())).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
    q, k = (x[0, :, : GRID.tokens].unflatten(1, (2, 3, 4)).detach() for x in (q, k))
    for variant, found in (("corrected", corrected), ("difftrack", published)):
        np.testing.assert_allclose(match(q, k, GRID, rec.queries, variant=variant), found.xy, atol=1e-4)


def test_labels_still_reach_the_model(denoiser):
    with record(denoiser):
        sample(denoiser, steps=1)
    assert denoiser.seen == [("cond", {"step_index": 0}), ("uncond", {"step_index": 0})]
    assert denoiser.cache_context == denoiser.label


@pytest.mark.parametrize("labels", [("uncond", "cond", "perturbed"), ("cond_uncond",)])
def test_steps_are_the_conditional_passes(denoiser, labels):
    batch = {"cond_uncond": 2}.get(labels[0], 1)
    with record(denoiser, layout=layout(branches=("uncond", "cond")), layers=[0]) as rec:
        for step in range(2):
            for label in labels:
                with denoiser.cache_context(label):
                    denoiser(tokens(step, batch))
    assert where(rec) == [(0, 0), (1, 0)]


def test_passes_without_labels_are_counted():
    denoiser = Denoiser(labels=False)
    with record(denoiser, layout=layout(passes=("uncond", "cond")), layers=[1]) as rec:
        for step in range(6):
            denoiser(tokens(step))
    with record(denoiser, layers=[1]) as alone:
        for step in (1, 3, 5):
            denoiser(tokens(step))
    assert where(rec) == where(alone) == [(0, 1), (1, 1), (2, 1)]
    assert all(np.array_equal(a.xy, b.xy) for a, b in zip(rec.predictions, alone.predictions, strict=True))


def test_probes_by_name_alone_and_as_objects(denoiser):
    with record(denoiser, probes="hidden-fair", layout=layout(block="blocks.{}"), layers=[0]) as rec:
        sample(denoiser, 1)
    assert [p.probe for p in rec.predictions] == ["hidden-fair"]
    with record(denoiser, probes={"mine": QueryKey()}, layers=[0], noise=lambda step: 1 - step / 10) as rec:
        sample(denoiser, 2)
    assert [(p.probe, p.noise) for p in rec.predictions] == [("mine", 1.0), ("mine", 0.9)]
    with record(denoiser, probes=["qk", "attention"], layers=[0]) as rec:
        sample(denoiser, 1)
    assert (len(rec.predictions), len(rec.rows)) == (1, 1)


def test_several_patterns_and_sites_by_hand(denoiser):
    with record(denoiser, layout=layout(sites=["blocks.2.attn", "blocks.1.attn"])) as rec:
        sample(denoiser, 1)
    sites = [(site.layer, site.name, site.heads) for site in rec.sites]
    assert sites == [(0, "blocks.2.attn", 2), (1, "blocks.1.attn", 2)]
    with record(denoiser, layout=layout(sites=[vcorr.Site(7, "blocks.0.attn", 2)]), layers=[7]) as rec:
        sample(denoiser, 1)
    assert where(rec) == [(0, 7)]


@pytest.mark.parametrize("how", ["wrapped", "in place", "wrapped by the pipeline"])
def test_compiled_denoisers(how):
    torch._dynamo.reset()
    denoiser = Denoiser()
    plain = Denoiser()
    run = denoiser
    if how == "in place":
        denoiser.compile(backend="eager")
    else:
        run = torch.compile(denoiser, backend="eager")
    with record(denoiser if how == "wrapped by the pipeline" else run) as rec:
        sample(run, 2)
    with record(plain) as expected:
        sample(plain, 2)
    assert where(rec) == where(expected)
    assert all(np.array_equal(a.xy, b.xy) for a, b in zip(rec.predictions, expected.predictions, strict=True))


def test_an_error_of_the_model_passes_through_and_nothing_stays(denoiser):
    rec = record(denoiser, layers=[0])
    with pytest.raises(KeyError, match="broken"), rec:
        sample(denoiser, 1, ("cond", "broken"))
    assert where(rec) == [(0, 0)]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in denoiser.modules())
    assert denoiser.cache_context == denoiser.label


def test_a_model_that_recovers_from_an_error_goes_on(denoiser):
    with record(denoiser, layers=[0]) as rec:
        with pytest.raises(KeyError):
            denoiser(tokens(), fail=True)
        denoiser(tokens())
    assert where(rec) == [(0, 0)]  # what is made in its place is the step
    assert rec.steps == 1


def test_a_model_that_is_interrupted_goes_on(denoiser):
    """Ctrl-C, of which torch tells no hook."""
    interrupt = denoiser.blocks[1].register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with record(denoiser, layers=[0, 2]) as rec:
        with pytest.raises(KeyboardInterrupt):
            denoiser(tokens())
        interrupt.remove()
        denoiser(tokens())
    assert where(rec) == [(0, 0), (0, 2)]
    assert rec.passes == {"cond": 1}


def test_queries_lie_in_any_frame(denoiser):
    several = vcorr.Queries(np.array([4, 0, 4, 1]), np.array([[3, 4], [3, 4], [30, 20], [30, 20]], np.float32))
    rows = torch.from_numpy(np.column_stack([several.t, several.xy]))
    found = []
    for given in (several, rows, rows.numpy(), rows.tolist()):
        with record(denoiser, queries=given, layers=[1]) as rec:
            sample(denoiser, steps=1)
        assert rec.queries == several
        found.append(rec.predictions[0].xy)
    assert all(np.array_equal(found[0], other) for other in found[1:])
    for index, (frame, latent) in enumerate(zip(several.t, [1, 0, 1, 1], strict=True)):
        with record(denoiser, queries=vcorr.Queries.at(several.xy[index : index + 1], int(frame)), layers=[1]) as rec:
            sample(denoiser, steps=1)
        assert np.array_equal(rec.predictions[0].xy[0], found[0][index])
        assert np.array_equal(found[0][index, latent], several.xy[index])


def test_guidance_that_does_not_come_as_declared_is_reported():
    """With three passes without labels, the conditional one cannot be found."""
    denoiser = Denoiser(labels=False)
    with (
        pytest.raises(UsageError, match=r"2 passes per step, uncond, cond; 1 of them did not come(.|\n)*cache_context"),
        record(denoiser, layout=layout(passes=("uncond", "cond"))),
    ):
        [denoiser(tokens()) for _ in range(3)]


def test_labels_of_another_thread_are_not_ours(denoiser):
    labelled, read = threading.Event(), threading.Event()

    def other():
        with denoiser.cache_context("uncond"):
            labelled.set()
            read.wait(60)

    thread = threading.Thread(target=other)
    with record(denoiser) as rec:
        thread.start()
        labelled.wait(60)
        denoiser(tokens())
        read.set()
        thread.join()
    assert rec.passes == {"cond": 1}


# --------------------------------------------------------------------------------------------------------- bad usage


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probes": []}, "no probe"),
        ({"probes": ["qq-"]}, "Unknown probe"),
        ({"layers": []}, "layers must be indices"),
        ({"layers": [-1]}, "layers must be indices"),
        ({"steps": [0.5]}, "steps must be indices"),
        ({"queries": np.zeros((3, 4))}, r"queries must have shape \(N, 2\)"),
        ({"queries": np.zeros((0, 2))}, "no queries"),
        ({"queries": [[1.0, 2.0], [3.0]]}, r"record\(\): .*(.|\n)*queries=\[\[x, y\]"),
        ({"queries": "middle"}, r"queries must have shape(.|\n)*rows of \[t, x, y\]"),
        ({"queries": [[0.0, float("nan")]]}, "finite"),
        ({"variant": "published"}, "Unknown variant 'published'"),
        ({"layout": 3}, "layout must be a vcorr.Layout"),
        ({"grid": GRID}, "has its own grid"),
        ({"layout": layout(grid=(2, 3, 4))}, "grid must be a vcorr.TokenGrid"),
        ({"layout": layout(sites=[])}, "no attention module"),
        ({"layout": layout(sites=["blocks.0.attn", vcorr.Site(1, "blocks.1.attn")])}, "or all vcorr.Site"),
        ({"layout": layout(text="behind")}, "text must be"),
        ({"layout": layout(branches=("a", "b"))}, "branches"),
        ({"layout": layout(passes=("a", "b"))}, "one of the passes must be 'cond'"),
        ({"layout": "zero-motion"}, "no token layout"),
        ({"layout": "cogvideoks"}, "Did you mean 'cogvideox'"),
    ],
)
def test_bad_usage_is_reported_at_once(denoiser, options, message):
    with pytest.raises(UsageError, match=message):
        record(denoiser, **options)


def test_things_that_are_no_module_are_reported():
    with pytest.raises(UsageError, match=r"expected a torch module, got SimpleNamespace(.|\n)*pipe.transformer"):
        record(SimpleNamespace(transformer=Denoiser()))
    with pytest.raises(UsageError, match=r"got NoneType(.|\n)*pipe.transformer"):
        record(None)


def test_sites_that_are_not_there_are_reported_with_the_nearest(denoiser):
    for sites in ("blocks.{}.attn1", "blocks.0.attn1", ["blocks.{}.attn", "blocks.9.attn"]):
        with pytest.raises(CaptureError, match=r"no module 'blocks.\d.attn1?'(.|\n)*blocks.\d.attn"):
            record(denoiser, layout=layout(sites=sites))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layers": [5]}, UsageError, "no layer 5"),
        ({"queries": [[40.0, 2.0]]}, UsageError, "outside the frame"),
        ({"probes": ["hidden"]}, UsageError, "'hidden' reads the output of a block"),
        ({"layout": layout(block="block.{}"), "probes": ["hidden"]}, CaptureError, "no module 'block.0'"),
    ],
)
def test_what_shows_on_entering(denoiser, options, error, message):
    with pytest.raises(error, match=message), record(denoiser, **options):
        pass
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in denoiser.modules())
    assert denoiser.cache_context == denoiser.label


def test_what_shows_while_running(denoiser):
    with (
        pytest.raises(UsageError, match="noise has 1 levels, but the model runs step 1"),
        record(denoiser, noise=[0.5]),
    ):
        sample(denoiser)
    with pytest.raises(CaptureError, match="the sequence has 26 tokens"), record(denoiser, layout=layout(text="none")):
        sample(denoiser)
    with pytest.raises(CaptureError, match="batch has 2 rows"), record(denoiser):
        denoiser(tokens(batch=2))


def test_what_shows_at_the_end(denoiser):
    with (
        pytest.raises(UsageError, match="ran no conditional pass inside the block; no pass"),
        record(denoiser),
    ):
        pass
    with pytest.raises(UsageError, match="the passes that came were 3 of 'uncond'"), record(denoiser):
        sample(denoiser, labels=("uncond",))
    with pytest.raises(UsageError, match="step 7 never ran; Denoiser ran 3 steps"), record(denoiser, steps=[1, 7]):
        sample(denoiser)
    with pytest.raises(UsageError, match="in the same thread"), record(denoiser):
        in_another_thread(denoiser)


def test_a_recording_is_made_once(denoiser):
    rec = record(denoiser)
    assert rec.predictions == rec.rows == []
    with rec:
        sample(denoiser)
    with pytest.raises(UsageError, match="once"), rec:
        pass


# ------------------------------------------------------------------------------------------------- a plugin's layout


@pytest.mark.parametrize(
    ("shape", "kwargs"),
    [
        ((2, 3, 8, 4, 6), {}),  # (B, F, C, h, w)
        ((2, 8, 3, 4, 6), {}),  # (B, C, F, h, w)
        ((2, 72, 8), {"num_frames": 3, "height": 4, "width": 6}),
    ],
)
def test_the_size_of_latents_is_read_off_the_pass(shape, kwargs):
    module = nn.Identity()
    module.config = SimpleNamespace(in_channels=8)
    assert latent_size(module, [torch.zeros(shape)], kwargs) == (3, 4, 6)
    assert latent_size(module, [], {"hidden_states": torch.zeros(shape), **kwargs}) == (3, 4, 6)
    assert latent_size(nn.Identity(), [torch.zeros(shape)], {}) is None


def test_latents_become_tokens():
    grid = token_grid(Compression(spatial=8, temporal=4, patch=2), 3, 8, 12)
    assert grid == vcorr.TokenGrid(frames=3, rows=4, cols=6, stride=(16, 16), temporal_ratio=4)
    still = token_grid(Compression(spatial=8, temporal=4, patch=1, causal=False), 3, 8, 12)
    assert still == vcorr.TokenGrid(frames=3, rows=8, cols=12, stride=(8, 8), temporal_ratio=4, causal=False)
    with pytest.raises(UsageError, match="do not divide into patches"):
        token_grid(Compression(), 3, 7, 12)
    with pytest.raises(UsageError, match=r"pads its latents(.|\n)*size="):
        token_grid(Compression(temporal_patch=2, front_padded=True), 4, 8, 12)


@pytest.fixture(scope="module")
def cookbook():
    return runpy.run_path(str(COOKBOOK / "record.py"))


def test_the_cookbook_runs_and_shows_the_code_that_runs(cookbook):
    code = (COOKBOOK / "record.py").read_text()
    text = (COOKBOOK / "record.md").read_text()
    blocks = [block.split("```")[0].strip() for block in text.split("```python\n")[1:]]
    assert len(blocks) > 4
    for block in blocks:
        assert block in code.replace("  # noqa: E402", "")


def test_layout_of_a_plugin_on_a_bare_transformer(cookbook):
    pipe, prompt, video = cookbook["pipe"], cookbook["prompt"], cookbook["video"]
    with vcorr.record(pipe.transformer, layout="cogvideox", probes="qk", layers=[0]) as rec:
        with pytest.raises(UsageError, match="once the model has run"):
            assert rec.grid
        pipe(**prompt, **{**video, "num_inference_steps": 1, "height": 32, "num_frames": 5})
    assert rec.grid == vcorr.TokenGrid(frames=2, rows=2, cols=6, stride=(16, 16), temporal_ratio=4)
    assert len(rec.sites) == 3
    assert where(rec) == [(0, 0)]


def test_size_of_the_video_and_grid_are_taken_as_given(cookbook):
    transformer = cookbook["pipe"].transformer
    rec = vcorr.record(transformer, layout="cogvideox", probes="qk", size=(9, 64, 96))
    assert rec.grid == vcorr.TokenGrid(frames=3, rows=4, cols=6, stride=(16, 16), temporal_ratio=4)
    assert vcorr.record(transformer, layout="cogvideox", probes="qk", grid=GRID).grid is GRID
    with pytest.raises(UsageError, match="does not fit"):
        vcorr.record(transformer, layout="cogvideox", probes="qk", size=(9, 60, 96))
    with pytest.raises(UsageError, match="size must be"):
        vcorr.record(transformer, layout="cogvideox", probes="qk", size=(9, 60))


def test_a_pipeline_keeps_its_progress_bar(cookbook):
    pipe = cookbook["pipe"]
    pipe.set_progress_bar_config(desc="mine")
    vcorr.record(pipe, layout="cogvideox", probes="qk")
    assert pipe._progress_bar_config == {"desc": "mine"}


def test_a_plugin_of_another_architecture_is_reported(cookbook):
    with pytest.raises(UsageError, match="cogvideox is a CogVideoXTransformer3DModel, not a WanTransformer3DModel"):
        vcorr.record(cookbook["wan"].transformer, layout="cogvideox", probes="qk")


@pytest.mark.parametrize("wrong", [{"frames": 2, "temporal_ratio": 8}, {"rows": 6, "cols": 4, "stride": (24, 10.5)}])
def test_a_grid_that_the_latents_do_not_make_is_refused_with_both(cookbook, wrong):
    pipe, prompt, video = cookbook["pipe"], cookbook["prompt"], cookbook["video"]
    right = vcorr.TokenGrid(frames=3, rows=4, cols=6, stride=(16, 16), temporal_ratio=4)
    given = dataclasses.replace(right, **{"video_frames": None, **wrong})
    rec = vcorr.record(pipe.transformer, layout="cogvideox", probes="qk", grid=given)
    with pytest.raises(UsageError, match=r"The given grid is(.|\n)*make 3 x 4 x 6 tokens"), rec:
        pipe(**prompt, **video)


# --------------------------------------------------------------------------------------- denoisers that take turns


@pytest.fixture(scope="module")
def experts():
    model = TwoStageWan(WanConfig(height=32, width=32, frames=5))
    model.load("cpu", "float32", "random")
    return model


def sample_experts(model, steps=6):
    clip = vcorr.Clip("clip", "a", np.array([[10.5, 20.5]], np.float32))
    call = {**model.call_inputs(clip, model.grid(clip, None)), "generator": torch.Generator().manual_seed(0)}
    model.pipe(**call, height=32, width=32, num_frames=5, num_inference_steps=steps, output_type="latent")


def layout_of(model):
    grid = model.grid(vcorr.Clip("clip", "", np.zeros((0, 2), np.float32)), None)
    return vcorr.Layout(grid=grid, sites="blocks.{}.attn1")


def test_no_step_of_denoisers_that_take_turns_is_missed(experts):
    pipe = experts.pipe
    with vcorr.record([pipe.transformer, pipe.transformer_2], layout=layout_of(experts), probes="qk") as rec:
        sample_experts(experts)
    assert rec.steps == 6
    assert sorted({p.step for p in rec.predictions}) == list(range(6))
    assert rec.passes == {"cond": 6, "uncond": 6}
    for module in (pipe.transformer, pipe.transformer_2):
        assert not any(child._forward_hooks or child._forward_pre_hooks for child in module.modules())


def test_what_is_read_is_the_one_that_runs(experts):
    pipe, seen = experts.pipe, {}
    for name in ("transformer", "transformer_2"):
        with vcorr.record(getattr(pipe, name), layout=layout_of(experts), probes="qk") as rec:
            sample_experts(experts)
        seen[name] = rec.predictions
    with vcorr.record([pipe.transformer, pipe.transformer_2], layout=layout_of(experts), probes="qk") as rec:
        sample_experts(experts)
    apart = [p.xy for name in ("transformer", "transformer_2") for p in seen[name]]
    assert all(np.array_equal(p.xy, xy) for p, xy in zip(rec.predictions, apart, strict=True))


def test_one_of_several_denoisers_is_refused_where_a_plugin_knows_of_the_others(experts):
    with pytest.raises(UsageError, match=r"2 denoisers that take turns, transformer, transformer_2(.|\n)*record\(pipe"):
        vcorr.record(experts.pipe.transformer, layout="wan2.2-a14b", probes="qk")


def test_several_modules_are_checked_each(experts):
    pipe = experts.pipe
    with pytest.raises(CaptureError, match=r"has no module 'blocks\.0\.attn1'"):
        vcorr.record([pipe.transformer, nn.Identity()], layout=layout_of(experts), probes="qk")
    with pytest.raises(UsageError, match="no module was given"):
        vcorr.record([], layout=layout_of(experts), probes="qk")
