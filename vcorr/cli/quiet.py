"""Keeps the libraries' own chatter, downloads and idle spinning out of our commands."""

from __future__ import annotations

import os


def quiet_libraries() -> None:
    """Nothing is fetched behind the user's back, and progress bars and advice of the libraries stay off the terminal.

    Must be called before torch, diffusers, transformers or huggingface_hub are imported: they read these once.
    """
    # torch's CPU threads spin while they wait for each other. With another process on the same cores that costs up to
    # ten times the run; sleeping instead costs next to nothing on an idle machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
