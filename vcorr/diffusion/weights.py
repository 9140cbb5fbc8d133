"""Finds the weights behind `--weights` without loading them, and says what is missing and how to get it.

This module imports neither torch nor diffusers and opens no connection, so that it is fast.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vcorr.contract.cards import hub_ids
from vcorr.contract.errors import MissingError, PluginError, UsageError
from vcorr.contract.records import RANDOM, ModelCard, is_random
from vcorr.contract.text_files import expand_home
from vcorr.store.fingerprint import hash_files
from vcorr.store.json_text import read_json

HUB = "hub"

INDEX = "model_index.json"
CONFIG = "config.json"
"""The index file of a pipeline folder, and the configuration file of a folder with a single network."""
IDENTITY_PATTERNS = ("**/*.safetensors", "**/*.json", "**/*.model", "**/*.txt")
"""The files of a pipeline folder that can change numbers: weights, configurations, vocabularies."""
IDENTITY_LENGTH = 16

_LIBRARIES = ("diffusers", "transformers")
_PIPELINE_MODULES = ("stable_diffusion",)
"""Modules of diffusers' own pipelines that released folders name as the library of a component."""
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_RANDOM = re.compile(r"random(:(?P<seed>[0-9]{1,18}))?")
_LISTED = 4


@dataclass(frozen=True)
class WeightsSource:
    """Where weights come from.

    kind: "hub" (the pinned revision in the local cache), "path" (a pipeline folder), "embedded" (a folder inside a
    plugin) or "random". folder: the pipeline folder, None for random weights. identity: the text in tables and
    fingerprints. seed: of random weights.
    """

    kind: Literal["hub", "path", "embedded", "random"]
    identity: str
    folder: Path | None = None
    seed: int = 0

    @property
    def is_random(self) -> bool:
        """Whether the weights are random; results of such runs are marked and never reach a board."""
        return self.kind == RANDOM


def locate_weights(weights: str, card: ModelCard, pipeline_class: str | tuple[str, ...]) -> WeightsSource:
    """Finds the source that the value of `--weights` names.

    Args:
        weights: "hub", "random", "random:SEED", or the path of a pipeline folder.
        card: of the model. Its `hub_id`, `revision` and `download_gb` say what "hub" means. The list `hub_aliases` in
            its extra fields holds other ids under which the same revision may be in the cache. Without a revision, the
            cache's copy of the main branch is used, and the identity says which revision that is.
        pipeline_class: the class name, or several, one of which a pipeline folder must carry.

    Raises:
        MissingError: the weights are not in reach, or only in part.
        UsageError: the path is a folder of another class, or holds pickles in place of safetensors.
    """
    return _locate(
        weights,
        "a pipeline folder",
        lambda: _hub_source(card, pipeline_class),
        lambda folder: check_pipeline_folder(folder, pipeline_class),
    )


def locate_network(weights: str, card: ModelCard, model_type: str) -> WeightsSource:
    """Finds the source of a single network: a folder with config.json and safetensors, as transformers saves it.

    Args:
        weights: "hub", "random", "random:SEED", or the path of such a folder.
        card: of the model; its `hub_id`, `revision` and `download_gb` say what "hub" means.
        model_type: the value that the folder's config.json must carry.

    Raises:
        MissingError: the weights are not in reach, or only in part.
        UsageError: the path is a folder of another model type, or holds pickles in place of safetensors.
    """
    return _locate(
        weights,
        "a model's folder",
        lambda: _hub_network(card, model_type),
        lambda folder: _check_network_folder(folder, model_type),
    )


def _locate(
    weights: str, what: str, from_hub: Callable[[], WeightsSource], check: Callable[[Path], None]
) -> WeightsSource:
    """Finds the source that `weights` names.

    `what` is the folder's name for messages; `check` raises if a folder is not of the right class.
    """
    if weights == HUB:
        return from_hub()
    if is_random(weights):
        seed = random_seed(weights)
        return WeightsSource("random", f"{RANDOM}:{seed}", seed=seed)
    folder = expand_home(weights)
    if not folder.exists():
        raise MissingError(
            f"--weights {weights!r}: there is no such folder.",
            hint=f'Give the path of {what}, "hub" for the released weights, or "random" for random ones.',
        )
    check(folder)
    return WeightsSource("path", f"path:{folder_identity(folder)}", folder)


def random_seed(weights: str) -> int:
    """Returns the seed of "random" (0) or "random:SEED".

    Raises:
        UsageError: the text after the colon is not a whole number of at least 0.
    """
    match = _RANDOM.fullmatch(weights)
    if match is None:
        raise UsageError(
            f"--weights {weights!r}: the seed must be a whole number of at least 0.",
            hint="For example: --weights random:1",
        )
    return int(match["seed"] or 0)


def folder_identity(folder: Path) -> str:
    """Returns a prefix of the SHA-256 over names and contents of a folder's weights, configurations, vocabularies."""
    digest = hashlib.sha256()
    for pattern in IDENTITY_PATTERNS:
        digest.update(hash_files(folder, pattern).encode())
    return digest.hexdigest()[:IDENTITY_LENGTH]


def check_pipeline_folder(folder: Path, pipeline_class: str | tuple[str, ...]) -> None:
    """Checks that `folder` holds a complete pipeline of such a class, in safetensors, with no code of its own.

    Raises:
        UsageError: the folder holds something else, or its weights are pickles.
        MissingError: files are missing in it.
    """
    index = _read_index(folder)
    found = index.get("_class_name")
    accepted = (pipeline_class,) if isinstance(pipeline_class, str) else pipeline_class
    if found not in accepted:
        raise UsageError(
            f"{folder} holds a {found}; this model needs a {' or '.join(accepted)}.",
            hint="Check --weights and --model.",
        )
    missing: list[str] = []
    for name, (library, class_name) in _components(index):
        if library not in (*_LIBRARIES, *_PIPELINE_MODULES):
            raise UsageError(
                f"{folder / INDEX}: component {name!r} is {library}.{class_name}.",
                hint=f"Only classes of {' and '.join(_LIBRARIES)} are loaded, no code from elsewhere.",
            )
        missing += _missing_files(folder, name)
    if missing:
        raise MissingError(
            f"The pipeline in {folder} is incomplete: {_listing(missing)} missing.", hint="Copy or download it again."
        )


def locate_component(title: str, hub_id: str, revision: str | None) -> Path:
    """Finds the folder of a single network, configuration and safetensors, in the local Hugging Face cache.

    Args:
        title: its name for messages.
        hub_id: of the repository.
        revision: None for the cache's copy of the main branch.

    Raises:
        MissingError: it is not in the cache.
        UsageError: its weights are pickles.
    """
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(hub_id, "config.json", revision=revision)
    folder = Path(found).parent if isinstance(found, str) else None
    if folder is None or _missing_files(folder, "."):
        option = f" --revision {revision}" if revision else ""
        raise MissingError(
            f"The weights of {title} are not in the local Hugging Face cache: {hub_id}.",
            hint=f"Get them: hf download {hub_id}{option}{_other_revisions_hint([hub_id], CONFIG, revision)}",
        )
    return folder


def _hub_network(card: ModelCard, model_type: str) -> WeightsSource:
    if not card.hub_id:
        raise PluginError(f"The model card of {card.name!r} names no hub_id: no weights to look for.")
    folder = _find_snapshot(card, CONFIG)
    if folder is None:
        raise _missing_from_cache(card, "are not in the local Hugging Face cache", CONFIG)
    try:
        _check_network_folder(folder, model_type)
    except MissingError as error:
        raise _missing_from_cache(card, "are only partly in the local Hugging Face cache", CONFIG) from error
    return WeightsSource("hub", f"hub:{card.hub_id}@{card.revision or folder.name}", folder)


def _check_network_folder(folder: Path, model_type: str) -> None:
    found = _read_index(folder, CONFIG).get("model_type")
    if found != model_type:
        raise UsageError(
            f"{folder} holds a network of the type {found!r}; this model needs {model_type!r}.",
            hint="Check --weights and --model.",
        )
    missing = _missing_files(folder, ".")
    if missing:
        raise MissingError(
            f"The network in {folder} is incomplete: {_listing(missing)} missing.", hint="Copy or download it again."
        )


def _hub_source(card: ModelCard, pipeline_class: str | tuple[str, ...]) -> WeightsSource:
    if not card.hub_id:
        raise PluginError(f"The model card of {card.name!r} names no hub_id: no weights to look for.")
    folder = _find_snapshot(card)
    if folder is None:
        raise _missing_from_cache(card, "are not in the local Hugging Face cache")
    try:
        check_pipeline_folder(folder, pipeline_class)
    except MissingError as error:
        raise _missing_from_cache(card, "are only partly in the local Hugging Face cache") from error
    return WeightsSource("hub", f"hub:{card.hub_id}@{card.revision or folder.name}", folder)


def _find_snapshot(card: ModelCard, file: str = INDEX) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    for hub_id in hub_ids(card):
        found = try_to_load_from_cache(hub_id, file, revision=card.revision)
        if isinstance(found, str):
            return Path(found).parent
    return None


def other_revisions(repositories: Sequence[str], file: str, revision: str | None) -> tuple[Path, ...]:
    """Returns the folders of other revisions of these repositories in the cache, newest first, that hold the file.

    The repositories' files may be there only in part. Nothing is opened.
    """
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    roots = (
        Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=hub_id, repo_type="model"), "snapshots")
        for hub_id in repositories
    )
    found = [path for root in roots if root.is_dir() for path in root.iterdir() if (path / file).exists()]
    return tuple(sorted((path for path in found if path.name != revision), key=lambda path: -path.stat().st_mtime))


def _other_revisions_hint(repositories: Sequence[str], file: str, revision: str | None, option: str = "") -> str:
    """Returns a line for each other revision in the cache; "" if there are none. option: the one that uses its path."""
    lines = ""
    for path in other_revisions(repositories, file, revision)[:_LISTED]:
        use = f": {option} {shlex.quote(str(path))}" if option else ""
        lines += f"\nIn the cache is another revision, {path.name}{use}"
    return lines


def _missing_from_cache(card: ModelCard, what: str, file: str = INDEX) -> MissingError:
    others = _other_revisions_hint(hub_ids(card), file, card.revision, "--weights")
    size = f", about {card.download_gb:g} GB" if card.download_gb else ""
    revision = f"revision {card.revision}" if card.revision else "any revision"
    option = f" --revision {card.revision}" if card.revision else ""
    return MissingError(
        f"The weights of {card.title} {what}: {card.hub_id}, {revision}{size}.",
        hint=(
            f"Get them:            hf download {card.hub_id}{option}\n"
            "Do without them:     --weights random  (seeded random weights, to try things out)\n"
            f"Have them elsewhere: --weights PATH    (the folder that holds {file})"
            f"{others}"
        ),
    )


def _read_index(folder: Path, file: str = INDEX) -> dict[str, Any]:
    path, kind = folder / file, "pipeline" if file == INDEX else "network's"
    try:
        index = read_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{folder} is not a {kind} folder: it has no readable {file}.",
            hint="--weights takes a folder as `save_pretrained` or `hf download --local-dir` writes it.",
        ) from error
    except ValueError as error:
        raise UsageError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(index, dict):
        raise UsageError(f"{path} must be a JSON object.")
    return index


def _components(index: dict[str, Any]) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yields the components of a pipeline index, without the ones that are switched off (null)."""
    for name, value in index.items():
        if isinstance(value, list) and len(value) == 2 and value[0] is not None:
            yield name, (str(value[0]), str(value[1]))


def _missing_files(folder: Path, name: str) -> list[str]:
    """Returns the missing files of one component, relative to the pipeline's folder."""
    component = folder / name
    if not any(component.glob("*config.json")):
        return [f"{name}/"]
    if not (component / "config.json").exists():
        return []  # tokenizers and schedulers have configuration files of other names, and no weights
    missing = [file for index in component.glob("*.safetensors.index.json") for file in _missing_shards(index)]
    if not missing and not any(file.exists() for file in component.glob("*.safetensors")):
        _refuse_pickles(component)
        return [f"{name}/*.safetensors"]
    return [f"{name}/{file}" for file in missing]


def _missing_shards(index: Path) -> list[str]:
    """Returns the shards that an index names but its folder does not have; a dangling link counts as missing."""
    try:
        shards = set(read_json(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise UsageError(f"{index} cannot be read as the index of a sharded checkpoint: {error}.") from error
    return sorted(shard for shard in shards if not (index.parent / shard).exists())


def _refuse_pickles(component: Path) -> None:
    pickles = sorted(file.name for file in component.iterdir() if file.suffix in _PICKLES)
    if pickles:
        raise UsageError(
            f"{component} holds its weights as pickles ({_listing(pickles)}), which can run code when they are read.",
            hint="Only safetensors are loaded. Convert them where you trust them: "
            "load them there and call save_pretrained(FOLDER).",
        )


def _listing(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
