"""Finding weights: what is there, what is missing, what is refused; always without torch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vcorr import MissingError, ModelCard, PluginError, UsageError
from vcorr.contract.records import is_random
from vcorr.diffusion import check_pipeline_folder, folder_identity, locate_network, locate_weights
from vcorr.diffusion.weights import locate_component

REVISION = "0123456789abcdef0123456789abcdef01234567"
CARD = ModelCard(
    name="some",
    title="Some model",
    summary="A model.",
    attention="full3d",
    licence="MIT",
    hub_id="owner/some",
    revision=REVISION,
    download_gb=13.8,
    extra={"hub_aliases": ["former/some"]},
)
INDEX = {
    "_class_name": "SomePipeline",
    "_diffusers_version": "0.42.1",
    "scheduler": ["diffusers", "DDIMScheduler"],
    "safety_checker": [None, None],
    "transformer": ["diffusers", "SomeTransformer"],
    "vae": ["diffusers", "SomeVAE"],
}


def write_pipeline(folder, **changes):
    """A pipeline folder without real tensors; None leaves a file out."""
    files = {
        "model_index.json": json.dumps(INDEX),
        "scheduler/scheduler_config.json": "{}",
        "transformer/config.json": "{}",
        "transformer/diffusion_pytorch_model.safetensors": "weights",
        "vae/config.json": "{}",
        "vae/diffusion_pytorch_model.safetensors": "weights",
    } | changes
    for name, text in files.items():
        if text is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    return folder


def locate(weights):
    return locate_weights(str(weights), CARD, "SomePipeline")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty hub cache; returns where a snapshot of `owner/some` belongs."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub" / "models--owner--some" / "snapshots" / REVISION


@pytest.mark.usefixtures("cache")
def test_weights_not_in_the_cache_say_what_is_missing_its_size_and_the_ways_out():
    with pytest.raises(MissingError) as caught:
        locate("hub")
    assert caught.value.exit_code == 4
    text = str(caught.value)
    for part in ("Some model", "owner/some", REVISION, "13.8 GB", "--weights random", "--weights PATH"):
        assert part in text
    assert f"hf download owner/some --revision {REVISION}" in text


def test_a_complete_snapshot_is_found(cache):
    write_pipeline(cache)
    source = locate("hub")
    assert (source.kind, source.folder, source.identity) == ("hub", cache, f"hub:owner/some@{REVISION}")
    assert not source.is_random


def test_a_snapshot_under_the_former_name_is_found(cache):
    former = Path(str(cache).replace("owner--some", "former--some"))
    write_pipeline(former)
    assert locate("hub").folder == former


def test_a_network_in_a_repository_of_its_own(cache):
    reason = rf"weights of the part (.|\n)*hf download owner/some --revision {REVISION}"
    for missing in ("config.json", "diffusion_pytorch_model.safetensors"):
        with pytest.raises(MissingError, match=reason):
            locate_component("the part", "owner/some", REVISION)
        cache.mkdir(parents=True, exist_ok=True)
        (cache / missing).write_text("{}")
    assert locate_component("the part", "owner/some", REVISION) == cache


def test_components_of_diffusers_own_pipelines_are_no_code_from_elsewhere(tmp_path):
    index = INDEX | {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}
    files = {"safety_checker/config.json": "{}", "safety_checker/model.safetensors": "weights"}
    locate(write_pipeline(tmp_path, **files, **{"model_index.json": json.dumps(index)}))


def test_other_revisions_in_the_cache_are_named_with_the_option_that_uses_them(cache):
    other = write_pipeline(cache.parent / ("f" * 40))
    former = write_pipeline(cache.parents[2] / "models--former--some" / "snapshots" / ("e" * 40))
    (cache.parent / ("d" * 40)).mkdir()  # without the pipeline's index
    with pytest.raises(MissingError) as caught:
        locate("hub")
    for folder in (other, former):
        assert f"another revision, {folder.name}: --weights {folder}" in str(caught.value)
        assert locate(folder).folder == folder
    assert "d" * 40 not in str(caught.value)
    write_pipeline(cache)
    assert locate("hub").folder == cache


def test_another_revision_of_a_single_network_is_named(cache):
    other = cache.parent / ("f" * 40)
    other.mkdir(parents=True)
    (other / "config.json").write_text("{}")
    with pytest.raises(MissingError, match="In the cache is another revision, ffff"):
        locate_component("A network", "owner/some", REVISION)


def test_an_interrupted_download_is_reported_as_partial(cache):
    write_pipeline(cache, **{"vae/diffusion_pytorch_model.safetensors": None})
    with pytest.raises(MissingError, match="only partly") as caught:
        locate("hub")
    assert "hf download" in str(caught.value)


@pytest.mark.parametrize(("text", "seed"), [("random", 0), ("random:0", 0), ("random:17", 17)])
def test_random_weights_carry_their_seed(text, seed):
    source = locate(text)
    assert (source.kind, source.seed, source.identity, source.folder) == ("random", seed, f"random:{seed}", None)
    assert source.is_random


@pytest.mark.parametrize("text", ["random:", "random:-1", "random:x", "random:1.5", "random:²"])
def test_a_malformed_seed_is_refused(text):
    with pytest.raises(UsageError, match="whole number"):
        locate(text)


def test_a_folder_that_does_not_exist(tmp_path):
    with pytest.raises(MissingError, match="no such folder") as caught:
        locate(tmp_path / "nowhere")
    assert '"hub"' in str(caught.value)


def test_a_folder_that_is_no_pipeline(tmp_path):
    with pytest.raises(UsageError, match=r"no readable model_index\.json"):
        locate(tmp_path)


@pytest.mark.parametrize(("text", "reason"), [("{", "not valid JSON"), ("[]", "JSON object")])
def test_a_damaged_index(tmp_path, text, reason):
    with pytest.raises(UsageError, match=reason):
        locate(write_pipeline(tmp_path, **{"model_index.json": text}))


def test_a_pipeline_of_another_class(tmp_path):
    write_pipeline(tmp_path)
    with pytest.raises(UsageError, match="holds a SomePipeline; this model needs a OtherPipeline"):
        check_pipeline_folder(tmp_path, "OtherPipeline")


def test_pickles_are_refused(tmp_path):
    write_pipeline(
        tmp_path,
        **{"vae/diffusion_pytorch_model.safetensors": None, "vae/diffusion_pytorch_model.bin": "pickle"},
    )
    with pytest.raises(UsageError, match=r"pickles \(diffusion_pytorch_model.bin\)"):
        locate(tmp_path)


def test_code_from_elsewhere_is_refused(tmp_path):
    index = INDEX | {"transformer": ["my_module", "MyTransformer"]}
    with pytest.raises(UsageError, match=r"my_module\.MyTransformer"):
        locate(write_pipeline(tmp_path, **{"model_index.json": json.dumps(index)}))


def test_missing_shards_are_named(tmp_path):
    shards = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    write_pipeline(
        tmp_path,
        **{
            "transformer/diffusion_pytorch_model.safetensors": None,
            "transformer/diffusion_pytorch_model.safetensors.index.json": json.dumps(shards),
            "transformer/one.safetensors": "weights",
        },
    )
    with pytest.raises(MissingError, match=r"transformer/two\.safetensors"):
        locate(tmp_path)


def test_a_missing_component_is_named(tmp_path):
    changes = dict.fromkeys(["scheduler/scheduler_config.json"])
    with pytest.raises(MissingError, match="scheduler/"):
        locate(write_pipeline(tmp_path, **changes))


def test_the_identity_follows_weights_and_configurations_only(tmp_path):
    one, same, other = (write_pipeline(tmp_path / name) for name in ("one", "same", "other"))
    (same / "README.md").write_text("read me")
    (other / "vae" / "config.json").write_text('{"scaling_factor": 2}')
    assert folder_identity(one) == folder_identity(same) != folder_identity(other)
    assert locate(one).identity == f"path:{folder_identity(one)}"


def write_network(folder, **changes):
    files = {"config.json": '{"model_type": "some"}', "model.safetensors": "weights"} | changes
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        if text is not None:
            (folder / name).write_text(text)
    return folder


def test_a_single_network_is_found_in_the_cache_and_in_folders(cache, tmp_path):
    with pytest.raises(MissingError, match="not in the local") as error:
        locate_network("hub", CARD, "some")
    assert "config.json" in error.value.hint
    write_network(cache, **{"model.safetensors": None})
    with pytest.raises(MissingError, match="only partly"):
        locate_network("hub", CARD, "some")
    write_network(cache)
    found = locate_network("hub", CARD, "some")
    assert (found.folder, found.identity) == (cache, f"hub:owner/some@{REVISION}")
    assert locate_network(str(write_network(tmp_path / "own")), CARD, "some").identity.startswith("path:")
    assert locate_network("random:4", CARD, "some").seed == 4


@pytest.mark.parametrize(
    ("changes", "error", "reason"),
    [
        ({"config.json": None}, UsageError, "not a network's folder: it has no readable config.json"),
        ({"config.json": '{"model_type": "other"}'}, UsageError, "type 'other'; this model needs 'some'"),
        ({"model.safetensors": None}, MissingError, "incomplete"),
        ({"model.safetensors": None, "pytorch_model.bin": "pickle"}, UsageError, "as pickles"),
    ],
)
def test_folders_that_are_no_such_network(changes, error, reason, tmp_path):
    with pytest.raises(error, match=reason):
        locate_network(str(write_network(tmp_path / "own", **changes)), CARD, "some")
    with pytest.raises(MissingError, match="no such folder"):
        locate_network(str(tmp_path / "nowhere"), CARD, "some")


def test_a_card_without_hub_id_is_the_plugins_mistake():
    bare = ModelCard(name="bare", title="Bare", summary="-", attention="full3d", licence="MIT")
    with pytest.raises(PluginError, match="hub_id"):
        locate_weights("hub", bare, "SomePipeline")


def test_nothing_heavy_is_imported():
    code = (
        "import sys, vcorr.diffusion, vcorr.baselines.baseline_entries\n"
        "from vcorr.baselines import TokenPatches\n"
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules), 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ("random", True),
        ("random:7", True),
        ("random:7+lora:0123", True),
        ("randomised/model", False),
        ("random-init", False),
        ("path:random", False),
        ("hub:someone/random@0123", False),
        ("", False),
    ],
)
def test_what_names_random_weights(weights, expected):
    assert is_random(weights) is expected
