"""Maps URLs to folders of this machine, one to one: `s3://bucket/runs` is `VCORR_HOME/remote/s3/bucket/runs`.

So every other module knows folders alone. The folder of a URL is a working copy of what the store holds there.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote, unquote

from vcorr.contract.errors import UsageError
from vcorr.contract.text_files import expand_home
from vcorr.store.home import home_folder

FOLDER = "remote"
"""Name of the folder below `VCORR_HOME` that holds the working copies."""
_URL = re.compile(r"([a-z][a-z0-9+.-]+)://(.*)", re.DOTALL)
_LOCAL = ("file", "local")
_SAFE = " !#$&'()+,-.:;=@[]^_`{}~"
"""Characters of a URL that stay as they are in names of folders, with letters and digits."""


def is_url(text: str) -> bool:
    """Returns whether a text is a URL, such as `s3://bucket/runs`, and no path."""
    return _URL.fullmatch(text) is not None


def folder_of(text: str | os.PathLike[str]) -> Path:
    """Returns the folder for a path or a URL: of a path, the path itself, with the home folder for "~".

    Raises:
        UsageError: the URL names no bucket or host, holds a password, or has a form that is not supported.
    """
    found = _URL.fullmatch(os.fspath(text))
    if found is None:
        return expand_home(os.fspath(text))
    protocol, rest = found.groups()
    if protocol in _LOCAL:
        return Path(rest)
    names = [name for name in rest.split("/") if name]
    _check(f"{protocol}://{rest}", names)
    return _root() / protocol / Path(*map(_encode, names))


def url_of(folder: Path) -> str | None:
    """Returns the URL that a folder stands for; None for an ordinary folder."""
    root = _root()
    if not folder.is_relative_to(root):  # without a look at the disk
        return None
    protocol, *names = folder.relative_to(root).parts or ("",)
    return f"{protocol}://{'/'.join(map(unquote, names))}" if names else None


def place_of(folder: Path) -> str:
    """Returns what users call a folder: the URL that it stands for, or else its path."""
    return url_of(folder) or str(folder)


def _root() -> Path:
    return (home_folder() / FOLDER).absolute()


def _check(url: str, names: list[str]) -> None:
    if "::" in url:
        raise UsageError(f"{url}: chained URLs are not supported.", hint="Give one URL, such as s3://bucket/runs")
    if not names or url.split("://")[1].startswith("/"):
        raise UsageError(f"{url} names no bucket or host.", hint="For example: s3://bucket/runs")
    if ":" in names[0].rpartition("@")[0]:
        raise UsageError(
            f"The URL at {names[0].rpartition('@')[2]} holds a password, and run.json keeps the command.",
            hint="Put it into the configuration of fsspec or of the store (docs/results-format.md).",
        )
    if {".", ".."} & set(names):
        raise UsageError(f"{url} holds '.' or '..', which stores take for names.", hint="Write the URL without them.")


def _encode(name: str) -> str:
    """Returns a name of a folder for a part of a URL. A first dot is encoded: hidden folders are no results."""
    encoded = quote(name, safe=_SAFE)
    return f"%2E{encoded[1:]}" if encoded.startswith(".") else encoded
