"""MMI by enumeration: values, gradients in the network's output and in the model's scores, impossible targets."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import topologies
from tests import oracles
from tests.losses.checks import Batch, blank_first, gradient, random_batch
from tests.losses.engines import EVERY_BACKEND, FLOAT64_BACKENDS, tolerance
from wfst_losses import LanguageModel, MMILoss, ctc_loss, mmi_loss
from wfst_losses.backends import get_backend
from wfst_losses.emissions import read_emissions
from wfst_losses.graphs.denominator import denominator

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "vectors" / "topology_losses.json").read_text())
NAMES = list(CASES[0]["topologies"])
VARIANTS = {"mmi_loss": {}, "mmi_loss_den_scale_0.7_boost_0.5": {"den_scale": 0.7, "boost": 0.5}}


def bigram(rows: list[tuple[int, str, float]]) -> LanguageModel:
    """State = last token, 0 = start; pairs that are not listed are impossible."""
    units = [unit for _, unit, _ in rows if unit != "</s>"]
    final_score = [-math.inf] * (1 + max([int(unit) for unit in units] + [history for history, _, _ in rows]))
    arcs = []
    for history, unit, score in rows:
        if unit == "</s>":
            final_score[history] = score
        else:
            arcs.append((history, int(unit), score))
    source, token, score = zip(*arcs, strict=True) if arcs else ([], [], [])
    return LanguageModel.from_arcs(source, token, token, score, final_score)


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_published_values(case: dict[str, Any], name: str, backend: str) -> None:
    log_probs = torch.tensor(case["log_probs"], dtype=torch.float64)
    model = bigram(case["bigram"])
    rows = case["topologies"][name]["targets"]
    batch = log_probs.expand(len(rows), *log_probs.shape), [row["target"] for row in rows], [len(log_probs)] * len(rows)
    for key, options in VARIANTS.items():
        found = mmi_loss(*batch, language_model=model, topology=name, backend=backend, **options)
        assert found.tolist() == pytest.approx([float(row[key]) for row in rows], abs=tolerance(backend), rel=0)
    engine = get_backend(backend, torch.device("cpu"))
    topology = topologies.build(name, log_probs.shape[1])
    graph = denominator(topology, model, epsilon_free=engine.needs_epsilon_free)
    total = engine.shared_total_scores(graph, read_emissions(log_probs[None], [len(log_probs)]))
    wanted = case["topologies"][name]["log_total_mass_with_bigram"]
    assert float(total[0]) == pytest.approx(wanted, abs=tolerance(backend))


def model_of_order(order: int, num_labels: int = 3, blank: int = 0) -> LanguageModel:
    tokens = [label for label in range(num_labels) if label != blank]
    random = np.random.default_rng(order)
    sequences = [random.choice(tokens, size=random.integers(0, 5)).tolist() for _ in range(8)]
    return LanguageModel.from_counts(sequences, num_labels, order, "witten_bell", blank=blank)


def enumerated(
    name: str,
    batch: Batch,
    model: LanguageModel,
    scores: torch.Tensor | None = None,
    *,
    den_scale: float = 1.0,
    boost: float = 0.0,
    backoff: str = "failure",
    blank: int = 0,
) -> torch.Tensor:
    """``(B,)`` of the definition: sums over all readings, occupancies by counting labels."""
    log_probs, targets, lengths = batch
    topology = topologies.build(name, log_probs.shape[2])
    emissions, tokens = blank_first(log_probs, targets, blank)
    columns = [blank, *(label for label in range(log_probs.shape[2]) if label != blank)]
    losses = []
    for frames, length, target in zip(emissions, lengths, tokens, strict=True):
        readings = oracles.readings(topology, length)
        outside = [np.array([columns[token] for token in output], dtype=np.int64) for output in readings.outputs]
        of_model = model.sequence_scores(outside, scores, backoff=backoff)
        frames = frames[:length]  # noqa: PLW2901
        rows = torch.tensor([output == tuple(target) for output in readings.outputs])
        path_scores = oracles.reading_scores(topology, frames) + of_model
        if not (path_scores[rows] > -torch.inf).any():
            losses.append(torch.tensor(torch.inf, dtype=torch.float64))
            continue
        numerator = torch.logsumexp(path_scores[rows], 0)
        posterior = torch.exp(path_scores[rows] - numerator).detach()
        occupancy = torch.zeros_like(frames)
        labellings = torch.from_numpy(readings.labellings)[rows]
        for frame in range(length):
            occupancy[frame] = occupancy[frame].index_add(0, labellings[:, frame], posterior)
        boosted = oracles.reading_scores(topology, frames - boost * occupancy) + of_model
        losses.append(den_scale * torch.logsumexp(boosted, 0) - numerator)
    return torch.stack(losses)


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "scaled and boosted": {"den_scale": 0.7, "boost": 0.5},
    "epsilon": {"backoff": "epsilon", "boost": 0.3},
}


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("name", NAMES)
def test_values_and_gradients_by_enumeration(name: str, options: dict[str, Any], backend: str) -> None:
    for seed, order in enumerate([1, 2, 3]):
        log_probs, targets, lengths = random_batch(seed, 3, 5, 4)
        model = model_of_order(order)
        leaf, oracle_leaf = log_probs.clone().requires_grad_(), log_probs.clone().requires_grad_()
        found = mmi_loss(leaf, targets, lengths, language_model=model, topology=name, backend=backend, **options)
        wanted = enumerated(name, (oracle_leaf, targets, lengths), model, **options)
        torch.testing.assert_close(found, wanted, rtol=0, atol=tolerance(backend))
        torch.testing.assert_close(
            gradient(found, leaf), gradient(wanted, oracle_leaf), rtol=0, atol=tolerance(backend)
        )


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("name", NAMES)
def test_gradients_in_the_models_scores(name: str, options: dict[str, Any], backend: str) -> None:
    for order in [1, 2, 3]:
        log_probs, targets, lengths = random_batch(10 + order, 3, 4, 3)
        model = model_of_order(order)
        # Other scores than the model's: states that need no expansion may come to need it.
        changed = model.scores + torch.from_numpy(np.random.default_rng(order).normal(0, 0.5, model.arcs.num_arcs))
        leaves = [changed.clone().requires_grad_() for _ in range(2)]
        emissions = [log_probs.clone().requires_grad_() for _ in range(2)]
        found = mmi_loss(
            emissions[0], targets, lengths, language_model=model, topology=name, backend=backend,
            language_model_scores=leaves[0], **options,
        )  # fmt: skip
        wanted = enumerated(name, (emissions[1], targets, lengths), model, leaves[1], **options)
        torch.testing.assert_close(found, wanted, rtol=0, atol=tolerance(backend))
        for got, oracle in ((leaves[0], leaves[1]), (emissions[0], emissions[1])):
            finite = found.isfinite()
            (one,) = torch.autograd.grad(found[finite].sum(), got, retain_graph=True)
            (other,) = torch.autograd.grad(wanted[finite].sum(), oracle, retain_graph=True)
            torch.testing.assert_close(one, other, rtol=0, atol=tolerance(backend))


@pytest.mark.parametrize("backend", FLOAT64_BACKENDS)
@pytest.mark.parametrize("name", NAMES)
def test_gradcheck(name: str, backend: str) -> None:
    model = model_of_order(2)
    logits = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    scores = model.scores.requires_grad_()

    def loss(logits: torch.Tensor, scores: torch.Tensor | None = None) -> torch.Tensor:
        return mmi_loss(
            logits, [[1, 2], [2]], [4, 3], language_model=model, topology=name, backend=backend, den_scale=0.8,
            from_logits=True, language_model_scores=scores,
        )  # fmt: skip

    assert torch.autograd.gradcheck(loss, (logits,))
    assert torch.autograd.gradcheck(loss, (logits, scores))


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize("blank", [1, 2])
def test_any_blank(blank: int, backend: str) -> None:
    batch = random_batch(5, 3, 4, 4, blank)
    model = model_of_order(2, blank=blank)
    for options in OPTIONS.values():
        found = mmi_loss(*batch, language_model=model, blank=blank, backend=backend, **options)
        wanted = enumerated("correct", batch, model, blank=blank, **options)
        torch.testing.assert_close(found, wanted, rtol=0, atol=tolerance(backend))
        scored = mmi_loss(
            *batch, language_model=model, blank=blank, backend=backend, language_model_scores=model.scores, **options
        )
        torch.testing.assert_close(scored, wanted, rtol=0, atol=tolerance(backend))


@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_impossible_targets_have_no_gradient_of_either_term(backend: str) -> None:
    # Token 2 cannot be first; three tokens do not fit two frames.
    model = LanguageModel.from_arcs([0, 1, 1], [1, 1, 1], [1, 1, 2], [-1.0, -1.0, -1.5], [-0.5, -0.5])
    targets, lengths = [[2], [1, 2], [1, 2, 1], [], [1]], [4, 4, 2, 0, 0]
    log_probs = random_batch(6, 3, 4, 5)[0]
    for scores in (None, model.scores.requires_grad_()):
        leaf = log_probs.clone().requires_grad_()
        options = {"language_model": model, "backend": backend, "language_model_scores": scores, "boost": 0.2}
        losses = mmi_loss(leaf, targets, lengths, **options)
        assert (losses == torch.inf).tolist() == [True, False, True, False, True]
        leaves = [leaf] if scores is None else [leaf, scores]
        found, *rest = torch.autograd.grad(losses.sum(), leaves)
        assert all(bool(part.isfinite().all()) for part in (found, *rest))
        assert not found[[0, 2, 3, 4]].any()
        assert found[1].any()
        zeroed = mmi_loss(leaf, targets, lengths, zero_infinity=True, **options)
        assert torch.equal(zeroed, losses.masked_fill(losses == torch.inf, 0.0))


@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_what_must_change_nothing(backend: str) -> None:
    log_probs, targets, lengths = random_batch(7, 4, 6, 5)
    model = model_of_order(3, 4)
    call = {"language_model": model, "backend": backend}
    leaf = log_probs.clone().requires_grad_()
    losses = mmi_loss(leaf, targets, lengths, **call)
    # Occupancies of numerator and denominator sum to one each.
    assert gradient(losses, leaf).sum(2).abs().max() < 10 * tolerance(backend)
    shifted = log_probs + torch.randn(5, 6, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for frame, length in enumerate(lengths):
        shifted[frame, length:] = torch.nan
    torch.testing.assert_close(
        mmi_loss(shifted, targets, lengths, **call), losses, rtol=0, atol=10 * tolerance(backend)
    )
    order = [3, 0, 4, 2, 1]
    permuted = mmi_loss(log_probs[order], [targets[i] for i in order], [lengths[i] for i in order], **call)
    torch.testing.assert_close(permuted, losses[order], rtol=0, atol=tolerance(backend))
    padded = torch.full((5, 9), 77)
    for row, target in zip(padded, targets, strict=True):
        row[: len(target)] = torch.tensor(target, dtype=torch.int64)
    target_lengths = torch.tensor([len(target) for target in targets])
    assert torch.equal(mmi_loss(log_probs, padded, torch.tensor(lengths), target_lengths, **call), losses)
    single = mmi_loss(log_probs.float(), targets, lengths, **call)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single, losses.float(), rtol=0, atol=1e-4)
    without = mmi_loss(log_probs, targets, lengths, den_scale=0.0, **call)
    of_model = torch.tensor([model.score(target) for target in targets], dtype=torch.float64)
    wanted = ctc_loss(log_probs, targets, lengths, backend=backend) - of_model
    torch.testing.assert_close(without, wanted, rtol=0, atol=tolerance(backend))


def test_the_uniform_model_by_hand() -> None:
    # Minimal, V = 3, uniform emissions: 9 labellings of two frames, token sequences weigh 3^-(tokens + 1).
    log_probs = torch.full((1, 2, 3), 1 / 3, dtype=torch.float64).log()
    loss = mmi_loss(log_probs, [[1]], [2], language_model=LanguageModel.uniform(3), topology="minimal")
    total = 1 / 3 + 4 / 9 + 4 / 27
    assert float(loss[0]) == pytest.approx(-math.log((2 / 9) / total), abs=1e-12)


def test_what_is_not_finite_is_dropped_on_request() -> None:
    log_probs, targets, lengths = random_batch(8, 3, 4, 3)
    lengths, targets = [4, 4, 4], [[1], [1], [2]]
    log_probs[1, 2, 0] = torch.nan
    call = {"language_model": LanguageModel.uniform(3)}
    with pytest.raises(ValueError, match=r"log_probs\[1, 2, 0\] is nan"):
        mmi_loss(log_probs, targets, lengths, **call)
    leaf = log_probs.requires_grad_()
    losses = mmi_loss(leaf, targets, lengths, nonfinite="drop", boost=0.1, **call)
    assert (losses == torch.inf).tolist() == [False, True, False]
    assert not gradient(losses, leaf)[1].any()
    assert losses[[0, 2]].tolist() == mmi_loss(log_probs[[0, 2]], [[1], [2]], [4, 4], boost=0.1, **call).tolist()
    assert mmi_loss(log_probs, targets, lengths, nonfinite="pass", **call).isnan().tolist() == [False, True, False]


def test_the_module() -> None:
    batch = random_batch(9, 3, 5, 4)
    model = model_of_order(2)
    module = MMILoss(language_model=model, topology="compact", boost=0.2)
    losses = mmi_loss(*batch, language_model=model, topology="compact", boost=0.2)
    finite = losses[losses.isfinite()]
    assert float(module(*batch)) == pytest.approx(float(finite.mean()), abs=1e-12)
    assert module.last_report.num_finite == len(finite)
    scores = model.scores.requires_grad_()
    module(*batch, language_model_scores=scores).backward()
    assert scores.grad.abs().sum() > 0


def test_no_gradient_and_inference_mode() -> None:
    batch, model = random_batch(11, 3, 4, 3), model_of_order(2)
    wanted = mmi_loss(*batch, language_model=model, boost=0.5)
    with torch.no_grad():
        assert torch.equal(mmi_loss(*batch, language_model=model, boost=0.5), wanted)
    with torch.inference_mode():
        assert torch.equal(mmi_loss(*batch, language_model=model, boost=0.5), wanted)


GOOD = {"language_model": LanguageModel.uniform(3)}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no model": ({"language_model": None}, "language_model is None, expected a LanguageModel"),
    "a model of more labels": (
        {"language_model": LanguageModel.uniform(4)},
        "language_model has 4 labels but log_probs has 3 columns, expected no more",
    ),
    "a model that reads the blank": ({"blank": 1}, "language_model reads label 1, the blank; expected tokens only"),
    "scores of other arcs": (
        {"language_model_scores": torch.zeros(3)},
        "expected a floating tensor of shape (2,), one per arc",
    ),
    "scores of integers": (
        {"language_model_scores": torch.zeros(2).long()},
        "expected a floating tensor of shape (2,)",
    ),
    "a negative scale": ({"den_scale": -1.0}, "den_scale is -1.0, expected a finite number >= 0"),
    "a boost that is no number": ({"boost": math.nan}, "boost is nan, expected a finite number"),
    "another memory": ({"memory": "none"}, "memory is 'none', expected one of 'full'"),
    "another back-off": ({"backoff": "phi"}, "backoff is 'phi', expected one of 'failure', 'epsilon'"),
    "another reduction": ({"reduction": "max"}, "reduction is 'max', expected one of"),
    "a topology of another size": (
        {"topology": topologies.build("minimal", 4)},
        "topology has 4 labels but log_probs has 3 columns",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_calls(case: str) -> None:
    change, message = BAD[case]
    batch = torch.zeros(2, 3, 3), [[0] if change.get("blank") else [1], [2]], [3, 3]
    with pytest.raises(ValueError, match=re.escape(message)):
        mmi_loss(*batch, **{**GOOD, **change})
