"""Reads the best layers of a stored run, for a guidance that acts in them (`--layers auto --from RUN`)."""

from __future__ import annotations

import math
from typing import NamedTuple

from vcorr.contract.cards import read_card_layers
from vcorr.contract.errors import UsageError
from vcorr.contract.metric_columns import lower_is_better, ranking_columns
from vcorr.contract.records import ModelCard, Site
from vcorr.runner.guided import SITES_OPTION, with_layers
from vcorr.runner.spec import NO_GUIDANCE, RunSpec
from vcorr.stats.series import Series, gather, series
from vcorr.store.remote.addresses import folder_of
from vcorr.store.run_search import open_run

AUTO, CARD = "auto", "card"
"""Words for the best layers of a run, and for the layers that the model's card names."""
USUAL_COUNT = 3
"""Number of layers that are chosen where the card names none, as many as the paper guides in."""


class GuidedSpec(NamedTuple):
    """A spec whose guidance names its layers. notes: sentences on where they come from."""

    spec: RunSpec
    notes: tuple[str, ...] = ()


def fill_layers(spec: RunSpec, sites: tuple[Site, ...], card: ModelCard | None) -> GuidedSpec:
    """Returns a spec of generation with the layers of its guidance written out, where they come from a run or the card.

    The word `auto` stands for the best layers of the run `from_run`, `card` for the layers on the card of the model.

    Raises:
        UsageError: a run is named and nothing takes its layers, or the other way round. Or the card names no layers, or
            the run ranks none.
        StoreError: there is no such run, or it is damaged.
    """
    word = str(spec.options.get("guidance", {}).get(SITES_OPTION, "")).strip()
    if spec.from_run is None:
        if word == AUTO:
            raise UsageError("--layers auto takes the best layers of a run.", hint="Name it: --from runs/RUN")
        return _from_card(spec, card) if word == CARD else GuidedSpec(spec)
    if spec.guidance == NO_GUIDANCE or word not in ("", AUTO):
        said = "no guidance is used" if spec.guidance == NO_GUIDANCE else f"the layers are given, {word}"
        raise UsageError(f"--from chooses the layers of a guidance, and {said}.", hint="Leave --from out.")
    count = len(read_card_layers(card)) or min(USUAL_COUNT, len(sites))
    layers, run = read_best_layers(spec, count)
    listing = ",".join(map(str, layers))
    return GuidedSpec(with_layers(spec, layers), (f"From run {run}, its {len(layers)} best layers: {listing}.",))


def _from_card(spec: RunSpec, card: ModelCard | None) -> GuidedSpec:
    layers = read_card_layers(card)
    if not layers:
        raise UsageError(
            f"The card of model {spec.model!r} names no layers.",
            hint="Write --layers L[,L], or let a run choose them: --layers auto --from runs/RUN",
        )
    return GuidedSpec(with_layers(spec, layers))


def read_best_layers(spec: RunSpec, count: int) -> tuple[tuple[int, ...], str]:
    """Returns the layers with the largest skill in the run `spec.from_run`, ascending, and the id of the run.

    A layer counts with its best step, over all clips, by the column and the probe that `vcorr show run` ranks first.
    Mean over heads where the run has it.

    Raises:
        UsageError: the run is of another model, or ranks no site.
        StoreError: there is no such run, or it is damaged.
    """
    run = open_run(folder_of(str(spec.from_run)))
    record = run.record()
    model = (record.get("row_context") or {}).get("model", "")
    if model != spec.model:
        raise UsageError(
            f"Run {run.run_id} is of model {model!r}, and this run generates with {spec.model!r}.",
            hint="Name a run of the same model: vcorr list runs",
        )
    columns, lower = ranking_columns(record), lower_is_better(record)
    scores = gather(run.iter_shards("scores"), lambda name: name in columns[:1])
    best = _rank_layers([part for one in series(scores, lower=lower) for part in _by_heads(one)])
    if not best:
        raise UsageError(
            f"Run {run.run_id} ranks no layer.", hint=f"Make one: vcorr run --model {spec.model} --probe qk"
        )
    return tuple(sorted(sorted(best, key=lambda layer: (-best[layer], layer))[:count])), run.run_id


def _by_heads(one: Series) -> list[Series]:
    kinds = one.by_heads()
    return [kinds["mean"]] if "mean" in kinds else list(kinds.values())


def _rank_layers(parts: list[Series]) -> dict[int, float]:
    """Returns the largest skill of each layer in the first series that has skills at layers."""
    for part in parts:
        best: dict[int, float] = {}
        for site, skill in zip(part.sites, part.skill.tolist(), strict=True):
            if site["layer"] >= 0 and not math.isnan(skill):
                best[site["layer"]] = max(skill, best.get(site["layer"], -math.inf))
        if best:
            return best
    return {}
