"""Compares the networks of Open-Sora 1.2, loaded by their released names, with plain forward passes in float64."""

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from vcorr_opensora.checkpoint import load_own
from vcorr_opensora.v1.autoencoder import OpenSoraAutoencoder
from vcorr_opensora.v1.transformer import STDiT3

from vcorr import UsageError

WIDTH, HEADS, HEAD, TEXT, TOKENS, DEPTH = 32, 2, 16, 24, 6, 2
LEVELS = (32, 64, 64, 128)


def random_transformer():
    """Returns a random state dict with the names and shapes of the release."""
    generator = torch.Generator().manual_seed(0)
    state = {}

    def normal(name, *shape, scale=1.0):
        state[name] = torch.randn(shape, generator=generator) * scale

    def linear(name, inputs, outputs):
        normal(f"{name}.weight", outputs, inputs, scale=inputs**-0.5)
        normal(f"{name}.bias", outputs, scale=0.25)

    normal("x_embedder.proj.weight", WIDTH, 4, 1, 2, 2, scale=0.25)
    normal("x_embedder.proj.bias", WIDTH)
    for name in ("t_embedder", "fps_embedder"):
        linear(f"{name}.mlp.0", 256, WIDTH)
        linear(f"{name}.mlp.2", WIDTH, WIDTH)
    linear("t_block.1", WIDTH, 6 * WIDTH)
    linear("y_embedder.y_proj.fc1", TEXT, WIDTH)
    linear("y_embedder.y_proj.fc2", WIDTH, WIDTH)
    normal("y_embedder.y_embedding", TOKENS, TEXT)
    for kind in ("spatial", "temporal"):
        for i in range(DEPTH):
            block = f"{kind}_blocks.{i}"
            linear(f"{block}.attn.qkv", WIDTH, 3 * WIDTH)
            normal(f"{block}.attn.q_norm.weight", HEAD)
            normal(f"{block}.attn.k_norm.weight", HEAD)
            linear(f"{block}.attn.proj", WIDTH, WIDTH)
            linear(f"{block}.cross_attn.q_linear", WIDTH, WIDTH)
            linear(f"{block}.cross_attn.kv_linear", WIDTH, 2 * WIDTH)
            linear(f"{block}.cross_attn.proj", WIDTH, WIDTH)
            linear(f"{block}.mlp.fc1", WIDTH, 4 * WIDTH)
            linear(f"{block}.mlp.fc2", 4 * WIDTH, WIDTH)
            normal(f"{block}.scale_shift_table", 6, WIDTH)
    linear("final_layer.linear", WIDTH, 32)
    normal("final_layer.scale_shift_table", 2, WIDTH)
    state["rope.freqs"] = 1 / 10000 ** (torch.arange(0, HEAD, 2) / HEAD)
    return state


def plain_transformer(state, latents, t, text, real, fps, pixels):
    """Computes (C, F, h, w) of one sample, token by token where it is not a matrix product."""
    state = {name: tensor.double() for name, tensor in state.items()}
    frames, rows, cols = latents.shape[1], latents.shape[2] // 2, latents.shape[3] // 2
    places = rows * cols

    def linear(name, x):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def silu(x):
        return x / (1 + torch.exp(-x))

    def waves(number):
        angles = number * 10000 ** (-torch.arange(128).double() / 128)
        return torch.cat([angles.cos(), angles.sin()])

    def number(name, value):
        return linear(f"{name}.mlp.2", silu(linear(f"{name}.mlp.0", waves(value))))

    def norm(x, shift, scale):
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt() * (1 + scale) + shift

    def attend(q, k, v):
        return torch.softmax(q @ k.T / math.sqrt(HEAD), dim=-1) @ v

    def scale_rms(x, weight):
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight

    def turn(x):
        for j in range(HEAD // 2):
            angle = torch.arange(len(x)).double() * state["rope.freqs"][j]
            a, b = x[:, 2 * j].clone(), x[:, 2 * j + 1].clone()
            x[:, 2 * j], x[:, 2 * j + 1] = a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()
        return x

    def self_attention(name, x, rotary):
        qkv = linear(f"{name}.qkv", x)
        heads = []
        for h in range(HEADS):
            q, k, v = (qkv[:, part * WIDTH + h * HEAD :][:, :HEAD] for part in range(3))
            q, k = (scale_rms(y, state[f"{name}.{z}_norm.weight"]) for y, z in ((q, "q"), (k, "k")))
            heads.append(attend(turn(q), turn(k), v) if rotary else attend(q, k, v))
        return linear(f"{name}.proj", torch.cat(heads, dim=-1))

    def cross_attention(name, x, words):
        q, kv = linear(f"{name}.q_linear", x), linear(f"{name}.kv_linear", words)
        parts = [slice(h * HEAD, (h + 1) * HEAD) for h in range(HEADS)]
        return linear(f"{name}.proj", torch.cat([attend(q[:, p], kv[:, p], kv[:, WIDTH:][:, p]) for p in parts], -1))

    def feed_forward(name, x):
        x = linear(f"{name}.fc1", x)
        return linear(f"{name}.fc2", 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))

    weight = state["x_embedder.proj.weight"].flatten(1)
    scale, side = math.sqrt(pixels[0] * pixels[1]) / 512, round(math.sqrt(places))
    frequencies = 10000 ** (-torch.arange(0, WIDTH // 2, 2).double() / (WIDTH // 2))
    x = torch.zeros(frames * places, WIDTH, dtype=torch.float64)
    for f in range(frames):
        for r in range(rows):
            for c in range(cols):
                patch = latents[:, f, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2].double().flatten()
                angles = [n / scale * side / count * frequencies for n, count in ((c, cols), (r, rows))]
                position = torch.cat([part for a in angles for part in (a.sin(), a.cos())])
                x[(f * rows + r) * cols + c] = weight @ patch + state["x_embedder.proj.bias"] + position
    moment = number("t_embedder", t) + number("fps_embedder", fps)
    modulation = linear("t_block.1", silu(moment)).view(6, WIDTH)
    words = feed_forward("y_embedder.y_proj", text[real].double())
    for i in range(DEPTH):
        for kind, groups in (
            ("spatial", [[f * places + s for s in range(places)] for f in range(frames)]),
            ("temporal", [[f * places + s for f in range(frames)] for s in range(places)]),
        ):
            block = f"{kind}_blocks.{i}"
            shift, scale_, gate, shift2, scale2, gate2 = state[f"{block}.scale_shift_table"] + modulation
            inner, out = norm(x, shift, scale_), torch.zeros_like(x)
            for group in groups:
                out[group] = self_attention(f"{block}.attn", inner[group], kind == "temporal")
            x = x + gate * out
            x = x + cross_attention(f"{block}.cross_attn", x, words)
            x = x + gate2 * feed_forward(f"{block}.mlp", norm(x, shift2, scale2))
    shift, scale_ = state["final_layer.scale_shift_table"] + moment
    out = linear("final_layer.linear", norm(x, shift, scale_))
    found = torch.zeros(8, *latents.shape[1:], dtype=torch.float64)
    for f in range(frames):
        for r in range(rows):
            for c in range(cols):
                patch = out[(f * rows + r) * cols + c].view(2, 2, 8).permute(2, 0, 1)
                found[:, f, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2] = patch
    return found[:4]


def test_the_released_transformer_gives_the_output_of_a_plain_forward_pass(tmp_path):
    state = random_transformer()
    save_file(state, tmp_path / "model.safetensors")
    transformer = load_own(STDiT3, tmp_path / "model.safetensors", torch.float32)
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(2, 4, 3, 4, 6, generator=generator)
    text = torch.randn(2, TOKENS, TEXT, generator=generator)
    real = torch.tensor([[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0]]).bool()
    times, fps = torch.tensor([900.0, 120.0]), torch.tensor([24.0, 8.0])
    with torch.no_grad():
        found = transformer(latents, times, text, real, fps, 32, 48)
    assert found.shape == latents.shape
    for row in range(2):
        sample = (latents[row], float(times[row]), text[row], real[row], float(fps[row]), (32, 48))
        expected = plain_transformer(state, *sample)
        assert (found[row] - expected).abs().max() < 1e-5 * expected.abs().max()
    assert transformer.state_dict().keys() == state.keys()
    assert torch.equal(transformer.null_text[0], state["y_embedder.y_embedding"])


def test_frequencies_may_be_missing_and_nothing_else(tmp_path):
    state = random_transformer()
    frequencies = state.pop("rope.freqs")
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    assert torch.allclose(load_own(STDiT3, path, torch.float32).rope.freqs, frequencies)
    save_file({**state, "another.weight": torch.zeros(1)}, path)
    with pytest.raises(UsageError, match=r'does not fit STDiT3(.|\n)*Unexpected key\(s\).*"another\.weight"'):
        load_own(STDiT3, path, torch.float32)
    del state["final_layer.linear.bias"]
    save_file(state, path)
    with pytest.raises(UsageError, match=r'does not fit STDiT3(.|\n)*Missing key\(s\).*"final_layer\.linear\.bias"'):
        load_own(STDiT3, path, torch.float32)
    del state["x_embedder.proj.weight"]
    save_file(state, path)
    with pytest.raises(UsageError, match=r"lacks 'x_embedder\.proj\.weight': it is not a STDiT3"):
        load_own(STDiT3, path, torch.float32)


# -------------------------------------------------------------------------------------------------------- autoencoder


def random_autoencoder():
    """Returns a random state dict with the names and shapes of the release, and its spatial part as a network."""
    image = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32,) * 4,
        layers_per_block=1,
        latent_channels=4,
    ).eval()
    generator = torch.Generator().manual_seed(0)
    state = {f"spatial_vae.module.{name}": tensor for name, tensor in image.state_dict().items()}

    def conv(name, inputs, outputs, size, bias=True):
        shape = (outputs, inputs, size, size, size)
        state[f"temporal_vae.{name}.conv.weight"] = torch.randn(shape, generator=generator) / (inputs * size**3) ** 0.5
        if bias:
            state[f"temporal_vae.{name}.conv.bias"] = torch.randn(outputs, generator=generator) / 4

    def norm(name, width):
        state[f"temporal_vae.{name}.weight"] = 1 + torch.randn(width, generator=generator) / 4
        state[f"temporal_vae.{name}.bias"] = torch.randn(width, generator=generator) / 4

    def residual(name, before, after):
        norm(f"{name}.norm1", before)
        conv(f"{name}.conv1", before, after, 3, bias=False)
        norm(f"{name}.norm2", after)
        conv(f"{name}.conv2", after, after, 3, bias=False)
        if before != after:
            conv(f"{name}.conv3", before, after, 1, bias=False)

    conv("encoder.conv_in", 4, 32, 3, bias=False)
    for i, (before, after) in enumerate(((32, 32), (32, 64), (64, 64), (64, 128))):
        residual(f"encoder.block_res_blocks.{i}.0", before, after)
    conv("encoder.conv_blocks.1", 64, 64, 3)
    conv("encoder.conv_blocks.2", 64, 64, 3)
    residual("encoder.res_blocks.0", 128, 128)
    norm("encoder.norm1", 128)
    conv("encoder.conv2", 128, 8, 1)
    conv("quant_conv", 8, 8, 1)
    conv("post_quant_conv", 4, 4, 1)
    conv("decoder.conv1", 4, 128, 3)
    residual("decoder.res_blocks.0", 128, 128)
    for i, (before, after) in enumerate(((64, 32), (64, 64), (128, 64), (128, 128))):
        residual(f"decoder.block_res_blocks.{i}.0", before, after)
    conv("decoder.conv_blocks.1", 64, 128, 3)
    conv("decoder.conv_blocks.2", 128, 256, 3)
    norm("decoder.norm1", 32)
    conv("decoder.conv_out", 32, 4, 3)
    for name, values in (("shift", (-0.10, 0.34, 0.27, 0.98)), ("scale", (3.85, 2.32, 2.33, 3.06))):
        state[name] = torch.tensor(values).view(1, 4, 1, 1, 1)
    return state, image


class PlainTemporal:
    """The temporal part, written from its description, in float64."""

    def __init__(self, state):
        prefix = "temporal_vae."
        self.state = {k.removeprefix(prefix): v.double() for k, v in state.items() if k.startswith(prefix)}

    def conv(self, name, x, stride=1):
        weight, bias = self.state[f"{name}.conv.weight"], self.state.get(f"{name}.conv.bias")
        size = weight.shape[-1]
        # frames before the first are zero; a stride of 2 returns every second frame, from the second on
        x = torch.cat([x.new_zeros(*x.shape[:2], size - 1, *x.shape[3:]), x], dim=2)
        return F.conv3d(x, weight, bias, padding=(0, size // 2, size // 2))[:, :, stride - 1 :: stride]

    def norm(self, name, x):
        weight, bias = (self.state[f"{name}.{part}"].view(1, -1, 1, 1, 1) for part in ("weight", "bias"))
        groups = x.unflatten(1, (32, -1))
        centred = groups - groups.mean(dim=(2, 3, 4, 5), keepdim=True)
        spread = (centred.square().mean(dim=(2, 3, 4, 5), keepdim=True) + 1e-5).sqrt()
        return (centred / spread).flatten(1, 2) * weight + bias

    def active(self, name, x):
        x = self.norm(name, x)
        return x / (1 + torch.exp(-x))

    def residual(self, name, x):
        inner = self.conv(f"{name}.conv1", self.active(f"{name}.norm1", x))
        inner = self.conv(f"{name}.conv2", self.active(f"{name}.norm2", inner))
        return inner + (self.conv(f"{name}.conv3", x) if f"{name}.conv3.conv.weight" in self.state else x)

    def encode(self, x):
        x = torch.cat([x.new_zeros(*x.shape[:2], -x.shape[2] % 4, *x.shape[3:]), x], dim=2).double()
        x = self.conv("encoder.conv_in", x)
        for i in range(4):
            x = self.residual(f"encoder.block_res_blocks.{i}.0", x)
            if i in (1, 2):
                x = self.conv(f"encoder.conv_blocks.{i}", x, stride=2)
        x = self.active("encoder.norm1", self.residual("encoder.res_blocks.0", x))
        return self.conv("quant_conv", self.conv("encoder.conv2", x))[:, :4]

    def decode(self, z):
        x = self.residual("decoder.res_blocks.0", self.conv("decoder.conv1", self.conv("post_quant_conv", z.double())))
        for i in (3, 2, 1, 0):
            x = self.residual(f"decoder.block_res_blocks.{i}.0", x)
            if i in (3, 2):
                both = self.conv(f"decoder.conv_blocks.{i - 1}", x)
                x = torch.stack([both[:, 0::2], both[:, 1::2]], dim=3).flatten(2, 3)
        return self.conv("decoder.conv_out", self.active("decoder.norm1", x))


def test_the_released_autoencoder_codes_chunk_by_chunk(tmp_path):
    state, image = random_autoencoder()
    save_file(state, tmp_path / "model.safetensors")
    vae = load_own(OpenSoraAutoencoder, tmp_path / "model.safetensors", torch.float32)
    assert vae.state_dict().keys() == state.keys()
    plain = PlainTemporal(state)
    video = torch.rand(1, 3, 21, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        latents = vae.encode(video)
        frames = torch.stack([image.encode(frame).latent_dist.mean for frame in video.unbind(2)], dim=2) * 0.18215
        coded = torch.cat([plain.encode(frames[:, :, :17]), plain.encode(frames[:, :, 17:])], dim=2)
        expected = (coded - state["shift"]) / state["scale"]
        assert latents.shape == (1, 4, 6, 2, 2)
        assert (latents - expected).abs().max() < 1e-5 * expected.abs().max()

        made = vae.decode(latents, 21)
        raw = expected * state["scale"] + state["shift"]
        decoded = torch.cat([plain.decode(raw[:, :, :5])[:, :, 3:], plain.decode(raw[:, :, 5:])], dim=2) / 0.18215
        expected = torch.stack([image.decode(frame.float()).sample for frame in decoded.unbind(2)], dim=2)
    assert made.shape == video.shape
    assert (made - expected).abs().max() < 1e-4 * expected.abs().max()
