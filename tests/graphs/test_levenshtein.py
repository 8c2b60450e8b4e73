"""The capped Levenshtein automaton: every hypothesis ends in a state whose cost is its edit distance."""

from __future__ import annotations

import itertools

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from tests import oracles
from wfst_losses.graphs import levenshtein
from wfst_losses.graphs.levenshtein import EditCosts, LevenshteinAutomaton, levenshtein_automaton

UNIT = {"insertion": 1, "deletion": 1, "substitution": 1}


def cost_of(automaton: LevenshteinAutomaton, hypothesis_: list[int], num_labels: int) -> int:
    classes, state = automaton.class_of(num_labels), 0
    for token in hypothesis_:
        state = int(automaton.next_state[classes[token], state])
    return int(automaton.cost[state])


@pytest.mark.parametrize("reference", [[], [1], [1, 1], [2, 1, 2], [3, 1, 1, 2]])
@pytest.mark.parametrize("cap", [1, 2, 3, 9])
def test_every_short_hypothesis(reference: list[int], cap: int) -> None:
    automaton = levenshtein_automaton(np.array(reference, dtype=np.int64), EditCosts(1, 1, 1, cap))
    for length in range(6):
        for said in itertools.product(range(1, 5), repeat=length):
            assert cost_of(automaton, said, 5) == min(cap, oracles.edit_distance(reference, said)), said


@hypothesis.given(
    reference=st.lists(st.integers(1, 4), max_size=8),
    said=st.lists(st.integers(1, 5), max_size=12),
    costs=st.builds(EditCosts, st.integers(0, 3), st.integers(0, 3), st.integers(0, 5), st.integers(1, 6)),
)
@hypothesis.settings(max_examples=200)
def test_weighted_edits(reference: list[int], said: list[int], costs: EditCosts) -> None:
    automaton = levenshtein_automaton(np.array(reference, dtype=np.int64), costs)
    weights = costs.insertion, costs.deletion, costs.substitution
    assert cost_of(automaton, said, 6) == min(costs.cap, oracles.edit_distance(reference, said, *weights))


def test_graphs_accept_each_cost_alone() -> None:
    reference, num_labels = [2, 1], 4
    automaton = levenshtein_automaton(np.array(reference), EditCosts(1, 1, 1, 3))
    graphs = [automaton.graph(num_labels, cost) for cost in range(4)]
    for length in range(4):
        for said in itertools.product(range(1, num_labels), repeat=length):
            accepting = [cost for cost, graph in enumerate(graphs) if said in outputs(graph, length)]
            assert accepting == [min(3, oracles.edit_distance(reference, said))]


def outputs(graph: object, length: int) -> list[tuple[int, ...]]:
    return [output for _, output, _ in oracles.walk(graph, length)]


def test_sizes() -> None:
    reference = np.arange(1, 21)
    sizes = [levenshtein_automaton(reference, EditCosts(1, 1, 1, cap)).num_states for cap in (2, 3, 4)]
    assert sizes == [81, 299, 1097]
    # Neither the number of labels nor foreign tokens make it larger.
    automaton = levenshtein_automaton(reference, EditCosts(1, 1, 1, 2))
    assert automaton.next_state.shape == (21, 81)
    assert set(automaton.class_of(1000)[21:]) == {0}


def test_beyond_the_cap_a_state_absorbs() -> None:
    automaton = levenshtein_automaton(np.array([1, 2, 3]), EditCosts(1, 1, 1, 2))
    stays = (automaton.next_state == np.arange(automaton.num_states)).all(axis=0)
    assert automaton.cost[stays].tolist() == [2]


def test_too_many_states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levenshtein, "MAX_STATES", 50)
    with pytest.raises(OverflowError, match="more than 50 states"):
        levenshtein_automaton(np.arange(1, 21), EditCosts(1, 1, 1, 2))
