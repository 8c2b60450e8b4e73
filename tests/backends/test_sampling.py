"""Sampled paths have exactly the probabilities of the posterior: every topology, every backend, any graph."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch

import topologies
from tests.backends.posteriors import assert_frequencies, path_probabilities
from tests.losses.engines import EVERY_BACKEND
from tests.topologies.checks import random_log_probs
from tests.topologies.random_graphs import graphs
from topologies import EPSILON, Graph, GraphBatch
from wfst_losses.backends import get_backend
from wfst_losses.backends.emission_lattice import EmissionLattice
from wfst_losses.emissions import read_emissions
from wfst_losses.graphs.training import training_graphs

CPU = torch.device("cpu")
NUM_LABELS = 3


@pytest.mark.parametrize("scale", [1.0, 0.4, 2.5])
@pytest.mark.parametrize("name", list(topologies.TOPOLOGIES))
@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_every_topology(backend: str, name: str, scale: float) -> None:
    num_paths, lengths = 8000, [4, 2, 0]
    log_probs = random_log_probs(11, len(lengths), 4, NUM_LABELS)
    topology = topologies.build(name, NUM_LABELS)
    lattice = EmissionLattice(topology, read_emissions(log_probs, lengths), get_backend(backend, CPU))
    paths = lattice.sample(num_paths, scale, torch.Generator().manual_seed(3))
    for utterance, length in enumerate(lengths):
        wanted = path_probabilities(topology.graph(), log_probs[utterance, :length], scale)
        assert_frequencies(paths, utterance, length, wanted, num_paths)


@pytest.mark.parametrize("backend", ["native", "reference"])
@hypothesis.given(
    parts=st.lists(graphs(num_labels=NUM_LABELS, writing_epsilons=True), min_size=1, max_size=4), data=st.data()
)
@hypothesis.settings(max_examples=60)
def test_any_graph(backend: str, parts: list[Graph], data: st.DataObject) -> None:
    num_paths, lengths = 400, [2, 3, 0, 1]
    scale = data.draw(st.sampled_from([1.0, 0.5]))
    log_probs = random_log_probs(data.draw(st.integers(0, 1000)), 4, 3, NUM_LABELS)
    log_probs[0, 0, 1] = -torch.inf
    emissions = read_emissions(log_probs, lengths, check_normalised=False)
    order = data.draw(st.permutations(range(4)))[: len(parts)]
    paths = get_backend(backend, CPU).sample_paths(
        GraphBatch.from_graphs(parts),
        emissions,
        torch.tensor(order),
        num_paths,
        scale,
        torch.Generator().manual_seed(0),
    )
    for part, utterance in zip(parts, order, strict=True):
        wanted = path_probabilities(part, log_probs[utterance, : lengths[utterance]], scale)
        assert_frequencies(paths, utterance, lengths[utterance], wanted, num_paths)


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_graph_scores_are_the_graphs_share_whatever_the_scale(backend: str) -> None:
    graph = Graph(
        np.array([0, 0, 1]),
        np.array([1, 0, 1]),
        np.array([EPSILON, 1, 2]),
        np.array([1, EPSILON, 2]),
        np.array([-0.5, 0.25, -1.0], dtype=np.float32),
        np.array([-np.inf, 0.125], dtype=np.float32),
    )
    emissions = read_emissions(random_log_probs(0, 1, 3, NUM_LABELS), [3])
    utterances, generator = torch.zeros(1, dtype=torch.int64), torch.Generator().manual_seed(0)
    paths = get_backend(backend, CPU).sample_paths(
        GraphBatch.from_graphs([graph]), emissions, utterances, 50, 0.5, generator
    )
    stays = (paths.steps == 1).sum(axis=1)
    assert len(set(stays.tolist())) > 1
    np.testing.assert_allclose(paths.graph_scores, 0.25 * stays - (3 - stays) - 0.5 + 0.125)
    assert [tokens.tolist() for tokens in paths.tokens] == [[1] + [2] * (3 - count) for count in stays.tolist()]


def test_an_impossible_graph_has_no_paths_and_makes_no_difference_to_others() -> None:
    topology = topologies.build("correct", 4)
    log_probs, generator = random_log_probs(2, 3, 6, 4), torch.Generator()
    engine, utterances = get_backend("native", CPU), torch.arange(3)
    drawn = []
    for target in [[1, 2, 3, 1, 2, 3, 1], [1, 2]]:
        targets = [np.array([1, 1]), np.array(target), np.array([3])]
        emissions = read_emissions(log_probs, [6, 6, 4])
        generator.manual_seed(5)
        graphs_of_targets = training_graphs(topology, targets)
        drawn.append(engine.sample_paths(graphs_of_targets, emissions, utterances, 20, 1.0, generator))
    assert drawn[0].utterances.tolist() == [0] * 20 + [2] * 20
    kept = drawn[1].select(np.flatnonzero(drawn[1].utterances != 1))
    assert np.array_equal(drawn[0].steps, kept.steps)
    assert {tuple(tokens.tolist()) for tokens in drawn[0].tokens[20:]} == {(3,)}


@pytest.mark.parametrize("name", list(topologies.TOPOLOGIES))
def test_threads_and_the_split_of_a_batch_make_no_difference(name: str) -> None:
    emissions = read_emissions(random_log_probs(4, 7, 9, 5), [9, 3, 0, 7, 9, 1, 5])
    lattice = EmissionLattice(topologies.build(name, 5), emissions, get_backend("native", CPU))
    before, drawn = torch.get_num_threads(), []
    try:
        for num_threads in [1, 4]:
            torch.set_num_threads(num_threads)
            drawn.append(lattice.sample(30, 1.0, torch.Generator().manual_seed(7)))
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(drawn[0].steps, drawn[1].steps)
    assert all(np.array_equal(*pair) for pair in zip(drawn[0].tokens, drawn[1].tokens, strict=True))


def test_nothing_underflows_where_the_network_is_confidently_wrong() -> None:
    # Every path lies thousands of nats below what the network prefers, and two of them 3 : 1.
    num_frames, num_paths = 3000, 400
    log_probs = torch.full((1, num_frames, 3), -1000.0, dtype=torch.float64)
    log_probs[..., 0] = 0.0
    log_probs[0, 1500, 1], log_probs[0, 1500, 2] = -2000.0 + np.log(3.0), -2000.0
    log_probs[0, 1500, 0] = -np.inf
    emissions = read_emissions(log_probs, [num_frames], check_normalised=False)
    graphs_of_targets = training_graphs(
        topologies.build("minimal", 3), [np.array([1]), np.array([2]), np.array([1, 2])]
    )
    paths = get_backend("native", CPU).sample_paths(
        graphs_of_targets,
        emissions,
        torch.zeros(3, dtype=torch.int64),
        num_paths,
        1.0,
        torch.Generator().manual_seed(0),
    )
    steps = paths.steps.reshape(3, num_paths, num_frames)
    assert (steps[0, :, 1500] == 1).all()
    assert (steps[1, :, 1500] == 2).all()
    # "1 2" either writes 1 at frame 1500 and 2 after it, or 2 there and 1 before it.
    first = float((steps[2, :, 1500] == 1).mean())
    odds = 3 * 1499 / (3 * 1499 + 1500)
    assert abs(first - odds) < 5 * np.sqrt(odds * (1 - odds) / num_paths)


def test_many_labels_take_no_quadratic_graph() -> None:
    num_labels = 5000
    log_probs = torch.log_softmax(torch.randn(2, 5, num_labels, generator=torch.Generator().manual_seed(0)), 2)
    emissions = read_emissions(log_probs, [5, 4])
    for name in topologies.TOPOLOGIES:
        lattice = EmissionLattice(topologies.build(name, num_labels), emissions, get_backend("native", CPU))
        paths = lattice.sample(3, 1.0, torch.Generator().manual_seed(0))
        assert paths.utterances.tolist() == [0, 0, 0, 1, 1, 1]
        assert ((paths.steps[3:] >= 0).sum(axis=1) == 4).all()


def test_a_blank_in_the_last_column() -> None:
    log_probs = random_log_probs(11, 1, 3, NUM_LABELS)
    topology, num_paths = topologies.build("correct", NUM_LABELS), 8000
    rolled = log_probs[..., [1, 2, 0]].contiguous()
    lattice = EmissionLattice(topology, read_emissions(rolled, [3]), get_backend("native", CPU), blank=2)
    paths = lattice.sample(num_paths, 1.0, torch.Generator().manual_seed(3))
    wanted = {
        (tuple((label - 1) % 3 for label in labels), tuple(token - 1 for token in tokens)): probability
        for (labels, tokens), probability in path_probabilities(topology.graph(), log_probs[0]).items()
    }
    assert_frequencies(paths, 0, 3, wanted, num_paths)
