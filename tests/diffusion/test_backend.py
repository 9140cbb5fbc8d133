"""Attention that was switched away from torch's function is switched back, or refused by name."""

import numpy as np
import pytest
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0, SlicedAttnProcessor
from support.ltx import LTX, LTXConfig
from torch import nn

from vcorr import CaptureError, Clip, RunSettings
from vcorr.capture.recorder import Recorder
from vcorr.diffusion.backend import use_torch_attention

NAMES = [f"transformer_blocks.{i}.attn1" for i in range(2)]


class Still:
    needs = frozenset({"q"})

    def read(self, capture, queries):
        return {-1: queries.xy[:, None].expand(-1, capture.grid.frames, -1)}


@pytest.fixture(autouse=True)
def _backend_of_the_process(monkeypatch):
    """`set_attention_backend` of a model chooses for all models of the process as well; it is undone here."""
    monkeypatch.setattr(_AttentionBackendRegistry, "_active_backend", _AttentionBackendRegistry._active_backend)


@pytest.fixture
def ltx():
    model = LTX(LTXConfig())
    model.load("cpu", "float32", "random")
    return model


def run(model):
    video = np.zeros((9, 64, 96, 3), dtype=np.uint8)
    clip = Clip("clip", "", np.array([[4, 4]], dtype=np.float32), video)
    recorder = Recorder({"still": Still()}, clip.queries)
    model.run(clip, RunSettings("renoise", (0,), 2), recorder)
    return recorder.predictions


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_another_backend_is_switched_back_when_the_model_is_adopted(ltx):
    ltx.pipe.transformer.set_attention_backend("flex")
    with pytest.raises(CaptureError, match=r"without calling scaled_dot_product_attention(.|\n)*set_attention_backend"):
        run(ltx)
    again = LTX(LTXConfig())
    again.adopt(ltx.pipe, "cpu")
    assert len(run(again)) == 2


def test_a_backend_chosen_for_everything_is_overruled(ltx, monkeypatch):
    monkeypatch.setattr(_AttentionBackendRegistry, "_active_backend", AttentionBackendName.FLEX)
    use_torch_attention(ltx.pipe.transformer, NAMES)
    assert len(run(ltx)) == 2


def test_torch_s_own_backends_are_left_alone(ltx):
    ltx.pipe.transformer.set_attention_backend("_native_math")
    use_torch_attention(ltx.pipe.transformer, NAMES)
    chosen = {block.attn1.processor._attention_backend for block in ltx.pipe.transformer.transformer_blocks}
    assert {str(backend.value) for backend in chosen} == {"_native_math"}
    assert len(run(ltx)) == 2


@pytest.mark.parametrize("legacy", [AttnProcessor(), SlicedAttnProcessor(1)])
def test_legacy_processors_are_replaced_and_others_are_not(legacy):
    from diffusers.models.attention_processor import Attention

    model = nn.Module()
    model.old, model.other = (Attention(query_dim=8, heads=2, dim_head=4) for _ in range(2))
    model.old.set_processor(legacy)
    mine = AttnProcessor2_0()
    model.other.set_processor(mine)
    use_torch_attention(model, ["old", "other", "missing"])
    assert type(model.old.processor) is AttnProcessor2_0
    assert model.other.processor is mine
