"""Saves checkpoints as small safetensors files, which are easy to copy and need no unpickling."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

PART_BYTES = 14_000_000
"""Largest size of the tensors in one part, in bytes; with its header a part stays under 15 MB."""

Facts = dict[str, float]
"""Numbers that are stored with the tensors: steps done, seconds spent, scaling factor."""


def save_parts(folder: Path, tensors: Mapping[str, Tensor], facts: Facts, part_bytes: int = PART_BYTES) -> list[Path]:
    """Writes ``tensors`` and ``facts`` to ``folder`` as part-00.safetensors and so on; returns the paths.

    It replaces the parts of an earlier checkpoint. It first writes the new parts under other names, as drafts. A
    process that is killed leaves a whole checkpoint at every instant: see `find_parts`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _rename_to_parts(folder, find_parts(folder))
    groups = list(_groups(tensors, part_bytes))
    drafts = []
    for index, group in enumerate(groups):
        draft = folder / f"draft-{index:02d}.safetensors"
        metadata = {"parts": str(len(groups)), "facts": json.dumps(facts)}
        save_file({name: value.detach().contiguous().cpu() for name, value in group.items()}, draft, metadata)
        drafts.append(draft)
    return _rename_to_parts(folder, drafts)


def _rename_to_parts(folder: Path, chosen: Sequence[Path]) -> list[Path]:
    """Renames the files of a checkpoint to parts, and deletes all other parts and drafts; returns their paths."""
    if not chosen:
        return []
    for other in {*folder.glob("part-*.safetensors"), *folder.glob("draft-*.safetensors")} - set(chosen):
        other.unlink()
    return [path.rename(folder / path.name.replace("draft", "part")) for path in chosen]


def find_parts(folder: Path) -> list[Path]:
    """Returns the files of the newest whole checkpoint in a folder, in order; none if there is none.

    A process that was killed while it wrote leaves drafts. They count if they are complete, together with those that
    already have the names of parts.
    """
    drafts, parts = (sorted(folder.glob(f"{name}-*.safetensors")) for name in ("draft", "part"))
    checkpoints: dict[str, dict[str, Path]] = {}
    for path in [*drafts, *parts]:
        metadata = _read_metadata(path)
        checkpoint = checkpoints.setdefault(json.dumps(metadata, sort_keys=True), {})
        checkpoint.setdefault(path.name.partition("-")[2], path)
    for key, found in checkpoints.items():
        if len(found) == int(json.loads(key).get("parts", 0)):
            return [found[name] for name in sorted(found)]
    return []


def _read_metadata(path: Path) -> dict[str, str]:
    """Returns the metadata of a part; nothing if it is half written."""
    try:
        with safe_open(path, "pt") as part:
            return dict(part.metadata() or {})
    except (OSError, SafetensorError):
        return {}


def load_parts(folder: Path, device: torch.device | str = "cpu") -> tuple[dict[str, Tensor], Facts]:
    """Reads the tensors and facts that ``save_parts`` wrote.

    Raises:
        FileNotFoundError: there are no parts, or some are missing.
    """
    paths = find_parts(folder) or sorted(folder.glob("part-*.safetensors"))
    tensors: dict[str, Tensor] = {}
    facts: Facts = {}
    for path in paths:
        with safe_open(path, "pt", device=str(device)) as part:
            metadata = part.metadata()
            if int(metadata["parts"]) != len(paths):
                raise FileNotFoundError(
                    f"{folder} holds {len(paths)} of {metadata['parts']} parts: copy the missing ones"
                )
            facts = json.loads(metadata["facts"])
            tensors.update({name: part.get_tensor(name) for name in part.keys()})  # noqa: SIM118 (not a dict)
    if not paths:
        raise FileNotFoundError(f"{folder} holds no part-*.safetensors")
    return tensors, facts


def _groups(tensors: Mapping[str, Tensor], part_bytes: int) -> Iterator[dict[str, Tensor]]:
    """Yields consecutive groups of at most ``part_bytes`` each; a larger tensor forms a group of its own."""
    group: dict[str, Tensor] = {}
    size = 0
    for name, value in tensors.items():
        if group and size + value.nbytes > part_bytes:
            yield group
            group, size = {}, 0
        group[name] = value
        size += value.nbytes
    if group:
        yield group
