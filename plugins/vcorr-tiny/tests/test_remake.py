"""Networks are made again by one command: trainings on devices, the choice, measuring, and adopting the result."""

from __future__ import annotations

import json
import re
import shutil
import tarfile
from pathlib import Path
from threading import Barrier, Lock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from vcorr_tiny.network_folder import PACKAGED_CARD, VARIABLE, find_networks
from vcorr_tiny.networks import TinyConfig, build_pipeline
from vcorr_tiny.remake import __main__ as command
from vcorr_tiny.remake import workers as working
from vcorr_tiny.remake.adopting import adopt
from vcorr_tiny.remake.choosing import SOURCE, assemble_networks, change_card
from vcorr_tiny.remake.packing import pack
from vcorr_tiny.remake.recipe import Recipe, is_finished
from vcorr_tiny.remake.workers import Cores, Workers, name_devices, share_cores
from vcorr_tiny.train import build_parser
from vcorr_tiny.training.choice import rank_layers
from vcorr_tiny.training.parts import save_parts

from vcorr import MissingError, UsageError, VcorrError
from vcorr.contract.cards import parse_card

SMALL = TinyConfig(size=32, frames=9, vae_channels=(8, 8, 8), latent_channels=4, layers=2, heads=2, head_dim=32)
QUALITY = {"kinds": {"easy": {"psnr": 33.0, "psnr_first": 37.0}}, "latent_std": 1.0, "latent_mean": 0.0}


def finish(folder: Path, seed: int, skills: tuple[float, float] = (0.1, 0.5)) -> None:
    """Writes what a finished training leaves. All seeds have the autoencoder of seed 0."""
    pipe, shared = build_pipeline(SMALL, seed=seed), build_pipeline(SMALL, seed=0)
    pipe.register_modules(vae=shared.vae)
    pipe.save_pretrained(folder / "pipe")
    matching = {"loss": {"20": 0.2}, "query_key": {"20": list(skills)}}
    evaluation = {"reconstruction": {"kinds": {}}, "matching": {"easy": matching}}
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    (folder / "log.jsonl").write_text('{"kind": "dit", "step": 3}\n{"kind": "finished"}\n')


def finish_decoder(folder: Path, seed: int) -> None:
    """Writes what the training of a decoder leaves. seed: of its encoder."""
    build_pipeline(SMALL, seed=seed).vae.save_pretrained(folder / "pipe" / "vae")
    (folder / "log.jsonl").write_text(json.dumps({"kind": "vae-quality", **QUALITY}) + '\n{"kind": "finished"}\n')


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Returns a remake whose trainings are finished; seed 1 matches best."""
    for seed in range(3):
        finish(tmp_path / "out" / f"seed-{seed}", seed, (0.1, 0.6 if seed == 1 else 0.5))
    return tmp_path / "out"


def test_the_chosen_networks_run_with_their_facts_and_their_card(out, monkeypatch) -> None:
    said = assemble_networks(out, (0, 1, 2))
    assert said.endswith(f"chosen: {out / 'seed-1'}\n")
    monkeypatch.setenv(VARIABLE, str(out / "networks"))
    networks = find_networks()
    assert (networks.facts.shipped, networks.facts.guided_layers) == (1, (0, 1))
    assert sorted(path.name for path in networks.seeds.iterdir()) == ["0", "2"]
    for seed in range(3):
        weights = "transformer/diffusion_pytorch_model.safetensors"
        own = out / f"seed-{seed}" / "pipe" / weights
        assert (networks.find_own(seed) / weights).read_bytes() == own.read_bytes()
    card = parse_card((out / "networks" / "card.yaml").read_text(), "card")
    assert list(card.extra["tracking"]["layers"]) == [1]


def test_the_decoder_that_was_trained_on_is_taken_if_its_encoder_is_the_same(out) -> None:
    finish_decoder(out / "decoder", 0)
    assemble_networks(out, (0, 1, 2))
    weights = "vae/diffusion_pytorch_model.safetensors"
    assert (out / "networks/pipe" / weights).read_bytes() == (out / "decoder/pipe" / weights).read_bytes()
    before = sorted((out / "networks").rglob("*"))
    shutil.rmtree(out / "decoder")
    finish_decoder(out / "decoder", 7)
    with pytest.raises(UsageError, match="another autoencoder"):
        assemble_networks(out, (0, 1, 2))
    assert sorted((out / "networks").rglob("*")) == before


def test_a_card_changes_its_layer_and_its_source_alone() -> None:
    text = PACKAGED_CARD.read_text()
    before, after = (parse_card(each, "card") for each in (text, change_card(text, 4)))
    assert after.extra["tracking"] == {**before.extra["tracking"], "layers": [4], "source": SOURCE}
    assert {**after.extra, "tracking": None} == {**before.extra, "tracking": None}


def test_layers_are_ranked_by_their_mean_over_kinds_and_timesteps() -> None:
    easy = {"query_key": {"20": [0.1, 0.9, 0.5], "450": [0.1, 0.1, 0.5]}}
    hard = {"query_key": {"20": [0.4, 0.0, 0.2]}}
    assert rank_layers({"easy": easy, "hard": hard}) == [2, 0, 1]


def test_what_is_adopted_takes_the_place_of_the_earlier_networks(out, tmp_path) -> None:
    finish_decoder(out / "decoder", 0)
    assemble_networks(out, (0, 1, 2))
    plugin = tmp_path / "plugin"
    for old in ("vcorr_tiny/pipe/old.json", "training/seeds/1/old.json", "vcorr_tiny/cards/tiny.yaml"):
        (plugin / old).parent.mkdir(parents=True)
        (plugin / old).write_text("{}")
    for _ in range(2):  # a call that was interrupted can be repeated
        assert f"make tables COPIES={out / 'copies'}" in adopt(out, plugin)
    assert not list(plugin.rglob("old.json"))
    assert not (plugin / "training/seeds/1").exists()
    for folder in ("training", "training/seeds/0", "training/seeds/2"):
        assert json.loads((plugin / folder / "evaluation.json").read_text())["reconstruction"] == QUALITY
        assert '"step": 3' in (plugin / folder / "curves.jsonl").read_text()
    for name, copy in (("networks.json", "networks.json"), ("card.yaml", "cards/tiny.yaml")):
        assert (plugin / "vcorr_tiny" / copy).read_text() == (out / "networks" / name).read_text()
    with pytest.raises(MissingError, match="no chosen networks"):
        adopt(tmp_path / "other", plugin)
    with pytest.raises(MissingError, match="no checkout"):
        adopt(out, tmp_path)


def test_a_pack_holds_whole_files_and_is_adopted_as_the_remake_is(out, tmp_path) -> None:
    finish_decoder(out / "decoder", 0)
    assemble_networks(out, (0, 1, 2))
    largest = max(path.stat().st_size for path in (out / "networks").rglob("*"))
    most, packed, unpacked = largest + 30_000, tmp_path / "packed", tmp_path / "unpacked"
    with pytest.raises(MissingError, match="no folder of a remake"):
        pack(out, packed)
    Recipe(9).keep(out)
    for name, text in {"copies/a/whole.json": "{}", "copies/a/.half.1.tmp": "{", "measure.log": "one\nha"}.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text)
    (out / "copies" / "large").write_bytes(bytes(most))
    assert pack(out, packed, most) == [out / "copies" / "large"]
    assert pack(out, packed, most) == [out / "copies" / "large"]
    archives = sorted(packed.iterdir())
    assert len(archives) > 1
    assert all(path.stat().st_size <= most for path in archives)
    for path in archives:
        with tarfile.open(path) as archive:
            archive.extractall(unpacked, filter="data")
    assert (unpacked / "measure.log").read_text() == "one\n"
    assert [path.name for path in (unpacked / "copies").rglob("*")] == ["a", "whole.json"]
    plugin = tmp_path / "plugin"
    (plugin / "training").mkdir(parents=True)
    (plugin / "vcorr_tiny" / "cards").mkdir(parents=True)
    assert "Seed 1 is in" in adopt(unpacked, plugin)
    files = [path for path in (out / "networks" / "pipe").rglob("*") if path.is_file()]
    for path in files:
        own = plugin / "vcorr_tiny" / "pipe" / path.relative_to(out / "networks" / "pipe")
        assert own.read_bytes() == path.read_bytes()


def test_a_pack_during_training_holds_its_checkpoint_and_no_pipeline(tmp_path) -> None:
    out = tmp_path / "out"
    Recipe(9).keep(out)
    finish(out / "seed-0", 0)
    (out / "seed-0" / "log.jsonl").write_text('{"kind": "dit"}\n{"ki')
    save_parts(out / "seed-0" / "state", {"weight": torch.ones(3)}, {"dit_steps": 1})
    (out / "seed-0" / "state" / "draft-00.safetensors").write_bytes(b"half")
    pack(out, tmp_path / "packed")
    with tarfile.open(tmp_path / "packed" / "part-00.tar") as archive:
        names = archive.getnames()
    assert names == ["recipe.json", "seed-0/log.jsonl", "seed-0/state/part-00.safetensors"]


@given(st.integers(1, 8), st.integers(1, 200))
def test_trainings_share_no_core_with_each_other_or_with_the_rest(devices: int, count: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(working, "count_cores", lambda: count)
        patch.setattr(working.os, "sched_getaffinity", lambda _: set(range(10, 10 + count)), raising=False)
        cores = share_cores(devices)
    every = [core for part in (*cores.trainings, cores.rest) for core in part]
    assert len(cores.trainings) == devices
    assert len(every) == len(set(every))
    assert set(every) in (set(), set(range(10, 10 + count)))
    assert all(bool(part) == (count > devices) for part in (*cores.trainings, cores.rest))


@pytest.mark.parametrize(
    ("devices", "visible", "expected"),
    [
        (["cpu"], "", ("cpu", {})),
        (["cuda:1"], "", ("cuda", {"CUDA_VISIBLE_DEVICES": "1"})),
        (["cuda:0", "cuda:1"], "4,6", ("cuda", {"CUDA_VISIBLE_DEVICES": "4,6"})),
        (["cuda"], "", ("cuda", {"CUDA_VISIBLE_DEVICES": "0"})),
    ],
)
def test_a_process_sees_its_own_devices_alone(devices, visible, expected, monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert name_devices(devices) == expected


def test_each_device_trains_one_at_a_time_and_the_free_one_takes_the_next(tmp_path, monkeypatch) -> None:
    barrier, lock, busy, seen = Barrier(2, timeout=60), Lock(), set[str](), []

    def run(self, name, words, cores, environment):
        device = environment["CUDA_VISIBLE_DEVICES"]
        with lock:
            assert device not in busy
            busy.add(device)
            seen.append(name)
        barrier.wait()  # both devices are at work
        with lock:
            busy.remove(device)
        return 0

    monkeypatch.setattr(Workers, "run", run)
    empty = Cores((frozenset(), frozenset()))
    Workers(tmp_path).train({name: [name] for name in "abcd"}, ["cuda:0", "cuda:1"], empty)
    assert sorted(seen[:2]) == ["a", "b"]
    assert sorted(seen[2:]) == ["c", "d"]


def test_a_training_that_fails_ends_with_its_log_and_the_others_run(tmp_path) -> None:
    trainings = {"bad": ["vcorr_tiny.nothing"], "good": ["json.tool", "--help"]}
    with pytest.raises(VcorrError, match=r"Failed: bad\.") as raised:
        Workers(tmp_path).train(trainings, ["cpu"], Cores((frozenset(),)))
    assert "No module named vcorr_tiny.nothing" in str(raised.value)
    assert "usage" in (tmp_path / "good.log").read_text()


def test_what_fails_on_one_device_goes_on_once_on_each_other_one(tmp_path, monkeypatch) -> None:
    """Breaks the first device: everything fails on it, and everything is trained on the second one."""
    ran: list[tuple[str, str]] = []

    def run(self, name, words, cores, environment):
        ran.append((name, environment["CUDA_VISIBLE_DEVICES"]))
        return 1 if environment["CUDA_VISIBLE_DEVICES"] == "0" or name == "bad" else 0

    monkeypatch.setattr(Workers, "run", run)
    (tmp_path / "bad.log").write_text("It went wrong.")
    empty = Cores((frozenset(), frozenset()))
    with pytest.raises(VcorrError, match=r"Failed: bad\.\n.*\nIt went wrong"):
        Workers(tmp_path).train({name: [] for name in ("a", "bad", "b")}, ["cuda:0", "cuda:1"], empty)
    assert len(ran) == len(set(ran))
    assert {("a", "1"), ("b", "1"), ("bad", "1")} <= set(ran)


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        (1, {"seed-0": 340, "seed-1": 540, "seed-2": 1140, "decoder": 1140}),
        (2, {"seed-0": 540, "seed-1": 540, "seed-2": 1140, "decoder": 1140}),
        (4, {"seed-0": 1140, "seed-1": 1140, "seed-2": 1140, "decoder": 1140}),
    ],
)
def test_trainings_share_the_time_that_is_not_kept_for_measuring(devices, expected, tmp_path, monkeypatch) -> None:
    barrier, limits = Barrier(min(devices, 3), timeout=60), {}

    def run(self, name, words, cores, environment):
        read = build_parser().parse_args(words[1:])
        limits[name] = read.finish_within
        assert read.stop_after == 1600
        if name == "seed-0" or (name != "decoder" and name < f"seed-{devices}"):
            barrier.wait()  # all devices have begun
        return 0

    monkeypatch.setattr(Workers, "run", run)
    monkeypatch.setattr(Workers, "seconds_left", 1600.0)
    names, cores = [f"cuda:{index}" for index in range(devices)], Cores((frozenset(),) * devices)
    Workers(tmp_path, 1e9).train(Recipe(9, decoder_seconds=3.0).list_trainings(tmp_path), names, cores, 400.0)
    assert limits == expected


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--device cuda:x", "'cuda:x' is no device"),
        ("--device cuda:0,", "'' is no device"),
        ("--device cuda:0,cuda:0", "cuda:0 is named twice"),
        ("--device cuda:0,cuda:2", "There is no cuda:2"),
        ("--pictures none.safetensors", "none.safetensors is no file"),
        ("--until 400 --keep 400", "leaves no time"),
    ],
)
def test_options_that_cannot_be_followed_are_refused_at_once(line, said, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    with pytest.raises(UsageError, match=said):
        command.main(["run", "--out", str(tmp_path / "out"), "--steps", "9", *line.split()])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("last", ["", '{"kind": "fin', '{"kind": "paused"}'])
def test_a_log_that_was_cut_off_is_of_no_finished_training(last, tmp_path) -> None:
    (tmp_path / "log.jsonl").write_text('{"kind": "dit"}\n' + last)
    assert not is_finished(tmp_path)


@pytest.fixture
def fake(monkeypatch) -> list[str]:
    """Makes trainings leave their results at once. Returns the names of what ran, and the words of each."""
    ran: list[str] = []
    lock = Lock()  # threads share the generator that draws the networks

    def run(self, name, words, cores, environment):
        ran.append(f"{name} {' '.join(words)} {environment.get(VARIABLE, '')}")
        if name == "decoder":
            with lock:
                finish_decoder(self.out / name, 0)
        elif name.startswith("seed-"):
            with lock:
                finish(self.out / name, int(name[-1]))
        elif name == "vae":
            (self.out / name).mkdir()
            (self.out / name / "log.jsonl").write_text('{"kind": "finished"}\n')
        return 0

    monkeypatch.setattr(Workers, "run", run)
    return ran


def test_one_command_trains_chooses_and_measures_and_goes_on(fake, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    line = ["run", "--out", str(out), "--steps", "9", "--vae-steps", "3", "--decoder-steps", "2", "--only", "findings"]
    assert command.main([*line, "--device", "cuda:0,cuda:1"]) == 0
    assert "chosen: " in capsys.readouterr().out
    ran = {text.partition(" ")[0]: text for text in fake}
    assert ran.keys() - {"baselines"} == {"vae", "seed-0", "seed-1", "seed-2", "decoder", "measure"}
    assert re.search(r"torch.distributed.run --nproc-per-node 2 --master-port \d+ -m vcorr_tiny.train run", ran["vae"])
    for name in ("seed-2", "decoder"):
        assert f"--vae {out / 'vae' / 'state'}" in ran[name]
    assert "--dit-steps 9" in ran["seed-2"]
    assert "--device cuda:0,cuda:1" in ran["measure"]
    assert ran["measure"].endswith(str(out / "networks"))
    shutil.rmtree(out / "seed-1")
    fake.clear()
    assert command.main([*line, "--device", "cuda:0,cuda:1"]) == 0
    assert {text.partition(" ")[0] for text in fake} - {"baselines"} == {"seed-1", "measure"}
    with pytest.raises(UsageError, match="other options"):
        command.main([*line, "--small"])


def test_a_training_that_time_stopped_is_named_and_nothing_is_chosen(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Workers, "run", lambda *arguments: 0)
    with pytest.raises(VcorrError, match="before these were finished: seed-0, seed-1, seed-2"):
        command.main(["run", "--out", str(tmp_path / "out"), "--steps", "9", "--until", "1"])
    assert not (tmp_path / "out" / "networks").exists()


def test_the_words_of_a_training_are_read_by_the_command_that_trains(tmp_path) -> None:
    recipe = Recipe(9, vae_steps=2, decoder_seconds=3.0, pictures="p.safetensors", plain=0.4, given=0.0, small=True)
    read = [build_parser().parse_args(words[1:]) for words in recipe.list_trainings(tmp_path).values()]
    assert [(each.seed, each.dit_steps, each.decoder_only) for each in read] == [
        (0, 9, False),
        (1, 9, False),
        (2, 9, False),
        (0, 0, True),
    ]
    assert {(each.plain, each.given) for each in read[:3]} == {(0.4, 0.0)}
    assert not any({"--plain", "--given"} & {*words} for words in Recipe(9).list_trainings(tmp_path).values())
    assert build_parser().parse_args(recipe.train_vae(tmp_path)[1:]).vae_steps == 2
    assert not is_finished(tmp_path)
