"""Tests training in several processes, against one process that takes the part of each of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from vcorr_tiny.train import SMALL
from vcorr_tiny.training.dit import DitSettings, DitTrainer, LatentPool
from vcorr_tiny.training.mixture import Mixture, vae_shares
from vcorr_tiny.training.ranks import Ranks
from vcorr_tiny.training.run import Budget, Log, Run
from vcorr_tiny.training.stages import Training
from vcorr_tiny.training.vae import VaeSettings, VaeTrainer

STEPS = 2
SIZES = f"--vae-steps {STEPS} --dit-steps {STEPS} --vae-batch 4 --dit-batch 4 --pool 8 --fresh 2 --refill-every 2"
OPTIONS = f"--small --device cpu --measure-every 1 --measure-clips 1 --clips 1 --sample-steps 0 {SIZES}"

pytestmark = pytest.mark.slow  # two processes that import everything


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder in which two processes trained both stages."""
    folder = tmp_path_factory.mktemp("together")
    script = Path(__file__).parent / "two_processes.py"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, str(script), str(folder), "run", "--out", str(folder), *OPTIONS.split()]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def run_of(rank: int, folder: Path) -> Run:
    return Run(SMALL, 0, torch.device("cpu"), Log(folder / "ignored.jsonl", silent=True), ranks=Ranks(rank, 2))


def test_two_processes_keep_equal_weights_at_every_step(folder: Path) -> None:
    first, second = (load_file(folder / f"rank-{rank}.safetensors") for rank in range(2))
    assert first.keys() == second.keys()
    assert {name.split("/")[0] for name in first} == {str(step) for step in range(2 * STEPS)}
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_their_gradient_is_the_mean_over_the_videos_of_both(folder: Path) -> None:
    recorded = load_file(folder / "rank-0.safetensors")
    vae = [VaeTrainer(run_of(r, folder), Budget(2), Mixture(SMALL, vae_shares()), VaeSettings(batch=4)) for r in (0, 1)]
    for trainer in vae:
        trainer.backward()
    check_mean(recorded, 0, [dict(trainer.vae.named_parameters()) for trainer in vae])

    denoisers = []
    for rank in (0, 1):
        training = Training(run_of(rank, folder), folder / "elsewhere")
        training.share_vae(folder / "state")
        settings = DitSettings(batch=4, pool=8, fresh=2, refill_every=2)
        trainer = DitTrainer(training.run, Budget(2), settings)
        trainer.backward(LatentPool(training.run, settings, training.autoencoder(), Mixture(SMALL), 0))
        denoisers.append(trainer.named)
    check_mean(recorded, STEPS, denoisers)


def check_mean(recorded: dict[str, torch.Tensor], step: int, parts: list[dict[str, torch.nn.Parameter]]) -> None:
    different = 0
    for name, parameter in parts[0].items():
        pair = [torch.zeros_like(p) if p.grad is None else p.grad for p in (parameter, parts[1][name])]
        torch.testing.assert_close(recorded[f"{step}/gradient/{name}"], sum(pair) / 2, rtol=1e-4, atol=1e-6)
        different += not torch.equal(*pair)
    assert different, "both processes drew the same videos"


def test_only_the_first_process_logs(folder: Path) -> None:
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert sum('"kind": "vae-quality"' in line for line in lines) == 1
    assert sum('"kind": "finished"' in line for line in lines) == 1


def test_unequal_shares_are_an_error() -> None:
    with pytest.raises(ValueError, match="7 videos cannot be shared by 2 processes"):
        Ranks(0, 2).share(7)
