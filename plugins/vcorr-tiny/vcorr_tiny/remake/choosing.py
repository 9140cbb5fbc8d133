"""Chooses the seed to ship, and puts networks, facts and card together as `VCORR_TINY_NETWORKS` expects them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from vcorr import UsageError
from vcorr.diffusion import check_pipeline_folder
from vcorr.store.atomic_files import replace_folder
from vcorr_tiny.network_folder import CARD, OTHER_SEEDS, PACKAGED_CARD, PIPE, Facts
from vcorr_tiny.remake.recipe import DECODER, NETWORKS, name_seed
from vcorr_tiny.seeds import OWN_PARTS
from vcorr_tiny.training.choice import choose, comparison, rank_layers, read_candidate

SOURCE = "best layer of qk on validation clips; see docs/tiny.md"
_GUIDED = 3


def assemble_networks(out: Path, seeds: tuple[int, ...]) -> str:
    """Writes the folder of networks of a remake, in place of an earlier one; returns the comparison of the seeds.

    Raises:
        MissingError: a training is not finished.
        UsageError: the decoder belongs to another autoencoder.
        StoreError: the folder cannot be written.
    """
    candidates = {seed: read_candidate(out / name_seed(seed)) for seed in seeds}
    chosen = choose(list(candidates.values()))
    shipped = next(seed for seed, candidate in candidates.items() if candidate is chosen)
    ranked = rank_layers(read_matching(out / name_seed(shipped)))
    with replace_folder(out / NETWORKS) as folder:
        _copy_pipeline(out, shipped, folder / PIPE)
        for seed in set(seeds) - {shipped}:
            for part in OWN_PARTS:
                shutil.copytree(out / name_seed(seed) / "pipe" / part, folder / OTHER_SEEDS / str(seed) / part)
        Facts(shipped, tuple(sorted(ranked[:_GUIDED]))).write(folder)
        (folder / CARD).write_text(change_card(PACKAGED_CARD.read_text(encoding="utf-8"), ranked[0]), encoding="utf-8")
    return comparison(list(candidates.values()))


def read_matching(folder: Path) -> Mapping[str, Mapping[str, Mapping[str, list[float]]]]:
    """Returns what the evaluation of a training says of matching, by kind of clips."""
    found = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))["matching"]
    return {kind: {"query_key": each["query_key"]} for kind, each in found.items()}


def change_card(text: str, layer: int) -> str:
    """Returns the text of a card whose tracking reads another layer."""
    text = re.sub(r"(?m)^(tracking:\n(?:  .*\n)*?  layers: )\[.*\]$", rf"\g<1>[{layer}]", text)
    return re.sub(r"(?m)^(tracking:\n(?:  .*\n)*?  source: ).*$", rf"\g<1>{SOURCE}", text)


def _copy_pipeline(out: Path, seed: int, target: Path) -> None:
    """Copies the pipeline of a seed, with the decoder that was trained on if there is one."""
    shutil.copytree(out / name_seed(seed) / "pipe", target)
    tuned = out / DECODER / "pipe" / "vae"
    if tuned.is_dir():
        if (target / "vae").is_dir():
            _check_encoders(tuned, target / "vae")
            shutil.rmtree(target / "vae")
        shutil.copytree(tuned, target / "vae")
    check_pipeline_folder(target, "CogVideoXPipeline")


def _check_encoders(tuned: Path, own: Path) -> None:
    """Raises UsageError if two autoencoders do not make the same latents."""
    import torch
    from safetensors.torch import load_file

    first, second = (
        {name: value for path in sorted(folder.glob("*.safetensors")) for name, value in load_file(path).items()}
        for folder in (tuned, own)
    )
    encoders = [name for name in second if name.startswith("encoder.")]
    if not all(name in first and torch.equal(first[name], second[name]) for name in encoders):
        raise UsageError(f"The decoder in {tuned} belongs to another autoencoder.", hint="Delete its folder.")
