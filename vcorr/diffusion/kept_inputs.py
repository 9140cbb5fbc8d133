"""Keeps what the encoders of a pipeline have computed: the embeddings of prompts, and the latents of videos.

What is kept belongs to one loaded pipeline. Each key holds the state of the networks that computed the value. So it is
never used for other weights, another dtype, another configuration or other tiles of the autoencoder. The state of a
weight is its identity, its dtype and torch's count of the writes to it. Writes through `.data` are not counted, nor are
casts to another dtype and back: load or adopt the pipeline again after them.

Shape legend: T video frames, H x W pixels, C latent channels, F x h x w latents.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from xxhash import xxh3_128

from vcorr.diffusion.latent_files import LatentFiles

MOST_PROMPTS = 64
"""Number of embedded prompts that are kept: 118 MB of CogVideoX's 226 x 4096 embeddings in bfloat16."""
MOST_BYTES = 256 * 2**20
"""Size of the latents that are kept, in memory of the CPU: 119 clips of CogVideoX's 13 x 16 x 60 x 90 in bfloat16."""

_PLAIN = (str, bytes, bool, int, float, torch.dtype, torch.device, type(None))
_AUTOENCODER = "vae"


class KeptInputs:
    """The embeddings and latents of one loaded pipeline; those that were used last are kept.

    Attributes:
        embedded: number of calls of the pipeline's `encode_prompt` that ran.
        encoded: number of videos that went through the autoencoder.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.embedded = self.encoded = 0
        self._files: LatentFiles | None = None
        self._most_bytes = most_bytes
        self._prompts: OrderedDict[Hashable, Any] = OrderedDict()
        self._latents: OrderedDict[Hashable, tuple[Tensor, torch.device]] = OrderedDict()

    def forget(self) -> None:
        """Drops all that is kept."""
        self._prompts.clear()
        self._latents.clear()

    # --------------------------------------------------------------------------------------------------------- prompts

    @contextmanager
    def keeping_prompts(self, pipe: Any, denoisers: Collection[str]) -> Iterator[None]:
        """Makes the pipeline's `encode_prompt` return what it returned before for the same arguments, in the block.

        Calls with other arguments than text and numbers, such as an image, are not kept, and none with gradients.

        Args:
            pipe: a diffusers pipeline; one without `encode_prompt` is left as it is.
            denoisers: names of its components that embed no prompt.
        """
        own = getattr(pipe, _ENCODE_PROMPT, None)
        if own is None:
            yield
            return
        before = dict(vars(pipe))

        @functools.wraps(own)
        def encode_prompt(*args: Any, **kwargs: Any) -> Any:
            key = None if torch.is_grad_enabled() else _call_key(own, args, kwargs)
            if key is None:
                return self._embed(own, args, kwargs)
            dtypes = [getattr(getattr(pipe, name, None), "dtype", None) for name in denoisers]  # some cast to it
            whole = (key, *dtypes, encoders_state(pipe, denoisers))
            found = self._prompts.pop(whole, None)
            if found is None:
                found = _copy(self._embed(own, args, kwargs))
            self._prompts[whole] = found
            while len(self._prompts) > MOST_PROMPTS:
                self._prompts.popitem(last=False)
            return _copy(found)  # a pipeline may write into what it gets

        vars(pipe)[_ENCODE_PROMPT] = encode_prompt
        try:
            yield
        finally:
            vars(pipe).pop(_ENCODE_PROMPT)
            if _ENCODE_PROMPT in before:
                vars(pipe)[_ENCODE_PROMPT] = before[_ENCODE_PROMPT]

    def _embed(self, own: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        self.embedded += 1
        return own(*args, **kwargs)

    # --------------------------------------------------------------------------------------------------------- latents

    def latents(
        self, pipe: Any, device: str, video: NDArray[np.uint8], encode: Callable[[NDArray[np.uint8]], Tensor]
    ) -> Tensor:
        """Returns the latents of a video, (1, C, F, h, w): kept ones, or what `encode` returns.

        Args:
            pipe: the pipeline. The key holds its `latents_state`.
            device: where the pipeline computes.
            video: (T, H, W, 3) uint8 RGB.
            encode: encodes the video.
        """
        if torch.is_grad_enabled():
            return self._encode(video, encode)
        key = (content_of(video), device, latents_state(pipe))
        found = self._latents.pop(key, None)
        if found is None:
            made = self._read_or_encode(pipe, device, video, encode)
            found = made.to("cpu", copy=True), made.device
        else:
            made = found[0].to(found[1], copy=True)
        self._latents[key] = found
        while sum(kept.nbytes for kept, _ in self._latents.values()) > self._most_bytes:
            self._latents.popitem(last=False)
        return made

    @contextmanager
    def on_disk(self, files: LatentFiles | None) -> Iterator[None]:
        """Reads latents from files and writes them there while the block runs; None for memory alone."""
        before, self._files = self._files, files
        try:
            yield
        finally:
            self._files = before

    def _read_or_encode(
        self, pipe: Any, device: str, video: NDArray[np.uint8], encode: Callable[[NDArray[np.uint8]], Tensor]
    ) -> Tensor:
        if self._files is None:
            return self._encode(video, encode)
        networks = _autoencoders(pipe)
        autoencoder = [[type(module).__qualname__, *map(repr, _settings_of(module))] for module in networks.values()]
        dtypes = sorted({str(one.dtype) for module in networks.values() for one in module.parameters()})
        facts = {"video": content_of(video).hex(), "units": _units(pipe), "vae": autoencoder, "dtypes": dtypes}
        found = self._files.read(facts, device)
        if found is None:
            found = self._encode(video, encode)
            self._files.write(facts, found)
        return found

    def _encode(self, video: NDArray[np.uint8], encode: Callable[[NDArray[np.uint8]], Tensor]) -> Tensor:
        self.encoded += 1
        return encode(video)


_ENCODE_PROMPT = "encode_prompt"


def content_of(video: NDArray[np.uint8]) -> bytes:
    """Returns a hash of the pixels and the shape of a video or a frame.

    Every pass of a tracker computes it. A cryptographic hash took a quarter of the time of CogVideoX-2B's pass.
    """
    digest = xxh3_128(np.ascontiguousarray(video).data)
    digest.update(repr(video.shape).encode())
    return digest.digest()


def state_of(name: str, module: nn.Module) -> Hashable:
    """Returns what changes with the weights of a network, their dtype, and its settings, such as tiles."""
    return name, weakref.ref(module), _tensors_of(module), _settings_of(module)


def encoders_state(pipe: Any, denoisers: Collection[str]) -> Hashable:
    """Returns the state of the networks that may embed prompts and images. denoisers: names of those that do not."""
    return tuple(state_of(name, one) for name, one in _networks(pipe) if name not in (*denoisers, _AUTOENCODER))


def latents_state(pipe: Any) -> Hashable:
    """Returns the state of a pipeline's autoencoder, and the units of latents."""
    return _units(pipe), *(state_of(name, module) for name, module in _autoencoders(pipe).items())


def autoencoder_writes(pipe: Any) -> Hashable:
    """Returns what changes with the weights of a pipeline's autoencoder and their dtype."""
    return tuple(map(_tensors_of, _autoencoders(pipe).values()))


def _tensors_of(module: nn.Module) -> Hashable:
    return tuple((id(one), one.dtype, _writes(one)) for one in chain(module.parameters(), module.buffers()))


def _settings_of(module: nn.Module) -> tuple[tuple[str, Any], ...]:
    """Returns the configuration and the settings of a network, and of networks inside it that have a configuration."""
    found: list[tuple[str, Any]] = []
    for name, part in module.named_modules():
        config = getattr(part, "config", None)
        if part is not module and not isinstance(config, Mapping):
            continue
        if isinstance(config, Mapping):
            found.append((f"{name}.config", repr(dict(config))))
        # private attributes hold what a network notes while it works, such as counters
        settings = {key: value for key, value in vars(part).items() if isinstance(value, _PLAIN) and key[0] != "_"}
        found += [(f"{name}.{key}", value) for key, value in sorted(settings.items())]
    return tuple(found)


def _writes(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def _autoencoders(pipe: Any) -> Mapping[str, nn.Module]:
    return {name: module for name, module in _networks(pipe) if name == _AUTOENCODER}


def _units(pipe: Any) -> str:
    """Returns the configuration of a pipeline's scheduler, by whose units some adapters scale latents."""
    return repr(dict(getattr(getattr(pipe, "scheduler", None), "config", {})))


def _networks(pipe: Any) -> Iterator[tuple[str, nn.Module]]:
    found = getattr(pipe, "components", {})
    return ((name, part) for name, part in sorted(found.items()) if isinstance(part, nn.Module))


def _call_key(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Hashable | None:
    """Returns the arguments of a call as one key; None if one of them is no plain value."""
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    try:
        return _freeze(dict(bound.arguments))
    except TypeError:
        return None


def _freeze(value: Any) -> Hashable:
    """Returns a value with its type, so that 1, 1.0 and True differ; raises TypeError if it is no plain value."""
    if isinstance(value, (list, tuple)):
        return type(value), tuple(map(_freeze, value))
    if isinstance(value, dict):
        return dict, tuple((key, _freeze(each)) for key, each in value.items())
    if isinstance(value, _PLAIN):
        return type(value), value
    raise TypeError(f"{type(value).__name__} is no plain value.")


def _copy(value: Any) -> Any:
    return tree_map(lambda one: one.clone() if isinstance(one, Tensor) else one, value)
