"""Tests the levels of the scenes: each fault does what it says, and tracks, visibility and layer maps stay exact."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from vcorr_tiny.dataset import Sprites, SpritesConfig
from vcorr_tiny.networks import build_tokenizer
from vcorr_tiny.sprites.camera_faults import defocus, draw_gains
from vcorr_tiny.sprites.clips import frames_of, scene
from vcorr_tiny.sprites.draws import Draws
from vcorr_tiny.sprites.level_names import LEVEL_NAMES
from vcorr_tiny.sprites.levels import FAULTS, LEVELS
from vcorr_tiny.sprites.scenes import Scenes
from vcorr_tiny.sprites.warps import draw_warp
from vcorr_tiny.sprites.words import CAPTION_TOKENS, FAULT_WORDS

from vcorr import DatasetEntry, UsageError
from vcorr.cli import main as program
from vcorr.contract.option_notes import notes_of
from vcorr.runner.parts import Part

SIZE, FRAMES = 64, 9
EASY_CLIPS = "2fd712926c617d9ecbc311e5be8506f51326d12b1f1c9e0df26075353e788269"
"""SHA-256 of four clips of every split, and of a batch of small scenes, before there were levels."""


def batch(level: str, count: int = 3, seed: int = 7) -> Scenes:
    return Scenes(count, torch.Generator().manual_seed(seed), SIZE, FRAMES, level=LEVELS[level])


def pixels() -> Tensor:
    """Returns all pixel centres (N, 2), row by row."""
    axis = torch.arange(SIZE) + 0.5
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(-1, 2)


def test_the_easy_level_is_the_same_bytes_as_before_there_were_levels() -> None:
    digest = hashlib.sha256()
    for split in ("train", "validation", "test"):
        data = Sprites(SpritesConfig(split=split, clips=4))
        for clip in map(data.clip, data.ids()):
            for array in (clip.video, clip.tracks.xy, clip.tracks.visible, clip.tracks.boundary):
                digest.update(array.tobytes())
            digest.update(clip.prompt.encode())
    small = Scenes(3, torch.Generator().manual_seed(5), 64, 9)
    digest.update(small.render().numpy().tobytes())
    digest.update(small.token_ids().numpy().tobytes())
    assert digest.hexdigest() == EASY_CLIPS


def test_the_names_without_torch_are_the_levels() -> None:
    assert tuple(LEVELS) == LEVEL_NAMES
    assert {name for level in LEVELS.values() for name in level.faults} == set(FAULTS)
    single = [name for name in FAULTS if tuple(LEVELS[name].faults) == (name,)]
    assert single == list(FAULTS)


@pytest.mark.parametrize("level", LEVEL_NAMES)
def test_a_clip_is_the_same_every_time_it_is_rendered(level: str) -> None:
    scenes = scene("test", 3, SIZE, FRAMES, level=level)
    assert torch.equal(scenes.render(), scenes.render())
    assert torch.equal(frames_of(scenes), frames_of(scene("test", 3, SIZE, FRAMES, level=level)))


@pytest.mark.parametrize("level", ["easy", "hard"])
def test_a_clip_does_not_depend_on_threads_order_or_the_number_of_clips(level: str) -> None:
    options = {"level": level, "size": 128, "frames": 5}
    few, many = Sprites(SpritesConfig(clips=2, **options)), Sprites(SpritesConfig(clips=900, **options))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        first = [few.clip(name) for name in ("test-0000", "test-0001")]
        torch.set_num_threads(3)
        second = [many.clip(name) for name in ("test-0001", "test-0000")][::-1]
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(first, second, strict=True):
        for name in ("video", "layers"):
            assert np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("xy", "visible", "layer", "boundary"):
            assert np.array_equal(getattr(one.tracks, name), getattr(other.tracks, name))
        assert np.array_equal(one.queries.xy, other.queries.xy)


@pytest.mark.parametrize("level", ["drift", "noise", "blur", "flicker", "repeat", "lights"])
def test_faults_of_the_picture_change_the_pixels_and_nothing_else(level: str) -> None:
    clean, faulty = batch("clean"), batch(level)
    assert torch.equal(clean.layers.alpha, faulty.layers.alpha)
    assert torch.equal(clean.layers.beta, faulty.layers.beta)
    assert torch.equal(clean.layer_map(), faulty.layer_map())
    change = (clean.render() - faulty.render()).abs().mean((1, 2, 3, 4))
    assert (change > 0.005).all()


@pytest.mark.parametrize("level", LEVEL_NAMES)
def test_a_visible_point_lies_on_its_own_layer_in_the_map_of_every_frame(level: str) -> None:
    scenes = batch(level)
    layers = scenes.layer_map().long()
    for frame in (0, FRAMES // 2):
        tracks = scenes.tracks(pixels(), frame)
        assert torch.equal(tracks.layer.view(3, SIZE, SIZE), layers[:, frame])
        for later in (0, 3, FRAMES - 1):
            column, row = tracks.xy[:, :, later].floor().long().clamp(0, SIZE - 1).unbind(-1)
            there = torch.stack([layers[i, later][row[i], column[i]] for i in range(3)])
            seen = tracks.visible[:, :, later]
            # The pixel of a point near an outline can belong to the other side
            assert ((there == tracks.layer) | ~seen).float().mean() > 0.96
            covered = ~seen & (tracks.xy[:, :, later] > 0).all(-1) & (tracks.xy[:, :, later] < SIZE).all(-1)
            assert (there[covered] > tracks.layer[covered]).float().mean() > 0.8 or not covered.any()


@pytest.mark.parametrize("level", LEVEL_NAMES)
def test_a_query_anywhere_on_a_track_gives_the_same_track(level: str) -> None:
    scenes, points = batch(level), pixels()[:: SIZE * 3 + 5]
    tracks = scenes.tracks(points)
    frame = torch.arange(len(points)) % FRAMES
    own = frame[None, :, None, None].expand(3, -1, 1, 2)
    again = scenes.tracks(tracks.xy.gather(2, own)[:, :, 0], frame)
    seen = tracks.visible.gather(2, own[..., 0])[..., 0] & (again.layer == tracks.layer)
    assert seen.float().mean() > 0.5
    assert (again.xy - tracks.xy)[seen].abs().max() < 2e-3
    assert (again.visible == tracks.visible)[seen].float().mean() > 0.995


def test_queries_in_different_frames_do_not_change_each_other() -> None:
    scenes = batch("hard")
    points, frames = pixels()[::97], torch.arange(len(pixels()[::97])) % FRAMES
    together = scenes.tracks(points, frames)
    for index in (0, 5, 11):
        alone = scenes.tracks(points[index : index + 1], int(frames[index]))
        assert torch.equal(alone.xy[:, 0], together.xy[:, index])
        assert torch.equal(alone.visible[:, 0], together.visible[:, index])


def test_a_bent_layer_is_unbent_exactly_and_never_folds() -> None:
    draws, time = Draws(torch.Generator().manual_seed(3)), torch.linspace(0, 1, FRAMES)
    warp = draw_warp(draws, torch.full((4,), 0.5), 3, time, 1.0)
    grid = torch.linspace(-60, 60, 61)
    points = torch.complex(*torch.meshgrid(grid, grid, indexing="xy")).flatten().expand(4, FRAMES, -1)
    for layer in range(3):
        bent = warp.bend(layer, points)
        assert (bent - points).abs().max() > 2
        assert (warp.unbend(layer, bent) - points).abs().max() < 1e-3
        near = warp.bend(layer, points + 0.1), warp.bend(layer, points + 0.1j)
        right, down = ((moved - bent) / 0.1 for moved in near)
        area = right.real * down.imag - right.imag * down.real
        assert (area - 1).abs().max() < 0.02  # shears keep areas


def test_one_thing_in_ten_stands_still_at_all_levels_but_easy() -> None:
    for level, camera, sprites in (("easy", 1 / 7, 1 / 5), ("clean", 1 / 10, 1 / 10), ("hard", 1 / 10, 1 / 10)):
        scenes = Scenes(384, torch.Generator().manual_seed(4), 16, 3, level=LEVELS[level])
        assert abs((scenes.camera == 0).float().mean() - camera) < 0.05
        assert abs((scenes.move == 0).float().mean() - sprites) < 0.03
        stands = (scenes.beta - scenes.beta[..., :1]).abs().amax(-1)[:, 0] < 1e-4
        assert not stands[scenes.camera > 0].float().mean() > 0.5


def test_fast_sprites_cross_more_than_eight_tokens() -> None:
    scenes = (Scenes(64, torch.Generator().manual_seed(4), 16, 3, level=LEVELS[name]) for name in ("clean", "fast"))
    clean, fast = (each.layers.beta[:, 1:5] for each in scenes)
    lengths = [(path[..., -1] - path[..., 0]).abs() for path in (clean, fast)]  # a token is a sixteenth of the side
    assert lengths[0].median() < 6
    assert lengths[1].median() > 8


def test_twins_look_alike_and_move_apart() -> None:
    scenes = batch("twins", 8)
    assert torch.equal(scenes.textures[:, 0], scenes.textures[:, 1])
    for values in (scenes.shape, scenes.colour, scenes.kind, scenes.radius):
        assert torch.equal(values[:, 0], values[:, 1])
        assert torch.equal(values[:, 2], values[:, 3])
    assert scenes.present[:, :2].all()
    assert (scenes.beta[:, 1] - scenes.beta[:, 2]).abs().amax(-1).median() > 5


def test_the_curtain_hides_nearly_every_point_and_gives_it_back() -> None:
    scenes = scene("test", 0, level="vanish")
    tracks = scenes.tracks(pixels() * 2)
    bare = scene("test", 0, level="clean").tracks(pixels() * 2)
    assert torch.equal(tracks.xy, bare.xy)
    assert torch.equal(tracks.visible[..., 0], bare.visible[..., 0])
    assert torch.equal(tracks.visible[..., -1], bare.visible[..., -1])
    stays = bare.visible.all(-1)
    assert (~tracks.visible).any(-1)[stays].float().mean() > 0.95


def test_gains_stay_within_their_rate_and_below_the_brightest() -> None:
    gains = draw_gains(Draws(torch.Generator().manual_seed(2)), torch.full((16,), 0.04), 5, torch.arange(17))
    steps = gains[..., 1:] / gains[..., :-1]
    assert steps.max() <= 1.0401
    assert steps.min() >= 1 / 1.0401
    assert steps.max() > 1.02
    assert gains.max() <= 1.2501
    assert torch.equal(
        draw_gains(Draws(torch.Generator().manual_seed(2)), torch.zeros(2), 3, torch.arange(5)), torch.ones(2, 3, 3, 5)
    )


def test_defocus_is_a_gaussian_that_keeps_the_brightness() -> None:
    image = torch.zeros(1, 3, 2, 41, 41)
    image[..., 20, 20] = 1
    sigma = torch.tensor([[0.0, 2.0]])
    blurred = defocus(image, sigma, 3.0)
    assert torch.equal(blurred[:, :, 0], image[:, :, 0])
    axis = torch.arange(41) - 20.0
    expected = torch.exp(-0.5 * (axis[:, None] ** 2 + axis**2) / 4)
    assert torch.allclose(blurred[0, 0, 1], expected / expected.sum(), atol=1e-5)


def test_noise_is_new_in_every_frame_and_as_strong_as_said() -> None:
    noisy, clean = (batch(level, 4) for level in ("noise", "clean"))
    difference = (noisy.render() - clean.render()) * 127.5
    grey = (clean.render().abs() < 0.1).float()
    measured = ((difference.square() * grey).sum((1, 2, 3, 4)) / grey.sum((1, 2, 3, 4))).sqrt()
    assert torch.allclose(measured, noisy.amounts["noise"], rtol=0.06)
    first, second = difference[:, :, 0].flatten(), difference[:, :, 1].flatten()
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.05


def test_captions_name_the_faults_and_fit_the_text_length() -> None:
    scenes = Scenes(64, torch.Generator().manual_seed(4), 16, 3, level=LEVELS["hard"])
    ids = scenes.token_ids()
    tokenizer = build_tokenizer()
    read = tokenizer(scenes.captions(), padding="max_length", max_length=CAPTION_TOKENS, return_tensors="pt").input_ids
    assert torch.equal(read, ids)
    for fault, word in FAULT_WORDS.items():
        said = torch.tensor([word in caption.split() for caption in scenes.captions()])
        assert torch.equal(said, scenes.amounts[fault] > 0)
    assert not any(word in caption for caption in batch("clean", 16).captions() for word in FAULT_WORDS.values())


@pytest.mark.parametrize("level", ["clean", "hard"])
def test_half_of_the_queries_lie_on_sprites(level: str) -> None:
    data = Sprites(SpritesConfig(level=level, clips=3))
    for index, clip in enumerate(map(data.clip, data.ids())):
        assert len(np.unique(clip.queries.xy, axis=0)) == 400
        layer = scene("test", index, level=level).tracks(torch.from_numpy(clip.queries.xy)).layer
        assert int((layer > 0).sum()) == 200
        assert clip.tracks.visible[:, 0].all()


def test_a_level_that_does_not_exist_is_one_clear_message() -> None:
    with pytest.raises(UsageError, match="level of sprites") as caught:
        Sprites(SpritesConfig(level="hrad"))  # type: ignore[arg-type]
    assert "hard" in str(caught.value) + str(caught.value.hint)


@pytest.mark.parametrize("name", ["clips", "grid", "size", "frames"])
def test_a_number_out_of_range_is_the_same_clear_message_for_options_and_objects(name: str, capsys) -> None:
    notes = notes_of(SpritesConfig, name)
    least, most = notes.least, notes.most
    for value in (least - 1, most + 1):
        with pytest.raises(UsageError, match=f"data.{name} must be from {least} to {most}, got {value}"):
            Sprites(dataclasses.replace(SpritesConfig(), **{name: value}))
        with pytest.raises(SystemExit) as ended:
            program.main(["run", "--model", "token-patches", "--data", "sprites", "--set", f"data.{name}={value}"])
        assert ended.value.code == UsageError.exit_code
        assert f"from {least} to {most}, got {value}" in capsys.readouterr().err
        Sprites(dataclasses.replace(SpritesConfig(), **{name: min(max(value, least), most)}))


def test_the_level_easy_is_no_part_of_fingerprints_and_the_others_are() -> None:
    def part(**changes: str) -> Part:
        entry = DatasetEntry(name="sprites", summary="", factory="vcorr_tiny.dataset:Sprites")
        return Part(entry, "vcorr-tiny 0.1", SpritesConfig(**changes))

    for easy in (part(), part(level="easy")):
        assert "level" not in easy.identity()["config"]
        assert easy.find_left_out() == {"level": "easy"}
    assert part(level="hard").identity()["config"]["level"] == "hard"
    assert part(level="hard").find_left_out() == {}


def test_a_record_names_the_level_also_if_it_is_easy(tmp_path: Path) -> None:
    make = ["run", "--model", "zero-motion", "--data", "sprites", "--limit", "1", "--set", "data.size=32"]
    with pytest.raises(SystemExit) as ended:
        program.main([*make, "--out", str(tmp_path)])
    assert not ended.value.code
    (record,) = tmp_path.glob("*/run.json")
    assert json.loads(record.read_text())["resolved"]["data"]["config"]["level"] == "easy"
