"""Holds the transformer of Open-Sora 1.2 (STDiT3), in which blocks of spatial and of temporal attention alternate.

Modules are named as in the released files, so that these load without conversion.

Shape legend: B batch, C latent channels, F x h x w latents; S = h/2 * w/2 tokens per frame, N = F * S, n text tokens;
D width, H heads, d head width; R batch rows (frames or positions) of L tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

PATCH = 2
"""Latents per token in x and in y."""
NATIVE_SIDE = 512
"""Side, in pixels, of the square video whose positions are not scaled."""

Kind = Literal["spatial", "temporal"]

_WAVES = 256
_EPS = 1e-6


class STDiT3(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers is not typed
    """Predicts the velocity of latents, which points to the video.

    The network also predicts a variance, which sampling does not use.

    Args:
        depth: number of pairs of blocks.
        num_attention_heads: H.
        attention_head_dim: d; D = H * d, a multiple of 4.
        latent_channels: C.
        text_embed_dim: width of the prompt's embedding.
        max_text_seq_length: tokens of the embedding for no prompt.
    """

    @register_to_config  # type: ignore[untyped-decorator]  # diffusers is not typed
    def __init__(
        self,
        depth: int = 28,
        num_attention_heads: int = 16,
        attention_head_dim: int = 72,
        latent_channels: int = 4,
        text_embed_dim: int = 4096,
        max_text_seq_length: int = 300,
    ) -> None:
        super().__init__()
        width = num_attention_heads * attention_head_dim
        self.width = width
        self.x_embedder = _Patches(latent_channels, width)
        self.t_embedder = _Number(width)
        self.fps_embedder = _Number(width)
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.y_embedder = _Caption(text_embed_dim, width, max_text_seq_length)
        self.rope = _Rotary(attention_head_dim)
        self.spatial_blocks = nn.ModuleList(Block(width, num_attention_heads, "spatial") for _ in range(depth))
        self.temporal_blocks = nn.ModuleList(Block(width, num_attention_heads, "temporal") for _ in range(depth))
        self.final_layer = _Final(width, PATCH**2 * 2 * latent_channels)

    @staticmethod
    def sizes_in(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
        """Returns the arguments for a network of these shapes; raises KeyError if a needed tensor is missing."""
        head, tokens = shapes["spatial_blocks.0.attn.q_norm.weight"][0], shapes["y_embedder.y_embedding"]
        width, channels = shapes["x_embedder.proj.weight"][:2]
        blocks = {name.split(".")[1] for name in shapes if name.startswith("spatial_blocks.")}
        return {
            "depth": len(blocks),
            "num_attention_heads": width // head,
            "attention_head_dim": head,
            "latent_channels": channels,
            "text_embed_dim": tokens[1],
            "max_text_seq_length": tokens[0],
        }

    @staticmethod
    def compute_missing(sizes: Mapping[str, int]) -> dict[str, Tensor]:
        """Returns the tensors that a file may lack, because they follow from the sizes."""
        return {"rope.freqs": _frequencies(sizes["attention_head_dim"])}

    @property
    def null_text(self) -> Tensor:
        """The embedding for no prompt, (1, n, text_embed_dim)."""
        return self.y_embedder.y_embedding[None]

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        encoder_attention_mask: Tensor,
        fps: Tensor,
        height: int,
        width: int,
    ) -> Tensor:
        """Predicts the velocity, (B, C, F, h, w) float32.

        Args:
            hidden_states: (B, C, F, h, w), noisy latents.
            timestep: (B,), 1000 at pure noise.
            encoder_hidden_states: (B, n, text_embed_dim), the prompt's embedding.
            encoder_attention_mask: (B, n) bool, True where a text token is not padding.
            fps: (B,), frames per second.
            height: height of the video in pixels.
            width: width of the video in pixels.
        """
        dtype = self.x_embedder.proj.weight.dtype
        frames, rows, cols = hidden_states.shape[2], hidden_states.shape[3] // PATCH, hidden_states.shape[4] // PATCH
        tokens = self.x_embedder(hidden_states.to(dtype))  # (B, F, S, D)
        position = sine_positions(rows, cols, self.width, math.sqrt(height * width) / NATIVE_SIDE)
        x = (tokens + position.to(tokens)).flatten(0, 1)
        moment = self.t_embedder(timestep.to(dtype)) + self.fps_embedder(fps.to(dtype))
        modulation = self.t_block(moment).unflatten(-1, (6, 1, 1, -1))
        text = self.y_embedder(encoder_hidden_states.to(dtype))
        turns = self.rope(frames)
        for spatial, temporal in zip(self.spatial_blocks, self.temporal_blocks, strict=True):
            x = spatial(x, text, encoder_attention_mask, modulation)
            x = temporal(x, text, encoder_attention_mask, modulation, turns)
        out = self.final_layer(x.unflatten(0, (-1, frames)).flatten(1, 2), moment)
        out = out.unflatten(1, (frames, rows, cols)).unflatten(-1, (PATCH, PATCH, -1))
        latents = out.permute(0, 6, 1, 2, 4, 3, 5).flatten(5, 6).flatten(3, 4)  # (B, 2C, F, h, w)
        result: Tensor = latents.chunk(2, dim=1)[0].float()
        return result


class Block(nn.Module):
    """Spatial or temporal attention, then cross-attention to the text, then a feed-forward network."""

    def __init__(self, width: int, heads: int, kind: Kind) -> None:
        super().__init__()
        self.kind = kind
        self.attn = _SelfAttention(width, heads)
        self.cross_attn = _CrossAttention(width, heads)
        self.mlp = _FeedForward(width, 4 * width, width)
        self.scale_shift_table = nn.Parameter(torch.randn(6, width) / width**0.5)

    def forward(
        self,
        x: Tensor,
        text: Tensor,
        real: Tensor,
        modulation: Tensor,
        turns: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Maps (B * F, S, D) to the same shape.

        modulation: (B, 6, 1, 1, D). turns: cosines and sines of the rotary embedding, each (F, d).
        """
        x = x.unflatten(0, (len(modulation), -1))
        table = self.scale_shift_table[:, None, None] + modulation
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = table.unbind(1)
        x = x + gate * self._attend(_norm(x, shift, scale), turns)
        x = x + self.cross_attn(x.flatten(1, 2), text, real).view_as(x)
        x = x + gate_mlp * self.mlp(_norm(x, shift_mlp, scale_mlp))
        return x.flatten(0, 1)

    def _attend(self, x: Tensor, turns: tuple[Tensor, Tensor] | None) -> Tensor:
        """Maps (B, F, S, D) to the same shape."""
        is_spatial = self.kind == "spatial"
        rows = x if is_spatial else x.transpose(1, 2)
        result: Tensor = self.attn(rows.flatten(0, 1), turns).view_as(rows)
        return result if is_spatial else result.transpose(1, 2)


class _SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm = nn.RMSNorm(width // heads, eps=_EPS)
        self.k_norm = nn.RMSNorm(width // heads, eps=_EPS)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, turns: tuple[Tensor, Tensor] | None) -> Tensor:
        """Maps (R, L, D) to the same shape."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each (R, H, L, d)
        q, k = self.q_norm(q), self.k_norm(k)
        if turns is not None:
            q, k = _turn(q, *turns), _turn(k, *turns)
        result: Tensor = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return result


class _CrossAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_linear = nn.Linear(width, width)
        self.kv_linear = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, text: Tensor, real: Tensor) -> Tensor:
        """Attends from x (B, N, D) to text (B, n, D) where real (B, n) is True; returns (B, N, D)."""
        q = self.q_linear(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv_linear(text).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=real[:, None, None])
        result: Tensor = self.proj(out.transpose(1, 2).flatten(2))
        return result


class _FeedForward(nn.Module):
    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.fc2 = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.fc2(F.gelu(self.fc1(x), approximate="tanh"))
        return result


class _Patches(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(channels, width, (1, PATCH, PATCH), (1, PATCH, PATCH))

    def forward(self, latents: Tensor) -> Tensor:
        """Maps (B, C, F, h, w) to (B, F, S, D)."""
        result: Tensor = self.proj(latents).flatten(3).permute(0, 2, 3, 1)
        return result


class _Number(nn.Module):
    """Embeds a number: sines and cosines, then a small network."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(_WAVES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, number: Tensor) -> Tensor:
        """Maps (B,) to (B, D)."""
        angles = number[:, None].float() * _frequencies(_WAVES, number.device)
        result: Tensor = self.mlp(torch.cat([angles.cos(), angles.sin()], dim=-1).to(number.dtype))
        return result


class _Caption(nn.Module):
    y_embedding: Tensor

    def __init__(self, inputs: int, width: int, tokens: int) -> None:
        super().__init__()
        self.y_proj = _FeedForward(inputs, width, width)
        self.register_buffer("y_embedding", torch.randn(tokens, inputs) / inputs**0.5)

    def forward(self, text: Tensor) -> Tensor:
        result: Tensor = self.y_proj(text)
        return result


class _Rotary(nn.Module):
    freqs: Tensor

    def __init__(self, head: int) -> None:
        super().__init__()
        self.register_buffer("freqs", _frequencies(head))

    def forward(self, length: int) -> tuple[Tensor, Tensor]:
        """Returns cosines and sines of positions 0 to L - 1, each (L, d); neighbouring values turn by one angle."""
        frame = torch.arange(length, device=self.freqs.device, dtype=self.freqs.dtype)
        angles = (frame[:, None] * self.freqs).repeat_interleave(2, dim=-1)
        return angles.cos(), angles.sin()


class _Final(nn.Module):
    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, outputs)
        self.scale_shift_table = nn.Parameter(torch.randn(2, width) / width**0.5)

    def forward(self, x: Tensor, moment: Tensor) -> Tensor:
        shift, scale = (self.scale_shift_table + moment[:, None]).chunk(2, dim=1)
        result: Tensor = self.linear(_norm(x, shift, scale))
        return result


def sine_positions(rows: int, cols: int, width: int, scale: float) -> Tensor:
    """Returns sines and cosines of the column, then of the row, as in the released model, (S, D) float32.

    Positions are counted in a square with the same number of tokens, so that they do not depend on the video's shape.
    They are divided by `scale`, so that they do not depend on its size.
    """
    side = round(math.sqrt(rows * cols))
    y, x = (torch.arange(count) / scale * side / count for count in (rows, cols))
    y_waves, x_waves = (
        torch.cat([angles.sin(), angles.cos()], dim=-1)
        for angles in (position[:, None] * _frequencies(width // 2) for position in (y, x))
    )
    return torch.cat([x_waves.repeat(rows, 1), y_waves.repeat_interleave(cols, dim=0)], dim=-1)


def _frequencies(values: int, device: torch.device | str = "cpu") -> Tensor:
    """Returns frequencies that fall from 1 to 1/10000, (values / 2,) float32."""
    return 10000 ** (-torch.arange(0, values, 2, dtype=torch.float32, device=device) / values)


def _norm(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=_EPS) * (1 + scale) + shift


def _turn(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Turns every pair of neighbours (a, b): (a cos - b sin, b cos + a sin)."""
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return (x * cosines + torch.stack([-b, a], dim=-1).flatten(-2) * sines).to(x.dtype)
