"""Stops the libraries from printing, downloading and keeping idle cores busy during a command."""

from __future__ import annotations

import os


def quiet_libraries() -> None:
    """Turns off downloads, progress bars and advice of the libraries.

    Must be called before torch, diffusers, transformers or huggingface_hub are imported: they read these variables
    once.
    """
    # torch's CPU threads spin while they wait for each other. With another process on the same cores, a run then takes
    # up to ten times as long; sleeping instead costs almost nothing on an idle machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
