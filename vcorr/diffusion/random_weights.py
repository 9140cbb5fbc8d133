"""Pipelines with random weights, made on the device itself in the dtype they run in.

On a CPU billions of random numbers take minutes, and 14 billion parameters in float32 would need 56 GB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import SchedulerMixin

from vcorr.diffusion.loading import cast_pipeline, seeded


def random_pipeline(build: Callable[[int], Any], seed: int, device: str, dtype: torch.dtype) -> Any:
    """What `build(seed)` makes, with torch's default device and dtype set to those given and its generator seeded.

    The same seed, device and dtype make the same weights; another device or dtype makes others. Schedulers stay on the
    CPU, where pipelines expect them; anything else that `build` put elsewhere than on the default device stays there.
    """
    with seeded(seed, device), torch.device(device), _default_dtype(dtype):
        pipe = build(seed)
    for name, component in pipe.components.items():
        if isinstance(component, SchedulerMixin):
            pipe.register_modules(**{name: type(component).from_config(component.config)})
    cast_pipeline(pipe, dtype)
    return pipe


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
