"""Where the released files of Open-Sora are: one folder, or the local cache of the hub. Opens none of them.

A release has several parts: networks, text encoders, tokenizers. They lie in one folder, by paths that are those of
their repositories, or in the cache, each in one of the repositories that have it. Imports neither torch nor diffusers,
so that what is missing can be told at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vcorr import MissingError, UsageError
from vcorr.contract.records import ModelCard
from vcorr.diffusion import WeightsSource, folder_identity
from vcorr.store.fingerprint import hash_file

_IDENTITY_LENGTH = 16
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack")


@dataclass(frozen=True)
class Part:
    """One part of the release.

    name: of the pipeline's component. path: inside the repository of the release; a file or a folder. gb: its size in
    10^9 bytes as released. repositories: others that hold the folder's files at their top, the first being its origin.
    needs: groups of file patterns; of each group one has to be there, when the part is a folder.
    """

    name: str
    path: str
    gb: float
    repositories: tuple[str, ...] = ()
    needs: tuple[tuple[str, ...], ...] = ()


_T5 = ("google/t5-v1_1-xxl", "city96/t5-v1_1-xxl-encoder-bf16", "mcmonkey/google_t5-v1_1-xxl_encoderonly")
_CLIP = ("openai/clip-vit-large-patch14",)
_V1 = ("hpcai-tech/OpenSora-STDiT-v3", "hpcai-tech/OpenSora-VAE-v1.2")
_WEIGHTS = "*.safetensors"
_ENCODER = (("config.json",), (_WEIGHTS,))
_SENTENCEPIECE = (("tokenizer.json", "spiece.model"),)


@dataclass(frozen=True)
class Release:
    """The parts of a model's release.

    marker: the file by which its folder is known; its name is also that of the file in the card's repository.
    downloads: the commands that get everything.
    """

    marker: str
    parts: tuple[Part, ...]
    downloads: tuple[str, ...]

    def fills(self, folder: Path) -> bool:
        """Whether a folder is laid out as the release is, rather than as diffusers saves a pipeline."""
        return (folder / self.marker).exists() and not (folder / "model_index.json").exists()


V2 = Release(
    "Open_Sora_v2.safetensors",
    (
        Part("transformer", "Open_Sora_v2.safetensors", 23.8),
        Part("vae", "hunyuan_vae.safetensors", 1.0),
        Part("text_encoder", _T5[0], 19.0, _T5, _ENCODER),
        Part("tokenizer", _T5[0], 0.001, _T5, _SENTENCEPIECE),
        Part("text_encoder_2", _CLIP[0], 1.7, _CLIP, _ENCODER),
        Part("tokenizer_2", _CLIP[0], 0.004, _CLIP, (("tokenizer.json", "merges.txt"),)),
    ),
    ("hf download hpcai-tech/Open-Sora-v2 --exclude 'flux1-dev*'",),
)
V1 = Release(
    "hpcai-tech/OpenSora-STDiT-v3/model.safetensors",
    (
        Part("transformer", _V1[0], 4.8, _V1[:1], (("model.safetensors",),)),
        Part("vae", _V1[1], 1.6, _V1[1:], (("model.safetensors",),)),
        Part("text_encoder", _T5[0], 9.5, _T5, _ENCODER),
        Part("tokenizer", _T5[0], 0.001, _T5, _SENTENCEPIECE),
    ),
    (
        *(f"hf download {hub_id}" for hub_id in (*_V1, _T5[1])),
        f"hf download {_T5[0]} --include '*.json' --include spiece.model",
    ),
)


def hub_source(release: Release, card: ModelCard) -> WeightsSource:
    """The release in the local cache of the hub.

    Raises:
        MissingError: a part is missing.
        UsageError: a part is there as pickles alone.
    """
    found = _cached(str(card.hub_id), Path(release.marker).name, card.revision)
    if found is None:
        raise _missing(release, card, release.parts, "are not in the local Hugging Face cache")
    parts = locate_parts(release, card, found.parent)
    origins = sorted({_origin(path) for path in parts.values()} - {_origin(found)})
    return WeightsSource("hub", "+".join([f"hub:{_origin(found)}", *origins]), found.parent)


def folder_source(release: Release, card: ModelCard, folder: Path) -> WeightsSource:
    """The release in a folder of the user's; text encoders may still come from the cache. Raises as `hub_source`."""
    digest = hashlib.sha256()
    for path in sorted(set(locate_parts(release, card, folder).values())):
        digest.update(_content(path).encode())
    return WeightsSource("path", f"path:{digest.hexdigest()[:_IDENTITY_LENGTH]}", folder)


def locate_parts(release: Release, card: ModelCard, folder: Path) -> Mapping[str, Path]:
    """The file or folder of every part, by its name. Raises as `hub_source`."""
    found = {part.name: path for part in release.parts if (path := _locate(part, folder)) is not None}
    missing = [part for part in release.parts if part.name not in found]
    for part in missing:
        _refuse_pickles(part, folder)
    if missing:
        raise _missing(release, card, missing, f"are not all in {folder} or the local Hugging Face cache")
    return found


def _locate(part: Part, folder: Path) -> Path | None:
    return next((path for path in _candidates(part, folder) if _complete(part, path)), None)


def _candidates(part: Part, folder: Path) -> Iterator[Path]:
    """Where a part may lie: in the release itself, then at the top of repositories in the cache."""
    yield folder / part.path
    for hub_id in part.repositories:
        for name in (name for group in part.needs for name in group if "*" not in name):
            if (found := _cached(hub_id, name)) is not None:
                yield found.parent
                break


def _complete(part: Part, path: Path) -> bool:
    if not part.needs:
        return path.is_file()
    there = all(any(_files(path, pattern) for pattern in group) for group in part.needs)
    indices = path.glob("*.safetensors.index.json") if _WEIGHTS in sum(part.needs, ()) else ()
    return there and not any(_lost_shards(index) for index in indices)


def _files(folder: Path, pattern: str) -> list[Path]:
    """The files of a folder by their pattern; a link of the cache into nothing is none."""
    return [path for path in folder.glob(pattern) if path.is_file()]


def _lost_shards(index: Path) -> list[str]:
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise UsageError(f"{index} cannot be read as the index of a sharded checkpoint: {error}.") from error
    return sorted(shard for shard in shards if not (index.parent / shard).is_file())


def _refuse_pickles(part: Part, folder: Path) -> None:
    for path in _candidates(part, folder):
        pickles = sorted(file.name for file in _files(path, "*") if file.suffix in _PICKLES)
        if pickles and _WEIGHTS in sum(part.needs, ()):
            copies = "".join(f"  hf download {hub_id}\n" for hub_id in part.repositories[1:])
            raise UsageError(
                f"{path} holds the {part.name} as pickles ({', '.join(pickles)}), which can run code when they are "
                "read; only safetensors are loaded.",
                hint=(f"Copies in safetensors, found in the cache by themselves:\n{copies}" if copies else "")
                + f"Or convert it where you trust it, into {folder / part.path}: model.save_pretrained(FOLDER)",
            )


def _missing(release: Release, card: ModelCard, parts: Sequence[Part], where: str) -> MissingError:
    lines = [
        f"  {path} ({', '.join(part.name for part in parts if part.path == path)}), about {size:.3g} GB"
        for path, size in _sizes(parts).items()
    ]
    commands = " ".join(release.downloads)
    others = sorted({part.repositories[0] for part in parts if part.repositories} - set(commands.split()))
    elsewhere = f"\nThe cache is searched for {' and '.join(others)} as well." if others else ""
    return MissingError(
        f"The weights of {card.title} {where}. Missing:\n" + "\n".join(lines),
        hint=(
            f"Get them:            {(chr(10) + ' ' * 21).join(release.downloads)}\n"
            "Do without them:     --weights random  (seeded random weights, to try things out)\n"
            f"Have them elsewhere: --weights PATH    (the folder that holds {release.marker}){elsewhere}"
        ),
    )


def _sizes(parts: Sequence[Part]) -> Mapping[str, float]:
    """Gigabytes by path; an encoder and its tokenizer share one."""
    sizes: dict[str, float] = {}
    for part in parts:
        sizes[part.path] = sizes.get(part.path, 0) + part.gb
    return sizes


def _cached(hub_id: str, name: str, revision: str | None = None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(hub_id, name, revision=revision)
    return Path(found) if isinstance(found, str) else None


def _origin(path: Path) -> str:
    """Of a path inside the cache, models--owner--name/snapshots/revision/..., owner/name@revision; else its name."""
    for parent in path.parents:
        if parent.name == "snapshots":
            owner = parent.parent.name.removeprefix("models--").replace("--", "/", 1)
            return f"{owner}@{path.relative_to(parent).parts[0]}"
    return path.name


def _content(path: Path) -> str:
    """What identifies the contents of a file or of a folder's weights, configurations and vocabularies."""
    return folder_identity(path) if path.is_dir() else hash_file(path)
