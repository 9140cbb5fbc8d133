"""Seeing attention as a model computes it: no forks, no copied processors (docs/capture.md).

`tap` patches the one function all attention goes through, `split` cuts a call into the conditional branch's video
tokens, `recorder` is what model adapters are handed. Importing this package costs nothing; those modules import torch.
"""

from vcorr.capture.records import Capture, TextPlace, TokenLayout

__all__ = ["Capture", "TextPlace", "TokenLayout"]
