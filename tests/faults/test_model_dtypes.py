"""Models in half precision on a CPU: each runs, or is refused by a message of vcorr before its weights are made."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.scale import draw_cases

import vcorr
from vcorr import Clip, RunSettings, UsageError
from vcorr.capture.recorder import Recorder
from vcorr.diffusion import DiffusersVideoModel

ENTRIES = {
    found.entry.name: found.entry
    for found in vcorr.installed().models.all()
    if found.entry.configs and "vision" not in found.entry.configs
}
REFUSED = ("cosmos-7b", "cosmos-14b")
"""Models whose autoencoder needs an operation that torch does not have on a CPU in half precision."""


class Still:
    """A probe that predicts that nothing moves."""

    needs = frozenset({"q"})

    def read(self, capture, queries):
        return {-1: queries.xy[:, None].expand(-1, capture.grid.frames, -1)}


@pytest.mark.filterwarnings("ignore")  # libraries advise against half precision on a CPU
@draw_cases(4)
@given(
    name=st.sampled_from(sorted(ENTRIES)),
    dtype=st.sampled_from(["float32", "bfloat16", "float16"]),
    mode=st.sampled_from(["renoise", "generate"]),
    vae_dtype=st.sampled_from([None, "model", "float32"]),
)
def test_every_model_runs_in_every_dtype_or_is_refused(name, dtype, mode, vae_dtype):
    entry = ENTRIES[name]
    options = {"vae_dtype": vae_dtype} if hasattr(entry.config_type(), "vae_dtype") else {}
    model = entry.create(entry.config_type()(**{**entry.check, **options}))
    if name in REFUSED and "float32" not in (dtype, vae_dtype):
        with pytest.raises(UsageError, match=r"model\.vae_dtype=float32"):
            model.load("cpu", dtype, "random")
        return
    model.load("cpu", dtype, "random")
    clip = clip_for(model)
    recorder = Recorder({"still": Still()}, clip.queries)
    model.run(clip, RunSettings(mode, (1,), 2), recorder)
    assert recorder.predictions


def clip_for(model: DiffusersVideoModel) -> Clip:
    """Returns a clip of noise of the size that the model reads."""
    config = model.config
    shape = (config.frames, config.height, config.width, 3)
    video = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return Clip("clip", "a red disk", np.array([[10.5, 20.5]], np.float32), video)
