"""The options of a Ray cluster, and whether it can be reached."""

from __future__ import annotations

import os
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


def find_ray_lack(options: RayOptions) -> UsageError | None:
    """Returns the error for a cluster that does not answer at its address: Ray itself would wait for minutes.

    None if something answers, or if there is no address: then Ray finds a cluster on this machine, or starts one.

    Raises:
        UsageError: the address is not HOST:PORT.
    """
    named = "executor.address" if options.address else "RAY_ADDRESS"
    address = options.address or os.environ.get("RAY_ADDRESS", "")
    if address in _LOCAL:
        return None
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not host or not port.isdigit():
        raise UsageError(f"{named}={address} is not HOST:PORT.", hint="For example: 10.0.0.1:6379")
    try:
        socket.create_connection((host, int(port)), timeout=SECONDS_TO_ANSWER).close()
    except (OSError, OverflowError, UnicodeError) as error:
        return UsageError(
            f"No Ray cluster answers at {named}={address}: {error}.",
            hint="Start one with: ray start --head --port 6379",
        )
    return None
