"""Series of made-up numbers."""

from __future__ import annotations

import numpy as np

from vcorr.stats.series import Series


def made_up(seed, clips=8, layers=3, steps=2, heads=(-1,), nan=0.0, floor=0.2, ceiling=0.9, **key) -> Series:
    """A series of clips c0, c1, … with random scores between its floor and its ceiling."""
    generator = np.random.default_rng(seed)
    sites = tuple(
        {
            "layer": layer,
            "layer_name": f"blocks.{layer}",
            "step": step,
            "noise": 0.5,
            "head": head,
            "attention": "full3d",
        }
        for layer in range(layers)
        for step in range(steps)
        for head in heads
    )
    shape = (clips, len(sites))
    score = floor + (ceiling - floor) * generator.random(shape)
    score[generator.random(shape) < nan] = np.nan
    names = {
        "run": f"run-{seed}",
        "model": "made-up",
        "weights": "none",
        "probe": "qk",
        "dataset": "d",
        "split": "test",
    }
    names |= {"mode": "renoise", "tracker": "exact", "metric": "matching_accuracy", "variant": "corrected"}
    ids = tuple(f"c{i}" for i in range(clips))
    names |= {"seed": 42}
    return Series(names | key, sites, ids, score, np.full(shape, floor), np.full(shape, ceiling), 0)
