"""The bench: a table or JSON of plain and probed passes, for any diffusers video model."""

import json

import pytest
import torch
from click.testing import CliRunner
from support import ltx, wan

from vcorr import ModelEntry, hookimpl
from vcorr.bench.overhead import BenchOptions, make_bench
from vcorr.bench.random_models import build_model, empty_clip, one_pass
from vcorr.cli.main import cli
from vcorr.contract.errors import UsageError
from vcorr.runner.spec import build_spec


class Models:
    """A plugin with two diffusers models: one batches guidance, the other's denoisers take turns."""

    @hookimpl
    def vcorr_models(self):
        return (
            ModelEntry(name="ltx", summary="LTX.", factory="support.ltx:LTX", config="support.ltx:LTXConfig"),
            ModelEntry(name="wan", summary="Wan.", factory="support.wan:TwoStageWan", config="support.wan:WanConfig"),
        )


Models.__name__ = "bench_models"


@pytest.fixture
def registry(plugins):
    module = Models()
    module.__name__ = "bench_models"
    return plugins(module)


SMALL = ("model.height=32", "model.width=32")


def bench(registry, name="ltx", **options):
    assignments = (*SMALL, *options.pop("assignments", ()))
    given = {"model": name, "probe": "qk", "device": "cpu"} | options.pop("given", {})
    return make_bench(build_spec(given, assignments=assignments), registry, BenchOptions(points=9, pairs=2))


def test_plain_and_probed_passes_of_a_model(registry):
    found = bench(registry).run()
    grid = ltx.LTX(ltx.LTXConfig(height=32, width=32)).grid(empty_clip(), None)
    assert (found.model, found.probes, found.layers, found.points) == ("ltx", "qk", 2, 9)
    assert (found.tokens, found.batch, found.error) == (grid.tokens, 2, "")
    assert found.size == f"{grid.video_frames} x {grid.height:.0f} x {grid.width:.0f}"
    assert found.parameters == sum(p.numel() for p in ltx.random_pipeline(ltx.LTXConfig()).transformer.parameters())
    assert min(found.plain_ms, found.probed_ms, found.ratio, found.build_s) > 0
    assert found.plain_gib != found.plain_gib  # NaN: nobody counts on a CPU


def test_some_layers_of_a_smaller_network(registry):
    found = bench(registry, "wan", given={"layers": "2"}, assignments=("model.num_layers=3",)).run()
    assert (found.layers, found.batch, found.error) == (1, 1, "")


def test_weights_are_made_in_their_dtype_and_without_autoencoder():
    model = build_model(wan.TwoStageWan(wan.WanConfig(height=32, width=32)), "cpu", "bfloat16")
    one = one_pass(model)
    assert {parameter.dtype for parameter in one.module.parameters()} == {torch.bfloat16}
    assert model.pipe.vae is None
    assert one.module is model.pipe.transformer_2  # the denoiser of the schedule's middle
    assert torch.get_default_dtype() == torch.float32
    kept = build_model(wan.TwoStageWan(wan.WanConfig(height=32, width=32)), "cpu", "bfloat16")
    one_pass(kept, keep_vae=True)
    assert kept.pipe.vae is not None


def test_all_branches_of_a_batch_or_one():
    model = build_model(ltx.LTX(ltx.LTXConfig(height=32, width=32)), "cpu", "float32")
    whole, alone = (one_pass(model, guidance=guidance, keep_vae=True) for guidance in (True, False))
    assert (whole.batch, alone.batch) == (2, 1)
    assert (len(whole.inputs["hidden_states"]), len(alone.inputs["hidden_states"])) == (2, 1)


def test_a_full_device_is_reported_and_the_other_models_are_measured(registry, monkeypatch):
    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 TiB.\nmore")

    one = bench(registry)
    monkeypatch.setattr("vcorr.bench.overhead.build_model", full)
    assert one.run().error == "out of memory: CUDA out of memory. Tried to allocate 1 TiB."


def run(*arguments):
    quick = ["--device", "cpu", "--pairs", "1", "--points", "4"]
    return CliRunner().invoke(cli, ["bench", "overhead", *quick, *arguments])


def test_the_table_and_the_json(registry):
    small = ("--set", "height=32", "--set", "width=32")
    done = run("--model", "ltx,wan", "--probe", "qk,feature", *small)
    assert done.exit_code == 0
    first = [(line.split() or [""])[0] for line in done.output.splitlines()]
    assert [word for word in first if word in ("ltx", "wan")] == ["ltx", "wan"]
    found = json.loads(run("--model", "ltx", "--json", *small).stdout)
    assert [(row["model"], row["layers"], row["plain_gib"]) for row in found] == [("ltx", 2, None)]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--model", "ltxx"], "Did you mean 'ltx'"),
        (["--model", "sliding-model"], "is not a diffusers video model"),
        (["--model", "ltx", "--probe", "nix"], "Unknown probe"),
        (["--model", "ltx", "--layers", "7"], "are layers 0-1"),
        (["--model", "ltx", "--set", "model.nothing=1"], r"model\.nothing"),
        (["--model", "ltx", "--set", "height=33"], "model.height=33"),
    ],
)
def test_what_is_refused_before_anything_is_built(registry, arguments, reason, monkeypatch):
    monkeypatch.setattr("vcorr.bench.overhead.build_model", None)
    done = run(*arguments)
    assert isinstance(done.exception, UsageError)
    with pytest.raises(UsageError, match=reason):
        raise done.exception
