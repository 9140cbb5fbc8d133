"""Saves checkpoints as small safetensors files, which are easy to copy and need no unpickling."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

PART_BYTES = 14_000_000
"""Largest size of the tensors in one part, in bytes; with its header a part stays under 15 MB."""

Facts = dict[str, float]
"""Numbers that are stored with the tensors: steps done, seconds spent, scaling factor."""


def save_parts(folder: Path, tensors: Mapping[str, Tensor], facts: Facts, part_bytes: int = PART_BYTES) -> list[Path]:
    """Writes ``tensors`` and ``facts`` to ``folder`` as part-00.safetensors and so on; returns the paths.

    It replaces the parts of an earlier checkpoint. It first writes the new parts under other names, so that an
    interrupted write leaves the old checkpoint whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    groups = list(_groups(tensors, part_bytes))
    drafts = []
    for index, group in enumerate(groups):
        draft = folder / f"draft-{index:02d}.safetensors"
        metadata = {"parts": str(len(groups)), "facts": json.dumps(facts)}
        save_file({name: value.detach().contiguous().cpu() for name, value in group.items()}, draft, metadata)
        drafts.append(draft)
    for old in folder.glob("part-*.safetensors"):
        old.unlink()
    return [draft.rename(folder / draft.name.replace("draft", "part")) for draft in drafts]


def load_parts(folder: Path, device: torch.device | str = "cpu") -> tuple[dict[str, Tensor], Facts]:
    """Reads the tensors and facts that ``save_parts`` wrote.

    Raises:
        FileNotFoundError: there are no parts, or some are missing.
    """
    paths = sorted(folder.glob("part-*.safetensors"))
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
