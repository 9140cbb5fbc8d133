"""The study of guidances on the embedded model: the text for its page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from vcorr_tiny import guided_videos
from vcorr_tiny.command_runs import Work
from vcorr_tiny.guided_videos import make_block

from vcorr import installed
from vcorr.cli.main import cli
from vcorr.runner import coordinator
from vcorr.runner.plan import make_plan
from vcorr.studies.guidance_arms import Arm, find_option_names, parse_arms
from vcorr.studies.guidance_rows import GuidanceRow
from vcorr.studies.guidance_study import ArmRuns, GuidanceStudy
from vcorr.studies.study_runs import RUNS

FACTS = {"clips": 8, "dataset": "sprites", "seeds": [42], "num_steps": 20, "cfg": 2.0}


def make_study(*rows: GuidanceRow) -> GuidanceStudy:
    arms = [ArmRuns(Arm(name, name), {}, "", float("nan"), 0) for name in ("none", "cag")]
    return GuidanceStudy(Path(), tuple(arms), rows, {}, FACTS)


def test_the_block_has_every_difference_from_none_and_says_what_it_means() -> None:
    common = {"guidance": "cag", "control": "none", "layers": "7", "value": 0.5, "prompts": 8}
    better = GuidanceRow(metric="track_survival", difference=0.1, low=0.05, high=0.15, p=0.01, p_holm=0.02, **common)
    still = GuidanceRow(metric="dynamic_degree", difference=-3.0, low=-4, high=-2, p=1e-5, p_holm=1e-5, **common)
    chance = GuidanceRow(metric="flicker", better="lower", difference=-0.01, p=0.5, p_holm=0.5, **common)
    other = GuidanceRow(metric="flicker", guidance="cag", control="more-steps", difference=9.0)
    block = make_block(make_study(better, still, chance, other))
    assert "| `track_survival` | `cag` | 7 | 0.5 | **+0.1** | +0.05 … +0.15 | 0.020 |" in block
    assert "| `flicker` | `cag` | 7 | 0.5 | -0.01 | – | 0.500 |" in block
    assert "+9" not in block
    assert "- `cag`: better: track_survival; it moves less." in block
    assert "| -3 | -4 … -2 | < 0.001 |" in block.replace("**", "")
    assert "8 captions of `sprites`, seed 42, 20 steps" in block


@pytest.mark.parametrize("label", ["none", "cag+layers=6,7+steps=0-2", "more-steps+factor=2"])
def test_the_study_takes_the_videos_of_its_tasks(label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks that a task and the study make the same plan in the same folder, so that nothing is generated twice."""
    seen = []
    monkeypatch.setattr(coordinator, "execute", lambda plan, out, **rest: seen.append((plan, out)))
    arm = next(one for one in parse_arms(f"pag,{label}", installed()) if one.label == label)
    words = guided_videos.generate(Work(Path("out"), 3), 6, arm).words
    CliRunner().invoke(cli, [*words, "--device", "cpu", "--dtype", "float32"])
    ((plan, out),) = seen
    spec = arm.fill(guided_videos.make_spec(3, 6, "cpu"), find_option_names(arm, installed()))
    assert plan.fingerprints() == make_plan(spec, installed()).fingerprints()
    assert out == Path("out") / RUNS


def test_a_block_without_a_difference_says_so() -> None:
    row = GuidanceRow(metric="flicker", guidance="cag", control="none", difference=0.1, p=0.5, p_holm=1.0, prompts=8)
    assert "- `cag`: no score differs by more than chance." in make_block(make_study(row))
    few = replace(row, prompts=5)
    assert "- `cag`: 5 prompts cannot give the test a p under 0.062" in make_block(make_study(few))
