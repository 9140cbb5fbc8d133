"""The suites of reading and of entries pass what keeps the contract and say what is wrong with what does not."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest
import torch

import vcorr
from vcorr.authoring.scaffold.names import new_names
from vcorr.authoring.scaffold.write import write_plugin
from vcorr.capture import TokenLayout
from vcorr.plugins.registry import Registry
from vcorr.testing import assert_passed, check_entry, check_reading, random_clip
from vcorr.testing.entry_checks import MADE

CLIP = random_clip(3, 32, 48)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The adapter of a new plugin: its class, and its options at a small size."""
    folder = write_plugin(new_names("vcorr-reads", "model", Registry([])), tmp_path_factory.mktemp("made"))
    sys.path.insert(0, str(folder))
    from vcorr_reads import plugin
    from vcorr_reads.model import Reads

    (entry,) = plugin.vcorr_models()
    yield Reads, entry.config_type()(**entry.check), entry
    sys.path.remove(str(folder))


def failures(part, config):
    return {check.name: check.reason for check in check_reading(part, CLIP, config=config).failures}


def test_a_careful_adapter_passes(made) -> None:
    assert_passed(check_reading(made[0], CLIP, config=made[1]))


def test_tokens_in_another_order_are_found(made) -> None:
    class ColumnByColumn(made[0]):
        def _tokens(self, video):
            return super()._tokens(video.transpose(0, 2, 1, 3))

    assert "instead of" in failures(ColumnByColumn, made[1])["a change of pixels is found at its token"]


def test_a_latent_time_that_runs_backwards_is_found(made) -> None:
    class Backwards(made[0]):
        def _tokens(self, video):
            return super()._tokens(video[::-1].copy())

    reason = failures(Backwards, made[1])["a change of pixels is found at its token"]
    assert "(2, 0, 0) instead of (0, 0, 0)" in reason


def test_the_unconditional_branch_is_found_out(made) -> None:
    class Unconditional(made[0]):
        def run(self, clip, settings, recorder):
            attach = recorder.attach

            def exchanged(module, sites, layout, grid):
                return attach(module, sites, TokenLayout(layout.text, branches=("cond", "uncond")), grid)

            if settings.mode == "generate":
                recorder.attach = exchanged
            return super().run(clip, settings, recorder)

    assert "unconditional" in failures(Unconditional, made[1])["the conditional branch is read"]


def test_a_prompt_that_changes_nothing_is_found_out_unless_the_model_says_so(made) -> None:
    class Deaf(made[0]):
        def _text(self, prompt):
            return torch.zeros_like(super()._text("x"))

    class Honest(Deaf):
        reads_prompt = False

    assert "do not depend on the prompt" in failures(Deaf, made[1])["the conditional branch is read"]
    assert_passed(check_reading(Honest, CLIP, config=made[1]))


# -------------------------------------------------------------------------------------------------------------- entries


@dataclass
class Options:
    size: int = vcorr.option(3, "Number of tokens around the best one.")


class Probes:
    needs = frozenset({"q"})

    def __init__(self, config: Options) -> None: ...

    def read(self, capture, queries): ...


def entry(**said):
    usual = {"name": "x", "summary": "One line.", "factory": f"{__name__}:Probes", "config": Options}
    return vcorr.ProbeEntry(**usual | said)


@pytest.fixture(autouse=True)
def _importable(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or sys.modules[Probes.__module__])


def test_an_entry_that_says_the_truth_passes(made) -> None:
    assert_passed(check_entry(entry(check={"size": 2}), plugin="vcorr.plugins.builtin"))
    assert_passed(check_entry(made[2]))


@pytest.mark.parametrize(
    ("said", "name", "reason"),
    [
        ({"summary": " "}, "the summary is one line", "empty"),
        ({"summary": "one\ntwo"}, "the summary is one line", "several lines"),
        ({"factory": "no_such_module:Thing"}, MADE, "no_such_module"),
        ({"factory": f"{__name__}:Options", "config": None}, MADE, "needs, read"),
        ({"config": "builtins:int"}, "options are a dataclass that --set can fill", "must be a dataclass"),
        ({"check": {"sise": 2}}, "the options to check with exist", "size"),
    ],
)
def test_what_an_entry_says_wrong_is_named(said, name, reason) -> None:
    failed = {check.name: check.reason for check in check_entry(entry(**said)).failures}
    assert reason in failed[name]


def test_a_card_that_is_wrong_is_named(tmp_path, monkeypatch) -> None:
    (tmp_path / "carded").mkdir()
    (tmp_path / "carded" / "__init__.py").touch()
    (tmp_path / "carded" / "x.yaml").write_text("name: x\ntitle: X\nsummary: x\nattention: sideways\nlicence: MIT\n")
    monkeypatch.syspath_prepend(tmp_path)
    model = vcorr.ModelEntry(name="x", summary="x", factory="builtins:object", card="carded:x.yaml")
    failed = {check.name: check.reason for check in check_entry(model).failures}
    assert "sideways" in failed["the card is valid and belongs to this model"]


def test_importing_a_heavy_plugin_is_named() -> None:
    failed = {check.name: check.reason for check in check_entry(entry(), plugin="vcorr.capture.recorder").failures}
    assert "imports torch" in failed["importing the plugin loads nothing heavy"]
