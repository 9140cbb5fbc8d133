"""Prompts as embeddings: the pipeline's own, or stand-ins that depend on nothing but the text."""

import pytest
import torch

from vcorr.contract.errors import PluginError
from vcorr.diffusion import PromptEncoding


class Pipe:
    """The parts of a pipeline that encode: words become numbers, and the call takes one of the two options."""

    def __init__(self, text_encoder=None):
        self.text_encoder = text_encoder

    def encode_prompt(self, prompt, do_classifier_free_guidance, device, max_sequence_length, clean_caption):
        assert not do_classifier_free_guidance
        assert not clean_caption
        words = torch.arange(max_sequence_length) < len(prompt.split())
        return torch.full((1, max_sequence_length, 2), float(len(prompt))), None, words[None], None

    def __call__(self, prompt, clean_caption=True):
        raise AssertionError


ENCODING = PromptEncoding(5, 2, mask=2, options={"max_sequence_length": 5, "clean_caption": False})


def test_the_pipeline_encodes_where_it_can():
    embedded = ENCODING.embed(Pipe("t5"), "a red disk", "cpu", torch.float32)
    assert embedded["prompt_embeds"].tolist() == [[[10.0, 10.0]] * 5]
    assert embedded["prompt_attention_mask"].tolist() == [[True, True, True, False, False]]
    given = ENCODING.call_inputs(Pipe("t5"), "a red disk", "cpu", torch.float32)
    assert given == {"prompt": "a red disk", "clean_caption": False}  # the options that the call has


def test_stand_ins_depend_on_the_text_alone():
    one, same, other = (
        ENCODING.embed(Pipe(), prompt, "cpu", torch.bfloat16) for prompt in ("a red disk", "a red disk", "")
    )
    assert one["prompt_embeds"].shape == (1, 5, 2)
    assert one["prompt_embeds"].dtype == torch.bfloat16
    assert torch.equal(one["prompt_embeds"], same["prompt_embeds"])
    assert not torch.equal(one["prompt_embeds"], other["prompt_embeds"])
    assert one["prompt_attention_mask"].tolist() == [[True] * 4 + [False]]
    assert other["prompt_attention_mask"].tolist() == [[True] + [False] * 4]


def test_a_long_prompt_fills_the_mask_and_a_model_without_mask_gets_none():
    assert bool(ENCODING.embed(Pipe(), "a " * 9, "cpu", torch.float32)["prompt_attention_mask"].all())
    given = PromptEncoding(5, 2).call_inputs(Pipe(), "a", "cpu", torch.float32)
    assert given.keys() == {"prompt_embeds", "negative_prompt_embeds"}
    assert not torch.equal(given["prompt_embeds"], given["negative_prompt_embeds"])


def test_a_value_that_the_configuration_lacks_is_named():
    with pytest.raises(PluginError, match=r"'caption_chanels', which .* Did you mean 'caption_channels'"):
        PromptEncoding(8, "caption_chanels").with_sizes({"caption_channels": 16})
