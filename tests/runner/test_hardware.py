"""The device of a run: one that is here, one that is not, and words that are none."""

from __future__ import annotations

import pytest
import torch

from vcorr.contract.errors import UsageError, VcorrError
from vcorr.runner.gaps import Gaps
from vcorr.runner.hardware import Hardware, choose_hardware
from vcorr.runner.spec import RunSpec


def choose(device: str, dtype: str = "auto") -> Hardware:
    return choose_hardware(RunSpec(model="m", device=device, dtype=dtype), Gaps())


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
