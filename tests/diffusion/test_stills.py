"""Tests of clips whose frames are encoded one by one (`Clip.stills`), and of latents without noise (`add_noise`)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import vcorr
from vcorr import Clip, RunSettings, UsageError
from vcorr.capture.recorder import Recorder
from vcorr.contract.bases import ProbeBase
from vcorr.probes.latent_probe import Latent
from vcorr.probes.matching_probes import QueryKey
from vcorr.store.fingerprint import plain_options

pytestmark = pytest.mark.filterwarnings("ignore")  # libraries on their own versions, once per model

ENTRIES = {found.entry.name: found.entry for found in vcorr.installed().models.all()}
LAST = RunSettings("renoise", (2,), 3, add_noise=False)


class Kept(ProbeBase):
    """Keeps the latents that the denoiser gets, (F, h, w, c)."""

    needs = frozenset({"latent"})

    def read(self, capture, queries):
        self.latent = capture.latent.clone()
        return {-1: torch.zeros(len(queries), capture.grid.frames, 2)}


def load(name):
    entry = ENTRIES[name]
    model = entry.create(entry.config_type()(**entry.check))
    model.load("cpu", "float32", "random")
    return model


def clip_of(model, frames, seed=0):
    shape = (frames, model.config.height, model.config.width, 3)
    video = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return Clip("clip", "a red disk", np.zeros((0, 2), np.float32), video, stills=True)


def read_latents(model, clip, settings=LAST):
    kept = Kept()
    model.run(clip, settings, Recorder({"kept": kept}, clip.queries))
    return kept.latent


@pytest.mark.parametrize("name", ["cogvideox", "cogvideox-1.5-5b", "hunyuanvideo", "wan2.1-1.3b", "mochi", "zeroscope"])
def test_every_still_has_a_latent_frame_that_depends_on_it_alone(name):
    model = load(name)
    clip = clip_of(model, 3)
    grid = model.grid(clip, model.sites()[0])
    assert (grid.frames, grid.video_frames) == (3, 3)
    assert [grid.latent_at(frame) for frame in range(3)] == [0, 1, 2]
    latents = read_latents(model, clip)
    assert len(latents) == 3
    exchanged = read_latents(model, replace(clip, video=clip.video[[2, 1, 0]]))
    assert torch.equal(exchanged, latents.flip(0))


@pytest.mark.parametrize("name", ["videomae-b", "vjepa2-l", "dino-s16"])
def test_backbones_read_one_token_in_time_per_still(name):
    model = load(name)
    clip = clip_of(model, 3)
    clip = replace(clip, video=clip.video[[0, 0, 1]], queries=np.array([[9, 9]], np.float32))
    assert model.grid(clip, model.sites()[0]).frames == 3
    recorder = Recorder({"qk": QueryKey()}, clip.queries, layers={0})
    model.run(clip, RunSettings(steps=(-1,), num_steps=0), recorder)
    assert recorder.predictions[0].xy.shape == (1, 3, 2)


def test_an_autoencoder_of_frames_in_groups_refuses_stills():
    entry = ENTRIES["allegro"]
    model = entry.create(entry.config_type()(**entry.check))
    with pytest.raises(UsageError, match="encodes 4 frames together") as refused:
        model.grid(clip_of(model, 3), None)
    assert "track.latents=video" in refused.value.hint


def test_a_number_of_stills_that_has_no_positions_is_refused():
    model = load("latte")
    assert model.grid(clip_of(model, model.config.frames), None).frames == model.config.frames
    with pytest.raises(UsageError, match="3 frames to read one by one"):
        model.grid(clip_of(model, 3), None)


def test_stills_that_clips_share_are_encoded_once():
    model = load("cogvideox")
    clip = clip_of(model, 4)
    alone = read_latents(model, replace(clip, video=clip.video[2:]))
    assert model._stills.encoded == 2
    together = read_latents(model, clip)
    assert model._stills.encoded == 4
    assert torch.equal(together[2:], alone)


def test_noise_is_left_out_on_request_alone():
    model = load("cogvideox")
    clip = clip_of(model, 2)
    clean, first = read_latents(model, clip), read_latents(model, clip, replace(LAST, steps=(0,)))
    assert torch.equal(clean, first)  # whatever the step
    noisy = read_latents(model, clip, replace(LAST, add_noise=True))
    schedule = model.schedule(3, model.grid(replace(clip, stills=False, video=None), None))
    assert (noisy - clean).std() > schedule.noise[2] / 2


def test_stills_are_walked_back_and_restored_frame_by_frame():
    model = load("cogvideox-5b")
    clip = clip_of(model, 2)
    recorder = Recorder({"latent": Latent()}, clip.queries)
    model.run(clip, RunSettings("invert", (2,), 3), recorder)
    assert recorder.reconstruction.sampler > 20


def test_the_switch_of_noise_is_in_fingerprints_only_when_it_is_used():
    before = {"mode": "renoise", "steps": [0], "num_steps": 1, "seed": 42, "cfg": None}
    assert plain_options(RunSettings(), "settings") == before
    assert plain_options(RunSettings(add_noise=False), "settings") == {**before, "add_noise": False}
