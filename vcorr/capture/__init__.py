"""Reads and edits attention while a model computes it: no forks, no copied processors (docs/capture.md).

The modules: `tap` patches the one function that all attention goes through. `interceptors` puts a function of the
user's own around it. `passes` knows the step and the guidance branch of each pass. `split` cuts a call into the video
tokens of the conditional branch. `recorder` is the object that model adapters get. Importing this package costs
nothing, because it imports those modules, and with them torch, on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vcorr.capture.captures import Capture as Capture
from vcorr.capture.captures import TextPlace as TextPlace
from vcorr.capture.captures import TokenLayout as TokenLayout

if TYPE_CHECKING:
    from vcorr.capture.interceptors import EditableCall as EditableCall
    from vcorr.capture.interceptors import intercept as intercept
    from vcorr.capture.passes import Pass as Pass
    from vcorr.capture.passes import PassListener as PassListener
    from vcorr.capture.passes import PassWatch as PassWatch
    from vcorr.capture.recorder import Recorder as Recorder
    from vcorr.capture.tap import AttentionCall as AttentionCall

_HOME = {
    "AttentionCall": "tap",
    "EditableCall": "interceptors",
    "Pass": "passes",
    "PassListener": "passes",
    "PassWatch": "passes",
    "Recorder": "recorder",
    "intercept": "interceptors",
}

__all__ = sorted(["Capture", "TextPlace", "TokenLayout", *_HOME])  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'vcorr.capture' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"vcorr.capture.{_HOME[name]}"), name)
    globals()[name] = value
    return value
