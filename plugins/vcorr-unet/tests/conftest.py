"""Holds small configurations of every model, and clips for them."""

import numpy as np
import pytest
from vcorr_unet import plugin

from vcorr import Clip

FRAMES, HEIGHT, WIDTH = 3, 32, 48
ENTRIES = {entry.name: entry for entry in plugin.vcorr_models()}


def small_config(name, **options):
    return ENTRIES[name].config_type()(**{**ENTRIES[name].check, **options})


def load_model(name, dtype="float32", weights="random:3", **options):
    model = ENTRIES[name].create(small_config(name, **options))
    model.load("cpu", dtype, weights)
    return model


def make_noise_clip(clip_id="clip", frames=FRAMES, height=HEIGHT, width=WIDTH, prompt="a red disk"):
    video = np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
    queries = np.array([[10.5, 20.5], [40.25, 12.0], [0, 32]], dtype=np.float32)
    return Clip(id=clip_id, prompt=prompt, queries=queries, video=video)


@pytest.fixture(scope="session")
def entries():
    return ENTRIES


@pytest.fixture(scope="session")
def small():
    return small_config


@pytest.fixture(scope="session")
def load():
    """Returns a function that loads models of small configurations, each only once for the same options."""
    made = {}

    def give(name, **options):
        key = (name, tuple(sorted(options.items())))
        if key not in made:
            made[key] = load_model(name, **options)
        return made[key]

    return give


@pytest.fixture(scope="session")
def make_clip():
    return make_noise_clip


@pytest.fixture(scope="session", params=list(ENTRIES))
def name(request):
    return request.param


@pytest.fixture(scope="session")
def with_text():
    """Returns a function that gives a pipeline a small CLIP text encoder, with the words of "a red disk"."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    words = ["<|startoftext|>", "<|endoftext|>", "a</w>", "red</w>", "disk</w>", *"aredisk", "d</w>", "k</w>"]
    words = list(dict.fromkeys([*words, "re", "di", "dis"]))
    merges = [("r", "e"), ("re", "d</w>"), ("d", "i"), ("di", "s"), ("dis", "k</w>")]
    sizes = {"hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}

    def give(pipe):
        config = CLIPTextConfig(vocab_size=len(words), max_position_embeddings=77, eos_token_id=1, **sizes)
        vocabulary = {word: index for index, word in enumerate(words)}
        pipe.register_modules(
            tokenizer=CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77),
            text_encoder=CLIPTextModel(config).eval(),
        )
        return pipe

    return give
