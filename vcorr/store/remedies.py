"""Says which command puts a run right."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from vcorr.contract.visible_text import join_words

REPEAT = "Repeat the command that made it: it writes run.json again, and computes only what is missing or damaged."


def scoring_command(run: str, facts: Mapping[str, Any]) -> str:
    """Returns the command that scores a run with the metrics and variants in these facts, as run.json has them."""
    metrics = ",".join(str(metric["name"]) for metric in facts.get("metrics") or [])
    variants = ",".join(map(str, facts.get("variants") or []))
    words = ["vcorr", "score", run]
    for key, value in {"metrics": metrics, **_options(facts), "variant": variants}.items():
        words += ["--set", f"{key}={value}"] if value else []
    return join_words(words)


def _options(facts: Mapping[str, Any]) -> dict[str, str]:
    """Returns the options of all metrics, as `--set` takes them. An option reaches every metric that has it."""
    configs = [metric.get("config") or {} for metric in facts.get("metrics") or []]
    values = {f"metric.{name}": value for config in configs for name, value in config.items() if value is not None}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}


def without_record(run: str, facts: Mapping[str, Any]) -> str:
    """Returns the advice about a run without a usable run.json. facts: what one of its score shards says."""
    if not facts.get("metrics"):
        return REPEAT
    return f"{REPEAT}\nWithout the model, this writes it from the tables: {scoring_command(run, facts)}"
