"""Finds the trained networks of the embedded model: in this package, or in the folder `VCORR_TINY_NETWORKS`.

Such a folder holds all that changes when networks are trained anew::

    pipe/                                  the whole pipeline of the seed that runs by default
    seeds/1/{transformer,text_encoder}/    what each other seed has for itself
    networks.json                          which seed runs by default, and which layers are guided
    card.yaml                              the model card of `tiny`, with the layer that tracks

The package holds the same files; its card is in `cards`, and the other seeds are in a checkout. Processes inherit the
variable, so all parts of a measurement use the same networks. Imports neither torch nor diffusers.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vcorr import MissingError, UsageError

VARIABLE = "VCORR_TINY_NETWORKS"
SEEDS = (0, 1, 2)
"""The training seeds."""
PIPE, OTHER_SEEDS, FACTS, CARD = "pipe", "seeds", "networks.json", "card.yaml"
VERSION = 1
"""Version of the form of `networks.json`."""
_PACKAGE = Path(__file__).parent
PACKAGED_CARD = _PACKAGE / "cards" / "tiny.yaml"
_LEAVE_OUT = f"Leave {VARIABLE} unset for the networks of the package."


@dataclass(frozen=True)
class Facts:
    """What `networks.json` says.

    shipped: the seed whose pipeline is in `pipe`. guided_layers: one to three layers of its transformer, ascending, in
    which the study of quality and cost guides (`vcorr_tiny.guided_costs`).
    """

    shipped: int
    guided_layers: tuple[int, ...]

    def write(self, folder: Path) -> None:
        """Writes `networks.json` into a folder."""
        text = json.dumps({"version": VERSION, **asdict(self)})
        (folder / FACTS).write_text(f"{text}\n", encoding="utf-8")


@dataclass(frozen=True)
class Networks:
    """Where trained networks are. pipeline: a pipeline folder. seeds: the folder of the other seeds, a folder each."""

    pipeline: Path
    seeds: Path
    facts: Facts

    def find_own(self, seed: int) -> Path:
        """Returns where the components are that a seed has for itself."""
        return self.pipeline if seed == self.facts.shipped else self.seeds / str(seed)


PACKAGED = (_PACKAGE / PIPE, _PACKAGE.parent / "training" / OTHER_SEEDS)
"""The pipeline folder of this package, and the other seeds in a checkout of the repository."""


def find_networks() -> Networks:
    """Returns the networks that run: of the folder in `VCORR_TINY_NETWORKS`, or of this package.

    Raises:
        MissingError: the folder does not exist, or lacks a file.
        UsageError: its `networks.json` does not have the form of `Facts`.
    """
    folder = _find_named()
    if folder is None:
        return Networks(*PACKAGED, read_facts(_PACKAGE))
    for part in (FACTS, CARD, f"{PIPE}/model_index.json"):
        if not (folder / part).is_file():
            raise MissingError(f"{VARIABLE}={folder}: this folder holds no {part}.", hint=_LEAVE_OUT)
    return Networks(folder / PIPE, folder / OTHER_SEEDS, read_facts(folder))


def read_facts(folder: Path) -> Facts:
    """Reads `networks.json`.

    Raises:
        UsageError: it does not have the form of `Facts`.
    """
    path = folder / FACTS
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}.", hint=_LEAVE_OUT) from error
    problem = _find_problem(found)
    if problem:
        raise UsageError(f"{path}: {problem}.", hint=f"Make it again, or: {_LEAVE_OUT}")
    return Facts(found["shipped"], tuple(found["guided_layers"]))


def _find_problem(found: Any) -> str:
    """Returns what is wrong with the content of `networks.json`; empty if nothing is."""
    if not isinstance(found, dict) or found.get("version") != VERSION:
        return f"it is not of version {VERSION}"
    if found.get("shipped") not in SEEDS:
        return f"shipped is {found.get('shipped')!r}, not one of the seeds {', '.join(map(str, SEEDS))}"
    layers = found.get("guided_layers")
    return "" if _are_layers(layers) else f"guided_layers is {layers!r}, not one to three ascending numbers of layers"


def _are_layers(layers: Any) -> bool:
    if not isinstance(layers, list) or not all(type(layer) is int and layer >= 0 for layer in layers):
        return False
    return 1 <= len(layers) <= 3 and layers == sorted(set(layers))


def card_reference() -> str:
    """Returns the model card of `tiny`, as an entry names it."""
    folder = _find_named()
    return f"vcorr_tiny:{PACKAGED_CARD.relative_to(_PACKAGE) if folder is None else folder / CARD}"


def configs_reference() -> str:
    """Returns the folder with the configurations of the networks, as `vcorr.diffusion.packaged_configs` names it."""
    folder = _find_named()
    return f"vcorr_tiny:{PIPE if folder is None else folder / PIPE}"


def _find_named() -> Path | None:
    named = os.environ.get(VARIABLE)
    return Path(named).expanduser().absolute() if named else None
