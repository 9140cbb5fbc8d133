"""Holds HunyuanVideo 1.5's pipeline with guidance as an argument of its call."""

from __future__ import annotations

from typing import Any

from diffusers import HunyuanVideo15Pipeline


class GuidedPipeline(HunyuanVideo15Pipeline):  # type: ignore[misc]  # diffusers is not typed
    """A text-to-video pipeline whose call takes the strength of guidance; diffusers keeps it in a guider."""

    guider: Any

    def __call__(self, *args: Any, guidance_scale: float | None = None, **kwargs: Any) -> Any:
        """Calls the pipeline; uses `guidance_scale`, if given, for this call only."""
        own = self.guider
        if guidance_scale is not None:
            self.guider = own.new(guidance_scale=guidance_scale)
        try:
            return super().__call__(*args, **kwargs)
        finally:
            self.guider = own
