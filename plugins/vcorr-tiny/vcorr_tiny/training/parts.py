"""Checkpoints as safetensors split in small parts, so that they travel anywhere and never need unpickling."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

PART_BYTES = 14_000_000
"""Upper bound on the tensors of one part, well under 15 MB."""

Facts = dict[str, float]
"""The numbers that go with the tensors: steps done, seconds spent, scaling factor."""


def save_parts(folder: Path, tensors: Mapping[str, Tensor], facts: Facts, part_bytes: int = PART_BYTES) -> list[Path]:
    """Write ``tensors`` and ``facts`` to ``folder`` as part-00.safetensors and so on.

    Parts of an earlier checkpoint there are replaced; the new ones are written under other names first, so that an
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
    """Read back what ``save_parts`` wrote."""
    paths = sorted(folder.glob("part-*.safetensors"))
    tensors: dict[str, Tensor] = {}
    facts: Facts = {}
    for path in paths:
        with safe_open(path, "pt", device=str(device)) as part:
            metadata = part.metadata()
            if int(metadata["parts"]) != len(paths):
                raise FileNotFoundError(
                    f"{folder} holds {len(paths)} of {metadata['parts']} parts: copy the others too"
                )
            facts = json.loads(metadata["facts"])
            tensors.update({name: part.get_tensor(name) for name in part.keys()})  # noqa: SIM118 (not a dict)
    if not paths:
        raise FileNotFoundError(f"{folder} holds no part-*.safetensors")
    return tensors, facts


def _groups(tensors: Mapping[str, Tensor], part_bytes: int) -> Iterator[dict[str, Tensor]]:
    """Consecutive groups of at most ``part_bytes`` each (a larger tensor makes a group of its own)."""
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
