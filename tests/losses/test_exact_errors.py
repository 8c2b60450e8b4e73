"""MWER's exact estimator: every hypothesis there is, by enumeration."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest
import torch

import topologies
from tests import oracles
from tests.losses.checks import Batch, blank_first, gradient, random_batch
from tests.losses.engines import EVERY_BACKEND, FLOAT64_BACKENDS, tolerance
from tests.losses.test_mmi import bigram, model_of_order
from tests.topologies.checks import random_log_probs
from wfst_losses import Exhaustive, LanguageModel, MWERLoss, TokenErrors, WordErrors, mwer_loss
from wfst_losses.graphs import levenshtein

EVERY_TOPOLOGY = list(topologies.TOPOLOGIES)
CASES: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "vectors" / "topology_losses.json").read_text())
NAMES = list(CASES[0]["topologies"])


def exact_loss(*batch: Any, **options: Any) -> Any:
    return mwer_loss(*batch, estimator="exact", **options)


def enumerated(
    name: str, batch: Batch, max_errors: int, *, blank: int = 0, weights: tuple[int, ...] = (1, 1, 1),
    model: LanguageModel | None = None,
) -> torch.Tensor:  # fmt: skip
    """``(B,)`` ``E[min(W, max_errors + 1)]`` over all outputs, differentiable; +inf where there is none."""
    log_probs, targets, lengths = batch
    topology = topologies.build(name, log_probs.shape[2])
    scores, references = blank_first(log_probs, targets, blank)
    values = []
    for row, reference, length in zip(scores, references, lengths, strict=True):
        outputs = list(oracles.readings(topology, length).by_output)
        masses = [oracles.log_mass(topology, row[:length], output) for output in outputs]
        if model is not None:
            masses = [mass + model.score(output) for mass, output in zip(masses, outputs, strict=True)]
        if not masses or torch.stack(masses).max() == -math.inf:
            values.append(torch.tensor(math.inf, dtype=torch.float64))
            continue
        errors = [min(max_errors + 1, oracles.edit_distance(reference, output, *weights)) for output in outputs]
        values.append((torch.softmax(torch.stack(masses), 0) * torch.tensor(errors, dtype=torch.float64)).sum())
    return torch.stack(values)


def assert_enumerated(
    name: str,
    batch: Batch,
    max_errors: int | None,
    *,
    atol: float,
    oracle: dict[str, Any] | None = None,
    **options: Any,
) -> None:
    log_probs, targets, lengths = batch
    leaf, oracle_leaf = log_probs.clone().requires_grad_(), log_probs.clone().requires_grad_()
    found = exact_loss(leaf, targets, lengths, topology=name, max_errors=max_errors, **options)
    cap = 1000 if max_errors is None else max_errors
    wanted = enumerated(name, (oracle_leaf, targets, lengths), cap, **(oracle or {}))
    torch.testing.assert_close(found, wanted, rtol=0, atol=atol)
    torch.testing.assert_close(gradient(found, leaf), gradient(wanted, oracle_leaf), rtol=0, atol=atol)


def exactness(backend: str) -> float:
    """Beside costs of up to six."""
    return tolerance(backend) if backend == "k2" else 1e-14


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize("name", EVERY_TOPOLOGY)
@hypothesis.given(
    seed=st.integers(0, 2**31), num_labels=st.integers(1, 4), max_frames=st.integers(0, 4),
    max_errors=st.sampled_from([0, 1, 2, None]), data=st.data(),
)  # fmt: skip
@hypothesis.settings(max_examples=25)
def test_values_and_gradients(
    name: str, backend: str, seed: int, num_labels: int, max_frames: int, max_errors: int | None, data: st.DataObject
) -> None:
    blank = data.draw(st.integers(0, num_labels - 1))
    batch = random_batch(seed, num_labels, max_frames, 3, blank)
    oracle = {"blank": blank}
    assert_enumerated(name, batch, max_errors, atol=exactness(backend), oracle=oracle, backend=backend, blank=blank)


@pytest.mark.parametrize("backend", FLOAT64_BACKENDS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_published_values(case: dict[str, Any], name: str, backend: str) -> None:
    log_probs = torch.tensor(case["log_probs"], dtype=torch.float64)
    rows = case["topologies"][name]["targets"]
    batch = log_probs.expand(len(rows), *log_probs.shape), [row["target"] for row in rows], [len(log_probs)] * len(rows)
    for key, model in (("expected_token_errors", None), ("expected_token_errors_with_bigram", bigram(case["bigram"]))):
        found = exact_loss(*batch, topology=name, backend=backend, language_model=model)
        assert found.tolist() == pytest.approx([row[key] for row in rows], abs=1e-9, rel=0)


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize("name", EVERY_TOPOLOGY)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_language_models(name: str, backend: str, order: int) -> None:
    model, batch = model_of_order(order), random_batch(order, 3, 4, 3)
    for max_errors in (1, None):
        assert_enumerated(
            name, batch, max_errors, atol=10 * tolerance(backend), oracle={"model": model}, backend=backend,
            language_model=model,
        )  # fmt: skip


@pytest.mark.parametrize("backend", FLOAT64_BACKENDS)
@pytest.mark.parametrize("weights", [(3, 2, 4), (0, 1, 1), (1, 0, 1), (1, 1, 0), (2, 2, 9)])
def test_weighted_and_normalised_risks(weights: tuple[int, int, int], backend: str) -> None:
    batch = random_batch(20, 3, 4, 4)
    lengths = torch.tensor([max(1, len(target)) for target in batch[1]])
    for max_errors in (3, None):
        risk = TokenErrors(insertion=weights[0], deletion=weights[1], substitution=weights[2])
        oracle = {"weights": weights}
        assert_enumerated("correct", batch, max_errors, atol=1e-13, oracle=oracle, risk=risk, backend=backend)
        normalised = TokenErrors(insertion=weights[0], deletion=weights[1], substitution=weights[2], normalised=True)
        found = exact_loss(*batch, risk=normalised, max_errors=max_errors, backend=backend)
        plain = exact_loss(*batch, risk=risk, max_errors=max_errors, backend=backend)
        torch.testing.assert_close(found, plain / lengths, rtol=0, atol=1e-14)


@pytest.mark.parametrize("from_logits", [False, True], ids=["log_probs", "logits"])
@pytest.mark.parametrize("backend", FLOAT64_BACKENDS)
def test_gradcheck(backend: str, from_logits: bool) -> None:
    def loss(scores: torch.Tensor) -> torch.Tensor:
        return exact_loss(
            scores, [[1, 2], [2]], [4, 2], topology="compact", max_errors=1, backend=backend, from_logits=from_logits,
            check_normalised=False,
        )  # fmt: skip

    leaf = (3 * random_log_probs(1, 2, 4, 3) if from_logits else random_log_probs(1, 2, 4, 3)).requires_grad_()
    assert torch.autograd.gradcheck(loss, leaf, eps=1e-6, atol=1e-6)


def test_the_cap_raises_the_value_up_to_all_errors() -> None:
    log_probs, targets, lengths = random_batch(3, 3, 5, 6)
    values = [exact_loss(log_probs, targets, lengths, max_errors=cap) for cap in range(7)]
    for less, more in itertools.pairwise(values):
        assert bool((less <= more + 1e-14).all())
    assert bool((values[0] < values[3] - 1e-3).any())
    everything = mwer_loss(log_probs, targets, lengths, sampler=Exhaustive(), baseline="none")
    torch.testing.assert_close(values[-1], everything, rtol=0, atol=1e-12)
    torch.testing.assert_close(exact_loss(log_probs, targets, lengths), everything, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", EVERY_TOPOLOGY)
def test_an_utterance_is_computed_alone(name: str) -> None:
    log_probs, targets, lengths = random_batch(6, 7, 12, 5)
    whole = log_probs.clone().requires_grad_()
    losses = exact_loss(whole, targets, lengths, topology=name, max_errors=2)
    (wanted,) = torch.autograd.grad(losses.sum(), whole)
    order = [3, 0, 4, 2, 1]
    for rows in ([3], [1, 2], order):
        leaf = log_probs[rows].clone().requires_grad_()
        part = [targets[row] for row in rows], [lengths[row] for row in rows]
        found = exact_loss(leaf, *part, topology=name, max_errors=2)
        assert torch.equal(found, losses[rows])
        assert torch.equal(torch.autograd.grad(found.sum(), leaf)[0], wanted[rows])
    assert torch.equal(exact_loss(log_probs, targets, lengths, topology=name, max_errors=2), losses)


def test_long_peaked_outputs_agree_with_the_reference() -> None:
    # 600 frames of logits up to 60 apart: probabilities of 1e-26 a frame, products far below what float64 holds.
    generator = torch.Generator().manual_seed(0)
    logits = 12 * torch.randn(2, 600, 4, generator=generator, dtype=torch.float64)
    values, gradients = [], []
    for backend in FLOAT64_BACKENDS:
        leaf = logits.clone().requires_grad_()
        losses = exact_loss(
            leaf, [[1, 2], [3]], [600, 597], max_errors=1, topology="selfless", backend=backend, from_logits=True
        )
        values.append(losses.detach())
        gradients.append(torch.autograd.grad(losses.sum(), leaf)[0])
    torch.testing.assert_close(*values, rtol=0, atol=1e-11)
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_narrow_floats(dtype: torch.dtype) -> None:
    log_probs, targets, lengths = random_batch(11, 4, 6, 3)
    narrow = log_probs.to(dtype).requires_grad_()
    found = exact_loss(narrow, targets, lengths, max_errors=2)
    assert found.dtype == torch.float32
    leaf = narrow.detach().double().requires_grad_()
    wanted = exact_loss(leaf, targets, lengths, max_errors=2, check_normalised=False)
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-6)
    found.sum().backward()
    (exact,) = torch.autograd.grad(wanted.sum(), leaf)
    assert narrow.grad.dtype == dtype
    coarse = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}[dtype]
    torch.testing.assert_close(narrow.grad.double(), exact, rtol=coarse, atol=coarse / 10)


@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_no_path_is_infinite_without_gradient_and_reported(backend: str) -> None:
    # Selfless reads no label twice; the first utterance allows nothing else.
    log_probs = random_log_probs(7, 2, 2, 3)
    log_probs[0] = torch.tensor([-math.inf, 0.0, -math.inf], dtype=torch.float64)
    leaf = log_probs.requires_grad_()
    losses, diagnostics = exact_loss(
        leaf, [[1], [2]], [2, 2], topology="selfless", max_errors=1, backend=backend, return_diagnostics=True
    )
    assert diagnostics.empty == (0,)
    assert losses[0] == diagnostics.expected_errors[0] == diagnostics.oracle_errors[0] == math.inf
    assert math.isfinite(losses[1])
    found = torch.autograd.grad(losses.sum(), leaf)[0]
    assert not found[0].any()
    assert bool(found.isfinite().all())
    assert bool(found[1].any())


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize("name", EVERY_TOPOLOGY)
def test_small_batches(name: str, backend: str) -> None:
    options = {"topology": name, "backend": backend}
    empty = torch.zeros(0, 4, 3, requires_grad=True)
    losses = exact_loss(empty, [], [], **options)
    assert losses.shape == (0,)
    losses.sum().backward()
    no_frames = torch.zeros(2, 0, 3, requires_grad=True)
    losses = exact_loss(no_frames, [[], [1, 1]], [0, 0], **options)
    assert losses.tolist() == [0.0, 2.0]
    losses.sum().backward()
    assert exact_loss(no_frames, [[], [1, 1]], [0, 0], max_errors=0, **options).tolist() == [0.0, 1.0]
    # A reference too long for its frames is not impossible; an empty one counts insertions.
    few = random_log_probs(9, 2, 2, 3)
    losses = exact_loss(few, [[1, 2, 1, 2, 1], []], [2, 2], **options)
    assert 3 <= float(losses[0]) <= 5
    assert 0 < float(losses[1]) < 2


def test_a_certain_output_has_its_errors_and_no_gradient() -> None:
    log_probs = torch.full((1, 2, 3), -math.inf, dtype=torch.float64)
    log_probs[0, [0, 1], [1, 2]] = 0.0
    for target, errors in (([1, 2], 0.0), ([1], 1.0), ([2, 2, 2, 2], 3.0)):
        leaf = log_probs.clone().requires_grad_()
        loss, diagnostics = exact_loss(leaf, [target], [2], max_errors=4, return_diagnostics=True)
        assert float(loss) == errors == diagnostics.oracle_errors[0]
        assert not torch.autograd.grad(loss.sum(), leaf)[0].any()


def test_diagnostics() -> None:
    log_probs, targets, lengths = random_batch(4, 3, 4, 5)
    topology = topologies.build("correct", 3)
    losses, diagnostics = exact_loss(log_probs, targets, lengths, max_errors=1, return_diagnostics=True)
    assert diagnostics.expected_errors.tolist() == losses.tolist()
    for row, (target, length) in enumerate(zip(targets, lengths, strict=True)):
        masses = {
            output: float(oracles.log_mass(topology, log_probs[row, :length], output).exp())
            for output in oracles.readings(topology, length).by_output
        }
        errors = {output: oracles.edit_distance(target, output) for output in masses}
        beyond = sum(mass for output, mass in masses.items() if errors[output] > 1)
        assert diagnostics.beyond_max_errors[row] == pytest.approx(beyond, abs=1e-12)
        assert diagnostics.oracle_errors[row] == min(2, *errors.values(), 2)
    assert float(diagnostics.beyond_max_errors.max()) > 0.1
    assert (diagnostics.empty, diagnostics.single, diagnostics.dropped) == ((), (), ())
    assert not exact_loss(log_probs, targets, lengths, return_diagnostics=True)[1].beyond_max_errors.any()


def test_dropped_utterances_and_reductions() -> None:
    log_probs = random_log_probs(8, 3, 4, 3)
    whole = exact_loss(log_probs, [[1], [2], [1]], [4, 4, 4], max_errors=1)
    log_probs[1, 0, 0] = math.nan
    batch = log_probs.requires_grad_(), [[1], [2], [1]], [4, 4, 4]
    module = MWERLoss(estimator="exact", max_errors=1, nonfinite="drop", reduction="mean")
    value = module(*batch)
    assert module.last_report.diagnostics.dropped == module.last_report.infinite == (1,)
    assert float(value) == pytest.approx(float(whole[[0, 2]].mean()), abs=1e-14)
    value.backward()
    assert not log_probs.grad[1].any()
    assert bool(log_probs.grad[0].any())


@pytest.mark.parametrize("backend", FLOAT64_BACKENDS)
def test_frames_beyond_the_lengths_are_never_read(backend: str) -> None:
    values, gradients = [], []
    for padding in (0.0, math.nan):
        leaf = random_log_probs(10, 2, 5, 3)
        leaf[0, 3:] = padding
        leaf = leaf.requires_grad_()
        losses = exact_loss(leaf, [[1], [2]], [3, 5], max_errors=1, backend=backend)
        values.append(losses.detach())
        gradients.append(torch.autograd.grad(losses.sum(), leaf)[0])
    assert torch.equal(*values)
    assert torch.equal(*gradients)
    assert not gradients[1][0, 3:].any()


def test_without_gradients() -> None:
    log_probs, targets, lengths = random_batch(12, 4, 6, 3)
    leaf = log_probs.clone().requires_grad_()
    with torch.no_grad():
        quiet = exact_loss(leaf, targets, lengths, max_errors=1)
    with torch.inference_mode():
        inferred = exact_loss(log_probs.clone(), targets, lengths, max_errors=1)
    assert not quiet.requires_grad
    assert torch.equal(quiet, exact_loss(leaf, targets, lengths, max_errors=1).detach())
    assert torch.equal(quiet, inferred.clone())


def test_a_second_derivative_is_refused_natively_and_right_in_the_reference() -> None:
    leaf = random_log_probs(13, 1, 3, 3).requires_grad_()

    def loss(scores: torch.Tensor, backend: str) -> torch.Tensor:
        return exact_loss(scores, [[1]], [3], max_errors=1, backend=backend, from_logits=True).sum()

    (first,) = torch.autograd.grad(loss(leaf, "native"), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="once only"):
        first.square().sum().backward()
    assert torch.autograd.gradgradcheck(lambda scores: loss(scores, "reference"), leaf, eps=1e-6, atol=1e-6)


WORDS = WordErrors(tokens=("<blk>", "\u2581a", "\u2581b"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_errors": -1}, "max_errors is -1, expected >= 0"),
        ({"max_errors": 1.0}, "max_errors is 1.0, expected an integer"),
        ({"max_errors": 2, "estimator": "nbest"}, "max_errors is 2, expected None with estimator='nbest'"),
        ({"risk": WORDS}, "risk is WordErrors("),
        ({"temperature": 2.0}, "temperature is 2.0, expected 1 with estimator='exact'"),
        ({"nbest_scale": 0.5}, "nbest_scale is 0.5, expected 1 with estimator='exact'"),
        ({"path_score": "single"}, "path_score is 'single', expected 'sum' with estimator='exact'"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        mwer_loss(random_log_probs(19, 1, 3, 3), [[1]], [3], **{"estimator": "exact", **options})


def test_a_cap_that_takes_too_many_states_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levenshtein, "MAX_STATES", 50)
    batch = random_log_probs(0, 2, 30, 9), [[1], list(range(1, 9))], [30, 30]
    assert exact_loss(*batch, max_errors=1).shape == (2,)
    for max_errors in (4, None):
        with pytest.raises(ValueError, match=rf"max_errors is {max_errors}: the automaton of targets\[.\]"):
            exact_loss(*batch, max_errors=max_errors)
