"""Tests the procedural renderer: it is deterministic, its splits share no seed, and its tracks are exact."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor
from vcorr_tiny.networks import build_tokenizer
from vcorr_tiny.sprites.clips import frames_of, scene
from vcorr_tiny.sprites.draws import seed_of
from vcorr_tiny.sprites.scenes import Scenes
from vcorr_tiny.sprites.split_names import SPLITS
from vcorr_tiny.sprites.words import CAPTION_TOKENS, END, PAD, TOKENS
from vcorr_tiny.training.run import stream_seed

SIZE, FRAMES = 64, 9


def batch(count: int = 3, seed: int = 7) -> Scenes:
    return Scenes(count, torch.Generator().manual_seed(seed), SIZE, FRAMES)


def grid(step: float = 4.0) -> Tensor:
    """Returns query points (N, 2) all over the image."""
    axis = torch.arange(step / 2, SIZE, step)
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(-1, 2)


def remove_light(scenes: Scenes) -> Scenes:
    """Switches off the light of the scenes, so that colours can check their tracks."""
    scenes.light.amplitude.zero_()
    return scenes


def colours_at(video: Tensor, xy: Tensor) -> Tensor:
    """Returns the colours (N, T, 3) of a video (3, T, S, S) at pixel positions (N, T, 2), bilinear between centres."""
    where = (xy.transpose(0, 1) / SIZE * 2 - 1)[:, :, None]
    found = torch.nn.functional.grid_sample(video.transpose(0, 1), where, padding_mode="border", align_corners=False)
    return found[..., 0].permute(2, 0, 1)


def test_a_clip_is_the_same_bytes_every_time_and_differs_from_its_neighbour() -> None:
    first, again, other = (frames_of(scene("test", index)) for index in (3, 3, 4))
    assert first.shape == (17, 128, 128, 3)
    assert first.dtype == torch.uint8
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_clip_does_not_depend_on_what_was_drawn_before() -> None:
    torch.manual_seed(1)
    alone = scene("test", 5, SIZE, FRAMES).render()
    torch.rand(1000)
    scene("test", 4, SIZE, FRAMES)
    assert torch.equal(alone, scene("test", 5, SIZE, FRAMES).render())


def test_splits_never_share_a_seed() -> None:
    highest = 2**30 - 1
    ranges = [(seed_of(split, 0), seed_of(split, highest)) for split in SPLITS]
    for (_, end), (start, _) in pairwise(ranges):
        assert end < start
    assert max(end for _, end in ranges) < 2**32  # torch's CPU generator reads 32 bits of a seed
    with pytest.raises(ValueError, match="outside"):
        seed_of("train", highest + 1)
    with pytest.raises(ValueError, match="unknown split"):
        seed_of("holdout", 0)


def test_training_draws_only_seeds_of_the_train_split() -> None:
    first, last = seed_of("train", 0), seed_of("train", 2**30 - 1)
    seeds = [stream_seed(seed, stream, number) for seed in (0, 63) for stream in range(3) for number in (0, 2**22 - 1)]
    assert all(first <= seed <= last for seed in seeds)
    assert len(set(seeds)) == len(seeds)


def test_tracks_start_at_the_query_exactly_and_visible_points_are_inside() -> None:
    scenes, points = batch(), grid()
    tracks = scenes.tracks(points)
    assert tracks.xy.shape == (3, len(points), FRAMES, 2)
    assert tracks.visible.shape == (3, len(points), FRAMES)
    assert torch.equal(tracks.xy[:, :, 0], points.expand(3, -1, -1))
    assert tracks.visible[:, :, 0].all()
    seen = tracks.xy[tracks.visible]
    assert seen.min() >= 0
    assert seen.max() <= SIZE


def test_queries_may_be_shared_or_per_scene() -> None:
    scenes, points = batch(), grid(16)
    shared = scenes.tracks(points)
    own = scenes.tracks(torch.stack([points, points + 1, points]))
    assert torch.equal(shared.xy[0], own.xy[0])
    assert torch.equal(shared.visible[2], own.visible[2])
    assert not torch.equal(shared.xy[1], own.xy[1])


def test_tracks_compose_with_the_layers_similarity() -> None:
    scenes = batch()
    tracks = scenes.tracks(grid())
    half = SIZE / 2
    position = torch.complex(tracks.xy[..., 0] - half, tracks.xy[..., 1] - half)
    index = tracks.layer[..., None].expand(-1, -1, FRAMES)
    alpha, beta = (torch.gather(values, 1, index) for values in (scenes.alpha, scenes.beta))
    # In the coordinates of its layer, a track stays at one point.
    local = (position - beta) / alpha
    assert (local - local[..., :1]).abs().max() < 1e-3


def test_visible_points_keep_their_colour() -> None:
    for index in range(6):
        scenes = remove_light(scene("test", index, SIZE, FRAMES))
        video = scenes.render()[0]
        tracks = scenes.tracks(grid(3))
        colours = colours_at(video, tracks.xy[0])
        change = (colours - colours[:, :1]).abs().amax(-1)
        # The few points near an outline blend with the layer behind.
        assert change[tracks.visible[0]].quantile(0.85) < 0.12
        static = torch.cdist(colours.mean(1), colours.mean(1)).mean()
        assert change[tracks.visible[0]].median() < 0.3 * static


def test_a_covered_point_is_hidden_and_seen_again() -> None:
    scenes = batch(1)
    still, shift = torch.complex(torch.ones(FRAMES), torch.zeros(FRAMES)), torch.linspace(-24, 24, FRAMES)
    # Only the first sprite moves: a disk that passes over the middle.
    scenes.alpha[:] = still
    scenes.beta[:] = 0
    scenes.beta[0, 1] = torch.complex(shift, torch.zeros(FRAMES))
    scenes.present[:] = torch.tensor([True, False, False, False])
    scenes.shape[:] = 0
    scenes.radius[:] = 10
    middle = torch.tensor([[SIZE / 2, SIZE / 2]])
    tracks = scenes.tracks(middle)
    assert tracks.layer.item() == 0
    assert torch.equal(tracks.visible[0, 0], shift.abs() >= 10)
    riding = scenes.tracks(middle + torch.tensor([[-24.0, 0.0]]))
    assert riding.layer.item() == 1
    assert torch.allclose(riding.xy[0, 0, :, 0], SIZE / 2 + shift)
    assert riding.visible.all()


def test_the_data_hold_occlusion_still_scenes_and_camera_motion() -> None:
    scenes = batch(32)
    tracks = scenes.tracks(grid(8))
    inside = ((tracks.xy > 0) & (tracks.xy < SIZE)).all(-1)
    assert (inside & ~tracks.visible).any()
    moved = (tracks.xy[:, :, -1] - tracks.xy[:, :, 0]).norm(dim=-1)
    background = torch.where(tracks.layer == 0, moved, 0).amax(1)
    assert (background > 8).any()
    assert (background < 1e-3).any()


def test_captions_tokens_and_tokenizer_agree() -> None:
    scenes = batch(8)
    ids = scenes.token_ids()
    captions = scenes.captions()
    assert ids.shape == (8, CAPTION_TOKENS)
    for caption, own in zip(captions, ids.tolist(), strict=True):
        words = [TOKENS[word] for word in [*caption.split(), END]]
        assert own == words + [TOKENS[PAD]] * (CAPTION_TOKENS - len(words))
    tokenizer = build_tokenizer()
    read = tokenizer(captions, padding="max_length", max_length=CAPTION_TOKENS, return_tensors="pt").input_ids
    assert torch.equal(read, ids)
    assert captions[0].count(" . ") == int(scenes.present[0].sum())


def test_distances_to_outlines_agree_with_a_picture_of_the_layers():
    size, fine = 64, 4
    scene = Scenes(3, torch.Generator().manual_seed(5), size=size, frames=3)
    axis = (torch.arange(size * fine) + 0.5) / fine
    points = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(-1, 2)
    layers = scene.tracks(points).layer.reshape(3, size * fine, size * fine)
    queries = torch.rand((40, 2), generator=torch.Generator().manual_seed(0)) * size
    distance = scene.boundary_distances(queries)
    for i in range(3):
        changes = torch.zeros_like(layers[i], dtype=torch.bool)
        changes[:, 1:] |= layers[i, :, 1:] != layers[i, :, :-1]
        changes[1:] |= layers[i, 1:] != layers[i, :-1]
        edges = points.reshape(size * fine, size * fine, 2)[changes]
        expected = torch.cdist(queries, edges).amin(-1)
        assert (distance[i] - expected).abs().max() < 0.4


def test_distances_where_no_outline_is_seen_are_infinite():
    scene = Scenes(1, torch.Generator().manual_seed(0), size=32, frames=2)
    scene.present[:] = False
    assert torch.isinf(scene.boundary_distances(torch.tensor([[4.0, 4.0]]))).all()
