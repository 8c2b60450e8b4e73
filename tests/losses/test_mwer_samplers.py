"""MWER by every sampler: published values, unbiasedness over many draws, what may be included, what is reported."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import topologies
from tests import oracles
from tests.losses.checks import random_batch
from tests.losses.engines import EVERY_BACKEND, tolerance
from tests.losses.test_mmi import model_of_order
from tests.losses.test_vectors import CASES, NAMES, batched
from tests.topologies.checks import random_log_probs
from wfst_losses import CTCLoss, Exhaustive, MWERLoss, NBest, NegativeSampling, RandomPaths, ctc_loss, mwer_loss

SAMPLERS: list[Any] = [RandomPaths(30), NBest(4), NegativeSampling(6), Exhaustive()]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize("name", NAMES)
def test_every_hypothesis_by_the_n_best_estimator(name: str, backend: str) -> None:
    for case in CASES:
        log_probs, targets, lengths, rows = batched(case, name)
        leaf = log_probs.requires_grad_()
        losses = mwer_loss(
            leaf, targets, lengths, topology=name, sampler=NBest(1_000_000), baseline="none", backend=backend
        )
        wanted = [row["expected_token_errors"] for row in rows]
        assert losses.tolist() == pytest.approx(wanted, abs=max(tolerance(backend), 1e-6), rel=0)
        (found,) = torch.autograd.grad(losses.sum(), leaf)
        topology = topologies.build(name, log_probs.shape[2])
        for row in range(0, len(rows), 2):
            oracle_leaf = log_probs[row].detach().clone().requires_grad_()
            exact = oracles.expected_errors(topology, oracle_leaf, targets[row])
            (gradient,) = torch.autograd.grad(exact, oracle_leaf)
            torch.testing.assert_close(found[row], gradient, rtol=0, atol=max(10 * tolerance(backend), 1e-6))


@pytest.mark.parametrize("path_score", ["sum", "single"])
@pytest.mark.parametrize("name", list(topologies.TOPOLOGIES))
def test_the_mean_over_many_draws_is_the_exact_value_and_gradient(name: str, path_score: str) -> None:
    # 20,000 draws of 3 paths: no component beyond 5 standard errors, and errors as large as they should be.
    num_draws, num_frames, reference = 20_000, 3, [1, 2]
    one = random_log_probs(21, num_frames, 3)
    leaf = one.expand(num_draws, num_frames, 3).clone().requires_grad_()
    losses = mwer_loss(
        leaf, [reference] * num_draws, [num_frames] * num_draws, topology=name, sampler=RandomPaths(3),
        estimator="sampled", path_score=path_score, generator=generator(22),
    )  # fmt: skip
    (gradients,) = torch.autograd.grad(losses.sum(), leaf)
    oracle_leaf = one.clone().requires_grad_()
    exact = oracles.expected_errors(topologies.build(name, 3), oracle_leaf, reference)
    (wanted,) = torch.autograd.grad(exact, oracle_leaf)
    draws = torch.cat([losses.detach()[:, None], gradients.reshape(num_draws, -1)], dim=1)
    target = torch.cat([exact.detach()[None], wanted.reshape(-1)])
    # Means of 100 groups: their z-scores have mean square 1 where the standard error is honest.
    scores = (draws.mean(dim=0) - target) / (draws.std(dim=0) / num_draws**0.5)
    assert float(target.abs().max()) > 20 * float((draws.std(dim=0) / num_draws**0.5).max())
    assert float(scores.abs().max()) < 5
    groups = draws.reshape(100, num_draws // 100, -1).mean(dim=1) - target
    square = ((groups / (draws.std(dim=0) / (num_draws // 100) ** 0.5)) ** 2).mean()
    assert 0.8 < float(square) < 1.2


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: type(sampler).__name__)
@pytest.mark.parametrize("name", list(topologies.TOPOLOGIES))
def test_every_samplers_paths_are_readings_of_the_topology(name: str, sampler: Any) -> None:
    from wfst_losses.backends import get_backend
    from wfst_losses.backends.emission_lattice import EmissionLattice
    from wfst_losses.emissions import read_emissions

    log_probs, _, lengths = random_batch(30, 3, 4, 4)
    topology = topologies.build(name, 3)
    lattice = EmissionLattice(topology, read_emissions(log_probs, lengths), get_backend("native", log_probs.device))
    paths = sampler.draw(lattice, 1.0, generator())
    assert paths.num_paths > 0
    for steps, tokens, utterance in zip(paths.steps, paths.tokens, paths.utterances.tolist(), strict=True):
        assert (steps[lengths[utterance] :] == -1).all()
        reading = tuple(steps[: lengths[utterance]].tolist()), tuple(tokens.tolist())
        assert reading in oracles.reading_counts(topology, lengths[utterance])


@pytest.mark.parametrize("sampler", [RandomPaths(1), NBest(1), NegativeSampling(1)], ids=lambda s: type(s).__name__)
def test_one_path_and_the_reference(sampler: Any) -> None:
    # With the reference beside it: two hypotheses, a softmax of their masses.
    log_probs, reference = random_log_probs(35, 1, 4, 3), [2, 1]
    topology = topologies.build("correct", 3)
    leaf, oracle_leaf = log_probs.clone().requires_grad_(), log_probs.clone().requires_grad_()
    loss, diagnostics = mwer_loss(
        leaf, [reference], [4], sampler=sampler, include_reference=True, baseline="none", return_diagnostics=True,
        generator=generator(3),
    )  # fmt: skip
    alone = mwer_loss(log_probs, [reference], [4], sampler=sampler, baseline="none", generator=generator(3))
    assert float(alone) > 0, "the path is the reference: the test shows nothing"
    assert diagnostics.num_distinct.tolist() == [2]
    assert diagnostics.oracle_errors.tolist() == [0.0]
    outputs = oracles.readings(topology, 4).by_output
    # The other hypothesis is the one that its mass and its errors explain.
    own = oracles.log_mass(topology, oracle_leaf[0], reference)
    values = {
        output: float(torch.softmax(torch.stack([own, oracles.log_mass(topology, oracle_leaf[0], output)]), 0)[1])
        * oracles.edit_distance(reference, output)
        for output in outputs
        if oracles.edit_distance(reference, output) == float(alone)
    }
    assert min(abs(value - float(loss)) for value in values.values()) < 1e-9
    other = min(values, key=lambda output: abs(values[output] - float(loss)))
    wanted = torch.softmax(torch.stack([own, oracles.log_mass(topology, oracle_leaf[0], other)]), 0)[1] * float(alone)
    torch.testing.assert_close(
        torch.autograd.grad(loss.sum(), leaf)[0], torch.autograd.grad(wanted, oracle_leaf)[0], rtol=0, atol=1e-9
    )


def test_a_reference_that_has_no_path_is_left_out() -> None:
    options: dict[str, Any] = {"sampler": NBest(3), "baseline": "none", "return_diagnostics": True}
    values = [
        mwer_loss(random_log_probs(32, 1, 2, 3), [[1, 2, 1]], [2], include_reference=include, **options)
        for include in (False, True)
    ]
    assert torch.equal(values[0][0], values[1][0])
    assert values[1][1].num_distinct.tolist() == [3]


def test_the_best_path_is_included() -> None:
    # One random path far from the best, and the best.
    log_probs = random_log_probs(33, 1, 5, 3)
    best = mwer_loss(log_probs, [[]], [5], sampler=NBest(1), baseline="none", topology="minimal")
    for seed in range(5):
        options: dict[str, Any] = {"sampler": RandomPaths(1), "baseline": "none", "topology": "minimal"}
        _, alone = mwer_loss(log_probs, [[]], [5], **options, generator=generator(seed), return_diagnostics=True)
        _, both = mwer_loss(
            log_probs, [[]], [5], **options, include_best=True, generator=generator(seed), return_diagnostics=True
        )
        assert both.oracle_errors[0] == min(alone.oracle_errors[0], float(best))
        assert both.num_paths[0] == 2
        assert both.num_distinct[0] in (1, 2)


@pytest.mark.parametrize("order", [None, 2])
@pytest.mark.parametrize("name", list(topologies.TOPOLOGIES))
@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: type(sampler).__name__)
def test_the_posterior_mass_that_hypotheses_cover(sampler: Any, name: str, order: int | None) -> None:
    log_probs, targets, lengths = random_batch(34, 3, 4, 3)
    model = None if order is None else model_of_order(order)
    _, diagnostics = mwer_loss(
        log_probs, targets, lengths, topology=name, sampler=sampler, language_model=model, generator=generator(1),
        return_diagnostics=True,
    )  # fmt: skip
    from wfst_losses.backends import get_backend
    from wfst_losses.backends.emission_lattice import EmissionLattice
    from wfst_losses.emissions import read_emissions

    topology, engine = topologies.build(name, 3), get_backend("native", log_probs.device)
    lattice = EmissionLattice(topology, read_emissions(log_probs, lengths), engine, 0, model)
    paths = sampler.draw(lattice, 1.0, generator(1))
    for row, length in enumerate(lengths):
        masses = {
            output: float(oracles.log_mass(topology, log_probs[row, :length], output))
            + (0.0 if model is None else model.score(output))
            for output in oracles.readings(topology, length).by_output
        }
        total = np.logaddexp.reduce(list(masses.values()))
        held = {tuple(paths.tokens[path].tolist()) for path in np.flatnonzero(paths.utterances == row)}
        wanted = sum(math.exp(masses[output] - total) for output in held)
        assert diagnostics.posterior_mass[row] == pytest.approx(wanted, abs=1e-9)
    _, without = mwer_loss(log_probs, targets, lengths, topology=name, sampler=sampler, return_diagnostics="counts")
    assert without.posterior_mass is None


def test_all_blank_hypotheses_and_an_empty_reference() -> None:
    # Certain of blanks: one hypothesis, the empty one.
    log_probs = torch.log_softmax(torch.tensor([900.0, 0.0, 0.0], dtype=torch.float64), 0).expand(1, 4, 3).clone()
    for sampler in (RandomPaths(5), NBest(1), NegativeSampling(4, mask_probability=0.0, p_blank=0.0)):
        for reference, errors in (([], 0.0), ([1, 2], 2.0)):
            loss, diagnostics = mwer_loss(
                log_probs, [reference], [4], sampler=sampler, baseline="none", return_diagnostics=True
            )
            assert loss.tolist() == [errors]
            assert diagnostics.single == (0,)
            assert diagnostics.posterior_mass.tolist() == [pytest.approx(1.0)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"include_reference": 2}, "include_reference is 2, expected True or False"),
        ({"include_best": "yes"}, "include_best is 'yes', expected True or False"),
        ({"include_reference": True, "path_score": "single"}, "include_reference is True, expected path_score='sum'"),
        ({"include_best": True, "estimator": "sampled"}, "include_best is True, expected False with estimator"),
        ({"include_reference": True, "estimator": "sampled"}, "include_reference is True, expected False with"),
        ({"return_diagnostics": "all"}, "return_diagnostics is 'all', expected one of False, True, 'counts'"),
        ({"estimator": "sampled", "sampler": NBest(4)}, "expected RandomPaths with estimator='sampled'"),
        ({"estimator": "sampled", "sampler": NegativeSampling(4)}, "expected RandomPaths with estimator='sampled'"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mwer_loss(random_log_probs(35, 1, 3, 3), [[1]], [3], **options)


def test_interpolation_in_one_module() -> None:
    log_probs, targets, lengths = random_batch(36, 3, 4, 4)
    targets[0] = [1] * 9  # too long: impossible for CTC
    module = MWERLoss(
        sampler=NBest(5), auxiliary=CTCLoss(topology="compact"), auxiliary_weight=0.25, reduction="none",
        return_diagnostics=True,
    )  # fmt: skip
    leaf = log_probs.clone().requires_grad_()
    found = module(leaf, targets, lengths)
    wanted = mwer_loss(log_probs, targets, lengths, sampler=NBest(5)) + 0.25 * ctc_loss(
        log_probs, targets, lengths, topology="compact"
    )
    assert found[0] == math.inf
    torch.testing.assert_close(found.detach(), wanted, rtol=0, atol=1e-12)
    assert 0 in module.last_report.infinite
    assert module.last_report.diagnostics.posterior_mass is not None
    finite = found[found.detach().isfinite()]
    assert len(finite) > 1
    gradient = torch.autograd.grad(MWERLoss(**module.options, auxiliary=CTCLoss(), auxiliary_weight=1.0)(
        leaf, targets, lengths), leaf)[0]  # fmt: skip
    assert not gradient[0].any()
    assert gradient[1:].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"auxiliary": CTCLoss()}, "auxiliary_weight is 0.0, expected a loss and a weight above 0, or neither"),
        ({"auxiliary_weight": 0.5}, "auxiliary is None and auxiliary_weight is 0.5, expected a loss"),
        ({"auxiliary": "ctc", "auxiliary_weight": 0.5}, "auxiliary is 'ctc', expected a CTCLoss or an MMILoss"),
        ({"auxiliary": CTCLoss(), "auxiliary_weight": -1.0}, "auxiliary_weight is -1.0, expected a finite number"),
    ],
)
def test_bad_interpolation_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MWERLoss(**options)
