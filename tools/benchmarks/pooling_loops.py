"""Smoothed max pooling in the forms to measure against: loops over utterances, and over keywords in them.

Written from the definition (Park et al. 2020, arXiv 2001.09246), without checks. All take their utterances by
``unbind``, whose gradient is one stack; ``logits[utterance, :, keyword]`` would fill a tensor of the logits' size for
every keyword of every utterance.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

WINDOW_FRAMES, OFFSET_FRAMES, SIGMA_FRAMES, FILTER_FRAMES = 60, 40, 9.0, 21


def gaussian(like: Tensor) -> Tensor:
    """The filter, ``(F,)``, summing to 1."""
    offsets = torch.arange(FILTER_FRAMES, dtype=like.dtype, device=like.device) - FILTER_FRAMES // 2
    weights = torch.exp(-0.5 * (offsets / SIGMA_FRAMES) ** 2)
    return weights / weights.sum()


def smooth(posteriors: Tensor, weights: Tensor) -> Tensor:
    """``(T,)`` smoothed, the filter renormalised where it leaves the utterance."""
    rows = torch.stack([posteriors, torch.ones_like(posteriors)])[:, None]
    sums = F.conv1d(rows, weights[None, None], padding=FILTER_FRAMES // 2)
    return sums[0, 0] / sums[1, 0]


def window(end_frame: int, length: int) -> tuple[int, int]:
    """First frame and one past the last, cut to the utterance."""
    stop = end_frame + OFFSET_FRAMES
    return max(0, stop - WINDOW_FRAMES), min(length, stop)


def loop_over_keywords(logits: Tensor, keywords: list[int], end_frames: list[int], lengths: list[int]) -> Tensor:
    """``(B,)``, one keyword of one utterance at a time, as the definition reads."""
    weights = gaussian(logits)
    losses = []
    for rows, keyword, end_frame, length in zip(logits.unbind(0), keywords, end_frames, lengths, strict=True):
        start, stop = window(end_frame, length)
        loss = logits.new_zeros(())
        for label in range(logits.shape[2]):
            posteriors = rows[:length, label].sigmoid()
            absence = -torch.log1p(-posteriors)
            if label == keyword:
                best = smooth(posteriors, weights)[start:stop].max()
                loss = loss - best.log() + absence[:start].sum() + absence[stop:].sum()
            else:
                loss = loss + absence.sum()
        losses.append(loss)
    return torch.stack(losses)


def tuned_loop_over_keywords(logits: Tensor, keywords: list[int], end_frames: list[int], lengths: list[int]) -> Tensor:
    """``(B,)``, one keyword of one utterance at a time, with the fewest operators: a fused one, ``unbind`` twice."""
    weights = gaussian(logits)
    losses = []
    for rows, keyword, end_frame, length in zip(logits.unbind(0), keywords, end_frames, lengths, strict=True):
        start, stop = window(end_frame, length)
        loss = logits.new_zeros(())
        for label, column in enumerate(rows[:length].unbind(1)):
            absence = F.softplus(column)
            if label == keyword:
                best = smooth(column.sigmoid(), weights)[start:stop].max()
                loss = loss - best.log() + absence[:start].sum() + absence[stop:].sum()
            else:
                loss = loss + absence.sum()
        losses.append(loss)
    return torch.stack(losses)


def loop_over_utterances(logits: Tensor, keywords: list[int], end_frames: list[int], lengths: list[int]) -> Tensor:
    """``(B,)``, all keywords of one utterance at a time."""
    weights = gaussian(logits)
    losses = []
    for rows, keyword, end_frame, length in zip(logits.unbind(0), keywords, end_frames, lengths, strict=True):
        absence = F.softplus(rows[:length])
        if keyword < 0:
            losses.append(absence.sum())
            continue
        start, stop = window(end_frame, length)
        best = smooth(rows[:length, keyword].sigmoid(), weights)[start:stop].max()
        counted = torch.ones_like(absence)
        counted[start:stop, keyword] = 0.0
        losses.append((absence * counted).sum() - best.log())
    return torch.stack(losses)
