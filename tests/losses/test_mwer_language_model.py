"""MWER with a language model: the posterior over sequences is the topology's times the model's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import topologies
from tests import oracles
from tests.losses.checks import gradient, random_batch
from tests.losses.engines import EVERY_BACKEND, tolerance
from tests.losses.test_mmi import CASES, NAMES, bigram, model_of_order
from wfst_losses import Exhaustive, LanguageModel, RandomPaths, mwer_loss
from wfst_losses.backends import get_backend
from wfst_losses.backends.emission_lattice import EmissionLattice
from wfst_losses.emissions import read_emissions


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_published_errors_over_all_hypotheses(case: dict[str, Any], name: str, backend: str) -> None:
    log_probs = torch.tensor(case["log_probs"], dtype=torch.float64)
    rows = case["topologies"][name]["targets"]
    found = mwer_loss(
        log_probs.expand(len(rows), *log_probs.shape), [row["target"] for row in rows], [len(log_probs)] * len(rows),
        topology=name, language_model=bigram(case["bigram"]), sampler=Exhaustive(), baseline="none", backend=backend,
    )  # fmt: skip
    wanted = [row["expected_token_errors_with_bigram"] for row in rows]
    assert found.tolist() == pytest.approx(wanted, abs=tolerance(backend), rel=0)


def expected_errors(
    name: str, log_probs: torch.Tensor, reference: list[int], model: LanguageModel, temperature: float
) -> torch.Tensor:
    topology = topologies.build(name, log_probs.shape[1])
    outputs = list(oracles.readings(topology, len(log_probs)).by_output)
    masses = torch.stack([oracles.log_mass(topology, log_probs, output) for output in outputs])
    masses = masses + torch.tensor([model.score(output) for output in outputs], dtype=torch.float64)
    errors = torch.tensor([oracles.edit_distance(reference, output) for output in outputs], dtype=torch.float64)
    return (torch.softmax(masses / temperature, 0) * errors).sum()


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize("name", NAMES)
def test_values_and_gradients_by_enumeration(name: str, backend: str) -> None:
    for order in [1, 2, 3]:
        log_probs, targets, lengths = random_batch(order, 3, 4, 3)
        lengths = [4, 2, 3]
        model = model_of_order(order)
        leaf, oracle_leaf = log_probs.clone().requires_grad_(), log_probs.clone().requires_grad_()
        found = mwer_loss(
            leaf, targets, lengths, topology=name, language_model=model, sampler=Exhaustive(), baseline="none",
            temperature=1.5, backend=backend,
        )  # fmt: skip
        parts = zip(oracle_leaf, lengths, targets, strict=True)
        wanted = torch.stack([expected_errors(name, row[:length], target, model, 1.5) for row, length, target in parts])
        torch.testing.assert_close(found, wanted, rtol=0, atol=5 * tolerance(backend))
        torch.testing.assert_close(
            gradient(found, leaf), gradient(wanted, oracle_leaf), rtol=0, atol=5 * tolerance(backend)
        )


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize("name", NAMES)
def test_sampling(name: str, backend: str) -> None:
    num_paths = 4000
    log_probs, _, _ = random_batch(5, 3, 4, 2)
    model = model_of_order(3)
    _, diagnostics = mwer_loss(
        log_probs, [[1, 2], []], [3, 4], topology=name, language_model=model, sampler=RandomPaths(num_paths),
        estimator="sampled", generator=torch.Generator().manual_seed(1), return_diagnostics=True, backend=backend,
    )  # fmt: skip
    wanted = expected_errors(name, log_probs[0, :3], [1, 2], model, 1.0)
    # Errors lie in 0..3: a standard error is at most 1.5 / sqrt(num_paths).
    assert abs(float(diagnostics.expected_errors[0]) - float(wanted)) < 5 * 1.5 / num_paths**0.5


@pytest.mark.parametrize("blank", [0, 2])
def test_scores_of_single_paths(blank: int) -> None:
    log_probs, _, lengths = random_batch(6, 3, 4, 3, blank)
    model = model_of_order(3, blank=blank)
    engine = get_backend("auto", torch.device("cpu"))
    emissions = read_emissions(log_probs, lengths)
    lattice = EmissionLattice(topologies.build("compact", 3), emissions, engine, blank, model)
    for paths in (lattice.sample(30, 1.0, torch.Generator().manual_seed(0)), lattice.enumerate()):
        assert paths.num_paths >= 30
        for row, score in enumerate(lattice.path_scores(paths).tolist()):
            steps = paths.steps[row][paths.steps[row] >= 0]
            read = log_probs[paths.utterances[row], np.arange(len(steps)), steps].sum()
            assert score == pytest.approx(float(read) + model.score(paths.tokens[row]), abs=1e-12)


def test_bad_calls() -> None:
    log_probs, targets, lengths = random_batch(7, 3, 4, 3)
    with pytest.raises(ValueError, match="language_model is 'bigram', expected a LanguageModel"):
        mwer_loss(log_probs, targets, lengths, language_model="bigram")
    with pytest.raises(ValueError, match="language_model has 4 labels but log_probs has 3 columns"):
        mwer_loss(log_probs, targets, lengths, language_model=LanguageModel.uniform(4))
