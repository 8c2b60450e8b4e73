"""Lattices given arc by arc: sums over paths by enumeration, draws by frequency."""

from __future__ import annotations

import dataclasses
from collections import Counter

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch

from tests.lattices.small_lattices import all_paths, enumerated_score, lattice_of, lattices
from tests.oracles import edit_distance
from wfst_losses import Exhaustive, MemoryLimitError, RandomPaths, TokenErrors
from wfst_losses.lattices import ArcLattice
from wfst_losses.losses.expected_errors import Criterion, expected_errors
from wfst_losses.memory_limit import MemoryBudget


def asked(lattice: ArcLattice, more: list[list[int]]) -> tuple[list[tuple[int, ...]], np.ndarray]:
    """For each utterance every sequence it writes and some others; with repetitions."""
    sequences, utterances = [], []
    for utterance in range(lattice.num_utterances):
        written = sorted({tokens for _, tokens in all_paths(lattice, utterance)})
        wanted = [*written, *map(tuple, more), *written[:1]]
        sequences += wanted
        utterances += [utterance] * len(wanted)
    return sequences, np.array(utterances, dtype=np.int64)


@hypothesis.given(lattice=lattices(), more=st.lists(st.lists(st.integers(1, 3), max_size=4), max_size=3))
@hypothesis.settings(max_examples=200)
def test_sequence_scores_and_their_gradient(lattice: ArcLattice, more: list[list[int]]) -> None:
    sequences, utterances = asked(lattice, more)
    leaves = [lattice.arc_scores.clone().requires_grad_() for _ in range(2)]
    found = dataclasses.replace(lattice, arc_scores=leaves[0]).sequence_scores(
        [np.array(sequence, dtype=np.int64) for sequence in sequences], utterances
    )
    wanted = torch.stack(
        [
            enumerated_score(lattice, leaves[1], utterance, sequence)
            for sequence, utterance in zip(sequences, utterances.tolist(), strict=True)
        ]
        or [torch.empty(0, dtype=torch.float64).sum()]
    )[: len(sequences)]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)
    possible = wanted.detach() > -torch.inf
    coefficients = torch.linspace(-1, 2, len(sequences), dtype=torch.float64)[possible]
    gradients = [
        torch.autograd.grad((values[possible] * coefficients).sum() + 0.0 * leaf.nan_to_num(0, 0, 0).sum(), leaf)[0]
        for values, leaf in zip((found, wanted), leaves, strict=True)
    ]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-10)


@hypothesis.given(lattice=lattices())
def test_enumeration(lattice: ArcLattice) -> None:
    paths = lattice.enumerate()
    found = Counter(
        (utterance, tuple(steps[steps >= 0].tolist()), tuple(tokens.tolist()))
        for utterance, steps, tokens in zip(paths.utterances.tolist(), paths.steps, paths.tokens, strict=True)
    )
    wanted = Counter(
        (utterance, arcs, tokens)
        for utterance in range(lattice.num_utterances)
        for arcs, tokens in all_paths(lattice, utterance)
        if all(lattice.arc_scores[arc] > -np.inf for arc in arcs)
    )
    assert found == wanted
    assert paths.utterances.tolist() == sorted(paths.utterances.tolist())
    scores = lattice.path_scores(paths)
    sums = [float(lattice.arc_scores[steps[steps >= 0]].sum()) for steps in paths.steps]
    assert scores.tolist() == pytest.approx(sums)


def doubling(num_steps: int, num_dead: int = 0) -> ArcLattice:
    """An empty utterance, and one of two ways at each of so many steps; dead ends fork as often, and lead nowhere."""
    rows = [(step, step + 1, [token], 0.0) for step in range(num_steps) for token in (1, 2)]
    rows += [(0, num_steps + 2, [1], 0.0)] * (num_dead > 0)
    rows += [(num_steps + 2 + step, num_steps + 3 + step, [token], 0.0) for step in range(num_dead) for token in (1, 2)]
    # The end is the last state.
    states = num_steps + num_dead + 4
    rows.append((num_steps, states - 1, [], 0.0))
    return lattice_of(rows, [0, 0, states])


def test_too_many_paths_are_refused_before_any_is_taken() -> None:
    with pytest.raises(ValueError, match=r"sampler: Exhaustive takes every path but utterance 1 has 1\.126e"):
        doubling(50).enumerate()
    with pytest.raises(ValueError, match="utterance 1 has inf"):
        doubling(2000).enumerate()


def test_dead_ends_are_not_gone_into() -> None:
    # 2^60 ways into a dead end.
    assert doubling(3, num_dead=60).enumerate().num_paths == 8


def test_the_memory_of_every_path_is_told() -> None:
    lattice = dataclasses.replace(doubling(12), budget=MemoryBudget.of(500_000))
    with pytest.raises(MemoryLimitError, match="all 4,096 paths would take"):
        lattice.enumerate()


LATTICE = lattice_of(
    [
        # An utterance with two segmentations of the same tokens, a dead end, an impossible arc.
        (0, 1, [1], 0.3),
        (0, 1, [], -0.4),
        (0, 2, [1, 2], -1.0),
        (1, 2, [2], 0.1),
        (1, 4, [2], 0.2),
        (1, 3, [1], 5.0),
        (2, 4, [], -0.7),
        (0, 4, [2], -np.inf),
        # An utterance of no states, then one of a single state, then a long chain.
        (6, 7, [1], 0.0),
        (7, 8, [2], 0.0),
    ],
    [0, 5, 5, 6, 9],
)


def rows_of(scale: float) -> dict[tuple[int, ...], float]:
    """Probabilities of the first utterance's paths."""
    scores = {
        arcs: scale * float(LATTICE.arc_scores[list(arcs)].sum())
        for arcs, _ in all_paths(LATTICE, 0)
        if all(LATTICE.arc_scores[arc] > -np.inf for arc in arcs)
    }
    total = np.logaddexp.reduce(list(scores.values()))
    return {arcs: float(np.exp(score - total)) for arcs, score in scores.items()}


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_draws_have_the_frequencies_of_the_posterior(scale: float) -> None:
    num_paths = 20_000
    paths = LATTICE.sample(num_paths, scale, torch.Generator().manual_seed(3))
    assert Counter(paths.utterances.tolist()) == {0: num_paths, 2: num_paths, 3: num_paths}
    wanted = rows_of(scale)
    assert len(wanted) == 5
    counts = Counter(tuple(steps[steps >= 0].tolist()) for steps in paths.steps[paths.utterances == 0])
    assert counts.keys() == wanted.keys()
    chi_square = sum((counts[arcs] - num_paths * p) ** 2 / (num_paths * p) for arcs, p in wanted.items())
    # Four degrees of freedom: above 23.5 once in 10,000 seeds.
    assert chi_square < 23.5
    assert {tuple(tokens.tolist()) for tokens in np.array(paths.tokens, dtype=object)[paths.utterances == 2]} == {()}


def test_draws_are_independent_of_each_other() -> None:
    # Neighbouring draws: as often alike as chance has it.
    paths = LATTICE.sample(20_000, 1.0, torch.Generator().manual_seed(4))
    first = paths.steps[paths.utterances == 0]
    alike = float(np.mean((first[:-1] == first[1:]).all(axis=1)))
    chance = sum(p**2 for p in rows_of(1.0).values())
    assert abs(alike - chance) < 5 * (chance * (1 - chance) / 20_000) ** 0.5


def test_draws_come_from_the_generator() -> None:
    runs = [LATTICE.sample(20, 1.0, torch.Generator().manual_seed(seed)).steps for seed in (1, 1, 2)]
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_a_lattice_out_of_order_is_refused() -> None:
    for destination in ([0, 1], [1, 1], [1, 3]):
        with pytest.raises(ValueError, match="arcs are not sorted topologically, expected source < destination"):
            ArcLattice(
                np.array([0, 1, 2, 2]),
                np.array(destination, dtype=np.int32),
                np.array([1, 2], dtype=np.int32),
                None,
                torch.zeros(2),
                np.array([0, 3]),
            )


@hypothesis.given(lattice=lattices(), reference=st.lists(st.integers(1, 2), max_size=3))
@hypothesis.settings(max_examples=60)
def test_expected_errors_over_all_paths(lattice: ArcLattice, reference: list[int]) -> None:
    leaves = [lattice.arc_scores.clone().requires_grad_() for _ in range(2)]
    criterion = Criterion(Exhaustive(), TokenErrors(), baseline="none")
    references = [np.array(reference, dtype=np.int64)] * lattice.num_utterances
    losses, diagnostics = expected_errors(
        dataclasses.replace(lattice, arc_scores=leaves[0]), references, criterion, None
    )
    for utterance in range(lattice.num_utterances):
        written = {
            tokens
            for arcs, tokens in all_paths(lattice, utterance)
            if all(lattice.arc_scores[arc] > -np.inf for arc in arcs)
        }
        assert (utterance in diagnostics.empty) == (not written)
        if not written:
            assert losses[utterance] == torch.inf
            continue
        masses = torch.stack([enumerated_score(lattice, leaves[1], utterance, tokens) for tokens in sorted(written)])
        errors = torch.tensor([edit_distance(reference, tokens) for tokens in sorted(written)])
        wanted = (torch.softmax(masses, 0) * errors).sum()
        torch.testing.assert_close(losses[utterance], wanted, rtol=0, atol=1e-10)
        anchors = [0.0 * leaf.nan_to_num(0, 0, 0).sum() for leaf in leaves]
        gradients = [
            torch.autograd.grad(value + anchor, leaf, retain_graph=True)[0]
            for value, anchor, leaf in zip((losses[utterance], wanted), anchors, leaves, strict=True)
        ]
        torch.testing.assert_close(*gradients, rtol=0, atol=1e-10)


def test_the_gradient_of_an_empty_utterance_is_exactly_zero() -> None:
    leaf = LATTICE.arc_scores.clone().requires_grad_()
    losses, diagnostics = expected_errors(
        dataclasses.replace(LATTICE, arc_scores=leaf),
        [np.array([1, 2])] * 4,
        Criterion(RandomPaths(50), TokenErrors()),
        torch.Generator().manual_seed(5),
    )
    assert losses[1] == torch.inf
    assert diagnostics.empty == (1,)
    assert diagnostics.single == (2, 3)
    (gradient,) = torch.autograd.grad(losses.sum(), leaf)
    assert bool(gradient.isfinite().all())
    assert not gradient[8:].any(), "one hypothesis has no gradient"
    assert gradient[:8].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scores_changed_before_the_backward_pass_change_no_gradient(dtype: torch.dtype) -> None:
    gradients = []
    for change in (False, True):
        leaf = LATTICE.arc_scores.to(dtype).clone().requires_grad_()
        lattice = dataclasses.replace(LATTICE, arc_scores=leaf)
        value = lattice.sequence_scores([np.array([1, 2])], np.zeros(1, dtype=np.int64)).sum()
        if change:
            with torch.no_grad():
                leaf.mul_(0.5)
        gradients.append(torch.autograd.grad(value, leaf)[0])
    assert torch.equal(*gradients)


def test_many_hypotheses_and_a_long_lattice() -> None:
    # A chain of 300 states, each step one of two tokens or none: sums stay those of independent choices.
    num_steps, random = 300, np.random.default_rng(0)
    scores = random.standard_normal((num_steps, 3))
    rows = [
        (step, step + 1, tokens, float(scores[step, choice]))
        for step in range(num_steps)
        for choice, tokens in enumerate([[1], [2], []])
    ]
    lattice = lattice_of(rows, [0, num_steps + 1])
    paths = lattice.sample(200, 1.0, torch.Generator().manual_seed(6))
    sequences = [*paths.tokens[:50], np.array([], dtype=np.int64), np.array([1], dtype=np.int64)]
    found = lattice.sequence_scores(sequences, np.zeros(len(sequences), dtype=np.int64))
    assert float(found[-2]) == pytest.approx(float(scores[:, 2].sum()), abs=1e-9)
    one = scores[:, 2].sum() + np.logaddexp.reduce(scores[:, 0] - scores[:, 2])
    assert float(found[-1]) == pytest.approx(float(one), abs=1e-9)
    for row in range(3):
        forward = np.full(len(sequences[row]) + 1, -np.inf)
        forward[0] = 0.0
        for step in range(num_steps):
            written = np.concatenate([[-np.inf], forward[:-1] + scores[step, sequences[row] - 1]])
            forward = np.logaddexp(forward + scores[step, 2], written)
        assert float(found[row]) == pytest.approx(float(forward[-1]), abs=1e-8)
