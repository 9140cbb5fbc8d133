"""Opens the file system behind a URL through fsspec, and turns its errors into errors that say what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from vcorr.contract.errors import MissingError, StoreError, UsageError, VcorrError, first_line
from vcorr.store.lock import NotWritableError

_AT_ONCE = 8
"""How many requests are under way at a time."""
_EXTRAS = {"s3fs": "vcorr[s3]"}
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class RemoteStoreError(StoreError):
    """A store behind a URL that cannot be reached, or refuses what was asked."""


def open_filesystem(url: str) -> tuple[Any, str]:
    """Returns the file system of fsspec for a URL, and the path of the URL in it.

    Raises:
        MissingError: its package is not installed.
        UsageError: fsspec knows no such protocol.
        RemoteStoreError: it cannot be opened, for example without credentials.
    """
    check_protocol(url)
    from fsspec.core import url_to_fs

    with naming_url(url):
        filesystem, path = url_to_fs(url, use_listings_cache=False)
    return filesystem, str(path).rstrip("/")


def check_protocol(url: str) -> None:
    """Checks that the package of a URL's protocol is installed; raises as `open_filesystem`."""
    from fsspec.registry import get_filesystem_class, known_implementations

    protocol = url.partition("://")[0]
    try:
        get_filesystem_class(protocol)
    except ImportError as error:
        wanted = getattr(error.__cause__, "name", None) or known_implementations[protocol]["class"]
        package = str(wanted).partition(".")[0]
        raise MissingError(
            f"{protocol}:// needs the package {package}, which is not installed.",
            hint=f"pip install '{_EXTRAS.get(package, package)}'",
        ) from error
    except ValueError as error:
        raise UsageError(
            f"{url}: fsspec knows no protocol {protocol!r}.", hint="For example: s3://bucket/runs, or a path."
        ) from error


@contextlib.contextmanager
def naming_url(url: str) -> Iterator[None]:
    """Turns errors of a store in the block into errors that name its URL.

    FileNotFoundError and FileExistsError pass: the caller knows what they mean.

    Raises:
        NotWritableError: the store refuses to write, or to read.
        RemoteStoreError: anything else.
    """
    try:
        yield
    except (VcorrError, FileNotFoundError, FileExistsError):
        raise
    except (PermissionError, NotImplementedError) as error:
        raise NotWritableError(
            f"{url} refuses this: {first_line(error)}.", hint="Check the credentials and their rights."
        ) from error
    except Exception as error:  # every package of fsspec has errors of its own
        raise RemoteStoreError(
            f"{url} cannot be used: {first_line(error)}.",
            hint="Check the network, the credentials and the address, then repeat the command.",
        ) from error


def map_at_once(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Sequence[_Result]:
    """Returns the results of a function for items, several at a time, in their order; raises the first error."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(function, items))
