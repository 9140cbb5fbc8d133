"""Puts the networks of a remake into the checkout: pipeline, other seeds, facts, card, and the records of training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from vcorr import MissingError
from vcorr.store.atomic_files import replace_folder, write_text
from vcorr_tiny.network_folder import CARD, FACTS, OTHER_SEEDS, PIPE, SEEDS, Facts, read_facts
from vcorr_tiny.remake.recipe import COPIES, DECODER, NETWORKS, name_seed
from vcorr_tiny.seeds import OWN_PARTS

PLUGIN = Path(__file__).parents[2]
"""The folder of this plugin in a checkout."""
EVALUATION, CURVES = "evaluation.json", "curves.jsonl"


def adopt(out: Path, plugin: Path) -> str:
    """Copies the networks of a remake into a checkout; returns what remains to be done.

    Each folder and file is replaced as a whole. An interrupted call can be repeated.

    Raises:
        MissingError: the remake has chosen no networks, or the plugin's folder is no checkout.
        StoreError: a file cannot be written.
    """
    networks, package, training = out / NETWORKS, plugin / "vcorr_tiny", plugin / "training"
    if not (networks / FACTS).is_file():
        raise MissingError(f"{out} holds no chosen networks.", hint="Finish it first: python -m vcorr_tiny.remake run")
    if not training.is_dir():
        raise MissingError(f"{plugin} is no checkout: it holds no folder `training`.", hint="Name it with --plugin.")
    facts = read_facts(networks)
    _replace(networks / PIPE, package / PIPE)
    _adopt_seeds(out, facts, training)
    _write_records(out, facts.shipped, training)
    write_text(package / "cards" / "tiny.yaml", (networks / CARD).read_text(encoding="utf-8"))
    write_text(package / FACTS, (networks / FACTS).read_text(encoding="utf-8"))
    return (
        f"Seed {facts.shipped} is in {package / PIPE}, the others are in {training / OTHER_SEEDS}.\n"
        f"Now make the pages: make tables COPIES={out / COPIES}\n"
        "Then correct what docs/tiny.md says of the recipe, and add a line to CHANGELOG.md.\n"
    )


def _adopt_seeds(out: Path, facts: Facts, training: Path) -> None:
    """Replaces the folders of the other seeds, with their records. The shipped seed has none."""
    for seed in SEEDS:
        target, source = training / OTHER_SEEDS / str(seed), out / NETWORKS / OTHER_SEEDS / str(seed)
        if seed == facts.shipped:
            shutil.rmtree(target, ignore_errors=True)
            continue
        with replace_folder(target) as folder:
            for part in OWN_PARTS:
                shutil.copytree(source / part, folder / part)
            _write_records(out, seed, folder)


def _write_records(out: Path, seed: int, target: Path) -> None:
    """Writes the evaluation of a seed, and the log of its training."""
    trained = out / name_seed(seed)
    evaluation = json.loads((trained / EVALUATION).read_text(encoding="utf-8"))
    evaluation["reconstruction"] = _read_quality(out) or evaluation["reconstruction"]
    write_text(target / EVALUATION, json.dumps(evaluation, indent=1) + "\n")
    write_text(target / CURVES, (trained / "log.jsonl").read_text(encoding="utf-8"))


def _read_quality(out: Path) -> dict[str, Any]:
    """Returns the reconstruction by the decoder that was trained on, or nothing if none was."""
    log = out / DECODER / "log.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    measured = [json.loads(line) for line in lines if '"kind": "vae-quality"' in line]
    return {name: measured[-1][name] for name in ("kinds", "latent_std", "latent_mean")} if measured else {}


def _replace(source: Path, target: Path) -> None:
    with replace_folder(target) as folder:
        shutil.copytree(source, folder, dirs_exist_ok=True)
