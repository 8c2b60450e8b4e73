"""Backends on graphs that no topology gives: weights, cycles, parallel and virtual arcs, several per utterance."""

from __future__ import annotations

from collections import Counter

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch

from tests import oracles
from tests.losses.engines import EVERY_BACKEND, tolerance
from tests.topologies.checks import random_log_probs
from tests.topologies.random_graphs import graphs
from topologies import EPSILON, Graph, GraphBatch, without_epsilons
from wfst_losses.backends import get_backend
from wfst_losses.backends.emission_lattice import EmissionLattice
from wfst_losses.emissions import read_emissions

NUM_LABELS = 3
LENGTHS = [2, 4, 0]


def enumerated_total(graph: Graph, log_probs: torch.Tensor) -> torch.Tensor:
    """Log-sum over all paths of a graph over these frames, by walking it."""
    paths = oracles.walk(graph, len(log_probs))
    if not paths:
        return torch.tensor(-torch.inf, dtype=torch.float64)
    labellings = torch.tensor([labelling for labelling, _, _ in paths], dtype=torch.int64).reshape(len(paths), -1)
    graph_scores = torch.tensor([score for _, _, score in paths], dtype=torch.float64)
    return torch.logsumexp(log_probs[torch.arange(len(log_probs)), labellings].sum(1) + graph_scores, 0)


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@hypothesis.given(parts=st.lists(graphs(num_labels=NUM_LABELS), min_size=1, max_size=5), data=st.data())
@hypothesis.settings(max_examples=100)
def test_totals_and_gradients(backend: str, parts: list[Graph], data: st.DataObject) -> None:
    engine = get_backend(backend, torch.device("cpu"))
    utterances = sorted(data.draw(st.lists(st.integers(0, 2), min_size=len(parts), max_size=len(parts))))
    seed = data.draw(st.integers(0, 1000))
    leaves = [random_log_probs(seed, 3, 4, NUM_LABELS).requires_grad_() for _ in range(2)]
    batch = GraphBatch.from_graphs([without_epsilons(part) if engine.needs_epsilon_free else part for part in parts])
    found = engine.total_scores(batch, read_emissions(leaves[0], LENGTHS), torch.tensor(utterances))
    wanted = torch.stack(
        [
            enumerated_total(part, leaves[1][utterance, : LENGTHS[utterance]])
            for part, utterance in zip(parts, utterances, strict=True)
        ]
    )
    torch.testing.assert_close(found, wanted, rtol=0, atol=2 * tolerance(backend))
    weights = torch.arange(1.0, 1.0 + len(parts), dtype=torch.float64)
    gradients = []
    for values, leaf in zip((found, wanted), leaves, strict=True):
        finite = values > -torch.inf
        total = (values[finite] * weights[finite]).sum() + 0.0 * leaf.sum()
        gradients.append(torch.autograd.grad(total, leaf)[0])
    torch.testing.assert_close(*gradients, rtol=0, atol=20 * tolerance(backend))


def rests(graph: Graph) -> bool:
    """Whether an utterance can be over in a state that virtual arcs leave."""
    final = np.flatnonzero(graph.final_score > -np.inf)
    return bool(np.isin(graph.source[graph.input_label == EPSILON], final).any())


RESTING = Graph(
    np.array([0, 0, 1, 1, 2], dtype=np.int32),
    np.array([0, 1, 1, 2, 2], dtype=np.int32),
    np.array([1, EPSILON, 0, EPSILON, 2], dtype=np.int32),
    np.array([1, 2, EPSILON, EPSILON, 2], dtype=np.int32),
    np.array([0.0, -0.5, 0.25, 0.0, -1.0], dtype=np.float32),
    np.array([0.0, -0.25, 0.5], dtype=np.float32),
)


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_sampled_paths_follow_the_posterior(backend: str, scale: float) -> None:
    # The first utterance is over two frames before the last: its paths must stay as they are from there on.
    assert rests(RESTING)
    num_paths, lengths = 20_000, [2, 4]
    log_probs = random_log_probs(3, 2, 4, NUM_LABELS)
    engine = get_backend(backend, torch.device("cpu"))
    paths = engine.sample_paths(
        GraphBatch.from_graphs([RESTING, RESTING]),
        read_emissions(log_probs, lengths),
        torch.arange(2),
        num_paths,
        scale,
        torch.Generator().manual_seed(0),
    )
    assert paths.utterances.tolist() == [0] * num_paths + [1] * num_paths
    for utterance, length in enumerate(lengths):
        walked = oracles.walk(RESTING, length)
        scores = np.array(
            [
                score + float(log_probs[utterance, torch.arange(length), list(labelling)].sum())
                for labelling, _, score in walked
            ]
        )
        wanted = np.exp(scale * scores - np.logaddexp.reduce(scale * scores))
        rows = slice(utterance * num_paths, (utterance + 1) * num_paths)
        steps, tokens = paths.steps[rows], paths.tokens[rows]
        assert (steps[:, length:] == -1).all()
        counts = Counter(
            (tuple(step[:length].tolist()), tuple(written.tolist()), round(score, 5))
            for step, written, score in zip(steps, tokens, paths.graph_scores[rows].tolist(), strict=True)
        )
        # Paths with the same labels and outputs but another score differ by it.
        found = np.array([counts.pop((*path[:2], round(path[2], 5)), 0) for path in walked])
        assert not counts
        deviation = (found - num_paths * wanted) / np.sqrt(num_paths * wanted)
        assert float(np.abs(deviation).max()) < 5


def test_a_walk_is_reproducible_and_leaves_torchs_own_generator_alone() -> None:
    import topologies

    emissions = read_emissions(random_log_probs(4, 2, 6, 4), [6, 3])
    lattice = EmissionLattice(topologies.build("correct", 4), emissions, get_backend("reference", torch.device("cpu")))
    state = torch.get_rng_state()
    runs = [lattice.sample(50, 1.0, torch.Generator().manual_seed(7)) for _ in range(2)]
    assert np.array_equal(runs[0].steps, runs[1].steps)
    assert torch.equal(torch.get_rng_state(), state)
    other = lattice.sample(50, 1.0, torch.Generator().manual_seed(8))
    assert not np.array_equal(runs[0].steps, other.steps)
