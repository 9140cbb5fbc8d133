"""The mask of an attention call, read as which text tokens are real.

Shape legend: B batch, H heads, N tokens of the sequence, n text tokens.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from vcorr.capture.tap import AttentionCall
from vcorr.contract.errors import CaptureError

MASKED = -1e3
"""A mask that is added to the logits hides what it lowers by this or more."""


class TextMask(NamedTuple):
    """real: (n,) bool, True where a text token can be attended to. plain: a bool on the device, 0-dimensional, whether
    the mask does nothing else than hide text tokens, the same ones from every video token and in every head.
    """

    real: Tensor
    plain: Tensor


def text_mask(call: AttentionCall, row: int, video: slice, text: slice) -> TextMask | None:
    """What the mask of `call` hides of the text; None without a mask. Waits for no device.

    Args:
        call: its mask is bool (True: attend) or is added to the logits; (..., N or 1, N), broadcast to (B, H, N, N).
        row: of the batch.
        video: where the video tokens are in the sequence.
        text: where the text tokens are.

    Raises:
        CaptureError: the call is causal, so that no mask of the text describes it.
    """
    if call.causal:
        raise CaptureError(
            f"{call.name}: attention is causal; its rows cannot be read.",
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
