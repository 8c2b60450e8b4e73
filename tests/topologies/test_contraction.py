"""Factored topologies composed with language models: the paths of the plain composition, over fewer arcs."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import topologies
from tests import oracles
from topologies import EPSILON, Graph, compose_graph, contracted, is_inner

NAMES = list(topologies.TOPOLOGIES)


def model(num_labels: int, seed: int, *, backs_off: bool) -> Graph:
    """A bigram: state = last token, 0 the start and, with back-off, what all others back off to."""
    random = np.random.default_rng(seed)
    rows = [
        (history, token, token)
        for history in range(num_labels)
        for token in range(1, num_labels)
        if (backs_off and history == 0) or random.random() < 0.7
    ]
    if backs_off:
        rows += [(history, 0, EPSILON) for history in range(1, num_labels)]
    source, destination, token = (np.array(column, dtype=np.int32) for column in zip(*rows, strict=True))
    score = random.integers(-8, 0, len(rows)) / 4
    final_score = np.where(random.random(num_labels) < 0.7, -0.5, -np.inf)
    return Graph(source, destination, token, token, score, final_score)


def factored(name: str, right: Graph) -> topologies.Composition:
    topology = topologies.build(name, right.num_states)
    num_real = topology.size().num_states
    found = compose_graph(topology.factored(), right, num_real=num_real)
    return contracted(found, is_inner(found, num_real))


@pytest.mark.parametrize("backs_off", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_paths_are_those_of_the_plain_composition(name: str, backs_off: bool) -> None:
    num_paths = 0
    for num_labels, num_frames in ((2, 4), (3, 3), (4, 3), (7, 2), (9, 2)):
        right = model(num_labels, num_labels, backs_off=backs_off)
        plain = compose_graph(topologies.build(name, num_labels).graph(), right).batch
        found = factored(name, right).batch
        wanted = Counter(oracles.walk(plain.graph(0), num_frames))
        assert Counter(oracles.walk(found.graph(0), num_frames)) == wanted, f"V = {num_labels}"
        num_paths += sum(wanted.values())
    assert num_paths > 40


@pytest.mark.parametrize("name", ["correct", "selfless"])
def test_arcs_grow_with_labels_and_pairs_not_with_pairs_of_labels(name: str) -> None:
    num_labels = 300
    tokens = np.arange(1, num_labels, dtype=np.int32)
    root = np.zeros_like(tokens)
    right = Graph(
        np.concatenate([tokens, root]),
        np.concatenate([root, tokens]),
        np.concatenate([np.full_like(tokens, EPSILON), tokens]),
        np.concatenate([np.full_like(tokens, EPSILON), tokens]),
        np.zeros(2 * len(tokens)),
        np.zeros(num_labels),
    )
    plain = compose_graph(topologies.build(name, num_labels).graph(), right).batch
    assert plain.num_arcs > 0.9 * num_labels**2
    assert factored(name, right).batch.num_arcs < 16 * num_labels


def test_where_arcs_came_from() -> None:
    right = model(9, 1, backs_off=True)
    found = factored("correct", right)
    taken = found.right_arc >= 0
    assert taken.any()
    reads = right.input_label[found.right_arc[taken]]
    assert np.array_equal(found.batch.output_label[taken], right.output_label[found.right_arc[taken]])
    scores = found.left_score + np.where(taken, right.score[found.right_arc], 0.0)
    np.testing.assert_allclose(found.batch.score, scores)
    assert set(reads.tolist()) > {EPSILON}


def test_a_factored_graph_whose_own_states_are_read_into_is_refused() -> None:
    graph = Graph(
        np.array([0, 1], np.int32), np.array([1, 0], np.int32), np.array([1, 0], np.int32),
        np.array([1, EPSILON], np.int32), np.zeros(2), np.zeros(2),
    )  # fmt: skip
    right = Graph(*(np.array([value], np.int32) for value in (0, 0, 1, 1)), np.zeros(1), np.zeros(1))
    found = compose_graph(graph, right, num_real=1)
    with pytest.raises(ValueError, match="entered by an arc that reads or writes"):
        is_inner(found, 1)
