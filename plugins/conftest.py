"""Holds what the tests of the plugins' adapters share."""

import numpy as np
import pytest
import torch
from support.garbage import lasting_objects
from support.interrupts import take_interrupts
from support.scale import load_profile

from vcorr import Clip
from vcorr.capture.recorder import Recorder
from vcorr.functional import match

load_profile()
take_interrupts()
__all__ = ["lasting_objects"]

HEIGHT, WIDTH, FRAMES = 64, 96, 9


class QueryKey:
    """The probe `qk`, which also keeps the tensors that it received."""

    needs = frozenset({"q", "k", "out", "mask"})

    def __init__(self):
        self.captures = {}

    def read(self, capture, queries):
        kept = {name: getattr(capture, name).clone() for name in ("q", "k", "out", "k_text")}
        kept["key_mask"] = None if capture.key_mask is None else capture.key_mask.clone()
        self.captures[capture.site.layer, capture.step] = kept
        return {-1: match(capture.q, capture.k, capture.grid, queries)}


class Run:
    """One run of a model: the video, the predictions, the tensors the probe received, the arguments of every pass."""

    def __init__(self, model, clip, settings, denoiser="transformer"):
        self.calls, probe = [], QueryKey()
        hook = getattr(model.pipe, denoiser).register_forward_hook(
            lambda module, args, kwargs, output: self.calls.append(kwargs), with_kwargs=True
        )
        recorder = Recorder({"qk": probe}, clip.queries)
        try:
            self.video = model.run(clip, settings, recorder)
        finally:
            hook.remove()
        self.predictions, self.captures = recorder.predictions, probe.captures


@pytest.fixture(scope="session")
def run():
    """Runs a model: run(model, clip, settings)."""
    return Run


@pytest.fixture(scope="session")
def make_clip():
    """Makes clips of noise."""

    def make(frames=FRAMES, height=HEIGHT, width=WIDTH, **options):
        video = np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
        queries = np.array([[10.5, 20.5], [70.25, 40.0], [0, height]], dtype=np.float32)
        return Clip(**{"id": "clip", "prompt": "a red disk", "queries": queries, "video": video} | options)

    return make


@pytest.fixture(scope="session")
def passes_of():
    """Returns the arguments of every pass that the pipeline's own call makes."""

    def passes(pipe, **arguments):
        seen = []
        hook = pipe.transformer.register_forward_pre_hook(
            lambda module, args, kwargs: seen.append(kwargs), with_kwargs=True
        )
        try:
            pipe(output_type="latent", **arguments)
        finally:
            hook.remove()
        return seen

    return passes


@pytest.fixture(scope="session")
def assert_same_call():
    """Asserts that two passes have exactly the same arguments."""

    def check(ours, theirs):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            if isinstance(value, torch.Tensor):
                # the first timestep of a pipeline comes in float32, later ones in its latents' dtype
                assert value.dtype == theirs[name].dtype or name == "timestep", name
                assert torch.equal(value.double(), theirs[name].double()), name
            else:
                assert value == theirs[name], name

    return check
