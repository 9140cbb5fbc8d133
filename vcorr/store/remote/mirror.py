"""Keeps the working copy of a run equal to what its store holds. What the store holds counts.

A file that is new or changed here is uploaded, unless the store's file has changed as well: then the store's is taken.
A file that was equal on both sides and is gone in the store is deleted here.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from vcorr.contract.errors import StoreError
from vcorr.store.atomic_files import atomic_file, make_folder
from vcorr.store.remote.addresses import url_of
from vcorr.store.remote.filesystems import RemoteStoreError, map_at_once, naming_url, open_filesystem
from vcorr.store.remote.sync_state import Shared, Stat, SyncState, sync_alone

_TAGS = ("ETag", "etag", "md5Hash", "content_md5", "checksum", "LastModified", "mtime", "modify", "updated", "created")
"""Facts by which a file system says that a file has another content, the best one first."""


@dataclass(frozen=True)
class Remote:
    """A file in the store. path: in its file system. tag: changes with the content."""

    path: str
    tag: str


@dataclass
class Mirror:
    """The working copy of one run.

    Args:
        folder: of the run.
        url: what the folder stands for.
        filesystem: of fsspec.
        path: of the run in that file system.
        files: what the store held when it was last looked at, by name.
        whole: folders of the run whose files have been fetched since then.
        failed: whether an upload has failed, so that it is not tried once more at the end.
    """

    folder: Path
    url: str
    filesystem: Any
    path: str
    files: Mapping[str, Remote] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)
    failed: bool = False

    @classmethod
    def of(cls, folder: Path) -> Mirror | None:
        """Returns the mirror of a folder; None if it stands for no URL. Raises as `open_filesystem`."""
        url = url_of(folder)
        return None if url is None else cls(folder, url, *open_filesystem(url))

    def list_level(self) -> tuple[list[str], list[str]]:
        """Returns the names of the files and of the folders directly below this one in the store; raises as `look`."""
        with naming_url(self.url):
            self.filesystem.invalidate_cache()
            try:
                found = self.filesystem.ls(self.path, detail=True)
            except FileNotFoundError:
                return [], []
        level = [(str(facts["name"]).rstrip("/").rpartition("/")[2], facts["type"]) for facts in found]
        folders = [name for name, kind in level if kind == "directory" and _is_result(name)]
        return [name for name, kind in level if kind == "file"], folders

    def look(self) -> None:
        """Asks the store which files it holds, and deletes what is gone there.

        Raises:
            StoreError: the store cannot be read, or the disk cannot be written.
        """
        self.files = {name: remote for name, remote in self._list() if _is_result(name)}
        self.whole.clear()
        with sync_alone(self.folder) as state:
            for name in [name for name in state.files if name not in self.files]:
                if not state.is_changed(name, Stat.of(self.folder / name)):
                    (self.folder / name).unlink(missing_ok=True)
                del state.files[name]

    def _list(self) -> Iterator[tuple[str, Remote]]:
        with naming_url(self.url):
            self.filesystem.invalidate_cache()
            try:
                found = self.filesystem.find(self.path, detail=True)
            except FileNotFoundError:
                return
        for path, facts in found.items():
            yield path.removeprefix(self.path).lstrip("/"), _describe(path, facts)

    def fetch(self, folders: Collection[str] | None = None) -> None:
        """Downloads what differs from the store in these folders and files at the top of the run; None for all.

        Raises:
            StoreError: the store cannot be read, or the disk cannot be written.
        """
        tops = {_top(name) for name in self.files} if folders is None else set(folders)
        names = [name for name in self.files if _top(name) in tops - self.whole]
        if names:
            self._fetch(names)
        self.whole |= tops

    def _fetch(self, names: Collection[str]) -> None:
        with sync_alone(self.folder) as state:
            wanted = [name for name in names if self._differs(name, state)]
            for folder in {(self.folder / name).parent for name in wanted}:
                make_folder(folder)
            state.files |= dict(zip(wanted, map_at_once(self._download, wanted), strict=True))

    def _differs(self, name: str, state: SyncState) -> bool:
        found, shared = Stat.of(self.folder / name), state.files.get(name)
        return found is None or shared is None or shared.tag != self.files[name].tag

    def _download(self, name: str) -> Shared:
        remote, target = self.files[name], self.folder / name
        with atomic_file(target) as temporary, naming_url(self.url):
            try:
                self.filesystem.get_file(remote.path, temporary)
            except FileNotFoundError as error:
                raise RemoteStoreError(
                    f"{self.url}/{name} was deleted while it was read.", hint="Repeat the command."
                ) from error
        found = Stat.of(target)
        assert found is not None  # it was renamed to this name just now
        return Shared(found.size, found.changed, remote.tag)

    def upload(self, order: Iterable[str], left_out: Collection[str]) -> None:
        """Uploads every file that is new or has changed here.

        Args:
            order: names of files and folders, of which the next one begins when the one before has arrived. Everything
                else comes before them.
            left_out: names of folders that stay here.

        Raises:
            StoreError: a file cannot be uploaded. It stays here, and the next upload tries it again.
        """
        ranks = {name: rank for rank, name in enumerate(order, start=1)}
        with sync_alone(self.folder) as state:
            found = [name for name in _walk(self.folder) if _top(name) not in left_out]
            changed = [name for name in found if state.is_changed(name, Stat.of(self.folder / name))]
            for rank in range(len(ranks) + 1):
                own = [name for name in changed if ranks.get(_top(name), 0) == rank]
                for name, shared in zip(own, self._upload_all(own), strict=True):
                    state.files[name] = shared

    def _upload_all(self, names: Collection[str]) -> Iterable[Shared]:
        try:
            return map_at_once(self._upload_one, names)
        except (StoreError, OSError) as error:
            self.failed = True
            reason = error.message if isinstance(error, StoreError) else f"{self.url} cannot be written: {error}."
            raise RemoteStoreError(
                reason,
                hint=f"Nothing is lost: what was computed is in {self.folder}. On this machine, the same command "
                "uploads it and goes on.",
            ) from error

    def _upload_one(self, name: str) -> Shared:
        target = f"{self.path}/{name}"
        before = Stat.of(self.folder / name)
        if before is None:
            raise StoreError(f"{self.folder / name} was deleted while it was uploaded.")
        with naming_url(self.url):
            self.filesystem.put_file(str(self.folder / name), target)
            self.filesystem.invalidate_cache()
            tag = _describe(target, self.filesystem.info(target)).tag
        return Shared(before.size, before.changed, tag)


def _top(name: str) -> str:
    """Returns the first part of a name: its folder in the run, or the file itself."""
    return name.partition("/")[0]


def _describe(path: str, facts: Mapping[str, Any]) -> Remote:
    tag = next((facts[key] for key in _TAGS if facts.get(key) is not None), "")
    if isinstance(tag, datetime):  # a listing and a single look may have it in different time zones
        tag = tag.timestamp()
    return Remote(path, f"{int(facts.get('size') or 0)} {tag}")


def _is_result(name: str) -> bool:
    """Returns whether a name is a file of a run. Hidden names are locks; a store may hold any other name as well."""
    return all(
        part and not part.startswith(".") and os.sep not in part and "\0" not in part for part in name.split("/")
    )


def _walk(folder: Path) -> list[str]:
    """Returns the names of all files of a run, without hidden ones."""
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = Path(parent).relative_to(folder)
        found += [(inside / name).as_posix() for name in files if not name.startswith(".")]
    return sorted(found)
