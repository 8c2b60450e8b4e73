"""Every member of TOPOLOGIES keeps its claims; a new one is checked without a line here."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import topologies
from tests.topologies.checks import CHECKS


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", list(topologies.TOPOLOGIES))
def test_claim(name: str, check: Callable[[str], None]) -> None:
    check(name)


@pytest.mark.parametrize(
    ("name", "num_labels", "num_states", "num_arcs"),
    [
        ("correct", 5000, 5000, 25_000_000),
        ("compact", 256, 256, 766),
        ("minimal", 5000, 1, 5000),
        ("selfless", 500, 500, 249_501),
    ],
)
def test_sizes_need_no_graph(name: str, num_labels: int, num_states: int, num_arcs: int) -> None:
    assert topologies.build(name, num_labels).size() == topologies.Size(num_states, num_arcs)


@pytest.mark.parametrize("name", list(topologies.TOPOLOGIES))
def test_factored_graphs_grow_with_the_labels(name: str) -> None:
    assert topologies.build(name, 5000).factored().num_arcs <= 7 * 5000


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"topology is 'compct', expected one of 'correct', 'compact', 'minimal'"):
        topologies.build("compct", 3)


@pytest.mark.parametrize(
    ("num_labels", "message"),
    [(0, "num_labels is 0, expected >= 1"), (-3, "num_labels is -3"), (2.0, "num_labels is 2.0"), (True, "is True")],
)
def test_bad_number_of_labels(num_labels: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        topologies.build("correct", num_labels)  # type: ignore[arg-type]
