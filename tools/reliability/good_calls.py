"""The good calls that cases spoil: a small batch, and what a loss gives for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from case import Arguments

from wfst_losses import LanguageModel

B, T, V = 3, 6, 5
CHOICES = {"backend": "choice", "nonfinite": "choice", "max_memory": "max_memory"}


def log_probs() -> torch.Tensor:
    """``(3, 6, 5)`` float32, rows normalised."""
    return torch.randn(B, T, V, generator=torch.Generator().manual_seed(0)).log_softmax(-1)


def language_model() -> LanguageModel:
    """A bigram of counts over the four tokens."""
    return LanguageModel.from_counts([[1, 2], [3, 3], [4]], num_labels=V, order=2)


def plain() -> Arguments:
    """What a loss on sequences takes."""
    return {"log_probs": log_probs(), "targets": [[1, 2], [3, 3], [4]], "input_lengths": [6, 5, 4]}


def padded() -> Arguments:
    """The same, padded."""
    return plain() | {"targets": torch.tensor([[1, 2], [3, 3], [4, 0]]), "target_lengths": [2, 2, 1]}


def values_and_gradients(scores: torch.Tensor, losses: torch.Tensor) -> tuple[Any, Any]:
    """Losses and the gradient of each finite one, as plain numpy."""
    finite = losses.detach().isfinite()
    (gradient,) = torch.autograd.grad(losses[finite].sum() + 0.0 * losses.nan_to_num(0, 0, 0).sum(), scores)
    return losses.detach().double().numpy(), gradient.double().numpy()


def loss_of(function: Callable[..., Any], scores_name: str = "log_probs", **fixed: Any) -> Callable[..., Any]:
    """The loss and its gradient with respect to the scores."""

    def call(**arguments: Any) -> tuple[Any, Any]:
        scores = arguments[scores_name]
        if isinstance(scores, torch.Tensor) and scores.is_floating_point():
            arguments[scores_name] = scores = scores.clone().requires_grad_()
        losses = function(**fixed, **arguments)
        return values_and_gradients(scores, losses)

    return call
