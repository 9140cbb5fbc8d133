"""Keeps garbage collections short, which commands ask for when they free a model."""

import gc

import pytest


@pytest.fixture(scope="module", autouse=True)
def lasting_objects() -> None:
    """Hides what is imported and collected from garbage collection.

    Without it, a collection looks at every object. A process with the tests and packages of the project has a million.
    """
    gc.collect()
    gc.freeze()
