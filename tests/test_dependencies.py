"""The core brings what its code and the code of its dependencies need."""

import tomllib

from packaging.requirements import Requirement
from support.pages import ROOT


def test_accelerate_comes_with_the_core() -> None:
    # without it diffusers loads no model that keeps modules in float32
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    assert "accelerate" in {Requirement(line).name for line in needed}
