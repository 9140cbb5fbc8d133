"""Models for the tests of other processes: they leave notes in a folder, and kill the process that computes them.

The folder is in an environment variable, so that it is no part of what a run is. Without it nobody dies.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import vcorr
from support import sliding

FOLDER = "VCORR_TEST_MORTAL"
"""Environment variable: the folder of the notes."""
ALWAYS = "VCORR_TEST_MORTAL_ALWAYS"
"""Environment variable: the only clip that kills its process, in every try."""


class Mortal(sliding.SlidingModel):
    """Dies in the first try of slide-1 and in every try of slide-2; if `ALWAYS` names a clip, in all its tries."""

    def load(self, device, dtype, weights):
        sys.stdout.write("loading a mortal\n")
        super().load(device, dtype, weights)

    def run(self, clip, settings, recorder):
        if folder := os.environ.get(FOLDER):
            tries = Path(folder, clip.id)
            seen = len(tries.read_text().splitlines()) if tries.exists() else 0
            with tries.open("a") as file:
                file.write(f"{os.getpid()} {os.getpgid(0)} {os.environ['OMP_NUM_THREADS']}\n")
            always = os.environ.get(ALWAYS)
            if clip.id == (always or "slide-2") or (not always and clip.id == "slide-1" and not seen):
                os.kill(os.getpid(), signal.SIGKILL)
        return super().run(clip, settings, recorder)


class Stillborn(sliding.SlidingModel):
    """Dies while it is loaded."""

    def load(self, device, dtype, weights):
        os.kill(os.getpid(), signal.SIGKILL)


class Filler(sliding.SlidingModel):
    """Fills the disk, as far as its process can see."""

    def load(self, device, dtype, weights):
        super().load(device, dtype, weights)
        os.replace = _no_space


def _no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@vcorr.hookimpl
def vcorr_models():
    """Returns the models."""
    entries = sliding.entries_of(vcorr.ModelEntry, Mortal, Stillborn, Filler)
    return [replace(entry, data="token-slide") for entry in entries]
