"""MWER from log-probs: all hypotheses by enumeration, drawn ones by the definition, the sampled gradient unbiased."""

from __future__ import annotations

import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch

import topologies
from tests import oracles
from tests.losses.checks import assert_exhaustive_mwer, blank_first, enumerated_errors, random_batch
from tests.losses.engines import EVERY_BACKEND, FLOAT64_BACKENDS, tolerance
from tests.topologies.checks import random_log_probs
from wfst_losses import Exhaustive, RandomPaths, TokenErrors, mwer_loss

EVERY_TOPOLOGY = list(topologies.TOPOLOGIES)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize("name", EVERY_TOPOLOGY)
@hypothesis.given(
    seed=st.integers(0, 2**31), num_labels=st.integers(1, 3), max_frames=st.integers(0, 4), data=st.data()
)
@hypothesis.settings(max_examples=15)
def test_all_hypotheses(
    name: str, backend: str, seed: int, num_labels: int, max_frames: int, data: st.DataObject
) -> None:
    blank = data.draw(st.integers(0, num_labels - 1))
    batch = random_batch(seed, num_labels, max_frames, 3, blank)
    assert_exhaustive_mwer(name, batch, backend=backend, atol=5 * tolerance(backend), blank=blank)


@pytest.mark.parametrize("from_logits", [False, True], ids=["log_probs", "logits"])
@pytest.mark.parametrize("backend", FLOAT64_BACKENDS)
def test_gradcheck(backend: str, from_logits: bool) -> None:
    def loss(scores: torch.Tensor) -> torch.Tensor:
        return mwer_loss(
            scores,
            [[1, 2], [2]],
            [3, 2],
            topology="compact",
            sampler=Exhaustive(),
            temperature=1.5,
            backend=backend,
            from_logits=from_logits,
            check_normalised=False,
        )

    leaf = random_log_probs(1, 2, 3, 3).requires_grad_()
    assert torch.autograd.gradcheck(loss, leaf, eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_temperature_divides_log_masses(backend: str, temperature: float) -> None:
    batch = random_batch(3, 3, 4, 4)
    found = mwer_loss(*batch, sampler=Exhaustive(), temperature=temperature, baseline="none", backend=backend)
    wanted = enumerated_errors("correct", batch, temperature)
    torch.testing.assert_close(found, wanted, rtol=0, atol=10 * tolerance(backend))


def test_the_baseline_shifts_the_value_and_never_the_gradient() -> None:
    log_probs, targets, lengths = random_batch(4, 3, 4, 3)
    values, gradients = [], []
    for baseline in ("mean", "none"):
        leaf = log_probs.clone().requires_grad_()
        losses, diagnostics = mwer_loss(
            leaf, targets, lengths, sampler=Exhaustive(), baseline=baseline, return_diagnostics=True
        )
        values.append(losses.detach())
        gradients.append(torch.autograd.grad(losses.sum(), leaf)[0])
    topology = topologies.build("correct", 3)
    for row, (target, length) in enumerate(zip(targets, lengths, strict=True)):
        outputs = oracles.readings(topology, length).by_output
        mean = np.mean([oracles.edit_distance(target, output) for output in outputs])
        assert float(values[1][row] - values[0][row]) == pytest.approx(mean, abs=1e-12)
        assert diagnostics.expected_errors[row] == pytest.approx(float(values[1][row]), abs=1e-12)
        assert diagnostics.oracle_errors[row] == min(oracles.edit_distance(target, output) for output in outputs)
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize("name", EVERY_TOPOLOGY)
@pytest.mark.parametrize("blank", [0, 3])
def test_drawn_hypotheses_are_scored_over_all_their_alignments(name: str, backend: str, blank: int) -> None:
    log_probs, targets, lengths = random_batch(5, 4, 5, 4, blank)
    leaf, oracle_leaf = log_probs.clone().requires_grad_(), log_probs.clone().requires_grad_()
    found, diagnostics = mwer_loss(
        leaf,
        targets,
        lengths,
        topology=name,
        sampler=RandomPaths(6),
        baseline="none",
        generator=generator(),
        return_diagnostics=True,
        backend=backend,
        blank=blank,
    )
    # The same draws, scored by the definition.
    from wfst_losses.backends import get_backend
    from wfst_losses.backends.emission_lattice import EmissionLattice
    from wfst_losses.emissions import read_emissions

    topology = topologies.build(name, 4)
    engine = get_backend(backend, log_probs.device)
    lattice = EmissionLattice(topology, read_emissions(log_probs, lengths), engine, blank)
    paths = lattice.sample(6, 1.0, generator())
    scores, references = blank_first(oracle_leaf, targets, blank)
    values = []
    for row, length in enumerate(lengths):
        written = [tokens for tokens, owner in zip(paths.tokens, paths.utterances, strict=True) if owner == row]
        inside = sorted({tuple(blank_first(log_probs, [tokens.tolist()], blank)[1][0]) for tokens in written})
        masses = torch.stack([oracles.log_mass(topology, scores[row, :length], output) for output in inside])
        errors = torch.tensor([oracles.edit_distance(references[row], output) for output in inside]).double()
        values.append((torch.softmax(masses, 0) * errors).sum())
        assert diagnostics.num_paths[row] == 6
        assert diagnostics.num_distinct[row] == len(inside)
        assert diagnostics.oracle_errors[row] == float(errors.min())
        assert (row in diagnostics.single) == (len(inside) == 1)
    assert diagnostics.empty == ()
    torch.testing.assert_close(found, torch.stack(values), rtol=0, atol=10 * tolerance(backend))
    gradients = [
        torch.autograd.grad(losses.sum(), scores)[0]
        for losses, scores in ((found, leaf), (torch.stack(values), oracle_leaf))
    ]
    assert float(gradients[1].abs().max()) > 1e-3
    torch.testing.assert_close(*gradients, rtol=0, atol=10 * tolerance(backend))


@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_single_alignments_are_scored_alone(backend: str) -> None:
    log_probs = random_log_probs(6, 1, 4, 3).requires_grad_()
    found = mwer_loss(
        log_probs,
        [[1]],
        [4],
        sampler=RandomPaths(8),
        path_score="single",
        baseline="none",
        generator=generator(1),
        backend=backend,
    )
    from wfst_losses.backends import get_backend
    from wfst_losses.backends.emission_lattice import EmissionLattice
    from wfst_losses.emissions import read_emissions

    lattice = EmissionLattice(
        topologies.build("correct", 3), read_emissions(log_probs, [4]), get_backend(backend, log_probs.device)
    )
    paths = lattice.sample(8, 1.0, generator(1))
    first: dict[tuple[int, ...], torch.Tensor] = {}
    for steps, tokens in zip(paths.steps, paths.tokens, strict=True):
        first.setdefault(tuple(tokens.tolist()), log_probs[0, torch.arange(4), torch.from_numpy(steps)].sum())
    weights = torch.softmax(torch.stack(list(first.values())), 0)
    errors = torch.tensor([oracles.edit_distance([1], output) for output in first])
    wanted = (weights * errors).sum()
    assert float(found) == pytest.approx(float(wanted), abs=1e-6)
    gradients = [torch.autograd.grad(value.sum(), log_probs)[0] for value in (found, wanted)]
    assert float(gradients[1].abs().max()) > 1e-3
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-6)


def test_one_hypothesis_has_no_gradient_and_is_reported() -> None:
    # Certain of one sequence in the first utterance, of nothing in the second.
    log_probs = torch.full((2, 3, 3), 1 / 3, dtype=torch.float64).log()
    log_probs[0] = torch.log_softmax(torch.tensor([0.0, 800.0, 0.0], dtype=torch.float64), 0)
    leaf = log_probs.requires_grad_()
    losses, diagnostics = mwer_loss(leaf, [[1, 2], [1]], [3, 3], generator=generator(), return_diagnostics=True)
    assert diagnostics.single == (0,)
    assert diagnostics.num_distinct[0] == 1
    assert float(losses[0]) == 0.0
    assert diagnostics.expected_errors[0] == 1.0
    assert not torch.autograd.grad(losses.sum(), leaf)[0][0].any()


@pytest.mark.parametrize("sampler", [RandomPaths(4), Exhaustive()], ids=["random", "exhaustive"])
@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_no_path_is_infinite_without_gradient_and_reported(backend: str, sampler: object) -> None:
    # Selfless reads no label twice; the first utterance allows nothing else.
    log_probs = random_log_probs(7, 2, 2, 3)
    log_probs[0] = torch.tensor([-math.inf, 0.0, -math.inf], dtype=torch.float64)
    leaf = log_probs.requires_grad_()
    losses, diagnostics = mwer_loss(
        leaf, [[1], [2]], [2, 2], topology="selfless", sampler=sampler, backend=backend, return_diagnostics=True
    )
    assert diagnostics.empty == (0,)
    assert losses[0] == math.inf
    assert diagnostics.num_distinct[0] == 0
    assert diagnostics.expected_errors[0] == math.inf
    assert math.isfinite(losses[1])
    gradient = torch.autograd.grad(losses.sum(), leaf)[0]
    assert not gradient[0].any()
    assert bool(gradient.isfinite().all())


def test_dropped_utterances_are_reported() -> None:
    log_probs = random_log_probs(8, 3, 4, 3)
    log_probs[1, 0, 0] = math.nan
    losses, diagnostics = mwer_loss(
        log_probs, [[1], [2], [1]], [4, 4, 4], nonfinite="drop", return_diagnostics=True, generator=generator()
    )
    assert diagnostics.dropped == (1,)
    assert losses.isfinite().tolist() == [True, False, True]


def test_a_reference_too_long_for_its_frames_is_not_impossible() -> None:
    losses = mwer_loss(random_log_probs(9, 1, 2, 3), [[1, 2, 1, 2, 1]], [2], baseline="none", generator=generator())
    assert 3 <= float(losses) <= 5


@pytest.mark.parametrize("name", EVERY_TOPOLOGY)
def test_small_batches(name: str) -> None:
    for sampler in (RandomPaths(3), Exhaustive()):
        empty = torch.zeros(0, 4, 3, requires_grad=True)
        losses = mwer_loss(empty, [], [], topology=name, sampler=sampler)
        assert losses.shape == (0,)
        losses.sum().backward()
        no_frames = torch.zeros(2, 0, 3, requires_grad=True)
        losses = mwer_loss(no_frames, [[], [1]], [0, 0], topology=name, sampler=sampler, baseline="none")
        assert losses.tolist() == [0.0, 1.0]
        losses.sum().backward()


@pytest.mark.parametrize("estimator", ["nbest", "sampled"])
@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_frames_beyond_the_lengths_are_never_read(backend: str, estimator: str) -> None:
    values, gradients = [], []
    for padding in (0.0, math.nan):
        leaf = random_log_probs(10, 2, 5, 3)
        leaf[0, 3:] = padding
        leaf = leaf.requires_grad_()
        losses = mwer_loss(leaf, [[1], [2]], [3, 5], estimator=estimator, generator=generator(), backend=backend)
        values.append(losses.detach())
        gradients.append(torch.autograd.grad(losses.sum(), leaf)[0])
    assert torch.equal(*values)
    assert torch.equal(*gradients)
    assert not gradients[1][0, 3:].any()


@pytest.mark.parametrize(
    ("dtype", "returned"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
    ],
)
def test_dtypes(dtype: torch.dtype, returned: torch.dtype) -> None:
    leaf = random_log_probs(11, 2, 5, 4).to(dtype).requires_grad_()
    losses = mwer_loss(leaf, [[1, 2], [3]], [5, 4], generator=generator())
    assert losses.dtype == returned
    losses.sum().backward()
    assert leaf.grad.dtype == dtype


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_reductions(reduction: str) -> None:
    log_probs = random_log_probs(12, 3, 2, 3)
    log_probs[1] = torch.tensor([-math.inf, 0.0, -math.inf], dtype=torch.float64)
    options = {"topology": "selfless", "sampler": Exhaustive(), "baseline": "none"}
    losses = mwer_loss(log_probs, [[1], [1], [2]], [2, 2, 2], **options)
    value = mwer_loss(log_probs, [[1], [1], [2]], [2, 2, 2], **options, reduction=reduction)
    assert float(value) == pytest.approx(float(losses[[0, 2]].sum()) / (2 if reduction == "mean" else 1))


def test_draws_come_from_the_generator() -> None:
    log_probs, targets, lengths = random_batch(13, 4, 8, 3)
    state = torch.get_rng_state()
    runs = [mwer_loss(log_probs, targets, lengths, generator=generator(seed)) for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
    torch.manual_seed(5)
    first = mwer_loss(log_probs, targets, lengths)
    torch.manual_seed(5)
    assert torch.equal(first, mwer_loss(log_probs, targets, lengths))


@pytest.mark.parametrize("path_score", ["sum", "single"])
@pytest.mark.parametrize("name", EVERY_TOPOLOGY)
def test_the_sampled_gradient_is_unbiased(name: str, path_score: str) -> None:
    # Each utterance of the batch is one draw of the estimator with few paths; their mean is held to enumeration.
    num_draws, num_paths, num_frames = 5000, 3, 3
    one = random_log_probs(14, num_frames, 3)
    reference = [1, 2]
    leaf = one.expand(num_draws, num_frames, 3).clone().requires_grad_()
    losses = mwer_loss(
        leaf,
        [reference] * num_draws,
        [num_frames] * num_draws,
        topology=name,
        sampler=RandomPaths(num_paths),
        estimator="sampled",
        path_score=path_score,
        generator=generator(15),
    )
    (gradients,) = torch.autograd.grad(losses.sum(), leaf)
    oracle_leaf = one.clone().requires_grad_()
    exact = oracles.expected_errors(topologies.build(name, 3), oracle_leaf, reference)
    (wanted,) = torch.autograd.grad(exact, oracle_leaf)
    errors = gradients.std(dim=0) / num_draws**0.5
    assert float(wanted.abs().max()) > 20 * float(errors.max()), "the test would not see a bias"
    assert bool(((gradients.mean(dim=0) - wanted).abs() <= 5 * errors + 1e-12).all())
    assert abs(float(losses.mean() - exact)) <= 5 * float(losses.std()) / num_draws**0.5


def test_summing_alignments_lowers_the_variance_of_the_sampled_gradient() -> None:
    variances = {}
    for path_score in ("sum", "single"):
        leaf = random_log_probs(16, 5, 3).expand(500, 5, 3).clone().requires_grad_()
        losses = mwer_loss(
            leaf,
            [[1, 2]] * 500,
            [5] * 500,
            sampler=RandomPaths(4),
            estimator="sampled",
            path_score=path_score,
            generator=generator(17),
        )
        variances[path_score] = float(torch.autograd.grad(losses.sum(), leaf)[0].var(dim=0).sum())
    assert variances["sum"] < 0.9 * variances["single"]


def test_the_value_of_the_sampled_estimator_is_the_mean_errors_under_either_baseline() -> None:
    values = [
        mwer_loss(
            random_log_probs(18, 2, 4, 3),
            [[1], [2, 1]],
            [4, 3],
            estimator="sampled",
            baseline=baseline,
            generator=generator(),
            return_diagnostics=True,
        )
        for baseline in ("mean", "none")
    ]
    for losses, diagnostics in values:
        assert losses.tolist() == pytest.approx(diagnostics.expected_errors.tolist())
        assert float(losses.min()) > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"estimator": "best"}, "estimator is 'best', expected one of 'nbest', 'sampled'"),
        ({"path_score": "max"}, "path_score is 'max', expected one of 'sum', 'single'"),
        ({"baseline": "median"}, "baseline is 'median', expected one of 'mean', 'none'"),
        ({"temperature": 0.0}, "temperature is 0.0, expected a finite number > 0"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"temperature": "warm"}, "temperature is 'warm', expected a number"),
        ({"sampler": 16}, "sampler is 16, expected a path sampler"),
        ({"risk": "token"}, "risk is 'token', expected a risk"),
        ({"nbest_scale": -1.0}, r"nbest_scale is -1\.0, expected a finite number > 0"),
        ({"nbest_scale": 1e7}, r"nbest_scale is 10000000\.0, expected at most 1000000\.0"),
        ({"estimator": "sampled", "nbest_scale": 0.5}, r"nbest_scale is 0\.5, expected 1 with estimator='sampled'"),
        ({"estimator": "sampled", "temperature": 2.0}, "temperature is 2.0, expected 1 with estimator='sampled'"),
        ({"estimator": "sampled", "sampler": RandomPaths(1)}, "num_paths is 1, expected >= 2 with estimator='sampled'"),
        ({"estimator": "sampled", "sampler": Exhaustive()}, "expected RandomPaths with estimator='sampled'"),
        ({"reduction": "avg"}, "reduction is 'avg', expected one of 'none', 'mean', 'sum'"),
    ],
)
def test_bad_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mwer_loss(random_log_probs(19, 1, 3, 3), [[1]], [3], **options)


def test_weighted_risk() -> None:
    log_probs, targets, lengths = random_batch(20, 3, 3, 3)
    risk = TokenErrors(insertion=3, deletion=2, substitution=4)
    found = mwer_loss(log_probs, targets, lengths, sampler=Exhaustive(), baseline="none", risk=risk)
    topology = topologies.build("correct", 3)
    for row, (target, length) in enumerate(zip(targets, lengths, strict=True)):
        outputs = list(oracles.readings(topology, length).by_output)
        masses = torch.stack([oracles.log_mass(topology, log_probs[row, :length], output) for output in outputs])
        errors = torch.tensor([oracles.edit_distance(target, output, 3, 2, 4) for output in outputs])
        assert float(found[row]) == pytest.approx(float((masses.exp() * errors).sum()), abs=1e-9)
