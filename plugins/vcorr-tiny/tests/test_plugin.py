"""Tests the embedded model, its twin and its dataset through vcorr."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from diffusers import CogVideoXPipeline
from vcorr_tiny import network_folder
from vcorr_tiny.dataset import Sprites, SpritesConfig
from vcorr_tiny.model import Tiny, TinyUntrained
from vcorr_tiny.network_folder import find_networks
from vcorr_tiny.plugin import vcorr_datasets, vcorr_models

from vcorr import MissingError, RunSettings, UsageError
from vcorr.capture.recorder import Recorder
from vcorr.contract.cards import load_card
from vcorr.diffusion import VideoConfig
from vcorr.functional import match
from vcorr.probes.matching_probes import QueryKeyPosition
from vcorr.store import fingerprint
from vcorr.testing import assert_passed, check_dataset, check_model


class QueryKey:
    needs = frozenset({"q", "k"})

    def read(self, capture, queries):
        return {-1: match(capture.q, capture.k, capture.grid, queries)}


class Stop(Exception):  # noqa: N818
    """Ends a pipeline at its first forward pass."""


@pytest.fixture(scope="module")
def twin():
    model = TinyUntrained(VideoConfig())
    model.load("cpu", "float32", "hub")
    return model


@pytest.fixture(scope="module")
def clip():
    return Sprites(SpritesConfig(grid=4)).clip("test-0000")


def test_the_plugin_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from vcorr_tiny.plugin import vcorr_datasets, vcorr_models\n"
        "for entry in vcorr_models():\n"
        "    assert len(entry.create().sites()) == 10\n"
        "assert [len(entry.create().ids()) for entry in vcorr_datasets()] == [64, 64, 32, 32, 1]\n"
        "assert not {'torch', 'diffusers', 'transformers', 'skimage', 'PIL'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_weights_are_hashed_once_for_the_identity_and_for_loading(monkeypatch):
    read, whole = [], hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, name: read.append(file.name) or whole(file, name))
    monkeypatch.setattr(fingerprint, "_SETTLED_NS", 0)  # the files of a checkout may be seconds old
    fingerprint._digest_settled.cache_clear()
    model = Tiny(VideoConfig())
    identity = model.weights_id("hub")
    model.load("cpu", "float32", "hub")
    assert model.weights_id("hub") == identity
    assert [name for name in read if name.endswith(".safetensors")]
    assert len(read) == len(set(read))


def test_entries_and_cards():
    assert [(e.name, e.data) for e in vcorr_models()] == [("tiny", "sprites"), ("tiny-untrained", "sprites")]
    assert [e.name for e in vcorr_datasets()] == ["sprites", "photos", "sprites-tap", "photos-tap", "stereo"]
    for entry in vcorr_models():
        card, model = load_card(entry.card, entry.label), entry.create()
        config, network = model.config, model.network
        assert (card.name, card.resolution, card.frames) == (entry.name, (config.height, config.width), config.frames)
        assert (card.extra["layers"], card.extra["heads"]) == (network["num_layers"], network["num_attention_heads"])
        assert card.extra["text_tokens"] == network["max_text_seq_length"]


def test_the_grid_of_the_embedded_model(clip):
    model = Tiny(VideoConfig())
    grid = model.grid(clip, model.sites()[0])
    assert (grid.frames, grid.rows, grid.cols, grid.stride, grid.video_frames) == (5, 16, 16, (8, 8), 17)
    assert model.steps == 50


def test_the_twin_has_the_sizes_of_the_card(twin):
    card = load_card(TinyUntrained.card, "card")
    assert sum(p.numel() for p in twin.pipe.transformer.parameters()) == card.parameters
    identity = twin.weights_id("hub")
    assert identity == twin.weights_id("random")
    assert identity.startswith("random:0+vae:")  # the identity includes the trained autoencoder
    with pytest.raises(UsageError, match="untrained by definition"):
        twin.weights_id("some/folder")
    assert twin.weights_id("random:3").startswith("random:3+vae:")


def test_the_twin_takes_no_weights(tmp_path):
    with pytest.raises(UsageError, match="random"):
        TinyUntrained(VideoConfig()).weights_id(str(tmp_path))


def test_the_twin_answers_at_every_site_and_step(twin, clip):
    recorder = Recorder({"qk": QueryKey()}, clip.queries)
    twin.run(clip, RunSettings("renoise", (0, 49), 50), recorder)
    assert sorted((p.layer, p.step) for p in recorder.predictions) == [(i, s) for i in range(10) for s in (0, 49)]


def test_passes_are_what_the_pipeline_makes_from_the_caption(twin, clip):
    calls = []
    pipe = twin.pipe

    def keep(module, args, kwargs):
        calls.append(kwargs)
        if len(calls) == 2:
            raise Stop

    def keep_first(module, args, kwargs, output):
        calls.append(kwargs)

    first = pipe.transformer.register_forward_hook(keep_first, with_kwargs=True)
    twin.run(clip, RunSettings("renoise", (0,), 50), Recorder({"qk": QueryKey()}, clip.queries))
    first.remove()
    hook = pipe.transformer.register_forward_pre_hook(keep, with_kwargs=True)
    with pytest.raises(Stop):
        pipe(
            clip.prompt,
            height=128,
            width=128,
            num_frames=17,
            num_inference_steps=50,
            guidance_scale=1.0,
            latents=calls[0]["hidden_states"],
            max_sequence_length=32,
        )
    hook.remove()
    ours, theirs = calls
    assert ours.keys() == theirs.keys()
    for name in ("hidden_states", "encoder_hidden_states", "timestep"):
        assert torch.equal(ours[name], theirs[name]), name
    for a, b in zip(ours["image_rotary_emb"], theirs["image_rotary_emb"], strict=True):
        assert torch.equal(a, b)
    assert (theirs["attention_kwargs"], theirs["return_dict"]) == (None, False)


def test_a_saved_pipeline_is_an_embedded_one(twin, clip, tmp_path, monkeypatch):
    twin.pipe.save_pretrained(tmp_path / "pipe")
    monkeypatch.setattr(network_folder, "PACKAGED", (tmp_path / "pipe", tmp_path / "seeds"))
    model = Tiny(VideoConfig())
    assert model.weights_id("hub").startswith("embedded:")
    assert model.weights_id(str(tmp_path / "pipe")).startswith("path:")
    assert model.weights_id("hub").split(":")[1] == model.weights_id(str(tmp_path / "pipe")).split(":")[1]
    model.load("cpu", "float32", "hub")
    xy = []
    for each in (model, twin):
        recorder = Recorder({"qk": QueryKey()}, clip.queries)
        each.run(clip, RunSettings("renoise", (40,), 50), recorder)
        xy.append(np.stack([p.xy for p in recorder.predictions]))
    assert np.array_equal(*xy)


def test_the_packaged_weights_load_and_fit_the_configuration(clip):
    model = Tiny(VideoConfig())
    model.load("cpu", "float32", "hub")
    assert not model.locate("hub").is_random
    with torch.no_grad():
        latents = model.encode(clip.video)
    assert latents.shape == (1, 16, 5, 32, 32)
    assert 0.5 < latents.std() < 2  # near the unit variance that the noise levels assume


def test_positions_alone_answer_that_points_stay_where_query_key_matching_follows_them(clip):
    model = Tiny(VideoConfig())
    model.load("cpu", "float32", "hub")
    recorder = Recorder({"qk": QueryKey(), "position": QueryKeyPosition()}, clip.queries, layers={8})
    model.run(clip, RunSettings(steps=(49,), num_steps=50), recorder)
    found = {prediction.probe: prediction.xy for prediction in recorder.predictions}
    assert np.array_equal(found["position"], np.repeat(clip.queries.xy[:, None], 5, axis=1))
    assert (found["qk"] != found["position"]).any(axis=-1)[:, 1:].mean() > 0.2


def test_an_installation_without_weights_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(network_folder, "PACKAGED", (tmp_path / "pipe", tmp_path / "seeds"))
    with pytest.raises(MissingError, match="without its weights"):
        Tiny(VideoConfig()).weights_id("hub")


def test_random_networks_have_the_sizes_of_the_packaged_ones():
    pipes = CogVideoXPipeline.from_pretrained(find_networks().pipeline), Tiny(VideoConfig()).build(0)
    for part in ("vae", "transformer", "text_encoder"):
        packaged, built = ({name: p.shape for name, p in getattr(pipe, part).named_parameters()} for pipe in pipes)
        assert packaged == built


def test_random_weights_are_for_square_videos():
    with pytest.raises(UsageError, match="square"):
        Tiny(VideoConfig(width=256)).load("cpu", "float32", "random")


@pytest.mark.parametrize("entry", vcorr_models(), ids=lambda entry: entry.name)
def test_the_models_pass_the_contract(entry):
    small = VideoConfig(height=64, width=64, frames=9)
    clip = Sprites(SpritesConfig(size=64, frames=9, grid=4)).clip("test-0001")
    assert_passed(check_model(entry, clip, config=small, plugin="vcorr_tiny.plugin", text_tokens=32))


# ------------------------------------------------------------------------------------------------------------- sprites


def test_clips_have_exact_tracks(clip):
    assert (clip.id, clip.video.shape, clip.video.dtype) == ("test-0000", (17, 128, 128, 3), np.uint8)
    assert (clip.tracks.tracker, clip.tracks.xy.dtype, clip.tracks.visible.shape) == ("exact", np.float32, (16, 17))
    assert np.array_equal(clip.tracks.xy[:, 0], clip.queries.xy)
    assert clip.tracks.visible[:, 0].all()
    assert "camera" in clip.prompt


def test_a_clip_is_the_same_every_time_and_whatever_else_there_is(clip):
    again = Sprites(SpritesConfig(grid=4, clips=1)).clip("test-0000")
    assert np.array_equal(again.video, clip.video)
    assert np.array_equal(again.tracks.xy, clip.tracks.xy)
    other = Sprites(SpritesConfig(grid=4, split="validation")).clip("validation-0000")
    assert not np.array_equal(other.video, clip.video)


def test_ids():
    data = Sprites(SpritesConfig())
    assert (data.split, len(data.ids()), data.ids()[0], data.ids()[-1]) == ("test", 64, "test-0000", "test-0063")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"split": "tset"}, "Did you mean 'test'"),
        ({"clips": 0}, "clips"),
        ({"grid": 0}, "grid"),
        ({"size": 8}, "size"),
        ({"frames": 0}, "frames"),
    ],
)
def test_options_out_of_range(options, reason):
    with pytest.raises(UsageError, match=reason):
        Sprites(SpritesConfig(**options))


@pytest.mark.parametrize("clip_id", ["test-0064", "train-0000", "test-7", ""])
def test_unknown_clips(clip_id):
    with pytest.raises(UsageError, match="no clip"):
        Sprites(SpritesConfig()).clip(clip_id)


def test_the_dataset_passes_the_contract():
    assert_passed(check_dataset(vcorr_datasets()[0], config=SpritesConfig(clips=2)))
