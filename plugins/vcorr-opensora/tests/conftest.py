"""Holds what the tests of Open-Sora share: a release small enough for tests."""

import io
import json

import numpy as np
import pytest
import torch

from vcorr import Clip


@pytest.fixture(scope="session")
def clip():
    video = np.random.default_rng(0).integers(0, 256, (9, 32, 48, 3), dtype=np.uint8)
    queries = np.array([[10.5, 20.5], [40.25, 10.0]], dtype=np.float32)
    return Clip(id="clip", prompt="a red disk", queries=queries, video=video)


@pytest.fixture(scope="session")
def official():
    """Returns a function that makes a random state dict of the released transformer, split or fused."""

    def make(fused, double=1, single=2, heads=2, head=32, latent=16, text=24, pooled=12):
        width, condition = heads * head, latent + 4
        generator = torch.Generator().manual_seed(0)
        state = {}

        def linear(name, inputs, outputs):
            state[f"{name}.weight"] = torch.randn(outputs, inputs, generator=generator) / inputs**0.5
            state[f"{name}.bias"] = torch.randn(outputs, generator=generator) / 4

        def norms(name):
            for part in ("query_norm", "key_norm"):
                state[f"{name}.{part}.scale"] = 1 + torch.randn(head, generator=generator) / 4

        for name, inputs in (("img_in", latent), ("cond_in", condition), ("txt_in", text)):
            linear(name, inputs, width)
        for name, inputs in (("time_in", 256), ("vector_in", pooled)):
            linear(f"{name}.in_layer", inputs, width)
            linear(f"{name}.out_layer", width, width)
        for block in range(double):
            for stream in ("img", "txt"):
                prefix = f"double_blocks.{block}.{stream}"
                linear(f"{prefix}_mod.lin", width, 6 * width)
                for layer in ["qkv"] if fused else ["q_proj", "k_proj", "v_proj"]:
                    linear(f"{prefix}_attn.{layer}", width, 3 * width if fused else width)
                linear(f"{prefix}_attn.proj", width, width)
                norms(f"{prefix}_attn.norm")
                linear(f"{prefix}_mlp.0", width, 4 * width)
                linear(f"{prefix}_mlp.2", 4 * width, width)
        for block in range(single):
            prefix = f"single_blocks.{block}"
            linear(f"{prefix}.modulation.lin", width, 3 * width)
            if fused:
                linear(f"{prefix}.linear1", width, 7 * width)
            else:
                for layer, outputs in (("q_proj", 1), ("k_proj", 1), ("v_mlp", 5)):
                    linear(f"{prefix}.{layer}", width, outputs * width)
            linear(f"{prefix}.linear2", 5 * width, width)
            norms(f"{prefix}.norm")
        linear("final_layer.adaLN_modulation.1", width, 2 * width)
        linear("final_layer.linear", width, latent)
        return state

    return make


@pytest.fixture(scope="session")
def write_encoders():
    """Returns a function that writes T5 and CLIP with their tokenizers into two folders, as in their repositories."""

    def write(t5_folder, clip_folder, *, pickled=False):
        import sentencepiece
        from transformers import CLIPConfig, CLIPModel, T5Config, T5ForConditionalGeneration

        words = "abcdefghijklmnopqrstuvwxyz0123456789."
        for folder in (t5_folder, clip_folder):
            folder.mkdir(parents=True, exist_ok=True)
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([f"a red disk {words}"] * 20),
            model_writer=model,
            vocab_size=43,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            minloglevel=2,
        )
        (t5_folder / "spiece.model").write_bytes(model.getvalue())
        config = T5Config(vocab_size=143, d_model=24, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
        T5ForConditionalGeneration(config).save_pretrained(t5_folder)
        if pickled:
            (t5_folder / "model.safetensors").rename(t5_folder / "pytorch_model.bin")

        vocabulary = [*words, *(f"{letter}</w>" for letter in words), "<|startoftext|>", "<|endoftext|>"]
        (clip_folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(vocabulary)}))
        (clip_folder / "merges.txt").write_text("#version: 0.2\n")
        small = {"intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
        text = small | {"vocab_size": len(vocabulary), "hidden_size": 12, "eos_token_id": len(vocabulary) - 1}
        vision = small | {"hidden_size": 8, "image_size": 16, "patch_size": 8}
        CLIPModel(CLIPConfig(text_config=text, vision_config=vision)).save_pretrained(clip_folder)

    return write


@pytest.fixture(scope="session")
def write_release(official):
    """Returns a function that writes the transformer and the autoencoder of a small release into a folder."""

    def write(folder, *, fused=False):
        from diffusers import AutoencoderKLHunyuanVideo
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        vae = AutoencoderKLHunyuanVideo(latent_channels=4, block_out_channels=(32,) * 4, layers_per_block=1)
        save_file(official(fused), folder / "Open_Sora_v2.safetensors")
        save_file(vae.state_dict(), folder / "hunyuan_vae.safetensors")

    return write


@pytest.fixture(scope="session")
def release(write_release, write_encoders, tmp_path_factory):
    """Returns a folder with a complete release."""
    folder = tmp_path_factory.mktemp("release")
    write_release(folder)
    write_encoders(folder / "google" / "t5-v1_1-xxl", folder / "openai" / "clip-vit-large-patch14")
    return folder
