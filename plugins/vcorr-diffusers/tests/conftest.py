"""Holds what the tests of the adapters share."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Limits torch to one thread, on which networks of this size run faster."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def with_text():
    """Returns a function that gives a pipeline a small text encoder."""
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    words = ["<pad>", "</s>", "<unk>", "\u2581a", "\u2581red", "\u2581disk"]
    config = T5Config(
        vocab_size=8, d_model=16, d_kv=4, d_ff=8, num_layers=1, num_heads=2, is_encoder_decoder=False, use_cache=False
    )

    def give(pipe):
        pipe.register_modules(
            tokenizer=T5Tokenizer(vocab=[(word, 0.0) for word in words], extra_ids=0),
            text_encoder=T5EncoderModel(config).eval(),
        )
        return pipe

    return give
