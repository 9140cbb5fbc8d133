"""Random video transformers of the four layouts, as small as their configs allow, and the inputs of one pass."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from vcorr.capture import TokenLayout
from vcorr.capture.recorder import Recorder
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Site, Unrotated

FRAMES, ROWS, COLS, TEXT = 3, 4, 6, 5
GRID = TokenGrid(frames=FRAMES, rows=ROWS, cols=COLS, stride=(16, 16), temporal_ratio=4)
ORIGINAL = F.scaled_dot_product_attention


@dataclass
class Tiny:
    """A denoiser with the inputs of one pass, its sites and its layout."""

    module: torch.nn.Module
    inputs: dict
    layout: TokenLayout
    names: list[str]
    grid: TokenGrid = GRID
    extra: dict = field(default_factory=dict)
    unrotated: Unrotated = field(default_factory=Unrotated)

    @property
    def sites(self):
        return [
            Site(layer, name, heads=2, block=name.rpartition(".")[0], unrotated=self.unrotated)
            for layer, name in enumerate(self.names)
        ]

    def __call__(self):
        with torch.no_grad():
            return self.module(**self.inputs, return_dict=False)[0]


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(hash(shape) % 1000))


def cogvideox(layers=2):
    from diffusers import CogVideoXTransformer3DModel
    from diffusers.models.embeddings import get_3d_rotary_pos_embed

    torch.manual_seed(0)
    module = CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        time_embed_dim=2,
        text_embed_dim=8,
        num_layers=layers,
        sample_width=2 * COLS,
        sample_height=2 * ROWS,
        sample_frames=4 * (FRAMES - 1) + 1,
        max_text_seq_length=TEXT,
        use_rotary_positional_embeddings=True,
    ).eval()
    rotary = get_3d_rotary_pos_embed(16, ((0, 0), (ROWS, COLS)), (ROWS, COLS), FRAMES)
    inputs = {
        "hidden_states": random(1, FRAMES, 4, 2 * ROWS, 2 * COLS).repeat(2, 1, 1, 1, 1),
        "encoder_hidden_states": random(2, TEXT, 8),  # row 0 uncond, row 1 cond: they differ
        "timestep": torch.tensor([500, 500]),
        "image_rotary_emb": rotary,
    }
    names = [f"transformer_blocks.{i}.attn1" for i in range(layers)]
    return Tiny(module, inputs, TokenLayout("before", ("uncond", "cond")), names, extra={"rotary": rotary})


def hunyuan():
    from diffusers import HunyuanVideoTransformer3DModel

    torch.manual_seed(0)
    module = HunyuanVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        text_embed_dim=8,
        pooled_projection_dim=8,
        rope_axes_dim=(4, 4, 4),
    ).eval()
    inputs = {
        "hidden_states": random(1, 4, FRAMES, 2 * ROWS, 2 * COLS),
        "timestep": torch.tensor([500]),
        "encoder_hidden_states": random(1, TEXT, 8),
        "encoder_attention_mask": torch.tensor([[1, 1, 1, 1, 0]]),
        "pooled_projections": random(1, 8),
        "guidance": torch.tensor([6000.0]),
    }
    names = ["transformer_blocks.0.attn", "single_transformer_blocks.0.attn"]
    return Tiny(module, inputs, TokenLayout("after"), names, unrotated=Unrotated(axes="bnhd"))


def wan():
    from diffusers import WanTransformer3DModel

    torch.manual_seed(0)
    module = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=8,
        freq_dim=16,
        ffn_dim=16,
        num_layers=2,
        rope_max_seq_len=32,
    ).eval()
    inputs = {
        "hidden_states": random(1, 4, FRAMES, 2 * ROWS, 2 * COLS),
        "timestep": torch.tensor([500]),
        "encoder_hidden_states": random(1, TEXT, 8),
    }
    names = ["blocks.0.attn1", "blocks.1.attn1"]
    return Tiny(module, inputs, TokenLayout("none"), names, unrotated=Unrotated(axes="bnc"))


def ltx():
    from diffusers import LTXVideoTransformer3DModel

    torch.manual_seed(0)
    module = LTXVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=12,
        cross_attention_dim=24,
        num_layers=2,
        caption_channels=8,
    ).eval()
    inputs = {
        "hidden_states": random(1, FRAMES * ROWS * COLS, 4).repeat(2, 1, 1),
        "encoder_hidden_states": random(2, TEXT, 8),
        "timestep": torch.tensor([500, 500]),
        "encoder_attention_mask": torch.ones(2, TEXT),
        "num_frames": FRAMES,
        "height": ROWS,
        "width": COLS,
    }
    names = ["transformer_blocks.0.attn1", "transformer_blocks.1.attn1"]
    return Tiny(module, inputs, TokenLayout("none", ("uncond", "cond")), names, unrotated=Unrotated(axes="bnc"))


FAMILIES = {"cogvideox": cogvideox, "hunyuan": hunyuan, "wan": wan, "ltx": ltx}


@pytest.fixture(params=list(FAMILIES))
def tiny(request):
    return FAMILIES[request.param]()


@pytest.fixture
def cog():
    return cogvideox()


@pytest.fixture
def hunyuan_model():
    return hunyuan()


@pytest.fixture
def queries():
    return np.array([[20.0, 30.0], [70.5, 3.25], [96.0, 64.0]], dtype=np.float32)


@pytest.fixture(autouse=True)
def restored():
    """After every test the function is the original one."""
    yield
    assert F.scaled_dot_product_attention is ORIGINAL


@pytest.fixture
def rotated_as_diffusers_does():
    """Brings (H, F, h, w, d) before the rotary embedding through the model's own function for it."""
    from diffusers.models.embeddings import apply_rotary_emb
    from diffusers.models.transformers import transformer_ltx

    def rotate(tiny, tokens):
        one = tokens.flatten(1, 3)[None]  # (1, H, N, d)
        name = type(tiny.module).__name__
        if name.startswith("Cog"):
            return apply_rotary_emb(one, tiny.extra["rotary"])[0]
        if name.startswith("Hunyuan"):
            return apply_rotary_emb(one, tiny.module.rope(tiny.inputs["hidden_states"]))[0]
        if name.startswith("LTX"):
            sizes = (tiny.inputs[key] for key in ("num_frames", "height", "width"))
            table = tiny.module.rope(tiny.inputs["hidden_states"][:1], *sizes, None)
            flat = transformer_ltx.apply_rotary_emb(one.transpose(1, 2).flatten(2), table)
            return flat.unflatten(2, (2, -1)).transpose(1, 2)[0]
        cos, sin = (table.transpose(1, 2) for table in tiny.module.rope(tiny.inputs["hidden_states"]))  # Wan
        return apply_rotary_emb(one, (cos[0, 0], sin[0, 0]))[0]

    return rotate


def hooks(module):
    """All forward hooks in the tree."""
    return [
        hook
        for child in module.modules()
        for table in (child._forward_hooks, child._forward_pre_hooks, child._forward_hooks_always_called)
        for hook in table
    ]


@pytest.fixture
def hooks_of():
    return hooks


@pytest.fixture
def original():
    return ORIGINAL


class Spy:
    """Answers the queries themselves, reads what it needs, and keeps what it was shown."""

    def __init__(self, *needs, heads=(-1,)):
        self.needs, self.heads, self.captures = frozenset(needs or ("q",)), heads, []

    def read(self, capture, queries):
        self.captures.append(capture)
        for part in self.needs - {"mask"}:
            assert getattr(capture, part).isfinite().all()
        return {head: queries.xy[:, None].expand(-1, capture.grid.frames, -1) for head in self.heads}


@pytest.fixture
def spy():
    """Makes spies: spy("q", "k", heads=(-1, 0))."""
    return Spy


@pytest.fixture
def run():
    """Runs one pass of a model under a recorder of the given probes and returns the recorder."""

    def run_once(tiny, probes, queries, *, sites=None, call=None, **options):
        recorder = Recorder(probes, queries, **options)
        sites = tiny.sites if sites is None else sites
        with recorder.attach(tiny.module, sites, tiny.layout, tiny.grid), recorder.step(0, noise=0.5):
            (call or tiny)()
        return recorder

    return run_once
