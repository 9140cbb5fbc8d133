"""Torch's FlexAttention as an oracle: the log-sum-exp of a query token's scores, of all keys or of one segment."""

from __future__ import annotations

import inspect
import math
import warnings

import torch
from torch.nn.attention import flex_attention as flex


def log_sums(q, k, segments, wanted=None, *, scale):
    """Computes the log-sum-exp over the keys of one segment in float64, (H, U); None for all segments from 0 on.

    q: (H, U, d). k: (H, M, d). segments: (M,) int, of each key; a negative one is hidden.
    """

    def hide(score, batch, head, row, column):
        own = segments[column]
        return torch.where(own >= 0 if wanted is None else own == wanted, score, -math.inf)

    left, right = q.double()[None], k.double()[None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without torch.compile it writes all scores
        if "return_aux" in inspect.signature(flex.flex_attention).parameters:
            asked = {"return_aux": flex.AuxRequest(lse=True)}
        else:
            asked = {"return_lse": True}
        _, aux = flex.flex_attention(left, right, right, score_mod=hide, scale=scale, **asked)
    return (aux if isinstance(aux, torch.Tensor) else aux.lse)[0]
