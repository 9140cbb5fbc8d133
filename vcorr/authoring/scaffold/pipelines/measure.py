"""Runs a pipeline with small random networks and records the arguments and attention calls of its denoiser.

Shape legend: B batch rows, H heads, N tokens, d width of a head, n text tokens, C latent channels, F x h x w latents.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from vcorr.authoring.scaffold.pipelines.find import Found
from vcorr.authoring.scaffold.pipelines.sizes import NARROW, POOLED, TEXT_LENGTHS, TEXT_TOKENS
from vcorr.capture.tap import Tap, observing
from vcorr.contract.errors import VcorrError
from vcorr.diffusion.backend import use_torch_attention

STEPS = 2
STRENGTH = 4.0
GUIDANCE = ("guidance_scale", "true_cfg_scale")
"""Names of the argument for the strength of guidance in the calls of pipelines, the usual name first."""
LATENTS = (3, 2, 4)
"""Frames, rows and columns of the sampled video in tokens; all three differ, so that axes can be recognised."""
PROJECTIONS = ("to_q", "to_query", "to_qkv")
"""Submodules by which attention modules of diffusers are recognised."""
MISMATCH = re.compile(r"cannot be multiplied \(\d+x(\d+) and (\d+)x\d+\)")

Kind = Literal["embedding", "pooled", "mask"]


class UnseenError(VcorrError):
    """Raised for a pipeline that cannot be made or run at a small size; the message says why."""


@dataclass(frozen=True)
class Pass:
    """One pass of the denoiser: its arguments by name, the pipeline's label for it, and its attention calls."""

    arguments: Mapping[str, Any]
    label: str | None
    calls: list[Seen] = field(default_factory=list)


@dataclass(frozen=True)
class Seen:
    """One attention call: its module, queries and keys (B, H, N, d)."""

    name: str
    q: Tensor
    k: Tensor


@dataclass
class Stage:
    """A small pipeline, and how it is called.

    Attributes:
        found: the pipeline class.
        pipe: the pipeline, with small random networks.
        tokens: number of text tokens.
        arguments: arguments for the embedded prompt and their kinds.
        widths: widths of the embeddings, by the argument's name.
        size: frames, height and width of the video.
    """

    found: Found
    pipe: Any
    tokens: int
    arguments: Mapping[str, Kind]
    widths: dict[str, int]
    size: tuple[int, int, int]

    @property
    def config(self) -> Mapping[str, Any]:
        """Configuration of the denoiser."""
        found: Mapping[str, Any] = self.pipe.transformer.config
        return found

    @property
    def denoiser(self) -> nn.Module:
        """Network whose attention is read."""
        module: nn.Module = self.pipe.transformer
        return module


def prepare(found: Found, pipe: Any, size: tuple[int, int, int]) -> Stage:
    """Prepares a pipeline to be run; `size` is the size of its video, (T, H, W)."""
    pipe.set_progress_bar_config(disable=True)
    config = pipe.transformer.config
    tokens = next((int(config[name]) for name in TEXT_LENGTHS if config.get(name)), TEXT_TOKENS)
    arguments = prompt_arguments(found.call)
    widths = {name: _width(config, name, kind) for name, kind in arguments.items() if kind != "mask"}
    return Stage(found, pipe, tokens, arguments, widths, size)


def prompt_arguments(call: Mapping[str, Any]) -> dict[str, Kind]:
    """Returns the arguments of a call for an embedded prompt and its mask, but not for the negative prompt."""
    found: dict[str, Kind] = {}
    for name in call:
        if "negative" in name or "prompt" not in name or name == "prompt":
            continue
        if "mask" in name:
            found[name] = "mask"
        elif "embeds" in name:
            found[name] = "pooled" if "pooled" in name or name.endswith("_clip") else "embedding"
    return found


def _width(config: Mapping[str, Any], name: str, kind: Kind) -> int:
    second = [key for key in NARROW if key.endswith(("2_dim", "dim2"))]
    first = [key for key in (*NARROW, "cross_attention_dim") if key not in second]
    keys = POOLED if kind == "pooled" and "clip" not in name else second if name.endswith(("_2", "_clip")) else first
    return next((int(config[key]) for key in keys if config.get(key)), 32)


def run(stage: Stage, *, prompt: int = 0, seed: int = 0) -> list[Pass]:
    """Runs the pipeline with random embeddings in place of a prompt and returns its passes.

    When the width of an embedding does not fit, the right width is read from the error and the run repeated.

    Args:
        stage: the prepared pipeline; its widths are corrected.
        prompt: number of the prompt; another number gives another prompt with the same negative prompt.
        seed: seed of the latents.

    Raises:
        UnseenError: the pipeline cannot be run.
    """
    for _ in range(len(stage.widths) + 2):
        try:
            return _run(stage, prompt, seed)
        except RuntimeError as error:
            if not _widen(stage, str(error)):
                raise _cannot_run(error) from error
        except Exception as error:
            raise _cannot_run(error) from error
    raise _cannot_run(RuntimeError("no width of the prompt's embedding fits"))


def _cannot_run(error: Exception) -> UnseenError:
    text = " ".join(str(error).split()) or type(error).__name__
    return UnseenError(f"it does not run with random weights: {type(error).__name__}: {text[:200]}")


def _widen(stage: Stage, message: str) -> bool:
    """Replaces a wrong width by the width in the error message; returns False if the error has another cause."""
    match = MISMATCH.search(message)
    given, wanted = (int(match[1]), int(match[2])) if match else (0, 0)
    for name, width in stage.widths.items():
        if width == given and wanted != given:
            stage.widths[name] = wanted
            return True
    return False


def _run(stage: Stage, prompt: int, seed: int) -> list[Pass]:
    passes: list[Pass] = []
    denoiser, label = stage.denoiser, _Label(stage.denoiser)
    names = list(inspect.signature(type(denoiser).forward).parameters)[1:]
    use_torch_attention(denoiser, attention_modules(denoiser))

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        passes.append(Pass({**dict(zip(names, args, strict=False)), **kwargs}, label.now))

    def keep(call: Any) -> None:
        passes[-1].calls.append(Seen(call.name, call.q.detach().clone(), call.k.detach().clone()))

    hook = denoiser.register_forward_pre_hook(before, with_kwargs=True)
    try:
        with label, torch.no_grad(), Tap(denoiser, attention_modules(denoiser), observing(keep)):
            stage.pipe(**call_arguments(stage, prompt, seed))
    finally:
        hook.remove()
    return passes


class _Label:
    """Follows the name of the `cache_context` that the pipeline is in, if the denoiser has such contexts."""

    def __init__(self, denoiser: nn.Module) -> None:
        self.now: str | None = None
        self._denoiser = denoiser

    def __enter__(self) -> None:
        original = getattr(self._denoiser, "cache_context", None)
        if original is not None:
            self._denoiser.cache_context = self._follow(original)  # type: ignore[assignment]

    def __exit__(self, *_: object) -> None:
        vars(self._denoiser).pop("cache_context", None)

    def _follow(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def cache_context(name: str, **rest: Any) -> Any:
            self.now = name
            return original(name, **rest)

        return cache_context


def call_arguments(stage: Stage, prompt: int, seed: int) -> dict[str, Any]:
    """Returns arguments of the pipeline's call: size, steps, and random embeddings for prompt and negative prompt."""
    call, (frames, height, width) = stage.found.call, stage.size
    given: dict[str, Any] = {
        "height": height,
        "width": width,
        stage.found.frames_argument: frames,
        "num_inference_steps": STEPS,
        "output_type": "latent",
        "generator": torch.Generator().manual_seed(seed),
    }
    usual = stage.found.default(GUIDANCE[0])
    if isinstance(usual, (int, float)):
        given[GUIDANCE[0]] = max(float(usual), STRENGTH)  # without guidance the pipeline would run only one branch
    for name, kind in stage.arguments.items():
        given[name] = _stand_in(stage, name, kind, 1 + prompt)
        given[negative_of(name, call)] = _stand_in(stage, name, kind, 0)
    if "negative_prompt" in call:
        given["negative_prompt"] = None
    return {name: value for name, value in given.items() if name in call}


def negative_of(name: str, call: Mapping[str, Any]) -> str:
    """Returns the argument for the negative prompt that belongs to an argument for the prompt; "" if there is none."""
    return next((each for each in call if "negative" in each and each.replace("negative_", "") == name), "")


def _stand_in(stage: Stage, name: str, kind: Kind, seed: int) -> Tensor:
    if kind == "mask":
        return torch.ones(1, stage.tokens, dtype=torch.bool)
    generator = torch.Generator().manual_seed(1000 + seed)
    shape = (1, stage.widths[name]) if kind == "pooled" else (1, stage.tokens, stage.widths[name])
    return torch.randn(shape, generator=generator)


def attention_modules(denoiser: nn.Module) -> list[str]:
    """Returns the paths of the modules inside a denoiser that have the projections of attention."""
    return [name for name, module in denoiser.named_modules() if any(hasattr(module, part) for part in PROJECTIONS)]


def find_unchanged(one: Sequence[Seen], other: Sequence[Seen], name: str) -> list[bool]:
    """Returns for every token whether its key in a module is the same in two runs, (N,)."""
    first, second = (next(seen.k for seen in seens if seen.name == name) for seens in (one, other))
    same: list[bool] = (first[-1] == second[-1]).all(dim=-1).all(dim=0).tolist()
    return same


def latents_of(vae: Any, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
    """Returns C, F, h and w of the latents of a video with that size.

    Raises:
        RuntimeError, ValueError: the autoencoder cannot encode such a video.
    """
    from vcorr.diffusion.latents import encode_video

    shape = encode_video(vae, np.zeros((frames, height, width, 3), np.uint8)).shape
    return int(shape[1]), int(shape[2]), int(shape[3]), int(shape[4])
