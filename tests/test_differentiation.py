"""A second derivative is right, or refused in words; never dropped."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wfst_losses import ctc_loss, decoder_smoothed_max_pooling_loss
from wfst_losses.lattices import ArcLattice


def native():
    logits = torch.randn(1, 6, 4, dtype=torch.float64, requires_grad=True)
    return logits, ctc_loss(logits, [[1, 2]], [6], from_logits=True, backend="native").sum()


def pooling():
    logits = torch.randn(1, 30, 4, dtype=torch.float64, requires_grad=True)
    options = {"keywords": torch.tensor([1]), "end_frames": torch.tensor([9]), "input_lengths": torch.tensor([30])}
    return logits, decoder_smoothed_max_pooling_loss(logits, **options).sum()


def lattice():
    scores = torch.tensor([0.5, 0.25, 0.125], dtype=torch.float64, requires_grad=True)
    destination, tokens = np.array([1, 2, 2], dtype=np.int32), np.array([1, 1, 2], dtype=np.int32)
    arcs = ArcLattice(np.array([0, 2, 3, 3]), destination, tokens, None, scores, np.array([0, 3]))
    return scores, arcs.sequence_scores([np.array([1]), np.array([1, 2])], np.array([0, 0])).sum()


@pytest.mark.parametrize("loss", [native, pooling, lattice])
def test_a_penalty_on_the_gradient_is_refused(loss):
    variable, value = loss()
    (gradient,) = torch.autograd.grad(value, variable, create_graph=True)
    assert gradient.requires_grad
    with pytest.raises(RuntimeError, match="once only"):
        (value + gradient.square().sum()).backward()


def test_the_reference_has_a_second_derivative():
    logits = torch.randn(1, 5, 3, dtype=torch.float64, requires_grad=True)

    def value(scores):
        return ctc_loss(scores, [[1, 2]], [5], from_logits=True, backend="reference").sum()

    assert torch.autograd.gradgradcheck(value, (logits,), eps=1e-6, atol=1e-6)
