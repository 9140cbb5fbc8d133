"""Reads from the mask of an attention call which text tokens are real.

Shape legend: B batch, H heads, N tokens of the sequence, n text tokens.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from vcorr.capture.tap import AttentionCall
from vcorr.contract.errors import CaptureError

MASKED = -1e3
"""A mask that is added to the logits hides the tokens for which its value is this or less."""


class TextMask(NamedTuple):
    """The text tokens that a mask leaves.

    real: (n,) bool, True where a text token can be attended to. plain: 0-dimensional bool on the device. True if the
    mask only hides text tokens, the same ones from every video token and in every head.
    """

    real: Tensor
    plain: Tensor


def text_mask(call: AttentionCall, row: int, video: slice, text: slice) -> TextMask | None:
    """Returns which text tokens the mask of `call` leaves; None without a mask. Never synchronises with the device.

    Args:
        call: its mask is bool (True: attend) or is added to the logits; (..., N or 1, N), broadcast to (B, H, N, N).
        row: the batch row to read.
        video: the video tokens in the sequence.
        text: the text tokens in the sequence.

    Raises:
        CaptureError: the call is causal, so a mask of text tokens cannot describe it.
    """
    if call.causal:
        raise CaptureError(
            f"{call.name}: attention is causal; the probe 'attention' cannot read it.",
            hint="Leave out the probe 'attention' for this model.",
        )
    if call.mask is None:
        return None
    mask = call.mask[(None,) * (4 - call.mask.ndim)]
    mask = mask[row if mask.shape[0] > 1 else 0]  # (H or 1, N or 1, N)
    if mask.shape[1] > 1:
        mask = mask[:, video]
    if mask.is_floating_point():
        plain_values = ((mask == 0) | (mask <= MASKED)).all()
        mask = mask > MASKED
    else:
        plain_values = None
    real = mask[0, 0, text]
    plain = mask[..., video].all() & (mask[..., text] == real).all()
    return TextMask(real, plain if plain_values is None else plain & plain_values)
