"""What every test shares: how hypothesis draws, and which tests need k2."""

from __future__ import annotations

import importlib.util

import hypothesis
import pytest

# The same examples at every run and in every process; no deadlines, tests do not time.
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None, max_examples=40, database=None)
hypothesis.settings.load_profile("fixed")

HAS_K2 = importlib.util.find_spec("k2") is not None


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their place: names from contents run over lines and, if compressed just now, hold the time.

    Processes that share the tests refuse to start where their names differ.
    """
    return argname if isinstance(val, bytes) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not HAS_K2:
        skip = pytest.mark.skip(reason="k2 is not installed")
        for item in items:
            if item.get_closest_marker("k2"):
                item.add_marker(skip)
