"""Tests the sources of weights: a folder of the release, the cache of the hub, a saved pipeline, or none."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from vcorr_opensora import plugin
from vcorr_opensora.model import TEXT_TOKENS, OpenSora2Config

from vcorr import MissingError, RunSettings, UsageError
from vcorr.capture.recorder import Recorder

SMALL = OpenSora2Config(height=32, width=48, frames=5)
ENTRY = {entry.name: entry for entry in plugin.vcorr_models()}["open-sora-2.0"]
HUB = "hpcai-tech/Open-Sora-v2"
ENCODERS = ("google/t5-v1_1-xxl", "openai/clip-vit-large-patch14")


def load(weights, **options):
    model = ENTRY.create(SMALL)
    model.load("cpu", "float32", str(weights))
    return model


def sample(model, clip):
    return model.run(clip, RunSettings("generate", (0,), 2), Recorder({}, clip.queries))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Returns a function that adds a folder's files, as a repository's snapshot, to an empty cache of the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def add(hub_id, folder, revision="a" * 40):
        repository = tmp_path / "hub" / f"models--{hub_id.replace('/', '--')}"
        shutil.copytree(folder, repository / "snapshots" / revision)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(revision)
        return repository / "snapshots" / revision

    return add


@pytest.fixture(scope="module")
def own(release):
    """Returns the model, loaded from the release's folder."""
    return load(release)


def test_a_folder_of_the_release_runs(own, clip):
    pipe = own.pipe
    assert type(pipe.text_encoder).__name__ == "T5EncoderModel"
    assert type(pipe.text_encoder_2).__name__ == "CLIPTextModel"
    video = sample(own, clip)
    assert video.shape == (5, 32, 48, 3)
    text = pipe.encode_prompt("a red disk. 24 FPS. 4 motion score.", TEXT_TOKENS)
    assert torch.equal(own.call_inputs(clip, own.grid(clip, None))["text"].tokens, text.tokens)
    assert (text.tokens.shape, text.pooled.shape) == ((1, TEXT_TOKENS, 24), (1, 12))


def test_prompts_reach_both_encoders(own):
    one, same, other = (own.pipe.encode_prompt(prompt, 40) for prompt in ("a red disk", "a red disk", "disk"))
    assert torch.equal(one.tokens, same.tokens)
    assert torch.equal(one.pooled, same.pooled)
    assert not torch.equal(one.tokens, other.tokens)
    assert not torch.equal(one.pooled, other.pooled)


def test_a_prompt_the_text_encoder_would_cut_is_refused(own, clip):
    import dataclasses

    long = dataclasses.replace(clip, prompt="a red disk " * 120)
    with pytest.raises(UsageError, match=r"The prompt of clip clip has \d+ tokens; Open-Sora 2.0 reads 512"):
        own.prompt(long)


def test_loading_is_quiet(release, capfd):
    load(release)
    assert capfd.readouterr() == ("", "")


def test_a_saved_pipeline_is_the_same_model(own, clip, tmp_path):
    own.pipe.save_pretrained(tmp_path)
    again = load(tmp_path)
    for part in ("transformer", "vae", "text_encoder", "text_encoder_2"):
        one, other = (getattr(each.pipe, part).state_dict() for each in (own, again))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    # another alignment of tensors in memory changes the last bit of some sums
    np.testing.assert_allclose(sample(own, clip).astype(int), sample(again, clip).astype(int), atol=1)
    assert again.pipe.vae.use_tiling
    assert not again.pipe.vae.use_framewise_decoding


def test_the_identity_of_a_folder_is_that_of_its_parts(release, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(release, folder)
    before = ENTRY.create(SMALL).weights_id(str(release))
    assert before.startswith("path:")
    (folder / "flux1-dev.safetensors").write_bytes(b"another model")
    assert ENTRY.create(SMALL).weights_id(str(folder)) == before
    with (folder / "google" / "t5-v1_1-xxl" / "config.json").open("a") as file:
        file.write("\n")
    assert ENTRY.create(SMALL).weights_id(str(folder)) != before


def test_the_release_in_the_cache_is_found(own, release, cache, clip):
    cache(HUB, release)
    assert ENTRY.create(SMALL).weights_id("hub") == f"hub:{HUB}@{'a' * 40}"
    assert np.array_equal(sample(load("hub"), clip), sample(own, clip))


def test_another_revision_of_the_release_in_the_cache_is_named(release, cache):
    folder = cache(HUB, release)
    (folder.parents[1] / "refs" / "main").unlink()  # as after hf download --revision
    with pytest.raises(MissingError, match=f"another revision, {'a' * 40}: --weights {folder}"):
        ENTRY.create(SMALL).weights_id("hub")
    assert ENTRY.create(SMALL).weights_id(str(folder)).startswith("path:")


def test_text_encoders_come_from_their_own_repositories_where_copies_are_missing(own, release, cache, clip, tmp_path):
    for name in ENCODERS:
        cache(name, release / name, "b" * 40)
    alone = tmp_path / "alone"
    alone.mkdir()
    for file in release.glob("*.safetensors"):
        shutil.copy(file, alone)
    assert np.array_equal(sample(load(alone), clip), sample(own, clip))
    cache(HUB, alone)
    encoders = "".join(f"+{name}@{'b' * 40}" for name in ENCODERS)
    assert ENTRY.create(SMALL).weights_id("hub") == f"hub:{HUB}@{'a' * 40}{encoders}"


def test_pickles_are_refused_and_a_copy_in_safetensors_is_taken_instead(
    release, cache, write_release, write_encoders, tmp_path, clip
):
    folder = tmp_path / "pickled"
    write_release(folder)
    write_encoders(*(folder / name for name in ENCODERS), pickled=True)
    with pytest.raises(UsageError, match=r"text_encoder as pickles \(pytorch_model\.bin\)(.|\n)*hf download city96"):
        ENTRY.create(SMALL).weights_id(str(folder))
    copy = cache("city96/t5-v1_1-xxl-encoder-bf16", release / ENCODERS[0])
    (copy / "spiece.model").unlink()  # the tokenizer next to the pickle is used
    assert sample(load(folder), clip).shape == (5, 32, 48, 3)


def test_an_encoder_with_missing_tensors_is_refused(release, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "copy"
    shutil.copytree(release, folder)
    file = folder / ENCODERS[1] / "model.safetensors"
    state = load_file(file)
    lost = next(name for name in state if name.startswith("text_model") and name.endswith("q_proj.weight"))
    save_file({name: tensor for name, tensor in state.items() if name != lost}, file, metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"not a complete CLIPTextModel: it lacks .*q_proj\.weight"):
        load(folder)


def test_lost_shards_make_an_encoder_incomplete(release, cache, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(release, folder)
    index = folder / ENCODERS[0] / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "model-00002-of-00002.safetensors"}}')
    with pytest.raises(MissingError, match=r"google/t5-v1_1-xxl \(text_encoder\), about 19 GB"):
        ENTRY.create(SMALL).weights_id(str(folder))
    index.write_text("{}")
    with pytest.raises(UsageError, match="cannot be read as the index"):
        ENTRY.create(SMALL).weights_id(str(folder))


def test_an_incomplete_cache_names_what_is_missing(release, cache):
    folder = cache(HUB, release)
    (folder / "hunyuan_vae.safetensors").unlink()
    with pytest.raises(MissingError, match=r"hunyuan_vae\.safetensors \(vae\), about 1 GB") as caught:
        ENTRY.create(SMALL).weights_id("hub")
    assert "transformer" not in str(caught.value)


def test_weights_bring_their_sizes(release, own):
    model = ENTRY.create(SMALL)
    assert len(model.sites()) == 57
    model.load("cpu", "float32", str(release))
    assert [site.heads for site in model.sites()] == [2, 2, 2]
    assert model.sites() == own.sites()


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(UsageError, match="not a pipeline folder"):
        ENTRY.create(SMALL).weights_id(str(tmp_path))
    with pytest.raises(MissingError, match="no such folder"):
        ENTRY.create(SMALL).weights_id(str(tmp_path / "none"))


@pytest.mark.parametrize("entry", plugin.VARIANTS[::2], ids=lambda entry: entry.name)
def test_missing_weights_are_reported_at_once_and_without_torch(entry, tmp_path):
    code = (
        "import sys\n"
        "from vcorr.contract.errors import MissingError\n"
        "from vcorr_opensora.plugin import vcorr_models\n"
        f"model = [entry for entry in vcorr_models() if entry.name == {entry.name!r}][0].create()\n"
        "assert len(model.sites()) == 57\n"
        "try:\n"
        "    model.weights_id('hub')\n"
        "except MissingError as error:\n"
        "    print(error, error.exit_code)\n"
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)\n"
    )
    environment = os.environ | {"HF_HOME": str(tmp_path)}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    for part in (
        "Open_Sora_v2.safetensors (transformer), about 23.8 GB",
        "google/t5-v1_1-xxl (text_encoder, tokenizer), about 19 GB",
        f"hf download {HUB} --exclude 'flux1-dev*'",
        "--weights random",
    ):
        assert part in done.stdout
    assert done.stdout.rstrip().endswith("4")
