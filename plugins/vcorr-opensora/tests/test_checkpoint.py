"""Tests the released transformer in both layouts: all tensors are used, and the output equals a plain forward pass."""

import math

import pytest
import torch
from safetensors.torch import save_file
from vcorr_opensora.checkpoint import interleave, load_transformer, load_vae

from vcorr import UsageError

AXES = (4, 14, 14)  # of a head of 32 values, as 16, 56, 56 of 128
LAYOUTS = pytest.mark.parametrize("fused", [True, False], ids=["fused", "split"])


# ------------------------------------------------------- the released network, written from its description, in float64


def plain_forward(state, latents, condition, text, pooled, t, places, fused):
    """Computes (B, N, 16) from (B, N, 16), (B, N, 20), (B, n, 24), (B, 12), (B,), (N, 3), by the released names."""
    state = {name: tensor.double() for name, tensor in state.items()}

    def linear(name, x):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def embedder(name, x):
        return linear(f"{name}.out_layer", silu(linear(f"{name}.in_layer", x)))

    def gelu(x):
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    def heads(x):
        return x.unflatten(-1, (2, 32)).transpose(1, 2)

    def scale_rms(name, x):
        return x / torch.sqrt(x.square().mean(-1, keepdim=True) + 1e-6) * state[f"{name}.scale"]

    def norm_heads(prefix, q, k, v):
        return scale_rms(f"{prefix}.query_norm", heads(q)), scale_rms(f"{prefix}.key_norm", heads(k)), heads(v)

    def attend(q, k, v):
        q, k = rotate(q, angles, fused), rotate(k, angles, fused)
        weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(32), dim=-1)
        return (weights @ v).transpose(1, 2).flatten(2)

    def stream(prefix, x):
        if fused:
            q, k, v = linear(f"{prefix}.qkv", x).chunk(3, dim=-1)
        else:
            q, k, v = (linear(f"{prefix}.{part}_proj", x) for part in "qkv")
        return norm_heads(f"{prefix}.norm", q, k, v)

    frequencies = torch.exp(-math.log(10000) * torch.arange(128, dtype=torch.float64) / 128)
    waves = 1000 * t.double()[:, None] * frequencies
    vec = embedder("time_in", torch.cat([waves.cos(), waves.sin()], dim=-1)) + embedder("vector_in", pooled)
    places = torch.cat([torch.zeros(text.shape[1], 3, dtype=torch.float64), places.double()])
    angles = torch.cat([axis_angles(places[:, axis], size) for axis, size in enumerate(AXES)], dim=-1)
    image = linear("img_in", latents) + linear("cond_in", condition)
    words = linear("txt_in", text)
    n = words.shape[1]
    for block in range(1):
        prefix = f"double_blocks.{block}"
        mods = {s: linear(f"{prefix}.{s}_mod.lin", silu(vec))[:, None].chunk(6, dim=-1) for s in ("img", "txt")}
        x = {"img": image, "txt": words}
        qkv = {s: stream(f"{prefix}.{s}_attn", modulate(x[s], *mods[s][:2])) for s in x}
        out = attend(*(torch.cat([a, b], dim=2) for a, b in zip(qkv["txt"], qkv["img"], strict=True)))
        for s, part in (("txt", out[:, :n]), ("img", out[:, n:])):
            x[s] = x[s] + mods[s][2] * linear(f"{prefix}.{s}_attn.proj", part)
            inner = linear(f"{prefix}.{s}_mlp.0", modulate(x[s], *mods[s][3:5]))
            x[s] = x[s] + mods[s][5] * linear(f"{prefix}.{s}_mlp.2", gelu(inner))
        image, words = x["img"], x["txt"]
    both = torch.cat([words, image], dim=1)
    for block in range(2):
        prefix = f"single_blocks.{block}"
        shift, scale, gate = linear(f"{prefix}.modulation.lin", silu(vec))[:, None].chunk(3, dim=-1)
        x = modulate(both, shift, scale)
        if fused:
            q, k, v, inner = linear(f"{prefix}.linear1", x).split([64, 64, 64, 256], dim=-1)
        else:
            q, k = (linear(f"{prefix}.{part}_proj", x) for part in "qk")
            v, inner = linear(f"{prefix}.v_mlp", x).split([64, 256], dim=-1)
        out = attend(*norm_heads(f"{prefix}.norm", q, k, v))
        both = both + gate * linear(f"{prefix}.linear2", torch.cat([out, gelu(inner)], dim=-1))
    shift, scale = linear("final_layer.adaLN_modulation.1", silu(vec))[:, None].chunk(2, dim=-1)
    return linear("final_layer.linear", modulate(both[:, n:], shift, scale))


def silu(x):
    return x / (1 + torch.exp(-x))


def modulate(x, shift, scale):
    centred = x - x.mean(-1, keepdim=True)
    return (1 + scale) * centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + 1e-6) + shift


def axis_angles(place, size):
    return place[:, None] / 10000 ** (torch.arange(0, size, 2, dtype=torch.float64) / size)


def rotate(x, angles, neighbours):
    """Turns each pair (a, b) of a head's values by its angle; pairs are neighbours, or a half apart."""
    a, b = (x[..., ::2], x[..., 1::2]) if neighbours else x.chunk(2, dim=-1)
    turned = a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()
    return torch.stack(turned, dim=-1).flatten(-2) if neighbours else torch.cat(turned, dim=-1)


# --------------------------------------------------------------------------------------------------------------- tests


def write(state, tmp_path):
    save_file(state, tmp_path / "released.safetensors")
    return tmp_path / "released.safetensors"


def example():
    generator = torch.Generator().manual_seed(1)
    shapes = ((2, 12, 16), (2, 12, 20), (2, 5, 24), (2, 12))
    latents, condition, text, pooled = (torch.randn(shape, generator=generator) for shape in shapes)
    places = torch.cartesian_prod(torch.arange(2), torch.arange(2), torch.arange(3)).float()
    return latents, condition, text, pooled, torch.tensor([0.9, 0.2]), places


def forward(transformer, latents, condition, text, pooled, t, places):
    with torch.no_grad():
        return transformer(
            hidden_states=torch.cat([latents, condition], dim=-1),
            encoder_hidden_states=text,
            pooled_projections=pooled,
            timestep=t,
            img_ids=places,
            txt_ids=torch.zeros(text.shape[1], 3),
        ).sample


@LAYOUTS
def test_a_released_file_gives_the_output_of_a_plain_forward_pass(official, tmp_path, fused):
    state = official(fused)
    transformer = load_transformer(write(state, tmp_path), torch.float32)
    latents, condition, text, pooled, t, places = example()
    doubled = [x.double() for x in (latents, condition, text, pooled)]
    expected = plain_forward(state, *doubled, t, places, fused)
    found = forward(transformer, *example())
    assert expected.std() > 0.1
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


@LAYOUTS
def test_every_parameter_comes_from_the_file(official, tmp_path, fused):
    state = official(fused)
    transformer = load_transformer(write(state, tmp_path), torch.float32)
    held = sum(p.numel() for p in transformer.parameters())
    assert held == sum(t.numel() for t in state.values()) - len(
        state["cond_in.bias"]
    )  # it is added to the bias of img_in
    assert {p.device.type for p in transformer.parameters()} == {"cpu"}
    assert not transformer.training
    assert transformer.config.axes_dims_rope == AXES


def test_both_layouts_are_one_network(official, tmp_path):
    """Checks that the same numbers in both layouts load as the same network."""
    fused = official(fused=True)
    split = {name: tensor for name, tensor in fused.items() if "qkv" not in name and "linear1" not in name}
    for name in fused.keys() - split.keys():
        prefix, suffix = name.rsplit(".", 2)[0], name.rsplit(".", 1)[1]
        q, k, rest = fused[name].split([64, 64, len(fused[name]) - 128])
        split |= {f"{prefix}.q_proj.{suffix}": to_halves(q), f"{prefix}.k_proj.{suffix}": to_halves(k)}
        split[f"{prefix}.{'v_proj' if 'attn' in name else 'v_mlp'}.{suffix}"] = rest.clone()
    split |= {name: to_halves(tensor) for name, tensor in split.items() if name.endswith(".scale")}
    one = load_transformer(write(fused, tmp_path), torch.float32).state_dict()
    other = load_transformer(write(split, tmp_path), torch.float32).state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def to_halves(tensor, head=32):
    """Reorders pairs of neighbours to pairs of halves, value by value."""
    order = [start + i for start in range(0, len(tensor), head) for i in [*range(0, head, 2), *range(1, head, 2)]]
    return tensor[order]


def test_reordering_keeps_heads_apart():
    assert interleave(torch.arange(8), 4).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert interleave(torch.arange(4).view(4, 1).expand(4, 2), 4)[:, 1].tolist() == [0, 2, 1, 3]


def test_tensors_that_change_neither_order_nor_dtype_are_not_copied(official, tmp_path):
    transformer = load_transformer(write(official(fused=False), tmp_path), torch.float32)
    names = dict(transformer.named_parameters())
    # the storage of a mapped file has a fixed size; other storage can grow
    copied = {name for name, tensor in names.items() if tensor.untyped_storage().resizable()}
    changed = ("to_q", "to_k", "add_q_proj", "add_k_proj", "norm_q", "norm_k", "norm_added", "norm_out", "x_embedder")
    assert copied == {name for name in names if any(part in name for part in changed)}


@LAYOUTS
@pytest.mark.parametrize(
    ("lost", "kept"),
    [("cond_in.weight", False), ("double_blocks.0.txt_attn.norm.key_norm.scale", False), ("guidance_in.bias", True)],
)
def test_another_networks_file_is_refused(official, tmp_path, fused, lost, kept):
    state = official(fused)
    if kept:
        state[lost] = torch.zeros(3)
    else:
        del state[lost]
    with pytest.raises(UsageError, match=rf"released\.safetensors (holds|lacks).*{lost}"):
        load_transformer(write(state, tmp_path), torch.float32)


def test_shapes_that_do_not_fit_are_refused(official, tmp_path):
    state = official(fused=False)
    state["final_layer.linear.weight"] = torch.zeros(3, 64)
    with pytest.raises(UsageError, match=r"does not fit FluxTransformer2DModel(.|\n)*proj_out\.weight"):
        load_transformer(write(state, tmp_path), torch.float32)


def test_the_autoencoder_has_diffusers_names(release):
    from safetensors.torch import load_file

    path = release / "hunyuan_vae.safetensors"
    vae = load_vae(path, torch.bfloat16)
    assert vae.state_dict().keys() == load_file(path).keys()
    assert {p.dtype for p in vae.parameters()} == {torch.bfloat16}
    assert (vae.config.latent_channels, vae.config.scaling_factor) == (4, 0.476986)
    with pytest.raises(UsageError, match=r"Open_Sora_v2\.safetensors lacks .*autoencoder of HunyuanVideo"):
        load_vae(release / "Open_Sora_v2.safetensors", torch.float32)
