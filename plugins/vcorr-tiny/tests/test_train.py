"""Tests the training script on a small model: it runs, logs, resumes exactly and writes a loadable pipeline."""

import json
import time
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import CogVideoXPipeline
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from vcorr_tiny.networks import TinyConfig, build_pipeline, build_vae
from vcorr_tiny.sprites.levels import LEVELS
from vcorr_tiny.sprites.pictures import Pictures
from vcorr_tiny.train import SMALL, main
from vcorr_tiny.training.dit import Denoiser, DitSettings, DitTrainer, LatentPool, focus_on
from vcorr_tiny.training.mixture import Mixture
from vcorr_tiny.training.optim import orthogonalise
from vcorr_tiny.training.parts import load_parts, save_parts
from vcorr_tiny.training.quality import quality
from vcorr_tiny.training.results import PROMPTS, Finished, draw_samples
from vcorr_tiny.training.run import Budget, Log, Run
from vcorr_tiny.training.sheets import LINE, MARGIN
from vcorr_tiny.training.stages import Training
from vcorr_tiny.training.vae import VaeSettings, edge_error

from vcorr import UsageError

STEPS = 4


@dataclass
class Interrupted(Run):
    """A run that is out of time after `looks` looks at the clock, one per step."""

    looks: int = 10**9

    @property
    def out_of_time(self) -> bool:
        self.looks -= 1
        return self.looks < 0


def training_at(folder: Path, looks: int = 10**9) -> Training:
    run = Interrupted(SMALL, 0, torch.device("cpu"), Log(folder / "log.jsonl"), looks=looks)
    training = Training(run, folder / "state")
    training.vae_budget.steps = training.dit_budget.steps = STEPS
    training.vae_settings = VaeSettings(batch=2, log_every=2, clips=2)
    training.dit_settings = DitSettings(batch=4, pool=6, fresh=2, refill_every=3, log_every=2)
    training.resume()
    return training


def train_in_pieces(folder: Path, looks: list[int]) -> dict[str, torch.Tensor]:
    """Trains with an interruption after each of ``looks``, then to the end; returns the final checkpoint."""
    for look in looks:
        training = training_at(folder, look)
        assert not training.train()
        training.save(training.state)
    training = training_at(folder)
    assert training.train()
    training.save(training.state)
    return load_parts(training.state)[0]


def records(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """Returns the last checkpoint of an uninterrupted run."""
    return train_in_pieces(tmp_path_factory.mktemp("whole"), [])


@pytest.mark.parametrize("looks", [[STEPS + 2], [0, 3, 4]])
def test_an_interrupted_run_ends_with_the_same_weights(
    tmp_path: Path, whole: dict[str, torch.Tensor], looks: list[int]
) -> None:
    pieces = train_in_pieces(tmp_path, looks)
    assert whole.keys() == pieces.keys()
    assert all(torch.equal(whole[name], pieces[name]) for name in whole)


def test_the_command_line_trains_logs_and_writes_a_pipeline(tmp_path: Path) -> None:
    sizes = "--vae-steps 2 --dit-steps 4 --vae-batch 2 --dit-batch 4 --pool 6 --fresh 2 --clips 2 --measure-clips 2"
    options = f"--small --device cpu --log-every 2 --measure-every 2 --sample-steps 2 {sizes}".split()
    main(["run", "--out", str(tmp_path), "--levels", "--compact", str(tmp_path / "compact"), *options])

    assert [record["step"] for record in records(tmp_path, "vae")] == [2]
    assert [record["step"] for record in records(tmp_path, "dit")] == [2, 4]
    assert all({"seconds", "loss", "rate"} <= record.keys() for record in records(tmp_path, "dit"))
    (quality,) = records(tmp_path, "vae-quality")
    assert all(quality["kinds"][level]["psnr"] > 0 for level in ("easy", "hard"))
    (matching,) = records(tmp_path, "matching")
    for level in ("easy", "hard"):
        assert {len(layers) for layers in matching[level]["query_key"].values()} == {SMALL.layers}
        assert {len(heads) for layers in matching[level]["heads"].values() for heads in layers} == {SMALL.heads}
    evaluation = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))
    baselines = evaluation["matching"]["hard"]["baselines"]
    assert baselines["zero_motion"]["skill"] == 0
    assert baselines["oracle"]["skill"] == pytest.approx(1)
    assert evaluation["matching"].keys() | evaluation["matching_levels"].keys() == LEVELS.keys()
    sheets = {"tiny-data.png", "tiny-levels.png", "tiny-vae.png", "tiny-samples.png"}
    assert {path.name for path in tmp_path.glob("*.png")} == sheets

    compact, facts = load_parts(tmp_path / "compact")
    assert {value.dtype for value in compact.values()} == {torch.bfloat16}
    assert {name.split("/")[0] for name in compact} == {"vae", "average"}
    assert facts["dit_steps"] == 4
    pipeline = CogVideoXPipeline.from_pretrained(tmp_path / "pipe")
    trained = pipeline.transformer.proj_out.weight
    assert torch.equal(trained, compact["average/transformer.proj_out.weight"].float())
    assert pipeline.vae.config.scaling_factor == facts["scaling"]
    assert not any(path.suffix in {".bin", ".pt", ".pkl"} for path in tmp_path.rglob("*"))


def test_a_finished_pipeline_is_trained_on_around_its_autoencoder(tmp_path: Path) -> None:
    sizes = "--dit-batch 4 --pool 6 --fresh 2 --measure-every 0 --measure-clips 2 --clips 2 --sample-steps 0"
    options = f"--small --device cpu {sizes}".split()
    main(["run", "--out", str(tmp_path / "a"), "--vae-steps", "1", "--vae-batch", "2", "--dit-steps", "1", *options])
    before = CogVideoXPipeline.from_pretrained(tmp_path / "a" / "pipe")

    start = ["--from", str(tmp_path / "a" / "pipe"), "--seed", "1", "--log-every", "5"]
    start += ["--dit-rate", "0.0005", "--focus", "0.4", "--plain", "0.6"]
    main(["run", "--out", str(tmp_path / "b"), *start, "--dit-steps", "40", *options])

    after = CogVideoXPipeline.from_pretrained(tmp_path / "b" / "pipe")
    assert after.vae.config.scaling_factor == before.vae.config.scaling_factor
    assert all(torch.equal(a, b) for a, b in zip(after.vae.parameters(), before.vae.parameters(), strict=True))
    first = "transformer_blocks.0.attn1.to_q.weight"
    moved, origin = (pipe.transformer.state_dict()[first] for pipe in (after, before))
    assert not torch.equal(moved, origin)
    assert 0 < max(record["rate"] for record in records(tmp_path / "b", "dit")) < 0.0005 * 40 / 200 + 1e-9
    # after a start from random weights, the distance would be as large as between two random draws
    assert (moved - origin).norm() < 0.5 * origin.norm()

    main(
        ["run", "--out", str(tmp_path / "b"), *start, "--dit-steps", "40", *options]
    )  # a checkpoint takes precedence over --from
    again = CogVideoXPipeline.from_pretrained(tmp_path / "b" / "pipe")
    assert torch.equal(again.transformer.state_dict()[first], moved)


def test_seeds_share_one_autoencoder(tmp_path: Path) -> None:
    sizes = "--dit-batch 4 --pool 6 --fresh 2 --measure-every 0 --measure-clips 2 --clips 2 --sample-steps 0"
    options = f"--small --device cpu {sizes}".split()
    main(["run", "--out", str(tmp_path / "vae"), "--vae-steps", "1", "--vae-batch", "2", *options])
    assert [path.name for path in (tmp_path / "vae" / "pipe").iterdir()] == ["vae"]
    vae, facts = load_parts(tmp_path / "vae" / "state")
    for seed in ("0", "1"):
        out = tmp_path / seed
        compact = ["--compact", str(out / "compact"), "--denoiser-only"]
        shared = ["--vae", str(tmp_path / "vae" / "state"), "--seed", seed, "--dit-steps", "2"]
        main(["run", "--out", str(out), *shared, *compact, *options])
        assert {path.name for path in (out / "pipe").iterdir()} == {"transformer", "text_encoder"}

    states = [load_parts(tmp_path / seed / "state") for seed in ("0", "1")]
    for tensors, found in states:
        assert found["scaling"] == facts["scaling"]
        assert all(torch.equal(tensors[name], value) for name, value in vae.items() if name.startswith("vae/"))
    average = "average/transformer.proj_out.weight"
    assert not torch.equal(states[0][0][average], states[1][0][average])

    with pytest.raises(UsageError, match="holds no trained denoiser"):
        main(["export", "--out", str(tmp_path / "vae"), "--small", "--device", "cpu"])

    # A compact checkpoint starts a later run, which needs to know the autoencoder.
    small = tmp_path / "0" / "compact"
    assert {name.split("/")[0] for name in load_parts(small)[0]} == {"average"}
    again = ["run", "--out", str(tmp_path / "again"), "--state", str(small), "--dit-steps", "3", *options]
    with pytest.raises(UsageError, match="without its autoencoder"):
        main(again)
    main([*again, "--vae", str(tmp_path / "vae" / "state")])
    assert load_parts(small)[1]["dit_steps"] == 3


@pytest.mark.parametrize(
    ("option", "message"), [("--vae", "neither a checkpoint nor a pipeline"), ("--from", "is no pipeline folder")]
)
def test_a_folder_without_networks_is_named(tmp_path: Path, option: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        main(["run", "--out", str(tmp_path), "--small", "--device", "cpu", option, str(tmp_path)])


def test_an_autoencoder_of_other_sizes_is_taken_as_it_is(tmp_path: Path) -> None:
    other = replace(SMALL, vae_channels=(8, 16, 16))
    build_pipeline(other).save_pretrained(tmp_path / "pipe")
    training = training_at(tmp_path)
    training.share_vae(tmp_path / "pipe")
    assert tuple(training.autoencoder().config.block_out_channels) == other.vae_channels


def test_a_decoder_is_trained_on_behind_an_encoder_that_stays(tmp_path: Path) -> None:
    options = ["--small", "--device", "cpu", "--vae-batch", "6", "--measure-clips", "4", "--sample-steps", "0"]
    main(["run", "--out", str(tmp_path / "vae"), "--vae-steps", "4", *options])
    tune = ["run", "--out", str(tmp_path / "tuned"), "--vae", str(tmp_path / "vae" / "state"), "--decoder-only"]
    with pytest.raises(UsageError, match="--decoder-only needs"):
        main(["run", "--out", str(tmp_path / "tuned"), "--decoder-only", *options])
    main([*tune, "--vae-steps", "25", "--stop-after", "0", *options])
    main([*tune, "--vae-steps", "25", *options])

    (first, facts), (second, tuned) = (load_parts(tmp_path / name / "state") for name in ("vae", "tuned"))
    assert tuned["scaling"] == facts["scaling"]
    assert first.keys() == second.keys()
    moved = {name for name in first if not torch.equal(first[name], second[name])}
    assert "vae/decoder.conv_out.conv.weight" in moved
    assert all(name.startswith("vae/decoder.") for name in moved)
    (before,), (after,) = (records(tmp_path / name, "vae-quality") for name in ("vae", "tuned"))
    assert after["kinds"]["easy"]["psnr"] > before["kinds"]["easy"]["psnr"]

    # a denoiser is put together with the decoder that --vae names, although its checkpoint holds another one
    sizes = "--dit-steps 1 --dit-batch 2 --pool 2 --fresh 2 --measure-every 0 --clips 1 --sample-steps 0"
    seed = ["run", "--out", str(tmp_path / "seed"), "--vae", str(tmp_path / "vae" / "state")]
    main([*seed, "--small", "--device", "cpu", *sizes.split()])
    tuned_vae = str(tmp_path / "tuned" / "pipe")
    main(["export", "--out", str(tmp_path / "seed"), "--vae", tuned_vae, "--small", "--device", "cpu"])
    exported = CogVideoXPipeline.from_pretrained(tmp_path / "seed" / "pipe").vae
    assert torch.equal(exported.decoder.conv_out.conv.weight, second["vae/decoder.conv_out.conv.weight"].float())
    assert exported.config.scaling_factor == facts["scaling"]


def test_a_training_goes_on_with_the_pictures_it_began_with(tmp_path: Path) -> None:
    training = training_at(tmp_path, 2)
    assert not training.train()
    training.save(training.state)
    picture = torch.randint(0, 256, (80, 80, 3), dtype=torch.uint8)
    changed = Training(training.run, training.state, Pictures({"one": picture}, "train"))
    changed.vae_budget.steps = STEPS
    with pytest.raises(UsageError, match="0 pictures, and now there are 1"):
        changed.resume()


def test_pictures_are_measured_and_sampled_as_a_kind_of_their_own(tmp_path: Path) -> None:
    run = Run(SMALL, 0, torch.device("cpu"), Log(Path("unused"), silent=True))
    picture = torch.randint(0, 256, (80, 80, 3), dtype=torch.uint8)
    pictures = Pictures({"one": picture}, "train")
    assert quality(run, build_vae(SMALL), 1).kinds.keys() == {"easy", "hard"}
    found = quality(run, build_vae(SMALL), 2, pictures)
    assert found.kinds.keys() == {"easy", "hard", "pictures"}
    model = Finished(run, build_vae(SMALL).eval(), Denoiser(SMALL).eval(), pictures)
    draw_samples(model, tmp_path / "samples.png", 1)
    lines = 1 + len(PROMPTS) // 2  # two videos per line, and one more line for the pictures
    with Image.open(tmp_path / "samples.png") as page:
        assert page.height == lines * (SMALL.size + LINE + MARGIN)


@given(steps=st.integers(0, 20), every=st.integers(1, 4), chunks=st.integers(1, 3))
@settings(max_examples=8, deadline=None)
def test_the_pool_depends_on_the_step_alone(steps: int, every: int, chunks: int) -> None:
    run = Run(SMALL, 0, torch.device("cpu"), Log(Path("unused"), silent=True))
    options = DitSettings(pool=chunks, fresh=1, refill_every=every)
    vae = build_vae(SMALL)
    pools = [LatentPool(run, options, vae, Mixture(SMALL), start) for start in (0, steps)]
    for step in range(steps):
        pools[0].advance(step)
    assert torch.equal(pools[0].latents, pools[1].latents)
    assert torch.equal(pools[0].token_ids, pools[1].token_ids)


def test_the_rate_does_not_depend_on_the_number_of_steps_before_its_fall() -> None:
    run = Run(SMALL, 0, torch.device("cpu"), Log(Path("unused"), silent=True))
    rates = {}
    for total in (1000, 2000):
        trainer = DitTrainer(run, Budget(steps=total))
        for trainer.budget.done in (0, 100, 500, 779, 999):
            rates[total, trainer.budget.done] = trainer.rate()
    assert all(rates[1000, step] == rates[2000, step] for step in (0, 100, 500, 779))
    assert rates[1000, 0] < rates[1000, 100] < rates[1000, 500] == 1
    assert rates[1000, 999] == pytest.approx(0.02)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_focused_timesteps_have_their_share_in_the_part_and_stay_in_order(share: float) -> None:
    places = (torch.arange(10_000) + 0.5) / 10_000
    moved = focus_on((0.4, 0.9), share, places)
    counts = [((moved >= low) & (moved < high)).float().mean().item() for low, high in ((0, 0.4), (0.4, 0.9), (0.9, 1))]
    assert counts == pytest.approx([0.4 * (1 - share), 0.5 * (1 - share) + share, 0.1 * (1 - share)], abs=1e-3)
    assert (moved.diff() > 0).all()
    assert moved.max() < 1
    assert share or torch.equal(moved, places)


def test_edge_errors_are_mean_differences_of_neighbours() -> None:
    error = torch.randn(1, 1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    rows = error[0, 0, 0].tolist()
    across = [abs(row[x + 1] - row[x]) for row in rows for x in range(3)]
    down = [abs(rows[y + 1][x] - rows[y][x]) for y in range(3) for x in range(4)]
    assert float(edge_error(error)) == pytest.approx((sum(across) / 12 + sum(down) / 12) / 2, rel=1e-5)


def test_parts_stay_small_and_come_back_as_they_were(tmp_path: Path) -> None:
    tensors = {f"layer-{index}": torch.randn(100, 10) for index in range(7)}
    paths = save_parts(tmp_path, tensors, {"steps": 3}, part_bytes=9000)
    assert [path.name for path in paths] == [f"part-{index:02d}.safetensors" for index in range(4)]
    assert all(path.stat().st_size < 10_000 for path in paths)
    loaded, facts = load_parts(tmp_path)
    assert facts == {"steps": 3}
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    paths[1].unlink()
    with pytest.raises(FileNotFoundError, match="3 of 4 parts"):
        load_parts(tmp_path)


def test_a_new_checkpoint_replaces_every_part_of_the_old_one(tmp_path: Path) -> None:
    save_parts(tmp_path, {str(index): torch.zeros(100) for index in range(5)}, {}, part_bytes=400)
    save_parts(tmp_path, {"only": torch.ones(3)}, {}, part_bytes=400)
    assert load_parts(tmp_path)[0].keys() == {"only"}


def test_a_checkpoint_is_whole_wherever_its_writing_is_killed(tmp_path: Path, monkeypatch) -> None:
    """Kills the writing at every change of a name; what is read is the old checkpoint or the new one."""

    def write(value: float, folder: Path) -> None:
        save_parts(folder, {str(index): torch.full((100,), value) for index in range(3)}, {"step": value}, 400)

    def stop_at(limit: int) -> None:
        calls = count()
        for name in ("rename", "unlink"):
            real = getattr(Path, name)

            def change(*arguments, real=real, **keywords):
                if next(calls) == limit:
                    raise KeyboardInterrupt
                return real(*arguments, **keywords)

            monkeypatch.setattr(Path, name, change)

    for limit in count():
        folder = tmp_path / str(limit)
        write(1.0, folder)
        (folder / "draft-07.safetensors").write_bytes(b"half")
        stop_at(limit)
        try:
            write(2.0, folder)
            ended = True
        except KeyboardInterrupt:
            ended = False
        monkeypatch.undo()
        tensors, facts = load_parts(folder)
        assert facts["step"] in (1.0, 2.0)
        assert [bool((value == facts["step"]).all()) for value in tensors.values()] == [True] * 3
        write(3.0, folder)
        assert load_parts(folder)[1] == {"step": 3.0}
        assert len(list(folder.iterdir())) == 3
        if ended:
            break
    assert limit > 5


def test_a_training_that_has_to_finish_ends_with_a_falling_rate_and_stays_finished(tmp_path: Path) -> None:
    late = training_at(tmp_path / "late")
    late.dit_budget.steps, late.finish_by = 10**6, time.monotonic() + 3
    assert late.train()
    late.save(late.state)
    assert 0 < late.dit_budget.done < 10**6
    assert late.dit_trainer is not None
    assert late.dit_trainer.rate() == 0.02
    again = training_at(tmp_path / "late")
    again.dit_budget.steps, again.finish_by = 10**6, time.monotonic() + 1000
    again.resume()
    assert again.train()
    assert again.dit_budget.done == late.dit_budget.done


def test_newton_schulz_brings_singular_values_near_one() -> None:
    matrices = torch.randn(3, 24, 8, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrices))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_the_untrained_twin_is_seeded_and_has_open_gates() -> None:
    config = TinyConfig(size=32, frames=9, vae_channels=(8, 8, 8), latent_channels=4, layers=1, heads=2, head_dim=32)
    state = torch.random.get_rng_state()
    twin, again, other = (build_pipeline(config, seed).transformer.proj_out.weight for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(twin, again)
    assert not torch.equal(twin, other)
    assert twin.abs().max() > 0
    assert build_pipeline(config, 1, zero_gates=True).transformer.proj_out.weight.abs().max() == 0
