"""Holds what the tests of the adapters share."""

import pytest


@pytest.fixture(scope="session")
def with_text():
    """Gives a pipeline a text encoder small enough for tests: {component: module}."""
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    words = ["<pad>", "</s>", "<unk>", "\u2581a", "\u2581red", "\u2581disk"]
    config = T5Config(
        vocab_size=8, d_model=24, d_kv=4, d_ff=8, num_layers=1, num_heads=2, is_encoder_decoder=False, use_cache=False
    )

    def give(pipe):
        pipe.register_modules(
            tokenizer=T5Tokenizer(vocab=[(word, 0.0) for word in words], extra_ids=0),
            text_encoder=T5EncoderModel(config).eval(),
        )
        return pipe

    return give
