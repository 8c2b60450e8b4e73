"""Composition has exactly the pairs of matching paths, and numbers its states as engines need."""

from __future__ import annotations

import dataclasses
from collections import Counter

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

import topologies
from tests import oracles
from tests.topologies.random_graphs import graphs
from topologies import EPSILON, Graph, GraphBatch, compose, compose_graph, compose_targets, without_epsilons


def right_paths(graph: Graph, longest: int) -> Counter[tuple[oracles.Tokens, oracles.Tokens, float]]:
    """Every path of a model that reads up to ``longest`` tokens."""
    return Counter(path for length in range(longest + 1) for path in oracles.walk(graph, length))


def matching_pairs(left: Graph, right: Graph, num_frames: int) -> Counter[tuple[oracles.Tokens, oracles.Tokens, float]]:
    """Pairs of a path of ``left`` and a path of ``right`` that reads what it writes."""
    lefts = oracles.walk(left, num_frames)
    longest = max((len(written) for _, written, _ in lefts), default=0)
    rights = right_paths(right, longest)
    found: Counter = Counter()
    for labelling, middle, left_score in lefts:
        for (read, written, right_score), count in rights.items():
            if read == middle:
                found[labelling, written, left_score + right_score] += count
    return found


def assert_composed(left: Graph, rights: list[Graph], longest: int = 3) -> None:
    batch = compose(left, GraphBatch.from_graphs(rights))
    assert batch.num_graphs == len(rights)
    for index, right in enumerate(rights):
        for num_frames in range(longest + 1):
            composed = Counter(oracles.walk(batch.graph(index), num_frames))
            assert composed == matching_pairs(left, right, num_frames), f"graph {index}, T = {num_frames}"


def assert_orderly(batch: GraphBatch) -> None:
    """Arcs by destination, epsilon arcs ascending, no arc between graphs, each state between a start and an end."""
    assert np.all(np.diff(batch.destination) >= 0)
    virtual = batch.input_label == EPSILON
    assert np.all(batch.source[virtual] < batch.destination[virtual])
    owner = batch.graph_of_state
    assert np.array_equal(owner[batch.source], owner[batch.destination])
    assert np.array_equal(np.repeat(np.arange(batch.num_graphs), np.diff(batch.arc_splits)), owner[batch.source])
    assert np.array_equal(owner[batch.starts], np.arange(batch.num_graphs))
    reached, ends = set(batch.starts.tolist()), set(np.flatnonzero(batch.final_score > -np.inf).tolist())
    for _ in range(batch.num_states):
        reached |= {b for a, b in zip(batch.source.tolist(), batch.destination.tolist(), strict=True) if a in reached}
        ends |= {a for a, b in zip(batch.source.tolist(), batch.destination.tolist(), strict=True) if b in ends}
    assert reached == set(range(batch.num_states))
    assert ends | set(batch.starts.tolist()) == set(range(batch.num_states))


@pytest.mark.parametrize("name", topologies.TOPOLOGIES)
@hypothesis.given(rights=st.lists(graphs(num_labels=3, acceptor=True), min_size=1, max_size=3))
def test_topologies_with_random_models(name: str, rights: list[Graph]) -> None:
    left = topologies.build(name, 3).graph()
    # Label 0 on a model's tape is no token: no topology writes it, no path takes it.
    assert_composed(left, rights)
    assert_orderly(compose(left, GraphBatch.from_graphs(rights)))


@hypothesis.given(
    left=graphs(num_labels=2, writing_epsilons=True, max_arcs=6),
    right=graphs(num_labels=2, writing_epsilons=True, max_arcs=6),
)
@hypothesis.settings(max_examples=150)
def test_random_transducers_with_virtual_arcs_on_both_sides(left: Graph, right: Graph) -> None:
    try:
        compose(left, GraphBatch.from_graphs([right]))
    except ValueError as error:
        # An arc that reads a frame and writes nothing never cycles without frames; two virtual ones may.
        assert "epsilon arcs form a cycle" in str(error)  # noqa: PT017
        return
    assert_composed(left, [right])


def test_a_back_off_arc_is_taken_once() -> None:
    # Token 1 after a back-off; the topology could stay in blank before or after the back-off.
    model = Graph(
        np.array([0, 1], dtype=np.int32),
        np.array([1, 2], dtype=np.int32),
        np.array([EPSILON, 1], dtype=np.int32),
        np.array([EPSILON, 1], dtype=np.int32),
        np.array([-0.5, -0.25], dtype=np.float32),
        np.array([-np.inf, -np.inf, 0.0], dtype=np.float32),
    )
    graph = compose(topologies.build("minimal", 2).graph(), GraphBatch.from_graphs([model])).graph(0)
    assert Counter(oracles.walk(graph, 3)) == Counter(
        [((1, 0, 0), (1,), -0.75), ((0, 1, 0), (1,), -0.75), ((0, 0, 1), (1,), -0.75)]
    )


@pytest.mark.parametrize("name", topologies.TOPOLOGIES)
def test_targets(name: str) -> None:
    topology = topologies.build(name, 4)
    targets = [(), (1,), (3, 3), (1, 2, 1), (2, 2, 2)]
    batch = compose_targets(topology.graph(), targets)
    assert_orderly(batch)
    for index, target in enumerate(targets):
        for num_frames in range(5):
            walked = Counter(oracles.walk(batch.graph(index), num_frames))
            counts = oracles.reading_counts(topology, num_frames)
            wanted = {(labelling, out, 0.0): n for (labelling, out), n in counts.items() if out == target}
            assert walked == wanted


def test_no_targets() -> None:
    batch = compose_targets(topologies.build("correct", 3).graph(), [])
    assert (batch.num_graphs, batch.num_states, batch.num_arcs) == (0, 0, 0)
    assert GraphBatch.from_graphs([]).num_graphs == 0


def test_a_token_beyond_the_topology_is_impossible_in_any_frames() -> None:
    topology = topologies.build("correct", 3)
    assert topologies.AbstractTopology.min_frames(topology, [[1, 7], [1]]).tolist() == [-1, 1]


@hypothesis.given(parts=st.lists(graphs(num_labels=3, writing_epsilons=True), max_size=4))
def test_a_batch_gives_its_graphs_back(parts: list[Graph]) -> None:
    batch = GraphBatch.from_graphs(parts)
    assert batch.num_graphs == len(parts)
    for index, part in enumerate(parts):
        for num_frames in range(3):
            assert Counter(oracles.walk(batch.graph(index), num_frames)) == Counter(oracles.walk(part, num_frames))


def test_epsilon_cycles_are_refused() -> None:
    looping = Graph(
        np.array([0], dtype=np.int32),
        np.array([0], dtype=np.int32),
        np.array([EPSILON], dtype=np.int32),
        np.array([EPSILON], dtype=np.int32),
        np.zeros(1, dtype=np.float32),
        np.zeros(1, dtype=np.float32),
    )
    with pytest.raises(ValueError, match="epsilon arcs form a cycle"):
        compose(topologies.build("minimal", 2).graph(), GraphBatch.from_graphs([looping]))


def random_graph(seed: int, acceptor: bool) -> Graph:
    """A graph of many arcs, each with a score of its own."""
    random = np.random.default_rng(seed)
    source, destination, read, written = random.integers(0, 4, (4, 30)).astype(np.int32)
    # Of an acceptor some arcs back off, upwards; the other graph writes nothing on some.
    read[(source < destination) & (read == 0)] = EPSILON
    written = read if acceptor else np.where(written == 3, EPSILON, written).astype(np.int32)
    final_score = np.array([-np.inf, 0.25, -np.inf, 0.5]) + random.random(4)
    return Graph(source, destination, read, written, random.random(30), final_score)


@pytest.mark.parametrize("seed", range(5))
def test_what_each_arc_and_state_came_from(seed: int) -> None:
    left, right = random_graph(seed, acceptor=False), random_graph(seed + 5, acceptor=True)
    found = compose_graph(left, right)
    batch = found.batch
    assert min(found.left_arc.min(), found.right_arc.min()) == -1
    assert batch.num_arcs > 50
    for arc in range(batch.num_arcs):
        by_left, by_right = found.left_arc[arc], found.right_arc[arc]
        score = 0.0
        if by_left >= 0:
            assert left.source[by_left] == found.left_state[batch.source[arc]]
            assert left.input_label[by_left] == batch.input_label[arc]
            score += left.score[by_left]
        if by_right >= 0:
            assert right.source[by_right] == found.right_state[batch.source[arc]]
            assert right.destination[by_right] == found.right_state[batch.destination[arc]]
            score += right.score[by_right]
        assert score == batch.score[arc]
    wanted = left.final_score[found.left_state] + right.final_score[found.right_state]
    assert batch.final_score.tolist() == wanted.tolist()


def test_double_scores_stay_double() -> None:
    third = np.array([1 / 3])
    zero, one = np.array([0], dtype=np.int32), np.array([1], dtype=np.int32)
    graph = Graph(zero, one, one, one, third, np.array([-np.inf, 2 / 3]))
    batch = compose_graph(topologies.build("minimal", 2).graph(), graph).batch
    assert 1 / 3 in batch.score
    assert 2 / 3 in batch.final_score
    assert without_epsilons(batch.graph(0)).score.dtype == np.float64
    assert GraphBatch.from_graphs([graph, graph]).score.tolist() == [1 / 3, 1 / 3]


@hypothesis.given(parts=st.lists(graphs(), min_size=1, max_size=3), count=st.integers(1, 3))
def test_a_batch_repeated(parts: list[Graph], count: int) -> None:
    once, wanted = GraphBatch.from_graphs(parts), GraphBatch.from_graphs(parts * count)
    found = once.repeated(count)
    for field in dataclasses.fields(GraphBatch):
        assert getattr(found, field.name).tolist() == getattr(wanted, field.name).tolist(), field.name
