"""Tests the mixture of levels and textures of the training videos."""

from collections import Counter

import pytest
import torch
from vcorr_tiny.sprites.levels import LEVELS
from vcorr_tiny.sprites.pictures import Pictures
from vcorr_tiny.train import SMALL
from vcorr_tiny.training import mixture
from vcorr_tiny.training.mixture import Mixture, dit_shares, vae_shares


def test_shares_cover_every_level_and_noise_is_rare_for_the_autoencoder():
    for shares in (dit_shares(), vae_shares()):
        assert shares.keys() == LEVELS.keys()
        assert sum(shares.values()) == pytest.approx(1)
    fixed = [dit_shares()[name] for name in ("easy", "clean", "hard")]
    assert fixed == pytest.approx([0.15, 0.15, 0.3])
    assert sum(dit_shares(0.8)[name] for name in ("easy", "clean")) == pytest.approx(0.8)
    assert sum(dit_shares(1.0).values()) == pytest.approx(1)
    assert vae_shares()["noise"] < 0.3 * vae_shares()["blur"] == pytest.approx(0.3 * vae_shares()["warp"])


def test_levels_and_pictures_come_up_as_often_as_their_shares(monkeypatch):
    drawn = []
    monkeypatch.setattr(mixture, "Scenes", lambda *_, level, pictures: drawn.append((level.name, pictures is not None)))
    pictures = Pictures({"one": torch.zeros((80, 80, 3), dtype=torch.uint8)}, "train")
    mixed = Mixture(SMALL, pictures=pictures)
    for seed in range(4000):
        mixed.scenes(2, torch.Generator().manual_seed(seed))
    counts = Counter(level for level, _ in drawn)
    for level, share in dit_shares().items():
        assert counts[level] / 4000 == pytest.approx(share, abs=0.03)
    for level in ("easy", "hard"):
        assert sum(pictured for name, pictured in drawn if name == level) / counts[level] == pytest.approx(0.5, abs=0.1)


def test_a_batch_has_several_chunks_and_depends_on_its_seed_alone():
    mixed = Mixture(SMALL, {"easy": 1.0})
    one, again, other = (mixed.videos(5, torch.Generator().manual_seed(seed), 3) for seed in (1, 1, 2))
    assert one.shape == (5, 3, SMALL.frames, SMALL.size, SMALL.size)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
