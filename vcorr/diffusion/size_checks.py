"""Checks that a model takes a size, and that weights have the configured sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vcorr.contract.errors import UsageError, unknown_name
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Clip
from vcorr.diffusion.token_layout import Compression, Sizes


def check_size(name: str, value: int, allowed: Sizes, title: str) -> None:
    """Raises UsageError unless the model takes the value of the option `model.<name>`; names the nearest values."""
    if value not in allowed:
        near = allowed.nearest(value)
        raise UsageError(
            f"model.{name}={value} does not fit {title}, which takes {allowed}.",
            hint=f"The nearest: {' and '.join(map(str, near))}. For example --set model.{name}={near[-1]}",
        )


def frames_to_read(clip: Clip, frames: int, allowed: Sizes, title: str) -> int:
    """Returns `frames`, or, for a shorter clip, the largest number of its frames that the model takes.

    Raises:
        UsageError: the clip is too short for the model.
    """
    if clip.video is None or len(clip.video) >= frames:
        return frames
    fits = allowed.fitting(len(clip.video))
    if fits is None:
        raise UsageError(
            f"Clip {clip.id} has {len(clip.video)} frames; {title} needs at least {allowed.first} to have a latent to "
            "match to."
        )
    return fits


def grid_of_stills(clip: Clip, size: tuple[int, int], pack: Compression, allowed: Sizes, title: str) -> TokenGrid:
    """Returns the token grid of a clip whose frames are encoded by themselves: one latent frame per frame.

    Args:
        clip: with a video of T frames.
        size: (height, width) that the model reads, in pixels.
        pack: how pixels become tokens.
        allowed: numbers of video frames that the model takes. T stills need the latents of such a video.
        title: the model's name for messages.

    Raises:
        UsageError: the clip has no video, the autoencoder encodes no frame alone, or the model takes no T latents.
    """
    if clip.video is None:
        raise UsageError(f"Clip {clip.id} has no video, so {title} has no frames to read one by one.")
    if not pack.encodes_stills:
        raise UsageError(
            f"{title} cannot read frames one by one: its autoencoder encodes {pack.temporal} frames together.",
            hint="Read them as a video: --set track.latents=video",
        )
    stills = len(clip.video)
    same = pack.frames_of_stills(stills)
    if same not in allowed:
        raise UsageError(
            f"Clip {clip.id} has {stills} frames to read one by one, as many latents as {same} video frames have; "
            f"{title} takes {allowed} video frames."
        )
    height, width = size
    return TokenGrid(
        frames=stills,
        rows=height // pack.stride,
        cols=width // pack.stride,
        stride=(pack.stride, pack.stride),
        video_frames=stills,
    )


def check_loaded(config: Any, found: Mapping[str, Any], weights: str) -> None:
    """Raises UsageError, with the options that would fit, unless the sizes `found` in weights equal `config`."""
    wrong = {name: value for name, value in found.items() if getattr(config, name, value) != value}
    if wrong:
        differing = ", ".join(f"{k}={v!r} (configured: {getattr(config, k)!r})" for k, v in wrong.items())
        options = " ".join(f"--set model.{k}={_option(v)}" for k, v in wrong.items())
        raise UsageError(f"--weights {weights!r} has other sizes than configured: {differing}.", hint=f"Add: {options}")


def check_network(changes: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Raises UsageError unless each option `model.network.KEY` is a value of the denoiser, with the same type."""
    known = {name: value for name, value in known.items() if not name.startswith("_")}
    for name, value in changes.items():
        if name not in known:
            raise unknown_name("option", f"model.network.{name}", [f"model.network.{each}" for each in known])
        kinds = _KINDS.get(type(known[name]))
        if kinds is not None and type(value) not in kinds:
            raise UsageError(
                f"model.network.{name}={value!r} must have the type of the configured value, {known[name]!r}.",
                hint=f"For example --set model.network.{name}={_option(known[name])}",
            )


_KINDS = {bool: (bool,), int: (int,), float: (float, int), str: (str,), list: (list, tuple)}
"""The types that may replace a value of each type. A value of another type may be replaced by anything."""


def size_in_words(shape: Sequence[int]) -> str:
    """Returns a size (T, H, W, ...) in words."""
    frames, height, width = shape[:3]
    return f"{frames} frames of {height}x{width} pixels"


def _option(value: Any) -> str:
    return f"'[{','.join(map(str, value))}]'" if isinstance(value, (tuple, list)) else str(value).lower()
