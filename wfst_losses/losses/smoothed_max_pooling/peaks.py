"""The smoothed maximum of each window, and its gradient from the few frames under the filter's peak."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from wfst_losses.losses.smoothed_max_pooling.domains import DOMAINS
from wfst_losses.validation import check_count, check_number

_LEAST_WEIGHT = 1e-300
"""Keeps a filter much longer than its sigma from underflowing to 0, where the logarithm would end."""


class Smoothing(NamedTuple):
    """How posteriors are smoothed before the maximum.

    Attributes:
        weights: the filter, from -(F - 1)/2 to (F - 1)/2 frames; sums to 1.
        in_log: smooth log-posteriors, not posteriors.
    """

    weights: tuple[float, ...]
    in_log: bool

    @property
    def reach(self) -> int:
        """(F - 1)/2, frames."""
        return len(self.weights) // 2


class Taps(NamedTuple):
    """Scores at N windows times some frames.

    Attributes:
        utterances: ``(N, 1)``.
        frames: ``(N, L)``, clamped to the utterance's tensor.
        labels: ``(N, 1)``.
        is_live: ``(N, L)`` bool: the frame lies in the utterance.
        values: ``(N, L)`` float64. Few enough for full precision, and no autocast or TF32 touches float64.
    """

    utterances: torch.Tensor
    frames: torch.Tensor
    labels: torch.Tensor
    is_live: torch.Tensor
    values: torch.Tensor


def gaussian_weights(sigma_frames: float, filter_frames: int) -> tuple[float, ...]:
    """``s_k`` proportional to ``exp(-k^2 / (2 sigma^2))`` for ``|k| <= (filter_frames - 1) / 2``, summing to 1.

    Raises:
        ValueError: for an even ``filter_frames``, which has no centre and would shift the posteriors by half a frame.
    """
    check_number("sigma_frames", sigma_frames, above=0.0)
    if check_count("filter_frames", filter_frames) % 2 == 0:
        raise ValueError(f"filter_frames is {filter_frames}, expected an odd number: an even filter has no centre")
    offsets = np.arange(filter_frames) - filter_frames // 2
    weights = np.maximum(np.exp(-0.5 * (offsets / sigma_frames) ** 2), _LEAST_WEIGHT)
    return tuple((weights / weights.sum()).tolist())


def gather_taps(
    scores: torch.Tensor,
    log_sums: torch.Tensor | None,
    lengths: torch.Tensor,
    table: torch.Tensor,
    frames: torch.Tensor,
) -> Taps:
    """Scores of each window's label at ``frames`` ``(N, L)``, less the frame's log-sum where there is one."""
    utterances, labels = table[0, :, None], table[1, :, None]
    is_live = (frames >= 0) & (frames < lengths[utterances])
    frames = frames.clamp(0, scores.shape[1] - 1)
    values = scores[utterances, frames, labels].double()
    if log_sums is not None:
        values = values - log_sums[utterances, frames]
    return Taps(utterances, frames, labels, is_live, values)


def find_peaks(
    taps: Taps, lasting: torch.Tensor, smoothing: Smoothing, domain: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log of the smoothed maximum ``(N,)`` and its frame ``(N,)``, counted from the window's start.

    ``taps`` hold the longest window's frames and the filter's reach on either side, ``lasting`` ``(N,)`` each
    window's own frames. Ties go to the first maximum. Weights that leave the utterance are renormalised, over sums
    in one order above and below the line, so that a constant stays the same number to the last bit.
    """
    log_probs = DOMAINS[domain].log_prob(taps.values).masked_fill(~taps.is_live, -torch.inf)
    top = log_probs.amax(1, keepdim=True)
    top = top.masked_fill(top == -torch.inf, 0.0)
    relative = (log_probs - top) if smoothing.in_log else (log_probs - top).exp()
    parts = torch.stack([relative.masked_fill(~taps.is_live, 0.0), taps.is_live.to(relative.dtype)])
    num_frames = parts.shape[2] - 2 * smoothing.reach
    sums = torch.zeros_like(parts[:, :, :num_frames])
    for offset, weight in enumerate(smoothing.weights):
        sums.add_(parts[:, :, offset : offset + num_frames], alpha=weight)
    smoothed = sums[0] / sums[1]
    outside = torch.arange(num_frames, device=lasting.device) >= lasting[:, None]
    value, place = smoothed.masked_fill(outside, -torch.inf).max(dim=1)
    return (value if smoothing.in_log else value.log()) + top[:, 0], place


def peak_gradient(taps: Taps, log_peaks: torch.Tensor, smoothing: Smoothing, domain: str) -> torch.Tensor:
    """``d log_peaks / d values`` ``(N, F)`` at the F frames under the filter, 0 beyond the utterance."""
    kind = DOMAINS[domain]
    weights = taps.values.new_tensor(smoothing.weights) * taps.is_live
    weights = weights / weights.sum(1, keepdim=True)
    below = kind.log_prob(taps.values) if smoothing.in_log else log_peaks[:, None]
    return (weights * (kind.log_slope(taps.values) - below).exp()).masked_fill(~taps.is_live, 0.0)
