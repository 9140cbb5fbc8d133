"""Says why modules that a recorder taps did not run."""

from __future__ import annotations

from collections.abc import Sequence

from vcorr.capture.modules import shorten
from vcorr.capture.passes import PassWatch, describe_passes
from vcorr.capture.step_reader import StepReader
from vcorr.contract.errors import CaptureError

_SKIPPED = (
    "If the model skips blocks, switch that off: a cache (TeaCache, cache-dit), skip-layer guidance, or layers that "
    "are left out."
)


def missing_error(now: StepReader, missing: Sequence[str], watch: PassWatch) -> CaptureError:
    """Returns the error for a step in which modules did not run, with the likely causes."""
    if now.anything:
        text = f"Step {now.index}: {len(missing)} tapped module(s) did not run: {shorten(missing)}."
        return CaptureError(text, hint=_SKIPPED)
    return CaptureError(
        f"Step {now.index}: none of the {len(missing)} tapped modules ran for the conditional branch; "
        f"{describe_passes(watch)}.",
        hint="Run the denoiser given to recorder.attach() inside recorder.step(), in the same thread. "
        f"TokenLayout.branches and TokenLayout.passes say which pass is the conditional one. {_SKIPPED}",
    )
