"""The probe `latent` on the command line: where it cannot read, one error says why and what to do."""

from __future__ import annotations

import pytest
from support import sliding

LINE = "run --model sliding-model --data token-slide --steps 0 --limit 1"


def test_a_model_without_latents_is_refused_by_name_before_anything_runs(vcorr, tmp_path) -> None:
    ended = vcorr(*f"{LINE} --probe qk,latent".split(), "--out", str(tmp_path / "runs"))
    assert (ended.code, ended.out) == (2, "")
    said = " ".join(ended.err.split())
    assert "Probe 'latent' reads the latents that a denoiser gets; model 'sliding-model'" in said
    assert "shows none. Leave out the probe 'latent'." in said
    assert "zncc-search" in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("variant", ["both", "difftrack"])
def test_other_variants_are_refused_as_for_every_probe_that_knows_one(vcorr, monkeypatch, variant) -> None:
    monkeypatch.setattr(sliding.SlidingModel, "has_latents", True, raising=False)
    ended = vcorr(*f"{LINE} --probe latent --dry-run --set".split(), f"variant={variant}")
    assert (ended.code, ended.out) == (2, "")
    assert "Probe 'latent' cannot predict under variant" in ended.err
    assert "it knows only 'corrected'" in " ".join(ended.err.split())


def test_a_dry_run_counts_one_prediction_per_step(vcorr, monkeypatch) -> None:
    monkeypatch.setattr(sliding.SlidingModel, "has_latents", True, raising=False)
    ended = vcorr(*f"{LINE} --probe latent --dry-run".split())
    assert (ended.code, ended.err) == (0, "")
    assert "latent" in ended.out
