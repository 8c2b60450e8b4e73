"""What the scores of a call are, and how probabilities come from them without leaving the log domain."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch.nn import functional as F

Pointwise = Callable[[torch.Tensor], torch.Tensor]


@dataclasses.dataclass(frozen=True)
class Domain:
    """One kind of scores x, with p the probability that belongs to x.

    Attributes:
        log_prob: log p.
        log_slope: log dp/dx.
        never: the score of probability 0.
    """

    log_prob: Pointwise
    log_slope: Pointwise
    never: float


def _log_sigmoid(x: torch.Tensor) -> torch.Tensor:
    return -F.softplus(-x, 1.0, _linear_from(x))


def _linear_from(scores: torch.Tensor) -> float:
    """From where on softplus(x) is x to the last bit."""
    return 40.0 if scores.dtype == torch.float64 else 20.0


DOMAINS = {
    "logits": Domain(_log_sigmoid, lambda x: _log_sigmoid(x) + _log_sigmoid(-x), -math.inf),
    "posteriors": Domain(torch.log, torch.zeros_like, 0.0),
    "log_probs": Domain(lambda x: x, lambda x: x, -math.inf),
}
"""Scores by name: the logits of sigmoids, probabilities, and log-probabilities (rows of a log-softmax)."""


def working_dtype(scores: torch.Tensor) -> torch.dtype:
    """float64 for float64, float32 for everything shorter."""
    return torch.float64 if scores.dtype == torch.float64 else torch.float32


def pieces(scores: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """``scores``, or where they are of half precision a few parts along the frames.

    Half precision is computed with in float32: a part at a time, copies stay smaller than the scores.
    """
    return (scores,) if scores.dtype == working_dtype(scores) else scores.chunk(8, 1)


def absence(scores: torch.Tensor, domain: str) -> torch.Tensor:
    """``-log(1 - p)`` of every score, float32 or float64: what it costs that the keyword is not there."""
    if domain == "posteriors":
        return scores.neg().log1p_().neg_()
    return F.softplus(scores, 1.0, _linear_from(scores))


def absence_gradient(scores: torch.Tensor, factor: torch.Tensor, domain: str) -> torch.Tensor:
    """``factor * d(-log(1 - p))/dx`` where ``factor`` broadcasts, in one pass without intermediates."""
    if domain == "posteriors":
        # The least positive number stands for 0: an infinite loss has factor 0, and 0 times that is 0.
        return torch.rsub(scores, 1).clamp_min_(torch.finfo(scores.dtype).tiny).reciprocal_().mul_(factor)
    gradient: torch.Tensor = torch.ops.aten.softplus_backward(
        factor.expand_as(scores), scores, 1.0, _linear_from(scores)
    )
    return gradient
