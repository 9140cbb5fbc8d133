"""The code of record.md, run by the tests: probes on pipelines of one's own, without plugin or runner."""

# %% A pipeline, here a small one with random weights and prompt embeddings made up

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)

import vcorr

torch.manual_seed(0)
pipe = CogVideoXPipeline(
    tokenizer=None,
    text_encoder=None,
    vae=AutoencoderKLCogVideoX(
        block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=2, latent_channels=4
    ),
    transformer=CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        time_embed_dim=8,
        text_embed_dim=16,
        num_layers=3,
        sample_width=12,
        sample_height=8,
        sample_frames=9,
        max_text_seq_length=6,
        use_rotary_positional_embeddings=True,
    ),
    scheduler=CogVideoXDDIMScheduler(),
)
pipe.set_progress_bar_config(disable=True)
prompt = {"prompt_embeds": torch.randn(1, 6, 16), "negative_prompt_embeds": torch.zeros(1, 6, 16)}
video = {"height": 64, "width": 96, "num_frames": 9, "num_inference_steps": 4, "output_type": "latent"}

# %% Where its tokens are

layout = vcorr.Layout(
    # 9 frames of 64x96 pixels; the autoencoder takes 4x8x8 pixels to a latent, the transformer 2x2 latents to a token
    grid=vcorr.TokenGrid(frames=3, rows=4, cols=6, stride=(16, 16), temporal_ratio=4),
    sites="transformer_blocks.{}.attn1",
    text="before",
    branches=("uncond", "cond"),
    block="transformer_blocks.{}",
    unrotated=vcorr.Unrotated("norm_q", "norm_k", "bhnd"),
)

# %% Record

with vcorr.record(pipe.transformer, layout=layout, probes=["qk", "attention"], layers=[1, 2]) as rec:
    pipe(**prompt, **video)

assert [(p.step, p.layer) for p in rec.predictions] == [(step, layer) for step in range(4) for layer in (1, 2)]
last = rec.predictions[-1]
assert last.xy.shape == (400, 3, 2)  # 400 query points, 3 latent frames, (x, y) in pixels
assert (last.xy[:, 0] == rec.queries.xy).all()

# %% From latent frames to the frames of the video, and to a score

tracks = vcorr.functional.latent_to_frames(last.xy, last.grid, rec.queries)
assert tracks.shape == (400, 9, 2)
still = tracks[:, :1].expand(-1, 9, -1)  # a reference: in this clip, say, nothing moves
visible = torch.ones(400, 9, dtype=torch.bool)
accuracy = vcorr.functional.matching_accuracy(tracks, still, visible, last.grid)
assert 0 <= accuracy <= 1

# %% Where the attention of the query points goes

rows = rec.rows[-1]
assert rows.peak_cross.shape == (400, 2)
assert abs(rows.sum_cross + rows.sum_self + rows.sum_text - 1).max() < 1e-4

# %% The same from a plugin that knows the architecture: no layout by hand, any size

with vcorr.record(pipe, layout="cogvideox", probes=["qk", "hidden"], layers=[1], steps=[3]) as rec:
    pipe(**prompt, **video)

assert rec.grid == layout.grid
assert [(p.probe, p.step, p.layer) for p in rec.predictions] == [("qk", 3, 1), ("hidden", 3, 1)]

# %% Probes with options, query points and noise levels of one's own

qk = vcorr.installed().probes.get("qk").entry
options = qk.config_type()
probes = {"qk": qk.create(), "content": qk.create(options(rotary=False)), "fine": qk.create(options(radius=1))}
noise = [1.0, 0.9, 0.7, 0.4]  # sigma / (alpha + sigma) of the scheduler's steps
with vcorr.record(
    pipe.transformer, layout=layout, probes=probes, layers=[2], queries=[[48.0, 32.0]], noise=noise
) as rec:
    pipe(**prompt, **video)

assert {p.probe for p in rec.predictions} == {"qk", "content", "fine"}
assert rec.predictions[0].xy.shape == (1, 3, 2)
assert [p.noise for p in rec.predictions if p.probe == "qk"] == noise

# %% Variants: as the published code reads it, with the corrected reading, from one pass

with vcorr.record(pipe.transformer, layout=layout, probes=["qk"], layers=[2], steps=[3], variant="both") as rec:
    pipe(**prompt, **video)

assert [p.variant.text for p in rec.predictions] == ["corrected", "difftrack"]

# %% A pipeline that runs guidance as two passes: they are labelled, and only the conditional ones are steps

from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel  # noqa: E402

wan = WanPipeline(
    tokenizer=None,
    text_encoder=None,
    vae=AutoencoderKLWan(
        base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.0] * 4, latents_std=[1.0] * 4
    ),
    transformer=WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=16,
        freq_dim=32,
        ffn_dim=32,
        num_layers=2,
        rope_max_seq_len=32,
    ),
    scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
)
wan.set_progress_bar_config(disable=True)
layout = vcorr.Layout(
    grid=vcorr.TokenGrid(frames=3, rows=4, cols=6, stride=(16, 16), temporal_ratio=4),
    sites="blocks.{}.attn1",  # text comes in through attn2: the sequence of attn1 is video only
    heads=2,
    block="blocks.{}",
    unrotated=vcorr.Unrotated("norm_q", "norm_k", "bnc"),
)
with vcorr.record(wan.transformer, layout=layout, probes=["qk", "hidden-fair"]) as rec:
    wan(**prompt, **video)

assert rec.steps == 4
assert len(rec.predictions) == 4 * 2 * 2  # steps, layers, probes
