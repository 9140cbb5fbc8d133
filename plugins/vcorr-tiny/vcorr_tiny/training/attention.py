"""Finds the fastest of torch's attention kernels for this training."""

import time

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from vcorr_tiny.sprites.words import CAPTION_TOKENS
from vcorr_tiny.training.run import Run

_CANDIDATES = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}


def choose_attention(run: Run, batch: int) -> None:
    """Measures forward and backward of the candidates at the training shape, and enables only the fastest.

    It has to run before compilation, which fixes the kernel.
    """
    seconds = {name: _time(run, batch, backend) for name, backend in _CANDIDATES.items()}
    fastest = min(seconds, key=lambda name: seconds[name])
    torch.backends.cuda.enable_flash_sdp(fastest == "flash")
    torch.backends.cuda.enable_cudnn_sdp(fastest == "cudnn")
    run.log.write("attention", fastest=fastest, seconds=seconds)


def _time(run: Run, batch: int, backend: SDPBackend, repeats: int = 5) -> float:
    """Returns the seconds of one forward and backward pass; infinite if the kernel does not run."""
    config = run.config
    tokens = CAPTION_TOKENS + config.latent_frames * config.grid**2
    shape = (batch, config.heads, tokens, config.head_dim)
    query, key, value = (
        torch.randn(shape, device=run.device, dtype=torch.bfloat16, requires_grad=True) for _ in range(3)
    )
    began = 0.0
    try:
        with sdpa_kernel(backend):
            for repeat in range(repeats + 1):
                if repeat == 1:  # the first repeat loads the kernel
                    run.synchronise()
                    began = time.monotonic()
                output = nn.functional.scaled_dot_product_attention(query, key, value)
                torch.autograd.backward(output, torch.ones_like(output))
    except RuntimeError:
        return float("inf")
    run.synchronise()
    return (time.monotonic() - began) / repeats
