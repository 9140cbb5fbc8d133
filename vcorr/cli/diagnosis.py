"""Checks what `vcorr doctor` reports: versions, devices, plugins, disk, and whether attention calls can be captured."""

from __future__ import annotations

import contextlib
import platform
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcorr.contract.errors import missing_package

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_OPENCV = re.compile(r"opencv-(contrib-)?python(-headless)?")
"""Distributions of OpenCV; any of them will do."""
MIN_FREE_BYTES = 2e9


@dataclass(frozen=True)
class Finding:
    """Result of one check. `detail` says what was found, or what to do when it is not ok."""

    what: str
    ok: bool
    detail: str

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        return asdict(self)


def examine() -> list[Finding]:
    """Runs all checks; a check that raises gives one finding that is not ok."""
    checks: list[tuple[str, Callable[[], list[Finding]]]] = [
        ("packages", _packages),
        ("device", _devices),
        ("kernels", _kernels),
        ("plugins", _plugins),
        ("disk", _disk),
        ("capture", _capture),
    ]
    found: list[Finding] = []
    for name, check in checks:
        try:
            found += check()
        except ModuleNotFoundError as error:
            missing = missing_package(error, "It")
            found.append(Finding(name, False, f"{missing.message} {missing.hint}"))
        except Exception as error:  # doctor must report what is broken, whatever it is
            found.append(Finding(name, False, f"{type(error).__name__}: {error}"))
    return found


def _packages() -> list[Finding]:
    """Checks that every package that vcorr requires is installed, in a version that it allows."""
    from packaging.requirements import Requirement

    required = [Requirement(text) for text in metadata.requires("vcorr") or ()]
    found = [Finding("python", True, platform.python_version()), Finding("vcorr", True, metadata.version("vcorr"))]
    return found + [_package(each) for each in required if each.marker is None or each.marker.evaluate({"extra": ""})]


def _package(required: Requirement) -> Finding:
    version = _version(required.name)
    ask = shlex.quote(f"{required.name}{required.specifier}")
    if version is None:
        return Finding(required.name, False, f"not installed; pip install {ask}")
    if not required.specifier.contains(version, prereleases=True):
        return Finding(required.name, False, f"{version}, but vcorr needs {required.specifier}; pip install {ask}")
    return Finding(required.name, True, version)


def _version(name: str) -> str | None:
    """Returns the version of an installed distribution, for OpenCV of any of its distributions; None without one."""
    names = [name]
    if _OPENCV.fullmatch(name):
        installed = (each.metadata["Name"] for each in metadata.distributions())
        names += [each for each in installed if each and _OPENCV.fullmatch(each)]
    for each in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(each)
    return None


def _devices() -> list[Finding]:
    import torch

    if not torch.cuda.is_available():
        return [Finding("device", True, f"cpu, {torch.get_num_threads()} threads; no CUDA device")]
    names = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return [Finding("device", True, f"cuda:{i} {p.name}, {p.total_memory / 1e9:.0f} GB") for i, p in enumerate(names)]


def _kernels() -> list[Finding]:
    """Says what matches tokens on each device. The first use of the fused kernels compiles them."""
    import torch

    from vcorr.kernels.kernel_choice import choose_path

    found = []
    for device in [f"cuda:{i}" for i in range(torch.cuda.device_count())] or ["cpu"]:
        choice = choose_path(torch.device(device))
        detail = "fused kernels" if choice.fused else "plain PyTorch"
        found.append(Finding("kernels", True, f"{device}: {detail}{choice.reason and f' ({choice.reason})'}"))
    return found


def _plugins() -> list[Finding]:
    from vcorr.plugins.registry import installed

    return [
        Finding(f"plugin {report.source.distribution}", report.state in ("ok", "blocked"), _plugin_detail(report))
        for report in installed().plugins
    ]


def _plugin_detail(report: Any) -> str:
    provides = f"{len(report.provides)} entries"
    return f"{report.source.version}, {report.state}: {'; '.join(report.reasons) or provides}"


def _disk() -> list[Finding]:
    free = shutil.disk_usage(Path.cwd()).free
    return [Finding("disk", free > MIN_FREE_BYTES, f"{free / 1e9:.0f} GB free in {Path.cwd()}")]


def _capture() -> list[Finding]:
    """Taps a small attention module, because every measurement depends on the tap."""
    import torch

    from vcorr.capture.tap import Tap, observing

    class Attention(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.scaled_dot_product_attention(x, x, x)

    model = torch.nn.Sequential(Attention())
    seen: list[str] = []
    with Tap(model, ["0"], observing(lambda call: seen.append(call.name))):
        model(torch.zeros(1, 1, 4, 8))
    return [Finding("capture", seen == ["0"], "attention calls are seen" if seen else "attention calls are not seen")]
