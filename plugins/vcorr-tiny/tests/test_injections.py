"""Tests that injected faults do what they say, at exactly their dose, and nothing else."""

import numpy as np
import pytest
import torch
from vcorr_tiny.fault_doses import FREEZE, INJECTED, MELT, SPEED, TELEPORT, TEXTURE_JUMP
from vcorr_tiny.sprites.clips import frames_of, scene
from vcorr_tiny.sprites.injections import inject, render_injected

SIZE, FRAMES, INDEX = 64, 9, 3


def render(fault, dose):
    return render_injected(fault, dose, "test", INDEX, size=SIZE, frames=FRAMES)


def scene_of(fault, dose):
    return inject(fault, dose, "test", INDEX, size=SIZE, frames=FRAMES)


@pytest.fixture(scope="module")
def clean():
    return frames_of(scene("test", INDEX, SIZE, FRAMES, level="clean")).numpy()


@pytest.fixture(scope="module")
def on_sprites():
    """Returns points of frame 0 that lie on sprites, (N, 2)."""
    axis = torch.arange(SIZE) + 0.5
    points = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(-1, 2)
    layers = scene("test", INDEX, SIZE, FRAMES, level="clean").layers.layers_at(points)[0]
    return points[layers > 0][::7]


@pytest.mark.parametrize("fault", INJECTED, ids=lambda fault: fault.name)
def test_without_the_fault_a_clip_is_the_rendered_one(fault, clean):
    dose = fault.doses[0] if fault.is_fault else fault.worst
    np.testing.assert_array_equal(render(fault, dose), clean)


@pytest.mark.parametrize("fault", INJECTED, ids=lambda fault: fault.name)
def test_doses_rise_and_change_every_clip_but_not_its_first_frame(fault, clean):
    assert len(fault.doses) == 5
    assert list(fault.doses) == sorted(set(fault.doses))
    dose = fault.worst if fault.is_fault else fault.doses[0]
    video = render(fault, dose)
    np.testing.assert_array_equal(video[0], clean[0])
    assert (video[-1] != clean[-1]).mean() > 0.02


def test_a_jump_moves_textures_by_the_dose_and_leaves_outlines():
    still, jumping = scene_of(TEXTURE_JUMP, 0), scene_of(TEXTURE_JUMP, 4)
    np.testing.assert_array_equal(jumping.layer_map(), still.layer_map())
    for surface, unit in zip(jumping.surfaces, [SIZE, *(1.6 * jumping.radius[0]).tolist()], strict=True):
        steps = surface.shift[0].diff().abs() * unit
        np.testing.assert_allclose(sorted(steps.tolist())[-3:], 4 * SIZE / 128, rtol=1e-4)
        assert (steps > 1e-4).sum() == 3


def test_a_teleported_sprite_jumps_once_by_the_dose(on_sprites):
    apart = scene_of(TELEPORT, 16).tracks(on_sprites).xy[0] - scene_of(TELEPORT, 0).tracks(on_sprites).xy[0]
    distance = apart.norm(dim=-1)
    far = distance > 1e-3
    np.testing.assert_allclose(distance[far], 16 * SIZE / 128, rtol=1e-3)
    assert (far.diff(dim=1).sum(1) == 1).all()  # it never comes back
    assert far[:, -1].all()


def test_a_melting_sprite_bends_steadily_and_the_background_stays(on_sprites):
    rigid, half, full = (scene_of(MELT, dose) for dose in (0.0, 0.3, 0.6))
    shifts = [(s.tracks(on_sprites).xy[0] - rigid.tracks(on_sprites).xy[0]).norm(dim=-1) for s in (half, full)]
    assert (shifts[1].mean(0).diff() > 0).all()
    np.testing.assert_allclose(shifts[1].mean(), 2 * shifts[0].mean(), rtol=0.2)
    screen = torch.complex(torch.linspace(-20, 20, 9), torch.linspace(-20, 20, 9)).expand(1, FRAMES, 9)
    assert torch.equal(full.layers.locate(0, screen), rigid.layers.locate(0, screen))
    there = full.layers.warp.bend(1, screen)
    np.testing.assert_allclose(torch.view_as_real(full.layers.warp.unbend(1, there) - screen), 0, atol=1e-4)


def test_a_frozen_clip_stands_still_for_the_share(clean):
    video = render(FREEZE, 0.5)
    np.testing.assert_array_equal(video[:5], clean[:5])
    assert (video[4:] == clean[4]).all()
    assert (render(FREEZE, 1.0) == clean[0]).all()


def test_a_slower_clip_shows_the_same_scene(clean):
    slow = render(SPEED, 0.5)
    assert np.abs(slow[::2].astype(int) - clean[:5].astype(int)).max() <= 1
