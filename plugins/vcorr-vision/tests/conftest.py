"""Holds small configurations of every backbone, and clips for them."""

import numpy as np
import pytest
from vcorr_vision import plugin

from vcorr import Clip

ENTRIES = {entry.name: entry for entry in plugin.vcorr_models()}
HEIGHT, WIDTH, FRAMES, PATCH = 32, 48, 4, 8
SHIFT = (1, 2)
"""Rows and columns by which the content of the shifted clip moves per move, in tokens."""


def small_config(name, **options):
    return ENTRIES[name].config_type()(**{**ENTRIES[name].check, **options})


def load_model(name, weights="random:3", dtype="float32", **options):
    model = ENTRIES[name].create(small_config(name, **options))
    model.load("cpu", dtype, weights)
    return model


def make_shifted_clip(each=1, frames=FRAMES, height=HEIGHT, width=WIDTH):
    """Returns a clip of noise that moves by whole patches every `each` frames and wraps around at the edges."""
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    moves = [(SHIFT[0] * PATCH * (t // each), SHIFT[1] * PATCH * (t // each)) for t in range(frames)]
    video = np.stack([np.roll(picture, move, axis=(0, 1)) for move in moves])
    queries = np.array([[10.5, 20.5], [40.25, 12.0], [0, 31], [47.5, 1]], dtype=np.float32)
    return Clip(id="shift", prompt="", queries=queries, video=video)


def shift_queries(clip, frames):
    """Returns the positions of the queries in every latent frame, (N, F, 2)."""
    moved = np.arange(frames)[:, None] * np.float32([SHIFT[1] * PATCH, SHIFT[0] * PATCH])
    height, width = clip.video.shape[1:3]
    return (clip.queries.xy[:, None] + moved) % np.float32([width, height])


@pytest.fixture(scope="session")
def entries():
    return ENTRIES


@pytest.fixture(scope="session")
def small():
    return small_config


@pytest.fixture(scope="session")
def load():
    return load_model


@pytest.fixture(scope="session")
def make_clip():
    return make_shifted_clip


@pytest.fixture(scope="session")
def where():
    return shift_queries


@pytest.fixture(scope="session")
def with_text():
    """Returns a function that gives a pipeline a small CLIP text encoder, with the words of "a disk"."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    words = ["<|startoftext|>", "<|endoftext|>", *"adisk", "a</w>", "k</w>", "di", "dis", "disk</w>"]
    merges = [("d", "i"), ("di", "s"), ("dis", "k</w>")]
    sizes = {"hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}

    def give(pipe):
        config = CLIPTextConfig(vocab_size=len(words), max_position_embeddings=77, eos_token_id=1, **sizes)
        vocabulary = {word: index for index, word in enumerate(words)}
        pipe.register_modules(
            tokenizer=CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77),
            text_encoder=CLIPTextModel(config).eval(),
        )

    return give
