"""Removing virtual arcs keeps the weighted relation, path by path."""

from __future__ import annotations

from collections import defaultdict

import hypothesis
import numpy as np
import pytest

from tests import oracles
from tests.topologies.random_graphs import graphs
from topologies import EPSILON, Graph, without_epsilons


def relation(graph: Graph, num_frames: int) -> dict[tuple[oracles.Tokens, oracles.Tokens], float]:
    """The log-sum of the paths of each reading."""
    scores = defaultdict(list)
    for labelling, output, score in oracles.walk(graph, num_frames):
        scores[labelling, output].append(score)
    return {reading: float(np.logaddexp.reduce(found)) for reading, found in scores.items()}


def graph_of(rows: list[tuple[int, int, int, int, float]], finals: list[float], start: int = 0) -> Graph:
    columns = list(zip(*rows, strict=True))
    return Graph(
        *(np.array(column, dtype=np.int32) for column in columns[:4]),
        np.array(columns[4], dtype=np.float32),
        np.array(finals, dtype=np.float32),
        start,
    )


def assert_same_relation(graph: Graph, longest: int = 4) -> None:
    free = without_epsilons(graph)
    assert free.num_epsilon_arcs == 0
    for num_frames in range(longest):
        assert relation(free, num_frames) == pytest.approx(relation(graph, num_frames), abs=1e-5)


@hypothesis.given(graph=graphs())
@hypothesis.settings(max_examples=200)
def test_random_graphs_keep_their_relation(graph: Graph) -> None:
    assert_same_relation(graph)


def test_weighted_chain_leaving_the_start_also_to_a_final_state() -> None:
    chain = [(0, 1, EPSILON, EPSILON, -0.5), (1, 2, EPSILON, EPSILON, -0.25)]
    rows = [*chain, (2, 0, 1, 1, -1.0), (1, 1, 0, EPSILON, -2.0)]
    graph = graph_of(rows, [-np.inf, -0.125, -4.0])
    assert relation(graph, 0)[(), ()] == pytest.approx(np.logaddexp(-0.625, -4.75))
    assert_same_relation(graph)


def test_two_virtual_arcs_to_one_state_count_twice() -> None:
    rows = [(0, 1, 0, EPSILON, 0.0), (1, 2, EPSILON, EPSILON, 0.0), (1, 2, EPSILON, EPSILON, 0.0)]
    graph = graph_of(rows, [-np.inf, -np.inf, 0.0])
    assert relation(without_epsilons(graph), 1)[(0,), ()] == pytest.approx(np.log(2))
    assert_same_relation(graph)


def test_a_graph_without_virtual_arcs_is_itself() -> None:
    graph = graph_of([(0, 0, 0, EPSILON, 0.0)], [0.0])
    assert without_epsilons(graph) is graph


def test_what_a_chain_writes_the_arc_before_it_writes() -> None:
    rows = [(0, 1, 0, EPSILON, 0.0), (1, 2, EPSILON, 3, -1.0), (2, 3, EPSILON, EPSILON, -0.5), (1, 1, 2, 5, 0.0)]
    graph = graph_of([*rows[:3], (3, 3, 2, 5, -2.0)], [-np.inf, -np.inf, -np.inf, -0.25])
    assert without_epsilons(graph).num_epsilon_arcs == 0
    assert_same_relation(graph)
    with pytest.raises(ValueError, match="one arc write both 5 and 3"):
        without_epsilons(graph_of(rows, [0.0] * 4))


def test_a_chain_from_the_start_that_writes_is_refused() -> None:
    graph = graph_of([(0, 1, 0, EPSILON, 0.0), (0, 1, EPSILON, 3, 0.0)], [0.0, 0.0])
    with pytest.raises(ValueError, match="virtual arcs from the start write a token"):
        without_epsilons(graph)


def test_only_the_arcs_asked_for_go() -> None:
    rows = [(0, 1, 0, EPSILON, 0.0), (1, 2, EPSILON, EPSILON, -1.0), (2, 0, EPSILON, EPSILON, -2.0)]
    graph = graph_of([*rows, (2, 2, 1, 4, 0.0)], [0.0, -np.inf, -3.0])
    kept = without_epsilons(graph, np.array([False, True, False, False]))
    assert kept.num_epsilon_arcs == 1
    for num_frames in range(4):
        assert relation(kept, num_frames) == pytest.approx(relation(graph, num_frames))


@pytest.mark.parametrize("num_states", [1, 2, 5, 60])
def test_a_cycle_is_refused(num_states: int) -> None:
    # Two arcs between neighbours: following the cycle would double the number of chains at every step.
    rows = [(state, (state + 1) % num_states, EPSILON, EPSILON, -1.0) for state in range(num_states) for _ in range(2)]
    with pytest.raises(ValueError, match="epsilon arcs form a cycle"):
        without_epsilons(graph_of(rows, [0.0] * num_states))
