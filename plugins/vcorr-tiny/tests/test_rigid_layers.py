"""The departure from rigid motion is 0 where layers are rigid, and the known number where they bend."""

import math

import numpy as np
import pytest
import torch
from vcorr_tiny import rigid_scores
from vcorr_tiny.fault_doses import MELT, TELEPORT
from vcorr_tiny.plugin import vcorr_metrics
from vcorr_tiny.rigid_layers import find_layers, fit_similarities, score_departure, to_plane
from vcorr_tiny.sprites.injections import inject
from vcorr_tiny.video_scores import ScoreRow

from vcorr import Tracks, query_grid
from vcorr.testing import assert_passed, check_metric

SIZE = (128, 128)


def follow(fault, dose, index, side=16):
    """Returns exact tracks of a rendered clip, and the layer of every point."""
    found = inject(fault, dose, "test", index, frames=9).tracks(torch.from_numpy(query_grid(side, *SIZE)))
    return Tracks(found.xy[0].numpy(), found.visible[0].numpy(), "exact"), found.layer[0].numpy()


def slow_departure(tracks, layers):
    """Returns the departure by a real least squares problem per layer and frame."""
    apart = []
    for layer in np.unique(layers):
        for t in range(1, tracks.xy.shape[1]):
            seen = (layers == layer) & tracks.visible[:, 0] & tracks.visible[:, t]
            if seen.sum() < 4:
                continue
            (x, y), end = 2.0 * tracks.xy[seen, 0].T.astype(float), 2.0 * tracks.xy[seen, t].astype(float)
            one, none = np.ones(len(x)), np.zeros(len(x))
            known = np.concatenate([np.stack([x, -y, one, none], 1), np.stack([y, x, none, one], 1)])
            fit = known @ np.linalg.lstsq(known, end.T.ravel(), rcond=None)[0]
            apart += list(np.hypot(*(fit.reshape(2, -1) - end.T)))
    return np.mean(apart), len(apart)


@pytest.mark.parametrize("index", [1, 2, 4])
def test_rendered_layers_do_not_depart_whether_they_are_known_or_found(index):
    tracks, layers = follow(MELT, 0, index)
    for given in (layers, None):
        found = score_departure(tracks, SIZE, given)
        assert found.value == pytest.approx(0, abs=1e-3)
        assert found.n > 1000


def test_layers_that_jump_as_a_whole_stay_rigid():
    tracks, layers = follow(TELEPORT, 16, 2)
    assert score_departure(tracks, SIZE, layers).value == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("dose", [0.3, 0.6])
def test_bent_layers_depart_as_least_squares_say(dose):
    tracks, layers = follow(MELT, dose, 2)
    found = score_departure(tracks, SIZE, layers)
    value, n = slow_departure(tracks, layers)
    assert found.value == pytest.approx(value, rel=1e-4)
    assert (found.n, found.value > 0.1) == (n, True)


def test_departure_grows_with_bending_also_where_layers_are_found():
    found = [score_departure(follow(MELT, dose, 4)[0], SIZE).value for dose in MELT.doses[:3]]
    assert found[0] < 1e-3 < found[1] < found[2]


def test_found_layers_are_the_rendered_ones():
    tracks, layers = follow(MELT, 0, 2)
    found = find_layers(to_plane(tracks, SIZE), tracks.visible)
    for layer in np.unique(layers):
        assert len(np.unique(found[(layers == layer) & (tracks.visible.sum(1) > 4)])) == 1
    assert len(np.unique(found)) == len(np.unique(layers))


def test_a_similarity_is_fitted_exactly_and_hidden_points_do_not_count():
    start = np.array([0, 10, 10j, 7 + 3j])
    turn, shift = np.array([1, 1.2j]), np.array([0, 5 - 2j])
    places = turn * start[:, None] + shift
    visible = np.ones((4, 2), bool)
    places[3, 1], visible[3, 1] = np.nan, False
    np.testing.assert_allclose(fit_similarities(places, visible), [turn, shift], atol=1e-12)
    assert np.isnan(fit_similarities(places[:1], visible[:1])[0]).all()


def test_nothing_visible_is_not_a_number():
    hidden = Tracks(np.full((5, 4, 2), 9, np.float32), np.zeros((5, 4), bool), "made")
    found = score_departure(hidden, SIZE)
    assert math.isnan(found.value)
    assert found.n == 0


def test_the_metric_keeps_the_contract():
    (entry,) = vcorr_metrics()
    assert (entry.task, entry.default) == ("generation", False)
    assert_passed(check_metric(entry))


def test_tables_show_the_truth_and_the_paired_difference():
    ways = {rigid_scores.KNOWN: 1.0, rigid_scores.FOUND: 0.8, rigid_scores.TRACKED: 1.1}
    rows = [
        ScoreRow("melt", dose, f"c{clip}", how, rigid_scores.METRIC, factor * dose + 0.01 * clip, 9, False)
        for clip in range(8)
        for dose in MELT.doses
        for how, factor in ways.items()
    ]
    rows += [
        ScoreRow(name, 0, f"c{clip}", rigid_scores.TRACKED, rigid_scores.METRIC, value + 0.1 * (clip % 3), 9, False)
        for clip in range(8)
        for name, value in ((rigid_scores.GENERATED, 2.0 + 0.01 * clip), (rigid_scores.RENDERED, 0.5))
    ]
    table = rigid_scores.to_table(rows)
    bending = rigid_scores.table_of_bending(table).splitlines()
    assert bending[2].startswith("| exact tracks, known layers | 0.03 (0.01 … 0.06) | 0.19 ")
    assert len(bending) == 5
    generated = rigid_scores.table_of_generated(table)
    assert "| generated minus rendered | +1.53 (+1.51 … +1.56); p = 0.0078 |" in generated
    assert generated.endswith("8 captions.")
