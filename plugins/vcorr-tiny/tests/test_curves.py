"""Tests that the pictures of training logs show what the logs hold."""

import json

import pytest
from vcorr_tiny.training.curves import chart, read_log


def log_at(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return read_log(path)


def values_of(panel):
    return panel["data"]["values"]


@pytest.mark.parametrize("named", [True, False])
def test_curves_show_autoencoder_losses_per_seed_and_layers(tmp_path, named):
    table = {"query_key": {"100": [0.1, 0.7], "450": [0.0, 0.0]}}
    matching = {"easy": {"query_key": {"100": [9, 9]}}, "hard": table} if named else table
    losses = [{"kind": "dit", "step": step, "loss": 1 / step} for step in (50, 100)]
    logs = {
        "vae": log_at(tmp_path / "vae.jsonl", {"kind": "vae", "step": 50, "psnr": 30.5}),
        "seed-0": log_at(tmp_path / "a.jsonl", *losses, {"kind": "matching", "step": 50} | matching),
        "seed-1": log_at(tmp_path / "b.jsonl", *losses[:1]),
    }
    psnr, loss, layers = chart(logs).to_dict()["hconcat"]
    assert values_of(psnr) == [{"log": "vae", "step": 50, "value": 30.5}]
    assert [(point["log"], point["value"]) for point in values_of(loss)] == [
        ("seed-0", 0.02),
        ("seed-0", 0.01),
        ("seed-1", 0.02),
    ]
    assert [(point["layer"], point["skill"]) for point in values_of(layers)] == [("0", 0.1), ("1", 0.7)]
    assert ("hard clips" in layers["title"]) == named
