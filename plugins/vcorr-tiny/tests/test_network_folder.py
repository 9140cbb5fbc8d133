"""Networks outside the package: `VCORR_TINY_NETWORKS` names their folder, with its facts and its model card."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from vcorr_tiny import network_folder
from vcorr_tiny.command_runs import Command
from vcorr_tiny.guided_costs import list_arms, list_layers
from vcorr_tiny.model import Tiny, TinyUntrained
from vcorr_tiny.network_folder import CARD, FACTS, PACKAGED_CARD, VARIABLE, Facts, find_networks
from vcorr_tiny.networks import TinyConfig, build_pipeline
from vcorr_tiny.task_pool import Journal, Task

from vcorr import MissingError, UsageError
from vcorr.diffusion import VideoConfig, folder_identity

SMALL = TinyConfig(size=32, frames=9, vae_channels=(8, 8, 8), latent_channels=4, layers=2, heads=2, head_dim=32)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Returns a folder of small networks whose seed 2 runs by default and which also has seed 0."""
    made = tmp_path / "networks"
    build_pipeline(SMALL, seed=2).save_pretrained(made / "pipe")
    build_pipeline(SMALL, seed=0).save_pretrained(tmp_path / "other")
    for part in ("transformer", "text_encoder"):
        shutil.copytree(tmp_path / "other" / part, made / "seeds" / "0" / part)
    Facts(2, (0, 1)).write(made)
    card, changed = re.subn(r"layers: \[\d+\]", "layers: [1]", PACKAGED_CARD.read_text())
    assert changed == 1
    (made / CARD).write_text(card)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(VARIABLE, str(made))
    return made


def test_all_names_of_weights_mean_the_networks_of_the_folder(folder) -> None:
    identify = Tiny(VideoConfig()).weights_id
    assert identify("hub") == identify("seed:2") == f"embedded:{folder_identity(folder / 'pipe')}"
    assert identify("seed:0").startswith("embedded:seed-0:")
    assert TinyUntrained(VideoConfig()).weights_id("hub").endswith(folder_identity(folder / "pipe" / "vae"))
    with pytest.raises(MissingError, match="no network of training seed 1") as raised:
        identify("seed:1")
    assert str(folder / "seeds" / "1") in str(raised.value)


def test_the_package_runs_without_the_variable(folder, monkeypatch) -> None:
    named = Tiny(VideoConfig()).weights_id("hub")
    monkeypatch.delenv(VARIABLE)
    assert Tiny(VideoConfig()).weights_id("hub") == f"embedded:{folder_identity(network_folder.PACKAGED[0])}" != named


def test_a_process_inherits_the_networks_with_their_card_and_configurations(folder) -> None:
    read = (
        "from vcorr import installed; from vcorr.contract.cards import load_card;"
        "entry = installed().models.get('tiny').entry; card = load_card(entry.card, 'card'); model = entry.create();"
        "print(*card.extra['tracking']['layers'], len(model.sites()), model.weights_id('hub'))"
    )
    done = subprocess.run([sys.executable, "-c", read], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.split() == ["1", "2", Tiny(VideoConfig()).weights_id("hub")]


def test_what_is_measured_depends_on_the_facts_of_the_networks(folder, monkeypatch) -> None:
    assert list_layers() == ("0,1", "1")
    assert list_arms(4).split(",cag+")[-1] == "layers=1+steps=2-3"
    Facts(2, (1,)).write(folder)
    assert list_layers() == ("1",)
    assert list_arms(4).split(",cag+")[-1] == "layers=1+steps=2-3"


def test_the_journal_of_tasks_counts_for_the_networks_of_the_folder_alone(folder, tmp_path, monkeypatch) -> None:
    made = Command(("run", "--model", "tiny"), on_device=True)
    task = Task("one", lambda: made)
    Journal(tmp_path).add(task, made, 0, 1.0)
    assert Journal(tmp_path).holds(task, made)
    monkeypatch.delenv(VARIABLE)
    assert not Journal(tmp_path).holds(task, made)


@pytest.mark.parametrize("part", [FACTS, CARD, "pipe/model_index.json"])
def test_a_folder_that_lacks_a_part_is_an_error(folder, part) -> None:
    (folder / part).unlink()
    with pytest.raises(MissingError, match=f"holds no {part}") as raised:
        find_networks()
    assert (VARIABLE in str(raised.value), VARIABLE in str(raised.value.hint)) == (True, True)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ("{", "cannot be read"),
        ([], "not of version 1"),
        ({"version": 2}, "not of version 1"),
        ({"version": 1, "shipped": 3, "guided_layers": [1]}, "shipped is 3"),
        ({"version": 1, "shipped": 1, "guided_layers": []}, "guided_layers is"),
        ({"version": 1, "shipped": 1, "guided_layers": [2, 1]}, "guided_layers is"),
        ({"version": 1, "shipped": 1, "guided_layers": [1, 2, 3, 4]}, "guided_layers is"),
        ({"version": 1, "shipped": 1, "guided_layers": [True]}, "guided_layers is"),
    ],
)
def test_facts_of_another_form_are_an_error(folder, facts, said) -> None:
    (folder / FACTS).write_text(facts if isinstance(facts, str) else json.dumps(facts))
    with pytest.raises(UsageError, match=said):
        find_networks()


def test_commands_say_what_is_wrong_with_the_folder(tmp_path) -> None:
    environment = {**os.environ, VARIABLE: str(tmp_path / "nothing")}
    for words in (["vcorr", "show", "model", "tiny"], ["vcorr_tiny.measure", "--list"]):
        done = subprocess.run(
            [sys.executable, "-m", *words], capture_output=True, text=True, check=False, env=environment
        )
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        assert VARIABLE in done.stderr
        assert "holds no networks.json" in " ".join(done.stderr.split())


def test_the_packaged_facts_name_layers_of_the_packaged_network() -> None:
    layers = len(Tiny(VideoConfig()).sites())
    assert all(layer < layers for layer in find_networks().facts.guided_layers)
