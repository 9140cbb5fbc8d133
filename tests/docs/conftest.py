"""Fixtures of the tests of the documentation."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import pytest
from support.pages import ROOT


@pytest.fixture(scope="session")
def generate() -> ModuleType:
    """Loads docs/generate.py as a module. It looks for its modules in docs/, and no test finds them there after it."""
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = path
    return module
