"""Masks of -1e9 and other scores far from 0: large values are values, and so are their gradients."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest
import torch

import topologies
from tests.lattices.small_lattices import lattice_of
from tests.topologies.checks import random_log_probs
from wfst_losses import Exhaustive, LanguageModel, NBest, TokenErrors, ctc_loss, mmi_loss, mwer_loss
from wfst_losses.losses.expected_errors import Criterion, expected_errors

TARGETS, LENGTHS = [[1, 2], [2, 1, 1], [1]], [6, 6, 4]
MODEL = LanguageModel.from_counts(TARGETS, num_labels=4, order=2)
LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    "ctc": ctc_loss,
    "mmi": functools.partial(mmi_loss, language_model=MODEL),
    "mwer": functools.partial(mwer_loss, sampler=NBest(6), baseline="none"),
    "mwer, exact": functools.partial(mwer_loss, estimator="exact", max_errors=4),
}


def value_and_gradient(name: str, log_probs: torch.Tensor, **options: object) -> tuple[torch.Tensor, torch.Tensor]:
    leaf = log_probs.clone().requires_grad_()
    losses = LOSSES[name](leaf, TARGETS, LENGTHS, **options)
    return losses.detach(), torch.autograd.grad(losses.sum(), leaf)[0]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("topology", sorted(topologies.TOPOLOGIES))
@pytest.mark.parametrize("mask", [-1e9, -2e10])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_masked_labels(name: str, topology: str, mask: float, dtype: torch.dtype) -> None:
    logits = random_log_probs(3, 3, 6, 4).to(dtype)
    # Token 1 masked everywhere, blank in one frame.
    logits[..., 1] = mask
    logits[1, 2, 0] = mask
    log_probs = torch.log_softmax(logits, 2)
    found = value_and_gradient(name, log_probs, topology=topology)
    wanted = value_and_gradient(name, log_probs, topology=topology, backend="reference")
    # Digits that the engines' sums have beside the mask differ.
    tolerance = 1e-4 if dtype == torch.float32 else -1e-15 * mask
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-6, atol=tolerance)
    torch.testing.assert_close(found[1], wanted[1], rtol=0, atol=tolerance)
    assert found[0].isfinite().all()


@pytest.mark.parametrize("topology", sorted(topologies.TOPOLOGIES))
def test_what_all_labels_share_changes_no_gradient_however_long(topology: str) -> None:
    log_probs = random_log_probs(4, 1, 3000, 4)
    gradients = []
    for shift in (0.0, -(2.0**30)):
        leaf = (log_probs + shift).requires_grad_()
        (loss,) = ctc_loss(leaf, [[1, 2, 2, 3] * 50], [3000], topology=topology, check_normalised=False)
        gradients.append(torch.autograd.grad(loss, leaf)[0])
    assert float(loss) == pytest.approx(3000 * 2.0**30, rel=1e-6)
    # A score of 2^30 has 23 binary digits less.
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=1e-4)


def test_what_all_labels_share_is_gone_before_rounding() -> None:
    # Scores of 11 binary digits, so that single precision holds them exactly, moved by a thousand or not.
    scores = (256 * torch.randn(1, 3000, 4, generator=torch.Generator().manual_seed(0))).round() / 256
    losses = [
        mmi_loss(moved, [[1, 2, 3] * 9], [3000], language_model=MODEL)
        for moved in (scores, scores + 1024, scores.double())
    ]
    for loss in losses[:2]:
        torch.testing.assert_close(loss.double(), losses[2], rtol=1e-6, atol=0)


LATTICE_ROWS = [(0, 1, [1]), (0, 1, [2]), (1, 2, [])]


@pytest.mark.parametrize("path_score", ["sum", "single"])
@pytest.mark.parametrize("scores", [[-1e9, -1e9, 0.0], [0.0, 0.0, -1e10], [-1.4e10, -1.4e10, -1.4e10]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lattices(path_score: str, scores: list[float], dtype: torch.dtype) -> None:
    rows = [(*row, score) for row, score in zip(LATTICE_ROWS, scores, strict=True)]
    lattice = lattice_of(rows, [0, 3], dtype)
    criterion = Criterion(Exhaustive(), TokenErrors(), baseline="none", path_score=path_score)
    (loss,), _ = expected_errors(lattice, [np.array([1])], criterion, None)
    assert float(loss) == pytest.approx(0.5, abs=1e-9)


def test_single_paths_beyond_any_digits() -> None:
    lattice = lattice_of([(*row, score) for row, score in zip(LATTICE_ROWS, [-1e20, -1e20, 0.0], strict=True)], [0, 3])
    references, sampler = [np.array([1])], Exhaustive()
    (loss,), _ = expected_errors(
        lattice, references, Criterion(sampler, TokenErrors(), baseline="none", path_score="single"), None
    )
    assert float(loss) == pytest.approx(0.5, abs=1e-9)
    # Summed, such scores are impossible: a lattice of nothing else is empty.
    lattice.arc_scores.requires_grad_()
    losses, told = expected_errors(lattice, references, Criterion(sampler, TokenErrors(), baseline="none"), None)
    assert losses.tolist() == [torch.inf]
    assert told.empty == (0,)
    (gradient,) = torch.autograd.grad(losses, lattice.arc_scores, torch.ones(1, dtype=losses.dtype))
    assert not gradient.any()
