"""In which settings runs of one model differ."""

from __future__ import annotations

from typing import Any

from vcorr.analysis.run_settings import name_differences


def record(model: str = "m", **changes: Any) -> dict[str, Any]:
    resolved = {
        "model": {"config": {"size": "small"}},
        "data": {"config": {"level": changes.get("level", "easy"), "size": 64}},
        "probes": [{"name": "qk", "config": {"heads": changes.get("heads", "mean")}}],
        "sites": [[layer, f"block.{layer}"] for layer in changes.get("layers", (0, 1, 2))],
        "settings": {"steps": changes.get("steps", [0, 5]), "num_steps": 10, "seed": changes.get("seed", 42)},
    }
    return {
        "row_context": {"model": model, "weights": changes.get("weights", "hub:1")},
        "spec": {"limit": changes.get("limit"), "options": {}},
        "resolved": resolved,
    }


def test_each_setting_that_differs_is_named_and_no_other() -> None:
    for name, value, other, usual, text in (
        ("level", "hard", "data.level", "easy", "hard"),
        ("heads", "each", "probe.heads", "mean", "each"),
        ("layers", (0, 2, 3), "layers", "0-2", "0,2-3"),
        ("steps", [7], "steps", "0,5", "7"),
        ("seed", 1, "seed", "42", "1"),
        ("weights", "random:0", "weights", "hub:1", "random:0"),
    ):
        assert name_differences([record(), record(**{name: value})]) == [{other: usual}, {other: text}]


def test_what_was_not_given_is_not_shown() -> None:
    assert name_differences([record(), record(limit=4)]) == [{}, {"limit": "4"}]


def test_models_are_apart_and_a_run_without_a_record_differs_in_nothing() -> None:
    assert name_differences([record("a", level="hard"), record("b"), {}, {"resolved": [], "spec": 3}]) == [
        {},
        {},
        {},
        {},
    ]
