"""Sums in the log semiring over segments of a column."""

from __future__ import annotations

import warnings

import torch


def _silence_beta_warning() -> None:
    # torch 1.13 warns once per process that scatter_reduce is in beta; take that once here, not in a user's log.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.zeros(1).scatter_reduce(0, torch.zeros(1, dtype=torch.int64), torch.zeros(1), reduce="amax")


_silence_beta_warning()


def segment_softmax(scores: torch.Tensor, segment: torch.Tensor, num_segments: int) -> torch.Tensor:
    """Softmax of the scores within each segment; each has one above -inf, where it has any at all.

    Not ``exp(score - logsumexp)``: beside scores of 1e12 that would lose the digits of the sum.
    """
    with torch.no_grad():
        peak = torch.full((num_segments,), -torch.inf, dtype=scores.dtype, device=scores.device)
        peak = peak.scatter_reduce(0, segment, scores.detach(), reduce="amax")
    weights = torch.exp(scores - peak[segment])
    return weights / torch.zeros_like(peak).index_add(0, segment, weights)[segment]


def segment_logsumexp(scores: torch.Tensor, segment: torch.Tensor, num_segments: int) -> torch.Tensor:
    """Logsumexp of the scores of each segment.

    =====================  ======  ========
    scores of the segment  value   gradient
    =====================  ======  ========
    none                   -inf    none
    all -inf               -inf    0
    some -inf              theirs  0 for the -inf ones
    =====================  ======  ========
    """
    with torch.no_grad():
        peak = torch.full((num_segments,), -torch.inf, dtype=scores.dtype, device=scores.device)
        peak = peak.scatter_reduce(0, segment, scores.detach(), reduce="amax")
        peak = torch.where(peak == -torch.inf, torch.zeros_like(peak), peak)
    sums = torch.zeros_like(peak).index_add(0, segment, torch.exp(scores - peak[segment]))
    positive = ~(sums <= 0)
    return torch.where(
        positive,
        torch.log(torch.where(positive, sums, torch.ones_like(sums))) + peak,
        torch.full_like(peak, -torch.inf),
    )
