"""Distributions for tests: made as if installed, or as a source that pip installs."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import venv
from dataclasses import dataclass
from pathlib import Path

from support.processes import PATIENCE


def install(folder: Path, distribution: str, source: str, *, version: str = "1.0", entry_point: str = "") -> Path:
    """Puts a module named like the distribution, with its entry point, into `folder`; returns the module's file."""
    module = distribution.replace("-", "_")
    path = folder / f"{module}.py"
    path.write_text(textwrap.dedent(source))
    info = folder / f"{module}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[vcorr]\n{entry_point or distribution} = {module}\n")
    return path


PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{distribution}"
version = "{version}"

[project.entry-points.vcorr]
{entry_point} = "{module}"

[tool.hatch.build.targets.wheel]
only-include = ["{module}.py"]
"""


def write_source(folder: Path, distribution: str, source: str, *, version: str = "1.0") -> Path:
    """Writes a distribution of one module, named like it, as its author would; returns its folder."""
    module = distribution.replace("-", "_")
    project = folder / distribution
    project.mkdir(parents=True)
    (project / f"{module}.py").write_text(textwrap.dedent(source))
    text = PROJECT.format(
        distribution=distribution, version=version, module=module, entry_point=distribution.removeprefix("vcorr-")
    )
    (project / "pyproject.toml").write_text(text)
    return project


@dataclass(frozen=True)
class Environment:
    """A virtual environment that sees every package of this one."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @classmethod
    def create(cls, folder: Path) -> Environment:
        venv.create(folder, symlinks=True)
        (packages,) = folder.glob("lib/python*/site-packages")
        seen = [path for path in sys.path if path.endswith("site-packages")]
        # addsitedir, so that the editable installs there count as well
        lines = [f"import site; site.addsitedir({path!r})" for path in seen]
        (packages / "of_the_tests.pth").write_text("\n".join(lines) + "\n")
        return cls(folder)

    def pip_install(self, *sources: Path) -> None:
        """Builds and installs for real, without network and without dependencies."""
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index"]
        self.run("-m", "pip", "install", *options, *map(str, sources))

    def run(
        self, *arguments: str, check: bool = True, stdin: str = "", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs python in the environment, in its folder."""
        environment = {k: v for k, v in os.environ.items() if k not in ("VCORR_PLUGINS", "PYTHONPATH")}
        done = subprocess.run(
            [self.python, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env=environment | {"COLUMNS": "160", "OMP_NUM_THREADS": "1"} | variables,
            timeout=PATIENCE,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done
