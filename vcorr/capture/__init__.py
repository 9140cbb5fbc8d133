"""Reads and edits attention while a model computes it: no forks, no copied processors (docs/capture.md).

The modules: `tap` patches the one function that all attention goes through. `interceptors` puts a function of the
user's own around it. `passes` knows the step and the guidance branch of each pass. `split` cuts a call into the video
tokens of the conditional branch. `recorder` has the object that model adapters get. Importing this package costs
nothing, because it imports those modules, and with them torch, on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vcorr.capture.captures import Capture as Capture
    from vcorr.capture.captures import TextPlace as TextPlace
    from vcorr.capture.captures import TokenLayout as TokenLayout
    from vcorr.capture.interceptors import EditableCall as EditableCall
    from vcorr.capture.interceptors import intercept as intercept
    from vcorr.capture.passes import Pass as Pass
    from vcorr.capture.passes import PassListener as PassListener
    from vcorr.capture.passes import PassWatch as PassWatch
    from vcorr.capture.recorder import Recorder as Recorder
    from vcorr.capture.tap import AttentionCall as AttentionCall
    from vcorr.capture.tap import Tap as Tap
    from vcorr.capture.tap import listening as listening
    from vcorr.capture.tap import observing as observing
    from vcorr.capture.tap import show as show
else:
    from vcorr.contract.lazy_names import lazy_names

    __getattr__, __dir__, __all__ = lazy_names(
        __name__,
        {
            "vcorr.capture.captures": "Capture TextPlace TokenLayout",
            "vcorr.capture.interceptors": "EditableCall intercept",
            "vcorr.capture.passes": "Pass PassListener PassWatch",
            "vcorr.capture.recorder": "Recorder",
            "vcorr.capture.tap": "AttentionCall Tap listening observing show",
        },
    )
