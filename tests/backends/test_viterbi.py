"""The best path is the best of all: by enumeration, native against reference, ties and impossible graphs included."""

from __future__ import annotations

import dataclasses

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch

import topologies
from tests import oracles
from tests.losses.engines import EVERY_BACKEND
from tests.topologies.checks import random_log_probs
from tests.topologies.random_graphs import graphs
from topologies import EPSILON, Graph, GraphBatch
from wfst_losses.backends import get_backend
from wfst_losses.backends.emission_lattice import EmissionLattice
from wfst_losses.emissions import Emissions, read_emissions
from wfst_losses.graphs.best_paths import BestPaths

CPU = torch.device("cpu")
NUM_LABELS = 3
LENGTHS = [2, 3, 0, 1]


def assert_best(found: BestPaths, row: int, graph: Graph, log_probs: torch.Tensor) -> None:
    """The path in that row is a path of the graph, and no other has a higher score."""
    frames = np.arange(len(log_probs))
    scores: dict[tuple[oracles.Tokens, oracles.Tokens], list[float]] = {}
    for labelling, output, score in oracles.walk(graph, len(log_probs)):
        total = score + float(log_probs.numpy()[frames, list(labelling)].sum())
        scores.setdefault((labelling, output), []).append(total)
    steps, tokens = found.steps[row], tuple(found.tokens[row].tolist())
    best = max((max(values) for values in scores.values()), default=-np.inf)
    assert found.scores[row] == pytest.approx(best, abs=1e-12)
    assert len(found.token_frames[row]) == len(tokens)
    if best == -np.inf:
        assert (steps == -1).all()
        assert tokens == ()
        assert found.graph_scores[row] == -np.inf
        return
    labelling = tuple(steps[: len(log_probs)].tolist())
    assert (steps[len(log_probs) :] == -1).all()
    assert max(scores[labelling, tokens]) == pytest.approx(best, abs=1e-12)
    emitted = float(log_probs.numpy()[frames, list(labelling)].sum())
    assert found.graph_scores[row] + emitted == pytest.approx(best, abs=1e-12)


def assert_same(left: BestPaths, right: BestPaths) -> None:
    np.testing.assert_array_equal(left.steps, right.steps)
    np.testing.assert_array_equal(left.utterances, right.utterances)
    np.testing.assert_allclose(left.scores, right.scores, rtol=0, atol=1e-12)
    np.testing.assert_allclose(left.graph_scores, right.graph_scores, rtol=0, atol=1e-12)
    for one, other in [(left.tokens, right.tokens), (left.token_frames, right.token_frames)]:
        assert [row.tolist() for row in one] == [row.tolist() for row in other]


@pytest.mark.parametrize("flat", [False, True])
@hypothesis.given(
    parts=st.lists(graphs(num_labels=NUM_LABELS, writing_epsilons=True), min_size=1, max_size=4), data=st.data()
)
@hypothesis.settings(max_examples=150)
def test_any_graph(flat: bool, parts: list[Graph], data: st.DataObject) -> None:
    log_probs = random_log_probs(data.draw(st.integers(0, 1000)), 4, 3, NUM_LABELS)
    if flat:
        # Whole numbers: many paths are equally good, and both engines must settle on the same.
        log_probs = torch.round(log_probs)
        parts = [dataclasses.replace(part, score=np.round(part.score)) for part in parts]
    log_probs[0, 0, 1] = -torch.inf
    emissions = read_emissions(log_probs, LENGTHS, check_normalised=False)
    order = data.draw(st.permutations(range(4)))[: len(parts)]
    batch, utterances = GraphBatch.from_graphs(parts), torch.tensor(order)
    found = {name: get_backend(name, CPU).best_paths(batch, emissions, utterances) for name in ["native", "reference"]}
    assert_same(found["native"], found["reference"])
    for row, (part, utterance) in enumerate(zip(parts, order, strict=True)):
        assert_best(found["native"], row, part, log_probs[utterance, : LENGTHS[utterance]])


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_of_equals_it_stops_or_takes_the_earlier_arc(backend: str) -> None:
    # From 0 to 2 by the virtual arc, or back to 0 or to 1 by label 1; all end and none costs anything.
    source, destination = np.array([0, 0, 0]), np.array([2, 1, 0])
    read, written = np.array([EPSILON, 1, 1]), np.array([5, 6, 7])
    graph = Graph(source, destination, read, written, np.zeros(3, np.float32), np.zeros(3, np.float32))
    emissions = read_emissions(torch.zeros(2, 1, 2), [0, 1], check_normalised=False)
    batch = GraphBatch.from_graphs([graph])
    found = get_backend(backend, CPU).best_paths(batch, emissions, torch.arange(2))
    first = next(token for token, state in zip(batch.output_label, batch.input_label, strict=True) if state == 1)
    assert [tokens.tolist() for tokens in found.tokens] == [[], [first]]


def lattice_of(name: str, backend: str, emissions: Emissions, blank: int = 0) -> EmissionLattice:
    return EmissionLattice(topologies.build(name, emissions.num_labels), emissions, get_backend(backend, CPU), blank)


@pytest.mark.parametrize("name", list(topologies.TOPOLOGIES))
@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_every_topology(backend: str, name: str) -> None:
    for seed in range(5):
        log_probs = random_log_probs(seed, 4, 4, NUM_LABELS)
        lattice = lattice_of(name, backend, read_emissions(log_probs, [4, 2, 0, 1]))
        found = lattice.best_paths()
        assert found.utterances.tolist() == [0, 1, 2, 3]
        for row, length in enumerate([4, 2, 0, 1]):
            assert_best(found, row, lattice.topology.graph(), log_probs[row, :length])
        torch.testing.assert_close(lattice.path_scores(found), torch.from_numpy(found.scores))


@pytest.mark.parametrize("name", ["correct", "minimal", "compact"])
def test_without_a_language_model_it_is_the_best_label_of_every_frame(name: str) -> None:
    log_probs = torch.log_softmax(torch.randn(3, 40, 700, generator=torch.Generator().manual_seed(0)), 2)
    found = lattice_of(name, "native", read_emissions(log_probs, [40, 40, 17])).best_paths()
    assert np.array_equal(found.steps[:2], log_probs[:2].argmax(2).numpy())
    assert np.array_equal(found.steps[2, :17], log_probs[2, :17].argmax(1).numpy())
    np.testing.assert_allclose(found.scores[0], float(log_probs[0].double().amax(1).sum()), rtol=1e-9)


def test_a_blank_in_the_last_column_gives_the_same_path() -> None:
    log_probs = random_log_probs(1, 2, 6, 5)
    first = lattice_of("correct", "native", read_emissions(log_probs, [6, 4])).best_paths()
    rolled = log_probs[..., [1, 2, 3, 4, 0]].contiguous()
    last = lattice_of("correct", "native", read_emissions(rolled, [6, 4]), blank=4).best_paths()
    assert np.array_equal(np.where(first.steps >= 0, (first.steps - 1) % 5, -1), last.steps)
    assert [(row - 1).tolist() for row in first.tokens] == [row.tolist() for row in last.tokens]
    np.testing.assert_array_equal(first.scores, last.scores)


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_no_path_leads_through_nan(backend: str) -> None:
    log_probs = random_log_probs(1, 1, 3, NUM_LABELS)
    best = int(log_probs[0, 1].argmax())
    log_probs[0, 1, best] = torch.nan
    emissions = read_emissions(log_probs, [3], nonfinite="pass", check_normalised=False)
    found = lattice_of("minimal", backend, emissions).best_paths()
    assert found.steps[0, 1] not in (-1, best)
    assert np.isfinite(found.scores[0])


def test_threads_make_no_difference() -> None:
    emissions = read_emissions(torch.zeros(6, 9, 5) - np.log(5.0), [9, 3, 0, 7, 9, 1])
    before, found = torch.get_num_threads(), []
    try:
        for num_threads in [1, 4]:
            torch.set_num_threads(num_threads)
            found.append(lattice_of("compact", "native", emissions).best_paths())
    finally:
        torch.set_num_threads(before)
    assert_same(*found)
