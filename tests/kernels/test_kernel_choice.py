"""Which path computes: by device, dtype, environment and `use_kernels`; what cannot run is said once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
import torch
from support.kernel_cases import Case
from support.pages import ROOT
from triton.runtime.errors import OutOfResources

from vcorr import UsageError
from vcorr.functional import attention_rows, match
from vcorr.kernels import kernel_choice, paths_used, tilings
from vcorr.kernels.kernel_choice import Choice, FusedWarning, kernels_mode, refuse_device, say_once, takes, use_kernels
from vcorr.kernels.self_check import find_fault
from vcorr.kernels.tilings import TileSizeError, Tiling, launch_first

TINY = {"seed": 0, "heads": 1, "frames": 2, "rows": 2, "cols": 3, "width": 4, "points": 2}


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(kernel_choice, "_said", set())
    monkeypatch.setattr(kernel_choice, "_failed", {})
    monkeypatch.setattr(kernel_choice, "_tried", {})
    monkeypatch.setattr(tilings, "_fitting", {})
    monkeypatch.delenv("VCORR_KERNELS", raising=False)


def test_a_cpu_computes_in_plain_torch_unless_forced(monkeypatch):
    tensor = torch.zeros(2, 2)
    assert not takes(tensor)
    with use_kernels("fused"):
        assert takes(tensor)
        with use_kernels("plain"):
            assert not takes(tensor)
        assert kernels_mode() == "fused"
    monkeypatch.setenv("VCORR_KERNELS", "fused")
    assert takes(tensor)
    with use_kernels("auto"):  # the block goes before the variable
        assert not takes(tensor)


def test_unknown_modes_are_refused(monkeypatch):
    with pytest.raises(UsageError, match="expected auto, plain or fused, got 'fast'"), use_kernels("fast"):
        pass
    monkeypatch.setenv("VCORR_KERNELS", "on")
    case = Case.draw(**TINY)
    with pytest.raises(UsageError, match="VCORR_KERNELS: expected auto, plain or fused, got 'on'"):
        match(case.q, case.k, case.grid, case.points)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.setenv("TRITON_INTERPRET", "0"), "only in its interpreter"),
        (lambda m: m.setitem(sys.modules, "triton", None), "not installed"),
        (lambda m: None, "not float64"),
    ],
    ids=["no interpreter", "no triton", "float64"],
)
def test_forced_kernels_that_cannot_run_are_an_error_that_names_the_way_out(monkeypatch, change, reason):
    change(monkeypatch)
    tensor = torch.zeros(2, 2, dtype=torch.float64 if "float64" in reason else torch.float32)
    with use_kernels("fused"), pytest.raises(UsageError, match=reason) as caught:
        takes(tensor)
    assert "VCORR_KERNELS=plain" in caught.value.hint


def test_old_and_foreign_gpus_are_refused_before_anything_is_compiled(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    assert refuse_device(torch.device("cuda:0")) == "Tesla T4 has compute capability 7.5, below 8.0"
    assert "not for mps" in refuse_device(torch.device("mps"))


def test_a_reason_is_said_once():
    with pytest.warns(FusedWarning, match="without fused kernels: too old"):
        say_once("too old")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        say_once("too old")


def test_smaller_tiles_are_tried_and_remembered(monkeypatch):
    tried = []

    def start(tiling):
        tried.append(tiling.rows)
        if tiling.rows > 32:
            raise OutOfResources(300_000, 232_448, "shared memory")

    sizes, device = [Tiling(rows, 16, 16) for rows in (128, 64, 32)], torch.device("cpu")
    for _ in range(2):
        launch_first("a kernel", device, sizes, start)
    assert tried == [128, 64, 32, 32]
    with pytest.raises(TileSizeError, match="no tile of another fits on cpu"):
        launch_first("another", device, sizes[:2], start)


@pytest.fixture
def refusing(monkeypatch):
    """Makes the second passes raise an error where the kernels are chosen, and lists the starts that were tried."""
    from vcorr.kernels import device_costs, device_peaks

    tried = []

    class Refusing:
        def __init__(self, error):
            self.error = error

        def __getitem__(self, grid):
            tried.append(grid)
            raise self.error

    def refuse(error):
        monkeypatch.setattr(device_costs, "cost_kernel", Refusing(error))
        monkeypatch.setattr(device_peaks, "peak_kernel", Refusing(error))
        return tried

    return refuse


def choose_as_on_a_gpu(device, *tensors):
    failed = kernel_choice._failed.get(device, "")
    return Choice(not failed, failed)


def match_case(case):
    return match(case.q, case.k, case.grid, case.points)


def summarise_case(case):
    rows = attention_rows(case.q, case.k, case.k[:, 0, 0], case.grid, case.points)
    return torch.cat([each.flatten() for each in rows])


@pytest.mark.parametrize("compute", [match_case, summarise_case])
@pytest.mark.parametrize(
    ("error", "said", "tries"),
    [
        (OutOfResources(300_000, 232_448, "shared memory"), "no tile of", 2),
        (RuntimeError("ptxas exited with 255\nand more"), "failed on cpu with RuntimeError: ptxas exited with 255.", 1),
    ],
    ids=["no tile fits", "compiler"],
)
def test_plain_torch_computes_where_a_kernel_fails_in_a_run(refusing, monkeypatch, compute, error, said, tries):
    case = Case.draw(**TINY)
    expected = compute(case)
    monkeypatch.setattr(kernel_choice, "choose_path", choose_as_on_a_gpu)
    tried = refusing(error)
    paths_used.forget_paths()
    with pytest.warns(FusedWarning, match=said):
        first = compute(case)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = compute(case)  # nothing is said again
    assert torch.equal(first, expected)
    assert torch.equal(second, expected)
    assert len(tried) == tries  # other sizes may fit; after an unknown error nothing is tried again
    assert paths_used.paths_used() == {"plain"}


def test_a_kernel_that_fails_is_an_error_where_fused_is_forced(refusing):
    refusing(OutOfResources(300_000, 232_448, "shared memory"))
    with use_kernels("fused"), pytest.raises(UsageError, match="no tile of costs"):
        match_case(Case.draw(**TINY))


def test_memory_that_runs_out_in_the_first_try_decides_nothing(monkeypatch):
    from vcorr.kernels import self_check

    errors = iter([torch.OutOfMemoryError("CUDA out of memory")])
    found = self_check.find_best

    def exhaust(*arguments):
        for error in errors:
            raise error
        return found(*arguments)

    monkeypatch.setattr(self_check, "find_best", exhaust)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(self_check, "find_fault", lambda device: find_fault(torch.device("cpu")))
    device = torch.device("cuda:1")
    with pytest.raises(torch.OutOfMemoryError):
        refuse_device(device)
    assert refuse_device(device) == ""


def test_memory_that_runs_out_is_said_as_such(refusing, monkeypatch):
    monkeypatch.setattr(kernel_choice, "choose_path", choose_as_on_a_gpu)
    refusing(torch.OutOfMemoryError("CUDA out of memory"))
    for compute in (match_case, summarise_case):
        with pytest.raises(torch.OutOfMemoryError):
            compute(Case.draw(**TINY))


def test_which_path_computed_is_remembered():
    case = Case.draw(**TINY)
    paths_used.forget_paths()
    with use_kernels("fused"):
        match(case.q, case.k, case.grid, case.points, variant="difftrack")
        assert not paths_used.paths_used()  # plain torch alone has it
        match_case(case)
    assert paths_used.paths_used() == {"fused"}
    match_case(case)
    assert paths_used.paths_used() == {"fused", "plain"}


def test_the_first_try_is_not_made_while_a_cuda_graph_is_recorded(monkeypatch):
    from vcorr.kernels import self_check

    recording, device = [True], torch.device("cuda:0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: recording[0])
    monkeypatch.setattr(self_check, "find_fault", lambda device: f"tried {device}")
    assert "a CUDA graph is recorded before their first use" in refuse_device(device)
    recording[0] = False
    assert refuse_device(device) == "tried cuda:0"
    recording[0] = True
    assert refuse_device(device) == "tried cuda:0"


def test_the_self_check_passes_under_another_default_device():
    with torch.device("meta"):
        assert find_fault(torch.device("cpu")) == ""


def test_the_self_check_passes_and_finds_wrong_numbers(monkeypatch):
    from vcorr.kernels import self_check

    assert find_fault(torch.device("cpu")) == ""
    found = self_check.find_best
    monkeypatch.setattr(self_check, "find_best", lambda *a: found(*a).roll(1, dims=1))
    assert "gave wrong numbers in torch.bfloat16" in find_fault(torch.device("cpu"))
    monkeypatch.setattr(self_check, "find_best", lambda *a: 1 / 0)
    assert find_fault(torch.device("cpu")) == "a first try on cpu failed with ZeroDivisionError: division by zero"


def test_matching_imports_no_triton_where_plain_torch_computes():
    code = (
        "import sys, torch\nfrom vcorr import TokenGrid\nfrom vcorr.functional import match\n"
        "x = torch.zeros(1, 2, 2, 2, 4)\nmatch(x, x, TokenGrid(frames=2, rows=2, cols=2, stride=(8, 8)), [(1, 1)])\n"
        "assert 'triton' not in sys.modules and not any('kernels.device' in m for m in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=120)


def test_every_kernel_compiles_for_a_gpu_and_multiplies_whole_tiles(tmp_path: Path):
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    script = ROOT / "tests" / "support" / "compiled_kernels.py"
    done = subprocess.run([sys.executable, script], check=True, capture_output=True, text=True, env=environment)
    programs = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(programs) == 9
    for program in programs:
        assert program["shared"] < 232_448  # bytes of shared memory on Hopper
        products = program["kernel"] in {"sum_kernel", "cost_kernel", "peak_kernel", "row_kernel"}
        assert products == (program["tile_products"] > 0)
    assert sum(program["described"] for program in programs) == 3


def test_each_thread_begins_once_per_device(monkeypatch):
    begun = []
    monkeypatch.setattr(tilings, "_threads", threading.local())
    monkeypatch.setattr(tilings.torch, "zeros", lambda *sizes, device: begun.append((threading.get_ident(), device)))

    def launch_twice():
        for _ in range(2):
            tilings._begin_thread(torch.device("cuda", 0))

    launch_twice()
    other = threading.Thread(target=launch_twice)
    other.start()
    other.join()
    assert begun == [(threading.get_ident(), torch.device("cuda", 0)), (other.ident, torch.device("cuda", 0))]
