"""Tests the rule that chooses the seed to ship, through the command line."""

import json

import pytest
from vcorr_tiny.train import main

from vcorr import MissingError


def write_evaluation(folder, losses, skills):
    """Writes an evaluation of two layers and two timesteps; layer 1 has the given skills on both kinds."""
    folder.mkdir()
    kind = {"loss": dict(zip(("20", "980"), losses, strict=True))}
    kind["query_key"] = {t: [0.1, skill] for t, skill in zip(("20", "980"), skills, strict=True)}
    (folder / "evaluation.json").write_text(json.dumps({"matching": {"easy": kind, "hard": kind}}))
    return str(folder)


def test_the_best_match_wins_among_losses_that_are_nearly_equal(tmp_path, capsys):
    low = write_evaluation(tmp_path / "low", [0.2, 0.4], [0.3, 0.5])
    near = write_evaluation(tmp_path / "near", [0.2, 0.404], [0.8, 0.2])
    far = write_evaluation(tmp_path / "far", [0.3, 0.31], [0.9, 0.9])
    main(["compare", low, near, far])
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == f"chosen: {near}"
    assert printed[0].startswith(f"{low}: loss 0.3000, skill 0.400")

    main(["compare", low, far])
    assert capsys.readouterr().out.splitlines()[-1] == f"chosen: {low}"


def test_an_unfinished_folder_is_named(tmp_path):
    with pytest.raises(MissingError, match="holds no evaluation"):
        main(["compare", str(tmp_path)])
