"""Finds the ratios between pixels, latents and tokens of a pipeline, and the video sizes that follow from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vcorr.authoring.scaffold.pipelines.facts import Guess, Ratios
from vcorr.authoring.scaffold.pipelines.find import Found
from vcorr.authoring.scaffold.pipelines.measure import latents_of

SPATIAL = ("vae_scale_factor_spatial", "vae_spatial_compression_ratio", "vae_spatial_scale_factor", "vae_scale_factor")
TEMPORAL = ("vae_scale_factor_temporal", "vae_temporal_compression_ratio", "vae_temporal_scale_factor")


def find_ratios(pipe: Any, guesses: list[Guess]) -> Ratios:
    """Returns how pixels become tokens, measured on the autoencoder, else as the pipeline declares it."""
    patch, temporal_patch = patch_of(pipe.transformer.config)
    spatial, temporal = (_attribute(pipe, names) for names in (SPATIAL, TEMPORAL))
    if spatial is None or temporal is None:
        guesses.append(Guess("compression", "the pipeline does not declare how much its autoencoder compresses"))
    declared = (spatial or 8, temporal or 4, True)
    found = _measure_ratios(pipe.vae, declared[0], declared[1], guesses) or declared
    return Ratios(found[0], found[1], patch, temporal_patch, found[2])


def _attribute(pipe: Any, names: Sequence[str]) -> int | None:
    return next((int(getattr(pipe, name)) for name in names if getattr(pipe, name, None)), None)


def patch_of(config: Mapping[str, Any]) -> tuple[int, int]:
    """Returns the number of latents per token along a side and in time."""
    size = config.get("patch_size") or 1
    if isinstance(size, (list, tuple)):
        return int(size[-1]), int(size[0]) if len(size) == 3 else 1
    return int(size), int(config.get("patch_size_t") or 1)


def _measure_ratios(vae: Any, spatial: int, temporal: int, guesses: list[Guess]) -> tuple[int, int, bool] | None:
    """Measures pixels per latent in space and in time, and whether frame 0 has a latent of its own, on two videos.

    spatial, temporal: ratios that the pipeline declares; they give the sizes of these videos.
    """
    side, reason = 2 * spatial, ""
    for first in (1, 0):
        try:
            short, long = (_latents(vae, first + count * temporal, side) for count in (2, 4))
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            continue
        grown = long[1] - short[1]
        if grown > 0 and short[1] == first + grown and side % short[2] == 0:
            return side // short[2], 2 * temporal // grown, bool(first)
        reason = f"{first + 2 * temporal} frames of {side} x {side} pixels give {short[1]} latents of {short[2]} rows"
    guesses.append(
        Guess("compression", f"no ratio fits the autoencoder ({reason[:160]}); you may have to write `encode` as well")
    )
    return None


def _latents(vae: Any, frames: int, side: int) -> tuple[int, int, int, int]:
    try:
        return latents_of(vae, frames, side, side)
    except NotImplementedError:
        if getattr(vae, "use_tiling", True):  # it lacks something else
            raise
        vae.enable_tiling()  # some autoencoders only work in tiles
        return latents_of(vae, frames, side, side)


def write_ratios(
    pipe: Any, ratios: Ratios, released: dict[str, dict[str, Any]], changes: dict[str, dict[str, Any]]
) -> bool:
    """Writes the ratios into the autoencoder's configuration if it has None there and the pipeline declares others.

    Returns whether anything was written.
    """
    names = {"spatial_compression_ratio": ratios.spatial, "temporal_compression_ratio": ratios.temporal}
    declared = {_attribute(pipe, SPATIAL), _attribute(pipe, TEMPORAL)}
    is_open = all(released["vae"].get(name, 0) is None for name in names)
    if declared == {ratios.spatial, ratios.temporal} or not is_open:
        return False
    released["vae"] |= names
    changes["vae"] |= names
    return True


def video_size(ratios: Ratios, tokens: tuple[int, int, int]) -> tuple[int, int, int]:
    """Returns T, H and W of the video that has so many tokens (frames, rows, columns)."""
    frames, rows, cols = tokens
    stride, latents = ratios.spatial * ratios.patch, frames * ratios.temporal_patch
    video_frames = 1 + (latents - 1) * ratios.temporal if ratios.causal else latents * ratios.temporal
    return video_frames, rows * stride, cols * stride


def usual_video(found: Found, ratios: Ratios, guesses: list[Guess]) -> dict[str, int]:
    """Returns the default frames, height and width of the pipeline's call."""
    names = {"frames": found.frames_argument, "height": "height", "width": "width"}
    usual = {name: found.default(argument) for name, argument in names.items()}
    written = {
        "frames": 1 + 12 * ratios.temporal if ratios.causal else 12 * ratios.temporal,
        "height": 480,
        "width": 720,
    }
    stride = ratios.spatial * ratios.patch
    written.update({side: round(written[side] / stride) * stride for side in ("height", "width")})
    for name, value in usual.items():
        if not isinstance(value, int):
            guesses.append(Guess("video.json", f"the call has no default for {name}; {written[name]} is written"))
    return {name: value if isinstance(value, int) else written[name] for name, value in usual.items()}
