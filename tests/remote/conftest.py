"""A store that speaks S3, on this machine; and machines which share nothing but that store."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from vcorr.store.home import HOME_VARIABLE

_count = itertools.count()


@dataclass(frozen=True)
class Bucket:
    """A bucket of its own for a test, and the folder of runs in it."""

    name: str
    files: object

    @property
    def url(self) -> str:
        return f"s3://{self.name}/runs"

    def list(self) -> dict[str, bytes]:
        """Returns every object below the folder of runs, by name."""
        self.files.invalidate_cache()
        found = self.files.find(f"{self.name}/runs")
        return {path.removeprefix(f"{self.name}/runs/"): self.files.cat_file(path) for path in found}

    def path(self, name: str) -> str:
        return f"{self.name}/runs/{name}"


@pytest.fixture(scope="session")
def _server() -> Iterator[str]:
    """The address of the server."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bucket:
    """An empty bucket, which this process and those that it starts can reach."""
    import s3fs

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**keys, "AWS_ENDPOINT_URL": _server, "AWS_CONFIG_FILE": str(tmp_path / "none")}.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    files = s3fs.S3FileSystem()
    made = Bucket(f"bucket-{next(_count)}", files)
    files.mkdir(made.name)
    return made


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Path]:
    """Moves this process to a machine with a disk of its own, by its name; returns that disk."""

    def move(name: str) -> Path:
        disk = tmp_path / "machines" / name
        monkeypatch.setenv(HOME_VARIABLE, str(disk))
        return disk

    move("first")
    return move
