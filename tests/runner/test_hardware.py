"""The device of a run: one that is here, one that is not, and words that are none."""

from __future__ import annotations

import pytest
import torch

from vcorr.contract.errors import UsageError, VcorrError
from vcorr.runner.gaps import Gaps
from vcorr.runner.gpu_use import GIB, describe_use
from vcorr.runner.hardware import Hardware, choose_hardware
from vcorr.runner.spec import RunSpec


def choose(device: str, dtype: str = "auto") -> Hardware:
    return choose_hardware(RunSpec(model="m", device=device, dtype=dtype), Gaps())


def share(device: str, workers: int | None = None, executor: str = "local") -> tuple[str, ...]:
    return choose_hardware(RunSpec(model="m", device=device, workers=workers, executor=executor), Gaps()).shared


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch):
    """Lets torch say that there are these GPUs."""

    def use(*names: str) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(names))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: names[int(f"{device}"[-1:].strip("a") or 0)])

    return use


def test_every_gpu_of_one_kind_gets_a_process_by_default(cards) -> None:
    cards("H100", "H100", "A10", "H100")
    assert share("auto") == ("cuda:0", "cuda:1", "cuda:3")
    assert share("auto", 2) == share("cuda", 2) == ("cuda:0", "cuda:1")
    assert share("cuda") == share("cuda:1") == share("auto", 1) == share("cpu") == ()
    assert share("cuda:3,cuda:1") == ("cuda:3", "cuda:1")
    assert choose("cuda:3,cuda:1").device == "cuda:3"
    cards("H100")
    assert share("auto") == ()


def test_processes_on_the_cpu_are_as_many_as_asked_for() -> None:
    assert share("cpu", 3) == ("cpu", "cpu", "cpu")
    assert share("cpu", 1) == ()


def test_processes_that_share_a_pass_get_as_many_gpus(cards) -> None:
    cards("H100", "H100", "A10", "H100")

    def devices(device: str, ranks: int) -> tuple[str, ...]:
        found = choose_hardware(RunSpec(model="m", device=device, parallel=f"ulysses:{ranks}"), Gaps())
        assert found.ranks == ranks
        return found.shared

    assert devices("auto", 2) == devices("cuda", 2) == ("cuda:0", "cuda:1")
    assert devices("auto", 3) == ("cuda:0", "cuda:1", "cuda:3")
    assert devices("cuda:3,cuda:1", 2) == ("cuda:3", "cuda:1")
    assert devices("cpu", 2) == ("cpu", "cpu")
    for device, ranks, said in (
        ("auto", 4, r"--parallel ulysses:4 needs 4 GPUs of one product, and there are 3 GPUs of one product"),
        ("cuda:1", 2, r"needs 2 GPUs of one product, and --device cuda:1 is one GPU"),
        ("cuda:0,cuda:1", 3, r"--device cuda:0,cuda:1 are 2 GPUs"),
    ):
        with pytest.raises(UsageError, match=said):
            devices(device, ranks)


@pytest.mark.parametrize(
    ("device", "workers", "said"),
    [
        ("auto", 4, r"--workers 4: --device cuda are 3 GPUs, and a GPU takes one process"),
        ("cuda:0,cuda:1", 3, r"--workers 3: --device cuda:0,cuda:1 are 2 GPUs"),
        ("cuda:1", 2, r"--workers 2: --device cuda:1 is one GPU"),
        ("cuda:0,cuda:2", None, r"cuda:0 is H100 and cuda:2 is A10, and one run has one kind of device"),
        ("cuda:0,cuda:0", None, r"not a list of different CUDA devices"),
        ("cuda:0,cuda:9", None, r"--device cuda:9: there is no such device"),
        ("cpu", 0, r"--workers 0: at least one process is needed"),
        ("cpu", 10**10, r"--workers 10000000000: at most 10000 processes share a run"),
    ],
)
def test_devices_and_processes_that_do_not_fit_are_refused(cards, device, workers, said) -> None:
    cards("H100", "H100", "A10", "H100")
    with pytest.raises(VcorrError, match=said):
        share(device, workers)


def test_processes_of_a_cluster_are_not_counted_by_the_devices_of_this_machine(cards) -> None:
    cards("H100")
    assert share("auto", 16, "submitit") == share("cuda", 16, "ray") == share("cpu", 16, "ray") == ()
    for device in ("auto", "cpu"):
        with pytest.raises(UsageError, match="--workers 0: at least one process is needed"):
            share(device, 0, "submitit")


def test_a_gpu_that_other_processes_use_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = {"cuda": 30 * GIB}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (80 * GIB - taken[device], 80 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 4 * GIB)
    (note,) = describe_use("cuda", "cuda:1")
    assert note.startswith("cuda:1: other processes hold about 25 of 80 GiB.")
    taken["cuda"] = 5 * GIB - 1
    assert list(describe_use("cuda", "cuda:1")) == list(describe_use("cpu", "cpu")) == []


def test_the_cpu_is_one_device() -> None:
    assert choose("cpu") == Hardware("cpu", "cpu", "float32")
    assert choose("cpu:0") == Hardware("cpu:0", "cpu", "float32")
    with pytest.raises(VcorrError, match=r"--device cpu:3: there is no such device\.\nThere is cpu:0 alone\."):
        choose("cpu:3")


@pytest.mark.parametrize("kind", ["cuda", "mps", "xpu"])
def test_a_device_that_is_not_here_is_named(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = torch.get_device_module(kind)
    monkeypatch.setattr(module, "is_available", lambda: False)
    with pytest.raises(VcorrError, match=f"--device {kind}: no (CUDA|mps|xpu) device is available here"):
        choose(kind)


def test_a_number_beyond_the_devices_here_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"card {device}")
    assert choose("cuda:1") == Hardware("cuda:1", "card cuda:1", "bfloat16")
    with pytest.raises(VcorrError, match=r"--device cuda:2(.|\n)*There are cuda:0 to cuda:1\."):
        choose("cuda:2")


@pytest.mark.parametrize("device", ["meta", "gpu", "cpu:x", "", "cuda:-1", "hpu", "cpu, cuda"])
def test_words_that_are_no_device_are_refused(device: str) -> None:
    with pytest.raises(UsageError, match="is not a device"):
        choose(device)


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(UsageError, match="Unknown dtype 'float8'"):
        choose("cpu", "float8")
