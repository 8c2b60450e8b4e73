"""Three losses for a keyword spotter, all from word alignments: what differs is what they ask of a keyword's frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from spotter import SUBSAMPLING
from torch import Tensor
from torch.nn import functional as F

from wfst_losses import smoothed_max_pooling_loss
from wfst_losses.integrations.lhotse import keyword_windows

SIGMA_SECONDS, FILTER_SECONDS = 0.09, 0.21
"""The published filter: sigma 9 and 21 frames of 10 ms."""

KeywordLoss = Callable[[Tensor, Tensor, Sequence[Any]], Tensor]
"""``(B, T, K)`` logits, ``(B,)`` lengths and B cuts in, ``(B,)`` out."""

LOSSES = {
    "smoothed": "smoothed max pooling",
    "plain": "plain max pooling",
    "frames": "frame-level cross-entropy",
}


def make_loss(name: str, keywords: Sequence[str], negative_weight: float, label_seconds: float) -> KeywordLoss:
    """The loss called ``name`` in `LOSSES`."""
    if name == "frames":
        return partial(frame_loss, keywords=keywords, label_seconds=label_seconds, negative_weight=negative_weight)
    return partial(pooling_loss, keywords=keywords, is_smoothed=name == "smoothed", negative_weight=negative_weight)


def filter_of(frame_seconds: float) -> dict[str, Any]:
    """The filter in output frames; its length the nearest odd number."""
    return {
        "sigma_frames": SIGMA_SECONDS / frame_seconds,
        "filter_frames": 2 * round((FILTER_SECONDS / frame_seconds - 1) / 2) + 1,
    }


def pooling_loss(
    logits: Tensor,
    lengths: Tensor,
    cuts: Sequence[Any],
    *,
    keywords: Sequence[str],
    is_smoothed: bool,
    negative_weight: float,
) -> Tensor:
    """``(B,)`` max pooling over a window around each keyword's end, smoothed or plain: it may peak anywhere there."""
    found = keyword_windows(cuts, keywords, subsampling_factor=SUBSAMPLING)
    smoothing = filter_of(cuts[0].frame_shift * SUBSAMPLING)
    if not is_smoothed:
        smoothing = {"sigma_frames": 1.0, "filter_frames": 1}
    return smoothed_max_pooling_loss(
        logits=logits,
        windows=found.windows,
        labels=found.keywords,
        input_lengths=lengths,
        negative_weight=negative_weight,
        **smoothing,
    )


def frame_loss(
    logits: Tensor,
    lengths: Tensor,
    cuts: Sequence[Any],
    *,
    keywords: Sequence[str],
    label_seconds: float,
    negative_weight: float,
) -> Tensor:
    """``(B,)`` cross-entropy of every frame: the last ``label_seconds`` of a keyword are its own, all else is not."""
    found = keyword_windows(
        cuts, keywords, subsampling_factor=SUBSAMPLING, window_seconds=label_seconds, offset_seconds=0.0
    )
    frames = torch.arange(logits.shape[1])
    inside = (frames >= found.windows[:, :, :1]) & (frames < found.windows[:, :, 1:])  # (B, M, T)
    is_keyword = F.one_hot(found.keywords + 1, len(keywords) + 1)[:, :, 1:]  # (B, M, K)
    targets = torch.einsum("bmt,bmk->btk", inside.to(logits.dtype), is_keyword.to(logits.dtype)).clamp(max=1.0)
    terms = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    weights = negative_weight + (1.0 - negative_weight) * targets
    return (terms * weights * (frames < lengths[:, None])[:, :, None]).sum((1, 2))
