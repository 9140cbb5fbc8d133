"""Packs what a remake has finished into archives of limited size, to carry it to another machine."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path

from vcorr import MissingError
from vcorr.store.atomic_files import replace_folder
from vcorr_tiny.network_folder import SEEDS
from vcorr_tiny.remake.recipe import COPIES, DECODER, NETWORKS, RECIPE, VAE, is_finished, name_seed

MOST_BYTES = 14_500_000
"""Most bytes of an archive."""
_END = tarfile.RECORDSIZE + 2 * tarfile.BLOCKSIZE
"""Most bytes of the end of an archive."""
_GROWING = (".log", ".jsonl")
"""Ends of the names of files that processes add lines to."""

Member = tuple[tarfile.TarInfo, bytes]


def pack(out: Path, target: Path, most: int = MOST_BYTES) -> list[Path]:
    """Writes archives of at most `most` bytes, in place of an earlier pack; returns the files that are too large.

    They hold networks, records, small copies, pictures, logs, and the checkpoints of unfinished trainings. Each can be
    unpacked alone. It can be called at any time: files that are not finished are left out.

    Raises:
        MissingError: `out` is no folder of a remake.
        StoreError: the archives cannot be written.
    """
    if not (out / RECIPE).is_file():
        raise MissingError(
            f"{out} is no folder of a remake.", hint="Name the --out of: python -m vcorr_tiny.remake run"
        )
    too_large: list[Path] = []
    with replace_folder(target) as folder:
        for number, group in enumerate(_group(_read_members(out, most, too_large), most)):
            with tarfile.open(folder / f"part-{number:02d}.tar", "w") as archive:
                for member, content in group:
                    archive.addfile(member, BytesIO(content))
    return too_large


def list_finished(out: Path) -> Iterator[Path]:
    """Yields the files that are worth keeping and are not being written, the most important ones first."""
    trainings = [*map(name_seed, SEEDS), DECODER, VAE]
    chosen = (out / NETWORKS).is_dir()
    yield from _find(out / NETWORKS, "**/*")
    yield out / RECIPE
    for name in trainings:
        yield from _find(out / name, "log.jsonl")
        if is_finished(out / name):
            yield from _find(out / name, "evaluation.json", "*.png", *([] if chosen else ["pipe/**/*"]))
    yield from _find(out / COPIES, "**/*")
    yield from _find(out, "*.log")
    for name in trainings:
        if name == VAE or not is_finished(out / name):
            yield from _find_checkpoint(out / name)


def _find(folder: Path, *patterns: str) -> list[Path]:
    """Returns the files in a folder that fit one of the patterns, without temporary ones."""
    found = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    hidden = [path for path in found if any(part.startswith(".") for part in path.relative_to(folder).parts)]
    return [path for path in found if path.is_file() and path not in hidden]


def _find_checkpoint(training: Path) -> list[Path]:
    from vcorr_tiny.training.parts import find_parts

    return find_parts(training / "state")


def _read_members(out: Path, most: int, too_large: list[Path]) -> Iterator[Member]:
    """Yields what goes into archives, and adds the files that fit in none to a list."""
    for path in list_finished(out):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue  # it was replaced in the meantime
        if path.suffix in _GROWING:
            content = content[: content.rfind(b"\n") + 1]
        member = tarfile.TarInfo(path.relative_to(out).as_posix().replace("/draft-", "/part-"))
        member.size = len(content)
        if _measure(member) + _END > most:
            too_large.append(path)
        else:
            yield member, content


def _group(members: Iterable[Member], most: int) -> Iterator[list[Member]]:
    """Yields consecutive members that fit into one archive."""
    group: list[Member] = []
    for member in members:
        if group and sum(_measure(info) for info, _ in [*group, member]) + _END > most:
            yield group
            group = []
        group.append(member)
    if group:
        yield group


def _measure(member: tarfile.TarInfo) -> int:
    """Returns the bytes of a member in an archive."""
    return len(member.tobuf()) + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
