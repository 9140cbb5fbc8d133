"""Tests for latent frames that a training shows without noise."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given as drawn
from hypothesis import strategies as st
from vcorr_tiny.train import SMALL
from vcorr_tiny.training.dit import DitSettings, DitTrainer, Noiser
from vcorr_tiny.training.given_frames import draw_given, mean_of_noisy
from vcorr_tiny.training.run import Budget, Log, Run

FRAMES, CHANNELS, SIDE = SMALL.latent_frames, SMALL.latent_channels, SMALL.latent_size


@drawn(st.integers(1, 6), st.floats(0, 1), st.integers(0, 2**32))
def test_one_frame_at_least_has_noise(frames: int, share: float, seed: int) -> None:
    given = draw_given(40, frames, share, torch.Generator().manual_seed(seed))
    assert given.shape == (40, frames)
    assert given.sum(1).max() <= min(2, frames - 1)
    assert share or not given.any()
    assert share < 1 or frames == 1 or given.any(1).all()


def test_shares_numbers_and_places_are_as_stated() -> None:
    given = draw_given(20_000, 5, 0.3, torch.Generator().manual_seed(0))
    numbers = given.sum(1)
    assert float((numbers > 0).float().mean()) == pytest.approx(0.3, abs=0.02)
    assert float((numbers == 2).float().sum() / (numbers > 0).sum()) == pytest.approx(0.5, abs=0.03)
    assert given.float().mean(0).tolist() == pytest.approx([0.3 * 1.5 / 5] * 5, abs=0.01)


def test_the_mean_is_over_frames_with_noise() -> None:
    values = torch.tensor([[1.0, 2.0, 6.0], [1.0, 2.0, 6.0]])
    given = torch.tensor([[False, False, True], [False, False, False]])
    assert mean_of_noisy(values, given).tolist() == [1.5, 3.0]


class Echo(torch.nn.Module):
    """Stands for the denoiser: keeps what it was shown and predicts ``answer`` everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = torch.nn.Parameter(torch.zeros(()))

    def forward(self, noisy, token_ids, timestep, rotary):
        self.shown = noisy
        return self.answer.expand(noisy.shape)


class Ramp(Noiser):
    """Replaces latents by noise, and makes the number of the frame the velocity."""

    def __call__(self, latents, noise, timestep):
        return noise, torch.arange(FRAMES).view(1, -1, 1, 1, 1) * torch.ones_like(noise)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_given_frames_are_shown_as_they_are_and_cost_nothing(share: float, tmp_path) -> None:
    run = Run(SMALL, 0, torch.device("cpu"), Log(tmp_path / "log.jsonl"))
    trainer = DitTrainer(run, Budget(1), DitSettings(batch=8, given=share))
    trainer.model = Echo()
    trainer.noiser = Ramp(trainer.noiser.signal)
    latents = torch.full((8, FRAMES, CHANNELS, SIDE, SIDE), 7.0)
    ids = torch.zeros((8, 32), dtype=torch.int64)
    pool = SimpleNamespace(advance=lambda step: None, draw=lambda count, generator: (latents, ids))
    sums, counts = trainer.backward(pool)
    clean = (trainer.model.shown == 7.0).flatten(2).all(2)
    assert clean.any(1).tolist() == [bool(share)] * 8
    assert int(counts.sum()) == 8
    expected = [torch.tensor([float(f * f) for f in range(FRAMES) if not row[f]]).mean() for row in clean]
    assert float(sums.sum()) == pytest.approx(float(sum(expected)), rel=1e-5)
