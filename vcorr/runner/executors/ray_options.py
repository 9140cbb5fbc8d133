"""The options of a Ray cluster, and whether it can be reached."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from vcorr.contract.errors import UsageError
from vcorr.contract.option_notes import option

SECONDS_TO_ANSWER = 5.0
"""How long a cluster may take to accept a connection."""
_LOCAL = ("", "auto", "local")


@dataclass(frozen=True)
class RayOptions:
    """Options of `--executor ray`."""

    address: str = option("", "HOST:PORT of the cluster's head; empty for RAY_ADDRESS, or a cluster on this machine.")
    cpus: float = option(1.0, "CPU cores per actor.", least=0.0)
    patience: float = option(600.0, "Longest wait for a node if none computes.", unit="seconds", least=1.0)


def check_address(address: str) -> None:
    """Checks that something answers at the address of a cluster: Ray itself would wait for minutes.

    Raises:
        UsageError: it is no HOST:PORT, or nothing answers there.
    """
    if address in _LOCAL:
        return
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not host or not port.isdigit():
        raise UsageError(f"executor.address={address} is not HOST:PORT.", hint="For example: 10.0.0.1:6379")
    try:
        socket.create_connection((host, int(port)), timeout=SECONDS_TO_ANSWER).close()
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"No Ray cluster answers at executor.address={address}: {error}.",
            hint="Start one with: ray start --head --port 6379",
        ) from error
