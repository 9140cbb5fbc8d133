"""HunyuanVideo 1.5's pipeline with guidance as an argument of its call."""

from __future__ import annotations

from typing import Any

from diffusers import HunyuanVideo15Pipeline


class GuidedPipeline(HunyuanVideo15Pipeline):  # type: ignore[misc]  # diffusers is not typed
    """Text to video whose call takes the strength of guidance, which diffusers keeps in a guider."""

    def __call__(self, *args: Any, guidance_scale: float | None = None, **kwargs: Any) -> Any:
        """As the pipeline's, with another strength for this call alone."""
        own = self.guider
        if guidance_scale is not None:
            self.guider = own.new(guidance_scale=guidance_scale)
        try:
            return super().__call__(*args, **kwargs)
        finally:
            self.guider = own
