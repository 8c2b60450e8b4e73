"""Both forms of the loss as autograd functions that keep nothing of the scores' size.

Only the frames of the windows are smoothed, and only the frames under each maximum have a gradient from it, so what
touches every score is the outside term alone: one pass forward, one backward, recomputed from the scores.

Both take ``scores`` ``(B, T, K)``, ``lengths`` ``(B,)``, ``table`` ``(4, N)`` of `Windows`, ``padding`` ``(2, P)``
utterances and frames that do not count, and `Options`; both give ``(B,)`` float64. Indices are tensors and options
plain values, so that torch.compile can trace them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from wfst_losses.differentiation import differentiated_once
from wfst_losses.losses.smoothed_max_pooling.domains import (
    DOMAINS,
    absence,
    absence_gradient,
    pieces,
    working_dtype,
)
from wfst_losses.losses.smoothed_max_pooling.peaks import (
    Smoothing,
    Taps,
    find_peaks,
    gather_taps,
    peak_gradient,
)


class Options(NamedTuple):
    """What stays the same over a batch.

    Attributes:
        longest: frames of the longest window.
        smoothing: the filter.
        domain: of the scores, a name in `DOMAINS`.
        negative_weight: factor of the outside terms.
        background: the label that frames outside should have; None for the complement.
    """

    longest: int
    smoothing: Smoothing
    domain: str
    negative_weight: float
    background: int | None = None


class ComplementPooling(torch.autograd.Function):
    """Every label pays ``-log(1 - p)`` for each frame outside its own windows."""

    @staticmethod
    def forward(
        ctx: Any,
        scores: torch.Tensor,
        lengths: torch.Tensor,
        table: torch.Tensor,
        padding: torch.Tensor,
        options: Options,
    ) -> torch.Tensor:
        """Losses, infinite where no frame of a window has a probability or an outside frame has probability 1."""
        losses, peaks = _pooled(scores, None, lengths, table, options)
        if options.negative_weight:
            frame_terms = _absence_by_frame(scores, _inside(table, options.longest), options.domain)
            frame_terms[padding[0], padding[1]] = 0.0
            losses += options.negative_weight * frame_terms.sum(1, dtype=torch.float64)
        ctx.save_for_backward(scores, lengths, table, padding, *peaks, losses == torch.inf)
        ctx.options = options
        return losses

    @staticmethod
    @differentiated_once
    def backward(ctx: Any, grad_losses: torch.Tensor) -> Any:
        """The gradient of the outside terms, recomputed, and that of the maxima."""
        scores, lengths, table, padding, log_values, frames, is_infinite = ctx.saved_tensors
        options: Options = ctx.options
        shares = grad_losses.masked_fill(is_infinite, 0.0)
        if options.negative_weight:
            factor = (options.negative_weight * shares)[:, None, None].expand(-1, scores.shape[1], -1)
            gradient = _in_pieces(scores, factor, lambda piece, part: absence_gradient(piece, part, options.domain))
            gradient[_inside(table, options.longest)] = 0.0
            gradient[padding[0], padding[1]] = 0.0
        else:
            gradient = torch.zeros_like(scores)
        peaks = Peaks(log_values, frames)
        taps, terms = _peak_terms(scores, None, lengths, table, peaks, options, shares)
        gradient.index_put_((taps.utterances, taps.frames, taps.labels), terms.to(gradient.dtype), accumulate=True)
        return (gradient, *[None] * 4)


class BackgroundPooling(torch.autograd.Function):
    """Each frame outside all windows of its utterance pays ``-log p_background``.

    ``log_sums`` ``(B, T)``, the log-sums over labels of logits, normalise them on the fly: the domain is then
    "log_probs". None where scores are normalised already.
    """

    @staticmethod
    def forward(
        ctx: Any,
        scores: torch.Tensor,
        log_sums: torch.Tensor | None,
        lengths: torch.Tensor,
        table: torch.Tensor,
        padding: torch.Tensor,
        options: Options,
    ) -> torch.Tensor:
        """Losses, infinite where a window's label or the background of a frame outside has probability 0."""
        losses, peaks = _pooled(scores, log_sums, lengths, table, options)
        if options.negative_weight:
            terms = -DOMAINS[options.domain].log_prob(_background_column(scores, log_sums, options))
            terms = terms.masked_fill(~_outside(scores, table, padding, options.longest), 0.0)
            losses += options.negative_weight * terms.sum(1)
        ctx.save_for_backward(scores, log_sums, lengths, table, padding, *peaks, losses == torch.inf)
        ctx.options = options
        return losses

    @staticmethod
    @differentiated_once
    def backward(ctx: Any, grad_losses: torch.Tensor) -> Any:
        """The gradient at the background, at the maxima and, for logits, of the softmax."""
        scores, log_sums, lengths, table, padding, log_values, frames, is_infinite = ctx.saved_tensors
        options: Options = ctx.options
        shares = grad_losses.masked_fill(is_infinite, 0.0)
        domain = DOMAINS[options.domain]
        factor = -options.negative_weight * shares[:, None]
        column = _background_column(scores, log_sums, options)
        counts = _outside(scores, table, padding, options.longest) & (factor != 0)
        terms = (factor * (domain.log_slope(column) - domain.log_prob(column)).exp()).masked_fill(~counts, 0.0)
        taps, peak_terms = _peak_terms(scores, log_sums, lengths, table, Peaks(log_values, frames), options, shares)
        if log_sums is None:
            gradient = torch.zeros_like(scores)
        else:
            totals = terms.index_put((taps.utterances, taps.frames), peak_terms, accumulate=True)
            gradient = _in_pieces(scores, -totals[:, :, None], lambda piece, part: piece.softmax(2).mul_(part))
            gradient[padding[0], padding[1]] = 0.0
        gradient[:, :, options.background] += terms.to(gradient.dtype)
        gradient.index_put_((taps.utterances, taps.frames, taps.labels), peak_terms.to(gradient.dtype), accumulate=True)
        return (gradient, *[None] * 5)


class Peaks(NamedTuple):
    """The maxima: their logarithms ``(N,)`` and frames ``(N,)``."""

    log_values: torch.Tensor
    frames: torch.Tensor


def _pooled(
    scores: torch.Tensor,
    log_sums: torch.Tensor | None,
    lengths: torch.Tensor,
    table: torch.Tensor,
    options: Options,
) -> tuple[torch.Tensor, Peaks]:
    """``-sum of log maxima`` ``(B,)`` float64, and the maxima."""
    reach = options.smoothing.reach
    offsets = torch.arange(-reach, options.longest + reach, device=scores.device)
    taps = gather_taps(scores, log_sums, lengths, table, table[2, :, None] + offsets)
    log_values, places = find_peaks(taps, table[3] - table[2], options.smoothing, options.domain)
    losses = torch.zeros(scores.shape[0], dtype=torch.float64, device=scores.device)
    return losses.index_put((table[0],), -log_values, accumulate=True), Peaks(log_values, table[2] + places)


def _peak_terms(
    scores: torch.Tensor,
    log_sums: torch.Tensor | None,
    lengths: torch.Tensor,
    table: torch.Tensor,
    peaks: Peaks,
    options: Options,
    shares: torch.Tensor,
) -> tuple[Taps, torch.Tensor]:
    """The frames under each maximum and the gradient there, 0 in utterances that have no share."""
    reach = options.smoothing.reach
    offsets = torch.arange(-reach, reach + 1, device=scores.device)
    taps = gather_taps(scores, log_sums, lengths, table, peaks.frames[:, None] + offsets)
    own = shares[table[0], None]
    terms = -own * peak_gradient(taps, peaks.log_values, options.smoothing, options.domain)
    return taps, terms.masked_fill(own == 0, 0.0)


def _inside(table: torch.Tensor, longest: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Utterances, frames ``(N, L)`` and labels of the windows' frames; shorter windows repeat their last frame."""
    frames = table[2, :, None] + torch.arange(longest, device=table.device)
    return table[0, :, None], torch.minimum(frames, table[3, :, None] - 1), table[1, :, None]


def _absence_by_frame(
    scores: torch.Tensor, inside: tuple[torch.Tensor, torch.Tensor, torch.Tensor], domain: str
) -> torch.Tensor:
    """``(B, T)`` sums over labels outside their windows. What is inside is left out, not subtracted later."""
    if scores.dtype == working_dtype(scores):
        terms = absence(scores, domain)
        terms[inside] = 0.0
        return terms.sum(2)
    scores = scores.clone()
    scores[inside] = DOMAINS[domain].never
    return torch.cat([absence(piece.to(working_dtype(scores)), domain).sum(2) for piece in pieces(scores)], 1)


def _outside(scores: torch.Tensor, table: torch.Tensor, padding: torch.Tensor, longest: int) -> torch.Tensor:
    """``(B, T)`` bool: frames of the utterance in none of its windows."""
    outside = torch.ones(scores.shape[:2], dtype=torch.bool, device=scores.device)
    utterances, frames, _ = _inside(table, longest)
    outside[utterances, frames] = False
    outside[padding[0], padding[1]] = False
    return outside


def _background_column(scores: torch.Tensor, log_sums: torch.Tensor | None, options: Options) -> torch.Tensor:
    column = scores[:, :, options.background].double()
    return column if log_sums is None else column - log_sums


def _in_pieces(
    scores: torch.Tensor,
    factor: torch.Tensor,
    gradient_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """``gradient_of(scores, factor)`` in float32 or float64, in the dtype of the scores; ``factor`` ``(B, T, 1)``."""
    dtype = working_dtype(scores)
    factor = factor.to(dtype)
    if scores.dtype == dtype:
        return gradient_of(scores, factor)
    gradient = torch.empty_like(scores)
    first = 0
    for piece in pieces(scores):
        part = slice(first, first + piece.shape[1])
        gradient[:, part] = gradient_of(piece.to(dtype), factor[:, part])
        first = part.stop
    return gradient
