"""The latents that a denoiser gets: cut into tokens, read once per step, for the conditional branch alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vcorr import PluginError, TokenGrid, UsageError
from vcorr.capture import TokenLayout
from vcorr.capture.latent_tokens import LatentReading
from vcorr.capture.needs import probe_needs
from vcorr.capture.recorder import Recorder
from vcorr.contract.errors import CaptureError, NumericalError
from vcorr.functional.nearest_tokens import match_nearest
from vcorr.functional.query_points import QueryPoints
from vcorr.probes.latent_probe import Latent

GRID = TokenGrid(frames=3, rows=4, cols=6, stride=(16, 16), temporal_ratio=4)
BRANCHES = TokenLayout("none", ("uncond", "cond"))


class Denoiser(torch.nn.Module):
    """A network without attention: its latents are (B, C, F', h', w')."""

    def forward(self, hidden_states):
        return hidden_states * 2


def take_second(denoiser, args, kwargs):
    """Returns the second batch row of two, or the only one."""
    return args[0][-1:]


def read(latents, probe=None, *, steps=(0,), layout=BRANCHES, reading=None, queries=((20.0, 20.0),)):
    """Returns the recorder after one pass per step with the latents, (B, C, F', h', w')."""
    denoiser = Denoiser()
    recorder = Recorder({"latent": probe or Latent()}, np.asarray(queries, np.float32))
    reading = reading or LatentReading(take_second, GRID, (1, 2, 2))
    with recorder.attach(denoiser, [], layout, GRID, latents=reading):
        for step in steps:
            with recorder.step(step, noise=0.25):
                denoiser(latents)
    return recorder


@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_tokens_and_positions_are_those_of_loops(data):
    """Draws patches in time and space, and few values, so that tokens are equally near."""
    sizes = [data.draw(st.integers(1, 3)) for _ in range(7)]
    channels, (f, h, w), patch = sizes[0], (sizes[1] + 1, sizes[2] + 1, sizes[3] + 1), tuple(sizes[4:])
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    levels = data.draw(st.sampled_from([2, 1000]))
    latents = rng.integers(0, levels, (1, channels, f * patch[0], h * patch[1], w * patch[2])).astype(np.float32)
    grid = TokenGrid(frames=f, rows=h, cols=w, stride=(16, 8), temporal_ratio=2)
    reading = LatentReading(take_second, grid, patch)
    tokens = reading.capture(torch.from_numpy(latents), step=0, noise=0.0).latent
    assert tokens.shape == (f, h, w, channels * np.prod(patch))
    frame = data.draw(st.integers(0, grid.video_frames - 1))
    queries = rng.uniform([0, 0], [grid.width, grid.height], (4, 2)).astype(np.float32)
    found = match_nearest(tokens, grid, QueryPoints(queries, frame).locate(grid, "cpu")).numpy()

    def values(j, r, c):
        spans = [slice(n * p, (n + 1) * p) for n, p in zip((j, r, c), patch, strict=True)]
        return latents[0][(slice(None), *spans)].astype(np.float64)

    own = grid.latent_at(frame)
    for (x, y), positions in zip(queries.astype(float), found, strict=True):
        row, col = min(int(y // 8), h - 1), min(int(x // 16), w - 1)
        for j in range(f):
            ranks = {
                (r, c): (
                    ((values(j, r, c) - values(own, row, col)) ** 2).sum(),
                    (16 * (c - col)) ** 2 + (8 * (r - row)) ** 2,
                )
                for r in range(h)
                for c in range(w)
            }
            best = [(x + 16 * (c - col), y + 8 * (r - row)) for r, c in ranks if ranks[r, c] == min(ranks.values())]
            expected = [(x, y)] if j == own else best
            assert any(np.allclose(positions[j], one, atol=1e-4) for one in expected)


@pytest.mark.parametrize("frame", [0, 5])
def test_latents_that_move_by_whole_tokens_give_the_tracks(frame):
    """Rolls random latents by one token down and two to the right per latent frame, around the edges."""
    picture = torch.randn(1, 5, 1, 8, 12, generator=torch.Generator().manual_seed(0))
    latents = torch.cat([picture.roll((2 * j, 4 * j), dims=(3, 4)) for j in range(3)], dim=2)
    points = QueryPoints(np.float32([[35.5, 20.25], [33, 17]]), frame)
    tokens = LatentReading(take_second, GRID, (1, 2, 2)).capture(latents, step=0, noise=0.0).latent
    found = match_nearest(tokens, GRID, points.locate(GRID, "cpu")).numpy()
    moves = np.arange(3)[:, None] * [32, 16] - GRID.latent_at(frame) * np.array([32, 16])
    np.testing.assert_array_equal(found, (points.xy.numpy()[:, None] + moves) % [96, 64])


def test_one_prediction_per_step_of_the_conditional_branch_in_float32():
    latents = torch.randn(2, 3, 3, 8, 12, generator=torch.Generator().manual_seed(1)).bfloat16()
    seen = []

    class Keeper:
        needs = frozenset({"latent"})

        def read(self, capture, queries):
            seen.append(capture.latent)
            return {-1: queries.xy[:, None].expand(-1, GRID.frames, 2)}

    found = read(latents, Keeper(), steps=(4, 7)).predictions
    assert [(p.layer, p.step, p.head, p.noise, p.readout) for p in found] == [
        (-1, 4, -1, 0.25, "token"),
        (-1, 7, -1, 0.25, "token"),
    ]
    assert seen[0].dtype == torch.float32
    token = latents[1, :, 2, 2:4, 8:10].float()
    assert torch.equal(seen[0][2, 1, 4], token.flatten())


def test_a_pass_of_another_branch_is_not_read():
    layout = TokenLayout("none", ("cond",), passes=("uncond", "cond"))
    denoiser = Denoiser()
    first, second = torch.randn(2, 1, 3, 3, 8, 12, generator=torch.Generator().manual_seed(1))
    recorder = Recorder({"latent": Latent()}, np.float32([[20, 20]]))
    reading = LatentReading(take_second, GRID, (1, 2, 2))
    with recorder.attach(denoiser, [], layout, GRID, latents=reading), recorder.step(0):
        denoiser(first)
        denoiser(second)
    tokens = reading.capture(second, step=0, noise=0.0).latent
    expected = match_nearest(tokens, GRID, QueryPoints(np.float32([[20, 20]])).locate(GRID, "cpu"))
    assert np.array_equal(recorder.predictions[0].xy, expected.numpy())


def test_a_second_pass_of_the_branch_is_refused():
    denoiser, latents = Denoiser(), torch.zeros(2, 3, 3, 8, 12)
    recorder = Recorder({"latent": Latent()}, np.float32([[20, 20]]))
    reading = LatentReading(take_second, GRID, (1, 2, 2))
    with recorder.attach(denoiser, [], BRANCHES, GRID, latents=reading):
        with pytest.raises(CaptureError, match="second pass of the conditional branch"), recorder.step(0):
            denoiser(denoiser(latents))
        with pytest.raises(CaptureError, match="tapped module"), recorder.step(1):
            pass
        with recorder.step(2):
            denoiser(latents)


@pytest.mark.parametrize("shape", [(2, 3, 3, 8, 14), (2, 3, 4, 8, 12), (2, 3, 8, 12)])
def test_latents_that_cannot_make_the_tokens_are_refused(shape):
    with pytest.raises(CaptureError, match=r"needs \(1, C, 3, 8, 12\)"):
        read(torch.zeros(shape))


def test_latents_with_nan_are_an_error_and_no_answer():
    with pytest.raises(NumericalError, match="NaN"):
        read(torch.full((2, 3, 3, 8, 12), torch.nan)).predictions  # noqa: B018


def test_a_model_that_shows_no_latents_is_refused_by_name():
    recorder = Recorder({"mine": Latent()}, np.float32([[20, 20]]))
    with (
        pytest.raises(UsageError, match="Probe 'mine' reads the latents that a denoiser gets; Denoiser shows none"),
        recorder.attach(Denoiser(), [], BRANCHES, GRID),
    ):
        pass


def test_a_probe_of_latents_needs_nothing_else():
    class Both:
        needs = frozenset({"latent", "q"})

    with pytest.raises(PluginError, match="belong to no site"):
        probe_needs("both", Both())
