"""The losses keep their claims under every member of TOPOLOGIES; a new one is checked without a line here."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import topologies
from tests.losses.checks import CHECKS


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", list(topologies.TOPOLOGIES))
def test_claim(name: str, check: Callable[[str], None]) -> None:
    check(name)
