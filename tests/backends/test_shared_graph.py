"""One graph shared by a batch: any graph against enumeration, underflow, memory, order, threads."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch

import topologies
from tests.backends.test_any_graph import enumerated_total
from tests.losses.engines import EVERY_BACKEND, tolerance
from tests.topologies.checks import random_log_probs
from tests.topologies.random_graphs import graphs
from topologies import Graph, GraphBatch, without_epsilons
from wfst_losses import Run, recorded_runs
from wfst_losses.backends import get_backend
from wfst_losses.backends.backend import GraphScores
from wfst_losses.emissions import Emissions, read_emissions

NUM_LABELS = 3
LENGTHS = [2, 4, 0, 3, 1, 4, 4, 2, 3, 0, 4]
CPU = torch.device("cpu")
SCALED, DOUBLE, LOGARITHMS = "float32, scaled", "float64, scaled", "float64, logarithms"


def scores_of(graph: GraphBatch) -> GraphScores:
    return GraphScores(
        *(torch.from_numpy(part.astype(np.float64)).requires_grad_() for part in (graph.score, graph.final_score))
    )


def gradients(values: torch.Tensor, *leaves: torch.Tensor) -> list[torch.Tensor]:
    finite = values.detach() > -torch.inf
    weights = torch.linspace(1, 2, len(values), dtype=values.dtype)
    total = (values[finite] * weights[finite]).sum() + sum(0.0 * leaf.sum().nan_to_num(0, 0, 0) for leaf in leaves)
    return list(torch.autograd.grad(total, leaves))


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@hypothesis.given(graph=graphs(num_labels=NUM_LABELS, max_states=6, max_arcs=16), seed=st.integers(0, 1000))
@hypothesis.settings(max_examples=60)
def test_any_graph_by_enumeration(backend: str, graph: Graph, seed: int) -> None:
    engine = get_backend(backend, CPU)
    if engine.needs_epsilon_free:
        graph = without_epsilons(graph)
    leaves = [random_log_probs(seed, len(LENGTHS), 4, NUM_LABELS).requires_grad_() for _ in range(2)]
    found = engine.shared_total_scores(GraphBatch.from_graphs([graph]), read_emissions(leaves[0], LENGTHS))
    wanted = torch.stack(
        [enumerated_total(graph, row[:length]) for row, length in zip(leaves[1], LENGTHS, strict=True)]
    )
    torch.testing.assert_close(found, wanted, rtol=0, atol=2 * tolerance(backend))
    for one, other in zip(gradients(found, leaves[0]), gradients(wanted, leaves[1]), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=20 * tolerance(backend))


@hypothesis.given(graph=graphs(num_labels=NUM_LABELS, max_states=6, max_arcs=16), seed=st.integers(0, 1000))
@hypothesis.settings(max_examples=60)
def test_scores_memory_and_precision(graph: Graph, seed: int) -> None:
    batch = GraphBatch.from_graphs([graph])
    results = []
    for backend, memory in (("reference", "full"), ("native", "full"), ("native", "low")):
        leaf, scores = random_log_probs(seed, len(LENGTHS), 4, NUM_LABELS).requires_grad_(), scores_of(batch)
        totals = get_backend(backend, CPU).shared_total_scores(
            batch, read_emissions(leaf, LENGTHS), scores, memory=memory
        )
        results.append([totals.detach(), *gradients(totals, leaf, *scores)])
    for wanted, found, low in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)
        assert torch.equal(found, low)
    single = random_log_probs(seed, len(LENGTHS), 4, NUM_LABELS).float().requires_grad_()
    totals = get_backend("native", CPU).shared_total_scores(batch, read_emissions(single, LENGTHS))
    assert totals.dtype == torch.float64
    torch.testing.assert_close(totals.double(), results[0][0], rtol=0, atol=1e-5)
    torch.testing.assert_close(gradients(totals, single)[0].double(), results[0][1], rtol=0, atol=1e-5)


def denominator_of(num_labels: int, seed: int = 0) -> GraphBatch:
    """Correct's factored graph with random weights: ergodic, with virtual arcs."""
    graph = topologies.build("correct", num_labels).factored()
    random = np.random.default_rng(seed)
    score = graph.score + random.normal(0, 1, graph.num_arcs)
    columns = (graph.source, graph.destination, graph.input_label, graph.output_label)
    return GraphBatch.from_graphs([Graph(*columns, score, graph.final_score, graph.start)])


def run(
    graph: GraphBatch, log_probs: torch.Tensor, lengths: list[int], backend: str = "native", memory: str = "full"
) -> tuple[torch.Tensor, torch.Tensor, Run]:
    leaf = log_probs.clone().requires_grad_()
    with recorded_runs() as runs:
        emissions = read_emissions(leaf, lengths, check_normalised=False)
        totals = get_backend(backend, CPU).shared_total_scores(graph, emissions, memory=memory)
    return totals.detach(), gradients(totals, leaf)[0], runs[0]


def test_what_arcs_gather_over_thousands_of_frames_is_not_rounded_to_float32() -> None:
    graph, num_frames, found = denominator_of(4), 2000, []
    single = random_log_probs(6, 1, num_frames, 4).float()
    for log_probs in (single, single.double()):
        scores, emissions = scores_of(graph), read_emissions(log_probs, [num_frames], check_normalised=False)
        totals = get_backend("native", CPU).shared_total_scores(graph, emissions, scores)
        found.append(torch.autograd.grad(totals.sum(), [scores.arcs, scores.finals]))
    assert float(found[1][0].max()) > num_frames / 10
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_order_split_and_threads_change_nothing() -> None:
    graph, lengths = denominator_of(20), [30, 7, 0, 21, 30, 1, 18, 30, 29, 12, 5]
    log_probs = random_log_probs(0, len(lengths), 30, 20).float()
    totals, gradient, told = run(graph, log_probs, lengths)
    assert told == Run("native", "shared graph", {SCALED: len(lengths)})
    for _ in range(3):
        again = run(graph, log_probs, lengths)
        assert torch.equal(again[0], totals)
        assert torch.equal(again[1], gradient)
    order = [4, 10, 0, 2, 1, 3, 9, 8, 7, 6, 5]
    moved = run(graph, log_probs[order], [lengths[index] for index in order])
    assert torch.equal(moved[0], totals[order])
    for index, length in enumerate(lengths):
        alone = run(graph, log_probs[index : index + 1, : max(1, length)], [length])
        assert torch.equal(alone[0], totals[index : index + 1])
        assert not gradient[index, length:].any()
    num_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3 - min(2, num_threads))
        threaded = run(graph, log_probs, lengths)
    finally:
        torch.set_num_threads(num_threads)
    assert torch.equal(threaded[0], totals)
    assert torch.equal(threaded[1], gradient)


def test_without_gradient_the_value_is_the_same() -> None:
    graph, log_probs = denominator_of(7), random_log_probs(1, 5, 12, 7)
    emissions = read_emissions(log_probs, [12, 3, 0, 7, 12])
    totals = run(graph, log_probs, [12, 3, 0, 7, 12])[0]
    assert torch.equal(get_backend("native", CPU).shared_total_scores(graph, emissions), totals)


def left_to_right(num_states: int) -> GraphBatch:
    """State i reads i or moves on to i + 1: what lies behind the wave of the best scores matters in the end."""
    states = np.arange(num_states, dtype=np.int32)
    source, destination = np.concatenate([states, states[:-1]]), np.concatenate([states, states[1:]])
    final_score = np.full(num_states, -np.inf, dtype=np.float32)
    final_score[-1] = 0.0
    graph = Graph(source, destination, destination, destination, np.zeros(len(source), np.float32), final_score)
    return GraphBatch.from_graphs([graph])


def peaky(num_frames: int, num_labels: int, gap: float) -> torch.Tensor:
    """Three utterances: confidently wrong almost all the time, confidently right, flat."""
    logits = torch.randn(3, num_frames, num_labels, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logits[0, :, 0] += gap
    logits[1, torch.arange(num_frames), torch.arange(num_frames) * num_labels // num_frames] += gap
    return torch.log_softmax(logits, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_underflows_is_found_out(dtype: torch.dtype) -> None:
    num_frames, num_labels = 4000, 30
    graph, log_probs = left_to_right(num_labels), peaky(num_frames, num_labels, 30.0).to(dtype)
    lengths = [num_frames, num_frames - 3, num_frames]
    totals, gradient, told = run(graph, log_probs, lengths)
    assert told.num_by_path[LOGARITHMS] >= 1
    assert sum(told.num_by_path.values()) == 3
    wanted, wanted_gradient, _ = run(graph, log_probs.double(), lengths, "reference")
    bound = 1e-9 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(totals.double(), wanted, rtol=1e-6 if dtype == torch.float32 else 1e-12, atol=bound)
    torch.testing.assert_close(gradient.double(), wanted_gradient, rtol=0, atol=bound)


@pytest.mark.parametrize("memory", ["full", "low"])
def test_gradients_of_scores_where_only_logarithms_do(memory: str) -> None:
    graph, log_probs, lengths = left_to_right(30), peaky(60, 30, 60.0), [60, 57, 60]
    results = []
    for backend in ("reference", "native"):
        scores = scores_of(graph)
        with recorded_runs() as runs:
            emissions = read_emissions(log_probs, lengths, check_normalised=False)
            totals = get_backend(backend, CPU).shared_total_scores(graph, emissions, scores, memory=memory)
        results.append(torch.autograd.grad(totals @ torch.tensor([1.0, 2.0, 3.0]).double(), list(scores)))
    assert runs[0].num_by_path[LOGARITHMS] >= 1
    for wanted, found in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("memory", ["full", "low"])
def test_an_utterance_without_a_path_has_no_gradient(memory: str) -> None:
    # Four states one after another need as many frames as there are steps.
    graph, lengths = left_to_right(4), [6, 1, 5, 0]
    logits = torch.randn(4, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    emissions = read_emissions(logits, lengths, from_logits=True)
    totals = get_backend("native", CPU).shared_total_scores(graph, emissions, scores_of(graph), memory=memory)
    assert (totals == -torch.inf).tolist() == [False, True, False, True]
    (gradient,) = torch.autograd.grad(totals, logits, torch.ones_like(totals))
    assert (gradient[[1, 3]] == 0).all()
    assert (gradient[0] != 0).all()
    assert (gradient[2, :5] != 0).all()
    assert (gradient[2, 5:] == 0).all()


def test_bits_are_added_where_they_are_needed() -> None:
    # The last state is 120 nats behind the first, and the one that counts.
    log_probs = torch.zeros(2, 6, 4)
    log_probs[0, :, 1:] = -40.0
    graph = left_to_right(4)
    totals, gradient, told = run(graph, log_probs, [6, 6])
    assert told.num_by_path == {SCALED: 1, DOUBLE: 1}
    wanted, wanted_gradient, _ = run(graph, log_probs.double(), [6, 6], "reference")
    torch.testing.assert_close(totals.double(), wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(gradient.double(), wanted_gradient, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("dtype", "gap"), [(torch.float32, 50.0), (torch.float32, 55.0), (torch.float64, 400.0)])
@pytest.mark.parametrize("memory", ["full", "low"])
def test_sums_that_are_right_but_not_their_products(dtype: torch.dtype, gap: float, memory: str) -> None:
    # A label that no path reads drowns two frames: what came before and what comes after are both small there.
    log_probs = random_log_probs(6, 2, 6, 5).to(dtype)
    log_probs[0, 2:4, :4] -= gap
    graph = left_to_right(4)
    totals, gradient, told = run(graph, log_probs, [6, 6], memory=memory)
    wanted, wanted_gradient, _ = run(graph, log_probs.double(), [6, 6], "reference")
    assert told.num_by_path == {SCALED: 1, DOUBLE: 1} if dtype == torch.float32 else {DOUBLE: 1, LOGARITHMS: 1}
    bound = 1e-9 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(totals.double(), wanted, rtol=0, atol=bound * gap)
    torch.testing.assert_close(gradient.double(), wanted_gradient, rtol=0, atol=bound)
    each_frame = torch.tensor([[1.0], [2.0]], dtype=dtype).expand(2, 6)
    torch.testing.assert_close(gradient.sum(2), each_frame, rtol=0, atol=bound)


def test_weights_beyond_float32() -> None:
    graph = denominator_of(4)
    heavy = GraphBatch.from_graphs(
        [Graph(*(getattr(graph, name) for name in ("source", "destination", "input_label", "output_label")),
               graph.score + 90.0, graph.final_score, int(graph.starts[0]))]
    )  # fmt: skip
    log_probs = random_log_probs(3, 2, 5, 4)
    totals, gradient, told = run(heavy, log_probs.float(), [5, 4])
    assert SCALED not in told.num_by_path
    wanted, wanted_gradient, _ = run(heavy, log_probs, [5, 4], "reference")
    torch.testing.assert_close(totals.double(), wanted, rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient.double(), wanted_gradient, rtol=0, atol=1e-5)


def test_a_hundred_thousand_frames_in_low_memory() -> None:
    num_frames = 100_000
    graph = GraphBatch.from_graphs([topologies.build("correct", 4).factored()])
    log_probs = random_log_probs(4, 1, num_frames, 4)
    totals, gradient, _ = run(graph, log_probs, [num_frames], memory="low")
    # All readings of a normalised topology: mass one, and occupancies are the probabilities themselves.
    assert abs(float(totals[0])) < 1e-12 * num_frames
    torch.testing.assert_close(gradient, log_probs.exp(), rtol=0, atol=1e-9)


def test_nan_is_passed_on() -> None:
    log_probs = random_log_probs(5, 2, 4, 3)
    log_probs[0, 1, 1] = torch.nan
    emissions: Emissions = read_emissions(log_probs, [4, 4], check_normalised=False, nonfinite="pass")
    totals = get_backend("native", CPU).shared_total_scores(denominator_of(3), emissions)
    assert totals.isnan().tolist() == [True, False]
