"""Makes a page of every model card in the repository, and the table that lists them; used by generate.py."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcorr.contract.cards import parse_card
from vcorr.contract.records import ModelCard
from vcorr.plugins.registry import installed
from vcorr.plugins.suggestions import suggest_commands

if TYPE_CHECKING:
    from vcorr.plugins.option_facts import OptionFacts

ROOT = Path(__file__).resolve().parents[1]
FOLDER = "models"

SIZES = {
    "attention": "attention",
    "parameters": "parameters of the denoiser",
    "layers": "attention layers",
    "heads": "heads",
    "head_dim": "width of a head",
    "resolution": "height, width",
    "frames": "frames",
    "fps": "frames per second",
    "text_tokens": "text tokens",
    "text_encoder": "text encoder",
    "vae": "autoencoder",
    "patch": "latents a token covers",
    "token_sizes": "pixels a token covers",
    "time_map": "frames a latent covers",
    "position": "position",
    "scheduler": "scheduler",
    "guidance": "guidance",
    "image": "first frame",
}
"""Fields of the first table, in this order."""

WEIGHTS = {
    "hub_id": "repository",
    "revision": "revision",
    "revision_seen": "revision seen at the hub",
    "hub_aliases": "also as",
    "motion_adapter": "motion modules",
    "download_gb": "download (GB)",
    "released_dtype": "released as",
    "weights": "weights",
    "weights_seen": "weights at hand when this page was written",
    "random_weights": "`--weights random`",
    "licence": "licence",
    "licence_link": "its text",
    "training_data": "training data",
    "homepage": "more",
}
"""Fields of the table about weights."""

APART = (
    "name",
    "title",
    "summary",
    "settings",
    "matching_layers",
    "tracking",
    "reported",
    "citation",
    "notes",
    "limits",
    "kind",
    "method",
)
"""Fields that are outside the two tables."""


def read_cards() -> dict[Path, ModelCard]:
    """Returns the cards in model_cards/ by their paths."""
    paths = sorted((ROOT / "model_cards").glob("*.yaml"))
    return {path: parse_card(path.read_text(encoding="utf-8"), path.name) for path in paths}


def model_pages() -> dict[str, str]:
    """Returns every page by its name in docs/models/."""
    return {f"{card.name}.md": _page(card, _plugin(path)) for path, card in read_cards().items()}


def models_table() -> str:
    """Returns the table of all models, baselines last."""
    cards = sorted(read_cards().items(), key=lambda item: (item[1].extra.get("kind") == "baseline", item[1].name))
    rows = [
        (
            f"[`{card.name}`]({FOLDER}/{card.name}.md)",
            card.title,
            card.attention,
            str(card.extra.get("layers", "–")),
            _count(card.parameters),
            _plugin(path),
        )
        for path, card in cards
    ]
    return _table(("name", "model", "attention", "layers", "parameters", "comes with"), rows)


def _page(card: ModelCard, plugin: str) -> str:
    facts = _facts(card)
    known = {*SIZES, *WEIGHTS, *APART}
    others = {name: name.replace("_", " ") for name in facts if name not in known}
    parts = [
        f"# {card.title}\n\n{card.summary}",
        f"`{card.name}` comes with {plugin}.\n\n```sh\n{_commands(card)}\n```",
        _section("", _fact_table(facts, {**SIZES, **others})),
        _section("Settings of the authors", _settings(card)),
        _section("Weights", _fact_table(facts, WEIGHTS)),
        _section("Method", facts.get("method")),
        _section("Layers that match, as reported", _matching(card)),
        _section("Tracking", _tracking(card)),
        _section("Numbers reported elsewhere", _reports(card)),
        _section("Notes", facts.get("notes")),
        _section("Limits", facts.get("limits")),
        _section("Citation", facts.get("citation")),
        _section("Options", _options(card)),
        "`vcorr show model " + card.name + "` prints all this. [All models](../models.md).",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _facts(card: ModelCard) -> dict[str, Any]:
    values = {name: value for name, value in vars(card).items() if name != "extra"}
    return {name: value for name, value in {**values, **card.extra}.items() if value not in (None, "")}


def _commands(card: ModelCard) -> str:
    found = suggest_commands(installed().models.get(card.name).entry)
    return "\n".join(f"# {purpose}\n{command}" for purpose, command in found.items())


def _fact_table(facts: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    rows = [(label, _said(facts[name], name)) for name, label in labels.items() if name in facts]
    return _table(("fact", "value"), rows) if rows else ""


def _said(value: Any, name: str) -> str:
    if name == "hub_id":
        return f"[{value}](https://huggingface.co/{value})"
    if name == "parameters":
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_said(inner, '')}" for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_said(inner, "") for inner in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


SETTINGS = (
    "They are the defaults, since a loaded pipeline does not bring them along. `--set model.OPTION=VALUE` replaces one "
    "of them, and `--set num_steps=N` the number of steps. Negative prompt, template and `guidance_scale` count in "
    "generate mode only."
)


def _settings(card: ModelCard) -> str:
    rows = [
        (f"`{one['option']}`", f"`{one['value']}`", str(one.get("folder", "–")), one["source"])
        for one in card.extra.get("settings", ())
    ]
    return f"{SETTINGS}\n\n{_table(('option', 'value', 'scheduler in the folder', 'source'), rows)}" if rows else ""


def _options(card: ModelCard) -> str:
    from vcorr.plugins.option_facts import describe_options
    from vcorr.plugins.registry import installed

    table = options_table(describe_options(installed().models.get(card.name).entry.config_type()))
    return f"Set them with `--set model.NAME=VALUE`.\n\n{table}" if table else ""


def options_table(options: Sequence[OptionFacts]) -> str:
    """Returns a table of options with their explanations; "" for none."""
    rows = []
    for each in options:
        unit = f", in {each.unit}" if each.unit else ""
        rows.append((f"`{each.name}`", f"`{json.dumps(each.default)}`", each.allowed + unit, each.explanation))
    return _table(("option", "default", "values", "meaning"), rows) if rows else ""


def _tracking(card: ModelCard) -> str:
    site = card.extra.get("tracking")
    if not site:
        return ""
    layers, step = ", ".join(map(str, site["layers"])), f", step {site['step']}" if "step" in site else ""
    return f"`vcorr track` reads the probe `{site['probe']}` at layer {layers}{step} by default: {site['source']}."


def _matching(card: ModelCard) -> str:
    found = card.extra.get("matching_layers", ())
    return "\n".join(f"- {', '.join(map(str, one['layers']))}: {one['source']}" for one in found)


def _reports(card: ModelCard) -> str:
    rows = [(r["benchmark"], r["metric"], f"{r['value']:g}", r["source"]) for r in card.extra.get("reported", ())]
    return _table(("benchmark", "metric", "in percent, as published", "source"), rows) if rows else ""


def _section(title: str, text: str | None) -> str:
    if not text:
        return ""
    return f"## {title}\n\n{text.strip()}" if title else text.strip()


def _plugin(path: Path) -> str:
    """Returns the distribution of a card: the folder that its link leads into."""
    parts = path.resolve().relative_to(ROOT).parts
    return f"`{parts[1]}`" if parts[0] == "plugins" else "`vcorr`"


def _count(parameters: int | None) -> str:
    if parameters is None:
        return "–"
    if parameters >= 1e9:
        return f"{parameters / 1e9:.1f} B"
    return f"{parameters / 1e6:.{0 if parameters >= 1e7 else 1}f} M"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    cells = [tuple(cell.replace("|", "\\|").replace("\n", " ").strip() for cell in row) for row in rows]
    lines = [head, ("---",) * len(head), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines).replace("|  |", "| |") + "\n"
