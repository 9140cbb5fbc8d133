"""Tests the blocks of docs/tiny.md and docs/trackers.md that come from files and measurements."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from vcorr_tiny import model_page, network_folder
from vcorr_tiny.network_folder import SEEDS, find_networks
from vcorr_tiny.networks import TinyConfig, build_pipeline

SHIPPED = find_networks().facts.shipped
DOCS = Path(__file__).parents[3] / "docs"
SMALL = TinyConfig(size=32, frames=9, vae_channels=(8, 8, 8), latent_channels=4, layers=2, heads=2, head_dim=32)
MATCHING = {"loss": {"20": 0.2, "450": 0.4}, "query_key": {"20": [0.1, 0.7, 0.3], "450": [0.0, 0.5, 0.4]}}
EVALUATION = {
    "reconstruction": {"kinds": {"easy": {"psnr": 36.18, "psnr_first": 40.53}}, "latent_std": 1.0, "latent_mean": 0.0},
    "matching": {"easy": MATCHING, "hard": MATCHING},
}


def test_the_page_has_the_sizes_of_the_packaged_weights() -> None:
    table = model_page.part_table(find_networks().pipeline)
    assert table in (DOCS / "tiny.md").read_text(encoding="utf-8"), "python -m vcorr_tiny.model_page --docs docs"


def test_parameters_are_counted_without_loading_them(tmp_path) -> None:
    pipe = build_pipeline(SMALL)
    pipe.save_pretrained(tmp_path)
    for part in ("transformer", "vae", "text_encoder"):
        counted = sum(map(model_page.count_parameters, (tmp_path / part).glob("*.safetensors")))
        tensors = {tensor.data_ptr(): tensor for tensor in getattr(pipe, part).state_dict().values()}  # some are shared
        assert counted == sum(tensor.numel() for tensor in tensors.values() if isinstance(tensor, torch.Tensor))
    lines = model_page.part_table(tmp_path).splitlines()
    assert "2 layers, 2 heads of 32" in lines[2]
    assert "32 text + 3 x 4 x 4 video tokens" in lines[2]


@pytest.fixture
def records(tmp_path, monkeypatch) -> Path:
    """Returns the folder of the records of three made-up trainings."""
    monkeypatch.setattr(model_page, "RECORDS", tmp_path)
    monkeypatch.setattr(network_folder, "PACKAGED", (find_networks().pipeline, tmp_path / "seeds"))
    for seed in SEEDS:
        folder = tmp_path if seed == SHIPPED else tmp_path / "seeds" / str(seed)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "evaluation.json").write_text(json.dumps(EVALUATION))
        logged = [{"kind": "dit", "step": step, "seconds": 10.4 * step} for step in (100, 200 + seed)]
        (folder / "curves.jsonl").write_text("".join(json.dumps(line) + "\n" for line in logged))
    return tmp_path


def test_each_seed_has_a_line_with_its_training_and_its_best_layer(records) -> None:
    lines = model_page.seed_table(list(model_page.read_records())).splitlines()
    assert lines[0] == "| seed | steps | seconds | loss, easy | loss, hard | best layer, easy | best layer, hard |"
    names = [f"{seed} (in the package)" if seed == SHIPPED else str(seed) for seed in SEEDS]
    assert [line.split(" | ")[0] for line in lines[2:]] == [f"| {name}" for name in names]
    steps = 200 + SHIPPED
    trained = f"{steps} | {10.4 * steps:.0f}"
    assert lines[2 + SHIPPED] == f"| {names[SHIPPED]} | {trained} | 0.3000 | 0.3000 | 1: 0.600 | 1: 0.600 |"
    assert "| easy | 36.2 dB | 40.5 dB |" in model_page.reconstruction_table(list(model_page.read_records()))


def test_a_record_of_an_earlier_training_is_left_out(records) -> None:
    (records / "evaluation.json").write_text(json.dumps({**EVALUATION, "matching": {"query_key": {}}}))
    assert [record.seed for record in model_page.read_records()] == [s for s in SEEDS if s != SHIPPED]
    shutil.rmtree(records / "seeds")
    assert "No seed" in model_page.seed_table(list(model_page.read_records()))


def test_trackers_are_measured_at_every_place(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(model_page, "PLACES", model_page.PLACES[:2])
    for name in ("tiny.md", "trackers.md"):
        shutil.copyfile(DOCS / name, tmp_path / name)
    assert model_page.main(["--trackers", "--limit", "1", "--docs", str(tmp_path)]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("| `easy`", "| `hard`"))]
    assert [row.split("|")[2].strip() for row in rows] == ["`dis`", "`lk`"] * 2
    assert all(row in (tmp_path / "trackers.md").read_text(encoding="utf-8") for row in rows)
