"""The N best distinct sequences are those of enumeration, ties included, in their order, with their best paths."""

from __future__ import annotations

import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch

import topologies
from tests import oracles
from tests.lattices.small_lattices import lattices
from tests.losses.engines import EVERY_BACKEND
from tests.losses.test_mmi import model_of_order
from tests.samplers import best_by_enumeration
from tests.topologies.checks import random_log_probs
from tests.topologies.random_graphs import graphs
from topologies import Graph, GraphBatch
from wfst_losses import LanguageModel, NBest, mwer_loss
from wfst_losses.backends import get_backend
from wfst_losses.backends.emission_lattice import EmissionLattice
from wfst_losses.emissions import read_emissions
from wfst_losses.graphs.paths import Paths
from wfst_losses.lattices import AbstractLattice, ArcLattice

CPU = torch.device("cpu")
LENGTHS = [4, 0, 2, 3]


def assert_ranked(lattice: AbstractLattice, paths: Paths, utterance: int, wanted: best_by_enumeration.Ranked) -> None:
    rows = np.flatnonzero(paths.utterances == utterance)
    assert [tuple(paths.tokens[row].tolist()) for row in rows] == [tokens for tokens, _ in wanted]
    assert lattice.path_scores(paths)[rows].tolist() == pytest.approx([score for _, score in wanted], abs=1e-9)


def emissions_of(seed: int, num_labels: int, ties: bool, impossible: bool) -> torch.Tensor:
    """Halves where there shall be ties, so that sums are exact in any order."""
    log_probs = random_log_probs(seed, len(LENGTHS), 4, num_labels)
    if ties:
        log_probs = (2 * log_probs).round() / 2
    if impossible:
        log_probs[0, 1, 0] = log_probs[3, :, -1] = -math.inf
    return log_probs


def lattice_over(
    name: str, backend: str, log_probs: torch.Tensor, model: LanguageModel | None = None, blank: int = 0
) -> EmissionLattice:
    emissions = read_emissions(log_probs, LENGTHS, check_normalised=False)
    return EmissionLattice(
        topologies.build(name, log_probs.shape[2]), emissions, get_backend(backend, CPU), blank, model
    )


@pytest.mark.parametrize("ties", [False, True], ids=["no ties", "ties"])
@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize("name", list(topologies.TOPOLOGIES))
def test_every_topology(name: str, backend: str, ties: bool) -> None:
    for seed, num_paths in enumerate([1, 3, 8, 1000]):
        log_probs = emissions_of(seed, 2 + seed % 2, ties, impossible=seed == 2)
        lattice = lattice_over(name, backend, log_probs)
        paths = lattice.best_sequences(num_paths)
        for utterance, length in enumerate(LENGTHS):
            wanted = best_by_enumeration.of_topology(lattice.topology, log_probs[utterance, :length], num_paths)
            assert_ranked(lattice, paths, utterance, wanted)
            for row in np.flatnonzero(paths.utterances == utterance):
                reading = tuple(paths.steps[row, :length].tolist()), tuple(paths.tokens[row].tolist())
                assert reading in oracles.reading_counts(lattice.topology, length)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize("name", list(topologies.TOPOLOGIES))
def test_with_a_language_model(name: str, backend: str, order: int) -> None:
    model, log_probs = model_of_order(order), emissions_of(order, 3, ties=False, impossible=False)
    lattice = lattice_over(name, backend, log_probs, model)
    paths = lattice.best_sequences(6)
    found = lattice.best_paths()
    for utterance, length in enumerate(LENGTHS):
        wanted = best_by_enumeration.of_topology(lattice.topology, log_probs[utterance, :length], 6, model)
        assert_ranked(lattice, paths, utterance, wanted)
        assert tuple(found.tokens[utterance].tolist()) == wanted[0][0]
        assert found.scores[utterance] == pytest.approx(wanted[0][1], abs=1e-9)
        assert float(lattice.path_scores(found)[utterance]) == pytest.approx(wanted[0][1], abs=1e-9)


@hypothesis.given(
    parts=st.lists(graphs(num_labels=3, writing_epsilons=True), min_size=1, max_size=3),
    seed=st.integers(0, 1000),
    num_paths=st.sampled_from([1, 2, 5, 500]),
)
@hypothesis.settings(max_examples=60)
def test_any_graph_natively_as_by_reference(parts: list[Graph], seed: int, num_paths: int) -> None:
    emissions = read_emissions(random_log_probs(seed, 3, 3, 3), [2, 3, 1])
    batch, utterances = GraphBatch.from_graphs(parts), torch.arange(len(parts))
    native, reference = (
        get_backend(name, CPU).best_sequences(batch, emissions, utterances, num_paths)
        for name in ("native", "reference")
    )
    assert [row.tolist() for row in native.tokens] == [row.tolist() for row in reference.tokens]
    assert native.utterances.tolist() == reference.utterances.tolist()
    scores = []
    for paths in (native, reference):
        read = emissions.log_probs[
            torch.from_numpy(paths.utterances)[:, None], torch.arange(3), torch.from_numpy(paths.steps).clamp(min=0)
        ].numpy()
        scores.append(np.where(paths.steps >= 0, read, 0.0).sum(axis=1) + paths.graph_scores)
    np.testing.assert_allclose(*scores, rtol=0, atol=1e-9)


@hypothesis.given(lattice=lattices(), num_paths=st.integers(1, 7), whole=st.booleans())
@hypothesis.settings(max_examples=300)
def test_lattices_of_arcs(lattice: ArcLattice, num_paths: int, whole: bool) -> None:
    if whole:
        # Many ties; the sums are exact.
        lattice.arc_scores.round_()
    paths = lattice.best_sequences(num_paths)
    for utterance in range(lattice.num_utterances):
        wanted = best_by_enumeration.of_lattice(lattice, utterance, num_paths)
        assert_ranked(lattice, paths, utterance, wanted)


def test_sequences_far_below_the_best_are_found() -> None:
    # Thousands of nats lie between neighbours in rank.
    log_probs = torch.tensor([[0.0, -3000.0, -50_000.0], [0.0, -7.0, -200_000.0]], dtype=torch.float64)[None]
    emissions = read_emissions(log_probs, [2], check_normalised=False)
    lattice = EmissionLattice(topologies.build("minimal", 3), emissions, get_backend("native", CPU))
    found = [tuple(tokens.tolist()) for tokens in lattice.best_sequences(100).tokens]
    wanted = best_by_enumeration.of_topology(lattice.topology, log_probs[0], 100)
    assert len(wanted) == 7
    assert found == [tokens for tokens, _ in wanted]


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_no_path_leads_through_nan(backend: str) -> None:
    log_probs = random_log_probs(1, 1, 3, 3)
    log_probs[0, 1, 2] = math.nan
    emissions = read_emissions(log_probs, [3], nonfinite="pass", check_normalised=False)
    lattice = EmissionLattice(topologies.build("minimal", 3), emissions, get_backend(backend, CPU))
    paths = lattice.best_sequences(100)
    assert not (paths.steps[:, 1] == 2).any()
    without = torch.where(log_probs.isnan(), -torch.inf, log_probs)[0]
    assert_ranked(lattice, paths, 0, best_by_enumeration.of_topology(lattice.topology, without, 100))


def test_a_blank_in_the_last_column_gives_the_same_sequences() -> None:
    log_probs = (2 * random_log_probs(3, 4, 4, 3)).round() / 2
    first = lattice_over("correct", "native", log_probs).best_sequences(6)
    last = lattice_over("correct", "native", log_probs[..., [1, 2, 0]].contiguous(), blank=2).best_sequences(6)
    assert [(row - 1).tolist() for row in first.tokens] == [row.tolist() for row in last.tokens]
    assert np.array_equal(np.where(first.steps >= 0, (first.steps - 1) % 3, -1), last.steps)


def test_threads_make_no_difference() -> None:
    log_probs = random_log_probs(4, 4, 4, 3)
    before, found = torch.get_num_threads(), []
    try:
        for num_threads in [1, 4]:
            torch.set_num_threads(num_threads)
            found.append(lattice_over("compact", "native", log_probs).best_sequences(9))
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(found[0].steps, found[1].steps)


def test_long_utterances_need_no_more_than_what_lies_near_the_best() -> None:
    # 100 best of 300 frames x 400 labels: neighbours in rank differ in single frames.
    log_probs = torch.log_softmax(4 * torch.randn(1, 300, 400, generator=torch.Generator().manual_seed(0)), 2)
    emissions = read_emissions(log_probs, [300])
    lattice = EmissionLattice(topologies.build("minimal", 400), emissions, get_backend("native", CPU))
    paths = lattice.best_sequences(100)
    scores = lattice.path_scores(paths)
    assert paths.num_paths == len({tokens.tobytes() for tokens in paths.tokens}) == 100
    assert bool((scores.diff() <= 1e-4).all())
    # Minimal: all paths whose single best frame is swapped for its second label lie among the candidates.
    top = log_probs[0].topk(2, dim=1).values
    swaps = (top[:, 1] - top[:, 0]).sort(descending=True).values
    assert float(scores[1] - scores[0]) >= float(swaps[0]) - 1e-4


def test_the_loss_over_all_sequences_is_that_of_all_paths() -> None:
    from wfst_losses import Exhaustive

    log_probs = random_log_probs(5, 4, 4, 3)
    values = [
        mwer_loss(log_probs, [[1, 2], [], [2], [1]], LENGTHS, sampler=sampler, baseline="none")
        for sampler in (NBest(10_000), Exhaustive())
    ]
    torch.testing.assert_close(*values, rtol=0, atol=1e-12)


def test_one_path_is_the_best_and_has_no_gradient() -> None:
    leaf = random_log_probs(6, 2, 4, 3).requires_grad_()
    losses, diagnostics = mwer_loss(
        leaf, [[1], [2]], [4, 3], topology="minimal", sampler=NBest(1), return_diagnostics=True
    )
    assert losses.tolist() == [0.0, 0.0]
    assert diagnostics.single == (0, 1)
    assert not torch.autograd.grad(losses.sum(), leaf)[0].any()
    best = [[label for label in row if label] for row in (leaf[0].argmax(1).tolist(), leaf[1, :3].argmax(1).tolist())]
    wanted = [oracles.edit_distance(*pair) for pair in zip([[1], [2]], best, strict=True)]
    assert diagnostics.expected_errors.tolist() == wanted


@pytest.mark.parametrize("num_paths", [0, -1, 2.5, "many", True])
def test_bad_counts_are_named(num_paths: object) -> None:
    with pytest.raises(ValueError, match="num_paths is"):
        NBest(num_paths)
