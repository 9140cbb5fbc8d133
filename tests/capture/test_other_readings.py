"""Beside the attention call: q and k before the rotary embedding, and the hidden state of the block."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from vcorr.capture import TokenLayout
from vcorr.capture.recorder import Recorder
from vcorr.contract.errors import CaptureError, PluginError, UsageError
from vcorr.contract.records import Unrotated


def test_q_and_k_before_the_rotary_embedding(tiny, queries, spy, run, rotated_as_diffusers_does):
    probe, plain = spy("q", "k", "q_unrotated", "k_unrotated"), tiny()
    outputs = []
    run(tiny, {"spy": probe}, queries, call=lambda: outputs.append(tiny()))
    assert torch.equal(outputs[0], plain)
    assert [capture.site.name for capture in probe.captures] == tiny.names
    for capture in probe.captures:
        for part in ("q", "k"):
            before, after = getattr(capture, f"{part}_unrotated"), getattr(capture, part)
            assert before.shape == after.shape
            assert not torch.allclose(before, after)
            torch.testing.assert_close(rotated_as_diffusers_does(tiny, before), after.flatten(1, 3))


def test_projections_can_stand_in_for_a_norm(cog, queries, spy, run):
    probe = spy("q_unrotated")
    site = replace(cog.sites[0], unrotated=Unrotated("to_q", "to_k", "bnc"))
    run(cog, {"spy": probe}, queries, sites=[site])
    to_q, norm_q = [], spy("q_unrotated")
    attention = cog.module.transformer_blocks[0].attn1
    handle = attention.to_q.register_forward_hook(lambda _m, _a, out: to_q.append(out))
    run(cog, {"spy": norm_q}, queries, sites=cog.sites[:1])
    handle.remove()
    assert torch.equal(probe.captures[0].q_unrotated[1, 2, 3, 4], to_q[0][1, -72:][2 * 24 + 3 * 6 + 4, 16:])
    torch.testing.assert_close(attention.norm_q(probe.captures[0].q_unrotated), norm_q.captures[0].q_unrotated)


def test_only_what_probes_need_is_hooked(cog, queries, spy, hooks_of):
    def hooked(*probes):
        recorder = Recorder(dict(enumerate(probes)), queries)
        with recorder.attach(cog.module, cog.sites, cog.layout, cog.grid), recorder.step(0):
            cog()
            return len(hooks_of(cog.module))

    passes, attention = hooked(), hooked(spy("q"))
    assert hooked(spy("q", "q_unrotated")) == attention + 2
    assert hooked(spy("hidden")) == passes + 2
    assert hooks_of(cog.module) == []


def test_hidden_state_of_the_block(tiny, queries, spy, run):
    probe, outputs = spy("hidden"), []
    blocks = [tiny.module.get_submodule(site.block) for site in tiny.sites]
    handles = [
        block.register_forward_hook(lambda _m, _a, out: outputs.append(out[0] if isinstance(out, tuple) else out))
        for block in blocks
    ]
    recorder = run(tiny, {"spy": probe}, queries)
    for handle in handles:
        handle.remove()
    row = tiny.layout.branches.index("cond")
    for capture, output in zip(probe.captures, outputs, strict=True):
        assert output.shape[1] == tiny.grid.tokens
        assert capture.hidden.shape == (3, 4, 6, output.shape[-1])
        assert torch.equal(capture.hidden.flatten(0, 2), output[row])
        for part in ("q", "k_text"):
            with pytest.raises(PluginError, match=f"{part} of .* was read"):
                getattr(capture, part)
    assert [(p.layer, p.noise) for p in recorder.predictions] == [(0, 0.5), (1, 0.5)]


@pytest.mark.parametrize("text", ["before", "after"])
def test_hidden_state_of_a_joint_sequence(text, cog, queries, spy, run):
    class Joint(nn.Module):
        def forward(self, x):
            return torch.cat([x[:, :0] if text == "after" else torch.zeros(2, 5, 8), x, x[:, :5]], 1)[:, : 72 + 5]

    tokens = torch.randn(2, 72, 8)
    cog.module, cog.layout = nn.ModuleDict({"block": Joint()}), TokenLayout(text, ("cond", "uncond"))
    probe = spy("hidden")
    site = replace(cog.sites[0], block="block")
    run(cog, {"spy": probe}, queries, sites=[site], call=lambda: cog.module["block"](tokens))
    assert torch.equal(probe.captures[0].hidden.flatten(0, 2), tokens[0])


def test_a_probe_of_attention_and_hidden_state_gets_both_in_one_capture(tiny, queries, spy, run):
    both, alone = spy("q", "hidden"), spy("q")
    recorder = run(tiny, {"both": both, "alone": alone, "other": spy("hidden")}, queries)
    for together, single in zip(both.captures, alone.captures, strict=True):
        assert torch.equal(together.q, single.q)
        assert together.hidden is not None
    assert [(p.layer, p.probe) for p in recorder.predictions] == [
        (layer, name) for layer in (0, 1) for name in ("alone", "both", "other")
    ]


def test_two_sites_may_share_a_block(cog, queries, spy, run):
    probe = spy("hidden")
    shared = [replace(site, block="transformer_blocks.1") for site in cog.sites]
    run(cog, {"spy": probe}, queries, sites=shared)
    assert torch.equal(probe.captures[0].hidden, probe.captures[1].hidden)


def test_unconditional_passes_are_not_read_here_either(tiny, queries, spy):
    probe = spy("hidden", "q_unrotated")
    recorder = Recorder({"spy": probe}, queries)
    layout = replace(tiny.layout, passes=("uncond", "cond"))
    with recorder.attach(tiny.module, tiny.sites, layout, tiny.grid), recorder.step(0):
        tiny()
        tiny()
    assert len(probe.captures) == 2


def test_sites_that_say_nothing_are_refused_by_name(cog, queries, spy, run):
    silent = [replace(site, block="", unrotated=None) for site in cog.sites]
    with pytest.raises(
        UsageError, match=r"'mine' reads the output of a block; CogVideoX\w+ .*transformer_blocks.0.attn1"
    ):
        run(cog, {"mine": spy("hidden")}, queries, sites=silent)
    with pytest.raises(
        UsageError, match=r"'mine' reads q and k before .* CogVideoX\w+ .*transformer_blocks.0.attn1(.|\n)*rotary"
    ):
        run(cog, {"mine": spy("k_unrotated")}, queries, sites=silent)


@pytest.mark.parametrize(
    ("change", "needs", "message"),
    [
        ({"block": "transformer_blocks.7"}, "hidden", "no module 'transformer_blocks.7'"),
        ({"block_output": 5}, "hidden", "output number 5 must be a tensor"),
        ({"block_output": 1}, "hidden", "holds 5 tokens, the grid has 72"),
        ({"unrotated": Unrotated("norm_z")}, "q_unrotated", "no module 'transformer_blocks.0.attn1.norm_z'"),
        ({"unrotated": Unrotated(axes="bnc")}, "q_unrotated", r"shape \(2, 77, 16\)"),
        ({"unrotated": Unrotated(axes="bnhd")}, "k_unrotated", r"shape \(2, 77, 16\)"),
        ({"unrotated": Unrotated("to_out.0")}, "q_unrotated", "did not run"),
    ],
)
def test_sites_that_are_wrong_are_reported(cog, queries, spy, run, change, needs, message, hooks_of):
    with pytest.raises(CaptureError, match=message):
        run(cog, {"mine": spy(needs)}, queries, sites=[replace(cog.sites[0], **change)])
    assert hooks_of(cog.module) == []


def test_axes_are_checked():
    with pytest.raises(UsageError, match="axes"):
        Unrotated(axes="nbhd")


def test_a_block_that_runs_twice_or_not_at_all_is_named(cog, queries, spy, run):
    with pytest.raises(CaptureError, match=r"transformer_blocks.0.attn1 ran \(transformer_blocks.0\) twice"):
        run(cog, {"mine": spy("hidden")}, queries, call=lambda: (cog(), cog()))
    missing = [replace(cog.sites[0], block="transformer_blocks.1.attn1.to_add_out_spare")]
    cog.module.transformer_blocks[1].attn1.to_add_out_spare = nn.Identity()
    with pytest.raises(CaptureError, match=r"1 tapped module\(s\) did not run: .*spare"):
        run(cog, {"mine": spy("q", "hidden")}, queries, sites=missing)


def test_hidden_states_of_linear_attention_can_be_read(cog, queries, spy, run):
    class ByHand:
        def __call__(self, attn, hidden_states, encoder_hidden_states, **_):
            return hidden_states, encoder_hidden_states

    for name in cog.names:
        cog.module.get_submodule(name).set_processor(ByHand())
    assert len(run(cog, {"spy": spy("hidden")}, queries).predictions) == 2


@pytest.mark.parametrize("how", ["compiled", "replaced forward"])
def test_compiled_and_offloaded_models_are_read_alike(cog, queries, spy, run, how):
    needs = ("q", "out", "hidden", "q_unrotated")
    expected = spy(*needs)
    run(cog, {"spy": expected}, queries)
    if how == "compiled":
        torch._dynamo.reset()
        for block in cog.module.transformer_blocks:
            block.compile(backend="eager")
    else:
        offload(cog.module)
    found = spy(*needs)
    run(cog, {"spy": found}, queries)
    for one, other in zip(found.captures, expected.captures, strict=True):
        for part in needs:
            assert torch.equal(getattr(one, part), getattr(other, part))


def offload(module):
    """As accelerate does: every module's forward is replaced by one that first brings its weights."""
    for child in module.modules():
        original = child.forward
        weights = {name: tensor.data for name, tensor in child.named_parameters(recurse=False)}

        def forward(*args, _original=original, _child=child, _weights=weights, **kwargs):
            for name, tensor in _weights.items():
                getattr(_child, name).data = tensor
            try:
                return _original(*args, **kwargs)
            finally:
                for name, tensor in _weights.items():
                    getattr(_child, name).data = torch.empty_like(tensor).fill_(torch.nan)

        child.forward = forward


def test_offload_by_accelerate_is_read_alike(cog, queries, spy, run):
    import accelerate

    needs = ("q", "out", "hidden", "k_unrotated")
    expected, found = spy(*needs), spy(*needs)
    run(cog, {"spy": expected}, queries)
    accelerate.cpu_offload(cog.module, execution_device=torch.device("cpu"))
    run(cog, {"spy": found}, queries)
    for one, other in zip(found.captures, expected.captures, strict=True):
        for part in needs:
            assert torch.equal(getattr(one, part), getattr(other, part))


def test_sites_can_be_checked_before_anything_is_loaded():
    code = (
        "import sys; from vcorr.capture.needs import check_sites; from vcorr import Site, UsageError\n"
        "check_sites({'qk': frozenset({'q', 'k'})}, [Site(0, 'attn')], 'mine')\n"
        "try: check_sites({'hidden': frozenset({'hidden'})}, [Site(0, 'attn')], 'mine')\n"
        "except UsageError as error: print(error.message)\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "mine does not declare the block of attn" in done.stdout
