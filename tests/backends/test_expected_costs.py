"""Expected costs on graphs that no topology gives, and where plain float64 does not suffice."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from unittest import mock

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
from wfst_losses.backends.backend import Costs
from wfst_losses.backends.native import expected_costs
from wfst_losses.backends.reference import ReferenceBackend
from wfst_losses.emissions import read_emissions
from wfst_losses.graphs.levenshtein import EditCosts, levenshtein_automaton

NUM_LABELS, LENGTHS = 3, [2, 4, 0]
UNIT = {"insertion": 1, "deletion": 1, "substitution": 1}


def without_writing_blank(graph: Graph) -> Graph:
    return dataclasses.replace(graph, output_label=np.where(graph.output_label == 0, EPSILON, graph.output_label))


def walked(
    graph: Graph, log_probs: torch.Tensor, reference: Sequence[int], cap: int
) -> tuple[torch.Tensor, list[float]]:
    """The expected cost and the probability of each cost, by walking the graph."""
    paths = oracles.walk(graph, len(log_probs))
    probabilities = torch.zeros(cap + 1, dtype=torch.float64)
    if not paths:
        return torch.zeros((), dtype=torch.float64), probabilities.tolist()
    labellings = torch.tensor([labelling for labelling, _, _ in paths], dtype=torch.int64).reshape(len(paths), -1)
    scores = log_probs[torch.arange(len(log_probs)), labellings].sum(1)
    scores = scores + torch.tensor([score for _, _, score in paths], dtype=torch.float64)
    costs = [min(cap, int(oracles.edit_distance(reference, output))) for _, output, _ in paths]
    share = torch.softmax(scores, 0)
    probabilities = probabilities.index_add(0, torch.tensor(costs), share.detach())
    return (share * torch.tensor(costs)).sum(), probabilities.tolist()


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@hypothesis.given(
    graph=graphs(num_labels=NUM_LABELS, writing_epsilons=True),
    references=st.lists(st.lists(st.integers(1, 2), max_size=3), min_size=3, max_size=3),
    cap=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
@hypothesis.settings(max_examples=60)
def test_any_graph(backend: str, graph: Graph, references: list[list[int]], cap: int, seed: int) -> None:
    engine, graph = get_backend(backend, torch.device("cpu")), without_writing_blank(graph)
    if engine.needs_epsilon_free:
        silent = dataclasses.replace(
            graph, output_label=np.where(graph.input_label == EPSILON, EPSILON, graph.output_label)
        )
        graph = without_epsilons(silent)
    leaves = [random_log_probs(seed, 3, 4, NUM_LABELS).requires_grad_() for _ in range(2)]
    automata = [levenshtein_automaton(np.array(row, dtype=np.int64), EditCosts(1, 1, 1, cap)) for row in references]
    found = engine.expected_costs(GraphBatch.from_graphs([graph]), automata, read_emissions(leaves[0], LENGTHS))
    wanted = [
        walked(graph, row[:length], reference, cap)
        for row, length, reference in zip(leaves[1], LENGTHS, references, strict=True)
    ]
    expected = torch.stack([value for value, _ in wanted])
    torch.testing.assert_close(found.expected, expected, rtol=0, atol=tolerance(backend))
    probabilities = torch.tensor([row for _, row in wanted], dtype=torch.float64)
    torch.testing.assert_close(
        found.probabilities, probabilities[:, : found.probabilities.shape[1]], rtol=0, atol=tolerance(backend)
    )
    assert not probabilities[:, found.probabilities.shape[1] :].any()
    weights = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    gradients = [
        torch.autograd.grad((values * weights).sum() + 0.0 * leaf.sum(), leaf)[0]
        for values, leaf in ((found.expected, leaves[0]), (expected, leaves[1]))
    ]
    torch.testing.assert_close(*gradients, rtol=0, atol=10 * tolerance(backend))


def chain(*tokens: int) -> Graph:
    """A graph that writes just these, each for a frame or more."""
    states = np.arange(len(tokens), dtype=np.int32)
    label = np.array(tokens, dtype=np.int32)
    return Graph(
        np.concatenate([states, states + 1]),
        np.concatenate([states + 1, states + 1]),
        np.concatenate([label, label]),
        np.concatenate([label, np.full_like(label, EPSILON)]),
        np.zeros(2 * len(tokens), dtype=np.float32),
        np.append(np.full(len(tokens), -np.inf), 0.0),
    )


def either(first: Graph, second: Graph) -> Graph:
    """The paths of both, over virtual arcs from a new start."""
    parts = GraphBatch.from_graphs([first, second])
    start = parts.num_states
    return Graph(
        np.concatenate([parts.source, [start, start]]),
        np.concatenate([parts.destination, parts.starts]),
        np.concatenate([parts.input_label, [EPSILON] * 2]),
        np.concatenate([parts.output_label, [EPSILON] * 2]),
        np.zeros(parts.num_arcs + 2),
        np.append(parts.final_score, -np.inf),
        start,
    )


def counting_definitions() -> mock._patch[mock.MagicMock]:
    return mock.patch.object(
        ReferenceBackend, "expected_costs", autospec=True, side_effect=ReferenceBackend.expected_costs
    )


@pytest.mark.parametrize("num_frames", [40, 400])
def test_sums_that_vanish_in_float64_are_not_used(num_frames: int) -> None:
    # One way begins well and ends badly, the other the other way round: where they meet both are far below the best.
    graph = GraphBatch.from_graphs([either(chain(1, 2), chain(3, 1))])
    half = num_frames // 2
    log_probs = torch.full((1, num_frames, 4), -np.log(4.0), dtype=torch.float64)
    log_probs[0, :half] += torch.tensor([0.0, 0.0, -9.0, -9.0])
    log_probs[0, half:] += torch.tensor([0.0, -9.0, 0.0, 0.0])
    log_probs[0, half:, 2:] -= torch.tensor([9.0, 0.0])
    leaves = [log_probs.clone().requires_grad_() for _ in range(2)]
    automata = [levenshtein_automaton(np.array([1, 2]), EditCosts(1, 1, 1, 3))]
    with counting_definitions() as definition:
        found = expected_costs.expected_costs(
            graph, automata, read_emissions(leaves[0], [num_frames], check_normalised=False)
        )
    emissions = read_emissions(leaves[1], [num_frames], check_normalised=False)
    wanted = ReferenceBackend().expected_costs(graph, automata, emissions)
    assert definition.call_count == (num_frames == 400)
    assert_same(found, wanted, leaves, atol=1e-11)


def assert_same(found: Costs, wanted: Costs, leaves: list[torch.Tensor], atol: float) -> None:
    torch.testing.assert_close(found.expected, wanted.expected, rtol=0, atol=atol)
    torch.testing.assert_close(found.probabilities, wanted.probabilities, rtol=0, atol=atol)
    gradients = [
        torch.autograd.grad(costs.expected.sum(), leaf)[0] for costs, leaf in zip((found, wanted), leaves, strict=True)
    ]
    torch.testing.assert_close(*gradients, rtol=0, atol=atol)


@pytest.mark.parametrize("kept_bytes", [0, 20_000])
def test_frames_summed_twice_change_nothing(kept_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import topologies

    graph = GraphBatch.from_graphs([topologies.build("correct", 5).factored()])
    lengths = [17, 0, 1, 16, 9]
    automata = [
        levenshtein_automaton(np.array(row), EditCosts(1, 1, 1, 2)) for row in ([1, 2, 3], [1], [4], [2, 2, 1, 4], [3])
    ]
    runs = []
    for limit in (1 << 28, kept_bytes):
        monkeypatch.setattr(expected_costs, "_KEPT_BYTES", limit)
        leaf = random_log_probs(3, 5, 17, 5).requires_grad_()
        costs = expected_costs.expected_costs(graph, automata, read_emissions(leaf, lengths))
        runs.append((costs, torch.autograd.grad(costs.expected.sum(), leaf)[0]))
    (first, gradient), (second, again) = runs
    assert torch.equal(first.expected, second.expected)
    assert torch.equal(first.probabilities, second.probabilities)
    assert torch.equal(gradient, again)
    assert float(gradient.abs().max()) > 1e-3
