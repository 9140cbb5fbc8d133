"""Finds the released files of Open-Sora, in one folder or in the local cache of the hub. It opens none of them.

A release has several parts: networks, text encoders, tokenizers. In a folder, they are in subfolders with the names of
their repositories. In the cache, each is in one of the repositories that have it. The module imports neither torch nor
diffusers, so that missing parts are reported at once.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vcorr import MissingError, ModelCard, UsageError, hash_file
from vcorr.diffusion import WeightsSource, folder_identity, other_revisions

_IDENTITY_LENGTH = 16
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack")


@dataclass(frozen=True)
class Part:
    """One part of the release.

    name: name of the pipeline's component. path: path inside the repository of the release; a file or a folder.
    gb: released size in 10^9 bytes. repositories: further repositories with the folder's files at their top; the first
    one is its origin. needs: for a folder, groups of file patterns, of which each group needs at least one file.
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

    marker: path of the file that identifies a folder of the release; the card's repository holds a file of this name.
    downloads: the commands that download everything.
    """

    marker: str
    parts: tuple[Part, ...]
    downloads: tuple[str, ...]

    def fills(self, folder: Path) -> bool:
        """Returns whether a folder has the layout of the release, and not of a pipeline that diffusers saved."""
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
    """Finds the release in the local cache of the hub.

    Raises:
        MissingError: a part is missing.
        UsageError: a part is there only as pickles.
    """
    found = _find_in_cache(str(card.hub_id), Path(release.marker).name, card.revision)
    if found is None:
        raise _missing(release, card, release.parts, "are not in the local Hugging Face cache")
    parts = locate_parts(release, card, found.parent)
    origins = sorted({_origin(path) for path in parts.values()} - {_origin(found)})
    return WeightsSource("hub", "+".join([f"hub:{_origin(found)}", *origins]), found.parent)


def folder_source(release: Release, card: ModelCard, folder: Path) -> WeightsSource:
    """Finds the release in a folder of the user; text encoders may come from the cache. Raises as `hub_source`."""
    digest = hashlib.sha256()
    for path in sorted(set(locate_parts(release, card, folder).values())):
        digest.update(_content(path).encode())
    return WeightsSource("path", f"path:{digest.hexdigest()[:_IDENTITY_LENGTH]}", folder)


def locate_parts(release: Release, card: ModelCard, folder: Path) -> Mapping[str, Path]:
    """Returns the file or folder of every part, by the part's name. Raises as `hub_source`."""
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
    """Yields the places where a part may be: the release itself, then the top of repositories in the cache."""
    yield folder / part.path
    for hub_id in part.repositories:
        for name in (name for group in part.needs for name in group if "*" not in name):
            if (found := _find_in_cache(hub_id, name)) is not None:
                yield found.parent
                break


def _complete(part: Part, path: Path) -> bool:
    if not part.needs:
        return path.is_file()
    there = all(any(_files(path, pattern) for pattern in group) for group in part.needs)
    indices = path.glob("*.safetensors.index.json") if _WEIGHTS in sum(part.needs, ()) else ()
    return there and not any(_lost_shards(index) for index in indices)


def _files(folder: Path, pattern: str) -> list[Path]:
    """Returns the files of a folder that match a pattern, without broken links, which the cache may hold."""
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
                hint=(f"Download a copy in safetensors, which is then found in the cache:\n{copies}" if copies else "")
                + f"Or, if you trust the file, convert it into {folder / part.path}: model.save_pretrained(FOLDER)",
            )


def _missing(release: Release, card: ModelCard, parts: Sequence[Part], where: str) -> MissingError:
    lines = [
        f"  {path} ({', '.join(part.name for part in parts if part.path == path)}), about {size:.3g} GB"
        for path, size in _sizes(parts).items()
    ]
    commands = " ".join(release.downloads)
    others = sorted({part.repositories[0] for part in parts if part.repositories} - set(commands.split()))
    elsewhere = f"\n{' and '.join(others)} may also be in the cache." if others else ""
    for path in other_revisions([str(card.hub_id)], Path(release.marker).name, card.revision):
        use = f": --weights {shlex.quote(str(path))}" if release.fills(path) else ""
        elsewhere += f"\nIn the cache is another revision, {path.name}{use}"
    return MissingError(
        f"The weights of {card.title} {where}. Missing:\n" + "\n".join(lines),
        hint=(
            f"Get them:            {(chr(10) + ' ' * 21).join(release.downloads)}\n"
            "Do without them:     --weights random  (seeded random weights, to try things out)\n"
            f"Have them elsewhere: --weights PATH    (the folder that holds {release.marker}){elsewhere}"
        ),
    )


def _sizes(parts: Sequence[Part]) -> Mapping[str, float]:
    """Returns gigabytes by path; an encoder and its tokenizer share one path."""
    sizes: dict[str, float] = {}
    for part in parts:
        sizes[part.path] = sizes.get(part.path, 0) + part.gb
    return sizes


def _find_in_cache(hub_id: str, name: str, revision: str | None = None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(hub_id, name, revision=revision)
    return Path(found) if isinstance(found, str) else None


def _origin(path: Path) -> str:
    """Returns owner/name@revision for a path in the cache (models--owner--name/snapshots/revision/...), or its name."""
    for parent in path.parents:
        if parent.name == "snapshots":
            owner = parent.parent.name.removeprefix("models--").replace("--", "/", 1)
            return f"{owner}@{path.relative_to(parent).parts[0]}"
    return path.name


def _content(path: Path) -> str:
    """Returns the identity of a file's contents, or of a folder's weights, configurations and vocabularies."""
    return folder_identity(path) if path.is_dir() else hash_file(path)
